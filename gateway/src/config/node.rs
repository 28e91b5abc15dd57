//! YAML as a tree that keeps each scalar's text and place.
//!
//! Scalars stay text, so that money is read from its digits and never passes through a float; every node knows its line
//! and column, so that all faults of a file are told at once.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, options};

use super::error::Place;

/// Nodes a document may come to once its aliases are written out: a few nested aliases could otherwise mean billions.
const NODES_MAX: usize = 500_000;

#[derive(Clone)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Clone)]
pub enum Value {
    Null,
    /// Quoted text is never null, a number or a flag where the choice is free.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<Pair>),
}

#[derive(Clone)]
pub struct Pair {
    pub name: String,
    /// Where the name stands.
    pub place: Place,
    pub node: Node,
    /// Brought in by `<<`: the map's own names win over it.
    pub merged: bool,
}

/// A document and what is wrong with it though it could be read on.
pub struct Document {
    pub root: Node,
    pub faults: Vec<Malformed>,
}

/// A document that is no YAML, or not one that a configuration can be.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    pub place: Place,
    pub message: String,
}

impl Node {
    pub fn empty_map() -> Node {
        Node {
            value: Value::Map(Vec::new()),
            place: Place::Absent,
        }
    }

    pub fn text(text: &str, place: Place) -> Node {
        Node {
            value: Value::Scalar {
                text: text.to_owned(),
                quoted: true,
            },
            place,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The pairs of a map, none for anything else.
    pub fn pairs(&self) -> &[Pair] {
        match &self.value {
            Value::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// Names are compared without regard to case, as they always were in these files.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.pairs()
            .iter()
            .find(|pair| pair.name.eq_ignore_ascii_case(name))
            .map(|pair| &pair.node)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        let Value::Map(pairs) = &mut self.value else {
            return None;
        };
        let found = pairs.iter_mut().find(|pair| pair.name.eq_ignore_ascii_case(name));
        found.map(|pair| &mut pair.node)
    }

    /// The child of that name, made where it is missing; a node that is no map becomes one first.
    pub fn child_mut(&mut self, name: &str, place: &Place) -> Option<&mut Node> {
        if !matches!(self.value, Value::Map(_)) {
            *self = Node {
                value: Value::Map(Vec::new()),
                place: place.clone(),
            };
        }
        let Value::Map(pairs) = &mut self.value else {
            return None;
        };
        let found = pairs.iter().position(|pair| pair.name.eq_ignore_ascii_case(name));
        let index = found.unwrap_or_else(|| {
            let node = Node {
                value: Value::Null,
                place: place.clone(),
            };
            pairs.push(Pair {
                name: name.to_owned(),
                place: place.clone(),
                node,
                merged: false,
            });
            pairs.len() - 1
        });
        pairs.get_mut(index).map(|pair| &mut pair.node)
    }

    /// Says of every node that it stands at `place`; for values that came in an environment variable.
    pub fn set_place(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::Null | Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.set_place(place)),
            Value::Map(pairs) => pairs.iter_mut().for_each(|pair| {
                pair.place = place.clone();
                pair.node.set_place(place);
            }),
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(pairs) => pairs.iter().map(|pair| pair.node.count()).sum(),
        }
    }
}

/// Reads one YAML document; an empty text is an empty map.
pub fn parse(text: &str) -> Result<Document, Malformed> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Comments are not wanted, and a long block of them would exceed what the parser buffers.
    let options = options! { emit_comments: false, block_nesting_limit: 64, flow_nesting_limit: 64 };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let mark = error.marker();
            let place = Place::File {
                line: mark.line(),
                column: mark.col() + 1,
            };
            Malformed {
                place,
                message: format!("not YAML: {}", error.kind()),
            }
        })?;
        builder.take(event, &span)?;
    }
    let root = builder
        .root
        .filter(|node| !node.is_null())
        .unwrap_or_else(Node::empty_map);
    Ok(Document {
        root,
        faults: builder.faults,
    })
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The name whose value comes next, in a map.
    name: Option<(String, Place)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    faults: Vec<Malformed>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Malformed> {
        let place = Place::File {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(fault(place, "a second document; a configuration is one document"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let value = if !quoted && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into_owned(),
                        quoted,
                    }
                };
                self.place_node(Node { value, place }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open {
                    node: Node {
                        value: Value::List(Vec::new()),
                        place,
                    },
                    anchor,
                    name: None,
                });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open {
                    node: Node {
                        value: Value::Map(Vec::new()),
                        place,
                    },
                    anchor,
                    name: None,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => self.place_node(done.node, done.anchor),
                None => Err(fault(place, "not YAML: an end without its start")),
            },
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(node) => {
                    let mut node = node.clone();
                    self.nodes += node.count();
                    node.place = place;
                    self.place_node(node, 0)
                }
                None => Err(fault(place, "an alias inside the value that it names")),
            },
            _ => Ok(()),
        }
    }

    /// Puts a finished node where it belongs: into the open collection, as a name, or as the document.
    fn place_node(&mut self, node: Node, anchor: usize) -> Result<(), Malformed> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(fault(node.place, "too large: more than 500,000 values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => {
                items.push(node);
                Ok(())
            }
            Value::Map(pairs) => match open.name.take() {
                None => {
                    open.name = Some((name_of(&node, &mut self.faults), node.place));
                    Ok(())
                }
                Some((name, place)) => {
                    put(
                        pairs,
                        Pair {
                            name,
                            place,
                            node,
                            merged: false,
                        },
                        &mut self.faults,
                    );
                    Ok(())
                }
            },
            _ => Err(fault(node.place, "not YAML: a value inside a value")),
        }
    }
}

fn name_of(node: &Node, faults: &mut Vec<Malformed>) -> String {
    match &node.value {
        Value::Scalar { text, .. } => text.clone(),
        _ => {
            faults.push(fault(node.place.clone(), "a key must be text"));
            String::new()
        }
    }
}

/// Adds a pair to a map; `<<` brings in the pairs of other maps that are not there.
fn put(pairs: &mut Vec<Pair>, pair: Pair, faults: &mut Vec<Malformed>) {
    if pair.name == "<<" {
        let sources = match pair.node.value {
            Value::Map(_) => vec![pair.node],
            Value::List(items) => items,
            _ => return faults.push(fault(pair.place, "<< takes a map or a list of maps")),
        };
        for source in sources.iter().flat_map(|source| source.pairs()) {
            if !pairs.iter().any(|known| known.name.eq_ignore_ascii_case(&source.name)) {
                pairs.push(Pair {
                    place: pair.place.clone(),
                    merged: true,
                    ..source.clone()
                });
            }
        }
        return;
    }
    match pairs
        .iter_mut()
        .find(|known| known.name.eq_ignore_ascii_case(&pair.name))
    {
        Some(known) if known.merged => *known = pair,
        Some(_) => faults.push(fault(pair.place, &format!("the key \"{}\" is there twice", pair.name))),
        None => pairs.push(pair),
    }
}

fn fault(place: Place, message: &str) -> Malformed {
    Malformed {
        place,
        message: message.to_owned(),
    }
}
