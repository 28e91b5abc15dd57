//! What operators change while the gateway runs: every change is an event of the journal with who made it, when, from where,
//! and what was there before and after. Some changes keep a document (a rule, a price, a switched-off provider), which is in
//! force until another change of the same subject; the documents of all changes so far are [`Documents`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use thiserror::Error;
use ulid::Ulid;

use crate::entry::Name;
use crate::map::Map;

/// Documents in force at a time, and the bytes of all their texts.
pub const DOCUMENTS_MAX: usize = 100_000;
pub const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// Bytes of one text of a change.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Answers to requests that are remembered, so that a request that is repeated gets its answer and changes nothing; past
/// either number the oldest are forgotten.
const ANSWERS_MAX: usize = 10_000;
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why a change cannot be entered. Nothing is in force of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    #[error("there are {DOCUMENTS_MAX} documents already: rules, prices and switches together")]
    Documents,
    #[error("all documents together may have {DOCUMENT_BYTES_MAX} bytes")]
    DocumentBytes,
    #[error("`{0}` of the change has more than {TEXT_BYTES_MAX} bytes")]
    Text(&'static str),
}

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
    /// The version that its document has at least. 0: one more than the document before, and 1 where there was none.
    pub min_version: u64,
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
    /// One more with each change.
    pub version: u64,
    /// The change that made it what it is.
    pub change: Ulid,
    pub at_ms: i64,
    pub author: Name,
    pub tenant: Name,
    pub note: Name,
}

impl Document {
    fn bytes(&self) -> usize {
        bytes_of([&self.subject, &self.value, &self.author, &self.tenant, &self.note])
    }
}

fn bytes_of<const N: usize>(texts: [&Arc<str>; N]) -> usize {
    texts.iter().map(|text| text.len()).sum()
}

impl Change {
    /// The texts of a change, by the names that an error gives them.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> {
        let all = [
            ("author", Some(&self.author)),
            ("peer", Some(&self.peer)),
            ("action", Some(&self.action)),
            ("subject", Some(&self.subject)),
            ("tenant", Some(&self.tenant)),
            ("note", Some(&self.note)),
            ("before", self.before.as_ref()),
            ("after", self.after.as_ref()),
            ("request_id", self.request.as_ref().map(|answered| &answered.id)),
            ("answer", self.request.as_ref().map(|answered| &answered.answer)),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text?)))
    }

    /// The document that it puts in force, at this version.
    fn document(&self, version: u64) -> Option<Document> {
        let value = self.after.as_ref().filter(|_| self.kept)?;
        Some(Document {
            subject: self.subject.clone(),
            value: Arc::clone(value),
            version,
            change: self.id,
            at_ms: self.at_ms,
            author: self.author.clone(),
            tenant: self.tenant.clone(),
            note: self.note.clone(),
        })
    }
}

/// The documents in force, and the answers to the latest requests: what all changes so far make.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    by_subject: BTreeMap<Name, Arc<Document>>,
    bytes: usize,
    answers: Answers,
}

impl PartialEq for Documents {
    fn eq(&self, other: &Documents) -> bool {
        self.by_subject == other.by_subject && self.answers.oldest_first == other.answers.oldest_first
    }
}

impl Documents {
    /// Whether a change fits.
    pub fn check(&self, change: &Change) -> Result<(), ChangeError> {
        self.check_all(std::slice::from_ref(change))
    }

    /// Whether changes fit together, each of a subject of its own.
    pub fn check_all(&self, changes: &[Change]) -> Result<(), ChangeError> {
        let (mut count, mut bytes) = (self.by_subject.len(), self.bytes);
        for change in changes {
            if let Some((name, _)) = change.texts().find(|(_, text)| text.len() > TEXT_BYTES_MAX) {
                return Err(ChangeError::Text(name));
            }
            let Some(document) = change.document(0) else {
                continue;
            };
            let known = self.by_subject.get(&change.subject);
            count += usize::from(known.is_none());
            bytes = bytes + document.bytes() - known.map_or(0, |known| known.bytes());
            if known.is_none() && count > DOCUMENTS_MAX {
                return Err(ChangeError::Documents);
            }
            if bytes > DOCUMENT_BYTES_MAX {
                return Err(ChangeError::DocumentBytes);
            }
        }
        Ok(())
    }

