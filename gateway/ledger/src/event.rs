//! The events of the journal: all that ever changes the books. What is known is said once: `Held` bears the facts, the
//! others refer to it by the sequence of its event.

use std::sync::Arc;

use ulid::Ulid;

use crate::amounts::{Amounts, Unit};
use crate::bill_id::BillId;
use crate::bound::{Bound, Limit, Mode, Window, Zone};
use crate::change::Change;
use crate::entry::{Entry, Facts, Name, Outcome, Settlement};
use crate::money::Usd;
use crate::recorded::{InForce, Record, Refused};

/// A hold's name: the journal sequence of its `Held` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub u64);

/// One event of the journal. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first event of a month.
    Opening(Arc<Opening>),
    Held(Arc<Held>),
    Extended(Extended),
    Settled(Arc<Settled>),
    Voided(Voided),
    Denied(Denied),
    Adjusted(Arc<Adjusted>),
    Deferred(Deferred),
    Marked(Arc<Marked>),
    ClockSet(ClockSet),
    SecretChecked(SecretChecked),
    Imported(Arc<Imported>),
    Linked(Linked),
    Changed(Arc<Change>),
    Refused(Arc<Refused>),
    InForce(Arc<InForce>),
}

impl Event {
    /// For how many ordinary events it counts where memory, or what is read at a time, is bounded.
    pub fn weight(&self) -> usize {
        match self {
            Event::Imported(imported) => imported.entries.len().max(1),
            _ => 1,
        }
    }

    /// When it was decided, milliseconds since the epoch.
    pub fn at_ms(&self) -> i64 {
        match self {
            Event::Opening(opening) => opening.at_ms,
            Event::Held(held) => held.at_ms,
            Event::Extended(extended) => extended.at_ms,
            Event::Settled(settled) => settled.at_ms,
            Event::Voided(voided) => voided.at_ms,
            Event::Denied(denied) => denied.at_ms,
            Event::Adjusted(adjusted) => adjusted.at_ms,
            Event::Deferred(deferred) => deferred.at_ms,
            Event::Marked(marked) => marked.at_ms,
            Event::ClockSet(set) => set.at_ms,
            Event::SecretChecked(checked) => checked.at_ms,
            Event::Imported(imported) => imported.at_ms,
            Event::Linked(linked) => linked.at_ms,
            Event::Changed(change) => change.at_ms,
            Event::Refused(refused) => refused.at_ms,
            Event::InForce(in_force) => in_force.at_ms,
        }
    }
}

/// What a month starts from: enough to go on without any month before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub at_ms: i64,
    /// The chain's head at the end of the month before; `None` for the first month of all.
    pub previous: Option<[u8; 32]>,
    /// Balances and open holds, as `Books::snapshot` wrote them.
    pub books: Vec<u8>,
    /// Digests of what decided: `rules`, `policies`, `prices`.
    pub digests: Vec<(Name, [u8; 32])>,
}

/// Amounts reserved for one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// When it was decided; its windows are those of this moment.
    pub at_ms: i64,
    pub facts: Arc<Facts>,
    pub amounts: Amounts,
    /// Why the hold has this size, for `hold.explain`.
    pub basis: Name,
    pub bounds: Vec<HeldBound>,
    /// What the decision read; `None` in older journals, and where nothing was decided.
    pub record: Option<Record>,
}

/// A request's start and its hold lie this far apart at most: its body is read and others' holds are waited for between.
pub(crate) const HELD_WITHIN_MS: i64 = 60 * 60 * 1_000;

impl Held {
    /// What is entered without a hold, long after the time that it belongs to.
    pub(crate) fn is_late(&self) -> bool {
        self.amounts.is_zero() && self.at_ms.saturating_sub(self.facts.at_ms) > HELD_WITHIN_MS
    }
}

/// A bound that a hold touches, with the instance of its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBound {
    pub account: Name,
    pub window: Window,
    /// IANA name of the window's time zone; `UTC` for UTC.
    pub zone: Name,
    pub unit: Unit,
    pub mode: Mode,
    /// In the unit's count; never negative.
    pub limit: i64,
    /// The window's period, seconds since the epoch, `end_s` excluded. `total` has `i64::MIN` and `i64::MAX`.
    pub start_s: i64,
    pub end_s: i64,
}

impl HeldBound {
    /// The same bound for another hold, counting and never refusing.
    pub(crate) fn watched(&self) -> Option<Bound> {
        let zone = Zone::of_record(&self.zone);
        let limit = Limit::counted(self.unit, self.limit).ok()?;
        Bound::new(self.account.clone(), self.window, zone, limit, Mode::Watch).ok()
    }
}

/// A hold grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    pub at_ms: i64,
    pub hold: HoldId,
    /// What was added.
    pub amounts: Amounts,
}

/// A hold ended with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub at_ms: i64,
    pub hold: HoldId,
    /// What was held at the end, extensions included.
    pub held: Amounts,
    /// Why the cost is above the hold; `None` where it is not.
    pub overage_reason: Option<Name>,
    pub settlement: Settlement,
    /// What was billed with it, and is not billed again.
    pub bills: Vec<BillId>,
}

