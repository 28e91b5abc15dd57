//! What the specs reach of a policy: its text is run with a mark before each statement and at the beginning of each branch.
//!
//! - A statement is counted by the line that it begins on: of a table over ten lines there is one.
//! - Branches are: each arm of an `if`, and its `else`, whether one is written or not (then it is taken when no condition holds);
//!   the body of a loop; each value of an `if … then … else` expression; the right side of an `and` and of an `or`; and the body
//!   of a function. A left side is always evaluated, and is none.

use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Error as LuaError, Lua};

use super::lint::tree::{Act, Block, Expression, Function, Kind};
use super::lint::{self, Place};
use super::set::Source;

/// The global that a marked text calls with the number of the point; policies are told of names that begin so by nobody.
const MARK: &str = "__agentledger_reached";

/// The points of one policy's text, and which were reached.
#[derive(Debug)]
pub struct Coverage {
    /// The policy's file, by its name.
    name: String,
    marked: String,
    points: Vec<Point>,
    reached: Vec<AtomicBool>,
}

/// One recording is another's equal only if it is the same.
impl PartialEq for Coverage {
    fn eq(&self, other: &Coverage) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Coverage {}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: Place,
    /// `None` for a statement.
    branch: Option<&'static str>,
}

/// What was reached of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    pub file: String,
    /// Lines on which a statement begins, and those of them that were never run.
    pub lines: usize,
    pub lines_missed: Vec<u32>,
    pub branches: usize,
    pub branches_missed: Vec<MissedBranch>,
}

/// A branch that was never taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedBranch {
    pub line: u32,
    pub column: u32,
    /// `if`, `else`, `no else` (none is written), `loop`, `value`, `and`, `or` or `function`.
    pub branch: &'static str,
}

impl Covered {
    /// Points reached of a hundred, rounded down: 100 is all.
    pub fn percent(&self) -> u32 {
        let all = self.lines + self.branches;
        let missed = self.lines_missed.len() + self.branches_missed.len();
        match all {
            0 => 100,
            all => u32::try_from((all - missed.min(all)) * 100 / all).unwrap_or_default(),
        }
    }
}

impl Coverage {
    /// `None` for a text that cannot be read.
    pub fn new(source: &Source) -> Option<Coverage> {
        let file = lint::parse(&source.text).ok()?;
        let mut marker = Marker::default();
        marker.block(&file);
        let marked = marker.insert_into(&source.text);
        Some(Coverage {
            name: source.name.clone(),
            marked,
            reached: marker.points.iter().map(|_| AtomicBool::new(false)).collect(),
            points: marker.points,
        })
    }

    /// The text to run in place of the source's, if it is this policy's.
    pub(super) fn marked(&self, source: &Source) -> Option<String> {
        (source.name == self.name).then(|| self.marked.clone())
    }

    /// Gives a sandbox that is not closed yet what marks call.
    pub(super) fn add(self: &std::sync::Arc<Self>, lua: &Lua) -> Result<(), LuaError> {
        let coverage = std::sync::Arc::clone(self);
        let reached = lua.create_function(move |_, point: usize| {
            if let Some(reached) = coverage.reached.get(point) {
                reached.store(true, Ordering::Relaxed);
            }
            // Before an `and`: what follows is the value.
            Ok(true)
        })?;
        lua.globals().raw_set(MARK, reached)
    }

    pub fn covered(&self, file: &str) -> Covered {
        let mut covered = Covered {
            file: file.to_owned(),
            ..Covered::default()
        };
        let mut lines = std::collections::BTreeMap::new();
        for (point, reached) in self.points.iter().zip(&self.reached) {
            let reached = reached.load(Ordering::Relaxed);
            match point.branch {
                // Of several statements on a line each must run.
                None => *lines.entry(point.at.line).or_insert(true) &= reached,
                Some(branch) => {
                    covered.branches += 1;
                    if !reached {
                        covered.branches_missed.push(MissedBranch {
                            line: point.at.line,
                            column: point.at.column,
                            branch,
                        });
                    }
                }
            }
        }
        covered.lines = lines.len();
        covered.lines_missed = lines
            .iter()
            .filter(|(_, reached)| !**reached)
            .map(|(line, _)| *line)
            .collect();
        covered
            .branches_missed
            .sort_by_key(|missed| (missed.line, missed.column));
        covered
    }
}

