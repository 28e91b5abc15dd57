//! Policies that shall be tried: files and confs in place of those that are in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::base::{RecordedBase, RecordedPolicy};
use super::rules::patient;
use crate::policy::{PolicyError, PolicySet, Source};
use crate::runtime::{Parts, PolicyBook, RuleBook, with_rules};

/// What takes the place of what is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amendment {
    /// Policies, by the names that they give themselves.
    pub policies: Vec<Source>,
    /// Confs, by the policies' names: each in the place of what the file says. Rules of operators lie over them.
    pub confs: BTreeMap<String, Value>,
    /// No policy has another conf than these.
    pub confs_are_all: bool,
}

impl Amendment {
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.confs.is_empty() && !self.confs_are_all
    }

    pub fn amend(&self, base: &mut RecordedBase) {
        for source in &self.policies {
            let amended = RecordedPolicy {
                name: source.name.clone(),
                origin: source.origin.clone(),
                text: source.text.clone(),
            };
            base.shadow_only.remove(&source.name);
            match base.policies.iter_mut().find(|policy| policy.name == source.name) {
                Some(policy) => *policy = amended,
                None => base.policies.push(amended),
            }
        }
        if self.confs_are_all {
            base.confs.clear();
        }
        for (policy, conf) in &self.confs {
            base.confs.insert(policy.clone(), conf.clone());
        }
    }
}

/// What is in force now, of which a candidate is made.
#[derive(Clone, Default)]
pub struct Present {
    pub base: RecordedBase,
    pub rules: Arc<RuleBook>,
    /// The versions that were put, in force or not.
    pub versions: Arc<PolicyBook>,
}

impl Present {
    pub fn of(policies: &PolicySet, confs: &BTreeMap<String, Value>, parts: &Parts) -> Present {
        Present {
            base: RecordedBase::of(policies, confs),
            rules: Arc::clone(&parts.rules),
            versions: Arc::clone(&parts.policies),
        }
    }

    pub fn has(&self, policy: &str) -> bool {
        self.base.policies.iter().any(|present| present.name == policy)
    }

    /// The set that would be in force with this.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn with(&self, amendment: &Amendment) -> Result<Arc<PolicySet>, String> {
        let mut base = self.base.clone();
        amendment.amend(&mut base);
        let lines = |errors: Vec<PolicyError>| {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            all.join("\n")
        };
        let plain = base.load(patient()).map_err(lines)?;
        // One that only the store has may have a conf before a version of it is in force.
        let unknown = plain.unknown(base.confs.keys().filter(|policy| !self.versions.has(policy)));
        if !unknown.is_empty() {
            return Err(lines(unknown));
        }
        // Rules of a policy that only the store has wait until one of its versions is in force.
        let ruled = self.rules.policies().filter(|policy| plain.policy(policy).is_some());
        let set = with_rules(&plain, &base.confs, &self.rules, ruled);
        set.map(Arc::new).map_err(|fault| fault.to_string())
    }
}
