//! Puts other rules in force while traffic runs: what files say anew, and what operators change.
//!
//! A change goes lock, check, journal, swap, and is answered once the disk has it. The order of the journal is that of what is
//! in force: whatever a rule decided and is on disk, the rule is on disk before it. What the journal keeps is in force after a
//! restart, whether or not its answer was sent. While the disk is full nothing new is decided, so that what is in force then
//! decides nothing before the disk has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentledger_ledger::{Change, Ledger};
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::sources::{ENDED_MAX, PlannedStep, Sources, probe};
use super::versions::failure_limit;
use super::{LaunchError, LoadedSetup, digests, policies, refuse_exposure};
use crate::config::Config;
use crate::control::{Plan, Record, RpcError};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::rules::Rules;
use crate::runtime::prices::{PriceRow, with_rows};
use crate::runtime::{
    Fault, InForce, Place, RULE, Refused, RefusedVersion, Rule, RuleBook, Step, Wanted, change_id, with_rules,
};

/// Who changes what nobody else did.
pub(super) const OWN_NAME: &str = "agentledger";
/// A rule that cannot be taken away now is tried again after so long.
pub(super) const RETRY_MS: i64 = 10_000;

/// Puts other rules in force while traffic runs. Apart from [`Launched`](super::Launched), so that who looks at files may hang at
/// one and the gateway still goes down.
pub struct Reloads {
    gateway: Arc<Gateway>,
    config: Arc<ArcSwap<Config>>,
    /// Held from before a change is checked until it is in force: changes come one after another.
    sources: Mutex<Sources>,
    /// The rules before the last swap.
    replaced: Mutex<Option<Arc<Rules>>>,
}

impl Reloads {
    pub(super) fn new(gateway: Arc<Gateway>, config: Arc<ArcSwap<Config>>, sources: Sources) -> Reloads {
        Reloads {
            gateway,
            config,
            sources: Mutex::new(sources),
            replaced: Mutex::default(),
        }
    }

    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    pub(super) fn sources(&self) -> &Mutex<Sources> {
        &self.sources
    }

    /// Puts another configuration in force. Requests that run keep the rules they started with; what needs a restart
    /// (listeners, storage, TLS files) keeps its old value, with a warning. What operators changed lies over it; where it does not
    /// fit any more, all stays as it was.
    pub fn reload(&self, loaded: LoadedSetup) -> Result<(), LaunchError> {
        let mut sources = self.sources.lock();
        let before = self.gateway.rules.load_full();
        let mut config = loaded.config;
        let old = &before.config;
        if config.listen != old.listen || config.storage != old.storage || config.tls != old.tls {
            tracing::warn!("listen, storage and tls take effect at the next start");
            (config.listen, config.storage, config.tls) = (old.listen.clone(), old.storage.clone(), old.tls.clone());
        }
        if config.otlp != old.otlp {
            tracing::warn!("telemetry.otlp takes effect at the next start");
            config.otlp.clone_from(&old.otlp);
        }
        // By where it listens, which the file may not say any more.
        refuse_exposure(&config)?;
        let config = Arc::new(config);
        let fingerprints = before.fingerprints.clone();
        let mut next = sources.with_files(loaded.confs, loaded.policies, loaded.prices);
        next.tallies.limit_to(failure_limit(&config));
        let (policies, prices) = next.over()?;
        let rules = Rules::new(
            Arc::clone(&config),
            &loaded.plugins,
            &loaded.tool_pricers,
            prices,
            policies,
            fingerprints,
            Some(&before),
        )?;
        self.put_files_in_force(&mut sources, next, rules);
        self.config.store(config);
        Ok(())
    }

    /// Puts the policies in force as their files are now, and nothing else: a change of a rule costs no other reading.
    pub fn reload_policies(&self) -> Result<(), LaunchError> {
        let mut sources = self.sources.lock();
        let rules = self.gateway.rules.load_full();
        let (policies, confs) = policies(&rules.config)?;
        let mut next = sources.with_files(confs, policies, sources.prices.clone());
        let (policies, _) = next.over()?;
        self.put_files_in_force(&mut sources, next, rules.with_policies(policies));
        Ok(())
    }

