//! Money without floats: amounts in nano-dollars, unit prices in pico-dollars.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text or a sum is no amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("not a decimal number")]
    NotDecimal,
    #[error("more decimal places than money has")]
    TooPrecise,
    #[error("amount of money out of range")]
    OutOfRange,
}

/// An amount of money in nano-dollars (10⁻⁹ USD). Its text form is decimal, without trailing zeros: `0.00375`, `0`, `-1.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

impl Usd {
    pub const ZERO: Usd = Usd(0);
    pub const MAX: Usd = Usd(i64::MAX);

    pub const fn from_nanos(nanos: i64) -> Usd {
        Usd(nanos)
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Exactly the decimal text, also with an exponent; an error where it has digits below one nano-dollar.
    pub fn parse(text: &str) -> Result<Usd, MoneyError> {
        parse_scaled(text, NANO_DIGITS).map(Usd)
    }

    /// A figure that somebody else computed, perhaps with floats (`1.2000000000000002e-05`), rounded half up to the nano-dollar.
    /// For what is compared with the books, never for what is entered in them.
    ///
    /// # Errors
    /// What is no decimal number, is negative, or is more than money goes to.
    pub fn parse_rounded(text: &str) -> Result<Usd, MoneyError> {
        let decimal = Decimal::read(text)?;
        let mut mantissa: i128 = 0;
        let mut dropped = 0;
        for byte in decimal.digits() {
            // So many digits reach below the nano-dollar, or the amount is out of range.
            if mantissa < ROUNDED_MANTISSA_MAX {
                mantissa = mantissa * 10 + i128::from(byte - b'0');
            } else {
                dropped += 1;
            }
        }
        let shift = decimal.shift(NANO_DIGITS)? + dropped;
        let rounded = if shift >= 0 {
            shift_decimal(mantissa, shift)?
        } else {
            match 10_i128.checked_pow(shift.unsigned_abs()) {
                Some(unit) => (mantissa + unit / 2).div_euclid(unit),
                None => 0,
            }
        };
        if decimal.negative && mantissa != 0 {
            return Err(MoneyError::OutOfRange);
        }
        i64::try_from(rounded).map(Usd).map_err(|_| MoneyError::OutOfRange)
    }

    pub fn checked_add(self, other: Usd) -> Option<Usd> {
        self.0.checked_add(other.0).map(Usd)
    }

    pub fn checked_sub(self, other: Usd) -> Option<Usd> {
        self.0.checked_sub(other.0).map(Usd)
    }

    pub fn saturating_add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }

    pub fn saturating_sub(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, NANO_DIGITS)
    }
}

impl FromStr for Usd {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Usd, MoneyError> {
        Usd::parse(text)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads decimal text, and whole numbers. Never a float: it may no longer be what was written.
impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of USD as decimal text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                Usd::parse(text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Usd, E> {
                i64::try_from(whole)
                    .map_err(|_| E::custom(MoneyError::OutOfRange))
                    .and_then(|whole| self.visit_i64(whole))
            }

            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Usd, E> {
                whole
                    .checked_mul(NANOS_PER_USD)
                    .map(Usd)
                    .ok_or_else(|| E::custom(MoneyError::OutOfRange))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A price per unit (one token, one search) in pico-dollars (10⁻¹² USD): 1 USD per million tokens is 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitPrice(i64);

impl UnitPrice {
    pub const ZERO: UnitPrice = UnitPrice(0);

    pub const fn from_picos(picos: i64) -> UnitPrice {
        UnitPrice(picos)
    }

    pub const fn picos(self) -> i64 {
        self.0
    }

    /// From decimal text in USD per unit: `0.00000125`, `1.25e-06`.
    pub fn parse_per_unit(text: &str) -> Result<UnitPrice, MoneyError> {
        parse_scaled(text, PICO_DIGITS).map(UnitPrice)
    }

    /// From decimal text in USD per million units: `1.25`.
    pub fn parse_per_million(text: &str) -> Result<UnitPrice, MoneyError> {
        parse_scaled(text, PICO_DIGITS - 6).map(UnitPrice)
    }

    /// Decimal text in USD per million units.
    pub fn per_million(self) -> String {
        struct PerMillion(i64);
        impl fmt::Display for PerMillion {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_scaled(f, self.0, PICO_DIGITS - 6)
            }
        }
        PerMillion(self.0).to_string()
    }
}

/// Decimal text in USD per unit.
impl fmt::Display for UnitPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, PICO_DIGITS)
    }
}

