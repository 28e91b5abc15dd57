//! Readers for what an answer says. Lenient where those of a request are strict: a field of another type is not there.
//! Usage alone is believed whole or not at all.

use serde::Deserialize;
use serde_json::value::RawValue;

pub use crate::fields::{Field as Raw, present as there};
use crate::usage::UNITS_MAX;
use crate::{Kind, Part, Reading};

/// A report of usage that nobody can be billed by: it contradicts itself (more cached than read), or has a count that is
/// negative, fractional or above [`UNITS_MAX`]. The host estimates in its place, and the entry tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

/// A string.
pub fn text(field: Raw<'_>) -> Option<String> {
    serde_json::from_str(there(field)?.get()).ok()
}

/// The object in which an answer reports its usage; what is no object is no report.
pub fn report(field: Raw<'_>) -> Raw<'_> {
    there(field).filter(|raw| raw.get().starts_with('{'))
}

/// A report, or one count of it, with its fields as the plugin knows them.
pub fn parse<'a, T: Deserialize<'a>>(report: &'a RawValue) -> Result<T, Contradiction> {
    serde_json::from_str(report.get()).map_err(|_| Contradiction)
}

/// What is left of a count without those that lie inside it.
pub fn rest(whole: u64, inside: u64) -> Result<u64, Contradiction> {
    whole.checked_sub(inside).ok_or(Contradiction)
}

/// Puts the usage that a frame reports into its reading, the answer's own part first.
pub fn used<P: IntoIterator<Item = Part>>(reading: &mut Reading, told: Result<P, Contradiction>) {
    let told = told.map(|parts| parts.into_iter().collect::<Vec<Part>>());
    let believed = |part: &Part| part.usage.iter().all(|count| count.units <= UNITS_MAX);
    match told {
        Ok(parts) if parts.iter().all(believed) => reading.parts.extend(parts),
        _ => {
            reading.parts.clear();
            reading.contradictory = true;
        }
    }
}

/// For dialects whose thoughts lie inside their output: a part that has more of them contradicts itself.
pub fn thought_inside<P: IntoIterator<Item = Part>>(
    told: Result<P, Contradiction>,
) -> Result<Vec<Part>, Contradiction> {
    let parts: Vec<Part> = told?.into_iter().collect();
    let put_out = |kind: Kind| matches!(kind, Kind::Output | Kind::AudioOutput | Kind::ImageOutput);
    let inside = |part: &Part| {
        let output = part.usage.iter().filter(|count| put_out(count.kind));
        let output = output.fold(None, |sum, count| Some(count.units.saturating_add(sum.unwrap_or(0))));
        output.is_none_or(|output| part.reasoning.unwrap_or(0) <= output)
    };
    if parts.iter().all(inside) {
        Ok(parts)
    } else {
        Err(Contradiction)
    }
}

/// The reading, unless it says nothing.
pub fn said(reading: Reading) -> Option<Reading> {
    (reading != crate::reading()).then_some(reading)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::usage::{Tally, Units};
    use crate::{Kind, reading};

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn part(units: u64) -> Part {
        let mut tally = Tally::default();
        tally.add(Kind::Input, units);
        tally.part(None)
    }

    #[test]
    fn a_report_is_an_object_and_believed_whole_or_not_at_all() {
        for none in ["null", "7", "\"usage\"", "[]"] {
            assert!(report(Some(&raw(none))).is_none(), "{none}");
        }
        assert!(report(Some(&raw("{}"))).is_some() && report(None).is_none());
        assert_eq!(parse::<Units>(&raw("5")), Ok(Units(5)));
        assert_eq!(parse::<Units>(&raw("\"5\"")), Ok(Units(5)));
        for absurd in ["-1", "1.5", "1000000001", "\"NaN\""] {
            assert_eq!(parse::<Units>(&raw(absurd)), Err(Contradiction), "{absurd}");
        }
        assert_eq!((rest(5, 5), rest(5, 6)), (Ok(0), Err(Contradiction)));
    }

    #[test]
    fn what_cannot_be_believed_leaves_no_part_and_a_flag() {
        let told = |told: Result<Vec<Part>, Contradiction>| {
            let mut reading = reading();
            used(&mut reading, told);
            (reading.parts.len(), reading.contradictory)
        };
        assert_eq!(told(Ok(vec![part(1), part(UNITS_MAX)])), (2, false));
        assert_eq!(told(Ok(vec![])), (0, false));
        assert_eq!(told(Ok(vec![part(1), part(UNITS_MAX + 1)])), (0, true));
        assert_eq!(told(Err(Contradiction)), (0, true));
    }

    #[test]
    fn more_thought_than_put_out_contradicts() {
        let thinking = |output: Option<u64>, thought: u64| {
            let mut tally = Tally::default();
            output.into_iter().for_each(|units| tally.add(Kind::Output, units));
            tally.reason(Some(thought));
            thought_inside(Ok(vec![tally.part(None)])).is_ok()
        };
        assert!(thinking(Some(5), 5) && !thinking(Some(5), 6));
        assert!(thinking(None, 6), "the output is told elsewhere");
        assert_eq!(thought_inside(Err::<Vec<Part>, _>(Contradiction)), Err(Contradiction));
    }

    #[test]
    fn a_reading_that_says_nothing_is_none() {
        assert!(said(reading()).is_none());
        let failed = Reading {
            failed: true,
            ..reading()
        };
        assert!(said(failed).is_some());
        assert_eq!(text(Some(&raw("\"a\""))).as_deref(), Some("a"));
        assert!(text(Some(&raw("7"))).is_none() && text(Some(&raw("null"))).is_none());
    }
}
