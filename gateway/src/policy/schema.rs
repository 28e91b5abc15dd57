//! The schema of a policy's conf: types, defaults and bounds, declared in the policy file, checked natively.

use std::collections::BTreeMap;
use std::fmt;

use mlua::{Lua, LuaSerdeExt, Value as LuaValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use agentledger_ledger::{Usd, Zone};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::decimal::{BadNumber, count_of_text, nanos_of_number, nanos_of_text};
use super::file::MODE;
use super::glob::Glob;

/// Types of a conf value. `usd` and `amount` (of any unit) are decimal text or a number and reach Lua as decimal text; `glob`
/// is a pattern that was checked to be well-formed, `zone` a time zone that is known. `time` is a date or a moment
/// (`2026-12-31`, `2026-12-31T18:00:00Z`) and reaches Lua as milliseconds since the epoch. A `map` has free names. A list of
/// one item may be written as the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Number,
    Integer,
    String,
    Boolean,
    Usd,
    Amount,
    Glob,
    Zone,
    Time,
    List,
    Map,
    Table,
}

/// How a field's values lie over each other: items of lists join, names of tables stand in for one another, and so do single
/// values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    List,
    /// Of names, each with a value of its own.
    Table,
    Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    #[serde(rename = "type")]
    kind: Kind,
    default: Option<Value>,
    #[serde(default)]
    required: bool,
    min: Option<f64>,
    max: Option<f64>,
    /// The only values allowed.
    one_of: Option<Vec<Value>>,
    /// What the items of a list or a map are.
    items: Option<Box<Field>>,
    /// What a table has.
    fields: Option<BTreeMap<String, Field>>,
    #[serde(rename = "description")]
    _description: Option<String>,
}

/// Wrong conf values: the path of each, and what is wrong.
type Wrongs = Vec<(String, String)>;

/// Where in a conf. Written out only where something is wrong there: most of ten thousand rules fit.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    /// From 1.
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Schema(BTreeMap<String, Field>);

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// Everything that is wrong, each with the path of its key: `schema.limit`.
    pub fn read(lua: &Lua, schema: LuaValue) -> Result<Schema, Wrongs> {
        let at = |key: &str, message: String| (key.to_owned(), message);
        let table = match schema {
            LuaValue::Nil => return Ok(Schema::default()),
            LuaValue::Table(table) => table,
            other => {
                let message = format!("schema must be a table, not a {}", other.type_name());
                return Err(vec![at("schema", message)]);
            }
        };
        let (mut fields, mut faults) = (BTreeMap::new(), Vec::new());
        for pair in table.pairs::<String, LuaValue>() {
            let (key, field) = match pair {
                Ok(pair) => pair,
                Err(error) => {
                    faults.push(at("schema", format!("schema: {error}")));
                    break;
                }
            };
            let path = format!("schema.{key}");
            if key == MODE {
                let message = "schema.mode: mode is every policy's already: enforce, shadow or off".to_owned();
                faults.push((path, message));
                continue;
            }
            match lua.from_value::<Field>(field) {
                Ok(field) => {
                    let mut wrongs = Vec::new();
                    field.check_defaults(Path::Field(&Path::Root, &key), &mut wrongs);
                    let said = wrongs
                        .into_iter()
                        .map(|(at, message)| (path.clone(), format!("schema.{key}: default {at} {message}")));
                    faults.extend(said);
                    fields.insert(key, field);
                }
                Err(error) => faults.push((path, format!("schema.{key}: {}", one_line(&error)))),
            }
        }
        if faults.is_empty() {
            Ok(Schema(fields))
        } else {
            faults.sort();
            Err(faults)
        }
    }

    pub fn shape(&self, field: &str) -> Option<Shape> {
        self.0.get(field).map(|field| match field.kind {
            Kind::List => Shape::List,
            Kind::Map | Kind::Table => Shape::Table,
            _ => Shape::Scalar,
        })
    }

    /// The conf with its defaults, or everything that is wrong with it. `mode` is every policy's, and no field of a schema.
    pub fn apply(&self, conf: &Value) -> Result<Value, Wrongs> {
        let mut wrongs = Vec::new();
        let checked = check_fields(Path::Root, &self.0, conf, &mut wrongs);
        if wrongs.is_empty() { Ok(checked) } else { Err(wrongs) }
    }
}

