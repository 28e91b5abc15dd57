//! The contract's webhook: `{"type", "severity", "message", "details"}`. The id is in the headers.

use serde_json::{Map, Value, json};

use crate::alert::Alert;

pub fn payload(alert: &Alert) -> Value {
    let details: Map<String, Value> = alert
        .shown_details()
        .into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect();
    json!({
        "type": alert.kind,
        "severity": alert.severity.name(),
        "message": alert.message,
        "details": details,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::alert::tests::alert;

    #[test]
    fn the_contracts_payload_and_nothing_else() {
        let mut alert = alert("budget_warning", "key:f1");
        let details = json!({"api_key_hash": "f1", "daily_spent": "8.00", "daily_limit": "10.00"});
        let mut expected = json!({"type": "budget_warning", "severity": "warning",
            "message": "API key f1 approaching budget limit", "details": details});
        assert_eq!(payload(&alert), expected);
        alert.folded = 41;
        expected["details"]["folded"] = json!("41");
        assert_eq!(payload(&alert), expected);
    }
}
