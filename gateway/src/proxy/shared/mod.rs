//! What the steps share: the running gateway and its rules, the exchange that the steps fill, prices, refusals.

pub mod allowance;
pub mod backing_off;
pub mod body;
pub mod cached_input;
pub mod client;
pub mod codes;
pub mod cors;
pub mod deferred_holds;
pub mod drain;
pub mod exchange;
pub mod expected_use;
pub mod gateway;
pub mod http_session;
pub mod identity;
pub mod inspected;
pub mod json_rpc;
pub mod known_head;
pub mod pricing;
pub mod refusal_text;
pub mod refused;
pub mod reply;
pub mod retry_patterns;
pub mod rules;
pub mod shapes;
pub mod top_up_command;
