//! Reads what an answer used while its bytes pass.

pub mod frames;
