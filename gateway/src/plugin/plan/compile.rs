//! A plan as a trie of its paths, and all that must hold of it: checked once, at load, so that reading needs no such check.

use std::collections::HashSet;

use super::super::dialect::{CountedKind, PlanRow, ReadingPlan, Role, Tally, Want, Word};

/// Rows of one plan, with `@usage` counted for each of its places.
const ROWS_MAX: usize = 128;
/// Counts of one plan, and lists that say zero: each has a bit of a word.
pub(super) const COUNTS_MAX: usize = 32;
const WORDS_MAX: usize = 32;
const SEGMENTS_MAX: usize = 16;
/// Nodes of one plan: each has a bit of an array that every reading clears.
pub(super) const NODES_MAX: usize = 512;
/// Stands for the frame's event.
const EVENT: &str = "@event";
/// Stands for each place of the usage.
const USAGE: &str = "@usage";

/// A plan, compiled.
#[derive(Debug)]
pub(super) struct Table {
    pub operations: Vec<String>,
    pub streamed: bool,
    /// The names of its events, where it says them.
    pub events: Option<Vec<Word>>,
    /// The first one is the document.
    pub nodes: Vec<Node>,
    pub counts: Vec<Count>,
    /// What is told, in order.
    pub told: Vec<Told>,
    /// Which count is the thoughts.
    pub thoughts: Option<usize>,
}

/// A place of the outline that some row leads to.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub members: Vec<(String, usize)>,
    pub element: Option<usize>,
    pub act: Act,
    /// The report of usage.
    pub is_report: bool,
    /// At or below the report.
    pub in_report: bool,
    /// Counts stand here or below.
    pub bears_counts: bool,
    /// Below a `*`.
    pub is_many: bool,
}

/// What is done with a value.
#[derive(Clone, Debug, Default)]
pub(super) enum Act {
    /// A container on the way to rows.
    #[default]
    Way,
    Model(String),
    Tier(Vec<(String, String)>),
    BillId,
    Words(Vec<Word>),
    UsageAlone,
    Count(usize),
    Zero(usize),
    Ignored,
    Empty,
}

/// A count's relations to others, by their places among the counts.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub has_kind: bool,
    pub inside: Option<usize>,
    pub beside: Option<usize>,
    pub sum_of: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Count(usize, CountedKind),
    Zero(usize, CountedKind),
}

type Checked<T> = Result<T, String>;

impl Table {
    pub(super) fn compile(plan: &ReadingPlan, wants: &[Want]) -> Checked<Table> {
        if plan.operations.is_empty() {
            return Err("it is for no operation".to_owned());
        }
        check_usage(plan, wants)?;
        let mut table = Table {
            operations: plan.operations.clone(),
            streamed: plan.streamed,
            events: None,
            nodes: vec![Node::default()],
            counts: Vec::new(),
            told: Vec::new(),
            thoughts: None,
        };
        for place in &plan.usage {
            let at = table.grow(place)?;
            if let Some(node) = table.nodes.get_mut(at) {
                node.is_report = true;
            }
        }
        let counts: Vec<&PlanRow> = plan.rows.iter().filter(|row| row.tally().is_some()).collect();
        if counts.len() > COUNTS_MAX {
            return Err(format!("it has more than {COUNTS_MAX} counts"));
        }
        let (mut placed, mut zeros, mut alone) = (0, 0, 0);
        for row in &plan.rows {
            let act = table.act(row, &counts, &mut zeros)?;
            if row.path == EVENT {
                table.name_events(act)?;
                continue;
            }
            alone += usize::from(matches!(act, Act::UsageAlone));
            let places = places(plan, &row.path)?;
            placed += places.len();
            if placed > ROWS_MAX {
                return Err(format!("it has more than {ROWS_MAX} rows"));
            }
            for path in &places {
                check_covered(path, &row.role, wants)?;
                table.place(path, act.clone())?;
            }
        }
        if alone > 1 {
            return Err("two rows say that usage stands alone".to_owned());
        }
        check_told(&table.told)?;
        table.mark();
        Ok(table)
    }

