//! Which budgets would hold for an account: asked of the policies with a made-up call that belongs to it. So an operator learns
//! that a change reaches nothing, or not what was meant, whatever the policies are.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::Name;

use super::balances::{Balances, NoBalances};
use super::engine::PolicyFailure;
use super::glob::Glob;
use super::probe::with_call;
use super::set::{Phase, PolicySet};
use super::verdict::RequestedBound;
use super::vm::Vm;
use crate::secret::Secret;

const KEY_KIND: &str = "key";
const MODEL_KIND: &str = "model";

/// The policies of a set, ready to be asked about one account after another.
pub struct AskedBounds(Vm);

impl PolicySet {
    /// # Errors
    /// The set cannot be made ready.
    pub fn asked_bounds(&self) -> Result<AskedBounds, PolicyFailure> {
        self.load_vm().map(AskedBounds)
    }
}

impl AskedBounds {
    /// The budgets that a call of the account would be given at a moment, those on the account itself. `account`: one account, a
    /// pattern (`agent:ci-*`) or a kind alone; `key`: the raw key. `None`: it would be given none, for a policy denies it or fails.
    pub fn on(&self, account: &str, key: &str, at_ms: i64) -> Option<Vec<RequestedBound>> {
        let (kind, name) = kind_and_name(account);
        let key = Secret::new(key.to_owned());
        let mut tags = BTreeMap::new();
        let mut own = account.to_owned();
        let models: Vec<String> = name.clone().into_iter().collect();
        let balances: Arc<dyn Balances> = Arc::new(NoBalances);
        let answer = with_call(at_ms, |facts| {
            let mut facts = *facts;
            facts.key = &key;
            for (fact_kind, fact) in [
                (KEY_KIND, &mut facts.fingerprint),
                ("tenant", &mut facts.tenant),
                ("user", &mut facts.user),
                ("agent", &mut facts.agent),
                ("session", &mut facts.session),
                ("task", &mut facts.task),
                (MODEL_KIND, &mut facts.model),
                ("provider", &mut facts.provider),
            ] {
                if fact_kind == kind {
                    *fact = name.as_deref().unwrap_or(*fact);
                    own = format!("{kind}:{fact}");
                }
            }
            if let Some(tag) = kind.strip_prefix("tag:") {
                let value = name.as_deref().unwrap_or_default();
                tags.insert(Name::from(tag), Name::from(value));
                own = format!("{kind}={value}");
            }
            facts.tags = &tags;
            if kind == MODEL_KIND && !models.is_empty() {
                facts.models = &models;
            }
            self.0.ask(Phase::Request, &facts, &balances, false)
        });
        if answer.failure.is_some() || answer.verdict.deny.is_some() {
            return None;
        }
        let mut bounds = answer.verdict.bounds;
        bounds.retain(|bound| **bound.bound.account() == *own);
        Some(bounds)
    }
}

/// A key that fits a pattern; `None` where the pattern is none.
pub fn sample_key(pattern: &str) -> Option<String> {
    Glob::new(pattern).ok().map(|glob| glob.sample())
}

/// `agent` and a name that fits; `tag:team` and a value; no name for a kind alone.
fn kind_and_name(account: &str) -> (String, Option<String>) {
    let sample = |name: &str| sample_key(name).unwrap_or_else(|| name.to_owned());
    if let Some(tag) = account.strip_prefix("tag:") {
        return match tag.split_once('=') {
            Some((tag, value)) => (format!("tag:{tag}"), Some(sample(value))),
            None => (account.to_owned(), None),
        };
    }
    match account.split_once(':') {
        Some((kind, name)) => (kind.to_owned(), Some(sample(name))),
        None => (account.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{Options, builtin_sources};

    fn limits_on(conf: &Value, account: &str, key: &str) -> Vec<String> {
        let confs = BTreeMap::from([("budget".to_owned(), conf.clone())]);
        let set = PolicySet::load(builtin_sources(), &confs, Options::default()).unwrap();
        let bounds = set.asked_bounds().unwrap().on(account, key, 1_795_996_800_000).unwrap();
        let line = |bound: RequestedBound| {
            let bound = bound.bound;
            format!(
                "{} {} {}",
                bound.account(),
                bound.window().name(),
                bound.limit().count()
            )
        };
        bounds.into_iter().map(line).collect()
    }

    #[test]
    fn the_limits_of_an_account_are_those_that_its_calls_would_be_given() {
        let conf = json!({
            "default": {"daily_limit_usd": 1, "action": "block"},
            "rules": [{"api_key_pattern": "sk-[d]ev-?", "daily_limit_usd": 2}],
            "global": {"monthly_limit_usd": 3},
            "limits": [
                {"account": "agent:ci-*", "window": "hour", "limit": 4, "unit": "requests"},
                {"account": "tag:team=ml", "window": "day", "limit": 5, "unit": "requests"},
                {"account": "model", "window": "week", "limit": 6, "unit": "requests"},
            ],
        });
        for (account, key, expected) in [
            ("key", "sk-x", "key:000000000000000000000000 day 1000000000"),
            ("key:abc", "sk-x", "key:abc day 1000000000"),
            ("key:abc", &sample_key("sk-[d]ev-?").unwrap(), "key:abc day 2000000000"),
            ("global", "sk-x", "global month 3000000000"),
            ("agent:ci-7", "sk-x", "agent:ci-7 hour 4"),
            ("agent:ci-*", "sk-x", "agent:ci- hour 4"),
            ("tag:team=ml", "sk-x", "tag:team=ml day 5"),
            ("model:o3", "sk-x", "model:o3 week 6"),
        ] {
            assert_eq!(limits_on(&conf, account, key), [expected], "{account}");
        }
        for account in ["agent", "agent:other", "tenant:acme", "tag:team=web", "key "] {
            assert_eq!(limits_on(&conf, account, "sk-x"), Vec::<String>::new(), "{account}");
        }
    }
}
