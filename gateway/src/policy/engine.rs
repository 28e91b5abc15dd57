//! The engine: one VM a thread, in which a policy set is asked. Which set is in force is the caller's to say: it is swapped
//! together with the rules that go with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentledger_ledger::Entry;
use parking_lot::Mutex;

use super::balances::Balances;
use super::event::Event;
use super::facts::CallFacts;
use super::set::{Phase, PolicySet};
use super::verdict::{EvaluationReads, RequestedAlert, Verdict};
use super::vm::{Answer, Health, Vm};

/// Why a policy failed, as a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It raised an error, or asked for something that makes no sense.
    Error,
    /// It asked for an intent that its phase does not have.
    Intent,
    Deadline,
    Memory,
    /// It loaded when the set was made, and did not load again.
    Load,
}

impl Cause {
    pub const ALL: [Cause; 5] = [Cause::Error, Cause::Intent, Cause::Deadline, Cause::Memory, Cause::Load];

    /// Whether the same facts make it fail again.
    pub const fn is_of_the_facts(self) -> bool {
        matches!(self, Cause::Error | Cause::Intent)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Cause::Error => "error",
            Cause::Intent => "intent",
            Cause::Deadline => "deadline",
            Cause::Memory => "memory",
            Cause::Load => "load",
        }
    }
}

/// A policy that failed. On `tenant` and `request` the call is refused (503, `x-should-retry: false`), naming the policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy {policy} failed: {message}")]
pub struct PolicyFailure {
    /// The policy's name; `sandbox` where no policy was running yet.
    pub policy: String,
    pub cause: Cause,
    /// For the log: file and line and what went wrong. Bears no key and no prompt, for policies see neither.
    pub message: String,
    /// What the policies of this evaluation had read until then.
    pub reads: EvaluationReads,
}

impl PolicyFailure {
    pub(super) fn new(policy: &str, cause: Cause, message: String) -> PolicyFailure {
        PolicyFailure {
            policy: policy.to_owned(),
            cause,
            message,
            reads: EvaluationReads::default(),
        }
    }
}

/// How often policies were asked about calls, by what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// The answer was remembered.
    pub hits: u32,
    /// The policy ran, and its answer is remembered from now on.
    pub misses: u32,
    /// It ran, and what it read or answered, or its file, is not of the kind that is remembered.
    pub unkept: u32,
}

impl Lookups {
    fn add(&mut self, more: Lookups) {
        self.hits += more.hits;
        self.misses += more.misses;
        self.unkept += more.unkept;
    }
}

/// Told of every failure.
pub trait Counters: Send + Sync {
    fn policy_failed(&self, policy: &str, phase: Phase, cause: Cause);
    /// Once an evaluation, by an engine that remembers.
    fn policies_asked(&self, _: Lookups) {}
}

/// Counters in memory: failures by policy, phase and cause.
#[derive(Debug, Default)]
pub struct FailureCounts(Mutex<BTreeMap<(String, Phase, Cause), u64>>);

impl FailureCounts {
    pub fn snapshot(&self) -> BTreeMap<(String, Phase, Cause), u64> {
        self.0.lock().clone()
    }

    pub fn total(&self) -> u64 {
        self.0.lock().values().sum()
    }
}

impl Counters for FailureCounts {
    fn policy_failed(&self, policy: &str, phase: Phase, cause: Cause) {
        *self.0.lock().entry((policy.to_owned(), phase, cause)).or_default() += 1;
    }
}

/// VMs that one thread keeps: one for each engine it serves. More than one engine lives only in tests.
const VMS_PER_THREAD_MAX: usize = 4;

thread_local! {
    static VMS: RefCell<Vec<(u64, Vm)>> = const { RefCell::new(Vec::new()) };
}

static NEXT_ENGINE: AtomicU64 = AtomicU64::new(1);

/// Asks the policies. Shared by all threads; each makes itself a new VM at its first call on another set.
pub struct Engine {
    id: u64,
    counters: Arc<dyn Counters>,
    remembers: bool,
}

impl Engine {
    /// Runs every policy each time that it is asked: for replays and specs, which try them.
    pub fn new(counters: Arc<dyn Counters>) -> Engine {
        Engine {
            id: NEXT_ENGINE.fetch_add(1, Ordering::Relaxed),
            counters,
            remembers: false,
        }
    }

    /// Remembers what policies answered, by the facts that they read.
    pub fn remembering(counters: Arc<dyn Counters>) -> Engine {
        let mut engine = Engine::new(counters);
        engine.remembers = true;
        engine
    }

