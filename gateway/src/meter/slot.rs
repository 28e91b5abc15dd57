//! What one part of an answer used, so far.

use agentledger_ledger::{Kind, Usage};

use super::sides::{Side, groups, side, sum};
use crate::plugin::{CountedKind, ReadingPart};

/// Output that is said before anything was made: Anthropic's `message_start` tells a token or a few, and the end of a refused
/// answer none (https://docs.anthropic.com/en/docs/build-with-claude/streaming). A later zero may take it back.
const OUTPUT_PLACEHOLDER_MAX: u64 = 8;

/// What one model used in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeteredPart {
    /// `None`: the model of the answer.
    pub model: Option<String>,
    pub usage: Usage,
    /// Thinking tokens, already inside `output`.
    pub reasoning: u64,
}

/// One part, found again by its model and by its place among the parts of that model: an answer may bill one model
/// several times, as a compaction does.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) model: Option<String>,
    pub(super) occurrence: usize,
    units: [Option<u64>; Kind::COUNT],
    /// Written to a cache, not said for how long.
    cache_write: Option<u64>,
    reasoning: Option<u64>,
}

impl Slot {
    pub(super) fn new(model: Option<String>, occurrence: usize) -> Slot {
        Slot {
            model,
            occurrence,
            units: [None; Kind::COUNT],
            cache_write: None,
            reasoning: None,
        }
    }

    pub(super) fn replace(&mut self, part: &ReadingPart) {
        let mut told = Told::of(part);
        let before = if self.is_new() {
            Usage::default()
        } else {
            self.metered().usage
        };
        let (lacks, wipes) = told.lacks_and_wipes(&before);
        for side in [Side::Input, Side::Output] {
            if lacks && told.is_coarser(&before, side) {
                told.leave_out(side);
            }
        }
        for (place, new) in self.units.iter_mut().zip(told.units) {
            *place = new.or(*place);
        }
        if told.write.is_some() || told.breakdown() > 0 {
            // A breakdown alone is newer than any earlier sum.
            self.cache_write = told.write;
        }
        if wipes {
            self.keep_counted(&before);
        }
        self.reasoning = part.reasoning.filter(|units| *units > 0).or(self.reasoning);
    }

    /// Nothing was told of it yet.
    fn is_new(&self) -> bool {
        self.cache_write.is_none() && self.units.iter().all(Option::is_none)
    }

    /// Gives back what zeros have wiped of the counts `before`, less what other kinds of the same side have grown by.
    fn keep_counted(&mut self, before: &Usage) {
        let now = self.metered().usage;
        for side in [Side::Input, Side::Output] {
            if side == Side::Output && groups(side).all(|group| sum(before, group) <= OUTPUT_PLACEHOLDER_MAX) {
                continue;
            }
            let (mut lost, mut grown) = (0_u64, 0_u64);
            for group in groups(side) {
                let (old, new) = (sum(before, group), sum(&now, group));
                if new == 0 {
                    lost = lost.saturating_add(old);
                }
                grown = grown.saturating_add(new.saturating_sub(old));
            }
            let mut left = lost.saturating_sub(grown);
            for group in groups(side).filter(|group| sum(&now, group) == 0) {
                left -= self.give_back(before, group, left);
            }
        }
        for kind in Kind::ALL.into_iter().filter(|kind| side(*kind) == Side::Other) {
            if now.get(kind) == 0 {
                self.give_back(before, &[kind], u64::MAX);
            }
        }
    }

    /// The kinds' counts `before`, up to so many units in all; how many those are.
    fn give_back(&mut self, before: &Usage, group: &[Kind], units_max: u64) -> u64 {
        let mut left = units_max.min(sum(before, group));
        let given = left;
        if given == 0 {
            return 0;
        }
        if group.contains(&Kind::CacheWrite1h) {
            self.cache_write = None;
        }
        for kind in group {
            let units = before.get(*kind).min(left);
            left -= units;
            if let Some(place) = self.units.get_mut(*kind as usize) {
                *place = Some(units);
            }
        }
        given
    }

    pub(super) fn get(&self, kind: Kind) -> Option<u64> {
        self.units.get(kind as usize).copied().flatten()
    }

