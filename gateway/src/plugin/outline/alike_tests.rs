//! What is read by a template is what a whole reading finds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::tests::want;
use super::*;
use crate::plugin::dialect::Want;

fn shape() -> Shape {
    let found = Want {
        max_bytes: 0,
        ..want("trace")
    };
    let wants: Vec<Want> = ["id", "type", "usage", "choices.*.index", "choices.*.kind"]
        .map(want)
        .into_iter()
        .chain([found])
        .collect();
    let text = ["choices.*.delta.content", "delta.text", "choices.*.kind"].map(str::to_owned);
    Shape::compile(&wants, &[], &text).unwrap()
}

/// Whether the second document is read by the first; where it is, all of it is compared.
fn is_read(first: &[u8], second: &[u8]) -> bool {
    let shape = shape();
    let Ok(known) = outline(first, &shape, 16) else {
        return false;
    };
    let Some(mut template) = Template::new(first, &known) else {
        return false;
    };
    let own = template.read(first).map(|alike| alike.text_bytes);
    assert_eq!(own, Some(known.text_bytes), "a document is like itself");
    let Some(alike) = template.read(second) else {
        return false;
    };
    let shown = || {
        format!(
            "{:?} by {:?}",
            String::from_utf8_lossy(second),
            String::from_utf8_lossy(first)
        )
    };
    let whole = outline(second, &shape, 16).unwrap_or_else(|error| panic!("{error}: {}", shown()));
    assert_eq!(alike.doc, whole.doc, "{}", shown());
    assert_eq!(alike.text, whole.text, "{}", shown());
    assert_eq!(alike.text_bytes, whole.text_bytes, "{}", shown());
    let values = |json: &[u8], of: &Outline| -> Vec<(usize, Vec<u8>)> {
        of.spans
            .iter()
            .map(|(want, span)| (*want, json[span.clone()].to_vec()))
            .collect()
    };
    assert_eq!(values(first, &known), values(second, &whole), "{}", shown());
    assert_eq!((&known.pieces, &known.counts), (&whole.pieces, &whole.counts));
    true
}

const EVENT: &str =
    r#"{"id":"a-1","n":12,"choices":[{"index":0,"delta":{"content":"Hello"},"end":null}],"usage":null,"noise":"x9"}"#;

#[test]
fn text_noise_and_numbers_may_differ() {
    for (from, to) in [
        ("Hello", "Bye"),
        ("Hello", ""),
        ("Hello", "a \\\"quoted\\\" word\\n"),
        ("Hello", "\\ud83d\\ude00 \\ud800"),
        ("Hello", "Grüße, 世界"),
        ("12", "13"),
        ("12", "-0.5e+7"),
        ("x9", "1234567890"),
    ] {
        assert!(is_read(EVENT.as_bytes(), EVENT.replace(from, to).as_bytes()), "{to}");
    }
}

#[test]
fn whatever_else_differs_is_read_whole() {
    for (from, to) in [
        ("a-1", "a-2"),
        ("\"index\":0", "\"index\":1"),
        ("\"usage\":null", "\"usage\":{}"),
        ("\"usage\":null", "\"usage\":true"),
        ("null}", "\"stop\"}"),
        ("content", "contenu"),
        ("Hello", "Hello\",\"b\":\"c"),
        ("Hello\"", "Hello"),
        ("Hello", "\\x"),
        ("Hello", "\\u12g4"),
        ("Hello", "a\nb"),
        ("Hello", "\\"),
        ("12", "012"),
        ("12", "1."),
        ("12", "\"12\""),
        ("12", ""),
        (",\"n\"", " ,\"n\""),
        ("x9\"}", "x9\"} "),
        ("x9\"}", "x9\"}}"),
        ("x9\"}", "x9\""),
        ("\"n\":12", "\"n\":12,\"n\":12"),
    ] {
        let other = EVENT.replace(from, to);
        assert_ne!(other, EVENT, "{from}");
        assert!(!is_read(EVENT.as_bytes(), other.as_bytes()), "{from}: {to}");
    }
    // No text at all: bytes that are not UTF-8.
    let at = EVENT.find("Hello").unwrap();
    for bytes in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98"] {
        let other = [&EVENT.as_bytes()[..at], bytes, &EVENT.as_bytes()[at + 5..]].concat();
        assert!(!is_read(EVENT.as_bytes(), &other), "{bytes:?}");
    }
    // Found and not shown, and an empty text: they stay as they are.
    let traced = r#"{"trace":"t1","delta":{"text":""}}"#;
    assert!(!is_read(traced.as_bytes(), traced.replace("t1", "t2").as_bytes()));
    assert!(!is_read(traced.as_bytes(), traced.replace("\"\"", "\"a\"").as_bytes()));
}

