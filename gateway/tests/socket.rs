//! WebSocket connections: each answer on them is held, metered and settled by itself, and every end is told.

use std::sync::mpsc;
use std::time::Duration;

use agentledger::testing::meter::websocket::{Message, closing};
use agentledger_ledger::{Kind, Outcome, Usd};
use serde_json::{Value, json};

use crate::harness::{Gateway, Peer, Setup, SocketUpstream};

pub const RESPONSES: &str = "/v1/responses";
pub const REALTIME: &str = "/v1/realtime?model=gpt-realtime";
pub const KEY: [(&str, &str); 2] = [
    ("authorization", "Bearer sk-test-0123456789abcdef"),
    ("x-agent-task", "socket"),
];
/// Sixteen words: about as many tokens.
pub const WORDS: &str = "one two three four five six seven eight nine ten red green blue black white grey ";

pub fn opened(gateway: &Gateway, path: &str) -> Peer {
    Peer::open(gateway.address(), path, &KEY)
}

pub fn start(upstream: &SocketUpstream, yaml: &str) -> Gateway {
    Setup::to(&upstream.base()).with(yaml).start()
}

pub fn budget(limit: &str) -> String {
    format!("budgets: {{default: {{daily_limit_usd: {limit}, action: block}}}}")
}

pub fn ask(max: u64) -> Value {
    json!({"type": "response.create", "model": "gpt-4o", "max_output_tokens": max, "input": "Say hello."})
}

pub fn created(id: &str) -> Value {
    json!({"type": "response.created", "sequence_number": 0,
        "response": {"id": id, "model": "gpt-4o", "status": "in_progress", "usage": null}})
}

pub fn delta(text: &str) -> Value {
    json!({"type": "response.output_text.delta", "sequence_number": 1, "item_id": "i", "delta": text})
}

pub fn completed(id: &str, input: u64, cached: u64, output: u64) -> Value {
    let usage = json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + output});
    json!({"type": "response.completed", "sequence_number": 9,
        "response": {"id": id, "model": "gpt-4o-2024-08-06", "status": "completed", "usage": usage}})
}

/// Answers whatever it is asked, one after another, with 1,000 tokens in, 600 of them cached, and 100 out.
pub fn answering() -> SocketUpstream {
    SocketUpstream::playing(|peer| {
        let mut answers = 0;
        while let Some(message) = peer.hear() {
            match message {
                Message::Text(text) if String::from_utf8_lossy(&text).contains("response.create") => {
                    answers += 1;
                    let id = format!("resp_{answers}");
                    for message in [created(&id), delta("Hello."), completed(&id, 1_000, 600, 100)] {
                        peer.say(message);
                    }
                }
                Message::Ping(payload) => peer.send(&Message::Pong(payload)),
                Message::Close(why) => {
                    peer.send(&Message::Close(why));
                    return;
                }
                _ => {}
            }
        }
    })
}

#[test]
fn two_answers_on_one_connection_are_two_entries_at_their_exact_cost() {
    let upstream = answering();
    let gateway = start(&upstream, "");
    let mut client = opened(&gateway, "/v1/responses?_agent_id=codex");
    assert_eq!(client.header("x-codex-turn-state"), Some("sticky"));
    assert_eq!(client.header("sec-websocket-extensions"), None);
    for turn in 1..=2 {
        client.say(ask(200));
        let heard = client.until("response.completed");
        let id = format!("resp_{turn}");
        assert_eq!(heard, [created(&id), delta("Hello."), completed(&id, 1_000, 600, 100)]);
        let entries = gateway.entries();
        assert_eq!(entries.len(), turn, "settled before its end is seen");
        let entry = &entries[turn - 1];
        // 400 × 2.5 + 600 × 1.25 + 100 × 10 USD per million.
        assert_eq!(entry.settlement.cost.to_string(), "0.00275");
        assert_eq!(
            (entry.settlement.estimate_reason.as_deref(), entry.settlement.status),
            (None, 200)
        );
        assert_eq!(&*entry.settlement.model, "gpt-4o-2024-08-06");
        let facts = &entry.facts;
        assert_eq!(
            (&*facts.operation, &*facts.path, &*facts.task),
            ("responses", RESPONSES, "socket")
        );
        assert_eq!(
            (&*facts.agent, &*facts.requested_model, facts.stream),
            ("codex", "gpt-4o", true)
        );
    }
    client.send(&closing(1000, "done"));
    assert_eq!(client.closed(), Some((1000, "done".to_owned())));
    assert_eq!(client.hear(), None);
    gateway.wait_idle();
    assert_eq!(gateway.entries().len(), 2);
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, RESPONSES));
    assert_eq!(seen[0].header("authorization"), Some("Bearer sk-test-0123456789abcdef"));
    assert_eq!(seen[0].header("x-agent-task"), None);
}

