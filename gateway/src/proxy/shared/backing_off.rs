//! Clients that take a final refusal for one that passes: they send the same request again and again, after pauses that grow. To
//! those the status says what the header `x-should-retry` did not.
//!
//! That header ends an SDK. What is built over one tries again by itself, and of what is known to do so the first time is enough.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use parking_lot::Mutex;
use pingora::http::RequestHeader;

use crate::clients::Client;

/// Pauses that grew, one after the other, from which on a client is known to back off.
const GROWN: u32 = 2;
/// A pause has grown when it is so much longer than the one before. Clients double theirs, some give or take a quarter, and on a
/// busy machine each has the time of a request in it.
const GROWTH_PER_CENT: i64 = 120;
/// Shorter ones are no pauses but the time that a request takes.
const PAUSE_MS_MIN: i64 = 100;
/// Longer ones are those of a person or of a schedule: a program that backs off does not begin with them.
const PAUSE_MS_MAX: i64 = 60_000;
/// The pauses of those that are known to try again by themselves: aider's first is a quarter of a second, and on a busy machine each
/// has the time of a request in it.
const KNOWN_PAUSE_MS_MAX: i64 = 10_000;
/// OpenAI's SDK for Python says by this header that its caller wants the raw answer. LiteLLM always does (1.81.10, as aider 0.86.2
/// brings it), which names itself to OpenAI-like hosts by nothing else.
const RAW_ANSWER: &str = "x-stainless-raw-response";
/// What Vercel's AI SDK has in its `User-Agent` (6.0.326). It makes two calls more of each 429, after 2 and 4 seconds.
const AI_SDK: &str = "ai-sdk/";
/// Requests that are remembered; the oldest half goes.
const REMEMBERED: usize = 2_048;

/// The headers by which two requests are taken for the same one sent twice, beside path and length.
const SAME: [&str; 5] = [
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "user-agent",
    "content-length",
];

#[derive(Clone, Copy, Debug)]
struct Pauses {
    last_ms: i64,
    pause_ms: i64,
    grown: u32,
}

/// The final refusals of late, by keyed digests of the requests.
#[derive(Default)]
pub struct BackingOff {
    hasher: RandomState,
    seen: Mutex<HashMap<u64, Pauses>>,
}

impl BackingOff {
    /// The request is refused for good, at this moment of a clock that only goes forward. True: its client backs off.
    pub fn refused(&self, request: &RequestHeader, client: Option<Client>, now_ms: i64) -> bool {
        let agent = request.headers.get("user-agent").and_then(|value| value.to_str().ok());
        let tries_again = client == Some(Client::Litellm)
            || request.headers.contains_key(RAW_ANSWER)
            || agent.is_some_and(|agent| agent.contains(AI_SDK));
        let mut hasher = self.hasher.build_hasher();
        request.uri.path().hash(&mut hasher);
        for name in SAME {
            request
                .headers
                .get(name)
                .map(http::HeaderValue::as_bytes)
                .hash(&mut hasher);
        }
        self.note(hasher.finish(), tries_again, now_ms)
    }

    /// `tries_again`: its client is known to.
    fn note(&self, request: u64, tries_again: bool, now_ms: i64) -> bool {
        let mut seen = self.seen.lock();
        if seen.len() >= REMEMBERED && !seen.contains_key(&request) {
            let mut times: Vec<i64> = seen.values().map(|pauses| pauses.last_ms).collect();
            let (_, middle, _) = times.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            seen.retain(|_, pauses| pauses.last_ms > middle);
        }
        let pauses = seen.entry(request).or_insert(Pauses {
            last_ms: now_ms,
            pause_ms: 0,
            grown: 0,
        });
        let pause_ms = now_ms.saturating_sub(pauses.last_ms);
        let is_pause = (PAUSE_MS_MIN..=PAUSE_MS_MAX).contains(&pause_ms);
        let has_grown = is_pause && pause_ms.saturating_mul(100) >= pauses.pause_ms.saturating_mul(GROWTH_PER_CENT);
        let grown = if has_grown { pauses.grown.saturating_add(1) } else { 0 };
        *pauses = Pauses {
            last_ms: now_ms,
            pause_ms,
            grown,
        };
        grown >= GROWN || (tries_again && (PAUSE_MS_MIN..=KNOWN_PAUSE_MS_MAX).contains(&pause_ms))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn refused_at(moments_ms: &[i64]) -> Vec<bool> {
        let refusals = BackingOff::default();
        moments_ms.iter().map(|ms| refusals.note(7, false, *ms)).collect()
    }

    #[test]
    fn who_is_known_to_try_again_by_itself_is_known_at_its_second_call() {
        let refusals = BackingOff::default();
        let mut aiders = RequestHeader::build("POST", b"/v1/chat/completions", None).unwrap();
        aiders.insert_header("user-agent", "OpenAI/Python 1.99.1").unwrap();
        aiders.insert_header(RAW_ANSWER, "true").unwrap();
        let mut anthropics = RequestHeader::build("POST", b"/v1/messages", None).unwrap();
        anthropics.insert_header("user-agent", "litellm/1.81.10").unwrap();
        let mut vercels = RequestHeader::build("POST", b"/v1/messages", None).unwrap();
        let agent = "ai/6.0.326 ai-sdk/anthropic/3.0.140 runtime/node.js/20";
        vercels.insert_header("user-agent", agent).unwrap();
        for (request, client) in [(&aiders, None), (&anthropics, Some(Client::Litellm)), (&vercels, None)] {
            let seen = [0, 5_250, 90_000].map(|ms| refusals.refused(request, client, ms));
            assert_eq!(seen, [false, true, false], "a busy machine, and a person's own try");
        }
    }

    #[test]
    fn growing_pauses_are_known_and_steady_ones_are_not() {
        // aider's.
        assert_eq!(refused_at(&[0, 260, 775, 1_790]), [false, false, true, true]);
        assert_eq!(refused_at(&[0, 500, 1_140]), [false, false, true], "on a busy machine");
        assert!(
            !refused_at(&[0, 1_000, 2_000, 3_000, 4_000, 5_000]).contains(&true),
            "a poll"
        );
        assert!(!refused_at(&[0, 1, 3, 8, 20, 50]).contains(&true), "no pauses at all");
        assert!(
            !refused_at(&[0, 300, 301, 1_000, 1_001, 1_900, 1_901]).contains(&true),
            "begun anew"
        );
        let hours = [0, 3_600_000, 9_000_000, 18_000_000];
        assert!(!refused_at(&hours).contains(&true), "no program's pauses");
    }

    #[test]
    fn requests_are_told_apart_and_forgotten() {
        let refusals = BackingOff::default();
        let request = |length: &str| {
            let mut request = RequestHeader::build("POST", b"/v1/chat/completions", None).unwrap();
            request.insert_header("content-length", length.to_owned()).unwrap();
            request
        };
        for ms in [0, 260] {
            assert!(!refusals.refused(&request("10"), None, ms));
            assert!(!refusals.refused(&request("11"), None, ms + 700));
        }
        assert!(refusals.refused(&request("10"), None, 775));
        for other in 0..10_000 {
            refusals.note(other, false, 2_000 + i64::try_from(other).unwrap());
        }
        assert!(refusals.seen.lock().len() <= REMEMBERED);
    }
}
