//! Moving in and out: what the original AgentLedger left in its database, and archives of our own ledger.
//!
//! `original` says what a row of the original means here, whatever database it comes from; `sqlite` and `postgres` read those;
//! `archive` writes a ledger into one file and makes a ledger of it again. Nothing here writes to a ledger that is open.

pub mod archive;
pub mod original;
pub mod postgres;
pub mod restore;
pub mod sqlite;

/// The file beside a ledger with the secret that keys are named by; only its owner may read it.
pub const SECRET_FILE: &str = "fingerprint.key";
