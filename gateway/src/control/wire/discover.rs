//! The document of the interface.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Result of `rpc.discover`: an OpenRPC document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpenRpc {
    pub openrpc: String,
    pub info: Value,
    pub methods: Vec<Value>,
    pub components: Value,
}
