//! What the operator says that models without a row cost.

use agentledger_ledger::Name;

use super::row::Row;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// Settled at the dearest row of the provider's book, marked estimated.
    Dearest,
    Refuse,
    Free,
    /// Decimal USD per million tokens, (input, output).
    Price {
        input: agentledger_ledger::UnitPrice,
        output: agentledger_ledger::UnitPrice,
    },
}

/// What models without a row cost, in one exchange: a policy's word, else the config's.
pub struct StatedPrice {
    pub unpriced: Unpriced,
    pub row: Option<Row>,
}

impl StatedPrice {
    pub fn new(unpriced: Unpriced, provider: &Name) -> StatedPrice {
        let row = Row::stated(provider.clone(), &unpriced);
        StatedPrice { unpriced, row }
    }
}
