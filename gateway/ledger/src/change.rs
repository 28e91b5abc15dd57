//! What operators change while the gateway runs: every change is an event of the journal with who made it, when, from where,
//! and what was there before and after. Some changes keep a document (a rule, a price, a switched-off provider), which is in
//! force until another change of the same subject; the documents of all changes so far are [`Documents`].

use std::collections::BTreeMap;
use std::sync::Arc;

use ulid::Ulid;

use crate::entry::Name;

/// Answers to requests that are remembered, so that a request that is repeated gets its answer and changes nothing.
const ANSWERS_MAX: usize = 10_000;

/// One change. `before` and `after` are JSON; `None` where there was nothing, or nothing is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub id: Ulid,
    /// When it was decided, milliseconds since the epoch.
    pub at_ms: i64,
    /// The name of the token that made it, `owner` for the control socket's owner, `agentledger` for the gateway itself.
    pub author: Name,
    /// Where it came from: an address, or `socket`.
    pub peer: Name,
    /// The method: `rule.put`, `session.kill`.
    pub action: Name,
    /// What was changed: `rule:01J…`, `session:acme/s-1`, `hold:17`.
    pub subject: Name,
    /// The tenant whose matter it is; empty for everybody's.
    pub tenant: Name,
    /// Why, in the author's words.
    pub note: Name,
    pub before: Option<Arc<str>>,
    pub after: Option<Arc<str>>,
    /// `after` is in force from now on, until the next change of its subject; without one nothing is.
    pub kept: bool,
    /// The request that it answers, where its sender named it.
    pub request: Option<Answered>,
}

/// The request that made a change, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// As the sender named it.
    pub id: Name,
    /// Of the sender's name, the method and the parameters: the same id for something else is refused.
    pub digest: [u8; 32],
    /// JSON, as it was sent.
    pub answer: Arc<str>,
}

/// What a change keeps in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub subject: Name,
    /// JSON.
    pub value: Arc<str>,
    /// 1 when it was made, one more with each change.
    pub version: u64,
    /// The change that made it what it is.
    pub change: Ulid,
    pub at_ms: i64,
    pub author: Name,
    pub tenant: Name,
    pub note: Name,
}

/// The documents in force, and the answers to the latest requests: what all changes so far make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    by_subject: BTreeMap<Name, Document>,
    /// Oldest first.
    answers: Vec<(Name, Answered)>,
}

impl Documents {
    pub fn apply(&mut self, change: &Change) {
        if change.kept {
            match &change.after {
                None => {
                    self.by_subject.remove(&change.subject);
                }
                Some(value) => {
                    let version = self.by_subject.get(&change.subject).map_or(0, |known| known.version);
                    let document = Document {
                        subject: change.subject.clone(),
                        value: Arc::clone(value),
                        version: version.saturating_add(1),
                        change: change.id,
                        at_ms: change.at_ms,
                        author: change.author.clone(),
                        tenant: change.tenant.clone(),
                        note: change.note.clone(),
                    };
                    self.by_subject.insert(change.subject.clone(), document);
                }
            }
        }
        if let Some(answered) = &change.request {
            if self.answers.len() >= ANSWERS_MAX {
                self.answers.remove(0);
            }
            self.answers.push((change.author.clone(), answered.clone()));
        }
    }

    pub fn get(&self, subject: &str) -> Option<&Document> {
        self.by_subject.get(subject)
    }

    /// Those whose subjects begin so, in the order of their subjects.
    pub fn of(&self, prefix: &str) -> Vec<Document> {
        let from = self.by_subject.range(Name::from(prefix)..);
        from.take_while(|(subject, _)| subject.starts_with(prefix))
            .map(|(_, document)| document.clone())
            .collect()
    }

    /// The answer to a request of this author.
    pub fn answer(&self, author: &str, request: &str) -> Option<&Answered> {
        let mut answers = self.answers.iter().rev();
        answers
            .find(|(by, answered)| &**by == author && &*answered.id == request)
            .map(|(_, answered)| answered)
    }
}

/// Which changes are wanted, latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeQuery {
    /// Milliseconds since the epoch, `to_ms` excluded.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Only subjects that begin so; empty is all.
    pub subject: String,
    /// Only actions that begin so; empty is all.
    pub action: String,
    pub author: Option<Name>,
    /// Only this tenant's.
    pub tenant: Option<Name>,
    pub limit: usize,
    /// Only changes before this event: the page before's `next`.
    pub before_sequence: Option<u64>,
}

/// Changes with the sequences of their events, latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangePage {
    pub changes: Vec<(u64, Arc<Change>)>,
    /// Where the next page goes on; `None` after the last one.
    pub next: Option<u64>,
}
