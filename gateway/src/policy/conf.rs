//! A conf as Lua code: compiled once for all threads, so that a thread that loads a set with ten thousand rules runs a
//! literal instead of making each table by hand. The source is ours alone: every text in it is escaped byte by byte.

use std::fmt::Write;

use mlua::chunk::Compiler;
use serde_json::Value;

/// Bytecode of a chunk that returns the conf, its tables read-only. Nulls are nil.
pub(super) fn compile(conf: &Value) -> Result<Vec<u8>, String> {
    let mut source = String::from("local freeze = table.freeze return ");
    write_value(conf, &mut source);
    let compiler = Compiler::new().set_optimization_level(1).set_debug_level(0);
    compiler
        .compile(&source)
        .map_err(|error| format!("the conf is too large: {error}"))
}

fn write_value(value: &Value, source: &mut String) {
    match value {
        Value::Null => source.push_str("nil"),
        Value::Bool(flag) => source.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            // Writing to a String cannot fail.
            let _ = write!(source, "{:?}", number.as_f64().unwrap_or(f64::NAN));
        }
        Value::String(text) => write_text(text, source),
        Value::Array(items) => {
            source.push_str("freeze({");
            for item in items {
                write_value(item, source);
                source.push(',');
            }
            source.push_str("})");
        }
        Value::Object(fields) => {
            source.push_str("freeze({");
            for (name, value) in fields {
                source.push('[');
                write_text(name, source);
                source.push_str("]=");
                write_value(value, source);
                source.push(',');
            }
            source.push_str("})");
        }
    }
}

fn write_text(text: &str, source: &mut String) {
    source.push('"');
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b" _-*.:/@".contains(&byte) {
            source.push(char::from(byte));
        } else {
            let _ = write!(source, "\\{byte:03}");
        }
    }
    source.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use mlua::chunk::ChunkMode;
    use mlua::{Lua, LuaSerdeExt};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let conf = json!({
            "text": "a\"b\\c\n]]--\u{0}ü☺1", "end": "keyword", "0": [1, -2.5, 1e300, true, "x"], "a b": {"deep": [{"er": 1e-9}]},
            "\"] = os.exit(), [\"": "9",
        });
        let lua = Lua::new();
        let read: mlua::Value = lua
            .load(compile(&conf).unwrap())
            .set_mode(ChunkMode::Binary)
            .eval()
            .unwrap();
        assert!(read.as_table().unwrap().is_readonly());
        assert_eq!(lua.from_value::<Value>(read).unwrap(), conf);
    }

    #[test]
    fn ten_thousand_rules_compile() {
        let rules: Vec<Value> = (0..10_000)
            .map(|at| json!({"pattern": format!("sk-{at}-*"), "limit": at.to_string()}))
            .collect();
        let lua = Lua::new();
        let read: mlua::Table = lua
            .load(compile(&json!(rules)).unwrap())
            .set_mode(ChunkMode::Binary)
            .eval()
            .unwrap();
        assert_eq!(read.raw_len(), 10_000);
        assert_eq!(
            read.get::<mlua::Table>(10_000)
                .unwrap()
                .get::<String>("pattern")
                .unwrap(),
            "sk-9999-*"
        );
    }
}
