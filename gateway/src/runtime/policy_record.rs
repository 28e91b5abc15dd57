//! What stands of one policy: which version is in force, which were before, and which runs in shadow.

use agentledger_ledger::rfc3339_ms;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::policy_book::VERSIONS_MAX;
use crate::policy::TallyCounts;

/// Stays that are over, of one policy, the latest.
const PAST_MAX: usize = 50;

/// Moments in documents: milliseconds since the epoch here, RFC 3339 there.
mod moment {
    use super::{Deserialize, Deserializer, Serializer, Timestamp, rfc3339_ms};

    pub fn serialize<S: Serializer>(ms: &i64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&rfc3339_ms(*ms))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        let text = String::deserialize(from)?;
        let at: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(at.as_millisecond())
    }
}

mod maybe_moment {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp, rfc3339_ms};

    pub fn serialize<S: Serializer>(ms: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
        ms.map(rfc3339_ms).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let at = text.map(|text| text.parse::<Timestamp>()).transpose();
        Ok(at.map_err(serde::de::Error::custom)?.map(Timestamp::as_millisecond))
    }
}

// As the attribute wants it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A version that came into force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Activation {
    pub hash: String,
    #[serde(rename = "since", with = "moment")]
    pub since_ms: i64,
    /// It enforces nothing, whatever the conf says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shadow_only: bool,
}

/// A version that runs beside what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rehearsal {
    pub hash: String,
    #[serde(rename = "since", with = "moment")]
    pub since_ms: i64,
    /// When it comes into force by itself.
    #[serde(
        rename = "activate_at",
        with = "maybe_moment",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub activate_at_ms: Option<i64>,
    /// Of the activation to come.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shadow_only: bool,
}

/// How a stay of a version ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Another version came in its place.
    Replaced,
    /// It was in shadow, and came into force.
    Activated,
    RolledBack,
    /// The file's came in its place.
    Deactivated,
    /// Its rehearsal was ended.
    Ended,
}

impl End {
    pub const fn name(self) -> &'static str {
        match self {
            End::Replaced => "replaced",
            End::Activated => "activated",
            End::RolledBack => "rolled_back",
            End::Deactivated => "deactivated",
            End::Ended => "ended",
        }
    }
}

/// A stay of a version that is over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Past {
    pub hash: String,
    /// It was in shadow, beside what was in force.
    #[serde(default, skip_serializing_if = "is_false")]
    pub in_shadow: bool,
    #[serde(with = "moment")]
    pub from: i64,
    #[serde(with = "moment")]
    pub to: i64,
    pub end: End,
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What it did meanwhile, as far as the gateway that ended it saw.
    #[serde(default)]
    pub calls: u64,
    #[serde(default)]
    pub denials: u64,
    #[serde(default)]
    pub failures: u64,
}

/// What stands of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PolicyRecord {
    /// None: the file's, or the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Activation>,
    /// What was in force before, the latest last; before the first of them it was the file's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Activation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Rehearsal>,
    /// Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Past>,
}

/// Who ends a stay and why, and what the version did meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub at_ms: i64,
    pub by: String,
    pub why: String,
    pub in_force: TallyCounts,
    pub in_shadow: TallyCounts,
}

impl PolicyRecord {
    /// Those that a rollback may need, the one in force first, then the one before it.
    pub fn candidates(&self) -> impl Iterator<Item = &Activation> {
        self.in_force.iter().chain(self.earlier.iter().rev())
    }

    fn end_stay(&mut self, end: End, ending: &Ending) {
        if let Some(stay) = self.in_force.take() {
            self.push(stay.hash, stay.since_ms, false, end, ending);
        }
    }

    fn end_shadow(&mut self, end: End, ending: &Ending) {
        if let Some(stay) = self.shadow.take() {
            self.push(stay.hash, stay.since_ms, true, end, ending);
        }
    }

    fn push(&mut self, hash: String, from: i64, in_shadow: bool, end: End, ending: &Ending) {
        let counts = if in_shadow { ending.in_shadow } else { ending.in_force };
        self.past.push(Past {
            hash,
            in_shadow,
            from,
            to: ending.at_ms,
            end,
            by: ending.by.clone(),
            why: ending.why.clone(),
            calls: counts.calls,
            denials: counts.denials,
            failures: counts.failures,
        });
        let over = self.past.len().saturating_sub(PAST_MAX);
        self.past.drain(..over);
    }

    /// Puts a version in force. What runs in shadow ends: as activated, where it is that version.
    #[must_use]
    pub fn activated(&self, hash: &str, shadow_only: bool, ending: &Ending) -> PolicyRecord {
        let mut next = self.clone();
        let end = match &next.shadow {
            Some(shadow) if shadow.hash == hash => End::Activated,
            _ => End::Replaced,
        };
        next.end_shadow(end, ending);
        let before = next.in_force.clone();
        next.end_stay(End::Replaced, ending);
        // A version that only changes its mode is not one before itself.
        next.earlier.extend(before.filter(|before| before.hash != hash));
        let over = next.earlier.len().saturating_sub(VERSIONS_MAX);
        next.earlier.drain(..over);
        next.in_force = Some(Activation {
            hash: hash.to_owned(),
            since_ms: ending.at_ms,
            shadow_only,
        });
        next
    }

