//! What can go wrong with the ledger.

use std::path::PathBuf;

use thiserror::Error;
use ulid::Ulid;

use crate::books::BooksError;
use crate::event::HoldId;
use crate::journal::reader::{Damaged, ReadError};
use crate::queue::Stopped;
use crate::store::StoreError;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LedgerError {
    /// Another process has it: ask that one.
    #[error("the store in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error(
        "{0}; run `agentledger verify` to see how far the journal is sound; the ledger was not opened and nothing was changed"
    )]
    Damaged(Damaged),
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Books(#[from] BooksError),
    #[error("there is no entry {0}")]
    NoSuchEntry(Ulid),
    #[error("there is no open hold {}", .0.0)]
    NoSuchHold(HoldId),
    #[error("cannot start the ledger's writer: {0}")]
    Thread(String),
}

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> LedgerError {
        match error {
            StoreError::InUse { dir } => LedgerError::InUse(dir),
            error => LedgerError::Store(error),
        }
    }
}

impl From<ReadError> for LedgerError {
    fn from(error: ReadError) -> LedgerError {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::Damaged(damaged) => LedgerError::Damaged(damaged),
        }
    }
}
