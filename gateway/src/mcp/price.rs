//! What a tool's call costs: at most, before it, and after its answer.

use agentledger_ledger::{Name, PriceRef, Usd};

use super::answer::Says;
use crate::config::ToolPrice;

/// A call of a tool, as its price may know it.
#[expect(dead_code, reason = "a component prices by what is sent")]
pub struct PricedCall<'a> {
    pub server: &'a str,
    pub tool: &'a str,
    /// JSON, as it was sent; empty for none.
    pub arguments: &'a [u8],
}

/// The answer to it.
#[expect(dead_code, reason = "a component prices by what came back")]
pub struct PricedAnswer<'a> {
    pub says: &'a Says,
    /// JSON; `None` where there is none, or it was too long to be held.
    pub result: Option<&'a str>,
    /// Bytes of the whole message.
    pub bytes: u64,
    pub duration_ms: u64,
}

/// What is held for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    pub usd: Usd,
    /// The tool has a price.
    pub priced: bool,
}

/// What a call cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub usd: Usd,
    pub price: Option<PriceRef>,
    /// Why it is an estimate; `None` for exact.
    pub estimate_reason: Option<&'static str>,
}

/// Prices of tools.
pub trait ToolPrices {
    /// An upper bound, before the call is sent.
    fn quote(&self, call: &PricedCall<'_>) -> Quote;
    /// What it cost, by its answer.
    fn charge(&self, call: &PricedCall<'_>, answer: &PricedAnswer<'_>) -> Charge;
}

/// The contract's rows: so much a call. One that names both server and tool counts before one that leaves either open; what has none
/// costs nothing, and so does an answer that is an error.
pub struct Rows<'a>(pub &'a [ToolPrice]);

impl Rows<'_> {
    fn row(&self, call: &PricedCall<'_>) -> Option<&ToolPrice> {
        let fits = |said: &str, name: &str| said.is_empty() || said == "*" || said == name;
        let open = |said: &str| said.is_empty() || said == "*";
        let rows = self.0.iter();
        // Of several that are open alike the first counts.
        rows.filter(|row| fits(&row.server, call.server) && fits(&row.tool, call.tool))
            .min_by_key(|row| (open(&row.server), open(&row.tool)))
    }
}

impl ToolPrices for Rows<'_> {
    fn quote(&self, call: &PricedCall<'_>) -> Quote {
        let row = self.row(call);
        Quote {
            usd: row.map_or(Usd::ZERO, |row| row.cost),
            priced: row.is_some(),
        }
    }

    fn charge(&self, call: &PricedCall<'_>, answer: &PricedAnswer<'_>) -> Charge {
        let row = self
            .row(call)
            .filter(|_| !matches!(answer.says, Says::Error | Says::ToolError));
        let name = |text: &str| match text {
            "" => "*".to_owned(),
            text => text.to_owned(),
        };
        Charge {
            usd: row.map_or(Usd::ZERO, |row| row.cost),
            price: row.map(|row| PriceRef {
                provider: Name::from("mcp"),
                id: Name::from(format!("{}:{}", name(&row.server), name(&row.tool))),
                effective: Name::from(""),
                tier: None,
            }),
            estimate_reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn rows() -> Vec<ToolPrice> {
        let row = |server: &str, tool: &str, nanos| ToolPrice {
            server: server.to_owned(),
            tool: tool.to_owned(),
            cost: Usd::from_nanos(nanos),
        };
        vec![
            row("", "", 1),
            row("s", "", 2),
            row("", "t", 3),
            row("s", "t", 4),
            row("s", "t", 5),
        ]
    }

    fn call<'a>(server: &'a str, tool: &'a str) -> PricedCall<'a> {
        PricedCall {
            server,
            tool,
            arguments: b"",
        }
    }

    #[test]
    fn a_row_that_names_more_counts_before_one_that_leaves_it_open() {
        let rows = rows();
        for (server, tool, nanos) in [("s", "t", 4), ("s", "x", 2), ("x", "t", 3), ("x", "y", 1)] {
            let quote = Rows(&rows).quote(&call(server, tool));
            assert_eq!((quote.usd.nanos(), quote.priced), (nanos, true), "{server} {tool}");
        }
        let none = Rows(&[]).quote(&call("s", "t"));
        assert_eq!((none.usd, none.priced), (Usd::ZERO, false));
    }

    #[test]
    fn an_answer_that_is_an_error_costs_nothing() {
        let rows = rows();
        for (says, nanos) in [(Says::Result, 4), (Says::ToolError, 0), (Says::Error, 0)] {
            let answer = PricedAnswer {
                says: &says,
                result: None,
                bytes: 1,
                duration_ms: 1,
            };
            let charge = Rows(&rows).charge(&call("s", "t"), &answer);
            assert_eq!(charge.usd.nanos(), nanos, "{says:?}");
            assert_eq!(
                charge.price.map(|price| price.id.to_string()),
                (nanos > 0).then(|| "s:t".to_owned())
            );
        }
    }
}
