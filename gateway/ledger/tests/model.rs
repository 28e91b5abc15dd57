//! The books against a naive model, which keeps a list of all exchanges and adds them up anew for every question.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentledger_ledger::testing::{Adjustment, Held, Recorded, accounts_of};
use agentledger_ledger::{
    Amounts, Books, BooksError, Bound, Change, Facts, HoldId, Kind, Limit, Mode, Name, Obstacle, Outcome, Period,
    Settlement, Unit, Usage, Usd, Window, Zone,
};
use proptest::collection::vec;
use proptest::prelude::*;
use ulid::Ulid;

/// 100 runs of 100 operations.
const RUNS: u32 = 100;
const OPERATIONS: usize = 100;
const START_MS: i64 = 1_774_736_000_000;
const KEYS: [&str; 3] = ["a", "b", "c"];
const ACCOUNTS: [&str; 6] = ["key:a", "key:b", "key:c", "tenant:acme", "team:own", "global"];

#[derive(Clone, Debug)]
enum Operation {
    Reserve {
        key: usize,
        bounds: Vec<Bound>,
        amounts: Amounts,
    },
    Extend {
        pick: usize,
        step: Amounts,
    },
    Settle {
        pick: usize,
        cost: i64,
        tokens: u64,
    },
    Void {
        pick: usize,
    },
    Adjust {
        pick: usize,
        usd: i64,
    },
    Pass {
        ms: i64,
    },
    Change {
        subject: usize,
        value: Option<usize>,
    },
    Reload,
}

