//! Tokens that a gateway gives out while it runs, for a while: so that somebody who may do everything can open the dashboard without
//! writing a token into the configuration. They end with the gateway, with their time, and with the token that they were got by.

use parking_lot::Mutex;

use crate::control::rpc::call::{Caller, Role};

/// As many as there may be; the oldest goes.
const TOKENS_MAX: usize = 64;

/// What a token stands for.
#[derive(Clone)]
pub(in crate::control) struct Issued {
    /// Of the token: it is kept by nobody but who got it.
    hash: [u8; 32],
    /// Who got it: what is done with it is done by them.
    pub by: Caller,
    pub role: Role,
    pub expires_ms: i64,
}

#[derive(Default)]
pub struct IssuedTokens(Mutex<Vec<Issued>>);

impl IssuedTokens {
    /// Keeps what a token stands for.
    pub(in crate::control) fn keep(&self, token: &str, by: &Caller, role: Role, expires_ms: i64) {
        let mut tokens = self.0.lock();
        if tokens.len() >= TOKENS_MAX {
            tokens.remove(0);
        }
        tokens.push(Issued {
            hash: *blake3::hash(token.as_bytes()).as_bytes(),
            by: by.clone(),
            role,
            expires_ms,
        });
    }

    pub(in crate::control) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// All hashes are compared, in constant time: a token's place does not show.
    pub(in crate::control) fn find(&self, given: blake3::Hash) -> Option<Issued> {
        let mut found = None;
        for token in self.0.lock().iter() {
            if blake3::Hash::from_bytes(token.hash) == given {
                found = Some(token.clone());
            }
        }
        found
    }
}
