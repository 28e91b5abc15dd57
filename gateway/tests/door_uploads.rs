//! Uploads of files pass as they come, with a limit of their own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use serde_json::json;

use crate::harness::client::read_reply;
use crate::harness::upstream::find;
use crate::harness::{Gateway, Script, Setup, Upstream};

const FORM: &str = "multipart/form-data; boundary=x";

fn head(path: &str, framing: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer sk-test-0123456789abcdef\r\nContent-Type: {FORM}\r\n{framing}\r\n\r\n"
    )
}

fn stored() -> Script {
    Script::json(200, r#"{"id":"file-1","object":"file"}"#)
}

/// Bytes that no two places of have alike.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn file_upload_over_32_mib() {
    let upstream = Upstream::playing(|_| stored());
    let gateway = Gateway::to(&upstream);
    let file = bytes(40 << 20);
    for path in ["/v1/files", "/v1/uploads/upload_1/parts"] {
        let request = head(path, &format!("Content-Length: {}", file.len()));
        let reply = read_reply(&mut gateway.client.raw(&[request.as_bytes(), &file].concat()));
        assert_eq!((reply.status, &reply.json()["id"]), (200, &json!("file-1")), "{path}");
        let seen = upstream.seen().pop().unwrap();
        assert!(seen.body == file, "{path}: {} bytes arrived", seen.body.len());
        assert_eq!(
            (seen.header("content-type"), seen.header("content-length")),
            (Some(FORM), Some(&*file.len().to_string()))
        );
    }
    assert!(gateway.entries().is_empty(), "free");
    // Whatever is read is held in memory, and keeps its limit.
    let chat = head("/v1/chat/completions", &format!("Content-Length: {}", file.len()));
    assert_eq!(read_reply(&mut gateway.client.raw(chat.as_bytes())).status, 413);
}

#[test]
fn an_upload_in_chunks_passes_and_is_bounded_too() {
    let upstream = Upstream::playing(|_| stored());
    let gateway = Setup::new(&upstream)
        .with("limits: {upload_bytes_max: 1MiB, body_bytes_max: 64KiB}")
        .start();
    let chunked = |length: usize| {
        let mut request = head("/v1/files", "Transfer-Encoding: chunked").into_bytes();
        for piece in bytes(length).chunks(10_000) {
            request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            request.extend_from_slice(piece);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        read_reply(&mut gateway.client.raw(&request))
    };
    assert_eq!(chunked(1 << 20).status, 200);
    assert!(upstream.only_seen().body == bytes(1 << 20));
    assert_eq!(chunked((1 << 20) + 1).status, 413);
    let declared = head("/v1/files", &format!("Content-Length: {}", (1 << 20) + 1));
    let reply = read_reply(&mut gateway.client.raw(declared.as_bytes()));
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (413, &json!("body_too_large"))
    );
    assert_eq!(upstream.seen_count(), 1, "none of these was ever whole at the upstream");
}

#[test]
fn a_file_is_not_held_in_memory() {
    let (seen, sizes) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut total, mut chunk) = (0, vec![0; 64 << 10]);
        while total < 192 << 20 {
            total += stream.read(&mut chunk).unwrap();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
            .unwrap();
        seen.send(total).unwrap();
    });
    let gateway = Setup::to(&base).start();
    let length: usize = 192 << 20;
    let mut stream = gateway
        .client
        .raw(head("/v1/files", &format!("Content-Length: {length}")).as_bytes());
    let before = resident_bytes();
    let piece = vec![7; 1 << 20];
    let mut most = 0;
    for _ in 0..length >> 20 {
        stream.write_all(&piece).unwrap();
        most = most.max(resident_bytes().saturating_sub(before));
    }
    assert_eq!(read_reply(&mut stream).status, 200);
    assert!(sizes.recv().unwrap() >= length);
    // Other tests run beside this one: far less than the file is what matters.
    assert!(most < 128 << 20, "{most} bytes more than before");
}

#[test]
fn expect_100_continue_is_answered_before_a_file() {
    let upstream = Upstream::playing(|_| stored());
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway
        .client
        .raw(head("/v1/files", "Expect: 100-continue\r\nContent-Length: 5").as_bytes());
    let mut first = [0; 25];
    stream.read_exact(&mut first).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 100"));
    stream.write_all(b"bytes").unwrap();
    assert_eq!(read_reply(&mut stream).status, 200);
    let seen = upstream.only_seen();
    assert_eq!((seen.header("expect"), &seen.body[..]), (None, &b"bytes"[..]));
}

/// Reads the head of one request, then does as told.
fn one(act: impl FnOnce(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        while find(&bytes, b"\r\n\r\n").is_none() {
            let read = stream.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..read]);
        }
        act(&mut stream);
    });
    base
}

#[test]
fn an_upstream_that_refuses_before_it_has_read_all_is_heard() {
    let refusal = "HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: 23\r\n\r\n{\"error\":\"of upstream\"}";
    let (done, wait) = mpsc::channel::<()>();
    // One that reads no more and stays, one that closes.
    let stays = one(move |stream| {
        stream.write_all(refusal.as_bytes()).unwrap();
        let _ = wait.recv();
    });
    let closes = one(move |stream| {
        stream.write_all(refusal.as_bytes()).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        // To the end, as servers linger: what is closed with bytes unread is reset, and the answer may go with it.
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    for base in [stays, closes] {
        let gateway = Setup::to(&base).start();
        let file = bytes(40 << 20);
        let mut stream = gateway
            .client
            .raw(head("/v1/files", &format!("Content-Length: {}", file.len())).as_bytes());
        let mut writing = stream.try_clone().unwrap();
        let writer = thread::spawn(move || {
            let _ = writing.write_all(&file);
        });
        let reply = read_reply(&mut stream);
        assert_eq!(
            (reply.status, reply.text()),
            (413, "{\"error\":\"of upstream\"}".to_owned())
        );
        drop(stream);
        writer.join().unwrap();
    }
    drop(done);
}

#[test]
fn a_client_that_breaks_off_leaves_no_whole_file() {
    let (seen, ended) = mpsc::channel();
    let base = one(move |stream| {
        let mut rest = Vec::new();
        let outcome = stream.read_to_end(&mut rest);
        let _ = seen.send((outcome.is_ok(), rest.len()));
    });
    let gateway = Setup::to(&base).start();
    let mut stream = gateway
        .client
        .raw(head("/v1/files", &format!("Content-Length: {}", 10 << 20)).as_bytes());
    stream.write_all(&bytes(1 << 20)).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    let (_, length) = ended.recv().unwrap();
    assert!(length < 10 << 20, "{length}");
    gateway.wait_in_flight();
}
