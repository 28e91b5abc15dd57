//! `agentledger version`.

use crate::launch;

/// One line.
pub fn text() -> String {
    format!("agentledger {}\n", launch::version())
}
