//! Whether a policy can keep anything from one call to the next, as far as its text shows. It could in what its file makes when it is
//! loaded and its functions share: a local that they write, or a table that they fill. What is not seen to be harmless counts as kept.
//!
//! Harmless is a local of the file (outside of all functions) that no function writes and that holds a constant: a number, a text, a
//! function, a frozen flat table; or that holds a flat table (of constants, written out) which is only ever looked into. The conf and what
//! `setup` prepared are read-only; what a function makes for itself goes with the call. What `setup` and `check` alone use does not
//! count: they run once, and not where calls are asked about.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Act, Block, Expression, Function, Item, Kind, returned};
use super::walk::Walk;
use crate::policy::set::Phase;

/// What a local of the file holds, from the harmless to the unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Nothing in it can be changed.
    Constant,
    /// A table without tables in it.
    Flat,
    Unknown,
}

/// A local of the file itself.
#[derive(Debug)]
struct Shared {
    class: Class,
    /// It is used in another way than looking into it.
    is_exposed: bool,
}

impl Shared {
    fn is_harmless(&self) -> bool {
        match self.class {
            Class::Constant => true,
            Class::Flat => !self.is_exposed,
            Class::Unknown => false,
        }
    }
}

/// On whose behalf a function refers to a local of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// It is in what this local of the file holds.
    Local(usize),
    /// Only where a set is made.
    Setup,
    /// Of a phase, or not known.
    Calls,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    by: Owner,
    /// Its place in `shared`.
    of: usize,
    is_written: bool,
}

/// Functions of the sandbox that look into tables and hand none of them on.
const LOOKING: [&str; 7] = ["next", "rawget", "rawlen", "type", "typeof", "tostring", "unpack"];
const TABLE_LOOKING: [&str; 3] = ["find", "concat", "unpack"];
/// Those that hand them to the loop that they are called for.
const ITERATORS: [&str; 2] = ["ipairs", "pairs"];

/// Whether the answers to calls hang on nothing but what a call itself is.
pub(in crate::policy) fn keeps_nothing(file: &Block) -> bool {
    let (Some(policy), Some((_, before))) = (returned(file), file.statements.split_last()) else {
        return false;
    };
    let mut reader = Reader {
        shared: Vec::new(),
        scopes: vec![Vec::new()],
        depth: 0,
        owner: Owner::Calls,
        uses: Vec::new(),
    };
    before.iter().for_each(|statement| reader.act(&statement.kind));
    reader.policy(policy);
    // What asks about calls is written out, or a function of the file: one that another made could hold what that one made.
    let asks = |name: &str| [Phase::Tenant, Phase::Request].iter().any(|phase| phase.name() == name);
    let is_plain = |value: &Expression| match &value.kind {
        Kind::Function(_) => true,
        Kind::Name(name) => reader
            .shared(name)
            .is_some_and(|shared| shared.class == Class::Constant),
        _ => false,
    };
    let phases = policy.iter().all(|item| match item {
        Item::Named(name, _, value) => !asks(name) || is_plain(value),
        Item::Keyed(key, value) => match &key.kind {
            Kind::Text(name) => !asks(name) || is_plain(value),
            _ => false,
        },
        Item::Positional(_) => true,
    });
    phases
        && reader.reached().is_some_and(|reached| {
            let mut reached = reached.iter().filter_map(|place| reader.shared.get(*place));
            reached.all(Shared::is_harmless)
        })
}

struct Reader {
    shared: Vec<Shared>,
    /// Locals in sight; those of the file with their places in `shared`.
    scopes: Vec<Vec<(String, Option<usize>)>>,
    /// How many functions are around.
    depth: usize,
    owner: Owner,
    /// What functions use of the file's locals.
    uses: Vec<Use>,
}

impl Walk for Reader {
    fn enter(&mut self) {
        self.scopes.push(Vec::new());
    }

