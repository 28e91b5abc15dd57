//! Values: operands, signs, calls, tables.

use super::{Parsed, Parser};
use crate::policy::lint::lexer::{Place, Placed, Token, Unreadable};
use crate::policy::lint::tree::{Expression, Item, Kind};

/// Signs and fields that follow each other on one level: `a - b - c`, `a.b.c`.
const LINKS_MAX: usize = 250;
/// Signs of two sides with how strongly they bind to the left and to the right.
const BINARY: [(&str, u8, u8); 16] = [
    ("or", 1, 2),
    ("and", 3, 4),
    ("<", 5, 6),
    (">", 5, 6),
    ("<=", 5, 6),
    (">=", 5, 6),
    ("~=", 5, 6),
    ("==", 5, 6),
    ("..", 9, 8),
    ("+", 11, 12),
    ("-", 11, 12),
    ("*", 13, 14),
    ("/", 13, 14),
    ("//", 13, 14),
    ("%", 13, 14),
    ("^", 18, 17),
];
const UNARY_BINDS: u8 = 15;

impl Parser<'_> {
    pub(super) fn expressions(&mut self) -> Parsed<Vec<Expression>> {
        let mut found = vec![self.expression()?];
        while self.take_sign(",") {
            found.push(self.expression()?);
        }
        Ok(found)
    }

    pub(super) fn expression(&mut self) -> Parsed<Expression> {
        self.deeper(|parser| parser.binary(0))
    }

    pub(super) fn binary(&mut self, binds: u8) -> Parsed<Expression> {
        let at = self.at();
        let is_unary = self.is_word("not") || self.is_sign("-") || self.is_sign("#");
        let mut left = if is_unary {
            self.next += 1;
            let of = self.deeper(|parser| parser.binary(UNARY_BINDS))?;
            self.made(at, Kind::Unary(Box::new(of)))
        } else {
            self.simple()?
        };
        for _ in 0..LINKS_MAX {
            let found = match self.peek() {
                Token::Word(word) => BINARY.iter().find(|(sign, ..)| sign == word),
                Token::Sign(found) => BINARY.iter().find(|(sign, ..)| sign == found),
                _ => None,
            };
            let Some((sign, _, to_right)) = found.filter(|(_, to_left, _)| *to_left > binds) else {
                return Ok(left);
            };
            self.next += 1;
            let right = Box::new(self.deeper(|parser| parser.binary(*to_right))?);
            let left_side = Box::new(left);
            let kind = match *sign {
                "and" | "or" => Kind::Either(sign, left_side, right),
                _ => Kind::Binary(left_side, right),
            };
            left = self.made(at, kind);
        }
        self.wrong("a shorter expression")
    }

    pub(super) fn made(&self, at: Place, kind: Kind) -> Expression {
        Expression {
            at,
            end: self.end(),
            kind,
        }
    }

    /// An operand, with its type where one is asserted.
    pub(super) fn simple(&mut self) -> Parsed<Expression> {
        let at = self.at();
        let plain = match self.peek() {
            Token::Number(number) => Some(Kind::Number(*number)),
            Token::Text(text) => Some(Kind::Text(text.clone())),
            Token::Interpolated(parts) => Some(self.interpolated(parts)?),
            Token::Sign("...") => Some(Kind::Rest),
            Token::Word(word) => match word.as_str() {
                "nil" => Some(Kind::Nil),
                "true" => Some(Kind::Flag(true)),
                "false" => Some(Kind::Flag(false)),
                _ => None,
            },
            _ => None,
        };
        let found = if let Some(kind) = plain {
            self.next += 1;
            self.made(at, kind)
        } else if self.is_sign("{") {
            self.table()?
        } else if self.take_word("function") {
            let function = self.function_body(Vec::new())?;
            self.made(at, Kind::Function(function))
        } else if self.is_word("if") {
            self.if_else()?
        } else if self.is_sign("@") {
            self.attribute()?;
            return self.simple();
        } else {
            self.suffixed()?
        };
        if self.take_sign("::") {
            self.type_()?;
        }
        Ok(found)
    }

    pub(super) fn interpolated(&self, parts: &[Vec<Placed>]) -> Parsed<Kind> {
        let mut found = Vec::new();
        for part in parts {
            let mut parser = Parser {
                tokens: part,
                next: 0,
                depth: self.depth,
            };
            found.push(parser.expression()?);
            if *parser.peek() != Token::End {
                return parser.wrong("}");
            }
        }
        Ok(Kind::Interpolated(found))
    }

    pub(super) fn if_else(&mut self) -> Parsed<Expression> {
        let at = self.at();
        let mut arms = Vec::new();
        while self.take_word("if") || self.take_word("elseif") {
            let condition = self.expression()?;
            self.need_word("then")?;
            arms.push((condition, self.expression()?));
            if !self.is_word("elseif") {
                break;
            }
        }
        self.need_word("else")?;
        let otherwise = Box::new(self.expression()?);
        Ok(self.made(at, Kind::IfElse(arms, otherwise)))
    }

    pub(super) fn table(&mut self) -> Parsed<Expression> {
        let at = self.at();
        self.need_sign("{")?;
        let mut items = Vec::new();
        while !self.take_sign("}") {
            let is_named = matches!(self.peek(), Token::Word(_)) && matches!(self.ahead(1), Token::Sign("="));
            if self.take_sign("[") {
                let key = self.expression()?;
                self.need_sign("]")?;
                self.need_sign("=")?;
                items.push(Item::Keyed(key, self.expression()?));
            } else if is_named {
                let (name, place) = self.name()?;
                self.next += 1;
                items.push(Item::Named(name, place, self.expression()?));
            } else {
                items.push(Item::Positional(self.expression()?));
            }
            if !(self.take_sign(",") || self.take_sign(";")) {
                self.need_sign("}")?;
                break;
            }
        }
        Ok(self.made(at, Kind::Table(items)))
    }

    /// A name or what stands in parentheses, with all its fields, items and calls.
    pub(super) fn suffixed(&mut self) -> Parsed<Expression> {
        let at = self.at();
        let mut found = if self.take_sign("(") {
            let inner = self.expression()?;
            self.need_sign(")")?;
            // Parentheses leave one value: nothing that matters here.
            Expression {
                at,
                end: self.end(),
                kind: inner.kind,
            }
        } else {
            let (name, _) = self.name().map_err(|wrong| Unreadable {
                expected: "an expression".to_owned(),
                ..wrong
            })?;
            self.made(at, Kind::Name(name))
        };
        for _ in 0..LINKS_MAX {
            let kind = match self.peek() {
                Token::Sign(".") => {
                    self.next += 1;
                    let (name, place) = self.field_name()?;
                    Kind::Field(Box::new(found), name, place)
                }
                Token::Sign("[") => {
                    self.next += 1;
                    let by = self.expression()?;
                    self.need_sign("]")?;
                    Kind::Item(Box::new(found), Box::new(by))
                }
                Token::Sign(":") => {
                    self.next += 1;
                    self.field_name()?;
                    match self.arguments()? {
                        Some(arguments) => Kind::Method(Box::new(found), arguments),
                        None => return self.wrong("the arguments of the method"),
                    }
                }
                _ => match self.arguments()? {
                    Some(arguments) => Kind::Call(Box::new(found), arguments),
                    None => return Ok(found),
                },
            };
            found = self.made(at, kind);
        }
        self.wrong("a shorter expression")
    }

    /// `(…)`, a table or a text; `None` where nothing is called.
    pub(super) fn arguments(&mut self) -> Parsed<Option<Vec<Expression>>> {
        let at = self.at();
        match self.peek() {
            Token::Sign("(") => {
                self.next += 1;
                if self.take_sign(")") {
                    return Ok(Some(Vec::new()));
                }
                let found = self.expressions()?;
                self.need_sign(")")?;
                Ok(Some(found))
            }
            Token::Sign("{") => Ok(Some(vec![self.table()?])),
            Token::Text(text) => {
                self.next += 1;
                Ok(Some(vec![self.made(at, Kind::Text(text.clone()))]))
            }
            Token::Interpolated(parts) => {
                let kind = self.interpolated(parts)?;
                self.next += 1;
                Ok(Some(vec![self.made(at, kind)]))
            }
            _ => Ok(None),
        }
    }
}
