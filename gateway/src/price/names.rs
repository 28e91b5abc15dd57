//! Which names are one model's: what a price file says may stand around its ids. All of it is the file's word and none the
//! code's, for a word that is neutral with one provider names another price with the next.
//!
//! | key | example | what it does |
//! |---|---|---|
//! | `qualifiers` | `openai/`, `projects/*/models/`, `eu.\|anthropic.` | may stand before an id; `*` is one part of a path, and what follows `\|` must follow and stays |
//! | `suffixes` | `:nitro`, `[1m]`, `-{date}-v{n}:{n}` | may stand behind an id and names no other price; `{n}` are digits, `{date}` is `YYYYMMDD` or `YYYY-MM-DD` |
//! | `adds` | `":online": {web_search: 1}` | may stand behind an id, and has the request use something that is billed beside the model |
//! | a model's `id: "*:free"` | `any/model:free` | the row of all names that end so and have no row of their own |

use agentledger_ledger::Kind;

use super::id;

/// Qualifiers that may stand one before the other: `openrouter/openai/…`.
const QUALIFIERS_MAX: usize = 3;

/// What a name has the request use beside the model, once a request.
pub type Added = (Kind, u64);

/// Where a name led: a row, and what the name adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    pub row: usize,
    pub added: Option<Added>,
}

/// All that one book knows of names beside its ids.
#[derive(Clone, Debug, Default)]
pub struct Names {
    qualifiers: Vec<Qualifier>,
    suffixes: Vec<Suffix>,
    adds: Vec<(Suffix, Added)>,
    /// Endings whose names have a row in common, and its index.
    endings: Vec<(Box<[u8]>, usize)>,
}

impl Names {
    pub fn qualify(&mut self, text: &str) {
        let qualifier = Qualifier::new(text);
        if !self.qualifiers.contains(&qualifier) {
            self.qualifiers.push(qualifier);
        }
    }

    pub fn neutral(&mut self, text: &str) {
        let suffix = Suffix::new(text);
        if !self.suffixes.contains(&suffix) {
            self.suffixes.push(suffix);
        }
    }

    pub fn adding(&mut self, text: &str, added: Added) {
        let suffix = Suffix::new(text);
        self.adds.retain(|(known, _)| *known != suffix);
        self.adds.push((suffix, added));
    }

    /// Has all names that end so, and have no row of their own, find this one.
    pub fn ending(&mut self, text: &str, row: usize) {
        let ending = id::key(text);
        self.endings.retain(|(known, _)| *known != ending);
        self.endings.push((ending, row));
    }

    /// The row that a folded name finds, by the rows that `known` has under their own names. A name as it stands comes before
    /// one without its qualifiers, and a row of its own before one that many names share.
    pub fn locate(&self, name: &[u8], known: impl Fn(&[u8]) -> Option<usize>) -> Option<Located> {
        let shared = |id: &[u8]| {
            let fitting = self.endings.iter().find(|(ending, _)| id.ends_with(ending));
            fitting.map(|(_, row)| *row)
        };
        self.forms(name)
            .find_map(|form| self.resolve(form, &known))
            .or_else(|| self.forms(name).find_map(|form| self.resolve(form, shared)))
    }

    /// The name without anything that may stand around an id: what its family is looked for by.
    pub fn bare<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        let mut bare = self.forms(name).last().unwrap_or(name);
        let mut dated = false;
        loop {
            let adding = self.adds.iter().find_map(|(suffix, _)| suffix.strip(bare));
            let shorter = adding.map(|rest| (rest, false)).or_else(|| self.shorten(bare, dated));
            match shorter.filter(|(rest, _)| !rest.is_empty()) {
                Some((rest, is_date)) => (bare, dated) = (rest, is_date),
                None => return bare,
            }
        }
    }

    /// The name, and what is left of it without one qualifier after the other.
    fn forms<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'n [u8]> {
        let without = |form: &&'n [u8]| self.qualifiers.iter().find_map(|known| known.strip(form));
        std::iter::successors(Some(name), without).take(QUALIFIERS_MAX + 1)
    }

    fn resolve(&self, name: &[u8], known: impl Fn(&[u8]) -> Option<usize>) -> Option<Located> {
        self.walk(name, &known)
            .or_else(|| self.walk(id::tuned_base(name)?, &known))
    }

    /// Asks for the name and then for each shorter form that the rule allows, longest first.
    fn walk(&self, mut name: &[u8], known: impl Fn(&[u8]) -> Option<usize>) -> Option<Located> {
        let (mut dated, mut added) = (false, None);
        loop {
            if let Some(row) = known(name) {
                return Some(Located { row, added });
            }
            let adding = self
                .adds
                .iter()
                .find_map(|(suffix, added)| Some((suffix.strip(name)?, *added)));
            if let Some((rest, adds)) = adding {
                (name, added, dated) = (rest, Some(adds), false);
            } else {
                (name, dated) = self.shorten(name, dated)?;
            }
            if name.is_empty() {
                return None;
            }
        }
    }

    fn shorten<'n>(&self, name: &'n [u8], after_date: bool) -> Option<(&'n [u8], bool)> {
        let neutral = self.suffixes.iter().find_map(|suffix| suffix.strip(name));
        neutral
            .map(|rest| (rest, false))
            .or_else(|| id::without_suffix(name, after_date))
    }
}

