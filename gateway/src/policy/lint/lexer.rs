//! Luau's text as tokens, each with its place. Comments are left out; an interpolated string holds the tokens of its parts.

/// Where something stands in a text, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::policy) struct Place {
    pub line: u32,
    pub column: u32,
    /// Bytes from the text's start.
    pub offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name or a keyword.
    Word(String),
    /// `None` where it is no number that a double can be read from.
    Number(Option<f64>),
    Text(String),
    /// The tokens between each pair of braces of an interpolated string.
    Interpolated(Vec<Vec<Placed>>),
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub token: Token,
    pub at: Place,
    /// The byte after its last.
    pub end: usize,
}

/// Why a text cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Unreadable {
    pub at: Place,
    pub expected: String,
}

/// Longest first: the first that fits is the token.
const SIGNS: [&str; 42] = [
    "...", "..=", "//=", "==", "~=", "<=", ">=", "//", "::", "->", "+=", "-=", "*=", "/=", "%=", "^=", "..", "+", "-",
    "*", "/", "%", "^", "#", "<", ">", "=", "(", ")", "{", "}", "[", "]", ";", ":", ",", ".", "?", "|", "&", "@", "!",
];
/// Interpolated strings within one another.
const DEPTH_MAX: usize = 32;

/// All tokens of a text, `End` last.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Unreadable> {
    let mut lexer = Lexer {
        text,
        at: Place {
            line: 1,
            column: 1,
            offset: 0,
        },
        depth: 0,
    };
    // A first line for the shell is none of Luau's.
    if text.starts_with("#!") {
        lexer.skip_while(|letter| letter != '\n');
    }
    lexer.until_end()
}

