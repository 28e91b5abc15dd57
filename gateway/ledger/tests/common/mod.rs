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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agentledger_ledger::store::{Change, Heads, MemoryStores, Month, Pair, Store, StoreError, Stores};
use agentledger_ledger::{
    Amounts, Entry, EntryQuery, Facts, Head, Hold, Kind, Ledger, Name, Options, Outcome, PriceRef, Settled, Settlement,
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
        inferred: Default::default(),
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
        response_id: None,
        request_id: None,
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

/// Stores of which a test takes the room away, and counts what is read.
#[derive(Clone, Default)]
pub struct TestStores {
    pub inner: MemoryStores,
    pub journal_is_full: Arc<AtomicBool>,
    pub state_fails: Arc<AtomicBool>,
    pub pairs_read: Arc<AtomicU64>,
}

struct TestStore {
    inner: Arc<dyn Store>,
    is_full: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
    pairs_read: Arc<AtomicU64>,
}

impl TestStores {
    fn wrapped(&self, inner: Arc<dyn Store>, is_state: bool) -> Arc<dyn Store> {
        let never = Arc::new(AtomicBool::new(false));
        let (full, fails) = (Arc::clone(&self.journal_is_full), Arc::clone(&self.state_fails));
        let (is_full, fails) = if is_state { (never, fails) } else { (full, never) };
        let pairs_read = Arc::clone(&self.pairs_read);
        Arc::new(TestStore {
            inner,
            is_full,
            fails,
            pairs_read,
        })
    }
}

impl Stores for TestStores {
    fn months(&self) -> Result<Vec<Month>, StoreError> {
        self.inner.months()
    }
    fn month(&self, month: Month) -> Result<Option<Arc<dyn Store>>, StoreError> {
        Ok(self.inner.month(month)?.map(|store| self.wrapped(store, false)))
    }
    fn create_month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError> {
        Ok(self.wrapped(self.inner.create_month(month)?, false))
    }
    fn remove_month(&self, month: Month) -> Result<(), StoreError> {
        self.inner.remove_month(month)
    }
    fn state(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(self.wrapped(self.inner.state()?, true))
    }
    fn discard_state(&self) -> Result<(), StoreError> {
        self.inner.discard_state()
    }
    fn check(&self) -> Result<(), StoreError> {
        self.inner.check()
    }
    fn heads(&self) -> Result<Heads, StoreError> {
        self.inner.heads()
    }
    fn note_head(&self, head: Head) -> Result<(), StoreError> {
        self.inner.note_head(head)
    }
}

impl Store for TestStore {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(StoreError::Full("injected: no space left on device".into()));
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Io("injected: input/output error".into()));
        }
        self.inner.apply(batch)
    }
    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }
    fn ahead_bytes(&self) -> usize {
        self.inner.ahead_bytes()
    }
    fn drain(&self) -> Result<(), StoreError> {
        self.inner.drain()
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
    fn reopen(&self) -> Result<(), StoreError> {
        self.inner.reopen()
    }
    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        let counted = self.inner.scan(from).inspect(|_| {
            self.pairs_read.fetch_add(1, Ordering::SeqCst);
        });
        Box::new(counted)
    }
    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        self.pairs_read.fetch_add(1, Ordering::SeqCst);
        self.inner.at_or_before(at)
    }
    fn last(&self) -> Result<Option<Pair>, StoreError> {
        self.inner.last()
    }
}
