//! Deterministic simulation: the books on a journal that tears, fails and is killed, with a clock that jumps. One seed is
//! one run, always the same. `AGENTLEDGER_SEED=n` runs that one alone, `AGENTLEDGER_SEEDS=n` so many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use agentledger_ledger::books::{Adjustment, Books, BooksError, Recorded};
use agentledger_ledger::codec::{decode, encode};
use agentledger_ledger::event::{Event, Held, HoldId};
use agentledger_ledger::names::Names;
use agentledger_ledger::{
    Amounts, Bound, Facts, Kind, Limit, Mode, Name, Outcome, Settlement, Unit, Usage, Usd, Window, Zone,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ulid::Ulid;

const SEEDS: u64 = 10_000;
const STEPS: usize = 40;
const START_MS: i64 = 1_774_000_000_000;

/// A file that keeps what was flushed, and of the rest as much as a crash leaves.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    durable: usize,
}

impl Disk {
    fn append(&mut self, event: &[u8]) {
        self.bytes.extend((event.len() as u32).to_be_bytes());
        self.bytes.extend(&blake3_of(event)[..8]);
        self.bytes.extend(event);
    }

    fn crash(&mut self, rng: &mut StdRng) {
        let kept = rng.random_range(self.durable..=self.bytes.len());
        self.bytes.truncate(kept);
        // The last bytes that were not flushed may be anything.
        if kept > self.durable && rng.random_bool(0.3) {
            let torn = rng.random_range(self.durable..kept);
            self.bytes[torn] ^= rng.random_range(1..=255_u8);
        }
    }

    /// The events up to the first that is cut or broken; what follows it is cut off.
    fn recover(&mut self) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        let mut at = 0;
        while let Some(head) = self.bytes.get(at..at + 12) {
            let len = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            let Some(event) = self.bytes.get(at + 12..at + 12 + len) else {
                break;
            };
            if blake3_of(event)[..8] != head[4..] {
                break;
            }
            events.push(event.to_vec());
            at += 12 + len;
        }
        self.bytes.truncate(at);
        self.durable = at;
        events
    }
}

