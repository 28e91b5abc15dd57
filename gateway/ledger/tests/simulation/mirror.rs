//! What the journal says, added up naively: the simulation's own books, made of nothing but the events on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use agentledger_ledger::store::{Month, Store};
use agentledger_ledger::testing::{Held, MonthReader};
use agentledger_ledger::{Amounts, BillId, Change, Event, Facts, HoldId, Mark, Name, Outcome};

use crate::machine::Written;

/// What was billed under one id.
#[derive(Clone, Debug, Default)]
pub struct Billing {
    /// When it was billed, as often as it was.
    at_ms: Vec<i64>,
    pub cost: i64,
    /// At what was held for it, and not corrected since.
    pub is_guess: bool,
    /// Twice within a year.
    pub is_double: bool,
}

impl Billing {
    pub fn is_single(&self) -> bool {
        self.at_ms.len() == 1
    }
}

#[derive(Clone, Debug, Default)]
pub struct SessionSum {
    pub calls: u64,
    pub cost: i64,
    pub running: u32,
    pub is_killed: bool,
    pub last_sequence: u64,
    /// Calls before each month in which it was taken up again: with retention it may have been forgotten then.
    pub calls_before: BTreeSet<u64>,
}

/// All events that were ever seen on disk and are there still, or were removed with their month.
#[derive(Clone, Default)]
pub struct Mirror {
    /// By sequence, from 1 on.
    pub events: Vec<Event>,
    /// Months with an opening, and its sequence.
    pub months: BTreeMap<Month, u64>,
    pub posted: Amounts,
    pub by_key: BTreeMap<Name, Amounts>,
    pub requests: u64,
    pub cost_by_key: BTreeMap<Name, i64>,
    /// Keys by the time they were used last, and those that were silent for a turn of the month: they may be forgotten.
    key_used_ms: BTreeMap<Name, i64>,
    silent_keys: BTreeSet<Name>,
    pub sessions: BTreeMap<Name, SessionSum>,
    pub held: BTreeMap<HoldId, Arc<Held>>,
    pub open: BTreeMap<HoldId, Amounts>,
    pub settled: BTreeSet<HoldId>,
    pub voided: BTreeSet<HoldId>,
    pub bills: BTreeMap<BillId, Billing>,
    /// Holds that wait for a result, and results that were entered without a hold.
    pub deferred: BTreeMap<HoldId, BillId>,
    entered: BTreeMap<BillId, (u64, Option<Month>)>,
    /// The month in which something was billed under an id last: ids of more than a year before are known no more.
    billed_month: Option<Month>,
    pub denied: u64,
    /// Documents in force, with their versions.
    pub documents: BTreeMap<Name, (Name, u64)>,
    pub changes: Vec<(u64, Arc<Change>)>,
    /// Requests that were answered.
    answered: BTreeSet<Name>,
    /// The request that the last event is a part of: the next one must tell of it.
    telling: Option<String>,
    /// Time went back once, as an operator wanted: what is old by the calendar is not what came first.
    pub was_set_back: bool,
    latest_ms: i64,
    /// The newest.
    opening: u64,
}

/// Months whose bills are known, the running one included.
const MONTHS_KNOWN: u32 = 13;
/// So long what was billed is known at least.
const KNOWN_FOR_MS: i64 = 12 * 28 * 86_400_000;

impl Mirror {
    /// For whoever looks into a seed that failed.
    pub fn print(&self) {
        for (number, event) in self.events.iter().enumerate() {
            let days = event.at_ms() as f64 / 86_400_000.0;
            let number = number + 1;
            match event {
                Event::Opening(_) => eprintln!("{number}, day {days:.3}: opening"),
                Event::Held(held) => {
                    let (key, session) = (&held.facts.key, &held.facts.session);
                    eprintln!("{number}, day {days:.3}: held {:?} {key} {session}", held.amounts);
                }
                Event::Settled(settled) => {
                    let (hold, posted, bills) = (settled.hold, settled.posted(), &settled.bills);
                    eprintln!("{number}, day {days:.3}: settled {hold:?} {posted:?} {bills:?}");
                }
                event => eprintln!("{number}, day {days:.3}: {event:?}"),
            }
        }
    }

    pub fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// Reads on from what is known. Events that were known must be there unchanged, unless their month was removed.
    pub fn read(&mut self, written: &[Written]) {
        for (month, store) in written {
            let reader = reader(*month, store);
            let Some((_, before)) = reader.opening().unwrap() else {
                continue;
            };
            if self.is_complete(*month, before.sequence) {
                continue;
            }
            assert!(
                before.sequence <= self.head(),
                "{month} begins after event {}, but only {} are known",
                before.sequence,
                self.head()
            );
            self.months.insert(*month, before.sequence + 1);
            reader
                .follow(before, 0, |placed| {
                    self.see(placed.sequence, &placed.event);
                    Ok(ControlFlow::Continue(()))
                })
                .unwrap();
        }
        assert!(
            self.telling.is_none(),
            "on disk without the change that tells it: {:?}",
            self.telling
        );
    }