/// Words that may stand before an id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Qualifier {
    /// What stands between parts of a path that may be anything.
    texts: Vec<Box<[u8]>>,
    /// What must follow, and stays.
    then: Box<[u8]>,
}

impl Qualifier {
    fn new(text: &str) -> Qualifier {
        let (strip, then) = text.split_once('|').unwrap_or((text, ""));
        Qualifier {
            texts: strip.split('*').map(id::key).collect(),
            then: id::key(then),
        }
    }

    fn strip<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let (first, others) = self.texts.split_first()?;
        let mut rest = name.strip_prefix(&**first)?;
        for text in others {
            let end = rest.iter().position(|byte| *byte == b'/').filter(|end| *end > 0)?;
            rest = rest.get(end..)?.strip_prefix(&**text)?;
        }
        (rest.starts_with(&self.then) && !rest.is_empty() && rest.len() < name.len()).then_some(rest)
    }
}

/// Words that may stand behind an id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suffix(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    /// One to three digits.
    Number,
    Date,
}

/// Longest number of a version: more digits are a date or another model.
const NUMBER_DIGITS_MAX: usize = 3;

impl Suffix {
    fn new(text: &str) -> Suffix {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let placeholders = [("{n}", Piece::Number), ("{date}", Piece::Date)];
            let next = placeholders
                .into_iter()
                .filter_map(|(mark, piece)| Some((rest.find(mark)?, mark.len(), piece)))
                .min_by_key(|(at, _, _)| *at);
            let (before, after, piece) = match next {
                Some((at, length, piece)) => (rest.get(..at), rest.get(at + length..), Some(piece)),
                None => (Some(rest), None, None),
            };
            pieces.extend(
                before
                    .filter(|text| !text.is_empty())
                    .map(|text| Piece::Text(id::key(text))),
            );
            pieces.extend(piece);
            rest = after.unwrap_or_default();
        }
        Suffix(pieces)
    }

    /// The name without it.
    fn strip<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let strip = |rest: &'n [u8], piece: &Piece| match piece {
            Piece::Text(text) => rest.strip_suffix(&**text),
            Piece::Number => {
                let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
                (1..=NUMBER_DIGITS_MAX)
                    .contains(&digits)
                    .then(|| rest.get(..rest.len() - digits))
                    .flatten()
            }
            Piece::Date => id::without_day(rest),
        };
        let rest = self.0.iter().rev().try_fold(name, strip)?;
        (rest.len() < name.len()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn stripped(suffix: &str, name: &str) -> Option<String> {
        let name = id::key(name);
        let rest = Suffix::new(suffix).strip(&name)?;
        Some(String::from_utf8(rest.to_vec()).unwrap())
    }

    #[test]
    fn suffixes_have_text_numbers_and_dates() {
        for (suffix, name, rest) in [
            (":nitro", "a/b:NITRO", Some("a/b")),
            ("[1m]", "claude-x[1m]", Some("claude-x")),
            ("-{date}-v{n}:{n}", "claude-x-20241022-v2:0", Some("claude-x")),
            (":{date}-v{n}", "m:2025-04-01-v12", Some("m")),
            ("-v{n}:{n}", "m-v1234:0", None),
            ("-{date}-v{n}", "m-20241322-v1", None),
            (":{date}-v{n}", "m:v1", None),
            (":nitro", ":floor", None),
        ] {
            assert_eq!(stripped(suffix, name).as_deref(), rest, "{suffix} {name}");
        }
    }

    #[test]
    fn qualifiers_have_parts_of_paths_and_words_that_must_follow() {
        let strip = |qualifier: &str, name: &str| {
            let name = id::key(name);
            let rest = Qualifier::new(qualifier).strip(&name)?;
            Some(String::from_utf8(rest.to_vec()).unwrap())
        };
        let vertex = "projects/*/locations/*/publishers/*/models/";
        let whole = "projects/p-1/locations/eu/publishers/google/models/gemini-9";
        assert_eq!(strip(vertex, whole).as_deref(), Some("gemini-9"));
        assert_eq!(strip(vertex, "projects/p/locations/l/endpoints/9"), None);
        assert_eq!(strip(vertex, "projects//locations/l/publishers/g/models/m"), None);
        assert_eq!(
            strip("eu.|anthropic.", "eu.anthropic.x").as_deref(),
            Some("anthropic-x")
        );
        assert_eq!(strip("eu.|anthropic.", "eu.amazon.x"), None);
        assert_eq!(strip("openai/", "openai/"), None);
    }
}
