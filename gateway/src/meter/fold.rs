//! Folds the readings of one answer into what it used. Counts are totals so far: a later reading replaces an earlier
//! one kind by kind, also where it is smaller. A kind that it leaves out stays, and so does one that it says is zero:
//! what was counted cannot be undone. But units may move between kinds of one side, as when input turns out to be cached;
//! they are not counted twice.

use agentledger_ledger::{Kind, Usage};

use super::sides::{Side, side};
pub use super::slot::MeteredPart;
use super::slot::Slot;
use crate::plugin::{Reading, ReadingPart};

/// More units of one kind in one answer than any provider bills: such a reading is refused.
pub const UNITS_MAX: u64 = 1_000_000_000;
/// Models, or several bills of one model, in one answer.
pub const PARTS_MAX: usize = 32;
/// Longest model name, bill's id and service tier that is kept.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest text of a reported cost.
const COST_BYTES_MAX: usize = 40;

/// Why a reading's usage was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the plugin finds that it contradicts itself")]
    Contradictory,
    #[error("more than {UNITS_MAX} units of one kind")]
    Units,
    #[error("more than {PARTS_MAX} parts")]
    Parts,
}

/// The readings of one answer, so far.
#[derive(Debug, Default)]
pub struct Fold {
    slots: Vec<Slot>,
    model: Option<String>,
    bill_id: Option<String>,
    pending: bool,
    service_tier: Option<String>,
    reported_cost: Option<String>,
    failed: bool,
    final_seen: bool,
    unread_fee: bool,
    refused: Option<Refused>,
}

impl Fold {
    /// Takes one reading. True: it bore usage.
    pub fn add(&mut self, reading: Reading) -> bool {
        keep_name(&mut self.model, reading.model);
        if reading.bill_id.is_some() {
            self.pending = reading.pending;
        }
        keep_name(&mut self.bill_id, reading.bill_id);
        keep_name(&mut self.service_tier, reading.service_tier);
        if let Some(cost) = reading.reported_cost.filter(|cost| is_decimal(cost)) {
            self.reported_cost = Some(cost);
        }
        self.failed |= reading.failed;
        self.final_seen |= reading.is_final;
        self.unread_fee |= reading.unread_fee;
        if reading.contradictory {
            self.refused = Some(Refused::Contradictory);
        }
        let bears = reading.parts.iter().any(|part| !part.usage.is_empty());
        if !bears {
            return false;
        }
        match self.checked(&reading.parts) {
            Ok(()) => self.replace(reading.parts),
            Err(refused) => {
                // An earlier reading stays: it is the last one that can be believed.
                self.refused = Some(refused);
                return false;
            }
        }
        true
    }

    pub fn usage_seen(&self) -> bool {
        !self.slots.is_empty()
    }

    pub fn final_seen(&self) -> bool {
        self.final_seen
    }

    /// Something is billed beside the usage, and cannot be read.
    pub fn unread_fee(&self) -> bool {
        self.unread_fee
    }

    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Some reading could not be believed.
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Some unit was told that is no input, be it as zero.
    pub fn tells_output(&self) -> bool {
        let told = |slot: &Slot, kind: Kind| side(kind) != Side::Input && slot.get(kind).is_some();
        self.slots
            .iter()
            .any(|slot| Kind::ALL.into_iter().any(|kind| told(slot, kind)))
    }

    /// Some part has more thoughts than output.
    pub fn contradicts(&self) -> bool {
        self.slots.iter().any(Slot::contradicts)
    }

    pub fn take_model(&mut self) -> Option<String> {
        self.model.take()
    }

    pub fn take_bill_id(&mut self) -> Option<String> {
        self.bill_id.take()
    }

    /// The provider is still at work.
    pub fn pending(&self) -> bool {
        self.pending
    }

    pub fn take_service_tier(&mut self) -> Option<String> {
        self.service_tier.take()
    }

    /// USD as decimal text, as the provider reports it.
    pub fn take_reported_cost(&mut self) -> Option<String> {
        self.reported_cost.take()
    }

    /// Units of input, once they are told, of an answer that bills one model alone.
    pub fn input(&self) -> Option<Usage> {
        let [only] = self.slots.as_slice() else { return None };
        let usage = only.metered().usage;
        let of_input = |(kind, units): &(Kind, u64)| side(*kind) == Side::Input && *units > 0;
        let input: Usage = usage.iter().filter(of_input).collect();
        (input != Usage::ZERO).then_some(input)
    }

