//! The panes as tables: what the gateway answered, as cells that are sorted by their figures and shown as texts.

use agentledger_ledger::Usd;
use serde::Serialize;
use serde_json::Value;

use super::super::aliases;
use super::source::{Answers, Part};
use super::text::{NONE, age, at_ms, limit, moment, money, visible, width};
use crate::config::KeyAliases;
use crate::control::wire::{AlertRow, BudgetRow, CostRow, HoldRow, LimitRow, SessionRow};
use crate::thousands::thousands;

/// What a cell says besides its text; each has a colour of the sixteen, and a shape or a word of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Ink,
    Soft,
    Strong,
    Spent,
    Held,
    Over,
    Refused,
    Warn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pane {
    /// Agents by what they spent today
    Agents,
    /// Sessions of the last day
    Sessions,
    /// Open holds
    Holds,
    /// Limits, and what is left of them
    Budgets,
    /// Alerts
    Alerts,
}

pub const PANES: [Pane; 5] = [Pane::Agents, Pane::Sessions, Pane::Holds, Pane::Budgets, Pane::Alerts];

pub struct Column {
    pub head: &'static str,
    /// Figures stand at the right, and are never cut.
    pub is_figure: bool,
    /// Columns with the highest are left out first where there is no room; 0: never.
    pub spare: u8,
}

const fn name(head: &'static str, spare: u8) -> Column {
    Column {
        head,
        is_figure: false,
        spare,
    }
}

const fn figure(head: &'static str, spare: u8) -> Column {
    Column {
        head,
        is_figure: true,
        spare,
    }
}

const AGENTS: [Column; 6] = [
    name("AGENT", 0),
    figure("TODAY", 0),
    figure("CALLS", 1),
    figure("ERRORS", 2),
    figure("READ", 3),
    figure("WRITTEN", 3),
];
const SESSIONS: [Column; 8] = [
    name("SESSION", 0),
    name("AGENT", 3),
    name("STATUS", 1),
    figure("SEEN", 2),
    figure("CALLS", 3),
    figure("ERRORS", 4),
    figure("TOKENS", 5),
    figure("COST", 0),
];
const HOLDS: [Column; 6] = [
    name("MODEL", 0),
    name("AGENT", 1),
    name("SESSION", 3),
    name("TENANT", 4),
    figure("AGE", 2),
    figure("HELD", 0),
];
const BUDGETS: [Column; 8] = [
    name("ACCOUNT", 0),
    name("WINDOW", 2),
    figure("SPENT", 1),
    figure("HELD", 3),
    figure("OVER", 5),
    figure("LIMIT", 1),
    figure("LEFT", 0),
    figure("USED", 4),
];
const ALERTS: [Column; 4] = [name("AT", 1), name("TYPE", 2), name("MESSAGE", 0), name("SENT", 3)];

impl Pane {
    pub fn place(self) -> usize {
        PANES.iter().position(|pane| *pane == self).unwrap_or_default()
    }

    pub const fn title(self) -> &'static str {
        match self {
            Pane::Agents => "Agents",
            Pane::Sessions => "Sessions",
            Pane::Holds => "Holds",
            Pane::Budgets => "Budgets",
            Pane::Alerts => "Alerts",
        }
    }

    pub const fn columns(self) -> &'static [Column] {
        match self {
            Pane::Agents => &AGENTS,
            Pane::Sessions => &SESSIONS,
            Pane::Holds => &HOLDS,
            Pane::Budgets => &BUDGETS,
            Pane::Alerts => &ALERTS,
        }
    }

    /// What stands where nothing is, and the line that changes it.
    pub const fn nothing(self) -> &'static str {
        match self {
            Pane::Agents => "No call today. Point an agent here: agentledger setup",
            Pane::Sessions => "No session in the last day. Clients name one by X-Agent-Session",
            Pane::Holds => "No call runs: nothing is held",
            Pane::Budgets => "No limit is in use: agentledger budgets set agent 5 --window day",
            Pane::Alerts => "No alert",
        }
    }
}

