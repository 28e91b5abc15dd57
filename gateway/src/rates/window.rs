//! One sliding window: how much was taken within the last stretch of time, in bounded memory, never too little.
//!
//! What was taken is kept in a queue of piles, each with the moments of its first and its last take. A take joins the
//! newest pile while that is younger than a 64th of the window, else it makes a new one; a pile leaves when its *last* take
//! has left the window. So there are some 66 piles at most, nothing is forgotten early, and in **every** stretch of the window's
//! length no more is taken than the limit. The price is that a steady flow gets its room back a 64th of the window later
//! than an exact log would give it; takes that lie further apart, and bursts, are exact.

use std::collections::VecDeque;

/// Piles in a window, about.
const PILES: i64 = 64;

#[derive(Clone, Copy, Debug)]
struct Pile {
    first_ms: i64,
    last_ms: i64,
    count: u64,
}

/// What was taken within the last `length_ms`.
#[derive(Clone, Debug)]
pub struct SlidingWindow {
    length_ms: i64,
    piles: VecDeque<Pile>,
    sum: u64,
}

impl SlidingWindow {
    pub fn new(length_ms: i64) -> SlidingWindow {
        SlidingWindow {
            length_ms,
            piles: VecDeque::new(),
            sum: 0,
        }
    }

    /// Forgets what has left the window. A moment that was taken at the window's very start has left it.
    pub fn advance(&mut self, now_ms: i64) {
        while let Some(oldest) = self.piles.front() {
            if oldest.last_ms > now_ms.saturating_sub(self.length_ms) {
                return;
            }
            self.sum = self.sum.saturating_sub(oldest.count);
            self.piles.pop_front();
        }
    }

    /// Taken within the window that ends at the last turn.
    pub fn taken(&self) -> u64 {
        self.sum
    }

    pub fn is_empty(&self) -> bool {
        self.piles.is_empty()
    }

    /// Takes `count` at `now_ms`, whatever the limit. Time does not run backwards here: an earlier moment counts as the
    /// latest one seen.
    pub fn take(&mut self, now_ms: i64, count: u64) -> i64 {
        let now_ms = self.piles.back().map_or(now_ms, |newest| newest.last_ms.max(now_ms));
        self.sum = self.sum.saturating_add(count);
        match self.piles.back_mut() {
            Some(newest) if now_ms.saturating_sub(newest.first_ms) < self.length_ms / PILES => {
                newest.last_ms = now_ms;
                newest.count = newest.count.saturating_add(count);
            }
            _ => self.piles.push_back(Pile {
                first_ms: now_ms,
                last_ms: now_ms,
                count,
            }),
        }
        now_ms
    }

    /// Corrects a take of `before` at `at_ms` to `after`. Nothing is done where it has left the window meanwhile.
    pub fn correct(&mut self, at_ms: i64, before: u64, after: u64) {
        let pile = self
            .piles
            .iter_mut()
            .find(|pile| pile.first_ms <= at_ms && at_ms <= pile.last_ms);
        if let Some(pile) = pile {
            let corrected = pile.count.saturating_sub(before).saturating_add(after);
            self.sum = self.sum.saturating_sub(pile.count).saturating_add(corrected);
            pile.count = corrected;
        }
    }

    /// Milliseconds until `count` more would fit under `limit`; 0 where it does now, `None` where it never will.
    pub fn wait_ms(&self, now_ms: i64, count: u64, limit: u64) -> Option<i64> {
        let room = limit.checked_sub(count)?;
        let mut left = self.sum;
        if left <= room {
            return Some(0);
        }
        for pile in &self.piles {
            left = left.saturating_sub(pile.count);
            if left <= room {
                return Some(
                    (pile.last_ms.saturating_add(self.length_ms))
                        .saturating_sub(now_ms)
                        .max(1),
                );
            }
        }
        None
    }

    /// Milliseconds until all that was taken has left the window.
    pub fn reset_ms(&self, now_ms: i64) -> i64 {
        self.piles.back().map_or(0, |newest| {
            newest
                .last_ms
                .saturating_add(self.length_ms)
                .saturating_sub(now_ms)
                .max(0)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_burst_leaves_exactly_a_window_later() {
        let mut window = SlidingWindow::new(MINUTE);
        for _ in 0..60 {
            window.take(1_000, 1);
        }
        window.advance(60_999);
        assert_eq!((window.taken(), window.wait_ms(60_999, 1, 60)), (60, Some(1)));
        window.advance(61_000);
        assert_eq!((window.taken(), window.wait_ms(61_000, 60, 60)), (0, Some(0)));
        assert_eq!(window.wait_ms(61_000, 61, 60), None);
    }

    #[test]
    fn it_slides_where_a_fixed_window_would_let_twice_the_limit_through() {
        let mut window = SlidingWindow::new(MINUTE);
        window.take(59_000, 60);
        // A fixed window that began at 0 would be empty again.
        window.advance(60_500);
        assert_eq!(window.wait_ms(60_500, 1, 60), Some(58_500));
    }

    #[test]
    fn estimates_are_corrected_where_they_were_taken() {
        let mut window = SlidingWindow::new(MINUTE);
        let at = window.take(0, 1_000);
        window.take(30_000, 10);
        window.correct(at, 1_000, 40);
        assert_eq!(window.taken(), 50);
        window.correct(at, 40, 5_000);
        assert_eq!(window.taken(), 5_010);
        window.advance(70_000);
        window.correct(at, 5_000, 1);
        assert_eq!(window.taken(), 10);
    }

    proptest! {
        /// The promise, against a log of every take: no stretch of the window's length holds more than the limit, the
        /// memory is bounded, and who waits as long as it is told gets in.
        #[test]
        fn no_stretch_ever_holds_more_than_the_limit(
            steps in prop::collection::vec((0_i64..3_000, 1_u64..5), 1..400), limit in 5_u64..60
        ) {
            let (mut window, mut log, mut now) = (SlidingWindow::new(MINUTE), Vec::new(), 0_i64);
            for (step, count) in steps {
                now += step;
                window.advance(now);
                let wait = window.wait_ms(now, count, limit).unwrap();
                if wait == 0 {
                    window.take(now, count);
                    log.push((now, count));
                    let within: u64 = log.iter().filter(|(at, _)| *at > now - MINUTE).map(|(_, count)| count).sum();
                    prop_assert!(within <= limit, "{within} in the minute before {now}");
                } else {
                    let mut later = window.clone();
                    later.advance(now + wait);
                    prop_assert_eq!(later.wait_ms(now + wait, count, limit), Some(0));
                }
                prop_assert!(window.piles.len() <= 66, "{} piles", window.piles.len());
            }
        }
    }
}
