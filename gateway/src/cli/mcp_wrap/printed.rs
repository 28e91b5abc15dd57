//! `mcp-wrap --print-config`: the lines by which clients start a server through the wrapper.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// A client that starts servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum McpClient {
    ClaudeCode,
    Cursor,
    ClaudeDesktop,
    Vscode,
}

impl McpClient {
    /// Its name, and the file that the lines go into.
    pub const fn place(self) -> (&'static str, &'static str) {
        match self {
            McpClient::ClaudeCode => ("Claude Code", ".mcp.json in the project"),
            McpClient::Cursor => ("Cursor", "~/.cursor/mcp.json, or .cursor/mcp.json in the project"),
            McpClient::ClaudeDesktop => (
                "Claude Desktop",
                "claude_desktop_config.json (Settings, Developer, Edit Config)",
            ),
            McpClient::Vscode => ("VS Code", ".vscode/mcp.json in the workspace"),
        }
    }

    /// The member that holds the servers.
    const fn member(self) -> &'static str {
        match self {
            McpClient::Vscode => "servers",
            _ => "mcpServers",
        }
    }
}

/// A server as a client is to start it.
pub struct Started<'a> {
    pub server: &'a str,
    /// The gateway's own binary, with its whole path: clients with windows know no PATH of a shell.
    pub binary: &'a str,
    /// Ours, before the command.
    pub options: &'a [String],
    pub command: &'a [String],
    pub env: &'a [(String, String)],
}

/// The lines, after where they go and what is not in them. `wants_token`: the gateway's token is to come from the environment.
pub fn text(client: McpClient, started: &Started<'_>, wants_token: bool) -> String {
    let (name, place) = client.place();
    let (secrets, are) = match wants_token {
        true => ("AGENTLEDGER_KEY and AGENTLEDGER_TOKEN", "are secrets and are"),
        false => ("AGENTLEDGER_KEY", "is a secret and is"),
    };
    format!(
        "For {name}, in {place}. {secrets} {are} not in the lines: add what you want to `env`, in a file that only you can read. \
         Without the key no budget of a key counts these calls.\n\n{}",
        lines(client, started)
    )
}

/// The lines, JSON.
pub fn lines(client: McpClient, started: &Started<'_>) -> String {
    let own = ["mcp-wrap", "--server", started.server];
    let args: Vec<&str> = own
        .into_iter()
        .chain(started.options.iter().map(String::as_str))
        .chain(["--"])
        .chain(started.command.iter().map(String::as_str))
        .collect();
    let mut entry = Map::new();
    if client == McpClient::Vscode {
        entry.insert("type".to_owned(), json!("stdio"));
    }
    entry.insert("command".to_owned(), json!(started.binary));
    entry.insert("args".to_owned(), json!(args));
    if !started.env.is_empty() {
        let env: Map<String, Value> = started
            .env
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        entry.insert("env".to_owned(), Value::Object(env));
    }
    let config = json!({ client.member(): { started.server: entry } });
    // A value of JSON has a text.
    serde_json::to_string_pretty(&config).unwrap_or_default() + "\n"
}
