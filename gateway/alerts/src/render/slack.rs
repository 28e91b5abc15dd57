//! Slack's Block Kit, as the contract has it: a header, the message, and the details as a list.

use serde_json::{Value, json};

use crate::alert::{Alert, Severity};

/// Slack refuses longer ones.
const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 3_000;

pub fn blocks(alert: &Alert) -> Value {
    let icon = match alert.severity {
        Severity::Critical => ":rotating_light:",
        Severity::Warning | Severity::Info => ":warning:",
    };
    let header = format!("{icon} AgentLedger Alert: {}", alert.kind);
    let details: String = alert
        .shown_details()
        .iter()
        .map(|(name, value)| format!("• *{}:* {}\n", escaped(name), escaped(value)))
        .collect();
    let section = |text: &str| {
        let text = shortened(text, SECTION_CHARS_MAX);
        json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
    };
    let header = shortened(&header, HEADER_CHARS_MAX);
    let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": header}})];
    // An empty text is refused.
    blocks.extend(
        [escaped(&alert.message), details]
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| section(text)),
    );
    json!({ "blocks": blocks })
}

/// Slack's own escapes: a session named `<!channel>` must call nobody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::alert::tests::alert;

    #[test]
    fn the_contracts_blocks() {
        let mut alert = alert("budget_exceeded", "key:f1");
        alert.severity = Severity::Critical;
        alert.details.truncate(2);
        let expected = json!({"blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": ":rotating_light: AgentLedger Alert: budget_exceeded"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "API key f1 approaching budget limit"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "• *api_key_hash:* f1\n• *daily_spent:* 8.00\n"}},
        ]});
        assert_eq!(blocks(&alert), expected);
    }

    #[test]
    fn what_clients_name_calls_nobody_and_long_texts_fit() {
        let mut alert = alert("x", "y");
        alert.message = format!("<!channel> {}", "a".repeat(5_000));
        alert.kind = "k".repeat(400);
        alert.details.clear();
        let blocks = blocks(&alert);
        let message = blocks["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(message.starts_with("&lt;!channel&gt; ") && message.chars().count() == SECTION_CHARS_MAX);
        assert_eq!(
            blocks["blocks"][0]["text"]["text"].as_str().unwrap().chars().count(),
            HEADER_CHARS_MAX
        );
        assert_eq!(blocks["blocks"].as_array().unwrap().len(), 2);
    }
}