    /// The answer's own part first, then what else was billed with it. Empty where no usage was read.
    pub fn parts(&self) -> Vec<MeteredPart> {
        let mut own = Vec::with_capacity(self.slots.len());
        let mut others = Vec::new();
        for slot in &self.slots {
            let part = slot.metered();
            if slot.model.is_none() {
                own.push(part)
            } else {
                others.push(part)
            }
        }
        own.append(&mut others);
        own
    }

    fn checked(&self, parts: &[ReadingPart]) -> Result<(), Refused> {
        if parts.len() > PARTS_MAX || self.slots.len() + self.new_slots(parts) > PARTS_MAX {
            return Err(Refused::Parts);
        }
        let sane = |part: &ReadingPart| {
            part.usage.iter().all(|(_, units)| *units <= UNITS_MAX) && part.reasoning.unwrap_or_default() <= UNITS_MAX
        };
        if parts.iter().all(sane) {
            Ok(())
        } else {
            Err(Refused::Units)
        }
    }

    fn new_slots(&self, parts: &[ReadingPart]) -> usize {
        let known = |(index, part): &(usize, &ReadingPart)| self.find(part, occurrence(parts, *index)).is_some();
        parts.iter().enumerate().filter(|part| !known(part)).count()
    }

    fn find(&self, part: &ReadingPart, occurrence: usize) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.model == part.model && slot.occurrence == occurrence)
    }

    fn replace(&mut self, parts: Vec<ReadingPart>) {
        let places: Vec<usize> = (0..parts.len()).map(|index| occurrence(&parts, index)).collect();
        for (part, occurrence) in parts.into_iter().zip(places) {
            let at = self.find(&part, occurrence).unwrap_or_else(|| {
                self.slots.push(Slot::new(part.model.clone(), occurrence));
                self.slots.len() - 1
            });
            if let Some(slot) = self.slots.get_mut(at) {
                slot.replace(&part);
            }
        }
    }
}

/// How many parts before this one name the same model.
fn occurrence(parts: &[ReadingPart], index: usize) -> usize {
    let model = parts.get(index).map(|part| &part.model);
    parts
        .iter()
        .take(index)
        .filter(|part| Some(&part.model) == model)
        .count()
}

/// A name replaces the one before, unless it is empty or absurdly long.
fn keep_name(kept: &mut Option<String>, new: Option<String>) {
    if let Some(name) = new.filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
        && kept.as_deref() != Some(name.as_str())
    {
        *kept = Some(name);
    }
}

