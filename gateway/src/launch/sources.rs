//! What the rules in force are made of: what the files say, and what operators changed over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentledger_ledger::Ledger;

use super::reloads::expired;
use super::{Confs, LaunchError};
use crate::control::RpcError;
use crate::policy::PolicySet;
use crate::price::PriceBook;
use crate::replay::base::recorded_base;
use crate::runtime::prices::with_rows;
use crate::runtime::{
    Activation, InForce, Ingredients, Parts, PolicyBook, PolicyPlace, PolicyRecord, PolicyStep, Refused,
    RefusedVersion, Step, Tallies, VersionsInForce, documents_of,
};

/// Rules that end at a time; more follow at once.
pub(super) const ENDED_MAX: usize = 256;

/// See the module.
pub(super) struct Sources {
    /// What the file says to the policies.
    pub confs: Arc<Confs>,
    /// The policies of the files, and the built-in ones, as the file's confs make them.
    pub files: PolicySet,
    /// The books of the files.
    pub prices: PriceBook,
    /// What operators changed.
    pub parts: Parts,
    /// What versions of policies did where they stand.
    pub tallies: Tallies,
    /// By policy, the version of the store that is in force.
    pub effective: BTreeMap<String, Activation>,
    /// Versions that should be, and cannot.
    pub refused: Vec<RefusedVersion>,
    /// No rule is taken away before, milliseconds since the epoch: one could not.
    pub expire_from_ms: i64,
    /// No activation that waits is tried before: one could not be recorded.
    pub activate_from_ms: i64,
}

/// What a change of a policy comes to.
pub(super) struct PlannedStep {
    book: PolicyBook,
    /// Where what is in force or in shadow changes.
    pub set: Option<PolicySet>,
    tallies: Tallies,
    effective: Option<Activation>,
    refused: Vec<RefusedVersion>,
    policy: String,
}

impl Sources {
    /// Reads what operators changed, and ends the rules that ended while no gateway ran.
    ///
    /// # Errors
    /// The ledger's documents cannot be read, or not be changed.
    pub fn open(
        ledger: &Ledger,
        confs: Confs,
        files: PolicySet,
        prices: PriceBook,
        tallies: Tallies,
    ) -> Result<Sources, LaunchError> {
        let mut parts = documents_of(&|prefix| ledger.documents(prefix)).map_err(LaunchError::Documents)?;
        loop {
            let ended = parts.rules.ended(ledger.now_ms(), ENDED_MAX);
            if ended.is_empty() {
                break;
            }
            ledger.change_together(ended.iter().map(|rule| expired(ledger, rule)).collect())?;
            Arc::make_mut(&mut parts.rules).end(&ended);
        }
        Ok(Sources {
            confs: Arc::new(confs),
            files,
            prices,
            parts,
            tallies,
            effective: BTreeMap::new(),
            refused: Vec::new(),
            expire_from_ms: i64::MIN,
            activate_from_ms: i64::MIN,
        })
    }

    /// The same with what files say anew.
    pub fn with_files(&self, confs: Confs, files: PolicySet, prices: PriceBook) -> Sources {
        Sources {
            confs: Arc::new(confs),
            files,
            prices,
            parts: self.parts.clone(),
            tallies: self.tallies.clone(),
            effective: BTreeMap::new(),
            refused: Vec::new(),
            expire_from_ms: i64::MIN,
            activate_from_ms: i64::MIN,
        }
    }

    pub fn ingredients<'a>(&'a self, book: &'a PolicyBook) -> Ingredients<'a> {
        Ingredients {
            files: &self.files,
            confs: &self.confs,
            rules: &self.parts.rules,
            book,
        }
    }

    /// The policies and prices of the files with what operators changed over them. A version that the store cannot give back,
    /// or that does not load, is refused by name, and the one before it is in force.
    ///
    /// # Errors
    /// Rules or prices do not fit what the files say, or a conf is of no policy.
    pub fn over(&mut self) -> Result<(PolicySet, PriceBook), LaunchError> {
        let prices = with_rows(&self.prices, &self.parts.prices).map_err(LaunchError::RuntimePrice)?;
        Ok((self.policies_over()?, prices))
    }

    /// The same of the policies alone.
    ///
    /// # Errors
    /// Rules do not fit what the files say, or a conf is of no policy.
    pub fn policies_over(&mut self) -> Result<PolicySet, LaunchError> {
        let mut tallies = self.tallies.clone();
        let book = Arc::clone(&self.parts.policies);
        let composed = self.ingredients(&book).all(&mut tallies);
        let composed = composed.map_err(LaunchError::RuntimeRule)?;
        let unknown = composed
            .set
            .unknown(self.confs.keys().filter(|policy| !book.has(policy)));
        if !unknown.is_empty() {
            return Err(LaunchError::Policies(unknown));
        }
        (self.tallies, self.effective, self.refused) = (tallies, composed.effective, composed.refused);
        Ok(composed.set)
    }

    /// What is in force, as a change is planned and recorded.
    pub fn view(&self, policies: &Arc<PolicySet>) -> InForce {
        InForce {
            policies: Arc::clone(policies),
            file: Arc::clone(&self.confs),
            parts: self.parts.clone(),
            versions: self.versions(),
        }
    }

