#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::Value;

use super::tests::{PATHS, documents, want};
use super::*;
use crate::plugin::dialect::{Media, Want};

/// What an outline says, without where in the document it stands.
#[derive(Debug, PartialEq)]
struct Said {
    doc: String,
    texts: Vec<String>,
    text_bytes: u64,
    media: [(u32, u64); 4],
    ids: Vec<(usize, String)>,
    counts: Vec<u64>,
    bytes: u64,
    flaws: Flaws,
}

fn said(json: &[u8], shape: &Shape, outline: &Outline) -> Said {
    let raw = outline.raw(json);
    let text = |range: &Range<usize>| String::from_utf8_lossy(&raw[range.clone()]).into_owned();
    let single = |index: &usize| shape.single_wants().contains(index);
    Said {
        doc: outline.doc.clone(),
        texts: outline.text.iter().map(text).collect(),
        text_bytes: outline.text_bytes,
        media: outline.media,
        ids: outline
            .spans
            .iter()
            .filter(|(index, span)| single(index) && span.len() <= 512)
            .map(|(index, span)| (*index, text(span)))
            .collect(),
        counts: outline.counts.clone(),
        bytes: outline.bytes,
        flaws: outline.flaws,
    }
}

fn arrived(json: &[u8], shape: &Shape, depth_max: u32, cuts: &[usize]) -> Option<Outline> {
    let mut arriving = Arriving::new(shape, depth_max);
    let mut from = 0;
    for to in cuts.iter().copied().chain([json.len()]) {
        if arriving.push(shape, &json[from..to]) < to - from {
            break;
        }
        from = to;
    }
    arriving.finish(shape)
}

/// The same at every single cut, byte by byte and in one piece.
fn every_split(json: &[u8], shape: &Shape, depth_max: u32) -> Outline {
    let whole = arrived(json, shape, depth_max, &[]).expect("a container");
    let expected = said(json, shape, &whole);
    let bytes: Vec<usize> = (1..json.len()).collect();
    for cuts in std::iter::once(bytes).chain((0..json.len()).map(|cut| vec![cut])) {
        let cut = arrived(json, shape, depth_max, &cuts).unwrap();
        assert_eq!(
            said(json, shape, &cut),
            expected,
            "{} cut at {cuts:?}",
            String::from_utf8_lossy(json)
        );
    }
    whole
}

fn usage_shape() -> Shape {
    let wants: Vec<Want> = ["usage", "id", "response.usage", "choices.*.index", "error.message"]
        .into_iter()
        .map(want)
        .collect();
    let text = ["choices.*.text".to_owned(), "content.*.input".to_owned()];
    Shape::compile(&wants, &[], &text).unwrap()
}

const UNFINISHED: Flaws = Flaws {
    unfinished: true,
    contradictory: false,
    patched: false,
};
const CONTRADICTORY: Flaws = Flaws {
    unfinished: false,
    contradictory: true,
    patched: false,
};
const PATCHED: Flaws = Flaws {
    unfinished: false,
    contradictory: false,
    patched: true,
};
const NONE: Flaws = Flaws {
    unfinished: false,
    contradictory: false,
    patched: false,
};

