//! What a decision records of itself, in the journal's [`Record`]: all that its policies could know and the entry does not say, what
//! they read, and what came of it. A replay reads it back.
//!
//! Numbers come first to last as [`DecisionRecord`] has its fields, each group only where [`Flags`] say so; names likewise. The
//! first number is the version of this layout: a replay says of a record of a later one that it cannot read it.

use std::time::Duration;

use agentledger_ledger::{Facts, HeldBound, Name, Record, Unit};

use super::engine::Cause;
use super::facts::CostEstimate;
use super::history::History;
use super::record_layout::{RecordReader, RecordWriter};
use super::set::Phase;
use super::verdict::{Read, Verdict};
use super::verdict_hash::VerdictHash;
use crate::rates::Per;

/// The layout of a record; those of the first are read, too.
const VERSION: i64 = 2;

/// A decision as it is recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionRecord {
    /// What was in force, by the journal's id of it. 0: nobody recorded it, and neither is this.
    pub rules: u64,
    pub dialect: Name,
    /// The tenant that the client claimed to be.
    pub claim: Name,
    pub zone: Name,
    pub any_model: bool,
    pub free: bool,
    pub max_output: Option<u64>,
    pub history: Option<History>,
    /// Further models that may serve the call, beside the requested one.
    pub models: Vec<Name>,
    /// What the client's facts were where policies changed them: the entry has what they became.
    pub original: Vec<(Original, Name)>,
    /// The evaluations, in their order.
    pub asked: Vec<Asked>,
    /// Answers to what all of them asked about the raw key, see [`super::EvaluationReads`].
    pub keys: Vec<u32>,
    /// Of all verdicts, [`VerdictHash::number`].
    pub verdict: i64,
    /// The same while it grows. Not recorded.
    pub hash: VerdictHash,
    /// How long the policies held the request back.
    pub delay: Duration,
    /// The maximum of output that the request was given; `None`: it kept its own.
    pub clamped: Option<u64>,
    pub refused: Option<RefusedBy>,
}

/// One time that the policies were asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub phase: Phase,
    /// `None`: the model that was requested.
    pub model: Option<Name>,
    pub estimate: CostEstimate,
    pub priced: bool,
    pub reads: Vec<Read>,
}

/// A fact that policies may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    Agent,
    Session,
    User,
    Task,
    Model,
    /// A tag of this name: the value that the client sent; empty for none.
    Tag(Name),
}

impl Original {
    pub(super) const PLAIN: [Original; 5] = [
        Original::Agent,
        Original::Session,
        Original::User,
        Original::Task,
        Original::Model,
    ];
    pub(super) const TAG: i64 = 5;
}

/// What refused a request, and how it stood then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// A policy's deny, or its word about prices or routes.
    Policy(Name),
    Budget {
        policy: Name,
        bound: HeldBound,
        posted: i64,
        held: i64,
        /// What was requested of it.
        requested: i64,
        /// Only what others hold was in the way.
        is_held: bool,
    },
    Rate {
        policy: Name,
        account: Name,
        per: Per,
        unit: Unit,
        limit: u64,
        /// Milliseconds until it would have fit; below zero: never.
        wait_ms: i64,
    },
    Parallel {
        policy: Name,
        account: Name,
        limit: u64,
    },
    /// A policy failed, and gave no verdict.
    Failed {
        policy: Name,
        cause: Cause,
    },
}

impl RefusedBy {
    /// The policy that denied it, or that put the limit there.
    pub fn policy(&self) -> &Name {
        let (RefusedBy::Policy(policy)
        | RefusedBy::Budget { policy, .. }
        | RefusedBy::Rate { policy, .. }
        | RefusedBy::Parallel { policy, .. }
        | RefusedBy::Failed { policy, .. }) = self;
        policy
    }
}

/// Which groups a record has.
struct Flags;

impl Flags {
    const ANY_MODEL: i64 = 1;
    const FREE: i64 = 1 << 1;
    const KEYS: i64 = 1 << 2;
    const HISTORY: i64 = 1 << 3;
    const MAX_OUTPUT: i64 = 1 << 4;
    const CLAIM: i64 = 1 << 5;
    const ZONE: i64 = 1 << 6;
    const MODELS: i64 = 1 << 7;
    const ORIGINAL: i64 = 1 << 8;
    const DELAY: i64 = 1 << 9;
    const CLAMPED: i64 = 1 << 10;
    const REFUSED: i64 = 1 << 11;
    /// The dialect has the provider's name.
    const OWN_DIALECT: i64 = 1 << 12;
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("its record is of a later version of the program")]
    Version,
    #[error("its record is broken")]
    Broken,
}

