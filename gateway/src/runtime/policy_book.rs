//! The policies of the store: their texts by hash, and which of them is in force or in shadow.
//!
//! | document | is |
//! |---|---|
//! | `policy:NAME` | a [`PolicyRecord`]: which version is in force, which were before, which runs in shadow and until when |
//! | `policy-version:NAME@HASH` | a [`StoredVersion`]: a text and its specs; who put it, when and why are the document's |
//!
//! What stands in the store goes over a file of the same name, and that over a built-in one. A policy has [`VERSIONS_MAX`]
//! texts at most: of more the oldest goes, never the one in force, the one before it or the one in shadow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentledger_ledger::{Document, Name, TEXT_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ulid::Ulid;

use super::Refused;
use super::policy_record::PolicyRecord;
use crate::policy::source_hash;

/// How the subjects of documents begin.
pub const POLICY: &str = "policy:";
pub const POLICY_VERSION: &str = "policy-version:";

/// Texts that are kept of one policy.
pub const VERSIONS_MAX: usize = 20;
/// Bytes of the texts and specs of all policies: the rules and prices need room for their documents, too.
const ALL_BYTES_MAX: usize = 32 << 20;
/// Digits of a hash that people are shown.
pub const SHORT_HASH: usize = 12;

/// A policy's text as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    pub policy: String,
    /// BLAKE3 of its text, in hex.
    pub hash: String,
    /// What the text calls itself.
    pub version: String,
    pub text: Arc<str>,
    pub specs: Option<Arc<str>>,
    pub author: Name,
    pub at_ms: i64,
    pub note: Name,
    /// The change that put it.
    pub change: Ulid,
}

/// A text as its document has it.
#[derive(Deserialize, Serialize)]
struct KeptVersion {
    version: String,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    specs: Option<String>,
}

impl StoredVersion {
    fn read(subject: &str, document: &Document) -> Result<StoredVersion, (String, String, String)> {
        let named = subject.strip_prefix(POLICY_VERSION).unwrap_or_default();
        let (policy, hash) = named.rsplit_once('@').unwrap_or((named, ""));
        let unread = |text: String| (policy.to_owned(), hash.to_owned(), text);
        let kept: KeptVersion = serde_json::from_str(&document.value).map_err(|error| unread(error.to_string()))?;
        let found = source_hash(&kept.text);
        if found != hash {
            let found = short(&found);
            return Err(unread(format!("its text is another one: it has the hash {found}")));
        }
        Ok(StoredVersion {
            policy: policy.to_owned(),
            hash: found,
            version: kept.version,
            text: kept.text.into(),
            specs: kept.specs.map(Arc::from),
            author: Name::clone(&document.author),
            at_ms: document.at_ms,
            note: Name::clone(&document.note),
            change: document.change,
        })
    }

    pub fn subject(&self) -> String {
        format!("{POLICY_VERSION}{}@{}", self.policy, self.hash)
    }

    pub fn document(&self) -> Value {
        let kept = KeptVersion {
            version: self.version.clone(),
            text: self.text.to_string(),
            specs: self.specs.as_ref().map(ToString::to_string),
        };
        serde_json::to_value(kept).unwrap_or_default()
    }

    /// What errors call it.
    pub fn origin(&self) -> String {
        format!("store/{}@{}", self.policy, short(&self.hash))
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.specs.as_ref().map_or(0, |specs| specs.len())
    }
}

/// The digits of a hash that people are shown.
pub fn short(hash: &str) -> &str {
    hash.get(..SHORT_HASH).unwrap_or(hash)
}

/// A record as its document has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRecord {
    pub record: PolicyRecord,
    /// One more with each change.
    pub version: u64,
}

/// A version or a record that the store cannot give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub policy: String,
    /// Empty for the policy's record.
    pub hash: String,
    pub text: String,
}

/// All policies of the store. A clone costs a pointer for each.
#[derive(Clone, Debug, Default)]
pub struct PolicyBook {
    versions: BTreeMap<String, BTreeMap<String, Arc<StoredVersion>>>,
    records: BTreeMap<String, Arc<KeptRecord>>,
    unread: Vec<Unread>,
}

/// What a change makes of one policy.
#[derive(Clone, Debug)]
pub struct PolicyStep {
    pub policy: String,
    /// A text that is kept from now on, and those that go for it.
    pub put: Option<Arc<StoredVersion>>,
    pub dropped: Vec<Arc<StoredVersion>>,
    /// What stands of it from now on; `None`: what stood.
    pub record: Option<PolicyRecord>,
}