    /// Runs a version beside the one in force.
    #[must_use]
    pub fn rehearsed(&self, rehearsal: Rehearsal, ending: &Ending) -> PolicyRecord {
        let mut next = self.clone();
        next.end_shadow(End::Replaced, ending);
        next.shadow = Some(rehearsal);
        next
    }

    /// Ends what runs in shadow.
    #[must_use]
    pub fn unrehearsed(&self, ending: &Ending) -> PolicyRecord {
        let mut next = self.clone();
        next.end_shadow(End::Ended, ending);
        next
    }

    /// Puts the version before in force again, or the file's before the first, and ends what runs in shadow. `effective` is
    /// the version that is really in force, where the one that should be cannot be: the one before that is meant.
    #[must_use]
    pub fn rolled_back(&self, effective: Option<&str>, ending: &Ending) -> PolicyRecord {
        let mut next = self.clone();
        next.end_shadow(End::Ended, ending);
        let is_in_force = next.in_force.as_ref().map(|stay| stay.hash.as_str()) == effective;
        next.end_stay(End::RolledBack, ending);
        if !is_in_force {
            let place = next
                .earlier
                .iter()
                .rposition(|stay| Some(stay.hash.as_str()) == effective);
            next.earlier.truncate(place.unwrap_or(0));
        }
        next.in_force = next.earlier.pop().map(|before| Activation {
            since_ms: ending.at_ms,
            ..before
        });
        next
    }

    /// The same, past so many versions before it that do not load any more.
    #[must_use]
    pub fn rolled_back_past(&self, effective: Option<&str>, unfit: usize, ending: &Ending) -> PolicyRecord {
        let mut next = self.rolled_back(effective, ending);
        for _ in 0..unfit {
            let Some(before) = next.in_force.clone() else { break };
            next = next.rolled_back(Some(&before.hash), ending);
        }
        next
    }

    /// Puts the file's in force again.
    #[must_use]
    pub fn deactivated(&self, ending: &Ending) -> PolicyRecord {
        let mut next = self.clone();
        next.end_shadow(End::Ended, ending);
        next.end_stay(End::Deactivated, ending);
        next.earlier.clear();
        next
    }

    pub(super) fn is_needed(&self, hash: &str) -> bool {
        let stays = self.candidates().take(2).map(|stay| stay.hash.as_str());
        let shadow = self.shadow.iter().map(|shadow| shadow.hash.as_str());
        stays.chain(shadow).any(|needed| needed == hash)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn at(at_ms: i64) -> Ending {
        Ending {
            at_ms,
            by: "ops".to_owned(),
            ..Ending::default()
        }
    }

    #[test]
    fn a_rollback_goes_one_version_back_and_past_the_first_to_the_file() {
        let record = PolicyRecord::default()
            .activated("a", false, &at(1))
            .activated("b", true, &at(2));
        let mode_alone = record.activated("b", false, &at(3));
        let stands = |record: &PolicyRecord| {
            let hash = record.in_force.as_ref().map(|stay| stay.hash.clone());
            (hash, record.earlier.len())
        };
        assert_eq!(
            stands(&mode_alone),
            (Some("b".to_owned()), 1),
            "no version is before itself"
        );
        let first = mode_alone.rolled_back(Some("b"), &at(4));
        assert_eq!(stands(&first), (Some("a".to_owned()), 0));
        let file = first.rolled_back(Some("a"), &at(5));
        assert_eq!(stands(&file), (None, 0));
        let ends: Vec<(&str, &str)> = file
            .past
            .iter()
            .map(|past| (past.hash.as_str(), past.end.name()))
            .collect();
        let expected = [
            ("a", "replaced"),
            ("b", "replaced"),
            ("b", "rolled_back"),
            ("a", "rolled_back"),
        ];
        assert_eq!(ends, expected);
        // `c` cannot be read, and `b` stands in for it: the one before that is meant.
        let unreadable = record.activated("c", false, &at(3));
        assert_eq!(
            stands(&unreadable.rolled_back(Some("b"), &at(4))),
            (Some("a".to_owned()), 0)
        );
        assert_eq!(
            stands(&unreadable.rolled_back(None, &at(4))),
            (None, 0),
            "the file stands in"
        );
    }

    #[test]
    fn what_runs_in_shadow_ends_with_whatever_comes_into_force() {
        let rehearsal = Rehearsal {
            hash: "b".to_owned(),
            since_ms: 2,
            activate_at_ms: Some(9),
            shadow_only: false,
        };
        let record = PolicyRecord::default()
            .activated("a", false, &at(1))
            .rehearsed(rehearsal, &at(2));
        let ending = Ending {
            in_shadow: TallyCounts {
                calls: 7,
                denials: 3,
                failures: 1,
            },
            ..at(9)
        };
        let next = record.activated("b", false, &ending);
        let shadow = next.past.iter().find(|past| past.in_shadow).unwrap();
        assert_eq!(
            (shadow.end, shadow.calls, shadow.denials, shadow.failures),
            (End::Activated, 7, 3, 1)
        );
        assert_eq!(next.shadow, None);
        for ended in [record.rolled_back(Some("a"), &ending), record.deactivated(&ending)] {
            assert_eq!((ended.shadow.as_ref(), ended.in_force.as_ref()), (None, None));
        }
        let ended = record.unrehearsed(&ending);
        assert_eq!(ended.in_force.unwrap().hash, "a");
    }
}
