//! The names of all facts, for whoever asks for one that there is not, and for the type definitions in `sdk/lua`.

use agentledger_ledger::Kind;
use mlua::{Error as LuaError, LuaString};

use super::lint::meant;

pub(super) const CALL: [&str; 24] = [
    "provider",
    "dialect",
    "operation",
    "model",
    "models",
    "any_model",
    "stream",
    "max_output",
    "key",
    "claim",
    "tenant",
    "agent",
    "session",
    "user",
    "task",
    "path",
    "server",
    "tool",
    "tags",
    "estimate",
    "priced",
    "free",
    "at",
    "history",
];
const KEY: [&str; 3] = ["fingerprint", "present", "matches"];
const AT: [&str; 10] = [
    "year", "month", "day", "hour", "minute", "second", "weekday", "ms", "zone", "in_zone",
];
const ESTIMATE: [&str; 4] = ["input_tokens", "output_tokens", "usd", "output_usd"];
const HISTORY: [&str; 13] = [
    "age_s",
    "calls",
    "cost_usd",
    "tokens",
    "running",
    "window_s",
    "repeats",
    "tool_repeats",
    "stretch",
    "distinct",
    "path_calls",
    "repeats_usd",
    "cost_slope",
];
const ENTRY: [&str; 29] = [
    "id",
    "at",
    "provider",
    "operation",
    "requested_model",
    "model",
    "stream",
    "status",
    "outcome",
    "key",
    "tenant",
    "agent",
    "session",
    "user",
    "task",
    "path",
    "tags",
    "usage",
    "reasoning",
    "cost_usd",
    "held_usd",
    "overage_usd",
    "overage_reason",
    "estimated",
    "estimate_reason",
    "duration_ms",
    "ttfb_ms",
    "response_id",
    "request_id",
];

/// The fields of a thing, as errors call it: `call.key`, `at`.
pub(super) fn of(thing: &str) -> Vec<&'static str> {
    match thing {
        "call" => CALL.to_vec(),
        "call.key" => KEY.to_vec(),
        "call.estimate" => ESTIMATE.to_vec(),
        "call.history" => HISTORY.to_vec(),
        "at" => AT.to_vec(),
        "entry" => ENTRY.to_vec(),
        "entry.usage" => Kind::ALL.iter().map(|kind| kind.name()).collect(),
        _ => Vec::new(),
    }
}

/// The error of whoever asks for a field that there is not.
pub(super) fn no_field(thing: &str, name: &LuaString) -> LuaError {
    let name: String = name.to_string_lossy().chars().take(64).collect();
    let meant = meant(of(thing).into_iter(), &name);
    LuaError::runtime(format!("{thing} has no field {name:?}{meant}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::collections::BTreeSet;

    use super::*;

    /// The names that the code of one implementation compares with: `b"name"`, and methods by `add_method("name"`.
    fn named<'c>(code: &'c str, begins: &str) -> BTreeSet<&'c str> {
        let (_, after) = code.split_once(begins).unwrap_or_else(|| panic!("no {begins}"));
        let own = after.split("\n}\n").next().unwrap();
        let quoted = |before: &'static str| {
            own.match_indices(before)
                .map(move |(at, _)| own[at + before.len()..].split('"').next().unwrap())
        };
        quoted("b\"").chain(quoted("add_method(\"")).collect()
    }

    #[test]
    fn each_fact_of_the_code_is_in_the_lists_and_no_other() {
        let (facts, fact, entry, history) = (
            include_str!("facts.rs"),
            include_str!("fact.rs"),
            include_str!("entry.rs"),
            include_str!("history.rs"),
        );
        let texts = fact.split_once("const TEXTS").unwrap().1.split_once("];").unwrap().0;
        let mut call = named(facts, "impl UserData for CallHandle");
        call.extend(named(fact, "impl Fact {"));
        call.extend(texts.split('"').skip(1).step_by(2));
        let mut of_entry = named(entry, "impl UserData for EntryHandle");
        of_entry.extend(named(entry, "fn entry_field"));
        let of_history = named(history, "impl History");
        for (thing, found) in [
            ("call", call),
            ("entry", of_entry),
            ("call.key", named(facts, "impl UserData for KeyHandle")),
            ("call.estimate", named(facts, "impl UserData for EstimateHandle")),
            ("at", named(facts, "impl UserData for AtHandle")),
            ("call.history", of_history),
        ] {
            assert_eq!(of(thing).into_iter().collect::<BTreeSet<_>>(), found, "{thing}");
        }
    }
}
