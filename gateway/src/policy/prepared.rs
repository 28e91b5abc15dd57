//! What a policy's `setup` returned, kept apart from any VM. `setup` runs once for all threads; each VM gets a copy, in
//! which what is heavy (compiled patterns, checked limits) is shared and not copied.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Error as LuaError, Lua, Value};

use super::choose::{Choices, Choose, Globs, Values};
use super::facts::Shared;
use super::glob::GlobSet;
use super::intent::IntentCollector;
use super::terms::{Limits, Term};

/// Values that a setup may prepare.
const NODES_MAX: usize = 1_000_000;
/// Values that one VM keeps made: chosen one after another, ten thousand would take the memory that calls have.
const MADE_MAX: usize = 2_048;

#[derive(Clone)]
enum Node {
    Nil,
    Flag(bool),
    Number(f64),
    Text(Box<[u8]>),
    /// Keys and values, by their numbers.
    Table(Vec<(usize, usize)>),
    Limits(Arc<[Term]>),
    Globs(Arc<GlobSet>),
    /// The numbers of what it chooses from.
    Choose(Choices, Arc<[usize]>),
}

/// A value of Lua without its VM. The first node is the value itself.
pub(super) struct Prepared {
    nodes: Arc<[Node]>,
}

/// Reads values, each table and object once, however often it is referred to.
struct ValueReader {
    nodes: Vec<Node>,
    known: HashMap<usize, usize>,
    waiting: Vec<(usize, Value)>,
}

impl Prepared {
    pub fn read(value: &Value) -> Result<Prepared, String> {
        let mut reader = ValueReader {
            nodes: Vec::new(),
            known: HashMap::new(),
            waiting: Vec::new(),
        };
        reader.number(value.clone())?;
        while let Some((number, value)) = reader.waiting.pop() {
            let node = reader.node(&value)?;
            if let Some(slot) = reader.nodes.get_mut(number) {
                *slot = node;
            }
        }
        Ok(Prepared {
            nodes: reader.nodes.into(),
        })
    }

    /// The value in a VM, its tables read-only. What a `choose` chooses from is made once it is chosen: a thread that takes
    /// over a set with ten thousand rules has no time to make them all.
    pub fn build(
        &self,
        lua: &Lua,
        shared: &Rc<Shared>,
        collector: &Rc<RefCell<IntentCollector>>,
    ) -> Result<Value, LuaError> {
        let built = Rc::new(Built {
            nodes: Arc::clone(&self.nodes),
            made: RefCell::default(),
            shared: Rc::clone(shared),
            collector: Rc::clone(collector),
        });
        built.value(lua, 0)
    }
}

/// A prepared value in one VM, as far as it is made.
pub(super) struct Built {
    nodes: Arc<[Node]>,
    made: RefCell<HashMap<usize, Value>>,
    shared: Rc<Shared>,
    collector: Rc<RefCell<IntentCollector>>,
}

impl Built {
    /// The value of a node, made with all that its tables refer to.
    pub fn value(self: &Rc<Built>, lua: &Lua, number: usize) -> Result<Value, LuaError> {
        if let Some(known) = self.made.borrow().get(&number) {
            return Ok(known.clone());
        }
        if self.made.borrow().len() >= MADE_MAX {
            self.made.borrow_mut().clear();
        }
        // Not by recursion: depth costs no stack. A table is made first and filled later, for it may refer to itself.
        let mut tables = Vec::new();
        let mut waiting = vec![number];
        while let Some(number) = waiting.pop() {
            if self.made.borrow().contains_key(&number) {
                continue;
            }
            let value = self.bare(lua, number)?;
            if let (Some(Node::Table(pairs)), Value::Table(table)) = (self.nodes.get(number), &value) {
                waiting.extend(pairs.iter().flat_map(|(key, value)| [*key, *value]));
                tables.push((pairs, table.clone()));
            }
            self.made.borrow_mut().insert(number, value);
        }
        let made = self.made.borrow();
        let get = |number: &usize| made.get(number).cloned().unwrap_or(Value::Nil);
        for (pairs, table) in tables {
            for (key, value) in pairs {
                table.raw_set(get(key), get(value))?;
            }
            table.set_readonly(true);
        }
        Ok(get(&number))
    }

