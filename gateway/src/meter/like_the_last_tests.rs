//! Streams whose events are read by the last one come out as those that are read one by one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use proptest::prelude::*;

use super::tests::{fake_reader, sse_facts};
use super::*;
use crate::limits::Limits;

/// All that a meter says of a stream, and to whom the plugin was shown.
fn said(reader: &Arc<AnswerReader>, stream: &[u8], cut: usize) -> (Vec<Passed>, Metered) {
    let mut meter = Meter::new(Arc::clone(reader), sse_facts(), &Limits::default());
    let mut passed = Vec::new();
    let (first, second) = stream.split_at(cut);
    for chunk in [first, second] {
        meter.push(chunk, &mut |piece| passed.push(piece));
    }
    let metered = meter.finish(&mut |piece| passed.push(piece));
    (passed, metered)
}

fn each_whole() -> Arc<AnswerReader> {
    let dialect = Arc::clone(fake_reader().dialect());
    Arc::new(AnswerReader::new(dialect, 128).unwrap().each_whole())
}

/// What a stream of events could send: mostly the same with other text.
fn event() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        6 => "[a-z ]{0,6}".prop_map(String::from),
        1 => Just("\\u00e9\\n".to_owned()),
        1 => Just("\\ud800".to_owned()),
        1 => Just("世界".to_owned()),
        1 => Just("\\x".to_owned()),
        1 => Just("\",\"usage\":{\"prompt_tokens\":7},\"a\":\"".to_owned()),
        1 => Just("\\\"usage\\\":{".to_owned()),
    ];
    let form = prop_oneof![
        12 => Just(r#"data: {"n":N,"choices":[{"index":0,"delta":{"content":"S"}}],"usage":null,"noise":"T"}"#),
        3 => Just(r#"event: delta\ndata: {"id":"c1","delta":{"text":"S"},"n":N}"#),
        1 => Just(r#"data: {"id":"T","delta":{"text":"S"}}"#),
        1 => Just(r#"data: {"choices":[{"index":N,"delta":{"content":"S"}}],"usage":{"prompt_tokens":N,"completion_tokens":2}}"#),
        // The same data under two names, of which one is marked.
        4 => Just(r#"data: {"delta":{"text":"S"}}"#),
        2 => Just(r#"event: message_stop\ndata: {"delta":{"text":"S"}}"#),
        1 => Just("data: [DONE]"),
        1 => Just(": nothing"),
        1 => Just(r#"data: {"trap":1,"delta":{"text":"S"}}"#),
    ];
    (form, text, "[a-z0-9]{0,5}", 0..40_u32).prop_map(|(form, text, noise, number)| {
        let form = form.replace("\\n", "\n").replace('N', &number.to_string());
        form.replace('S', &text).replace('T', &noise)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_stream_is_metered_as_if_each_event_was_outlined(events in prop::collection::vec(event(), 1..30), cut in 0..1_000_usize) {
        let mut stream = String::new();
        for event in &events {
            stream.push_str(event);
            stream.push_str("\n\n");
        }
        let cut = cut.min(stream.len());
        let by_the_last = said(&fake_reader(), stream.as_bytes(), cut);
        prop_assert_eq!(by_the_last, said(&each_whole(), stream.as_bytes(), cut), "{}", stream);
    }
}
