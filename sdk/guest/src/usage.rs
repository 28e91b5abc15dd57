//! Counts as providers report them, and the sums a reading is made of.

use std::fmt;

use crate::{Call, Count, Kind, Part};
use serde::Deserialize;
use serde::de::{Error, Visitor};
use serde_json::value::RawValue;

/// More units than any one answer can bill: a report above it is refused.
pub const UNITS_MAX: u64 = 1_000_000_000;

/// Kinds that most answers count at most.
const KINDS_USUAL: usize = 6;

/// A count in a provider's report. Absent and `null` are zero, `12.0` is 12, and so is a text of nothing but the digits
/// `"12"`, as some providers write it; negative, fractional and absurd ones do not parse, and with them the whole report
/// does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Units(pub u64);

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Units, D::Error> {
        from.deserialize_any(UnitsVisitor)
    }
}

struct UnitsVisitor;

impl<'de> Visitor<'de> for UnitsVisitor {
    type Value = Units;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a count")
    }

    fn visit_unit<E: Error>(self) -> Result<Units, E> {
        Ok(Units(0))
    }

    fn visit_none<E: Error>(self) -> Result<Units, E> {
        Ok(Units(0))
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, from: D) -> Result<Units, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_u64<E: Error>(self, units: u64) -> Result<Units, E> {
        if units <= UNITS_MAX {
            Ok(Units(units))
        } else {
            Err(E::custom("absurd count"))
        }
    }

    fn visit_i64<E: Error>(self, units: i64) -> Result<Units, E> {
        self.visit_u64(u64::try_from(units).map_err(|_| E::custom("negative count"))?)
    }

    fn visit_f64<E: Error>(self, units: f64) -> Result<Units, E> {
        // Whole numbers up to the limit are exact in a float.
        if units.fract() == 0.0 && (0.0..=UNITS_MAX as f64).contains(&units) {
            Ok(Units(units as u64))
        } else {
            Err(E::custom("fractional or absurd count"))
        }
    }

    /// Protocol buffers write counts of 64 bits as text in JSON, and some hosts all of theirs.
    /// <https://protobuf.dev/programming-guides/json/>
    fn visit_str<E: Error>(self, text: &str) -> Result<Units, E> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(E::custom("text that is no whole number"));
        }
        self.visit_u64(text.parse().map_err(|_| E::custom("absurd count"))?)
    }
}

/// Adds up counts by kind.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Vec<Count>,
    reasoning: Option<u64>,
}

impl Tally {
    pub fn add(&mut self, kind: Kind, units: u64) {
        match self.counts.iter_mut().find(|count| count.kind == kind) {
            Some(count) => count.units = count.units.saturating_add(units),
            None => {
                if self.counts.is_empty() {
                    // One allocation for what most answers count.
                    self.counts.reserve(KINDS_USUAL);
                }
                self.counts.push(Count { kind, units });
            }
        }
    }

    /// Thinking tokens, which are inside the output.
    pub fn reason(&mut self, units: Option<u64>) {
        if let Some(units) = units {
            self.reasoning = Some(self.reasoning.unwrap_or(0).saturating_add(units));
        }
    }

    /// Units of a kind so far.
    pub fn units(&self, kind: Kind) -> u64 {
        let counted = self.counts.iter().find(|count| count.kind == kind);
        counted.map_or(0, |count| count.units)
    }

    /// Thinking tokens so far.
    pub fn thought(&self) -> u64 {
        self.reasoning.unwrap_or(0)
    }

    pub fn part(self, model: Option<String>) -> Part {
        Part {
            model,
            usage: self.counts,
            reasoning: self.reasoning,
        }
    }
}

/// Adds what a hosted tool of the request may bill beside the answer's own tokens; without a model at the call's.
pub fn may_bill(call: &mut Call, model: Option<String>, kind: Kind, units: u64) {
    let units = units.min(UNITS_MAX);
    let part = match call.beside.iter_mut().find(|part| part.model == model) {
        Some(part) => part,
        None => {
            call.beside.push(Tally::default().part(model));
            match call.beside.last_mut() {
                Some(part) => part,
                None => return,
            }
        }
    };
    match part.usage.iter_mut().find(|count| count.kind == kind) {
        Some(count) => count.units = count.units.saturating_add(units).min(UNITS_MAX),
        None => part.usage.push(Count { kind, units }),
    }
}

