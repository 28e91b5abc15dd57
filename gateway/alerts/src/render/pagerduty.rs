//! PagerDuty's Events API v2. The deduplication key is the alert's thing: the next alert about it goes into the same incident.

use serde_json::{Map, Value, json};

use super::at;
use crate::alert::{Alert, Severity};

pub const EVENTS_URL: &str = "https://events.pagerduty.com/v2/enqueue";
const SUMMARY_CHARS_MAX: usize = 1_024;
const KEY_CHARS_MAX: usize = 255;

/// A `trigger` event. `host` names this gateway.
pub fn event(alert: &Alert, routing_key: &str, host: &str) -> Value {
    let mut details: Map<String, Value> = alert
        .shown_details()
        .into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect();
    for (name, value) in [("alert_id", alert.id.to_string()), ("tenant", alert.tenant.clone())] {
        if !value.is_empty() {
            details.entry(name).or_insert_with(|| Value::from(value));
        }
    }
    let severity = match alert.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let first = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": first(&format!("agentledger:{}", alert.thing()), KEY_CHARS_MAX),
        "payload": {
            "summary": first(&format!("{}: {}", alert.kind, alert.message), SUMMARY_CHARS_MAX),
            "source": host,
            "severity": severity,
            "timestamp": at(alert),
            "component": "agentledger",
            "group": alert.about,
            "class": alert.kind,
            "custom_details": details,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::alert::tests::alert;

    #[test]
    fn an_event_of_version_2() {
        let mut alert = alert("budget_exceeded", "key:f1");
        alert.severity = Severity::Critical;
        let event = event(&alert, "R0", "gw");
        assert_eq!(event["dedup_key"], "agentledger:budget_exceeded:key:f1");
        assert_eq!(event["event_action"], "trigger");
        let payload = &event["payload"];
        assert_eq!(
            payload["summary"],
            "budget_exceeded: API key f1 approaching budget limit"
        );
        assert_eq!(
            (&payload["severity"], &payload["timestamp"]),
            (&json!("critical"), &json!("2026-03-01T12:00:00.000Z"))
        );
        assert_eq!(payload["custom_details"]["alert_id"], alert.id.to_string());
    }
}
