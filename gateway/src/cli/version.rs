//! `agentledger version`.

use serde_json::json;

use super::form::FormArgs;
use crate::launch;

/// One line.
pub fn text(form: FormArgs) -> String {
    let version = launch::version();
    form.one(&json!({ "version": version }), || format!("agentledger {version}\n"))
}
