//! Bounds: limits on what an account may spend within a calendar window. Built so that nonsense (negative, NaN, absent,
//! endless) cannot get into one.

use std::fmt;

use jiff::tz::TimeZone;

use crate::amounts::{Amounts, Unit};
use crate::entry::Name;
use crate::money::Usd;

/// A budget's calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Window {
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
    Total,
}

impl Window {
    pub const ALL: [Window; 6] = [
        Window::Minute,
        Window::Hour,
        Window::Day,
        Window::Week,
        Window::Month,
        Window::Total,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Window::Minute => "minute",
            Window::Hour => "hour",
            Window::Day => "day",
            Window::Week => "week",
            Window::Month => "month",
            Window::Total => "total",
        }
    }

    pub fn from_name(name: &str) -> Option<Window> {
        Window::ALL.into_iter().find(|window| window.name() == name)
    }
}

/// What a bound does when it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Refuses.
    Hard,
    /// Counts and warns, never refuses.
    Watch,
}

/// Why a bound cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    #[error("a limit must be a number, not {0}")]
    NotANumber(&'static str),
    #[error("a limit must not be negative")]
    Negative,
    #[error("a limit this large is no limit: leave it out")]
    Enormous,
    #[error("a limit in {} must be a whole number", .0.name())]
    Fraction(Unit),
    #[error("an account's name must have 1 to {ACCOUNT_BYTES_MAX} bytes and no control characters")]
    Account,
    #[error("unknown time zone `{0}`")]
    Zone(String),
}

/// A time zone with its name. Cheap to clone.
#[derive(Clone)]
pub struct Zone {
    name: Name,
    rules: TimeZone,
}

impl Zone {
    pub fn utc() -> Zone {
        Zone {
            name: Name::from(UTC),
            rules: TimeZone::UTC,
        }
    }

    /// By its IANA name, such as `Europe/Berlin`.
    pub fn named(name: &str) -> Result<Zone, BoundError> {
        if ["UTC", "Etc/UTC", "Z", ""].contains(&name) {
            return Ok(Zone::utc());
        }
        let rules = TimeZone::get(name).map_err(|_| BoundError::Zone(name.to_owned()))?;
        // The database ignores case; one zone must have one name here.
        let name = rules.iana_name().unwrap_or(name);
        Ok(Zone {
            name: Name::from(name),
            rules: rules.clone(),
        })
    }

    /// A zone that a record names. Where this machine does not know it any more, its windows turn as in UTC under the
    /// name it had: what was counted stays apart.
    pub(crate) fn of_record(name: &Name) -> Zone {
        Zone::named(name).unwrap_or_else(|_| Zone {
            name: name.clone(),
            rules: TimeZone::UTC,
        })
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn rules(&self) -> &TimeZone {
        &self.rules
    }

    pub fn is_utc(&self) -> bool {
        &*self.name == UTC
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name).finish()
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

const UTC: &str = "UTC";
/// Longest name of an account, kind and colon included.
pub const ACCOUNT_BYTES_MAX: usize = 512;

/// A limit: a count of one unit, zero or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    unit: Unit,
    count: i64,
}

impl Limit {
    pub fn usd(limit: Usd) -> Result<Limit, BoundError> {
        Limit::counted(Unit::Usd, limit.nanos())
    }

    pub fn tokens(limit: u64) -> Result<Limit, BoundError> {
        Limit::counted(Unit::Tokens, i64::try_from(limit).map_err(|_| BoundError::Enormous)?)
    }

    pub fn requests(limit: u64) -> Result<Limit, BoundError> {
        Limit::counted(Unit::Requests, i64::try_from(limit).map_err(|_| BoundError::Enormous)?)
    }

    pub(crate) fn counted(unit: Unit, count: i64) -> Result<Limit, BoundError> {
        if count < 0 {
            Err(BoundError::Negative)
        } else {
            Ok(Limit { unit, count })
        }
    }

    /// From a policy's number. Dollars are taken by their shortest decimal text, so 0.1 is exactly a dime, and
    /// what lies below a nano-dollar is dropped: a limit never grows.
    pub fn from_number(unit: Unit, number: f64) -> Result<Limit, BoundError> {
        if number.is_nan() {
            return Err(BoundError::NotANumber("NaN"));
        }
        if number < 0.0 {
            return Err(BoundError::Negative);
        }
        if number >= LIMIT_NUMBER_MAX {
            return Err(BoundError::Enormous);
        }
        // Rust writes an f64 out in full, without an exponent.
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        match unit {
            Unit::Usd => {
                let nanos = fraction.get(..9).unwrap_or(fraction);
                Usd::parse(&format!("{whole}.{nanos}"))
                    .map_err(|_| BoundError::Enormous)
                    .and_then(Limit::usd)
            }
            Unit::Tokens | Unit::Requests if !fraction.is_empty() => Err(BoundError::Fraction(unit)),
            Unit::Tokens | Unit::Requests => Limit::counted(unit, whole.parse().map_err(|_| BoundError::Enormous)?),
        }
    }

