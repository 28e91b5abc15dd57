#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use http::StatusCode;

use super::*;

fn pair() -> (ServerSession, DuplexStream) {
    let (ours, theirs) = duplex(1 << 16);
    (ServerSession::new(Box::new(ours)), theirs)
}

fn ok(fields: &[(&'static str, &str)]) -> ResponseHead {
    let mut header = ResponseHead::new(StatusCode::OK);
    for (name, value) in fields {
        header.insert(name, value).unwrap();
    }
    header
}

/// What the client finds without waiting.
async fn arrived(client: &mut DuplexStream) -> String {
    let mut bytes = vec![0; 1 << 16];
    match timeout(Duration::ZERO, client.read(&mut bytes)).await {
        Ok(Ok(count)) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
        _ => String::new(),
    }
}

async fn request(session: &mut ServerSession, client: &mut DuplexStream, text: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
    assert!(session.read_request(1 << 12).await.unwrap());
}

async fn body(session: &mut ServerSession) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(content) = session.read_body().await.unwrap() {
        body.extend_from_slice(&content);
    }
    body
}

#[tokio::test]
async fn a_connection_serves_requests_one_after_the_other() {
    let (mut session, mut client) = pair();
    for _ in 0..3 {
        request(
            &mut session,
            &mut client,
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        )
        .await;
        assert_eq!(body(&mut session).await, b"hello");
        session.write_head(&ok(&[("Content-Length", "2")])).await.unwrap();
        assert_eq!(arrived(&mut client).await, "", "it leaves with its body");
        session.write_body(Bytes::from("ok"), true).await.unwrap();
        let answer = arrived(&mut client).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
            "{answer}"
        );
        assert!(answer.contains("connection: keep-alive"));
        assert!(session.is_reusable());
    }
}

