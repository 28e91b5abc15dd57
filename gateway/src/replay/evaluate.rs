//! Asks policies about a call of the past: with the facts that are in the journal, and the answers that its decision recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use agentledger_ledger::{AccountBalances, Facts, Name, Unit, Window, Zone};
use parking_lot::Mutex;

use crate::policy::record::{Asked, DecisionRecord, Original};
use crate::policy::{
    Balances, Binding, CallFacts, Cause, Engine, FailureCounts, KeyQuestion, Phase, PolicyFailure, PolicySet, Read,
    Verdict, VerdictHash,
};
use crate::secret::Secret;

/// A call as its policies met it: what they changed is as it was before, and is changed again by their verdicts.
#[derive(Clone)]
pub struct PastCall<'a> {
    pub facts: &'a Facts,
    pub record: &'a DecisionRecord,
    pub agent: Name,
    pub session: Name,
    pub user: Name,
    pub task: Name,
    pub tenant: Name,
    pub zone: Name,
    pub tags: BTreeMap<Name, Name>,
    pub model: Name,
}

impl<'a> PastCall<'a> {
    pub fn new(facts: &'a Facts, record: &'a DecisionRecord) -> PastCall<'a> {
        let mut call = PastCall {
            facts,
            record,
            agent: Name::clone(&facts.agent),
            session: Name::clone(&facts.session),
            user: Name::clone(&facts.user),
            task: Name::clone(&facts.task),
            tenant: Name::from(""),
            zone: Name::from("UTC"),
            tags: facts.tags.clone(),
            model: Name::clone(&facts.requested_model),
        };
        // The first word on each is what the client sent.
        for (what, was) in record.original.iter().rev() {
            match what {
                Original::Agent => call.agent.clone_from(was),
                Original::Session => call.session.clone_from(was),
                Original::User => call.user.clone_from(was),
                Original::Task => call.task.clone_from(was),
                Original::Model => call.model.clone_from(was),
                Original::Tag(tag) if was.is_empty() => drop(call.tags.remove(tag)),
                Original::Tag(tag) => drop(call.tags.insert(Name::clone(tag), Name::clone(was))),
            }
        }
        // Where no policy binds tenants, the tenant is what the entry says.
        if !record.asked.iter().any(|asked| asked.phase == Phase::Tenant) {
            call.tenant.clone_from(&facts.tenant);
            call.zone.clone_from(&record.zone);
        }
        call
    }

    /// What the phase `tenant` found.
    pub fn bind(&mut self, binding: &Binding) {
        let put = |to: &mut Name, name: &Option<Name>| {
            if let Some(name) = name {
                to.clone_from(name);
            }
        };
        put(&mut self.tenant, &binding.tenant);
        if let Some(zone) = &binding.zone {
            self.zone.clone_from(zone.name());
        }
        put(&mut self.agent, &binding.agent);
        put(&mut self.session, &binding.session);
        put(&mut self.user, &binding.user);
        put(&mut self.task, &binding.task);
    }

    pub fn tag(&mut self, tags: &[(Name, Name)]) {
        self.tags.extend(tags.iter().cloned());
    }

    /// The models that the policies are asked about, with this one at hand.
    pub fn models(&self, model: &str) -> Vec<String> {
        let further = self.record.models.iter().filter(|further| ***further != *model);
        std::iter::once(model.to_owned())
            .chain(further.map(|further| further.to_string()))
            .collect()
    }

    /// Lets `ask` see the call's facts as of one evaluation.
    pub fn with_facts<T>(&self, asked: &Asked, ask: impl FnOnce(&CallFacts<'_>) -> T) -> T {
        let model = asked.model.as_ref().unwrap_or(&self.model);
        let models = self.models(model);
        let (facts, record) = (self.facts, self.record);
        let key = Secret::default();
        ask(&CallFacts {
            at_ms: facts.at_ms,
            zone: &self.zone,
            provider: &facts.provider,
            dialect: &record.dialect,
            operation: &facts.operation,
            model,
            models: &models,
            any_model: record.any_model,
            stream: facts.stream,
            max_output: record.max_output,
            key: &key,
            fingerprint: &facts.key,
            claim: &record.claim,
            tenant: &self.tenant,
            agent: &self.agent,
            session: &self.session,
            user: &self.user,
            task: &self.task,
            path: &facts.path,
            tags: &self.tags,
            estimate: asked.estimate,
            history: record.history.filter(|_| asked.phase == Phase::Request),
            priced: asked.priced,
            free: record.free,
        })
    }
}

/// Gives policies the balances that were read and the answers about keys, in the order in which they came.
#[derive(Default)]
pub struct RecordedAnswers(Mutex<Answers>);

#[derive(Default)]
struct Answers {
    balances: VecDeque<Read>,
    keys: VecDeque<u32>,
}

