//! The layout of a [`DecisionRecord`](super::record::DecisionRecord) in the journal: numbers and names, one after the other. What is
//! small, repeats, or is as usual takes a byte or none.

use agentledger_ledger::{Facts, HeldBound, Mode, Name, Record, Unit, Usd, Window};

use super::account::Own;
use super::engine::Cause;
use super::facts::CostEstimate;
use super::history::History;
use super::record::{Asked, BadRecord, Original, RefusedBy};
use super::set::Phase;
use super::verdict::Read;
use crate::rates::Per;

/// The window of the shipped conf, which is not written out.
const USUAL_WINDOW_MS: i64 = 300_000;

/// Numbers of a history: most calls have the first, and few the last.
type HistoryNumbers = [i64; 14];

fn numbers_of(history: &History) -> HistoryNumbers {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    [
        history.age_ms,
        count(history.calls),
        history.cost.nanos(),
        count(history.tokens),
        i64::from(history.path_calls),
        i64::from(history.distinct),
        i64::from(history.running),
        i64::from(history.repeats),
        i64::from(history.tool_repeats),
        i64::from(history.stretch),
        history.repeats_cost.nanos(),
        history.first_cost.nanos(),
        history.last_cost.nanos(),
        history.window_ms.saturating_sub(USUAL_WINDOW_MS),
    ]
}

fn history_of(numbers: &HistoryNumbers) -> Result<History, BadRecord> {
    let [
        age_ms,
        calls,
        cost,
        tokens,
        path_calls,
        distinct,
        running,
        repeats,
        tool_repeats,
        stretch,
        repeats_cost,
        first_cost,
        last_cost,
        window,
    ] = *numbers;
    let count = |number: i64| u64::try_from(number).map_err(|_| BadRecord::Broken);
    let small = |number: i64| u32::try_from(number).map_err(|_| BadRecord::Broken);
    Ok(History {
        age_ms,
        calls: count(calls)?,
        cost: Usd::from_nanos(cost),
        tokens: count(tokens)?,
        running: small(running)?,
        window_ms: window.saturating_add(USUAL_WINDOW_MS),
        repeats: small(repeats)?,
        tool_repeats: small(tool_repeats)?,
        stretch: small(stretch)?,
        distinct: small(distinct)?,
        path_calls: small(path_calls)?,
        repeats_cost: Usd::from_nanos(repeats_cost),
        first_cost: Usd::from_nanos(first_cost),
        last_cost: Usd::from_nanos(last_cost),
    })
}

/// The order in which the first layout had them, by their places here.
const FIRST_LAYOUT: [usize; 14] = [0, 1, 2, 3, 6, 13, 7, 8, 9, 5, 4, 10, 11, 12];

pub(super) struct RecordWriter<'a> {
    record: Record,
    facts: &'a Facts,
    /// The output limit that the request named: estimates mostly repeat it.
    max_output: Option<u64>,
}

/// How an account stands in a record: by a name, as `global`, or as one of the call's own.
const ACCOUNT_NAMED: i64 = 0;
const ACCOUNT_GLOBAL: i64 = 1;
const ACCOUNT_OWN: i64 = 2;

