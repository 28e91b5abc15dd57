//! Plans by themselves: what they say, what they leave to the plugin, and which ones are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use agentledger_ledger::Kind;

use super::super::dialect::{
    AnswerFrame, Billing, Call, CountedKind, Dialect, DialectError, DialectRefusal, Ending, Info, PlanRow, Reading,
    ReadingPart, ReadingPlan, Request, Role, Route, Tally, Want, Word, WordMeaning,
};
use super::Plans;
use crate::plugin::Plugin;

fn kind(kind: Kind) -> CountedKind {
    CountedKind::Kind(kind)
}

fn row(path: &str, role: Role) -> PlanRow {
    PlanRow {
        path: path.to_owned(),
        role,
    }
}

fn count(path: &str, of: Kind) -> PlanRow {
    let kind = Some(kind(of));
    row(
        path,
        Role::Counted(Tally {
            kind,
            ..Tally::default()
        }),
    )
}

fn inside(whole: &str, path: &str, of: Kind) -> PlanRow {
    let tally = Tally {
        kind: Some(kind(of)),
        inside: Some(whole.to_owned()),
        ..Tally::default()
    };
    row(path, Role::Counted(tally))
}

fn sum(path: &str, of: &[&str]) -> PlanRow {
    let sum_of = of.iter().map(|path| (*path).to_owned()).collect();
    row(
        path,
        Role::Counted(Tally {
            sum_of,
            ..Tally::default()
        }),
    )
}

fn word(text: &str, meaning: WordMeaning) -> Word {
    Word {
        text: text.to_owned(),
        meaning,
    }
}

fn chat() -> ReadingPlan {
    ReadingPlan {
        operations: vec!["chat".to_owned()],
        streamed: true,
        usage: vec!["usage".to_owned(), "late.usage".to_owned()],
        rows: vec![
            row(
                "model",
                Role::Model {
                    prefix: "models/".to_owned(),
                },
            ),
            row("tier", Role::ServiceTier(vec![("FLEX".to_owned(), "flex".to_owned())])),
            row("id", Role::BillId),
            row(
                "status",
                Role::Words(vec![
                    word("going", WordMeaning::Nothing),
                    word("true", WordMeaning::Nothing),
                    word("over", WordMeaning::Final),
                    word("waiting", WordMeaning::Pending),
                ]),
            ),
            row("choices", Role::UsageAlone),
            row("choices.*.index", Role::Ignored),
            row("choices.*.delta", Role::Empty),
            count("@usage.in", Kind::Input),
            inside("@usage.in", "@usage.cached", Kind::CacheRead),
            row("@usage.media", Role::Zero(vec![kind(Kind::AudioInput)])),
            row(
                "@usage.media.*.kind",
                Role::Words(vec![word("text", WordMeaning::Nothing)]),
            ),
            count("@usage.out", Kind::Output),
            row(
                "@usage.thought",
                Role::Counted(Tally {
                    beside: Some("@usage.out".to_owned()),
                    thoughts: true,
                    ..Tally::default()
                }),
            ),
            sum("@usage.total", &["@usage.in", "@usage.out", "@usage.thought"]),
            row(
                "@usage.written",
                Role::Counted(Tally {
                    kind: Some(CountedKind::CacheWrite),
                    sum_of: vec!["@usage.by.short".to_owned(), "@usage.by.long".to_owned()],
                    ..Tally::default()
                }),
            ),
            count("@usage.by.short", Kind::CacheWrite5m),
            count("@usage.by.long", Kind::CacheWrite1h),
            row("@usage.notes", Role::Ignored),
        ],
    }
}

fn info(plans: Vec<ReadingPlan>) -> Info {
    let wants = [
        "model",
        "tier",
        "id",
        "status",
        "choices.*.index",
        "choices.*.delta.x",
        "usage",
        "late.usage",
    ];
    let want = |path: &str| Want {
        path: path.to_owned(),
        max_bytes: 4_096,
        max_items: 8,
    };
    Info {
        name: "p".to_owned(),
        routes: vec![Route {
            method: "POST".to_owned(),
            path: "/chat".to_owned(),
            operation: "chat".to_owned(),
            billing: Billing::Metered,
            vendors: vec![],
            reason: String::new(),
            source: String::new(),
        }],
        answer_paths: wants.into_iter().map(want).collect(),
        reading_plans: plans,
        ..Info::default()
    }
}

fn frame(outline: &str) -> AnswerFrame<'_> {
    AnswerFrame {
        operation: "chat",
        event: None,
        streamed: true,
        status: 200,
        outline,
    }
}

