//! The books of AgentLedger: money, accounts, holds, journal and rollups. Knows no HTTP and no provider.

pub mod clock;
pub mod entry;
pub mod journal;
pub mod money;
pub mod store;
pub mod usage;
pub mod writer;

pub use entry::{Entry, Facts, Name, Outcome, Part, PriceRef, Settlement};
pub use money::{UnitPrice, Usd};
pub use usage::{Kind, Usage};
