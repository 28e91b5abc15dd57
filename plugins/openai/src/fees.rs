//! What hosts bill beside tokens, and what they say that they billed.

use agentledger_guest::answer::{Raw, text, there};
use agentledger_guest::usage::{Units, decimal};
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
}

/// What deep research adds to the usage.
#[derive(Default)]
pub struct Research {
    pub citations: u64,
    /// Tokens of reasoning, outside the completion's.
    pub reasoning: Option<u64>,
    pub searches: u64,
}

impl Fees<'_> {
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
