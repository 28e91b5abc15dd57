//! The sums themselves: by one name from `ledger.summary`, by a period from `ledger.series`, by several names from the entries.

use std::collections::BTreeMap;

use agentledger_ledger::{Kind, Usage, Usd};
use serde::Deserialize;
use serde_json::Value;

use super::by::{By, Period};
use super::{CostsError, CostsQuery, checked_last};
use crate::cli::client::{Client, ClientError};
use crate::cli::progress::Progress;
use crate::cli::view::named;
use crate::control::wire::{
    Adjustment, Adjustments, AdjustmentsParams, CostRow, Entries, QueryParams, Series, SeriesParams, Summary,
    SummaryParams,
};

/// Points and entries that are asked for at a time.
const POINTS: usize = 10_000;
const ENTRIES: usize = 1_000;

/// Sums by whatever was asked, dearest first within each period.
#[derive(Debug, Default)]
pub struct Sums {
    /// RFC 3339.
    pub from: String,
    pub to: String,
    pub by: By,
    pub rows: Vec<SumRow>,
}

#[derive(Clone, Debug, Default)]
pub struct SumRow {
    /// Where its period begins; empty without one.
    pub period: String,
    pub sums: CostRow,
}

impl SumRow {
    pub fn name(&self, field: &str) -> &str {
        match field {
            "provider" => &self.sums.provider,
            "model" => &self.sums.model,
            "key" => &self.sums.key,
            "agent" => &self.sums.agent,
            "session" => &self.sums.session,
            "user" => &self.sums.user,
            "task" => &self.sums.task,
            "tenant" => &self.sums.tenant,
            _ => &self.sums.tag,
        }
    }

    /// As tables show it.
    pub fn shown_name(&self, field: &str) -> String {
        match field {
            "key" if !self.sums.key_now.is_empty() => format!("{} (now {})", self.sums.key, self.sums.key_now),
            _ => named(self.name(field)),
        }
    }
}

pub fn cache_read(usage: &Usage) -> u64 {
    sum_of(usage, |kind| {
        matches!(kind, Kind::CacheRead | Kind::CacheReadAudio | Kind::CacheReadImage)
    })
}

pub fn cache_write(usage: &Usage) -> u64 {
    sum_of(usage, Kind::is_cache_write)
}

fn sum_of(usage: &Usage, wanted: impl Fn(Kind) -> bool) -> u64 {
    let of_kinds = usage.iter().filter(|(kind, _)| wanted(*kind));
    of_kinds.fold(0, |sum, (_, units)| sum.saturating_add(units))
}

pub fn sums(client: &Client, query: &CostsQuery) -> Result<Sums, CostsError> {
    let by = By::parse(&query.by)?;
    let last = checked_last(query, by.last_default())?;
    match (by.single().map(str::to_owned), by.names.len()) {
        (Some(name), _) => by_name(client, query, last, &name, by),
        (None, 0 | 1) => by_period(client, query, last, by),
        (None, _) => by_entries(client, query, last, by),
    }
}

fn by_name(client: &Client, query: &CostsQuery, last: String, name: &str, by: By) -> Result<Sums, CostsError> {
    let params = SummaryParams {
        last: Some(last),
        by: name.to_owned(),
        tenant: query.tenant.clone(),
        ..SummaryParams::default()
    };
    let summary: Summary = client.call("ledger.summary", &params)?;
    let row = |sums| SumRow {
        sums,
        ..SumRow::default()
    };
    Ok(Sums {
        from: summary.from,
        to: summary.to,
        by,
        rows: summary.rows.into_iter().map(row).collect(),
    })
}