#[test]
fn an_extension_is_never_offered_upstream() {
    let upstream = answering();
    let gateway = start(&upstream, "");
    let offer = ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits");
    let mut client = Peer::open(gateway.address(), RESPONSES, &[KEY[0], offer]);
    client.say(ask(200));
    client.until("response.completed");
    assert_eq!(upstream.seen()[0].header("sec-websocket-extensions"), None);
}

#[test]
fn an_answer_that_the_budget_does_not_cover_is_refused_and_the_connection_goes_on() {
    let upstream = answering();
    let gateway = start(&upstream, &budget("0.01"));
    let mut client = opened(&gateway, RESPONSES);
    let mut dear = ask(100_000);
    dear["stream_id"] = json!("main");
    client.say(&dear);
    let refused = client.json();
    assert_eq!((&refused["type"], &refused["status"]), (&json!("error"), &json!(429)));
    assert_eq!(refused["error"]["code"], "budget_exceeded");
    assert_eq!(refused["stream_id"], "main");
    assert!(gateway.entries().is_empty(), "nothing was sent");
    client.say(ask(200));
    assert_eq!(
        client.until("response.completed").len(),
        3,
        "the dear one never went upstream"
    );
    assert_eq!(gateway.entry().settlement.cost.to_string(), "0.00275");
}

#[test]
fn what_cannot_be_read_goes_no_further() {
    let gateway = start(&answering(), "");
    let mut client = opened(&gateway, RESPONSES);
    for text in [
        "{\"type\":\"response.create\"",
        "{\"type\":\"x\",\"type\":\"response.create\"}",
    ] {
        client.say(text);
        let refused = client.json();
        assert_eq!(
            (&refused["type"], &refused["error"]["code"]),
            (&json!("error"), &json!("invalid_json"))
        );
    }
    client.say(json!({"type": "response.create", "input": "no model"}));
    assert_eq!(client.json()["error"]["param"], "model");
    client.say(json!({"type": "response.create", "model": "gpt-4o", "background": true}));
    assert_eq!(client.json()["error"]["param"], "background");
    assert!(gateway.entries().is_empty());
}

#[test]
fn an_answer_that_outruns_its_hold_is_cut_and_its_connection_ends() {
    let (told, closed) = mpsc::channel();
    let upstream = SocketUpstream::playing(move |peer| {
        peer.json();
        peer.say(created("resp_1"));
        for _ in 0..300 {
            peer.say(delta(WORDS));
        }
        told.send(peer.closed()).unwrap();
    });
    let yaml = format!("hold: {{size: expected}}\n{}", budget("0.02"));
    let gateway = start(&upstream, &yaml);
    let mut client = opened(&gateway, RESPONSES);
    client.say(ask(16_000));
    let heard = client.until("response.failed");
    let last = heard.last().unwrap();
    assert_eq!(last["response"]["error"]["code"], "insufficient_quota", "{last}");
    assert_eq!(last["response"]["id"], "resp_1");
    assert!(
        (20..300).contains(&heard.len()),
        "it passed for a while: {}",
        heard.len()
    );
    assert_eq!(client.closed().unwrap().0, 1008);
    assert_eq!(closed.recv_timeout(Duration::from_secs(60)).unwrap().unwrap().0, 1001);
    gateway.wait_idle();
    let entry = gateway.entry();
    assert_eq!(entry.settlement.outcome, Outcome::Cut);
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("cut"));
    assert!(entry.settlement.cost >= entry.held, "{entry:?}");
    assert!(entry.settlement.upper_bound.unwrap() >= entry.settlement.cost);
    let row = gateway.balances("key:").remove(0);
    assert_eq!(row.held.usd, Usd::ZERO);
    assert!(
        row.posted.usd.nanos() - row.overage.usd.nanos() <= 20_000_000,
        "{row:?}"
    );
}

