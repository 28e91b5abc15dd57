//! Answers that pass now, for whoever watches: how much text each has had, and what that comes to. A stream that passes writes down
//! the number it has counted anyway; everything else is reckoned when somebody looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use agentledger_ledger::{HoldId, Usd};
use parking_lot::Mutex;

/// One answer, as it is written down while it passes.
#[derive(Debug)]
pub struct Passing {
    pub input_usd: AtomicI64,
    pub text_bytes: AtomicU64,
    /// Output that shows in no text: sound.
    pub more_tokens: AtomicU64,
    pub tokens_of_mebibyte: u64,
    pub output_price_picos: i64,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedSoFar {
    /// As the lengths of such texts tell.
    pub output_tokens: u64,
    /// Its input, as told or as estimated, and the output so far.
    pub spent: Usd,
}

impl Passing {
    fn so_far(&self) -> PassedSoFar {
        let text_bytes = u128::from(self.text_bytes.load(Ordering::Relaxed));
        let of_text = text_bytes * u128::from(self.tokens_of_mebibyte) / (1 << 20);
        let of_text = u64::try_from(of_text).unwrap_or(u64::MAX);
        let output_tokens = of_text.saturating_add(self.more_tokens.load(Ordering::Relaxed));
        let picos = i128::from(output_tokens) * i128::from(self.output_price_picos);
        let output = Usd::from_nanos(i64::try_from(picos / 1_000).unwrap_or(i64::MAX));
        let input = Usd::from_nanos(self.input_usd.load(Ordering::Relaxed));
        PassedSoFar {
            output_tokens,
            spent: input.saturating_add(output),
        }
    }
}

/// All answers that pass, by their holds.
#[derive(Debug, Default)]
pub struct LiveAnswers(Mutex<HashMap<HoldId, Arc<Passing>>>);

impl LiveAnswers {
    /// An answer has begun to pass; until the guard is dropped it is shown.
    pub fn begin(self: &Arc<Self>, hold: HoldId, passing: Passing) -> LiveAnswer {
        let passing = Arc::new(passing);
        self.0.lock().insert(hold, Arc::clone(&passing));
        LiveAnswer {
            all: Arc::clone(self),
            hold,
            passing,
        }
    }

    pub fn so_far(&self) -> HashMap<HoldId, PassedSoFar> {
        let passing = self.0.lock();
        passing
            .iter()
            .map(|(hold, passing)| (*hold, passing.so_far()))
            .collect()
    }
}

/// An answer that passes.
#[derive(Debug)]
pub struct LiveAnswer {
    all: Arc<LiveAnswers>,
    hold: HoldId,
    passing: Arc<Passing>,
}

impl LiveAnswer {
    pub fn passed(&self, text_bytes: u64, more_tokens: u64) {
        self.passing.text_bytes.store(text_bytes, Ordering::Relaxed);
        if more_tokens > 0 {
            self.passing.more_tokens.store(more_tokens, Ordering::Relaxed);
        }
    }

    pub fn input_costs(&self, cost: Usd) {
        self.passing.input_usd.store(cost.nanos(), Ordering::Relaxed);
    }
}

impl Drop for LiveAnswer {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.hold);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_answer_is_shown_while_it_passes_and_no_longer() {
        let all = Arc::new(LiveAnswers::default());
        let passing = Passing {
            input_usd: AtomicI64::new(500),
            text_bytes: AtomicU64::new(0),
            more_tokens: AtomicU64::new(0),
            tokens_of_mebibyte: 1 << 18,
            output_price_picos: 10_000,
        };
        let one = all.begin(HoldId(7), passing);
        one.passed(400, 3);
        one.input_costs(Usd::from_nanos(90));
        let so_far = all.so_far()[&HoldId(7)];
        assert_eq!((so_far.output_tokens, so_far.spent.nanos()), (103, 90 + 1_030));
        drop(one);
        assert!(all.so_far().is_empty());
    }
}
