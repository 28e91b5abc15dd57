//! Requests as a hostile client writes them: what two servers could read differently is refused, its connection is closed, and
//! nothing that stands behind it is ever taken for another request.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::client::read_reply;
use crate::harness::{Gateway, Script, Setup, Upstream};

const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;
/// Stands behind each refused request.
const SMUGGLED: &str = "GET /v1/models?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

fn get(fields: &str) -> Vec<u8> {
    format!("GET /v1/models HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-framing-0123456789\r\n\
         Content-Type: application/json\r\n{fields}\r\n{body}"
    )
    .into_bytes()
}

fn with_length(field: &str) -> Vec<u8> {
    post(&format!("{field}\r\n"), BODY)
}

fn with_coding(field: &str) -> Vec<u8> {
    post(&format!("{field}\r\n"), &chunked(BODY))
}

fn with_chunks(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// Everything that comes until the connection is closed.
fn all_of(gateway: &Gateway, request: &[u8]) -> String {
    let mut stream = gateway.client.raw(request);
    let mut all = Vec::new();
    // A reset is a close, too: what came before it counts.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

fn answers_in(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count()
}

/// Each is refused with its status, once, and nothing of it goes on.
fn refused(cases: &[(&str, u16, Vec<u8>)]) {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    for (name, status, request) in cases {
        let request = [request.as_slice(), SMUGGLED.as_bytes()].concat();
        let answers = all_of(&gateway, &request);
        assert!(
            answers.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {answers:?}"
        );
        assert_eq!(answers_in(&answers), 1, "{name}: {answers}");
        assert!(answers.contains("connection: close"), "{name}: {answers}");
        assert!(answers.contains("\"error\""), "{name}: {answers}");
    }
    assert!(upstream.seen().is_empty(), "{:#?}", upstream.seen());
    assert!(gateway.entries().is_empty());
}

#[test]
fn lengths_that_are_no_numbers_are_refused() {
    let field = |value: &str| with_length(&format!("Content-Length: {value}"));
    refused(&[
        ("a plus", 400, field("+32")),
        ("a minus", 400, field("-32")),
        ("a list of one value", 400, field("32, 32")),
        ("a list of two values", 400, field("32, 5")),
        ("two numbers", 400, field("3 2")),
        ("hexadecimal", 400, field("0x20")),
        ("a fraction", 400, field("32.0")),
        ("an exponent", 400, field("32e0")),
        ("nothing", 400, field("")),
        ("a parameter", 400, field("32;a=b")),
        ("quoted", 400, field("\"32\"")),
        ("beyond 64 bits", 400, field("99999999999999999999")),
        ("other digits", 400, field("\u{663}\u{662}")),
        ("too much", 413, field("9999999999999")),
    ]);
}

#[test]
fn lengths_that_are_named_twice_or_oddly_are_refused() {
    refused(&[
        (
            "twice the same",
            400,
            with_length("Content-Length: 32\r\nContent-Length: 32"),
        ),
        (
            "two values",
            400,
            with_length("Content-Length: 32\r\nContent-Length: 5"),
        ),
        (
            "in two cases",
            400,
            with_length("Content-Length: 32\r\ncontent-length: 32"),
        ),
        ("a space before the colon", 400, with_length("Content-Length : 32")),
        ("a tab before the colon", 400, with_length("Content-Length\t: 32")),
        ("a space before the name", 400, with_length(" Content-Length: 32")),
        ("folded", 400, with_length("Content-Length:\r\n 32")),
        ("a null behind it", 400, with_length("Content-Length: 32\0")),
        ("a null in its name", 400, with_length("Content\0-Length: 32")),
        ("a vertical tab", 400, with_length("Content-Length: \x0b32")),
        ("a return in it", 400, with_length("Content-Length: 3\r2")),
        ("no colon", 400, with_length("Content-Length 32")),
    ]);
}

#[test]
fn transfer_codings_other_than_chunked_are_refused() {
    let field = |value: &str| with_coding(&format!("Transfer-Encoding: {value}"));
    refused(&[
        ("no coding", 400, field("identity")),
        ("nothing", 400, field("")),
        ("another before", 400, field("gzip, chunked")),
        ("identity before", 400, field("identity, chunked")),
        ("another behind", 400, field("chunked, identity")),
        ("twice", 400, field("chunked, chunked")),
        ("a comma behind", 400, field("chunked,")),
        ("a comma before", 400, field(",chunked")),
        ("a parameter", 400, field("chunked;q=1")),
        ("quoted", 400, field("\"chunked\"")),
        ("misspelled", 400, field("xchunked")),
        ("cut short", 400, field("chunke")),
        ("a vertical tab", 400, field("\x0bchunked")),
        ("a null behind", 400, field("chunked\0")),
        ("another letter", 400, field("chun\u{212a}ed")),
    ]);
}

#[test]
fn transfer_codings_that_are_named_twice_or_oddly_are_refused() {
    let old = "POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &chunked(BODY);
    refused(&[
        (
            "two headers",
            400,
            with_coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ),
        (
            "identity and chunked",
            400,
            with_coding("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ),
        (
            "chunked and identity",
            400,
            with_coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ),
        (
            "a space before the colon",
            400,
            with_coding("Transfer-Encoding : chunked"),
        ),
        (
            "a space before the name",
            400,
            with_coding(" Transfer-Encoding: chunked"),
        ),
        ("folded", 400, with_coding("Transfer-Encoding:\r\n chunked")),
        (
            "folded behind another",
            400,
            with_coding("X: y\r\n Transfer-Encoding: chunked"),
        ),
        (
            "a bare line feed before",
            400,
            with_coding("X: y\nTransfer-Encoding: chunked"),
        ),
        ("a return before", 400, with_coding("X: y\rTransfer-Encoding: chunked")),
        ("in HTTP/1.0", 400, old.into_bytes()),
    ]);
}

#[test]
fn both_framings_are_refused_however_they_are_spelled() {
    let both = |first: &str, second: &str| post(&format!("{first}\r\n{second}\r\n"), &chunked(BODY));
    let (length, coding) = ("Content-Length: 5", "Transfer-Encoding: chunked");
    refused(&[
        ("length first", 400, both(length, coding)),
        ("coding first", 400, both(coding, length)),
        (
            "in lower case",
            400,
            both("content-length: 5", "transfer-encoding: chunked"),
        ),
        (
            "in capitals",
            400,
            both("CONTENT-LENGTH: 5", "TRANSFER-ENCODING: CHUNKED"),
        ),
        ("a length of nothing", 400, both("Content-Length: 0", coding)),
        ("a length that is none", 400, both("Content-Length: x", coding)),
        ("no coding", 400, both(length, "Transfer-Encoding: identity")),
        ("an unknown coding", 400, both(length, "Transfer-Encoding: x")),
        ("an empty coding", 400, both(length, "Transfer-Encoding:")),
        (
            "a space before a colon",
            400,
            both(length, "Transfer-Encoding : chunked"),
        ),
        ("tabs", 400, both("Content-Length:\t5", "Transfer-Encoding:\tchunked")),
        (
            "a line between",
            400,
            both(length, "X: y\r\nTransfer-Encoding: chunked"),
        ),
    ]);
}

#[test]
fn lines_that_end_or_begin_oddly_are_refused() {
    let raw = |text: &str| text.as_bytes().to_vec();
    refused(&[
        (
            "a bare line feed behind the request line",
            400,
            raw("GET /v1/models HTTP/1.1\nHost: a\r\n\r\n"),
        ),
        ("a bare line feed behind a field", 400, get("X: y\nZ: w\r\n")),
        (
            "a bare line feed at the end",
            400,
            raw("GET /v1/models HTTP/1.1\r\nHost: a\r\n\n"),
        ),
        (
            "bare line feeds alone",
            400,
            raw("GET /v1/models HTTP/1.1\nHost: a\n\n"),
        ),
        (
            "a bare line feed before all",
            400,
            raw("\nGET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        ("a bare return", 400, get("X: y\rZ: w\r\n")),
        ("folded", 400, get("X: y\r\n z\r\n")),
        ("folded by a tab", 400, get("X: y\r\n\tz\r\n")),
        ("folded first", 400, raw("GET /v1/models HTTP/1.1\r\n Host: a\r\n\r\n")),
        ("no colon", 400, get("X y\r\n")),
        ("no name", 400, get(": y\r\n")),
        ("a space in a name", 400, get("X Y: z\r\n")),
        ("a space behind a name", 400, get("X : z\r\n")),
        ("a null in a name", 400, get("X\0: z\r\n")),
        ("a null in a value", 400, get("X: \0\r\n")),
        ("a control in a value", 400, get("X: \x01\r\n")),
        ("a delete in a value", 400, get("X: \x7f\r\n")),
        ("a name beyond ASCII", 400, get("\u{e4}: z\r\n")),
        ("a name in parentheses", 400, get("(X): z\r\n")),
        ("an escape", 400, get("X: \x1b[2J\r\n")),
    ]);
}

#[test]
fn request_lines_that_are_none_are_refused() {
    refused(&[
        ("no version", 400, line("GET /v1/models")),
        ("HTTP/0.9", 400, line("GET /v1/models HTTP/0.9")),
        ("HTTP/1.2", 400, line("GET /v1/models HTTP/1.2")),
        ("HTTP/2.0", 400, line("GET /v1/models HTTP/2.0")),
        (
            "h2 with prior knowledge",
            400,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        ("lower case", 400, line("GET /v1/models http/1.1")),
        ("a version of two digits", 400, line("GET /v1/models HTTP/1.10")),
        ("two spaces", 400, line("GET  /v1/models HTTP/1.1")),
        ("two spaces before the version", 400, line("GET /v1/models  HTTP/1.1")),
        ("a tab", 400, line("GET\t/v1/models HTTP/1.1")),
        ("a space behind", 400, line("GET /v1/models HTTP/1.1 ")),
        ("a space before", 400, line(" GET /v1/models HTTP/1.1")),
        ("a space in the target", 400, line("GET /v1/mod els HTTP/1.1")),
        ("a null in the target", 400, line("GET /v1/models\0 HTTP/1.1")),
        ("a control in the target", 400, line("GET /v1/models\x01 HTTP/1.1")),
        ("no method", 400, line("/v1/models HTTP/1.1")),
        ("a method in brackets", 400, line("[GET] /v1/models HTTP/1.1")),
        ("nonsense", 400, line("\u{16}\u{3}\u{1}")),
        ("an answer", 400, line("HTTP/1.1 200 OK")),
    ]);
}

#[test]
fn hosts_that_are_none_or_several_are_refused() {
    let raw = |text: &str| text.as_bytes().to_vec();
    refused(&[
        ("none", 400, raw("GET /v1/models HTTP/1.1\r\n\r\n")),
        (
            "none but other fields",
            400,
            raw("GET /v1/models HTTP/1.1\r\nX: y\r\n\r\n"),
        ),
        ("twice the same", 400, get("Host: a\r\n")),
        ("two", 400, get("Host: b\r\n")),
        ("with a user", 400, raw("GET /v1/models HTTP/1.1\r\nHost: u@a\r\n\r\n")),
        (
            "another than the target's",
            400,
            line("GET http://b/v1/models HTTP/1.1"),
        ),
        ("a user in the target", 400, line("GET http://u@a/v1/models HTTP/1.1")),
        ("a target that is no path", 400, line("GET v1/models HTTP/1.1")),
        (
            "a target of another scheme",
            400,
            line("GET ftp://a/v1/models HTTP/1.1"),
        ),
        (
            "every target, of another method than OPTIONS",
            400,
            line("GET * HTTP/1.1"),
        ),
        (
            "a space before the colon",
            400,
            raw("GET /v1/models HTTP/1.1\r\nHost : a\r\n\r\n"),
        ),
    ]);
}

#[test]
fn chunks_that_two_servers_read_differently_are_refused() {
    let size = |size: &str| with_chunks(&format!("{size}\r\n{BODY}\r\n0\r\n\r\n"));
    let tail = |tail: &str| with_chunks(&format!("20\r\n{BODY}{tail}"));
    refused(&[
        ("a prefix", 400, size("0x20")),
        ("a plus", 400, size("+20")),
        ("a minus", 400, size("-20")),
        ("a space before", 400, size(" 20")),
        ("a space behind", 400, size("20 ")),
        ("no size", 400, size("")),
        ("no digits", 400, size("zz")),
        ("an underscore", 400, size("2_0")),
        ("beyond 64 bits", 400, size("10000000000000020")),
        ("a semicolon alone before", 400, size(";20")),
        ("a line feed in an extension", 400, size("20;a\nb")),
        ("a return in an extension", 400, size("20;a\rb")),
        ("a null in an extension", 400, size("20;\0")),
        (
            "a bare line feed behind a size",
            400,
            with_chunks(&format!("20\n{BODY}\r\n0\r\n\r\n")),
        ),
        ("no end of a chunk", 400, tail("0\r\n\r\n")),
        ("a bare line feed behind a chunk", 400, tail("\n0\r\n\r\n")),
        ("a bare return behind a chunk", 400, tail("\r0\r\n\r\n")),
        ("more than its size", 400, tail("x\r\n0\r\n\r\n")),
        ("a bare line feed behind the last", 400, tail("\r\n0\n\r\n")),
        ("a bare line feed at the end", 400, tail("\r\n0\r\n\n")),
        ("a bare line feed in a trailer", 400, tail("\r\n0\r\nX: y\n\r\n")),
        ("a folded trailer", 400, tail("\r\n0\r\n x\r\n\r\n")),
        ("a length where chunks are announced", 400, with_chunks(BODY)),
    ]);
}

/// Each is served, once.
fn served(cases: &[(&str, Vec<u8>)]) {
    for (name, request) in cases {
        let upstream = Upstream::always(Script::json(200, "{}"));
        let gateway = Gateway::to(&upstream);
        let reply = read_reply(&mut gateway.client.raw(request));
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        let seen = upstream.only_seen();
        for ours in [
            "transfer-encoding",
            "transfer_encoding",
            "content_length",
            "expect",
            "trailer",
        ] {
            assert_eq!(seen.header(ours), None, "{name}: {ours}");
        }
        if seen.method == "POST" {
            assert_eq!(String::from_utf8_lossy(&seen.body), BODY, "{name}");
            assert_eq!(seen.header("content-length"), Some("32"), "{name}");
        }
    }
}

#[test]
fn unusual_requests_that_all_read_alike_are_served() {
    let folded = format!("10\r\n{}\r\n10\r\n{}\r\n0\r\n\r\n", &BODY[..16], &BODY[16..]);
    served(&[
        ("a length", with_length("Content-Length: 32")),
        ("zeros before it", with_length("Content-Length: 0032")),
        ("a tab before it", with_length("Content-Length:\t32")),
        ("no space before it", with_length("Content-Length:32")),
        ("spaces around it", with_length("Content-Length:   32   ")),
        ("chunks", with_coding("Transfer-Encoding: chunked")),
        ("chunks in capitals", with_coding("TRANSFER-ENCODING: CHUNKED")),
        ("several chunks", with_chunks(&folded)),
        (
            "a size with zeros",
            with_chunks(&format!("00020\r\n{BODY}\r\n000\r\n\r\n")),
        ),
        (
            "an extension",
            with_chunks(&format!("20;a=\"b\"\r\n{BODY}\r\n0;c\r\n\r\n")),
        ),
        (
            "a trailer that would frame",
            with_chunks(&format!("20\r\n{BODY}\r\n0\r\nContent-Length: 5\r\n\r\n")),
        ),
        (
            "an underscore in place of a hyphen",
            with_length("Content-Length: 32\r\nTransfer_Encoding: chunked\r\nContent_Length: 5"),
        ),
        ("an empty line before", [b"\r\n".as_slice(), &get("")].concat()),
        ("an empty value", get("X:\r\n")),
        ("bytes beyond ASCII in a value", get("X: \u{e4}\r\n")),
        ("the target's own host", line("GET http://a/v1/models HTTP/1.1")),
        ("HTTP/1.0", b"GET /v1/models HTTP/1.0\r\n\r\n".to_vec()),
        (
            "HTTP/1.0 with a host",
            b"GET /v1/models HTTP/1.0\r\nHost: a\r\n\r\n".to_vec(),
        ),
        ("a length of nothing", get("Content-Length: 0\r\n")),
    ]);
}

#[test]
fn what_is_sent_behind_a_request_is_no_request() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    for request in [
        get(""),
        with_length("Content-Length: 32"),
        with_coding("Transfer-Encoding: chunked"),
    ] {
        let answers = all_of(&gateway, &[request.as_slice(), SMUGGLED.as_bytes()].concat());
        assert!(answers.starts_with("HTTP/1.1 200 "), "{answers:?}");
        assert_eq!(answers_in(&answers), 1, "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| !seen.path.contains("smuggled")), "{seen:#?}");
}

#[test]
fn a_connection_serves_request_after_request_and_closes_where_it_is_asked_to() {
    let upstream = Upstream::always(Script::json(200, "{\"a\":1}"));
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway.client.raw(b"");
    for request in [
        get(""),
        with_length("Content-Length: 32"),
        with_coding("Transfer-Encoding: chunked"),
        get("Connection: keep-alive\r\n"),
    ] {
        stream.write_all(&request).unwrap();
        let reply = read_reply(&mut stream);
        assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")));
        assert_eq!(reply.text(), "{\"a\":1}");
    }
    stream.write_all(&get("Connection: x, close\r\n")).unwrap();
    assert_eq!(read_reply(&mut stream).header("connection"), Some("close"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let old = "GET /v1/models HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".as_bytes();
    let mut stream = gateway.client.raw(old);
    assert_eq!(read_reply(&mut stream).header("connection"), Some("keep-alive"));
    stream.write_all(b"GET /v1/models HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut stream).header("connection"), Some("close"));
}

#[test]
fn a_head_answer_has_no_body_and_its_connection_goes_on() {
    let upstream = Upstream::always(Script::raw("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"));
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway.client.raw(b"");
    for _ in 0..2 {
        stream
            .write_all(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut one = [0];
            stream.read_exact(&mut one).unwrap();
            bytes.push(one[0]);
        }
        assert!(bytes.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn expectations_are_met_where_the_body_is_read() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    let head = post("Expect: 100-continue\r\nContent-Length: 32\r\n", "");
    let mut stream = gateway.client.raw(&head);
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(BODY.as_bytes()).unwrap();
    let reply = read_reply(&mut stream);
    assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")));
    // One that is refused by its head is not asked for its body.
    let faulty = post(
        "Expect: 100-continue\r\nContent-Length: 32\r\nContent-Length: 32\r\n",
        "",
    );
    assert!(all_of(&gateway, &faulty).starts_with("HTTP/1.1 400 "));
    let long = post("Expect: 100-continue\r\nContent-Length: 9999999999\r\n", "");
    assert!(all_of(&gateway, &long).starts_with("HTTP/1.1 413 "));
    // And one that waits for nothing is answered at once.
    let empty = get("Expect: 100-continue\r\n");
    assert_eq!(read_reply(&mut gateway.client.raw(&empty)).status, 200);
}

#[test]
fn a_client_that_closes_its_side_is_answered_whole() {
    let upstream = Upstream::always(Script::json(200, "{\"a\":1}"));
    let gateway = Gateway::to(&upstream);
    for request in [
        get(""),
        with_length("Content-Length: 32"),
        with_coding("Transfer-Encoding: chunked"),
    ] {
        let mut stream = gateway.client.raw(&request);
        stream.shutdown(Shutdown::Write).unwrap();
        let reply = read_reply(&mut stream);
        assert_eq!((reply.status, reply.text().as_str()), (200, "{\"a\":1}"));
    }
    for half in [
        "GET /v1/mod",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 32\r\n\r\n{",
    ] {
        let mut stream = gateway.client.raw(half.as_bytes());
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_reply(&mut stream).status, 400, "{half}");
    }
}

#[test]
fn heads_without_measure_are_refused() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Setup::new(&upstream).with("limits: {header_bytes_max: 4096}").start();
    for (name, request) in [
        ("one long field", get(&format!("X: {}\r\n", "x".repeat(8_000)))),
        (
            "a long target",
            line(&format!("GET /v1/models?{} HTTP/1.1", "x".repeat(8_000))),
        ),
        (
            "a field without an end",
            format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000)).into_bytes(),
        ),
        ("many fields", get(&"x: y\r\n".repeat(300))),
    ] {
        let answers = all_of(&gateway, &request);
        assert!(answers.starts_with("HTTP/1.1 431 "), "{name}: {answers}");
    }
    assert!(upstream.seen().is_empty());
}