fn by_period(client: &Client, query: &CostsQuery, last: String, by: By) -> Result<Sums, CostsError> {
    let period = by.period.unwrap_or(Period::Day);
    let mut params = SeriesParams {
        last: Some(last),
        step: period.step().to_owned(),
        by: by.names.first().cloned().unwrap_or_default(),
        tenant: query.tenant.clone(),
        limit: Some(POINTS),
        ..SeriesParams::default()
    };
    let mut gathered = Gathered::new(by);
    let (mut from, mut to) = (String::new(), String::new());
    loop {
        let page: Series = client.call("ledger.series", &params)?;
        if from.is_empty() {
            (from, to) = (page.from, page.to);
        }
        for point in page.points {
            gathered.add(period.of(&point.at), point.row);
        }
        match page.next {
            Some(next) => (params.last, params.from, params.to) = (None, Some(next), Some(to.clone())),
            None => return Ok(gathered.sums(from, to)),
        }
    }
}

fn by_entries(client: &Client, query: &CostsQuery, last: String, by: By) -> Result<Sums, CostsError> {
    // The range as the gateway reads it, for both entries and corrections.
    let range: Summary = client.call(
        "ledger.summary",
        &SummaryParams {
            last: Some(last),
            by: "tenant".to_owned(),
            ..SummaryParams::default()
        },
    )?;
    let mut params = QueryParams {
        from: Some(range.from.clone()),
        to: Some(range.to.clone()),
        tenant: query.tenant.clone(),
        limit: Some(ENTRIES),
        ..QueryParams::default()
    };
    let (period, tag) = (by.period, by.tag().map(str::to_owned));
    let is_by_model = by.names.iter().any(|name| name == "model");
    let mut gathered = Gathered::new(by);
    let (mut progress, mut done) = (Progress::new("costs"), 0);
    loop {
        let page: Entries = client.call("ledger.query", &params)?;
        for entry in &page.entries {
            let entry: Spent = serde_json::from_str(entry.get()).map_err(|error| ClientError::Answer {
                method: "ledger.query".to_owned(),
                error,
            })?;
            let at = period.map(|period| period.of(&entry.at)).unwrap_or_default();
            for row in entry.rows(tag.as_deref(), is_by_model) {
                gathered.add(at.clone(), row);
            }
        }
        done += page.entries.len();
        progress.at(done, "entries");
        match page.next {
            Some(next) => params.cursor = Some(next),
            None => break,
        }
    }
    add_corrections(client, query, (&range.from, &range.to), &mut gathered)?;
    Ok(gathered.sums(range.from, range.to))
}