#[test]
fn answers_of_two_lanes_are_told_apart() {
    let upstream = SocketUpstream::playing(|peer| {
        let lane = |mut message: Value, lane: &str| {
            message["stream_id"] = json!(lane);
            message
        };
        peer.json();
        peer.json();
        for (id, name) in [("resp_a", "a"), ("resp_b", "b")] {
            peer.say(lane(created(id), name));
        }
        peer.say(lane(delta("b"), "b"));
        peer.say(lane(completed("resp_b", 2_000, 0, 0), "b"));
        peer.say(lane(
            json!({"type": "error", "status": 400, "error": {"code": "server_error", "message": "x"}}),
            "a",
        ));
        peer.closed();
    });
    let gateway = start(&upstream, "");
    let mut client = opened(&gateway, RESPONSES);
    for name in ["a", "b"] {
        let mut asked = ask(200);
        asked["stream_id"] = json!(name);
        asked["model"] = json!(if name == "a" { "gpt-4o-mini" } else { "gpt-4o" });
        client.say(asked);
    }
    client.until("error");
    let entries = gateway.entries_of(2);
    let by_model = |model: &str| {
        entries
            .iter()
            .find(|entry| &*entry.facts.requested_model == model)
            .unwrap()
    };
    assert_eq!(by_model("gpt-4o").settlement.cost.to_string(), "0.005");
    let failed = &by_model("gpt-4o-mini").settlement;
    assert_eq!(
        (failed.cost, failed.status, failed.estimate_reason.as_deref()),
        (Usd::ZERO, 400, None)
    );
}

pub fn session() -> Value {
    json!({"type": "session.created", "event_id": "e", "session": {"model": "gpt-realtime", "max_output_tokens": "inf",
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}})
}

pub fn begun(id: &str) -> Value {
    json!({"type": "response.created", "event_id": "e", "response": {"id": id, "status": "in_progress", "usage": null}})
}

pub fn done(id: &str, status: &str) -> Value {
    let usage = json!({"total_tokens": 300, "input_tokens": 200, "output_tokens": 100,
        "input_token_details": {"text_tokens": 100, "audio_tokens": 100, "cached_tokens": 50,
            "cached_tokens_details": {"text_tokens": 30, "audio_tokens": 20}},
        "output_token_details": {"text_tokens": 20, "audio_tokens": 80}});
    json!({"type": "response.done", "event_id": "e", "response": {"id": id, "status": status, "usage": usage}})
}

/// 70 × 4 + 50 × 0.4 + 80 × 32 + 20 × 16 + 80 × 64 USD per million.
const DONE_COST: &str = "0.0083";

