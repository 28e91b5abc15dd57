//! A user's own body: text with `{{field}}` in it. In JSON a value is escaped as within quotes, so that no alert can break
//! out of its string.

use serde_json::{Map, Value};

use super::at;
use crate::alert::Alert;

const FIELDS: [&str; 9] = [
    "id", "at", "type", "severity", "message", "about", "tenant", "policy", "folded",
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("{{{{{0}}}}} is no field: {fields}, details, or details.NAME", fields = FIELDS.join(", "))]
    Unknown(String),
    #[error("has {{{{ without }}}}")]
    Open,
    #[error("gives no JSON ({0}): put the fields into quotes, and {{{{details}}}} without")]
    NotJson(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
    /// All of them, as a JSON object.
    Details,
    Detail(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    is_json: bool,
}

impl Template {
    /// `is_json`: whether the body is JSON, by its content type.
    ///
    /// # Errors
    /// A field is unknown or not closed, or what comes of it is not JSON though it should be.
    pub fn parse(text: &str, is_json: bool) -> Result<Template, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            let name = name.trim();
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match name.strip_prefix("details.") {
                Some(detail) => Piece::Detail(detail.to_owned()),
                None if name == "details" => Piece::Details,
                None if FIELDS.contains(&name) => Piece::Field(name.to_owned()),
                None => return Err(TemplateError::Unknown(name.to_owned())),
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let template = Template { pieces, is_json };
        if is_json {
            let sample = template.render(&sample());
            serde_json::from_str::<Value>(&sample).map_err(|error| TemplateError::NotJson(error.to_string()))?;
        }
        Ok(template)
    }

    pub fn render(&self, alert: &Alert) -> String {
        let details = alert.shown_details();
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(name) => out.push_str(&self.escaped(&field(alert, name))),
                Piece::Details => {
                    let all: Map<String, Value> = details
                        .iter()
                        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                        .collect();
                    out.push_str(&Value::Object(all).to_string());
                }
                Piece::Detail(wanted) => {
                    let value = details.iter().find(|(name, _)| name == wanted);
                    out.push_str(&self.escaped(value.map_or("", |(_, value)| value)));
                }
            }
        }
        out
    }

    fn escaped(&self, value: &str) -> String {
        if !self.is_json {
            return value.to_owned();
        }
        let quoted = Value::from(value).to_string();
        let inner = quoted.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
        inner.unwrap_or_default().to_owned()
    }
}

fn field(alert: &Alert, name: &str) -> String {
    match name {
        "id" => alert.id.to_string(),
        "at" => at(alert),
        "type" => alert.kind.clone(),
        "severity" => alert.severity.name().to_owned(),
        "message" => alert.message.clone(),
        "about" => alert.about.clone(),
        "tenant" => alert.tenant.clone(),
        "policy" => alert.policy.clone(),
        "folded" => alert.folded.to_string(),
        _ => String::new(),
    }
}

/// An alert whose texts would break JSON where they are not escaped.
fn sample() -> Alert {
    let odd = "\"\\\n".to_owned();
    Alert {
        id: ulid::Ulid::nil(),
        at_ms: 0,
        kind: odd.clone(),
        severity: crate::alert::Severity::Info,
        message: odd.clone(),
        details: vec![("detail".to_owned(), odd.clone())],
        about: odd.clone(),
        tenant: odd.clone(),
        policy: odd,
        folded: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::alert::tests::alert;

    const TEAMS: &str = r#"{"text": "{{ severity }}: {{message}}", "facts": {{details}}, "key": "{{details.api_key_hash}}", "n": {{folded}}}"#;

    #[test]
    fn fields_are_filled_in() {
        let rendered = Template::parse(TEAMS, true).unwrap().render(&alert("x", "y"));
        let body: Value = serde_json::from_str(&rendered).unwrap();
        assert_eq!(body["text"], "warning: API key f1 approaching budget limit");
        assert_eq!((&body["key"], &body["n"]), (&Value::from("f1"), &Value::from(0)));
        assert_eq!(body["facts"]["daily_spent"], "8.00");
        let text = Template::parse("{{type}} about {{about}} {{details.none}}.", false).unwrap();
        assert_eq!(text.render(&alert("x", "a \"b\"")), "x about a \"b\" .");
    }

    #[test]
    fn wrong_templates_are_refused() {
        let refused = |text: &str| Template::parse(text, true).unwrap_err().to_string();
        assert!(refused("{{mesage}}").starts_with("{{mesage}} is no field: id, at,"));
        assert_eq!(refused("{\"a\": \"{{message\"}"), "has {{ without }}");
        assert!(refused(r#"{"a": {{message}}}"#).starts_with("gives no JSON"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_string(text in any::<String>()) {
            let mut alert = alert("x", "y");
            alert.message = text.clone();
            alert.details = vec![("api_key_hash".to_owned(), text.clone())];
            let rendered = Template::parse(TEAMS, true).unwrap().render(&alert);
            let body: Value = serde_json::from_str(&rendered).unwrap();
            prop_assert_eq!(body["text"].as_str().unwrap(), format!("warning: {text}"));
            prop_assert_eq!(body["key"].as_str().unwrap(), text);
        }
    }
}
