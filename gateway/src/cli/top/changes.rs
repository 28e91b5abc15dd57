//! What can be changed from here: the question before a session is killed, the form of a top-up, and what becomes of both.

use agentledger_ledger::{Usd, rfc3339_ms};
use serde_json::{Map, Value};
use ulid::Ulid;

use super::super::aliases;
use super::super::ask::params;
use super::model::{Act, Mode, Model};
use super::rows::{Pane, Standing, amount};
use super::source::DAY_MS;
use super::text::{cut, limit, money, visible};
use crate::control::wire::{BudgetRow, LimitRow};

/// Something that the gateway is to change, or to say what it would change.
#[derive(Clone, Debug)]
pub struct Change {
    pub number: u64,
    pub method: &'static str,
    pub params: Map<String, Value>,
    /// What it does, as it is told: `s1 is killed`.
    pub done: String,
}

impl Change {
    pub fn is_trial(&self) -> bool {
        self.params.get("dry_run") == Some(&Value::Bool(true))
    }
}

/// A question before something is done: what it does, in figures, and the verb.
#[derive(Debug)]
pub struct Question {
    pub lines: Vec<String>,
    pub verb: String,
    pub change: Box<Change>,
}

/// The form of a top-up.
#[derive(Debug)]
pub struct Form {
    pub account: String,
    pub shown: String,
    pub window: String,
    pub unit: String,
    pub stands: String,
    pub amount: String,
    pub until: String,
    pub is_at_until: bool,
    /// Of the trial that is under way.
    pub trial: u64,
    /// What the gateway says would be, or why not.
    pub after: Option<Result<String, String>>,
}

impl Model {
    pub fn changed(&mut self, number: u64, result: Result<Value, String>) {
        if let Mode::TopUp(form) = &mut self.mode
            && form.trial == number
        {
            form.after = Some(result.map(|value| after(&value)).map_err(|why| visible(&why)));
            return;
        }
        let Some(at) = self.pending.iter().position(|(known, _)| *known == number) else {
            return;
        };
        let (_, done) = self.pending.remove(at);
        match result {
            Ok(value) => {
                let warning = value.get("warning").and_then(Value::as_str).unwrap_or_default();
                let warning = if warning.is_empty() {
                    String::new()
                } else {
                    format!(": {}", visible(warning))
                };
                self.say(format!("{done}{warning}"), false);
            }
            Err(why) => self.say(visible(&why), true),
        }
    }

    fn change(&mut self, method: &'static str, mut params: Map<String, Value>, done: String) -> Box<Change> {
        self.number += 1;
        params.insert("request_id".to_owned(), Ulid::new().to_string().into());
        Box::new(Change {
            number: self.number,
            method,
            params,
            done,
        })
    }

    /// Has a change carried out; what became of it is told when it is known.
    pub fn send(&mut self, change: Box<Change>) -> Act {
        self.pending.push((change.number, change.done.clone()));
        Act::Change(change)
    }

    /// The question before the selected session, or the selected hold's, is killed.
    pub fn ask_kill(&mut self) {
        let Some((id, tenant)) = self.session() else {
            let text = "select a session (2), or a hold of one (3), and press k";
            return self.say(text.to_owned(), true);
        };
        let shown = quoted(&id);
        let answers = self.answers.as_deref();
        let holds = answers.and_then(|answers| answers.holds.as_ref().ok());
        let cut: Option<Vec<Usd>> = holds.map(|holds| {
            let of_it = holds.iter().filter(|hold| hold.session == id && hold.tenant == tenant);
            of_it.map(|hold| hold.held_usd).collect()
        });
        let effect = match cut.as_deref() {
            None => "Its running calls are cut.".to_owned(),
            Some([]) => "No call of it runs.".to_owned(),
            Some(held) => {
                let sum = held.iter().fold(Usd::default(), |sum, usd| sum.saturating_add(*usd));
                let calls = if held.len() == 1 { "call" } else { "calls" };
                format!(
                    "It cuts {} running {calls}, for which {} is held.",
                    held.len(),
                    money(sum, 4)
                )
            }
        };
        let of_tenant = if tenant.is_empty() {
            String::new()
        } else {
            format!(" of {}", quoted(&tenant))
        };
        let given = Map::from_iter([
            ("id".to_owned(), id.into()),
            ("tenant".to_owned(), tenant.into()),
            ("note".to_owned(), "in top".into()),
        ]);
        let change = self.change("session.kill", given, format!("{shown} is killed"));
        self.mode = Mode::Ask(Question {
            lines: vec![
                format!("Kill session {shown}{of_tenant}?"),
                format!("{effect} Its further calls are refused."),
            ],
            verb: "kill it".to_owned(),
            change,
        });
    }