fn one_line(error: &mlua::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn check_fields(path: Path<'_>, fields: &BTreeMap<String, Field>, conf: &Value, wrongs: &mut Wrongs) -> Value {
    let empty = Map::new();
    let given = match conf {
        Value::Object(given) => given,
        Value::Null => &empty,
        // An empty Lua table may be read as either.
        Value::Array(items) if items.is_empty() => &empty,
        _ => {
            wrongs.push((path.to_string(), "must be a table".to_owned()));
            return Value::Null;
        }
    };
    let is_mode = |key: &str| matches!(path, Path::Root) && key == MODE;
    for key in given.keys().filter(|key| !fields.contains_key(*key) && !is_mode(key)) {
        wrongs.push((
            Path::Field(&path, key).to_string(),
            "is not in the policy's schema".to_owned(),
        ));
    }
    let mut checked = Map::new();
    for (key, field) in fields {
        let value = given
            .get(key)
            .filter(|value| !value.is_null())
            .or(field.default.as_ref());
        match value {
            Some(value) => {
                checked.insert(key.clone(), field.check(Path::Field(&path, key), value, wrongs));
            }
            None if field.required => wrongs.push((Path::Field(&path, key).to_string(), "is missing".to_owned())),
            None => {}
        }
    }
    Value::Object(checked)
}

impl Field {
    /// Whether the default, and those of what it holds, fit their own types.
    fn check_defaults(&self, path: Path<'_>, wrongs: &mut Wrongs) {
        if let Some(default) = &self.default {
            self.check(path, default, wrongs);
        }
        for (name, field) in self.fields.iter().flatten() {
            field.check_defaults(Path::Field(&path, name), wrongs);
        }
        if let Some(items) = &self.items {
            items.check_defaults(Path::Item(&path, 1), wrongs);
        }
    }

    fn check(&self, path: Path<'_>, value: &Value, wrongs: &mut Wrongs) -> Value {
        let before = wrongs.len();
        // The environment and the config's own sections give numbers as text.
        let number = match (self.kind, value) {
            (Kind::Number | Kind::Integer, Value::String(text)) => number_of_text(text),
            _ => None,
        };
        let value = number.as_ref().unwrap_or(value);
        let mut wrong = |message: &str| wrongs.push((path.to_string(), message.to_owned()));
        let checked = match (self.kind, value) {
            (Kind::Number, Value::Number(_)) | (Kind::String, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) => {
                value.clone()
            }
            (Kind::Number, _) => refuse(&mut wrong, "must be a number"),
            (Kind::String, _) => refuse(&mut wrong, "must be text"),
            (Kind::Boolean, _) => refuse(&mut wrong, "must be true or false"),
            (Kind::Integer, Value::Number(number)) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                value.clone()
            }
            (Kind::Integer, _) => refuse(&mut wrong, "must be a whole number"),
            (Kind::Glob, Value::String(pattern)) => match Glob::new(pattern) {
                Ok(_) => value.clone(),
                Err(bad) => refuse(&mut wrong, &format!("is a {bad}")),
            },
            (Kind::Glob, _) => refuse(&mut wrong, "must be a glob, as text"),
            (Kind::Usd, Value::Number(_) | Value::String(_)) => {
                let nanos = match value {
                    Value::String(text) => nanos_of_text(text),
                    other => nanos_of_number(other.as_f64().unwrap_or(f64::NAN)),
                };
                match nanos {
                    Ok(nanos) => Value::String(Usd::from_nanos(nanos).to_string()),
                    Err(bad) => refuse(&mut wrong, &bad.to_string()),
                }
            }
            (Kind::Amount, Value::Number(_) | Value::String(_)) => match amount_text(value) {
                Ok(text) => Value::String(text),
                Err(bad) => refuse(&mut wrong, &bad.to_string()),
            },
            (Kind::Amount, _) => refuse(&mut wrong, "must be an amount: a number or decimal text"),
            (Kind::Zone, Value::String(name)) => match Zone::named(name) {
                Ok(_) => value.clone(),
                Err(_) => refuse(&mut wrong, "is no time zone: write Europe/Berlin"),
            },
            (Kind::Zone, _) => refuse(&mut wrong, "must be a time zone, as text"),
            (Kind::Time, Value::Number(_)) => value.clone(),
            (Kind::Time, Value::String(text)) => match moment_of_text(text) {
                Some(ms) => ms.into(),
                None => refuse(&mut wrong, "is no time: write 2026-12-31 or 2026-12-31T18:00:00Z"),
            },
            (Kind::Time, _) => refuse(&mut wrong, "must be a time, as text"),
            (Kind::Map, Value::Object(given)) => self.check_map(path, given, wrongs),
            (Kind::Map, Value::Array(items)) if items.is_empty() => Value::Object(Map::new()),
            (Kind::Map, _) => refuse(&mut wrong, "must be a table of names"),
            (Kind::Usd, _) => refuse(&mut wrong, "must be an amount in USD: a number or decimal text"),
            (Kind::List, Value::Array(items)) => self.check_items(path, items, wrongs),
            (Kind::List, Value::Object(fields)) if fields.is_empty() => Value::Array(Vec::new()),
            (Kind::List, Value::Number(_) | Value::String(_) | Value::Bool(_)) => {
                self.check_items(path, std::slice::from_ref(value), wrongs)
            }
            (Kind::List, _) => refuse(&mut wrong, "must be a list"),
            (Kind::Table, Value::Object(_) | Value::Array(_)) => match &self.fields {
                Some(fields) => check_fields(path, fields, value, wrongs),
                None => value.clone(),
            },
            (Kind::Table, _) => refuse(&mut wrong, "must be a table"),
        };
        if wrongs.len() == before {
            self.check_range(path, &checked, wrongs);
        }
        checked
    }

    fn check_items(&self, path: Path<'_>, items: &[Value], wrongs: &mut Wrongs) -> Value {
        let Some(item) = &self.items else {
            return Value::Array(items.to_vec());
        };
        let checked = (1..)
            .zip(items)
            .map(|(at, value)| item.check(Path::Item(&path, at), value, wrongs));
        Value::Array(checked.collect())
    }

    fn check_map(&self, path: Path<'_>, given: &Map<String, Value>, wrongs: &mut Wrongs) -> Value {
        let checked = given.iter().map(|(name, value)| {
            let value = match &self.items {
                Some(item) => item.check(Path::Field(&path, name), value, wrongs),
                None => value.clone(),
            };
            (name.clone(), value)
        });
        Value::Object(checked.collect())
    }

    fn check_range(&self, path: Path<'_>, value: &Value, wrongs: &mut Wrongs) {
        if let (Some(number), Some(min)) = (value.as_f64(), self.min.filter(|min| value.as_f64() < Some(*min))) {
            wrongs.push((path.to_string(), format!("is {number}, below {min}")));
        }
        if let (Some(number), Some(max)) = (value.as_f64(), self.max.filter(|max| value.as_f64() > Some(*max))) {
            wrongs.push((path.to_string(), format!("is {number}, above {max}")));
        }
        if let Some(allowed) = self.one_of.as_ref().filter(|allowed| !allowed.contains(value)) {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            wrongs.push((path.to_string(), format!("must be one of {}", allowed.join(", "))));
        }
    }
}

/// The decimal text of an amount in any unit, checked.
fn amount_text(value: &Value) -> Result<String, BadNumber> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.as_f64().is_some_and(|number| number < 0.0) => return Err(BadNumber::Negative),
        // Written out in full, as the shortest decimal that is the same number.
        other => format!("{}", other.as_f64().unwrap_or(f64::NAN)),
    };
    match count_of_text(&text) {
        Ok(_) => Ok(text),
        Err(_) => nanos_of_text(&text).map(|_| text),
    }
}

/// Milliseconds since the epoch of a date (its first moment, UTC) or a moment with an offset.
fn moment_of_text(text: &str) -> Option<i64> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment.as_millisecond());
    }
    let date: jiff::civil::DateTime = text.parse().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// A plain decimal such as `0.8`; no money ever goes this way.
fn number_of_text(text: &str) -> Option<Value> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    let number: f64 = text.parse().ok().filter(|_| plain)?;
    serde_json::Number::from_f64(number).map(Value::Number)
}

fn refuse(wrong: &mut impl FnMut(&str), message: &str) -> Value {
    wrong(message);
    Value::Null
}
