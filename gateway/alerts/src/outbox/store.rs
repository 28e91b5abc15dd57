//! What the outbox needs of a database.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox cannot be kept: {0}")]
pub struct StoreFailed(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A small table: keys to bytes.
pub trait Store {
    /// All of it or nothing; on disk when it returns.
    ///
    /// # Errors
    /// Nothing of it is written.
    fn apply(&mut self, writes: Vec<Write>) -> Result<(), StoreFailed>;

    /// Every row.
    ///
    /// # Errors
    /// It cannot be read.
    fn scan(&self) -> Result<Vec<Row>, StoreFailed>;
}