/// One document as a step changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyPart {
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl PolicyStep {
    pub fn of_record(policy: &str, record: PolicyRecord) -> PolicyStep {
        PolicyStep {
            policy: policy.to_owned(),
            put: None,
            dropped: Vec::new(),
            record: Some(record),
        }
    }

    /// The documents that it changes. Of a text that goes, or was there, its hash is told and not the text: that stands in the
    /// journal where it was put.
    pub fn parts(&self, book: &PolicyBook) -> Vec<PolicyPart> {
        let known = |version: &StoredVersion| json!({"version": version.version, "hash": version.hash});
        let dropped = self.dropped.iter().map(|version| PolicyPart {
            subject: version.subject(),
            before: Some(known(version)),
            after: None,
        });
        let put = self.put.iter().map(|version| PolicyPart {
            subject: version.subject(),
            before: book.version(&version.policy, &version.hash).map(|before| known(before)),
            after: Some(version.document()),
        });
        let record = self.record.iter().map(|record| PolicyPart {
            subject: format!("{POLICY}{}", self.policy),
            before: book
                .record(&self.policy)
                .and_then(|before| serde_json::to_value(&before.record).ok()),
            after: serde_json::to_value(record).ok(),
        });
        dropped.chain(put).chain(record).collect()
    }
}

impl PolicyBook {
    /// Reads all documents. What cannot be read is named, and keeps nothing else from being read.
    pub fn read(of: &dyn Fn(&str) -> Vec<Document>) -> PolicyBook {
        let mut book = PolicyBook::default();
        for document in of(POLICY_VERSION) {
            match StoredVersion::read(&document.subject, &document) {
                Ok(version) => book.insert(Arc::new(version)),
                Err((policy, hash, text)) => book.unread.push(Unread { policy, hash, text }),
            }
        }
        for document in of(POLICY) {
            let policy = document.subject.strip_prefix(POLICY).unwrap_or_default().to_owned();
            match serde_json::from_str(&document.value) {
                Ok(record) => {
                    let version = document.version;
                    book.records.insert(policy, Arc::new(KeptRecord { record, version }));
                }
                Err(error) => book.unread.push(Unread {
                    policy,
                    hash: String::new(),
                    text: error.to_string(),
                }),
            }
        }
        book
    }

    fn insert(&mut self, version: Arc<StoredVersion>) {
        let versions = self.versions.entry(version.policy.clone()).or_default();
        versions.insert(version.hash.clone(), version);
    }

    /// What the store could not give back.
    pub fn unread(&self) -> &[Unread] {
        &self.unread
    }

    /// The policies that have a version or a record here.
    pub fn policies(&self) -> BTreeSet<&str> {
        self.versions
            .keys()
            .chain(self.records.keys())
            .map(String::as_str)
            .collect()
    }

    pub fn has(&self, policy: &str) -> bool {
        let unread = self.unread.iter().any(|unread| unread.policy == policy);
        unread || self.versions.contains_key(policy) || self.records.contains_key(policy)
    }

    pub fn record(&self, policy: &str) -> Option<&Arc<KeptRecord>> {
        self.records.get(policy)
    }

    pub fn records(&self) -> impl Iterator<Item = (&str, &PolicyRecord)> {
        self.records
            .iter()
            .map(|(policy, kept)| (policy.as_str(), &kept.record))
    }

    pub fn version(&self, policy: &str, hash: &str) -> Option<&Arc<StoredVersion>> {
        self.versions.get(policy)?.get(hash)
    }