impl RecordedAnswers {
    pub fn set(&self, balances: &[Read], keys: Option<&[u32]>) {
        let mut answers = self.0.lock();
        answers.balances.clear();
        answers.balances.extend(balances.iter().cloned());
        if let Some(keys) = keys {
            answers.keys.clear();
            answers.keys.extend(keys);
        }
    }
}

impl Balances for RecordedAnswers {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        vec![AccountBalances::default(); accounts.len()]
    }

    fn recorded(&self, account: &Name, window: Option<Window>, unit: Unit) -> Option<Result<i64, String>> {
        let mut answers = self.0.lock();
        Some(match answers.balances.front() {
            Some(read) if read.account == *account && read.window == window && read.unit == unit => {
                let value = read.value;
                answers.balances.pop_front();
                Ok(value)
            }
            _ => Err(format!(
                "a balance of {account} was not read when it was decided ({} {})",
                window.map_or("held", Window::name),
                unit.name()
            )),
        })
    }

    fn recorded_key(&self, _: KeyQuestion<'_>) -> Option<Result<Option<u32>, String>> {
        let answer = self.0.lock().keys.pop_front();
        Some(match answer {
            Some(place) => Ok(place.checked_sub(1)),
            None => Err("a question about the key was not asked when it was decided".to_owned()),
        })
    }
}

/// Counts policies that run into their deadline: with a few of them a replay would never end.
#[derive(Default)]
pub struct LatePolicies {
    count: u32,
    last: String,
}

impl LatePolicies {
    const MAX: u32 = 3;

    pub fn see(&mut self, failure: &PolicyFailure) {
        if failure.cause == Cause::Deadline {
            self.count += 1;
            self.last = failure.to_string();
        }
    }

    pub fn hopeless(&self) -> Option<String> {
        (self.count >= LatePolicies::MAX).then(|| format!("{} calls ran too long: {}", self.count, self.last))
    }
}

/// Asks policies on one thread.
pub struct Evaluator {
    engine: Engine,
    answers: Arc<RecordedAnswers>,
    balances: Arc<dyn Balances>,
}

/// What all evaluations of a decision came to.
#[derive(Default)]
pub struct Reevaluated {
    /// Of each evaluation, in their order.
    pub verdicts: Vec<Verdict>,
    /// The tenant phase's binding.
    pub bound: Option<Binding>,
    /// As [`DecisionRecord::verdict`].
    pub hash: i64,
    pub failure: Option<PolicyFailure>,
    /// Recorded answers that nobody asked for.
    pub unread: usize,
}

impl Evaluator {
    pub fn new() -> Evaluator {
        let answers = Arc::new(RecordedAnswers::default());
        Evaluator {
            engine: Engine::new(Arc::new(FailureCounts::default())),
            balances: Arc::clone(&answers) as Arc<dyn Balances>,
            answers,
        }
    }

    /// Asks about each model that may serve the call.
    ///
    /// # Errors
    /// A policy fails.
    pub fn ask(
        &self,
        set: &PolicySet,
        call: &PastCall<'_>,
        asked: &Asked,
        balances: &Arc<dyn Balances>,
    ) -> Result<Verdict, PolicyFailure> {
        call.with_facts(asked, |facts| {
            let ask = |facts: &CallFacts<'_>| match asked.phase {
                Phase::Tenant => self.engine.tenant(set, facts, balances),
                _ => self.engine.request(set, facts, balances),
            };
            let mut verdict = ask(facts)?;
            for model in facts.models.iter().filter(|model| **model != *facts.model) {
                if verdict.deny.is_some() {
                    break;
                }
                verdict.join(ask(&CallFacts { model, ..*facts })?);
            }
            Ok(verdict)
        })
    }

    /// Evaluates a decision again, with all that it recorded.
    pub fn again(&self, set: &PolicySet, facts: &Facts, record: &DecisionRecord) -> Reevaluated {
        let mut call = PastCall::new(facts, record);
        let mut hash = VerdictHash::default();
        let mut again = Reevaluated::default();
        self.answers.set(&[], Some(&record.keys));
        let mut unread = 0;
        let mut before_routes = None;
        for asked in &record.asked {
            self.answers.set(&asked.reads, None);
            if asked.model.is_some() {
                // An alternative that did not fit left nothing behind.
                let tags = before_routes.get_or_insert_with(|| call.tags.clone());
                call.tags.clone_from(tags);
            }
            let verdict = match self.ask(set, &call, asked, &self.balances) {
                Ok(verdict) => verdict,
                Err(failure) => {
                    again.failure = Some(failure);
                    break;
                }
            };
            unread += self.answers.0.lock().balances.len();
            hash.add(&verdict);
            call.tag(&verdict.tags);
            if asked.phase == Phase::Tenant {
                call.bind(&verdict.binding);
                again.bound = Some(verdict.binding.clone());
            }
            again.verdicts.push(verdict);
        }
        again.unread = unread + self.answers.0.lock().keys.len();
        again.hash = hash.number();
        again
    }
}

impl Default for Evaluator {
    fn default() -> Evaluator {
        Evaluator::new()
    }
}
