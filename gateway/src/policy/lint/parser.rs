//! Reads the tokens into a tree, by Luau's grammar. The gateway's own compiler has the last word on what is a fault of syntax: this
//! reader is asked for places, so it reads what that accepts, and some more.

use super::lexer::{Place, Placed, Token, Unreadable, tokens};
use super::tree::{Act, Block, Expression, Function, Item, Kind, Statement};

/// Expressions and blocks within one another.
const DEPTH_MAX: usize = 160;
/// Signs and fields that follow each other on one level: `a - b - c`, `a.b.c`.
const LINKS_MAX: usize = 250;

const KEYWORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or",
    "repeat", "return", "then", "true", "until", "while",
];
const ENDS_BLOCK: [&str; 4] = ["end", "else", "elseif", "until"];
const COMPOUND: [&str; 8] = ["+=", "-=", "*=", "/=", "//=", "%=", "^=", "..="];

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
                    let end = parser.at();
                    return Ok(Block { begin, end, statements });
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

    fn expressions(&mut self) -> Parsed<Vec<Expression>> {
        let mut found = vec![self.expression()?];
        while self.take_sign(",") {
            found.push(self.expression()?);
        }
        Ok(found)
    }

    fn expression(&mut self) -> Parsed<Expression> {
        self.deeper(|parser| parser.binary(0))
    }

    fn binary(&mut self, binds: u8) -> Parsed<Expression> {
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

    fn made(&self, at: Place, kind: Kind) -> Expression {
        Expression {
            at,
            end: self.end(),
            kind,
        }
    }

    /// An operand, with its type where one is asserted.
    fn simple(&mut self) -> Parsed<Expression> {
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

    fn interpolated(&self, parts: &[Vec<Placed>]) -> Parsed<Kind> {
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

    fn if_else(&mut self) -> Parsed<Expression> {
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

    fn table(&mut self) -> Parsed<Expression> {
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
    fn suffixed(&mut self) -> Parsed<Expression> {
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
    fn arguments(&mut self) -> Parsed<Option<Vec<Expression>>> {
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

    fn type_statement(&mut self) -> Parsed<Act> {
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
    fn angles(&mut self) -> Parsed<()> {
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

    fn type_(&mut self) -> Parsed<()> {
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

    fn simple_type(&mut self) -> Parsed<()> {
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

    fn balanced(&mut self, open: &str, close: &str) -> Parsed<()> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use mlua::chunk::Compiler;

    use super::*;

    /// Texts that Luau takes, and this reader too.
    const SOUND: [&str; 40] = [
        "",
        "return",
        "return {}",
        "return { a = 1, ['b'] = 2, 3; 4, }",
        "local a, b = 1",
        "local a: number, b: { [string]: any }? = 1, {}",
        "local x: (number, string) -> (boolean, ...any) = f",
        "local x: typeof(f(1)) | nil & string = nil",
        "local function f<T>(a: T, ...: number): T? return a end",
        "type A = { a: number, b: (A) -> () } | \"x\"\nexport type B<T, U...> = (T) -> U...",
        "function a.b.c:d(x) return self end",
        "if a then elseif b then else end",
        "if a then return end",
        "while a do break end",
        "repeat local x = f() until x",
        "for i = 1, 2 do continue end",
        "for i = 1, 2, 3 do end for a, b in c, d do end",
        "a.b[c].d = 1",
        "a, b.c = 1, 2",
        "a += 1; a.b ..= 'x' a //= 2",
        "f 'x' f [[x]] f {} f `x{y}`",
        "a.b:c(1):d{}.e()",
        "(a or b)(c)",
        "local x = if a then b elseif c then d else e",
        "local x = -a ^ -b .. #c == not d",
        "local x = a and b or c",
        "local x = (f()) :: number + 1",
        "local x = function(...) return ... end",
        "local x = `{a} and {if b then `{c}` else 'd'}`",
        "local continue = 1 continue = 2",
        "local type = 1 type = 2 type.a = 3",
        "@native local function f() end",
        "do local a <const> = nil end",
        "return f(...)",
        "local a = 1; ; ;",
        "goto_ = 1",
        "local t = { f = function(self) end, [1] = 2, g }",
        "local a = { b = if c then 1 else 2 }",
        "for _, x in { 1, 2 } do print(x) end",
        "local a: A.B<number> = x :: any :: A.B<number>",
    ];

    #[test]
    fn what_luau_takes_is_read() {
        for text in SOUND {
            let compiled = Compiler::new().compile(text);
            let read = parse(text);
            // A text in the list that Luau refuses is there to see that nothing breaks.
            if compiled.is_ok() {
                assert!(read.is_ok(), "{text}: {read:?}");
            }
        }
    }

    #[test]
    fn what_luau_refuses_has_a_place() {
        for (text, line, column) in [
            ("return { a = }", 1, 14),
            ("local = 1", 1, 7),
            ("if a the b end", 1, 6),
            ("\n\nfor x of y do end", 3, 7),
            ("return {\n\tname = 'x'\n\tversion = '1' }", 3, 2),
            ("x", 1, 2),
            ("f(", 1, 3),
            ("end", 1, 1),
            ("local a = 1 +", 1, 14),
        ] {
            assert!(Compiler::new().compile(text).is_err(), "{text}");
            let wrong = parse(text).unwrap_err();
            assert_eq!((wrong.at.line, wrong.at.column), (line, column), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn what_stands_too_deep_is_refused_and_breaks_nothing() {
        for (open, close) in [
            ("(", ")"),
            ("{", "}"),
            ("function() return ", " end"),
            ("- ", ""),
            ("a^", ""),
        ] {
            let text = format!("return {}1{}", open.repeat(5_000), close.repeat(5_000));
            assert!(parse(&text).is_err(), "{open}");
        }
        assert!(parse(&format!("return {}", "a ..".repeat(5_000))).is_err());
        assert!(parse(&format!("{}", "if a then ".repeat(5_000))).is_err());
    }

    #[test]
    fn precedence_is_luaus() {
        fn shown(expression: &Expression) -> String {
            match &expression.kind {
                Kind::Name(name) => name.clone(),
                Kind::Unary(of) => format!("[{}]", shown(of)),
                Kind::Either(sign, left, right) => format!("({} {sign} {})", shown(left), shown(right)),
                Kind::Binary(left, right) => format!("({} {})", shown(left), shown(right)),
                other => panic!("{other:?}"),
            }
        }
        for (text, expected) in [
            ("a or b and c", "(a or (b and c))"),
            ("a and b or c", "((a and b) or c)"),
            ("a .. b .. c", "(a (b c))"),
            ("a - b - c", "((a b) c)"),
            ("not a == b", "([a] b)"),
            ("-a ^ b", "[(a b)]"),
            ("a ^ -b", "(a [b])"),
            ("a + b * c < d", "((a (b c)) d)"),
        ] {
            let file = parse(&format!("return {text}")).unwrap();
            let Act::Return(values) = &file.statements[0].kind else {
                panic!()
            };
            assert_eq!(shown(&values[0]), expected, "{text}");
        }
    }
}
