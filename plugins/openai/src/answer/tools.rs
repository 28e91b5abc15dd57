//! What hosted tools used beside the model's tokens. Where the answer counts them, that counts; else its items do.

use std::collections::{BTreeMap, BTreeSet};

use agentledger_guest::answer::{Contradiction, Raw, parse, report, text, there};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{Kind, Part};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Answer, usage};
use crate::fees::Fees;
use crate::info::IMAGES;
use crate::wants::ITEMS_MAX;

/// The image tool's model where the answer names none:
/// <https://platform.openai.com/docs/guides/tools-image-generation>.
pub const IMAGE_TOOL_MODEL: &str = "gpt-image-1.5";

/// Items that cost nothing but their tokens.
const FREE_CALLS: [&str; 8] = [
    "function_call",
    "custom_tool_call",
    "mcp_call",
    "computer_call",
    "local_shell_call",
    "apply_patch_call",
    "tool_search_call",
    "view_image_call",
];

/// Fees of one answer.
#[derive(Default)]
pub struct Hosted {
    counts: Vec<(Kind, u64)>,
    /// Tools that are models of their own.
    pub parts: Vec<Part>,
    /// Something was billed whose amount nothing tells.
    pub unread: bool,
    /// Image generation is counted, at nothing perhaps.
    image_told: bool,
}

/// An item of a response's output.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    action: Option<Typed<'a>>,
    #[serde(borrow, default)]
    container_id: Raw<'a>,
    #[serde(borrow, default)]
    environment: Option<Environment<'a>>,
}

#[derive(Deserialize)]
pub struct Typed<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
}

#[derive(Deserialize)]
struct Environment<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    container_id: Raw<'a>,
}

/// Where Groq's messages tell which tools it ran.
#[derive(Deserialize)]
pub struct Executed<'a> {
    #[serde(borrow, default)]
    executed_tools: Option<Vec<Option<Typed<'a>>>>,
}

/// What the items of an output show.
#[derive(Default)]
struct Items {
    searches: u64,
    file_searches: u64,
    attachments: u64,
    containers: BTreeSet<String>,
    draws: bool,
    unread: bool,
}

impl Hosted {
    /// All that an answer tells of its hosted tools.
    pub fn of(
        fees: &Fees<'_>,
        answer: &Answer<'_>,
        server_side: Raw<'_>,
        executed: Option<Hosted>,
    ) -> Result<Hosted, Contradiction> {
        let mut hosted = Hosted::default();
        // These hosts count all their tools, so that items would count them again.
        let all_told = hosted.add_counts(fees, server_side)?;
        if let Some(raw) = report(answer.tool_usage) {
            hosted.add_tool_usage(raw, answer)?;
        }
        if !all_told {
            hosted.add_items(Items::of(answer));
        }
        if let Some(executed) = executed {
            executed
                .counts
                .iter()
                .for_each(|(kind, units)| hosted.add_untold(*kind, *units));
            hosted.unread |= executed.unread;
        }
        Ok(hosted)
    }

    /// An output has items that are billed.
    pub fn is_billed(answer: &Answer<'_>) -> bool {
        let mut hosted = Hosted::default();
        hosted.add_items(Items::of(answer));
        hosted.costs()
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.parts.is_empty()
    }

    /// Something of it is billed.
    pub fn costs(&self) -> bool {
        self.unread || !self.parts.is_empty() || self.counts.iter().any(|(_, units)| *units > 0)
    }

    pub fn add_to(&self, tally: &mut Tally) {
        for (kind, units) in &self.counts {
            tally.add(*kind, *units);
        }
    }

