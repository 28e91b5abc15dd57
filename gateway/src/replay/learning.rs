//! Learns of raw keys what recorded decisions say: each is evaluated once more under the policies that were in force, so that its
//! answers are known by the patterns they are about.

use std::sync::Arc;

use agentledger_ledger::{AccountBalances, Documents, Event, Facts, Name, Record, Unit, Window, Zone};
use parking_lot::Mutex;

use super::evaluate::{Evaluator, PastCall, RecordedAnswers};
use super::keys::KeyKnowledge;
use super::rules::KnownRules;
use crate::policy::record::DecisionRecord;
use crate::policy::{Balances, KeyQuestion, Phase};

/// What is learned from, beside a simulation.
pub struct Learning {
    rules: KnownRules,
    evaluator: Evaluator,
    listener: Arc<Listener>,
    balances: Arc<dyn Balances>,
}

/// Gives the recorded answers, and notes what they were about.
struct Listener {
    answers: RecordedAnswers,
    key: Mutex<Name>,
    keys: Arc<Mutex<KeyKnowledge>>,
}

impl Balances for Listener {
    fn read(&self, accounts: &[Name], zone: &Zone) -> Vec<AccountBalances> {
        self.answers.read(accounts, zone)
    }

    fn recorded(&self, account: &Name, window: Option<Window>, unit: Unit) -> Option<Result<i64, String>> {
        self.answers.recorded(account, window, unit)
    }

    fn recorded_key(&self, question: KeyQuestion<'_>) -> Option<Result<Option<u32>, String>> {
        let answer = self.answers.recorded_key(question);
        if let Some(Ok(answer)) = &answer {
            self.keys.lock().learn(&self.key.lock(), question, *answer);
        }
        answer
    }
}

impl Learning {
    pub fn new(keys: &Arc<Mutex<KeyKnowledge>>) -> Learning {
        let listener = Arc::new(Listener {
            answers: RecordedAnswers::default(),
            key: Mutex::new(Name::from("")),
            keys: Arc::clone(keys),
        });
        Learning {
            rules: KnownRules::new(None),
            evaluator: Evaluator::new(),
            balances: Arc::clone(&listener) as Arc<dyn Balances>,
            listener,
        }
    }

    pub fn open(&mut self, documents: &Documents) {
        self.rules.open(documents);
    }

    pub fn take(&mut self, sequence: u64, event: &Event) {
        match event {
            Event::Changed(change) => self.rules.change(change),
            Event::InForce(in_force) => self.rules.see(sequence, in_force),
            Event::Held(held) => held.record.iter().for_each(|record| self.learn(&held.facts, record)),
            Event::Refused(refused) => self.learn(&refused.facts, &refused.record),
            _ => {}
        }
    }

    /// What cannot be evaluated teaches nothing.
    fn learn(&self, facts: &Facts, record: &Record) {
        let Ok(record) = DecisionRecord::read(record, facts) else {
            return;
        };
        let (rules, answers) = (record.rules, record.keys.len());
        if !self.listener.keys.lock().would_learn(&facts.key, rules, answers) {
            return;
        }
        let Ok(set) = self.rules.get(rules) else { return };
        *self.listener.key.lock() = Name::clone(&facts.key);
        self.listener.answers.set(&[], Some(&record.keys));
        let mut call = PastCall::new(facts, &record);
        for asked in &record.asked {
            self.listener.answers.set(&asked.reads, None);
            let Ok(verdict) = self.evaluator.ask(set, &call, asked, &self.balances) else {
                break;
            };
            call.tag(&verdict.tags);
            if asked.phase == Phase::Tenant {
                call.bind(&verdict.binding);
            }
        }
        self.listener.keys.lock().learned(&facts.key, rules, answers);
    }
}
