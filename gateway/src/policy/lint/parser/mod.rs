//! Reads the tokens into a tree, by Luau's grammar. The gateway's own compiler has the last word on what is a fault of syntax: this
//! reader is asked for places, so it reads what that accepts, and some more.

mod expressions;
#[cfg(test)]
mod tests;
mod types;

use super::lexer::{Place, Placed, Token, Unreadable, tokens};
use super::tree::{Act, Block, Expression, Function, Kind, Statement};

/// Expressions and blocks within one another.
const DEPTH_MAX: usize = 160;

const KEYWORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or",
    "repeat", "return", "then", "true", "until", "while",
];
const ENDS_BLOCK: [&str; 4] = ["end", "else", "elseif", "until"];
const COMPOUND: [&str; 8] = ["+=", "-=", "*=", "/=", "//=", "%=", "^=", "..="];

pub(in crate::policy) fn parse(text: &str) -> Result<Block, Unreadable> {
    let tokens = tokens(text)?;
    let mut parser = Parser::new(&tokens);
    let file = parser.block(Place {
        line: 1,
        column: 1,
        offset: 0,
    })?;
    match parser.peek() {
        Token::End => Ok(file),
        _ => parser.wrong("the end of the file"),
    }
}

struct Parser<'t> {
    tokens: &'t [Placed],
    next: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Unreadable>;

impl<'t> Parser<'t> {
    fn new(tokens: &'t [Placed]) -> Parser<'t> {
        Parser {
            tokens,
            next: 0,
            depth: 0,
        }
    }

    fn ahead(&self, by: usize) -> &'t Token {
        self.tokens
            .get(self.next + by)
            .map_or(&Token::End, |placed| &placed.token)
    }