    /// What a row does, and what it tells.
    fn act(&mut self, row: &PlanRow, counts: &[&PlanRow], zeros: &mut usize) -> Checked<Act> {
        let path = &row.path;
        Ok(match &row.role {
            Role::Model { prefix } => Act::Model(prefix.clone()),
            Role::ServiceTier(pairs) => {
                distinct(path, pairs.iter().map(|(said, _)| said))?;
                if pairs.iter().any(|(_, tier)| tier.is_empty()) {
                    return Err(format!("{path} names an empty tier"));
                }
                Act::Tier(pairs.clone())
            }
            Role::BillId => Act::BillId,
            Role::Words(words) => {
                if words.is_empty() {
                    return Err(format!("{path} has no words"));
                }
                distinct(path, words.iter().map(|word| &word.text))?;
                Act::Words(words.clone())
            }
            Role::UsageAlone => Act::UsageAlone,
            Role::Counted(tally) => {
                let index = self.counts.len();
                self.counts.push(count(row, tally, counts)?);
                self.told.extend(tally.kind.map(|kind| Told::Count(index, kind)));
                if tally.thoughts && self.thoughts.replace(index).is_some() {
                    return Err("two rows are the thoughts".to_owned());
                }
                Act::Count(index)
            }
            Role::Zero(kinds) => {
                if !path.starts_with("@usage.") || is_starred(path) {
                    return Err(format!("{path} says zero of a kind, outside of @usage or below a *"));
                }
                if *zeros >= COUNTS_MAX {
                    return Err(format!("more than {COUNTS_MAX} rows say zero"));
                }
                let index = *zeros;
                *zeros += 1;
                self.told.extend(kinds.iter().map(|kind| Told::Zero(index, *kind)));
                Act::Zero(index)
            }
            Role::Ignored => Act::Ignored,
            Role::Empty => Act::Empty,
        })
    }

    fn name_events(&mut self, act: Act) -> Checked<()> {
        match act {
            Act::Words(words) if self.events.is_none() => self.events = Some(words),
            Act::Words(_) => return Err("two rows name its events".to_owned()),
            _ => return Err(format!("{EVENT} is of words alone")),
        }
        Ok(())
    }

    /// Puts a row at its node. No other is there, above it or below it, but above a container.
    fn place(&mut self, path: &str, act: Act) -> Checked<()> {
        let at = self.grow(path)?;
        let Some(node) = self.nodes.get_mut(at) else {
            return Err(format!("it has more than {NODES_MAX} places"));
        };
        if !matches!(node.act, Act::Way) || (node.is_report && !matches!(act, Act::Zero(_))) {
            return Err(format!("two rows are for {path}"));
        }
        if !act.is_container() && (!node.members.is_empty() || node.element.is_some()) {
            return Err(format!("a row stands below {path}, which has one"));
        }
        node.act = act;
        Ok(())
    }

    /// The node of a path, with all on its way.
    fn grow(&mut self, path: &str) -> Checked<usize> {
        let mut at = 0;
        if path.split('.').count() > SEGMENTS_MAX {
            return Err(format!("{path} has more than {SEGMENTS_MAX} segments"));
        }
        for segment in path.split('.') {
            if segment.is_empty() {
                return Err(format!("{path:?} is empty or has an empty segment"));
            }
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { break };
            if !matches!(node.act, Act::Way) && !node.act.is_container() {
                return Err(format!("{path} stands below another row"));
            }
            let is_many = node.is_many || segment == "*";
            let child = match segment {
                "*" => *node.element.get_or_insert(next),
                name => match node.members.iter().find(|(known, _)| known == name) {
                    Some((_, child)) => *child,
                    None => {
                        node.members.push((name.to_owned(), next));
                        next
                    }
                },
            };
            if child == next {
                if next >= NODES_MAX {
                    return Err(format!("it has more than {NODES_MAX} places"));
                }
                self.nodes.push(Node {
                    is_many,
                    ..Node::default()
                });
            }
            at = child;
        }
        Ok(at)
    }

    /// Carries the marks of reports down, and those of counts up. Children stand behind their parents.
    fn mark(&mut self) {
        let children = |node: &Node| -> Vec<usize> {
            node.members
                .iter()
                .map(|(_, child)| *child)
                .chain(node.element)
                .collect()
        };
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(at) else { break };
            node.in_report |= node.is_report;
            let below = if node.in_report { children(node) } else { Vec::new() };
            for child in below {
                if let Some(child) = self.nodes.get_mut(child) {
                    child.in_report = true;
                }
            }
        }
        for at in (0..self.nodes.len()).rev() {
            let Some(node) = self.nodes.get(at) else { break };
            let counts = |child: &usize| self.nodes.get(*child).is_some_and(|child| child.bears_counts);
            let bears = matches!(node.act, Act::Count(_)) || children(node).iter().any(counts);
            if let Some(node) = self.nodes.get_mut(at) {
                node.bears_counts = bears;
            }
        }
    }
}

impl Act {
    /// Rows may stand below it.
    fn is_container(&self) -> bool {
        matches!(self, Act::UsageAlone | Act::Zero(_))
    }
}

impl PlanRow {
    fn tally(&self) -> Option<&Tally> {
        match &self.role {
            Role::Counted(tally) => Some(tally),
            _ => None,
        }
    }
}

