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

use super::{Confs, LaunchError, LoadedSetup, digests, policies, refuse_exposure};
use crate::config::Config;
use crate::control::{Plan, Record, RpcError};
use crate::policy::PolicySet;
use crate::price::PriceBook;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::rules::Rules;
use crate::replay::base::recorded_base;
use crate::runtime::prices::{PriceRow, with_rows};
use crate::runtime::{
    Fault, InForce, Parts, Place, RULE, Refused, Rule, RuleBook, Step, Wanted, change_id, documents_of, with_rules,
};

/// Who changes what nobody else did.
const OWN_NAME: &str = "agentledger";
/// Rules that end at a time; more follow at once.
const ENDED_MAX: usize = 256;
/// A rule that cannot be taken away now is tried again after so long.
const RETRY_MS: i64 = 10_000;

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

/// What the rules in force are made of.
pub(super) struct Sources {
    /// What the file says to the policies.
    confs: Arc<Confs>,
    /// The books of the files.
    prices: PriceBook,
    /// What operators changed.
    parts: Parts,
    /// No rule is taken away before, milliseconds since the epoch: one could not.
    expire_from_ms: i64,
}

impl Sources {
    /// Reads what operators changed, and ends the rules that ended while no gateway ran.
    ///
    /// # Errors
    /// The ledger's documents cannot be read, or not be changed.
    pub fn open(ledger: &Ledger, confs: Confs, prices: PriceBook) -> Result<Sources, LaunchError> {
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
            prices,
            parts,
            expire_from_ms: i64::MIN,
        })
    }

    /// The policies and prices of the files with what operators changed over them.
    pub fn over(&self, policies: &PolicySet) -> Result<(PolicySet, PriceBook), LaunchError> {
        let rules = &self.parts.rules;
        let policies = with_rules(policies, &self.confs, rules, rules.policies()).map_err(LaunchError::RuntimeRule)?;
        let prices = with_rows(&self.prices, &self.parts.prices).map_err(LaunchError::RuntimePrice)?;
        Ok((policies, prices))
    }

    /// Has the journal say what is in force from now on; the id by which decisions name it.
    pub fn record(&self, ledger: &Ledger, policies: &PolicySet) -> u64 {
        ledger.put_in_force(policies.digest(), &recorded_base(policies, &self.confs))
    }

    pub fn disabled(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.parts.disabled)
    }
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
        let next = Sources {
            confs: Arc::new(loaded.confs),
            prices: loaded.prices,
            parts: sources.parts.clone(),
            expire_from_ms: i64::MIN,
        };
        let (policies, prices) = next.over(&loaded.policies)?;
        let rules = Rules::new(
            Arc::clone(&config),
            &loaded.plugins,
            prices,
            policies,
            fingerprints,
            Some(&before),
        )?;
        *sources = next;
        self.put_in_force(&sources, rules);
        self.config.store(config);
        Ok(())
    }

    /// Puts the policies in force as their files are now, and nothing else: a change of a rule costs no other reading.
    pub fn reload_policies(&self) -> Result<(), LaunchError> {
        let mut sources = self.sources.lock();
        let rules = self.gateway.rules.load_full();
        let (policies, confs) = policies(&rules.config)?;
        let next = Sources {
            confs: Arc::new(confs),
            prices: sources.prices.clone(),
            parts: sources.parts.clone(),
            expire_from_ms: i64::MIN,
        };
        let (policies, _) = next.over(&policies)?;
        *sources = next;
        self.put_in_force(&sources, rules.with_policies(policies));
        Ok(())
    }

    pub fn in_force(&self) -> InForce {
        self.view(&self.sources.lock())
    }

    fn view(&self, sources: &Sources) -> InForce {
        InForce {
            policies: Arc::clone(&self.gateway.rules.load().policies),
            file: Arc::clone(&sources.confs),
            parts: sources.parts.clone(),
        }
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
                let changed: BTreeSet<&str> = steps.iter().flat_map(Step::policies).collect();
                let policies = with_rules(&rules.policies, &sources.confs, &book, changed.iter().copied())
                    .map_err(|fault| refused(fault, &steps))?;
                for policy in changed {
                    self.try_out(policy, &policies, &rules.policies)?;
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
        };
        Ok(entered)
    }

    /// Refuses a conf by which a policy fails at a made-up call that it did not fail at before.
    fn try_out(&self, policy: &str, next: &PolicySet, now: &PolicySet) -> Result<(), RpcError> {
        let at_ms = self.gateway.clock.now_ms();
        match next.probe(policy, at_ms) {
            Err(failure) if now.probe(policy, at_ms).is_ok() => {
                let text = format!("makes the policy {policy} fail on requests: {}", failure.message);
                Err(Refused::unfit("value", text).into())
            }
            _ => Ok(()),
        }
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

fn expired(ledger: &Ledger, rule: &Rule) -> Change {
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