    /// What the files say anew is in force; where a version of the store lies over what changed, that is said.
    fn put_files_in_force(&self, sources: &mut Sources, next: Sources, rules: Rules) {
        let before = std::mem::replace(sources, next);
        for policy in sources.effective.keys() {
            let (was, is) = (before.files.policy(policy), sources.files.policy(policy));
            if was.map(|policy| policy.hash) != is.map(|policy| policy.hash) {
                let file = is.or(was).map_or("its file", |policy| policy.source.origin.as_str());
                tracing::warn!(
                    "policy {policy}: {file} changed, and a version of the store is in force: the file is overridden \
                     (`agentledger policy deactivate {policy}` puts the file in force)"
                );
            }
        }
        let told = sources
            .refused
            .iter()
            .filter(|refused| !before.refused.contains(refused));
        let told: Vec<RefusedVersion> = told.cloned().collect();
        self.note_refused(sources);
        self.put_in_force(sources, rules);
        // By the policies that are in force now.
        self.tell_refused(&told);
    }

    /// At the start: what could not be put in force.
    pub(super) fn tell_all_refused(&self) {
        let sources = self.sources.lock();
        self.tell_refused(&sources.refused);
        self.note_refused(&sources);
    }

    /// For `/readyz`.
    pub(super) fn note_refused(&self, sources: &Sources) {
        let refused: Vec<String> = sources.refused.iter().map(ToString::to_string).collect();
        self.gateway.refused_policies.store(Arc::new(refused));
    }

    /// A change of a policy is recorded: it is in force.
    pub(super) fn take(&self, sources: &mut Sources, mut planned: PlannedStep, rules: &Rules) {
        let set = planned.set.take();
        sources.take(planned);
        self.note_refused(sources);
        if let Some(set) = set {
            self.put_in_force(sources, rules.with_policies(set));
        }
    }

    pub fn in_force(&self) -> InForce {
        self.view(&self.sources.lock())
    }

    fn view(&self, sources: &Sources) -> InForce {
        sources.view(&self.gateway.rules.load().policies)
    }

    /// See [`DataPlane::change`](crate::control::DataPlane::change).
    pub(super) fn change(&self, plan: &mut Plan<'_>, record: &mut Record<'_>) -> Result<Option<u64>, RpcError> {
        let mut sources = self.sources.lock();
        let before = self.view(&sources);
        let rules = self.gateway.rules.load_full();
        let entered = match plan(&before)? {
            Wanted::Rules(edits) => {
                let mut book = RuleBook::clone(&before.parts.rules);
                let mut steps = Vec::with_capacity(edits.len());
                for edit in edits {
                    let step = book.step(edit)?;
                    book.apply(&step);
                    steps.push(step);
                }
                let changed = steps.iter().flat_map(Step::policies);
                let takes = |policy: &&str| sources.takes_rules(&rules.policies, policy, &steps);
                let changed: BTreeSet<&str> = changed.filter(takes).collect();
                let policies = with_rules(&rules.policies, &sources.confs, &book, changed.iter().copied())
                    .map_err(|fault| refused(fault, &steps))?;
                let at_ms = self.gateway.clock.now_ms();
                for policy in changed {
                    probe("value", policy, &policies, &rules.policies, at_ms)?;
                }
                let entered = record(&before, &steps)?;
                if entered.is_some() {
                    sources.parts.rules = Arc::new(book);
                    self.put_in_force(&sources, rules.with_policies(policies));
                }
                entered
            }
            Wanted::Price(name, row) => {
                let mut rows = BTreeMap::clone(&sources.parts.prices);
                replace(&mut rows, name, row);
                let prices = with_rows(&sources.prices, &rows).map_err(|errors| {
                    let first = errors.first().map(ToString::to_string).unwrap_or_default();
                    RpcError::from(Refused::unfit("row", first))
                })?;
                let entered = record(&before, &[])?;
                if entered.is_some() {
                    sources.parts.prices = Arc::new(rows);
                    self.put_in_force(&sources, rules.with_prices(prices));
                }
                entered
            }
            Wanted::Provider { name, enabled } => {
                let mut disabled = BTreeSet::clone(&sources.parts.disabled);
                if enabled {
                    disabled.remove(&name);
                } else {
                    disabled.insert(name);
                }
                let entered = record(&before, &[])?;
                if entered.is_some() {
                    sources.parts.disabled = Arc::new(disabled);
                    self.put_in_force(&sources, rules.with_disabled(sources.disabled()));
                }
                entered
            }
            Wanted::Policy(step) => {
                let planned = sources.plan(&rules.policies, &step, self.gateway.clock.now_ms())?;
                let entered = record(&before, &[])?;
                if entered.is_some() {
                    self.take(&mut sources, planned, &rules);
                }
                entered
            }
        };
        Ok(entered)
    }

