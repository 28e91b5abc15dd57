//! An exchange of the kind that agents make all day: what is measured is this one.

use std::collections::BTreeMap;

use agentledger_ledger::{
    Amounts, Bound, BoundError, Facts, Kind, Limit, Mode, Outcome, PriceRef, Settlement, Unit, Usage, Usd, Window, Zone,
};
use ulid::Ulid;

/// 2026-11-22T00:00:00Z.
pub const START_MS: i64 = 1_795_305_600_000;

/// The exchange's facts. Seven keys, a session for each fifty exchanges.
pub fn facts(at_ms: i64, number: u64) -> Facts {
    Facts {
        id: Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), scattered(number)),
        at_ms,
        provider: "anthropic".into(),
        operation: "messages".into(),
        requested_model: "claude-sonnet-4-5-20250929".into(),
        stream: true,
        key: format!("{:024x}", 0xfeed_0000 + number % 7).into(),
        tenant: "acme".into(),
        agent: "coder".into(),
        session: format!("session-{}", number / 50).into(),
        user: "".into(),
        task: "".into(),
        tags: BTreeMap::new(),
        path: "/v1/messages".into(),
        inferred: Default::default(),
    }
}

/// Ids are random in real life and do not compress; these are as random, and the same in every run.
fn scattered(number: u64) -> u128 {
    let mix = |seed: u64| {
        let mixed = (number ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (u128::from(mix(0x51)) << 64 | u128::from(mix(0xa7))) >> 48
}

/// How it ends: a cached prompt, 900 tokens out.
pub fn settlement(at_ms: i64) -> Settlement {
    Settlement {
        at_ms,
        outcome: Outcome::Completed,
        status: 200,
        model: "claude-sonnet-4-5-20250929".into(),
        usage: Usage::default()
            .with(Kind::Input, 1_200)
            .with(Kind::CacheRead, 21_000)
            .with(Kind::Output, 900),
        parts: Vec::new(),
        reasoning: 0,
        cost: Usd::from_nanos(23_400_000),
        reported_cost: None,
        upper_bound: None,
        price: Some(PriceRef {
            provider: "anthropic".into(),
            id: "claude-sonnet-4-5".into(),
            tier: None,
            effective: "2025-09-29".into(),
        }),
        estimate_reason: None,
        verdict: vec!["budget@1".into()],
        duration_ms: 4_321,
        ttfb_ms: Some(812),
        response_id: None,
        request_id: None,
    }
}

/// What it holds: 0.12 USD.
pub fn amounts() -> Amounts {
    Amounts::of_request(Usd::from_nanos(120_000_000), 30_000)
}

/// The first so many of five bounds that budgets put on an exchange; none of them is ever in the way.
pub fn bounds(facts: &Facts, count: usize) -> Result<Vec<Bound>, BoundError> {
    let all = [
        (format!("key:{}", facts.key), Window::Day, Unit::Usd),
        (format!("key:{}", facts.key), Window::Month, Unit::Usd),
        (format!("tenant:{}", facts.tenant), Window::Day, Unit::Usd),
        (format!("session:{}", facts.session), Window::Total, Unit::Tokens),
        ("global".to_owned(), Window::Month, Unit::Usd),
    ];
    let bound = |(account, window, unit): (String, Window, Unit)| {
        let limit = match unit {
            Unit::Usd => Limit::usd(Usd::from_nanos(i64::MAX / 4))?,
            Unit::Tokens | Unit::Requests => Limit::tokens(u64::MAX >> 2)?,
        };
        Bound::new(account.into(), window, Zone::utc(), limit, Mode::Hard)
    };
    all.into_iter().take(count).map(bound).collect()
}
