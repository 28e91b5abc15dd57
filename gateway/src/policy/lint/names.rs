//! Which names of a policy mean what: locals by their scopes, all others by what the sandbox has. What is asked of the sandbox it
//! answers by doing it, so that no rule of the gateway is written down twice.

use serde_json::{Map, Value};

use super::lexer::Place;
use super::tree::{Act, Block, Expression, Function, Item, Kind, returned};
use super::walk::Walk;
use super::{Slip, tree};
use crate::config::nearest;
use crate::policy::set::Phase;

/// What policies meet when they run.
pub(in crate::policy) trait Sandbox {
    fn has_global(&self, name: &str) -> bool;

    /// All names of globals.
    fn globals(&self) -> Vec<&str>;

    /// The members of a library; `None` where it is no table.
    fn members(&self, library: &str) -> Option<Vec<&str>>;

    /// Reads fields of a phase's facts, one within the other: the place of the first that does not exist, and why.
    fn read(&self, phase: Phase, fields: &[&str]) -> Result<(), (usize, String)>;

    /// Whether the name is that of an intent's constructor.
    fn is_intent(&self, name: &str) -> bool;

    /// Asks for an intent with these fields.
    fn ask(&self, phase: Phase, intent: &str, fields: &[(String, Literal)]) -> Result<(), String>;

    /// Calls `spent` or `held`.
    fn balance(&self, phase: Phase, function: &str, arguments: &[Literal]) -> Result<(), String>;
}

/// A value as it is written out in the text.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) enum Literal {
    Known(Value),
    /// It is made when the policy runs.
    Unknown,
}

/// What a local name is known to hold.
#[derive(Clone, Debug)]
enum Holds {
    Anything,
    /// A phase's facts, or what hangs on them by these fields.
    Facts(Phase, Vec<String>),
}

/// Everything that is wrong with the names of a file, in the order of the text.
pub(in crate::policy) fn lint(file: &Block, sandbox: &dyn Sandbox) -> Vec<Slip> {
    let mut reader = Reader {
        sandbox,
        scopes: Vec::new(),
        phase: None,
        slips: Vec::new(),
    };
    let of_phases = returned(file).unwrap_or_default();
    reader.file(file, of_phases);
    let mut slips = reader.slips;
    slips.sort_by_key(|slip| slip.at);
    slips.dedup();
    slips
}

/// A field that is read of facts, with its place where the expression names it itself.
type ReadField = (String, Option<Place>);

struct Reader<'s> {
    sandbox: &'s dyn Sandbox,
    scopes: Vec<Vec<(String, Holds)>>,
    /// The phase whose function is being read.
    phase: Option<Phase>,
    slips: Vec<Slip>,
}

/// Word lengths from which on a slip of the pen can be told from another word.
const SUGGESTED_FROM: usize = 3;

impl Walk for Reader<'_> {
    fn enter(&mut self) {
        self.scopes.push(Vec::new());
    }

    fn leave(&mut self) {
        self.scopes.pop();
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Local(names, values) => {
                self.expressions(values);
                let held: Vec<Holds> = (0..names.len())
                    .map(|place| values.get(place).map_or(Holds::Anything, |value| self.holds(value)))
                    .collect();
                for ((name, _), holds) in names.iter().zip(held) {
                    self.declare(name, holds);
                }
            }
            Act::Assign(targets, values) => {
                self.expressions(values);
                targets.iter().for_each(|target| self.written(target));
            }
            Act::Call(call) => self.expression(call),
            Act::Do(_) | Act::While(..) | Act::Repeat(..) | Act::If { .. } => self.flow(act),
            Act::Count(names, values, block) | Act::Each(names, values, block) => {
                self.expressions(values);
                self.block_with(names, block);
            }
            Act::Function(target, function) => {
                self.written(target);
                self.function(function, None);
            }
            Act::LocalFunction((name, _), function) => {
                self.declare(name, Holds::Anything);
                self.function(function, None);
            }
            Act::Return(values) => self.expressions(values),
            Act::Break | Act::Continue | Act::Type => {}
        }
    }

    fn expression(&mut self, expression: &Expression) {
        match &expression.kind {
            Kind::Name(name) => self.read(name, expression.at),
            Kind::Field(of, name, at) => self.field(expression, of, name, *at),
            Kind::Function(function) => self.function(function, None),
            Kind::Call(of, arguments) => {
                self.parts(expression);
                self.called(of, arguments);
            }
            _ => self.parts(expression),
        }
    }
}

