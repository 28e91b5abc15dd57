//! Rates of a request: taken before the hold, shown in the head of the answer, refused in the contract's words.

use std::sync::Arc;

use agentledger_ledger::Unit;

use crate::policy::Verdict;
use crate::policy::record::RefusedBy;
use crate::proxy::reserve::place::{HoldRefusal, HoldRefusalKind};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::refusal_text::{Aliases, over_parallel, over_rate};
use crate::proxy::shared::reply::Refusal;
use crate::rates::{Grant, Parallel, Rate, RateExceeded, RateStanding, Rates};

/// A permit may come free at any moment.
const PARALLEL_RETRY_S: u64 = 1;

/// Takes what the verdict's rates ask for, or nothing.
///
/// # Errors
/// The rate that has to be waited for longest; nothing is taken then.
pub fn take(gateway: &Gateway, exchange: &Exchange, verdict: &Verdict, tokens: u64) -> Result<Grant, HoldRefusal> {
    let now_ms = gateway.clock.monotonic_ms();
    take_from(&gateway.rates, now_ms, verdict, tokens).map_err(|over| {
        let refusal = refusal(gateway, &exchange.rules.aliases(), now_ms, verdict, tokens, &over);
        HoldRefusal {
            by: refused_by(verdict, &over),
            ..HoldRefusal::new(HoldRefusalKind::Rule, refusal, account_of(verdict, &over))
        }
    })
}

pub fn take_from(rates: &Arc<Rates>, now_ms: i64, verdict: &Verdict, tokens: u64) -> Result<Grant, RateExceeded> {
    let windows: Vec<Rate> = verdict.rates.iter().map(|rate| rate.requested.clone()).collect();
    let permits: Vec<Parallel> = verdict.parallel.iter().map(|limit| limit.requested.clone()).collect();
    rates.take(now_ms, &windows, &permits, tokens)
}

/// What refused, for the record.
fn refused_by(verdict: &Verdict, over: &RateExceeded) -> Option<RefusedBy> {
    Some(match over {
        RateExceeded::Rate { index, wait_ms } => {
            let rate = verdict.rates.get(*index)?;
            RefusedBy::Rate {
                policy: rate.policy.clone(),
                account: rate.requested.account.clone(),
                per: rate.requested.per,
                unit: rate.requested.unit,
                limit: rate.requested.limit,
                wait_ms: wait_ms.unwrap_or(-1),
            }
        }
        RateExceeded::Parallel { index } => {
            let parallel = verdict.parallel.get(*index)?;
            RefusedBy::Parallel {
                policy: parallel.policy.clone(),
                account: parallel.requested.account.clone(),
                limit: parallel.requested.limit,
            }
        }
    })
}

fn account_of<'v>(verdict: &'v Verdict, over: &RateExceeded) -> &'v str {
    match over {
        RateExceeded::Rate { index, .. } => verdict.rates.get(*index).map_or("", |rate| &*rate.requested.account),
        RateExceeded::Parallel { index } => verdict
            .parallel
            .get(*index)
            .map_or("", |limit| &*limit.requested.account),
    }
}

/// The contract's body, and what is over.
fn refusal(
    gateway: &Gateway,
    aliases: Aliases<'_>,
    now_ms: i64,
    verdict: &Verdict,
    tokens: u64,
    over: &RateExceeded,
) -> Refusal {
    let account = account_of(verdict, over);
    let of = |message: String| Refusal::new(RefusalCode::RateLimited, message).field("account", account);
    match over {
        RateExceeded::Parallel { index } => {
            let Some(limit) = verdict.parallel.get(*index) else {
                return of("rate limit exceeded".to_owned());
            };
            of(over_parallel(&limit.requested, aliases))
                .field("parallel", limit.requested.limit)
                .field("policy", limit.policy.to_string())
                .retry_after(PARALLEL_RETRY_S)
        }
        RateExceeded::Rate { index, wait_ms } => {
            let Some(rate) = verdict.rates.get(*index) else {
                return of("rate limit exceeded".to_owned());
            };
            let wait_s = wait_ms.map(seconds);
            let standing = gateway.rates.standing(now_ms, &rate.requested);
            let taken = standing.limit.saturating_sub(standing.remaining);
            let refusal = of(over_rate(&rate.requested, taken, tokens, wait_s, aliases))
                .field("limit", rate.requested.limit)
                .field("unit", rate.requested.unit.name())
                .field("per", rate.requested.per.name())
                .field("policy", rate.policy.to_string());
            let refusal = headers(&[standing])
                .into_iter()
                .fold(refusal, |refusal, (name, value)| refusal.header(&name, value));
            let now_ms = gateway.clock.now_ms();
            let refusal = refusal.resets_at(wait_ms.map(|wait_ms| now_ms.saturating_add(wait_ms)), now_ms);
            match wait_s {
                Some(wait_s) => refusal.retry_after(wait_s),
                // Alone it is more than the limit: waiting would be in vain.
                None => refusal.final_answer(),
            }
        }
    }
}

/// `RateLimit-Limit`, `-Remaining` and `-Reset` of the rate that is nearest to its end, and all as `RateLimit-Policy`, as in
/// the IETF's drafts (draft-ietf-httpapi-ratelimit-headers, up to -06), which clients know.
pub fn headers(standings: &[RateStanding]) -> Vec<(String, String)> {
    let share =
        |standing: &&RateStanding| u128::from(standing.remaining) * 1_000_000 / u128::from(standing.limit.max(1));
    let Some(nearest) = standings.iter().min_by_key(share) else {
        return Vec::new();
    };
    let policy = |standing: &RateStanding| {
        let unit = match standing.unit {
            Unit::Tokens => ";unit=\"tokens\"",
            Unit::Requests | Unit::Usd => "",
        };
        format!("{};w={}{unit}", standing.limit, standing.per.seconds())
    };
    let all: Vec<String> = standings.iter().map(policy).collect();
    vec![
        ("RateLimit-Limit".to_owned(), nearest.limit.to_string()),
        ("RateLimit-Remaining".to_owned(), nearest.remaining.to_string()),
        ("RateLimit-Reset".to_owned(), seconds(nearest.reset_ms).to_string()),
        ("RateLimit-Policy".to_owned(), all.join(", ")),
    ]
}

/// Whole seconds, rounded up: who waits so long does not come too early.
fn seconds(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default().div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::rates::Per;

    #[test]
    fn the_scarcest_rate_speaks_and_all_are_listed() {
        let standing = |limit, remaining, per, unit| RateStanding {
            limit,
            remaining,
            reset_ms: 1_001,
            per,
            unit,
        };
        let standings = [
            standing(60, 30, Per::Minute, Unit::Requests),
            standing(1_000, 400, Per::Hour, Unit::Tokens),
        ];
        let said: Vec<String> = headers(&standings)
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            said,
            [
                "RateLimit-Limit: 1000",
                "RateLimit-Remaining: 400",
                "RateLimit-Reset: 2",
                "RateLimit-Policy: 60;w=60, 1000;w=3600;unit=\"tokens\""
            ]
        );
        assert!(headers(&[]).is_empty());
    }
}
