//! The journal: the append-only, hash-chained sequence of events, one database a month.

pub(crate) mod bytes;
pub(crate) mod frame;
pub(crate) mod reader;

pub use frame::Damage;
pub use reader::MonthReader;
