//! Rules over the conf of the file.
//!
//! - A field that is a list has the rules' items first, those of the rule that was made last before all others, and then the
//!   file's: where the first that fits counts, the newest word does. A rule that is changed keeps its place.
//! - Of a table, the names that a rule gives stand in for the file's; so does a single value. Where two rules give the same, that
//!   which was made last counts.
//! - A rule of the whole conf (`loop`) gives several such fields at once. Items of lists come one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use ulid::Ulid;

use super::{Refused, Rule};
use crate::policy::{PolicySet, Shape};

/// A policy's conf with the rules over it, and what came from where.
pub struct Merged {
    pub conf: Value,
    /// By list, the rules whose items come first.
    items: BTreeMap<String, Vec<Arc<Rule>>>,
    /// By field, or field and name (`default.action`), the rule that gave it.
    given: BTreeMap<String, Arc<Rule>>,
}

/// Where a part of a conf came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A rule, and the path within what was given for it: `value.limit`.
    Rule(Ulid, String),
    /// The file's conf, and the path within that; empty for the whole.
    File(String),
}

/// Lays a policy's rules, in the order of their making, over the file's conf.
///
/// # Errors
/// The first rule that has no place in the policy's conf.
pub fn merge<'a>(
    set: &PolicySet,
    policy: &str,
    file: Option<&Value>,
    rules: impl DoubleEndedIterator<Item = &'a Arc<Rule>>,
) -> Result<Merged, (Ulid, Refused)> {
    let mut merged = Merged {
        conf: Value::Null,
        items: BTreeMap::new(),
        given: BTreeMap::new(),
    };
    let mut conf = file.and_then(Value::as_object).cloned().unwrap_or_default();
    for rule in rules {
        let shape = |field: &str| set.shape(policy, field);
        merged
            .lay(&mut conf, rule, &shape)
            .map_err(|refused| (rule.id, refused))?;
    }
    for (list, rules) in &mut merged.items {
        // The newest first.
        rules.reverse();
        let file = conf.remove(list).map(as_items).unwrap_or_default();
        let items = rules.iter().map(|rule| rule.value.clone()).chain(file);
        conf.insert(list.clone(), items.collect());
    }
    merged.conf = Value::Object(conf);
    Ok(merged)
}

/// A list of one item may be written as the item.
fn as_items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        Value::Object(fields) if fields.is_empty() => Vec::new(),
        one => vec![one],
    }
}

impl Merged {
    fn lay(
        &mut self,
        conf: &mut Map<String, Value>,
        rule: &Arc<Rule>,
        shape: &dyn Fn(&str) -> Option<Shape>,
    ) -> Result<(), Refused> {
        let Some(field) = rule.field() else {
            let Value::Object(fields) = &rule.value else {
                return Err(Refused::unfit("value", "must be a table: fields of the policy's conf"));
            };
            for (field, value) in fields {
                match shape(field) {
                    Some(Shape::List) => {
                        let text = format!("is a list: put each of its items by itself, in {}.{field}", rule.list);
                        return Err(Refused::unfit(format!("value.{field}"), text));
                    }
                    Some(shape) => self.lay_over(conf, field, value, shape, rule),
                    None => {
                        let text = "is not in the policy's schema";
                        return Err(Refused::unfit(format!("value.{field}"), text));
                    }
                }
            }
            return Ok(());
        };
        match shape(field) {
            None => Err(Refused::unfit(
                "list",
                format!("names no field of the policy's conf: {field:?}"),
            )),
            Some(Shape::List) => {
                self.items.entry(field.to_owned()).or_default().push(Arc::clone(rule));
                Ok(())
            }
            Some(shape) => {
                self.lay_over(conf, field, &rule.value, shape, rule);
                Ok(())
            }
        }
    }

