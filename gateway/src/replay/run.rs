//! One replay from its beginning to its end: which events it reads, and what it makes of them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agentledger_ledger::{Books, Event, JournalStopped, rfc3339_ms};
use parking_lot::Mutex;

use super::candidate::Amendment;
use super::comparison::Comparison;
use super::exact::ExactReplay;
use super::keys::KeyKnowledge;
use super::learning::Learning;
use super::outcome::Ended;
use super::prices::ReplayPrices;
use super::report::{Reasons, Replayed, Stopped};
use super::simulation::Simulation;
use super::tally::Tally;
use crate::policy::PolicySet;

/// How far a replay is, for whoever waits for it; and whether it shall end.
#[derive(Debug, Default)]
pub struct Progress {
    pub events: AtomicU64,
    pub decisions: AtomicU64,
    /// The last event that there is; 0 where nobody said so.
    pub head: AtomicU64,
    /// From the first event that is read to that one.
    pub events_in_all: AtomicU64,
    pub cancelled: AtomicBool,
}

/// What is tried in a simulation.
#[derive(Clone)]
pub struct Candidate {
    pub name: String,
    pub set: Arc<PolicySet>,
    pub prices: ReplayPrices,
}

/// What a replay shall do.
pub enum Mode {
    /// With an amendment laid over what was in force, to see what it changes with all else as it was.
    Exact(Option<Amendment>),
    Simulated(Candidate),
    Diff(Box<(Candidate, Candidate)>),
}

/// What is replayed.
pub struct Request {
    /// Milliseconds since the epoch, `to_ms` excluded.
    pub from_ms: i64,
    pub to_ms: i64,
    pub mode: Mode,
}

/// Is given each event with its sequence.
pub type Visit<'a> = dyn FnMut(u64, Event) -> ControlFlow<()> + 'a;
/// Reads events as [`agentledger_ledger::Ledger::events`] does.
pub type Journal<'a> = dyn FnMut(i64, &mut Visit<'_>) -> Result<(), JournalStopped> + 'a;

/// Refusals by what is known of them.
#[derive(Default)]
struct Refusals {
    counted: u64,
    recorded: u64,
}

/// What is made of the events.
enum Work {
    Exact(Box<ExactReplay>),
    Worlds(Box<Worlds>),
}

/// One or two simulations, and what they begin with.
struct Worlds {
    candidates: Vec<Candidate>,
    before: Books,
    keys: Arc<Mutex<KeyKnowledge>>,
    learning: Learning,
    simulations: Vec<Simulation>,
    tally: Tally,
    comparison: Option<Comparison>,
    decisions: u64,
}

