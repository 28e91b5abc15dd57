//! What the original AgentLedger wrote down, as facts about its tables: rows of `usage_records` and `agent_sessions`, and the
//! keys of `admin_config`. A row that makes no sense is told with its reason, never guessed at.

use std::collections::BTreeMap;

use agentledger_ledger::{Kind, Usage, Usd};
use jiff::civil::Date;
use ulid::Ulid;

/// Columns of `usage_records` that a ledger of the original has, in the order in which they are read.
pub const USAGE_COLUMNS: [&str; 16] = [
    "id",
    "timestamp",
    "provider",
    "model",
    "api_key_hash",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "estimated",
    "duration_ms",
    "status_code",
    "path",
    "agent_id",
    "session_id",
    "user_id",
    // Since its third migration.
    "tenant_id",
];
/// The same of `agent_sessions`.
pub const SESSION_COLUMNS: [&str; 10] = [
    "id",
    "agent_id",
    "user_id",
    "task",
    "started_at",
    "ended_at",
    "status",
    "call_count",
    "total_cost_usd",
    "total_tokens",
];
/// The column that older databases lack.
pub const TENANT: &str = "tenant_id";

/// A name that is longer was written by nobody.
const NAME_BYTES_MAX: usize = 512;
/// A call that cost more is nonsense.
const COST_USD_MAX: f64 = 1e6;
/// A call with more tokens is nonsense, too.
const TOKENS_MAX: i64 = 1 << 40;
/// A call that took longer than a month.
const DURATION_MS_MAX: i64 = 31 * 24 * 60 * 60 * 1_000;
/// 2000-01-01: what is said to be older has no time. Go's own zero time is of the year 1.
const AT_MS_MIN: i64 = 946_684_800_000;

/// Why a database of the original's cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{from}: {reason}")]
    Unreadable { from: String, reason: String },
    #[error("{from} is no ledger of the original AgentLedger: {reason}")]
    Foreign { from: String, reason: String },
    #[error("{from} is damaged after row {place} of {table}: {reason}")]
    Damaged {
        from: String,
        table: &'static str,
        place: u64,
        reason: String,
    },
}

/// A database of the original's, open, as it is at one moment.
pub trait Original {
    /// The name of this source, by its first record: a copy has the same. `None` where there are no records.
    ///
    /// # Errors
    /// It cannot be read.
    fn name(&self) -> Result<Option<String>, SourceError>;

    /// The id of the record at this place, as it is taken over; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read.
    fn id_at(&self, place: u64) -> Result<Option<Ulid>, SourceError>;

    /// How many records come after a place.
    ///
    /// # Errors
    /// It cannot be read.
    fn count_after(&self, place: u64) -> Result<u64, SourceError>;

    /// Visits the records after a place in their order, each as it is or with what is wrong with it, until `visit` says no more.
    ///
    /// # Errors
    /// It is damaged.
    fn each_usage(
        &self,
        after: u64,
        now_ms: i64,
        visit: &mut dyn FnMut(Result<UsageRow, Misfit>) -> bool,
    ) -> Result<(), SourceError>;

    /// All sessions, and those that make no sense.
    ///
    /// # Errors
    /// It is damaged.
    fn sessions(&self) -> Result<(Vec<SessionRow>, Vec<Misfit>), SourceError>;

    /// What operators changed.
    ///
    /// # Errors
    /// It is damaged.
    fn admin(&self) -> Result<(AdminRows, Vec<Misfit>), SourceError>;
}

/// One call as the original recorded it.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRow {
    /// Where it stands in its table, ascending.
    pub place: u64,
    pub id: Ulid,
    /// Start of the request, milliseconds since the epoch.
    pub at_ms: i64,
    pub provider: String,
    pub model: String,
    /// The original's fingerprint.
    pub key: String,
    pub usage: Usage,
    pub cost: Usd,
    pub estimated: bool,
    pub duration_ms: u64,
    pub status: u16,
    pub path: String,
    pub agent: String,
    pub session: String,
    pub user: String,
    pub tenant: String,
}

/// One session as the original kept it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionRow {
    pub id: String,
    pub agent: String,
    pub user: String,
    pub task: String,
    pub status: String,
    pub ended_ms: Option<i64>,
    pub calls: u64,
    pub cost: Usd,
    pub tokens: u64,
}

/// What operators changed in the original while it ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdminRows {
    /// Each as the original's config has it.
    pub budget_rules: Vec<serde_json::Value>,
    pub blocked_keys: Vec<String>,
    /// Providers that are switched off.
    pub disabled_providers: Vec<String>,
}

/// Why a row is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// `usage_records 17`, `agent_sessions run-1`.
    pub row: String,
    pub reason: String,
}

/// A value as a database holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a [u8]),
    Bytes,
    /// A moment, milliseconds since the epoch: of a database that has such a type.
    At(i64),
}

