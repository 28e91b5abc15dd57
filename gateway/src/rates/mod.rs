//! Rates: requests and tokens per second, minute, hour or day, and requests at one time, by account. In memory, and
//! native: policies say the numbers, this makes them hold. The windows slide (see [`window`]).
//!
//! One request takes all its rates or none: they are checked and taken under one short lock. What it took it gives back
//! when it is refused after all ([`Grant`] is dropped unconfirmed), and its permits whatever happens.
//!
//! All moments are the monotonic clock's: a date that is set back must not freeze a window.
//!
//! Memory is bounded: past [`ACCOUNTS_MAX`] accounts the idle ones are forgotten, and where all are busy further accounts of
//! a kind share one, `agent:other`, with one limit together.

mod window;

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::{Name, Unit};
use parking_lot::Mutex;

use self::window::SlidingWindow;

/// Accounts whose rates are counted apart.
pub const ACCOUNTS_MAX: usize = 100_000;
/// How often a full book is searched for accounts that nothing is counted on any more.
const SWEEP_EVERY_MS: i64 = 1_000;

/// The period of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
}

impl Per {
    pub const ALL: [Per; 4] = [Per::Second, Per::Minute, Per::Hour, Per::Day];

    pub const fn name(self) -> &'static str {
        match self {
            Per::Second => "second",
            Per::Minute => "minute",
            Per::Hour => "hour",
            Per::Day => "day",
        }
    }

    pub fn from_name(name: &str) -> Option<Per> {
        Per::ALL.into_iter().find(|per| per.name() == name)
    }

    pub const fn seconds(self) -> i64 {
        match self {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3_600,
            Per::Day => 86_400,
        }
    }
}

/// At most `limit` requests or tokens in any period of this length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    pub account: Name,
    pub per: Per,
    pub unit: Unit,
    pub limit: u64,
}

/// At most so many requests of the account at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parallel {
    pub account: Name,
    pub limit: u64,
}

/// Why a request may not go on now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateExceeded {
    /// The index in the list of rates; milliseconds until it would fit, `None` where it never will.
    Rate { index: usize, wait_ms: Option<i64> },
    /// The index in the list of parallel limits.
    Parallel { index: usize },
}

/// How a rate stands right after a request took from it, or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStanding {
    pub limit: u64,
    pub remaining: u64,
    /// Until all that was taken has left the window.
    pub reset_ms: i64,
    pub per: Per,
    pub unit: Unit,
}

/// How a rate, or a limit on requests at one time, stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateNow {
    pub account: Name,
    /// `None`: requests at one time.
    pub rate: Option<(Per, Unit)>,
    pub used: u64,
    /// As it was asked for last.
    pub limit: u64,
    /// Until all that was taken has left the window; 0 of requests at one time.
    pub reset_ms: i64,
}

/// What was taken within a window, and the limit that was asked for last.
#[derive(Debug)]
struct Counted {
    window: SlidingWindow,
    limit: u64,
}

#[derive(Debug, Default)]
struct Account {
    windows: HashMap<(Per, Unit), Counted>,
    running: u64,
    /// The limit on those, as it was asked for last.
    parallel: u64,
}

impl Account {
    fn is_idle(&mut self, now_ms: i64) -> bool {
        self.running == 0
            && self.windows.values_mut().all(|counted| {
                counted.window.advance(now_ms);
                counted.window.is_empty()
            })
    }

    /// Of a rate; its limit is noted for whoever looks.
    fn window(&mut self, rate: &Rate, now_ms: i64) -> &mut SlidingWindow {
        let counted = self.windows.entry((rate.per, rate.unit)).or_insert_with(|| Counted {
            window: SlidingWindow::new(rate.per.seconds() * 1_000),
            limit: rate.limit,
        });
        counted.limit = rate.limit;
        counted.window.advance(now_ms);
        &mut counted.window
    }

    fn standings(&mut self, name: &Name, now_ms: i64, each: &mut dyn FnMut(RateNow)) {
        for ((per, unit), Counted { window, limit }) in &mut self.windows {
            window.advance(now_ms);
            if !window.is_empty() {
                each(RateNow {
                    account: Name::clone(name),
                    rate: Some((*per, *unit)),
                    used: window.taken(),
                    limit: *limit,
                    reset_ms: window.reset_ms(now_ms),
                });
            }
        }
        if self.running > 0 {
            each(RateNow {
                account: Name::clone(name),
                rate: None,
                used: self.running,
                limit: self.parallel,
                reset_ms: 0,
            });
        }
    }
}

#[derive(Debug)]
struct Book {
    accounts: HashMap<Name, Account>,
    accounts_max: usize,
    swept_ms: i64,
}