/// A JSON number as plain decimal text, exactly; `None` for anything else, negative numbers included. `divisor_digits`
/// moves the point to the left: 10 for a provider that reports units of 10⁻¹⁰.
pub fn decimal(number: &RawValue, divisor_digits: i32) -> Option<String> {
    let text = number.get();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Where the point stands, counted from the first digit.
    let point = i32::try_from(whole.len())
        .ok()?
        .checked_add(exponent)?
        .checked_sub(divisor_digits)?;
    if !(-40..=40).contains(&point) || digits.len() > 60 {
        return None;
    }
    let (left, right) = if point <= 0 {
        (String::new(), "0".repeat(point.unsigned_abs() as usize) + &digits)
    } else {
        let point = point as usize;
        let padded = format!("{digits:0<point$}");
        (padded.get(..point)?.to_owned(), padded.get(point..)?.to_owned())
    };
    let left = left.trim_start_matches('0');
    let right = right.trim_end_matches('0');
    let left = if left.is_empty() { "0" } else { left };
    Some(if right.is_empty() {
        left.to_owned()
    } else {
        format!("{left}.{right}")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_are_counts() {
        let read = |json: &str| serde_json::from_str::<Units>(json).ok().map(|units| units.0);
        assert_eq!(read("5"), Some(5));
        assert_eq!(read("null"), Some(0));
        assert_eq!(read("1000000000"), Some(UNITS_MAX));
        assert_eq!(read("214.0"), Some(214));
        assert_eq!(read("1e3"), Some(1_000));
        assert_eq!(read("\"5\""), Some(5), "some providers write counts as text");
        for absurd in [
            "-1",
            "1.5",
            "1000000001",
            "{}",
            "1e30",
            "-1.0",
            "true",
            "9223372036854775808",
            "\"NaN\"",
            "\"\"",
            "\"-1\"",
            "\"+5\"",
            "\"1.5\"",
            "\" 5\"",
            "\"9223372036854775808\"",
            "\"99999999999999999999999\"",
        ] {
            assert_eq!(read(absurd), None, "{absurd}");
        }
        for absurd in [
            "",
            "-1",
            "+1",
            " 1",
            "1.0",
            "1e3",
            "NaN",
            "Infinity",
            "0x1",
            "9223372036854775808",
            "1000000001",
        ] {
            assert_eq!(read(&format!("\"{absurd}\"")), None, "{absurd}");
        }
    }

    #[test]
    fn what_tools_may_bill_is_one_part_a_model() {
        let mut call = crate::call("m".to_owned());
        let big = || Some("big".to_owned());
        for (model, kind, units) in [
            (None, Kind::WebSearch, 2),
            (big(), Kind::Output, 10),
            (None, Kind::Maps, 1),
            (None, Kind::WebSearch, u64::MAX),
        ] {
            may_bill(&mut call, model, kind, units);
        }
        let count = |kind, units| Count { kind, units };
        let part = |model, usage| Part {
            model,
            usage,
            reasoning: None,
        };
        let own = vec![count(Kind::WebSearch, UNITS_MAX), count(Kind::Maps, 1)];
        assert_eq!(
            call.beside,
            [part(None, own), part(big(), vec![count(Kind::Output, 10)])]
        );
    }

    #[test]
    fn decimals_are_exact() {
        for (json, digits, expected) in [
            ("0.00014", 0, Some("0.00014")),
            ("1.4e-05", 0, Some("0.000014")),
            ("1.25E+2", 0, Some("125")),
            ("0", 0, Some("0")),
            ("0.0", 0, Some("0")),
            ("12.50", 0, Some("12.5")),
            ("37756000", 10, Some("0.0037756")),
            ("10000000000", 10, Some("1")),
            ("-1", 0, None),
            ("\"1\"", 0, None),
            ("null", 0, None),
            ("1e999", 0, None),
        ] {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            assert_eq!(decimal(&raw, digits).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn a_tally_adds_by_kind() {
        let mut tally = Tally::default();
        tally.add(Kind::Input, 1);
        tally.add(Kind::Output, 2);
        tally.add(Kind::Input, 3);
        tally.reason(None);
        tally.reason(Some(4));
        let part = tally.part(None);
        assert_eq!(
            part.usage,
            [
                Count {
                    kind: Kind::Input,
                    units: 4
                },
                Count {
                    kind: Kind::Output,
                    units: 2
                }
            ]
        );
        assert_eq!(part.reasoning, Some(4));
    }
}
