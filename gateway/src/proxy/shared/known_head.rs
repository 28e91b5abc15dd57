//! Heads that came before, and what was made of each: where it leads, who sends it, and what of it goes on. An agent's client says the
//! same in every head of a conversation but for the length of its body, and a fleet behind one proxy does so on any of its connections.
//! Reading a head, finding its route and its sender and writing it anew take a fifth of a request's instructions, and code that nothing
//! else runs.
//!
//! What is kept is a pure function of the head and of the rules: no time, no balance, nothing that another request could change. Of a
//! head that is refused nothing is kept but how it reads, so that it is refused by the same steps each time. Each thread remembers by itself, within [`ROOM`],
//! whatever clients send; new rules empty it. Heads have keys in them: they stay in memory as long as they are in use, and nowhere else.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock, Weak};

use agentledger_http1::{HeadError, RequestHead, key_of, may_come_again, request_head};
use bytes::Bytes;
use http::Method;
use pingora::http::RequestHeader;

use crate::plugin::Recall;
use crate::proxy::shared::http_session::{PassedHead, ServerSession};
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::rules::Rules;
use crate::recent::{Recent, Room};

/// For each thread and generation.
const ROOM: Room = Room {
    entries: 1_024,
    bytes: 4 << 20,
    entry_bytes: 32 << 10,
};
/// What is made of a head takes about so many times its bytes, and as many bytes besides.
const TIMES: usize = 5;
const BESIDES: usize = 2 << 10;

/// A head, and what was made of it so far.
pub struct KnownHead {
    head: RequestHead,
    entrance: OnceLock<Entrance>,
}

/// What the first steps make of a head.
pub struct Entrance {
    rules: Weak<Rules>,
    /// As it goes on: the path in its one spelling, and without what is not to go on.
    header: Arc<RequestHeader>,
    pub target: Target,
    pub identity: Identity,
    passed: OnceLock<PassedHead>,
}

impl KnownHead {
    /// What was made of it by these rules.
    pub fn entrance(&self, rules: &Arc<Rules>) -> Option<&Entrance> {
        let entrance = self.entrance.get()?;
        std::ptr::eq(entrance.rules.as_ptr(), Arc::as_ptr(rules)).then_some(entrance)
    }

    /// Puts what these rules made of it in the place of a request's head. `false`: nothing yet.
    pub fn enter_again(&self, rules: &Arc<Rules>, session: &mut ServerSession) -> bool {
        let entrance = self.entrance(rules);
        if let Some(entrance) = entrance {
            session.set_header(Arc::clone(&entrance.header));
        }
        entrance.is_some()
    }

    /// Keeps what these rules made of it. What other rules made of it stays, and is of no use to these.
    pub fn enter(&self, rules: &Arc<Rules>, session: &ServerSession, target: &Target, identity: &Identity) {
        let Some(header) = session.shared_header() else { return };
        let _ = self.entrance.set(Entrance {
            rules: Arc::downgrade(rules),
            header,
            target: target.clone(),
            identity: identity.clone(),
            passed: OnceLock::new(),
        });
    }
}

impl Entrance {
    /// The head as it goes upstream, which depends on nothing else.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn passed<E>(&self, make: impl FnOnce() -> Result<RequestHeader, E>) -> Result<PassedHead, E> {
        if let Some(passed) = self.passed.get() {
            return Ok(passed.clone());
        }
        let made = PassedHead::of(make()?);
        Ok(self.passed.get_or_init(|| made).clone())
    }
}

struct Known {
    /// What is kept was made by these.
    rules: Weak<Rules>,
    heads: Recent<Box<[u8]>, Arc<KnownHead>>,
    /// Room for a key, kept for the next one.
    key: Vec<u8>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known {
        rules: Weak::new(),
        heads: Recent::new(ROOM),
        key: Vec::new(),
    });
}

/// A head, what is known of such, and where that came from.
pub type Read = (RequestHead, Option<Arc<KnownHead>>, Recall);

/// Reads a head, or finds it among those that came before.
///
/// # Errors
/// It is none.
pub fn read_head(bytes: &Bytes, rules: &Arc<Rules>) -> Result<Read, HeadError> {
    KNOWN.with_borrow_mut(|known| known.read(bytes, rules))
}

impl Known {
    fn read(&mut self, bytes: &Bytes, rules: &Arc<Rules>) -> Result<Read, HeadError> {
        if !std::ptr::eq(self.rules.as_ptr(), Arc::as_ptr(rules)) {
            self.rules = Arc::downgrade(rules);
            self.heads = Recent::new(ROOM);
        }
        let length = key_of(bytes, &mut self.key);
        if let Some(length) = length
            && let Some(known) = self.heads.get(self.key.as_slice())
        {
            let head = RequestHead {
                body: length,
                ..known.head.clone()
            };
            return Ok((head, Some(known), Recall::Hit));
        }
        let head = request_head(bytes)?;
        let is_kept = length.is_some() && head.header.method == Method::POST && may_come_again(&head);
        if !is_kept {
            return Ok((head, None, Recall::Unkept));
        }
        let known = Arc::new(KnownHead {
            head: head.clone(),
            entrance: OnceLock::new(),
        });
        let size = self.key.len() * TIMES + BESIDES;
        let is_kept = self.heads.put(self.key.as_slice().into(), Arc::clone(&known), size);
        Ok(match is_kept {
            true => (head, Some(known), Recall::Miss),
            false => (head, None, Recall::Unkept),
        })
    }
}