impl Book {
    /// The account of that name, made where it is new. Where there is no room it is the one that its kind shares.
    fn account(&mut self, name: &Name, now_ms: i64) -> (Name, &mut Account) {
        let known = self.accounts.contains_key(name);
        if !known && self.accounts.len() >= self.accounts_max && now_ms >= self.swept_ms + SWEEP_EVERY_MS {
            self.swept_ms = now_ms;
            self.accounts.retain(|_, account| !account.is_idle(now_ms));
        }
        let name = if known || self.accounts.len() < self.accounts_max {
            Name::clone(name)
        } else {
            let kind = name.split_once(':').map_or(&**name, |(kind, _)| kind);
            Name::from(format!("{kind}:{OTHER}"))
        };
        let account = self.accounts.entry(Name::clone(&name)).or_default();
        (name, account)
    }
}

/// The name of what is not counted apart any more.
const OTHER: &str = "other";

/// All rates of a gateway.
#[derive(Debug)]
pub struct Rates(Mutex<Book>);

impl Default for Rates {
    fn default() -> Rates {
        Rates::new(ACCOUNTS_MAX)
    }
}

impl Rates {
    fn new(accounts_max: usize) -> Rates {
        Rates(Mutex::new(Book {
            accounts: HashMap::new(),
            accounts_max,
            swept_ms: i64::MIN / 2,
        }))
    }

    /// Takes one request, and its tokens where a rate counts them, from all rates, and a permit of
    /// all parallel limits; or nothing.
    ///
    /// # Errors
    /// What refuses it: of several rates the one that has to be waited for longest.
    pub fn take(
        self: &Arc<Self>,
        now_ms: i64,
        rates: &[Rate],
        parallel: &[Parallel],
        tokens: u64,
    ) -> Result<Grant, RateExceeded> {
        if rates.is_empty() && parallel.is_empty() {
            return Ok(Grant::none(self));
        }
        let mut book = self.0.lock();
        let mut over: Option<RateExceeded> = None;
        for (index, rate) in rates.iter().enumerate() {
            let (_, account) = book.account(&rate.account, now_ms);
            let window = account.window(rate, now_ms);
            let wait_ms = window.wait_ms(now_ms, units(rate.unit, tokens), rate.limit);
            let longest = match &over {
                Some(RateExceeded::Rate { wait_ms: known, .. }) => {
                    known.is_some_and(|known| wait_ms.is_none_or(|it| it > known))
                }
                _ => true,
            };
            if wait_ms != Some(0) && longest {
                over = Some(RateExceeded::Rate { index, wait_ms });
            }
        }
        for (index, limit) in parallel.iter().enumerate() {
            let (_, account) = book.account(&limit.account, now_ms);
            account.parallel = limit.limit;
            if account.running >= limit.limit && over.is_none() {
                over = Some(RateExceeded::Parallel { index });
            }
        }
        if let Some(over) = over {
            return Err(over);
        }
        let mut grant = Grant::none(self);
        for rate in rates {
            let count = units(rate.unit, tokens);
            let (account, found) = book.account(&rate.account, now_ms);
            let window = found.window(rate, now_ms);
            // Two accounts of a kind may have become the one that their kind shares: it is one request all the same.
            let is_taken = grant.taken.iter().any(|taken| taken.is_of(&account, rate));
            let at_ms = if is_taken { now_ms } else { window.take(now_ms, count) };
            grant.standings.push(RateStanding {
                limit: rate.limit,
                remaining: rate.limit.saturating_sub(window.taken()),
                reset_ms: window.reset_ms(now_ms),
                per: rate.per,
                unit: rate.unit,
            });
            if is_taken {
                continue;
            }
            grant.taken.push(Taken {
                account,
                per: rate.per,
                unit: rate.unit,
                at_ms,
                count,
            });
        }
        for limit in parallel {
            let (name, account) = book.account(&limit.account, now_ms);
            if !grant.permits.contains(&name) {
                account.running = account.running.saturating_add(1);
                grant.permits.push(name);
            }
        }
        Ok(grant)
    }

    /// How a rate stands, without taking from it.
    pub fn standing(&self, now_ms: i64, rate: &Rate) -> RateStanding {
        let mut book = self.0.lock();
        let (_, account) = book.account(&rate.account, now_ms);
        let window = account.window(rate, now_ms);
        RateStanding {
            limit: rate.limit,
            remaining: rate.limit.saturating_sub(window.taken()),
            reset_ms: window.reset_ms(now_ms),
            per: rate.per,
            unit: rate.unit,
        }
    }