    /// Whether a later month was begun: nothing was added to this one since it was read.
    fn is_complete(&self, month: Month, before: u64) -> bool {
        self.months.get(&month) == Some(&(before + 1)) && self.months.range(month..).nth(1).is_some()
    }

    fn see(&mut self, sequence: u64, event: &Event) {
        match self.events.get(sequence as usize - 1) {
            Some(known) => assert!(
                known == event,
                "event {sequence} has changed: {known:?} is now {event:?}"
            ),
            None => {
                assert_eq!(sequence, self.head() + 1, "an event is missing");
                self.add(sequence, event);
            }
        }
    }

    fn add(&mut self, sequence: u64, event: &Event) {
        self.events.push(event.clone());
        self.latest_ms = self.latest_ms.max(event.at_ms());
        self.see_time(event.at_ms());
        if let Some(request) = self.telling.take() {
            let is_told = matches!(event, Event::Changed(change) if change.request.as_ref().is_some_and(|told| *told.id == *request));
            assert!(is_told, "request {request} is followed by {event:?}");
        }
        match event {
            Event::Changed(change) => self.change(sequence, change),
            Event::Held(held) => {
                let hold = HoldId(sequence);
                self.held.insert(hold, Arc::clone(held));
                self.open.insert(hold, held.amounts);
                self.use_key(&held.facts.key, held.at_ms);
                self.session(sequence, &held.facts, |session| session.running += 1);
            }
            Event::Extended(extended) => {
                let amounts = self.open.get_mut(&extended.hold).unwrap();
                *amounts = amounts.plus(&extended.amounts);
            }
            Event::Settled(settled) => {
                let held = self.end(settled.hold);
                assert!(self.settled.insert(settled.hold), "settled twice");
                self.post(&held.facts, settled.posted(), settled.at_ms);
                self.requests += 1;
                let cost = settled.settlement.cost;
                self.session(sequence, &held.facts, |session| {
                    session.running -= 1;
                    session.calls += 1;
                    session.cost += cost.nanos();
                });
                if !settled.bills.is_empty() {
                    self.billed_month = self.billed_month.max(Some(Month::of_ms(settled.at_ms)));
                }
                if settled.held.is_zero() {
                    let entered = (sequence, self.billed_month);
                    self.entered.extend(settled.bills.iter().map(|bill| (*bill, entered)));
                }
                for bill in &settled.bills {
                    let billing = self.bills.entry(*bill).or_default();
                    let latest_ms = self.latest_ms;
                    billing.is_double |= billing.at_ms.iter().any(|at_ms| latest_ms - at_ms < KNOWN_FOR_MS);
                    billing.at_ms.push(settled.at_ms);
                    billing.cost += cost.nanos();
                    billing.is_guess |= settled.settlement.outcome == Outcome::Recovered;
                }
            }
            Event::Voided(voided) => {
                self.telling = voided.reason.strip_prefix("request-").map(str::to_owned);
                let held = self.end(voided.hold);
                self.voided.insert(voided.hold);
                self.session(sequence, &held.facts, |session| session.running -= 1);
            }
            Event::Adjusted(adjusted) => {
                self.telling = adjusted.reason.strip_prefix("request-").map(str::to_owned);
                let held = Arc::clone(&self.held[&adjusted.hold]);
                self.post(&held.facts, adjusted.amounts, adjusted.at_ms);
                let delta = adjusted.amounts.usd;
                if adjusted.bill.is_some() {
                    self.billed_month = self.billed_month.max(Some(Month::of_ms(adjusted.at_ms)));
                }
                if let Some(billing) = adjusted.bill.and_then(|bill| self.bills.get_mut(&bill)) {
                    billing.cost += delta.nanos();
                    billing.is_guess = false;
                }
                if let Some(session) = self.sessions.get_mut(&held.facts.session) {
                    session.cost += delta.nanos();
                }
            }
            Event::Deferred(deferred) => {
                self.deferred.insert(deferred.hold, deferred.bill);
            }
            Event::Marked(marked) if marked.mark == Mark::Killed => {
                let session = self.sessions.entry(marked.session.clone()).or_default();
                session.is_killed = true;
                if session.running == 0 && session.last_sequence <= self.opening {
                    session.calls_before.insert(session.calls);
                }
            }
            Event::Opening(_) => {
                if sequence > 1 {
                    crate::seen("months turned");
                }
                self.opening = sequence;
            }
            Event::ClockSet(set) => {
                crate::seen("the clock set back");
                self.see_time(set.to_ms);
                self.was_set_back = true;
            }
            Event::Denied(denied) => self.denied += denied.count,
            _ => {}
        }
    }

