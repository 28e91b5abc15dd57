//! What a decision records of itself, in the journal's [`Record`]: all that its policies could know and the entry does not say, what
//! they read, and what came of it. A replay reads it back.
//!
//! Numbers come first to last as [`DecisionRecord`] has its fields, each group only where [`Flags`] say so; names likewise. The
//! first number is the version of this layout: a replay says of a record of a later one that it cannot read it.

use std::time::Duration;

use agentledger_ledger::{Facts, HeldBound, Mode, Name, Record, Unit, Usd, Window};

use super::account::Own;
use super::facts::CostEstimate;
use super::history::History;
use super::set::Phase;
use super::verdict::{Read, Verdict};
use super::verdict_hash::VerdictHash;
use crate::rates::Per;

/// The layout of a record.
const VERSION: i64 = 1;

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
    const PLAIN: [Original; 5] = [
        Original::Agent,
        Original::Session,
        Original::User,
        Original::Task,
        Original::Model,
    ];
    const TAG: i64 = 5;
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
}

impl RefusedBy {
    /// The policy that denied it, or that put the limit there.
    pub fn policy(&self) -> &Name {
        let (RefusedBy::Policy(policy)
        | RefusedBy::Budget { policy, .. }
        | RefusedBy::Rate { policy, .. }
        | RefusedBy::Parallel { policy, .. }) = self;
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
        let mut w = RecordWriter {
            record: Record {
                numbers: Vec::with_capacity(48),
                names: Vec::with_capacity(4),
            },
            facts,
        };
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
        w.name(&self.dialect);
        if has(Flags::CLAIM) {
            w.name(&self.claim);
        }
        if has(Flags::ZONE) {
            w.name(&self.zone);
        }
        self.max_output.into_iter().for_each(|most| w.count(most));
        self.history.iter().for_each(|history| w.numbers(numbers_of(history)));
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
        w.record
    }

