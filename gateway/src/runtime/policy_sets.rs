//! The policies of the store over those of the files, with the rules over both.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::Clock;
use serde_json::Value;

use super::in_force::merged_conf;
use super::policy_book::{PolicyBook, StoredVersion, short};
use super::policy_record::{Activation, Rehearsal};
use super::{Fault, RuleBook, with_rules};
use crate::policy::{Excess, FailureLimit, OnExceeded, PolicyError, PolicySet, Source, Tally, TallyCounts, Version};

/// A version that should be in force or in shadow, and cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedVersion {
    pub policy: String,
    /// Empty where what stands of the policy could not be read.
    pub hash: String,
    pub text: String,
    /// What is in force in its place: a hash; empty for the file's, or none.
    pub instead: String,
}

impl std::fmt::Display for RefusedVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RefusedVersion {
            policy,
            hash,
            text,
            instead,
        } = self;
        let instead = match instead.as_str() {
            "" => "what the files say of it is in force".to_owned(),
            hash => format!("version {} is in force", short(hash)),
        };
        match hash.as_str() {
            "" => write!(
                f,
                "what the store says of the policy {policy} cannot be read, {instead}: {text}"
            ),
            hash => write!(
                f,
                "version {} of the policy {policy} is refused, {instead}: {text}",
                short(hash)
            ),
        }
    }
}

/// Where a version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    InForce,
    Shadow,
}

/// One count, and of what it is: the hash, and since when it stands there.
#[derive(Clone)]
struct Counted {
    hash: String,
    since_ms: i64,
    tally: Arc<Tally>,
}

/// The counts of versions where they stand. They go on when other rules or files come into force. A clone counts on in the same
/// places.
#[derive(Clone)]
pub struct Tallies {
    limit: Option<FailureLimit>,
    on_exceeded: OnExceeded,
    clock: Arc<dyn Clock>,
    counted: BTreeMap<(String, Place), Counted>,
}

impl Tallies {
    pub fn new(limit: Option<FailureLimit>, on_exceeded: OnExceeded, clock: Arc<dyn Clock>) -> Tallies {
        Tallies {
            limit,
            on_exceeded,
            clock,
            counted: BTreeMap::new(),
        }
    }

    /// Counts by another limit; what was counted so far is forgotten.
    pub fn limit_to(&mut self, limit: Option<FailureLimit>) {
        if self.limit != limit {
            self.limit = limit;
            self.counted.clear();
        }
    }

    fn of(&mut self, policy: &str, place: Place, hash: &str, since_ms: i64) -> Arc<Tally> {
        let key = (policy.to_owned(), place);
        let known = self.counted.get(&key);
        if let Some(known) = known.filter(|known| known.hash == hash && known.since_ms == since_ms) {
            return Arc::clone(&known.tally);
        }
        let (on_exceeded, clock) = (Arc::clone(&self.on_exceeded), Arc::clone(&self.clock));
        Arc::new(Tally::new(self.limit, on_exceeded, clock))
    }

    /// From now on this is what stands there.
    fn keep(&mut self, policy: &str, place: Place, hash: &str, since_ms: i64, tally: Arc<Tally>) {
        let counted = Counted {
            hash: hash.to_owned(),
            since_ms,
            tally,
        };
        self.counted.insert((policy.to_owned(), place), counted);
    }

    /// Nothing stands there any more.
    fn forget(&mut self, policy: &str, place: Place) {
        self.counted.remove(&(policy.to_owned(), place));
    }

    pub fn counts(&self, policy: &str, place: Place) -> TallyCounts {
        let found = self.counted.get(&(policy.to_owned(), place));
        found.map(|counted| counted.tally.counts()).unwrap_or_default()
    }

    /// Versions of which more calls failed than may.
    pub fn failing(&self) -> Vec<FailingVersion> {
        let row = |((policy, place), counted): (&(String, Place), &Counted)| {
            Some(FailingVersion {
                policy: policy.clone(),
                place: *place,
                hash: counted.hash.clone(),
                since_ms: counted.since_ms,
                excess: counted.tally.excess()?,
            })
        };
        self.counted.iter().filter_map(row).collect()
    }
}

