//! The ledger of a simulation, in memory alone, as policies see it.

use std::sync::Arc;

use agentledger_ledger::{AccountBalances, Books, Name, Window, Zone};
use parking_lot::Mutex;

use super::keys::KeyKnowledge;
use crate::policy::{Balances, KeyQuestion};

/// The books of a simulation, and what is known of the key of the call at hand.
#[derive(Default)]
pub struct World {
    pub books: Mutex<Books>,
    pub keys: Arc<Mutex<KeyKnowledge>>,
    at: Mutex<Moment>,
}

#[derive(Default)]
struct Moment {
    now_ms: i64,
    key: Name,
    /// What could not be answered of the key.
    undecided: Option<String>,
}

impl World {
    pub fn new(books: Books, keys: &Arc<Mutex<KeyKnowledge>>) -> World {
        World {
            books: Mutex::new(books),
            keys: Arc::clone(keys),
            at: Mutex::default(),
        }
    }

    /// The next call: when it is decided, and whose key it bears.
    pub fn turn_to(&self, now_ms: i64, key: &Name) {
        *self.at.lock() = Moment {
            now_ms,
            key: Name::clone(key),
            undecided: None,
        };
    }

    pub fn undecided(&self) -> Option<String> {
        self.at.lock().undecided.take()
    }
}

impl Balances for World {
    fn read(&self, accounts: &[Name], zone: &Zone) -> Vec<AccountBalances> {
        let (books, now_ms) = (self.books.lock(), self.at.lock().now_ms);
        let of = |account: &Name| AccountBalances {
            posted: Window::ALL.map(|window| books.spent_in(now_ms, account, window, zone)),
            held: books.held(account),
        };
        accounts.iter().map(of).collect()
    }

    fn recorded_key(&self, question: KeyQuestion<'_>) -> Option<Result<Option<u32>, String>> {
        let mut at = self.at.lock();
        let answer = self.keys.lock().answer(&at.key, question);
        if let Err(why) = &answer {
            at.undecided.get_or_insert_with(|| why.clone());
        }
        Some(answer)
    }
}
