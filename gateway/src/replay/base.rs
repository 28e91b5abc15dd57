//! What the journal keeps of the policies in force, beside the documents over them: the files' texts, and what the configuration
//! says to them. Compressed: it is written at each start, at each reload and once a month.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::{Options, PolicyError, PolicySet, Source};

/// Bytes that a base may come to: what is larger is no base.
const BYTES_MAX: u64 = 256 << 20;

/// The policies of the files and their confs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedBase {
    pub policies: Vec<RecordedPolicy>,
    pub confs: BTreeMap<String, Value>,
    /// Policies that were put in force in shadow, whatever they and their confs say.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shadow_only: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedPolicy {
    /// Which it gives itself; of journals of earlier versions the one that its file has.
    pub name: String,
    pub origin: String,
    pub text: String,
}

impl RecordedBase {
    /// As the journal has it.
    ///
    /// # Errors
    /// It is none.
    pub fn read(bytes: &[u8]) -> Result<RecordedBase, String> {
        let mut text = Vec::new();
        let decoder = DeflateDecoder::new(bytes);
        let read = decoder.take(BYTES_MAX).read_to_end(&mut text);
        read.map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }

    /// Of what is in force, without the rules that lie over it.
    pub fn of(set: &PolicySet, confs: &BTreeMap<String, Value>) -> RecordedBase {
        let policies = set.policies().map(|policy| RecordedPolicy {
            name: policy.name.to_owned(),
            origin: policy.source.origin.clone(),
            text: policy.source.text.clone(),
        });
        let in_shadow = set.policies().filter(|policy| policy.shadow_only);
        RecordedBase {
            policies: policies.collect(),
            confs: confs.clone(),
            shadow_only: in_shadow.map(|policy| policy.name.to_owned()).collect(),
        }
    }

    /// The set that it makes. There may be confs of policies that only the store has.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self, options: Options) -> Result<PolicySet, Vec<PolicyError>> {
        PolicySet::load_in_roles(self.sources(), &self.confs, options, &self.shadow_only)
    }

    fn sources(&self) -> Vec<Source> {
        let source = |policy: &RecordedPolicy| Source {
            name: policy.name.clone(),
            text: policy.text.clone(),
            origin: policy.origin.clone(),
        };
        self.policies.iter().map(source).collect()
    }
}

/// The base of a set, for the journal: equal ones have equal bytes.
pub fn recorded_base(set: &PolicySet, confs: &BTreeMap<String, Value>) -> Arc<[u8]> {
    let base = RecordedBase::of(set, confs);
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let written = serde_json::to_vec(&base).map(|text| encoder.write_all(&text));
    // Neither can fail: the base is plain data, and goes to memory.
    debug_assert!(matches!(written, Ok(Ok(()))));
    encoder.finish().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;
    use crate::policy::builtin_sources;

    #[test]
    fn a_base_makes_the_same_set_again() {
        let confs = BTreeMap::from([("budget".to_owned(), json!({"default": {"daily_limit_usd": 5}}))]);
        let set = PolicySet::load(builtin_sources(), &confs, Options::default()).unwrap();
        let bytes = recorded_base(&set, &confs);
        assert_eq!(bytes, recorded_base(&set, &confs));
        let base = RecordedBase::read(&bytes).unwrap();
        let again = base.load(Options::default()).unwrap();
        assert_eq!(again.digest(), set.digest());
        assert!(RecordedBase::read(b"something else").is_err());
    }
}
