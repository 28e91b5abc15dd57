//! A conf as a value of Lua: made by hand, without a compiler between, and read-only.

use std::cell::OnceCell;
use std::sync::Arc;

use mlua::{Error as LuaError, Lua, LuaString, MetaMethod, Table, UserData, UserDataMethods, Value};
use serde_json::Value as Json;

/// A conf in a VM, its tables read-only. Nulls are nil.
pub(super) fn build(lua: &Lua, conf: &Json) -> Result<Value, LuaError> {
    Ok(match conf {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (at, item) in (1..).zip(items) {
                table.raw_set(at, build(lua, item)?)?;
            }
            table.set_readonly(true);
            Value::Table(table)
        }
        Json::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, value) in fields {
                table.raw_set(name.as_str(), build(lua, value)?)?;
            }
            table.set_readonly(true);
            Value::Table(table)
        }
    })
}

/// A large conf: its table is made when a call first looks into it, which a policy with a `setup` seldom does.
pub(super) struct LazyConf {
    conf: Arc<Json>,
    table: OnceCell<Table>,
}

/// A conf of more bytes than this, as JSON, is made when it is needed.
pub(super) const LAZY_CONF_BYTES: usize = 16 << 10;

impl LazyConf {
    pub fn new(conf: &Arc<Json>) -> LazyConf {
        LazyConf {
            conf: Arc::clone(conf),
            table: OnceCell::new(),
        }
    }

    fn table(&self, lua: &Lua) -> Result<Table, LuaError> {
        if let Some(table) = self.table.get() {
            return Ok(table.clone());
        }
        let Value::Table(made) = build(lua, &self.conf)? else {
            return Err(LuaError::runtime("the conf is no table"));
        };
        Ok(self.table.get_or_init(|| made).clone())
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use mlua::LuaSerdeExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let conf = json!({
            "text": "a\"b\\c\n]]--\u{0}ü☺1", "end": "keyword", "0": [1, -2.5, 1e300, true, "x"], "a b": {"deep": [{"er": 1e-9}]},
            "\"] = os.exit(), [\"": "9",
        });
        let lua = Lua::new();
        let read = build(&lua, &conf).unwrap();
        let table = read.as_table().unwrap();
        assert!(table.is_readonly() && table.raw_get::<Table>("a b").unwrap().is_readonly());
        assert_eq!(lua.from_value::<Json>(read).unwrap(), conf);
        let nothing = build(&lua, &json!({"gone": null})).unwrap();
        assert_eq!(
            nothing.as_table().unwrap().raw_get::<Value>("gone").unwrap(),
            Value::Nil
        );
    }
}
