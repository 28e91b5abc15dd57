//! `policies.rollback`: when a version of a policy is rolled back by itself.

use std::time::Duration;

use super::Rollback;
use super::cursor::Cursor;

/// `false` is never.
pub fn resolve(at: &Cursor<'_>) -> Option<Rollback> {
    const SHARE: (&str, u32) = ("0.05", 50_000);
    const CALLS: (u64, u64) = (20, 1_000_000);
    const WITHIN: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(7 * 24 * 3_600));
    if !at.is_section() && at.filled().is_some() && !at.flag(true) {
        return None;
    }
    let share = at.at("share");
    share.default_is(SHARE.0);
    Some(Rollback {
        share_ppm: if share.is_given() { share.share_ppm() } else { SHARE.1 },
        calls: at.at("calls").count(CALLS.0, 1, CALLS.1),
        within: at.at("within").millis(WITHIN.0, 1, WITHIN.1),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Env, Known, load_text};

    fn read(yaml: &str) -> Result<Option<Rollback>, String> {
        let none: [(&str, &str); 0] = [];
        let read = load_text(None, yaml, &Env::of(none), &Known::built_in());
        read.map(|config| config.policies.rollback)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn it_is_on_unless_it_is_false_and_each_part_may_be_given() {
        let default = Rollback {
            share_ppm: 50_000,
            calls: 20,
            within: Duration::from_secs(600),
        };
        for yaml in ["", "policies: {rollback: true}", "policies: {rollback: {}}"] {
            assert_eq!(read(yaml), Ok(Some(default)), "{yaml}");
        }
        assert_eq!(read("policies: {rollback: false}"), Ok(None));
        let given = Rollback {
            share_ppm: 0,
            calls: 1,
            within: Duration::from_secs(30),
        };
        let yaml = "policies: {rollback: {share: 0, calls: 1, within: 30s}}";
        assert_eq!(read(yaml), Ok(Some(given)));
        for wrong in ["sometimes", "{share: 2}", "{calls: 0}", "{within: 8d}"] {
            assert!(read(&format!("policies: {{rollback: {wrong}}}")).is_err(), "{wrong}");
        }
    }
}
