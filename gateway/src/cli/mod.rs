//! (being built)
pub mod client;
pub mod costs;
pub mod export;
pub mod table;
pub mod verify;
