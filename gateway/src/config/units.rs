//! Numbers with units, read from their text: exact decimals, Go's durations, byte sizes.

use std::time::Duration;

/// Why a text is no number of the kind that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("is not a number")]
    NotANumber,
    #[error("must be a finite number")]
    NotFinite,
    #[error("must not be negative")]
    Negative,
    #[error("has more than {0} decimal places")]
    TooFine(u32),
    #[error("is too large")]
    TooLarge,
}

/// Reads a decimal such as `12`, `0.8`, `.5`, `1e3` as a whole number of 10^-`places`, exactly, never through a float.
pub fn scaled(text: &str, places: u32) -> Result<i128, NumberError> {
    let text = text.trim();
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if matches!(
        rest.to_ascii_lowercase().as_str(),
        ".nan" | "nan" | ".inf" | "inf" | "infinity"
    ) {
        return Err(NumberError::NotFinite);
    }
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        // A sign is read; an exponent beyond these digits is beyond any sum of money too.
        Some((mantissa, exponent)) if exponent.len() <= 4 => {
            (mantissa, exponent.parse::<i32>().map_err(|_| NumberError::NotANumber)?)
        }
        Some(_) => return Err(NumberError::NotANumber),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !digits().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    let mut value: i128 = 0;
    for digit in digits() {
        let next = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit - b'0')));
        value = next.ok_or(NumberError::TooLarge)?;
    }
    // Zero is zero whatever its exponent, and the loops below end soon for everything else.
    let fraction_places = i32::try_from(fraction.len()).map_err(|_| NumberError::TooLarge)?;
    let mut shift = if value == 0 {
        0
    } else {
        places as i32 + exponent - fraction_places
    };
    while shift > 0 {
        value = value.checked_mul(10).ok_or(NumberError::TooLarge)?;
        shift -= 1;
    }
    while shift < 0 {
        if value % 10 != 0 {
            return Err(NumberError::TooFine(places));
        }
        value /= 10;
        shift += 1;
    }
    Ok(if negative { -value } else { value })
}

/// A whole number; `1_000` and `1e3` are read as well as `1000`.
pub fn whole(text: &str) -> Result<u64, NumberError> {
    let plain = text.trim().replace('_', "");
    match scaled(&plain, 0) {
        Ok(value) if value < 0 => Err(NumberError::Negative),
        Ok(value) => u64::try_from(value).map_err(|_| NumberError::TooLarge),
        Err(NumberError::TooFine(_)) => Err(NumberError::TooFine(0)),
        Err(error) => Err(error),
    }
}

/// A size in bytes: a whole number, or one with `KiB`, `MiB`, `GiB` (1024) or `KB`, `MB`, `GB` (1000).
pub fn byte_size(text: &str) -> Result<u64, NumberError> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).ok_or(NumberError::NotANumber)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(NumberError::NotANumber),
    };
    whole(number)?.checked_mul(factor).ok_or(NumberError::TooLarge)
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("not a duration such as 90m, 1h30m or 500ms")]
    Malformed,
    #[error("a number without a unit (ns, us, ms, s, m, h)")]
    MissingUnit,
    #[error("unknown unit \"{0}\" (ns, us, ms, s, m, h)")]
    UnknownUnit(String),
    #[error("must not be negative")]
    Negative,
    #[error("too long")]
    TooLong,
}

/// The longest duration read here: a hundred years.
const NANOS_MAX: i128 = 36_525 * 86_400 * 1_000_000_000;

/// Reads Go's durations: numbers with units, one after the other, such as `1h30m` or `1.5s`.
pub fn go_duration(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(number_end).ok_or(DurationError::Malformed)?;
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end).ok_or(DurationError::Malformed)?;
        if number.is_empty() {
            return Err(DurationError::Malformed);
        }
        // The unit as a power of ten of nanoseconds, times sixties.
        let (places, factor) = match unit {
            "" => return Err(DurationError::MissingUnit),
            "ns" => (0, 1),
            "us" | "µs" | "μs" => (3, 1),
            "ms" => (6, 1),
            "s" => (9, 1),
            "m" => (9, 60),
            "h" => (9, 3600),
            _ => return Err(DurationError::UnknownUnit(unit.to_owned())),
        };
        // Beyond nine places of a second nothing is kept, as in Go.
        let number = match number.split_once('.') {
            Some((whole, fraction)) => {
                let kept: String = fraction.chars().take(places as usize).collect();
                format!("{whole}.{kept}")
            }
            None => number.to_owned(),
        };
        let part = scaled(&number, places).map_err(|error| match error {
            NumberError::TooLarge => DurationError::TooLong,
            _ => DurationError::Malformed,
        })?;
        nanos = part
            .checked_mul(factor)
            .and_then(|part| nanos.checked_add(part))
            .ok_or(DurationError::TooLong)?;
        if nanos > NANOS_MAX {
            return Err(DurationError::TooLong);
        }
        rest = tail;
    }
    if negative && nanos > 0 {
        return Err(DurationError::Negative);
    }
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::TooLong)
}

