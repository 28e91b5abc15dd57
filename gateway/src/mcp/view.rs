//! Who sees which tools: a list is shown without those that a policy denies to its caller, and those that are not what they were
//! pinned to be. What is shown is asked anew when it is called.

use bytes::Bytes;
use pingora::http::RequestHeader;

use super::call::{Arguments, Called, Caller};
use super::definition::Definition;
use super::message::is_tool_name;
use super::pins::{Pins, Standing};
use crate::config::Pin;
use crate::proxy::decide;
use crate::proxy::report::{self, OwnAlert};
use crate::proxy::shared::body::Body;
use crate::proxy::shared::exchange::Exchange;
use crate::telemetry::alerts::Severity;

/// A caller's view of a server's tools.
pub struct ToolView<'a> {
    pub caller: Caller<'a>,
    pub pins: &'a Pins,
    /// Whether the server's tools are pinned.
    pub pin: Option<Pin>,
    pub header: RequestHeader,
    /// The request for the list, bound to whom the policies bind it.
    pub listing: &'a Exchange,
}

impl ToolView<'_> {
    /// Whether a tool is shown.
    pub fn shows(&self, tool: &str, definition: &Definition<'_>) -> bool {
        if !is_tool_name(tool) {
            // It could not be called.
            return false;
        }
        // Both are asked: a definition is seen whether or not its tool is shown.
        let is_trusted = self.trusts(tool, definition);
        is_trusted && self.may_call(tool)
    }

    fn may_call(&self, tool: &str) -> bool {
        let caller = Caller {
            identity: &self.listing.identity,
            ..self.caller
        };
        let called = Called {
            id: caller.new_id(),
            key: String::new(),
            tool,
            arguments: Arguments::Json(Bytes::new()),
            bill: None,
        };
        let mut exchange = caller.exchange(&self.header, Some((&called, None)), Body::own(Bytes::new()));
        exchange.tenant.clone_from(&self.listing.tenant);
        exchange.zone.clone_from(&self.listing.zone);
        // A policy that fails would refuse the call.
        decide::outlook(caller.gateway, &exchange).is_ok_and(|verdict| verdict.deny.is_none())
    }

    fn trusts(&self, tool: &str, definition: &Definition<'_>) -> bool {
        let Some(pin) = self.pin else { return true };
        let server = self.caller.server;
        let now_ms = self.caller.gateway.clock.now_ms();
        let standing = self.pins.see(server, tool, definition, now_ms);
        match standing {
            Standing::AsPinned => return true,
            // Whoever decided so knows of it.
            Standing::Refused => return false,
            Standing::Changed => {}
        }
        let changed = OwnAlert {
            kind: "tool_changed",
            severity: Severity::Critical,
            message: format!(
                "the MCP server {server} changed what its tool {} is said to do",
                shown(tool)
            ),
            details: vec![
                ("server".to_owned(), server.to_string()),
                ("tool".to_owned(), shown(tool)),
            ],
            about: format!("{server}:{}", shown(tool)),
        };
        report::own_alert(self.caller.gateway, changed, self.caller.rules.config.alerts.cooldown);
        pin == Pin::Alert
    }
}

/// A name as people may be shown it: bounded, printable.
fn shown(tool: &str) -> String {
    tool.chars().filter(|one| !one.is_control()).take(120).collect()
}