#[test]
fn what_is_large_or_has_flaws_makes_no_template() {
    let shape = shape();
    let made = |json: &str| Template::new(json.as_bytes(), &outline(json.as_bytes(), &shape, 16).unwrap()).is_some();
    assert!(made(EVENT));
    assert!(!made(&EVENT.replace("Hello", &"x".repeat(5_000))));
    assert!(!made(&EVENT.replace("\"index\":0", "\"kind\":\"shown and text\"")));
    assert!(!made(&EVENT.replace("12", &format!("[{}1]", "1,".repeat(70)))));
    let flawed = lenient(&EVENT.as_bytes()[..EVENT.len() - 3], &shape, 16).unwrap();
    assert!(flawed.flaws.any() && Template::new(EVENT.as_bytes(), &flawed).is_none());
}

/// Values that are near one another, in events of a few forms: most pairs are alike, or nearly.
fn event() -> impl Strategy<Value = String> {
    let string = prop_oneof![
        Just(String::new()),
        "[a-z ]{1,4}".prop_map(String::from),
        Just("\\u00e9\\\\".to_owned()),
        Just("\\ud83d\\ude00".to_owned()),
        Just("\\ud800".to_owned()),
        Just("é世".to_owned()),
        Just("\",\"x\":\"".to_owned()),
        Just("\\\"".to_owned()),
        Just("a\tb".to_owned()),
    ];
    let number = prop_oneof![
        Just("0".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("17".to_owned()),
        Just("01".to_owned())
    ];
    let space = prop_oneof![4 => Just(""), 1 => Just(" ")];
    let form = prop_oneof![
        6 => Just(r#"{"id":"i","n":N,"choices":[{"index":0,"delta":{"content":"S"}}],"noise":"T"}"#),
        1 => Just(r#"{"id":"S","n":N,"choices":[{"index":N,"delta":{"content":"T"}}],"noise":"T"}"#),
        1 => Just(r#"{"id":"i","n":N,"choices":[{"kind":"S","delta":{"content":"T"}}],"S":"T"}"#),
        1 => Just(r#"{"type":"d","delta":{"text":"S"},"trace":"T","usage":{"a":N}}"#),
        1 => Just(r#"["S",{"T":N}]"#),
    ];
    (form, string.clone(), string, number, space).prop_map(|(form, one, other, number, space)| {
        let values = form.replace('S', &one).replace('T', &other).replace('N', &number);
        values.replace(":[", &format!(":{space}["))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// `is_read` compares what it reads.
    #[test]
    fn random_events_are_read_as_wholes_are(one in event(), other in event()) {
        is_read(one.as_bytes(), other.as_bytes());
    }

    #[test]
    fn one_byte_changed_is_read_as_a_whole_is(place in 0..EVENT.len(), byte in any::<u8>()) {
        let mut other = EVENT.as_bytes().to_vec();
        other[place] = byte;
        is_read(EVENT.as_bytes(), &other);
    }

    #[test]
    fn a_piece_put_in_is_read_as_a_whole_is(place in 0..EVENT.len(), piece in "[\"\\\\{},:a0u\u{e9}]{1,3}") {
        let mut other = EVENT.as_bytes().to_vec();
        other.splice(place..place, piece.bytes());
        is_read(EVENT.as_bytes(), &other);
    }
}