    /// As it was written.
    ///
    /// # Errors
    /// It is of a later version, or broken.
    pub fn read(record: &Record, facts: &Facts) -> Result<DecisionRecord, BadRecord> {
        let r = &mut RecordReader {
            numbers: record.numbers.iter(),
            names: record.names.iter(),
            facts,
        };
        if r.number()? != VERSION {
            return Err(BadRecord::Version);
        }
        let flags = r.number()?;
        let has = |flag: i64| flags & flag != 0;
        Ok(DecisionRecord {
            any_model: has(Flags::ANY_MODEL),
            free: has(Flags::FREE),
            rules: r.count()?,
            verdict: r.number()?,
            hash: VerdictHash::default(),
            dialect: r.name()?,
            claim: r.name_if(has(Flags::CLAIM))?,
            zone: if has(Flags::ZONE) { r.name()? } else { Name::from("UTC") },
            max_output: has(Flags::MAX_OUTPUT).then(|| r.count()).transpose()?,
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

/// In the order of their fields.
fn numbers_of(history: &History) -> [i64; 14] {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    [
        history.age_ms,
        count(history.calls),
        history.cost.nanos(),
        count(history.tokens),
        i64::from(history.running),
        history.window_ms,
        i64::from(history.repeats),
        i64::from(history.tool_repeats),
        i64::from(history.stretch),
        i64::from(history.distinct),
        i64::from(history.path_calls),
        history.repeats_cost.nanos(),
        history.first_cost.nanos(),
        history.last_cost.nanos(),
    ]
}

struct RecordWriter<'a> {
    record: Record,
    facts: &'a Facts,
}

/// How an account stands in a record: by a name, as `global`, or as one of the call's own.
const ACCOUNT_NAMED: i64 = 0;
const ACCOUNT_GLOBAL: i64 = 1;
const ACCOUNT_OWN: i64 = 2;

impl RecordWriter<'_> {
    fn numbers<const N: usize>(&mut self, numbers: [i64; N]) {
        self.record.numbers.extend(numbers);
    }

    fn count(&mut self, count: u64) {
        self.record.numbers.push(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn name(&mut self, name: &Name) {
        self.record.names.push(Name::clone(name));
    }

    fn original(&mut self, what: &Original, was: &Name) {
        match Original::PLAIN.iter().position(|plain| plain == what) {
            Some(place) => self.count(place as u64),
            None => self.numbers([Original::TAG]),
        }
        if let Original::Tag(tag) = what {
            self.name(tag);
        }
        self.name(was);
    }

    fn asked(&mut self, asked: &Asked) {
        let has_estimate = asked.estimate != CostEstimate::default();
        let phase = i64::from(asked.phase == Phase::Request);
        self.numbers([phase
            | i64::from(asked.priced) << 1
            | i64::from(asked.model.is_some()) << 2
            | i64::from(has_estimate) << 3
            | i64::try_from(asked.reads.len()).unwrap_or_default() << 4]);
        asked.model.iter().for_each(|model| self.name(model));
        if has_estimate {
            let estimate = &asked.estimate;
            self.count(estimate.input_tokens);
            self.count(estimate.output_tokens);
            self.numbers([estimate.usd.nanos(), estimate.output_usd.nanos()]);
        }
        for read in &asked.reads {
            let window = read.window.map_or(0, |window| window as i64 + 1);
            self.account(&read.account, window << 2 | read.unit as i64);
            self.numbers([read.value]);
        }
    }

    /// An account with a few bits beside it.
    fn account(&mut self, account: &Name, bits: i64) {
        let own = || {
            let (kind, name) = account.split_once(':')?;
            let own = Own::from_word(kind)?;
            (**own_name(own, self.facts) == *name).then_some(own.place() as i64)
        };
        let how = match own() {
            Some(place) => ACCOUNT_OWN + place,
            None if **account == *"global" => ACCOUNT_GLOBAL,
            None => ACCOUNT_NAMED,
        };
        self.numbers([how | bits << 4]);
        if how == ACCOUNT_NAMED {
            self.name(account);
        }
    }

    fn refused(&mut self, refused: &RefusedBy) {
        match refused {
            RefusedBy::Policy(policy) => {
                self.numbers([0]);
                self.name(policy);
            }
            RefusedBy::Budget {
                policy,
                bound,
                posted,
                held,
                requested,
                is_held,
            } => {
                self.numbers([1]);
                self.name(policy);
                self.name(&bound.zone);
                let bits = (bound.window as i64) << 3 | (bound.unit as i64) << 1 | bound.mode as i64;
                self.account(&bound.account, bits);
                let numbers = [bound.limit, bound.start_s, bound.end_s, *posted, *held, *requested];
                self.numbers(numbers);
                self.numbers([i64::from(*is_held)]);
            }
            RefusedBy::Rate {
                policy,
                account,
                per,
                unit,
                limit,
                wait_ms,
            } => {
                self.numbers([2]);
                self.name(policy);
                self.account(account, (*per as i64) << 2 | *unit as i64);
                self.count(*limit);
                self.numbers([*wait_ms]);
            }
            RefusedBy::Parallel { policy, account, limit } => {
                self.numbers([3]);
                self.name(policy);
                self.account(account, 0);
                self.count(*limit);
            }
        }
    }
}

fn own_name(own: Own, facts: &Facts) -> &Name {
    match own {
        Own::Key => &facts.key,
        Own::Tenant => &facts.tenant,
        Own::User => &facts.user,
        Own::Agent => &facts.agent,
        Own::Session => &facts.session,
        Own::Task => &facts.task,
        Own::Model => &facts.requested_model,
        Own::Provider => &facts.provider,
    }
}

struct RecordReader<'a> {
    numbers: std::slice::Iter<'a, i64>,
    names: std::slice::Iter<'a, Name>,
    facts: &'a Facts,
}

/// One of a fixed list, by its place.
fn pick<T: Copy>(all: &[T], place: i64) -> Result<T, BadRecord> {
    let place = usize::try_from(place).map_err(|_| BadRecord::Broken)?;
    all.get(place).copied().ok_or(BadRecord::Broken)
}

impl RecordReader<'_> {
    fn number(&mut self) -> Result<i64, BadRecord> {
        self.numbers.next().copied().ok_or(BadRecord::Broken)
    }

    fn count(&mut self) -> Result<u64, BadRecord> {
        u64::try_from(self.number()?).map_err(|_| BadRecord::Broken)
    }

    fn small(&mut self) -> Result<u32, BadRecord> {
        u32::try_from(self.number()?).map_err(|_| BadRecord::Broken)
    }

    fn name(&mut self) -> Result<Name, BadRecord> {
        self.names.next().cloned().ok_or(BadRecord::Broken)
    }

    fn name_if(&mut self, is_there: bool) -> Result<Name, BadRecord> {
        if is_there { self.name() } else { Ok(Name::from("")) }
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, BadRecord>) -> Result<Vec<T>, BadRecord> {
        let count = self.count()?;
        // Each takes a number or a name at least: a count above what is left is broken.
        if count > (self.numbers.len() + self.names.len()) as u64 {
            return Err(BadRecord::Broken);
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn history(&mut self) -> Result<History, BadRecord> {
        Ok(History {
            age_ms: self.number()?,
            calls: self.count()?,
            cost: Usd::from_nanos(self.number()?),
            tokens: self.count()?,
            running: self.small()?,
            window_ms: self.number()?,
            repeats: self.small()?,
            tool_repeats: self.small()?,
            stretch: self.small()?,
            distinct: self.small()?,
            path_calls: self.small()?,
            repeats_cost: Usd::from_nanos(self.number()?),
            first_cost: Usd::from_nanos(self.number()?),
            last_cost: Usd::from_nanos(self.number()?),
        })
    }

    fn original(&mut self) -> Result<(Original, Name), BadRecord> {
        let what = match self.number()? {
            Original::TAG => Original::Tag(self.name()?),
            place => usize::try_from(place)
                .ok()
                .and_then(|place| Original::PLAIN.get(place).cloned())
                .ok_or(BadRecord::Broken)?,
        };
        Ok((what, self.name()?))
    }

    fn asked(&mut self) -> Result<Asked, BadRecord> {
        let head = self.number()?;
        let phase = if head & 1 == 1 { Phase::Request } else { Phase::Tenant };
        let model = (head >> 2 & 1 == 1).then(|| self.name()).transpose()?;
        let estimate = match head >> 3 & 1 {
            0 => CostEstimate::default(),
            _ => CostEstimate {
                input_tokens: self.count()?,
                output_tokens: self.count()?,
                usd: Usd::from_nanos(self.number()?),
                output_usd: Usd::from_nanos(self.number()?),
            },
        };
        let count = usize::try_from(head >> 4).map_err(|_| BadRecord::Broken)?;
        if count > self.numbers.len() {
            return Err(BadRecord::Broken);
        }
        Ok(Asked {
            phase,
            model,
            estimate,
            priced: head >> 1 & 1 == 1,
            reads: (0..count).map(|_| self.read()).collect::<Result<_, _>>()?,
        })
    }

    fn read(&mut self) -> Result<Read, BadRecord> {
        let (account, bits) = self.account()?;
        let window = bits >> 2;
        Ok(Read {
            account,
            window: if window == 0 {
                None
            } else {
                Some(pick(&Window::ALL, window - 1)?)
            },
            unit: pick(&Unit::ALL, bits & 3)?,
            value: self.number()?,
        })
    }

    fn account(&mut self) -> Result<(Name, i64), BadRecord> {
        let head = self.number()?;
        let account = match head & 15 {
            ACCOUNT_NAMED => self.name()?,
            ACCOUNT_GLOBAL => Name::from("global"),
            own => {
                let (own, word) = pick(&Own::ALL, own - ACCOUNT_OWN)?;
                Name::from(format!("{word}:{}", own_name(own, self.facts)))
            }
        };
        Ok((account, head >> 4))
    }

    fn refused(&mut self) -> Result<RefusedBy, BadRecord> {
        let kind = self.number()?;
        let policy = self.name()?;
        Ok(match kind {
            0 => RefusedBy::Policy(policy),
            1 => {
                let zone = self.name()?;
                let (account, bits) = self.account()?;
                RefusedBy::Budget {
                    policy,
                    bound: HeldBound {
                        account,
                        window: pick(&Window::ALL, bits >> 3)?,
                        zone,
                        unit: pick(&Unit::ALL, bits >> 1 & 3)?,
                        mode: if bits & 1 == 0 { Mode::Hard } else { Mode::Watch },
                        limit: self.number()?,
                        start_s: self.number()?,
                        end_s: self.number()?,
                    },
                    posted: self.number()?,
                    held: self.number()?,
                    requested: self.number()?,
                    is_held: self.number()? == 1,
                }
            }
            2 => {
                let (account, bits) = self.account()?;
                RefusedBy::Rate {
                    policy,
                    account,
                    per: pick(&Per::ALL, bits >> 2)?,
                    unit: pick(&Unit::ALL, bits & 3)?,
                    limit: self.count()?,
                    wait_ms: self.number()?,
                }
            }
            3 => RefusedBy::Parallel {
                policy,
                account: self.account()?.0,
                limit: self.count()?,
            },
            _ => return Err(BadRecord::Broken),
        })
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
