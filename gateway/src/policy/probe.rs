//! A made-up call, by which a conf is tried before it is put in force: one that sets up well and makes each request fail would
//! close the gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::{Entry, Facts, Outcome, Settlement, Usd};

use super::balances::{Balances, NoBalances};
use super::engine::PolicyFailure;
use super::facts::{CallFacts, CostEstimate};
use super::history::History;
use super::set::{Phase, PolicySet};
use super::verdict::Verdict;
use super::vm::Answer;
use crate::secret::Secret;

const MODEL: &str = "gpt-4o";
const PATH: &str = "/v1/chat/completions";
const FINGERPRINT: &str = "000000000000000000000000";
/// Names that the call goes by: of no agent, user, session, task or tenant that there is.
const NAME: &str = "probe";

impl PolicySet {
    /// Asks one policy alone, as if there were no other: what it requests, and what it reads for that.
    ///
    /// # Errors
    /// It fails, where it is enforced or not.
    pub fn ask_alone(
        &self,
        policy: &str,
        phase: Phase,
        facts: &CallFacts<'_>,
        balances: &Arc<dyn Balances>,
    ) -> Result<Verdict, PolicyFailure> {
        let answer = self.load_vm_of(policy)?.ask(phase, facts, balances, false);
        match answer.failure.or_else(|| answer.told.into_iter().next()) {
            Some(failure) => Err(failure),
            None => Ok(answer.verdict),
        }
    }

    /// Has one policy look at a made-up call and its entry, at a moment in milliseconds since the epoch.
    ///
    /// # Errors
    /// It fails, where it is enforced or not.
    pub fn probe(&self, policy: &str, at_ms: i64) -> Result<(), PolicyFailure> {
        let vm = self.load_vm_of(policy)?;
        let balances: Arc<dyn Balances> = Arc::new(NoBalances);
        with_call(at_ms, |facts| {
            for phase in [Phase::Tenant, Phase::Request] {
                passed(vm.ask(phase, facts, &balances, false))?;
            }
            Ok(())
        })?;
        passed(vm.settled(&Arc::new(entry(at_ms)), &balances))
    }
}

/// Shows the made-up call.
pub(super) fn with_call<R>(at_ms: i64, look: impl FnOnce(&CallFacts<'_>) -> R) -> R {
    let (key, tags, models) = (Secret::new("sk-probe".to_owned()), BTreeMap::new(), [MODEL.to_owned()]);
    look(&CallFacts {
        at_ms,
        zone: "UTC",
        provider: "openai",
        dialect: "openai",
        operation: "chat",
        model: MODEL,
        models: &models,
        any_model: false,
        stream: true,
        max_output: Some(1_000),
        key: &key,
        fingerprint: FINGERPRINT,
        claim: "",
        tenant: NAME,
        agent: NAME,
        session: NAME,
        user: NAME,
        task: NAME,
        path: PATH,
        tags: &tags,
        estimate: CostEstimate {
            input_tokens: 1_000,
            output_tokens: 1_000,
            usd: Usd::from_nanos(20_000_000),
            output_usd: Usd::from_nanos(10_000_000),
        },
        history: Some(History::default()),
        priced: true,
        free: false,
    })
}

fn passed(answer: Answer) -> Result<(), PolicyFailure> {
    // One in shadow tells of its failure, and passes the call.
    match answer.failure.into_iter().chain(answer.told).next() {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// The made-up call, settled.
pub(super) fn entry(at_ms: i64) -> Entry {
    let facts = Facts {
        id: ulid::Ulid::nil(),
        at_ms,
        provider: "openai".into(),
        operation: "chat".into(),
        requested_model: MODEL.into(),
        stream: true,
        key: FINGERPRINT.into(),
        tenant: NAME.into(),
        agent: NAME.into(),
        session: NAME.into(),
        user: NAME.into(),
        task: NAME.into(),
        tags: BTreeMap::new(),
        path: PATH.into(),
        inferred: Default::default(),
    };
    Entry {
        settlement: Settlement::unanswered(at_ms, Outcome::Completed, 200, MODEL.into(), 1_000),
        facts,
        held: Usd::ZERO,
        overage: Usd::ZERO,
        overage_reason: None,
        source: None,
    }
}
