//! The books of AgentLedger: money, accounts, holds, journal and rollups. Knows no HTTP and no provider.

pub mod clock;
pub mod entry;
mod entry_json;
pub mod money;
pub mod usage;

pub use entry::{Entry, Facts, Name, Outcome, Part, PriceRef, Settlement};
pub use entry_json::rfc3339_ms;
pub use money::{MoneyError, Picos, UnitPrice, Usd};
pub use usage::{Kind, Usage};