    fn lay_over(&mut self, conf: &mut Map<String, Value>, field: &str, value: &Value, shape: Shape, rule: &Arc<Rule>) {
        let slot = conf.entry(field.to_owned()).or_insert(Value::Null);
        match (shape, value) {
            (Shape::Table, Value::Object(names)) => {
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(known) = slot {
                    known.extend(names.clone());
                }
                for name in names.keys() {
                    self.given.insert(format!("{field}.{name}"), Arc::clone(rule));
                }
            }
            _ => {
                *slot = value.clone();
                self.given.insert(field.to_owned(), Arc::clone(rule));
            }
        }
    }

    /// Where the part of the conf at a path came from.
    pub fn place(&self, path: &str) -> Place {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (field, rest) = path.split_at(end);
        if let Some(rules) = self.items.get(field) {
            let Some((at, rest)) = index_of(rest) else {
                return Place::File(path.to_owned());
            };
            return match at.checked_sub(1).and_then(|at| rules.get(at)) {
                Some(rule) => Place::Rule(rule.id, format!("value{rest}")),
                None => Place::File(format!("{field}[{}]{rest}", at.saturating_sub(rules.len()))),
            };
        }
        let name = rest
            .strip_prefix('.')
            .map(|rest| rest.split(['.', '[']).next().unwrap_or_default());
        let named = name.and_then(|name| self.given.get(&format!("{field}.{name}")));
        match named.or_else(|| self.given.get(field)) {
            Some(rule) if rule.field().is_some() => Place::Rule(rule.id, format!("value{rest}")),
            Some(rule) => Place::Rule(rule.id, format!("value.{path}")),
            None => Place::File(path.to_owned()),
        }
    }
}

