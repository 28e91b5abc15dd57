//! What sums are by: the words of `--by`. A word for a time (`day`) goes with any other.

use crate::cli::client::ClientError;
use crate::config::nearest;

/// Single names of entries, in the order of their columns.
const NAMES: [&str; 8] = ["model", "provider", "key", "agent", "session", "user", "task", "tenant"];
/// The usual tags, which need no `tag:` before their names.
const TAGS: [&str; 7] = ["team", "feature", "project", "cost_centre", "page", "server", "tool"];
const TAG: &str = "tag:";

const DAY_MS: i64 = 86_400_000;

/// A period by which sums are told apart. All of them are UTC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Minute,
    Hour,
    Day,
    /// From Monday on.
    Week,
    Month,
}

impl Period {
    const ALL: [Period; 5] = [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month];

    pub const fn name(self) -> &'static str {
        match self {
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        }
    }

    /// The step of `ledger.series` that its sums are made of.
    pub const fn step(self) -> &'static str {
        match self {
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day | Period::Week | Period::Month => "day",
        }
    }

    /// How far back sums go where nothing is said.
    pub const fn last_default(self) -> &'static str {
        match self {
            Period::Minute => "1h",
            Period::Hour => "24h",
            Period::Day => "7d",
            Period::Week => "5w",
            Period::Month => "366d",
        }
    }

    /// Where the period begins that a moment (`2026-11-29T10:00:00.000Z`) is in, as people write it.
    pub fn of(self, at: &str) -> String {
        let day = at.get(..10).unwrap_or(at);
        let time = |to| at.get(11..to).unwrap_or_default();
        match self {
            Period::Minute | Period::Hour => format!("{day} {}", time(16)),
            Period::Day => day.to_owned(),
            Period::Week => monday(day).unwrap_or_else(|| day.to_owned()),
            Period::Month => day.get(..7).unwrap_or(day).to_owned(),
        }
    }
}

/// The Monday on or before a day.
fn monday(day: &str) -> Option<String> {
    let ms = crate::price::day_ms(day)?;
    // The epoch was a Thursday.
    let since_monday = (ms.div_euclid(DAY_MS) + 3).rem_euclid(7);
    let monday = agentledger_ledger::rfc3339_ms(ms - since_monday * DAY_MS);
    Some(monday.get(..10)?.to_owned())
}

/// By what, in the order in which it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    pub period: Option<Period>,
    /// `model`, `tag:team`, …; none: all together.
    pub names: Vec<String>,
}

impl By {
    /// The tag that it names.
    pub fn tag(&self) -> Option<&str> {
        self.names.iter().find_map(|name| name.strip_prefix(TAG))
    }

    /// Reads the words, each of which may be several with commas between.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<By, ClientError> {
        let mut by = By::default();
        for word in words.iter().flat_map(|words| words.as_ref().split(',')) {
            if let Some(period) = Period::ALL.into_iter().find(|period| period.name() == word) {
                if by.period.replace(period).is_some_and(|before| before != period) {
                    return Err(ClientError::Usage("--by: one period at a time".to_owned()));
                }
                continue;
            }
            let name = name(word)?;
            if !by.names.contains(&name) {
                by.names.push(name);
            }
        }
        if by.names.iter().filter(|name| name.starts_with(TAG)).count() > 1 {
            return Err(ClientError::Usage("--by: one tag at a time".to_owned()));
        }
        if by == By::default() {
            by.names.push("model".to_owned());
        }
        Ok(by)
    }

    /// One name and no period: what the contract has tables and exports of.
    pub fn single(&self) -> Option<&str> {
        match (self.period, self.names.as_slice()) {
            (None, [name]) => Some(name),
            _ => None,
        }
    }

    pub fn last_default(&self) -> &'static str {
        self.period.map_or("24h", Period::last_default)
    }

    /// The fields of a row that name it.
    pub fn fields(&self) -> Vec<&str> {
        let mut fields: Vec<&str> = Vec::new();
        for name in &self.names {
            let of_name: &[&str] = match name.as_str() {
                "model" => &["provider", "model"],
                "session" => &["agent", "session"],
                other => &[other],
            };
            for field in of_name {
                if !fields.contains(field) {
                    fields.push(field);
                }
            }
        }
        fields
    }
}

/// The word as methods know it.
fn name(word: &str) -> Result<String, ClientError> {
    if NAMES.contains(&word) {
        return Ok(word.to_owned());
    }
    if TAGS.contains(&word) {
        return Ok(format!("{TAG}{word}"));
    }
    if word.strip_prefix(TAG).is_some_and(|tag| !tag.is_empty()) {
        return Ok(word.to_owned());
    }
    let periods = Period::ALL.map(Period::name);
    let known = || NAMES.into_iter().chain(TAGS).chain(periods);
    let meant = nearest(known().collect::<Vec<&str>>(), word);
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    let all: Vec<&str> = known().collect();
    Err(ClientError::Usage(format!(
        "--by: unknown word {word:?}{meant}\nIt takes {}, tag:NAME, and several of them with commas between",
        all.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn words_are_names_and_at_most_one_period() {
        let parsed = |words: &[&str]| By::parse(words).map(|by| (by.period, by.names.join("+")));
        assert_eq!(parsed(&["model"]).unwrap(), (None, "model".into()));
        assert_eq!(parsed(&["day,model"]).unwrap(), (Some(Period::Day), "model".into()));
        assert_eq!(
            parsed(&["agent", "week", "team", "agent"]).unwrap(),
            (Some(Period::Week), "agent+tag:team".into())
        );
        assert_eq!(parsed(&["month"]).unwrap(), (Some(Period::Month), String::new()));
        for (words, said) in [
            (&["modle"][..], "unknown word \"modle\"; did you mean model?"),
            (&["days"], "did you mean day?"),
            (&["day,"], "unknown word \"\"\n"),
            (&["tag:"], "unknown word \"tag:\""),
            (&["day", "month"], "one period at a time"),
            (&["tag:a,team"], "one tag at a time"),
        ] {
            let error = parsed(words).unwrap_err().to_string();
            assert!(error.contains(said), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_moment_is_in_the_period_that_began_before_it() {
        let at = "2026-11-29T10:07:00.000Z";
        for (period, begins) in [
            (Period::Minute, "2026-11-29 10:07"),
            (Period::Day, "2026-11-29"),
            (Period::Week, "2026-11-23"),
            (Period::Month, "2026-11"),
        ] {
            assert_eq!(period.of(at), begins);
        }
        assert_eq!(Period::Week.of("2026-11-23T00:00:00.000Z"), "2026-11-23");
        assert_eq!(Period::Week.of("2026-11-22T23:59:59.999Z"), "2026-11-16");
    }

    #[test]
    fn names_that_share_a_field_have_it_once() {
        let by = By::parse(&["session,agent,model,provider"]).unwrap();
        assert_eq!(by.fields(), ["agent", "session", "provider", "model"]);
    }
}
