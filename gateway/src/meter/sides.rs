//! The kinds of units that may take each other's place: input that turns out to be cached is still input.

use agentledger_ledger::{Kind, Usage};

/// What a kind is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
    /// Counted by itself.
    Other,
}

pub(super) fn side(kind: Kind) -> Side {
    match kind {
        Kind::Input
        | Kind::CacheRead
        | Kind::CacheWrite5m
        | Kind::CacheWrite1h
        | Kind::AudioInput
        | Kind::ImageInput
        | Kind::CacheReadAudio
        | Kind::CacheReadImage => Side::Input,
        Kind::Output | Kind::AudioOutput | Kind::ImageOutput => Side::Output,
        _ => Side::Other,
    }
}

/// The kinds of a side, each by itself, but what was written to a cache together: for how long is told late.
pub(super) fn groups(of: Side) -> impl Iterator<Item = &'static [Kind]> {
    const GROUPS: [&[Kind]; 10] = [
        &[Kind::Input],
        &[Kind::CacheRead],
        // The dearer one first.
        &[Kind::CacheWrite1h, Kind::CacheWrite5m],
        &[Kind::AudioInput],
        &[Kind::ImageInput],
        &[Kind::CacheReadAudio],
        &[Kind::CacheReadImage],
        &[Kind::Output],
        &[Kind::AudioOutput],
        &[Kind::ImageOutput],
    ];
    GROUPS
        .into_iter()
        .filter(move |group| group.first().is_some_and(|kind| side(*kind) == of))
}

pub(super) fn sum(usage: &Usage, kinds: &[Kind]) -> u64 {
    kinds.iter().fold(0, |sum, kind| sum.saturating_add(usage.get(*kind)))
}
