//! Reading plans against the plugins' own reading: how many frames of the fixtures a plan answers, and that it says the same
//! as the plugin, or nothing, of frames that no provider has sent yet. In tests the reader compares both by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::fixtures::{patient_plugins, read_once};
use super::*;
use crate::plugin::AnswerFrame;

/// A frame that a reader was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    operation: String,
    event: Option<String>,
    streamed: bool,
    outline: String,
}

thread_local! {
    static SEEN: RefCell<Option<BTreeSet<Seen>>> = const { RefCell::new(None) };
}

/// A reader is given a frame: keeps it, where this thread's test wants to know.
pub(super) fn note(frame: &AnswerFrame<'_>) {
    SEEN.with_borrow_mut(|seen| {
        if let Some(seen) = seen {
            seen.insert(Seen {
                operation: frame.operation.to_owned(),
                event: frame.event.map(str::to_owned),
                streamed: frame.streamed,
                outline: frame.outline.to_owned(),
            });
        }
    });
}

/// All frames of a dialect's fixtures, each once.
fn frames(dialect: &str, plugin: &crate::plugin::Plugin) -> Vec<Seen> {
    SEEN.set(Some(BTreeSet::new()));
    read_once(dialect, plugin, true);
    SEEN.take().unwrap().into_iter().collect()
}

/// The same mutations in every run.
struct Random(StdRng);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn pick<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// What stands in place of a value, or beside others.
fn odd_values() -> Vec<Value> {
    let mut odd = vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(""),
        json!("5"),
        json!("x"),
        json!("standard"),
        json!("models/models/m"),
        json!("a\"b"),
        json!("AUDIO"),
        json!([]),
        json!({}),
        json!([null]),
        json!([{}]),
        json!([1]),
        json!({"a": 1}),
        json!({"tokens": 7}),
        json!([{"modality": "AUDIO", "tokenCount": 3}]),
        json!("n".repeat(3_000)),
    ];
    let numbers = [
        "0",
        "1",
        "7",
        "-1",
        "-0",
        "1.5",
        "12.0",
        "1e3",
        "1000000000",
        "1000000001",
        "9223372036854775808",
        "99999999999999999999999",
        "1E-2",
    ];
    odd.extend(numbers.map(|number| serde_json::from_str(number).unwrap()));
    odd
}

/// Every member's name, and each path to a value.
fn walk(value: &Value, at: &str, paths: &mut Vec<String>, names: &mut BTreeSet<String>) {
    paths.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                names.insert(name.clone());
                walk(
                    value,
                    &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    paths,
                    names,
                );
            }
        }
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(index, item)| walk(item, &format!("{at}/{index}"), paths, names));
        }
        _ => {}
    }
}

/// Changes one thing of a document.
fn mutate(document: &mut Value, names: &[String], odd: &[Value], random: &mut Random) {
    let (mut paths, mut known) = (Vec::new(), BTreeSet::new());
    walk(document, "", &mut paths, &mut known);
    // Reports are most of what matters, and least of most documents.
    let within: Vec<String> = paths
        .iter()
        .filter(|path| path.to_lowercase().contains("usage"))
        .cloned()
        .collect();
    let from = if within.is_empty() || random.below(3) == 0 {
        &paths
    } else {
        &within
    };
    let target = document.pointer_mut(random.pick(from).as_str()).unwrap();
    let odd_one = random.pick(odd).clone();
    match (random.below(8), target) {
        (0, Value::Object(members)) => drop(members.insert(random.pick(names).clone(), odd_one)),
        (1, Value::Object(members)) => drop(members.insert("tokens_of_tomorrow".to_owned(), odd_one)),
        (2, Value::Object(members)) if !members.is_empty() => {
            let keys: Vec<String> = members.keys().cloned().collect();
            let moved = members.remove(random.pick(&keys)).unwrap();
            members.insert(random.pick(names).clone(), moved);
        }
        (3, Value::Object(members)) if !members.is_empty() => {
            let keys: Vec<String> = members.keys().cloned().collect();
            members.remove(random.pick(&keys));
        }
        (4, Value::Array(items)) => items.push(odd_one),
        (5, Value::Number(number)) => {
            let near = number.as_u64().unwrap_or(3).min(1 << 40);
            *number = [near + 1, near.saturating_sub(1), near * 2, near + 1_000][random.below(4)].into();
        }
        (6, target) => {
            *target = if random.below(2) == 0 {
                json!([target.take()])
            } else {
                json!({"a": target.take()})
            }
        }
        (_, target) => *target = odd_one,
    }
}

/// JSON text in which one member may come twice, with another value or the same.
fn write(document: &Value, doubled: Option<(usize, &Value)>) -> String {
    fn put(value: &Value, left: &mut Option<(usize, &Value)>, text: &mut String) {
        match value {
            Value::Object(members) => {
                text.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    text.push_str(&format!("{comma}{}:", json!(name)));
                    put(value, left, text);
                    if let Some((count, again)) = left {
                        if *count == 0 {
                            let again = if again.is_null() { value } else { again }.to_string();
                            text.push_str(&format!(",{}:{again}", json!(name)));
                            *left = None;
                        } else {
                            *count -= 1;
                        }
                    }
                }
                text.push('}');
            }
            Value::Array(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index > 0 { ", " } else { "" });
                    put(item, left, text);
                }
                text.push(']');
            }
            plain => text.push_str(&plain.to_string()),
        }
    }
    let (mut text, mut left) = (String::new(), doubled);
    put(document, &mut left, &mut text);
    text
}