/// `3` and `.limit` of `[3].limit`.
fn index_of(path: &str) -> Option<(usize, &str)> {
    let (at, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((at.parse().ok()?, rest))
}

/// A rule that the file has.
#[derive(Clone, Debug, PartialEq)]
pub struct FileRule {
    pub list: String,
    /// Its place among those of its list, from 1.
    pub at: usize,
    pub value: Value,
}

/// What the file says to the policies, as rules: each item of a list, each table, and the single values of a policy together.
pub fn file_rules(confs: &BTreeMap<String, Value>, shape: &dyn Fn(&str, &str) -> Option<Shape>) -> Vec<FileRule> {
    let mut rules = Vec::new();
    for (policy, conf) in confs {
        let mut single = Map::new();
        for (field, value) in conf.as_object().into_iter().flatten() {
            let list = format!("{policy}.{field}");
            let is_list = value.is_array() || shape(policy, field) == Some(Shape::List);
            match value {
                _ if is_list => {
                    let items = (1..).zip(as_items(value.clone()));
                    rules.extend(items.map(|(at, value)| FileRule {
                        list: list.clone(),
                        at,
                        value,
                    }));
                }
                Value::Object(names) if names.is_empty() => {}
                Value::Object(_) => rules.push(FileRule {
                    list,
                    at: 1,
                    value: value.clone(),
                }),
                _ => {
                    single.insert(field.clone(), value.clone());
                }
            }
        }
        if !single.is_empty() {
            rules.push(FileRule {
                list: policy.clone(),
                at: 1,
                value: Value::Object(single),
            });
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;
    use crate::policy::{Options, builtin_sources};

    fn set() -> PolicySet {
        PolicySet::load(builtin_sources(), &BTreeMap::new(), Options::default()).unwrap()
    }

    fn rules(given: &[(&str, Value)]) -> Vec<Arc<Rule>> {
        let rule = |(at, (list, value)): (u128, &(&str, Value))| {
            let text = json!({"list": list, "value": value}).to_string();
            Arc::new(Rule::of_value(Ulid::from(at), &text).unwrap())
        };
        (1..).zip(given).map(rule).collect()
    }

    #[test]
    fn items_join_the_newest_first_and_faults_find_their_rule() {
        let rules = rules(&[("block.keys", json!("a")), ("block.keys", json!("b"))]);
        let file = json!({"keys": ["x", "y"], "agents": "z"});
        let merged = merge(&set(), "block", Some(&file), rules.iter()).ok().unwrap();
        assert_eq!(merged.conf, json!({"keys": ["b", "a", "x", "y"], "agents": "z"}));
        assert_eq!(merged.place("keys[1]"), Place::Rule(Ulid::from(2), "value".to_owned()));
        assert_eq!(
            merged.place("keys[2].limit"),
            Place::Rule(Ulid::from(1), "value.limit".to_owned())
        );
        assert_eq!(merged.place("keys[4].limit"), Place::File("keys[2].limit".to_owned()));
        assert_eq!(merged.place("agents"), Place::File("agents".to_owned()));
        // A list of one item may be written as the item.
        let one = merge(&set(), "block", Some(&json!({"keys": "x"})), rules.iter())
            .ok()
            .unwrap();
        assert_eq!(one.conf["keys"], json!(["b", "a", "x"]));
    }

    #[test]
    fn tables_and_values_lie_over_the_files_name_by_name() {
        let rules = rules(&[
            ("budget.default", json!({"action": "block", "daily_limit_usd": 5})),
            ("budget", json!({"default": {"daily_limit_usd": 7}, "unpriced": "free"})),
            ("budget.unpriced", json!("refuse")),
        ]);
        let file = json!({"default": {"daily_limit_usd": 1, "monthly_limit_usd": 2}, "unpriced": "dearest"});
        let merged = merge(&set(), "budget", Some(&file), rules.iter()).ok().unwrap();
        let default = json!({"action": "block", "daily_limit_usd": 7, "monthly_limit_usd": 2});
        assert_eq!(merged.conf, json!({"default": default, "unpriced": "refuse"}));
        let rule = |id: u128, path: &str| Place::Rule(Ulid::from(id), path.to_owned());
        assert_eq!(merged.place("default.action"), rule(1, "value.action"));
        assert_eq!(
            merged.place("default.daily_limit_usd"),
            rule(2, "value.default.daily_limit_usd")
        );
        assert_eq!(
            merged.place("default.monthly_limit_usd"),
            Place::File("default.monthly_limit_usd".to_owned())
        );
        assert_eq!(merged.place("unpriced"), rule(3, "value"));
    }

    #[test]
    fn what_has_no_place_in_the_conf_is_refused_by_its_path() {
        for (list, value, at) in [
            ("budget.nothing", json!(1), "list"),
            ("budget", json!({"limits": []}), "value.limits"),
            ("budget", json!({"nothing": 1}), "value.nothing"),
            ("budget", json!(1), "value"),
        ] {
            let (_, refused) = merge(&set(), "budget", None, rules(&[(list, value)]).iter())
                .err()
                .unwrap();
            assert!(matches!(refused, Refused::Unfit { path, .. } if path == at), "{list}");
        }
    }

    #[test]
    fn what_the_file_says_is_told_as_rules() {
        let confs = BTreeMap::from([
            (
                "block".to_owned(),
                json!({"keys": "x", "agents": ["a", "b"], "users": []}),
            ),
            ("loop".to_owned(), json!({"threshold": 8, "mode": "shadow"})),
            (
                "budget".to_owned(),
                json!({"default": {"action": "block"}, "global": {}}),
            ),
        ]);
        let set = set();
        let told = file_rules(&confs, &|policy, field| set.shape(policy, field));
        let told: Vec<(String, usize, Value)> = told.into_iter().map(|rule| (rule.list, rule.at, rule.value)).collect();
        assert_eq!(
            told,
            [
                ("block.agents".to_owned(), 1, json!("a")),
                ("block.agents".to_owned(), 2, json!("b")),
                ("block.keys".to_owned(), 1, json!("x")),
                ("budget.default".to_owned(), 1, json!({"action": "block"})),
                ("loop".to_owned(), 1, json!({"mode": "shadow", "threshold": 8})),
            ]
        );
    }
}
