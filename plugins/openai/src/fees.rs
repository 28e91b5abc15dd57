//! What hosts bill beside tokens, and what they say that they billed.

use agentledger_guest::Kind;
use agentledger_guest::answer::{Raw, text, there};
use agentledger_guest::usage::{Tally, Units, decimal};
use serde::Deserialize;

/// Fields of a usage object that tell of fees.
#[derive(Deserialize)]
pub struct Fees<'a> {
    /// OpenRouter: USD. Perplexity: an object of costs.
    #[serde(borrow, default)]
    cost: Raw<'a>,
    /// xAI: units of 10⁻¹⁰ USD.
    #[serde(borrow, default)]
    cost_in_usd_ticks: Raw<'a>,
    /// Perplexity: `low`, `medium`, `high`.
    #[serde(borrow, default)]
    search_context_size: Raw<'a>,
    /// Perplexity's deep research counts these three beside prompt and completion, and bills them.
    #[serde(default)]
    citation_tokens: Option<Units>,
    #[serde(default)]
    reasoning_tokens: Option<Units>,
    #[serde(default)]
    num_search_queries: Option<Units>,
    /// xAI's counts of its tools, by name, and their sum.
    #[serde(borrow, default)]
    server_side_tool_usage_details: Raw<'a>,
    #[serde(default)]
    num_server_side_tools_used: Option<Units>,
    /// Of xAI's live search.
    #[serde(default)]
    num_sources_used: Option<Units>,
    /// OpenRouter's tools.
    #[serde(borrow, default)]
    server_tool_use: Raw<'a>,
    #[serde(borrow, default)]
    server_tool_use_details: Raw<'a>,
    /// Perplexity's tools.
    #[serde(borrow, default)]
    tool_calls_details: Raw<'a>,
    /// Mistral's.
    #[serde(borrow, default)]
    connectors: Raw<'a>,
}

/// What deep research adds to the usage.
#[derive(Default)]
pub struct Research {
    pub citations: u64,
    /// Tokens of reasoning, outside the completion's.
    pub reasoning: Option<u64>,
    pub searches: u64,
}

impl Research {
    pub fn add_to(&self, tally: &mut Tally) {
        for (kind, units) in [
            (Kind::Input, self.citations),
            (Kind::Output, self.reasoning.unwrap_or(0)),
            (Kind::WebSearch, self.searches),
        ] {
            if units > 0 {
                tally.add(kind, units);
            }
        }
        tally.reason(self.reasoning);
    }
}

impl<'a> Fees<'a> {
    pub fn server_side_tools(&self) -> Raw<'a> {
        self.server_side_tool_usage_details
    }

    pub fn server_side_calls(&self) -> u64 {
        self.num_server_side_tools_used.map_or(0, |units| units.0)
    }

    /// Sources that xAI's live search used; its newer tools are counted by the call.
    pub fn sources(&self) -> u64 {
        let newer = there(self.server_side_tool_usage_details).is_some();
        self.num_sources_used.filter(|_| !newer).map_or(0, |units| units.0)
    }

    pub fn server_tool_use(&self) -> Raw<'a> {
        there(self.server_tool_use).or(there(self.server_tool_use_details))
    }

    pub fn tool_calls(&self) -> Raw<'a> {
        self.tool_calls_details
    }

    pub fn connectors(&self) -> Raw<'a> {
        self.connectors
    }

    /// Only a usage that has searches and reasoning of its own is one of deep research: elsewhere citations are free, and
    /// reasoning lies inside the completion. <https://docs.perplexity.ai/guides/pricing>
    pub fn research(&self) -> Research {
        match (&self.num_search_queries, &self.reasoning_tokens) {
            (Some(searches), Some(reasoning)) => Research {
                citations: self.citation_tokens.as_ref().map_or(0, |units| units.0),
                reasoning: Some(reasoning.0),
                searches: searches.0,
            },
            _ => Research::default(),
        }
    }

    /// The tier that the fee of the request goes by.
    pub fn tier(&self) -> Option<String> {
        search_tier(self.search_context_size)
    }

    /// USD as decimal text.
    pub fn reported(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Costs<'a> {
            #[serde(borrow, default)]
            total_cost: Raw<'a>,
        }
        if let Some(ticks) = there(self.cost_in_usd_ticks) {
            return decimal(ticks, 10);
        }
        let cost = there(self.cost)?;
        match serde_json::from_str::<Costs<'_>>(cost.get()) {
            Ok(costs) => decimal(there(costs.total_cost)?, 0),
            Err(_) => decimal(cost, 0),
        }
    }
}

/// `search_low`, `search_medium`, `search_high`: a size of the search context as a tier of the price book.
pub fn search_tier(size: Raw<'_>) -> Option<String> {
    let size = text(size)?;
    ["low", "medium", "high"]
        .contains(&size.as_str())
        .then(|| format!("search_{size}"))
}
