//! `agentledger version`.

use crate::launch::VERSION;

/// One line.
pub fn text() -> String {
    format!("agentledger {VERSION}\n")
}
