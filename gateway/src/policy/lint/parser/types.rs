//! Types, read over: they are nothing at run time.

use super::{Parsed, Parser};
use crate::policy::lint::lexer::Token;
use crate::policy::lint::tree::Act;

impl Parser<'_> {
    pub(super) fn type_statement(&mut self) -> Parsed<Act> {
        self.take_word("export");
        self.need_word("type")?;
        if self.take_word("function") {
            self.name()?;
            self.function_body(Vec::new())?;
            return Ok(Act::Type);
        }
        self.name()?;
        if self.is_sign("<") {
            self.angles()?;
        }
        self.need_sign("=")?;
        self.type_()?;
        Ok(Act::Type)
    }

    /// `<…>` with everything in it: generics name types alone.
    pub(super) fn angles(&mut self) -> Parsed<()> {
        let mut open = 0usize;
        loop {
            match self.peek() {
                Token::Sign("<") => open += 1,
                Token::Sign(">") => open -= 1,
                Token::End => return self.wrong(">"),
                _ => {}
            }
            self.next += 1;
            if open == 0 {
                return Ok(());
            }
        }
    }

    pub(super) fn type_(&mut self) -> Parsed<()> {
        self.deeper(|parser| {
            // A leading sign of a union is allowed.
            let _ = parser.take_sign("|") || parser.take_sign("&");
            loop {
                parser.simple_type()?;
                while parser.take_sign("?") {}
                if !(parser.take_sign("|") || parser.take_sign("&")) {
                    return Ok(());
                }
            }
        })
    }

    pub(super) fn simple_type(&mut self) -> Parsed<()> {
        match self.peek() {
            Token::Sign("...") => {
                self.next += 1;
                self.type_()
            }
            Token::Sign("<") => {
                self.angles()?;
                self.simple_type()
            }
            Token::Sign("(") => {
                self.balanced("(", ")")?;
                if self.take_sign("->") { self.type_() } else { Ok(()) }
            }
            Token::Sign("{") => self.balanced("{", "}"),
            Token::Text(_) => {
                self.next += 1;
                Ok(())
            }
            Token::Word(word) if word == "typeof" => {
                self.next += 1;
                self.balanced("(", ")")
            }
            Token::Word(_) => {
                self.next += 1;
                while self.take_sign(".") {
                    self.field_name()?;
                }
                self.take_sign("...");
                if self.is_sign("<") {
                    self.angles()?;
                }
                Ok(())
            }
            _ => self.wrong("a type"),
        }
    }

    pub(super) fn balanced(&mut self, open: &str, close: &str) -> Parsed<()> {
        let mut depth = 0usize;
        loop {
            if *self.peek() == Token::End {
                return self.wrong(close);
            }
            if self.is_sign(open) {
                depth += 1;
            } else if self.is_sign(close) {
                depth -= 1;
            }
            self.next += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}
