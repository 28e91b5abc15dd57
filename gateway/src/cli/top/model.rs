//! What the screen shows, as pure state: it takes answers and what keys ask for, and knows no terminal and no connection.

use agentledger_ledger::Usd;

use super::changes::{Change, Form, Question};
use super::rows::{Key, PANES, Pane, Row, rows};
use super::source::{Answers, News, Part};
use super::text::visible;
use crate::config::KeyAliases;

/// How long what was done stays to be read.
const NOTICE_MS: i64 = 8_000;
/// The rate is of so many minutes, the running one included.
const RATE_MINUTES: usize = 5;

/// What a key has the loop do.
#[derive(Debug)]
pub enum Act {
    Quit,
    Suspend,
    /// Paint everything anew.
    Repaint,
    /// Request figures at once.
    Ask,
    Change(Box<Change>),
}

#[derive(Debug)]
pub struct PaneState {
    pub rows: Part<Vec<Row>>,
    /// Places in `rows` that pass the filter, in the order that is shown.
    pub order: Vec<usize>,
    pub selected: usize,
    /// The first that is shown.
    pub top: usize,
    /// A column; the gateway's own order without it.
    pub sort: Option<usize>,
    pub is_reversed: bool,
    pub filter: String,
}

impl Default for PaneState {
    fn default() -> PaneState {
        PaneState {
            rows: Ok(Vec::new()),
            order: Vec::new(),
            selected: 0,
            top: 0,
            sort: None,
            is_reversed: false,
            filter: String::new(),
        }
    }
}

impl PaneState {
    pub fn selected(&self) -> Option<&Row> {
        self.rows.as_ref().ok()?.get(*self.order.get(self.selected)?)
    }

    /// The row that was selected stays so, wherever it is now.
    pub fn arrange(&mut self, id: Option<&str>) {
        let Ok(rows) = &self.rows else {
            self.order.clear();
            return;
        };
        let wanted = self.filter.to_lowercase();
        let passes =
            |row: &Row| wanted.is_empty() || row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted));
        let mut order: Vec<usize> = (0..rows.len()).filter(|at| rows.get(*at).is_some_and(passes)).collect();
        if let Some(column) = self.sort {
            let key = |at: &usize| {
                rows.get(*at)
                    .and_then(|row| row.cells.get(column))
                    .map(|cell| &cell.key)
            };
            // Figures begin with the largest, names with the first.
            order.sort_by(|a, b| match (key(a), key(b)) {
                (Some(Key::Figure(a)), Some(Key::Figure(b))) => b.cmp(a),
                (a, b) => a.cmp(&b),
            });
        }
        if self.is_reversed {
            order.reverse();
        }
        let found = id.and_then(|id| {
            order
                .iter()
                .position(|at| rows.get(*at).is_some_and(|row| row.id == id))
        });
        self.selected = found.unwrap_or(self.selected).min(order.len().saturating_sub(1));
        self.order = order;
    }

    pub fn rearrange(&mut self) {
        let id = self.selected().map(|row| row.id.clone());
        self.arrange(id.as_deref());
    }
}

#[derive(Debug, Default)]
pub enum Mode {
    #[default]
    Browse,
    Filter,
    Help,
    /// Scrolled by so many lines.
    Details(usize),
    Ask(Question),
    TopUp(Form),
}

#[derive(Debug)]
pub struct Lost {
    pub since_ms: i64,
    pub why: String,
    /// When it is tried again.
    pub again_ms: i64,
}

#[derive(Debug)]
pub struct Notice {
    pub text: String,
    pub is_refusal: bool,
    until_ms: i64,
}

#[derive(Debug)]
pub struct Model {
    pub address: String,
    pub is_coloured: bool,
    pub names: KeyAliases,
    /// This machine's time.
    pub now_ms: i64,
    /// What the gateway's clock is ahead of it.
    pub offset_ms: i64,
    pub answers: Option<Box<Answers>>,
    /// What came while it was paused.
    waiting: Option<Box<Answers>>,
    pub is_paused: bool,
    pub lost: Option<Lost>,
    pub pane: Pane,
    pub panes: [PaneState; 5],
    pub mode: Mode,
    pub notice: Option<Notice>,
    /// Changes that are under way, each with what is told when it is done.
    pub pending: Vec<(u64, String)>,
    /// Of the last change.
    pub number: u64,
}

impl Model {
    pub fn new(address: &str, names: KeyAliases, pane: Pane, is_coloured: bool) -> Model {
        Model {
            address: visible(address),
            is_coloured,
            names,
            now_ms: 0,
            offset_ms: 0,
            answers: None,
            waiting: None,
            is_paused: false,
            lost: None,
            pane,
            panes: Default::default(),
            mode: Mode::Browse,
            notice: None,
            pending: Vec::new(),
            number: 0,
        }
    }

