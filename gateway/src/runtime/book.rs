//! All rules that operators keep, and what an edit makes of one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentledger_ledger::Name;
use ulid::Ulid;

use super::{Refused, Rule};

/// All rules, in the order of their making. A clone shares the rules, and costs a pointer each.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    by_id: BTreeMap<Ulid, Arc<Rule>>,
    /// The ids of each policy's.
    by_policy: BTreeMap<String, BTreeSet<Ulid>>,
    /// When they end.
    ends: BTreeSet<(i64, Ulid)>,
}

/// A change of one rule, as it is wanted.
#[derive(Clone, Debug)]
pub struct Edit {
    pub id: Ulid,
    /// What it shall be, of this version at least. `None`: it shall go.
    pub after: Option<Rule>,
    /// The version that its author believes it to have; 0: that it is not there. `None`: whatever it is.
    pub if_version: Option<u64>,
    /// The change that it is recorded as, and why it is made.
    pub change: Ulid,
    pub note: Name,
}

impl Edit {
    /// Takes a rule away.
    pub fn removal(id: Ulid, change: Ulid, note: Name) -> Edit {
        Edit {
            id,
            after: None,
            if_version: None,
            change,
            note,
        }
    }
}

/// The same, as it comes out.
#[derive(Clone, Debug)]
pub struct Step {
    pub id: Ulid,
    pub before: Option<Arc<Rule>>,
    pub after: Option<Arc<Rule>>,
    pub change: Ulid,
    pub note: Name,
}

impl Step {
    /// The policies whose conf it changes.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        let rules = self.before.iter().chain(&self.after);
        rules.map(|rule| rule.policy())
    }
}

impl RuleBook {
    pub fn get(&self, id: Ulid) -> Option<&Arc<Rule>> {
        self.by_id.get(&id)
    }

