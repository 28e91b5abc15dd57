//! The books of AgentLedger: money, accounts, holds, journal and rollups. Knows no HTTP and no provider.

pub mod amounts;
pub mod bound;
pub mod clock;
pub mod codec;
pub mod entry;
mod entry_json;
pub mod event;
pub mod journal;
pub mod money;
pub mod names;
pub mod rollup;
pub mod store;
pub mod usage;
mod wire;
pub mod writer;

pub use amounts::{Amounts, Unit};
pub use bound::{Bound, BoundError, Limit, Mode, Window, Zone};
pub use entry::{Entry, Facts, Name, Outcome, Part, PriceRef, Settlement};
pub use entry_json::rfc3339_ms;
pub use event::{Event, HoldId};
pub use money::{MoneyError, Picos, UnitPrice, Usd};
pub use usage::{Kind, Usage};
