//! How calls one after the other become steps. Pure.

use agentledger_ledger::{Entry, Facts, Refused, Usage, Usd, rfc3339_ms};

use crate::control::wire::TreeStep;
use crate::policy::{TOOL_OPERATION, TOOL_TAG};

/// So many neighbours that are alike stand alone; more are one step.
const ALONE_MAX: usize = 3;
/// Ids of a step that are named.
const IDS_MAX: usize = 100;

/// What a call was for: the tool's name, else the task, else the operation.
fn label(facts: &Facts) -> &str {
    let tool = facts.tags.get(TOOL_TAG).map_or("", |tool| tool);
    let said = [tool, &facts.task, &facts.operation];
    said.into_iter().find(|said| !said.is_empty()).unwrap_or("call")
}

fn are_alike(a: &Entry, b: &Entry) -> bool {
    a.settlement.model == b.settlement.model
        && a.facts.operation == b.facts.operation
        && label(&a.facts) == label(&b.facts)
}

/// The same call again, as far as its numbers tell. Calls of tools are counted, not measured: they tell nothing.
fn are_same(a: &Entry, b: &Entry) -> bool {
    are_alike(a, b) && a.settlement.usage == b.settlement.usage && a.settlement.usage.tokens() > 0
}

/// How many of the first are so.
fn run(entries: &[&Entry], is: impl Fn(&Entry, &Entry) -> bool) -> usize {
    let first = entries.first();
    let so = |entry: &&&Entry| first.is_some_and(|first| is(first, entry));
    entries.iter().take_while(so).count()
}

/// Steps of entries in the order of time.
pub(super) fn fold(mut entries: &[&Entry]) -> Vec<TreeStep> {
    let mut steps = Vec::new();
    while !entries.is_empty() {
        let same = run(entries, are_same);
        let taken = if same > ALONE_MAX {
            steps.extend(looped(entries.get(..same).unwrap_or_default()));
            same
        } else {
            let alike = before_loop(entries, run(entries, are_alike));
            let taken = if alike > ALONE_MAX { alike } else { 1 };
            steps.push(step(entries.get(..taken).unwrap_or_default()));
            taken
        };
        entries = entries.get(taken..).unwrap_or_default();
    }
    steps
}

/// A run ends where a loop begins.
fn before_loop(entries: &[&Entry], alike: usize) -> usize {
    let begins = |at: &usize| run(entries.get(*at..).unwrap_or_default(), are_same) > ALONE_MAX;
    (1..alike).find(begins).unwrap_or(alike)
}

/// The first few by themselves, and the rest as one.
fn looped(entries: &[&Entry]) -> Vec<TreeStep> {
    let times = entries.len();
    let (first, rest) = entries.split_at(ALONE_MAX.min(times));
    let mut steps: Vec<TreeStep> = first.iter().map(|entry| step(&[*entry])).collect();
    steps.push(TreeStep {
        label: format!("{} more, the same", rest.len()),
        ..step(rest)
    });
    for step in &mut steps {
        step.same = Some(times as u64);
    }
    steps
}

/// One step of all of them.
fn step(entries: &[&Entry]) -> TreeStep {
    let Some(first) = entries.first() else {
        return TreeStep::default();
    };
    let count = |is: fn(&Entry) -> bool| entries.iter().filter(|entry| is(entry)).count() as u64;
    let ends = entries
        .iter()
        .map(|entry| entry.settlement.at_ms.max(entry.facts.at_ms));
    let is_tool = &*first.facts.operation == TOOL_OPERATION;
    TreeStep {
        kind: if is_tool { "tool" } else { "call" }.to_owned(),
        label: label(&first.facts).to_owned(),
        model: first.settlement.model.to_string(),
        calls: entries.len() as u64,
        failed: count(|entry| entry.settlement.has_failed()),
        estimated: count(|entry| entry.settlement.estimate_reason.is_some()),
        ids: Some(
            entries
                .iter()
                .take(IDS_MAX)
                .map(|entry| entry.facts.id.to_string())
                .collect(),
        ),
        first: rfc3339_ms(first.facts.at_ms),
        last: rfc3339_ms(ends.max().unwrap_or(first.facts.at_ms)),
        usage: Some(usage(entries)),
        cost_usd: Some(
            entries
                .iter()
                .fold(Usd::ZERO, |sum, entry| sum.saturating_add(entry.settlement.cost)),
        ),
        ..TreeStep::default()
    }
}

pub(super) fn usage(entries: &[&Entry]) -> Usage {
    entries
        .iter()
        .fold(Usage::ZERO, |sum, entry| sum.sum(&entry.settlement.usage))
}

/// Steps of refused requests in the order of time: neighbours that were refused for the same are one.
pub(super) fn refusals(refused: &[&Refused]) -> Vec<TreeStep> {
    let same = |a: &&Refused, b: &&Refused| a.reason == b.reason && label(&a.facts) == label(&b.facts);
    let of = |some: &[&Refused]| {
        let (first, last) = (some.first()?, some.last()?);
        Some(TreeStep {
            kind: "refused".to_owned(),
            label: label(&first.facts).to_owned(),
            model: first.facts.requested_model.to_string(),
            calls: some.len() as u64,
            ids: Some(some.iter().take(IDS_MAX).map(|one| one.facts.id.to_string()).collect()),
            first: rfc3339_ms(first.at_ms),
            last: rfc3339_ms(last.at_ms),
            code: Some(first.reason.to_string()),
            ..TreeStep::default()
        })
    };
    refused.chunk_by(same).filter_map(of).collect()
}
