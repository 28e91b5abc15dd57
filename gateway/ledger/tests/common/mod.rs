//! What the journal's tests share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::{
    Amounts, Entry, EntryQuery, Facts, Hold, Kind, Ledger, Name, Options, Outcome, PriceRef, Settled, Settlement,
    Usage, Usd,
};
use ulid::Ulid;

/// 2026-11-22T00:00:00Z.
pub const START_MS: i64 = 1_795_305_600_000;

pub fn options() -> Options {
    Options::new("unused")
}

pub fn usd(nanos: i64) -> Usd {
    Usd::from_nanos(nanos)
}

/// An exchange of the kind that agents make all day.
pub fn facts(at_ms: i64, number: u64) -> Facts {
    let millis = u64::try_from(at_ms).unwrap();
    Facts {
        id: Ulid::from_parts(millis, 0x00c0_ffee_0000_0000_0000 + u128::from(number)),
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
    }
}

pub fn settlement(at_ms: i64, cost: i64) -> Settlement {
    let tokens = u64::try_from(cost).unwrap();
    Settlement {
        at_ms,
        outcome: Outcome::Completed,
        status: 200,
        model: "claude-sonnet-4-5-20250929".into(),
        usage: Usage::default()
            .with(Kind::Input, 1_200)
            .with(Kind::CacheRead, 21_000)
            .with(Kind::Output, tokens),
        parts: Vec::new(),
        reasoning: 0,
        cost: usd(cost),
        reported_cost: None,
        upper_bound: None,
        price: Some(PriceRef {
            provider: "anthropic".into(),
            id: "claude-sonnet-4-5".into(),
            effective: "2025-09-29".into(),
            tier: None,
        }),
        estimate_reason: None,
        verdict: Vec::new(),
        duration_ms: 4_321,
        ttfb_ms: Some(812),
    }
}

pub async fn hold(ledger: &Arc<Ledger>, number: u64, amount: i64) -> Hold {
    let permit = ledger.admit().await.unwrap();
    let amounts = Amounts::of_request(usd(amount), 1_000);
    ledger
        .reserve(
            permit,
            facts(ledger.now_ms(), number),
            &[],
            amounts,
            &Name::from("named_max"),
        )
        .unwrap()
}

pub async fn exchange(ledger: &Arc<Ledger>, number: u64, cost: i64) -> Settled {
    let hold = hold(ledger, number, cost).await;
    hold.durable().await.unwrap();
    hold.settle(settlement(ledger.now_ms(), cost))
}

/// All entries, through pages of `limit`.
pub fn all_entries(ledger: &Ledger, limit: usize) -> Vec<Entry> {
    let mut query = EntryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        limit,
        after: None,
    };
    let mut entries = Vec::new();
    loop {
        let page = ledger.entries(&query).unwrap();
        entries.extend(page.entries);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return entries,
        }
    }
}

pub fn sum(entries: &[Entry]) -> i64 {
    entries.iter().map(|entry| entry.settlement.cost.nanos()).sum()
}

/// Waits for what another thread does in its own time.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came to that");
}
