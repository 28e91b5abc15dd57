//! The environment over the file: `AGENTLEDGER_` and the key in upper case, dots as underscores.
//!
//! Every key takes one, nested ones and those of providers that the file does not name too. Lists take values apart by
//! commas; what is more than a list of values (`AGENTLEDGER_BUDGETS_RULES`) takes YAML, of which JSON is a part.

use std::collections::BTreeMap;

use super::alerts;
use super::aws;
use super::cursor::Problems;
use super::error::Place;
use super::mcp;
use super::node::{self, Node, Value};
use super::otlp;
use super::schema::{self, Key, Shape};
use super::tokens;

pub const PREFIX: &str = "AGENTLEDGER_";

/// Variables with the prefix that are no keys: which file is read, where gateways note themselves, the token of the command line, the stamp of a build, what
/// `mcp-wrap` and the tests read.
const NOT_KEYS: &[&str] = &[
    "CONFIG",
    "RUNTIME_DIR",
    "TOKEN",
    "VERSION",
    "KEY",
    "AGENT_ID",
    "SESSION_ID",
    "USER_ID",
    "TASK",
    "TAGS",
    "TENANT",
    "CORPUS",
];

/// Names under which the contract's sections are the conf of a shipped policy.
const POLICY_NAMES: &[&str] = &[
    "budget",
    "rate_limit",
    "tenant",
    "loop",
    "ghost",
    "alert",
    "block",
    "threshold",
    "tools",
];

/// A snapshot of environment variables. Has no `Debug`: some of them are secrets.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// What the process was given. All of it: the file names variables of its own choice (`token_env`).
    pub fn of_process() -> Env {
        let given = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Env(given.collect())
    }

    pub fn of<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Env {
        Env(variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Lays the variables over the file's tree. An empty variable is as good as none, as it always was.
pub fn overlay(root: &mut Node, env: &Env, problems: &Problems) {
    for (variable, text) in &env.0 {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if text.is_empty() || NOT_KEYS.contains(&rest) {
            continue;
        }
        let place = Place::Env(variable.clone());
        match find(rest, root) {
            Some(target) => match target.shape.value(text, &place) {
                Ok(value) => set(root, &target.path, value, &place),
                Err(message) => problems.refuse(&place, &target.path.join("."), message),
            },
            None => problems.warn(&place, "", "names no key of the configuration, ignored".to_owned()),
        }
    }
    aws::overlay(root, env);
    alerts::overlay(root, env, problems);
    tokens::overlay(root, env, problems);
    otlp::overlay(root, env, problems);
    mcp::overlay(root, env, problems);
}

/// A key that a variable names.
struct Target {
    path: Vec<String>,
    shape: Shape,
}

impl Target {
    fn under(mut self, name: &str) -> Target {
        self.path.insert(0, name.to_owned());
        self
    }
}

/// `PROVIDERS_GROQ_FREE` is read as `PROVIDERS_EXTRA_GROQ_FREE`, as in the file.
fn find(rest: &str, known: &Node) -> Option<Target> {
    find_in(schema::ROOT, rest, known).or_else(|| {
        let provider = rest.strip_prefix("PROVIDERS_")?;
        find_in(schema::ROOT, &format!("PROVIDERS_EXTRA_{provider}"), known)
    })
}

/// Finds the key among `keys` whose path in upper case is `rest`. `known` is the tree so far: its names win over new ones.
fn find_in(keys: &'static [Key], rest: &str, known: &Node) -> Option<Target> {
    keys.iter().find_map(|key| {
        if as_variable(key.name) == rest {
            return Some(Target {
                path: vec![key.name.to_owned()],
                shape: key.shape,
            });
        }
        let rest = rest.strip_prefix(&as_variable(key.name))?.strip_prefix('_')?;
        let nothing = Node::empty_map();
        let known = known.get(key.name).unwrap_or(&nothing);
        let found = match key.shape {
            Shape::Section(keys) | Shape::LeafOrSection(keys) => find_in(keys, rest, known),
            Shape::NamedSections(keys) => find_named(keys, rest, known),
            Shape::NamedLeaves => Some(Target {
                path: vec![existing_or_new(rest, known)],
                shape: Shape::Leaf,
            }),
            Shape::NamedAny => find_any(rest, known),
            Shape::Leaf | Shape::Leaves | Shape::Rows(_) | Shape::LeavesOrRows(_) => None,
        };
        found.map(|target| target.under(key.name))
    })
}

/// `MY_HOST_UPSTREAM`: a name of the file if one fits, else the shortest name behind which a key follows.
fn find_named(keys: &'static [Key], rest: &str, known: &Node) -> Option<Target> {
    let of_file = known.pairs().iter().find_map(|pair| {
        let rest = rest.strip_prefix(&as_variable(&pair.name))?.strip_prefix('_')?;
        find_in(keys, rest, &pair.node).map(|target| target.under(&pair.name))
    });
    of_file.or_else(|| {
        rest.match_indices('_').find_map(|(at, _)| {
            let (name, key) = rest.split_at_checked(at)?;
            let target = find_in(keys, key.strip_prefix('_')?, &Node::empty_map())?;
            (!name.is_empty()).then(|| target.under(&name.to_ascii_lowercase()))
        })
    })
}

/// `BUDGET` is a whole conf, `BUDGET_MAX_USD` one key of it, where a policy of that name is known.
fn find_any(rest: &str, known: &Node) -> Option<Target> {
    let names = known
        .pairs()
        .iter()
        .map(|pair| pair.name.as_str())
        .chain(POLICY_NAMES.iter().copied());
    for name in names {
        match rest.strip_prefix(&as_variable(name)) {
            Some("") => {
                return Some(Target {
                    path: vec![name.to_owned()],
                    shape: Shape::NamedAny,
                });
            }
            Some(tail) => {
                if let Some(key) = tail.strip_prefix('_') {
                    let path = vec![name.to_owned(), key.to_ascii_lowercase()];
                    return Some(Target {
                        path,
                        shape: Shape::NamedAny,
                    });
                }
            }
            None => {}
        }
    }
    Some(Target {
        path: vec![rest.to_ascii_lowercase()],
        shape: Shape::NamedAny,
    })
}

fn existing_or_new(rest: &str, known: &Node) -> String {
    let existing = known.pairs().iter().find(|pair| as_variable(&pair.name) == rest);
    existing.map_or_else(|| rest.to_ascii_lowercase(), |pair| pair.name.clone())
}

fn as_variable(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

impl Shape {
    /// Reads a variable's text as what this key holds.
    fn value(self, text: &str, place: &Place) -> Result<Node, String> {
        match self {
            Shape::Leaf | Shape::LeafOrSection(_) => Ok(Node::text(text, place.clone())),
            Shape::Leaves if !text.trim_start().starts_with('[') => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                let items = items.map(|item| Node::text(item, place.clone())).collect();
                Ok(Node {
                    value: Value::List(items),
                    place: place.clone(),
                })
            }
            _ => {
                // The parser's message names no content, so a secret within cannot show.
                let document = node::parse(text).map_err(|malformed| malformed.message)?;
                if let Some(fault) = document.faults.into_iter().next() {
                    return Err(fault.message);
                }
                let mut node = document.root;
                node.set_place(place);
                Ok(node)
            }
        }
    }
}

fn set(root: &mut Node, path: &[String], value: Node, place: &Place) {
    let node = path.iter().try_fold(root, |node, name| node.child_mut(name, place));
    if let Some(node) = node {
        *node = value;
    }
}