/// A version of which more calls failed than may.
pub struct FailingVersion {
    pub policy: String,
    pub place: Place,
    pub hash: String,
    /// Since when it stands there, milliseconds since the epoch.
    pub since_ms: i64,
    pub excess: Excess,
}

/// What all policies are made of.
pub struct Ingredients<'a> {
    /// The files and the built-in ones, with what the configuration says to them.
    pub files: &'a PolicySet,
    pub confs: &'a BTreeMap<String, Value>,
    pub rules: &'a RuleBook,
    pub book: &'a PolicyBook,
}

/// A policy as it comes to stand.
pub struct Composed {
    pub set: PolicySet,
    /// The version of the store that is in force.
    pub effective: Option<Activation>,
    pub refused: Vec<RefusedVersion>,
}

/// All policies as they come to stand.
pub struct ComposedAll {
    pub set: PolicySet,
    /// By policy, the version of the store that is in force.
    pub effective: BTreeMap<String, Activation>,
    pub refused: Vec<RefusedVersion>,
}

fn lines(errors: &[PolicyError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Ingredients<'_> {
    fn conf(&self, policy: &str) -> &Value {
        self.confs.get(policy).unwrap_or(&Value::Null)
    }

    /// Why a version is not here.
    fn missing(&self, policy: &str, hash: &str) -> String {
        let unread = self.book.unread().iter();
        let mut known = unread.filter(|unread| unread.policy == policy && unread.hash == hash);
        let text = known.next().map(|unread| unread.text.as_str());
        format!(
            "the store cannot read it back: {}",
            text.unwrap_or("there is no such version in it")
        )
    }

    fn kept(&self, policy: &str, hash: &str) -> Result<&Arc<StoredVersion>, String> {
        let kept = self.book.version(policy, hash);
        kept.ok_or_else(|| self.missing(policy, hash))
    }

    /// A set with a version of a policy in force, or with what the files say of it; with its rules.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn with_activation(
        &self,
        set: &PolicySet,
        policy: &str,
        activation: Option<&Activation>,
        tallies: &mut Tallies,
    ) -> Result<PolicySet, String> {
        let conf = self.conf(policy);
        let place = Place::InForce;
        let version = activation.map(|activation| {
            let kept = self.kept(policy, &activation.hash)?;
            let tally = tallies.of(policy, place, &activation.hash, activation.since_ms);
            Ok::<_, String>(version(kept, activation.shadow_only, tally))
        });
        let version = version.transpose()?;
        let tally = version.as_ref().map(|version| Arc::clone(&version.tally));
        let next = set.with_in_force(policy, self.files, version, conf);
        let next = self.with_own_rules(next.map_err(|errors| lines(&errors))?, policy);
        let next = next.map_err(|fault| fault.to_string())?;
        match (activation, tally) {
            (Some(Activation { hash, since_ms, .. }), Some(tally)) => {
                tallies.keep(policy, place, hash, *since_ms, tally)
            }
            _ => tallies.forget(policy, place),
        }
        Ok(next)
    }

    fn with_own_rules(&self, set: PolicySet, policy: &str) -> Result<PolicySet, Fault> {
        if set.policy(policy).is_none() || self.rules.of(policy).next().is_none() {
            return Ok(set);
        }
        with_rules(&set, self.confs, self.rules, [policy])
    }

    /// A set with a version that runs beside a policy, in shadow, or with none.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn with_rehearsal(
        &self,
        set: &PolicySet,
        policy: &str,
        rehearsal: Option<&Rehearsal>,
        tallies: &mut Tallies,
    ) -> Result<PolicySet, String> {
        let Some(Rehearsal { hash, since_ms, .. }) = rehearsal else {
            tallies.forget(policy, Place::Shadow);
            let without = set.with_candidate(policy, None, &Value::Null);
            return without.map_err(|errors| lines(&errors));
        };
        let kept = self.kept(policy, hash)?;
        let tally = tallies.of(policy, Place::Shadow, hash, *since_ms);
        let conf = match set.policy(policy) {
            Some(_) => {
                merged_conf(set, policy, self.confs.get(policy), self.rules).map_err(|fault| fault.to_string())?
            }
            None => self.conf(policy).clone(),
        };
        let version = version(kept, true, Arc::clone(&tally));
        let next = set.with_candidate(policy, Some(version), &conf);
        let next = next.map_err(|errors| lines(&errors))?;
        tallies.keep(policy, Place::Shadow, hash, *since_ms, tally);
        Ok(next)
    }

    /// A set with what stands of a policy in the store, as far as that can be: where the version that should be in force
    /// cannot, the one before it is, and before the first what the files say.
    pub fn composed(&self, set: &PolicySet, policy: &str, tallies: &mut Tallies) -> Composed {
        let mut refused: Vec<RefusedVersion> = Vec::new();
        let refuse = |hash: &str, text: String| RefusedVersion {
            policy: policy.to_owned(),
            hash: hash.to_owned(),
            text,
            instead: String::new(),
        };
        let unread = self.book.unread().iter();
        let unread = unread.filter(|unread| unread.policy == policy && unread.hash.is_empty());
        refused.extend(unread.map(|unread| refuse("", unread.text.clone())));
        let record = self.book.record(policy).map(|kept| &kept.record);
        let (mut composed, mut effective) = (None, None);
        for activation in record.into_iter().flat_map(|record| record.candidates()) {
            match self.with_activation(set, policy, Some(activation), tallies) {
                Ok(next) => {
                    (composed, effective) = (Some(next), Some(activation.clone()));
                    break;
                }
                Err(text) => refused.push(refuse(&activation.hash, text)),
            }
        }
        // What the files say loaded when they were read.
        let mut set = composed.unwrap_or_else(|| {
            let files = set.with_in_force(policy, self.files, None, &Value::Null);
            files.unwrap_or_else(|_| set.clone())
        });
        if effective.is_none() {
            tallies.forget(policy, Place::InForce);
        }
        let instead = effective
            .as_ref()
            .map(|activation| activation.hash.clone())
            .unwrap_or_default();
        refused
            .iter_mut()
            .for_each(|refused| refused.instead.clone_from(&instead));
        if let Some(rehearsal) = record.and_then(|record| record.shadow.as_ref()) {
            match self.with_rehearsal(&set, policy, Some(rehearsal), tallies) {
                Ok(next) => set = next,
                Err(text) => refused.push(RefusedVersion {
                    instead,
                    ..refuse(&rehearsal.hash, format!("it does not run in shadow: {text}"))
                }),
            }
        }
        Composed {
            set,
            effective,
            refused,
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// Rules that do not fit a policy of the files.
    pub fn all(&self, tallies: &mut Tallies) -> Result<ComposedAll, Fault> {
        let (mut set, mut effective, mut refused) =
            (self.files.clone(), BTreeMap::<String, Activation>::new(), Vec::new());
        let mut policies = self.book.policies();
        policies.extend(self.book.unread().iter().map(|unread| unread.policy.as_str()));
        for policy in policies {
            let composed = self.composed(&set, policy, tallies);
            set = composed.set;
            refused.extend(composed.refused);
            if let Some(activation) = composed.effective {
                effective.insert(policy.to_owned(), activation);
            }
        }
        let left = self.rules.policies().filter(|policy| !effective.contains_key(*policy));
        let set = with_rules(
            &set,
            self.confs,
            self.rules,
            left.filter(|policy| self.takes_rules(&set, policy)),
        )?;
        Ok(ComposedAll {
            set,
            effective,
            refused,
        })
    }

    /// Rules of a policy that only the store has wait while none of its versions is in force.
    pub fn takes_rules(&self, set: &PolicySet, policy: &str) -> bool {
        set.policy(policy).is_some() || !self.book.has(policy)
    }
}

fn version(kept: &StoredVersion, shadow_only: bool, tally: Arc<Tally>) -> Version {
    Version {
        source: source(kept),
        shadow_only,
        tally,
    }
}

/// A kept text as a policy is compiled of it.
pub fn source(kept: &StoredVersion) -> Source {
    Source {
        name: kept.policy.clone(),
        text: kept.text.to_string(),
        origin: kept.origin(),
    }
}