    /// A policy's versions, the one that was put last first.
    pub fn versions(&self, policy: &str) -> Vec<&Arc<StoredVersion>> {
        let mut versions: Vec<_> = self
            .versions
            .get(policy)
            .into_iter()
            .flat_map(BTreeMap::values)
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse((version.at_ms, version.change)));
        versions
    }

    /// The text with this hash, whichever policy's it is.
    pub fn source(&self, hash: &str) -> Option<&Arc<StoredVersion>> {
        self.versions.values().find_map(|versions| versions.get(hash))
    }

    /// The version that a hash begins so, or the one that was put last where nothing is said.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, policy: &str, hash: &str) -> Result<&Arc<StoredVersion>, Refused> {
        let versions = self.versions(policy);
        if versions.is_empty() {
            return Err(Refused::NotFound(format!(
                "no version of {policy:?} was put: policy.put keeps one"
            )));
        }
        let mut found = versions.into_iter().filter(|version| version.hash.starts_with(hash));
        let first = found.next();
        let first = first.ok_or_else(|| Refused::NotFound(format!("no version of {policy:?} begins with {hash:?}")))?;
        if !hash.is_empty()
            && let Some(second) = found.next()
        {
            let text = format!("is of several versions: {} and {}", first.hash, second.hash);
            return Err(Refused::unfit("version", text));
        }
        Ok(first)
    }

    /// Keeps a text. What is in force stays so; an activation that waits is cancelled by another text.
    ///
    /// # Errors
    /// It is too long, or there is no room for it.
    pub fn put(&self, version: StoredVersion) -> Result<PolicyStep, Refused> {
        if version.document().to_string().len() > TEXT_BYTES_MAX {
            return Err(Refused::unfit(
                "text",
                format!("and `specs` are longer than {TEXT_BYTES_MAX} bytes as JSON"),
            ));
        }
        let record = self.record(&version.policy).map(|kept| &kept.record);
        let mut dropped: Vec<Arc<StoredVersion>> = Vec::new();
        if self.version(&version.policy, &version.hash).is_none() {
            let versions = self.versions(&version.policy);
            let over = (versions.len() + 1).saturating_sub(VERSIONS_MAX);
            let oldest_first = versions.into_iter().rev();
            let spare = oldest_first.filter(|kept| record.is_none_or(|record| !record.is_needed(&kept.hash)));
            dropped.extend(spare.take(over).cloned());
        }
        let all = self.versions.values().flat_map(BTreeMap::values);
        let gone: usize = dropped.iter().map(|version| version.bytes()).sum();
        let bytes: usize = all.map(|version| version.bytes()).sum::<usize>() - gone;
        if bytes + version.bytes() > ALL_BYTES_MAX {
            return Err(Refused::Conflict(format!(
                "all versions together may have {ALL_BYTES_MAX} bytes"
            )));
        }
        let next = record.map(|record| {
            let mut next = record.clone();
            // Those whose texts go cannot come back.
            next.earlier
                .retain(|stay| dropped.iter().all(|gone| gone.hash != stay.hash));
            if let Some(shadow) = next.shadow.as_mut().filter(|shadow| shadow.hash != version.hash) {
                shadow.activate_at_ms = None;
            }
            next
        });
        Ok(PolicyStep {
            policy: version.policy.clone(),
            record: next.filter(|next| Some(next) != record),
            dropped,
            put: Some(Arc::new(version)),
        })
    }

    pub fn apply(&mut self, step: &PolicyStep) {
        if let Some(versions) = self.versions.get_mut(&step.policy) {
            step.dropped.iter().for_each(|gone| drop(versions.remove(&gone.hash)));
        }
        if let Some(put) = &step.put {
            self.unread
                .retain(|unread| unread.policy != put.policy || unread.hash != put.hash);
            self.insert(Arc::clone(put));
        }
        if let Some(record) = &step.record {
            self.unread
                .retain(|unread| unread.policy != step.policy || !unread.hash.is_empty());
            let before = self.records.get(&step.policy).map_or(0, |kept| kept.version);
            let kept = KeptRecord {
                record: record.clone(),
                version: before.saturating_add(1),
            };
            self.records.insert(step.policy.clone(), Arc::new(kept));
        }
    }

    /// The activation that is due next: when, and of which policy.
    pub fn next_due(&self) -> Option<(i64, &str)> {
        let waiting = self.records.iter().filter_map(|(policy, kept)| {
            let at_ms = kept.record.shadow.as_ref()?.activate_at_ms?;
            Some((at_ms, policy.as_str()))
        });
        waiting.min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::policy_record::{Ending, Rehearsal};
    use super::*;

    fn version(policy: &str, number: i64) -> StoredVersion {
        let text = format!("text {policy} {number}");
        StoredVersion {
            policy: policy.to_owned(),
            hash: source_hash(&text),
            version: number.to_string(),
            text: text.into(),
            specs: None,
            author: "ops".into(),
            at_ms: number,
            note: "".into(),
            change: Ulid::from_parts(number as u64, 1),
        }
    }

    fn at(at_ms: i64) -> Ending {
        Ending {
            at_ms,
            by: "ops".to_owned(),
            ..Ending::default()
        }
    }

    fn put(book: &mut PolicyBook, number: i64) -> String {
        let version = version("p", number);
        let hash = version.hash.clone();
        let step = book.put(version).unwrap();
        book.apply(&step);
        hash
    }

    fn document(subject: &str, value: &Value, version: u64) -> Document {
        Document {
            subject: subject.into(),
            value: value.to_string().into(),
            version,
            change: Ulid::nil(),
            at_ms: 5,
            author: "ann".into(),
            tenant: "".into(),
            note: "why".into(),
        }
    }

    #[test]
    fn documents_read_as_what_they_were_and_damaged_ones_are_named() {
        let good = version("p", 1);
        let mut other = good.document();
        other["text"] = "changed".into();
        let record = PolicyRecord::default().activated(&good.hash, true, &at(1_000));
        let documents = [
            document(&good.subject(), &good.document(), 1),
            document(&format!("{POLICY_VERSION}q@{}", good.hash), &other, 1),
            document(&format!("{POLICY_VERSION}r@00"), &json!(5), 1),
            document("policy:p", &serde_json::to_value(&record).unwrap(), 4),
            document("policy:s", &json!({"in_force": 5}), 1),
        ];
        let of = |prefix: &str| {
            documents
                .iter()
                .filter(|document| document.subject.starts_with(prefix))
                .cloned()
                .collect()
        };
        let book = PolicyBook::read(&of);
        let read = book.find("p", "").unwrap();
        assert_eq!((&read.text, &*read.author, &*read.note), (&good.text, "ann", "why"));
        assert_eq!(
            (&book.record("p").unwrap().record, book.record("p").unwrap().version),
            (&record, 4)
        );
        let unread: Vec<&str> = book.unread().iter().map(|unread| unread.policy.as_str()).collect();
        assert_eq!(unread, ["q", "r", "s"]);
        assert!(
            book.unread()[0].text.contains("its text is another one"),
            "{:?}",
            book.unread()[0]
        );
        assert!(book.has("q") && !book.has("t"));
    }

    #[test]
    fn a_version_is_found_by_the_beginning_of_its_hash() {
        let mut book = PolicyBook::default();
        assert!(matches!(book.find("p", ""), Err(Refused::NotFound(_))));
        let hashes: Vec<String> = (0..17).map(|number| put(&mut book, number)).collect();
        assert_eq!(
            book.find("p", "").unwrap().hash,
            hashes[16],
            "the one that was put last"
        );
        assert_eq!(book.find("p", &hashes[3][..12]).unwrap().hash, hashes[3]);
        assert_eq!(book.source(&hashes[4]).unwrap().version, "4");
        assert!(matches!(book.find("p", "xyz"), Err(Refused::NotFound(_))));
        // Of seventeen hashes two begin with the same digit.
        let twice = (0..16).map(|digit| format!("{digit:x}"));
        let is_of_two = |digit: &String| hashes.iter().filter(|hash| hash.starts_with(digit)).count() > 1;
        let digit = twice.into_iter().find(is_of_two).unwrap();
        assert!(matches!(book.find("p", &digit), Err(Refused::Unfit { .. })));
    }

    #[test]
    fn the_oldest_version_goes_and_never_one_that_is_needed() {
        let mut book = PolicyBook::default();
        let first = put(&mut book, 0);
        let second = put(&mut book, 1);
        let record = PolicyRecord::default()
            .activated(&first, false, &at(1))
            .activated(&second, false, &at(2));
        book.apply(&PolicyStep::of_record("p", record));
        (2..40).for_each(|number| drop(put(&mut book, number)));
        let kept: Vec<&str> = book.versions("p").iter().map(|kept| kept.version.as_str()).collect();
        assert_eq!(kept.len(), VERSIONS_MAX);
        assert_eq!((kept[0], kept[18], kept[19]), ("39", "1", "0"));
        assert_eq!(kept[17], "22");
    }

    #[test]
    fn another_text_cancels_an_activation_that_waits_and_the_same_does_not() {
        let mut book = PolicyBook::default();
        let hash = put(&mut book, 0);
        let rehearsal = Rehearsal {
            hash,
            since_ms: 1,
            activate_at_ms: Some(9),
            shadow_only: false,
        };
        let record = PolicyRecord::default().rehearsed(rehearsal, &at(1));
        book.apply(&PolicyStep::of_record("p", record));
        assert_eq!(book.next_due(), Some((9, "p")));
        put(&mut book, 0);
        assert_eq!(book.next_due(), Some((9, "p")));
        put(&mut book, 1);
        assert_eq!(book.next_due(), None);
        assert!(
            book.record("p").unwrap().record.shadow.is_some(),
            "it runs on in shadow"
        );
    }

    #[test]
    fn texts_are_bounded_alone_and_together() {
        let mut book = PolicyBook::default();
        let large = |number: i64, bytes: usize| {
            let text = format!("{number}{}", "x".repeat(bytes));
            StoredVersion {
                policy: format!("p{}", number % 10),
                hash: source_hash(&text),
                text: text.into(),
                ..version("p", number)
            }
        };
        assert!(matches!(book.put(large(0, TEXT_BYTES_MAX)), Err(Refused::Unfit { path, .. }) if path == "text"));
        let mut put = 0;
        while let Ok(step) = book.put(large(put, TEXT_BYTES_MAX - 1_000)) {
            book.apply(&step);
            put += 1;
        }
        assert_eq!(put, 32);
    }
}