fn read(outline: &str) -> Option<Reading> {
    Plans::compile(&info(vec![chat()])).unwrap().read(&frame(outline))
}

fn usage(outline: &str) -> Option<Vec<(CountedKind, u64)>> {
    Some(read(outline)?.parts.into_iter().flat_map(|part| part.usage).collect())
}

#[test]
fn a_frame_is_read_by_its_rows() {
    let outline = r#" { "model" : "models/m" , "tier":"FLEX","id":"b","status":"waiting","choices":[],
        "usage":{"in":10,"cached":4,"media":[{"kind":"text"}],"out":3.0,"thought":2,"total":15,"written":5,
        "by":{"short":2,"long":3},"notes":{"any":["}",null,-1.5,"\"\\"]}} } "#;
    let expected = Reading {
        model: Some("m".to_owned()),
        service_tier: Some("flex".to_owned()),
        bill_id: Some("b".to_owned()),
        pending: true,
        usage_only: true,
        is_final: true,
        parts: vec![ReadingPart {
            model: None,
            usage: vec![
                (kind(Kind::Input), 6),
                (kind(Kind::CacheRead), 4),
                (kind(Kind::AudioInput), 0),
                (kind(Kind::Output), 5),
                (kind(Kind::CacheWrite5m), 2),
                (kind(Kind::CacheWrite1h), 3),
            ],
            reasoning: Some(2),
        }],
        ..Reading::default()
    };
    assert_eq!(read(outline), Some(expected));
}

