//! Figures and foreign names as a terminal may show them: money digit by digit and never a float, names without what would steer the
//! terminal or lie about their direction, cut to columns.

use agentledger_ledger::{Usd, rfc3339_ms};
use ratatui_core::style::Style;
use ratatui_core::text::Span;

use crate::control::contract_forms::fixed;
use crate::thousands::thousands;

/// What is not known.
pub const NONE: &str = "–";
const MINUS: char = '−';
/// Of a name only so much is looked at, however long it is: more than any terminal has columns.
const LOOKED_AT_CHARS: usize = 2_048;
/// One letter may bear marks without end: so many bytes of it are shown.
const LETTER_BYTES_MAX: usize = 16;

/// With marks in place of control and direction characters.
pub fn visible(text: &str) -> String {
    text.chars().take(LOOKED_AT_CHARS).map(mark).collect()
}

fn mark(c: char) -> char {
    let code = u32::from(c);
    match code {
        0..0x20 => char::from_u32(0x2400 + code).unwrap_or('␦'),
        0x7f => '␡',
        0x80..0xa0 | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb => '␦',
        0xe0000..=0xe0fff => '␦',
        _ => c,
    }
}

/// Columns that a text without control characters takes.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        Span::raw(text).width()
    }
}

/// Cut at its end to so many columns.
pub fn cut(text: &str, columns: usize) -> String {
    // A letter with a pile of marks is no wider than a plain one: it is looked at letter by letter.
    if width(text) <= columns && text.len() <= columns.saturating_mul(4) {
        return text.to_owned();
    }
    let span = Span::raw(text);
    let mut out = String::new();
    let (mut used, mut is_whole) = (0, true);
    for letter in span.styled_graphemes(Style::new()) {
        let wide = Span::raw(letter.symbol).width();
        if used + wide > columns {
            is_whole = false;
            break;
        }
        used += wide;
        out.extend(bounded(letter.symbol));
    }
    if is_whole || columns == 0 {
        return out;
    }
    while used >= columns {
        let last = Span::raw(out.as_str());
        let Some(letter) = last.styled_graphemes(Style::new()).last() else {
            break;
        };
        used = used.saturating_sub(Span::raw(letter.symbol).width());
        let kept = out.len().saturating_sub(letter.symbol.len());
        out.truncate(kept);
    }
    out.push('…');
    out
}

fn bounded(letter: &str) -> impl Iterator<Item = char> {
    let mut left = LETTER_BYTES_MAX;
    letter.chars().take_while(move |c| {
        let fits = c.len_utf8() <= left;
        left = left.saturating_sub(c.len_utf8());
        fits
    })
}

/// Dollars with so many places. What is smaller than the last place and not nothing is said to be smaller.
pub fn money(usd: Usd, places: u32) -> String {
    let digits = fixed(usd, places);
    let (is_negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest.to_owned()),
        None => (usd.is_negative(), digits),
    };
    let is_nothing = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if is_nothing && !usd.is_zero() {
        let least = format!("$0.{:0>1$}", 1, places as usize);
        return if is_negative {
            format!(">{MINUS}{least}")
        } else {
            format!("<{least}")
        };
    }
    if is_negative {
        format!("{MINUS}${}", thousands(digits))
    } else {
        format!("${}", thousands(digits))
    }
}

/// A limit: without cents where it has none.
pub fn limit(usd: Usd) -> String {
    let is_whole = usd.nanos() % 1_000_000_000 == 0;
    let text = money(usd, 2);
    match text.strip_suffix(".00") {
        Some(whole) if is_whole => whole.to_owned(),
        _ => text,
    }
}

/// A span of time: 0:08, 2:47, 3 h 40, 12 days.
pub fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        0..3_600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {:02}", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The time of day, UTC.
pub fn clock(at_ms: i64) -> String {
    rfc3339_ms(at_ms).get(11..19).unwrap_or_default().to_owned()
}

/// Today by its time of day, else by its date.
pub fn moment(at: &str, now_ms: i64) -> String {
    let today = rfc3339_ms(now_ms);
    let (day, time) = (at.get(..10).unwrap_or(at), at.get(11..19).unwrap_or_default());
    if today.starts_with(day) && !time.is_empty() {
        return time.to_owned();
    }
    format!("{day} {}", time.get(..5).unwrap_or_default())
        .trim_end()
        .to_owned()
}

pub fn at_ms(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn money_is_rounded_digit_by_digit_and_never_nothing_where_it_is_something() {
        for (given, places, shown) in [
            ("24888.529999999", 2, "$24,888.53"),
            ("0.0041", 4, "$0.0041"),
            ("0.00004", 4, "<$0.0001"),
            ("-0.00004", 4, ">−$0.0001"),
            ("-0.0117", 4, "−$0.0117"),
            ("0", 2, "$0.00"),
            ("0.005", 2, "$0.01"),
            ("0.004", 2, "<$0.01"),
            ("9007199254.740993", 6, "$9,007,199,254.740993"),
        ] {
            assert_eq!(money(usd(given), places), shown, "{given}");
        }
        assert_eq!(
            (limit(usd("40000")), limit(usd("2.5"))),
            ("$40,000".into(), "$2.50".into())
        );
    }

    #[test]
    fn names_cannot_steer_the_terminal_or_turn_the_line_around() {
        assert_eq!(visible("a\u{1b}[2Jb\r\n\u{7f}\u{9b}"), "a␛[2Jb␍␊␡␦");
        assert_eq!(visible("\u{202e}drowssap\u{202c}"), "␦drowssap␦");
        assert_eq!(visible(&"x".repeat(10_000)).len(), LOOKED_AT_CHARS);
    }

    #[test]
    fn names_are_cut_to_columns_and_not_to_letters() {
        assert_eq!(cut("crawler", 7), "crawler");
        assert_eq!(cut("crawlers", 7), "crawle…");
        assert_eq!(cut("日本語の名前", 7), "日本語…");
        assert_eq!(cut("日本語", 0), "");
        let piled = format!("a{}b", "\u{301}".repeat(500));
        assert!(cut(&piled, 5).len() <= LETTER_BYTES_MAX + 4, "{}", cut(&piled, 5).len());
        for columns in 0..12 {
            assert!(width(&cut("ein 日本 e\u{301}\u{301} name", columns)) <= columns);
        }
    }

    #[test]
    fn times_are_short_today_and_whole_before() {
        let now = at_ms("2026-12-01T14:00:00Z").unwrap();
        assert_eq!(moment("2026-12-01T13:02:03.004Z", now), "13:02:03");
        assert_eq!(moment("2026-11-30T13:02:03.004Z", now), "2026-11-30 13:02");
        assert_eq!(moment("nonsense", now), "nonsense");
        assert_eq!(
            (age(8_000), age(167_000), age(13_200_000)),
            ("0:08".into(), "2:47".into(), "3 h 40".into())
        );
    }
}