    fn add(&mut self, kind: Kind, units: u64) {
        match self.counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum = sum.saturating_add(units),
            None => self.counts.push((kind, units)),
        }
    }

    /// Unless the kind is counted already.
    fn add_untold(&mut self, kind: Kind, units: u64) {
        if units > 0 && !self.counts.iter().any(|(known, _)| *known == kind) {
            self.add(kind, units);
        }
    }

    /// Counts that stand in the usage, or beside it. True: they are of all tools.
    fn add_counts(&mut self, fees: &Fees<'_>, server_side: Raw<'_>) -> Result<bool, Contradiction> {
        let mut told = false;
        // xAI: <https://docs.x.ai/developers/tools/overview>.
        if let Some(raw) = report(fees.server_side_tools()).or_else(|| report(server_side)) {
            for (name, units) in counts(raw)? {
                self.add_named(&name.to_ascii_lowercase(), units);
            }
            told = true;
        } else if fees.server_side_calls() > 0 {
            self.unread = true;
        }
        // xAI's live search was billed by the source, at a price of its own.
        if fees.sources() > 0 {
            self.add(Kind::WebSearch, fees.sources());
            self.unread = true;
        }
        // OpenRouter: <https://openrouter.ai/docs/guides/features/server-tools>.
        if let Some(raw) = report(fees.server_tool_use()) {
            let all: BTreeMap<String, u64> = counts(raw)?.into_iter().collect();
            let count = |name: &str| all.get(name).copied().unwrap_or(0);
            self.add(Kind::WebSearch, count("web_search_requests"));
            self.unread |= count("tool_calls_executed") > count("web_search_requests");
            told = true;
        }
        // Perplexity: <https://docs.perplexity.ai/docs/agent-api/tools>.
        if let Some(raw) = report(fees.tool_calls()) {
            for (name, units) in invocations(raw)? {
                self.add_named(&name, units);
            }
            told = true;
        }
        // Mistral: <https://docs.mistral.ai/agents/connectors/connectors_overview>.
        if let Some(raw) = report(fees.connectors()) {
            for (name, units) in counts(raw)? {
                self.add_named(&name, units);
            }
            told = true;
        }
        Ok(told)
    }

    /// A tool by a host's name for it.
    fn add_named(&mut self, name: &str, units: u64) {
        let has = |part: &str| name.contains(part);
        if units == 0 {
            return;
        }
        if has("people_search") || has("finance_search") || has("posts_fetched") || has("users_fetched") {
            // At prices of their own.
            self.unread = true;
        } else if has("document_search") || has("attachment") {
            self.add(Kind::Attachment, units);
        } else if has("file_search") || has("collections") || has("document_library") {
            self.add(Kind::FileSearch, units);
        } else if has("web_search") || has("x_search") || has("search_web") {
            self.add(Kind::WebSearch, units);
        } else if has("fetch") {
            self.add(Kind::WebFetch, units);
        } else if has("code") {
            self.add(Kind::CodeExecution, units);
        } else if has("image_generation") {
            self.add(Kind::Image, units);
        } else if !has("mcp") && !has("view_") && !has("function") {
            self.unread = true;
        }
    }

    /// OpenAI's own count of image generation and web search.
    fn add_tool_usage(&mut self, raw: &RawValue, answer: &Answer<'_>) -> Result<(), Contradiction> {
        let tools: BTreeMap<String, &RawValue> = parse(raw)?;
        for (name, told) in tools {
            let Some(told) = report(Some(told)) else { continue };
            if name == "image_gen" {
                self.image_told = true;
                let tally = parse::<usage::Usage<'_>>(told)?.tally(IMAGES)?;
                let part = tally.map(|tally| tally.part(Some(image_model(answer))));
                let drawn = |part: &Part| part.usage.iter().any(|count| count.units > 0);
                self.parts.extend(part.filter(drawn));
                continue;
            }
            let requests = numbers(told)?;
            match name.as_str() {
                "web_search" => self.add(Kind::WebSearch, requests),
                "file_search" => self.add(Kind::FileSearch, requests),
                // Counted, by a price that is not known.
                _ => self.unread |= requests > 0,
            }
        }
        Ok(())
    }

    fn add_items(&mut self, items: Items) {
        self.add_untold(Kind::WebSearch, items.searches);
        self.add_untold(Kind::FileSearch, items.file_searches);
        self.add_untold(Kind::Attachment, items.attachments);
        self.add_untold(Kind::Container, items.containers.len() as u64);
        // How much memory a container has, and whether its session was billed with an earlier answer, no item tells.
        self.unread |= items.unread || !items.containers.is_empty() || (items.draws && !self.image_told);
    }

    /// Groq: <https://console.groq.com/docs/compound/built-in-tools>. Code and browsers are billed by the hour.
    pub fn of_executed<'e, 'a: 'e>(messages: impl Iterator<Item = &'e Executed<'a>>) -> Option<Hosted> {
        let mut hosted = Hosted::default();
        for tool in messages.flat_map(|message| message.executed_tools.iter().flatten().flatten()) {
            match text(tool.kind).as_deref() {
                Some("search" | "web_search" | "browser_search" | "browser.search") => hosted.add(Kind::WebSearch, 1),
                Some("visit" | "visit_website") => hosted.add(Kind::WebFetch, 1),
                Some("python" | "code_interpreter" | "code_execution") => {
                    hosted.add(Kind::CodeExecution, 1);
                    hosted.unread = true;
                }
                Some("function" | "mcp") => {}
                _ => hosted.unread = true,
            }
        }
        hosted.costs().then_some(hosted)
    }
}

