//! Results as JSON lines: each line is an answer of its own, with its own model and bill.

use super::fold::{Fold, MeteredPart};
use super::text::Text;
use crate::plugin::Reading;

/// One line that reports usage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The line's own id within the results.
    pub bill_id: String,
    pub model: Option<String>,
    pub service_tier: Option<String>,
    /// Empty where the usage cannot be believed.
    pub parts: Vec<MeteredPart>,
    /// The line's text, for an estimate.
    pub text: Text,
}

/// The lines of one answer, so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    read: Vec<Line>,
    /// Lines that are no JSON, or longer than the limit.
    broken: u64,
}

impl Lines {
    pub fn add(&mut self, mut reading: Reading, text: Text) {
        let mut fold = Fold::default();
        let (bill_id, model, tier) = (
            reading.bill_id.take().unwrap_or_default(),
            reading.model.take(),
            reading.service_tier.take(),
        );
        fold.add(reading);
        self.read.push(Line {
            bill_id,
            model,
            service_tier: tier,
            parts: fold.parts(),
            text,
        });
    }

    pub fn broken(&mut self, lines: u64) {
        self.broken += lines;
    }

    pub fn take(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.read)
    }

    pub fn broken_count(&self) -> u64 {
        self.broken
    }
}
