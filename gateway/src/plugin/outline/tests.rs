#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::splice::SpliceError;
use super::*;
use crate::plugin::dialect::{Media, Want};

pub(super) fn want(path: &str) -> Want {
    Want {
        path: path.to_owned(),
        max_bytes: 256,
        max_items: 4,
    }
}

fn shape(wants: &[&str], media: &[(&str, Medium)], text: &[&str]) -> Shape {
    let wants: Vec<Want> = wants.iter().map(|path| want(path)).collect();
    let media: Vec<Media> = media
        .iter()
        .map(|(path, medium)| Media {
            path: (*path).to_owned(),
            medium: *medium,
        })
        .collect();
    let text: Vec<String> = text.iter().map(|path| (*path).to_owned()).collect();
    Shape::compile(&wants, &media, &text).unwrap()
}

fn read(json: &str, shape: &Shape) -> Outline {
    outline(json.as_bytes(), shape, 128).unwrap_or_else(|error| panic!("{error} in {json}"))
}

fn refused(json: &[u8]) -> OutlineErrorKind {
    outline(json, &shape(&["model", "a.b"], &[], &[]), 128)
        .expect_err("refused")
        .kind
}

#[test]
fn keeps_only_what_is_wanted() {
    let shape = shape(&["model", "stream_options", "max_tokens", "tools.*.type"], &[], &[]);
    let body = r#" {"messages":[{"role":"user","content":"a secret"}], "model" : "m-1",
        "tools":[{"type":"function","name":"x"},7,{"name":"y"}],"max_tokens":null, "stream_options":{"a": 1}} "#;
    let got = read(body, &shape);
    assert_eq!(
        got.doc,
        r#"{"model":"m-1","tools":[{"type":"function"},null,{}],"max_tokens":null,"stream_options":{"a": 1}}"#
    );
    let spans: Vec<(usize, &str)> = got
        .spans
        .iter()
        .map(|(index, range)| (*index, &body[range.clone()]))
        .collect();
    assert_eq!(
        spans,
        [(0, "\"m-1\""), (3, "\"function\""), (2, "null"), (1, "{\"a\": 1}")]
    );
    assert_eq!(&body[got.root.clone()], body.trim());
    assert_eq!(got.bytes as usize, body.len());
}

#[test]
fn counts_text_and_media() {
    let media = [
        ("messages.*.content.*.image_url", Medium::Image),
        ("messages.*.content.*.input_audio", Medium::Audio),
    ];
    let shape = shape(&["model"], &media, &[]);
    let body = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi\n"},
        {"type":"image_url","image_url":{"url":"data:12345"}},{"image_url":null},
        {"input_audio":{"data":"abc","format":"wav"}}]}]}"#;
    let got = read(body, &shape);
    let text: Vec<&str> = got.text.iter().map(|range| &body[range.clone()]).collect();
    assert_eq!(text, ["m", "user", "text", "hi\\n", "image_url"]);
    assert_eq!(got.text_bytes, text.iter().map(|text| text.len() as u64).sum::<u64>());
    assert_eq!(got.medium(Medium::Image), (1, 10));
    assert_eq!(got.medium(Medium::Audio), (1, 6));
    assert_eq!(got.medium(Medium::File), (0, 0));
}

#[test]
fn counts_only_the_named_text() {
    let shape = shape(
        &["usage"],
        &[],
        &[
            "choices.*.delta.content",
            "choices.*.delta.tool_calls.*.function.arguments",
        ],
    );
    let body = r#"{"id":"x","choices":[{"delta":{"content":"one","role":"assistant"}},
        {"delta":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}],"usage":null}"#;
    let got = read(body, &shape);
    let text: Vec<&str> = got.text.iter().map(|range| &body[range.clone()]).collect();
    assert_eq!((text, got.text_bytes), (vec!["one", "{}"], 5));
    assert_eq!(got.doc, r#"{"usage":null}"#);
}

