//! What an import says at its end.

use std::time::Duration;

use agentledger_ledger::rfc3339_ms;
use serde_json::{Value, json};

use super::Read;
use crate::thousands::thousands;

/// What is printed at the end.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub source: String,
    /// Taken by runs before this one.
    pub before: u64,
    pub read: Read,
    pub taken: u64,
    pub sessions: u64,
    pub sessions_killed: u64,
    pub rules: u64,
    pub blocked: u64,
    pub providers: u64,
    pub dry_run: bool,
    pub took: Duration,
}

impl Report {
    /// The source was read to its end.
    pub fn is_whole(&self) -> bool {
        self.read.failed.is_none()
    }

    /// As programs read it.
    pub fn value(&self) -> Value {
        let read = &self.read;
        json!({
            "source": self.source,
            "from": read.first_ms.map(rfc3339_ms),
            "to": read.last_ms.map(rfc3339_ms),
            "dry_run": self.dry_run,
            "taken_before": self.before,
            "read": read.rows,
            "taken": if self.dry_run { read.all.calls } else { self.taken },
            "cost_usd": read.all.cost.to_string(),
            "tokens": read.all.tokens,
            "sessions": self.sessions,
            "sessions_killed": self.sessions_killed,
            "budgets": self.rules,
            "blocked_keys": self.blocked,
            "providers_off": self.providers,
            "left_out": read.misfits.count,
            "left_out_by_reason": read.misfits.by_reason,
            "damaged": read.failed.as_ref().map(ToString::to_string),
            "ok": self.is_whole(),
        })
    }

    pub fn text(&self) -> String {
        let read = &self.read;
        let mut lines = Vec::new();
        let mut line = |name: &str, value: String| lines.push(format!("{name:<10}  {value}"));
        line(
            "source",
            match self.source.is_empty() {
                true => "no records".to_owned(),
                false => self.source.clone(),
            },
        );
        if let (Some(first_ms), Some(last_ms)) = (read.first_ms, read.last_ms) {
            line("from, to", format!("{}  {}", rfc3339_ms(first_ms), rfc3339_ms(last_ms)));
        }
        let taken = if self.dry_run { read.all.calls } else { self.taken };
        let word = if self.dry_run { "would be taken" } else { "taken" };
        line(
            "calls",
            format!("{} {word}, {} read", thousands(taken), thousands(read.rows)),
        );
        if self.before > 0 {
            line(
                "before",
                format!("taken up to record {} by an earlier run", thousands(self.before)),
            );
        }
        line("cost", format!("{} USD", thousands(read.all.cost)));
        line("tokens", thousands(read.all.tokens));
        line(
            "sessions",
            format!(
                "{}, {} killed",
                thousands(self.sessions),
                thousands(self.sessions_killed)
            ),
        );
        let rules = [
            (self.rules, "budgets"),
            (self.blocked, "blocked keys"),
            (self.providers, "providers off"),
        ];
        line(
            "rules",
            rules
                .map(|(count, what)| format!("{} {what}", thousands(count)))
                .join(", "),
        );
        line("left out", thousands(read.misfits.count));
        for (reason, count) in &read.misfits.by_reason {
            lines.push(format!("  {:>8}  {reason}", thousands(count)));
        }
        for misfit in &read.misfits.named {
            lines.push(format!("  {}: {}", misfit.row, misfit.reason));
        }
        if read.misfits.count > read.misfits.named.len() as u64 {
            let more = read.misfits.count - read.misfits.named.len() as u64;
            lines.push(format!("  and {} more", thousands(more)));
        }
        let seconds = self.took.as_secs_f64();
        if taken > 0 && seconds > 0.0 {
            lines.push(format!(
                "{:<10}  {seconds:.1} s, {:.0} calls/s",
                "took",
                taken as f64 / seconds
            ));
        }
        if let Some(error) = &read.failed {
            lines.push(format!("DAMAGED     {error}; what came before it is taken"));
        }
        if self.dry_run {
            lines.push("Nothing was written: this was a dry run.".to_owned());
        }
        lines.join("\n") + "\n"
    }
}
