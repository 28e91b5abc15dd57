//! Silences as the journal keeps them: documents `silence:ULID`, put and taken away by operators.

use agentledger_alerts::{PatternError, Silence};
use agentledger_ledger::{Document, Ledger};
use serde::{Deserialize, Serialize};

/// How the subjects of silences begin.
pub const SILENCE: &str = "silence:";

/// What alerts a silence covers, and until when. An empty pattern covers everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceRule {
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub about: String,
    #[serde(default)]
    pub tenant: String,
    /// Milliseconds since the epoch.
    pub until_ms: i64,
}

impl SilenceRule {
    /// # Errors
    /// One of its patterns is none.
    pub fn silence(&self, id: &str) -> Result<Silence, PatternError> {
        Silence::new(id, [&self.kind, &self.about, &self.tenant], self.until_ms)
    }

    /// As a document keeps it; `None` for what cannot be read.
    pub fn of(document: &Document) -> Option<(String, SilenceRule)> {
        let id = document.subject.strip_prefix(SILENCE)?.to_owned();
        Some((id, serde_json::from_str(&document.value).ok()?))
    }
}

/// Those that have not ended.
pub fn in_force(ledger: &Ledger, now_ms: i64) -> Vec<Silence> {
    let documents = ledger.documents(SILENCE);
    let rules = documents.iter().filter_map(SilenceRule::of);
    rules
        .filter(|(_, rule)| rule.until_ms > now_ms)
        .filter_map(|(id, rule)| rule.silence(&id).ok())
        .collect()
}