    /// In the order of their making.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Rule>> {
        self.by_id.values()
    }

    /// A policy's rules, in the order of their making.
    pub fn of<'a>(&'a self, policy: &str) -> impl DoubleEndedIterator<Item = &'a Arc<Rule>> {
        let ids = self.by_policy.get(policy).into_iter().flatten();
        ids.filter_map(|id| self.by_id.get(id))
    }

    /// The policies that have rules here.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.by_policy.keys().map(String::as_str)
    }

    /// An id that comes after all others; where there is none any more, the one that was made.
    pub fn next_id(&self, made: Ulid) -> Ulid {
        let last = self.by_id.last_key_value().map(|(last, _)| u128::from(*last));
        let next = last
            .filter(|last| *last >= u128::from(made))
            .map(|last| last.checked_add(1));
        next.flatten().map_or(made, Ulid::from)
    }

    /// When the next rule ends, milliseconds since the epoch.
    pub fn next_end(&self) -> Option<i64> {
        self.ends.first().map(|(at_ms, _)| *at_ms)
    }

    /// The rules that have ended by then, the first so many.
    pub fn ended(&self, now_ms: i64, max: usize) -> Vec<Arc<Rule>> {
        let ended = self.ends.iter().take_while(|(at_ms, _)| *at_ms <= now_ms);
        ended
            .take(max)
            .filter_map(|(_, id)| self.by_id.get(id).cloned())
            .collect()
    }

    /// Takes away rules that have ended.
    pub fn end(&mut self, ended: &[Arc<Rule>]) {
        ended.iter().for_each(|rule| self.remove(rule.id));
    }

    /// What an edit makes of its rule, were it done now.
    ///
    /// # Errors
    /// The rule is not there, or not what the edit's author believes.
    pub fn step(&self, edit: Edit) -> Result<Step, Refused> {
        let before = self.by_id.get(&edit.id).cloned();
        let version = before.as_ref().map_or(0, |rule| rule.version);
        if let Some(believed) = edit.if_version.filter(|believed| *believed != version) {
            let id = edit.id;
            return Err(Refused::Conflict(match version {
                0 => format!("rule {id} is not there, and was believed to be of version {believed}"),
                _ => format!("rule {id} is of version {version}, and was believed to be of {believed}"),
            }));
        }
        if edit.after.is_none() && before.is_none() {
            return Err(Refused::NotFound(format!("there is no rule {}", edit.id)));
        }
        if let (Some(before), Some(after)) = (&before, &edit.after)
            && before.list != after.list
        {
            let text = format!("is {:?}, and rule {} is of {:?}", after.list, edit.id, before.list);
            return Err(Refused::unfit("list", text));
        }
        let after = edit.after.map(|rule| {
            Arc::new(Rule {
                id: edit.id,
                version: version.saturating_add(1).max(rule.version),
                change: edit.change,
                note: Name::clone(&edit.note),
                ..rule
            })
        });
        Ok(Step {
            id: edit.id,
            before,
            after,
            change: edit.change,
            note: edit.note,
        })
    }

    pub fn apply(&mut self, step: &Step) {
        self.remove(step.id);
        if let Some(rule) = &step.after {
            self.insert(Arc::clone(rule));
        }
    }

    fn remove(&mut self, id: Ulid) {
        let Some(old) = self.by_id.remove(&id) else { return };
        if let Some(ids) = self.by_policy.get_mut(old.policy()) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_policy.remove(old.policy());
            }
        }
        if let Some(at_ms) = old.expires_ms {
            self.ends.remove(&(at_ms, id));
        }
    }

    pub fn insert(&mut self, rule: Arc<Rule>) {
        self.by_policy
            .entry(rule.policy().to_owned())
            .or_default()
            .insert(rule.id);
        self.ends.extend(rule.expires_ms.map(|at_ms| (at_ms, rule.id)));
        self.by_id.insert(rule.id, rule);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn rule(list: &str, expires_ms: Option<i64>) -> Rule {
        let text = serde_json::json!({"list": list, "value": 1}).to_string();
        let rule = Rule::of_value(Ulid::nil(), &text).unwrap();
        Rule { expires_ms, ..rule }
    }

    fn edit(id: u128, after: Option<Rule>, if_version: Option<u64>) -> Edit {
        Edit {
            after,
            if_version,
            ..Edit::removal(Ulid::from(id), Ulid::nil(), "".into())
        }
    }

    #[test]
    fn an_edit_counts_where_its_author_knows_what_is_there() {
        let mut book = RuleBook::default();
        assert!(matches!(book.step(edit(1, None, None)), Err(Refused::NotFound(_))));
        assert!(matches!(
            book.step(edit(1, Some(rule("loop", None)), Some(3))),
            Err(Refused::Conflict(text)) if text.contains("is not there")
        ));
        let step = book.step(edit(1, Some(rule("loop", Some(9))), Some(0))).unwrap();
        book.apply(&step);
        assert_eq!(book.get(Ulid::from(1)).unwrap().version, 1);
        assert!(matches!(
            book.step(edit(1, Some(rule("loop", None)), Some(0))),
            Err(Refused::Conflict(text)) if text.contains("version 1")
        ));
        assert!(matches!(
            book.step(edit(1, Some(rule("ghost", None)), None)),
            Err(Refused::Unfit { path, .. }) if path == "list"
        ));
        let step = book.step(edit(1, Some(rule("loop", Some(5))), Some(1))).unwrap();
        book.apply(&step);
        assert_eq!(
            (book.next_end(), book.get(Ulid::from(1)).unwrap().version),
            (Some(5), 2)
        );
        assert_eq!(
            (book.ended(4, 9).len(), book.ended(5, 9).len(), book.ended(5, 0).len()),
            (0, 1, 0)
        );
        let step = book.step(edit(1, None, Some(2))).unwrap();
        book.apply(&step);
        assert_eq!(
            (book.next_end(), book.iter().count(), book.policies().count()),
            (None, 0, 0)
        );
    }

    #[test]
    fn ids_rise_whatever_the_clock_says() {
        let mut book = RuleBook::default();
        assert_eq!(book.next_id(Ulid::from(7)), Ulid::from(7));
        book.apply(&book.step(edit(9, Some(rule("loop", None)), None)).unwrap());
        assert_eq!(book.next_id(Ulid::from(7)), Ulid::from(10));
        assert_eq!(book.next_id(Ulid::from(11)), Ulid::from(11));
        book.apply(&book.step(edit(u128::MAX, Some(rule("loop", None)), None)).unwrap());
        assert_eq!(book.next_id(Ulid::from(12)), Ulid::from(12), "nobody else's");
    }
}