    pub const fn unit(self) -> Unit {
        self.unit
    }

    /// Nano-dollars, tokens or requests.
    pub const fn count(self) -> i64 {
        self.count
    }
}

/// Nine billion dollars, tokens or requests: all that nano-dollars can count.
const LIMIT_NUMBER_MAX: f64 = 9.0e9;

/// One limit a policy puts on one (account, window, unit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    account: Name,
    window: Window,
    zone: Zone,
    limit: Limit,
    mode: Mode,
}

impl Bound {
    /// `account` is `kind:name` or `global`. The zone of `total` says nothing and is taken as UTC.
    pub fn new(account: Name, window: Window, zone: Zone, limit: Limit, mode: Mode) -> Result<Bound, BoundError> {
        if account.is_empty() || account.len() > ACCOUNT_BYTES_MAX || account.chars().any(char::is_control) {
            return Err(BoundError::Account);
        }
        let zone = if window == Window::Total { Zone::utc() } else { zone };
        Ok(Bound {
            account,
            window,
            zone,
            limit,
            mode,
        })
    }

    pub fn account(&self) -> &Name {
        &self.account
    }

    pub fn window(&self) -> Window {
        self.window
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    pub fn unit(&self) -> Unit {
        self.limit.unit
    }

    pub fn limit(&self) -> Limit {
        self.limit
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The same, counting and never refusing.
    pub(crate) fn watched(&self) -> Bound {
        Bound {
            mode: Mode::Watch,
            ..self.clone()
        }
    }
}

/// How one account stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountBalances {
    /// In the windows that run, in the order of [`Window::ALL`].
    pub posted: [Amounts; Window::ALL.len()],
    /// What open holds reserve.
    pub held: Amounts,
}

impl AccountBalances {
    pub fn posted(&self, window: Window) -> Amounts {
        let place = Window::ALL.iter().position(|known| *known == window);
        place
            .and_then(|place| self.posted.get(place))
            .copied()
            .unwrap_or_default()
    }

    /// The same with another amount posted in a window.
    #[must_use]
    pub fn with_posted(mut self, window: Window, amounts: Amounts) -> AccountBalances {
        for (slot, known) in self.posted.iter_mut().zip(Window::ALL) {
            if known == window {
                *slot = amounts;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn numbers_become_exact_limits_or_none() {
        let usd = |number| Limit::from_number(Unit::Usd, number).map(Limit::count);
        assert_eq!(usd(0.1), Ok(100_000_000));
        assert_eq!(usd(0.1 + 0.2), Ok(300_000_000));
        assert_eq!(usd(5.0), Ok(5_000_000_000));
        assert_eq!(usd(1e-12), Ok(0));
        assert_eq!(usd(-0.0), Ok(0));
        assert_eq!(usd(f64::NAN), Err(BoundError::NotANumber("NaN")));
        assert_eq!(usd(-1e-300), Err(BoundError::Negative));
        assert_eq!(usd(f64::NEG_INFINITY), Err(BoundError::Negative));
        assert_eq!(usd(f64::INFINITY), Err(BoundError::Enormous));
        assert_eq!(usd(1e300), Err(BoundError::Enormous));
        let tokens = |number| Limit::from_number(Unit::Tokens, number).map(Limit::count);
        assert_eq!(tokens(100_000.0), Ok(100_000));
        assert_eq!(tokens(1.5), Err(BoundError::Fraction(Unit::Tokens)));
        assert_eq!(Limit::tokens(u64::MAX), Err(BoundError::Enormous));
        assert_eq!(Limit::usd(Usd::from_nanos(-1)), Err(BoundError::Negative));
    }

    #[test]
    fn accounts_and_zones_are_checked() {
        let bound = |account: &str| {
            let limit = Limit::tokens(1).unwrap();
            Bound::new(account.into(), Window::Day, Zone::utc(), limit, Mode::Hard)
        };
        assert!(bound("key:a").is_ok());
        assert_eq!(bound(""), Err(BoundError::Account));
        assert_eq!(bound("key:\n"), Err(BoundError::Account));
        assert_eq!(bound(&"k".repeat(ACCOUNT_BYTES_MAX + 1)), Err(BoundError::Account));
        assert!(Zone::named("Mars/Base").is_err());
        assert!(Zone::named("Etc/UTC").unwrap().is_utc());
    }
}
