//! An entry as JSON, for exports, JSON-RPC and `ledger.tail`: one flat object, money as decimal text, `at` in RFC 3339 with
//! milliseconds. `inferred`, `parts`, `overage_reason` and `source` are there only where there is
//! something to say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

use crate::entry::{Entry, Facts, Name, Outcome, Part, PriceRef, Settlement};
use crate::inferred::Inferred;
use crate::money::Usd;
use crate::usage::Usage;

/// Milliseconds since the epoch as RFC 3339 text in UTC, always with three decimals. Times beyond the calendar are
/// shown as its last moment.
pub fn rfc3339_ms(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(if at_ms < 0 { Timestamp::MIN } else { Timestamp::MAX });
    DateTimePrinter::new().precision(Some(3)).timestamp_to_string(&at)
}

type Text<'a> = Cow<'a, str>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    id: Text<'a>,
    at: Text<'a>,
    provider: Text<'a>,
    operation: Text<'a>,
    requested_model: Text<'a>,
    model: Text<'a>,
    stream: bool,
    status: u16,
    outcome: Text<'a>,
    key: Text<'a>,
    tenant: Text<'a>,
    agent: Text<'a>,
    session: Text<'a>,
    user: Text<'a>,
    task: Text<'a>,
    tags: BTreeMap<Text<'a>, Text<'a>>,
    path: Text<'a>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inferred: Vec<Text<'a>>,
    usage: Usage,
    reasoning: u64,
    cost_usd: Usd,
    held_usd: Usd,
    overage_usd: Usd,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overage_reason: Option<Text<'a>>,
    upper_bound_usd: Option<Usd>,
    reported_cost_usd: Option<Usd>,
    price: Option<PriceRecord<'a>>,
    estimated: bool,
    estimate_reason: Option<Text<'a>>,
    verdict: Vec<Text<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartRecord<'a>>,
    duration_ms: u64,
    ttfb_ms: Option<u64>,
    response_id: Option<Text<'a>>,
    request_id: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PriceRecord<'a> {
    provider: Text<'a>,
    id: Text<'a>,
    effective: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PartRecord<'a> {
    model: Text<'a>,
    usage: Usage,
    cost_usd: Usd,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Record::of(self).serialize(serializer)
    }
}

/// The time of settlement is not written: it is read back as `at` and `duration_ms` together.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        Record::deserialize(deserializer)?
            .into_entry()
            .map_err(de::Error::custom)
    }
}

