//! An alert as each kind of receiver wants it.

mod email;
mod pagerduty;
mod slack;
mod template;
mod webhook;

use jiff::Timestamp;

use crate::alert::Alert;

pub use email::{Mail, mail};
pub use pagerduty::{EVENTS_URL, event as pagerduty};
pub use slack::blocks as slack;
pub use template::{Template, TemplateError};
pub use webhook::payload as webhook;

/// RFC 3339 in UTC, with milliseconds.
fn at(alert: &Alert) -> String {
    let at = Timestamp::from_millisecond(alert.at_ms).unwrap_or_default();
    format!("{at:.3}")
}
