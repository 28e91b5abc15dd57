//! Why a request of the past got its verdict: policy by policy in the order in which they ran, what each read and requested, and what
//! the books then made of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use agentledger_ledger::{
    AccountBalances, Books, Bound, Event, Facts, Held, Limit, Name, Record, Refused, Unit, Window, Zone, rfc3339_ms,
};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::evaluate::PastCall;
use super::rules::KnownRules;
use super::run::Journal;
use super::words::{amount_in_words, bound_in_words, verdict_in_words};
use crate::policy::record::{Asked, DecisionRecord, RefusedBy};
use crate::policy::{Balances, CallFacts, KeyQuestion, Phase, PolicyMode, PolicySet, Read, Verdict};

/// A request is held this long after it begins at most.
const DECIDED_WITHIN_MS: i64 = 2 * 60 * 60 * 1_000;

/// Why a request got its verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedRequest {
    /// The exchange.
    pub id: String,
    pub at: String,
    /// The event of the journal by which it was decided.
    pub sequence: u64,
    /// `allowed`, or `denied: CODE`.
    pub outcome: String,
    pub key: String,
    pub tenant: String,
    pub agent: String,
    pub session: String,
    pub user: String,
    pub model: String,
    /// In the order in which they ran. Empty where nothing was recorded of it.
    pub policies: Vec<ExplainedPolicy>,
    /// The limits that were requested together, as they stood then.
    pub limits: Vec<ExplainedLimit>,
    /// What came of it, in words.
    pub decided: Vec<String>,
    /// Why there is no more to say; empty where there is.
    pub not_known: String,
}

/// What one policy read and requested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPolicy {
    /// `name@version`.
    pub policy: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// `tenant` or `request`.
    pub phase: String,
    /// The model that it was asked about.
    pub model: String,
    pub read: Vec<String>,
    /// Empty: it had nothing to say.
    pub requested: Vec<String>,
}

/// A limit as it stood when it was decided. Amounts in its unit: decimal USD, tokens or requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedLimit {
    pub limit: String,
    pub account: String,
    pub window: String,
    pub unit: String,
    pub policy: String,
    pub most: String,
    pub spent: String,
    pub held: String,
    pub requested: String,
    pub fits: bool,
}

/// Answers by what was recorded, whichever policy asks first.
#[derive(Default)]
struct OneByOne(Mutex<(Vec<Read>, std::collections::VecDeque<u32>)>);

impl Balances for OneByOne {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        vec![AccountBalances::default(); accounts.len()]
    }

    fn recorded(&self, account: &Name, window: Option<Window>, unit: Unit) -> Option<Result<i64, String>> {
        let known = self.0.lock();
        let same = |read: &&Read| read.account == *account && read.window == window && read.unit == unit;
        let found = known.0.iter().find(same).map(|read| read.value);
        Some(found.ok_or_else(|| format!("a balance of {account} was not read then")))
    }

    fn recorded_key(&self, _: KeyQuestion<'_>) -> Option<Result<Option<u32>, String>> {
        let answer = self.0.lock().1.pop_front();
        let answer = answer.map(|place| place.checked_sub(1));
        Some(answer.ok_or_else(|| "it was not asked about the key then".to_owned()))
    }
}

/// Explains the request with this id. `None`: the journal does not have it.
///
/// # Errors
/// Where the journal cannot be read up to it.
pub fn explain(id: Ulid, journal: &mut Journal<'_>) -> Result<Option<ExplainedRequest>, String> {
    let from_ms = i64::try_from(id.timestamp_ms()).unwrap_or(i64::MAX);
    let (mut books, mut rules) = (Books::new(), KnownRules::new(None));
    let (mut found, mut broken) = (None, None);
    let read = journal(from_ms, &mut |sequence, event| {
        match &event {
            Event::Changed(change) => rules.change(change),
            Event::InForce(in_force) => rules.see(sequence, in_force),
            Event::Held(held) if held.facts.id == id => found = Some(of_held(sequence, held, &rules, &books)),
            Event::Refused(refused) if refused.facts.id == id => found = Some(of_refused(sequence, refused, &rules)),
            _ => {}
        }
        if found.is_some() || event.at_ms() > from_ms.saturating_add(DECIDED_WITHIN_MS) {
            return ControlFlow::Break(());
        }
        let is_first = books.head() == 0;
        if let Err(error) = books.apply(sequence, &event) {
            broken = Some(error.to_string());
            return ControlFlow::Break(());
        }
        if is_first {
            rules.open(books.documents());
        }
        ControlFlow::Continue(())
    });
    match (found, read, broken) {
        (Some(found), ..) => Ok(Some(found)),
        (None, Err(stopped), _) => Err(stopped.to_string()),
        (None, Ok(()), Some(broken)) => Err(broken),
        (None, Ok(()), None) => Ok(None),
    }
}

