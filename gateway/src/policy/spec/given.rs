//! What a spec gives a policy: a call, an event or an entry, and balances. What is left out is as on an ordinary call.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::{AccountBalances, Amounts, Entry, Kind, Name, Unit, Usd, Window, Zone};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::balances::Balances;
use crate::policy::engine::Engine;
use crate::policy::event::{Event, Fact};
use crate::policy::facts::{CallFacts, CostEstimate};
use crate::policy::history::History;
use crate::policy::probe;
use crate::policy::set::PolicySet;
use crate::policy::verdict::Verdict;
use crate::secret::Secret;

/// When calls and entries are that do not say: a Sunday's noon.
const AT: &str = "2026-03-01T12:00:00Z";

/// A call's facts; what is left out is as on an ordinary call.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::policy) struct CallSpec {
    key: String,
    fingerprint: String,
    at: String,
    zone: String,
    provider: String,
    dialect: String,
    operation: String,
    model: String,
    /// Left out: the model alone.
    models: Vec<String>,
    any_model: bool,
    stream: bool,
    max_output: Option<u64>,
    claim: String,
    tenant: String,
    agent: String,
    session: String,
    user: String,
    task: String,
    path: String,
    tags: BTreeMap<String, String>,
    input_tokens: u64,
    output_tokens: u64,
    estimated_usd: f64,
    priced: bool,
    free: bool,
    /// Of its session: fields of `call.history`, as numbers. Left out: a call without a session.
    history: Option<BTreeMap<String, f64>>,
}

impl Default for CallSpec {
    fn default() -> CallSpec {
        CallSpec {
            key: "sk-test-1".to_owned(),
            fingerprint: "f1".to_owned(),
            at: AT.to_owned(),
            zone: "UTC".to_owned(),
            provider: "openai".to_owned(),
            dialect: "openai".to_owned(),
            operation: "chat".to_owned(),
            model: "gpt-4o".to_owned(),
            models: Vec::new(),
            any_model: false,
            stream: false,
            max_output: None,
            claim: String::new(),
            tenant: String::new(),
            agent: String::new(),
            session: String::new(),
            user: String::new(),
            task: String::new(),
            path: "/v1/chat/completions".to_owned(),
            tags: BTreeMap::new(),
            input_tokens: 100,
            output_tokens: 1_000,
            estimated_usd: 0.01,
            priced: true,
            free: false,
            history: None,
        }
    }
}

/// Both phases of a call, the second on what the first bound.
pub(in crate::policy) fn ask_call(
    engine: &Engine,
    set: &PolicySet,
    mut call: CallSpec,
    balances: &Arc<dyn Balances>,
) -> Result<Result<[Verdict; 2], String>, String> {
    let at: Timestamp = call
        .at
        .parse()
        .map_err(|_| format!("call.at {:?} is no moment", call.at))?;
    let history = call.history.as_ref().map(History::given).transpose()?;
    let key = Secret::new(call.key.clone());
    let tags: BTreeMap<Name, Name> = call
        .tags
        .iter()
        .map(|(name, value)| (Name::from(name.as_str()), Name::from(value.as_str())))
        .collect();
    let bound = match engine.tenant(set, &call.facts(at, &key, &tags, history), balances) {
        Ok(bound) => bound,
        Err(failure) => return Ok(Err(failure.message)),
    };
    if bound.deny.is_some() {
        return Ok(Ok([bound, Verdict::default()]));
    }
    for (to, name) in [
        (&mut call.tenant, bound.binding.tenant.as_ref()),
        (
            &mut call.zone,
            bound.binding.zone.as_ref().map(agentledger_ledger::Zone::name),
        ),
        (&mut call.agent, bound.binding.agent.as_ref()),
        (&mut call.session, bound.binding.session.as_ref()),
        (&mut call.user, bound.binding.user.as_ref()),
        (&mut call.task, bound.binding.task.as_ref()),
    ] {
        if let Some(name) = name {
            *to = name.to_string();
        }
    }
    let requested = engine.request(set, &call.facts(at, &key, &tags, history), balances);
    Ok(requested
        .map(|requested| [bound, requested])
        .map_err(|failure| failure.message))
}

impl CallSpec {
    fn facts<'a>(
        &'a self,
        at: Timestamp,
        key: &'a Secret<String>,
        tags: &'a BTreeMap<Name, Name>,
        history: Option<History>,
    ) -> CallFacts<'a> {
        let usd = nanos(self.estimated_usd);
        CallFacts {
            at_ms: at.as_millisecond(),
            zone: &self.zone,
            provider: &self.provider,
            dialect: &self.dialect,
            operation: &self.operation,
            model: &self.model,
            models: match self.models.as_slice() {
                [] => std::slice::from_ref(&self.model),
                named => named,
            },
            any_model: self.any_model,
            stream: self.stream,
            max_output: self.max_output,
            key,
            fingerprint: &self.fingerprint,
            claim: &self.claim,
            tenant: &self.tenant,
            agent: &self.agent,
            session: &self.session,
            user: &self.user,
            task: &self.task,
            path: &self.path,
            tags,
            estimate: CostEstimate {
                input_tokens: self.input_tokens,
                output_tokens: self.output_tokens,
                usd: Usd::from_nanos(usd),
                output_usd: Usd::from_nanos(usd / 2),
            },
            priced: self.priced,
            free: self.free,
            history,
        }
    }
}

