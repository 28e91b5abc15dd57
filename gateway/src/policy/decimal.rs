//! Numbers that policies write, made exact. Money becomes nano-dollars: decimal text is read digit by digit; a Lua number
//! stands for the shortest decimal that reads back as the same number (`0.1` is 0.1, not 0.1000000000000000055), and that
//! decimal is cut after the nano-dollar: a limit never grows. No sum is ever made in floats.

/// Largest limit in USD that is taken for meant: a billion.
pub const LIMIT_USD_MAX: i64 = 1_000_000_000;
/// Largest limit in tokens or requests: 2⁵³, up to which Lua counts exactly.
pub const LIMIT_COUNT_MAX: i64 = 1 << 53;

const NANOS_PER_USD: i64 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNumber {
    #[error("is not a number")]
    NotANumber,
    #[error("is infinite")]
    Infinite,
    #[error("is negative")]
    Negative,
    #[error("must be a whole number")]
    Fraction,
    #[error("is above {0}")]
    TooLarge(i64),
    #[error("is not a decimal number: write 12.5, without exponent, sign or unit")]
    NotDecimal,
}

/// Nano-dollars of a decimal text such as `12.5`. Digits beyond the ninth place are dropped.
pub fn nanos_of_text(text: &str) -> Result<i64, BadNumber> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.starts_with('-') && text.len() > 1 {
        return Err(BadNumber::Negative);
    }
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(BadNumber::NotDecimal);
    }
    let too_large = BadNumber::TooLarge(LIMIT_USD_MAX);
    let significant = whole.trim_start_matches('0');
    if significant.len() > 10 {
        return Err(too_large);
    }
    let dollars = significant
        .bytes()
        .fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    if dollars > LIMIT_USD_MAX {
        return Err(too_large);
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0'));
    let nanos = digits
        .take(9)
        .fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let total = dollars * NANOS_PER_USD + nanos;
    if total > LIMIT_USD_MAX * NANOS_PER_USD {
        Err(too_large)
    } else {
        Ok(total)
    }
}

/// Nano-dollars of a Lua number.
pub fn nanos_of_number(number: f64) -> Result<i64, BadNumber> {
    check_range(number, LIMIT_USD_MAX)?;
    match whole(number) {
        Some(dollars) => Ok(dollars * NANOS_PER_USD),
        None => nanos_of_text(&format!("{number}")),
    }
}

/// A count of tokens or requests, from a Lua number.
pub fn count_of_number(number: f64) -> Result<i64, BadNumber> {
    check_range(number, LIMIT_COUNT_MAX)?;
    whole(number).ok_or(BadNumber::Fraction)
}

/// A count of tokens or requests, from text.
pub fn count_of_text(text: &str) -> Result<i64, BadNumber> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(if text.starts_with('-') {
            BadNumber::Negative
        } else {
            BadNumber::NotDecimal
        });
    }
    let count: i64 = text.parse().map_err(|_| BadNumber::TooLarge(LIMIT_COUNT_MAX))?;
    if count > LIMIT_COUNT_MAX {
        Err(BadNumber::TooLarge(LIMIT_COUNT_MAX))
    } else {
        Ok(count)
    }
}

/// A share of 0 to 1 in parts per million, rounded to the nearest.
pub fn ppm_of_number(number: f64) -> Result<u32, BadNumber> {
    check_range(number, 1)?;
    // Between 0 and 1,000,000 by the check above: the cast cannot lose anything.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok((number * 1e6).round() as u32)
}

#[allow(clippy::cast_precision_loss)]
fn check_range(number: f64, max: i64) -> Result<(), BadNumber> {
    if number.is_nan() {
        Err(BadNumber::NotANumber)
    } else if number.is_infinite() {
        Err(BadNumber::Infinite)
    } else if number < 0.0 {
        Err(BadNumber::Negative)
    } else if number > max as f64 {
        Err(BadNumber::TooLarge(max))
    } else {
        Ok(())
    }
}

/// The number as an integer, if it is one; only called for 0 to 2⁵³, where the cast is exact.
#[allow(clippy::cast_possible_truncation)]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentledger_ledger::Usd;

    #[test]
    fn money_is_read_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("12.5", 12_500_000_000),
            ("0.000000001", 1),
            ("0.0000000009", 0),
            ("0.00000000049", 0),
            ("0000000000001", 1_000_000_000),
            ("1000000000", 1_000_000_000_000_000_000),
        ] {
            assert_eq!(nanos_of_text(text), Ok(nanos), "{text}");
        }
        assert_eq!(nanos_of_number(0.1), Ok(100_000_000));
        assert_eq!(nanos_of_number(0.1 + 0.2), Ok(300_000_000));
        assert_eq!(nanos_of_number(5.0), Ok(5_000_000_000));
        assert_eq!(nanos_of_number(1e-12), Ok(0));
        assert_eq!(nanos_of_number(123_456.789_012_345), Ok(123_456_789_012_345));
    }

    #[test]
    fn nonsense_is_refused_by_its_name() {
        assert_eq!(nanos_of_number(f64::NAN), Err(BadNumber::NotANumber));
        assert_eq!(nanos_of_number(f64::INFINITY), Err(BadNumber::Infinite));
        assert_eq!(nanos_of_number(-0.01), Err(BadNumber::Negative));
        assert_eq!(nanos_of_number(1e300), Err(BadNumber::TooLarge(LIMIT_USD_MAX)));
        assert_eq!(nanos_of_text("1000000000.1"), Err(BadNumber::TooLarge(LIMIT_USD_MAX)));
        assert_eq!(nanos_of_text("-1"), Err(BadNumber::Negative));
        for text in ["", ".", "1.", ".5", "1e3", "$5", "1,5", " 1", "0x10", "+1", "nan", "١"] {
            assert_eq!(nanos_of_text(text), Err(BadNumber::NotDecimal), "{text}");
        }
        assert_eq!(count_of_number(1.5), Err(BadNumber::Fraction));
        assert_eq!(
            count_of_text("99999999999999999999"),
            Err(BadNumber::TooLarge(LIMIT_COUNT_MAX))
        );
    }

    #[test]
    fn the_text_of_money_reads_back() {
        for nanos in [0, 1, 12_500_000_000, 999_999_999, 1_000_000_001] {
            assert_eq!(nanos_of_text(&Usd::from_nanos(nanos).to_string()), Ok(nanos));
        }
    }
}