struct Lexer<'t> {
    text: &'t str,
    at: Place,
    depth: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at.offset..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at.offset += letter.len_utf8();
        if letter == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
        Some(letter)
    }

    fn skip(&mut self, letters: usize) {
        for _ in 0..letters {
            self.advance();
        }
    }

    fn skip_while(&mut self, holds: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&holds) {
            self.advance();
        }
    }

    fn wrong<T>(&self, at: Place, expected: &str) -> Result<T, Unreadable> {
        Err(Unreadable {
            at,
            expected: expected.to_owned(),
        })
    }

    fn until_end(&mut self) -> Result<Vec<Placed>, Unreadable> {
        let mut found = Vec::new();
        loop {
            let placed = self.next()?;
            let is_end = placed.token == Token::End;
            found.push(placed);
            if is_end {
                return Ok(found);
            }
        }
    }

    /// The tokens up to the brace that ends a part of an interpolated string, which is taken too.
    fn until_brace(&mut self) -> Result<Vec<Placed>, Unreadable> {
        self.depth += 1;
        let begun = self.at;
        if self.depth > DEPTH_MAX {
            return self.wrong(begun, "fewer interpolated strings within one another");
        }
        let (mut found, mut open) = (Vec::new(), 0usize);
        loop {
            let placed = self.next()?;
            match &placed.token {
                Token::Sign("{") => open += 1,
                Token::Sign("}") if open == 0 => {
                    self.depth -= 1;
                    found.push(Placed {
                        token: Token::End,
                        ..placed
                    });
                    return Ok(found);
                }
                Token::Sign("}") => open -= 1,
                Token::End => return self.wrong(begun, "} to end what began with {"),
                _ => {}
            }
            found.push(placed);
        }
    }

    fn next(&mut self) -> Result<Placed, Unreadable> {
        self.skip_blanks()?;
        let at = self.at;
        let token = match self.peek() {
            None => Token::End,
            Some(first) if first == '_' || first.is_ascii_alphabetic() => {
                self.skip_while(|letter| letter == '_' || letter.is_ascii_alphanumeric());
                Token::Word(self.text.get(at.offset..self.at.offset).unwrap_or_default().to_owned())
            }
            Some(first) if first.is_ascii_digit() => self.number(),
            Some('.') if self.rest().chars().nth(1).is_some_and(|next| next.is_ascii_digit()) => self.number(),
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            Some('`') => self.interpolated()?,
            Some('[') if self.long_level().is_some() => Token::Text(self.long()?),
            Some(_) => {
                let sign = SIGNS.into_iter().find(|sign| self.rest().starts_with(sign));
                match sign {
                    Some(sign) => {
                        self.skip(sign.len());
                        Token::Sign(sign)
                    }
                    None => return self.wrong(at, "a name, a number, a text or a sign"),
                }
            }
        };
        Ok(Placed {
            token,
            at,
            end: self.at.offset,
        })
    }

    fn skip_blanks(&mut self) -> Result<(), Unreadable> {
        loop {
            self.skip_while(char::is_whitespace);
            if !self.rest().starts_with("--") {
                return Ok(());
            }
            self.skip(2);
            if self.peek() == Some('[') && self.long_level().is_some() {
                self.long()?;
            } else {
                self.skip_while(|letter| letter != '\n');
            }
        }
    }

    /// How many `=` stand between the brackets of a long text that begins here.
    fn long_level(&self) -> Option<usize> {
        let after = self.rest().strip_prefix('[')?;
        let level = after.bytes().take_while(|byte| *byte == b'=').count();
        after.get(level..)?.starts_with('[').then_some(level)
    }

    fn long(&mut self) -> Result<String, Unreadable> {
        let begun = self.at;
        let level = self.long_level().unwrap_or_default();
        self.skip(level + 2);
        let ending = format!("]{}]", "=".repeat(level));
        let Some(length) = self.rest().find(&ending) else {
            return self.wrong(begun, &format!("{ending} to end what began with ["));
        };
        let content = self.rest().get(..length).unwrap_or_default().to_owned();
        self.skip(content.chars().count() + ending.len());
        Ok(content.strip_prefix('\n').map(str::to_owned).unwrap_or(content))
    }

    fn number(&mut self) -> Token {
        let from = self.at.offset;
        let is_radix = self.rest().len() > 1
            && self.rest().starts_with('0')
            && self.rest().get(1..2).is_some_and(|sign| "xXbB".contains(sign));
        let mut before = ' ';
        while let Some(letter) = self.peek() {
            let exponent = matches!(before, 'e' | 'E') && !is_radix;
            let belongs =
                letter == '_' || letter == '.' || letter.is_ascii_alphanumeric() || (exponent && "+-".contains(letter));
            // `1..2` joins two numbers.
            if !belongs || (letter == '.' && self.rest().starts_with("..")) {
                break;
            }
            before = letter;
            self.advance();
        }
        let text = self.text.get(from..self.at.offset).unwrap_or_default().replace('_', "");
        let lower = text.to_ascii_lowercase();
        #[allow(clippy::cast_precision_loss)]
        let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(|found| found as f64);
        Token::Number(match (lower.strip_prefix("0x"), lower.strip_prefix("0b")) {
            (Some(digits), _) => radix(digits, 16),
            (_, Some(digits)) => radix(digits, 2),
            _ => text.parse().ok(),
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Token, Unreadable> {
        let begun = self.at;
        self.advance();
        let mut content = String::new();
        loop {
            match self.advance() {
                None | Some('\n') => return self.wrong(begun, &format!("{quote} to end what began with {quote}")),
                Some('\\') => self.escape(&mut content),
                Some(letter) if letter == quote => return Ok(Token::Text(content)),
                Some(letter) => content.push(letter),
            }
        }
    }

    /// What follows a backslash. Bytes that are no text by themselves become a question mark: nothing here compares them.
    fn escape(&mut self, content: &mut String) {
        match self.advance() {
            Some('n') => content.push('\n'),
            Some('t') => content.push('\t'),
            Some('r') => content.push('\r'),
            Some('a' | 'b' | 'f' | 'v') => content.push('\u{7}'),
            Some('z') => self.skip_while(char::is_whitespace),
            Some('x') => {
                self.skip(2);
                content.push('?');
            }
            Some('u') => {
                self.skip_while(|letter| letter != '}' && letter != '\n');
                self.advance();
                content.push('?');
            }
            Some(digit) if digit.is_ascii_digit() => {
                let more = self.rest().bytes().take(2).take_while(u8::is_ascii_digit).count();
                self.skip(more);
                content.push('?');
            }
            Some(letter) => content.push(letter),
            None => {}
        }
    }

    fn interpolated(&mut self) -> Result<Token, Unreadable> {
        let begun = self.at;
        self.advance();
        let mut parts = Vec::new();
        let mut ignored = String::new();
        loop {
            match self.advance() {
                None | Some('\n') => return self.wrong(begun, "` to end what began with `"),
                Some('\\') => self.escape(&mut ignored),
                Some('`') => return Ok(Token::Interpolated(parts)),
                Some('{') => parts.push(self.until_brace()?),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let shown = |placed: Placed| match placed.token {
            Token::Word(word) => word,
            Token::Number(number) => number.unwrap().to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Interpolated(parts) => format!("`{}`", parts.len()),
            Token::Sign(sign) => sign.to_owned(),
            Token::End => "end of file".to_owned(),
        };
        tokens(text).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn tokens_of_each_kind_are_read() {
        let cases: [(&str, &[&str]); 13] = [
            ("a.b_1:c", &["a", ".", "b_1", ":", "c"]),
            ("1 .5 1e-3 0xFF 0b101 1_000", &["1", "0.5", "0.001", "255", "5", "1000"]),
            ("1..2", &["1", "..", "2"]),
            ("a..=b //= c // d", &["a", "..=", "b", "//=", "c", "//", "d"]),
            ("x -- y\nz", &["x", "z"]),
            ("x --[[ y\n y ]] z --[==[ ]] ]==] w", &["x", "z", "w"]),
            ("--[=x\ny", &["y"]),
            ("[[a\nb]] [=[]]]=]", &["\"a\\nb\"", "\"]]\""]),
            ("a[b[1]]", &["a", "[", "b", "[", "1", "]", "]"]),
            (r#""a\"b\n" 'c"'"#, &["\"a\\\"b\\n\"", "\"c\\\"\""]),
            ("`a {b} {c({ d = `{e}` })}` f", &["`2`", "f"]),
            ("`a \\{b`", &["`0`"]),
            ("#!/bin/lua\nx", &["x"]),
        ];
        for (text, expected) in cases {
            let found = words(text);
            assert_eq!(found[..found.len() - 1], *expected, "{text}");
        }
    }

    #[test]
    fn places_count_lines_and_characters() {
        let found = tokens("x = \"☺\" y\n\tz").unwrap();
        let places: Vec<(u32, u32)> = found.iter().map(|placed| (placed.at.line, placed.at.column)).collect();
        assert_eq!(places, [(1, 1), (1, 3), (1, 5), (1, 9), (2, 2), (2, 3)]);
    }

    #[test]
    fn what_does_not_end_is_said_with_its_beginning() {
        for (text, line, column) in [
            ("x = \"a", 1, 5),
            ("x = 'a\n'", 1, 5),
            ("\n  [[a", 2, 3),
            ("--[[ a", 1, 3),
            ("`a {b", 1, 5),
            ("`a", 1, 1),
            ("a $ b", 1, 3),
        ] {
            let wrong = tokens(text).unwrap_err();
            assert_eq!((wrong.at.line, wrong.at.column), (line, column), "{text}");
        }
        assert!(tokens(&"`{".repeat(100)).is_err());
    }
}
