//! Sums over a sliding sequence, in steps that hardly grow with it.
//!
//! Of each eight elements in a row a summary is kept, of each eight of those another, and so on: any end of the sequence is summed
//! from at most 14 a level, an element's change is eight a level. 1,024 elements have three levels, 65,536 five.

use std::collections::VecDeque;

const BITS: u32 = 3;
/// So many make one.
const WIDTH: u64 = 1 << BITS;

/// What is known of elements in a row. The default is that of none, and changes nothing that it is put to.
pub trait Summary: Copy + Default {
    /// Of these and then those.
    #[must_use]
    fn then(self, those: Self) -> Self;
}

/// The summaries of a sequence whose elements are numbered and kept elsewhere; `element` gives the one of a number, or none.
#[derive(Debug)]
pub struct Summaries<S> {
    levels: Vec<Level<S>>,
}

#[derive(Debug)]
struct Level<S> {
    /// The first node there is. A node of the lowest level is of eight elements, of the next one of 64.
    first: u64,
    nodes: VecDeque<S>,
}

impl<S> Default for Summaries<S> {
    fn default() -> Summaries<S> {
        Summaries { levels: Vec::new() }
    }
}

impl<S: Summary> Level<S> {
    fn get(&self, node: u64) -> Option<&S> {
        let place = node.checked_sub(self.first)?;
        self.nodes.get(usize::try_from(place).ok()?)
    }

    fn get_mut(&mut self, node: u64) -> Option<&mut S> {
        let place = node.checked_sub(self.first)?;
        self.nodes.get_mut(usize::try_from(place).ok()?)
    }
}

impl<S: Summary> Summaries<S> {
    /// The sequence has got an element, and ends before this number.
    pub fn pushed(&mut self, end: u64, element: impl Fn(u64) -> S) {
        let mut node = end;
        for level in 0.. {
            if !node.is_multiple_of(WIDTH) {
                return;
            }
            node >>= BITS;
            let sum = self.sum(level, node - 1, &element);
            match self.levels.get_mut(level) {
                Some(level) => level.nodes.push_back(sum),
                None => self.levels.push(Level {
                    first: node - 1,
                    nodes: VecDeque::from([sum]),
                }),
            }
        }
    }

    /// An element is another now.
    pub fn changed(&mut self, number: u64, element: impl Fn(u64) -> S) {
        let mut node = number;
        for level in 0..self.levels.len() {
            node >>= BITS;
            let sum = self.sum(level, node, &element);
            // What is not full yet has no summary, nor what it is part of.
            match self.levels.get_mut(level).and_then(|level| level.get_mut(node)) {
                Some(known) => *known = sum,
                None => return,
            }
        }
    }

    /// The elements before this one have left.
    pub fn forget_before(&mut self, number: u64) {
        let mut node = number;
        for level in &mut self.levels {
            node >>= BITS;
            while level.first < node && level.nodes.pop_front().is_some() {
                level.first += 1;
            }
        }
    }

    /// The sum of the elements from one on, until `end`; where `enough` says so, of as many at the end as it takes.
    pub fn over(&self, from: u64, end: u64, element: impl Fn(u64) -> S, enough: impl Fn(&S) -> bool) -> S {
        let (mut at, mut sum) = (end, S::default());
        // Single elements, then ever more at once, and again ever fewer.
        let mut level = 0;
        while at > from && !enough(&sum) {
            let bits = BITS * level;
            let (wider, is_whole) = (bits + BITS, (at >> bits).is_multiple_of(WIDTH));
            if is_whole && at - from >= 1 << wider && self.node(level, at >> wider).is_some() {
                level += 1;
                continue;
            }
            let part = if level == 0 {
                Some(element(at - 1))
            } else {
                self.node(level - 1, at >> bits).filter(|_| at - from >= 1 << bits)
            };
            match part {
                Some(part) => (at, sum) = (at - (1 << bits), part.then(sum)),
                None => level -= 1,
            }
        }
        sum
    }

    /// The node before the one of this number.
    fn node(&self, level: u32, before: u64) -> Option<S> {
        let level = self.levels.get(usize::try_from(level).ok()?)?;
        level.get(before.checked_sub(1)?).copied()
    }

    /// What a node stands for, from what is under it.
    fn sum(&self, level: usize, node: u64, element: impl Fn(u64) -> S) -> S {
        let children = node * WIDTH..(node + 1) * WIDTH;
        let below = level.checked_sub(1).and_then(|below| self.levels.get(below));
        let child = |child| match below {
            Some(below) => below.get(child).copied().unwrap_or_default(),
            None => element(child),
        };
        children.map(child).fold(S::default(), S::then)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Count(u64);

    impl Summary for Count {
        fn then(self, those: Count) -> Count {
            Count(self.0 + those.0)
        }
    }

    #[test]
    fn a_sequence_that_slides_keeps_summaries_of_what_is_there() {
        let mut sums = Summaries::default();
        for end in 1..=20_000_u64 {
            sums.pushed(end, Count);
            let from = end.saturating_sub(1_000);
            sums.forget_before(from);
            if end % 97 == 0 {
                assert_eq!(
                    sums.over(from, end, Count, |_| false),
                    Count((from..end).sum()),
                    "until {end}"
                );
            }
        }
        let nodes: Vec<usize> = sums.levels.iter().map(|level| level.nodes.len()).collect();
        assert!(nodes[0] <= 126 && nodes[1] <= 17 && nodes[2] <= 3, "{nodes:?}");
    }
}
