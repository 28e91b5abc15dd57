//! The world: one ledger, its machine, its clients, and what happens to them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use agentledger_ledger::store::{Chance, Faults, MemoryStores, Month};
use agentledger_ledger::testing::{Stepped, walk};
use agentledger_ledger::{
    Bound, Clock, Durability, Limit, ManualClock, Mode, Options, TOLERANCE_MS, Usd, Window, Zone,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::{self, Client, Scene};
use crate::machine::Watched;
use crate::mirror::Mirror;
use crate::oracle::{Oracle, Shared};
use crate::seen;

/// 2026-11-22T00:00:00Z.
const START_MS: i64 = 1_795_305_600_000;
const DAY_MS: i64 = 86_400_000;
const CLIENTS_MAX: usize = 40;

/// How far the time of decisions may have come in this life of the ledger.
pub struct Believable {
    pub from_ms: i64,
    pub passed_ms: i64,
    pub jumps: i64,
}

impl Believable {
    pub fn until_ms(&self) -> i64 {
        self.from_ms + self.passed_ms + self.jumps * TOLERANCE_MS
    }
}

pub struct World {
    pub rng: StdRng,
    pub clock: Arc<ManualClock>,
    /// How far the wall is from the true time.
    skew_ms: i64,
    pub stores: Watched,
    pub options: Options,
    pub ledger: Option<Stepped>,
    clients: Vec<Client>,
    pub oracle: Shared,
    pub bounds: Rc<Vec<Bound>>,
    pub mirror: Mirror,
    pub believable: Believable,
    pub decided_ms: i64,
    /// Something was made to fail in this life of the ledger.
    pub was_disturbed: bool,
    backgrounds: usize,
}

/// One seed, from its beginning to a quiet end.
pub fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..world.rng.random_range(20..120) {
        world.step();
        world.check();
    }
    world.end();
}