    /// Whether a policy's rules can be laid over its conf: those of one that only the store has wait while none of its
    /// versions is in force, and are changed by nobody meanwhile but to take them away.
    pub fn takes_rules(&self, now: &PolicySet, policy: &str, steps: &[Step]) -> bool {
        let puts = |step: &Step| step.after.as_ref().is_some_and(|rule| rule.policy() == policy);
        self.ingredients(&self.parts.policies).takes_rules(now, policy) || steps.iter().any(puts)
    }

    /// Has the journal say what is in force from now on; the id by which decisions name it.
    pub fn record(&self, ledger: &Ledger, policies: &PolicySet) -> u64 {
        ledger.put_in_force(policies.digest(), &recorded_base(policies, &self.confs))
    }

    pub fn disabled(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.parts.disabled)
    }

    /// How the versions stand.
    pub fn versions(&self) -> VersionsInForce {
        let places = [PolicyPlace::InForce, PolicyPlace::Shadow];
        let book = &self.parts.policies;
        let counted = book
            .policies()
            .into_iter()
            .flat_map(|policy| places.map(|place| ((policy.to_owned(), place), self.tallies.counts(policy, place))));
        let files = self.files.policies().map(|policy| {
            let origin = policy.source.origin.clone();
            (policy.name.to_owned(), (origin, policy.hash.to_owned()))
        });
        VersionsInForce {
            effective: self.effective.clone(),
            refused: self.refused.clone(),
            counts: counted.collect(),
            files: files.collect(),
        }
    }

    /// What a change of a policy comes to, over the policies in force. Nothing is in force of it.
    ///
    /// # Errors
    /// What it puts in force, or in shadow, does not load, or fails at a made-up call.
    pub fn plan(&self, now: &PolicySet, step: &PolicyStep, at_ms: i64) -> Result<PlannedStep, RpcError> {
        let policy = step.policy.as_str();
        let mut book = PolicyBook::clone(&self.parts.policies);
        book.apply(step);
        let (none, mut tallies) = (PolicyRecord::default(), self.tallies.clone());
        let before = self.parts.policies.record(policy).map_or(&none, |kept| &kept.record);
        let after = book.record(policy).map_or(&none, |kept| &kept.record);
        let unfit = |text: String| RpcError::from(Refused::unfit("version", format!("does not load:\n{text}")));
        let mut planned = PlannedStep {
            effective: self.effective.get(policy).cloned(),
            refused: self.refused_of(policy),
            set: None,
            tallies: self.tallies.clone(),
            book: book.clone(),
            policy: policy.to_owned(),
        };
        if before.in_force != after.in_force {
            let activation = after.in_force.as_ref();
            let with = self
                .ingredients(&book)
                .with_activation(now, policy, activation, &mut tallies);
            let set = with.map_err(unfit)?;
            probe("version", policy, &set, now, at_ms)?;
            (planned.effective, planned.refused, planned.set) = (after.in_force.clone(), Vec::new(), Some(set));
        } else if !planned.refused.is_empty() {
            // What could not be read may be there again.
            let composed = self.ingredients(&book).composed(now, policy, &mut tallies);
            (planned.effective, planned.refused) = (composed.effective, composed.refused);
            planned.set = Some(composed.set);
        }
        let stands = |record: &PolicyRecord| {
            record
                .shadow
                .as_ref()
                .map(|shadow| (shadow.hash.clone(), shadow.since_ms))
        };
        if stands(before) != stands(after) {
            let set = planned.set.as_ref().unwrap_or(now);
            let with = self
                .ingredients(&book)
                .with_rehearsal(set, policy, after.shadow.as_ref(), &mut tallies);
            planned.set = Some(with.map_err(unfit)?);
        }
        planned.tallies = tallies;
        Ok(planned)
    }

    fn refused_of(&self, policy: &str) -> Vec<RefusedVersion> {
        let refused = self.refused.iter().filter(|refused| refused.policy == policy);
        refused.cloned().collect()
    }

    /// A planned change was recorded.
    pub fn take(&mut self, planned: PlannedStep) {
        let policy = planned.policy;
        match planned.effective {
            Some(activation) => drop(self.effective.insert(policy.clone(), activation)),
            None => drop(self.effective.remove(&policy)),
        }
        self.refused.retain(|refused| refused.policy != policy);
        self.refused.extend(planned.refused);
        self.tallies = planned.tallies;
        self.parts.policies = Arc::new(planned.book);
    }
}

/// Refuses what `part` of a change names, by which a policy fails at a made-up call that it did not fail at before.
pub(super) fn probe(
    part: &'static str,
    policy: &str,
    next: &PolicySet,
    now: &PolicySet,
    at_ms: i64,
) -> Result<(), RpcError> {
    match next.probe(policy, at_ms) {
        Err(failure) if now.probe(policy, at_ms).is_ok() => {
            let text = format!("makes the policy {policy} fail on requests: {}", failure.message);
            Err(Refused::unfit(part, text).into())
        }
        _ => Ok(()),
    }
}