    /// Asks who is calling after all: the first of the phases.
    ///
    /// # Errors
    /// The first policy that fails: the call must then be refused.
    pub fn tenant(
        &self,
        set: &PolicySet,
        facts: &CallFacts<'_>,
        balances: &Arc<dyn Balances>,
    ) -> Result<Verdict, PolicyFailure> {
        self.ask(set, Phase::Tenant, facts, balances)
    }

    /// Asks all policies about a call. Blocks for as long as they run, at most a deadline each.
    ///
    /// # Errors
    /// The first policy that fails: the call must then be refused.
    pub fn request(
        &self,
        set: &PolicySet,
        facts: &CallFacts<'_>,
        balances: &Arc<dyn Balances>,
    ) -> Result<Verdict, PolicyFailure> {
        self.ask(set, Phase::Request, facts, balances)
    }

    fn ask(
        &self,
        set: &PolicySet,
        phase: Phase,
        facts: &CallFacts<'_>,
        balances: &Arc<dyn Balances>,
    ) -> Result<Verdict, PolicyFailure> {
        if !set.has(phase) {
            return Ok(Verdict::default());
        }
        let mut answer = self.with_vm(set, |vm| vm.ask(phase, facts, balances, false));
        if answer.is_cut_short {
            // What is in shadow decides nothing, not even that nobody else is asked.
            let (told, lookups) = (answer.told, answer.lookups);
            answer = self.with_vm(set, |vm| vm.ask(phase, facts, balances, true));
            answer.told.splice(0..0, told);
            answer.lookups.add(lookups);
        }
        for failure in answer.told.iter().chain(&answer.failure) {
            self.count(failure, phase);
        }
        if self.remembers {
            self.counters.policies_asked(answer.lookups);
        }
        match answer.failure {
            Some(failure) => Err(PolicyFailure {
                reads: answer.verdict.reads,
                ..failure
            }),
            None => Ok(answer.verdict),
        }
    }

    /// Tells all policies of a settled entry: the alerts they ask for. Failures are counted and given for the log; they
    /// change nothing else.
    pub fn settled(
        &self,
        set: &PolicySet,
        entry: &Arc<Entry>,
        balances: &Arc<dyn Balances>,
    ) -> (Vec<RequestedAlert>, Vec<PolicyFailure>) {
        self.collect_alerts(set, Phase::Settled, |vm| vm.settled(entry, balances))
    }

    /// Tells all policies of something that happened outside a request's decision: the alerts they ask for.
    pub fn alert(
        &self,
        set: &PolicySet,
        event: Event,
        balances: &Arc<dyn Balances>,
    ) -> (Vec<RequestedAlert>, Vec<PolicyFailure>) {
        self.collect_alerts(set, Phase::Alert, |vm| vm.alert(event, balances))
    }

    fn collect_alerts(
        &self,
        set: &PolicySet,
        phase: Phase,
        tell: impl FnOnce(&Vm) -> Answer,
    ) -> (Vec<RequestedAlert>, Vec<PolicyFailure>) {
        if !set.has(phase) {
            return (Vec::new(), Vec::new());
        }
        let (alerts, failures) = self.with_vm(set, tell).alerts();
        for failure in &failures {
            self.count(failure, phase);
        }
        (alerts, failures)
    }

    fn count(&self, failure: &PolicyFailure, phase: Phase) {
        self.counters.policy_failed(&failure.policy, phase, failure.cause);
    }

    /// Runs `ask` in this thread's VM. The VM is taken out while it runs, so that a panic cannot leave a half-run one.
    fn with_vm(&self, set: &PolicySet, ask: impl FnOnce(&Vm) -> Answer) -> Answer {
        let kept = VMS.with_borrow_mut(|vms| {
            let at = vms.iter().position(|(engine, _)| *engine == self.id)?;
            Some(vms.swap_remove(at).1)
        });
        let vm = match kept.filter(|vm| vm.set_id == set.id()) {
            Some(vm) => vm,
            None => match set.load_vm() {
                Ok(vm) if self.remembers => vm.remembering(),
                Ok(vm) => vm,
                Err(failure) => {
                    return Answer {
                        failure: Some(failure),
                        ..Answer::default()
                    };
                }
            },
        };
        let answer = ask(&vm);
        if answer.health == Health::Good {
            VMS.with_borrow_mut(|vms| {
                if vms.len() >= VMS_PER_THREAD_MAX {
                    vms.remove(0);
                }
                vms.push((self.id, vm));
            });
        }
        answer
    }
}
