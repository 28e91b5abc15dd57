//! Keys by the names that the operator gave them (`keys.aliases`), wherever a table shows a fingerprint.

use serde_json::{Value, json};

use super::ask::Target;
use super::client::Client;
use crate::config::KeyAliases;
use crate::control::wire::Keys;

/// How accounts of keys begin.
const KEY_ACCOUNT: &str = "key:";
/// Keys of a gateway elsewhere are known by name where they were seen so lately.
const SEEN: &str = "366d";

/// The names that are in force.
pub fn of(target: &Target) -> KeyAliases {
    match target {
        Target::Here(config) => config.key_aliases.clone(),
        Target::Elsewhere(_) => target.open().ok().and_then(|client| asked(&client)).unwrap_or_default(),
    }
}

fn asked(client: &Client) -> Option<KeyAliases> {
    let seen: Keys = client.call("key.list", &json!({ "last": SEEN })).ok()?;
    let named = seen
        .keys
        .into_iter()
        .filter_map(|key| Some((key.fingerprint, key.name?)));
    Some(named.collect())
}

/// The name in place of a fingerprint, or of the one in an account.
pub fn named<'a>(aliases: &'a KeyAliases, text: &str) -> Option<std::borrow::Cow<'a, str>> {
    if let Some(name) = aliases.get(text) {
        return Some(name.into());
    }
    let name = aliases.get(text.strip_prefix(KEY_ACCOUNT)?)?;
    Some(format!("{KEY_ACCOUNT}{name}").into())
}

/// Puts names in place of fingerprints, everywhere in a result.
pub fn put_in(aliases: &KeyAliases, value: &mut Value) {
    if aliases.is_empty() {
        return;
    }
    match value {
        Value::String(text) => {
            if let Some(name) = named(aliases, text) {
                *text = name.into_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| put_in(aliases, item)),
        Value::Object(fields) => fields.values_mut().for_each(|value| put_in(aliases, value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn names_stand_in_place_of_fingerprints_and_of_those_in_accounts() {
        let key = "0123456789abcdef01234567";
        let aliases = KeyAliases::from([(key.to_owned(), "ci".to_owned())]);
        let mut value = json!({"keys": [{"key": key, "account": format!("key:{key}"), "note": format!("was {key}")}]});
        put_in(&aliases, &mut value);
        assert_eq!(
            value,
            json!({"keys": [{"key": "ci", "account": "key:ci", "note": format!("was {key}")}]})
        );
        assert_eq!(named(&aliases, "agent:x"), None);
    }
}