/// Balances as the spec gives them; 0 where it says nothing.
pub(in crate::policy) struct Given {
    pub spent: BTreeMap<String, f64>,
    pub held: BTreeMap<String, f64>,
}

fn counted(of: &BTreeMap<String, f64>, what: &str, unit: Unit) -> i64 {
    let usd = (unit == Unit::Usd).then(|| of.get(what)).flatten();
    let found = usd.or_else(|| of.get(&format!("{what} {}", unit.name())));
    // A spec's numbers are its author's own; no money is summed here.
    #[allow(clippy::cast_possible_truncation)]
    match (found, unit) {
        (Some(amount), Unit::Usd) => nanos(*amount),
        (Some(count), _) => *count as i64,
        (None, _) => 0,
    }
}

#[allow(clippy::cast_possible_truncation)]
fn nanos(usd: f64) -> i64 {
    (usd * 1e9).round() as i64
}

impl Balances for Given {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        let balances = |account: &Name| {
            let held = AccountBalances {
                held: amounts(&self.held, account),
                ..AccountBalances::default()
            };
            Window::ALL.into_iter().fold(held, |balances, window| {
                balances.with_posted(window, amounts(&self.spent, &format!("{account} {}", window.name())))
            })
        };
        accounts.iter().map(balances).collect()
    }
}

fn amounts(of: &BTreeMap<String, f64>, what: &str) -> Amounts {
    let mut amounts = Amounts::ZERO;
    for unit in Unit::ALL {
        amounts.set(unit, counted(of, what, unit));
    }
    amounts
}

pub(super) fn read_event(given: &BTreeMap<String, serde_json::Value>) -> Result<Event, String> {
    let mut event = Event::new("", 0);
    for (name, value) in given {
        let fact = match value {
            serde_json::Value::String(text) if name == "kind" => {
                event.kind = text.clone().into();
                continue;
            }
            serde_json::Value::String(text) => Fact::Text(text.clone()),
            serde_json::Value::Bool(flag) => Fact::Flag(*flag),
            other => Fact::Number(
                other
                    .as_f64()
                    .ok_or_else(|| format!("event.{name} must be text or a number"))?,
            ),
        };
        event.facts.push((name.clone().into(), fact));
    }
    Ok(event)
}

/// An entry's facts; what is left out is as on an ordinary one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EntrySpec {
    at: Option<String>,
    provider: Option<String>,
    operation: Option<String>,
    requested_model: Option<String>,
    model: Option<String>,
    stream: bool,
    status: Option<u16>,
    key: Option<String>,
    tenant: Option<String>,
    agent: Option<String>,
    session: Option<String>,
    user: Option<String>,
    task: Option<String>,
    path: Option<String>,
    tags: BTreeMap<String, String>,
    usage: BTreeMap<String, u64>,
    reasoning: u64,
    cost_usd: f64,
    held_usd: f64,
    overage_usd: f64,
    overage_reason: Option<String>,
    estimate_reason: Option<String>,
    duration_ms: Option<u64>,
    ttfb_ms: Option<u64>,
    response_id: Option<String>,
    request_id: Option<String>,
}

impl EntrySpec {
    pub fn entry(&self) -> Result<Entry, String> {
        let at = self.at.as_deref().unwrap_or(AT);
        let at: Timestamp = at.parse().map_err(|_| format!("entry.at {at:?} is no moment"))?;
        let mut entry = probe::entry(at.as_millisecond());
        let (facts, settlement) = (&mut entry.facts, &mut entry.settlement);
        for (to, given) in [
            (&mut facts.provider, &self.provider),
            (&mut facts.operation, &self.operation),
            (&mut facts.requested_model, &self.requested_model),
            (&mut settlement.model, &self.model),
            (&mut facts.key, &self.key),
            (&mut facts.tenant, &self.tenant),
            (&mut facts.agent, &self.agent),
            (&mut facts.session, &self.session),
            (&mut facts.user, &self.user),
            (&mut facts.task, &self.task),
            (&mut facts.path, &self.path),
        ] {
            if let Some(given) = given {
                *to = Name::from(given.as_str());
            }
        }
        facts.stream = self.stream;
        let tags = self.tags.iter();
        facts.tags = tags
            .map(|(name, value)| (Name::from(name.as_str()), Name::from(value.as_str())))
            .collect();
        for (name, units) in &self.usage {
            let kind = Kind::from_name(name).ok_or_else(|| format!("entry.usage has no field {name}"))?;
            settlement.usage.set(kind, *units);
        }
        settlement.status = self.status.unwrap_or(settlement.status);
        settlement.reasoning = self.reasoning;
        settlement.cost = Usd::from_nanos(nanos(self.cost_usd));
        settlement.duration_ms = self.duration_ms.unwrap_or(settlement.duration_ms);
        settlement.ttfb_ms = self.ttfb_ms;
        let name = |given: &Option<String>| given.as_deref().map(Name::from);
        settlement.estimate_reason = name(&self.estimate_reason);
        settlement.response_id = name(&self.response_id);
        settlement.request_id = name(&self.request_id);
        entry.overage_reason = name(&self.overage_reason);
        entry.held = Usd::from_nanos(nanos(self.held_usd));
        entry.overage = Usd::from_nanos(nanos(self.overage_usd));
        Ok(entry)
    }
}