impl Items {
    fn of(answer: &Answer<'_>) -> Items {
        let mut items = Items::default();
        let Some(raw) = there(answer.output).filter(|raw| raw.get().starts_with('[')) else {
            return items;
        };
        let Ok(all) = serde_json::from_str::<Vec<Option<Item<'_>>>>(raw.get()) else {
            items.unread = true;
            return items;
        };
        // What comes behind is not looked at.
        items.unread = all.len() > ITEMS_MAX;
        all.iter().flatten().for_each(|item| items.add(item));
        items
    }

    fn add(&mut self, item: &Item<'_>) {
        let Some(kind) = text(item.kind) else { return };
        let action = item.action.as_ref().and_then(|action| text(action.kind));
        match kind.as_str() {
            // Only searches are billed, not the pages that are opened: <https://platform.openai.com/docs/guides/tools-web-search>.
            "web_search_call" => self.searches += u64::from(action.is_none_or(|action| action == "search")),
            "x_search_call" | "openrouter:web_search" => self.searches += 1,
            "file_search_call" | "collections_search_call" => self.file_searches += 1,
            "document_search_call" | "attachment_search_call" => self.attachments += 1,
            "code_interpreter_call" => {
                self.containers.insert(text(item.container_id).unwrap_or_default());
            }
            "shell_call" => {
                let hosted = item
                    .environment
                    .as_ref()
                    .filter(|place| text(place.kind).as_deref() != Some("local"));
                self.containers
                    .extend(hosted.map(|place| text(place.container_id).unwrap_or_default()));
            }
            "image_generation_call" => self.draws = true,
            "search_results" | "fetch_url_results" | "sandbox_results" | "finance_results" => self.unread = true,
            // A tool that is not known here may be billed.
            other => self.unread |= other.ends_with("_call") && !FREE_CALLS.contains(&other),
        }
    }
}

/// The image model among the tools that the answer repeats.
fn image_model(answer: &Answer<'_>) -> String {
    let tools = there(answer.tools).filter(|raw| raw.get().starts_with('['));
    let tools: Vec<Option<Typed<'_>>> = tools
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let draws = |tool: &&Typed<'_>| text(tool.kind).as_deref() == Some("image_generation");
    let named = tools.iter().flatten().filter(draws).find_map(|tool| text(tool.model));
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| IMAGE_TOOL_MODEL.to_owned())
}

/// Counts by name.
fn counts(raw: &RawValue) -> Result<Vec<(String, u64)>, Contradiction> {
    let all: BTreeMap<String, Units> = parse(raw)?;
    Ok(all.into_iter().map(|(name, units)| (name, units.0)).collect())
}

/// Counts by name, each a number, or an object that has it as `invocation`.
fn invocations(raw: &RawValue) -> Result<Vec<(String, u64)>, Contradiction> {
    #[derive(Deserialize)]
    struct Invocations {
        #[serde(default)]
        invocation: Units,
    }
    let all: BTreeMap<String, &RawValue> = parse(raw)?;
    let count = |told: &RawValue| match told.get().starts_with('{') {
        true => parse::<Invocations>(told).map(|told| told.invocation.0),
        false => parse::<Units>(told).map(|units| units.0),
    };
    all.into_iter().map(|(name, told)| Ok((name, count(told)?))).collect()
}

/// The sum of an object's counts.
fn numbers(raw: &RawValue) -> Result<u64, Contradiction> {
    let members: BTreeMap<String, &RawValue> = parse(raw)?;
    let mut sum = 0_u64;
    for told in members.values().filter(|told| !told.get().starts_with(['{', '['])) {
        sum = sum.saturating_add(parse::<Units>(told)?.0);
    }
    Ok(sum)
}