/// Decimal text without a sign, with or without an exponent. What it is worth is for the ledger's money to say.
fn is_decimal(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+');
    text.len() <= COST_BYTES_MAX && text.starts_with(|first: char| first.is_ascii_digit()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::plugin::CountedKind;
    use CountedKind::CacheWrite as Write;

    fn kind(kind: Kind) -> CountedKind {
        CountedKind::Kind(kind)
    }

    fn part(model: Option<&str>, usage: &[(CountedKind, u64)]) -> ReadingPart {
        ReadingPart {
            model: model.map(str::to_owned),
            usage: usage.to_vec(),
            reasoning: None,
        }
    }

    fn reading(parts: &[ReadingPart]) -> Reading {
        Reading {
            parts: parts.to_vec(),
            ..Reading::default()
        }
    }

    fn folded(readings: &[&[(CountedKind, u64)]]) -> Vec<(Kind, u64)> {
        let mut fold = Fold::default();
        for usage in readings {
            fold.add(reading(&[part(None, usage)]));
        }
        fold.parts()
            .first()
            .map(|part| part.usage.iter().collect())
            .unwrap_or_default()
    }

    #[test]
    fn later_counts_replace_earlier_ones_kind_by_kind() {
        use Kind::{Input, Output};
        let (input, output) = (kind(Input), kind(Output));
        assert_eq!(
            folded(&[&[(input, 10), (output, 1)], &[(output, 8)]]),
            [(Input, 10), (Output, 8)]
        );
        assert_eq!(
            folded(&[&[(input, 10), (output, 9)], &[(output, 3)]]),
            [(Input, 10), (Output, 3)],
            "smaller"
        );
        assert_eq!(
            folded(&[&[(input, 10), (output, 9)], &[(input, 0)]]),
            [(Input, 10), (Output, 9)],
            "zero"
        );
        assert_eq!(
            folded(&[&[(input, 10), (output, 1)], &[(output, 0)]]),
            [(Input, 10)],
            "a placeholder, which stood for nothing"
        );
        assert_eq!(
            folded(&[&[(output, 2), (output, 3)]]),
            [(Output, 5)],
            "twice in one reading"
        );
        assert_eq!(folded(&[&[(input, 1)], &[]]), [(Input, 1)], "a reading without usage");
    }

    #[test]
    fn anthropic_delta_zero_input() {
        use Kind::{CacheRead, Input, Output};
        let (input, read, output) = (kind(Input), kind(CacheRead), kind(Output));
        let started: &[(CountedKind, u64)] = &[(input, 1_500), (read, 2_000), (Write, 0), (output, 1)];
        let all = [(Input, 1_500), (CacheRead, 2_000), (Output, 80)];
        for delta in [
            &[(input, 0), (output, 80)][..],
            &[(input, 0), (read, 0), (output, 80)],
            &[(input, 0), (read, 2_000), (output, 80)],
            &[(output, 80)],
        ] {
            assert_eq!(folded(&[started, delta]), all, "{delta:?}");
            assert_eq!(folded(&[started, delta, delta]), all, "{delta:?} twice");
        }
    }

    #[test]
    fn units_that_move_to_another_kind_are_not_counted_twice() {
        use Kind::{AudioOutput, CacheRead, CacheWrite1h, CacheWrite5m, Input, Output, WebSearch};
        let (input, read, output, audio) = (kind(Input), kind(CacheRead), kind(Output), kind(AudioOutput));
        assert_eq!(
            folded(&[&[(input, 100)], &[(input, 0), (read, 100)]]),
            [(CacheRead, 100)]
        );
        assert_eq!(
            folded(&[&[(input, 100)], &[(input, 0), (read, 60)]]),
            [(Input, 40), (CacheRead, 60)],
            "a part of them is told no more"
        );
        assert_eq!(
            folded(&[&[(input, 100)], &[(input, 0), (Write, 100)]]),
            [(CacheWrite5m, 100)]
        );
        assert_eq!(
            folded(&[&[(Write, 100)], &[(Write, 0), (kind(CacheWrite1h), 100)]]),
            [(CacheWrite1h, 100)]
        );
        assert_eq!(
            folded(&[&[(output, 50)], &[(output, 0), (audio, 50)]]),
            [(AudioOutput, 50)]
        );
        assert_eq!(
            folded(&[&[(input, 100), (output, 9)], &[(input, 0), (output, 300)]]),
            [(Input, 100), (Output, 300)],
            "the other side is no place to move to"
        );
        let searches = kind(WebSearch);
        assert_eq!(folded(&[&[(searches, 3)], &[(searches, 0)]]), [(WebSearch, 3)]);
        assert_eq!(folded(&[&[(input, 0), (output, 0)], &[(input, 5)]]), [(Input, 5)]);
    }

    #[test]
    fn gemini_last_chunk_lacks_details() {
        use Kind::{CacheRead, ImageOutput, Input, Output};
        let (input, read, output, image) = (kind(Input), kind(CacheRead), kind(Output), kind(ImageOutput));
        let all = [(Input, 2_000), (CacheRead, 8_000), (Output, 520)];
        assert_eq!(
            folded(&[
                &[(input, 2_000), (read, 8_000), (output, 500)],
                &[(input, 10_000), (output, 520)]
            ]),
            all,
            "the same total, told with less detail"
        );
        assert_eq!(
            folded(&[&[(output, 300), (image, 1_290)], &[(output, 1_590)]]),
            [(Output, 300), (ImageOutput, 1_290)]
        );
        assert_eq!(
            folded(&[&[(input, 100), (read, 50)], &[(input, 120)]]),
            [(Input, 120), (CacheRead, 50)],
            "another total"
        );
    }

    #[test]
    fn more_thoughts_than_output_contradict() {
        let mut fold = Fold::default();
        let thinking = |output, reasoning| ReadingPart {
            reasoning: Some(reasoning),
            ..part(None, &[(kind(Kind::Output), output)])
        };
        fold.add(reading(&[thinking(20, 500)]));
        assert!(fold.contradicts());
        fold.add(reading(&[thinking(520, 500)]));
        assert!(!fold.contradicts(), "a later reading puts it right");
        fold.add(reading(&[thinking(520, 0)]));
        assert_eq!(fold.parts()[0].reasoning, 500, "a zero wipes nothing");
    }

    #[test]
    fn cache_writes_of_unsaid_length_are_resolved() {
        use Kind::{CacheWrite1h as Hour, CacheWrite5m as Five};
        let (five, hour) = (kind(Five), kind(Hour));
        let all = |five: u64, hour: u64| -> Vec<(Kind, u64)> {
            [(Five, five), (Hour, hour)]
                .into_iter()
                .filter(|(_, units)| *units > 0)
                .collect()
        };
        type Case<'a> = (&'a [&'a [(CountedKind, u64)]], u64, u64);
        let cases: &[Case<'_>] = &[
            (&[&[(Write, 100)]], 100, 0),
            (&[&[(Write, 100), (five, 30), (hour, 70)]], 30, 70),
            (&[&[(Write, 100), (five, 30), (hour, 70)], &[(Write, 100)]], 30, 70),
            (&[&[(Write, 100), (hour, 100)], &[(Write, 150)]], 50, 100),
            (&[&[(Write, 100), (hour, 100)], &[(Write, 80)]], 80, 0),
            (&[&[(Write, 100), (hour, 100)], &[(Write, 0)]], 0, 100),
            (
                &[&[(Write, 100), (hour, 60)], &[(Write, 0), (five, 0), (hour, 0)]],
                40,
                60,
            ),
            (&[&[(Write, 100)], &[(five, 20), (hour, 60)]], 20, 60),
            (&[&[(Write, 0), (five, 0), (hour, 0)]], 0, 0),
            (&[&[(five, 5), (hour, 7)]], 5, 7),
        ];
        for (readings, five, hour) in cases {
            assert_eq!(folded(readings), all(*five, *hour), "{readings:?}");
        }
    }

    #[test]
    fn parts_of_several_models_stay_apart_and_find_themselves_again() {
        let output = kind(Kind::Output);
        let mut fold = Fold::default();
        let (first, second) = (part(Some("small"), &[(output, 7)]), part(Some("small"), &[(output, 9)]));
        fold.add(reading(&[part(Some("big"), &[(output, 3)])]));
        fold.add(reading(&[part(None, &[(output, 1)]), first.clone(), second]));
        fold.add(reading(&[
            part(None, &[(output, 5)]),
            first,
            part(Some("small"), &[(output, 10)]),
        ]));
        let seen: Vec<_> = fold
            .parts()
            .into_iter()
            .map(|part| (part.model, part.usage.get(Kind::Output)))
            .collect();
        let small = || Some("small".to_owned());
        assert_eq!(
            seen,
            [(None, 5), (Some("big".to_owned()), 3), (small(), 7), (small(), 10)]
        );
    }

    #[test]
    fn absurd_readings_are_refused_and_flagged() {
        let (input, output) = (kind(Kind::Input), kind(Kind::Output));
        let mut fold = Fold::default();
        assert!(fold.add(reading(&[part(None, &[(input, 10), (output, UNITS_MAX)])])));
        assert!(!fold.add(reading(&[part(None, &[(input, 11), (output, UNITS_MAX + 1)])])));
        assert_eq!(fold.refused(), Some(Refused::Units));
        assert_eq!(fold.parts()[0].usage.get(Kind::Input), 10, "the reading before stays");
        let thinking = ReadingPart {
            reasoning: Some(u64::MAX),
            ..part(None, &[(output, 1)])
        };
        assert!(!Fold::default().add(reading(&[thinking])));
        let told = Reading {
            contradictory: true,
            ..Reading::default()
        };
        assert!(!fold.add(told));
        assert_eq!(fold.refused(), Some(Refused::Contradictory));
        assert_eq!(fold.parts()[0].usage.get(Kind::Input), 10, "and stays");
        let many: Vec<_> = (0..=PARTS_MAX).map(|_| part(Some("m"), &[(output, 1)])).collect();
        let mut fold = Fold::default();
        assert!(!fold.add(reading(&many)));
        assert_eq!((fold.refused(), fold.usage_seen()), (Some(Refused::Parts), false));
    }

    #[test]
    fn names_costs_and_endings_are_kept() {
        let mut fold = Fold::default();
        fold.add(Reading {
            model: Some("a".into()),
            bill_id: Some("id".into()),
            failed: true,
            ..Reading::default()
        });
        fold.add(Reading {
            model: Some("b".into()),
            service_tier: Some("flex".into()),
            ..Reading::default()
        });
        let absurd = Some("x".repeat(NAME_BYTES_MAX + 1));
        fold.add(Reading {
            model: absurd,
            is_final: true,
            reported_cost: Some("0.0012".into()),
            ..Reading::default()
        });
        for cost in ["-1", "NaN", "", "1 USD", &"1".repeat(41)] {
            fold.add(Reading {
                reported_cost: Some(cost.into()),
                ..Reading::default()
            });
        }
        assert!(fold.failed() && fold.final_seen() && !fold.usage_seen());
        assert_eq!(fold.take_model().as_deref(), Some("b"));
        assert_eq!(fold.take_bill_id().as_deref(), Some("id"));
        assert_eq!(fold.take_service_tier().as_deref(), Some("flex"));
        assert_eq!(fold.take_reported_cost().as_deref(), Some("0.0012"));
    }
}
