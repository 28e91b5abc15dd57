//! What is not read costs what was held: one rule for every answer whose usage is missing or cannot be believed, whoever
//! is to blame. A client can make an answer unreadable and a host can leave its usage out, but neither makes it cheap; what
//! passed is counted beside, and only raises it. The entry is an estimate, and may be corrected later.

use agentledger_ledger::{Kind, Usd};

use crate::meter::{End, Metered, SettledUsage};
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::pricing::thinks_unseen;

/// How much of what an answer used was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// All of it, as its usage reports it; or it used nothing.
    Reported,
    /// The answer came to its end, and its usage was not read.
    Unread,
    /// The gateway cut it. The upstream may bill what it had ready when it was cancelled.
    Cut,
    /// It broke off. All that its model writes was seen as it was written.
    Seen,
    /// It broke off, and its model may have written what was not shown: it thinks unseen, or the answer comes whole.
    PartlySeen,
}

impl Evidence {
    pub fn of(exchange: &Exchange, metered: &Metered, used: &SettledUsage, end: End) -> Evidence {
        if used.estimate_reason.is_none() {
            return Evidence::Reported;
        }
        match end {
            End::Cut => Evidence::Cut,
            // An answer that ends in an error is one that broke off.
            End::Completed if !metered.failed => Evidence::Unread,
            End::Completed | End::ClientGone | End::UpstreamFailed => {
                Evidence::of_broken_off(exchange, metered.streamed)
            }
        }
    }

    /// Of an answer that broke off, or never began although the upstream has its request.
    pub fn of_broken_off(exchange: &Exchange, streamed: bool) -> Evidence {
        let streams = streamed || exchange.inspected.call.stream;
        let thoughtless = exchange.inspected.call.thoughtless;
        let thinks_unseen = || !thoughtless && exchange.models().iter().any(|model| thinks_unseen(exchange, model));
        if streams && !thinks_unseen() {
            Evidence::Seen
        } else {
            Evidence::PartlySeen
        }
    }

    /// The least that it costs, whatever was counted.
    pub fn least(self, expected: &ExpectedUse, held: Usd) -> Usd {
        match self {
            Evidence::Reported | Evidence::Seen => Usd::ZERO,
            Evidence::Cut => held,
            Evidence::PartlySeen => held.max(expected.whole),
            Evidence::Unread => held.max(expected.most),
        }
    }

    /// Limits in tokens count what was not read, too: no less than the output that was expected.
    pub fn raise_tokens(self, used: &mut SettledUsage, expected: &ExpectedUse) {
        if !matches!(self, Evidence::Unread | Evidence::PartlySeen) || used.usage.tokens() == 0 {
            return;
        }
        let missing = expected.output_tokens.saturating_sub(used.usage.output_tokens());
        if let Some(own) = used.parts.first_mut() {
            own.usage.add(Kind::Output, missing);
            used.usage.add(Kind::Output, missing);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::meter::MeteredPart;
    use agentledger_ledger::Usage;

    fn expected() -> ExpectedUse {
        ExpectedUse {
            input_tokens: 10,
            output_tokens: 1_000,
            whole: Usd::from_nanos(100),
            most: Usd::from_nanos(900),
            relies_on_cache: false,
        }
    }

    #[test]
    fn what_is_not_read_costs_what_was_held() {
        let least = |evidence: Evidence, held: i64| evidence.least(&expected(), Usd::from_nanos(held)).nanos();
        for (evidence, held, nanos) in [
            (Evidence::Reported, 500, 0),
            (Evidence::Seen, 500, 0),
            (Evidence::Cut, 500, 500),
            (Evidence::PartlySeen, 20, 100),
            (Evidence::PartlySeen, 500, 500),
            (Evidence::Unread, 500, 900),
            (Evidence::Unread, 1_000, 1_000),
        ] {
            assert_eq!(least(evidence, held), nanos, "{evidence:?} {held}");
        }
    }

    #[test]
    fn limits_in_tokens_count_what_was_not_read() {
        let used = |output: u64| {
            let usage = Usage::ZERO.with(Kind::Input, 10).with(Kind::Output, output);
            SettledUsage {
                parts: vec![MeteredPart {
                    usage,
                    ..MeteredPart::default()
                }],
                usage,
                ..SettledUsage::default()
            }
        };
        let raised = |evidence: Evidence, output: u64| {
            let mut used = used(output);
            evidence.raise_tokens(&mut used, &expected());
            assert_eq!(used.parts[0].usage, used.usage);
            used.usage.get(Kind::Output)
        };
        assert_eq!(raised(Evidence::Unread, 5), 1_000);
        assert_eq!(raised(Evidence::Unread, 5_000), 5_000, "what passed only raises it");
        assert_eq!(raised(Evidence::Seen, 5), 5);
        assert_eq!(raised(Evidence::Reported, 5), 5);
    }
}
