//! Which alert gives way where there is no room for all: the least severe, and of those the newest. It is not lost: another one
//! counts it.

use crate::alert::{Alert, Severity};

/// Who gives way, and who counts it; `None` is the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold<K> {
    pub gone: Option<K>,
    pub bearer: Option<K>,
}

/// Among those that wait, oldest first, and a new one; `None` where nothing waits that could give way or count.
pub fn fold<K: Copy>(waiting: impl Iterator<Item = (K, Severity)>, new: Severity) -> Option<Fold<K>> {
    let mut least: Option<(K, Severity)> = None;
    let mut next: Option<(K, Severity)> = None;
    for one in waiting {
        if least.is_none_or(|(_, severity)| one.1 <= severity) {
            next = least.replace(one);
        } else if next.is_none_or(|(_, severity)| one.1 <= severity) {
            next = Some(one);
        }
    }
    let (least, severity) = least?;
    Some(if new <= severity {
        Fold {
            gone: None,
            bearer: Some(least),
        }
    } else {
        Fold {
            gone: Some(least),
            bearer: next.map(|(bearer, _)| bearer),
        }
    })
}

impl Alert {
    /// Counts another one, and those that it stood for.
    pub fn absorb(&mut self, gone: &Alert) {
        self.folded = self.folded.saturating_add(1).saturating_add(gone.folded);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use Severity::{Critical, Info, Warning};

    fn folded(waiting: &[Severity], new: Severity) -> Option<(Option<usize>, Option<usize>)> {
        let fold = fold(waiting.iter().copied().enumerate(), new)?;
        Some((fold.gone, fold.bearer))
    }

    #[test]
    fn the_least_severe_gives_way_and_of_those_the_newest() {
        assert_eq!(folded(&[Warning, Warning, Critical], Warning), Some((None, Some(1))));
        assert_eq!(
            folded(&[Warning, Warning, Critical], Critical),
            Some((Some(1), Some(0)))
        );
        assert_eq!(folded(&[Critical, Info, Warning], Warning), Some((Some(1), Some(2))));
        assert_eq!(folded(&[Critical, Critical], Info), Some((None, Some(1))));
    }

    #[test]
    fn the_new_one_counts_what_nobody_else_can() {
        assert_eq!(folded(&[Info], Critical), Some((Some(0), None)));
        assert_eq!(folded(&[], Critical), None);
    }
}
