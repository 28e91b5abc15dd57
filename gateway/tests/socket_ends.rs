//! How WebSocket connections end, or never begin: whoever ends them, every answer is settled once and told of.

use std::sync::mpsc;
use std::time::Duration;

use agentledger::testing::meter::websocket::{Message, encode};
use agentledger_ledger::{Outcome, Usd};
use serde_json::{Value, json};

use crate::harness::{Gateway, Peer, Script, Setup, SocketUpstream, Upstream, block_on};
use crate::socket::{
    KEY, REALTIME, RESPONSES, WORDS, answering, ask, begun, budget, completed, created, delta, opened, session, start,
};

/// The upstream begins an answer, says something of it, and hears how the connection ends.
fn unfinished() -> (SocketUpstream, mpsc::Receiver<Option<(u16, String)>>) {
    let (told, closed) = mpsc::channel();
    let upstream = SocketUpstream::playing(move |peer| {
        peer.json();
        peer.say(created("resp_1"));
        peer.say(delta(WORDS));
        let _ = told.send(peer.closed());
    });
    (upstream, closed)
}

#[test]
fn a_client_that_leaves_or_breaks_the_protocol_ends_its_answers() {
    let text = |message: &Value| encode(&Message::Text(message.to_string().into()), None);
    let faults: [(Option<Vec<u8>>, Option<u16>); 5] = [
        (None, None),
        // Not masked.
        (Some(text(&delta("x")).to_vec()), Some(1002)),
        // A reserved bit; compressed text that nobody agreed on.
        (Some(vec![0xc1, 0x80, 1, 2, 3, 4]), Some(1002)),
        (
            Some(encode(&Message::Binary("{}".into()), Some([9; 4])).to_vec()),
            Some(1003),
        ),
        (
            Some(encode(&Message::Text(vec![0xff].into()), Some([9; 4])).to_vec()),
            Some(1007),
        ),
    ];
    for (bytes, code) in faults {
        let (upstream, closed) = unfinished();
        let gateway = start(&upstream, &budget("5"));
        let mut client = opened(&gateway, RESPONSES);
        client.say(ask(200));
        client.until("response.output_text.delta");
        match bytes {
            Some(bytes) => {
                client.raw(&bytes);
                assert_eq!(client.closed().map(|(code, _)| code), code);
            }
            None => client.vanish(),
        }
        let upstream_heard = closed.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(upstream_heard.unwrap().0, 1001);
        gateway.wait_idle();
        let entry = gateway.entry();
        assert_eq!(entry.settlement.outcome, Outcome::ClientGone, "{code:?}");
        assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("client_gone"));
        assert!(entry.settlement.cost > Usd::ZERO && entry.settlement.upper_bound.is_some());
        assert_eq!(gateway.balances("key:").remove(0).held.usd, Usd::ZERO);
    }
}

#[test]
fn an_upstream_that_leaves_or_breaks_the_protocol_ends_its_answers_with_an_error() {
    // Gone without a word; a masked frame; a continuation of nothing; its own close.
    let ends: [&[u8]; 4] = [b"", &[0x81, 0x81, 1, 2, 3, 4, 0], &[0x80, 0], &[0x88, 2, 0x03, 0xf3]];
    for (bytes, code) in ends.into_iter().zip([1014, 1014, 1014, 1011]) {
        let upstream = SocketUpstream::playing(move |peer| {
            peer.json();
            peer.say(created("resp_1"));
            peer.say(delta(WORDS));
            peer.raw(bytes);
        });
        let gateway = start(&upstream, "");
        let mut client = opened(&gateway, RESPONSES);
        client.say(ask(200));
        let heard = client.until("response.failed");
        assert_eq!(heard.last().unwrap()["response"]["error"]["code"], "server_error");
        assert_eq!(client.closed().unwrap().0, code);
        gateway.wait_idle();
        let entry = gateway.entry();
        assert_eq!(entry.settlement.outcome, Outcome::UpstreamFailed);
        assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("upstream_failed"));
    }
}