/// Corrections count where their entries do, as in the ledger's own sums.
fn add_corrections(
    client: &Client,
    query: &CostsQuery,
    (from, to): (&str, &str),
    gathered: &mut Gathered,
) -> Result<(), CostsError> {
    let mut params = AdjustmentsParams {
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        tenant: query.tenant.clone(),
        limit: Some(ENTRIES),
        ..AdjustmentsParams::default()
    };
    loop {
        let page: Adjustments = client.call("ledger.adjustments", &params)?;
        for correction in page.adjustments {
            let period = gathered.by.period.map(|period| period.of(&correction.entry_at));
            let row = gathered.correction(correction);
            gathered.add(period.unwrap_or_default(), row);
        }
        match page.next {
            Some(next) => params.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Rows by their period and their names.
struct Gathered {
    by: By,
    rows: BTreeMap<(String, Vec<String>), SumRow>,
}

impl Gathered {
    fn new(by: By) -> Gathered {
        Gathered {
            by,
            rows: BTreeMap::new(),
        }
    }

    fn add(&mut self, period: String, sums: CostRow) {
        let row = SumRow { period, sums };
        let names = self
            .by
            .fields()
            .iter()
            .map(|field| row.name(field).to_owned())
            .collect();
        match self.rows.entry((row.period.clone(), names)) {
            std::collections::btree_map::Entry::Vacant(new) => drop(new.insert(row)),
            std::collections::btree_map::Entry::Occupied(mut known) => add(&mut known.get_mut().sums, &row.sums),
        }
    }

    /// What a correction adds: money, and no request.
    fn correction(&self, correction: Adjustment) -> CostRow {
        let tag = self.by.names.iter().find_map(|name| name.strip_prefix("tag:"));
        CostRow {
            tag: tag
                .and_then(|tag| correction.tags.get(tag))
                .cloned()
                .unwrap_or_default(),
            provider: correction.provider,
            model: correction.model,
            key: correction.key,
            agent: correction.agent,
            session: correction.session,
            user: correction.user,
            task: correction.task,
            tenant: correction.tenant,
            cost_usd: correction.usd,
            ..CostRow::default()
        }
    }

    fn sums(self, from: String, to: String) -> Sums {
        let mut rows: Vec<SumRow> = self.rows.into_values().collect();
        // Equal ones stay in the order of their names.
        rows.sort_by(|a, b| {
            let dearest_first = b.sums.cost_usd.cmp(&a.sums.cost_usd);
            a.period.cmp(&b.period).then(dearest_first)
        });
        Sums {
            from,
            to,
            by: self.by,
            rows,
        }
    }
}

/// Adds what can be added.
pub fn add(sum: &mut CostRow, row: &CostRow) {
    sum.requests += row.requests;
    sum.errors += row.errors;
    sum.estimated += row.estimated;
    sum.input_tokens = sum.input_tokens.saturating_add(row.input_tokens);
    sum.output_tokens = sum.output_tokens.saturating_add(row.output_tokens);
    sum.usage = sum.usage.sum(&row.usage);
    for (to, from) in [
        (&mut sum.cost_usd, row.cost_usd),
        (&mut sum.held_usd, row.held_usd),
        (&mut sum.overage_usd, row.overage_usd),
    ] {
        *to = to.saturating_add(from);
    }
}

/// What sums need of an entry.
#[derive(Deserialize)]
struct Spent {
    at: String,
    provider: String,
    model: String,
    requested_model: String,
    key: String,
    tenant: String,
    agent: String,
    session: String,
    user: String,
    task: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    status: u16,
    outcome: String,
    usage: Usage,
    cost_usd: Usd,
    held_usd: Usd,
    overage_usd: Usd,
    estimated: bool,
    #[serde(default)]
    parts: Vec<Part>,
}

/// What one of several models of an answer used.
#[derive(Deserialize)]
struct Part {
    model: String,
    usage: Usage,
    cost_usd: Usd,
}

impl Spent {
    /// As the ledger's own sums count it: an answer that billed several models is one request, of the model it names, and each
    /// part is where it was used.
    fn rows(self, tag: Option<&str>, is_by_model: bool) -> Vec<CostRow> {
        let of_usage = |usage: Usage| (usage.input_tokens(), usage.output_tokens());
        let names = CostRow {
            provider: self.provider,
            key: self.key,
            tenant: self.tenant,
            agent: self.agent,
            session: self.session,
            user: self.user,
            task: self.task,
            tag: tag.and_then(|tag| self.tags.get(tag)).cloned().unwrap_or_default(),
            ..CostRow::default()
        };
        let parts = if is_by_model { self.parts } else { Vec::new() };
        let is_apart = !parts.is_empty();
        let (usage, cost_usd) = if is_apart {
            (Usage::default(), Usd::ZERO)
        } else {
            (self.usage, self.cost_usd)
        };
        let (input_tokens, output_tokens) = of_usage(usage);
        let own = CostRow {
            model: if self.model.is_empty() {
                self.requested_model
            } else {
                self.model
            },
            requests: 1,
            errors: u64::from(self.status >= 400 || self.outcome == "upstream_failed"),
            estimated: u64::from(self.estimated),
            input_tokens,
            output_tokens,
            usage,
            cost_usd,
            held_usd: self.held_usd,
            overage_usd: self.overage_usd,
            ..names.clone()
        };
        let of_part = |part: Part| {
            let (input_tokens, output_tokens) = of_usage(part.usage);
            CostRow {
                model: part.model,
                input_tokens,
                output_tokens,
                usage: part.usage,
                cost_usd: part.cost_usd,
                ..names.clone()
            }
        };
        std::iter::once(own).chain(parts.into_iter().map(of_part)).collect()
    }
}

/// The sums as JSON: rows as `ledger.series` and `ledger.summary` have them.
pub fn json(sums: &Sums) -> Result<Value, serde_json::Error> {
    let mut by: Vec<&str> = sums.by.period.iter().map(|period| period.name()).collect();
    by.extend(sums.by.names.iter().map(String::as_str));
    let rows: Result<Vec<Value>, serde_json::Error> = sums
        .rows
        .iter()
        .map(|row| {
            let mut value = serde_json::to_value(&row.sums)?;
            if let (Value::Object(fields), Some(period)) = (&mut value, sums.by.period) {
                fields.insert(period.name().to_owned(), row.period.as_str().into());
            }
            Ok(value)
        })
        .collect();
    Ok(serde_json::json!({"from": sums.from, "to": sums.to, "by": by, "rows": rows?}))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn row(model: &str, agent: &str, nanos: i64) -> CostRow {
        CostRow {
            model: model.into(),
            agent: agent.into(),
            requests: 1,
            cost_usd: Usd::from_nanos(nanos),
            ..CostRow::default()
        }
    }

    #[test]
    fn days_add_up_to_weeks_and_rows_stand_dearest_first_within_each() {
        let by = By::parse(&["week,model"]).unwrap();
        let mut gathered = Gathered::new(by);
        for (day, model, nanos) in [
            ("2026-11-23", "a", 1),
            ("2026-11-29", "a", 2),
            ("2026-11-29", "b", 5),
            ("2026-11-30", "a", 9),
        ] {
            let at = format!("{day}T00:00:00.000Z");
            gathered.add(Period::Week.of(&at), row(model, "x", nanos));
        }
        let sums = gathered.sums(String::new(), String::new());
        let shown: Vec<_> = sums
            .rows
            .iter()
            .map(|row| (row.period.as_str(), row.sums.model.as_str(), row.sums.cost_usd.nanos()))
            .collect();
        assert_eq!(
            shown,
            [("2026-11-23", "b", 5), ("2026-11-23", "a", 3), ("2026-11-30", "a", 9)]
        );
        assert_eq!(json(&sums).unwrap()["rows"][0]["week"], "2026-11-23");
    }

    #[test]
    fn an_answer_of_several_models_is_one_request_and_each_part_its_models() {
        let entry = || -> Spent {
            serde_json::from_value(serde_json::json!({
                "at": "2026-11-29T10:00:00.000Z", "provider": "p", "model": "", "requested_model": "big", "key": "k",
                "tenant": "", "agent": "x", "session": "", "user": "", "task": "", "tags": {"team": "ml"},
                "status": 200, "outcome": "completed", "usage": {"input": 30}, "cost_usd": "3", "held_usd": "4",
                "overage_usd": "0", "estimated": true, "new_field": 1,
                "parts": [{"model": "big", "usage": {"input": 10}, "cost_usd": "1"},
                          {"model": "small", "usage": {"input": 20}, "cost_usd": "2"}],
            }))
            .unwrap()
        };
        let whole = entry().rows(Some("team"), false);
        assert_eq!(
            (whole.len(), whole[0].input_tokens, whole[0].tag.as_str()),
            (1, 30, "ml")
        );
        let apart = entry().rows(None, true);
        let shown: Vec<_> = apart
            .iter()
            .map(|row| {
                (
                    row.model.as_str(),
                    row.requests,
                    row.input_tokens,
                    row.cost_usd.to_string(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("big", 1, 0, "0".into()),
                ("big", 0, 10, "1".into()),
                ("small", 0, 20, "2".into())
            ]
        );
    }
}