impl DecisionRecord {
    /// Notes that the policies were asked, and what they said. `model` is the one at hand, `None` for the requested one.
    pub fn asked(
        &mut self,
        phase: Phase,
        model: Option<&str>,
        estimate: CostEstimate,
        priced: bool,
        verdict: &mut Verdict,
    ) {
        if self.rules == 0 {
            return;
        }
        self.hash.add(verdict);
        self.verdict = self.hash.number();
        self.delay = self.delay.max(verdict.delay);
        let reads = std::mem::take(&mut verdict.reads);
        if self.keys.is_empty() {
            self.keys = reads.keys;
        } else {
            self.keys.extend(reads.keys);
        }
        self.asked.push(Asked {
            phase,
            model: model.map(Name::from),
            estimate,
            priced,
            reads: reads.balances,
        });
    }

    /// For the journal, beside the facts that it has anyway: what was decided is said now.
    pub fn write(&self, facts: &Facts, clamped: Option<u64>, refused: Option<&RefusedBy>) -> Record {
        let mut w = RecordWriter::new(facts, self.max_output);
        let flags = [
            (Flags::ANY_MODEL, self.any_model),
            (Flags::FREE, self.free),
            (Flags::KEYS, !self.keys.is_empty()),
            (Flags::HISTORY, self.history.is_some()),
            (Flags::MAX_OUTPUT, self.max_output.is_some()),
            (Flags::CLAIM, !self.claim.is_empty()),
            (Flags::ZONE, !(self.zone.is_empty() || *self.zone == *"UTC")),
            (Flags::MODELS, !self.models.is_empty()),
            (Flags::ORIGINAL, !self.original.is_empty()),
            (Flags::DELAY, !self.delay.is_zero()),
            (Flags::CLAMPED, clamped.is_some()),
            (Flags::REFUSED, refused.is_some()),
            (Flags::OWN_DIALECT, self.dialect == facts.provider),
        ];
        let flags = flags
            .iter()
            .filter(|(_, is_there)| *is_there)
            .map(|(flag, _)| flag)
            .sum();
        let has = |flag: i64| flags & flag != 0;
        w.numbers([VERSION, flags]);
        w.count(self.rules);
        w.numbers([self.verdict]);
        if !has(Flags::OWN_DIALECT) {
            w.name(&self.dialect);
        }
        if has(Flags::CLAIM) {
            w.name(&self.claim);
        }
        if has(Flags::ZONE) {
            w.name(&self.zone);
        }
        self.max_output.into_iter().for_each(|most| w.count(most));
        self.history.iter().for_each(|history| w.history(history));
        if has(Flags::MODELS) {
            w.count(self.models.len() as u64);
            self.models.iter().for_each(|model| w.name(model));
        }
        if has(Flags::ORIGINAL) {
            w.count(self.original.len() as u64);
            self.original.iter().for_each(|(what, was)| w.original(what, was));
        }
        w.count(self.asked.len() as u64);
        self.asked.iter().for_each(|asked| w.asked(asked));
        if has(Flags::KEYS) {
            w.count(self.keys.len() as u64);
            self.keys.iter().for_each(|key| w.count(u64::from(*key)));
        }
        if has(Flags::DELAY) {
            w.count(u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX));
        }
        clamped.into_iter().for_each(|clamped| w.count(clamped));
        refused.into_iter().for_each(|refused| w.refused(refused));
        w.finish()
    }

    /// As it was written.
    ///
    /// # Errors
    /// It is of a later version, or broken.
    pub fn read(record: &Record, facts: &Facts) -> Result<DecisionRecord, BadRecord> {
        let r = &mut RecordReader::new(record, facts);
        r.layout = r.number()?;
        if !(1..=VERSION).contains(&r.layout) {
            return Err(BadRecord::Version);
        }
        let flags = r.number()?;
        let has = |flag: i64| flags & flag != 0;
        Ok(DecisionRecord {
            any_model: has(Flags::ANY_MODEL),
            free: has(Flags::FREE),
            rules: r.count()?,
            verdict: match r.layout {
                1 => VerdictHash::of_first_layout(r.number()?),
                _ => r.number()?,
            },
            hash: VerdictHash::default(),
            dialect: if has(Flags::OWN_DIALECT) {
                Name::clone(&facts.provider)
            } else {
                r.name()?
            },
            claim: r.name_if(has(Flags::CLAIM))?,
            zone: if has(Flags::ZONE) { r.name()? } else { Name::from("UTC") },
            max_output: {
                r.max_output = has(Flags::MAX_OUTPUT).then(|| r.count()).transpose()?;
                r.max_output
            },
            history: has(Flags::HISTORY).then(|| r.history()).transpose()?,
            models: if has(Flags::MODELS) {
                r.list(RecordReader::name)?
            } else {
                Vec::new()
            },
            original: if has(Flags::ORIGINAL) {
                r.list(RecordReader::original)?
            } else {
                Vec::new()
            },
            asked: r.list(RecordReader::asked)?,
            keys: if has(Flags::KEYS) {
                r.list(RecordReader::small)?
            } else {
                Vec::new()
            },
            delay: Duration::from_millis(if has(Flags::DELAY) { r.count()? } else { 0 }),
            clamped: has(Flags::CLAMPED).then(|| r.count()).transpose()?,
            refused: has(Flags::REFUSED).then(|| r.refused()).transpose()?,
        })
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