fn blake3_of(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

struct World {
    rng: StdRng,
    clock_ms: i64,
    books: Books,
    names: Names,
    disk: Disk,
    /// Events written and not yet acknowledged, and the last sequence that was.
    acknowledged: u64,
    /// The first sequence on the disk, and a checkpoint with the names at its place.
    first: u64,
    checkpoint: Option<(Vec<u8>, u64)>,
    /// The sum of all entries and adjustments that the journal holds.
    written: Vec<(u64, Amounts)>,
    open: Vec<(HoldId, u64)>,
    settled: Vec<(u64, HoldId, Arc<Held>)>,
    /// A write failed: nothing is admitted until a restart.
    stopped: bool,
    bounds: Vec<Bound>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let zone = |name| Zone::named(name).unwrap();
        let windows = [
            Window::Minute,
            Window::Hour,
            Window::Day,
            Window::Week,
            Window::Month,
            Window::Total,
        ];
        let mut bounds = Vec::new();
        for (account, zone) in [
            ("key:a", zone("UTC")),
            ("key:b", zone("Europe/Berlin")),
            ("global", zone("UTC")),
        ] {
            for _ in 0..rng.random_range(1..=2) {
                let window = windows[rng.random_range(0..windows.len())];
                let limit = match rng.random_range(0..4) {
                    0 => Limit::tokens(rng.random_range(0..3_000)).unwrap(),
                    1 => Limit::requests(rng.random_range(1..12)).unwrap(),
                    _ => Limit::usd(Usd::from_nanos(rng.random_range(0..5_000))).unwrap(),
                };
                bounds.push(Bound::new(account.into(), window, zone.clone(), limit, Mode::Hard).unwrap());
            }
        }
        World {
            rng,
            clock_ms: START_MS,
            books: Books::new(),
            names: Names::new(),
            disk: Disk::default(),
            acknowledged: 0,
            first: 1,
            checkpoint: None,
            written: Vec::new(),
            open: Vec::new(),
            settled: Vec::new(),
            stopped: false,
            bounds,
        }
    }

    fn write(&mut self, recorded: &Recorded) {
        if let Event::Settled(settled) = &recorded.event {
            self.written.push((recorded.seq, settled.posted()));
        }
        if let Event::Adjusted(adjusted) = &recorded.event {
            self.written.push((recorded.seq, adjusted.amounts));
        }
        if self.stopped {
            return;
        }
        self.disk.append(&encode(&recorded.event, &mut self.names));
    }

    /// A group commit, which may fail: then the writer stops for good.
    fn flush(&mut self) {
        if self.stopped {
            return;
        }
        if self.rng.random_bool(0.03) {
            self.stopped = true;
            return;
        }
        self.disk.durable = self.disk.bytes.len();
        self.acknowledged = self.books.head();
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..40 => self.reserve(),
            40..60 => self.settle(),
            60..65 => self.void(),
            65..75 => self.extend(),
            75..78 => self.adjust(),
            78..88 => self.jump(),
            88..92 => self.flush(),
            92..94 => self.open_month(),
            94..96 => self.checkpoint = Some((self.books.snapshot(), self.books.head())).filter(|_| !self.stopped),
            96..97 => {
                let one = Name::from("key:a");
                for recorded in self.books.deny(self.clock_ms, &one, &one, &one) {
                    self.write(&recorded);
                }
            }
            _ => self.crash(),
        }
    }

    fn reserve(&mut self) {
        if self.stopped {
            return;
        }
        let key = if self.rng.random_bool(0.5) { "a" } else { "b" };
        let account = format!("key:{key}");
        let bounds: Vec<Bound> = self
            .bounds
            .iter()
            .filter(|bound| **bound.account() == *account || &**bound.account() == "global")
            .cloned()
            .collect();
        let amounts = Amounts::of_request(
            Usd::from_nanos(self.rng.random_range(0..900)),
            self.rng.random_range(0..500),
        );
        let facts = Arc::new(self.facts(key));
        match self
            .books
            .reserve(self.clock_ms, &facts, &bounds, amounts, &"max_tokens".into())
        {
            Ok(reserved) => {
                self.open.push((reserved.hold, reserved.recorded.seq));
                self.write(&reserved.recorded);
            }
            Err(BooksError::Refused(refusal)) => {
                let standing = refusal.standing;
                assert!(
                    standing.left() < i128::from(refusal.asked),
                    "refused although there was room"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn facts(&mut self, key: &str) -> Facts {
        let session = format!("s{}", self.rng.random_range(0..4));
        Facts {
            id: Ulid::from_parts(self.clock_ms as u64, self.rng.random()),
            at_ms: self.clock_ms,
            provider: "openai".into(),
            operation: "chat.completions".into(),
            requested_model: "gpt-x".into(),
            stream: self.rng.random(),
            key: key.into(),
            tenant: "acme".into(),
            agent: "".into(),
            session: session.into(),
            user: "".into(),
            task: "".into(),
            tags: Default::default(),
            path: "/v1/chat/completions".into(),
        }
    }

    fn take_open(&mut self) -> Option<HoldId> {
        let place = self.rng.random_range(0..self.open.len().max(1));
        if place < self.open.len() {
            Some(self.open.swap_remove(place).0)
        } else {
            None
        }
    }

    fn settle(&mut self) {
        let Some(hold) = self.take_open() else { return };
        let held = self.books.open_hold(hold).unwrap().amounts;
        // Now and then a provider bills ten times the hold.
        let most = if self.rng.random_bool(0.1) {
            held.usd.nanos() * 10
        } else {
            held.usd.nanos()
        };
        let cost = Usd::from_nanos(self.rng.random_range(0..=most.max(0)));
        let tokens = self.rng.random_range(0..=held.tokens.max(0) as u64);
        let settlement = Settlement {
            at_ms: self.clock_ms,
            outcome: Outcome::Completed,
            status: 200,
            model: "gpt-x-1".into(),
            usage: Usage::ZERO.with(Kind::Output, tokens),
            parts: vec![],
            reasoning: 0,
            cost,
            reported_cost: None,
            upper_bound: None,
            price: None,
            estimate_reason: None,
            verdict: vec![],
            duration_ms: 1,
            ttfb_ms: None,
            response_id: None,
            request_id: None,
        };
        let settled = self.books.settle(self.clock_ms, hold, settlement, None).unwrap();
        let overage = (cost.nanos() - held.usd.nanos()).max(0);
        assert_eq!(settled.entry().overage.nanos(), overage);
        self.settled.push((settled.recorded.seq, hold, settled.held.clone()));
        self.write(&settled.recorded);
    }

    fn void(&mut self) {
        let Some(hold) = self.take_open() else { return };
        let recorded = self.books.void(self.clock_ms, hold, &"connect_failed".into()).unwrap();
        self.write(&recorded);
    }

    fn extend(&mut self) {
        let Some((hold, _)) = self.open.first().copied() else {
            return;
        };
        let step = Amounts {
            usd: Usd::from_nanos(self.rng.random_range(1..400)),
            tokens: 50,
            requests: 0,
        };
        if let Ok(extension) = self.books.extend(self.clock_ms, hold, step) {
            let granted = extension.granted;
            assert!(granted.usd > Usd::ZERO && granted.usd <= step.usd && (1..=50).contains(&granted.tokens));
            self.write(&extension.recorded);
        }
    }

    fn adjust(&mut self) {
        if self.settled.is_empty() || self.stopped {
            return;
        }
        let place = self.rng.random_range(0..self.settled.len());
        let (_, hold, held) = self.settled[place].clone();
        let usd = Usd::from_nanos(self.rng.random_range(-50..50));
        let amounts = Amounts {
            usd,
            tokens: 1,
            requests: 0,
        };
        let adjustment = Adjustment {
            hold,
            held: &held,
            model: "gpt-x-1".into(),
            amounts,
            reason: "invoice".into(),
            bill: None,
        };
        let recorded = self.books.adjust(self.clock_ms, &adjustment).unwrap();
        self.write(&recorded);
    }

    fn jump(&mut self) {
        self.clock_ms += match self.rng.random_range(0..6) {
            0 => -self.rng.random_range(0..100_000_000_i64),
            1 => self.rng.random_range(0..40 * 86_400_000_i64),
            2 => self.rng.random_range(0..86_400_000_i64),
            _ => self.rng.random_range(0..100_000_i64),
        };
    }

    /// A new month: its opening is flushed before anything else, and the month before may be removed.
    fn open_month(&mut self) {
        if self.stopped {
            return;
        }
        self.disk.durable = self.disk.bytes.len();
        let carried = self.books.snapshot();
        let digests = vec![("rules".into(), [2; 32])];
        let recorded = self.books.open_month(self.clock_ms, Some([1; 32]), digests, carried);
        let kept = self.rng.random_bool(0.5);
        if kept {
            // Names of a month are its own: the simulated disk is one month, so it goes on with them.
            self.write(&recorded);
        } else {
            self.disk = Disk::default();
            self.names = Names::new();
            self.first = recorded.seq;
            self.checkpoint = None;
            self.write(&recorded);
        }
        self.disk.durable = self.disk.bytes.len();
        self.acknowledged = recorded.seq;
    }

    fn crash(&mut self) {
        self.disk.crash(&mut self.rng);
        let events = self.disk.recover();
        let last = self.first + events.len() as u64 - 1;
        assert!(last >= self.acknowledged, "an acknowledged event is lost");
        self.names = Names::new();
        let mut books = Books::new();
        // From a checkpoint where there is one that the journal has reached, else from the first event.
        let mut from = 0;
        if let Some((bytes, seq)) = self.checkpoint.take_if(|(_, seq)| *seq <= last) {
            books = Books::restore(&bytes).unwrap();
            from = seq;
            self.checkpoint = Some((bytes, seq));
        } else {
            self.checkpoint = None;
        }
        let (mut full, full_too) = (Books::new(), from > 0);
        for (place, bytes) in events.iter().enumerate() {
            let seq = self.first + place as u64;
            let event = decode(bytes, &mut self.names).unwrap();
            if full_too {
                full.apply(seq, &event).unwrap();
            }
            if seq > from {
                books.apply(seq, &event).unwrap();
            }
        }
        assert_eq!(books.head(), last.max(from));
        if from > 0 {
            // A checkpoint may have seen a later clock than the events tell: time alone may differ.
            let now_ms = books.now_ms().max(full.now_ms());
            let (mut one, mut other) = (Books::restore(&books.snapshot()).unwrap(), full);
            one.flush_denials(now_ms);
            other.flush_denials(now_ms);
            assert_eq!(one.snapshot(), other.snapshot(), "checkpoint and replay differ");
        }
        self.books = books;
        self.written.retain(|(seq, _)| *seq <= last);
        self.settled.retain(|(seq, ..)| *seq <= last);
        self.open.clear();
        self.stopped = false;
        for hold in self.books.open_ids() {
            let settled = self.books.recover(self.clock_ms, hold).unwrap();
            assert_eq!(settled.entry().settlement.cost, settled.settled.held.usd);
            self.settled
                .push((settled.recorded.seq, settled.settled.hold, settled.held.clone()));
            self.write(&settled.recorded);
        }
        assert_eq!(self.books.open_count(), 0);
    }

    fn check(&self) {
        let mut held = Amounts::ZERO;
        for open in self.books.open_holds() {
            held = held.plus(&open.amounts);
        }
        assert_eq!(
            self.books.held("global"),
            held,
            "held differs from the sum of the open holds"
        );
        let posted = self
            .written
            .iter()
            .fold(Amounts::ZERO, |sum, (_, amounts)| sum.plus(amounts));
        assert_eq!(
            self.books.spent(0, "global", Window::Total),
            posted,
            "posted differs from entries and adjustments"
        );
        for bound in &self.bounds {
            let standing = self.books.standing(0, bound);
            let spent = i128::from(standing.posted) + i128::from(standing.held) - i128::from(standing.overage);
            assert!(spent <= i128::from(standing.limit), "{bound:?} {standing:?}");
            assert!(standing.held >= 0);
        }
        // Keys that cost something are kept until their month is over.
        let month = Window::Month.stretch(&Zone::utc(), START_MS);
        if !month.contains(self.books.now_ms().div_euclid(1_000)) {
            return;
        }
        for unit in [Unit::Usd, Unit::Tokens] {
            let keys = ["key:a", "key:b"].map(|key| self.books.spent(0, key, Window::Total).get(unit));
            assert_eq!(keys.iter().sum::<i64>(), posted.get(unit), "keys do not add up to all");
        }
    }
}

#[test]
fn the_books_hold_over_many_seeds() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("AGENTLEDGER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("AGENTLEDGER_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let mine = seeds.clone().skip(first as usize).step_by(threads as usize);
            scope.spawn(move || mine.for_each(simulate));
        }
    });
}

fn simulate(seed: u64) {
    let run = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            world.check();
        }
        world.crash();
        world.check();
    });
    if let Err(cause) = run {
        eprintln!("failed with AGENTLEDGER_SEED={seed}");
        std::panic::resume_unwind(cause);
    }
}
