#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::fold::{fold, refusals};
use super::*;
use agentledger_ledger::{Facts, Kind, Outcome, Settlement, Usage};
use ulid::Ulid;

/// The `number`th call: of this task to this model, with so much input.
fn entry(number: u64, task: &str, model: &str, input: u64) -> Entry {
    let at_ms = 1_000 * number as i64;
    let facts = Facts {
        id: Ulid::from_parts(number, 1),
        at_ms,
        provider: "openai".into(),
        operation: "chat".into(),
        requested_model: model.into(),
        stream: false,
        key: "".into(),
        tenant: "".into(),
        agent: "".into(),
        session: "s".into(),
        user: "".into(),
        task: task.into(),
        tags: Default::default(),
        path: "".into(),
        inferred: Default::default(),
    };
    let settlement = Settlement {
        usage: Usage::ZERO.with(Kind::Input, input),
        cost: Usd::from_nanos(100),
        ..Settlement::unanswered(at_ms + 500, Outcome::Completed, 200, model.into(), 500)
    };
    Entry {
        facts,
        settlement,
        held: Usd::ZERO,
        overage: Usd::ZERO,
        overage_reason: None,
        source: None,
    }
}

fn folded(entries: &[Entry]) -> Vec<(String, u64, Option<u64>)> {
    let entries: Vec<&Entry> = entries.iter().collect();
    let steps = fold(&entries);
    let calls: u64 = steps.iter().map(|step| step.calls).sum();
    assert_eq!(calls, entries.len() as u64, "each call is in one step: {steps:?}");
    steps
        .into_iter()
        .map(|step| (step.label, step.calls, step.same))
        .collect()
}

#[test]
fn up_to_three_equal_neighbours_stand_alone_and_more_are_one_step() {
    let calls = |count: u64| (1..=count).map(|n| entry(n, "plan", "m", n * 10)).collect::<Vec<_>>();
    assert_eq!(folded(&calls(3)).len(), 3);
    assert_eq!(folded(&calls(4)), [("plan".to_owned(), 4, None)]);
    let mut mixed = calls(4);
    mixed[1].settlement.model = "other".into();
    assert_eq!(folded(&mixed).len(), 4, "another model between is no neighbour");
}

#[test]
fn a_step_has_the_sums_and_times_of_its_calls() {
    let mut calls: Vec<Entry> = (1..=5).map(|n| entry(n, "plan", "m", n)).collect();
    calls[2].settlement.status = 500;
    calls[1].settlement.at_ms = 60_000;
    let steps = fold(&calls.iter().collect::<Vec<_>>());
    let step = &steps[0];
    assert_eq!(
        (step.calls, step.failed, step.cost_usd),
        (5, 1, Some(Usd::from_nanos(500)))
    );
    assert_eq!(step.usage.unwrap().get(Kind::Input), 15);
    assert_eq!(
        (&*step.first, &*step.last),
        ("1970-01-01T00:00:01.000Z", "1970-01-01T00:01:00.000Z")
    );
    assert_eq!(step.ids.as_ref().unwrap().len(), 5);
}

#[test]
fn the_same_call_again_and_again_is_a_loop_wherever_it_begins() {
    let mut calls: Vec<Entry> = (1..=2).map(|n| entry(n, "plan", "m", n)).collect();
    calls.extend((3..=9).map(|n| entry(n, "plan", "m", 77)));
    let more = "4 more, the same".to_owned();
    let plan = |same| ("plan".to_owned(), 1, same);
    assert_eq!(
        folded(&calls),
        [
            plan(None),
            plan(None),
            plan(Some(7)),
            plan(Some(7)),
            plan(Some(7)),
            (more, 4, Some(7))
        ]
    );
}

#[test]
fn calls_of_a_tool_are_counted_and_no_loop() {
    let mut calls: Vec<Entry> = (1..=6).map(|n| entry(n, "", "m", 0)).collect();
    for call in &mut calls {
        call.facts.operation = "tool".into();
        call.facts.tags.insert("tool".into(), "search".into());
        call.settlement.usage = Usage::ZERO.with(Kind::Request, 1);
    }
    assert_eq!(folded(&calls), [("search".to_owned(), 6, None)]);
}

#[test]
fn neighbours_refused_for_the_same_are_one_step() {
    let refused = |reason: &str| Refused {
        at_ms: 1_000,
        facts: Arc::new(entry(1, "plan", "m", 1).facts),
        account: "session:s".into(),
        reason: reason.into(),
        record: Default::default(),
    };
    let all = [
        refused("loop_detected"),
        refused("loop_detected"),
        refused("budget_exceeded"),
    ];
    let steps = refusals(&all.iter().collect::<Vec<_>>());
    let steps: Vec<_> = steps.into_iter().map(|step| (step.code.unwrap(), step.calls)).collect();
    assert_eq!(
        steps,
        [("loop_detected".to_owned(), 2), ("budget_exceeded".to_owned(), 1)]
    );
}