#[test]
fn realtime_answers_are_billed_by_modality_whoever_began_them() {
    let upstream = SocketUpstream::playing(|peer| {
        peer.say(session());
        assert_eq!(peer.json()["type"], "input_audio_buffer.append");
        // The server's own voice detection begins the first answer.
        peer.say(begun("r1"));
        peer.say(json!({"type": "response.output_audio.delta", "response_id": "r1", "delta": "AAAA".repeat(2_000)}));
        peer.say(
            json!({"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "hi",
            "usage": {"type": "tokens", "total_tokens": 110, "input_tokens": 100, "output_tokens": 10,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 100}}}),
        );
        peer.say(done("r1", "completed"));
        assert_eq!(peer.json()["type"], "response.create");
        peer.say(begun("r2"));
        peer.say(done("r2", "completed"));
        peer.closed();
    });
    let gateway = start(&upstream, &budget("5"));
    let mut client = opened(&gateway, REALTIME);
    client.say(json!({"type": "input_audio_buffer.append", "audio": "AAAA".repeat(1_000)}));
    assert_eq!(client.until("response.done").len(), 5);
    client.say(json!({"type": "response.create", "event_id": "mine"}));
    client.until("response.done");
    let entries = gateway.entries();
    let costs: Vec<String> = entries.iter().map(|entry| entry.settlement.cost.to_string()).collect();
    // The transcript: 100 × 6 + 10 × 10 USD per million, at its own model's price.
    assert_eq!(costs, ["0.0007", DONE_COST, DONE_COST]);
    let transcript = &entries[0];
    assert_eq!(&*transcript.settlement.model, "gpt-4o-transcribe");
    for entry in &entries {
        assert_eq!(entry.settlement.estimate_reason, None, "{entry:?}");
        assert_eq!(&*entry.facts.operation, "realtime");
        assert_eq!(entry.overage, Usd::ZERO, "{entry:?}");
    }
    let usage = &entries[1].settlement.usage;
    let count = |kind| usage.get(kind);
    assert_eq!(
        [
            count(Kind::Input),
            count(Kind::CacheRead),
            count(Kind::CacheReadAudio),
            count(Kind::AudioInput)
        ],
        [70, 30, 20, 80]
    );
    assert_eq!([count(Kind::Output), count(Kind::AudioOutput)], [20, 80]);
    assert_eq!(upstream.seen()[0].path, REALTIME);
}

#[test]
fn a_realtime_answer_that_outruns_its_hold_is_cancelled_and_the_session_goes_on() {
    let upstream = SocketUpstream::playing(|peer| {
        peer.say(session());
        peer.json();
        peer.say(begun("r1"));
        for _ in 0..400 {
            peer.say(json!({"type": "response.output_audio_transcript.delta", "response_id": "r1", "delta": WORDS}));
        }
        let cancel = peer.json();
        assert_eq!(
            (&cancel["type"], &cancel["response_id"]),
            (&json!("response.cancel"), &json!("r1"))
        );
        peer.say(done("r1", "cancelled"));
        let Some(Message::Ping(payload)) = peer.hear() else {
            panic!("no ping")
        };
        peer.send(&Message::Pong(payload));
        peer.closed();
    });
    let gateway = start(&upstream, &format!("hold: {{size: expected}}\n{}", budget("0.2")));
    let mut client = opened(&gateway, REALTIME);
    client.say(json!({"type": "response.create"}));
    let heard = client.until("response.done");
    let error = heard.iter().find(|message| message["type"] == "error").unwrap();
    assert_eq!(error["error"]["code"], "insufficient_quota", "{error}");
    let at = heard.iter().position(|message| message["type"] == "error").unwrap();
    assert_eq!(at, heard.len() - 2, "nothing of it passes after the cut");
    client.send(&Message::Ping("still here".into()));
    assert_eq!(client.hear(), Some(Message::Pong("still here".into())));
    let entry = gateway.entry();
    // The cancelled answer still said what it is billed.
    assert_eq!(entry.settlement.outcome, Outcome::Cut);
    assert_eq!(
        (
            entry.settlement.cost.to_string().as_str(),
            &entry.settlement.estimate_reason
        ),
        (DONE_COST, &None)
    );
}

#[test]
fn a_realtime_answer_that_nobody_can_pay_is_cancelled_as_it_begins_and_still_entered() {
    let upstream = SocketUpstream::playing(|peer| {
        peer.say(session());
        peer.say(begun("r1"));
        assert_eq!(peer.json()["type"], "response.cancel");
        peer.say(json!({"type": "response.output_audio.delta", "response_id": "r1", "delta": "AAAA"}));
        peer.say(done("r1", "cancelled"));
        peer.closed();
    });
    let gateway = start(&upstream, &budget("0.001"));
    let mut client = opened(&gateway, REALTIME);
    let heard: Vec<Value> = client
        .until("response.done")
        .iter()
        .map(|message| message["type"].clone())
        .collect();
    assert_eq!(heard, ["session.created", "response.created", "error", "response.done"]);
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.outcome, entry.settlement.cost.to_string().as_str()),
        (Outcome::Cut, DONE_COST)
    );
    let row = gateway.balances("key:").remove(0);
    assert_eq!(row.overage.usd, entry.settlement.cost, "what nobody held is overage");
    assert_eq!(row.held.usd, Usd::ZERO);
}