#[test]
fn what_is_not_there_is_not_told() {
    for nothing in ["{}", r#"{"model":""}"#, r#"{"late":{}}"#, r#"{"usage":{"notes":1}}"#] {
        assert_eq!(read(nothing), Some(Reading::default()), "{nothing}");
    }
    let nothing = r#"{"model":null,"usage":null,"choices":[{"index":0,"delta":{}},null],"status":true}"#;
    assert_eq!(read(nothing), Some(Reading::default()));
    let only = |json: &str, of: &[(CountedKind, u64)]| assert_eq!(usage(json).as_deref(), Some(of), "{json}");
    only(r#"{"late":{"usage":{"in":1}}}"#, &[(kind(Kind::Input), 1)]);
    only(r#"{"usage":{"thought":2,"out":0}}"#, &[(kind(Kind::Output), 2)]);
    only(r#"{"usage":{"thought":2}}"#, &[(kind(Kind::Output), 2)]);
    only(r#"{"usage":{"written":7,"by":null}}"#, &[(CountedKind::CacheWrite, 7)]);
    let whole = [(kind(Kind::CacheWrite5m), 1), (kind(Kind::CacheWrite1h), 0)];
    only(r#"{"usage":{"by":{"short":1,"long":0}}}"#, &whole);
    assert!(!read(r#"{"choices":[]}"#).unwrap().usage_only, "no usage stands alone");
    assert!(!read(r#"{"choices":[{}],"usage":{"in":1}}"#).unwrap().usage_only);
    assert!(read(r#"{"status":"over"}"#).unwrap().is_final);
}

#[test]
fn what_a_plan_is_not_certain_of_is_the_plugins() {
    for outline in [
        // A member that no row names, at each depth.
        r#"{"error":{}}"#,
        r#"{"usage":{"in":1,"tomorrow":1}}"#,
        r#"{"usage":{"in":1,"by":{"short":1,"long":1,"day":1}}}"#,
        r#"{"choices":[{"tools":1}]}"#,
        r#"{"choices":[{"delta":{"x":1}}]}"#,
        // Another type, another text.
        r#"{"model":7}"#,
        r#"{"model":"models/"}"#,
        r#"{"model":"models/models/m"}"#,
        r#"{"model":"a\u0041"}"#,
        r#"{"tier":"DEAR"}"#,
        r#"{"status":"failed"}"#,
        r#"{"status":false}"#,
        r#"{"status":1}"#,
        r#"{"choices":{}}"#,
        r#"{"usage":[1]}"#,
        r#"{"usage":7}"#,
        r#"{"usage":{"by":[1]}}"#,
        r#"{"usage":{"in":1,"media":{}}}"#,
        r#"{"usage":{"in":1,"media":[null]}}"#,
        r#"{"usage":{"in":1,"media":[{"kind":null}]}}"#,
        r#"{"usage":{"in":1,"media":[{"kind":"sound"}]}}"#,
        // Counts.
        r#"{"usage":{"in":null,"out":1}}"#,
        r#"{"usage":{"in":"1"}}"#,
        r#"{"usage":{"in":-1}}"#,
        r#"{"usage":{"in":1.5}}"#,
        r#"{"usage":{"in":1e3}}"#,
        r#"{"usage":{"in":1.0e3}}"#,
        r#"{"usage":{"in":1000000001}}"#,
        r#"{"usage":{"in":99999999999999999999}}"#,
        r#"{"usage":{"out":1000000000,"thought":1}}"#,
        r#"{"usage":{}}"#,
        r#"{"usage":{"in":0,"out":0}}"#,
        r#"{"usage":{"by":{}}}"#,
        r#"{"usage":{"media":[]}}"#,
        // Sums and parts.
        r#"{"usage":{"in":1,"cached":2}}"#,
        r#"{"usage":{"cached":2}}"#,
        r#"{"usage":{"in":1,"out":1,"total":3}}"#,
        r#"{"usage":{"total":3}}"#,
        r#"{"usage":{"written":3,"by":{"short":1,"long":1}}}"#,
        r#"{"usage":{"written":3,"by":{"short":3}}}"#,
        r#"{"usage":{"written":3,"by":{}}}"#,
        // Twice.
        r#"{"usage":{"in":1},"late":{"usage":{"in":1}}}"#,
        r#"{"usage":{"in":1},"usage":{"out":1}}"#,
        r#"{"usage":{"in":1,"in":1}}"#,
        r#"{"model":"a","model":"a"}"#,
        r#"{"usage":{"\u0069n":1}}"#,
        // No object, or not one.
        "",
        "[]",
        "{}{}",
        r#"{"usage":{"in":1}"#,
        r#"{"model":"a"#,
    ] {
        assert_eq!(read(outline), None, "{outline}");
    }
    let long = format!(r#"{{"choices":[{}]}}"#, vec!["{}"; 257].join(","));
    assert_eq!(read(&long), None);
}

#[test]
fn a_plan_is_for_its_operation_its_events_and_good_statuses() {
    let mut plan = chat();
    plan.rows
        .push(row("@event", Role::Words(vec![word("done", WordMeaning::Final)])));
    let plans = Plans::compile(&info(vec![plan])).unwrap();
    let named = AnswerFrame {
        event: Some("done"),
        ..frame("{}")
    };
    assert!(plans.read(&named).unwrap().is_final);
    for other in [
        frame("{}"),
        AnswerFrame {
            event: Some("error"),
            ..named.clone()
        },
        AnswerFrame {
            operation: "embed",
            ..named.clone()
        },
        AnswerFrame {
            streamed: false,
            ..named.clone()
        },
        AnswerFrame {
            status: 500,
            ..named.clone()
        },
    ] {
        assert_eq!(plans.read(&other), None, "{other:?}");
    }
}

/// A dialect that is asked for nothing but its info.
struct Told(Info);

impl Dialect for Told {
    fn info(&self) -> &Info {
        &self.0
    }

    fn inspect(&self, _: &Request) -> Result<Call, DialectError> {
        unreachable!()
    }

    fn read(&self, _: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
        unreachable!()
    }

    fn terminal(&self, _: &str, _: Ending, _: &str, _: Option<&str>) -> Result<Vec<u8>, DialectError> {
        unreachable!()
    }

    fn error_body(&self, _: &str, _: &DialectRefusal) -> Result<Vec<u8>, DialectError> {
        unreachable!()
    }
}

#[test]
fn a_plugin_with_such_a_plan_is_not_loaded_and_one_without_is() {
    let load = |info: Info| Plugin::new(Arc::new(Told(info)), "p.wasm").map(drop);
    assert!(load(info(vec![])).is_ok() && load(info(vec![chat()])).is_ok());
    let mut plan = chat();
    plan.rows.push(row("prompt", Role::Ignored));
    assert_eq!(
        load(info(vec![plan])).unwrap_err().to_string(),
        "plugin p cannot be used: its reading plan for chat: no want covers prompt"
    );
}

/// Why a plan with this change is refused.
fn refused(change: impl FnOnce(&mut ReadingPlan)) -> String {
    let mut plan = chat();
    change(&mut plan);
    Plans::compile(&info(vec![plan])).unwrap_err().to_string()
}

#[test]
fn a_plan_that_cannot_be_followed_is_refused_by_what_is_wrong() {
    type Change = fn(&mut ReadingPlan);
    let cases: [(Change, &str); 27] = [
        (
            |plan| plan.rows.push(row("@event", Role::Ignored)),
            "@event is of words alone",
        ),
        (|plan| plan.operations.clear(), "for no operation"),
        (
            |plan| plan.operations = vec!["poem".to_owned()],
            "no route has the operation \"poem\"",
        ),
        (
            |plan| plan.operations.push("chat".to_owned()),
            "another one is for \"chat\"",
        ),
        (|plan| plan.usage.push("usage.inner".to_owned()), "overlap"),
        (
            |plan| plan.usage.push("secret".to_owned()),
            "no want covers the usage at secret",
        ),
        (|plan| plan.usage.push("choices.*.index".to_owned()), "no single place"),
        (
            |plan| plan.rows.push(row("prompt", Role::Ignored)),
            "no want covers prompt",
        ),
        (
            |plan| plan.rows.push(row("choices", Role::Ignored)),
            "two rows are for choices",
        ),
        (
            |plan| plan.rows.push(row("late", Role::Ignored)),
            "a row stands below late",
        ),
        (
            |plan| plan.rows.push(row("model.name", Role::Ignored)),
            "model.name stands below another row",
        ),
        (
            |plan| plan.rows.push(row("usage", Role::Ignored)),
            "two rows are for usage",
        ),
        (
            |plan| plan.rows.push(row("@usage", Role::Ignored)),
            "does not stand below @usage",
        ),
        (
            |plan| plan.rows.push(row("model.", Role::Ignored)),
            "has an empty segment",
        ),
        (|plan| plan.rows.push(row("usage..x", Role::Ignored)), "empty segment"),
        (
            |plan| plan.rows.push(count("@usage.again", Kind::Input)),
            "two rows are of the kind",
        ),
        (
            |plan| plan.rows.push(row("@usage.z", Role::Zero(vec![kind(Kind::Input)]))),
            "two rows are of the kind",
        ),
        (
            |plan| plan.rows.push(count("usage.deep", Kind::Page)),
            "does not stand below @usage",
        ),
        (
            |plan| plan.rows.push(inside("@usage.x", "@usage.x", Kind::Page)),
            "refers to itself",
        ),
        (
            |plan| plan.rows.push(inside("@usage.none", "@usage.x", Kind::Page)),
            "which is none",
        ),
        (
            |plan| plan.rows.push(inside("@usage.cached", "@usage.x", Kind::Page)),
            "which has no kind by itself",
        ),
        (
            |plan| plan.rows.push(count("@usage.list.*.n", Kind::Page)),
            "more than looked at",
        ),
        (
            |plan| plan.rows.push(sum("@usage.s", &["@usage.in", "@usage.in"])),
            "one summand twice",
        ),
        (
            |plan| plan.rows.push(row("choices.*.usage", Role::UsageAlone)),
            "no want covers",
        ),
        (
            |plan| plan.rows.push(row("@usage.w", Role::Words(vec![]))),
            "has no words",
        ),
        (
            |plan| {
                let again = vec![word("a", WordMeaning::Nothing), word("a", WordMeaning::Final)];
                plan.rows.push(row("@usage.w", Role::Words(again)));
            },
            "twice",
        ),
        (
            |plan| {
                let tally = Tally {
                    inside: Some("@usage.in".to_owned()),
                    ..Tally::default()
                };
                plan.rows.push(row("@usage.lost", Role::Counted(tally)));
            },
            "its units would be lost",
        ),
    ];
    for (change, fault) in cases {
        let found = refused(change);
        assert!(
            found.contains(fault) && found.contains("reading plan for "),
            "{found}: not {fault}"
        );
    }
    let many = refused(|plan| {
        plan.rows
            .extend((0..100_000).map(|at| row(&format!("usage.r{at}"), Role::Ignored)))
    });
    assert!(many.contains("more than 128 rows"), "{many}");
    let counts = refused(|plan| {
        plan.rows
            .extend((0..40).map(|at| sum(&format!("@usage.r{at}"), &["@usage.in"])))
    });
    assert!(counts.contains("more than 32 counts"), "{counts}");
    let deep = refused(|plan| plan.rows.push(row(&format!("usage{}", ".a".repeat(40)), Role::Ignored)));
    assert!(deep.contains("more than 16 segments"), "{deep}");
    let words: Vec<Word> = (0..40).map(|at| word(&at.to_string(), WordMeaning::Nothing)).collect();
    let wordy = refused(|plan| plan.rows.push(row("@usage.w", Role::Words(words))));
    assert!(wordy.contains("more than 32 words"), "{wordy}");
    let plans = vec![chat(); 40];
    assert!(Plans::compile(&info(plans)).is_err());
}