impl<'a> Cell<'a> {
    fn text(self, column: &str) -> Result<&'a str, String> {
        match self {
            Cell::Text(bytes) => std::str::from_utf8(bytes).map_err(|_| format!("{column} is not UTF-8")),
            Cell::Null => Err(format!("{column} is NULL")),
            _ => Err(format!("{column} is no text")),
        }
    }

    fn name(self, column: &str) -> Result<String, String> {
        let text = self.text(column)?;
        if text.len() > NAME_BYTES_MAX {
            return Err(format!("{column} is longer than {NAME_BYTES_MAX} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("{column} has control characters"));
        }
        Ok(text.to_owned())
    }

    fn count(self, column: &str, max: i64) -> Result<u64, String> {
        let count = match self {
            Cell::Integer(count) => count,
            Cell::Real(count) if count.fract() == 0.0 && count.abs() <= max as f64 => count as i64,
            Cell::Null => return Err(format!("{column} is NULL")),
            _ => return Err(format!("{column} is no number")),
        };
        if count > max {
            return Err(format!("{column} is beyond all measure"));
        }
        u64::try_from(count).map_err(|_| format!("{column} is negative"))
    }

    fn flag(self, column: &str) -> Result<bool, String> {
        match self {
            Cell::Integer(0 | 1) => Ok(self == Cell::Integer(1)),
            Cell::Text(b"true" | b"1") => Ok(true),
            Cell::Text(b"false" | b"0") => Ok(false),
            Cell::Null => Err(format!("{column} is NULL")),
            _ => Err(format!("{column} is neither true nor false")),
        }
    }

    fn money(self, column: &str) -> Result<Usd, String> {
        let usd = match self {
            Cell::Real(usd) => usd,
            Cell::Integer(usd) => usd as f64,
            Cell::Null => return Err(format!("{column} is NULL")),
            _ => return Err(format!("{column} is no number")),
        };
        if !usd.is_finite() || usd > COST_USD_MAX {
            return Err(format!("{column} is beyond all measure"));
        }
        if usd < 0.0 {
            return Err(format!("{column} is negative"));
        }
        // The one place where a float becomes money: its nine decimals, exactly rounded.
        Usd::parse(&format!("{usd:.9}")).map_err(|error| format!("{column}: {error}"))
    }

    /// The moment that it names, if it names one.
    pub fn at_ms(self) -> Option<i64> {
        self.moment("").ok()
    }

    fn moment(self, column: &str) -> Result<i64, String> {
        let at_ms = match self {
            Cell::At(at_ms) => Some(at_ms),
            Cell::Null => return Err(format!("{column} is NULL")),
            _ => moment_ms(self.text(column)?),
        };
        at_ms
            .filter(|at_ms| *at_ms >= AT_MS_MIN)
            .ok_or_else(|| format!("{column} is no time"))
    }
}

/// A row of `usage_records`, its cells in the order of [`USAGE_COLUMNS`].
///
/// # Errors
/// Why it makes no sense.
pub fn usage_row<'a>(place: u64, now_ms: i64, cell: impl Fn(usize) -> Cell<'a>) -> Result<UsageRow, Misfit> {
    let read = || -> Result<UsageRow, String> {
        let at_ms = cell(1).moment("timestamp")?;
        if at_ms > now_ms {
            return Err("timestamp is of the future".to_owned());
        }
        let count = |at: usize, column| cell(at).count(column, TOKENS_MAX);
        Ok(UsageRow {
            place,
            id: id_of(cell(0).text("id")?, at_ms),
            at_ms,
            provider: named(cell(2).name("provider")?, "provider")?,
            model: named(cell(3).name("model")?, "model")?,
            key: cell(4).name("api_key_hash")?,
            usage: Usage::ZERO
                .with(Kind::Input, count(5, "input_tokens")?)
                .with(Kind::Output, count(6, "output_tokens")?),
            cost: cell(7).money("cost_usd")?,
            estimated: cell(8).flag("estimated")?,
            duration_ms: cell(9).count("duration_ms", DURATION_MS_MAX)?,
            status: u16::try_from(cell(10).count("status_code", i64::from(u16::MAX))?).unwrap_or_default(),
            path: cell(11).name("path")?,
            agent: cell(12).name("agent_id")?,
            session: cell(13).name("session_id")?,
            user: cell(14).name("user_id")?,
            tenant: cell(15).name("tenant_id")?,
        })
    };
    read().map_err(|reason| Misfit {
        row: format!("usage_records {place}"),
        reason,
    })
}

fn named(name: String, column: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err(format!("{column} is empty"));
    }
    Ok(name)
}

/// A row of `agent_sessions`, its cells in the order of [`SESSION_COLUMNS`].
///
/// # Errors
/// Why it makes no sense.
pub fn session_row<'a>(number: u64, cell: impl Fn(usize) -> Cell<'a>) -> Result<SessionRow, Misfit> {
    let id = cell(0).name("id");
    let read = || -> Result<SessionRow, String> {
        cell(4).moment("started_at")?;
        Ok(SessionRow {
            id: named(id.clone()?, "id")?,
            agent: cell(1).name("agent_id")?,
            user: cell(2).name("user_id")?,
            task: cell(3).name("task")?,
            ended_ms: match cell(5) {
                Cell::Null => None,
                ended => Some(ended.moment("ended_at")?),
            },
            status: cell(6).name("status")?,
            calls: cell(7).count("call_count", TOKENS_MAX)?,
            cost: cell(8).money("total_cost_usd")?,
            tokens: cell(9).count("total_tokens", TOKENS_MAX)?,
        })
    };
    read().map_err(|reason| Misfit {
        row: format!("agent_sessions {number}"),
        reason,
    })
}

