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

/// In the order in which they are listed: from the first call to the last backup.
pub const PAGES: &[Page] = pages![
    "clients",
    "identity",
    "hosts",
    "mcp",
    "migration",
    "budgets",
    "rules",
    "refusals",
    "alerts",
    "policies",
    "policy-examples",
    "policy-versions",
    "replay",
    "prices",
    "estimates",
    "fetched",
    "plugins",
    "deploy",
    "sizing",
    "operations",
    "backup",
    "telemetry",
    "dashboard",
    "cli",
    "admin",
    "rest",
];

/// Sections that readers ask for by names of their own: a topic, its page, and its heading there.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("claude-code", "clients", "Claude Code"),
    ("claude", "clients", "Claude Code"),
    ("codex", "clients", "Codex"),
    ("gemini-cli", "clients", "Gemini CLI"),
    ("gemini", "clients", "Gemini CLI"),
    ("cursor", "clients", "Cursor"),
    ("opencode", "clients", "opencode"),
    ("openai", "clients", "OpenAI's SDKs"),
    ("anthropic", "clients", "Anthropic's SDKs"),
    ("langchain", "clients", "LangChain"),
    ("vercel-ai", "clients", "Vercel AI SDK"),
    ("vercel", "clients", "Vercel AI SDK"),
    ("litellm", "migration", "From LiteLLM"),
    ("original", "migration", "From the original AgentLedger"),
    ("restore", "backup", "Backup and restore"),
];

impl Page {
    /// Its first line.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// From a heading, of the first or second rank, to the next one.
    fn section(&self, heading: &str) -> Option<&'static str> {
        let starts = |line: &str| line.trim_start_matches('#').trim() == heading && line.starts_with('#');
        let mut at = 0;
        let lines = self.text.split_inclusive('\n').map(|line| {
            let from = at;
            at += line.len();
            (from, line)
        });
        let mut lines = lines.skip_while(|(_, line)| !starts(line));
        let (from, _) = lines.next()?;
        let end = lines
            .find(|(_, line)| line.starts_with("## "))
            .map_or(self.text.len(), |(end, _)| end);
        self.text.get(from..end)
    }
}

/// Each name that a reader may ask for, with its text: the pages, then the sections.
pub fn topics() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    let pages = PAGES.iter().map(|page| (page.name, page.text));
    let sections = SECTIONS.iter().filter_map(|(topic, page, heading)| {
        let page = PAGES.iter().find(|known| known.name == *page)?;
        Some((*topic, page.section(heading)?))
    });
    pages.chain(sections)
}

/// The text of a topic, Markdown.
pub fn text(topic: &str) -> Option<&'static str> {
    topics().find(|(name, _)| *name == topic).map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn each_section_is_there_and_ends_where_the_next_begins() {
        for (topic, _, heading) in SECTIONS {
            let text = text(topic).unwrap_or_else(|| panic!("{topic}: no section {heading:?}"));
            assert!(text.lines().next().unwrap().ends_with(heading), "{topic}: {text}");
            assert_eq!(
                text.lines().filter(|line| line.starts_with("## ")).count().max(1),
                1,
                "{topic}"
            );
        }
        let names: std::collections::BTreeSet<&str> = topics().map(|(name, _)| name).collect();
        assert_eq!(names.len(), PAGES.len() + SECTIONS.len(), "a name is there twice");
        assert!(text("codex").unwrap().contains("openai_base_url") && !text("codex").unwrap().contains("GEMINI"));
    }
}