    pub fn apply(&mut self, change: &Change) {
        if change.kept {
            let version = self.by_subject.get(&change.subject).map_or(0, |known| known.version);
            match change.document(version.saturating_add(1).max(change.min_version)) {
                Some(document) => self.put(document),
                None => self.remove(&change.subject),
            }
        }
        if let Some(answered) = &change.request {
            self.answers.push(change.author.clone(), answered.clone());
        }
    }

    fn remove(&mut self, subject: &str) {
        if let Some(known) = self.by_subject.remove(subject) {
            self.bytes -= known.bytes();
        }
    }

    /// As it was written down.
    pub(crate) fn put(&mut self, document: Document) {
        self.remove(&document.subject);
        self.bytes += document.bytes();
        self.by_subject.insert(document.subject.clone(), Arc::new(document));
    }

    /// As it was written down, after all older ones.
    pub(crate) fn put_answer(&mut self, author: Name, answered: Answered) {
        self.answers.push(author, answered);
    }

    pub fn get(&self, subject: &str) -> Option<&Arc<Document>> {
        self.by_subject.get(subject)
    }

    /// Those whose subjects begin so, in the order of their subjects.
    pub fn of(&self, prefix: &str) -> impl Iterator<Item = &Arc<Document>> {
        let from = self.by_subject.range(Name::from(prefix)..);
        from.take_while(move |(subject, _)| subject.starts_with(prefix))
            .map(|(_, document)| document)
    }

    /// The answer to a request of this author.
    pub fn answer(&self, author: &str, request: &str) -> Option<&Answered> {
        self.answers.get(author, request)
    }

    /// Oldest first, each with its author.
    pub(crate) fn answers(&self) -> impl ExactSizeIterator<Item = &(Name, Answered)> {
        self.answers.oldest_first.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_subject.len()
    }
}

/// The latest answers.
#[derive(Clone, Debug, Default)]
struct Answers {
    oldest_first: VecDeque<(Name, Answered)>,
    /// The number of each, by author and request: numbers go on from 0, so that its place is how far it is from the oldest.
    numbers: Map<(Name, Name), u64>,
    /// The number of the oldest.
    first: u64,
    bytes: usize,
}

impl Answers {
    fn push(&mut self, author: Name, answered: Answered) {
        self.bytes += bytes_of([&author, &answered.id, &answered.answer]);
        let number = self.first + self.oldest_first.len() as u64;
        self.numbers.insert((author.clone(), answered.id.clone()), number);
        self.oldest_first.push_back((author, answered));
        while self.oldest_first.len() > ANSWERS_MAX || self.bytes > ANSWER_BYTES_MAX {
            let Some((author, answered)) = self.oldest_first.pop_front() else {
                return;
            };
            self.bytes -= bytes_of([&author, &answered.id, &answered.answer]);
            let key = (author, answered.id);
            // The same request may have been answered again since.
            if self.numbers.get(&key) == Some(&self.first) {
                self.numbers.remove(&key);
            }
            self.first += 1;
        }
    }

    fn get(&self, author: &str, request: &str) -> Option<&Answered> {
        let number = self.numbers.get(&(Name::from(author), Name::from(request)))?;
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.oldest_first.get(place).map(|(_, answered)| answered)
    }
}

/// Which changes are wanted, latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Default for ChangeQuery {
    /// The latest hundred of all.
    fn default() -> ChangeQuery {
        ChangeQuery {
            from_ms: i64::MIN,
            to_ms: i64::MAX,
            subject: String::new(),
            action: String::new(),
            author: None,
            tenant: None,
            limit: 100,
            before_sequence: None,
        }
    }
}

