//! Quiet hours: alerts that may wait are held until their end and then sent as one.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::alert::Severity;

/// Daily hours in a time zone. Where they end before they begin they run over midnight.
#[derive(Clone, Debug)]
pub struct QuietHours {
    pub zone: TimeZone,
    pub from: Time,
    pub until: Time,
    /// From which severity on an alert is sent all the same.
    pub passes: Severity,
}

impl QuietHours {
    /// When the quiet hours end in which `now_ms` lies; `None` outside of them.
    pub fn end_ms(&self, now_ms: i64) -> Option<i64> {
        if self.from == self.until {
            return None;
        }
        let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(self.zone.clone());
        let time = now.time();
        let is_within = match self.from < self.until {
            true => self.from <= time && time < self.until,
            false => self.from <= time || time < self.until,
        };
        if !is_within {
            return None;
        }
        let ends_today = time < self.until;
        let date = match ends_today {
            true => now.date(),
            false => now.date().checked_add(Span::new().days(1)).ok()?,
        };
        // A time that a clock change leaves out is the moment after it.
        let end = date.to_datetime(self.until).to_zoned(self.zone.clone()).ok()?;
        Some(end.timestamp().as_millisecond().max(now_ms.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn hours(from: &str, until: &str) -> QuietHours {
        QuietHours {
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            from: from.parse().unwrap(),
            until: until.parse().unwrap(),
            passes: Severity::Critical,
        }
    }

    #[test]
    fn hours_over_midnight_end_in_the_morning() {
        let night = hours("22:00", "07:00");
        assert_eq!(night.end_ms(ms("2026-01-10T20:59:59Z")), None);
        assert_eq!(
            night.end_ms(ms("2026-01-10T21:00:00Z")),
            Some(ms("2026-01-11T06:00:00Z"))
        );
        assert_eq!(
            night.end_ms(ms("2026-01-11T05:59:59Z")),
            Some(ms("2026-01-11T06:00:00Z"))
        );
        assert_eq!(night.end_ms(ms("2026-01-11T06:00:00Z")), None);
    }

    #[test]
    fn hours_of_a_day_and_clock_changes() {
        let noon = hours("12:00", "14:00");
        assert_eq!(
            noon.end_ms(ms("2026-07-10T10:30:00Z")),
            Some(ms("2026-07-10T12:00:00Z"))
        );
        // 02:30 does not exist on that night: it is 03:30 there, 01:30 UTC.
        let night = hours("01:00", "02:30");
        assert_eq!(
            night.end_ms(ms("2026-03-29T00:30:00Z")),
            Some(ms("2026-03-29T01:30:00Z"))
        );
        assert_eq!(hours("05:00", "05:00").end_ms(ms("2026-07-10T03:00:00Z")), None);
    }
}