#[test]
fn where_no_websocket_is_served_clients_are_told_to_fall_back() {
    let refused = |gateway: &Gateway, path: &str| Peer::try_open(gateway.address(), path, &KEY).err().unwrap();
    let gateway = Setup::to("http://127.0.0.1:9")
        .only("providers: {openai: {upstream: \"http://127.0.0.1:9\", websocket: false}}")
        .start();
    for path in [RESPONSES, REALTIME, "/v1/chat/completions"] {
        assert_eq!(refused(&gateway, path).status, 426, "{path}");
    }
    // The upstream has no such thing, or does not want this client.
    for (upstream, status) in [(404, 426), (405, 426), (200, 426), (401, 401), (503, 503)] {
        let upstream = Upstream::always(Script::json(upstream, r#"{"error":{"message":"said upstream"}}"#));
        let gateway = Gateway::to(&upstream);
        let reply = refused(&gateway, RESPONSES);
        assert_eq!(reply.status, status);
        assert_eq!(
            reply.text().contains("said upstream"),
            status != 426,
            "{}",
            reply.text()
        );
        assert!(gateway.entries().is_empty());
    }
    let missing = refused(&gateway, "/nowhere/v1/responses");
    assert_eq!(missing.status, 404);
}

#[test]
fn a_browsers_key_among_its_protocols_is_a_key() {
    let gateway = start(&answering(), "");
    let offered = ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-browser");
    let mut client = Peer::open(gateway.address(), REALTIME, &[offered]);
    client.say(json!({"type": "response.create"}));
    client.until("response.completed");
    assert_eq!(gateway.entry().facts.key.len(), 24, "the fingerprint of a key");
}

#[test]
fn going_down_waits_for_answers_and_for_no_idle_connection() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let upstream = SocketUpstream::playing(move |peer| {
        let Some(Message::Text(_)) = peer.hear() else { return };
        peer.say(created("resp_1"));
        gate.lock().unwrap().recv().unwrap();
        peer.say(completed("resp_1", 1_000, 600, 100));
        peer.closed();
    });
    let gateway = start(&upstream, "");
    let mut idle = opened(&gateway, RESPONSES);
    let mut busy = opened(&gateway, RESPONSES);
    busy.say(ask(200));
    busy.until("response.created");
    let stopping = std::thread::spawn(move || gateway.stop());
    assert_eq!(idle.closed().unwrap().0, 1001);
    busy.say(ask(200));
    assert_eq!(busy.json()["error"]["code"], "shutting_down", "no new answer begins");
    go.send(()).unwrap();
    busy.until("response.completed");
    assert_eq!(busy.closed().unwrap().0, 1001);
    let dir = stopping.join().unwrap();
    let gateway = Setup::to("http://127.0.0.1:9").in_dir(&dir).start();
    assert_eq!(gateway.entry().settlement.cost.to_string(), "0.00275");
}

#[test]
fn a_connection_that_is_silent_for_too_long_is_closed() {
    // No answer runs: the connection is idle.
    let gateway = start(&answering(), "limits: {socket_idle_ms: 200}");
    assert_eq!(opened(&gateway, RESPONSES).closed().unwrap().0, 1001);
    gateway.wait_idle();
    assert!(gateway.entries().is_empty());
    // One runs: the upstream has failed.
    let (upstream, _closed) = unfinished();
    let openai = format!(
        "providers: {{openai: {{upstream: \"{}\", timeouts: {{idle_ms: 300}}}}}}",
        upstream.base()
    );
    let gateway = Setup::to("").only(&openai).start();
    let mut client = opened(&gateway, RESPONSES);
    client.say(ask(200));
    client.until("response.failed");
    assert_eq!(client.closed().unwrap().0, 1014);
    gateway.wait_idle();
    assert_eq!(gateway.entry().settlement.outcome, Outcome::UpstreamFailed);
}

#[test]
fn what_still_runs_when_patience_ends_is_cut_and_told() {
    let (upstream, closed) = unfinished();
    let gateway = start(&upstream, "");
    let mut client = opened(&gateway, RESPONSES);
    client.say(ask(200));
    client.until("response.output_text.delta");
    let dir = std::sync::Arc::clone(&gateway.dir);
    // Asked to hurry.
    drop(gateway);
    let failed = client.until("response.failed");
    assert!(
        failed.last().unwrap()["response"]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("going down")
    );
    assert_eq!(client.closed().unwrap().0, 1012);
    assert_eq!(closed.recv_timeout(Duration::from_secs(60)).unwrap().unwrap().0, 1001);
    let gateway = Setup::to("http://127.0.0.1:9").in_dir(&dir).start();
    assert_eq!(gateway.entry().settlement.outcome, Outcome::Cut);
}

#[test]
fn a_client_that_closes_while_its_answer_runs_still_pays_for_what_is_told_meanwhile() {
    let upstream = SocketUpstream::playing(|peer| {
        peer.json();
        peer.say(created("resp_1"));
        let why = peer.closed();
        // What was on its way.
        peer.say(completed("resp_1", 1_000, 600, 100));
        peer.send(&Message::Close(why));
    });
    let gateway = start(&upstream, "");
    let mut client = opened(&gateway, RESPONSES);
    client.say(ask(200));
    client.until("response.created");
    client.send(&Message::Close(None));
    assert_eq!(client.closed(), None);
    gateway.wait_idle();
    let entry = gateway.entry();
    assert_eq!(
        (
            entry.settlement.cost.to_string().as_str(),
            entry.settlement.estimate_reason
        ),
        ("0.00275", None)
    );
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let gateway = start(&answering(), "");
    let refused = |headers: &[(&str, &str)]| {
        let mut all = vec![("upgrade", "websocket"), ("connection", "upgrade")];
        all.extend_from_slice(headers);
        let reply = gateway.client.request("GET", RESPONSES, &all, b"");
        (reply.status, reply.json()["error"]["code"].as_str().unwrap().to_owned())
    };
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(
        refused(&[key, ("sec-websocket-version", "8")]),
        is(426, "websocket_version")
    );
    assert_eq!(refused(&[("sec-websocket-version", "13")]), is(400, "bad_handshake"));
    let two_keys = [
        key,
        ("sec-websocket-version", "13"),
        ("authorization", "Bearer a"),
        ("authorization", "Bearer b"),
    ];
    assert_eq!(refused(&two_keys), is(400, "ambiguous_key"));
}

#[test]
fn an_answer_that_begins_before_its_question_is_written_whole_is_billed() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let upstream = SocketUpstream::playing(move |peer| {
        // Nothing is heard: most of the question stays in the gateway's hands.
        gate.lock().unwrap().recv().unwrap();
        peer.say(created("resp_1"));
        peer.say(delta(WORDS));
        // Closed with the question unread this is a reset, which would take along what the gateway has not read.
        gate.lock().unwrap().recv().unwrap();
    });
    let gateway = start(&upstream, "");
    let mut client = opened(&gateway, RESPONSES);
    let mut question = ask(200);
    question["input"] = "word ".repeat(4 << 20).into();
    client.say(question);
    while gateway.launched().gateway().ledger.open_holds().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Held; its megabytes are still to be looked through before the writing begins.
    std::thread::sleep(Duration::from_millis(1_500));
    go.send(()).unwrap();
    client.until("response.output_text.delta");
    go.send(()).unwrap();
    client.until("response.failed");
    gateway.wait_idle();
    let entry = gateway.entry();
    assert_eq!(entry.settlement.outcome, Outcome::UpstreamFailed);
    assert!(entry.settlement.cost > Usd::ZERO);
}