    /// The session that the selected row is, or belongs to, and its tenant.
    fn session(&self) -> Option<(String, String)> {
        let row = self.state(self.pane)?.selected()?;
        let answers = self.answers.as_deref()?;
        match self.pane {
            Pane::Sessions => {
                let session = answers.sessions.as_ref().ok()?.get(row.at)?;
                Some((session.id.clone(), session.tenant.clone()))
            }
            Pane::Holds => {
                let hold = answers.holds.as_ref().ok()?.get(row.at)?;
                (!hold.session.is_empty()).then(|| (hold.session.clone(), hold.tenant.clone()))
            }
            _ => None,
        }
    }

    fn budget(&self) -> Option<(&BudgetRow, &LimitRow)> {
        let row = self.state(Pane::Budgets)?.selected()?;
        let budget = self.answers.as_deref()?.budgets.as_ref().ok()?.get(row.at)?;
        Some((budget, budget.limits.get(row.part)?))
    }

    /// The form of a top-up of the selected budget.
    pub fn open_top_up(&mut self) {
        let text = "select a budget (4), and press t";
        if self.pane != Pane::Budgets {
            return self.say(text.to_owned(), true);
        }
        let Some((row, bound)) = self.budget() else {
            return self.say(text.to_owned(), true);
        };
        let standing = Standing::of(row, bound);
        let left = standing
            .left()
            .map(|left| amount(&bound.unit, left))
            .unwrap_or_default();
        // Until its window ends, and a week where it never does.
        let until = row
            .to
            .clone()
            .unwrap_or_else(|| rfc3339_ms(self.gateway_ms().saturating_add(7 * DAY_MS)));
        let name = aliases::named(&self.names, &row.account);
        self.mode = Mode::TopUp(Form {
            shown: quoted(&name.map_or_else(|| row.account.clone(), |name| name.into_owned())),
            account: row.account.clone(),
            window: row.window.clone(),
            unit: bound.unit.clone(),
            stands: format!(
                "{left} left of {}",
                standing
                    .limit
                    .map(|value| amount(&bound.unit, value))
                    .unwrap_or_default()
            ),
            amount: String::new(),
            until,
            is_at_until: false,
            trial: 0,
            after: None,
        });
    }

    /// What the form asks for, as a trial or in earnest; none while there is no amount.
    pub fn top_up(&mut self, is_trial: bool) -> Option<Box<Change>> {
        let Mode::TopUp(form) = &mut self.mode else { return None };
        form.after = None;
        let given = form.amount.trim().trim_start_matches('$').replace(',', "");
        if given.is_empty() || form.until.trim().is_empty() {
            return None;
        }
        let params = params([
            ("account", form.account.as_str().into()),
            ("window", form.window.as_str().into()),
            ("unit", form.unit.as_str().into()),
            ("amount", given.as_str().into()),
            ("until", form.until.trim().into()),
            ("reason", "in top".into()),
            ("dry_run", is_trial.into()),
        ]);
        let dollar = if form.unit == "usd" { "$" } else { "" };
        let done = format!("{} is topped up by {dollar}{}", form.shown, visible(&given));
        let change = self.change("budget.top_up", params, done);
        if is_trial && let Mode::TopUp(form) = &mut self.mode {
            form.trial = change.number;
        }
        Some(change)
    }

    /// The question before a top-up, with what the gateway said of it.
    pub fn ask_top_up(&mut self) {
        let Mode::TopUp(form) = &self.mode else { return };
        let after = match &form.after {
            Some(Ok(after)) => after.clone(),
            Some(Err(_)) => return,
            None => String::new(),
        };
        let (shown, until) = (form.shown.clone(), visible(&form.until));
        let dollar = if form.unit == "usd" { "$" } else { "" };
        let amount = visible(form.amount.trim().trim_start_matches('$'));
        let Some(change) = self.top_up(false) else { return };
        let mut lines = vec![format!("Top up {shown} by {dollar}{amount} until {until}?")];
        lines.extend(Some(after).filter(|after| !after.is_empty()));
        self.mode = Mode::Ask(Question {
            lines,
            verb: "top up".to_owned(),
            change,
        });
    }
}

/// A name within a sentence, short.
fn quoted(name: &str) -> String {
    cut(&visible(name), 48)
}

/// What the gateway says of a trial.
fn after(result: &Value) -> String {
    let said = |name: &str| result.pointer(&format!("/after/{name}")).and_then(Value::as_str);
    let unit = said("unit").unwrap_or("usd");
    let figure = |text: &str| match unit {
        "usd" => text.parse::<Usd>().map_or_else(|_| visible(text), limit),
        _ => visible(text),
    };
    let warning = result
        .get("warning")
        .and_then(Value::as_str)
        .map(visible)
        .unwrap_or_default();
    let stands = match (said("left"), said("limit")) {
        (Some(left), Some(limit)) => format!("After it: {} left of {}.", figure(left), figure(limit)),
        _ => "The gateway would take it.".to_owned(),
    };
    format!("{stands} {warning}").trim_end().to_owned()
}