#[test]
fn leaves_out_what_is_too_long_or_too_many() {
    let shape = shape(&["model", "usage", "usage.total", "list.*.id"], &[], &[]);
    let long = "x".repeat(300);
    let got = read(
        &format!(
            r#"{{"model":"{long}","usage":{{"note":"{long}","total":5}},"list":[{}]}}"#,
            "{\"id\":1},".repeat(6) + "{}"
        ),
        &shape,
    );
    // The wanted part of an object that is too long as a whole is still shown.
    assert_eq!(
        got.doc,
        r#"{"usage":{"total":5},"list":[{"id":1},{"id":1},{"id":1},{"id":1}]}"#
    );
    assert_eq!(
        got.spans.iter().filter(|(index, _)| *index == 0).count(),
        1,
        "where it stands is known all the same"
    );
    let short = read(r#"{"usage":{"total":5,"note":"n"},"model":"m"}"#, &shape);
    assert_eq!(short.doc, r#"{"usage":{"total":5,"note":"n"},"model":"m"}"#);
}

#[test]
fn a_value_of_another_kind_leads_nowhere() {
    let shape = shape(&["a.b", "c.*.d"], &[], &[]);
    assert_eq!(read(r#"{"a":[{"b":1}],"c":{"d":1}}"#, &shape).doc, "{}");
    assert_eq!(read(r#"{"a":"b","c":[]}"#, &shape).doc, r#"{"c":[]}"#);
    assert_eq!(read("[1]", &shape).doc, "{}");
    assert_eq!(read("7", &shape).doc, "{}");
}

#[test]
fn duplicate_keys_are_refused_where_they_matter() {
    use OutlineErrorKind::DuplicateKey;
    assert_eq!(refused(br#"{"model":"a","model":"b"}"#), DuplicateKey);
    assert_eq!(refused(br#"{"mod\u0065l":"a","model":"b"}"#), DuplicateKey);
    assert_eq!(refused(br#"{"x":"a","x":"b"}"#), DuplicateKey, "any key at the top");
    assert_eq!(refused(br#"{"a":{"b":1,"\u0062":2}}"#), DuplicateKey);
    assert_eq!(
        refused(br#"{"a":{"b":{"c":1,"c":2}}}"#),
        DuplicateKey,
        "inside a wanted value"
    );
    let many: String = (0..100).map(|i| format!("\"k{i}\":1,")).collect();
    assert_eq!(refused(format!("{{{many}\"k3\":2}}").as_bytes()), DuplicateKey);
    let shape = shape(&["model"], &[], &[]);
    read(r#"{"messages":[{"x":1,"x":2}]}"#, &shape);
    read(&format!("{{{many}\"k\":{{\"k1\":1}}}}"), &shape);
}

#[test]
fn an_escaped_key_is_the_key() {
    let got = read(r#"{"m\u006Fdel":"x"}"#, &shape(&["model"], &[], &[]));
    assert_eq!(got.doc, r#"{"model":"x"}"#);
    assert_eq!(string::decode(br#"\ud83d\ude00\n\/"#, true), "😀\n/".as_bytes());
    assert_eq!(string::decode(br#"\ud83dx"#, true), b"\xed\xa0\xbdx".as_slice());
}

#[test]
fn refuses_what_is_not_one_document() {
    use OutlineErrorKind::{Control, Depth, Eof, Escape, Number, Syntax, Trailing, Utf8};
    for (json, kind) in [
        (&b""[..], Eof),
        (b"  ", Eof),
        (b"{", Eof),
        (b"{\"a\":", Eof),
        (b"[1,", Eof),
        (b"\"abc", Eof),
        (b"\"\\u00", Eof),
        (b"tru", Eof),
        (b"{}{}", Trailing),
        (b"1 2", Trailing),
        (b"{,}", Syntax),
        (b"{\"a\":1,}", Syntax),
        (b"[1,]", Syntax),
        (b"[1 2]", Syntax),
        (b"[1}", Syntax),
        (b"{1:2}", Syntax),
        (b"{\"a\" 1}", Syntax),
        (b"nulL", Syntax),
        (b"NaN", Syntax),
        (b"\xef\xbb\xbf{}", Syntax),
        (b"-", Number),
        (b"1.", Number),
        (b"1e+", Number),
        (b"01", Number),
        (b"\"\\x\"", Escape),
        (b"\"\\u12g4\"", Escape),
        (b"\"a\nb\"", Control),
        (b"\"\xff\"", Utf8),
        (b"\"\xed\xa0\x80\"", Utf8),
    ] {
        assert_eq!(refused(json), kind, "{}", String::from_utf8_lossy(json));
    }
    let far = format!("\"{}\u{1}\"", "x".repeat(1_000));
    let error = outline(far.as_bytes(), &shape(&[], &[], &[]), 8).unwrap_err();
    assert_eq!(
        error,
        OutlineError {
            kind: Control,
            offset: 1_001
        }
    );
    for open in ["[", "{\"a\":"] {
        assert_eq!(refused(open.repeat(10_000).as_bytes()), Depth);
    }
    let nested = "[".repeat(128) + &"]".repeat(128);
    read(&nested, &shape(&["a"], &[], &[]));
}

#[test]
fn ranges_are_capped_and_totals_are_not() {
    let body = format!("[{}\"x\"]", "\"x\",".repeat(TEXT_RANGES_MAX + 9));
    let got = read(&body, &shape(&["a"], &[], &[]));
    assert_eq!(
        (got.text.len(), got.text_bytes),
        (TEXT_RANGES_MAX, TEXT_RANGES_MAX as u64 + 10)
    );
}

#[test]
fn bad_paths_do_not_compile() {
    let compile = |path: &str| Shape::compile(&[want(path)], &[], &[]);
    assert!(matches!(compile("a..b"), Err(ShapeError::Empty(_))));
    assert!(matches!(compile(""), Err(ShapeError::Empty(_))));
    assert!(matches!(compile("a\"b"), Err(ShapeError::Character(_))));
    assert!(matches!(
        Shape::compile(&[want("a"), want("a")], &[], &[]),
        Err(ShapeError::Twice(_))
    ));
}

fn edited(json: &str, edits: &[(&str, &str)]) -> Result<String, SpliceError> {
    let shape = shape(
        &["model", "max_tokens", "stream_options.include_usage", "list.*.x"],
        &[],
        &[],
    );
    let edits: Vec<Edit> = edits
        .iter()
        .map(|(path, value)| Edit {
            path: (*path).to_owned(),
            value: (*value).to_owned(),
        })
        .collect();
    let out = splice(json.as_bytes(), &shape, &read(json, &shape), &edits)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn edits_change_the_value_and_no_other_byte() {
    let cases = [
        (
            r#"{ "model" : "a" , "x":1}"#,
            "model",
            "\"b\"",
            r#"{ "model" : "b" , "x":1}"#,
        ),
        (r#"{"m\u006fdel":"a"}"#, "model", "\"b\"", r#"{"m\u006fdel":"b"}"#),
        (r#"{ "x":1}"#, "max_tokens", "5", r#"{"max_tokens":5, "x":1}"#),
        (" { } ", "max_tokens", "5", r#" {"max_tokens":5 } "#),
        (r#"{"max_tokens":null}"#, "max_tokens", "5", r#"{"max_tokens":5}"#),
        (
            r#"{"a":1}"#,
            "stream_options.include_usage",
            "true",
            r#"{"stream_options":{"include_usage":true},"a":1}"#,
        ),
        (
            r#"{"stream_options":null}"#,
            "stream_options.include_usage",
            "true",
            r#"{"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{}}"#,
            "stream_options.include_usage",
            "true",
            r#"{"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{"z":1}}"#,
            "stream_options.include_usage",
            "true",
            r#"{"stream_options":{"include_usage":true,"z":1}}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":false}}"#,
            "stream_options.include_usage",
            "true",
            r#"{"stream_options":{"include_usage":true}}"#,
        ),
    ];
    for (before, path, value, after) in cases {
        assert_eq!(edited(before, &[(path, value)]).unwrap(), after, "{before}");
    }
}

#[test]
fn several_edits_at_once() {
    let all = [
        ("max_tokens", "5"),
        ("stream_options.include_usage", "true"),
        ("model", "\"b\""),
    ];
    assert_eq!(
        edited(r#"{"model":"a"}"#, &all).unwrap(),
        r#"{"max_tokens":5,"stream_options":{"include_usage":true},"model":"b"}"#
    );
    assert_eq!(
        edited("{}", &all).unwrap(),
        r#"{"max_tokens":5,"stream_options":{"include_usage":true},"model":"b"}"#
    );
}

#[test]
fn edits_that_cannot_be_made_are_refused_by_path() {
    let path = |text: &str| text.to_owned();
    assert_eq!(
        edited(r#"{"stream_options":"x"}"#, &[("stream_options.include_usage", "true")]),
        Err(SpliceError::NotAnObject(path("stream_options.include_usage")))
    );
    assert_eq!(
        edited("[]", &[("model", "1")]),
        Err(SpliceError::NotAnObject(path("model")))
    );
    assert_eq!(
        edited("{}", &[("other", "1")]),
        Err(SpliceError::Unknown(path("other")))
    );
    assert_eq!(
        edited("{}", &[("list.*.x", "1")]),
        Err(SpliceError::Unknown(path("list.*.x")))
    );
    assert_eq!(
        edited("{}", &[("model", "1"), ("model", "2")]),
        Err(SpliceError::Conflict(path("model")))
    );
    assert_eq!(
        edited(r#"{"model":1}"#, &[("model", "1"), ("model", "2")]),
        Err(SpliceError::Conflict(path("model")))
    );
}

/// What the outline should say, by a plain walk over the parsed document.
fn expected(value: &Value, paths: &[Vec<&str>]) -> Option<Value> {
    if paths.iter().any(Vec::is_empty) {
        return Some(value.clone());
    }
    match value {
        Value::Object(members) if paths.iter().any(|path| path[0] != "*") => {
            let mut out = serde_json::Map::new();
            for (key, value) in members {
                let below: Vec<_> = paths
                    .iter()
                    .filter(|path| path[0] == key && key != "*")
                    .map(|path| path[1..].to_vec())
                    .collect();
                if !below.is_empty()
                    && let Some(kept) = expected(value, &below)
                {
                    out.insert(key.clone(), kept);
                }
            }
            Some(Value::Object(out))
        }
        Value::Array(items) if paths.iter().any(|path| path[0] == "*") => {
            let below: Vec<_> = paths
                .iter()
                .filter(|path| path[0] == "*")
                .map(|path| path[1..].to_vec())
                .collect();
            Some(
                items
                    .iter()
                    .take(4)
                    .map(|item| expected(item, &below).unwrap_or(Value::Null))
                    .collect(),
            )
        }
        _ => None,
    }
}

pub(super) fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1_000..1_000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "[a-c\"\\\\\u{1}\n/é😀 ]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 7, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..7).prop_map(Value::from),
            prop::collection::hash_map("[abc]|d\"\n|é", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

pub(super) const PATHS: [&str; 6] = ["a", "b.c", "b.a.b", "c.*", "b.b.*.a", "b.b.*.c"];

proptest! {
    #[test]
    fn agrees_with_a_plain_walk(value in documents(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let wants: Vec<Want> = PATHS.iter().map(|path| Want { max_bytes: 1 << 20, ..want(path) }).collect();
        let shape = Shape::compile(&wants, &[], &[]).unwrap();
        let got = outline(text.as_bytes(), &shape, 128).unwrap();
        let paths: Vec<Vec<&str>> = PATHS.iter().map(|path| path.split('.').collect()).collect();
        let wanted = expected(&value, &paths).unwrap_or(json!({}));
        let said: Value = serde_json::from_str(&got.doc).unwrap();
        prop_assert_eq!(said, wanted, "{}", text);
        for (index, span) in &got.spans {
            prop_assert!(serde_json::from_str::<Value>(&text[span.clone()]).is_ok(), "{} {:?}", PATHS[*index], span);
        }
    }

    #[test]
    fn accepts_exactly_what_is_json(value in documents(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = byte }
        let ours = outline(&text, &shape(&PATHS, &[], &[]), 128);
        let theirs = std::str::from_utf8(&text).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
        match ours {
            Err(OutlineError { kind: OutlineErrorKind::DuplicateKey, .. }) => prop_assert!(true),
            ours => prop_assert_eq!(ours.is_ok(), theirs, "{:?} {:?}", ours, String::from_utf8_lossy(&text)),
        }
    }

    /// Strings are searched by words, long ones otherwise: wherever something stands in one, it is found.
    #[test]
    fn a_string_ends_where_json_says(mut text in prop::collection::vec(32_u8..127, 0..200), special in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), ended in any::<bool>()) {
        text.retain(|byte| !matches!(byte, b'"' | b'\\'));
        for (at, byte) in special {
            text.insert(at.index(text.len() + 1), byte);
        }
        let json = [&b"\""[..], &text, &b"\""[..usize::from(ended)]].concat();
        let plain = text.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\' | 0x80..));
        let ours = outline(&json, &shape(&[], &[], &[]), 8);
        let theirs = std::str::from_utf8(&json).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok();
        prop_assert_eq!(ours.is_ok(), theirs, "{:?} {:?}", ours, String::from_utf8_lossy(&json));
        match (plain, ours) {
            (None, Ok(found)) => prop_assert_eq!(found.text_bytes, text.len() as u64),
            (None, Err(error)) => prop_assert_eq!((error.kind, error.offset), (OutlineErrorKind::Eof, json.len())),
            (Some(at), Err(error)) => prop_assert!(error.kind == OutlineErrorKind::Utf8 || error.offset > at),
            (Some(_), Ok(_)) => {}
        }
    }

    #[test]
    fn a_splice_sets_the_value_and_nothing_else(value in documents(), number in any::<u32>(), path in prop::sample::select(&["a", "b.c", "b.a.b"][..])) {
        let text = serde_json::to_string(&value).unwrap();
        let shape = shape(&PATHS, &[], &[]);
        let outlined = outline(text.as_bytes(), &shape, 128).unwrap();
        let edit = Edit { path: path.to_owned(), value: number.to_string() };
        let mut wanted = value.clone();
        let mut at = &mut wanted;
        for segment in path.split('.') {
            if at.is_null() && path.contains('.') && !std::ptr::eq(at, &value) { *at = json!({}) }
            match at.as_object_mut() {
                Some(members) => at = members.entry(segment).or_insert(Value::Null),
                None => {
                    prop_assert!(splice(text.as_bytes(), &shape, &outlined, &[edit]).is_err());
                    return Ok(());
                }
            }
        }
        *at = json!(number);
        if value.is_null() {
            return Ok(());
        }
        let out = splice(text.as_bytes(), &shape, &outlined, &[edit]).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), wanted);
    }
}