/// A row of `admin_config`, added to what was read before.
///
/// # Errors
/// Why it makes no sense.
pub fn admin_row(rows: &mut AdminRows, key: Cell<'_>, value: Cell<'_>) -> Result<(), Misfit> {
    let mut read = || -> Result<(), String> {
        let (key, text) = (key.text("key")?, value.text("value")?);
        let not_ours = |error: serde_json::Error| format!("value is not what {key} has: {error}");
        match key {
            _ if text.is_empty() => {}
            "budget_rules" => {
                rows.budget_rules = serde_json::from_str::<Option<_>>(text)
                    .map_err(not_ours)?
                    .unwrap_or_default();
            }
            "blocked_keys" => {
                rows.blocked_keys = serde_json::from_str::<Option<_>>(text)
                    .map_err(not_ours)?
                    .unwrap_or_default();
            }
            "providers_enabled" => {
                let enabled: Option<BTreeMap<String, bool>> = serde_json::from_str(text).map_err(not_ours)?;
                let disabled = enabled.unwrap_or_default().into_iter().filter(|(_, enabled)| !enabled);
                rows.disabled_providers = disabled.map(|(name, _)| name).collect();
            }
            other => return Err(format!("nothing here answers to the key {other:?}")),
        }
        Ok(())
    };
    let named = key.text("key").unwrap_or("?").to_owned();
    read().map_err(|reason| Misfit {
        row: format!("admin_config {named}"),
        reason,
    })
}

/// The record's own id where it is one of our kind; else one that follows from it, the same each time.
pub fn id_of(text: &str, at_ms: i64) -> Ulid {
    Ulid::from_string(text).unwrap_or_else(|_| {
        let random = blake3::hash(text.as_bytes());
        let random = random.as_bytes().first_chunk::<10>().copied().unwrap_or_default();
        let random = random.iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
        Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), random)
    })
}

/// What the original's paths are called here.
pub fn operation_of(path: &str) -> &'static str {
    const OPERATIONS: [(&str, &str); 6] = [
        ("/chat/completions", "chat"),
        ("/messages", "messages"),
        ("/responses", "responses"),
        ("/embeddings", "embeddings"),
        ("/completions", "completions"),
        ("tools/call", "tools.call"),
    ];
    let found = OPERATIONS.into_iter().find(|(part, _)| path.contains(part));
    found.map_or("other", |(_, operation)| operation)
}

/// A moment as Go prints one (`2026-03-15 12:34:56.789 +0000 UTC m=+0.5`), or as SQL and RFC 3339 write one.
fn moment_ms(text: &str) -> Option<i64> {
    let text = text.split(" m=").next()?.trim();
    let (date, rest) = text.split_at_checked(10)?;
    let (year, month, day) = (digits(date, 0, 4)?, digits(date, 5, 2)?, digits(date, 8, 2)?);
    if date.get(4..5)? != "-" || date.get(7..8)? != "-" {
        return None;
    }
    let date = Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    )
    .ok()?;
    let days = date
        .since(Date::constant(1970, 1, 1))
        .ok()
        .map(|span| i64::from(span.get_days()))?;
    let time = rest.strip_prefix([' ', 'T'])?;
    let (hours, minutes, seconds) = (digits(time, 0, 2)?, digits(time, 3, 2)?, digits(time, 6, 2)?);
    if time.get(2..3)? != ":" || time.get(5..6)? != ":" || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let (millis, zone) = fraction(time.get(8..)?)?;
    let offset_s = offset_s(zone)?;
    let local_s = days * 86_400 + hours * 3_600 + minutes * 60 + seconds;
    Some((local_s - offset_s) * 1_000 + millis)
}

fn digits(text: &str, from: usize, count: usize) -> Option<i64> {
    let digits = text.get(from..from + count)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// The milliseconds of a fraction, and what follows it.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = rest.find(|one: char| !one.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, rest) = rest.split_at_checked(end)?;
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let millis = fraction.bytes().chain(*b"000").take(3);
    Some((millis.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')), rest))
}

/// Seconds that a zone is ahead of UTC: none, `Z`, `+0100 CET`, `+01:00`. Its name says nothing more.
fn offset_s(text: &str) -> Option<i64> {
    let zone = text.trim_start();
    if zone.is_empty() || zone == "Z" || zone == "UTC" {
        return Some(0);
    }
    let sign = match zone.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let hours = digits(zone, 1, 2)?;
    let minutes = match zone.get(3..4) {
        Some(":") => digits(zone, 4, 2)?,
        _ => digits(zone, 3, 2)?,
    };
    (hours <= 15 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
#[path = "original_tests.rs"]
mod tests;