/// Changes with the sequences of their events, latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangePage {
    pub changes: Vec<(u64, Arc<Change>)>,
    /// Where the next page goes on; `None` after the last one.
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn change(subject: &str, after: Option<&str>) -> Change {
        Change {
            id: Ulid::from_parts(1, 2),
            at_ms: 5,
            author: "ops".into(),
            peer: "socket".into(),
            action: "rule.put".into(),
            subject: subject.into(),
            tenant: "".into(),
            note: "".into(),
            before: None,
            after: after.map(Arc::from),
            kept: true,
            min_version: 0,
            request: None,
        }
    }

    fn answered(number: usize, bytes: usize) -> Change {
        Change {
            kept: false,
            request: Some(Answered {
                id: number.to_string().into(),
                digest: [7; 32],
                answer: "x".repeat(bytes).into(),
            }),
            ..change("hold:1", None)
        }
    }

    #[test]
    fn a_document_has_a_version_more_with_each_change_and_none_is_left_of_one_removed() {
        let mut documents = Documents::default();
        documents.apply(&change("rule:1", Some("1")));
        documents.apply(&change("rule:2", Some("22")));
        documents.apply(&change("rule:1", Some("3")));
        documents.apply(&change("price:a/b", Some("4")));
        let found: Vec<_> = documents
            .of("rule:")
            .map(|document| (&*document.subject, &*document.value, document.version))
            .collect();
        assert_eq!(found, [("rule:1", "3", 2), ("rule:2", "22", 1)]);
        let bytes = documents.bytes;
        documents.apply(&change("rule:1", None));
        documents.apply(&change("rule:none", None));
        assert_eq!((documents.len(), documents.get("rule:1")), (2, None));
        assert!(documents.bytes < bytes);
        // What keeps nothing changes no document.
        let unkept = Change {
            kept: false,
            ..change("rule:2", None)
        };
        documents.apply(&unkept);
        assert!(documents.get("rule:2").is_some());
    }

    #[test]
    fn texts_and_documents_are_bounded_by_name() {
        let mut documents = Documents::default();
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let error = documents.check(&change("rule:1", Some(&long)));
        assert_eq!(error, Err(ChangeError::Text("after")));
        let error = documents.check(&answered(1, TEXT_BYTES_MAX + 1));
        assert_eq!(error, Err(ChangeError::Text("answer")));
        let large = "x".repeat(TEXT_BYTES_MAX - 100);
        let mut put = 0;
        while documents.check(&change(&format!("rule:{put}"), Some(&large))).is_ok() {
            documents.apply(&change(&format!("rule:{put}"), Some(&large)));
            put += 1;
        }
        assert_eq!(put, 64);
        assert_eq!(
            documents.check(&change("rule:more", Some(&large))),
            Err(ChangeError::DocumentBytes)
        );
        assert_eq!(
            documents.check(&change("rule:0", Some(&large))),
            Ok(()),
            "in the place of itself"
        );
        assert_eq!(documents.check(&change("rule:0", None)), Ok(()));
        let mut documents = Documents::default();
        for number in 0..DOCUMENTS_MAX {
            documents.apply(&change(&format!("rule:{number}"), Some("1")));
        }
        assert_eq!(
            documents.check(&change("rule:more", Some("1"))),
            Err(ChangeError::Documents)
        );
        assert_eq!(documents.check(&change("rule:7", Some("1"))), Ok(()));
    }

    #[test]
    fn the_latest_answers_are_known() {
        let mut documents = Documents::default();
        for number in 0..ANSWERS_MAX + 50 {
            documents.apply(&answered(number, 3));
        }
        assert_eq!(documents.answer("ops", "49"), None);
        assert!((50..ANSWERS_MAX + 50).all(|number| documents.answer("ops", &number.to_string()).is_some()));
        assert_eq!(documents.answer("another", "50"), None);
        for number in 0..20 {
            documents.apply(&answered(20_000 + number, TEXT_BYTES_MAX));
        }
        assert!(documents.answers().len() <= 16);
        assert!(documents.answer("ops", "20019").is_some() && documents.answer("ops", "20001").is_none());
    }
}