fn bound() -> impl Strategy<Value = Bound> {
    (
        0..ACCOUNTS.len(),
        0..Window::ALL.len(),
        0..2_usize,
        0..3_usize,
        0..2_000_i64,
        prop::bool::weighted(0.8),
    )
        .prop_map(|(account, window, zone, unit, limit, hard)| {
            let limit = match Unit::ALL[unit] {
                Unit::Usd => Limit::usd(Usd::from_nanos(limit)).unwrap(),
                Unit::Tokens => Limit::tokens(limit as u64).unwrap(),
                Unit::Requests => Limit::requests(limit as u64 / 50).unwrap(),
            };
            let zone = Zone::named(["UTC", "Australia/Lord_Howe"][zone]).unwrap();
            let mode = if hard { Mode::Hard } else { Mode::Watch };
            Bound::new(ACCOUNTS[account].into(), Window::ALL[window], zone, limit, mode).unwrap()
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    let amounts = (0..300_i64, 0..300_u64).prop_map(|(usd, tokens)| Amounts::of_request(Usd::from_nanos(usd), tokens));
    let step = (0..200_i64, 0..200_i64).prop_map(|(usd, tokens)| Amounts {
        usd: Usd::from_nanos(usd),
        tokens,
        requests: 0,
    });
    prop_oneof![
        8 => (0..KEYS.len(), vec(bound(), 0..5), amounts)
            .prop_map(|(key, bounds, amounts)| Operation::Reserve { key, bounds, amounts }),
        3 => (0..64_usize, step).prop_map(|(pick, step)| Operation::Extend { pick, step }),
        5 => (0..64_usize, 0..600_i64, 0..600_u64)
            .prop_map(|(pick, cost, tokens)| Operation::Settle { pick, cost, tokens }),
        1 => (0..64_usize).prop_map(|pick| Operation::Void { pick }),
        1 => (0..64_usize, -100..100_i64).prop_map(|(pick, usd)| Operation::Adjust { pick, usd }),
        2 => (-7_200_000..7_200_000_i64).prop_map(|ms| Operation::Pass { ms }),
        1 => (0..4_usize, prop::option::weighted(0.8, 0..9_usize))
            .prop_map(|(subject, value)| Operation::Change { subject, value }),
        1 => Just(Operation::Reload),
    ]
}

struct Exchange {
    hold: HoldId,
    record: Arc<Held>,
    accounts: Vec<Name>,
    open: bool,
    held: Amounts,
    posted: Amounts,
    overage: Amounts,
    /// When, and by how much, it was corrected: a window that was over by then is past correcting.
    corrections: Vec<(i64, Amounts)>,
}

#[derive(Default)]
struct Model {
    exchanges: Vec<Exchange>,
    /// The first hold since which an account counts in a window other than the standing ones.
    since: HashMap<(Name, Window, Name), HoldId>,
    /// The last hold before an account was forgotten.
    forgotten: HashMap<Name, HoldId>,
    documents: BTreeMap<String, (String, u64)>,
}

impl Model {
    /// (posted, held, overage) of all exchanges within the period.
    fn counts(&self, account: &str, window: Window, zone: &Zone, period: Period, unit: Unit) -> (i64, i64, i64) {
        let is_standing = account != "team:own" && zone.is_utc() && matches!(window, Window::Day | Window::Month);
        let stands = window == Window::Total || is_standing;
        let since = match stands {
            true => Some(HoldId(0)),
            false => self.since.get(&(account.into(), window, zone.name().clone())).copied(),
        };
        let Some(since) = since else { return (0, 0, 0) };
        let forgotten = self.forgotten.get(account).copied().unwrap_or(HoldId(0));
        let mut sums = (0, 0, 0);
        for exchange in &self.exchanges {
            let is_counted = exchange.hold >= since
                && exchange.hold > forgotten
                && exchange.accounts.iter().any(|name| **name == *account)
                && period.contains(exchange.record.at_ms.div_euclid(1_000));
            if is_counted {
                sums.0 += exchange.posted.get(unit);
                sums.1 += if exchange.open { exchange.held.get(unit) } else { 0 };
                sums.2 += exchange.overage.get(unit);
                for (_, amounts) in exchange.corrections.iter().filter(|(at_s, _)| *at_s < period.end_s) {
                    sums.0 += amounts.get(unit);
                    sums.2 += amounts.get(unit).max(0);
                }
            }
        }
        sums
    }

    /// An account that the books know no more has nothing open, and cost nothing this month where it is a key. Its exchanges
    /// and the windows it counted in are over.
    fn forget(&mut self, account: &str, now_ms: i64) {
        let of_account = |exchange: &&Exchange| exchange.accounts.iter().any(|name| **name == *account);
        let month = Window::Month.period(&Zone::utc(), now_ms);
        let forgotten = self.forgotten.get(account).copied().unwrap_or(HoldId(0));
        for exchange in self
            .exchanges
            .iter()
            .filter(of_account)
            .filter(|exchange| exchange.hold > forgotten)
        {
            assert!(!exchange.open, "{account} is forgotten with an open hold");
            let in_month = month.contains(exchange.record.at_ms.div_euclid(1_000));
            let corrections = exchange.corrections.iter();
            let posted = corrections.fold(exchange.posted, |sum, (_, amounts)| sum.plus(amounts));
            let is_free = posted.usd.is_zero() && posted.tokens == 0;
            assert!(
                account == "team:own" || is_free || !in_month,
                "{account} is forgotten before its month is over"
            );
        }
        let last = self
            .exchanges
            .iter()
            .filter(of_account)
            .map(|exchange| exchange.hold)
            .max();
        self.forgotten.extend(last.map(|last| (account.into(), last)));
        self.since.retain(|(name, ..), _| **name != *account);
    }

    fn open(&mut self, pick: usize) -> Option<&mut Exchange> {
        let mut open: Vec<_> = self.exchanges.iter_mut().filter(|exchange| exchange.open).collect();
        let count = open.len();
        if count == 0 {
            None
        } else {
            Some(open.swap_remove(pick % count))
        }
    }
}

fn facts(key: &str, at_ms: i64) -> Arc<Facts> {
    let none = || Name::from("");
    Arc::new(Facts {
        id: Ulid::from_parts(at_ms.unsigned_abs(), 1),
        at_ms,
        provider: "p".into(),
        operation: "chat.completions".into(),
        requested_model: "m".into(),
        stream: false,
        key: key.into(),
        tenant: "acme".into(),
        agent: none(),
        session: none(),
        user: none(),
        task: none(),
        tags: Default::default(),
        path: "/".into(),
        inferred: Default::default(),
    })
}

fn bill(at_ms: i64, cost: i64, tokens: u64) -> Settlement {
    Settlement {
        at_ms,
        outcome: Outcome::Completed,
        status: 200,
        model: "m".into(),
        usage: Usage::ZERO.with(Kind::Input, tokens),
        parts: vec![],
        reasoning: 0,
        cost: Usd::from_nanos(cost),
        reported_cost: None,
        upper_bound: None,
        price: None,
        estimate_reason: None,
        verdict: vec![],
        duration_ms: 0,
        ttfb_ms: None,
        response_id: None,
        request_id: None,
    }
}

struct Pair {
    books: Books,
    model: Model,
    journal: Vec<Recorded>,
    clock_ms: i64,
}

impl Pair {
    fn run(&mut self, operation: Operation) {
        if let Operation::Pass { ms } = operation {
            self.pass(ms);
        }
        match operation {
            Operation::Reserve { key, bounds, amounts } => self.reserve(key, &bounds, amounts),
            Operation::Extend { pick, step } => self.extend(pick, step),
            Operation::Settle { pick, cost, tokens } => {
                let clock_ms = self.clock_ms;
                let Some(exchange) = self.model.open(pick) else { return };
                let settled = self
                    .books
                    .settle(clock_ms, exchange.hold, bill(clock_ms, cost, tokens), None)
                    .unwrap();
                exchange.open = false;
                exchange.posted = Amounts {
                    usd: Usd::from_nanos(cost),
                    tokens: tokens as i64,
                    requests: exchange.held.requests,
                };
                for unit in Unit::ALL {
                    exchange
                        .overage
                        .set(unit, (exchange.posted.get(unit) - exchange.held.get(unit)).max(0));
                }
                assert_eq!(settled.settled.overage(), exchange.overage);
                self.journal.push(settled.recorded);
            }
            Operation::Void { pick } => {
                let clock_ms = self.clock_ms;
                let Some(exchange) = self.model.open(pick) else { return };
                exchange.open = false;
                self.journal
                    .push(self.books.void(clock_ms, exchange.hold, &"x".into()).unwrap());
            }
            Operation::Adjust { pick, usd } => self.adjust(pick, usd),
            Operation::Change { subject, value } => self.change(subject, value),
            Operation::Pass { .. } => {}
            Operation::Reload => self.books = Books::restore(&self.books.snapshot()).unwrap(),
        }
    }

    fn pass(&mut self, ms: i64) {
        self.clock_ms += ms;
        self.books.flush_denials(self.clock_ms);
        for account in ACCOUNTS {
            if !self.books.balances().any(|balance| **balance.account == *account) {
                self.model.forget(account, self.books.now_ms());
            }
        }
    }

    fn reserve(&mut self, key: usize, bounds: &[Bound], amounts: Amounts) {
        let now_ms = self.books.now_ms().max(self.clock_ms);
        let mut expected: Option<(Obstacle, usize)> = None;
        for (place, bound) in bounds
            .iter()
            .enumerate()
            .filter(|(_, bound)| bound.mode() == Mode::Hard)
        {
            let period = bound.window().period(bound.zone(), now_ms);
            let (posted, held, _) =
                self.model
                    .counts(bound.account(), bound.window(), bound.zone(), period, bound.unit());
            let (requested, limit) = (amounts.get(bound.unit()), bound.limit().count());
            let obstacle = if posted + requested > limit {
                Obstacle::Exceeded
            } else if posted + held + requested > limit {
                Obstacle::Held
            } else {
                continue;
            };
            if expected.is_none_or(|(first, _)| first == Obstacle::Held && obstacle == Obstacle::Exceeded) {
                expected = Some((obstacle, place));
            }
        }
        match self
            .books
            .reserve(self.clock_ms, &facts(KEYS[key], now_ms), bounds, amounts, &"x".into())
        {
            Ok(reserved) => {
                assert_eq!(expected, None);
                let record = self.books.open_hold(reserved.hold).unwrap().held;
                let mut accounts = accounts_of(&record.facts);
                accounts.extend(bounds.iter().map(|bound| bound.account().clone()));
                for bound in bounds {
                    let slot = (bound.account().clone(), bound.window(), bound.zone().name().clone());
                    self.model.since.entry(slot).or_insert(reserved.hold);
                }
                self.model.exchanges.push(Exchange {
                    hold: reserved.hold,
                    record,
                    accounts,
                    open: true,
                    held: amounts,
                    posted: Amounts::ZERO,
                    overage: Amounts::ZERO,
                    corrections: Vec::new(),
                });
                self.journal.push(reserved.recorded);
                for (bound, standing) in bounds.iter().zip(&reserved.standings) {
                    self.check(bound, standing.period);
                    assert_eq!(*standing, self.books.standing(now_ms, bound));
                }
            }
            Err(BooksError::Refused(refusal)) => assert_eq!(Some((refusal.obstacle, refusal.place)), expected),
            Err(error) => panic!("{error}"),
        }
    }

    fn extend(&mut self, pick: usize, step: Amounts) {
        let Some((hold, record)) = self.model.open(pick).map(|open| (open.hold, open.record.clone())) else {
            return;
        };
        let mut expected = Some(step).filter(|step| !step.is_zero());
        for bound in record
            .bounds
            .iter()
            .filter(|bound| bound.mode == Mode::Hard && step.get(bound.unit) > 0)
        {
            let zone = Zone::named(&bound.zone).unwrap();
            let period = Period {
                start_s: bound.start_s,
                end_s: bound.end_s,
            };
            let (posted, held, _) = self
                .model
                .counts(&bound.account, bound.window, &zone, period, bound.unit);
            let left = bound.limit - posted - held;
            expected = expected.filter(|_| left > 0).map(|mut granted| {
                granted.set(bound.unit, granted.get(bound.unit).min(left));
                granted
            });
        }
        let extension = self.books.extend(self.clock_ms, hold, step);
        assert_eq!(extension.as_ref().ok().map(|extension| extension.granted), expected);
        if let Ok(extension) = extension {
            self.journal.push(extension.recorded);
            let exchange = self
                .model
                .exchanges
                .iter_mut()
                .find(|exchange| exchange.hold == hold)
                .unwrap();
            exchange.held = exchange.held.plus(&extension.granted);
        }
    }

    fn change(&mut self, subject: usize, value: Option<usize>) {
        let subject = format!("rule:{subject}");
        let min_version = value.map_or(0, |value| 3 * value as u64);
        let value = value.map(|value| value.to_string());
        let change = Change {
            id: Ulid::from_parts(1, self.journal.len() as u128),
            at_ms: self.clock_ms,
            author: "ops".into(),
            peer: "socket".into(),
            action: "rule.put".into(),
            subject: subject.as_str().into(),
            tenant: "".into(),
            note: "".into(),
            before: None,
            after: value.as_deref().map(Arc::from),
            kept: true,
            min_version,
            request: None,
        };
        self.journal.push(self.books.change(self.clock_ms, change).unwrap());
        match value {
            None => drop(self.model.documents.remove(&subject)),
            Some(value) => {
                let version = self.model.documents.get(&subject).map_or(0, |(_, version)| *version);
                self.model
                    .documents
                    .insert(subject, (value, min_version.max(version + 1)));
            }
        }
    }

    fn adjust(&mut self, pick: usize, usd: i64) {
        let count = self.model.exchanges.len().max(1);
        let Some(exchange) = self.model.exchanges.get_mut(pick % count) else {
            return;
        };
        let amounts = Amounts {
            usd: Usd::from_nanos(usd),
            tokens: -1,
            requests: 0,
        };
        let adjustment = Adjustment {
            model: "gpt-x-1".into(),
            hold: exchange.hold,
            held: &exchange.record,
            amounts,
            reason: "invoice".into(),
            bill: None,
        };
        let recorded = self.books.adjust(self.clock_ms, &adjustment);
        assert_eq!(recorded.is_err(), exchange.open);
        let Ok(recorded) = recorded else { return };
        let at_s = self.books.now_ms().div_euclid(1_000);
        exchange.corrections.push((at_s, amounts));
        self.journal.push(recorded);
    }

    fn check(&self, bound: &Bound, period: Period) {
        let standing = self.books.standing(0, bound);
        let counts = self
            .model
            .counts(bound.account(), bound.window(), bound.zone(), period, bound.unit());
        assert_eq!((standing.posted, standing.held, standing.overage), counts, "{bound:?}");
    }

    fn check_all(&self) {
        let documents = self.books.documents().of("");
        let documents = documents.map(|known| (known.subject.to_string(), (known.value.to_string(), known.version)));
        assert_eq!(documents.collect::<BTreeMap<_, _>>(), self.model.documents);
        for account in ACCOUNTS {
            for window in Window::ALL {
                for zone in ["UTC", "Australia/Lord_Howe"] {
                    let zone = Zone::named(zone).unwrap();
                    let period = window.period(&zone, self.books.now_ms());
                    for limit in [Limit::usd(Usd::ZERO), Limit::tokens(0), Limit::requests(0)] {
                        let bound = Bound::new(account.into(), window, zone.clone(), limit.unwrap(), Mode::Hard);
                        self.check(&bound.unwrap(), period);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: RUNS, ..ProptestConfig::default() })]

    #[test]
    fn the_books_agree_with_a_naive_model(operations in vec(operation(), OPERATIONS)) {
        let mut pair =
            Pair { books: Books::new(), model: Model::default(), journal: Vec::new(), clock_ms: START_MS };
        for (place, operation) in operations.into_iter().enumerate() {
            pair.run(operation);
            if place % 10 == 9 {
                pair.check_all();
            }
        }
        let mut replayed = Books::new();
        for recorded in &pair.journal {
            replayed.apply(recorded.seq, &recorded.event).unwrap();
        }
        // A refusal moves the clock and writes nothing: bring both to one time.
        let now_ms = pair.books.now_ms();
        replayed.flush_denials(now_ms);
        prop_assert_eq!(replayed.snapshot(), pair.books.snapshot());
    }
}