impl Reader<'_> {
    fn slip(&mut self, at: Place, code: &'static str, message: String) {
        self.slips.push(Slip { at, code, message });
    }

    fn file(&mut self, file: &Block, of_phases: &[Item]) {
        self.scopes.push(Vec::new());
        for (place, statement) in file.statements.iter().enumerate() {
            let is_policy = place + 1 == file.statements.len() && !of_phases.is_empty();
            if is_policy {
                self.policy(of_phases);
            } else {
                self.act(&statement.kind);
            }
        }
        self.scopes.pop();
    }

    /// The table that the file returns: in its phases the second parameter is known.
    fn policy(&mut self, items: &[Item]) {
        for item in items {
            let phase = match item {
                Item::Named(name, ..) => Phase::ALL.into_iter().find(|phase| phase.name() == name),
                _ => None,
            };
            match (item, phase) {
                (Item::Named(_, _, value), Some(phase)) => {
                    self.phase = Some(phase);
                    match &value.kind {
                        Kind::Function(function) => self.function(function, Some(phase)),
                        _ => self.expression(value),
                    }
                    self.phase = None;
                }
                _ => item.values().for_each(|value| self.expression(value)),
            }
        }
    }

    fn declare(&mut self, name: &str, holds: Holds) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.push((name.to_owned(), holds));
        }
    }

    fn local(&self, name: &str) -> Option<&Holds> {
        let mut locals = self.scopes.iter().rev().flat_map(|scope| scope.iter().rev());
        locals.find(|(known, _)| known == name).map(|(_, holds)| holds)
    }

    /// A block that begins with names of its own.
    fn block_with(&mut self, names: &[(String, Place)], block: &Block) {
        self.scopes.push(Vec::new());
        names.iter().for_each(|(name, _)| self.declare(name, Holds::Anything));
        self.block(block);
        self.scopes.pop();
    }

    fn function(&mut self, function: &Function, of: Option<Phase>) {
        self.scopes.push(Vec::new());
        for (place, (name, _)) in function.params.iter().enumerate() {
            let holds = match of {
                // What hangs on an event is its kind's own.
                Some(phase) if place == 1 && phase != Phase::Alert => Holds::Facts(phase, Vec::new()),
                _ => Holds::Anything,
            };
            self.declare(name, holds);
        }
        self.block(&function.body);
        self.scopes.pop();
    }

    /// What a value is known to be: facts, where nothing but fields of them is read.
    fn holds(&self, value: &Expression) -> Holds {
        match self.facts(value) {
            Some((phase, fields)) => {
                let fields = fields.into_iter().map(|(name, _)| name).collect();
                Holds::Facts(phase, fields)
            }
            None => Holds::Anything,
        }
    }

    /// The fields that are read of facts, one within the other, with the place of each that the expression names itself.
    fn facts(&self, of: &Expression) -> Option<(Phase, Vec<ReadField>)> {
        match &of.kind {
            Kind::Name(name) => match self.local(name)? {
                Holds::Facts(phase, fields) => {
                    let fields = fields.iter().map(|name| (name.clone(), None)).collect();
                    Some((*phase, fields))
                }
                Holds::Anything => None,
            },
            Kind::Field(of, name, at) => {
                let (phase, mut fields) = self.facts(of)?;
                fields.push((name.clone(), Some(*at)));
                Some((phase, fields))
            }
            _ => None,
        }
    }

    fn written(&mut self, target: &Expression) {
        let Kind::Name(name) = &target.kind else {
            return self.expression(target);
        };
        let mut locals = self.scopes.iter_mut().rev().flat_map(|scope| scope.iter_mut().rev());
        if let Some((_, holds)) = locals.find(|(known, _)| known == name) {
            *holds = Holds::Anything;
            return;
        }
        let meant = self.meant(name, &[]);
        let message = format!("writes the global {name}, and globals cannot be written: declare it with local{meant}");
        self.slip(target.at, "global_written", message);
    }

    /// `; did you mean …?`, of the names in sight and these.
    fn meant(&self, name: &str, more: &[&str]) -> String {
        let locals = self.scopes.iter().flatten().map(|(name, _)| name.as_str());
        meant(locals.chain(more.iter().copied()), name)
    }

    fn read(&mut self, name: &str, at: Place) {
        if self.local(name).is_some() || self.sandbox.has_global(name) {
            return;
        }
        let meant = self.meant(name, &self.sandbox.globals());
        self.slip(
            at,
            "global_unknown",
            format!("there is no {name}: no local of that name is in sight, and the sandbox has no such global{meant}"),
        );
    }

    fn field(&mut self, whole: &Expression, of: &Expression, name: &str, at: Place) {
        if let Some((phase, fields)) = self.facts(whole) {
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            if let Err((place, message)) = self.sandbox.read(phase, &names)
                // What a local was made of was looked at where it was made.
                && let Some((_, Some(at))) = fields.get(place)
            {
                self.slip(*at, "fact_unknown", message);
            }
            return;
        }
        if let Kind::Name(library) = &of.kind
            && self.local(library).is_none()
            && let Some(members) = self.sandbox.members(library)
        {
            if !members.contains(&name) {
                let meant = meant(members.iter().copied(), name);
                self.slip(
                    at,
                    "member_unknown",
                    format!("{library} has no {name} in the sandbox{meant}"),
                );
            }
            return;
        }
        self.expression(of);
    }

    /// A call of what the sandbox has: tried with what is written out.
    fn called(&mut self, of: &Expression, arguments: &[Expression]) {
        let Kind::Name(name) = &of.kind else { return };
        if self.local(name).is_some() {
            return;
        }
        let tried = if self.sandbox.is_intent(name) {
            let fields = match arguments {
                [] => Vec::new(),
                [
                    Expression {
                        kind: Kind::Table(items),
                        ..
                    },
                ] => match fields_of(items) {
                    Some(fields) => fields,
                    None => return,
                },
                _ => return,
            };
            let elsewhere = if name == "bind" { Phase::Tenant } else { Phase::Request };
            self.sandbox.ask(self.phase.unwrap_or(elsewhere), name, &fields)
        } else if name == "spent" || name == "held" {
            let arguments: Vec<Literal> = arguments.iter().map(literal).collect();
            self.sandbox
                .balance(self.phase.unwrap_or(Phase::Request), name, &arguments)
        } else {
            return;
        };
        if let Err(message) = tried {
            self.slip(of.at, "intent", message);
        }
    }
}

