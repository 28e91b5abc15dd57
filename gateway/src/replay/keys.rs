//! What is known of raw keys that nobody has any more: which patterns each matched, as far as policies asked.

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::Name;

use crate::policy::{GlobSet, KeyQuestion};

/// Keys of which something is known; further ones are not learned of.
const KEYS_MAX: usize = 200_000;
/// Pattern lists of which answers are known, of one key.
const LISTS_MAX: usize = 64;

/// What was asked about many patterns at once, and the place of the first that matched.
type Answer = Option<u32>;
type Names = Arc<HashMap<Box<str>, u32>>;

#[derive(Default)]
struct KnownKey {
    lists: Vec<(Arc<GlobSet>, Answer)>,
    names: Vec<(Names, Answer)>,
    globs: HashMap<String, bool>,
    /// What was worked out for other lists, by their addresses.
    found: HashMap<usize, Result<Answer, String>>,
    /// How many answers a recorded decision gave, by the rules it was made under.
    learned: HashMap<u64, usize>,
}

/// A list's patterns, each with its place.
struct Index {
    /// Keeps the list, and with it its address.
    _list: Arc<GlobSet>,
    patterns: Vec<String>,
    places: HashMap<String, u32>,
}

/// What is known of all keys.
#[derive(Default)]
pub struct KeyKnowledge {
    keys: HashMap<Name, KnownKey>,
    indexes: HashMap<usize, Index>,
}

fn address(list: &Arc<GlobSet>) -> usize {
    Arc::as_ptr(list).addr()
}

impl KeyKnowledge {
    /// Whether a decision under these rules, with so many answers, would teach anything.
    pub fn would_learn(&self, key: &Name, rules: u64, answers: usize) -> bool {
        if key.is_empty() || answers == 0 {
            return false;
        }
        match self.keys.get(key) {
            Some(known) => known.learned.get(&rules).is_none_or(|learned| *learned < answers),
            None => self.keys.len() < KEYS_MAX,
        }
    }

    pub fn learned(&mut self, key: &Name, rules: u64, answers: usize) {
        if let Some(known) = self.keys.get_mut(key) {
            known.learned.insert(rules, answers);
        }
    }

    /// Takes in an answer.
    pub fn learn(&mut self, key: &Name, question: KeyQuestion<'_>, answer: Answer) {
        if !self.keys.contains_key(key) && self.keys.len() >= KEYS_MAX {
            return;
        }
        let known = self.keys.entry(Name::clone(key)).or_default();
        match question {
            KeyQuestion::Glob(_, glob) => {
                if known.globs.insert(glob.text(), answer.is_some()).is_none() {
                    known.found.clear();
                }
            }
            KeyQuestion::Globs(list) => {
                let is_known = known.lists.iter().any(|(other, _)| Arc::ptr_eq(other, list));
                if !is_known && known.lists.len() < LISTS_MAX {
                    known.lists.push((Arc::clone(list), answer));
                    known.found.clear();
                    self.index(list);
                }
            }
            KeyQuestion::Names(names) => {
                let is_known = known.names.iter().any(|(other, _)| Arc::ptr_eq(other, names));
                if !is_known && known.names.len() < LISTS_MAX {
                    known.names.push((Arc::clone(names), answer));
                }
            }
        }
    }

    fn index(&mut self, list: &Arc<GlobSet>) {
        self.indexes.entry(address(list)).or_insert_with(|| {
            let patterns: Vec<String> = list.patterns().collect();
            let mut places = HashMap::new();
            for (place, pattern) in (0..).zip(&patterns) {
                // Of two equal patterns the first counts.
                places.entry(pattern.clone()).or_insert(place);
            }
            Index {
                _list: Arc::clone(list),
                patterns,
                places,
            }
        });
    }

    /// Answers by what is known.
    ///
    /// # Errors
    /// The pattern that nothing is known of.
    pub fn answer(&mut self, key: &Name, question: KeyQuestion<'_>) -> Result<Answer, String> {
        if key.is_empty() {
            return Ok(question.answer(""));
        }
        match question {
            KeyQuestion::Glob(_, glob) => {
                let pattern = glob.text();
                self.matches(key, &pattern).map(|matches| matches.then_some(0))
            }
            KeyQuestion::Globs(list) => self.first(key, list),
            KeyQuestion::Names(names) => self.named(key, names),
        }
    }

