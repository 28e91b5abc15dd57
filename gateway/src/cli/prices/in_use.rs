//! What `prices check` tells beside faults: rows that nobody has looked at for long, and models that were used lately although
//! their provider serves them no more, or soon will not.

use std::collections::BTreeMap;

use agentledger_ledger::Entry;

use super::super::CliError;
use super::super::client::Client;
use super::reprice::each_entry;
use crate::config::Config;
use crate::control::wire::QueryParams;
use crate::price::diff::day;
use crate::price::{PriceBook, day_ms};

const DAY_MS: i64 = 86_400_000;
/// Use within so many days is lately; an end within as many is soon.
const DAYS: i64 = 30;

/// One line a provider with rows that were checked longer ago than so many days, or never.
pub(super) fn stale(book: &PriceBook, now_ms: i64, days: u32) -> Vec<String> {
    let before_ms = now_ms - i64::from(days) * DAY_MS;
    let told = book.providers().into_iter().filter_map(|provider| {
        let checked = book.rows(provider).map(|row| row.checked().unwrap_or("never"));
        let is_old = |day: &&str| day_ms(day).is_none_or(|at_ms| at_ms < before_ms);
        let old: Vec<&str> = checked.filter(is_old).collect();
        let oldest = old.iter().min()?;
        Some(format!(
            "{provider}: {} rows were checked more than {days} days ago (the oldest: {oldest})",
            old.len()
        ))
    });
    told.collect()
}

/// Retired models among the entries of the last days, where there is a ledger.
pub(super) fn retired(config: &Config, book: &PriceBook, now_ms: i64) -> Result<Vec<String>, CliError> {
    let Some(client) = Client::open(config)? else {
        return Ok(Vec::new());
    };
    let mut uses = BTreeMap::new();
    let params = QueryParams {
        from: Some(format!("{}T00:00:00Z", day(now_ms - DAYS * DAY_MS))),
        limit: Some(1_000),
        ..QueryParams::default()
    };
    each_entry(&client, params, |entry| count(&mut uses, config, book, entry, now_ms))?;
    Ok(told(&uses, now_ms))
}

/// Calls, the last of them, and the model's end, by provider and row.
type Uses = BTreeMap<(String, String), (u64, i64, i64)>;

fn count(uses: &mut Uses, config: &Config, book: &PriceBook, entry: &Entry, now_ms: i64) {
    let provider = &*entry.facts.provider;
    let known = config.providers.iter().find(|known| known.name == provider);
    let name = known.map_or(provider, |known| known.book.as_str());
    let Some(row) = book.row(name, &entry.settlement.model) else {
        return;
    };
    if let Some(end_ms) = row.retired_ms().filter(|end| *end <= now_ms + DAYS * DAY_MS) {
        let (calls, last_ms, _) =
            uses.entry((provider.to_owned(), row.id().to_owned()))
                .or_insert((0, i64::MIN, end_ms));
        *calls += 1;
        *last_ms = (*last_ms).max(entry.facts.at_ms);
    }
}

fn told(uses: &Uses, now_ms: i64) -> Vec<String> {
    let line = |((provider, id), (calls, last_ms, end_ms)): (&(String, String), &(u64, i64, i64))| {
        let ends = if *end_ms <= now_ms {
            "is retired since"
        } else {
            "will be retired on"
        };
        format!(
            "{provider} {id} {ends} {}: {calls} calls in the last {DAYS} days, the last on {}",
            day(*end_ms),
            day(*last_ms)
        )
    };
    uses.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Env, Known, load_text};

    const NOW_MS: i64 = 1_795_305_600_000; // 2026-11-22

    fn entry(model: &str) -> Entry {
        let record = serde_json::json!({
            "id": "01JD0000000000000000000000", "at": "2026-11-20T06:30:00.123Z", "provider": "openai",
            "operation": "chat", "requested_model": model, "model": model, "stream": false, "status": 200,
            "outcome": "completed", "key": "", "tenant": "", "agent": "", "session": "", "user": "", "task": "",
            "tags": {}, "path": "/v1/chat/completions", "usage": {"input": 1}, "reasoning": 0,
            "cost_usd": "0", "held_usd": "0", "overage_usd": "0", "overage_reason": null, "upper_bound_usd": null,
            "reported_cost_usd": null, "price": null, "estimated": false, "estimate_reason": null, "verdict": [],
            "duration_ms": 1, "ttfb_ms": null,
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn retired_models_in_use_and_rows_that_went_stale_are_told() {
        let yaml = "provider: openai
models:
- {id: gone, retired: 2026-11-01, checked: 2026-11-01, prices: {always: {standard: {input: 1}}}}
- {id: going, retired: 2026-12-01, checked: 2026-01-01, prices: {always: {standard: {input: 1}}}}
- {id: staying, retired: 2027-12-01, prices: {always: {standard: {input: 1}}}}
";
        let book = PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap();
        let config = load_text(None, "", &Env::of::<&str, &str>([]), &Known::undecided()).unwrap();
        let mut uses = Uses::new();
        for model in ["gone", "GONE", "going", "staying", "unknown"] {
            count(&mut uses, &config, &book, &entry(model), NOW_MS);
        }
        assert_eq!(
            told(&uses, NOW_MS),
            [
                "openai going will be retired on 2026-12-01: 1 calls in the last 30 days, the last on 2026-11-20",
                "openai gone is retired since 2026-11-01: 2 calls in the last 30 days, the last on 2026-11-20",
            ]
        );
        assert_eq!(
            stale(&book, NOW_MS, 180),
            ["openai: 2 rows were checked more than 180 days ago (the oldest: 2026-01-01)"]
        );
        assert_eq!(
            stale(&book, NOW_MS, 10_000),
            ["openai: 1 rows were checked more than 10000 days ago (the oldest: never)"]
        );
    }
}