/// A running cost in pico-dollars: exact until it is rounded, once, to an amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picos(i128);

impl Picos {
    pub const ZERO: Picos = Picos(0);

    pub const fn from_picos(picos: i128) -> Picos {
        Picos(picos)
    }

    pub const fn picos(self) -> i128 {
        self.0
    }

    /// Adds `units` at `price`; `None` beyond any sane sum.
    pub fn add(self, units: u64, price: UnitPrice) -> Option<Picos> {
        i128::from(units)
            .checked_mul(i128::from(price.0))
            .and_then(|cost| self.0.checked_add(cost))
            .map(Picos)
    }

    pub fn checked_add(self, other: Picos) -> Option<Picos> {
        self.0.checked_add(other.0).map(Picos)
    }

    /// Rounded half up to whole nano-dollars.
    pub fn to_usd(self) -> Result<Usd, MoneyError> {
        let halved_up = self.0.checked_add(PICOS_PER_NANO / 2).ok_or(MoneyError::OutOfRange)?;
        i64::try_from(halved_up.div_euclid(PICOS_PER_NANO))
            .map(Usd)
            .map_err(|_| MoneyError::OutOfRange)
    }
}

const NANO_DIGITS: u32 = 9;
const PICO_DIGITS: u32 = 12;
const NANOS_PER_USD: i64 = 1_000_000_000;
const PICOS_PER_NANO: i128 = 1_000;
/// Longer text is no amount of money, whatever it says.
const TEXT_BYTES_MAX: usize = 64;
const EXPONENT_MAX: i32 = 64;
/// Past this, further digits of a rounded amount are left out: thirty are more than any amount has.
const ROUNDED_MANTISSA_MAX: i128 = 1_000_000_000_000_000_000_000_000_000_000;

/// The parts of `[+-]digits[.digits][e[+-]digits]`.
struct Decimal<'t> {
    negative: bool,
    whole: &'t str,
    /// Without zeros at its end: they say nothing, and would overflow a mantissa for nothing.
    fraction: &'t str,
    exponent: i32,
}

impl<'t> Decimal<'t> {
    fn read(text: &'t str) -> Result<Decimal<'t>, MoneyError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(MoneyError::NotDecimal);
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let (number, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // `.5` and `5.` are accepted, `.` and an empty text are not.
        if whole.is_empty() && fraction.is_empty() {
            return Err(MoneyError::NotDecimal);
        }
        let decimal = Decimal {
            negative,
            whole,
            fraction: fraction.trim_end_matches('0'),
            exponent,
        };
        if decimal.digits().all(|byte| byte.is_ascii_digit()) {
            Ok(decimal)
        } else {
            Err(MoneyError::NotDecimal)
        }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    /// The power of ten that makes the digits, as a whole number, units of 10^-`digits`.
    fn shift(&self, digits: u32) -> Result<i32, MoneyError> {
        let places = i32::try_from(self.fraction.len()).map_err(|_| MoneyError::NotDecimal)?;
        Ok(i32::try_from(digits).map_err(|_| MoneyError::OutOfRange)? - places + self.exponent)
    }
}

/// Reads `[+-]digits[.digits][e[+-]digits]` as an integer of 10^-`digits` units, without rounding.
fn parse_scaled(text: &str, digits: u32) -> Result<i64, MoneyError> {
    let decimal = Decimal::read(text)?;
    let mut mantissa: i128 = 0;
    for byte in decimal.digits() {
        mantissa = mantissa
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(byte - b'0')))
            .ok_or(MoneyError::OutOfRange)?;
    }
    let scaled = shift_decimal(mantissa, decimal.shift(digits)?)?;
    i64::try_from(if decimal.negative { -scaled } else { scaled }).map_err(|_| MoneyError::OutOfRange)
}