    fn change(&mut self, sequence: u64, change: &Arc<Change>) {
        self.changes.push((sequence, Arc::clone(change)));
        if let Some(request) = &change.request {
            assert!(
                self.answered.insert(request.id.clone()),
                "request {} was done twice",
                request.id
            );
        }
        if change.kept {
            match &change.after {
                None => drop(self.documents.remove(&change.subject)),
                Some(value) => {
                    let version = self.documents.get(&change.subject).map_or(0, |(_, version)| *version);
                    self.documents
                        .insert(change.subject.clone(), (value.clone(), version + 1));
                }
            }
        }
    }

    fn end(&mut self, hold: HoldId) -> Arc<Held> {
        assert!(self.open.remove(&hold).is_some(), "ended and not open: {hold:?}");
        Arc::clone(&self.held[&hold])
    }

    fn post(&mut self, facts: &Facts, amounts: Amounts, at_ms: i64) {
        self.posted = self.posted.plus(&amounts);
        let of_key = self.by_key.entry(facts.key.clone()).or_default();
        *of_key = of_key.plus(&amounts);
        *self.cost_by_key.entry(facts.key.clone()).or_default() += amounts.usd.nanos();
        self.use_key(&facts.key, at_ms);
    }

    fn use_key(&mut self, key: &Name, at_ms: i64) {
        self.key_used_ms.insert(key.clone(), at_ms);
    }

    /// It was that late, by the time of decisions: once its month is over, a key may be forgotten.
    pub fn see_time(&mut self, now_ms: i64) {
        for (key, used_ms) in &self.key_used_ms {
            if Month::of_ms(now_ms) != Month::of_ms(*used_ms) {
                self.silent_keys.insert(key.clone());
            }
        }
    }

    /// Keys whose account holds all they ever spent, for sure.
    pub fn known_keys(&self) -> impl Iterator<Item = (&Name, &Amounts)> {
        self.by_key.iter().filter(|(key, _)| !self.silent_keys.contains(*key))
    }

    fn session(&mut self, sequence: u64, facts: &Facts, change: impl FnOnce(&mut SessionSum)) {
        if !facts.session.is_empty() {
            let opening = self.opening;
            let session = self.sessions.entry(facts.session.clone()).or_default();
            if session.running == 0 && session.last_sequence <= opening {
                session.calls_before.insert(session.calls);
            }
            session.last_sequence = sequence;
            change(session);
        }
    }

    /// What a start posts for the holds that it finds open: all that they held, but for those whose result was entered, as
    /// far as it knows: from this event on.
    pub fn recovered(&self, from: u64) -> Amounts {
        let entered = |hold: &HoldId| self.entered.get(self.deferred.get(hold)?);
        let known_from = self.billed_month.map(|month| month.back(MONTHS_KNOWN - 1));
        let is_entered =
            |hold: &HoldId| entered(hold).is_some_and(|(sequence, month)| *sequence >= from && *month >= known_from);
        let left = self.open.iter().filter(|(hold, _)| !is_entered(hold));
        left.fold(Amounts::ZERO, |sum, (_, held)| sum.plus(held))
    }

    pub fn held_now(&self) -> Amounts {
        self.open.values().fold(Amounts::ZERO, |sum, held| sum.plus(held))
    }

    /// What is left after a crash: the same up to some event, which must not be before `acknowledged`.
    pub fn after_crash(&self, written: &[Written], acknowledged: u64) -> Mirror {
        let last = last_sequence(written);
        assert!(
            last >= acknowledged,
            "event {acknowledged} was acknowledged, but the journal ends with {last}"
        );
        let mut rest = Mirror::default();
        for (number, event) in self.events.iter().enumerate().take(last as usize) {
            rest.add(number as u64 + 1, event);
        }
        rest.silent_keys = self.silent_keys.clone();
        rest.months = self.months.clone();
        rest.months.retain(|_, first| *first <= last);
        rest.read(written);
        assert_eq!(rest.head(), last);
        rest
    }
}

fn reader<'a>(month: Month, store: &'a Arc<dyn Store>) -> MonthReader<'a> {
    MonthReader { month, store: &**store }
}

/// The last event on disk.
fn last_sequence(written: &[Written]) -> u64 {
    let mut last = 0;
    for (month, store) in written {
        let reader = reader(*month, store);
        if let Some((_, before)) = reader.opening().unwrap() {
            last = reader
                .follow(before, 0, |_| Ok(ControlFlow::Continue(())))
                .unwrap()
                .sequence;
        }
    }
    last
}