    fn peek(&self) -> &'t Token {
        self.ahead(0)
    }

    fn at(&self) -> Place {
        let placed = self.tokens.get(self.next).or(self.tokens.last());
        placed.map_or_else(Place::default, |placed| placed.at)
    }

    /// The byte after the token before.
    fn end(&self) -> usize {
        let before = self.next.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.map_or(0, |placed| placed.end)
    }

    fn wrong<T>(&self, expected: &str) -> Parsed<T> {
        Err(Unreadable {
            at: self.at(),
            expected: expected.to_owned(),
        })
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return self.wrong("less that stands within one another");
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found == word)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is = self.is_sign(sign);
        self.next += usize::from(is);
        is
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.next += usize::from(is);
        is
    }

    fn need_sign(&mut self, sign: &str) -> Parsed<()> {
        if self.take_sign(sign) { Ok(()) } else { self.wrong(sign) }
    }

    fn need_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) { Ok(()) } else { self.wrong(word) }
    }

    fn name(&mut self) -> Parsed<(String, Place)> {
        let at = self.at();
        match self.peek() {
            Token::Word(word) if !KEYWORDS.contains(&word.as_str()) => {
                self.next += 1;
                Ok((word.clone(), at))
            }
            _ => self.wrong("a name"),
        }
    }

    /// A name of a field, which may be a keyword after `.`: Luau says no, but places are what is asked for here.
    fn field_name(&mut self) -> Parsed<(String, Place)> {
        let at = self.at();
        match self.peek() {
            Token::Word(word) => {
                self.next += 1;
                Ok((word.clone(), at))
            }
            _ => self.wrong("a name"),
        }
    }

    fn block(&mut self, begin: Place) -> Parsed<Block> {
        self.deeper(|parser| {
            let mut statements = Vec::new();
            loop {
                while parser.take_sign(";") {}
                let ends = match parser.peek() {
                    Token::End => true,
                    Token::Word(word) => ENDS_BLOCK.contains(&word.as_str()),
                    _ => false,
                };
                if ends {
                    return Ok(Block { begin, statements });
                }
                let at = parser.at();
                let kind = parser.statement()?;
                statements.push(Statement { at, kind });
            }
        })
    }

    /// Where the token that was taken last ends: a block begins there.
    fn behind(&self) -> Place {
        Place {
            offset: self.end(),
            ..self.at()
        }
    }

    fn block_until(&mut self, word: &str) -> Parsed<Block> {
        let begin = self.behind();
        let block = self.block(begin)?;
        self.need_word(word)?;
        Ok(block)
    }

    fn statement(&mut self) -> Parsed<Act> {
        while self.is_sign("@") {
            self.attribute()?;
        }
        let Token::Word(word) = self.peek() else {
            return self.expression_statement();
        };
        match word.as_str() {
            "if" => self.if_statement(),
            "while" => {
                self.next += 1;
                let condition = self.expression()?;
                self.need_word("do")?;
                Ok(Act::While(condition, self.block_until("end")?))
            }
            "do" => {
                self.next += 1;
                Ok(Act::Do(self.block_until("end")?))
            }
            "for" => self.for_statement(),
            "repeat" => {
                self.next += 1;
                let block = self.block_until("until")?;
                Ok(Act::Repeat(block, self.expression()?))
            }
            "function" => {
                self.next += 1;
                self.function_statement()
            }
            "local" => {
                self.next += 1;
                if self.take_word("function") {
                    let name = self.name()?;
                    return Ok(Act::LocalFunction(name, self.function_body(Vec::new())?));
                }
                let names = self.bindings()?;
                let values = if self.take_sign("=") {
                    self.expressions()?
                } else {
                    Vec::new()
                };
                Ok(Act::Local(names, values))
            }
            "return" => {
                self.next += 1;
                let ends = match self.peek() {
                    Token::End | Token::Sign(";") => true,
                    Token::Word(word) => ENDS_BLOCK.contains(&word.as_str()),
                    _ => false,
                };
                Ok(Act::Return(if ends { Vec::new() } else { self.expressions()? }))
            }
            "break" => {
                self.next += 1;
                Ok(Act::Break)
            }
            "continue" if self.is_alone() => {
                self.next += 1;
                Ok(Act::Continue)
            }
            "type" | "export" if matches!(self.ahead(1), Token::Word(_)) => self.type_statement(),
            _ => self.expression_statement(),
        }
    }

    /// Whether the word at hand is a statement by itself, and no name that something is done with.
    fn is_alone(&self) -> bool {
        !matches!(self.ahead(1), Token::Sign(sign) if *sign != ";" && *sign != "@")
            && !matches!(self.ahead(1), Token::Text(_) | Token::Interpolated(_))
    }

    fn attribute(&mut self) -> Parsed<()> {
        self.need_sign("@")?;
        if self.take_sign("[") {
            while !self.take_sign("]") {
                if *self.peek() == Token::End {
                    return self.wrong("]");
                }
                self.next += 1;
            }
            return Ok(());
        }
        self.field_name().map(drop)
    }

    fn if_statement(&mut self) -> Parsed<Act> {
        let (mut arms, mut otherwise) = (Vec::new(), None);
        loop {
            let at = self.at();
            self.next += 1;
            let condition = self.expression()?;
            self.need_word("then")?;
            let begin = self.behind();
            arms.push((at, condition, self.block(begin)?));
            if !self.is_word("elseif") {
                break;
            }
        }
        let at = self.at();
        if self.take_word("else") {
            let begin = self.behind();
            otherwise = Some((at, self.block(begin)?));
        }
        let end = self.at();
        self.need_word("end")?;
        Ok(Act::If { arms, otherwise, end })
    }

    fn for_statement(&mut self) -> Parsed<Act> {
        self.next += 1;
        let names = self.bindings()?;
        if self.take_sign("=") {
            let values = self.expressions()?;
            self.need_word("do")?;
            return Ok(Act::Count(names, values, self.block_until("end")?));
        }
        self.need_word("in")?;
        let values = self.expressions()?;
        self.need_word("do")?;
        Ok(Act::Each(names, values, self.block_until("end")?))
    }

    fn function_statement(&mut self) -> Parsed<Act> {
        let (name, at) = self.name()?;
        let mut target = Expression {
            at,
            end: self.end(),
            kind: Kind::Name(name),
        };
        let mut first = Vec::new();
        loop {
            let method = self.is_sign(":");
            if !method && !self.is_sign(".") {
                break;
            }
            self.next += 1;
            let (name, place) = self.field_name()?;
            target = Expression {
                at,
                end: self.end(),
                kind: Kind::Field(Box::new(target), name, place),
            };
            if method {
                first.push(("self".to_owned(), place));
                break;
            }
        }
        Ok(Act::Function(target, self.function_body(first)?))
    }

    /// Names with their types, separated by commas.
    fn bindings(&mut self) -> Parsed<Vec<(String, Place)>> {
        let mut names = Vec::new();
        loop {
            names.push(self.name()?);
            if self.take_sign(":") {
                self.type_()?;
            }
            if !self.take_sign(",") {
                return Ok(names);
            }
        }
    }

    /// From the parameters to `end`.
    fn function_body(&mut self, mut params: Vec<(String, Place)>) -> Parsed<Function> {
        if self.is_sign("<") {
            self.angles()?;
        }
        self.need_sign("(")?;
        while !self.take_sign(")") {
            if self.take_sign("...") {
                if self.take_sign(":") {
                    self.type_()?;
                }
            } else {
                params.push(self.name()?);
                if self.take_sign(":") {
                    self.type_()?;
                }
            }
            if !self.take_sign(",") {
                self.need_sign(")")?;
                break;
            }
        }
        if self.take_sign(":") {
            self.type_()?;
        }
        let body = self.block_until("end")?;
        Ok(Function { params, body })
    }

    fn expression_statement(&mut self) -> Parsed<Act> {
        let first = self.suffixed()?;
        if let Token::Sign(sign) = self.peek()
            && COMPOUND.contains(sign)
        {
            self.next += 1;
            let value = self.expression()?;
            return Ok(Act::Assign(vec![first], vec![value]));
        }
        if self.is_sign("=") || self.is_sign(",") {
            let mut targets = vec![first];
            while self.take_sign(",") {
                targets.push(self.suffixed()?);
            }
            self.need_sign("=")?;
            return Ok(Act::Assign(targets, self.expressions()?));
        }
        match first.kind {
            Kind::Call(..) | Kind::Method(..) => Ok(Act::Call(first)),
            _ => self.wrong("= or ( after what is named"),
        }
    }
}