#[test]
fn usage_is_found_beside_anything() {
    let shape = usage_shape();
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(50), close.repeat(50));
    let usage = r#"{"usage":{"in":1,"out":2}}"#;
    for (json, doc, flaws) in [
        (format!("\u{feff} {usage}\n\n"), usage, NONE),
        (
            format!("{{\"x\":{},\"usage\":{{\"in\":1,\"out\":2}}}}", deep("[", "]")),
            usage,
            NONE,
        ),
        (
            format!("{{\"x\":{},\"usage\":{{\"in\":1,\"out\":2}}}}", deep("{\"a\":", "}")),
            usage,
            NONE,
        ),
        (
            "{\"a\":1,\"a\":2,\"usage\":{\"in\":1,\"out\":2},\"a\":[]}".to_owned(),
            usage,
            NONE,
        ),
        (
            "{\"a\":\"b\u{1}\tc\\q\\u12\",\"usage\":{\"in\":1,\"out\":2}}".to_owned(),
            usage,
            NONE,
        ),
        (
            "{\"a\":NaN,\"b\":-Infinity,\"c\":[nan,.5,01,'],\"usage\":{\"in\":1,\"out\":2}}".to_owned(),
            usage,
            NONE,
        ),
        (
            "{\"a\":1 \"b\":[1 2,],\"usage\":{\"in\":1,\"out\":2},}".to_owned(),
            usage,
            NONE,
        ),
        // Twice the same is no contradiction; other values are one.
        (
            "{\"usage\":{\"in\":1,\"out\":2},\"usage\":{\"in\":1,\"out\":2}}".to_owned(),
            usage,
            NONE,
        ),
        (
            "{\"usage\":{\"in\":1,\"out\":2},\"us\\u0061ge\":{\"in\":1,\"out\":3}}".to_owned(),
            usage,
            CONTRADICTORY,
        ),
        (
            "{\"usage\":{\"out\":2,\"out\":2}}".to_owned(),
            "{\"usage\":{\"out\":2,\"out\":2}}",
            NONE,
        ),
        (
            "{\"usage\":{\"out\":2,\"out\":9}}".to_owned(),
            "{\"usage\":{\"out\":2,\"out\":9}}",
            CONTRADICTORY,
        ),
        (
            "{\"usage\":{\"x\":{\"out\":2},\"x\":{\"out\":9}}}".to_owned(),
            "{\"usage\":{\"x\":{\"out\":2},\"x\":{\"out\":9}}}",
            CONTRADICTORY,
        ),
        (
            "{\"response\":{\"usage\":1},\"response\":{\"usage\":2}}".to_owned(),
            "{\"response\":{\"usage\":1}}",
            CONTRADICTORY,
        ),
        // What is wanted and no JSON is shown as JSON.
        (
            "{\"usage\":{\"x\":[1 2,,3,\"a\"\"b\" ,]  \"y\":{},\"in\":1,}}".to_owned(),
            "{\"usage\":{\"x\":[1 ,2, 3,\"a\",\"b\"  ]  ,\"y\":{},\"in\":1 }}",
            NONE,
        ),
        (
            "{\"usage\":{\"in\":NaN,\"out\":2}}".to_owned(),
            "{\"usage\":{\"in\":null,\"out\":2}}",
            PATCHED,
        ),
        (
            format!("{{\"usage\":{{\"x\":{},\"out\":2}}}}", deep("[", "]")),
            "{\"usage\":{\"x\":[[[[[[null]]]]]],\"out\":2}}",
            PATCHED,
        ),
        (
            "{\"id\":\"a\u{1}b\\qc\\u12g\"}".to_owned(),
            r#"{"id":"a b\\qc\\u12g"}"#,
            NONE,
        ),
        // Cut: what was whole is shown.
        (
            "{\"usage\":{\"in\":1,\"out\":2},\"choices\":[{\"index\":0,\"te".to_owned(),
            "{\"usage\":{\"in\":1,\"out\":2},\"choices\":[{\"index\":0}]}",
            UNFINISHED,
        ),
        (
            "{\"id\":\"x\",\"usage\":{\"in\":1,\"out\":2".to_owned(),
            "{\"id\":\"x\"}",
            UNFINISHED,
        ),
        (
            "{\"choices\":[{\"index\":12".to_owned(),
            "{\"choices\":[{}]}",
            UNFINISHED,
        ),
        ("{\"id\":\"x\",\"usage\":".to_owned(), "{\"id\":\"x\"}", UNFINISHED),
        ("{\"id\":\"x\",\"usage\" ".to_owned(), "{\"id\":\"x\"}", UNFINISHED),
        ("{\"id\":\"x\"]".to_owned(), "{\"id\":\"x\"}", UNFINISHED),
    ] {
        let found = every_split(json.as_bytes(), &shape, 8);
        assert_eq!((found.doc.as_str(), found.flaws), (doc, flaws), "{json}");
        assert!(serde_json::from_str::<Value>(&found.doc).is_ok(), "{}", found.doc);
    }
    let bad = b"{\"a\":\"\xff\xfe\",\"\xc3\":1,\"id\":\"x\xff\",\"usage\":{\"out\":2}}";
    let found = every_split(bad, &shape, 8);
    assert_eq!(
        (found.doc.as_str(), found.flaws),
        ("{\"id\":\"x\u{fffd}\",\"usage\":{\"out\":2}}", NONE)
    );
}

