//! Key patterns with the semantics of Go's `filepath.Match`, which the contract's `api_key_pattern` was written for:
//! `*` and `?` do not cross `/`, `[a-z]` and `[^a-z]` are classes, `\` escapes. `globset` reads `{a,b}` and `**`
//! otherwise, so the matcher is ours. A [`GlobSet`] finds the first of many patterns without trying each one.
//!
//! Patterns over models read otherwise, for what they are mostly written for is to deny: `*` and `?` cross `/`, case does
//! not count, `.` is `-`, and a model is known under each of its names (see `model_names.rs`).

use std::collections::{BTreeSet, HashMap};

use super::model_names;

/// Why a pattern cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed glob (an open or empty class, or a lone backslash)")]
pub struct BadGlob;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: any one character but `/`.
    One,
    /// `*`: any run of characters without `/`.
    Run,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    fn literal(&self) -> Option<char> {
        match self {
            Token::Literal(found) => Some(*found),
            _ => None,
        }
    }

    fn takes(&self, found: char, over: Over) -> bool {
        match self {
            Token::Literal(wanted) => *wanted == found,
            Token::One => found != '/' || over == Over::Models,
            Token::Run => false,
            // As in Go, a class may take a slash.
            Token::Class { negated, ranges } => {
                let has = |one: char| ranges.iter().any(|(low, high)| (*low..=*high).contains(&one));
                let spelled = || has(found.to_ascii_uppercase()) || (found == '-' && has('.'));
                (has(found) || (over == Over::Models && spelled())) != *negated
            }
        }
    }
}

/// What patterns are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Over {
    /// Keys, and names of accounts.
    #[default]
    Keys,
    Models,
}

/// One compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    over: Over,
    /// The literal text that every match starts with.
    prefix: Box<str>,
    /// From the first token on that is no literal. Mostly a lone `*`, or nothing.
    rest: Box<[Token]>,
}

impl Glob {
    pub fn new(pattern: &str) -> Result<Glob, BadGlob> {
        Glob::over(pattern, Over::Keys)
    }

    fn over(pattern: &str, over: Over) -> Result<Glob, BadGlob> {
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(next) = rest.next() {
            let token = match next {
                '*' if tokens.last() == Some(&Token::Run) => continue,
                '*' => Token::Run,
                '?' => Token::One,
                '[' => read_class(&mut rest)?,
                '\\' => Token::Literal(rest.next().ok_or(BadGlob)?),
                plain => Token::Literal(plain),
            };
            tokens.push(match token {
                Token::Literal(plain) if over == Over::Models => Token::Literal(model_names::fold(plain)),
                token => token,
            });
        }
        let prefix: String = tokens.iter().map_while(Token::literal).collect();
        let rest = tokens.split_off(prefix.chars().count());
        Ok(Glob {
            over,
            prefix: prefix.into(),
            rest: rest.into(),
        })
    }

    /// A text that fits the pattern: the shortest but for classes, of which the first member stands.
    pub fn sample(&self) -> String {
        let mut text = self.prefix.to_string();
        text.extend(self.rest.iter().filter_map(|token| match token {
            Token::Literal(found) => Some(*found),
            Token::One => Some('x'),
            Token::Run => None,
            Token::Class { negated: false, ranges } => ranges.first().map(|(low, _)| *low),
            Token::Class { negated: true, .. } => ('!'..='~').find(|found| token.takes(*found, self.over)),
        }));
        text
    }

    /// Whether the whole of `text` fits the pattern. Only the last `*` is ever widened, as in Go: linear in practice,
    /// pattern × text at worst, and no pattern makes it exponential.
    pub fn matches(&self, text: &str) -> bool {
        let Some(after) = text.strip_prefix(&*self.prefix) else {
            return false;
        };
        match &*self.rest {
            [] => after.is_empty(),
            [Token::Run] => self.over == Over::Models || !after.contains('/'),
            tokens => fits(tokens, after, self.over),
        }
    }