/// Finds the points of a text, and where their marks go.
#[derive(Default)]
struct Marker {
    points: Vec<Point>,
    /// Text to insert before a byte, in the order in which several go to one place.
    insertions: Vec<(usize, String)>,
}

impl Marker {
    fn point(&mut self, at: Place, branch: Option<&'static str>) -> usize {
        self.points.push(Point { at, branch });
        self.points.len() - 1
    }

    fn insert(&mut self, at: usize, text: String) {
        self.insertions.push((at, text));
    }

    fn insert_into(&mut self, text: &str) -> String {
        // Stable: of one place the first stays the first.
        self.insertions.sort_by_key(|(at, _)| *at);
        let (mut marked, mut from) = (String::with_capacity(text.len() * 2), 0);
        for (at, insertion) in &self.insertions {
            marked.push_str(text.get(from..*at).unwrap_or_default());
            marked.push_str(insertion);
            from = *at;
        }
        marked.push_str(text.get(from..).unwrap_or_default());
        marked
    }

    /// A block that is a branch: told by the place of what leads to it.
    fn branch(&mut self, at: Place, branch: &'static str, block: &Block) {
        let point = self.point(at, Some(branch));
        self.insert(block.begin.offset, format!(" {MARK}({point});"));
        self.block(block);
    }

    fn block(&mut self, block: &Block) {
        for statement in &block.statements {
            if !matches!(statement.kind, Act::Type) {
                let point = self.point(statement.at, None);
                self.insert(statement.at.offset, format!("{MARK}({point}); "));
            }
            self.act(statement.at, &statement.kind);
        }
    }

    fn act(&mut self, at: Place, act: &Act) {
        match act {
            Act::Local(_, values) | Act::Return(values) => self.values(values),
            Act::Assign(targets, values) => {
                self.values(targets);
                self.values(values);
            }
            Act::Call(call) => self.value(call),
            Act::Do(block) => self.block(block),
            Act::While(condition, block) => {
                self.value(condition);
                self.branch(at, "loop", block);
            }
            Act::Repeat(block, condition) => {
                self.branch(at, "loop", block);
                self.value(condition);
            }
            Act::Count(_, values, block) | Act::Each(_, values, block) => {
                self.values(values);
                self.branch(at, "loop", block);
            }
            Act::If { arms, otherwise, end } => {
                for (at, condition, block) in arms {
                    self.value(condition);
                    self.branch(*at, "if", block);
                }
                match otherwise {
                    Some((at, block)) => self.branch(*at, "else", block),
                    None => {
                        let point = self.point(at, Some("no else"));
                        self.insert(end.offset, format!(" else {MARK}({point}); "));
                    }
                }
            }
            Act::Function(_, function) | Act::LocalFunction(_, function) => self.function(at, function),
            Act::Break | Act::Continue | Act::Type => {}
        }
    }

    fn function(&mut self, at: Place, function: &Function) {
        self.branch(at, "function", &function.body);
    }

    fn values(&mut self, all: &[Expression]) {
        all.iter().for_each(|one| self.value(one));
    }

    /// A value that may not be evaluated: the mark goes before it, and the value stays what it was.
    fn sometimes(&mut self, at: Place, branch: &'static str, value: &Expression) {
        let point = self.point(at, Some(branch));
        self.insert(value.at.offset, format!("({MARK}({point}) and "));
        self.value(value);
        self.insert(value.end, ")".to_owned());
    }

    fn value(&mut self, of: &Expression) {
        match &of.kind {
            Kind::Either(sign, left, right) => {
                self.value(left);
                self.sometimes(right.at, sign, right);
            }
            Kind::IfElse(arms, otherwise) => {
                for (condition, value) in arms {
                    self.value(condition);
                    self.sometimes(value.at, "value", value);
                }
                self.sometimes(otherwise.at, "value", otherwise);
            }
            Kind::Function(function) => self.function(of.at, function),
            _ => of.parts().into_iter().for_each(|part| self.value(part)),
        }
    }
}
