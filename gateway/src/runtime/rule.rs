//! One rule: what it says, and where in which policy's conf it belongs.

use agentledger_ledger::{Document, Name, rfc3339_ms};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

/// A rule that operators keep.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The order of ids is that of their making.
    pub id: Ulid,
    /// `POLICY.FIELD`, or `POLICY` for the whole of its conf.
    pub list: String,
    /// An item where the field is a list, else what lies over the file's.
    pub value: Value,
    /// Milliseconds since the epoch.
    pub expires_ms: Option<i64>,
    /// The tenant whose token made it; empty for one of the whole installation's.
    pub tenant: Name,
    pub note: Name,
    pub author: Name,
    /// The change that made it what it is, and when.
    pub change: Ulid,
    pub at_ms: i64,
    /// One more with each change. No version of an id comes twice, even where the rule is taken away and put again.
    pub version: u64,
}

/// A rule as its document has it.
#[derive(Deserialize, Serialize)]
struct Kept {
    list: String,
    value: Value,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tenant: String,
}

impl Rule {
    /// `budget` of `budget.limits`.
    pub fn policy(&self) -> &str {
        policy_of(&self.list)
    }

    /// `limits` of `budget.limits`; `None` for the whole conf.
    pub fn field(&self) -> Option<&str> {
        self.list.split_once('.').map(|(_, field)| field)
    }

    /// What its document says.
    pub fn document(&self) -> Value {
        let kept = Kept {
            list: self.list.clone(),
            value: self.value.clone(),
            expires: self.expires_ms.map(rfc3339_ms),
            tenant: self.tenant.to_string(),
        };
        serde_json::to_value(kept).unwrap_or_default()
    }

    /// The rule that a document is.
    ///
    /// # Errors
    /// The document is none: of a later version, or of another hand.
    pub fn read(id: Ulid, document: &Document) -> Result<Rule, String> {
        let mut rule = Rule::of_value(id, &document.value)?;
        rule.note = Name::clone(&document.note);
        rule.author = Name::clone(&document.author);
        (rule.change, rule.at_ms, rule.version) = (document.change, document.at_ms, document.version);
        Ok(rule)
    }

    /// The rule that a document's text was, without who made it when.
    pub fn of_value(id: Ulid, text: &str) -> Result<Rule, String> {
        let kept: Kept = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let expires_ms = match kept.expires {
            None => None,
            Some(text) => {
                let at: Timestamp = text.parse().map_err(|_| format!("expires: {text:?} is no time"))?;
                Some(at.as_millisecond())
            }
        };
        Ok(Rule {
            id,
            list: kept.list,
            value: kept.value,
            expires_ms,
            tenant: kept.tenant.into(),
            note: "".into(),
            author: "".into(),
            change: Ulid::nil(),
            at_ms: 0,
            version: 0,
        })
    }
}

/// `budget` of `budget.limits`.
pub fn policy_of(list: &str) -> &str {
    list.split_once('.').map_or(list, |(policy, _)| policy)
}

/// The tenant that a rule is about, where it can touch nobody else.
pub fn tenant_of<'a>(list: &str, value: &'a Value) -> Option<&'a str> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let tenant = match list {
        "budget.rules" => text("tenant_id"),
        "budget.limits" | "budget.top_ups" | "rate_limit.limits" => {
            text("account").and_then(|account| account.strip_prefix("tenant:"))
        }
        _ => None,
    };
    // A pattern may match keys, and tenants, of others.
    tenant.filter(|tenant| {
        !tenant.is_empty() && !tenant.contains(['*', '?', '[', '\\']) && text("api_key_pattern").is_none()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_reads_as_the_rule_it_was() {
        let text = json!({"list": "budget.limits", "value": {"limit": "5"}, "expires": "2026-12-31T00:00:00.000Z", "tenant": "acme"});
        let rule = Rule::of_value(Ulid::from(7_u128), &text.to_string()).unwrap();
        assert_eq!((rule.policy(), rule.field()), ("budget", Some("limits")));
        assert_eq!(rule.expires_ms, Some(1_798_675_200_000));
        assert_eq!(rule.document(), text);
        assert!(Rule::of_value(Ulid::nil(), "{}").is_err());
        assert!(Rule::of_value(Ulid::nil(), r#"{"list": "x", "value": 1, "expires": "soon"}"#).is_err());
    }

    #[test]
    fn a_tenants_own_rules_touch_nobody_else() {
        let of = |list: &str, value: Value| tenant_of(list, &value).map(str::to_owned);
        let own = Some("acme".to_owned());
        assert_eq!(
            of("budget.rules", json!({"tenant_id": "acme", "api_key_pattern": ""})),
            own
        );
        assert_eq!(
            of("budget.rules", json!({"tenant_id": "acme", "api_key_pattern": "sk-*"})),
            None
        );
        assert_eq!(of("budget.limits", json!({"account": "tenant:acme"})), own);
        assert_eq!(of("budget.top_ups", json!({"account": "tenant:acme"})), own);
        assert_eq!(
            of(
                "budget.top_ups",
                json!({"account": "tenant:acme", "api_key_pattern": "*"})
            ),
            None
        );
        assert_eq!(of("rate_limit.limits", json!({"account": "tenant:acme"})), own);
        assert_eq!(of("rate_limit.limits", json!({"account": "tenant:ac*"})), None);
        assert_eq!(of("rate_limit.limits", json!({"account": "tenant"})), None);
        assert_eq!(of("rate_limit.limits", json!({"account": "tenant:"})), None);
        assert_eq!(of("rate_limit.rules", json!({"account": "tenant:acme"})), None);
        assert_eq!(of("tenant.key_mappings", json!({"tenant_id": "acme"})), None);
        assert_eq!(of("budget.default", json!({"tenant_id": "acme"})), None);
    }
}
