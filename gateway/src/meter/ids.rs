//! The ids by which a provider finds an answer again: kept for the books, and trusted for nothing else.

use agentledger_ledger::Name;

/// Longest id that is read: the ending of a cut stream repeats it to the client.
const READ_BYTES_MAX: usize = 256;
/// Longest id that an entry bears. A longer one is left out, as half an id finds nothing.
const ENTERED_BYTES_MAX: usize = 128;

/// What an entry bears of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub response: Option<Name>,
    pub request: Option<Name>,
}

impl Ids {
    /// As the provider gave them.
    pub fn new(response: Option<&str>, request: Option<&str>) -> Ids {
        let entered = |id: &str| (id.len() <= ENTERED_BYTES_MAX).then(|| Name::from(id));
        Ids {
            response: response.and_then(readable).and_then(entered),
            request: request.and_then(readable).and_then(entered),
        }
    }

    /// These, and of `other` what is missing here.
    #[must_use]
    pub fn or(&self, other: Ids) -> Ids {
        Ids {
            response: self.response.clone().or(other.response),
            request: self.request.clone().or(other.request),
        }
    }
}

/// An id is of visible ASCII. Anything else would be somebody's text in a place where ids are read.
pub(super) fn readable(id: &str) -> Option<&str> {
    let fits = !id.is_empty() && id.len() <= READ_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::limits::Limits;
    use crate::meter::tests::{facts, fake_reader, metered, sse_facts};
    use crate::meter::{AnswerFacts, Meter};

    #[test]
    fn an_id_that_is_too_long_or_not_printable_is_left_out() {
        let entered = |id: &str| Ids::new(Some(id), Some(id));
        let longest = "x".repeat(ENTERED_BYTES_MAX);
        for id in ["req_1", "9da39506-6c13-4646-91eb-5e0f5cf0cc50", longest.as_str()] {
            let ids = entered(id);
            assert_eq!((ids.response.as_deref(), ids.request.as_deref()), (Some(id), Some(id)));
        }
        let long = "x".repeat(ENTERED_BYTES_MAX + 1);
        for id in ["", " ", "a b", "a\nb", "caf\u{e9}", "a\u{7f}", long.as_str()] {
            assert_eq!(entered(id), Ids::default(), "{id:?}");
        }
        assert_eq!(
            readable(&long),
            Some(long.as_str()),
            "the client's ending still bears it"
        );
        assert_eq!(readable(&"x".repeat(READ_BYTES_MAX + 1)), None);
    }

    #[test]
    fn what_is_known_already_stays() {
        let first = Ids::new(Some("a"), None);
        let both = first.or(Ids::new(Some("b"), Some("c")));
        assert_eq!(both, Ids::new(Some("a"), Some("c")));
    }

    fn chunk(id: &str) -> String {
        format!("data: {{\"id\":{id},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}]}}\n\n")
    }

    #[test]
    fn a_stream_bears_the_id_of_its_first_frame_that_has_one() {
        let id_of = |frames: &[&str]| metered(sse_facts(), frames.concat().as_bytes()).response_id;
        let named = |ids: &[&str]| {
            let frames: Vec<String> = ids.iter().map(|id| chunk(id)).collect();
            id_of(&frames.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let first = || Some("c1".to_owned());
        assert_eq!(named(&["\"c1\"", "\"c2\""]), first(), "a later one changes nothing");
        // Azure's first frame says what its filters found, under no id.
        assert_eq!(named(&["\"\"", "\"c1\""]), first());
        assert_eq!(
            named(&["7", "null", "{\"id\":\"c0\"}", "\"c1\""]),
            first(),
            "an id is a string"
        );
        assert_eq!(
            named(&["\"a b\"", "\"a\\nb\"", "\"\u{e9}\"", "\"c1\""]),
            first(),
            "of visible ASCII"
        );
        assert_eq!(named(&["\"\""]), None);
        let created = "data: {\"type\":\"response.created\",\"id\":\"evt_1\",\"response\":{\"id\":\"c1\"}}\n\n";
        assert_eq!(id_of(&[created]), first(), "the path that is named first counts");
        // A frame that broke off tells nothing; what came before it stays.
        assert_eq!(id_of(&[&chunk("\"c1\""), "data: {\"id\":\"c"]), first());
    }

    #[test]
    fn an_id_is_read_where_the_plugin_fails() {
        let body = br#"{"id":"c1","trap":true}"#;
        let metered = metered(facts("application/json"), body);
        assert_eq!((metered.plugin_errors, metered.response_id.as_deref()), (1, Some("c1")));
    }

    #[test]
    fn the_answer_of_any_status_bears_the_requests_id_of_its_headers() {
        let id_of = |status: u16, headers: &[(&str, &'static str)]| {
            let facts = AnswerFacts {
                status,
                ..facts("application/json")
            };
            let header = |name: &str| {
                headers
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| *value)
            };
            let mut meter = Meter::new(fake_reader(), facts, &Limits::default()).with_headers(header);
            meter.push(br#"{"id":"c1","error":{}}"#, &mut |_| {});
            meter.finish(&mut |_| {}).request_id
        };
        for status in [200, 400, 429, 500] {
            let both = [("x-request-id", "b"), ("own-request-id", "a")];
            assert_eq!(
                id_of(status, &both).as_deref(),
                Some("a"),
                "{status}: by the plugin's order"
            );
            assert_eq!(id_of(status, &both[..1]).as_deref(), Some("b"));
        }
        let unreadable = [("own-request-id", "not an id"), ("x-request-id", " b ")];
        assert_eq!(id_of(200, &unreadable).as_deref(), Some("b"));
        assert_eq!(id_of(200, &[("cf-ray", "a")]), None);
    }
}