    fn leave(&mut self) {
        self.scopes.pop();
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Local(names, values) => {
                let first = self.shared.len();
                for (place, value) in values.iter().enumerate() {
                    // They are declared below, in this order; what is one too many is nobody's.
                    let is_named = place < names.len();
                    let owner = if is_named {
                        Owner::Local(first + place)
                    } else {
                        Owner::Calls
                    };
                    self.owned(owner, |reader| reader.expression(value));
                }
                let is_many = |last: &Expression| matches!(last.kind, Kind::Call(..) | Kind::Method(..) | Kind::Rest);
                let last_is_many = values.last().is_some_and(is_many);
                let left_out = if last_is_many { Class::Unknown } else { Class::Constant };
                let class = |place: usize| values.get(place).map_or(left_out, |value| self.class(value));
                let classes: Vec<Class> = (0..names.len()).map(class).collect();
                for ((name, _), class) in names.iter().zip(classes) {
                    self.declare(name, class);
                }
            }
            Act::Assign(targets, values) => {
                for (place, value) in values.iter().enumerate() {
                    let owner = targets.get(place).map_or(Owner::Calls, |target| self.owner_of(target));
                    self.owned(owner, |reader| reader.expression(value));
                }
                for (place, target) in targets.iter().enumerate() {
                    let class = values.get(place).map_or(Class::Unknown, |value| self.class(value));
                    self.written(target, class);
                }
            }
            Act::Call(call) => self.expression(call),
            Act::Do(_) | Act::While(..) | Act::Repeat(..) | Act::If { .. } => self.flow(act),
            Act::Count(names, values, block) => self.repeated(names, Class::Constant, values, block),
            Act::Each(names, values, block) => self.repeated(names, Class::Unknown, values, block),
            Act::Function(target, function) => {
                self.written(target, Class::Constant);
                self.owned(self.owner_of(target), |reader| reader.function(function));
            }
            Act::LocalFunction((name, _), function) => {
                let owner = Owner::Local(self.shared.len());
                self.declare(name, Class::Constant);
                self.owned(owner, |reader| reader.function(function));
            }
            Act::Return(values) => self.expressions(values),
            Act::Break | Act::Continue | Act::Type => {}
        }
    }

    fn expression(&mut self, expression: &Expression) {
        match &expression.kind {
            Kind::Name(name) => self.used(name, true),
            Kind::Field(of, ..) | Kind::Unary(of) => self.looked_into(std::slice::from_ref(of)),
            Kind::Item(of, by) => {
                self.looked_into(std::slice::from_ref(of));
                self.expression(by);
            }
            Kind::Call(of, arguments) => {
                let looks = match &of.kind {
                    Kind::Field(library, name, _) => {
                        TABLE_LOOKING.contains(&name.as_str()) && self.is_global(library, &["table"])
                    }
                    _ => self.is_global(of, &LOOKING),
                };
                self.expression(of);
                match looks {
                    true => self.looked_into(arguments),
                    false => self.expressions(arguments),
                }
            }
            Kind::Function(function) => self.function(function),
            _ => self.parts(expression),
        }
    }
}

impl Reader {
    /// The locals of the file that calls can reach; `None` where one of them is written by what they reach.
    fn reached(&self) -> Option<BTreeSet<usize>> {
        let mut by_owner: BTreeMap<Owner, Vec<Use>> = BTreeMap::new();
        for used in &self.uses {
            by_owner.entry(used.by).or_default().push(*used);
        }
        let mut reached = BTreeSet::new();
        let mut waiting = vec![Owner::Calls];
        while let Some(owner) = waiting.pop() {
            for used in by_owner.remove(&owner).unwrap_or_default() {
                if used.is_written {
                    return None;
                }
                if reached.insert(used.of) {
                    waiting.push(Owner::Local(used.of));
                }
            }
        }
        Some(reached)
    }

