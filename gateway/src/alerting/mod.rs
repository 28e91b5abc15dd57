//! Delivery of alerts: from where they are raised, through the outbox on disk, to their receivers. On a runtime of its own,
//! so that no receiver, however slow, takes anything from a request.

mod dispatch;
mod http;
mod left;
mod mail;
mod send;
mod silences;
mod states;
mod table;

pub use dispatch::{Dispatch, Dispatcher};
pub use left::left_in;
pub use silences::{SILENCE, SilenceRule};
pub use states::DeliveryState;