#[test]
fn what_the_server_bills_unasked_is_entered_though_its_client_leaves_meanwhile() {
    let transcript = json!({"type": "conversation.item.input_audio_transcription.completed", "item_id": "i",
        "transcript": "hi", "usage": {"type": "tokens", "total_tokens": 110, "input_tokens": 100, "output_tokens": 10,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 100}}});
    for billed in [begun("r1"), transcript] {
        let (go, gate) = mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let upstream = SocketUpstream::playing(move |peer| {
            peer.say(session());
            gate.lock().unwrap().recv().unwrap();
            peer.say(&billed);
            peer.closed();
        });
        let gateway = start(&upstream, "limits: {journal_queue_events_max: 256}");
        let mut client = opened(&gateway, REALTIME);
        client.until("session.created");
        // The ledger has no place for it yet.
        let ledger = &gateway.launched().gateway().ledger;
        let mut permits = Vec::new();
        while ledger.health().permits_left >= 2 {
            permits.push(block_on(ledger.admit()).unwrap());
        }
        go.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        client.vanish();
        std::thread::sleep(Duration::from_millis(300));
        assert!(gateway.entries().is_empty());
        drop(permits);
        let entry = gateway.entries_of(1).remove(0);
        assert_eq!(&*entry.facts.operation, "realtime");
        gateway.wait_idle();
    }
}