    /// How the rates of these accounts stand on which anything is counted, the fullest first, `most` of them.
    pub fn standings(&self, now_ms: i64, wanted: impl Fn(&str) -> bool, most: usize) -> Vec<RateNow> {
        let mut found = Vec::new();
        {
            let mut book = self.0.lock();
            for (name, account) in &mut book.accounts {
                if wanted(name) {
                    account.standings(name, now_ms, &mut |now| found.push(now));
                }
            }
        }
        let empty = |now: &RateNow| std::cmp::Reverse(u128::from(now.used) * 1_000_000 / u128::from(now.limit.max(1)));
        found.sort_by(|one, other| {
            let by_fullness = empty(one).cmp(&empty(other));
            by_fullness.then_with(|| (&one.account, one.reset_ms).cmp(&(&other.account, other.reset_ms)))
        });
        found.truncate(most);
        found
    }

    /// Requests of the account that run now, as far as a parallel limit counts them.
    pub fn running(&self, account: &str) -> u64 {
        self.0.lock().accounts.get(account).map_or(0, |account| account.running)
    }

    /// Accounts that are counted apart now.
    pub fn accounts(&self) -> usize {
        self.0.lock().accounts.len()
    }

    fn correct(&self, taken: &[Taken], after: impl Fn(&Taken) -> u64) {
        let mut book = self.0.lock();
        for taken in taken {
            let account = book.accounts.get_mut(&taken.account);
            let window = account.and_then(|account| account.windows.get_mut(&(taken.per, taken.unit)));
            if let Some(window) = window {
                window.window.correct(taken.at_ms, taken.count, after(taken));
            }
        }
    }

    fn leave(&self, permits: &[Name]) {
        let mut book = self.0.lock();
        for index in permits {
            if let Some(account) = book.accounts.get_mut(index) {
                account.running = account.running.saturating_sub(1);
            }
        }
    }
}

const fn units(unit: Unit, tokens: u64) -> u64 {
    match unit {
        Unit::Tokens => tokens,
        Unit::Requests | Unit::Usd => 1,
    }
}

#[derive(Debug)]
struct Taken {
    account: Name,
    per: Per,
    unit: Unit,
    at_ms: i64,
    count: u64,
}

impl Taken {
    fn is_of(&self, account: &Name, rate: &Rate) -> bool {
        self.account == *account && self.per == rate.per && self.unit == rate.unit
    }
}

/// What one request took. Dropped unconfirmed it gives everything back; dropped at all it gives its permits back.
#[derive(Debug)]
#[must_use = "dropping it gives back what was taken"]
pub struct Grant {
    rates: Arc<Rates>,
    taken: Vec<Taken>,
    permits: Vec<Name>,
    /// In the order of the rates that were asked for.
    standings: Vec<RateStanding>,
    confirmed: bool,
}

impl Grant {
    fn none(rates: &Arc<Rates>) -> Grant {
        Grant {
            rates: Arc::clone(rates),
            taken: Vec::new(),
            permits: Vec::new(),
            standings: Vec::new(),
            confirmed: false,
        }
    }

    pub fn standings(&self) -> &[RateStanding] {
        &self.standings
    }

    /// The request goes on its way: what it took from the windows stays taken.
    pub fn confirm(&mut self) {
        self.confirmed = true;
    }

