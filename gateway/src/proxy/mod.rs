//! The data plane. The files bear the names of a request's steps, in the order in which it passes them:
//!
//! ```text
//! accept → guard → identify → inspect → decide → reserve → forward → relay ∥ meter → settle → report
//! ```
//!
//! Each step takes what the one before it found and adds to the [`exchange::Exchange`]; nothing reaches back.
//! `reply` alone turns a refusal into HTTP.

pub mod accept;
pub mod guard;
pub mod identify;
pub mod inspect;
pub mod decide;
pub mod reserve;
pub mod forward;
pub mod relay;
pub mod settle;
pub mod report;

pub mod breaker;
pub mod drain;
pub mod exchange;
pub mod gateway;
pub mod handover;
pub mod reply;
pub mod server;
pub mod upstream;

pub use gateway::{Gateway, Rules};
pub use server::{Running, ServeError};
