//! A short hash of verdicts: whether a replay came to the same.
//!
//! It is part of the journal: what it takes in, and how, never changes.

use agentledger_ledger::{Bound, Name};

use super::verdict::{Verdict, When};
use crate::price::Unpriced;

/// Of all verdicts of one decision, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictHash(u64);

/// Bits that are kept: a number of so many takes five bytes of the journal.
const BITS: u32 = 32;
/// The first layout of records kept more, these first.
const FIRST_LAYOUT_BITS: u32 = 48;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl VerdictHash {
    /// A number of the first layout as one of the present.
    pub(super) fn of_first_layout(number: i64) -> i64 {
        number >> (FIRST_LAYOUT_BITS - BITS)
    }

    pub fn number(self) -> i64 {
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(FACTOR);
        i64::try_from(mixed >> (64 - BITS)).unwrap_or_default()
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }

    fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.word(u64::from_le_bytes(word));
        }
    }

    fn name(&mut self, name: Option<&Name>) {
        self.text(name.map_or("", |name| name));
    }

    fn bound(&mut self, bound: &Bound) {
        self.text(bound.account());
        self.text(bound.zone().name());
        let kind = (bound.window() as u64) << 8 | (bound.unit() as u64) << 4 | bound.mode() as u64;
        self.word(kind);
        self.word(bound.limit().count().unsigned_abs());
    }

    /// Takes in one verdict: all of it that decides anything.
    pub fn add(&mut self, verdict: &Verdict) {
        self.word(verdict.policies_applied.len() as u64);
        verdict.policies_applied.iter().for_each(|policy| self.text(policy));
        if let Some(deny) = &verdict.deny {
            self.text(&deny.policy);
            self.text(&deny.code);
            self.text(&deny.message);
            self.word(u64::from(deny.status) << 32 | u64::from(deny.retry_after.unwrap_or(u32::MAX)));
        }
        self.word(verdict.bounds.len() as u64);
        for requested in &verdict.bounds {
            self.bound(&requested.bound);
            self.text(&requested.policy);
            self.word(u64::from(requested.clamps));
            requested
                .soft
                .as_slice()
                .iter()
                .for_each(|share| self.word(u64::from(*share)));
        }
        self.word(verdict.rates.len() as u64);
        for rate in &verdict.rates {
            self.text(&rate.requested.account);
            self.text(&rate.policy);
            self.word((rate.requested.per as u64) << 8 | rate.requested.unit as u64);
            self.word(rate.requested.limit);
        }
        self.word(verdict.parallel.len() as u64);
        for parallel in &verdict.parallel {
            self.text(&parallel.requested.account);
            self.text(&parallel.policy);
            self.word(parallel.requested.limit);
        }
        self.word(verdict.clamp.map_or(u64::MAX, |clamp| clamp));
        self.word(verdict.routes.len() as u64);
        for route in &verdict.routes {
            self.text(&route.policy);
            self.word(u64::from(route.requested.when == When::Always));
            self.word(route.requested.alternatives.len() as u64);
            route.requested.alternatives.iter().for_each(|model| self.text(model));
        }
        self.word(u64::try_from(verdict.delay.as_millis()).unwrap_or(u64::MAX));
        self.word((verdict.tags.len() as u64) << 32 | verdict.headers.len() as u64);
        for (name, value) in &verdict.tags {
            self.text(name);
            self.text(value);
        }
        for (name, value) in &verdict.headers {
            self.text(name);
            self.text(value);
        }
        if let Some(unpriced) = &verdict.unpriced {
            self.text(&unpriced.policy);
            self.word(match &unpriced.requested {
                Unpriced::Refuse => 1,
                Unpriced::Free => 2,
                Unpriced::Dearest => 3,
                Unpriced::Price { .. } => 4,
            });
        }
        let binding = &verdict.binding;
        self.name(binding.tenant.as_ref());
        self.name(binding.zone.as_ref().map(agentledger_ledger::Zone::name));
        for name in [&binding.agent, &binding.session, &binding.user, &binding.task] {
            self.name(name.as_ref());
        }
        let in_shadow = verdict.shadow.iter().filter(|shadow| !shadow.is_candidate);
        self.word(in_shadow.clone().count() as u64);
        for shadow in in_shadow {
            self.text(&shadow.policy);
            self.add(&shadow.verdict);
        }
    }
}
