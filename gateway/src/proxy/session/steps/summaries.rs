//! Sums over a sliding sequence, in steps that hardly grow with it.
//!
//! Of each 16 elements in a row a summary is kept, of each 16 of those another, and so on: any end of the sequence is summed from
//! at most 30 summaries a level, one element's change is at most 16 of them a level. 65,536 elements have four levels.

use std::collections::VecDeque;

/// So many make one: few enough to be looked through one by one.
pub const LOOKED_THROUGH: u64 = 16;

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
    /// Elements under one node.
    size: u64,
    /// The first node there is: it is of the elements from `first * size` on.
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
}

impl<S: Summary> Summaries<S> {
    /// The sequence has got an element, and ends before this number.
    pub fn pushed(&mut self, end: u64, element: impl Fn(u64) -> S) {
        let mut size = LOOKED_THROUGH;
        for level in 0.. {
            if !end.is_multiple_of(size) {
                return;
            }
            let node = end / size - 1;
            let sum = self.sum(level, node, &element);
            if self.levels.len() == level {
                self.levels.push(Level {
                    size,
                    first: node,
                    nodes: VecDeque::new(),
                });
            }
            if let Some(level) = self.levels.get_mut(level) {
                level.nodes.push_back(sum);
            }
            size *= LOOKED_THROUGH;
        }
    }

    /// An element is another now.
    pub fn changed(&mut self, number: u64, element: impl Fn(u64) -> S) {
        for at in 0..self.levels.len() {
            let Some(node) = self.levels.get(at).map(|level| number / level.size) else {
                return;
            };
            let sum = self.sum(at, node, &element);
            let Some(level) = self.levels.get_mut(at) else { return };
            let place = node
                .checked_sub(level.first)
                .and_then(|place| usize::try_from(place).ok());
            // What is not full yet has no summary, nor what it is part of.
            match place.and_then(|place| level.nodes.get_mut(place)) {
                Some(known) => *known = sum,
                None => return,
            }
        }
    }

    /// The elements before this one have left.
    pub fn forget_before(&mut self, number: u64) {
        for level in &mut self.levels {
            while level.first < number / level.size && level.nodes.pop_front().is_some() {
                level.first += 1;
            }
        }
    }

    /// The sum of the elements from one on, until `end`; where `enough` says so, of as many at the end as it takes.
    pub fn over(&self, from: u64, end: u64, element: impl Fn(u64) -> S, enough: impl Fn(&S) -> bool) -> S {
        let (mut at, mut sum) = (end, S::default());
        while at > from && !enough(&sum) {
            let whole = |level: &&Level<S>| at.is_multiple_of(level.size) && at - from >= level.size;
            let found = self
                .levels
                .iter()
                .take_while(whole)
                .map_while(|level| level.get(at / level.size - 1).map(|node| (level.size, *node)))
                .last();
            let (size, part) = found.unwrap_or_else(|| (1, element(at - 1)));
            sum = part.then(sum);
            at -= size;
        }
        sum
    }

    /// What a node stands for, from what is under it.
    fn sum(&self, level: usize, node: u64, element: impl Fn(u64) -> S) -> S {
        let children = node * LOOKED_THROUGH..(node + 1) * LOOKED_THROUGH;
        let below = level.checked_sub(1).and_then(|below| self.levels.get(below));
        let child = |child| match below {
            Some(below) => below.get(child).copied().unwrap_or_default(),
            None => element(child),
        };
        children.map(child).fold(S::default(), S::then)
    }
}
