//! Fields of intents as Lua hands them over, read and checked, with errors that name the intent and the field.

use std::fmt::Display;
use std::sync::Arc;

use agentledger_ledger::{Limit, Name, Unit, Usd};
use mlua::{Error as LuaError, LuaString, Table, Value};

use super::decimal::{BadNumber, count_of_number, count_of_text, nanos_of_number, nanos_of_text};

/// Which intent (or which item of a list) an error is about, counted from 1.
#[derive(Clone, Copy)]
pub(super) struct At(pub &'static str, pub i64);

pub(super) const fn intent(at: i64) -> At {
    At("intent", at)
}

pub(super) fn wrong(at: At, field: &str, why: impl Display) -> LuaError {
    LuaError::runtime(format!("{} {}: {field} {why}", at.0, at.1))
}

/// A required text field.
pub(super) fn required_text(at: At, field: &str, value: &Value) -> Result<LuaString, LuaError> {
    match value {
        Value::String(found) => Ok(found.clone()),
        Value::Nil => Err(wrong(at, field, "is missing")),
        other => Err(wrong(
            at,
            field,
            format_args!("must be text, not a {}", other.type_name()),
        )),
    }
}

/// A required text field as UTF-8.
pub(super) fn name_text(at: At, field: &str, value: &Value) -> Result<mlua::BorrowedStr, LuaError> {
    required_text(at, field, value)?
        .to_str()
        .map_err(|_| wrong(at, field, "is not valid UTF-8"))
}

/// A word of the policy's own: refused where it does not belong.
pub(super) fn plain_text(at: At, field: &str, value: &Value, bytes_max: usize) -> Result<Option<String>, LuaError> {
    if value.is_nil() {
        return Ok(None);
    }
    let found = required_text(at, field, value)?;
    let found = found.to_str().map_err(|_| wrong(at, field, "is not valid UTF-8"))?;
    if found.len() > bytes_max {
        return Err(wrong(at, field, format_args!("is longer than {bytes_max} bytes")));
    }
    if found.chars().any(char::is_control) {
        return Err(wrong(at, field, "has control characters"));
    }
    Ok(Some(found.to_owned()))
}

/// Text in which names that clients chose may stand: what does not belong is replaced, what is too long is cut. A client
/// must not be able to make a policy fail.
pub(super) fn people_text(at: At, field: &str, value: &Value, bytes_max: usize) -> Result<Option<String>, LuaError> {
    if value.is_nil() {
        return Ok(None);
    }
    let found = required_text(at, field, value)?.to_string_lossy();
    let mut text: String = found
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    text.truncate(text.floor_char_boundary(bytes_max));
    Ok(Some(text))
}

/// The same, as a name that must not be empty.
pub(super) fn people_name(at: At, field: &str, value: &Value, bytes_max: usize) -> Result<Name, LuaError> {
    match people_text(at, field, value, bytes_max)?.map(|text| text.trim().to_owned()) {
        None => Err(wrong(at, field, "is missing")),
        Some(text) if text.is_empty() => Err(wrong(at, field, "is empty")),
        Some(text) => Ok(Arc::from(text)),
    }
}

/// A Lua number, whichever of mlua's two forms it comes in.
#[allow(clippy::cast_precision_loss)]
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

/// A limit in nano-dollars, tokens or requests, read exactly.
pub(super) fn limit(at: At, field: &str, value: &Value, unit: Unit) -> Result<Limit, LuaError> {
    let read = if let Some(number) = number(value) {
        if unit == Unit::Usd {
            nanos_of_number(number)
        } else {
            count_of_number(number)
        }
    } else if let Value::String(found) = value {
        let found = found.to_str().map_err(|_| wrong(at, field, BadNumber::NotDecimal))?;
        if unit == Unit::Usd {
            nanos_of_text(&found)
        } else {
            count_of_text(&found)
        }
    } else if value.is_nil() {
        return Err(wrong(at, field, "is missing"));
    } else {
        return Err(wrong(
            at,
            field,
            format_args!("must be a number or decimal text, not a {}", value.type_name()),
        ));
    };
    let count = read.map_err(|bad| wrong(at, field, bad))?;
    let counted = u64::try_from(count).unwrap_or_default();
    let limit = match unit {
        Unit::Usd => Limit::usd(Usd::from_nanos(count)),
        Unit::Tokens => Limit::tokens(counted),
        Unit::Requests => Limit::requests(counted),
    };
    limit.map_err(|bad| wrong(at, field, bad))
}

/// A count of requests or tokens, 0 or more.
pub(super) fn count(at: At, field: &str, value: &Value, unit: Unit) -> Result<u64, LuaError> {
    limit(at, field, value, unit).map(|limit| u64::try_from(limit.count()).unwrap_or_default())
}

pub(super) fn whole_number(at: At, field: &str, value: &Value, low: f64, high: f64) -> Result<f64, LuaError> {
    match number(value) {
        Some(found) if found.fract() == 0.0 && (low..=high).contains(&found) => Ok(found),
        Some(_) => Err(wrong(
            at,
            field,
            format_args!("must be a whole number from {low} to {high}"),
        )),
        None if value.is_nil() => Err(wrong(at, field, "is missing")),
        None => Err(wrong(
            at,
            field,
            format_args!("must be a number, not a {}", value.type_name()),
        )),
    }
}

/// The items of a list of at most `items_max`.
pub(super) fn list(at: At, field: &str, value: &Value, items_max: usize) -> Result<Vec<Value>, LuaError> {
    let Value::Table(table) = value else {
        return Err(match value {
            Value::Nil => wrong(at, field, "is missing"),
            other => wrong(at, field, format_args!("must be a list, not a {}", other.type_name())),
        });
    };
    let length = table.raw_len();
    if length == 0 || length > items_max {
        return Err(wrong(at, field, format_args!("must have 1 to {items_max} items")));
    }
    table.sequence_values::<Value>().collect()
}

/// A field of an intent's table.
pub(super) fn field(intent: &Table, name: &str) -> Result<Value, LuaError> {
    intent.raw_get(name)
}
