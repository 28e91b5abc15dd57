//! The facts of a call as a policy reads them, one by one, with a trail of what it read.
//!
//! What a policy answers may be remembered by the facts that it read (see `memo`). Which these are is found by exclusion: the value of a
//! [`Fact`] comes from [`KnownFacts::read`] alone, which notes the fact, and the same value is what a remembered answer is found by.
//! All that goes on from call to call (the time, what the call may cost, what its session did) is [`Passing`], and spoils the trail:
//! what such a run answers is not kept. A fact that is added forgets to be a [`Fact`], never the other way round.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::Name;

use super::account::Own;
use super::facts::{CallFacts, CostEstimate, SERVER_TAG, TOOL_TAG};
use super::glob::{Glob, GlobSet};
use super::history::History;
use super::question::KeyQuestion;
use crate::secret::Secret;

/// Text fields of `call`, in the order of `Buffers::texts`.
const TEXTS: [&str; 13] = [
    "provider",
    "dialect",
    "operation",
    "model",
    "tenant",
    "agent",
    "session",
    "user",
    "task",
    "path",
    "claim",
    "server",
    "tool",
];

/// Something that is known of a call and that another call may have in common with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// One of [`TEXTS`], by its place.
    Text(usize),
    Zone,
    Fingerprint,
    /// Whether there is a key, or a fingerprint of one.
    HasKey,
    /// What a question about the raw key is answered.
    Key(HeldQuestion),
    Tag(Box<str>),
    /// All tags.
    Tags,
    Models,
    AnyModel,
    Stream,
    MaxOutput,
    Priced,
    Free,
}

impl Fact {
    /// The fact that is a field of `call`, where it is one.
    pub fn of_call(field: &[u8]) -> Option<Fact> {
        Some(match field {
            b"models" => Fact::Models,
            b"any_model" => Fact::AnyModel,
            b"stream" => Fact::Stream,
            b"max_output" => Fact::MaxOutput,
            b"priced" => Fact::Priced,
            b"free" => Fact::Free,
            field => Fact::Text(TEXTS.iter().position(|known| known.as_bytes() == field)?),
        })
    }

    /// What it takes, roughly; compiled lists are the policy's.
    pub fn bytes(&self) -> usize {
        let text = match self {
            Fact::Tag(name) => name.len(),
            Fact::Key(HeldQuestion::Glob(pattern, _)) => 4 * pattern.len(),
            _ => 0,
        };
        size_of::<Fact>() + text
    }

    /// What names one of the call's own accounts.
    pub const fn of_own(own: Own) -> Fact {
        Fact::Text(match own {
            Own::Key => return Fact::Fingerprint,
            Own::Provider => 0,
            Own::Model => 3,
            Own::Tenant => 4,
            Own::Agent => 5,
            Own::Session => 6,
            Own::User => 7,
            Own::Task => 8,
        })
    }
}

/// A [`KeyQuestion`] that outlives who asked it.
#[derive(Clone, Debug)]
pub(super) enum HeldQuestion {
    Glob(Box<str>, Glob),
    Globs(Arc<GlobSet>),
    Names(Arc<HashMap<Box<str>, u32>>),
}

impl HeldQuestion {
    pub fn new(question: KeyQuestion<'_>) -> HeldQuestion {
        match question {
            KeyQuestion::Glob(pattern, glob) => HeldQuestion::Glob(pattern.into(), glob.clone()),
            KeyQuestion::Globs(globs) => HeldQuestion::Globs(Arc::clone(globs)),
            KeyQuestion::Names(names) => HeldQuestion::Names(Arc::clone(names)),
        }
    }

    fn question(&self) -> KeyQuestion<'_> {
        match self {
            HeldQuestion::Glob(pattern, glob) => KeyQuestion::Glob(pattern, glob),
            HeldQuestion::Globs(globs) => KeyQuestion::Globs(globs),
            HeldQuestion::Names(names) => KeyQuestion::Names(names),
        }
    }
}