/// Counts beside whatever is wanted.
fn counting(shape: Shape) -> Shape {
    let counted = ["c.*", "b", "a.*.b"].map(str::to_owned);
    shape.with_counts(&counted).unwrap()
}

#[test]
fn values_are_counted_however_long_they_are() {
    let items = "{\"id\":\"x\"},null,[],7,".repeat(30_000);
    let json = format!("{{\"a\":[1],\"b\" : {{\"c\":[{items}8]}} , \"c\":\"no list\"}}");
    let shape = Shape::compile_named(&[want("b.c.*.id")], &[], &[]).unwrap();
    let counted = ["b.c.*", "a.*", "c.*", "d", "b.c.*.id"].map(str::to_owned);
    let shape = shape.with_counts(&counted).unwrap();
    let expected = [90_001, 1, 0, 0, 30_000];
    assert_eq!(outline(json.as_bytes(), &shape, 8).unwrap().counts, expected);
    let pieces = arrived(json.as_bytes(), &shape, 8, &[1, 12, 13, 400_000]).unwrap();
    assert_eq!(pieces.counts, expected);
    let cut = arrived(&json.as_bytes()[..400_000], &shape, 8, &[]).unwrap();
    assert!((20_000..90_000).contains(&cut.counts[0]));
    let twice = ["a".to_owned(), "a".to_owned()];
    assert!(
        Shape::compile_named(&[], &[], &[])
            .unwrap()
            .with_counts(&twice)
            .is_err()
    );
}

#[test]
fn what_is_no_container_has_no_outline() {
    let shape = usage_shape();
    for json in ["", " ", "7", "\"usage\"", "<html>", "true", "]", "x{\"usage\":1}"] {
        assert!(lenient(json.as_bytes(), &shape, 8).is_none(), "{json}");
    }
    let two = lenient(b"{\"usage\":1} {\"usage\":2}", &shape, 8).unwrap();
    assert_eq!((two.doc.as_str(), two.flaws), ("{\"usage\":1}", CONTRADICTORY));
    let garbage = lenient(b"{\"usage\":1}\x00 }}, [", &shape, 8).unwrap();
    assert_eq!((garbage.doc.as_str(), garbage.flaws), ("{\"usage\":1}", NONE));
}

#[test]
fn text_deeper_than_the_limit_is_counted() {
    let shape = usage_shape();
    let json = format!(
        "{{\"content\":[{{\"input\":{}\"four\"{}}}]}}",
        "{\"k\":[".repeat(200),
        "]}".repeat(200)
    );
    let found = every_split(&json.as_bytes()[..json.len()], &shape, 64);
    assert_eq!(found.flaws, NONE);
    assert!((4..500).contains(&found.text_bytes), "{}", found.text_bytes);
}

/// Bytes that a document holds while it arrives.
fn held(arriving: &Arriving) -> usize {
    arriving.held_bytes()
}