    fn policy(&mut self, items: &[Item]) {
        // A function that is named here is used by what it is named for.
        self.depth = 1;
        for item in items {
            let is_phase = |name: &str| Phase::ALL.iter().any(|phase| phase.name() == name);
            let named = match item {
                Item::Named(name, ..) => Some(name),
                Item::Keyed(key, _) => match &key.kind {
                    Kind::Text(name) => Some(name),
                    _ => None,
                },
                Item::Positional(_) => None,
            };
            // The rest of the table is read once, and nobody has it afterwards.
            let is_asked = named.is_some_and(|name| is_phase(name));
            self.owner = if is_asked { Owner::Calls } else { Owner::Setup };
            item.values().for_each(|value| self.expression(value));
        }
        self.depth = 0;
    }

    /// Reads what one of the file's locals gets: the functions in it are its own.
    fn owned(&mut self, by: Owner, read: impl FnOnce(&mut Reader)) {
        if self.depth > 0 {
            return read(self);
        }
        let before = std::mem::replace(&mut self.owner, by);
        read(self);
        self.owner = before;
    }

    /// The local of the file that is written, or written into.
    fn owner_of(&self, target: &Expression) -> Owner {
        match &target.kind {
            Kind::Name(name) => self.local(name).flatten().map_or(Owner::Calls, Owner::Local),
            Kind::Field(of, ..) | Kind::Item(of, _) => self.owner_of(of),
            _ => Owner::Calls,
        }
    }

    /// `None`: the sandbox's. `Some(None)`: a function's own.
    fn local(&self, name: &str) -> Option<Option<usize>> {
        let mut locals = self.scopes.iter().rev().flat_map(|scope| scope.iter().rev());
        locals.find(|(known, _)| known == name).map(|(_, place)| *place)
    }

    fn shared(&self, name: &str) -> Option<&Shared> {
        self.shared.get(self.local(name)??)
    }

    fn is_global(&self, of: &Expression, wanted: &[&str]) -> bool {
        matches!(&of.kind, Kind::Name(name) if self.local(name).is_none() && wanted.contains(&name.as_str()))
    }

    fn declare(&mut self, name: &str, class: Class) {
        let place = (self.depth == 0).then_some(self.shared.len());
        if place.is_some() {
            self.shared.push(Shared {
                class,
                is_exposed: false,
            });
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.push((name.to_owned(), place));
        }
    }