fn of_call(sequence: u64, at_ms: i64, facts: &Facts) -> ExplainedRequest {
    ExplainedRequest {
        id: facts.id.to_string(),
        at: rfc3339_ms(at_ms),
        sequence,
        key: facts.key.to_string(),
        tenant: facts.tenant.to_string(),
        agent: facts.agent.to_string(),
        session: facts.session.to_string(),
        user: facts.user.to_string(),
        model: facts.requested_model.to_string(),
        ..ExplainedRequest::default()
    }
}

fn of_held(sequence: u64, held: &Held, rules: &KnownRules, books: &Books) -> ExplainedRequest {
    let mut explained = of_call(sequence, held.at_ms, &held.facts);
    explained.outcome = "allowed".to_owned();
    let again = asked_again(&held.facts, held.record.as_ref(), rules, &mut explained);
    for bound in &held.bounds {
        let zone = Zone::named(&bound.zone).unwrap_or_else(|_| Zone::utc());
        let limit = match bound.unit {
            Unit::Usd => Limit::usd(agentledger_ledger::Usd::from_nanos(bound.limit)),
            Unit::Tokens => Limit::tokens(bound.limit.unsigned_abs()),
            Unit::Requests => Limit::requests(bound.limit.unsigned_abs()),
        };
        let asked = limit.and_then(|limit| Bound::new(bound.account.clone(), bound.window, zone, limit, bound.mode));
        let Ok(asked) = asked else { continue };
        let (standing, requested) = (books.standing(held.at_ms, &asked), held.amounts.get(bound.unit));
        let fits = standing.left() >= i128::from(requested);
        let of = |count: i64| count_in_words(bound.unit, count);
        explained.limits.push(ExplainedLimit {
            limit: bound_in_words(&bound.account, bound.window, bound.unit, bound.limit, bound.mode),
            account: bound.account.to_string(),
            window: bound.window.name().to_owned(),
            unit: bound.unit.name().to_owned(),
            policy: policy_of(&again, &asked),
            most: of(bound.limit),
            spent: of(standing.posted),
            held: of(standing.held),
            requested: of(requested),
            fits,
        });
    }
    let decided = &mut explained.decided;
    decided.push(format!(
        "${} and {} tokens were held: {}",
        held.amounts.usd, held.amounts.tokens, held.basis
    ));
    let record = held
        .record
        .as_ref()
        .map(|record| DecisionRecord::read(record, &held.facts));
    if let Some(Ok(record)) = record {
        if let Some(most) = record.clamped {
            decided.push(format!("its output was clamped to {most} tokens"));
        }
        let rerouted = record
            .original
            .iter()
            .find(|(what, _)| *what == crate::policy::record::Original::Model);
        if let Some((_, from)) = rerouted {
            decided.push(format!("it was routed from {from} to {}", held.facts.requested_model));
        }
        if !record.delay.is_zero() {
            decided.push(format!("it was held back for {} ms", record.delay.as_millis()));
        }
    }
    explained
}

fn of_refused(sequence: u64, refused: &Refused, rules: &KnownRules) -> ExplainedRequest {
    let mut explained = of_call(sequence, refused.at_ms, &refused.facts);
    explained.outcome = format!("denied: {}", refused.reason);
    asked_again(&refused.facts, Some(&refused.record), rules, &mut explained);
    let Ok(record) = DecisionRecord::read(&refused.record, &refused.facts) else {
        return explained;
    };
    match &record.refused {
        None => {}
        Some(RefusedBy::Policy(policy)) => explained
            .decided
            .push(format!("{policy} denied it: {}", refused.reason)),
        Some(RefusedBy::Budget {
            policy,
            bound,
            posted,
            held,
            requested,
            is_held,
        }) => {
            let of = |count: i64| count_in_words(bound.unit, count);
            let words = |count: i64| amount_in_words(bound.unit, count);
            let limit = bound_in_words(&bound.account, bound.window, bound.unit, bound.limit, bound.mode);
            let why = if *is_held {
                "others' holds were in the way"
            } else {
                "it is used up"
            };
            explained.decided.push(format!(
                "{limit} ({policy}): {} were spent, {} held, and {} requested: {why}",
                words(*posted),
                words(*held),
                words(*requested)
            ));
            explained.limits.push(ExplainedLimit {
                limit,
                account: bound.account.to_string(),
                window: bound.window.name().to_owned(),
                unit: bound.unit.name().to_owned(),
                policy: policy.to_string(),
                most: of(bound.limit),
                spent: of(*posted),
                held: of(*held),
                requested: of(*requested),
                fits: false,
            });
        }
        Some(RefusedBy::Rate {
            policy,
            account,
            per,
            unit,
            limit,
            wait_ms,
        }) => {
            let limit = amount_in_words(*unit, i64::try_from(*limit).unwrap_or(i64::MAX));
            let wait = match wait_ms {
                0.. => format!("it would have fit {wait_ms} ms later"),
                _ => "alone it is more than that".to_owned(),
            };
            let period = per.name();
            explained
                .decided
                .push(format!("at most {limit} a {period} on {account} ({policy}): {wait}"));
        }
        Some(RefusedBy::Parallel { policy, account, limit }) => explained.decided.push(format!(
            "at most {limit} at one time on {account} ({policy}): so many ran"
        )),
        Some(RefusedBy::Failed { policy, cause }) => explained
            .decided
            .push(format!("{policy} failed ({}), and gave no verdict", cause.name())),
    }
    explained
}