fn parse_exponent(text: &str) -> Result<i32, MoneyError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MoneyError::NotDecimal);
    }
    let size: i32 = digits.parse().map_err(|_| MoneyError::OutOfRange)?;
    if size > EXPONENT_MAX {
        return Err(MoneyError::OutOfRange);
    }
    Ok(if text.starts_with('-') { -size } else { size })
}

/// `mantissa` × 10^`shift`, exactly.
fn shift_decimal(mantissa: i128, shift: i32) -> Result<i128, MoneyError> {
    if mantissa == 0 {
        return Ok(0);
    }
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    if shift >= 0 {
        return power
            .and_then(|power| mantissa.checked_mul(power))
            .ok_or(MoneyError::OutOfRange);
    }
    match power {
        Some(power) if mantissa % power == 0 => Ok(mantissa / power),
        _ => Err(MoneyError::TooPrecise),
    }
}

/// Writes `value` × 10^-`digits` without trailing zeros.
fn write_scaled(f: &mut fmt::Formatter<'_>, value: i64, digits: u32) -> fmt::Result {
    let unit = 10_u64.saturating_pow(digits);
    let size = value.unsigned_abs();
    let (whole, mut fraction) = (size / unit, size % unit);
    let sign = if value < 0 { "-" } else { "" };
    if fraction == 0 {
        return write!(f, "{sign}{whole}");
    }
    let mut places = digits as usize;
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        places -= 1;
    }
    write!(f, "{sign}{whole}.{fraction:0places$}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimal_text_is_read_and_written_exactly() {
        for (text, nanos, shown) in [
            ("0.00375", 3_750_000, "0.00375"),
            ("0", 0, "0"),
            ("-1.5", -1_500_000_000, "-1.5"),
            ("+2", 2_000_000_000, "2"),
            (".5", 500_000_000, "0.5"),
            ("5.", 5_000_000_000, "5"),
            ("0.000000001", 1, "0.000000001"),
            ("1.100000000000000000000", 1_100_000_000, "1.1"),
            ("2.5e-06", 2_500, "0.0000025"),
            ("1E2", 100_000_000_000, "100"),
            ("-0", 0, "0"),
            ("9223372036.854775807", i64::MAX, "9223372036.854775807"),
            ("-9223372036.854775808", i64::MIN, "-9223372036.854775808"),
        ] {
            let usd = Usd::parse(text).unwrap();
            assert_eq!(usd.nanos(), nanos, "{text}");
            assert_eq!(usd.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", ".", "-", "1,5", "NaN", "inf", "0x1", "1e", "1e+", "--1", "1.2.3", " 1", "1 ", "١",
        ] {
            assert_eq!(Usd::parse(text), Err(MoneyError::NotDecimal), "{text:?}");
        }
        for text in ["0.0000000001", "1e-10", "0.1234567891", "1e-64"] {
            assert_eq!(Usd::parse(text), Err(MoneyError::TooPrecise), "{text:?}");
        }
        for text in ["9223372036.854775808", "1e10", "1e64", "1e999999999999"] {
            assert_eq!(Usd::parse(text), Err(MoneyError::OutOfRange), "{text:?}");
        }
        assert!(Usd::parse(&"9".repeat(65)).is_err());
    }

    #[test]
    fn foreign_figures_are_rounded_half_up_to_the_nano() {
        for (text, nanos) in [
            ("0.0000372375", 37_238),
            ("1.2000000000000002e-05", 12_000),
            ("0.0000000005", 1),
            ("0.00000000049999999999999999999999999999999999", 0),
            ("0.00000000050000000000000000000000000000000001", 1),
            ("9223372036.8547758074", i64::MAX),
            ("1e-64", 0),
            ("-0", 0),
            ("0.00375", 3_750_000),
        ] {
            assert_eq!(Usd::parse_rounded(text).map(Usd::nanos), Ok(nanos), "{text}");
        }
        for text in ["", "NaN", "inf", "-Infinity", "1,5", "0x1p3", "1e"] {
            assert_eq!(Usd::parse_rounded(text), Err(MoneyError::NotDecimal), "{text:?}");
        }
        for text in ["-0.5", "-1e-12", "9223372036.8547758075", "1e40", "1e999"] {
            assert_eq!(Usd::parse_rounded(text), Err(MoneyError::OutOfRange), "{text:?}");
        }
        let endless = format!("1{}", "0".repeat(62));
        assert_eq!(Usd::parse_rounded(&endless), Err(MoneyError::OutOfRange));
    }

    #[test]
    fn prices_are_read_per_unit_and_per_million() {
        assert_eq!(UnitPrice::parse_per_unit("1.25e-06").unwrap().picos(), 1_250_000);
        assert_eq!(UnitPrice::parse_per_million("1.25").unwrap().picos(), 1_250_000);
        assert_eq!(UnitPrice::parse_per_million("0.075").unwrap().per_million(), "0.075");
        assert_eq!(UnitPrice::from_picos(1_250_000).to_string(), "0.00000125");
        assert_eq!(UnitPrice::parse_per_million("0.0000001"), Err(MoneyError::TooPrecise));
    }

    #[test]
    fn a_sum_is_rounded_half_up_once() {
        let half = Picos::ZERO.add(1, UnitPrice::from_picos(500)).unwrap();
        assert_eq!(half.to_usd().unwrap().nanos(), 1);
        assert_eq!(Picos::from_picos(499).to_usd().unwrap().nanos(), 0);
        // Two halves are one nano, not two: no rounding between.
        assert_eq!(half.checked_add(half).unwrap().to_usd().unwrap().nanos(), 1);
        assert_eq!(Picos::from_picos(-500).to_usd().unwrap().nanos(), 0);
        assert_eq!(Picos::from_picos(-501).to_usd().unwrap().nanos(), -1);
        assert!(
            Picos::ZERO
                .add(u64::MAX, UnitPrice::from_picos(i64::MAX))
                .unwrap()
                .to_usd()
                .is_err()
        );
    }

    #[test]
    fn serde_is_decimal_text() {
        assert_eq!(
            serde_json::to_string(&Usd::from_nanos(3_750_000)).unwrap(),
            "\"0.00375\""
        );
        assert_eq!(serde_json::from_str::<Usd>("\"0.00375\"").unwrap().nanos(), 3_750_000);
        assert_eq!(serde_json::from_str::<Usd>("2").unwrap().nanos(), 2_000_000_000);
        assert!(serde_json::from_str::<Usd>("0.5").is_err());
    }

    proptest! {
        #[test]
        fn every_amount_survives_its_text(nanos: i64) {
            prop_assert_eq!(Usd::parse(&Usd(nanos).to_string()), Ok(Usd(nanos)));
            if nanos >= 0 {
                prop_assert_eq!(Usd::parse_rounded(&Usd(nanos).to_string()), Ok(Usd(nanos)));
            }
            prop_assert_eq!(UnitPrice::parse_per_unit(&UnitPrice(nanos).to_string()), Ok(UnitPrice(nanos)));
            prop_assert_eq!(UnitPrice::parse_per_million(&UnitPrice(nanos).per_million()), Ok(UnitPrice(nanos)));
        }

        #[test]
        fn no_text_panics(text in ".{0,70}") {
            let _ = (Usd::parse(&text), Usd::parse_rounded(&text));
        }
    }
}
