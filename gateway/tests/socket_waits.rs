//! Answers on a WebSocket that outgrow their holds while only others' holds are in their way: they wait, as streams over HTTP do.

use std::time::Duration;

use agentledger_ledger::Outcome;
use serde_json::{Value, json};

use crate::harness::{Gate, Gateway, Peer, SocketUpstream};
use crate::socket::{RESPONSES, WORDS, ask, budget, completed, created, delta, opened, start};

/// Of the answer that waits, and of the one that is in its way. Together they need more than 4.8 cents, each alone does not.
const PARTS: usize = 150;
const OTHERS_PARTS: usize = 100;
const LIMIT: &str = "0.048";

fn on(lane: &str, mut message: Value) -> Value {
    message["stream_id"] = json!(lane);
    message
}

/// Two answers at once: `b` has grown and goes on, `a` outgrows what is left beside it. Then `and_then`.
fn two_lanes(and_then: impl Fn(&mut Peer) + Send + Sync + 'static) -> SocketUpstream {
    SocketUpstream::playing(move |peer| {
        for lane in ["a", "b"] {
            peer.json();
            peer.say(on(lane, created(lane)));
        }
        for (lane, parts) in [("b", OTHERS_PARTS), ("a", PARTS)] {
            for _ in 0..parts {
                peer.say(on(lane, delta(WORDS)));
            }
        }
        and_then(peer);
        peer.closed();
    })
}

fn both_asked(upstream: &SocketUpstream, wait_ms: u64) -> (Gateway, Peer) {
    let gateway = start(upstream, &format!("hold: {{wait_ms: {wait_ms}}}\n{}", budget(LIMIT)));
    let mut client = opened(&gateway, RESPONSES);
    for lane in ["a", "b"] {
        client.say(on(lane, ask(16_000)));
    }
    (gateway, client)
}

fn nothing_is_left(gateway: &Gateway) {
    for _ in 0..1_500 {
        let rows = gateway.balances("key:");
        if rows.iter().any(|row| row.held.usd.nanos() > 47_980_000) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("something is left: {:?}", gateway.balances("key:"));
}

fn parts_of(lane: &str, heard: &[Value]) -> usize {
    let is_part = |message: &&Value| message["type"] == "response.output_text.delta" && message["stream_id"] == lane;
    heard.iter().filter(is_part).count()
}

#[test]
fn an_answer_waits_while_only_others_holds_are_in_its_way_and_holds_nobody_up() {
    let (ends, all_heard) = (Gate::default(), Gate::default());
    let upstream = two_lanes({
        let (ends, all_heard) = (ends.clone(), all_heard.clone());
        move |peer| {
            ends.wait();
            peer.say(on("b", completed("b", 1_000, 600, 100)));
            all_heard.wait();
            peer.say(on("a", completed("a", 1_000, 600, 2_400)));
        }
    });
    let (gateway, mut client) = both_asked(&upstream, 120_000);
    nothing_is_left(&gateway);
    ends.open();
    let mut heard = client.until("response.completed");
    assert_eq!(heard.last().unwrap()["stream_id"], "b");
    assert_eq!(parts_of("b", &heard), OTHERS_PARTS);
    assert!(parts_of("a", &heard) < PARTS, "it is held back");
    while parts_of("a", &heard) < PARTS {
        heard.push(client.json());
    }
    all_heard.open();
    let last = client.until("response.completed");
    assert_eq!(last.last().unwrap()["stream_id"], "a");
    assert_eq!(parts_of("a", &last), 0, "nothing comes twice");
    let outcomes: Vec<Outcome> = gateway.entries().iter().map(|entry| entry.settlement.outcome).collect();
    assert_eq!(outcomes, [Outcome::Completed; 2]);
}

#[test]
fn an_answer_that_waited_in_vain_is_cut() {
    let (gateway, mut client) = both_asked(&two_lanes(|_| {}), 50);
    let heard = client.until("response.failed");
    let last = heard.last().unwrap();
    assert_eq!(
        (&last["stream_id"], &last["response"]["id"]),
        (&json!("a"), &json!("a"))
    );
    let message = last["response"]["error"]["message"].as_str().unwrap();
    assert!(message.contains("held by requests that are running"), "{message}");
    let passed = parts_of("a", &heard);
    assert!(
        (20..PARTS).contains(&passed),
        "what was held back went nowhere: {passed}"
    );
    assert_eq!(client.closed().unwrap().0, 1008, "nothing else stops it");
    gateway.wait_idle();
    assert!(
        gateway
            .entries()
            .iter()
            .any(|entry| entry.settlement.outcome == Outcome::Cut)
    );
}

#[test]
fn an_answer_that_ends_while_it_waits_is_heard_whole() {
    let gate = Gate::default();
    let upstream = two_lanes({
        let gate = gate.clone();
        move |peer| {
            gate.wait();
            peer.say(on("a", completed("a", 1_000, 600, 2_400)));
        }
    });
    let (gateway, mut client) = both_asked(&upstream, 120_000);
    nothing_is_left(&gateway);
    gate.open();
    let heard = client.until("response.completed");
    assert_eq!(heard.last().unwrap()["stream_id"], "a");
    assert_eq!(parts_of("a", &heard), PARTS, "it is billed whole");
    let entry = gateway.entry();
    assert_eq!(entry.settlement.outcome, Outcome::Completed);
}