/// `; did you mean …?` of the known names; empty where none is near.
pub(in crate::policy) fn meant<'k>(known: impl Iterator<Item = &'k str>, name: &str) -> String {
    if name.len() < SUGGESTED_FROM {
        return String::new();
    }
    let known: Vec<&str> = known
        .filter(|known| known.len() >= SUGGESTED_FROM && *known != name)
        .collect();
    nearest(known, name).map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// The fields of a table that are named in the text; `None` where some are named when it runs.
fn fields_of(items: &[Item]) -> Option<Vec<(String, Literal)>> {
    let mut fields = Vec::new();
    for (place, item) in items.iter().enumerate() {
        match item {
            Item::Named(name, _, value) => fields.push((name.clone(), literal(value))),
            Item::Keyed(key, value) => match &key.kind {
                Kind::Text(name) => fields.push((name.clone(), literal(value))),
                _ => return None,
            },
            Item::Positional(value) => fields.push(((place + 1).to_string(), literal(value))),
        }
    }
    fields.retain(|(_, value)| *value != Literal::Known(Value::Null));
    Some(fields)
}

fn literal(of: &Expression) -> Literal {
    literal_of(of).map_or(Literal::Unknown, Literal::Known)
}

fn literal_of(of: &Expression) -> Option<Value> {
    Some(match &of.kind {
        Kind::Nil => Value::Null,
        Kind::Flag(flag) => Value::Bool(*flag),
        Kind::Text(text) => Value::String(text.clone()),
        Kind::Number(number) => number_value((*number)?)?,
        Kind::Table(items) => table_of(items)?,
        _ => return None,
    })
}

fn number_value(number: f64) -> Option<Value> {
    serde_json::Number::from_f64(number).map(Value::Number)
}

/// A list or a table of names, as it is written.
fn table_of(items: &[Item]) -> Option<Value> {
    let is_list = |item: &Item| matches!(item, Item::Positional(_));
    if items.iter().all(is_list) {
        let values = items.iter().map(|item| match item {
            Item::Positional(value) => literal_of(value),
            _ => None,
        });
        return values.collect::<Option<Vec<Value>>>().map(Value::Array);
    }
    let mut fields = Map::new();
    for item in items {
        let tree::Item::Named(name, _, value) = item else {
            return None;
        };
        fields.insert(name.clone(), literal_of(value)?);
    }
    Some(Value::Object(fields))
}
