//! Many clients share the connections to one upstream: whatever one of them sends, and whatever the upstream answers it, each gets
//! its own answer and no byte of another's.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::client::{Client, read_reply};
use crate::harness::{Gateway, Script, Upstream};

const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;
/// Would be seen in a victim's place.
const SMUGGLED: &str = "GET /v1/models?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const VICTIMS: usize = 4;

/// Answers each request with its own path.
fn echo() -> Upstream {
    Upstream::playing(|seen| Script::json(200, &format!("{{\"path\":\"{}\"}}", seen.path)))
}

/// Asks until it is told to stop; the number of its answers.
fn victim(client: &Client, number: usize, stop: &AtomicBool) -> usize {
    let mut answers = 0;
    let mut stream = client.raw(b"");
    while !stop.load(Ordering::SeqCst) {
        let path = format!("/v1/models?victim={number}.{answers}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let reply = read_reply(&mut stream);
        assert_eq!((reply.status, reply.text()), (200, format!("{{\"path\":\"{path}\"}}")));
        answers += 1;
    }
    answers
}

/// Victims ask while this is done.
fn beside_victims(gateway: &Gateway, hostile: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let victims: Vec<_> = (0..VICTIMS)
            .map(|number| {
                let (stop, client) = (Arc::clone(&stop), gateway.client.clone());
                scope.spawn(move || victim(&client, number, &stop))
            })
            .collect();
        hostile();
        stop.store(true, Ordering::SeqCst);
        for victim in victims {
            assert!(victim.join().unwrap() > 0, "a victim was never answered");
        }
    });
}

/// Each way to frame beside each other one, and behind a body that ends early in one reading.
fn hostile_requests() -> Vec<Vec<u8>> {
    let framings = [
        "",
        "Content-Length: 32\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: +32\r\n",
        "Content-Length : 32\r\n",
        "content_length: 5\r\n",
        "Content-Length: 32, 32\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "transfer_encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
    ];
    let bodies = [
        BODY.to_owned(),
        format!("20\r\n{BODY}\r\n0\r\n\r\n"),
        format!("20\n{BODY}\r\n0\n\r\n"),
    ];
    let mut requests = Vec::new();
    for first in framings {
        for second in framings {
            for body in &bodies {
                let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
                requests.push(format!("{head}{first}{second}\r\n{body}{SMUGGLED}").into_bytes());
            }
        }
    }
    requests
}

#[test]
fn no_request_makes_another_clients_request_of_its_rest() {
    let upstream = echo();
    let gateway = Gateway::to(&upstream);
    let requests = hostile_requests();
    beside_victims(&gateway, || {
        for request in &requests {
            let mut stream = gateway.client.raw(request);
            let _ = stream.shutdown(Shutdown::Write);
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            let text = String::from_utf8_lossy(&all);
            assert_eq!(
                text.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count(),
                1,
                "{:?}: {text}",
                String::from_utf8_lossy(request)
            );
            assert!(!text.contains("victim"), "{text}");
        }
    });
    let smuggled = upstream
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("smuggled"))
        .count();
    assert_eq!(smuggled, 0);
}

/// What an upstream, or something before it, may send where one answer is due.
const HOSTILE_ANSWERS: [&str; 12] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}poison",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\npoison",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\npoison",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\npoison",
    "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}poison",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\npoison",
    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}poison",
    "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}poison",
    "nonsense\r\n\r\npoison",
];

#[test]
fn nothing_that_an_upstream_sends_beside_its_answer_is_another_clients_answer() {
    let upstream = Upstream::playing(|seen| {
        let answer = seen
            .path
            .split("hostile=")
            .nth(1)
            .and_then(|number| number.parse().ok());
        match answer.and_then(|number: usize| HOSTILE_ANSWERS.get(number)) {
            Some(answer) => Script::raw(*answer),
            None => Script::json(200, &format!("{{\"path\":\"{}\"}}", seen.path)),
        }
    });
    let gateway = Gateway::to(&upstream);
    beside_victims(&gateway, || {
        for number in (0..HOSTILE_ANSWERS.len()).cycle().take(5 * HOSTILE_ANSWERS.len()) {
            let reply = gateway.client.get(&format!("/v1/models?hostile={number}"));
            assert!(!reply.text().contains("poison"), "{number}: {}", reply.text());
        }
    });
}