    fn class(&self, of: &Expression) -> Class {
        match &of.kind {
            Kind::Nil | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) | Kind::Interpolated(_) => Class::Constant,
            Kind::Function(_) => Class::Constant,
            // Globals and all in them are read-only. A local may come to hold something else than it does here.
            Kind::Name(name) if self.local(name).is_none() => Class::Constant,
            Kind::Field(of, ..) if matches!(of.kind, Kind::Name(_)) => self.class(of),
            Kind::Table(items) => {
                let constant = |value: &Expression| self.class(value) == Class::Constant;
                let all = items.iter().all(|item| match item {
                    Item::Positional(value) | Item::Named(_, _, value) => constant(value),
                    Item::Keyed(key, value) => constant(key) && constant(value),
                });
                if all { Class::Flat } else { Class::Unknown }
            }
            // A frozen flat table is as good as a number.
            Kind::Call(of, arguments) => match (&of.kind, arguments.as_slice()) {
                (Kind::Field(library, name, _), [table]) if name == "freeze" && self.is_global(library, &["table"]) => {
                    match (&table.kind, self.class(table)) {
                        (Kind::Table(_), Class::Flat) => Class::Constant,
                        _ => Class::Unknown,
                    }
                }
                _ => Class::Unknown,
            },
            Kind::Unary(of) if self.class(of) == Class::Constant => Class::Constant,
            Kind::Binary(one, other) if self.class(one).max(self.class(other)) == Class::Constant => Class::Constant,
            Kind::Either(_, one, other) => self.class(one).max(self.class(other)),
            Kind::IfElse(arms, otherwise) => {
                let arms = arms.iter().map(|(_, value)| self.class(value)).max();
                arms.unwrap_or(Class::Constant).max(self.class(otherwise))
            }
            _ => Class::Unknown,
        }
    }

    fn block_with(&mut self, names: &[(&str, Class)], block: &Block) {
        self.scopes.push(Vec::new());
        names.iter().for_each(|(name, class)| self.declare(name, *class));
        self.statements(block);
        self.scopes.pop();
    }

    fn function(&mut self, function: &Function) {
        self.depth += 1;
        let names = function.params.iter().map(|(name, _)| (name.as_str(), Class::Unknown));
        self.block_with(&names.collect::<Vec<_>>(), &function.body);
        self.depth -= 1;
    }

    /// A loop over what is only looked into.
    fn repeated<P>(&mut self, names: &[(String, P)], class: Class, values: &[Expression], block: &Block) {
        for value in values {
            match &value.kind {
                Kind::Call(of, arguments) if self.is_global(of, &ITERATORS) => self.looked_into(arguments),
                _ => self.looked_into(std::slice::from_ref(value)),
            }
        }
        let names = names.iter().map(|(name, _)| (name.as_str(), class));
        self.block_with(&names.collect::<Vec<_>>(), block);
    }

    fn written(&mut self, target: &Expression, class: Class) {
        let Kind::Name(name) = &target.kind else {
            // What is written into is no longer what it was.
            if let Kind::Field(of, ..) | Kind::Item(of, _) = &target.kind {
                self.expression(of);
            }
            if let Kind::Item(_, by) = &target.kind {
                self.expression(by);
            }
            return;
        };
        let Some(place) = self.local(name).flatten() else {
            return;
        };
        if let Some(shared) = self.shared.get_mut(place) {
            shared.class = shared.class.max(class);
        }
        self.noted(place, true);
    }

    fn noted(&mut self, of: usize, is_written: bool) {
        if self.depth > 0 {
            let by = self.owner;
            self.uses.push(Use { by, of, is_written });
        }
    }

    /// Values that are looked into and not handed on.
    fn looked_into(&mut self, all: &[Expression]) {
        for one in all {
            match &one.kind {
                Kind::Name(name) => self.used(name, false),
                _ => self.expression(one),
            }
        }
    }

    fn used(&mut self, name: &str, is_exposed: bool) {
        let Some(place) = self.local(name).flatten() else {
            return;
        };
        if let Some(shared) = self.shared.get_mut(place) {
            shared.is_exposed |= is_exposed;
        }
        self.noted(place, false);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::policy::lint::parse;

    fn kept(file: &str) -> bool {
        !keeps_nothing(&parse(file).unwrap())
    }

    /// A file that begins so, and a `request` that does this.
    fn does(begins: &str, request: &str) -> bool {
        kept(&format!(
            "{begins}\nreturn {{ name = 'p', version = '1', request = function(conf, call, book)\n{request}\nend }}"
        ))
    }

    #[test]
    fn what_a_call_makes_for_itself_is_kept_by_nobody() {
        for (begins, request) in [
            (
                "",
                "local seen = {} table.insert(seen, call.model) seen.n = 1 return deny({ message = seen[1] })",
            ),
            (
                "local most = 3 * 60",
                "if call.max_output > most then return deny() end",
            ),
            (
                "local function twice(n) return 2 * n end",
                "return clamp({ max_output = twice(conf.n) })",
            ),
            (
                "local function f(t) t.x = 1 return t end",
                "return header(f({ name = 'x', value = 'y' }))",
            ),
            (
                "local names = { 'a', 'b' }",
                "if table.find(names, call.agent) then return deny() end",
            ),
            (
                "local sizes = { a = 1, [2] = 'b' }",
                "local n = #sizes return sizes[call.agent] and deny()",
            ),
            (
                "local names = { 'a' }",
                "for _, name in names do if name == call.agent then return deny() end end",
            ),
            (
                "local names = { 'a' }",
                "for _, name in ipairs(names) do local mine = name mine = 'x' end",
            ),
            (
                "local of = { a = function(call) return deny() end }",
                "return of.a(call)",
            ),
            ("local no = table.freeze({ status = 403 })", "return deny(no)"),
            (
                "local base = { type = 'string' } local more = table.clone(base) more.x = {}",
                "return nil",
            ),
            (
                "local insert = table.insert",
                "local all = {} insert(all, deny()) return all",
            ),
            (
                "",
                "local n = 0 local function count() n += 1 end count() return n == 1 and deny() or nil",
            ),
            ("for n = 1, 2 do local function f() return n end end", "return nil"),
        ] {
            assert!(!does(begins, request), "{begins} … {request}");
        }
        for file in [
            "local function ask(_, call) return nil end return { name = 'p', request = ask }",
            // What runs once, where the set is made.
            "local kinds = { { a = 1 } } local made = {} local function of(conf) made.n = kinds[1].a return made.n end
             return { name = 'p', setup = function(conf) return of(conf) end, request = function(_, call) return nil end }",
        ] {
            assert!(!kept(file), "{file}");
        }
    }

    #[test]
    fn whatever_could_outlive_a_call_is_found() {
        for (begins, request) in [
            ("local calls = 0", "calls += 1 return nil"),
            ("local calls = 0", "calls = call.max_output return nil"),
            ("local seen = {}", "seen[call.agent] = true"),
            ("local seen = {}", "seen.n = 1"),
            ("local seen = {}", "function seen.f() end"),
            ("local seen = {}", "table.insert(seen, call.agent)"),
            ("local seen = {}", "local mine = seen mine.x = 1"),
            ("local seen = {}", "local _, mine = pairs(seen) mine.x = 1"),
            ("local seen = {}", "return (function() return seen end)()"),
            ("local seen = {}", "seen:add(call.agent)"),
            ("local seen = {}", "return { a = seen }"),
            ("local seen = {} seen.of = {}", "local of = seen.of of.n = 1"),
            ("local seen = { of = {} }", "local of = seen.of of.n = 1"),
            ("local t = { x = 1 } t.x = {} local seen = t.x", "seen.n = 1"),
            ("local a, b for _ = 1, 2 do b = a a = {} end", "b.n = 1"),
            ("local seen = {}\nlocal also = seen", "also.n = 1"),
            ("local seen = {}\nlocal also = { seen }", "also[1].n = 1"),
            ("local seen = {}\nlocal function of() return seen end", "of().n = 1"),
            (
                "local function make() local n = 0 return function() n += 1 return n end end\nlocal next_one = make()",
                "next_one()",
            ),
            (
                "local seen = setmetatable({}, { __index = function() end })",
                "return seen[1]",
            ),
            ("local seen = if true then {} else {}", "seen.x = 1"),
            ("local seen", "seen = seen or {}"),
            ("local frozen = table.freeze({ of = {} })", "frozen.of.n = 1"),
            ("local one, two = (function() return {}, {} end)()", "two.n = 1"),
            ("do local n = 0 function f() n += 1 end end local g", "g = 1"),
            (
                "local n = 0 local function count() n += 1 end local function by() count() end",
                "by()",
            ),
            ("local n = 0 local of = { count = function() n += 1 end }", "of.count()"),
            ("local n = 0 local of = {} function of.count() n += 1 end", "of.count()"),
            ("local n = 0 table.foreach({}, function() n += 1 end)", "return nil"),
        ] {
            assert!(does(begins, request), "{begins} … {request}");
        }
    }

    #[test]
    fn a_phase_that_is_not_written_out_may_hold_anything() {
        for file in [
            "local p = { name = 'p', request = function() end } return p",
            "local function make() local n = 0 return function() n += 1 end end return { name = 'p', request = make() }",
            "return { name = 'p', request = function() end, ['req' .. 'uest'] = (function() end)() }",
            "return { name = 'p', request = function() end, request = make() }",
            "local ask = {} return { name = 'p', request = ask }",
            "return 7",
        ] {
            assert!(kept(file), "{file}");
        }
    }
}