fn bounds(rng: &mut StdRng) -> Vec<Bound> {
    let zones = ["UTC", "Europe/Berlin", "America/St_Johns"];
    let mut bounds = Vec::new();
    for account in ["key:a", "key:b", "global"] {
        for _ in 0..rng.random_range(0..=2) {
            let window = Window::ALL[rng.random_range(0..Window::ALL.len())];
            let limit = match rng.random_range(0..4) {
                0 => Limit::tokens(rng.random_range(0..6_000)).unwrap(),
                1 => Limit::requests(rng.random_range(1..20)).unwrap(),
                _ => Limit::usd(Usd::from_nanos(rng.random_range(0..9_000))).unwrap(),
            };
            let mode = if rng.random_bool(0.8) { Mode::Hard } else { Mode::Watch };
            let zone = Zone::named(zones[rng.random_range(0..zones.len())]).unwrap();
            bounds.push(Bound::new(account.into(), window, zone, limit, mode).unwrap());
        }
    }
    bounds
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut options = Options::new("unused");
        if rng.random_bool(0.2) {
            options.durability = Durability::Relaxed;
        }
        options.retention_months = [None, None, Some(0), Some(1), Some(2), Some(3)][rng.random_range(0..6)];
        options.queue_events_max = 64;
        options.sessions.sessions_max = rng.random_range(1..100);
        options.sessions.silent_ms = rng.random_range(0..2 * DAY_MS);
        options.rollups.minute_rows_max = rng.random_range(1..200);
        options.rollups.hour_rows_max = rng.random_range(1..200);
        let stores = MemoryStores::new();
        stores.set_seed(seed);
        let mut world = World {
            bounds: Rc::new(bounds(&mut rng)),
            clock: Arc::new(ManualClock::new(START_MS + rng.random_range(0..40 * DAY_MS))),
            rng,
            skew_ms: 0,
            stores: Watched::new(stores),
            options,
            ledger: None,
            clients: Vec::new(),
            oracle: Rc::default(),
            mirror: Mirror::default(),
            believable: Believable {
                from_ms: 0,
                passed_ms: 0,
                jumps: 0,
            },
            decided_ms: 0,
            was_disturbed: false,
            backgrounds: 0,
        };
        world.open();
        world
    }

    pub fn ledger(&mut self) -> &mut Stepped {
        self.ledger.as_mut().unwrap()
    }

    /// Starts the ledger over what the disk has. The disk may die while it starts; then it is tried again.
    fn open(&mut self) {
        loop {
            if self.mirror.head() > 0 && self.rng.random_bool(0.15) {
                self.stores.set_faults(Faults {
                    operations_left: Some(self.rng.random_range(0..12)),
                    ..Faults::default()
                });
            }
            let opened = Stepped::open(
                Arc::new(self.stores.clone()),
                &self.options,
                Arc::clone(&self.clock) as _,
            );
            match opened {
                Ok(ledger) => {
                    self.ledger = Some(ledger);
                    self.was_disturbed = self.stores.inner.faults() != Faults::default();
                    break;
                }
                Err(error) => assert!(self.stores.inner.is_dead(), "a start is refused: {error}"),
            }
            seen("a power cut during a start");
            self.power_cut();
        }
        self.options.accept_clock = false;
        let decided_ms = self.ledger().ledger().decision_ms();
        self.mirror.see_time(decided_ms);
        self.decided_ms = decided_ms;
        self.believe_from(decided_ms);
        let posted = self.mirror.posted.plus(&self.mirror.recovered(0)).usd;
        let mut oracle = self.oracle.borrow_mut();
        oracle.posted = posted;
        oracle.denied = self.mirror.denied;
        oracle.documents = self.mirror.documents.clone();
        oracle.voided.clear();
    }

    fn believe_from(&mut self, from_ms: i64) {
        self.believable = Believable {
            from_ms,
            passed_ms: 0,
            jumps: 0,
        };
    }

    /// The power goes, or the process is killed. All clients are gone with it.
    pub fn crash(&mut self) {
        self.observe();
        self.oracle.borrow_mut().is_over = true;
        self.clients.clear();
        let deferred = std::mem::take(&mut self.oracle.borrow_mut().deferred);
        drop(deferred);
        self.ledger = None;
        self.power_cut();
        let before = std::mem::take(&mut *self.oracle.borrow_mut());
        self.oracle = Rc::new(RefCell::new(Oracle {
            acknowledged: before.acknowledged,
            acknowledged_settled: before.acknowledged_settled,
            entries: before.entries,
            responses: before.responses,
            unanswered: before.unanswered,
            requests: before.requests,
            ..Oracle::default()
        }));
        self.open();
    }

    fn power_cut(&mut self) {
        if self.stores.inner.ahead_bytes() > 0 {
            seen("a power cut with events ahead of the database");
        }
        let left = self.stores.inner.power_cut(self.rng.random());
        seen("a power cut");
        let report = walk(&left, None, u64::MAX).unwrap();
        assert!(report.is_sound(), "after a power cut: {report:?}");
        self.stores = Watched::new(left);
        let oracle = self.oracle.borrow();
        self.mirror = self.mirror.after_crash(&self.stores.written(), oracle.acknowledged);
        let lost = oracle.acknowledged_settled.difference(&self.mirror.settled).next();
        assert!(lost.is_none(), "the entry of {lost:?} was acknowledged and is lost");
    }

    /// Takes in what is on disk now: before a month may be removed.
    pub fn observe(&mut self) {
        if self.ledger().ledger().head().sequence > self.mirror.head() {
            let written = self.stores.written();
            self.mirror.read(&written);
        }
    }

    pub fn write(&mut self) {
        self.watched(Stepped::write);
    }

    /// Lets the ledger work, and notes what has become of it.
    fn watched<T>(&mut self, work: impl FnOnce(&mut Stepped) -> T) {
        let before = self.ledger().ledger().health();
        let _ = work(self.ledger());
        let after = self.ledger().ledger().health();
        match (before.suspended.is_some(), after.suspended.is_some()) {
            (false, true) => seen("suspended for want of room"),
            (true, false) => seen("writing again"),
            _ => {}
        }
        if before.stopped.is_none() && after.stopped.is_some() {
            seen("stopped by a failure");
        }
        if before.checkpoint_failed.is_none() && after.checkpoint_failed.is_some() {
            seen("a checkpoint that failed");
        }
        self.observe();
    }

    pub fn apply(&mut self) {
        let ahead = self.stores.inner.ahead_bytes();
        self.watched(Stepped::apply);
        if self.stores.inner.ahead_bytes() < ahead {
            seen("a database that took what was ahead");
        }
    }

    pub fn tick(&mut self) {
        self.watched(Stepped::tick);
    }

    fn step(&mut self) {
        let what = self.rng.random_range(0..100);
        self.trace(what);
        match what {
            0..14 => self.come(|scene, _| Box::pin(client::exchange(scene))),
            14..20 => self.come(|scene, number| Box::pin(client::background(scene, number))),
            20..25 => self.fetch(),
            25..26 => self.come(|scene, _| Box::pin(client::change(scene))),
            26..27 => self.come(|scene, _| Box::pin(client::void(scene))),
            27..29 => self.come(|scene, _| Box::pin(client::adjust(scene))),
            29..31 => self.come(|scene, _| Box::pin(client::mark(scene))),
            31..34 => self.come(|scene, _| Box::pin(client::denied(scene))),
            34..54 => self.poll(),
            54..57 => self.leave(),
            57..67 => self.write(),
            67..73 => self.tick(),
            73..79 => self.apply(),
            79..85 => self.pass_time(),
            85..88 => self.jump(),
            88..90 => self.end_month(),
            90..91 => self.accept_clock(),
            91..94 => self.disturb(),
            94..96 => self.stores.set_faults(Faults::default()),
            96..97 => self.quiet(),
            97..98 => self.restart(),
            _ => self.crash(),
        }
        let is_stopped = self.ledger().ledger().health().stopped.is_some();
        if self.stores.inner.is_dead() || (is_stopped && self.rng.random_bool(0.3)) {
            self.crash();
        }
    }

    /// With `AGENTLEDGER_TRACE`, for a seed that failed: what came before.
    fn trace(&mut self, what: u32) {
        if crate::is_traced() {
            let health = self.ledger().ledger().health();
            let months: Vec<String> = self.mirror.months.keys().map(Month::to_string).collect();
            eprintln!(
                "step {what}: event {} and {} more, decided {}, wall {}, stopped {:?}, suspended {:?}, months {months:?}, {:?}",
                health.head.sequence,
                health.waiting_events,
                self.decided_ms,
                self.clock.now_ms(),
                health.stopped,
                health.suspended,
                self.stores.inner.faults(),
            );
        }
    }

    fn come(&mut self, client: impl FnOnce(Scene, usize) -> Client) {
        if self.clients.len() < CLIENTS_MAX {
            let scene = Scene {
                ledger: Arc::clone(self.ledger.as_ref().unwrap().ledger()),
                oracle: Rc::clone(&self.oracle),
                bounds: Rc::clone(&self.bounds),
                is_strict: self.options.durability == Durability::Strict,
                rng: StdRng::seed_from_u64(self.rng.random()),
            };
            self.backgrounds += 1;
            self.clients.push(client(scene, self.backgrounds));
            self.poll_one(self.clients.len() - 1);
        }
    }

    fn fetch(&mut self) {
        let responses = self.oracle.borrow().responses.len();
        if responses == 0 {
            return;
        }
        let place = self.rng.random_range(0..responses);
        if self.rng.random_bool(0.15) {
            return client::give_up(&self.oracle, place);
        }
        self.come(|scene, _| Box::pin(client::fetch(scene, place)));
    }

    fn poll(&mut self) {
        for _ in 0..self.rng.random_range(1..4) {
            if !self.clients.is_empty() {
                let place = self.rng.random_range(0..self.clients.len());
                self.poll_one(place);
            }
        }
    }

    fn poll_one(&mut self, place: usize) {
        if client::poll(&mut self.clients[place]) {
            drop(self.clients.swap_remove(place));
        }
    }

    /// A client vanishes, wherever it stands.
    fn leave(&mut self) {
        if !self.clients.is_empty() {
            let place = self.rng.random_range(0..self.clients.len());
            drop(self.clients.swap_remove(place));
        }
    }

    fn advance(&mut self, by_ms: i64) {
        self.clock.advance_ms(by_ms);
        self.believable.passed_ms += by_ms;
    }

    fn pass_time(&mut self) {
        let by_ms = match self.rng.random_range(0..10) {
            0..4 => self.rng.random_range(0..3_000),
            4..7 => self.rng.random_range(0..120_000),
            7..9 => self.rng.random_range(0..DAY_MS),
            _ => self.rng.random_range(0..40 * DAY_MS),
        };
        self.advance(by_ms);
    }

    /// The wall clock is set, or goes wild; or is right again.
    fn jump(&mut self) {
        let sign = if self.rng.random_bool(0.5) { 1 } else { -1 };
        let by_ms = match self.rng.random_range(0..8) {
            0..3 => -self.skew_ms,
            3 => sign * self.rng.random_range(0..10_000),
            4 => sign * self.rng.random_range(0..2 * TOLERANCE_MS),
            5 => sign * self.rng.random_range(0..DAY_MS),
            6 => sign * self.rng.random_range(0..100 * DAY_MS),
            _ => sign * self.rng.random_range(0..4_000 * DAY_MS),
        };
        self.clock.jump_ms(by_ms);
        self.skew_ms += by_ms;
        self.believable.jumps += 1;
    }

    /// The last minute of a month, with refusals that are counted, and the first tick of the next one.
    fn end_month(&mut self) {
        let end_ms = Month::of_ms(self.clock.now_ms()).next().start_ms();
        let before_ms = self.rng.random_range(1..60_000);
        self.advance((end_ms - before_ms - self.clock.now_ms()).max(0));
        for _ in 0..self.rng.random_range(0..3) {
            self.come(|scene, _| Box::pin(client::denied(scene)));
        }
        for _ in 0..self.rng.random_range(0..8) {
            self.poll();
        }
        let after_ms = self.rng.random_range(0..60_000);
        self.advance(before_ms + after_ms);
        match self.rng.random_range(0..3) {
            0 => self.poll(),
            _ => self.tick(),
        }
    }

    /// An operator says that the clock is right, while the ledger runs or at its next start.
    fn accept_clock(&mut self) {
        if self.rng.random_bool(0.3) {
            self.options.accept_clock = true;
            return self.restart();
        }
        self.ledger().ledger().accept_clock();
        self.decided_ms = self.ledger().ledger().decision_ms();
        self.believe_from(self.decided_ms);
    }

    fn disturb(&mut self) {
        let mut faults = Faults::default();
        match self.rng.random_range(0..6) {
            0 => faults.is_full = true,
            1 => faults.applies_left = Some(self.rng.random_range(0..4)),
            2 => faults.flushes_left = Some(self.rng.random_range(0..4)),
            3 => {
                faults.chance = Some(Chance {
                    one_in: self.rng.random_range(1..6),
                    state_only: true,
                });
            }
            4 => {
                faults.chance = Some(Chance {
                    one_in: self.rng.random_range(2..20),
                    state_only: false,
                });
            }
            _ => faults.operations_left = Some(self.rng.random_range(0..30)),
        }
        self.stores.set_faults(faults);
        self.was_disturbed = true;
    }

    /// An orderly end, and a start.
    fn restart(&mut self) {
        self.clients.clear();
        let deferred = std::mem::take(&mut self.oracle.borrow_mut().deferred);
        drop(deferred);
        let expected = (self.oracle.borrow().posted, self.oracle.borrow().denied);
        let is_sound = self.ledger().ledger().health().stopped.is_none() && !self.stores.inner.is_dead();
        let is_quiet = self.stores.inner.faults() == Faults::default();
        self.ledger.take().unwrap().close();
        seen("an orderly restart");
        self.mirror.read(&self.stores.written());
        if is_sound && is_quiet {
            assert_eq!(
                self.mirror.posted.usd, expected.0,
                "closed in order, and not all is on disk"
            );
            if !self.was_disturbed {
                assert_eq!(
                    self.mirror.denied, expected.1,
                    "closed in order, and refusals are not counted"
                );
            }
        }
        // What was flushed is what is left, as after a crash.
        self.oracle.borrow_mut().is_over = true;
        self.power_cut();
        self.oracle.borrow_mut().is_over = false;
        self.open();
    }

    /// Everything decided is written and applied, and all books must agree.
    pub fn quiet(&mut self) {
        for _ in 0..100 {
            self.write();
            if self.ledger().ledger().health().waiting_events == 0 {
                break;
            }
        }
        self.apply();
        self.check_all();
    }

    /// The machine is mended and the clock is right: everything must be well again by itself, but for what only a start mends.
    fn end(&mut self) {
        self.stores.set_faults(Faults::default());
        self.clock.jump_ms(-self.skew_ms);
        self.skew_ms = 0;
        self.believable.jumps += 1;
        if self.ledger().ledger().health().stopped.is_some() || self.stores.inner.is_dead() {
            self.crash();
        }
        self.stores.set_faults(Faults::default());
        self.tick();
        self.ledger().ledger().accept_clock();
        self.decided_ms = self.ledger().ledger().decision_ms();
        self.believe_from(self.decided_ms);
        self.come(|scene, _| Box::pin(client::mark(scene)));
        for _ in 0..4 {
            self.advance(61_000);
            self.tick();
            self.write();
            self.apply();
            self.check();
        }
        self.quiet();
        self.check_end();
        self.crash();
        self.quiet();
    }
}
