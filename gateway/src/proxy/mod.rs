//! The data plane. The files bear the names of a request's steps, in the order in which it passes them:
//!
//! ```text
//! accept → guard → identify → inspect → decide → reserve → forward → relay ∥ meter → settle → report
//! ```
//!
//! Each step takes what the one before it found and adds to the [`exchange::Exchange`]; nothing reaches back.
//! `reply` alone turns a refusal into HTTP. The other files are what several steps share.

pub mod accept;
pub mod decide;
pub mod fetch;
pub mod forward;
pub mod identify;
pub mod inspect;
pub mod relay;
pub mod report;
pub mod reserve;
pub mod sanitize;
pub mod session;
pub mod settle;
pub mod shared;
pub mod socket;
