//! Query parameters as the contract takes them: what cannot be read is as good as left out.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::http::Uri;

/// Longest stretch of time: ten years.
const HOURS_MAX: f64 = 87_600.0;
const HOUR_MS: f64 = 3_600_000.0;

#[derive(Debug, Default)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    pub fn of(uri: &Uri) -> Params {
        Params(Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default())
    }

    /// Empty where it is left out.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The stretch `hours` before `now_ms`, in milliseconds since the epoch: from, and to, which is past now so that what was
    /// settled in this very millisecond is in.
    pub fn hours(&self, now_ms: i64, default: f64) -> (i64, i64) {
        let hours = self.text("hours").parse::<f64>().ok();
        let hours = hours.filter(|hours| hours.is_finite() && *hours > 0.0 && *hours <= HOURS_MAX);
        // Within ten years, in milliseconds: exact.
        let ms = (hours.unwrap_or(default) * HOUR_MS) as i64;
        (now_ms.saturating_sub(ms), now_ms.saturating_add(1))
    }

    pub fn limit(&self, default: usize, most: usize) -> usize {
        let limit = self.text("limit").parse::<usize>().ok();
        limit.filter(|limit| *limit > 0).unwrap_or(default).min(most)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn of(query: &str) -> Params {
        Params::of(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn bad_numbers_fall_to_the_default() {
        for bad in [
            "",
            "hours=",
            "hours=x",
            "hours=-3",
            "hours=0",
            "hours=NaN",
            "hours=inf",
            "hours=1e300",
            "limit=2",
        ] {
            assert_eq!(of(bad).hours(10 * 3_600_000, 2.0), (8 * 3_600_000, 36_000_001), "{bad}");
        }
        assert_eq!(of("hours=0.5").hours(3_600_000, 2.0), (1_800_000, 3_600_001));
        for (query, limit) in [
            ("", 10),
            ("limit=0", 10),
            ("limit=-1", 10),
            ("limit=3", 3),
            ("limit=9999", 100),
        ] {
            assert_eq!(of(query).limit(10, 100), limit, "{query}");
        }
    }
}
