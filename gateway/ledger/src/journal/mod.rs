//! The journal: the append-only, hash-chained sequence of events, one database a month.

pub mod bytes;
pub mod frame;
pub mod reader;

pub use frame::{Chunk, Damage};
pub use reader::{Damaged, MonthReader, Placed, ReadError};
