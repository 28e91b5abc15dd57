//! What the commands that change something have in common: when and why, and how what was changed is told.

use agentledger_ledger::{Clock, SystemClock, rfc3339_ms};
use clap::Args;
use serde_json::{Map, Value};

use super::style::{Style, Tone, printable};
use super::view;
use crate::control::parse_last;
use crate::price::day_ms;

/// Of commands that put a rule in force.
#[derive(Debug, Default, Args)]
pub struct ChangeArgs {
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Ends by itself: a time (2026-12-31T18:00:00Z), a day (its beginning, UTC), or so long from now (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub expires: Option<String>,
    /// Only where the rule still has this version; 0: where there is none yet
    #[arg(long, value_name = "N")]
    pub if_version: Option<u64>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl ChangeArgs {
    pub fn add_to(&self, params: &mut Map<String, Value>) {
        let given = super::ask::params([
            ("note", self.note.clone().into()),
            ("expires", self.expires.clone().into()),
            ("if_version", self.if_version.into()),
            ("dry_run", self.dry_run.into()),
        ]);
        params.extend(given);
    }
}

/// A time as people write it, as RFC 3339: itself, a day, or how long from now.
pub fn moment(text: &str) -> Result<String, String> {
    if day_ms(text).is_some() {
        return Ok(format!("{text}T00:00:00Z"));
    }
    if text.contains('T') {
        return Ok(text.to_owned());
    }
    let from_now = parse_last(text).ok().filter(|_| !text.is_empty());
    let millis = from_now.and_then(|duration| i64::try_from(duration.as_millis()).ok());
    let millis = millis.ok_or("write a time (2026-12-31T18:00:00Z), a day (2026-12-31) or how long (2h, 7d)")?;
    Ok(rfc3339_ms(SystemClock::default().now_ms().saturating_add(millis)))
}

/// What became of a rule: of all methods that put, delete or revert one.
pub fn rule_told(result: &Value, style: Style) -> String {
    let is_dry = result.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
    let rule = result.get("rule").unwrap_or(&Value::Null);
    let said = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        if !text.is_empty() && text != "null" {
            out.push_str(&format!("{name:<8} {}\n", printable(&text)));
        }
    };
    let in_force = rule.get("in_force").and_then(Value::as_bool);
    let version = rule.get("version").and_then(Value::as_u64).unwrap_or_default();
    let stands = match (is_dry, in_force) {
        (true, _) => style.paint(Tone::Warning, "dry run: nothing is changed"),
        (false, Some(false)) => style.paint(Tone::Warning, "not in force"),
        (false, _) => style.paint(Tone::Good, &format!("in force, version {version}")),
    };
    let json = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default();
    line("rule", said(rule, "id"));
    line("list", said(rule, "list"));
    line("before", json(result.get("before")));
    line("now", json(rule.get("value")));
    line("expires", said(rule, "expires"));
    let change = said(result, "change");
    line("change", change.clone());
    out.push_str(&format!("{stands}\n"));
    let warning = said(result, "warning");
    if !warning.is_empty() {
        let label = style.paint(Tone::Warning, "warning");
        out.push_str(&format!("{label}: {}\n", printable(&warning)));
    }
    if !change.is_empty() {
        out.push_str(&style.paint(Tone::Faint, &format!("undo: agentledger rules revert {change}")));
        out.push('\n');
    }
    out
}

/// What became of a rule that was taken away.
pub fn deleted_told(result: &Value, style: Style) -> String {
    let said = |path: &str| {
        let found = result.pointer(path).filter(|value| !value.is_null());
        found.map_or_else(String::new, |value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        })
    };
    let (id, list, was, change) = (said("/rule/id"), said("/rule/list"), said("/before"), said("/change"));
    let lines = [("rule    ", id), ("list    ", list), ("was     ", was)];
    let head: Vec<String> = lines
        .iter()
        .map(|(name, text)| format!("{name} {}", printable(text)))
        .collect();
    let head = head.join("\n");
    if change.is_empty() {
        return format!(
            "{head}\n{}\n",
            style.paint(Tone::Warning, "dry run: nothing is changed")
        );
    }
    let undo = style.paint(Tone::Faint, &format!("undo: agentledger rules revert {change}"));
    format!(
        "{head}\nchange   {change}\n{}\n{undo}\n",
        style.paint(Tone::Good, "taken away")
    )
}

/// What else was changed: the result's fields.
pub fn told(result: &Value, style: Style) -> String {
    match result {
        Value::Object(fields) if fields.contains_key("rule") => rule_told(result, style),
        _ => view::fields(result, style),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_itself_a_day_or_how_long_from_now() {
        assert_eq!(moment("2026-12-31T18:00:00Z").unwrap(), "2026-12-31T18:00:00Z");
        assert_eq!(moment("2026-12-31").unwrap(), "2026-12-31T00:00:00Z");
        let (soon, later) = (moment("2h").unwrap(), moment("7d").unwrap());
        assert!(soon < later && later.ends_with('Z'), "{soon} {later}");
        for wrong in ["", "tomorrow", "5"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_change_tells_what_it_was_what_it_is_and_how_to_undo_it() {
        let result = json!({
            "rule": {"id": "01R", "list": "budget.limits", "value": {"limit": 5}, "in_force": true, "version": 2},
            "change": "01C", "before": {"limit": 3}, "dry_run": false,
        });
        let expected = "rule     01R\nlist     budget.limits\nbefore   {\"limit\":3}\nnow      {\"limit\":5}\n\
                        change   01C\nin force, version 2\nundo: agentledger rules revert 01C\n";
        assert_eq!(rule_told(&result, Style::PLAIN), expected);
        let dry =
            json!({"rule": {"id": "01R", "list": "loop", "value": 1}, "change": null, "before": null, "dry_run": true});
        let text = rule_told(&dry, Style::PLAIN);
        assert!(
            text.ends_with("dry run: nothing is changed\n") && !text.contains("undo"),
            "{text}"
        );
    }
}
