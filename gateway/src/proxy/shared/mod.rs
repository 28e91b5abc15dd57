//! What all steps share.

pub mod drain;
pub mod exchange;
pub mod gateway;
pub mod pricing;
pub mod reply;
