//! How large a request was expected to be: the measure of what was not read of its answer.

use agentledger_ledger::Usd;

/// The size of a request as its hold was made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedUse {
    pub input_tokens: u64,
    /// Of the whole answer.
    pub output_tokens: u64,
    /// What the whole answer is expected to cost.
    pub whole: Usd,
    /// What it may cost at most: with the output that the request names, or its model's maximum.
    pub most: Usd,
    /// Its input was held as what its provider's cache has costs.
    pub relies_on_cache: bool,
}