    /// The pattern, in one form for all that mean the same.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.prefix.len() + self.rest.len());
        let literal = |text: &mut String, one: char| {
            if matches!(one, '*' | '?' | '[' | '\\') {
                text.push('\\');
            }
            text.push(one);
        };
        self.prefix.chars().for_each(|one| literal(&mut text, one));
        for token in &self.rest {
            match token {
                Token::Literal(one) => literal(&mut text, *one),
                Token::One => text.push('?'),
                Token::Run => text.push('*'),
                Token::Class { negated, ranges } => {
                    text.push_str(if *negated { "[^" } else { "[" });
                    for (low, high) in ranges {
                        for (at, bound) in [low, high].into_iter().enumerate() {
                            if at == 1 {
                                text.push('-');
                            }
                            if matches!(bound, '-' | ']' | '\\' | '^') {
                                text.push('\\');
                            }
                            text.push(*bound);
                        }
                    }
                    text.push(']');
                }
            }
        }
        text
    }

    /// The literal text that every match starts with, and the one it ends with.
    fn ends(&self) -> (String, String) {
        let mut suffix: Vec<char> = self.rest.iter().rev().map_while(Token::literal).collect();
        suffix.reverse();
        let whole = self.rest.is_empty();
        let suffix = if whole {
            self.prefix.to_string()
        } else {
            suffix.into_iter().collect()
        };
        (self.prefix.to_string(), suffix)
    }
}