/// A count with its relations, of which each leads to another count, and none on to a third.
fn count(row: &PlanRow, tally: &Tally, counts: &[&PlanRow]) -> Checked<Count> {
    let path = &row.path;
    let fault = |what: &str| Err(format!("the count {path} {what}"));
    if !path.starts_with("@usage.") {
        return fault("does not stand below @usage");
    }
    let find = |other: &String| -> Checked<usize> {
        if other == path {
            return Err(format!("the count {path} refers to itself"));
        }
        let found = counts.iter().position(|row| row.path == *other);
        let found = found.filter(|_| !is_starred(other));
        found.ok_or_else(|| format!("the count {path} refers to {other:?}, which is none"))
    };
    let relates = tally.inside.is_some() || tally.beside.is_some();
    if is_starred(path) && (tally.kind.is_some() || tally.thoughts || relates || !tally.sum_of.is_empty()) {
        return fault("stands below a *, and is more than looked at");
    }
    if tally.inside.is_some() && tally.beside.is_some() {
        return fault("is inside of one and beside another");
    }
    if tally.inside.is_some() && tally.kind.is_none() {
        return fault("is taken from another and of no kind: its units would be lost");
    }
    if tally.beside.is_some() && tally.kind.is_some() {
        return fault("is beside another, and has a kind of its own");
    }
    if !tally.sum_of.is_empty() && (relates || tally.thoughts) {
        return fault("is a sum, and more");
    }
    let target = |other: &String| -> Checked<usize> {
        let at = find(other)?;
        let of_kind = |tally: &&Tally| {
            tally.kind.is_some() && tally.inside.is_none() && tally.beside.is_none() && tally.sum_of.is_empty()
        };
        let fits = counts.get(at).and_then(|row| row.tally()).filter(of_kind);
        fits.map(|_| at)
            .ok_or_else(|| format!("the count {path} is inside or beside {other}, which has no kind by itself"))
    };
    let mut sum_of = Vec::new();
    for other in &tally.sum_of {
        let at = find(other)?;
        if sum_of.contains(&at) {
            return fault("has one summand twice");
        }
        sum_of.push(at);
    }
    Ok(Count {
        has_kind: tally.kind.is_some(),
        inside: tally.inside.as_ref().map(target).transpose()?,
        beside: tally.beside.as_ref().map(target).transpose()?,
        sum_of,
    })
}

/// Where the usage may be reported: places that are seen, apart from one another.
fn check_usage(plan: &ReadingPlan, wants: &[Want]) -> Checked<()> {
    for (at, place) in plan.usage.iter().enumerate() {
        if is_starred(place) || place.starts_with('@') {
            return Err(format!("the usage is no single place of the body: {place}"));
        }
        if !wants.iter().any(|want| is_at_or_below(place, &want.path)) {
            return Err(format!("no want covers the usage at {place}"));
        }
        let others = plan.usage.iter().take(at);
        if let Some(other) = others
            .into_iter()
            .find(|other| is_at_or_below(place, other) || is_at_or_below(other, place))
        {
            return Err(format!("the usage at {place} and that at {other} overlap"));
        }
    }
    Ok(())
}

/// The paths that a row's own stands for.
fn places(plan: &ReadingPlan, path: &str) -> Checked<Vec<String>> {
    let Some(below) = path.strip_prefix(USAGE) else {
        return Ok(vec![path.to_owned()]);
    };
    if plan.usage.is_empty() {
        return Err(format!("{path} stands below @usage, which has no place"));
    }
    if !below.starts_with('.') {
        return Err(format!("{path} does not stand below @usage"));
    }
    Ok(plan.usage.iter().map(|place| format!("{place}{below}")).collect())
}

/// A row speaks of what an outline can show. What it takes a value from must be shown as such.
fn check_covered(path: &str, role: &Role, wants: &[Want]) -> Checked<()> {
    let shown = wants.iter().any(|want| is_at_or_below(path, &want.path));
    let passed = || wants.iter().any(|want| is_at_or_below(&want.path, path));
    let takes_none = matches!(role, Role::Ignored | Role::Empty | Role::UsageAlone | Role::Zero(_));
    if shown || (takes_none && passed()) {
        return Ok(());
    }
    Err(format!("no want covers {path}"))
}

/// Each kind in one row: they are disjoint.
fn check_told(told: &[Told]) -> Checked<()> {
    let kinds: Vec<CountedKind> = told
        .iter()
        .map(|told| match told {
            Told::Count(_, kind) | Told::Zero(_, kind) => *kind,
        })
        .collect();
    for (at, kind) in kinds.iter().enumerate() {
        if kinds.iter().take(at).any(|earlier| earlier == kind) {
            return Err(format!("two rows are of the kind {kind:?}"));
        }
    }
    Ok(())
}

fn distinct<'t>(path: &str, texts: impl Iterator<Item = &'t String>) -> Checked<()> {
    let mut seen = HashSet::new();
    for text in texts {
        if text.is_empty() || !seen.insert(text) {
            return Err(format!("{path} has the word {text:?} twice, or an empty one"));
        }
    }
    match seen.len() > WORDS_MAX {
        true => Err(format!("{path} has more than {WORDS_MAX} words")),
        false => Ok(()),
    }
}

fn is_starred(path: &str) -> bool {
    path.split('.').any(|segment| segment == "*")
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
