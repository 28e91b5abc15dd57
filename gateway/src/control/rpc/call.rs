//! One call of a method: who calls, by what right, and how what it changed is recorded.

use std::sync::Arc;

use agentledger_ledger::{Answered, Change, Ledger, LedgerError, Name};
use serde::Serialize;
use serde_json::Value;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::ledger_view::{LedgerView, on_disk};

/// What a caller may do. The order is from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees.
    Read,
    /// Also steers what runs: holds, sessions, breakers, blocks.
    Operate,
    /// Also changes rules, prices and the books.
    Admin,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's name; `owner` for the control socket's owner.
    pub name: Name,
    pub role: Role,
    /// The only tenant that it sees and changes.
    pub tenant: Option<Name>,
    /// Where it comes from: an address, `socket`, or `files` where no gateway runs.
    pub peer: Name,
}

impl Caller {
    /// The owner of the control socket, or of the ledger's files.
    pub fn owner() -> Caller {
        Caller {
            name: "owner".into(),
            role: Role::Admin,
            tenant: None,
            peer: "socket".into(),
        }
    }

    /// Whether what is this tenant's is its business.
    pub fn sees(&self, tenant: &str) -> bool {
        self.tenant.as_ref().is_none_or(|own| **own == *tenant)
    }

    /// The tenant to look at: what was requested, narrowed to the caller's own.
    pub fn tenant_of(&self, requested: &str) -> Result<Option<Name>, RpcError> {
        match &self.tenant {
            Some(own) if requested.is_empty() || requested == &**own => Ok(Some(own.clone())),
            Some(_) => Err(RpcError::OtherTenant),
            None => Ok((!requested.is_empty()).then(|| requested.into())),
        }
    }
}

/// A call of a method.
#[derive(Clone, Debug)]
pub struct Call {
    pub caller: Caller,
    pub method: &'static str,
    /// The request's own id, where it bears one, and the digest of what was requested.
    pub request: Option<(Name, [u8; 32])>,
}

/// What a call changed, as the journal records it.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    pub subject: String,
    pub tenant: Name,
    pub note: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// `after` is in force until the next change of the subject.
    pub kept: bool,
    /// See [`Change::min_version`].
    pub min_version: u64,
}

impl Call {
    /// Records a change with the answer that will be given, and waits until it is on disk: whoever repeats the request gets the
    /// same answer. The id is that which `answer` names, where it names one.
    pub fn commit<R: Serialize>(
        &self,
        ledger: &LedgerView,
        id: Ulid,
        changed: Changed,
        answer: &R,
    ) -> Result<(), RpcError> {
        let sequence = self.enter(ledger, id, &[changed], answer)?;
        on_disk(ledger.live()?, sequence)
    }

    /// Enters the parts of one change, all or none of them, with the answer that will be given. They are decided with this call;
    /// `on_disk` waits until they are kept. The sequence to wait for.
    pub fn enter<R: Serialize>(
        &self,
        ledger: &LedgerView,
        id: Ulid,
        parts: &[Changed],
        answer: &R,
    ) -> Result<u64, RpcError> {
        let ledger = ledger.live()?;
        let at_ms = ledger.decision_ms();
        let bare = parts.iter().map(|part| Change {
            id,
            ..self.bare(at_ms, part)
        });
        let mut changes: Vec<Change> = bare.collect();
        if let Some(last) = changes.last_mut() {
            last.request = self.answered(answer)?;
        }
        ledger.change_together(changes).map_err(RpcError::ledger)
    }

    /// Does something in the ledger that is a change, too: both stand in one record, so that a crash leaves both or none. `act`
    /// is given what makes the change of the act's own sequence, of which `answer` makes the answer. Waits until it is on
    /// disk.
    pub fn act<R: Serialize>(
        &self,
        ledger: &Ledger,
        changed: &Changed,
        answer: impl Fn(u64) -> R,
        act: impl FnOnce(&mut dyn FnMut(u64) -> Change) -> Result<u64, LedgerError>,
    ) -> Result<R, RpcError> {
        let mut answered = None;
        let at_ms = ledger.decision_ms();
        let mut make = |sequence| {
            let result = answer(sequence);
            // Answers are plain rows, which serialise.
            let change = self
                .change(at_ms, Ulid::new(), changed, &result)
                .unwrap_or_else(|_| self.bare(at_ms, changed));
            answered = Some(result);
            change
        };
        let sequence = act(&mut make).map_err(|error| match error {
            LedgerError::NoSuchEntry(_) | LedgerError::NoSuchHold(_) => RpcError::NotFound(error.to_string()),
            error => RpcError::ledger(error),
        })?;
        on_disk(ledger, sequence)?;
        answered.ok_or_else(|| RpcError::LedgerFailed("nothing was recorded".to_owned()))
    }

    fn change<R: Serialize>(&self, at_ms: i64, id: Ulid, changed: &Changed, answer: &R) -> Result<Change, RpcError> {
        Ok(Change {
            id,
            request: self.answered(answer)?,
            ..self.bare(at_ms, changed)
        })
    }

    fn answered<R: Serialize>(&self, answer: &R) -> Result<Option<Answered>, RpcError> {
        let answer: Arc<str> = serde_json::to_string(answer).map_err(RpcError::ledger)?.into();
        Ok(self.request.as_ref().map(|(id, digest)| Answered {
            id: id.clone(),
            digest: *digest,
            answer,
        }))
    }

    /// Without an answer to be repeated.
    fn bare(&self, at_ms: i64, changed: &Changed) -> Change {
        let text = |value: &Value| -> Arc<str> { value.to_string().into() };
        Change {
            id: Ulid::new(),
            at_ms,
            author: self.caller.name.clone(),
            peer: self.caller.peer.clone(),
            action: self.method.into(),
            subject: changed.subject.as_str().into(),
            tenant: changed.tenant.clone(),
            note: changed.note.as_str().into(),
            before: changed.before.as_ref().map(text),
            after: changed.after.as_ref().map(text),
            kept: changed.kept,
            min_version: changed.min_version,
            request: None,
        }
    }
}
