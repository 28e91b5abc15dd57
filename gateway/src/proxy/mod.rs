//! The data plane. The files bear the names of a request's steps, in the order in which it passes them:
//!
//! ```text
//! accept → guard → identify → inspect → decide → reserve → forward → relay ∥ meter → settle → report
//! ```
//!
//! Each step takes what the one before it found and adds to the [`exchange::Exchange`]; nothing reaches back.
//! `reply` alone turns a refusal into HTTP. The other files are what several steps share.

pub mod accept;
pub mod apply;
pub mod decide;
pub mod fetch;
pub mod forward;
pub mod guard;
pub mod identify;
pub mod inspect;
pub mod relay;
pub mod report;
pub mod reserve;
pub mod settle;

pub mod awaited;
pub mod azure;
pub mod breaker;
pub mod corked;
pub mod drain;
pub mod exchange;
pub mod gateway;
pub mod handover;
pub mod links;
pub mod lookout;
pub mod place;
pub mod price;
pub mod progress;
pub mod rated;
pub mod reply;
pub mod results;
pub mod server;
pub mod session;
pub mod sigv4;
pub mod size;
pub mod socket;
pub mod upstream;
