//! What a caller asked for, read and checked.

use std::time::Duration;

use agentledger_ledger::Dimension;
use jiff::Timestamp;

use crate::config::units::{DurationError, go_duration};
use crate::control::error::RpcError;

pub(in crate::control) const MINUTE_MS: i64 = 60_000;
pub(in crate::control) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(in crate::control) const DAY_MS: i64 = 24 * HOUR_MS;
const DAY_SECONDS: u64 = 86_400;
const WEEK_SECONDS: u64 = 7 * DAY_SECONDS;
/// What `--last` and `last` are where nothing is said.
pub const LAST_DEFAULT: &str = "24h";

/// `invalid --last value "X": …`, the contract's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid --last value {text:?}: {reason}")]
pub struct LastError {
    text: String,
    reason: String,
}

/// Reads a stretch of time: a whole number of weeks (`1w`) or days (`30d`), or Go's durations (`90m`, `1h30m`); empty is 24
/// hours.
pub fn parse_last(text: &str) -> Result<Duration, LastError> {
    let failed = |reason: &str| LastError {
        text: text.to_owned(),
        reason: reason.to_owned(),
    };
    let asked = if text.is_empty() { LAST_DEFAULT } else { text };
    for (unit, seconds) in [('w', WEEK_SECONDS), ('d', DAY_SECONDS)] {
        let Some(count) = asked.strip_suffix(unit) else {
            continue;
        };
        let count: u64 = count
            .parse()
            .map_err(|_| failed("a number before d or w must be whole and stand alone: 7d, 2w"))?;
        return count
            .checked_mul(seconds)
            .map(Duration::from_secs)
            .ok_or_else(|| failed("too long"));
    }
    go_duration(asked).map_err(|error| {
        failed(&match error {
            DurationError::UnknownUnit(unit) => format!("unknown unit {unit:?} (w, d, h, m, s, ms, us, ns)"),
            DurationError::MissingUnit => "a number without a unit (w, d, h, m, s, ms, us, ns)".to_owned(),
            other => other.to_string(),
        })
    })
}

/// What was said of a stretch of time.
#[derive(Clone, Copy)]
pub(in crate::control) struct Span<'a> {
    pub last: Option<&'a str>,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
}