/// A whole number of milliseconds, or a duration with its unit.
pub fn millis(text: &str) -> Result<Duration, String> {
    match whole(text) {
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(NumberError::NotANumber) => go_duration(text.trim()).map_err(|error| match error {
            DurationError::Negative => "must not be negative".to_owned(),
            other => format!("is not a number of milliseconds, and {other}"),
        }),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(scaled("0.8", 6), Ok(800_000));
        assert_eq!(scaled("0.1", 9), Ok(100_000_000));
        assert_eq!(scaled(" 50 ", 9), Ok(50_000_000_000));
        assert_eq!(scaled(".5", 1), Ok(5));
        assert_eq!(scaled("1.50", 1), Ok(15));
        assert_eq!(scaled("1e3", 0), Ok(1000));
        assert_eq!(scaled("25E-1", 1), Ok(25));
        assert_eq!(scaled("-2.5", 1), Ok(-25));
        assert_eq!(scaled("0e999", 9), Ok(0));
        assert_eq!(
            scaled("9007199254740993", 0),
            Ok(9_007_199_254_740_993),
            "a float would round this"
        );
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", "-", ".", "e5", "1e", "1.2.3", "0x10", "1,5", "five", "--1", "1e99999", "- 1",
        ] {
            assert_eq!(scaled(text, 9), Err(NumberError::NotANumber), "{text:?}");
        }
        for text in [".nan", ".NaN", "NaN", ".inf", "-.inf", "+.Inf", "Infinity"] {
            assert_eq!(scaled(text, 9), Err(NumberError::NotFinite), "{text:?}");
        }
        assert_eq!(scaled("0.0000000001", 9), Err(NumberError::TooFine(9)));
        assert_eq!(scaled("1e999", 9), Err(NumberError::TooLarge));
        assert_eq!(scaled(&"9".repeat(60), 0), Err(NumberError::TooLarge));
        assert_eq!(whole("-1"), Err(NumberError::Negative));
        assert_eq!(whole("1.5"), Err(NumberError::TooFine(0)));
        assert_eq!(whole("1_000"), Ok(1000));
        assert_eq!(whole("18446744073709551616"), Err(NumberError::TooLarge));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(byte_size("512"), Ok(512));
        assert_eq!(byte_size("32MiB"), Ok(32 << 20));
        assert_eq!(byte_size("32 MiB"), Ok(32 << 20));
        assert_eq!(byte_size("2kb"), Ok(2000));
        assert_eq!(byte_size("1G"), Ok(1 << 30));
        assert_eq!(byte_size("1 parsec"), Err(NumberError::NotANumber));
        assert_eq!(byte_size("-1"), Err(NumberError::Negative));
        assert_eq!(byte_size("99999999999GiB"), Err(NumberError::TooLarge));
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(go_duration("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(go_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(go_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(go_duration(".5h"), Ok(Duration::from_secs(1800)));
        assert_eq!(go_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(go_duration("0"), Ok(Duration::ZERO));
        assert_eq!(go_duration("1.0000000009s"), Ok(Duration::from_secs(1)));
        assert_eq!(go_duration("5"), Err(DurationError::MissingUnit));
        assert_eq!(go_duration("5w"), Err(DurationError::UnknownUnit("w".into())));
        assert_eq!(go_duration("-5m"), Err(DurationError::Negative));
        assert_eq!(go_duration("99999999999h"), Err(DurationError::TooLong));
        for text in ["", "-", "h", "abc", "1h.", "1..2s", "."] {
            assert!(go_duration(text).is_err(), "{text:?}");
        }
        assert_eq!(millis("1500"), Ok(Duration::from_millis(1500)));
        assert_eq!(millis("15m"), Ok(Duration::from_secs(900)));
        assert!(millis("soon").is_err());
    }
}
