//! Money without floats: amounts in nano-dollars, unit prices in pico-dollars.

/// An amount of money in nano-dollars (10⁻⁹ USD). Its text form is decimal, without trailing zeros: `0.00375`, `0`, `-1.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

impl Usd {
    pub const ZERO: Usd = Usd(0);
    pub const fn from_nanos(nanos: i64) -> Usd {
        Usd(nanos)
    }
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

/// A price per unit (one token, one search) in pico-dollars (10⁻¹² USD): 1 USD per million tokens is 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitPrice(i64);

impl UnitPrice {
    pub const fn from_picos(picos: i64) -> UnitPrice {
        UnitPrice(picos)
    }
    pub const fn picos(self) -> i64 {
        self.0
    }
}
