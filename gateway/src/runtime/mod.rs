//! What operators change while the gateway runs, as the documents of the journal keep it, over what the files say.
//!
//! | document | is |
//! |---|---|
//! | `rule:ULID` | a [`Rule`]: an item of a policy's list, or a part of its conf that lies over the file's |
//! | `price:PROVIDER/MODEL` | a row of the price book that replaces all others of the same name |
//! | `provider:NAME` | a provider that is switched off |
//! | `policy:NAME`, `policy-version:NAME@HASH` | see [`PolicyBook`] |
//!
//! Rules join the conf of the file, see [`merge`]. Nothing here is in force by itself: the launch keeps the documents with what
//! the files say, and swaps what both make together.

mod book;
mod document;
mod in_force;
mod merge;
mod policy_book;
mod policy_record;
mod policy_sets;
pub mod prices;
mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;

use ulid::Ulid;

use crate::policy::{PolicySet, TallyCounts};
use prices::PriceRow;

pub use book::{Edit, RuleBook, Step};
pub use document::{PRICE, PROVIDER, Parts, RULE, documents_of};
pub use in_force::{Fault, with_rules};
pub use merge::{FileRule, Place, file_rules};
pub use policy_book::{PolicyBook, PolicyStep, StoredVersion, short};
pub use policy_record::{Activation, End, Ending, Past, PolicyRecord, Rehearsal};
pub use policy_sets::{FailingVersion, Ingredients, Place as PolicyPlace, RefusedVersion, Tallies, source};
pub use rule::{Rule, policy_of, tenant_of};

/// The id of a change, or of what it makes, at a moment in milliseconds since the epoch.
pub fn change_id(at_ms: i64) -> Ulid {
    Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random())
}

/// Why a change of the rules is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such rule.
    #[error("{0}")]
    NotFound(String),
    /// It is not any more what the author believed, or something else stands in the way.
    #[error("{0}")]
    Conflict(String),
    /// A field of what was given, by its path (`value.limit`), and what is wrong with it.
    #[error("{path} {text}")]
    Unfit { path: String, text: String },
}

impl Refused {
    pub fn unfit(path: impl Into<String>, text: impl Into<String>) -> Refused {
        Refused::Unfit {
            path: path.into(),
            text: text.into(),
        }
    }
}

/// What is in force, as a change is planned and recorded.
pub struct InForce {
    pub policies: Arc<PolicySet>,
    /// What the file says to the policies.
    pub file: Arc<BTreeMap<String, serde_json::Value>>,
    pub parts: Parts,
    pub versions: VersionsInForce,
}

/// How the versions of the store stand, beside what their documents say.
#[derive(Clone, Debug, Default)]
pub struct VersionsInForce {
    /// By policy, what is in force of the store.
    pub effective: BTreeMap<String, Activation>,
    /// What should be, and cannot.
    pub refused: Vec<RefusedVersion>,
    /// What each did where it stands.
    pub counts: BTreeMap<(String, PolicyPlace), TallyCounts>,
    /// The policies of the files, by name: the file's origin and the hash of its text.
    pub files: BTreeMap<String, (String, String)>,
}

/// What a change shall make.
pub enum Wanted {
    Rules(Vec<Edit>),
    /// A row by what stands behind `price:` in its subject; `None` takes it away.
    Price(String, Option<PriceRow>),
    Provider {
        name: String,
        enabled: bool,
    },
    Policy(PolicyStep),
}
