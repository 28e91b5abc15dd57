//! The trace that a call belongs to (W3C Trace Context): what the client's `traceparent` says, and the span that the gateway
//! adds to it.
//!
//! An exchange's span is known by the exchange's own id: neither a span nor a trace of our own needs state of its own, and
//! whoever has an entry's id finds its span.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use agentledger_ledger::{Name, Unit, Window};
use http::HeaderMap;
use ulid::Ulid;

use crate::config::Sampling;

pub const TRACEPARENT: &str = "traceparent";

/// A place in a trace, as a `traceparent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Not 0.
    pub trace: u128,
    /// Not 0.
    pub span: u64,
    pub is_sampled: bool,
}

impl TraceParent {
    /// What the headers say. Of two nobody knows which is meant: then it is none.
    pub fn of(headers: &HeaderMap) -> Option<TraceParent> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let first = given.next()?;
        if given.next().is_some() {
            return None;
        }
        first.to_str().ok()?.trim().parse().ok()
    }

    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct NoTraceParent;

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    /// `VERSION-TRACE-SPAN-FLAGS` in lower-case hex (<https://www.w3.org/TR/trace-context/#traceparent-header>). A later version
    /// may say more behind the flags.
    fn from_str(text: &str) -> Result<TraceParent, NoTraceParent> {
        let mut parts = text.split('-');
        let mut next = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits).ok_or(NoTraceParent)?;
            let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hex {
                return Err(NoTraceParent);
            }
            u128::from_str_radix(part, 16).map_err(|_| NoTraceParent)
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let says_more = parts.next().is_some();
        let span = u64::try_from(span).map_err(|_| NoTraceParent)?;
        if version == 0xff || (version == 0 && says_more) || trace == 0 || span == 0 {
            return Err(NoTraceParent);
        }
        Ok(TraceParent {
            trace,
            span,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// The gateway's own span of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanIds {
    pub own: TraceParent,
    /// The client's span.
    pub parent: Option<u64>,
}

impl SpanIds {
    /// The span of the exchange with this id, below the client's where it named one.
    pub fn of(id: Ulid, client: Option<TraceParent>, sampling: Sampling) -> SpanIds {
        // The last 64 of the 80 bits that are random; the time is in none of them.
        let span = u64::try_from(id.0 & u128::from(u64::MAX)).unwrap_or(1).max(1);
        let trace = client.map_or(id.0.max(1), |client| client.trace);
        let is_sampled = match client {
            Some(client) if sampling.follows_parent => client.is_sampled,
            _ => is_sampled(trace, sampling.share_ppm),
        };
        SpanIds {
            own: TraceParent {
                trace,
                span,
                is_sampled,
            },
            parent: client.map(|client| client.span),
        }
    }
}

/// By the last 56 bits of the trace id, which are random: all who sample the same share choose the same traces.
fn is_sampled(trace: u128, share_ppm: u32) -> bool {
    const MILLION: u128 = 1_000_000;
    let random = trace & ((1 << 56) - 1);
    let threshold = (1_u128 << 56) * MILLION.saturating_sub(share_ppm.into()) / MILLION;
    random >= threshold
}

/// What an exchange's span says beside its entry.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// What the client said.
    pub parent: Option<TraceParent>,
    /// The budget that had least left, as the hold was placed.
    pub tightest: OnceLock<TightestBudget>,
}

/// How a budget stood right after a hold was placed on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TightestBudget {
    pub account: Name,
    pub window: Window,
    pub unit: Unit,
    /// In nano-dollars, tokens or requests.
    pub limit: i64,
    pub left: i64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const ALL: Sampling = Sampling {
        share_ppm: 1_000_000,
        follows_parent: true,
    };

    #[test]
    fn a_traceparent_reads_back_as_it_is_written() {
        let text = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let read: TraceParent = text.parse().unwrap();
        assert_eq!((read.to_string(), read.trace_id()), (text, TRACE.to_owned()));
        assert!(read.is_sampled);
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-00-what-comes");
        let later: TraceParent = later.parse().unwrap();
        assert_eq!(
            (later.trace, later.span, later.is_sampled),
            (read.trace, read.span, false)
        );
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for bad in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf9-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
        let mut headers = HeaderMap::new();
        let one = format!("00-{TRACE}-00f067aa0ba902b7-01");
        headers.append(TRACEPARENT, one.parse().unwrap());
        assert!(TraceParent::of(&headers).is_some());
        headers.append(TRACEPARENT, one.parse().unwrap());
        assert!(TraceParent::of(&headers).is_none());
    }

    #[test]
    fn a_span_stands_below_the_clients_or_begins_a_trace() {
        let id = Ulid::from_parts(1_700_000_000_000, 77);
        let client: TraceParent = format!("00-{TRACE}-00f067aa0ba902b7-00").parse().unwrap();
        let below = SpanIds::of(id, Some(client), ALL);
        assert_eq!((below.own.trace, below.parent), (client.trace, Some(client.span)));
        assert_eq!((below.own.span, below.own.is_sampled), (77, false));
        let alone = SpanIds::of(id, None, ALL);
        assert_eq!(
            (alone.own.trace, alone.parent, alone.own.is_sampled),
            (id.0, None, true)
        );
        let own_way = Sampling {
            follows_parent: false,
            ..ALL
        };
        assert!(SpanIds::of(id, Some(client), own_way).own.is_sampled);
    }

    #[test]
    fn a_share_of_the_traces_is_sampled() {
        let of = |share_ppm| {
            let trace = |at: u64| u128::from(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (1..=10_000).filter(|at| is_sampled(trace(*at), share_ppm)).count()
        };
        assert_eq!((of(0), of(1_000_000)), (0, 10_000));
        assert!((2_300..2_700).contains(&of(250_000)), "{}", of(250_000));
    }
}
