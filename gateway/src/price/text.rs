//! What stands in price files as text: days, tiers and prices, each read exactly.

use agentledger_ledger::{Kind, UnitPrice};

use super::file::Fault;

/// Start of a day, UTC, in milliseconds since the epoch; `None` for what is no `YYYY-MM-DD`.
pub fn day_ms(text: &str) -> Option<i64> {
    let date = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10)?;
    let start = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(start.timestamp().as_millisecond())
}

/// `NAME` or `NAME >TOKENS`.
pub fn tier_key(key: &str) -> Option<(&str, Option<u64>)> {
    let (name, over) = match key.split_once('>') {
        Some((name, over)) => (name.trim(), Some(over.trim().parse().ok().filter(|over| *over > 0)?)),
        None => (key.trim(), None),
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(plain)).then_some((name, over))
}

/// Decimal USD per million tokens, or per unit for other kinds, exactly.
pub fn parse_price(text: &str, kind: Kind) -> Result<UnitPrice, Fault> {
    let decimals = if kind.is_tokens() { 6 } else { 12 };
    let picos = decimal(text, decimals)?;
    Ok(UnitPrice::from_picos(picos))
}

/// A decimal number in so many decimals.
pub fn decimal(text: &str, decimals: usize) -> Result<i64, Fault> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.starts_with('-') {
        return Err(Fault::Negative(text.to_owned()));
    }
    if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return Err(Fault::NotDecimal(text.to_owned()));
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > decimals {
        return Err(Fault::TooFine(text.to_owned()));
    }
    format!("{whole}{fraction:0<decimals$}")
        .parse()
        .map_err(|_| Fault::TooLarge(text.to_owned()))
}
