//! Who sees which tools: a list is shown without those that a policy denies to its caller, and those that are not what they were
//! pinned to be. What is shown is asked anew when it is called.

use std::sync::Arc;

use bytes::Bytes;
use pingora::http::RequestHeader;
use serde_json::value::RawValue;

use super::Mcp;
use super::arrive::Arrival;
use super::call::Caller;
use super::message::{Message, Params};
use super::pins::Standing;
use crate::config::Pin;
use crate::proxy::decide;
use crate::proxy::report::{self, OwnAlert};
use crate::proxy::shared::body::Body;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::telemetry::alerts::Severity;

/// A caller's view of a server's tools.
pub struct ToolView<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub mcp: &'a Mcp,
    pub arrival: &'a Arrival,
    pub header: RequestHeader,
    /// The request for the list, bound to whom the policies bind it.
    pub listing: &'a Exchange,
}

impl ToolView<'_> {
    /// Whether a tool is shown.
    pub fn shows(&self, tool: &str, definition: &RawValue) -> bool {
        // Both are asked: a definition is seen whether or not its tool is shown.
        let is_trusted = self.trusts(tool, definition);
        is_trusted && self.may_call(tool)
    }

    fn may_call(&self, tool: &str) -> bool {
        let called = Message {
            id: None,
            method: None,
            params: Params {
                name: Some(tool.into()),
                ..Params::default()
            },
        };
        let caller = Caller {
            identity: &self.listing.identity,
            ..self.arrival.caller(self.gateway)
        };
        let mut exchange = caller.exchange(
            &self.header,
            Some((&called, Bytes::new(), None)),
            Body::own(Bytes::new()),
        );
        exchange.tenant.clone_from(&self.listing.tenant);
        exchange.zone.clone_from(&self.listing.zone);
        // A policy that fails would refuse the call.
        decide::outlook(self.gateway, &exchange).is_ok_and(|verdict| verdict.deny.is_none())
    }

    fn trusts(&self, tool: &str, definition: &RawValue) -> bool {
        let server = &self.arrival.server;
        let Some(pin) = server.config.pin else { return true };
        if self.mcp.pins.see(&server.name, tool, definition) == Standing::AsPinned {
            return true;
        }
        let changed = OwnAlert {
            kind: "tool_changed",
            severity: Severity::Critical,
            message: format!(
                "the MCP server {} changed what its tool {} is said to do",
                server.name,
                shown(tool)
            ),
            details: vec![
                ("server".to_owned(), server.name.to_string()),
                ("tool".to_owned(), shown(tool)),
            ],
            about: format!("{}:{}", server.name, shown(tool)),
        };
        report::own_alert(self.gateway, changed, self.arrival.rules.config.alerts.cooldown);
        pin == Pin::Alert
    }
}

/// A name as people may be shown it: bounded, printable.
fn shown(tool: &str) -> String {
    tool.chars().filter(|one| !one.is_control()).take(120).collect()
}