impl<'a> Span<'a> {
    pub fn new(last: &'a Option<String>, from: &'a Option<String>, to: &'a Option<String>) -> Span<'a> {
        Span {
            last: last.as_deref(),
            from: from.as_deref(),
            to: to.as_deref(),
        }
    }

    /// As [`span`] reads it.
    pub fn ms(self, now_ms: i64, last_default: Option<&str>) -> Result<(i64, i64), RpcError> {
        span(self, now_ms, last_default).map_err(RpcError::InvalidParams)
    }
}

/// Milliseconds since the epoch, from (inclusive) and to (exclusive). `last_default` counts where nothing is given;
/// `None` is everything.
fn span(span: Span<'_>, now_ms: i64, last_default: Option<&str>) -> Result<(i64, i64), String> {
    if span.last.is_some() && (span.from.is_some() || span.to.is_some()) {
        return Err("give either last, or from and to".to_owned());
    }
    // What is settled in this very millisecond is in.
    let mut to_ms = now_ms.saturating_add(1);
    if let Some(to) = span.to {
        to_ms = moment("to", to)?;
    }
    let from_ms = match (span.from, span.last.or(last_default)) {
        (Some(from), _) => moment("from", from)?,
        (None, Some(last)) if span.to.is_none() || span.last.is_some() => before(now_ms, last)?,
        (None, _) => i64::MIN,
    };
    if from_ms > to_ms {
        return Err("from is after to".to_owned());
    }
    Ok((from_ms, to_ms))
}

fn before(now_ms: i64, last: &str) -> Result<i64, String> {
    let last = parse_last(last).map_err(|error| error.to_string())?;
    Ok(now_ms.saturating_sub(i64::try_from(last.as_millis()).unwrap_or(i64::MAX)))
}

fn moment(name: &str, text: &str) -> Result<i64, String> {
    let at: Timestamp = text
        .parse()
        .map_err(|_| format!("{name}: {text:?} is no RFC 3339 time"))?;
    Ok(at.as_millisecond())
}

/// The usual tags, which need no `tag:` before their names.
const TAGS: [&str; 7] = ["feature", "team", "project", "cost_centre", "page", "server", "tool"];

/// What to sum by. An unknown word is `model`, as in the contract.
pub(in crate::control) fn dimension(by: &str) -> Dimension {
    match by {
        "provider" => Dimension::Provider,
        "key" => Dimension::Key,
        "agent" => Dimension::Agent,
        "session" => Dimension::Session,
        "user" => Dimension::User,
        "task" => Dimension::Task,
        "tenant" => Dimension::Tenant,
        tag if TAGS.contains(&tag) => Dimension::Tag(tag.into()),
        _ => match by.strip_prefix("tag:") {
            Some(name) if !name.is_empty() => Dimension::Tag(name.into()),
            _ => Dimension::Model,
        },
    }
}

/// The word for it, as it comes back in results.
pub(in crate::control) fn dimension_name(by: &Dimension) -> String {
    match by {
        Dimension::Model => "model".to_owned(),
        Dimension::Provider => "provider".to_owned(),
        Dimension::Key => "key".to_owned(),
        Dimension::Agent => "agent".to_owned(),
        Dimension::Session => "session".to_owned(),
        Dimension::User => "user".to_owned(),
        Dimension::Task => "task".to_owned(),
        Dimension::Tenant => "tenant".to_owned(),
        Dimension::Tag(name) => format!("tag:{name}"),
    }
}

/// How many rows an answer may have.
pub(in crate::control) fn limit(requested: Option<usize>, default: usize, most: usize) -> Result<usize, RpcError> {
    let limit = requested.unwrap_or(default);
    if limit == 0 || limit > most {
        return Err(RpcError::InvalidParams(format!("limit must be 1 to {most}")));
    }
    Ok(limit)
}

/// No parameters.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::control) struct Nothing {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    #[test]
    fn last_is_the_contracts_grammar() {
        assert_eq!(parse_last("").unwrap(), Duration::from_secs(86_400));
        assert_eq!(parse_last("7d").unwrap(), Duration::from_secs(7 * 86_400));
        assert_eq!(parse_last("1w").unwrap(), parse_last("7d").unwrap());
        let unit = parse_last("3y").unwrap_err().to_string();
        assert!(
            unit.ends_with("unknown unit \"y\" (w, d, h, m, s, ms, us, ns)"),
            "{unit}"
        );
        assert_eq!(parse_last("90m").unwrap(), Duration::from_secs(5_400));
        assert_eq!(parse_last("1h30m").unwrap(), Duration::from_secs(5_400));
        for bad in [
            "d",
            "1.5d",
            "-3d",
            "7",
            "h",
            "1x",
            "99999999999999999999d",
            "300000000000000d",
            "-5m",
            "w",
            "1.5w",
        ] {
            let error = parse_last(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid --last value {bad:?}: ")), "{error}");
        }
    }

    #[test]
    fn spans_are_checked() {
        let of = |last: Option<&str>, from: Option<&str>, to: Option<&str>| {
            span(Span { last, from, to }, NOW_MS, Some(LAST_DEFAULT))
        };
        assert_eq!(of(None, None, None), Ok((NOW_MS - 86_400_000, NOW_MS + 1)));
        assert_eq!(of(Some("1h"), None, None), Ok((NOW_MS - 3_600_000, NOW_MS + 1)));
        assert_eq!(
            of(None, Some("2023-11-14T00:00:00Z"), None),
            Ok((1_699_920_000_000, NOW_MS + 1))
        );
        assert_eq!(
            of(None, None, Some("2023-11-14T00:00:00Z")),
            Ok((i64::MIN, 1_699_920_000_000))
        );
        assert!(of(Some("1h"), Some("2023-11-14T00:00:00Z"), None).is_err());
        assert!(of(None, Some("2024-11-14T00:00:00Z"), Some("2023-11-14T00:00:00Z")).is_err());
        assert!(of(None, Some("yesterday"), None).unwrap_err().starts_with("from:"));
    }

    #[test]
    fn an_unknown_by_is_model() {
        assert_eq!(dimension("colour"), Dimension::Model);
        assert_eq!(dimension("tag:"), Dimension::Model);
        assert_eq!(dimension("team"), Dimension::Tag("team".into()));
        for by in [
            "model", "provider", "key", "agent", "session", "user", "task", "tenant", "tag:team",
        ] {
            assert_eq!(dimension_name(&dimension(by)), by);
        }
    }
}