/// What rows are sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Figure(i128),
    Text(String),
}

#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
    pub width: usize,
    pub key: Key,
}

impl Cell {
    fn new(text: String, tone: Tone, key: Key) -> Cell {
        Cell {
            width: width(&text),
            text,
            tone,
            key,
        }
    }

    /// Of somebody else's making.
    fn name(text: &str) -> Cell {
        let text = visible(text);
        let key = Key::Text(text.to_lowercase());
        match text.is_empty() {
            true => Cell::new("(none)".to_owned(), Tone::Soft, key),
            false => Cell::new(text, Tone::Ink, key),
        }
    }

    fn count(count: impl Into<i128>) -> Cell {
        let count = count.into();
        let tone = if count == 0 { Tone::Soft } else { Tone::Ink };
        Cell::new(thousands(count), tone, Key::Figure(count))
    }

    fn money(usd: Usd, places: u32, tone: Tone) -> Cell {
        let tone = if usd.is_zero() { Tone::Soft } else { tone };
        Cell::new(money(usd, places), tone, Key::Figure(usd.nanos().into()))
    }

    fn none() -> Cell {
        Cell::new(NONE.to_owned(), Tone::Soft, Key::Figure(i128::MIN))
    }
}

#[derive(Clone, Debug)]
pub struct Row {
    /// The same in the next answer.
    pub id: String,
    /// ▲, ✕, ↻ or nothing.
    pub shape: (&'static str, Tone),
    pub cells: Vec<Cell>,
    /// Its place in what the gateway answered.
    pub at: usize,
    /// Of a budget, the place of its limit.
    pub part: usize,
}

const QUIET: (&str, Tone) = ("", Tone::Ink);
const WARNS: (&str, Tone) = ("▲", Tone::Warn);
const LOOPS: (&str, Tone) = ("↻", Tone::Warn);
const REFUSES: (&str, Tone) = ("✕", Tone::Refused);

/// All rows of a pane, in the gateway's order; or why there are none.
pub fn rows(pane: Pane, answers: &Answers, names: &KeyAliases, now_ms: i64) -> Part<Vec<Row>> {
    let shown = match pane {
        Pane::Agents => each(&answers.agents, agent)?,
        Pane::Sessions => each(&answers.sessions, |row| session(row, now_ms))?,
        Pane::Holds => each(&answers.holds, |row| hold(row, answers.now_ms, now_ms))?,
        Pane::Alerts => each(&answers.alerts, |row| alert(row, now_ms))?,
        Pane::Budgets => return budgets(&answers.budgets, names),
    };
    Ok(shown)
}

type Shown = (String, (&'static str, Tone), Vec<Cell>);

fn each<T>(part: &Part<Vec<T>>, show: impl Fn(&T) -> Shown) -> Part<Vec<Row>> {
    let all = part.as_ref().map_err(Clone::clone)?;
    let rows = all.iter().enumerate().map(|(at, one)| {
        let (id, shape, cells) = show(one);
        Row {
            id,
            shape,
            cells,
            at,
            part: 0,
        }
    });
    Ok(rows.collect())
}

fn agent(row: &CostRow) -> Shown {
    let cells = vec![
        Cell::name(&row.agent),
        Cell::money(row.cost_usd, 4, Tone::Strong),
        Cell::count(row.requests),
        Cell::count(row.errors),
        Cell::count(row.input_tokens),
        Cell::count(row.output_tokens),
    ];
    (row.agent.clone(), QUIET, cells)
}

fn session(row: &SessionRow, now_ms: i64) -> Shown {
    let (shape, tone, status) = match row.status.as_str() {
        "killed" => (REFUSES, Tone::Refused, "killed".to_owned()),
        "active" if row.running > 0 => (QUIET, Tone::Held, format!("{} running", row.running)),
        other => (QUIET, Tone::Soft, visible(other)),
    };
    let seen = at_ms(&row.last_seen).map_or_else(Cell::none, |at| ago(now_ms - at));
    let cells = vec![
        Cell::name(&row.id),
        Cell::name(&row.agent),
        Cell::new(status.clone(), tone, Key::Text(status)),
        seen,
        Cell::count(row.calls),
        Cell::count(row.errors),
        Cell::count(row.tokens),
        Cell::money(row.cost_usd, 4, Tone::Strong),
    ];
    (format!("{}\n{}", row.tenant, row.id), shape, cells)
}

fn ago(ms: i64) -> Cell {
    Cell::new(age(ms), Tone::Soft, Key::Figure(ms.into()))
}

/// `of_ms`: when its age was so.
fn hold(row: &HoldRow, of_ms: i64, now_ms: i64) -> Shown {
    let old = i64::try_from(row.age_ms)
        .unwrap_or(i64::MAX)
        .saturating_add((now_ms - of_ms).max(0));
    let cells = vec![
        Cell::name(&row.model),
        Cell::name(&row.agent),
        Cell::name(&row.session),
        Cell::name(&row.tenant),
        ago(old),
        Cell::money(row.held_usd, 4, Tone::Held),
    ];
    (row.id.to_string(), QUIET, cells)
}

fn alert(row: &AlertRow, now_ms: i64) -> Shown {
    let shape = match (row.r#type.as_str(), row.severity.as_str()) {
        ("loop_detected", _) => LOOPS,
        ("budget_exceeded" | "tool_refused", _) | (_, "critical") => REFUSES,
        (_, "info") => QUIET,
        _ => WARNS,
    };
    let states: Vec<&str> = row.deliveries.iter().map(|one| one.state.as_str()).collect();
    let sent = match states.as_slice() {
        [] => NONE.to_owned(),
        states => visible(&states.join(" ")),
    };
    let is_dead = states.contains(&"dead");
    let at = Key::Figure(at_ms(&row.at).unwrap_or_default().into());
    let cells = vec![
        Cell::new(visible(&moment(&row.at, now_ms)), Tone::Soft, at),
        Cell::name(&row.r#type),
        Cell::name(&row.message),
        Cell::new(
            sent.clone(),
            if is_dead { Tone::Warn } else { Tone::Soft },
            Key::Text(sent),
        ),
    ];
    (row.id.clone(), shape, cells)
}

/// A limit in its unit: nanos of dollars, or a count.
pub struct Standing {
    pub spent: i128,
    pub held: i128,
    pub over: Option<Usd>,
    pub limit: Option<i128>,
}

impl Standing {
    pub fn of(row: &BudgetRow, bound: &LimitRow) -> Standing {
        let count = |spent: i64, held: i64| Standing {
            spent: spent.into(),
            held: held.into(),
            over: None,
            limit: bound.limit.parse::<i128>().ok(),
        };
        match bound.unit.as_str() {
            "tokens" => count(row.spent_tokens, row.held_tokens),
            "requests" => count(row.spent_requests, row.held_requests),
            _ => Standing {
                spent: row.spent_usd.nanos().into(),
                held: row.held_usd.nanos().into(),
                over: Some(row.overage_usd),
                limit: bound.limit.parse::<Usd>().ok().map(|limit| limit.nanos().into()),
            },
        }
    }

    /// What is neither spent nor held, below zero where more is.
    pub fn left(&self) -> Option<i128> {
        Some(self.limit? - self.spent - self.held)
    }

    /// In whole percent, what is held included.
    pub fn used_percent(&self) -> Option<i128> {
        let limit = self.limit.filter(|limit| *limit > 0)?;
        Some(((self.spent + self.held) * 100).div_euclid(limit))
    }
}

/// In the unit of a limit.
pub fn amount(unit: &str, value: i128) -> String {
    match unit {
        "tokens" | "requests" => thousands(value),
        _ => i64::try_from(value).map_or_else(|_| NONE.to_owned(), |nanos| limit(Usd::from_nanos(nanos))),
    }
}

fn budgets(part: &Part<Vec<BudgetRow>>, names: &KeyAliases) -> Part<Vec<Row>> {
    let all = part.as_ref().map_err(Clone::clone)?;
    let mut rows = Vec::new();
    for (at, row) in all.iter().enumerate() {
        for (part, bound) in row.limits.iter().enumerate() {
            let (shape, cells) = budget(row, bound, names);
            let id = format!("{}\n{}\n{}\n{}", row.account, row.window, bound.unit, bound.mode);
            rows.push(Row {
                id,
                shape,
                cells,
                at,
                part,
            });
        }
    }
    Ok(rows)
}

fn budget(row: &BudgetRow, bound: &LimitRow, names: &KeyAliases) -> ((&'static str, Tone), Vec<Cell>) {
    let standing = Standing::of(row, bound);
    let (left, used) = (standing.left(), standing.used_percent());
    let is_spent = standing.limit.is_some_and(|limit| standing.spent >= limit);
    let is_full = left.is_some_and(|left| left <= 0);
    let shape = match (is_spent, bound.mode.as_str()) {
        (true, "hard") => ("✕", Tone::Over),
        (true, _) => WARNS,
        _ if is_full => WARNS,
        _ => QUIET,
    };
    let in_unit = |value: i128, tone: Tone| {
        let text = match i64::try_from(value) {
            Ok(nanos) if !matches!(bound.unit.as_str(), "tokens" | "requests") => money(Usd::from_nanos(nanos), 2),
            _ => amount(&bound.unit, value),
        };
        Cell::new(text, if value == 0 { Tone::Soft } else { tone }, Key::Figure(value))
    };
    let account = aliases::named(names, &row.account).map_or_else(|| row.account.clone(), |name| name.into_owned());
    let window = match bound.unit.as_str() {
        "usd" => row.window.clone(),
        unit => format!("{} {unit}", row.window),
    };
    let mode = if bound.mode == "hard" { "" } else { ", watched" };
    let left_tone = if is_full { shape.1 } else { Tone::Strong };
    let cells = vec![
        Cell::name(&account),
        Cell::name(&format!("{window}{mode}")),
        in_unit(standing.spent, Tone::Spent),
        in_unit(standing.held, Tone::Held),
        standing
            .over
            .map_or_else(Cell::none, |over| Cell::money(over, 2, Tone::Over)),
        standing.limit.map_or_else(Cell::none, |value| {
            Cell::new(amount(&bound.unit, value), Tone::Ink, Key::Figure(value))
        }),
        left.map_or_else(Cell::none, |left| in_unit(left, left_tone)),
        used.map_or_else(Cell::none, |used| {
            Cell::new(format!("{used} %"), Tone::Ink, Key::Figure(used))
        }),
    ];
    (shape, cells)
}

/// All that the gateway says of a row, every digit included, one field a line.
pub fn details(pane: Pane, answers: &Answers, row: &Row) -> Vec<(String, String)> {
    let value = match pane {
        Pane::Agents => of(&answers.agents, row.at),
        Pane::Sessions => of(&answers.sessions, row.at),
        Pane::Holds => of(&answers.holds, row.at),
        Pane::Budgets => of(&answers.budgets, row.at),
        Pane::Alerts => of(&answers.alerts, row.at),
    };
    let mut lines = Vec::new();
    lay_out("", &value, &mut lines);
    lines
}

fn of<T: Serialize>(part: &Part<Vec<T>>, at: usize) -> Value {
    let row = part.as_ref().ok().and_then(|rows| rows.get(at));
    row.and_then(|row| serde_json::to_value(row).ok()).unwrap_or_default()
}

/// Fields by their paths, what is empty left out.
fn lay_out(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| lay_out(&below(&visible(name)), value, lines)),
        Value::Array(items) => {
            let each = items.iter().enumerate();
            each.for_each(|(at, item)| lay_out(&below(&(at + 1).to_string()), item, lines));
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => lines.push((path.to_owned(), visible(text))),
        other => lines.push((path.to_owned(), other.to_string())),
    }
}
