//! The endpoints of every vendor whose API is this dialect or near it: which are billed, how that is read, which are free
//! and why, and which are not served, as they would spend what can neither be held nor read.
//!
//! The first row that fits counts, so a vendor's own rows stand before those of all hosts. What no row names is not served.
//! `ENDPOINTS.md` shows the table; a test holds it equal.

mod common;
mod hosts;
mod mistral;
mod openai;
pub mod operations;
#[cfg(test)]
mod tests;
mod xai;

use agentledger_guest::{Billing, Route, because, only_at, route};

/// One row. Facts of a vendor's API stand with their source.
pub struct Row {
    /// Empty: every host of the dialect.
    vendors: &'static [&'static str],
    method: &'static str,
    path: &'static str,
    operation: &'static str,
    billing: Billing,
    reason: &'static str,
    source: &'static str,
}

impl Row {
    /// The row for the hosts of these vendors alone.
    const fn at(self, vendors: &'static [&'static str]) -> Row {
        Row { vendors, ..self }
    }

    /// Where the vendor documents the endpoint.
    const fn see(self, source: &'static str) -> Row {
        Row { source, ..self }
    }

    const fn why(self, reason: &'static str) -> Row {
        Row { reason, ..self }
    }
}

const fn row(method: &'static str, path: &'static str, operation: &'static str, billing: Billing) -> Row {
    Row {
        vendors: &[],
        method,
        path,
        operation,
        billing,
        reason: "",
        source: "",
    }
}

/// Held, metered, entered.
const fn post(path: &'static str, operation: &'static str) -> Row {
    row("POST", path, operation, Billing::Metered)
}

/// A result that an earlier request asked for.
const fn fetch(path: &'static str, operation: &'static str) -> Row {
    row("GET", path, operation, Billing::Fetched)
}

const fn free(method: &'static str, path: &'static str, operation: &'static str, reason: &'static str) -> Row {
    row(method, path, operation, Billing::Free).why(reason)
}

const fn refused(method: &'static str, path: &'static str, operation: &'static str, reason: &'static str) -> Row {
    row(method, path, operation, Billing::Refused).why(reason)
}

/// All rows in the order in which they count.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [mistral::ROWS, xai::ROWS, hosts::ROWS, openai::ROWS, common::ROWS]
        .into_iter()
        .flatten()
}

pub fn routes() -> Vec<Route> {
    rows().map(Row::route).collect()
}

impl Row {
    /// A row that names no source has its operation's.
    fn source(&self) -> &'static str {
        if self.source.is_empty() {
            operations::find(self.operation).map_or("", |operation| operation.source)
        } else {
            self.source
        }
    }

    /// Why it is free or refused; of what is billed, what that is and where it is read.
    fn reason(&self) -> String {
        match operations::find(self.operation) {
            Some(operation) if !matches!(self.billing, Billing::Free | Billing::Refused) => {
                format!("{}; read from {}", operation.billed, operation.read)
            }
            _ => self.reason.to_owned(),
        }
    }

    fn route(&self) -> Route {
        let plain = route(self.method, self.path, self.operation, self.billing);
        only_at(self.vendors, because(plain, &self.reason(), self.source()))
    }
}