/// What was compiled once is asked once: lists are the same only where they are the same list.
impl PartialEq for HeldQuestion {
    fn eq(&self, other: &HeldQuestion) -> bool {
        match (self, other) {
            (HeldQuestion::Glob(one, _), HeldQuestion::Glob(two, _)) => one == two,
            (HeldQuestion::Globs(one), HeldQuestion::Globs(two)) => Arc::ptr_eq(one, two),
            (HeldQuestion::Names(one), HeldQuestion::Names(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// What a fact is, of the call at hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FactValue<'a> {
    Text(&'a str),
    /// A tag that may be missing.
    Tag(Option<&'a str>),
    Flag(bool),
    Count(Option<u64>),
    /// Of the pattern that matched.
    Place(Option<u32>),
    Texts(&'a [String]),
    Pairs(&'a [(Name, Name)]),
}

impl<'a> FactValue<'a> {
    pub fn text(self) -> &'a str {
        match self {
            FactValue::Text(text) => text,
            FactValue::Tag(tag) => tag.unwrap_or_default(),
            _ => "",
        }
    }

    pub const fn place(self) -> Option<u32> {
        match self {
            FactValue::Place(place) => place,
            _ => None,
        }
    }

    /// Appends the value, so that of one fact two values are the same bytes only if they are the same, and none is the beginning of
    /// another.
    fn append_to(self, bytes: &mut Vec<u8>) {
        fn count(bytes: &mut Vec<u8>, count: u64) {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        fn text(bytes: &mut Vec<u8>, text: &str) {
            count(bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
        match self {
            FactValue::Text(of) => text(bytes, of),
            FactValue::Tag(None) | FactValue::Count(None) | FactValue::Place(None) => bytes.push(0),
            FactValue::Tag(Some(of)) => {
                bytes.push(1);
                text(bytes, of);
            }
            FactValue::Count(Some(of)) => {
                bytes.push(1);
                count(bytes, of);
            }
            FactValue::Place(Some(of)) => {
                bytes.push(1);
                count(bytes, of.into());
            }
            FactValue::Flag(flag) => bytes.push(u8::from(flag)),
            FactValue::Texts(of) => {
                count(bytes, of.len() as u64);
                of.iter().for_each(|one| text(bytes, one));
            }
            FactValue::Pairs(of) => {
                count(bytes, of.len() as u64);
                for (name, value) in of {
                    text(bytes, name);
                    text(bytes, value);
                }
            }
        }
    }
}

/// What goes on from call to call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passing {
    pub at_ms: i64,
    pub estimate: CostEstimate,
    pub history: Option<History>,
}

/// The owned copy of the facts; buffers are kept from call to call.
#[derive(Default)]
struct Buffers {
    passing: Passing,
    zone: String,
    texts: [String; TEXTS.len()],
    key: Secret<String>,
    fingerprint: String,
    /// By name, ascending; those of earlier policies included.
    tags: Vec<(Name, Name)>,
    models: Vec<String>,
    any_model: bool,
    stream: bool,
    max_output: Option<u64>,
    priced: bool,
    free: bool,
}

impl Buffers {
    fn fill(&mut self, facts: &CallFacts<'_>) {
        let texts = [
            facts.provider,
            facts.dialect,
            facts.operation,
            facts.model,
            facts.tenant,
            facts.agent,
            facts.session,
            facts.user,
            facts.task,
            facts.path,
            facts.claim,
            facts.of_tool(SERVER_TAG),
            facts.of_tool(TOOL_TAG),
        ];
        for (buffer, text) in self.texts.iter_mut().zip(texts) {
            refill(buffer, text);
        }
        refill(&mut self.zone, facts.zone);
        refill(&mut self.fingerprint, facts.fingerprint);
        self.key.clone_from(facts.key);
        self.tags.clear();
        self.tags.extend(
            facts
                .tags
                .iter()
                .map(|(name, value)| (Arc::clone(name), Arc::clone(value))),
        );
        self.models.clear();
        self.models.extend_from_slice(facts.models);
        self.any_model = facts.any_model;
        (self.stream, self.max_output) = (facts.stream, facts.max_output);
        (self.priced, self.free) = (facts.priced, facts.free);
        self.passing = Passing {
            at_ms: facts.at_ms,
            estimate: facts.estimate,
            history: facts.history,
        };
    }

    fn value(&self, fact: &Fact) -> FactValue<'_> {
        match fact {
            Fact::Text(place) => FactValue::Text(self.texts.get(*place).map_or("", String::as_str)),
            Fact::Zone => FactValue::Text(&self.zone),
            Fact::Fingerprint => FactValue::Text(&self.fingerprint),
            Fact::HasKey => FactValue::Flag(!(self.key.expose().is_empty() && self.fingerprint.is_empty())),
            Fact::Key(held) => FactValue::Place(held.question().answer(self.key.expose())),
            Fact::Tag(name) => {
                let found = self.tags.iter().find(|(known, _)| **known == **name);
                FactValue::Tag(found.map(|(_, value)| &**value))
            }
            Fact::Tags => FactValue::Pairs(&self.tags),
            Fact::Models => FactValue::Texts(&self.models),
            Fact::AnyModel => FactValue::Flag(self.any_model),
            Fact::Stream => FactValue::Flag(self.stream),
            Fact::MaxOutput => FactValue::Count(self.max_output),
            Fact::Priced => FactValue::Flag(self.priced),
            Fact::Free => FactValue::Flag(self.free),
        }
    }
}

fn refill(buffer: &mut String, text: &str) {
    buffer.clear();
    buffer.push_str(text);
}

/// The facts of the call at hand, and the trail of the policy that is running.
#[derive(Default)]
pub(super) struct KnownFacts {
    buffers: RefCell<Buffers>,
    /// The facts that were read since [`KnownFacts::follow`], each once, in the order in which they first were.
    trail: RefCell<Vec<Fact>>,
    is_followed: Cell<bool>,
    is_spoiled: Cell<bool>,
}

impl KnownFacts {
    pub fn fill(&self, facts: &CallFacts<'_>) {
        self.buffers.borrow_mut().fill(facts);
    }

    /// An evaluation that is of no call begins: of what was known all that counts is the moment.
    pub fn fill_without_call(&self, at_ms: i64) {
        let mut buffers = self.buffers.borrow_mut();
        buffers.passing.at_ms = at_ms;
        refill(&mut buffers.zone, "UTC");
    }

    pub fn forget_key(&self) {
        self.buffers.borrow_mut().key = Secret::default();
    }

    /// What a policy tagged the call with, later ones see as if the client had sent it.
    pub fn tag(&self, tags: &[(Name, Name)]) {
        if tags.is_empty() {
            return;
        }
        let known = &mut self.buffers.borrow_mut().tags;
        for (name, value) in tags {
            match known.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => {
                    if let Some((_, known)) = known.get_mut(at) {
                        *known = Name::clone(value);
                    }
                }
                Err(at) => known.insert(at, (Name::clone(name), Name::clone(value))),
            }
        }
    }

    /// A policy reads a fact.
    pub fn read<R>(&self, fact: Fact, look: impl FnOnce(FactValue<'_>) -> R) -> R {
        let looked = look(self.buffers.borrow().value(&fact));
        if self.is_followed.get() && !self.is_spoiled.get() {
            let mut trail = self.trail.borrow_mut();
            if !trail.contains(&fact) {
                trail.push(fact);
            }
        }
        looked
    }

    /// A policy reads what is of this call alone.
    pub fn passing(&self) -> Passing {
        self.spoil();
        self.buffers.borrow().passing
    }

    /// A policy is told something that is no [`Fact`].
    pub fn spoil(&self) {
        self.is_spoiled.set(true);
    }

    /// A policy begins to run, and what it reads is to be noted.
    pub fn follow(&self) {
        self.trail.borrow_mut().clear();
        self.is_spoiled.set(false);
        self.is_followed.set(true);
    }

    /// It has ended: all that its answer can depend on, where that is facts alone.
    pub fn followed(&self) -> Option<Vec<Fact>> {
        self.is_followed.set(false);
        let trail = self.trail.take();
        (!self.is_spoiled.get()).then_some(trail)
    }

    /// Appends what a fact is of the call at hand; see [`FactValue::append_to`].
    pub fn append(&self, fact: &Fact, bytes: &mut Vec<u8>) {
        self.buffers.borrow().value(fact).append_to(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn bytes(value: FactValue<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.append_to(&mut bytes);
        bytes
    }

    #[test]
    fn no_value_is_another_or_the_beginning_of_another() {
        let text = |text: &str| text.to_owned();
        let texts = [
            vec![],
            vec![text("")],
            vec![text(""), text("")],
            vec![text("ab")],
            vec![text("a"), text("b")],
        ];
        let name = |text: &str| Name::from(text);
        let pairs = [
            vec![],
            vec![(name(""), name(""))],
            vec![(name("a"), name("bc"))],
            vec![(name("ab"), name("c"))],
            vec![(name("a"), name("b")), (name("c"), name(""))],
        ];
        let kinds: [Vec<FactValue<'_>>; 6] = [
            ["", "a", "ab", "a\0", "\0"].map(FactValue::Text).to_vec(),
            [None, Some(""), Some("a"), Some("ab")].map(FactValue::Tag).to_vec(),
            [None, Some(0), Some(1), Some(256)].map(FactValue::Count).to_vec(),
            [None, Some(0), Some(1)].map(FactValue::Place).to_vec(),
            texts.iter().map(|texts| FactValue::Texts(texts)).collect(),
            pairs.iter().map(|pairs| FactValue::Pairs(pairs)).collect(),
        ];
        for values in kinds {
            for (at, one) in values.iter().enumerate() {
                for (beside, other) in values.iter().enumerate() {
                    let begins = bytes(*other).starts_with(&bytes(*one));
                    assert_eq!(begins, at == beside, "{one:?} {other:?}");
                }
            }
        }
    }
}
