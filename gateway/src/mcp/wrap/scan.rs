//! Which of a client's lines may be more than bytes: most are passed on without being read as JSON.

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use aho_corasick::packed::Searcher;
use memchr::memmem::find;

/// What is asked that is not for everybody to have: calls, and lists of what can be called.
const ASKED: [&[u8]; 2] = [b"tools/call", b"tools/list"];
/// What may be said of a call that is open.
const OF_OPEN: [&[u8]; 2] = [b"notifications/cancelled", b"tasks/"];
/// Spellings by which any letter of those words can be written in JSON: all of them are below U+0100.
const ESCAPES: [&[u8]; 2] = [b"\\u00", b"\\/"];

/// All of them in one pass: most of what a client says is looked at here and nowhere else.
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let words = || ASKED.iter().chain(&OF_OPEN).chain(&ESCAPES);
    match (Searcher::new(words()), AhoCorasick::new(words())) {
        (Some(searcher), _) => Words::Packed(searcher),
        (None, Ok(automaton)) => Words::Automaton(automaton),
        (None, Err(_)) => Words::Unknown,
    }
});

enum Words {
    /// By wide registers, which not every machine has.
    Packed(Searcher),
    Automaton(AhoCorasick),
    /// Everything is read.
    Unknown,
}

/// Looks for the words that matter.
pub struct Scan {
    words: &'static Words,
}

impl Scan {
    pub fn new() -> Scan {
        Scan { words: &WORDS }
    }

    /// Whether any of these lines is to be read.
    pub fn matters(&self, lines: &[u8]) -> bool {
        match self.words {
            Words::Packed(searcher) => searcher.find(lines).is_some(),
            Words::Automaton(automaton) => automaton.is_match(lines),
            Words::Unknown => true,
        }
    }

    /// Whether a line that cannot be read in one way alone could be taken for a call of a tool, or for a request for their list, by
    /// another reader.
    pub fn may_ask(&self, line: &[u8]) -> bool {
        let plain = unescaped(line);
        ASKED.iter().any(|asked| find(&plain, asked).is_some())
    }
}

/// The line with the escapes undone by which plain letters can be written.
fn unescaped(line: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', line).is_none() {
        return Cow::Borrowed(line);
    }
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let letter = match (first, rest) {
            (b'\\', [b'u', a, b, c, d, after @ ..]) => {
                let code = std::str::from_utf8(&[*a, *b, *c, *d])
                    .ok()
                    .and_then(|digits| u32::from_str_radix(digits, 16).ok());
                code.and_then(|code| u8::try_from(code).ok())
                    .map(|letter| (letter, after))
            }
            (b'\\', [b'/', after @ ..]) => Some((b'/', after)),
            _ => None,
        };
        match letter {
            Some((letter, after)) => {
                plain.push(letter);
                rest = after;
            }
            None => plain.push(*first),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_lists_are_found_in_any_spelling() {
        let scan = Scan::new();
        for line in [
            r#"{"method":"tools/call"}"#,
            r#"{"method":"tools\/call"}"#,
            r#"{"method":"\u0074ools/call"}"#,
            r#"{"method":"tool\u0073\u002fcal\u006C"}"#,
            r#"{"method":"tools/list"}"#,
            r#"{"method":"tools\u002flist"}"#,
        ] {
            assert!(scan.matters(line.as_bytes()) && scan.may_ask(line.as_bytes()), "{line}");
        }
        for line in [
            r#"{"method":"ping"}"#,
            r#"{"method":"prompts/list"}"#,
            r#"{"text":"a \"quoted\" word\n"}"#,
        ] {
            assert!(
                !scan.matters(line.as_bytes()) && !scan.may_ask(line.as_bytes()),
                "{line}"
            );
        }
        for read in [
            r#"{"text":"caf\u00e9"}"#,
            r#"{"method":"notifications/cancelled"}"#,
            r#"{"method":"tasks/get"}"#,
        ] {
            assert!(
                scan.matters(read.as_bytes()) && !scan.may_ask(read.as_bytes()),
                "{read}"
            );
        }
        assert!(!scan.may_ask(br"\u00") && !scan.may_ask(b"\\"));
    }
}
