//! A policy's text as a tree: what is needed of it to find names, intents and branches. Types are read over and left out.

use super::lexer::Place;

#[derive(Debug)]
pub(in crate::policy) struct Expression {
    pub at: Place,
    /// The byte after its last.
    pub end: usize,
    pub kind: Kind,
}

#[derive(Debug)]
pub(in crate::policy) enum Kind {
    Nil,
    Flag(bool),
    Number(Option<f64>),
    Text(String),
    Interpolated(Vec<Expression>),
    Rest,
    Name(String),
    /// `of.name`; the place is that of the name.
    Field(Box<Expression>, String, Place),
    /// `of[by]`.
    Item(Box<Expression>, Box<Expression>),
    Call(Box<Expression>, Vec<Expression>),
    /// `of:name(…)`.
    Method(Box<Expression>, Vec<Expression>),
    Function(Function),
    Table(Vec<Item>),
    Unary(Box<Expression>),
    /// `and`, `or`: the right side may not be reached.
    Either(&'static str, Box<Expression>, Box<Expression>),
    Binary(Box<Expression>, Box<Expression>),
    /// Conditions with their values, and the value where none holds.
    IfElse(Vec<(Expression, Expression)>, Box<Expression>),
}

#[derive(Debug)]
pub(in crate::policy) enum Item {
    Positional(Expression),
    Named(String, Place, Expression),
    Keyed(Expression, Expression),
}

impl Item {
    /// Its key, where that is evaluated, and its value.
    pub fn values(&self) -> impl Iterator<Item = &Expression> {
        let (key, value) = match self {
            Item::Positional(value) | Item::Named(_, _, value) => (None, value),
            Item::Keyed(key, value) => (Some(key), value),
        };
        key.into_iter().chain([value])
    }
}

impl Expression {
    /// The expressions that it is made of, in the order in which they are written. A function's are its own.
    pub fn parts(&self) -> Vec<&Expression> {
        match &self.kind {
            Kind::Nil | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) | Kind::Rest => Vec::new(),
            Kind::Name(_) | Kind::Function(_) => Vec::new(),
            Kind::Interpolated(parts) => parts.iter().collect(),
            Kind::Field(of, ..) | Kind::Unary(of) => vec![of],
            Kind::Item(of, by) | Kind::Binary(of, by) | Kind::Either(_, of, by) => vec![of, by],
            Kind::Call(of, arguments) | Kind::Method(of, arguments) => {
                std::iter::once(&**of).chain(arguments).collect()
            }
            Kind::Table(items) => items.iter().flat_map(Item::values).collect(),
            Kind::IfElse(arms, otherwise) => {
                let arms = arms.iter().flat_map(|(condition, value)| [condition, value]);
                arms.chain([&**otherwise]).collect()
            }
        }
    }
}

#[derive(Debug)]
pub(in crate::policy) struct Function {
    /// Names with their places; `self` of a method first.
    pub params: Vec<(String, Place)>,
    pub body: Block,
}

#[derive(Debug, Default)]
pub(in crate::policy) struct Block {
    /// The place behind what begins it.
    pub begin: Place,
    pub statements: Vec<Statement>,
}

#[derive(Debug)]
pub(in crate::policy) struct Statement {
    pub at: Place,
    pub kind: Act,
}

#[derive(Debug)]
pub(in crate::policy) enum Act {
    Local(Vec<(String, Place)>, Vec<Expression>),
    /// Also `+=` and the like: what is written is read then, too.
    Assign(Vec<Expression>, Vec<Expression>),
    Call(Expression),
    Do(Block),
    While(Expression, Block),
    Repeat(Block, Expression),
    If {
        /// The place of `if` or `elseif`, what it asks, and what it does.
        arms: Vec<(Place, Expression, Block)>,
        /// With the place of `else`.
        otherwise: Option<(Place, Block)>,
        /// The place of its `end`.
        end: Place,
    },
    /// `for name = from, to, step`.
    Count(Vec<(String, Place)>, Vec<Expression>, Block),
    /// `for names in …`.
    Each(Vec<(String, Place)>, Vec<Expression>, Block),
    /// `function a.b.c(…)`.
    Function(Expression, Function),
    LocalFunction((String, Place), Function),
    Return(Vec<Expression>),
    Break,
    Continue,
    /// A type, which is nothing at run time.
    Type,
}

/// A table's field by its name.
pub(in crate::policy) fn named<'t>(items: &'t [Item], wanted: &str) -> Option<(Place, &'t Expression)> {
    items.iter().find_map(|item| match item {
        Item::Named(name, at, value) if name == wanted => Some((*at, value)),
        Item::Keyed(key, value) => match &key.kind {
            Kind::Text(name) if name == wanted => Some((key.at, value)),
            _ => None,
        },
        _ => None,
    })
}

/// The table that the file returns, where it is written out in the `return` itself.
pub(in crate::policy) fn returned(file: &Block) -> Option<&[Item]> {
    let Act::Return(values) = &file.statements.last()?.kind else {
        return None;
    };
    match &values.first()?.kind {
        Kind::Table(items) => Some(items),
        _ => None,
    }
}

/// The place of a key of the returned table, as far as its path is written out there: `schema.limit.default`.
pub(in crate::policy) fn place_of(file: &Block, path: &[&str]) -> Option<Place> {
    let mut items = returned(file)?;
    let mut found = None;
    for key in path {
        let Some((at, value)) = named(items, key) else { break };
        found = Some(at);
        match &value.kind {
            Kind::Table(inner) => items = inner,
            _ => break,
        }
    }
    found
}