#[test]
fn a_document_of_any_length_takes_bounded_memory() {
    let shape = usage_shape();
    let many_keys: String = (0..200_000).map(|at| format!("\"k{at}\":{at},")).collect();
    for (name, begin, middle, end) in [
        (
            "a text",
            "{\"choices\":[{\"index\":0,\"text\":\"",
            "some text \\n\\ud83d\\ude00 é ",
            "\"}],",
        ),
        (
            "an image",
            "{\"choices\":[{\"index\":0,\"image\":\"",
            "iVBORw0KGgo",
            "\"}],",
        ),
        ("a wanted text", "{\"id\":\"", "some text \\n\\ud83d\\ude00 é ", "\","),
        ("an endless number", "{\"x\":", "123", ","),
        ("a wanted number", "{\"id\":", "123", ","),
        ("elements", "{\"choices\":[", "{\"index\":0,\"text\":\"x\"},", "{}],"),
        ("numbers", "{\"embedding\":[", "0.123456,", "1],"),
        ("a deep value", "{\"x\":", "[", ""),
        ("keys twice", "{", "\"x\":1,\"id\":2,\"error\":{\"message\":3},", ""),
        ("keys of a wanted value", "{\"usage\":{", &many_keys, "\"out\":1},"),
        ("a long key", "{\"", "long", "\":1,"),
        ("blanks", "{", " \n", ""),
        ("commas", "{", ",", ""),
        ("a body of garbage", "{\"x\"}", "]}\"{", ""),
    ] {
        let mut arriving = Arriving::new(&shape, 64);
        arriving.push(&shape, begin.as_bytes());
        let mut most = 0;
        let mut pushed = 0;
        while pushed < 4 << 20 {
            arriving.push(&shape, middle.as_bytes());
            pushed += middle.len();
            most = most.max(held(&arriving));
        }
        arriving.push(&shape, end.as_bytes());
        arriving.push(&shape, b"\"response\":{\"usage\":{\"out\":7}}}");
        assert!(most < 200 << 10, "{name}: {most} bytes held");
        let found = arriving.finish(&shape).unwrap();
        let is_read = !matches!(name, "a deep value" | "a body of garbage");
        assert_eq!(
            found.doc.contains("\"response\":{\"usage\":{\"out\":7}}"),
            is_read,
            "{name}: {}",
            found.doc.len()
        );
        if name == "a text" {
            assert!(found.text_bytes >= 4 << 20);
            let raw = found.raw(&[]);
            let quoted = &raw[found.text[0].start - 1..found.text[0].end + 1];
            let text: String = serde_json::from_slice(quoted).unwrap();
            assert!(text.starts_with("some text \n😀 é some") && text.len() > 16 << 10);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Two scanners, one outline.
    #[test]
    fn pieces_say_what_the_whole_says(
        value in documents(), pretty in any::<bool>(), max_bytes in 1_u32..60,
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..8)
    ) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let wants: Vec<Want> = PATHS.iter().map(|path| Want { max_bytes, ..want(path) }).collect();
        let media = [Media { path: "a.b".to_owned(), medium: Medium::Image }, Media { path: "c.*.a".to_owned(), medium: Medium::Text }];
        for shape in [
            Shape::compile(&wants, &media, &[]).unwrap(),
            Shape::compile(&wants, &[], &["a".to_owned(), "b.c".to_owned(), "c.*.b".to_owned()]).unwrap(),
        ] {
            let shape = counting(shape);
            let strict = outline(text.as_bytes(), &shape, 128).unwrap();
            let expected = said(text.as_bytes(), &shape, &strict);
            let mut cuts: Vec<usize> = places.iter().map(|place| place.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let single: Vec<usize> = (1..text.len()).collect();
            for cuts in [&[][..], &cuts, &single] {
                match arrived(text.as_bytes(), &shape, 128, cuts) {
                    Some(pieces) => prop_assert_eq!(&said(text.as_bytes(), &shape, &pieces), &expected, "{}", text),
                    None => prop_assert!(!value.is_object() && !value.is_array()),
                }
            }
        }
    }

    /// Whatever the bytes: the same at every split, and an outline that a plugin can parse.
    #[test]
    fn broken_documents_are_read_the_same_however_they_are_cut(
        value in documents(), edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[],:\"\\ \n\x01\xffauN1-.".to_vec()), any::<bool>()), 1..6),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..8), depth_max in 1_u32..6
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        for (at, byte, insert) in edits {
            let at = at.index(text.len());
            if insert { text.insert(at, byte) } else { text[at] = byte }
        }
        let wants: Vec<Want> = PATHS.iter().map(|path| Want { max_bytes: 30, ..want(path) }).collect();
        let shape = Shape::compile(&wants, &[], &["a".to_owned(), "b.c".to_owned()]).unwrap();
        let shape = counting(shape);
        let whole = arrived(&text, &shape, depth_max, &[]);
        let mut cuts: Vec<usize> = places.iter().map(|place| place.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let single: Vec<usize> = (1..text.len()).collect();
        for cuts in [&cuts, &single] {
            let cut = arrived(&text, &shape, depth_max, cuts);
            prop_assert_eq!(cut.as_ref().map(|cut| said(&text, &shape, cut)), whole.as_ref().map(|whole| said(&text, &shape, whole)));
        }
        if let Some(whole) = whole {
            let doc = serde_json::from_str::<Value>(&whole.doc);
            let lone_surrogate = whole.doc.contains("\\u");
            prop_assert!(doc.is_ok() || lone_surrogate, "{} of {:?}", whole.doc, String::from_utf8_lossy(&text));
        }
    }
}