impl Settled {
    /// What it posts to each account. Of a recovered hold, and of a cut stream, the usage is not
    /// known: its tokens count as held.
    pub fn posted(&self) -> Amounts {
        let used = i64::try_from(self.settlement.usage.tokens()).unwrap_or(i64::MAX);
        let tokens = match self.settlement.outcome {
            Outcome::Recovered => self.held.tokens,
            // The upstream may bill what it had ready when it was cancelled: no less than the hold.
            Outcome::Cut if self.settlement.estimate_reason.is_some() => self.held.tokens.max(used),
            _ => used,
        };
        Amounts {
            usd: self.settlement.cost,
            tokens,
            requests: self.held.requests,
        }
    }

    /// What it posts beyond its hold, unit by unit.
    pub fn overage(&self) -> Amounts {
        self.posted().beyond(&self.held)
    }

    /// The entry that this event and the facts of its hold make.
    pub fn entry(&self, facts: &Facts) -> Entry {
        let overage = self.overage().usd;
        Entry {
            facts: facts.clone(),
            settlement: self.settlement.clone(),
            held: self.held.usd,
            overage,
            overage_reason: if overage > Usd::ZERO {
                self.overage_reason.clone()
            } else {
                None
            },
            source: None,
        }
    }
}

/// A hold waits for a result that will be fetched: whoever settles it bills this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferred {
    pub at_ms: i64,
    pub hold: HoldId,
    pub bill: BillId,
}

/// A hold ended without an entry: nothing was sent upstream, or nothing that is billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voided {
    pub at_ms: i64,
    pub hold: HoldId,
    pub reason: Name,
}

/// A refused request, as refusals are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Denial {
    /// The account whose bound refused, or that requested.
    pub account: Name,
    pub tenant: Name,
    /// The refusal's code: `budget_exceeded`, `model_not_allowed`.
    pub reason: Name,
    /// The policy that denied it or put the limit there; empty where none did, or nobody noted which.
    pub policy: Name,
}

/// Refusals of one account for one reason, by one policy, within one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub at_ms: i64,
    pub of: Denial,
    pub count: u64,
}

/// A correction of a settled entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjusted {
    pub at_ms: i64,
    /// The hold that the entry settled, and the entry's id.
    pub hold: HoldId,
    pub id: Ulid,
    /// When that hold was placed: windows that no longer hold this moment are past correcting.
    pub held_at_ms: i64,
    /// The accounts that the entry was posted to.
    pub accounts: Vec<Name>,
    /// Added to what is posted; negative to give back.
    pub amounts: Amounts,
    pub reason: Name,
    /// The result that says better what the entry cost: it corrects once.
    pub bill: Option<BillId>,
    /// The entry's facts, so that whoever adds up entries need not read them back. `None` in older journals.
    pub of: Option<Adjustee>,
}

/// What sums are told apart by, of an entry that is corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustee {
    pub facts: Arc<Facts>,
    /// The model that the entry names.
    pub model: Name,
}

/// An operator set the time of decisions back: the clock that it had followed was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSet {
    /// The time of decisions until then.
    pub at_ms: i64,
    /// The time from which decisions go on.
    pub to_ms: i64,
}

/// A check value of the secret by which keys get their fingerprints: another secret would give every key a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretChecked {
    pub at_ms: i64,
    pub check: [u8; 16],
}

/// What somebody did to a session: one that falls silent needs no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mark {
    /// Its client said that it is over, or an operator did. A further call takes it up again.
    Completed = 0,
    /// An operator stopped it: it is served no more.
    Killed = 1,
    /// People were told of it: once is enough.
    Alerted = 2,
}

impl Mark {
    pub const ALL: [Mark; 3] = [Mark::Completed, Mark::Killed, Mark::Alerted];
}

/// A session was marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    pub at_ms: i64,
    pub tenant: Name,
    pub session: Name,
    pub mark: Mark,
}

/// Entries of calls that passed no hold here, taken over from elsewhere, each at its own time in the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub at_ms: i64,
    /// What they were taken from.
    pub source: Name,
    /// How far the source is taken with them: whatever is offered again up to there is taken already.
    pub place: u64,
    /// Their keys are named by the fingerprints of the program that they come from, which nobody here makes any more.
    pub has_legacy_keys: bool,
    pub entries: Vec<ImportedEntry>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedEntry {
    pub facts: Arc<Facts>,
    pub settlement: Settlement,
}

/// Why an imported entry is beyond its hold: it had none.
pub const IMPORTED: &str = "imported";

impl ImportedEntry {
    /// What it posts to each account, in the windows of its own time.
    pub fn posted(&self) -> Amounts {
        Amounts {
            usd: self.settlement.cost,
            tokens: i64::try_from(self.settlement.usage.tokens()).unwrap_or(i64::MAX),
            requests: 1,
        }
    }

    pub fn entry(&self, source: &Name) -> Entry {
        let cost = self.settlement.cost;
        Entry {
            facts: Facts::clone(&self.facts),
            settlement: self.settlement.clone(),
            held: Usd::ZERO,
            overage: cost,
            overage_reason: (cost > Usd::ZERO).then(|| Name::from(IMPORTED)),
            source: Some(Name::clone(source)),
        }
    }
}

/// A key was seen whose imported entries bear another fingerprint: what they posted is the key's from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    pub at_ms: i64,
    /// The fingerprint that the imported entries bear.
    pub legacy: Name,
    /// The key's own.
    pub key: Name,
}