    /// A node by itself: of a table, the empty one.
    fn bare(self: &Rc<Built>, lua: &Lua, number: usize) -> Result<Value, LuaError> {
        Ok(match self.nodes.get(number) {
            None | Some(Node::Nil) => Value::Nil,
            Some(Node::Flag(flag)) => Value::Boolean(*flag),
            Some(Node::Number(number)) => Value::Number(*number),
            Some(Node::Text(text)) => Value::String(lua.create_string(text)?),
            Some(Node::Table(pairs)) => Value::Table(lua.create_table_with_capacity(0, pairs.len())?),
            Some(Node::Globs(globs)) => Value::UserData(lua.create_userdata(Globs(Arc::clone(globs)))?),
            Some(Node::Limits(terms)) => Value::UserData(lua.create_userdata(Limits {
                terms: Arc::clone(terms),
                shared: Rc::clone(&self.shared),
                collector: Rc::clone(&self.collector),
            })?),
            Some(Node::Choose(choices, numbers)) => Value::UserData(lua.create_userdata(Choose {
                choices: choices.clone(),
                values: Values::Prepared(Rc::clone(self), Arc::clone(numbers)),
            })?),
        })
    }
}

impl ValueReader {
    /// The number of a value; one that is new is read later, so that depth costs no stack.
    fn number(&mut self, value: Value) -> Result<usize, String> {
        let address = match &value {
            Value::Table(_) | Value::UserData(_) | Value::String(_) => value.to_pointer().addr(),
            _ => 0,
        };
        if let Some(known) = self.known.get(&address) {
            return Ok(*known);
        }
        let number = self.nodes.len();
        if number >= NODES_MAX {
            return Err(format!("setup prepares more than {NODES_MAX} values"));
        }
        self.nodes.push(Node::Nil);
        if address != 0 {
            self.known.insert(address, number);
        }
        self.waiting.push((number, value));
        Ok(number)
    }

    fn node(&mut self, value: &Value) -> Result<Node, String> {
        let text = |error: LuaError| error.to_string();
        #[allow(clippy::cast_precision_loss)]
        Ok(match value {
            Value::Nil => Node::Nil,
            Value::Boolean(flag) => Node::Flag(*flag),
            Value::Integer(number) => Node::Number(*number as f64),
            Value::Number(number) => Node::Number(*number),
            Value::String(text) => Node::Text(text.as_bytes().to_vec().into()),
            Value::Table(table) => {
                if table.metatable().is_some() {
                    return Err("setup returned a table with a metatable; it must return plain data".to_owned());
                }
                let mut pairs = Vec::new();
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair.map_err(text)?;
                    pairs.push((self.number(key)?, self.number(value)?));
                }
                Node::Table(pairs)
            }
            Value::UserData(data) => {
                if let Ok(limits) = data.borrow::<Limits>() {
                    Node::Limits(Arc::clone(&limits.terms))
                } else if let Ok(globs) = data.borrow::<Globs>() {
                    Node::Globs(Arc::clone(&globs.0))
                } else if let Ok(choose) = data.borrow::<Choose>() {
                    let Values::Given(values) = &choose.values else {
                        return Err("setup returned what another setup prepared".to_owned());
                    };
                    let numbers = values.iter().map(|value| self.number(value.clone()));
                    Node::Choose(choose.choices.clone(), numbers.collect::<Result<_, String>>()?)
                } else {
                    return Err("setup returned a fact; it must return plain data".to_owned());
                }
            }
            other => {
                return Err(format!(
                    "setup returned a {}; it must return plain data, for it runs once for all threads",
                    other.type_name()
                ));
            }
        })
    }
}
