//! Numbers as people read them: in tables, reports and refusals.

use std::fmt::Display;

/// A decimal number with a comma after each three digits of its whole part.
pub fn thousands(number: impl Display) -> String {
    let number = number.to_string();
    let (sign, rest) = number
        .strip_prefix('-')
        .map_or(("", number.as_str()), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(w, f)| (w, Some(f)));
    let digits = whole.len();
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (digits - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn thousands_are_separated_in_the_whole_part_alone() {
        for (number, shown) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.12345", "-1,234,567.12345"),
            ("123456", "123,456"),
        ] {
            assert_eq!(thousands(number), shown);
        }
    }
}
