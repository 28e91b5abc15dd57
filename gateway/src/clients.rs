//! The clients that are known by name: what they are sent is worded so that they stop, and their users understand.

/// A program that people run agents with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    ClaudeCode,
    Codex,
    GeminiCli,
    Opencode,
    /// Only by way of OpenRouter does it say its own name: elsewhere it is `Litellm`, or nobody.
    Aider,
    Litellm,
}

impl Client {
    pub const ALL: [Client; 6] = [
        Client::ClaudeCode,
        Client::Codex,
        Client::GeminiCli,
        Client::Opencode,
        Client::Aider,
        Client::Litellm,
    ];

    /// As configs and entries name it.
    pub const fn name(self) -> &'static str {
        match self {
            Client::ClaudeCode => "claude-code",
            Client::Codex => "codex",
            Client::GeminiCli => "gemini-cli",
            Client::Opencode => "opencode",
            Client::Aider => "aider",
            Client::Litellm => "litellm",
        }
    }

    pub fn from_name(name: &str) -> Option<Client> {
        Client::ALL.into_iter().find(|client| client.name() == name)
    }
}
