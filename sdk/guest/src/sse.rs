//! Server-sent events, as stream endings need them.

/// One event with JSON data. `event` names it, where the dialect names its events.
pub fn event(event: Option<&str>, data: &serde_json::Value) -> Vec<u8> {
    let mut out = String::new();
    if let Some(name) = event {
        out.push_str("event: ");
        out.push_str(name);
        out.push('\n');
    }
    // JSON text has no raw line breaks, so it is one data line.
    out.push_str("data: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_data_line() {
        let data = serde_json::json!({"a": "x\ny"});
        assert_eq!(event(None, &data), b"data: {\"a\":\"x\\ny\"}\n\n");
        assert_eq!(
            event(Some("error"), &data),
            b"event: error\ndata: {\"a\":\"x\\ny\"}\n\n"
        );
    }
}
