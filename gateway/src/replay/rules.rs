//! The policies that were in force, put together again from the journal: bases as they were written, and the documents over them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use agentledger_ledger::{Base, Change, Documents, InForce};
use ulid::Ulid;

use super::base::RecordedBase;
use super::candidate::Amendment;
use crate::policy::{Options, PolicySet};
use crate::runtime::{RULE, Rule, RuleBook, with_rules};

/// Sets that are kept: decisions go by the newest, and for a moment by the one before.
const SETS_MAX: usize = 8;

/// The sets by the ids that decisions name, and the rules of this moment.
pub struct KnownRules {
    /// Laid over every set: what shall be tried in place of what was in force.
    amendment: Option<Amendment>,
    bases: HashMap<u64, Arc<LoadedBase>>,
    sets: BTreeMap<u64, Result<Arc<PolicySet>, Arc<str>>>,
    book: RuleBook,
    /// Policies whose rules changed since the newest set.
    changed: BTreeSet<String>,
    newest: Option<u64>,
}

/// A base, and the set that it makes without any rule.
struct LoadedBase {
    base: RecordedBase,
    plain: PolicySet,
}

impl KnownRules {
    pub fn new(amendment: Option<Amendment>) -> KnownRules {
        KnownRules {
            amendment,
            bases: HashMap::new(),
            sets: BTreeMap::new(),
            book: RuleBook::default(),
            changed: BTreeSet::new(),
            newest: None,
        }
    }

    /// The rules as a month opens.
    pub fn open(&mut self, documents: &Documents) {
        self.book = RuleBook::default();
        for document in documents.of(RULE) {
            let id = id_of(&document.subject);
            if let Some(rule) = id.and_then(|id| Rule::read(id, document).ok()) {
                self.book.insert(Arc::new(rule));
            }
        }
        self.changed.extend(self.book.policies().map(str::to_owned));
    }

    /// A rule changed.
    pub fn change(&mut self, change: &Change) {
        let Some(id) = id_of(&change.subject).filter(|_| change.kept) else {
            return;
        };
        if let Some(before) = self.book.get(id).cloned() {
            self.changed.insert(before.policy().to_owned());
            self.book.end(&[before]);
        }
        let rule = change.after.as_ref().and_then(|text| Rule::of_value(id, text).ok());
        if let Some(rule) = rule {
            self.changed.insert(rule.policy().to_owned());
            self.book.insert(Arc::new(rule));
        }
    }

    /// What is in force from now on.
    pub fn see(&mut self, sequence: u64, in_force: &InForce) {
        let id = in_force.id(sequence);
        let known = self.sets.get(&id).is_some_and(Result::is_ok);
        if let Base::Whole(bytes) = &in_force.base {
            // A month that begins writes the base anew.
            if !self.bases.contains_key(&id) {
                match self.load(bytes) {
                    Ok(base) => {
                        self.bases.insert(id, Arc::new(base));
                        self.changed.extend(self.book.policies().map(str::to_owned));
                        self.newest = None;
                    }
                    Err(why) => {
                        self.put(id, Err(why.into()));
                        return;
                    }
                }
            }
        }
        if known {
            return;
        }
        let base = match in_force.base {
            Base::Whole(_) => id,
            Base::Of(base) => base,
        };
        let made = self.make(base, in_force.digest);
        self.put(id, made.map(Arc::new).map_err(Arc::from));
    }

    fn put(&mut self, id: u64, set: Result<Arc<PolicySet>, Arc<str>>) {
        self.newest = set.is_ok().then_some(id);
        self.sets.insert(id, set);
        while self.sets.len() > SETS_MAX {
            self.sets.pop_first();
        }
    }

    fn load(&self, bytes: &[u8]) -> Result<LoadedBase, String> {
        let mut base =
            RecordedBase::read(bytes).map_err(|error| format!("what was in force cannot be read: {error}"))?;
        if let Some(amendment) = &self.amendment {
            amendment.amend(&mut base);
        }
        let plain = base.load(patient()).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            format!("this version of the program does not take the policies that were in force: {first}")
        })?;
        Ok(LoadedBase { base, plain })
    }

    /// The set of a base and the rules of this moment, which must be the one that was recorded.
    fn make(&mut self, base: u64, digest: [u8; 32]) -> Result<PolicySet, String> {
        let loaded = self.bases.get(&base).map(Arc::clone);
        let loaded = loaded.ok_or("what was in force stands in a month that is not there any more")?;
        let changed = std::mem::take(&mut self.changed);
        let newest = self.newest.and_then(|id| self.sets.get(&id)?.as_ref().ok().cloned());
        let over = newest.as_deref().unwrap_or(&loaded.plain);
        let of = if newest.is_some() {
            changed
        } else {
            self.book.policies().map(str::to_owned).collect()
        };
        let of = of
            .iter()
            .map(String::as_str)
            .filter(|policy| over.policy(policy).is_some());
        let set = with_rules(over, &loaded.base.confs, &self.book, of).map_err(|fault| fault.to_string())?;
        if self.amendment.is_none() && set.digest() != digest {
            return Err("the policies that were in force cannot be put together again".to_owned());
        }
        Ok(set)
    }

    /// The set that a decision names.
    ///
    /// # Errors
    /// Why there is none.
    pub fn get(&self, id: u64) -> Result<&Arc<PolicySet>, &str> {
        match self.sets.get(&id) {
            Some(Ok(set)) => Ok(set),
            Some(Err(why)) => Err(why),
            None => Err("what was in force is not recorded"),
        }
    }
}

fn id_of(subject: &str) -> Option<Ulid> {
    Ulid::from_string(subject.strip_prefix(RULE)?).ok()
}

/// No deadline that a replay on a busy machine could miss, by far: what was decided in time then is decided now.
pub fn patient() -> Options {
    Options {
        deadline: std::time::Duration::from_secs(1),
        ..Options::default()
    }
}
