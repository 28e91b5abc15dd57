//! Amounts: counts of the three units that budgets come in.

use crate::money::Usd;

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unit {
    /// Nano-dollars.
    Usd,
    Tokens,
    Requests,
}

impl Unit {
    pub const ALL: [Unit; 3] = [Unit::Usd, Unit::Tokens, Unit::Requests];

    pub const fn name(self) -> &'static str {
        match self {
            Unit::Usd => "usd",
            Unit::Tokens => "tokens",
            Unit::Requests => "requests",
        }
    }

    pub fn from_name(name: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.name() == name)
    }
}

/// One count in each unit. Inside a balance they may be negative (an adjustment); a hold's never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub usd: Usd,
    pub tokens: i64,
    pub requests: i64,
}

impl Amounts {
    pub const ZERO: Amounts = Amounts {
        usd: Usd::ZERO,
        tokens: 0,
        requests: 0,
    };

    /// One request; counts beyond `i64` stay at its largest value.
    pub fn of_request(usd: Usd, tokens: u64) -> Amounts {
        Amounts {
            usd,
            tokens: i64::try_from(tokens).unwrap_or(i64::MAX),
            requests: 1,
        }
    }

    /// The count in one unit: nano-dollars, tokens or requests.
    pub const fn get(&self, unit: Unit) -> i64 {
        match unit {
            Unit::Usd => self.usd.nanos(),
            Unit::Tokens => self.tokens,
            Unit::Requests => self.requests,
        }
    }

    pub fn set(&mut self, unit: Unit, count: i64) {
        match unit {
            Unit::Usd => self.usd = Usd::from_nanos(count),
            Unit::Tokens => self.tokens = count,
            Unit::Requests => self.requests = count,
        }
    }

    pub const fn is_zero(&self) -> bool {
        self.usd.is_zero() && self.tokens == 0 && self.requests == 0
    }

    /// No count below zero.
    pub const fn is_valid_hold(&self) -> bool {
        !self.usd.is_negative() && self.tokens >= 0 && self.requests >= 0
    }

    /// Both together; a count that would overflow stays at the end of its range, where it refuses everything.
    #[must_use]
    pub fn plus(&self, other: &Amounts) -> Amounts {
        Amounts {
            usd: self.usd.saturating_add(other.usd),
            tokens: self.tokens.saturating_add(other.tokens),
            requests: self.requests.saturating_add(other.requests),
        }
    }

    #[must_use]
    pub fn minus(&self, other: &Amounts) -> Amounts {
        Amounts {
            usd: self.usd.saturating_sub(other.usd),
            tokens: self.tokens.saturating_sub(other.tokens),
            requests: self.requests.saturating_sub(other.requests),
        }
    }

    /// Unit by unit what of this lies beyond `other`, nothing less than zero.
    #[must_use]
    pub fn beyond(&self, other: &Amounts) -> Amounts {
        let over = self.minus(other);
        Amounts {
            usd: over.usd.max(Usd::ZERO),
            tokens: over.tokens.max(0),
            requests: over.requests.max(0),
        }
    }
}
