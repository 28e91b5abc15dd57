//! One text put into a JSON file. What is there keeps its order and its form; what cannot be read as JSON (comments) is refused.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

const INDENT: &str = "  ";

/// An object's fields in their order, each value as it stands.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The text with `value` at `path`; objects on the way are made where they are missing. Unchanged where it is there already.
pub fn set(text: &str, path: &[&str], value: &str) -> Result<String, String> {
    let body = if text.trim().is_empty() { "{}" } else { text };
    let changed = set_at(body, path, value, 0)?;
    Ok(match changed {
        Some(changed) => changed + "\n",
        None => text.to_owned(),
    })
}

/// `None`: it is there already.
fn set_at(text: &str, path: &[&str], value: &str, depth: usize) -> Result<Option<String>, String> {
    let Some((name, rest)) = path.split_first() else {
        let is_there = serde_json::from_str::<String>(text).is_ok_and(|known| known == value);
        return Ok((!is_there).then(|| serde_json::Value::from(value).to_string()));
    };
    let mut fields: Fields =
        serde_json::from_str(text).map_err(|error| format!("is no JSON that is read here: {error}"))?;
    let known = fields.0.iter().position(|(field, _)| field == name);
    let below = known
        .and_then(|at| fields.0.get(at))
        .map_or("{}", |(_, value)| value.get());
    let Some(below) = set_at(below, rest, value, depth + 1)? else {
        return Ok(None);
    };
    let below = RawValue::from_string(below).map_err(|error| error.to_string())?;
    match known.and_then(|at| fields.0.get_mut(at)) {
        Some((_, value)) => *value = below,
        None => fields.0.push(((*name).to_owned(), below)),
    }
    Ok(Some(written(&fields.0, depth)))
}

fn written(fields: &[(String, Box<RawValue>)], depth: usize) -> String {
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| {
            let name = serde_json::Value::from(name.as_str());
            format!("{}{name}: {}", INDENT.repeat(depth + 1), value.get())
        })
        .collect();
    format!("{{\n{}\n{}}}", lines.join(",\n"), INDENT.repeat(depth))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const PATH: [&str; 2] = ["env", "URL"];

    #[test]
    fn what_is_there_stays_as_it_is() {
        let before = "{\n  \"zebra\": [1,  2],\n  \"env\": {\n    \"B\": \"x\"\n  },\n  \"apple\": {\"a\": 1.50}\n}\n";
        let after = "{\n  \"zebra\": [1,  2],\n  \"env\": {\n    \"B\": \"x\",\n    \"URL\": \"http://x\"\n  },\n  \"apple\": {\"a\": 1.50}\n}\n";
        assert_eq!(set(before, &PATH, "http://x").unwrap(), after);
        assert_eq!(set(after, &PATH, "http://x").unwrap(), after, "again");
        let other = set(after, &PATH, "http://y").unwrap();
        assert_eq!(other, after.replace("http://x", "http://y"));
    }

    #[test]
    fn a_new_file_is_made_and_one_that_is_no_json_is_refused() {
        let new = "{\n  \"env\": {\n    \"URL\": \"a\\\"b\"\n  }\n}\n";
        for nothing in ["", "  \n", "{}"] {
            assert_eq!(set(nothing, &PATH, "a\"b").unwrap(), new);
        }
        for broken in ["{ // comment\n}", "[]", "{\"env\": 1}", "{\"env\": null}", "{"] {
            assert!(set(broken, &PATH, "x").is_err(), "{broken}");
        }
    }
}
