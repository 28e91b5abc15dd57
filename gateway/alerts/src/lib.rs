//! Alerts on their way to people: what an alert is, who gets it, how each kind of receiver wants it, and the outbox that
//! keeps it until it has arrived. All of it is decided by what is given from outside (a time, a seed, a store), so that the
//! same input gives the same output; connections and databases are the gateway's.

pub mod alert;
pub mod burn;
pub mod cooldown;
pub mod outbox;
mod patterns;
pub mod plan;
pub mod quiet;
mod random;
pub mod render;
pub mod room;
pub mod signature;
pub mod silence;

pub use alert::{Alert, Severity};
pub use outbox::{Attempt, Cooled, Outbox, Outcome, Settled, Store, StoreFailed, Write};
pub use patterns::{PatternError, Patterns};
pub use plan::{Plan, Retry, Route};
pub use silence::Silence;