/// Whether the whole of `text` fits the tokens.
fn fits(mut tokens: &[Token], text: &str, over: Over) -> bool {
    let mut rest = text.chars();
    // Where to go on from when the tokens after the last `*` do not fit: that `*` takes one character more.
    let mut retry: Option<(&[Token], std::str::Chars<'_>)> = None;
    loop {
        let fits = match tokens.split_first() {
            Some((Token::Run, after)) => {
                tokens = after;
                retry = Some((after, rest.clone()));
                continue;
            }
            Some((token, after)) => {
                let mut ahead = rest.clone();
                match ahead.next() {
                    Some(found) if token.takes(found, over) => {
                        tokens = after;
                        rest = ahead;
                        true
                    }
                    _ => false,
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => false,
        };
        if fits {
            continue;
        }
        let Some((after, from)) = retry.as_mut() else {
            return false;
        };
        match from.next() {
            Some(taken) if taken != '/' || over == Over::Models => {
                tokens = after;
                rest = from.clone();
            }
            _ => return false,
        }
    }
}

fn read_class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadGlob> {
    fn bound(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadGlob> {
        match rest.next() {
            None | Some('-' | ']') => Err(BadGlob),
            Some('\\') => rest.next().ok_or(BadGlob),
            Some(plain) => Ok(plain),
        }
    }
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = bound(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() {
            bound(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// Many patterns, of which the first that matches counts. Each lies in one bucket, named by the literal text it starts or
/// ends with, whichever bucket is smaller: a key is tried against the few patterns that share an end with it, so the time
/// does not grow with the number of rules.
#[derive(Clone, Debug, Default)]
pub struct GlobSet {
    over: Over,
    globs: Vec<Glob>,
    prefixes: Buckets,
    suffixes: Buckets,
}

/// Patterns (by number, ascending) under the hash of a literal end; `lengths` are the ends' lengths that occur.
#[derive(Clone, Debug, Default)]
struct Buckets {
    lengths: Vec<usize>,
    by_hash: HashMap<u64, Vec<u32>>,
}

/// FNV-1a, so that the hashes of all prefixes come from one pass. Equal hashes of different texts do no harm: a
/// candidate is always matched whole.
fn hash_on(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

fn hash_of(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(HASH_START, hash_on)
}

impl Buckets {
    fn build(members: Vec<(u64, usize, u32)>) -> Buckets {
        let lengths: BTreeSet<usize> = members.iter().map(|(_, length, _)| *length).collect();
        let mut by_hash: HashMap<u64, Vec<u32>> = HashMap::new();
        for (hash, _, number) in members {
            by_hash.entry(hash).or_default().push(number);
        }
        Buckets {
            lengths: lengths.into_iter().collect(),
            by_hash,
        }
    }

    /// Lowers `best` to the first matching pattern of the buckets that `bytes`, read from this end, leads to.
    fn search(&self, bytes: impl Iterator<Item = u8>, globs: &[Glob], text: &str, best: &mut Option<u32>) {
        let mut lengths = self.lengths.iter().copied().peekable();
        let mut hash = HASH_START;
        let mut seen = 0;
        let mut bytes = bytes;
        while let Some(wanted) = lengths.peek().copied() {
            if seen == wanted {
                lengths.next();
                self.search_bucket(hash, globs, text, best);
                continue;
            }
            let Some(byte) = bytes.next() else { return };
            hash = hash_on(hash, byte);
            seen += 1;
        }
    }

    fn search_bucket(&self, hash: u64, globs: &[Glob], text: &str, best: &mut Option<u32>) {
        let Some(numbers) = self.by_hash.get(&hash) else { return };
        for number in numbers {
            if best.is_some_and(|found| found <= *number) {
                return;
            }
            let glob = usize::try_from(*number).ok().and_then(|at| globs.get(at));
            if glob.is_some_and(|glob| glob.matches(text)) {
                *best = Some(*number);
                return;
            }
        }
    }
}

impl GlobSet {
    /// Compiles the patterns; an error bears the number of the pattern, from 0.
    pub fn new<S: AsRef<str>>(patterns: &[S], over: Over) -> Result<GlobSet, (usize, BadGlob)> {
        let mut globs = Vec::with_capacity(patterns.len());
        for (at, pattern) in patterns.iter().enumerate() {
            globs.push(Glob::over(pattern.as_ref(), over).map_err(|bad| (at, bad))?);
        }
        let ends: Vec<(String, String)> = globs.iter().map(Glob::ends).collect();
        let mut crowd: HashMap<(bool, &str), usize> = HashMap::new();
        for (prefix, suffix) in &ends {
            *crowd.entry((true, prefix)).or_default() += 1;
            *crowd.entry((false, suffix)).or_default() += 1;
        }
        let (mut prefixes, mut suffixes) = (Vec::new(), Vec::new());
        for (number, (prefix, suffix)) in (0u32..).zip(&ends) {
            if crowd.get(&(true, prefix)) <= crowd.get(&(false, suffix)) {
                prefixes.push((hash_of(prefix.bytes()), prefix.len(), number));
            } else {
                suffixes.push((hash_of(suffix.bytes().rev()), suffix.len(), number));
            }
        }
        Ok(GlobSet {
            over,
            prefixes: Buckets::build(prefixes),
            suffixes: Buckets::build(suffixes),
            globs,
        })
    }

    /// The patterns, each as [`Glob::text`], where they are over keys.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.globs.iter().map(Glob::text)
    }

    /// Number of the first pattern that matches, from 0; over models, of the first that matches under any of its names.
    pub fn first(&self, text: &str) -> Option<usize> {
        let mut best = None;
        match self.over {
            Over::Keys => self.search(text, &mut best),
            Over::Models => {
                for name in model_names::names_of(text) {
                    self.search(&name, &mut best);
                }
            }
        }
        best.and_then(|number| usize::try_from(number).ok())
    }

    fn search(&self, text: &str, best: &mut Option<u32>) {
        self.prefixes.search(text.bytes(), &self.globs, text, best);
        self.suffixes.search(text.bytes().rev(), &self.globs, text, best);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_sample_fits_its_pattern() {
        for pattern in ["", "sk-dev-*", "a?b", "[b-d]x*", "[^!-z]", "a\\*b", "*"] {
            let glob = Glob::new(pattern).unwrap();
            assert!(glob.matches(&glob.sample()), "{pattern}: {:?}", glob.sample());
        }
    }

    #[test]
    fn means_what_filepath_match_means() {
        // The cases of Go's own documentation of the syntax, and the corners around `/`.
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^e-g]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a[^x]b", "a/b", true),
            ("*[/a]*b", "aa/b", false),
            ("sk-*-?[0-9]", "sk-proj-x7", true),
        ] {
            assert_eq!(
                Glob::new(pattern).unwrap().matches(text),
                expected,
                "{pattern} on {text}"
            );
        }
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a[\\",
        ] {
            assert_eq!(Glob::new(pattern), Err(BadGlob), "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_stays_polynomial() {
        let glob = Glob::new(&"*a".repeat(200)).unwrap();
        assert!(!glob.matches(&format!("{}b", "a".repeat(5_000))));
    }

    #[test]
    fn a_set_finds_the_same_as_trying_one_after_the_other() {
        let mut patterns: Vec<String> = (0..400).map(|at| format!("sk-team-{:03}-*", at % 300)).collect();
        patterns.extend((0..200).map(|at| format!("*-{at:03}")));
        patterns.extend((0..50).map(|at| format!("sk-*{at}*")));
        patterns.extend(["sk-exact", "sk-?x*", "[st]k-*", "", "a/*", "*"].map(str::to_owned));
        let set = GlobSet::new(&patterns, Over::Keys).unwrap();
        let globs: Vec<Glob> = patterns.iter().map(|pattern| Glob::new(pattern).unwrap()).collect();
        for text in [
            "",
            "sk-",
            "sk-team-007-abc",
            "sk-team-299-x/y",
            "sk-team-150-150",
            "x-199",
            "x-1990",
            "sk-49",
            "sk-a48b",
            "sk-exact",
            "tk-1",
            "a/b",
            "a/b/c",
            "sk-zx9",
            "☺-001",
        ] {
            let expected = globs.iter().position(|glob| glob.matches(text));
            assert_eq!(set.first(text), expected, "{text}");
        }
        assert_eq!(GlobSet::new(&["ok", "[bad"], Over::Keys).unwrap_err(), (1, BadGlob));
    }
}
