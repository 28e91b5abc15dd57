//! Which known client sends a request: read from its headers alone.

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::clients::Client;

/// How a client's value of a header begins.
struct Sign {
    header: &'static str,
    begins: &'static str,
    client: Client,
}

const fn sign(client: Client, header: &'static str, begins: &'static str) -> Sign {
    Sign { header, begins, client }
}

/// By what each client is known, as seen in the versions named. Of several that fit, the first counts.
const SIGNS: [Sign; 11] = [
    // Claude Code 2.1.197: `claude-cli/2.1.197 (external, cli)`.
    sign(Client::ClaudeCode, "user-agent", "claude-cli/"),
    // Codex 0.171.0: `codex_exec/0.171.0 (Debian 12.0.0; x86_64) …`; `codex_cli_rs/` and `codex-tui/` where people type.
    sign(Client::Codex, "user-agent", "codex_"),
    sign(Client::Codex, "user-agent", "codex-"),
    // Gemini CLI 0.61.0: `GeminiCLI-tui/0.61.0/gemini-3.1-pro-preview (linux; x64; terminal)`; older ones `GeminiCLI/`.
    sign(Client::GeminiCli, "user-agent", "GeminiCLI"),
    // opencode 1.18.33: `opencode/1.18.33 ai-sdk/provider-utils/4.0.46 runtime/bun/1.3.14`.
    sign(Client::Opencode, "user-agent", "opencode/"),
    // aider 0.86.2 by way of OpenRouter. To OpenAI it sends what OpenAI's SDK sends.
    sign(Client::Aider, "x-title", "Aider"),
    // aider 0.86.2 and LiteLLM 1.81.10 in Anthropic's dialect: `litellm/1.81.10`.
    sign(Client::Litellm, "user-agent", "litellm/"),
    // What sits between may put its own name into the User-Agent; these stay.
    sign(Client::ClaudeCode, "x-claude-code-session-id", ""),
    sign(Client::Codex, "originator", "codex_"),
    sign(Client::Opencode, "originator", "opencode"),
    sign(Client::Opencode, "x-opencode-session", ""),
];

/// The client that the headers are of. Looks at them alone, and allocates nothing.
pub fn known_client(headers: &HeaderMap) -> Option<Client> {
    let agent = headers.get(USER_AGENT);
    let fits = |sign: &&Sign| {
        let value = match sign.header {
            "user-agent" => agent,
            other => headers.get(other),
        };
        value.is_some_and(|value| value.as_bytes().starts_with(sign.begins.as_bytes()))
    };
    SIGNS.iter().find(fits).map(|sign| sign.client)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn client_of(headers: &[(&'static str, &'static str)]) -> Option<Client> {
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        known_client(&pairs.collect())
    }

    #[test]
    fn clients_are_known_by_what_they_send() {
        for (name, value, client) in [
            (
                "user-agent",
                "claude-cli/2.1.197 (external, sdk-cli)",
                Client::ClaudeCode,
            ),
            (
                "user-agent",
                "codex_exec/0.171.0 (Debian 12.0.0; x86_64)",
                Client::Codex,
            ),
            (
                "user-agent",
                "codex_cli_rs/0.40.0 (Mac OS 15.1.0; arm64)",
                Client::Codex,
            ),
            ("user-agent", "codex-tui/0.171.0", Client::Codex),
            (
                "user-agent",
                "GeminiCLI-tui/0.61.0/gemini-3.1-pro-preview (linux)",
                Client::GeminiCli,
            ),
            (
                "user-agent",
                "GeminiCLI/0.9.0/gemini-2.5-pro (linux; x64)",
                Client::GeminiCli,
            ),
            (
                "user-agent",
                "opencode/1.18.33 ai-sdk/provider-utils/4.0.46",
                Client::Opencode,
            ),
            ("originator", "codex_exec", Client::Codex),
            ("originator", "opencode", Client::Opencode),
            (
                "x-claude-code-session-id",
                "4c969c67-36fc-49b0-b19c-a541da334ebf",
                Client::ClaudeCode,
            ),
            ("x-title", "Aider", Client::Aider),
            ("user-agent", "litellm/1.81.10", Client::Litellm),
        ] {
            assert_eq!(client_of(&[(name, value)]), Some(client), "{name}: {value}");
        }
    }

    #[test]
    fn what_is_not_known_is_nobody() {
        for value in [
            "",
            "curl/8.7.1",
            "OpenAI/Python 1.99.0",
            "my claude-cli/2",
            "Mozilla/5.0",
        ] {
            assert_eq!(client_of(&[("user-agent", value)]), None, "{value}");
        }
        assert_eq!(client_of(&[]), None);
    }

    #[test]
    fn the_user_agent_counts_before_the_other_headers() {
        let headers = [("originator", "codex_exec"), ("user-agent", "opencode/1.18.33")];
        assert_eq!(client_of(&headers), Some(Client::Opencode));
        let behind_a_proxy = [("originator", "codex_exec"), ("user-agent", "corporate-proxy/3")];
        assert_eq!(client_of(&behind_a_proxy), Some(Client::Codex));
    }

    #[test]
    fn names_are_read_back() {
        for client in Client::ALL {
            assert_eq!(Client::from_name(client.name()), Some(client));
        }
        assert_eq!(Client::from_name("claude"), None);
    }
}
