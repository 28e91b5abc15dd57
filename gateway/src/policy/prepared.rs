//! What a policy's `setup` returned, kept apart from any VM. `setup` runs once for all threads; each VM gets a copy, in
//! which what is heavy (compiled patterns, checked limits) is shared and not copied.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::chunk::ChunkMode;
use mlua::{Error as LuaError, Lua, LuaString, MetaMethod, Table, UserData, UserDataMethods, Value};

use super::choose::{Choices, Choose, Globs};
use super::facts::Shared;
use super::glob::GlobSet;
use super::intent::Asked;
use super::terms::{Limits, Term};

/// Values that a setup may prepare.
const NODES_MAX: usize = 1_000_000;

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
    Choose(Choices, Vec<usize>),
}

/// A value of Lua without its VM. The first node is the value itself.
pub(super) struct Prepared {
    nodes: Vec<Node>,
}

/// Reads values, each table and object once, however often it is referred to.
struct Reader {
    nodes: Vec<Node>,
    known: HashMap<usize, usize>,
    waiting: Vec<(usize, Value)>,
}

impl Prepared {
    pub fn read(value: &Value) -> Result<Prepared, String> {
        let mut reader = Reader {
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
        Ok(Prepared { nodes: reader.nodes })
    }

    /// The value in a VM, its tables read-only.
    pub fn build(&self, lua: &Lua, shared: &Rc<Shared>, asked: &Rc<RefCell<Asked>>) -> Result<Value, LuaError> {
        let mut values = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            values.push(match node {
                // Filled below: its values may be referred to before they are made.
                Node::Choose(..) | Node::Nil => Value::Nil,
                Node::Flag(flag) => Value::Boolean(*flag),
                Node::Number(number) => Value::Number(*number),
                Node::Text(text) => Value::String(lua.create_string(text)?),
                Node::Table(pairs) => Value::Table(lua.create_table_with_capacity(0, pairs.len())?),
                Node::Globs(globs) => Value::UserData(lua.create_userdata(Globs(Arc::clone(globs)))?),
                Node::Limits(terms) => Value::UserData(lua.create_userdata(Limits {
                    terms: Arc::clone(terms),
                    shared: Rc::clone(shared),
                    asked: Rc::clone(asked),
                })?),
            });
        }
        let get = |values: &[Value], number: usize| values.get(number).cloned().unwrap_or(Value::Nil);
        for (number, node) in self.nodes.iter().enumerate() {
            if let Node::Choose(choices, chosen) = node {
                let choose = Choose {
                    choices: choices.clone(),
                    values: chosen.iter().map(|number| get(&values, *number)).collect(),
                };
                let made = Value::UserData(lua.create_userdata(choose)?);
                if let Some(slot) = values.get_mut(number) {
                    *slot = made;
                }
            }
        }
        for (node, value) in self.nodes.iter().zip(&values) {
            if let (Node::Table(pairs), Value::Table(table)) = (node, value) {
                for (key, of_key) in pairs {
                    table.raw_set(get(&values, *key), get(&values, *of_key))?;
                }
                table.set_readonly(true);
            }
        }
        Ok(get(&values, 0))
    }
}

impl Reader {
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
                    let numbers: Result<Vec<usize>, String> =
                        choose.values.iter().map(|value| self.number(value.clone())).collect();
                    Node::Choose(choose.choices.clone(), numbers?)
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

/// A large conf: its table is made when a call first looks into it, which a policy with a `setup` seldom does.
pub(super) struct LazyConf {
    bytecode: Arc<[u8]>,
    table: OnceCell<Table>,
}

/// A conf of more bytecode than this is made when it is needed.
pub(super) const LAZY_CONF_BYTES: usize = 16 << 10;

impl LazyConf {
    pub fn new(bytecode: &Arc<[u8]>) -> LazyConf {
        LazyConf {
            bytecode: Arc::clone(bytecode),
            table: OnceCell::new(),
        }
    }

    fn table(&self, lua: &Lua) -> Result<Table, LuaError> {
        if let Some(table) = self.table.get() {
            return Ok(table.clone());
        }
        let made = load(lua, &self.bytecode)?;
        let Value::Table(made) = made else {
            return Err(LuaError::runtime("the conf is no table"));
        };
        Ok(self.table.get_or_init(|| made).clone())
    }
}

/// The conf's value.
pub(super) fn load(lua: &Lua, bytecode: &[u8]) -> Result<Value, LuaError> {
    lua.load(bytecode).set_mode(ChunkMode::Binary).set_name("=conf").eval()
}

impl UserData for LazyConf {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| {
            this.table(lua)?.raw_get::<Value>(name)
        });
        methods.add_meta_method(MetaMethod::Len, |lua, this, ()| Ok(this.table(lua)?.raw_len()));
        methods.add_meta_method(MetaMethod::Iter, |lua, this, ()| {
            let next: mlua::Function = lua.globals().get("next")?;
            Ok((next, this.table(lua)?))
        });
    }
}