    /// The gateway's time now; where it is paused, that of what is shown.
    pub fn gateway_ms(&self) -> i64 {
        match &self.answers {
            Some(answers) if self.is_paused => answers.now_ms,
            _ => self.now_ms.saturating_add(self.offset_ms),
        }
    }

    pub fn state(&self, pane: Pane) -> Option<&PaneState> {
        self.panes.get(pane.place())
    }

    pub fn state_mut(&mut self) -> &mut PaneState {
        let [agents, sessions, holds, budgets, alerts] = &mut self.panes;
        match self.pane {
            Pane::Agents => agents,
            Pane::Sessions => sessions,
            Pane::Holds => holds,
            Pane::Budgets => budgets,
            Pane::Alerts => alerts,
        }
    }

    pub fn take(&mut self, news: News) {
        match news {
            News::Answers(answers) => {
                self.offset_ms = answers.now_ms.saturating_sub(self.now_ms);
                if self.lost.take().is_some() {
                    self.say("the gateway is back, and the figures are of now".to_owned(), false);
                }
                if self.is_paused {
                    self.waiting = Some(answers);
                } else {
                    self.answers = Some(answers);
                    self.lay_out();
                }
            }
            News::Lost { why, again } => {
                let wait = i64::try_from(again.as_millis()).unwrap_or(i64::MAX);
                let since_ms = self.lost.as_ref().map_or(self.now_ms, |lost| lost.since_ms);
                self.lost = Some(Lost {
                    since_ms,
                    // Only what happened; the hints are for those who start a command.
                    why: visible(why.lines().next().unwrap_or_default()),
                    again_ms: self.now_ms.saturating_add(wait),
                });
            }
            News::Changed(number, result) => self.changed(number, result),
        }
    }

    /// Rows anew, from what there is.
    fn lay_out(&mut self) {
        let now_ms = self.gateway_ms();
        let Some(answers) = &self.answers else { return };
        for (pane, state) in PANES.iter().zip(&mut self.panes) {
            let id = state.selected().map(|row| row.id.clone());
            state.rows = rows(*pane, answers, &self.names, now_ms);
            state.arrange(id.as_deref());
        }
    }

    /// Time went on. Whether anything that is shown is another one now.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        let second = |ms: i64| ms.div_euclid(1_000);
        let is_another_second = second(now_ms) != second(self.now_ms);
        self.now_ms = now_ms;
        if self.notice.as_ref().is_some_and(|notice| notice.until_ms <= now_ms) {
            self.notice = None;
            return true;
        }
        if !is_another_second || !self.ticks() {
            return false;
        }
        if self.lost.is_none() {
            self.lay_out();
        }
        true
    }

    /// Whether seconds are seen to pass: calls grow old, or a gateway is waited for.
    pub fn ticks(&self) -> bool {
        let runs = |answers: &Answers| answers.holds.as_ref().is_ok_and(|holds| !holds.is_empty());
        self.lost.is_some() || (!self.is_paused && self.answers.as_deref().is_some_and(runs))
    }

    pub fn say(&mut self, text: String, is_refusal: bool) {
        self.notice = Some(Notice {
            text,
            is_refusal,
            until_ms: self.now_ms.saturating_add(NOTICE_MS),
        });
    }

    pub fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        if !self.is_paused
            && let Some(answers) = self.waiting.take()
        {
            self.answers = Some(answers);
        }
        self.lay_out();
    }

    /// What is held in all, and for how many calls.
    pub fn held(&self) -> Option<(Usd, usize)> {
        let holds = self.answers.as_deref()?.holds.as_ref().ok()?;
        let sum = holds
            .iter()
            .fold(Usd::default(), |sum, hold| sum.saturating_add(hold.held_usd));
        Some((sum, holds.len()))
    }

    /// Dollars a minute, over the last minutes, the running one as far as it has come.
    pub fn rate(&self) -> Option<Usd> {
        let answers = self.answers.as_deref()?;
        let minutes = answers.minutes.as_ref().ok()?;
        let last = minutes.iter().rev().take(RATE_MINUTES);
        let nanos: i128 = last.map(|usd| i128::from(usd.nanos())).sum();
        let whole = i128::try_from(RATE_MINUTES.saturating_sub(1)).unwrap_or_default() * 60_000;
        let passed = whole + i128::from(answers.now_ms.rem_euclid(60_000));
        i64::try_from(nanos * 60_000 / passed.max(1)).ok().map(Usd::from_nanos)
    }
}
