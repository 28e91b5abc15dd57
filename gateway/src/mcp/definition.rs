//! Definitions of tools, as servers list them: what names one, what it says line by line, and what differs between two.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// Of a definition, what is kept for people to see.
const LINES_MAX: usize = 200;
const LINE_CHARS_MAX: usize = 400;

/// A definition as it is seen.
pub enum Definition<'d> {
    Whole(&'d RawValue),
    /// Its hash, of a server that another process stands beside.
    Hash(&'d str),
}

impl Definition<'_> {
    pub fn hash(&self) -> String {
        match self {
            Definition::Whole(definition) => hash_of(definition),
            Definition::Hash(hash) => (*hash).to_owned(),
        }
    }

    /// What it says, line by line: first what a model is told, then all else. Bounded.
    pub fn words(&self) -> Vec<String> {
        let Definition::Whole(definition) = self else {
            return Vec::new();
        };
        let Ok(Value::Object(mut members)) = serde_json::from_str(definition.get()) else {
            return Vec::new();
        };
        members.remove("_meta");
        let description = members.remove("description").unwrap_or_default();
        let description = description.as_str().unwrap_or_default().to_owned();
        let others = serde_json::to_string_pretty(&members).unwrap_or_default();
        let lines = description.lines().chain(others.lines()).take(LINES_MAX);
        lines.map(|line| line.chars().take(LINE_CHARS_MAX).collect()).collect()
    }
}

/// Of what a definition says, whatever the order of its members. `_meta` is no part of what a model is told.
pub fn hash_of(definition: &RawValue) -> String {
    let mut hasher = blake3::Hasher::new();
    match serde_json::from_str::<Value>(definition.get()) {
        Ok(Value::Object(mut members)) => {
            members.remove("_meta");
            take(&mut hasher, &Value::Object(members));
        }
        Ok(other) => take(&mut hasher, &other),
        Err(_) => drop(hasher.update(definition.get().as_bytes())),
    }
    hasher.finalize().to_hex().to_string()
}

fn take(hasher: &mut blake3::Hasher, value: &Value) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            hasher.update(b"{");
            for (name, value) in sorted {
                hasher.update(Value::String(name.clone()).to_string().as_bytes());
                take(hasher, value);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                take(hasher, item);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        plain => drop(hasher.update(plain.to_string().as_bytes())),
    }
}

/// The lines of both texts in their order: those of both (` `), those that went (`-`) and those that came (`+`). As few of the latter
/// as there can be, by the longest row of lines that both have.
pub fn lines_between(before: &[String], after: &[String]) -> Vec<(char, String)> {
    let width = after.len() + 1;
    // By place in both, how many lines the rests have in common.
    let mut common = vec![0_usize; (before.len() + 1) * width];
    let at = |common: &[usize], one: usize, other: usize| common.get(one * width + other).copied().unwrap_or(0);
    for (one, line) in before.iter().enumerate().rev() {
        for (other, now) in after.iter().enumerate().rev() {
            let longest = if line == now {
                at(&common, one + 1, other + 1) + 1
            } else {
                at(&common, one + 1, other).max(at(&common, one, other + 1))
            };
            if let Some(slot) = common.get_mut(one * width + other) {
                *slot = longest;
            }
        }
    }
    let (mut one, mut other, mut lines) = (0, 0, Vec::new());
    loop {
        match (before.get(one), after.get(other)) {
            (Some(line), Some(now)) if line == now => {
                lines.push((' ', line.clone()));
                (one, other) = (one + 1, other + 1);
            }
            (Some(line), now) if now.is_none() || at(&common, one + 1, other) >= at(&common, one, other + 1) => {
                lines.push(('-', line.clone()));
                one += 1;
            }
            (_, Some(now)) => {
                lines.push(('+', now.clone()));
                other += 1;
            }
            (_, None) => return lines,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn values_that_read_alike_in_a_row_have_different_hashes() {
        for (one, other) in [("[1,23]", "[12,3]"), (r#"{"a":"b"}"#, r#"["a","b"]"#), (r#""1""#, "1")] {
            assert_ne!(hash_of(&raw(one)), hash_of(&raw(other)));
        }
    }

    #[test]
    fn a_definition_is_shown_from_what_a_model_is_told_first_and_within_bounds() {
        let definition =
            raw(r#"{"name":"a","_meta":{"at":1},"description":"one\ntwo","inputSchema":{"type":"object"}}"#);
        let words = Definition::Whole(&definition).words();
        assert_eq!(words[..3], ["one", "two", "{"]);
        assert!(!words.iter().any(|line| line.contains("_meta")), "{words:?}");
        let long = raw(&format!(r#"{{"description":"{}"}}"#, "x\\n".repeat(100_000)));
        assert_eq!(Definition::Whole(&long).words().len(), LINES_MAX);
        assert!(Definition::Hash("00").words().is_empty());
    }

    proptest! {
        #[test]
        fn what_differs_makes_the_one_text_of_the_other(before in prop::collection::vec("[a-c]", 0..12), after in prop::collection::vec("[a-c]", 0..12)) {
            let lines = lines_between(&before, &after);
            let of = |left_out: char| -> Vec<String> {
                lines.iter().filter(|(sign, _)| *sign != left_out).map(|(_, line)| line.clone()).collect()
            };
            prop_assert_eq!(of('+'), before);
            prop_assert_eq!(of('-'), after);
        }
    }
}