    /// More thoughts than output, of which they are a part.
    pub(super) fn contradicts(&self) -> bool {
        let reasoning = self.reasoning.unwrap_or_default();
        let output = groups(Side::Output).flatten();
        let output = output.fold(0_u64, |sum, kind| {
            sum.saturating_add(self.get(*kind).unwrap_or_default())
        });
        reasoning > output
    }

    pub(super) fn metered(&self) -> MeteredPart {
        let mut usage: Usage = Usage::default();
        for kind in Kind::ALL {
            usage.set(kind, self.get(kind).unwrap_or_default());
        }
        if let Some(written) = self.cache_write {
            let (short, long) = (self.get(Kind::CacheWrite5m), self.get(Kind::CacheWrite1h));
            let (short, long) = resolve_cache_write(written, short, long);
            usage.set(Kind::CacheWrite5m, short);
            usage.set(Kind::CacheWrite1h, long);
        }
        MeteredPart {
            model: self.model.clone(),
            usage,
            reasoning: self.reasoning.unwrap_or_default(),
        }
    }
}

/// What one reading tells of a part.
struct Told {
    units: [Option<u64>; Kind::COUNT],
    /// Written to a cache, not said for how long.
    write: Option<u64>,
}

impl Told {
    fn of(part: &ReadingPart) -> Told {
        let mut told = Told {
            units: [None; Kind::COUNT],
            write: None,
        };
        for (kind, count) in &part.usage {
            // A kind that one reading names twice is their sum.
            let place = match kind {
                CountedKind::CacheWrite => Some(&mut told.write),
                CountedKind::Kind(kind) => told.units.get_mut(*kind as usize),
            };
            if let Some(place) = place {
                *place = Some(place.unwrap_or_default().saturating_add(*count));
            }
        }
        // A sum of zero beside its own breakdown says nothing.
        if told.write == Some(0) && told.breakdown() > 0 {
            told.write = None;
        }
        told
    }

    /// Written to a cache, for a time that is said.
    fn breakdown(&self) -> u64 {
        let units = |kind: Kind| self.units.get(kind as usize).copied().flatten().unwrap_or_default();
        units(Kind::CacheWrite5m).saturating_add(units(Kind::CacheWrite1h))
    }

    fn sum(&self, kinds: &[Kind]) -> Option<u64> {
        let write = self.write.filter(|_| kinds.contains(&Kind::CacheWrite5m));
        let units = kinds
            .iter()
            .filter_map(|kind| self.units.get(*kind as usize).copied().flatten());
        write.into_iter().chain(units).reduce(u64::saturating_add)
    }

    /// Something that was counted is left out, or said to be zero.
    fn lacks_and_wipes(&self, before: &Usage) -> (bool, bool) {
        let (mut lacks, mut wipes) = (false, self.write == Some(0));
        for (kind, told) in Kind::ALL.into_iter().zip(self.units) {
            if before.get(kind) > 0 {
                lacks |= told.is_none();
                wipes |= told == Some(0);
            }
        }
        (lacks, wipes)
    }

    /// The total of a side that is known in more detail is told, and the details are left out: Gemini's last chunk may lack
    /// what was cached, which then stands in the prompt's count.
    fn is_coarser(&self, before: &Usage, side: Side) -> bool {
        let (mut all, mut known, mut left_out) = (0_u64, 0_u64, false);
        for kinds in groups(side) {
            let old = sum(before, kinds);
            known = known.saturating_add(old);
            all = all.saturating_add(self.sum(kinds).unwrap_or_default());
            left_out |= old > 0 && self.sum(kinds).is_none();
        }
        left_out && all == known
    }

    fn leave_out(&mut self, side: Side) {
        for kind in groups(side).flatten() {
            if let Some(place) = self.units.get_mut(*kind as usize) {
                *place = None;
            }
        }
        if side == Side::Input {
            self.write = None;
        }
    }
}

/// Divides what was written to a cache for an unsaid time, by a breakdown that may be known: (5 minutes, 1 hour).
fn resolve_cache_write(written: u64, short: Option<u64>, long: Option<u64>) -> (u64, u64) {
    let (short, long) = (short.unwrap_or_default(), long.unwrap_or_default());
    match written.checked_sub(short.saturating_add(long)) {
        // Without a breakdown both are zero, and all of it is the short time.
        Some(rest) => (short + rest, long),
        // The breakdown is of an earlier, larger sum: it no longer holds.
        None => (written, 0),
    }
}