impl<'a> Record<'a> {
    fn of(entry: &'a Entry) -> Record<'a> {
        let Entry {
            facts,
            settlement,
            held,
            overage,
            overage_reason,
            source,
        } = entry;
        Record {
            id: facts.id.to_string().into(),
            at: rfc3339_ms(facts.at_ms).into(),
            provider: (&*facts.provider).into(),
            operation: (&*facts.operation).into(),
            requested_model: (&*facts.requested_model).into(),
            model: (&*settlement.model).into(),
            stream: facts.stream,
            status: settlement.status,
            outcome: settlement.outcome.name().into(),
            key: (&*facts.key).into(),
            tenant: (&*facts.tenant).into(),
            agent: (&*facts.agent).into(),
            session: (&*facts.session).into(),
            user: (&*facts.user).into(),
            task: (&*facts.task).into(),
            tags: facts
                .tags
                .iter()
                .map(|(tag, value)| ((&**tag).into(), (&**value).into()))
                .collect(),
            path: (&*facts.path).into(),
            inferred: facts.inferred.names().map(Cow::Borrowed).collect(),
            usage: settlement.usage,
            reasoning: settlement.reasoning,
            cost_usd: settlement.cost,
            held_usd: *held,
            overage_usd: *overage,
            overage_reason: overage_reason.as_deref().map(Cow::Borrowed),
            upper_bound_usd: settlement.upper_bound,
            reported_cost_usd: settlement.reported_cost,
            price: settlement.price.as_ref().map(PriceRecord::of),
            estimated: settlement.estimate_reason.is_some(),
            estimate_reason: settlement.estimate_reason.as_deref().map(Cow::Borrowed),
            verdict: settlement.verdict.iter().map(|policy| (&**policy).into()).collect(),
            parts: settlement.parts.iter().map(PartRecord::of).collect(),
            duration_ms: settlement.duration_ms,
            ttfb_ms: settlement.ttfb_ms,
            response_id: settlement.response_id.as_deref().map(Cow::Borrowed),
            request_id: settlement.request_id.as_deref().map(Cow::Borrowed),
            source: source.as_deref().map(Cow::Borrowed),
        }
    }

    fn into_entry(self) -> Result<Entry, String> {
        let at: Timestamp = self
            .at
            .parse()
            .map_err(|_| format!("`at` is no RFC 3339 time: `{}`", self.at))?;
        let at_ms = at.as_millisecond();
        let outcome = Outcome::from_name(&self.outcome).ok_or_else(|| format!("unknown outcome `{}`", self.outcome))?;
        let estimate_reason = self.estimate_reason.map(Name::from);
        if self.estimated != estimate_reason.is_some() {
            return Err("`estimated` and `estimate_reason` contradict each other".to_owned());
        }
        let mut inferred = Inferred::NONE;
        for name in &self.inferred {
            inferred = inferred | Inferred::from_name(name).ok_or_else(|| format!("unknown inferred name `{name}`"))?;
        }
        let facts = Facts {
            id: Ulid::from_string(&self.id).map_err(|_| format!("`id` is no ULID: `{}`", self.id))?,
            at_ms,
            provider: self.provider.into(),
            operation: self.operation.into(),
            requested_model: self.requested_model.into(),
            stream: self.stream,
            key: self.key.into(),
            tenant: self.tenant.into(),
            agent: self.agent.into(),
            session: self.session.into(),
            user: self.user.into(),
            task: self.task.into(),
            tags: self
                .tags
                .into_iter()
                .map(|(tag, value)| (tag.into(), value.into()))
                .collect(),
            path: self.path.into(),
            inferred,
        };
        let settlement = Settlement {
            at_ms: at_ms.saturating_add(i64::try_from(self.duration_ms).unwrap_or(i64::MAX)),
            outcome,
            status: self.status,
            model: self.model.into(),
            usage: self.usage,
            parts: self.parts.into_iter().map(PartRecord::into_part).collect(),
            reasoning: self.reasoning,
            cost: self.cost_usd,
            reported_cost: self.reported_cost_usd,
            upper_bound: self.upper_bound_usd,
            price: self.price.map(PriceRecord::into_price),
            estimate_reason,
            verdict: self.verdict.into_iter().map(Name::from).collect(),
            duration_ms: self.duration_ms,
            ttfb_ms: self.ttfb_ms,
            response_id: self.response_id.map(Name::from),
            request_id: self.request_id.map(Name::from),
        };
        Ok(Entry {
            facts,
            settlement,
            held: self.held_usd,
            overage: self.overage_usd,
            overage_reason: self.overage_reason.map(Name::from),
            source: self.source.map(Name::from),
        })
    }
}

impl<'a> PriceRecord<'a> {
    fn of(price: &'a PriceRef) -> PriceRecord<'a> {
        PriceRecord {
            provider: (&*price.provider).into(),
            id: (&*price.id).into(),
            effective: (&*price.effective).into(),
            tier: price.tier.as_deref().map(Cow::Borrowed),
        }
    }

    fn into_price(self) -> PriceRef {
        PriceRef {
            provider: self.provider.into(),
            id: self.id.into(),
            effective: self.effective.into(),
            tier: self.tier.map(Name::from),
        }
    }
}

impl<'a> PartRecord<'a> {
    fn of(part: &'a Part) -> PartRecord<'a> {
        PartRecord {
            model: (&*part.model).into(),
            usage: part.usage,
            cost_usd: part.cost,
        }
    }

    fn into_part(self) -> Part {
        Part {
            model: self.model.into(),
            usage: self.usage,
            cost: self.cost_usd,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::usage::Kind;

    fn entry() -> Entry {
        Entry {
            facts: Facts {
                id: Ulid::from_parts(1_763_793_000_123, 7),
                at_ms: 1_763_793_000_123,
                provider: "openai".into(),
                operation: "chat.completions".into(),
                requested_model: "gpt-x".into(),
                stream: true,
                key: "fp-1".into(),
                tenant: "".into(),
                agent: "coder".into(),
                session: "s-1".into(),
                user: "".into(),
                task: "fix \"it\"".into(),
                tags: [("team".into(), "ml".into())].into(),
                path: "/v1/chat/completions".into(),
                inferred: Inferred::AGENT | Inferred::SESSION,
            },
            settlement: Settlement {
                at_ms: 1_763_793_001_373,
                outcome: Outcome::Cut,
                status: 200,
                model: "gpt-x-2026".into(),
                usage: Usage::ZERO.with(Kind::Input, 12).with(Kind::Output, 3),
                parts: vec![],
                reasoning: 1,
                cost: Usd::from_nanos(3_750_000),
                reported_cost: None,
                upper_bound: Some(Usd::from_nanos(9_000_000)),
                price: Some(PriceRef {
                    provider: "openai".into(),
                    id: "gpt-x".into(),
                    effective: "2026-01-01".into(),
                    tier: Some("priority".into()),
                }),
                estimate_reason: Some("cut".into()),
                verdict: vec!["budget@1".into(), "~loop@1".into()],
                duration_ms: 1_250,
                ttfb_ms: Some(90),
                response_id: Some("resp_1".into()),
                request_id: Some("req_1".into()),
            },
            held: Usd::from_nanos(3_000_000),
            overage: Usd::from_nanos(750_000),
            overage_reason: Some("billed_beyond_hold".into()),
            source: None,
        }
    }

    #[test]
    fn an_entry_is_one_flat_object() {
        let shown: serde_json::Value = serde_json::to_value(entry()).unwrap();
        let expected = serde_json::json!({
            "id": Ulid::from_parts(1_763_793_000_123, 7).to_string(), "at": "2025-11-22T06:30:00.123Z",
            "provider": "openai", "operation": "chat.completions", "requested_model": "gpt-x", "model": "gpt-x-2026",
            "stream": true, "status": 200, "outcome": "cut", "key": "fp-1", "tenant": "", "agent": "coder",
            "session": "s-1", "user": "", "task": "fix \"it\"", "tags": {"team": "ml"}, "path": "/v1/chat/completions",
            "inferred": ["agent", "session"],
            "usage": {"input": 12, "output": 3}, "reasoning": 1, "cost_usd": "0.00375", "held_usd": "0.003",
            "overage_usd": "0.00075", "overage_reason": "billed_beyond_hold", "upper_bound_usd": "0.009",
            "reported_cost_usd": null,
            "price": {"provider": "openai", "id": "gpt-x", "effective": "2026-01-01", "tier": "priority"}, "estimated": true,
            "estimate_reason": "cut", "verdict": ["budget@1", "~loop@1"], "duration_ms": 1250, "ttfb_ms": 90,
            "response_id": "resp_1", "request_id": "req_1"
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_entry_survives_its_json() {
        let mut entry = entry();
        for _ in 0..2 {
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
            entry.settlement.parts = vec![
                Part {
                    model: "a".into(),
                    usage: Usage::ZERO,
                    cost: Usd::ZERO
                };
                2
            ];
            entry.settlement.price = None;
            entry.settlement.estimate_reason = None;
            entry.settlement.ttfb_ms = None;
            entry.overage_reason = None;
            entry.settlement.response_id = None;
            entry.settlement.request_id = None;
            entry.source = Some("sqlite:1".into());
            entry.facts.inferred = Inferred::NONE;
        }
    }

    #[test]
    fn an_entry_exported_before_the_ids_is_still_read() {
        let mut old = serde_json::to_value(entry()).unwrap();
        for field in ["response_id", "request_id"] {
            assert!(old.as_object_mut().unwrap().remove(field).is_some());
        }
        let read: Entry = serde_json::from_value(old).unwrap();
        assert_eq!(
            (&read.settlement.response_id, &read.settlement.request_id),
            (&None, &None)
        );
        let shown = serde_json::to_value(&read).unwrap();
        assert!(
            shown["response_id"].is_null() && shown["request_id"].is_null(),
            "there, and null"
        );
    }

    #[test]
    fn contradictions_and_unknown_words_are_refused() {
        let good = serde_json::to_value(entry()).unwrap();
        for (field, value) in [
            ("at", "yesterday".into()),
            ("id", "1".into()),
            ("outcome", "fine".into()),
            ("estimated", false.into()),
            ("cost_usd", 0.5.into()),
            ("inferred", ["task"].into()),
            ("more", 1.into()),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert!(serde_json::from_value::<Entry>(bad).is_err(), "{field}");
        }
    }

    #[test]
    fn times_have_three_decimals() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(-1), "1969-12-31T23:59:59.999Z");
        assert!(rfc3339_ms(i64::MAX).starts_with("9999-12-30"));
    }
}
