//! What the methods that put rules under other names have in common: finding the rule that they replace, and telling faults at
//! their own parameters.

use serde_json::{Map, Value};

use crate::control::error::RpcError;
use crate::runtime::{InForce, Refused, Rule};

/// The runtime rule of a list whose value has these fields, the newest first. `own`: only a tenant's own.
pub(in crate::control) fn found<'a>(
    in_force: &'a InForce,
    list: &str,
    own: Option<&str>,
    fields: &[(&str, &str)],
) -> Option<&'a Rule> {
    let policy = crate::runtime::policy_of(list);
    let is_it = |rule: &Rule| {
        let has = |(name, wanted): &(&str, &str)| {
            let said = rule.value.get(*name).and_then(Value::as_str).unwrap_or_default();
            said == *wanted || (said.is_empty() && Some(*wanted) == default_of(name))
        };
        rule.list == list && own.is_none_or(|own| *rule.tenant == *own) && fields.iter().all(has)
    };
    let mut rules = in_force.parts.rules.of(policy).rev();
    rules.find(|rule| is_it(rule)).map(|rule| &**rule)
}

/// What a field says where it is left out.
fn default_of(name: &str) -> Option<&'static str> {
    (name == "unit").then_some("usd")
}

/// The one of several parameters that is given, and which.
pub(in crate::control) fn one_of<'a>(given: &[(&'static str, &'a str)]) -> Result<(&'static str, &'a str), RpcError> {
    let mut said = given.iter().filter(|(_, value)| !value.is_empty());
    match (said.next(), said.next()) {
        (Some(one), None) => Ok(*one),
        (None, _) => Err(Refused::unfit(names(given), "is missing").into()),
        (Some(_), Some((second, _))) => Err(Refused::unfit(*second, format!("give one of {}", names(given))).into()),
    }
}

fn names(given: &[(&'static str, &str)]) -> String {
    given.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ")
}

/// A required text.
pub(in crate::control) fn needed(name: &'static str, value: &str) -> Result<(), RpcError> {
    match value {
        "" => Err(Refused::unfit(name, "is missing").into()),
        _ => Ok(()),
    }
}

/// Adds what is given.
pub(in crate::control) fn put(fields: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), value.into());
    }
}

/// A fault in the rule's value as one of the parameter that it came from; `renamed` are fields that bear other names there.
pub(in crate::control) fn at_parameter(error: RpcError, renamed: &[(&str, &str)]) -> RpcError {
    let RpcError::Unfit { path, text } = error else {
        return error;
    };
    let Some(inner) = path.strip_prefix("value.") else {
        return RpcError::Unfit { path, text };
    };
    let name = renamed
        .iter()
        .find(|(field, _)| *field == inner)
        .map_or(inner, |(_, name)| *name);
    RpcError::Unfit {
        path: name.to_owned(),
        text,
    }
}