    /// Takes away the rules that have ended. How long it is until the next one does, in milliseconds.
    pub(super) fn expire(&self) -> Option<u64> {
        let ledger = &self.gateway.ledger;
        let now_ms = ledger.now_ms();
        let mut sources = self.sources.lock();
        let from_ms = sources.parts.rules.next_end()?.max(sources.expire_from_ms);
        if from_ms > now_ms {
            return u64::try_from(from_ms.saturating_sub(now_ms)).ok();
        }
        let ended = sources.parts.rules.ended(now_ms, ENDED_MAX);
        let mut book = RuleBook::clone(&sources.parts.rules);
        book.end(&ended);
        let rules = self.gateway.rules.load_full();
        let changed = ended.iter().map(|rule| rule.policy());
        let changed = changed.filter(|policy| sources.takes_rules(&rules.policies, policy, &[]));
        let outcome = with_rules(&rules.policies, &sources.confs, &book, changed)
            .map_err(|fault| fault.to_string())
            .and_then(|policies| {
                let changes = ended.iter().map(|rule| expired(ledger, rule)).collect();
                let entered = ledger.change_together(changes).map_err(|error| error.to_string());
                entered.map(|_| policies)
            });
        match outcome {
            Ok(policies) => {
                sources.parts.rules = Arc::new(book);
                self.put_in_force(&sources, rules.with_policies(policies));
                tracing::info!(rules = ended.len(), "rules have ended");
                // More of them may wait.
                return Some(0);
            }
            Err(error) => {
                // They stay in force: without them the others do not go together.
                tracing::error!("rules that have ended cannot be taken away: {error}");
                sources.expire_from_ms = now_ms.saturating_add(RETRY_MS);
            }
        }
        None
    }

    /// The rules before are kept until the next swap: the ten thousand patterns of their policies are not freed by the
    /// request that is the last to let go of them.
    fn put_in_force(&self, sources: &Sources, rules: Rules) {
        self.gateway.ledger.set_digests(digests(&rules.prices, &rules.policies));
        let is_same = Arc::ptr_eq(&rules.policies, &self.gateway.rules.load().policies);
        let recorded = match is_same {
            true => rules.recorded,
            false => sources.record(&self.gateway.ledger, &rules.policies),
        };
        let rules = rules.recorded_as(recorded);
        let before = self.gateway.rules.swap(Arc::new(rules));
        *self.replaced.lock() = Some(before);
    }
}

fn replace(rows: &mut BTreeMap<String, PriceRow>, name: String, row: Option<PriceRow>) {
    match row {
        Some(row) => rows.insert(name, row),
        None => rows.remove(&name),
    };
}

pub(super) fn expired(ledger: &Ledger, rule: &Rule) -> Change {
    let at_ms = ledger.decision_ms();
    Change {
        id: change_id(at_ms),
        at_ms,
        author: OWN_NAME.into(),
        peer: OWN_NAME.into(),
        action: "rule.expire".into(),
        subject: format!("{RULE}{}", rule.id).into(),
        tenant: crate::runtime::tenant_of(&rule.list, &rule.value)
            .unwrap_or_default()
            .into(),
        note: "".into(),
        before: Some(rule.document().to_string().into()),
        after: None,
        kept: true,
        min_version: 0,
        request: None,
    }
}

/// A fault as the author of a change needs it: what of theirs does not fit, or what theirs does not go with.
fn refused(fault: Fault, steps: &[Step]) -> RpcError {
    let removes = steps.iter().all(|step| step.after.is_none());
    let (whole, without) = if removes {
        ("id", "without it, ")
    } else {
        ("value", "with it, ")
    };
    let Fault { policy, place, text } = fault;
    let refused = match place {
        Place::Rule(id, path) if steps.iter().any(|step| step.id == id && step.after.is_some()) => {
            Refused::Unfit { path, text }
        }
        Place::Rule(id, path) => Refused::unfit(whole, format!("does not fit: {without}{path} of rule {id} {text}")),
        Place::File(path) if path.is_empty() => {
            Refused::unfit(whole, format!("does not fit the policy {policy}: {text}"))
        }
        Place::File(path) => Refused::unfit(whole, format!("does not fit: {without}{path} of the file {text}")),
    };
    refused.into()
}
