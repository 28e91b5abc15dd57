//! MCP servers that do as they are told, and what clients send them.

use serde_json::{Value, json};

use super::upstream::Seen;
use super::{Client, Script, Setup, Upstream};
use crate::harness::client::Reply;

/// What a call of the priced tool costs in these tests.
pub const COST: &str = "0.01";

/// A gateway before one server, `hub`, at `/mcp/hub`. `further`: more keys of the section `mcp`.
pub fn before(upstream: &Upstream, further: &str) -> Setup {
    let yaml = format!(
        "mcp: {{servers: {{hub: {{upstream: \"{}/mcp\"}}}}, pricing: [{{server: hub, tool: search, cost_per_call: {COST}}}]{further}}}",
        upstream.base()
    );
    Setup::new(upstream).with(&yaml)
}

/// A server that answers each request by its method and id, as JSON.
pub fn server(answer: impl Fn(&Seen, &Value) -> Value + Send + Sync + 'static) -> Upstream {
    Upstream::playing(move |seen| {
        if seen.body.is_empty() {
            return Script::json(405, "");
        }
        let request = seen.json();
        Script::json(200, &answer(seen, &request).to_string())
    })
}

/// A server whose every answer is a result with this text.
pub fn echo() -> Upstream {
    server(|_, request| result(&request["id"], "found"))
}

pub fn result(id: &Value, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}})
}

/// A call of a tool, as a client of 2025-11-25 sends it.
pub fn call(id: u32, tool: &str, arguments: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
        .to_string()
}

pub fn search(id: u32) -> String {
    call(id, "search", json!({"q": "owls"}))
}

/// A request of 2026-07-28 with what every one has.
pub fn modern(id: u32, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// Its headers.
pub fn mirrored<'h>(method: &'h str, name: &'h str) -> Vec<(&'h str, &'h str)> {
    let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    headers.extend((!name.is_empty()).then_some(("mcp-name", name)));
    headers
}

/// Posts to `/mcp/hub`.
pub fn post(client: &Client, body: &str, headers: &[(&str, &str)]) -> Reply {
    let all = [
        &[
            ("authorization", "Bearer sk-tools-0123456789"),
            ("accept", "application/json, text/event-stream"),
        ][..],
        headers,
    ];
    client.request("POST", "/mcp/hub", &all.concat(), body.as_bytes())
}

/// One event of a stream.
pub fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// The same with an id, by which the stream can be resumed.
pub fn event_with_id(id: &str, message: &str) -> String {
    format!("id: {id}\ndata: {message}\n\n")
}