#[test]
fn plans_read_what_is_common() {
    let plugins = patient_plugins();
    let mut shares = BTreeMap::new();
    for (dialect, plugin) in plugins.iter() {
        let mut sum = (0, 0);
        for metered in read_once(dialect, plugin, false) {
            sum.0 += metered.frames_read.by_plan;
            sum.1 += metered.frames_read.by_call;
        }
        shares.insert(dialect, sum);
    }
    println!("frames of fixtures read by plan, and by call: {shares:?}");
    for (dialect, least) in FLOORS {
        assert!(
            shares.get(dialect).is_none_or(|(by_plan, _)| *by_plan >= least),
            "{shares:?}"
        );
    }
}

/// Frames of the fixtures that plans answer, at least. Most fixtures are of what is rare.
const FLOORS: [(&str, u32); 5] = [
    ("openai", 33),
    ("anthropic", 28),
    ("gemini", 27),
    ("cohere", 8),
    ("bedrock", 15),
];

/// Mutations of each dialect's frames.
const MUTATIONS: usize = 12_000;

#[test]
fn what_no_provider_has_sent_is_read_alike_or_by_the_plugin() {
    let plugins = patient_plugins();
    let odd = odd_values();
    for (dialect, plugin) in plugins.iter() {
        let reader = Arc::new(AnswerReader::new(Arc::clone(&plugin.dialect), 128).unwrap());
        let frames = frames(dialect, plugin);
        let documents: Vec<Value> = frames
            .iter()
            .map(|seen| serde_json::from_str(&seen.outline).unwrap())
            .collect();
        let mut names = BTreeSet::new();
        documents
            .iter()
            .for_each(|document| walk(document, "", &mut Vec::new(), &mut names));
        let names: Vec<String> = names.into_iter().collect();
        // Frames that plans answer are mutated most: others go to the plugin anyhow.
        let planned = |seen: &Seen| reader.read(&seen.frame(&seen.outline), true).by_plan;
        let common: Vec<usize> = (0..frames.len()).filter(|at| planned(&frames[*at])).collect();
        assert!(!common.is_empty(), "{dialect}");
        let mut random = Random(StdRng::seed_from_u64(0x5eed));
        let (mut by_plan, mut refused, mut differ) = (0, 0, Vec::new());
        for _ in 0..MUTATIONS {
            let at = if random.below(10) > 0 {
                *random.pick(&common)
            } else {
                random.below(frames.len())
            };
            let mut document = documents[at].clone();
            (0..=random.below(3)).for_each(|_| mutate(&mut document, &names, &odd, &mut random));
            let again = random.pick(&odd).clone();
            let doubled = (random.below(4) == 0).then(|| (random.below(12), &again));
            let text = write(&document, doubled);
            // As the gateway goes: what the outline refuses is read leniently, and then by the plugin alone.
            let Ok(outline) = reader.outline(text.as_bytes()) else {
                refused += 1;
                continue;
            };
            let strict = outline.is_strict();
            let read = || reader.read(&frames[at].frame(&outline.doc), strict).by_plan;
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
                Ok(planned) => by_plan += usize::from(planned),
                Err(_) => differ.push(format!("{:?} {}", frames[at].event, outline.doc)),
            }
        }
        assert!(
            differ.is_empty(),
            "{dialect}: {} differ, such as {:#?}",
            differ.len(),
            &differ[..differ.len().min(12)]
        );
        println!(
            "{dialect}: {by_plan} of {MUTATIONS} mutations read by plan, {refused} are no outline, of {} frames",
            frames.len()
        );
        // A check of nothing would pass, too.
        assert!(
            by_plan > MUTATIONS / 100 && by_plan < MUTATIONS / 2,
            "{dialect}: {by_plan}"
        );
    }
}

impl Seen {
    fn frame<'f>(&'f self, outline: &'f str) -> AnswerFrame<'f> {
        AnswerFrame {
            operation: &self.operation,
            event: self.event.as_deref(),
            streamed: self.streamed,
            status: 200,
            outline,
        }
    }
}

#[test]
fn a_document_can_be_written_with_a_member_twice() {
    let mut members = Map::new();
    members.insert("a".to_owned(), json!({"b": [1, null]}));
    let document = Value::Object(members);
    assert_eq!(write(&document, None), r#"{"a":{"b":[1, null]}}"#);
    assert_eq!(write(&document, Some((0, &json!(2)))), r#"{"a":{"b":[1, null],"b":2}}"#);
    assert_eq!(
        write(&document, Some((1, &Value::Null))),
        r#"{"a":{"b":[1, null]},"a":{"b":[1,null]}}"#
    );
}