impl<'a> RecordWriter<'a> {
    pub fn new(facts: &'a Facts, max_output: Option<u64>) -> RecordWriter<'a> {
        RecordWriter {
            record: Record {
                numbers: Vec::with_capacity(48),
                names: Vec::with_capacity(4),
            },
            facts,
            max_output,
        }
    }

    pub fn finish(self) -> Record {
        self.record
    }

    pub fn numbers<const N: usize>(&mut self, numbers: [i64; N]) {
        self.record.numbers.extend(numbers);
    }

    pub fn count(&mut self, count: u64) {
        self.record.numbers.push(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn name(&mut self, name: &Name) {
        self.record.names.push(Name::clone(name));
    }

    pub fn original(&mut self, what: &Original, was: &Name) {
        match Original::PLAIN.iter().position(|plain| plain == what) {
            Some(place) => self.count(place as u64),
            None => self.numbers([Original::TAG]),
        }
        if let Original::Tag(tag) = what {
            self.name(tag);
        }
        self.name(was);
    }

    /// Which of its numbers are not zero, and those.
    pub fn history(&mut self, history: &History) {
        let numbers = numbers_of(history);
        let bit = |(at, number): (usize, &i64)| i64::from(*number != 0) << at;
        self.numbers([numbers.iter().enumerate().map(bit).sum::<i64>()]);
        let said = numbers.iter().filter(|number| **number != 0);
        self.record.numbers.extend(said);
    }

    pub fn asked(&mut self, asked: &Asked) {
        let has_estimate = asked.estimate != CostEstimate::default();
        let phase = i64::from(asked.phase == Phase::Request);
        let is_as_named = has_estimate && self.max_output == Some(asked.estimate.output_tokens);
        self.numbers([phase
            | i64::from(asked.priced) << 1
            | i64::from(asked.model.is_some()) << 2
            | i64::from(has_estimate) << 3
            | i64::from(is_as_named) << 4
            | i64::try_from(asked.reads.len()).unwrap_or_default() << 5]);
        asked.model.iter().for_each(|model| self.name(model));
        if has_estimate {
            let estimate = &asked.estimate;
            self.count(estimate.input_tokens);
            if !is_as_named {
                self.count(estimate.output_tokens);
            }
            let (usd, output) = (estimate.usd.nanos(), estimate.output_usd.nanos());
            self.numbers([usd.saturating_sub(output), output]);
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

    pub fn refused(&mut self, refused: &RefusedBy) {
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
            RefusedBy::Failed { policy, cause } => {
                self.numbers([4]);
                self.name(policy);
                self.numbers([*cause as i64]);
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

pub(super) struct RecordReader<'a> {
    numbers: std::slice::Iter<'a, i64>,
    names: std::slice::Iter<'a, Name>,
    facts: &'a Facts,
    pub layout: i64,
    pub max_output: Option<u64>,
}

/// One of a fixed list, by its place.
fn pick<T: Copy>(all: &[T], place: i64) -> Result<T, BadRecord> {
    let place = usize::try_from(place).map_err(|_| BadRecord::Broken)?;
    all.get(place).copied().ok_or(BadRecord::Broken)
}

impl<'a> RecordReader<'a> {
    pub fn new(record: &'a Record, facts: &'a Facts) -> RecordReader<'a> {
        RecordReader {
            numbers: record.numbers.iter(),
            names: record.names.iter(),
            facts,
            layout: 0,
            max_output: None,
        }
    }

    pub fn number(&mut self) -> Result<i64, BadRecord> {
        self.numbers.next().copied().ok_or(BadRecord::Broken)
    }

    pub fn count(&mut self) -> Result<u64, BadRecord> {
        u64::try_from(self.number()?).map_err(|_| BadRecord::Broken)
    }

    pub fn small(&mut self) -> Result<u32, BadRecord> {
        u32::try_from(self.number()?).map_err(|_| BadRecord::Broken)
    }

    pub fn name(&mut self) -> Result<Name, BadRecord> {
        self.names.next().cloned().ok_or(BadRecord::Broken)
    }

    pub fn name_if(&mut self, is_there: bool) -> Result<Name, BadRecord> {
        if is_there { self.name() } else { Ok(Name::from("")) }
    }

    pub fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, BadRecord>) -> Result<Vec<T>, BadRecord> {
        let count = self.count()?;
        // Each takes a number or a name at least: a count above what is left is broken.
        if count > (self.numbers.len() + self.names.len()) as u64 {
            return Err(BadRecord::Broken);
        }
        (0..count).map(|_| item(self)).collect()
    }

    pub fn history(&mut self) -> Result<History, BadRecord> {
        let mut numbers = HistoryNumbers::default();
        let mask = if self.layout == 1 { None } else { Some(self.number()?) };
        for place in 0..numbers.len() {
            let (to, is_said) = match mask {
                None => (FIRST_LAYOUT.get(place).copied().unwrap_or(place), true),
                Some(mask) => (place, mask >> place & 1 == 1),
            };
            if is_said && let Some(number) = numbers.get_mut(to) {
                *number = self.numbers.next().copied().ok_or(BadRecord::Broken)?;
            }
        }
        if self.layout == 1
            && let Some(window) = numbers.last_mut()
        {
            *window = window.saturating_sub(USUAL_WINDOW_MS);
        }
        history_of(&numbers)
    }

    pub fn original(&mut self) -> Result<(Original, Name), BadRecord> {
        let what = match self.number()? {
            Original::TAG => Original::Tag(self.name()?),
            place => usize::try_from(place)
                .ok()
                .and_then(|place| Original::PLAIN.get(place).cloned())
                .ok_or(BadRecord::Broken)?,
        };
        Ok((what, self.name()?))
    }

    pub fn asked(&mut self) -> Result<Asked, BadRecord> {
        let head = self.number()?;
        let is_first = self.layout == 1;
        let phase = if head & 1 == 1 { Phase::Request } else { Phase::Tenant };
        let model = (head >> 2 & 1 == 1).then(|| self.name()).transpose()?;
        let is_as_named = !is_first && head >> 4 & 1 == 1;
        let estimate = match head >> 3 & 1 {
            0 => CostEstimate::default(),
            _ => self.estimate(is_as_named)?,
        };
        let reads = head >> if is_first { 4 } else { 5 };
        let count = usize::try_from(reads).map_err(|_| BadRecord::Broken)?;
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

    fn estimate(&mut self, is_as_named: bool) -> Result<CostEstimate, BadRecord> {
        let input_tokens = self.count()?;
        let output_tokens = match self.max_output.filter(|_| is_as_named) {
            Some(named) => named,
            None => self.count()?,
        };
        let (usd, output) = (self.number()?, self.number()?);
        Ok(CostEstimate {
            input_tokens,
            output_tokens,
            usd: Usd::from_nanos(if self.layout == 1 {
                usd
            } else {
                usd.saturating_add(output)
            }),
            output_usd: Usd::from_nanos(output),
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

    pub fn refused(&mut self) -> Result<RefusedBy, BadRecord> {
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
            4 => RefusedBy::Failed {
                policy,
                cause: pick(&Cause::ALL, self.number()?)?,
            },
            _ => return Err(BadRecord::Broken),
        })
    }
}