    /// What the request used in the end replaces what it was estimated to take.
    pub fn used_tokens(&mut self, tokens: u64) {
        if self.taken.iter().any(|taken| taken.unit == Unit::Tokens) {
            self.rates.correct(&self.taken, |taken| match taken.unit {
                Unit::Tokens => tokens,
                Unit::Requests | Unit::Usd => taken.count,
            });
            for taken in &mut self.taken {
                if taken.unit == Unit::Tokens {
                    taken.count = tokens;
                }
            }
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if !self.confirmed && !self.taken.is_empty() {
            self.rates.correct(&self.taken, |_| 0);
        }
        if !self.permits.is_empty() {
            self.rates.leave(&self.permits);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn rate(account: &str, per: Per, unit: Unit, limit: u64) -> Rate {
        Rate {
            account: account.into(),
            per,
            unit,
            limit,
        }
    }

    fn parallel(account: &str, limit: u64) -> Parallel {
        Parallel {
            account: account.into(),
            limit,
        }
    }

    #[test]
    fn a_refused_request_takes_nothing_from_any_rate() {
        let rates = Arc::new(Rates::default());
        let both = [
            rate("key:a", Per::Minute, Unit::Requests, 10),
            rate("global", Per::Minute, Unit::Tokens, 100),
        ];
        let mut first = rates.take(0, &both, &[], 80).unwrap();
        first.confirm();
        let over = rates.take(1_000, &both, &[parallel("key:a", 5)], 30).unwrap_err();
        assert_eq!(
            over,
            RateExceeded::Rate {
                index: 1,
                wait_ms: Some(59_000)
            }
        );
        assert_eq!(rates.standing(1_000, &both[0]).remaining, 9);
        assert_eq!(rates.running("key:a"), 0);
        // Refused later on, by the hold: dropped unconfirmed.
        drop(rates.take(1_000, &both, &[parallel("key:a", 5)], 20).unwrap());
        assert_eq!(
            (
                rates.standing(1_000, &both[0]).remaining,
                rates.standing(1_000, &both[1]).remaining
            ),
            (9, 20)
        );
        assert_eq!(rates.running("key:a"), 0);
        // More than the limit alone: waiting is in vain.
        assert_eq!(
            rates.take(1_000, &both, &[], 101).unwrap_err(),
            RateExceeded::Rate {
                index: 1,
                wait_ms: None
            }
        );
    }

    #[test]
    fn tokens_are_corrected_by_what_was_used() {
        let rates = Arc::new(Rates::default());
        let tokens = [rate("key:a", Per::Minute, Unit::Tokens, 1_000)];
        let mut grant = rates.take(0, &tokens, &[], 900).unwrap();
        grant.confirm();
        assert!(rates.take(1, &tokens, &[], 200).is_err());
        grant.used_tokens(50);
        drop(grant);
        assert_eq!(rates.standing(2, &tokens[0]).remaining, 950);
        rates.take(2, &tokens, &[], 200).unwrap().confirm();
    }

    #[test]
    fn places_are_given_back_exactly_once() {
        let rates = Arc::new(Rates::default());
        let two = [parallel("key:a", 2)];
        let (first, second) = (
            rates.take(0, &[], &two, 0).unwrap(),
            rates.take(0, &[], &two, 0).unwrap(),
        );
        assert_eq!(
            rates.take(0, &[], &two, 0).unwrap_err(),
            RateExceeded::Parallel { index: 0 }
        );
        drop(first);
        let mut third = rates.take(0, &[], &two, 0).unwrap();
        third.confirm();
        assert_eq!(rates.running("key:a"), 2);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = second;
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        drop(third);
        assert_eq!(rates.running("key:a"), 0);
    }

    #[test]
    fn made_up_names_share_what_is_left_and_memory_stays_bounded() {
        let rates = Arc::new(Rates::new(100));
        let one = |name: usize| [rate(&format!("agent:{name}"), Per::Minute, Unit::Requests, 1)];
        let mut let_in = 0;
        for name in 0..10_000 {
            if let Ok(mut grant) = rates.take(5, &one(name), &[], 0) {
                grant.confirm();
                let_in += 1;
            }
        }
        // A hundred of their own, and one for all others together.
        assert_eq!((let_in, rates.accounts()), (101, 101));
        // When they have gone idle there is room again.
        rates.take(70_000, &one(20_000), &[], 0).unwrap().confirm();
        assert_eq!(rates.accounts(), 1);
    }

    #[test]
    fn two_accounts_that_share_what_is_left_are_taken_from_once() {
        let rates = Arc::new(Rates::new(1));
        let known = [rate("key:a", Per::Minute, Unit::Requests, 9)];
        rates.take(0, &known, &[], 0).unwrap().confirm();
        let tags = ["tag:a", "tag:b"];
        let both = tags.map(|tag| rate(tag, Per::Minute, Unit::Requests, 3));
        let at_once = tags.map(|tag| parallel(tag, 3));
        let mut grant = rates.take(0, &both, &at_once, 0).unwrap();
        grant.confirm();
        let left: Vec<u64> = grant.standings().iter().map(|standing| standing.remaining).collect();
        assert_eq!((left, rates.running("tag:other")), (vec![2, 2], 1));
        drop(grant);
        assert_eq!(rates.running("tag:other"), 0);
        assert_eq!(rates.standing(0, &both[1]).remaining, 2);
    }

    #[test]
    fn a_thousand_threads_of_requests_never_exceed_a_limit() {
        let rates = Arc::new(Rates::default());
        let limits = [rate("key:a", Per::Day, Unit::Requests, 500)];
        let running = [parallel("key:a", 3)];
        let (let_in, most) = (
            std::sync::atomic::AtomicU64::new(0),
            std::sync::atomic::AtomicU64::new(0),
        );
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..1_000 {
                        if let Ok(mut grant) = rates.take(0, &limits, &running, 1) {
                            most.fetch_max(rates.running("key:a"), std::sync::atomic::Ordering::Relaxed);
                            grant.confirm();
                            let_in.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(
            rates.standing(0, &limits[0]).remaining,
            500 - let_in.load(std::sync::atomic::Ordering::Relaxed)
        );
        assert!(let_in.into_inner() <= 500 && most.into_inner() <= 3);
        assert_eq!(rates.running("key:a"), 0);
    }
}