#[tokio::test]
async fn a_stream_leaves_chunk_by_chunk_and_its_head_at_once() {
    let (mut session, mut client) = pair();
    request(&mut session, &mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    session
        .write_head(&ok(&[("Transfer-Encoding", "chunked")]))
        .await
        .unwrap();
    assert!(arrived(&mut client).await.ends_with("\r\n\r\n"));
    session.write_body(Bytes::from("data: 1\n\n"), false).await.unwrap();
    assert_eq!(arrived(&mut client).await, "9\r\ndata: 1\n\n\r\n");
    session.write_body(Bytes::new(), true).await.unwrap();
    assert_eq!(arrived(&mut client).await, "0\r\n\r\n");
    assert!(session.is_reusable());
}

#[tokio::test]
async fn http_1_0_gets_no_chunks_and_its_connection_ends() {
    let (mut session, mut client) = pair();
    request(&mut session, &mut client, "GET / HTTP/1.0\r\n\r\n").await;
    session
        .write_head(&ok(&[("Transfer-Encoding", "chunked")]))
        .await
        .unwrap();
    session.write_body(Bytes::from("all"), true).await.unwrap();
    let answer = arrived(&mut client).await;
    assert!(
        !answer.contains("chunked") && answer.contains("connection: close"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\nall"));
    assert!(!session.is_reusable());
}

#[tokio::test]
async fn an_answer_without_a_body_has_none_whatever_is_written() {
    for (text, status) in [
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 204),
    ] {
        let (mut session, mut client) = pair();
        request(&mut session, &mut client, text).await;
        let mut header = ok(&[("Content-Length", "3")]);
        header.status = StatusCode::from_u16(status).unwrap();
        session.write_head(&header).await.unwrap();
        session.write_body(Bytes::from("abc"), true).await.unwrap();
        assert!(arrived(&mut client).await.ends_with("\r\n\r\n"));
        assert!(session.is_reusable());
    }
}

#[tokio::test]
async fn what_is_not_over_is_not_served_on() {
    let answer = async |text: &str, content: &'static str| {
        let (mut session, mut client) = pair();
        request(&mut session, &mut client, text).await;
        session.write_head(&ok(&[("Content-Length", "2")])).await.unwrap();
        session.write_body(Bytes::from(content), true).await.unwrap();
        (
            session.is_reusable(),
            arrived(&mut client).await.contains("connection: close"),
        )
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(answer(get, "ok").await, (true, false));
    assert_eq!(answer(get, "o").await, (false, false), "shorter than announced");
    let pipelined = format!("{get}{get}");
    assert_eq!(answer(&pipelined, "ok").await, (false, true), "the next came early");
    let unread = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(answer(unread, "ok").await, (false, true), "its body is unread");
    let closing = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(answer(closing, "ok").await, (false, true));
    let faulty = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answer(faulty, "ok").await, (false, true));
}

#[tokio::test]
async fn a_body_behind_a_fault_is_never_read() {
    let (mut session, mut client) = pair();
    let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    request(&mut session, &mut client, text).await;
    assert_eq!(session.fault(), Some(HeadFault::BothFramings));
    assert!(!session.is_body_empty() && !session.is_body_done());
    assert!(session.read_body().await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_and_how() {
    let (mut session, mut client) = pair();
    request(&mut session, &mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        timeout(Duration::ZERO, session.departure()).await.is_err(),
        "it is there"
    );
    client.shutdown().await.unwrap();
    assert_eq!(session.departure().await, Departure::Closed);
    assert_eq!(
        session.departure().await,
        Departure::Closed,
        "however often it is asked"
    );
    assert!(!session.is_reusable());
}

#[tokio::test]
async fn a_client_that_sends_early_has_not_left_and_loses_nothing_it_was_answered() {
    let (mut session, mut client) = pair();
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    request(&mut session, &mut client, get).await;
    client.write_all(get.as_bytes()).await.unwrap();
    assert!(timeout(Duration::ZERO, session.departure()).await.is_err());
    assert!(timeout(Duration::ZERO, session.departure()).await.is_err());
    session.write_head(&ok(&[("Content-Length", "2")])).await.unwrap();
    session.write_body(Bytes::from("ok"), true).await.unwrap();
    assert!(arrived(&mut client).await.contains("connection: close"));
    assert!(!session.is_reusable());
}

#[tokio::test]
async fn a_head_is_bounded_and_read_at_any_split() {
    let (mut session, mut client) = pair();
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1 << 13));
    client.write_all(long.as_bytes()).await.unwrap();
    assert_eq!(session.read_request(1 << 12).await.unwrap_err(), HeadError::TooLong);
    let (mut session, mut client) = pair();
    let whole = format!("{long}\r\n\r\n");
    client.write_all(whole.as_bytes()).await.unwrap();
    assert!(session.read_request(1 << 14).await.unwrap());
    let (mut session, mut client) = pair();
    let sender = tokio::spawn(async move {
        for byte in b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client
    });
    assert!(session.read_request(1 << 12).await.unwrap());
    assert_eq!(body(&mut session).await, b"hi");
    assert!(session.is_body_done());
    drop(sender.await);
}

#[tokio::test]
async fn a_connection_that_closes_brings_no_request_and_one_that_breaks_off_none_either() {
    let (mut session, client) = pair();
    drop(client);
    assert!(!session.wait_for_request().await);
    assert!(!session.read_request(1 << 12).await.unwrap());
    let (mut session, mut client) = pair();
    client.write_all(b"GET / HT").await.unwrap();
    drop(client);
    assert_eq!(session.read_request(1 << 12).await.unwrap_err(), HeadError::BrokenOff);
    let (mut session, mut client) = pair();
    request(
        &mut session,
        &mut client,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello",
    )
    .await;
    drop(client);
    assert_eq!(session.read_body().await.unwrap().unwrap(), "hello");
    assert!(session.read_body().await.is_err());
}

#[tokio::test]
async fn a_large_body_leaves_whole() {
    let (mut session, mut client) = pair();
    request(&mut session, &mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    });
    session
        .write_head(&ok(&[("Transfer-Encoding", "chunked")]))
        .await
        .unwrap();
    let content = Bytes::from(vec![b'x'; 1 << 18]);
    session.write_body(content.clone(), true).await.unwrap();
    drop(session);
    let all = reader.await.unwrap();
    let expected = [b"\r\n\r\n40000\r\n".as_slice(), &content, b"\r\n0\r\n\r\n"].concat();
    assert!(all.ends_with(&expected));
}
