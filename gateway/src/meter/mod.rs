//! (being built)
pub mod price;