    fn first(&mut self, key: &Name, list: &Arc<GlobSet>) -> Result<Answer, String> {
        self.index(list);
        let at = address(list);
        if let Some(found) = self.keys.get(key).and_then(|known| known.found.get(&at)) {
            return found.clone();
        }
        let mut found = Ok(None);
        if let Some(index) = self.indexes.get(&at) {
            for (place, pattern) in (0..).zip(&index.patterns) {
                match self.matches(key, pattern) {
                    Ok(false) => {}
                    Ok(true) => {
                        found = Ok(Some(place));
                        break;
                    }
                    Err(unknown) => {
                        found = Err(unknown);
                        break;
                    }
                }
            }
        }
        if let Some(known) = self.keys.get_mut(key) {
            known.found.insert(at, found.clone());
        }
        found
    }

    /// Whether the key matches one pattern.
    fn matches(&self, key: &Name, pattern: &str) -> Result<bool, String> {
        let unknown = || format!("the pattern {pattern:?} over raw keys was not asked about this key then");
        let known = self.keys.get(key).ok_or_else(unknown)?;
        if let Some(matches) = known.globs.get(pattern) {
            return Ok(*matches);
        }
        for (list, answer) in &known.lists {
            let place = self
                .indexes
                .get(&address(list))
                .and_then(|index| index.places.get(pattern));
            match (place, answer) {
                (Some(place), Some(first)) if place == first => return Ok(true),
                // All before the first that matched, and all where none did, do not match.
                (Some(place), Some(first)) if place < first => return Ok(false),
                (Some(_), None) => return Ok(false),
                _ => {}
            }
        }
        Err(unknown())
    }

    fn named(&self, key: &Name, names: &Names) -> Result<Answer, String> {
        let unknown = || "a list of raw keys was not asked about this key then".to_owned();
        let known = self.keys.get(key).ok_or_else(unknown)?;
        for (other, answer) in &known.names {
            let is_in = answer.and_then(|answer| other.iter().find(|(_, place)| **place == answer));
            if let Some((name, _)) = is_in {
                return Ok(names.get(name).copied());
            }
            // It is none of these, so it is none of fewer.
            if answer.is_none() && names.keys().all(|name| other.contains_key(name)) {
                return Ok(None);
            }
        }
        if names.is_empty() { Ok(None) } else { Err(unknown()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::policy::Over;

    fn list(patterns: &[&str]) -> Arc<GlobSet> {
        Arc::new(GlobSet::new(patterns, Over::Keys).unwrap())
    }

    #[test]
    fn of_a_list_the_first_that_matched_does_and_all_before_it_do_not() {
        let mut keys = KeyKnowledge::default();
        let key = Name::from("a1b2");
        let asked = list(&["sk-a*", "sk-b*", "sk-c*"]);
        keys.learn(&key, KeyQuestion::Globs(&asked), Some(1));
        let mut first = |patterns: &[&str]| keys.answer(&key, KeyQuestion::Globs(&list(patterns)));
        assert_eq!(
            first(&["sk-b*", "sk-zz*"]),
            Ok(Some(0)),
            "nothing after a match is asked"
        );
        assert_eq!(first(&["sk-a*", "sk-b*"]), Ok(Some(1)));
        assert_eq!(first(&["sk-a*"]), Ok(None));
        assert!(
            first(&["sk-c*"]).unwrap_err().contains("sk-c*"),
            "what came after the match is not known"
        );
        assert!(first(&["sk-a*", "sk-x*", "sk-b*"]).unwrap_err().contains("sk-x*"));
    }

    #[test]
    fn where_none_matched_none_does_and_a_call_without_a_key_needs_no_record() {
        let mut keys = KeyKnowledge::default();
        let key = Name::from("a1b2");
        keys.learn(&key, KeyQuestion::Globs(&list(&["sk-a*", "sk-b*"])), None);
        assert_eq!(
            keys.answer(&key, KeyQuestion::Globs(&list(&["sk-b*", "sk-a*"]))),
            Ok(None)
        );
        let none = Name::from("");
        assert_eq!(
            keys.answer(&none, KeyQuestion::Globs(&list(&["sk-*", "*"]))),
            Ok(Some(1))
        );
        assert!(
            keys.answer(&"another".into(), KeyQuestion::Globs(&list(&["sk-b*"])))
                .is_err()
        );
    }
}