/// Replays; what can be said at the end, also where the journal ends too early.
pub fn replay(request: Request, journal: &mut Journal<'_>, progress: &Progress) -> Replayed {
    let (from_ms, to_ms) = (request.from_ms, request.to_ms);
    let mut work = Work::new(request.mode);
    let mut refusals = Refusals::default();
    let mut broken = None;
    let mut last = 0;
    let read = journal(from_ms, &mut |sequence, event| {
        if progress.events.fetch_add(1, Ordering::Relaxed) == 0 {
            let head = progress.head.load(Ordering::Relaxed);
            let in_all = (head + 1).saturating_sub(sequence);
            progress
                .events_in_all
                .store(if head == 0 { 0 } else { in_all }, Ordering::Relaxed);
        }
        let at_ms = event.at_ms();
        let counts = (from_ms..to_ms).contains(&at_ms);
        if at_ms >= to_ms && work.is_done() {
            return ControlFlow::Break(());
        }
        match &event {
            Event::Denied(denied) if counts => refusals.counted += denied.count,
            Event::Refused(_) if counts => refusals.recorded += 1,
            _ => {}
        }
        if matches!(event, Event::Held(_) | Event::Refused(_)) && counts {
            progress.decisions.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(why) = work.take(sequence, &event, at_ms >= from_ms, counts) {
            broken = Some(why);
            return ControlFlow::Break(());
        }
        last = sequence;
        match progress.cancelled.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    let stopped = match (read, broken) {
        (Err(stopped), _) => Some(Stopped {
            month: stopped.month.unwrap_or_default(),
            after_sequence: stopped.after_sequence,
            reason: stopped.reason,
        }),
        (Ok(()), Some(reason)) => Some(Stopped {
            month: String::new(),
            after_sequence: last,
            reason,
        }),
        (Ok(()), None) if progress.cancelled.load(Ordering::Relaxed) => Some(Stopped {
            month: String::new(),
            after_sequence: last,
            reason: "it was cancelled".to_owned(),
        }),
        (Ok(()), None) => None,
    };
    let replayed = Replayed {
        from: rfc3339_ms(from_ms),
        to: rfc3339_ms(to_ms),
        events: progress.events.load(Ordering::Relaxed),
        refusals_not_recorded: refusals.counted.saturating_sub(refusals.recorded),
        stopped,
        ..Replayed::default()
    };
    work.finish(replayed)
}

impl Work {
    fn new(mode: Mode) -> Work {
        let (candidates, comparison) = match mode {
            Mode::Exact(amendment) => return Work::Exact(Box::new(ExactReplay::new(amendment))),
            Mode::Simulated(candidate) => (vec![candidate], None),
            Mode::Diff(both) => {
                let (a, b) = *both;
                let comparison = Comparison::new(&a.name, &b.name);
                (vec![a, b], Some(comparison))
            }
        };
        let keys: Arc<Mutex<KeyKnowledge>> = Arc::default();
        Work::Worlds(Box::new(Worlds {
            candidates,
            before: Books::new(),
            learning: Learning::new(&keys),
            keys,
            simulations: Vec::new(),
            tally: Tally::default(),
            comparison,
            decisions: 0,
        }))
    }

    /// Nothing after the time can change anything.
    fn is_done(&self) -> bool {
        match self {
            Work::Exact(_) => true,
            Work::Worlds(worlds) => !worlds.simulations.iter().any(Simulation::running),
        }
    }

    fn take(&mut self, sequence: u64, event: &Event, has_begun: bool, counts: bool) -> Result<(), String> {
        match self {
            Work::Exact(exact) => exact.take(sequence, event, counts),
            Work::Worlds(worlds) => worlds.take(sequence, event, has_begun, counts),
        }
    }

    fn finish(self, mut replayed: Replayed) -> Replayed {
        match self {
            Work::Exact(exact) => {
                let (exact, reasons, decisions) = exact.finish();
                replayed.exact = Some(exact);
                replayed.decisions = decisions;
                replayed.undecidable = reasons.rows();
            }
            Work::Worlds(worlds) => {
                let Worlds {
                    simulations,
                    tally,
                    comparison,
                    decisions,
                    ..
                } = *worlds;
                replayed.decisions = decisions;
                let mut reasons = Reasons::default();
                for (place, simulation) in simulations.into_iter().enumerate() {
                    // Of a diff it matters for which of the two.
                    let of = match (&comparison, place) {
                        (None, _) => "",
                        (Some(_), 0) => "A: ",
                        (Some(_), _) => "B: ",
                    };
                    reasons.join(simulation.reasons, of);
                }
                replayed.undecidable = reasons.rows();
                match comparison {
                    Some(comparison) => replayed.diff = Some(comparison.finish()),
                    None => replayed.simulated = Some(tally.finish()),
                }
            }
        }
        replayed
    }
}

impl Worlds {
    fn take(&mut self, sequence: u64, event: &Event, has_begun: bool, counts: bool) -> Result<(), String> {
        let is_first = self.before.head() == 0 && self.simulations.is_empty();
        if !has_begun || is_first {
            self.before.apply(sequence, event).map_err(|error| error.to_string())?;
            if is_first {
                self.learning.open(self.before.documents());
            } else {
                self.learning.take(sequence, event);
            }
            return Ok(());
        }
        if self.simulations.is_empty() {
            let before = std::mem::take(&mut self.before);
            for Candidate { set, prices, .. } in &self.candidates {
                let (set, prices) = (Arc::clone(set), prices.clone());
                self.simulations
                    .push(Simulation::new(set, prices, before.clone(), &self.keys));
            }
        }
        self.learning.take(sequence, event);
        self.decisions += u64::from(counts && matches!(event, Event::Held(_) | Event::Refused(_)));
        let ended: Vec<Option<Ended>> = self
            .simulations
            .iter_mut()
            .map(|simulation| simulation.take(sequence, event, counts))
            .collect();
        if let Some(why) = self.simulations.iter().find_map(Simulation::hopeless) {
            return Err(why);
        }
        match (&mut self.comparison, ended.as_slice()) {
            (Some(comparison), [Some(a), Some(b)]) => comparison.add(a, b),
            (None, [Some(ended)]) => self.tally.add(ended),
            _ => {}
        }
        Ok(())
    }
}