/// The policy that asked for a bound.
fn policy_of(verdicts: &[Verdict], bound: &Bound) -> String {
    let asked = verdicts.iter().flat_map(|verdict| &verdict.bounds);
    let same = |other: &Bound| {
        other.account() == bound.account() && other.window() == bound.window() && other.unit() == bound.unit()
    };
    let found = asked.into_iter().find(|requested| same(&requested.bound));
    found.map(|requested| requested.policy.to_string()).unwrap_or_default()
}

/// An amount alone, exact.
fn count_in_words(unit: Unit, count: i64) -> String {
    match unit {
        Unit::Usd => agentledger_ledger::Usd::from_nanos(count).to_string(),
        Unit::Tokens | Unit::Requests => count.to_string(),
    }
}

/// Asks each policy alone, in the order in which they ran; what they said.
fn asked_again(
    facts: &Facts,
    record: Option<&Record>,
    rules: &KnownRules,
    explained: &mut ExplainedRequest,
) -> Vec<Verdict> {
    let Some(record) = record else {
        explained.not_known = "what its policies read was not recorded".to_owned();
        return Vec::new();
    };
    let record = match DecisionRecord::read(record, facts) {
        Ok(record) => record,
        Err(bad) => {
            explained.not_known = bad.to_string();
            return Vec::new();
        }
    };
    let set = match rules.get(record.rules) {
        Ok(set) => set,
        Err(why) => {
            why.clone_into(&mut explained.not_known);
            return Vec::new();
        }
    };
    let answers = Arc::new(OneByOne::default());
    answers.0.lock().1.extend(&record.keys);
    let mut call = PastCall::new(facts, &record);
    let mut verdicts = Vec::new();
    for asked in &record.asked {
        answers.0.lock().0.clone_from(&asked.reads);
        let (mut binding, mut denied) = (crate::policy::Binding::default(), false);
        // All of them about each model that may serve the call, as it was decided.
        let models = call.models(asked.model.as_ref().unwrap_or(&call.model));
        let asks = models.iter().flat_map(|model| {
            let policies = set.policies().filter(|policy| policy.mode != PolicyMode::Off);
            policies.map(move |policy| (model, policy))
        });
        for (model, policy) in asks {
            if denied || !policy.phases.contains(&asked.phase) {
                continue;
            }
            let row = one_policy(set, policy.name, &call, asked, model, &answers);
            let named = ExplainedPolicy {
                policy: format!("{}@{}", policy.name, policy.version),
                mode: policy.mode.name().to_owned(),
                phase: asked.phase.name().to_owned(),
                model: model.clone(),
                ..ExplainedPolicy::default()
            };
            explained.policies.push(match row {
                Err(failure) => ExplainedPolicy {
                    requested: vec![failure],
                    ..named
                },
                Ok(verdict) => {
                    call.tag(&verdict.tags);
                    denied = verdict.deny.is_some();
                    let row = ExplainedPolicy {
                        read: read_in_words(&verdict),
                        requested: verdict_in_words(&verdict),
                        ..named
                    };
                    binding.or(verdict.binding.clone());
                    verdicts.push(verdict);
                    row
                }
            });
        }
        if asked.phase == Phase::Tenant {
            call.bind(&binding);
        }
    }
    verdicts
}

fn one_policy(
    set: &PolicySet,
    name: &str,
    call: &PastCall<'_>,
    asked: &Asked,
    model: &str,
    answers: &Arc<OneByOne>,
) -> Result<Verdict, String> {
    let balances: Arc<dyn Balances> = Arc::clone(answers) as Arc<dyn Balances>;
    call.with_facts(asked, |facts| {
        let facts = CallFacts { model, ..*facts };
        set.ask_alone(name, asked.phase, &facts, &balances)
    })
    .map_err(|failure| failure.to_string())
}

fn read_in_words(verdict: &Verdict) -> Vec<String> {
    let balances = verdict.reads.balances.iter().map(|read| {
        let what = read.window.map_or_else(
            || "held".to_owned(),
            |window| match window {
                Window::Total => "spent in total".to_owned(),
                window => format!("spent this {}", window.name()),
            },
        );
        format!("{} {what} by {}", amount_in_words(read.unit, read.value), read.account)
    });
    let keys = verdict.reads.keys.iter().map(|place| match place {
        0 => "the key matches none of its patterns".to_owned(),
        place => format!("the key matches its pattern {place}"),
    });
    balances.chain(keys).collect()
}
