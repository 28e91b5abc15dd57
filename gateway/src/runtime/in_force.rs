//! The policies as files and rules make them together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::merge::{Merged, Place, merge};
use super::{Refused, RuleBook};
use crate::policy::{ConfFault, PolicySet};

/// A rule, or what the file says, that does not fit with all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub policy: String,
    pub place: Place,
    pub text: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fault { policy, place, text } = self;
        match place {
            Place::Rule(id, path) => write!(
                f,
                "runtime rule {id} does not fit the policy {policy}: {path} {text} (`agentledger rules delete {id}` takes it away)"
            ),
            Place::File(path) if path.is_empty() => write!(
                f,
                "the policy {policy} does not take its runtime rules: {text} (`agentledger rules list` shows them, \
                 `agentledger rules delete ID` takes one away)"
            ),
            Place::File(path) => write!(
                f,
                "the policy {policy} does not take the file's conf with the runtime rules: {path} {text} (`agentledger rules \
                 list` shows the rules, `agentledger rules delete ID` takes one away)"
            ),
        }
    }
}

/// What the file and the rules say to a policy together.
///
/// # Errors
/// A rule that has no place in it.
pub fn merged_conf(set: &PolicySet, policy: &str, file: Option<&Value>, rules: &RuleBook) -> Result<Value, Fault> {
    merged(set, policy, file, rules).map(|merged| merged.conf)
}

fn merged(set: &PolicySet, policy: &str, file: Option<&Value>, rules: &RuleBook) -> Result<Merged, Fault> {
    let fault = |place: Place, text: String| Fault {
        policy: policy.to_owned(),
        place,
        text,
    };
    merge(set, policy, file, rules.of(policy)).map_err(|(id, refused)| match refused {
        Refused::Unfit { path, text } => fault(Place::Rule(id, path), text),
        other => fault(Place::Rule(id, "value".to_owned()), other.to_string()),
    })
}

/// The set with the rules of some policies over what the file says to them; no other policy is made anew.
///
/// # Errors
/// The first that does not fit.
pub fn with_rules<'a>(
    set: &PolicySet,
    file: &BTreeMap<String, Value>,
    rules: &RuleBook,
    policies: impl IntoIterator<Item = &'a str>,
) -> Result<PolicySet, Fault> {
    let mut merges: BTreeMap<&str, Merged> = BTreeMap::new();
    for policy in policies.into_iter().collect::<BTreeSet<_>>() {
        let fault = |place: Place, text: String| Fault {
            policy: policy.to_owned(),
            place,
            text,
        };
        if set.policy(policy).is_none() {
            let names: Vec<&str> = set.policies().map(|policy| policy.name).collect();
            let text = format!("there is no policy {policy:?}; there are {}", names.join(", "));
            let place = match rules.of(policy).next_back() {
                Some(rule) => Place::Rule(rule.id, "list".to_owned()),
                None => Place::File(String::new()),
            };
            return Err(fault(place, text));
        }
        merges.insert(policy, merged(set, policy, file.get(policy), rules)?);
    }
    let confs = merges.iter_mut().map(|(policy, merged)| {
        // What came from where is known without the conf itself.
        ((*policy).to_owned(), std::mem::take(&mut merged.conf))
    });
    let confs: BTreeMap<String, Value> = confs.collect();
    set.with_confs(&confs).map_err(|(policy, faults)| {
        let first = faults.into_iter().next();
        let ConfFault { path, message } = first.unwrap_or_else(|| ConfFault {
            path: String::new(),
            message: "does not fit".to_owned(),
        });
        let place = match merges.get(policy.as_str()) {
            Some(merged) if !path.is_empty() => merged.place(&path),
            _ => Place::File(path),
        };
        Fault {
            policy,
            place,
            text: message,
        }
    })
}
