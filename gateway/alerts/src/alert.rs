//! An alert: something that people should know. It bears no key: a key is named by its fingerprint.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Bytes of a message, and of one detail; details of an alert. Policies write alerts out of what clients sent.
const TEXT_BYTES_MAX: usize = 2_000;
const DETAILS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// By its name in lower case.
    pub fn parse(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The same at each attempt and for each receiver: who gets an alert twice knows it by this.
    pub id: Ulid,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The contract's `type`: `budget_warning`, `loop_detected`, or a policy's own.
    #[serde(rename = "type")]
    pub kind: String,
    pub severity: Severity,
    pub message: String,
    pub details: Vec<(String, String)>,
    /// The session, account or key that it is about; empty for the gateway as a whole.
    pub about: String,
    /// Whose matter it is; empty for nobody's in particular.
    pub tenant: String,
    /// `name@version` of the policy that asked for it; empty for the gateway's own.
    pub policy: String,
    /// Alerts that were not sent by themselves since the last one that was, and that this one stands for too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub folded: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Alert {
    /// The same within bounds: long texts are cut.
    #[must_use]
    pub fn bounded(mut self) -> Alert {
        cut(&mut self.message, TEXT_BYTES_MAX);
        for name in [&mut self.kind, &mut self.about, &mut self.tenant, &mut self.policy] {
            cut(name, NAME_BYTES_MAX);
        }
        self.details.truncate(DETAILS_MAX);
        for (name, value) in &mut self.details {
            cut(name, NAME_BYTES_MAX);
            cut(value, TEXT_BYTES_MAX);
        }
        self
    }

    /// The details as receivers get them: ordered by name, with the count of folded alerts where there are any.
    pub fn shown_details(&self) -> Vec<(String, String)> {
        let mut details = self.details.clone();
        if self.folded > 0 {
            details.push(("folded".to_owned(), self.folded.to_string()));
        }
        details.sort();
        details.dedup_by(|later, earlier| later.0 == earlier.0);
        details
    }

    /// What it is about and of which type: one cooldown, and one incident.
    pub fn thing(&self) -> String {
        format!("{}:{}", self.kind, self.about)
    }
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    /// 2026-03-01T12:00:00Z.
    pub const NOON_MS: i64 = 1_772_366_400_000;

    pub fn alert(kind: &str, about: &str) -> Alert {
        Alert {
            id: Ulid::from_parts(u64::try_from(NOON_MS).unwrap(), 7),
            at_ms: NOON_MS,
            kind: kind.to_owned(),
            severity: Severity::Warning,
            message: "API key f1 approaching budget limit".to_owned(),
            details: vec![
                ("daily_spent".to_owned(), "8.00".to_owned()),
                ("api_key_hash".to_owned(), "f1".to_owned()),
                ("daily_limit".to_owned(), "10.00".to_owned()),
            ],
            about: about.to_owned(),
            tenant: String::new(),
            policy: "budget@2".to_owned(),
            folded: 0,
        }
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let mut long = alert("x", "y");
        long.message = "é".repeat(5_000);
        long.details = (0..100).map(|at| (at.to_string(), "v".repeat(9_000))).collect();
        let bounded = long.bounded();
        assert!(bounded.message.len() <= TEXT_BYTES_MAX && bounded.message.ends_with('…'));
        assert_eq!(bounded.details.len(), DETAILS_MAX);
        assert_eq!(alert("x", "y").bounded(), alert("x", "y"));
    }

    #[test]
    fn severities_are_ordered() {
        assert!(Severity::Info < Severity::Warning && Severity::Warning < Severity::Critical);
        assert_eq!(Severity::parse("critical"), Some(Severity::Critical));
        assert_eq!(Severity::parse("Critical"), None);
    }
}