#[test]
fn a_realtime_answer_that_the_server_refuses_costs_nothing() {
    let upstream = SocketUpstream::playing(|peer| {
        peer.say(session());
        let id = peer.json()["event_id"].clone();
        peer.say(
            json!({"type": "error", "event_id": "e", "error": {"type": "invalid_request_error",
            "code": "conversation_already_has_active_response", "message": "x", "event_id": id}}),
        );
        peer.closed();
    });
    let gateway = start(&upstream, "");
    let mut client = opened(&gateway, REALTIME);
    client.say(json!({"type": "response.create", "event_id": "mine"}));
    client.until("error");
    let entry = gateway.entry();
    assert_eq!((entry.settlement.cost, entry.settlement.status), (Usd::ZERO, 400));
    assert_eq!(entry.settlement.estimate_reason, None);
}

#[test]
fn fragments_and_the_control_frames_between_them_pass() {
    let gateway = start(&answering(), "");
    let mut client = opened(&gateway, RESPONSES);
    let whole = ask(200).to_string();
    let frame = |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
    let (head, tail) = whole.as_bytes().split_at(whole.len() / 2);
    for bytes in [
        frame(0x01, head),
        frame(0x89, b"mid"),
        frame(0x00, b""),
        frame(0x80, tail),
    ] {
        for byte in bytes {
            client.raw(&[byte]);
        }
    }
    assert_eq!(client.hear(), Some(Message::Pong("mid".into())));
    client.until("response.completed");
    assert_eq!(gateway.entry().settlement.cost.to_string(), "0.00275");
}

#[test]
fn a_policy_lowers_the_maximum_that_a_message_names_or_not() {
    let (told, asked) = mpsc::channel();
    let upstream = SocketUpstream::playing(move |peer| {
        while let Some(Message::Text(text)) = peer.hear() {
            told.send(serde_json::from_slice::<Value>(&text).unwrap()).unwrap();
        }
    });
    let policy =
        r#"return { name = "house", version = "1", request = function() return clamp{ max_output = 50 } end }"#;
    let gateway = Setup::to(&upstream.base()).policy("house", policy).start();
    opened(&gateway, RESPONSES).say(ask(200));
    let heard = |asked: &mpsc::Receiver<Value>| asked.recv_timeout(Duration::from_secs(60)).unwrap();
    let mut expected = ask(50);
    assert_eq!(heard(&asked), expected);
    opened(&gateway, REALTIME).say(json!({"type": "response.create", "response": {"output_modalities": ["text"]}}));
    expected = json!({"type": "response.create", "response": {"output_modalities": ["text"], "max_output_tokens": 50}});
    assert_eq!(heard(&asked), expected);
}

#[test]
fn who_waits_for_a_hold_does_not_keep_other_answers_waiting() {
    let upstream = SocketUpstream::playing(|peer| {
        for lane in ["a", "b"] {
            peer.json();
            for mut message in [created(lane), delta("Hello."), completed(lane, 1_000, 600, 100)] {
                message["stream_id"] = json!(lane);
                peer.say(message);
            }
        }
        peer.closed();
    });
    // Each holds some 4 cents of 5: the second waits for the first, whose messages must pass meanwhile.
    let gateway = start(
        &upstream,
        &format!("hold: {{size: worst_case, wait_ms: 120000}}\n{}", budget("0.05")),
    );
    let mut client = opened(&gateway, RESPONSES);
    for lane in ["a", "b"] {
        let mut asked = ask(4_000);
        asked["stream_id"] = json!(lane);
        client.say(asked);
    }
    for lane in ["a", "b"] {
        let heard = client.until("response.completed");
        assert_eq!(heard.last().unwrap()["stream_id"], lane);
    }
    assert_eq!(gateway.entries().len(), 2);
}
