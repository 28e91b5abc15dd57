//! The guide's pages, as they are in the binary: for `agentledger guide` and for the dashboard.

/// A page by the name under which a reader asks for it.
pub struct Page {
    pub name: &'static str,
    /// Markdown.
    pub text: &'static str,
}

macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        &[$(Page { name: $name, text: include_str!(concat!("../assets/guide/", $name, ".md")) }),*]
    };
}

/// In the order in which they are listed.
pub const PAGES: &[Page] = pages![
    "admin",
    "alerts",
    "budgets",
    "cli",
    "clients",
    "deploy",
    "estimates",
    "fetched",
    "mcp",
    "moving",
    "operations",
    "plugins",
    "policies",
    "policy-versions",
    "prices",
    "refusals",
    "replay",
    "rest",
    "rules",
    "telemetry",
];

impl Page {
    pub fn named(name: &str) -> Option<&'static Page> {
        PAGES.iter().find(|page| page.name == name)
    }

    /// Its first line.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}
