//! What policies may read of the ledger: how accounts stand, as of one moment.
//!
//! An account is read whole when it is first asked for, and stays as it was read all through the evaluation: `spent + held`
//! neither misses nor doubles an exchange that settles between the two. Policies ask for the same accounts call after call,
//! so the first reading of an evaluation takes along what the one before asked for: they are of one moment, too.

use std::sync::Arc;

use agentledger_ledger::{AccountBalances, Name, Unit, Window, Zone};

use super::question::KeyQuestion;
use super::verdict::{EvaluationReads, Read};

/// Values of balances that one evaluation may read; beyond that the policy failed.
pub(super) const READS_MAX: usize = 64;

/// How accounts stand.
pub trait Balances: Send + Sync {
    /// Of one moment, in the order of the accounts. The windows are those that run now, in `zone`.
    fn read(&self, accounts: &[Name], zone: &Zone) -> Vec<AccountBalances>;

    /// What a replay has recorded of a balance, in place of what stands in the books; an error says why it has nothing.
    /// `None`: the books are read.
    fn recorded(&self, _account: &Name, _window: Option<Window>, _unit: Unit) -> Option<Result<i64, String>> {
        None
    }

    /// What a replay has recorded of the raw key. `None`: the key is there, and is looked at.
    fn recorded_key(&self, _question: KeyQuestion<'_>) -> Option<Result<Option<u32>, String>> {
        None
    }
}

/// Balances of which nothing is known: everything reads as 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBalances;

impl Balances for NoBalances {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        vec![AccountBalances::default(); accounts.len()]
    }
}

/// What one evaluation has read.
#[derive(Default)]
pub(super) struct Reads {
    /// `None` outside of an evaluation.
    balances: Option<Arc<dyn Balances>>,
    known: Vec<(Name, AccountBalances)>,
    values: Vec<Read>,
    /// Answers to questions about the raw key, as a place from 1; 0 for none.
    keys: Vec<u32>,
    /// The accounts as policies named them, in this evaluation and in the one before.
    named: Vec<Box<str>>,
    named_before: Vec<Box<str>>,
}

impl Reads {
    pub fn open(&mut self, balances: &Arc<dyn Balances>) {
        self.close();
        self.balances = Some(Arc::clone(balances));
    }

    /// Ends the evaluation; what was read.
    pub fn close(&mut self) -> EvaluationReads {
        self.balances = None;
        self.known.clear();
        if !self.named.is_empty() {
            std::mem::swap(&mut self.named, &mut self.named_before);
            self.named.clear();
        }
        EvaluationReads {
            balances: std::mem::take(&mut self.values),
            keys: std::mem::take(&mut self.keys),
        }
    }

    /// How much was read so far.
    pub fn count(&self) -> (usize, usize) {
        (self.values.len(), self.keys.len())
    }

    /// Takes out of the record what was read since: by a version that runs beside what decides, which a replay does not run. The
    /// accounts stay known, so that whoever reads them next gets the same values.
    pub fn forget_since(&mut self, (values, keys): (usize, usize)) {
        self.values.truncate(values);
        self.keys.truncate(keys);
    }

    pub fn is_open(&self) -> bool {
        self.balances.is_some()
    }

    pub fn is_full(&self) -> bool {
        self.values.len() >= READS_MAX
    }

    /// The value that was read before.
    pub fn value(&self, account: &Name, window: Option<Window>, unit: Unit) -> Option<i64> {
        let same = |read: &&Read| read.window == window && read.unit == unit && read.account == *account;
        self.values.iter().find(same).map(|read| read.value)
    }

    pub fn recorded(&self, account: &Name, window: Option<Window>, unit: Unit) -> Option<Result<i64, String>> {
        self.balances.as_ref()?.recorded(account, window, unit)
    }

    pub fn recorded_key(&self, question: KeyQuestion<'_>) -> Option<Result<Option<u32>, String>> {
        self.balances.as_ref()?.recorded_key(question)
    }

    pub fn take_recorded(&mut self, account: Name, window: Option<Window>, unit: Unit, value: i64) {
        self.values.push(Read {
            account,
            window,
            unit,
            value,
        });
    }

    pub fn take_key(&mut self, answer: Option<u32>) {
        self.keys.push(answer.map_or(0, |place| place.saturating_add(1)));
    }

    /// Answers about the raw key that were taken after the first so many.
    pub fn keys_since(&self, count: usize) -> Vec<u32> {
        self.keys.get(count..).unwrap_or_default().to_vec()
    }

    pub fn take_keys(&mut self, answers: &[u32]) {
        self.keys.extend_from_slice(answers);
    }

    pub fn knows(&self, account: &Name) -> bool {
        self.known.iter().any(|(known, _)| known == account)
    }

    /// What the evaluation before asked for, where nothing has been read yet.
    pub fn expected(&self) -> Vec<Box<str>> {
        if self.known.is_empty() {
            self.named_before.clone()
        } else {
            Vec::new()
        }
    }

    /// Reads accounts that are not known yet.
    pub fn read(&mut self, accounts: Vec<Name>, zone: &Zone) {
        if let Some(balances) = &self.balances {
            let read = balances.read(&accounts, zone);
            self.known.extend(accounts.into_iter().zip(read));
        }
    }

    /// Takes a value of an account that is known, and remembers under which name it was asked for.
    pub fn take(&mut self, named: &str, account: Name, window: Option<Window>, unit: Unit) -> i64 {
        let known = self.known.iter().find(|(known, _)| *known == account);
        let balances = known.map_or_else(AccountBalances::default, |(_, balances)| *balances);
        let amounts = window.map_or(balances.held, |window| balances.posted(window));
        let value = amounts.get(unit);
        if !self.named.iter().any(|known| **known == *named) {
            self.named.push(named.into());
        }
        self.values.push(Read {
            account,
            window,
            unit,
            value,
        });
        value
    }
}
