//! Reports of one answer that tell the same counts in more or less detail.

use std::borrow::Cow;

use agentledger_ledger::Kind;

use crate::plugin::{CountedKind, ReadingPart};

/// Kinds that a report in less detail has inside of another. What is fresh and what was cached of a prompt is settled when
/// an answer begins: the same total, or it is another count. Output grows, whatever is told of it.
const INSIDE: [(Kind, &[Kind], bool); 3] = [
    (Kind::CacheRead, &[Kind::CacheReadAudio, Kind::CacheReadImage], false),
    (
        Kind::Input,
        &[
            Kind::CacheRead,
            Kind::AudioInput,
            Kind::ImageInput,
            Kind::CacheReadAudio,
            Kind::CacheReadImage,
        ],
        false,
    ),
    (Kind::Output, &[Kind::AudioOutput, Kind::ImageOutput], true),
];

/// The part with what was `counted` before and what it leaves out taken out of the kind that has it inside. Elements of
/// Gemini's streams say a prompt's tokens and leave out how many of them were cached: they are no fresh ones.
pub(super) fn in_detail<'p>(part: &'p ReadingPart, counted: impl Fn(Kind) -> u64) -> Cow<'p, ReadingPart> {
    let mut told = Cow::Borrowed(part);
    for (whole, details, grows) in INSIDE {
        let cached_told = names(part, Kind::CacheRead);
        let inside = |detail: &&Kind| {
            // The parts of what was cached lie inside that, where it is told.
            let deeper = whole == Kind::Input && matches!(detail, Kind::CacheReadAudio | Kind::CacheReadImage);
            !names(part, **detail) && !(deeper && cached_told)
        };
        let left_out = details.iter().filter(inside);
        let left_out = left_out.fold(0_u64, |sum, detail| sum.saturating_add(counted(*detail)));
        let before = counted(whole).saturating_add(left_out);
        let Some(units) = total(part, whole).filter(|_| left_out > 0) else {
            continue;
        };
        if units == before || (grows && units > before) {
            let usage = &mut told.to_mut().usage;
            usage.retain(|(kind, _)| *kind != CountedKind::Kind(whole));
            usage.push((CountedKind::Kind(whole), units - left_out));
        }
    }
    told
}

fn names(part: &ReadingPart, kind: Kind) -> bool {
    total(part, kind).is_some()
}

fn total(part: &ReadingPart, kind: Kind) -> Option<u64> {
    let named = part.usage.iter().filter(|(known, _)| *known == CountedKind::Kind(kind));
    named.fold(None, |sum, (_, units)| Some(units.saturating_add(sum.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &[(Kind, u64)], now: &[(Kind, u64)]) -> Vec<(Kind, u64)> {
        let usage = now
            .iter()
            .map(|(kind, units)| (CountedKind::Kind(*kind), *units))
            .collect();
        let part = ReadingPart {
            usage,
            ..ReadingPart::default()
        };
        let counted = |kind: Kind| {
            before
                .iter()
                .find(|(known, _)| *known == kind)
                .map_or(0, |(_, units)| *units)
        };
        let mut found: Vec<(Kind, u64)> = vec![];
        for (kind, units) in &in_detail(&part, counted).usage {
            if let CountedKind::Kind(kind) = kind {
                found.push((*kind, *units));
            }
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn what_a_later_report_leaves_out_is_not_counted_twice() {
        use Kind::{AudioInput, AudioOutput, CacheRead, CacheReadAudio, ImageOutput, Input, Output};
        let cached = [(Input, 2_000), (CacheRead, 8_000)];
        assert_eq!(told(&cached, &[(Input, 10_000)]), [(Input, 2_000)]);
        assert_eq!(told(&cached, &[(Input, 2_000)]), [(Input, 2_000)], "told outside of it");
        assert_eq!(told(&cached, &[(Input, 10_500)]), [(Input, 10_500)], "another count");
        assert_eq!(
            told(&cached, &[(Input, 10_000), (CacheRead, 0)]),
            [(Input, 10_000), (CacheRead, 0)],
            "nothing is left out"
        );
        let heard = [(Input, 40), (AudioInput, 570), (CacheRead, 10), (CacheReadAudio, 390)];
        assert_eq!(told(&heard, &[(Input, 1_010)]), [(Input, 40)]);
        assert_eq!(
            told(&heard, &[(Input, 610), (CacheRead, 400)]),
            [(Input, 40), (CacheRead, 10)]
        );
        let drawn = [(Output, 11), (ImageOutput, 1_290)];
        assert_eq!(told(&drawn, &[(Output, 1_305)]), [(Output, 15)]);
        assert_eq!(told(&drawn, &[(Output, 20)]), [(Output, 20)]);
        assert_eq!(
            told(&drawn, &[(Output, 15), (ImageOutput, 1_290), (AudioOutput, 0)]),
            [(Output, 15), (AudioOutput, 0), (ImageOutput, 1_290)]
        );
        assert_eq!(told(&[], &[(Input, 5), (Output, 7)]), [(Input, 5), (Output, 7)]);
    }
}
