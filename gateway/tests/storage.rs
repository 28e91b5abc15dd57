//! A disk that is full, and clients that leave by the thousand.

use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use agentledger_ledger::{Outcome, Usd};
use serde_json::json;

use crate::harness::client::read_reply;
use crate::harness::upstream::Step;
use crate::harness::{Gate, Gateway, Installation, Script, Upstream};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"gpt-4o","messages":[],"stream":true,"max_tokens":100}"#;
const CHUNK: &[u8] = b"data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one two three\"}}]}\n\n";
const END: &[u8] = b"data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\ndata: [DONE]\n\n";

#[test]
fn a_file_that_may_not_grow_stops_admission_while_running_answers_finish() {
    let gate = Gate::default();
    let upstream = Upstream::playing({
        let gate = gate.clone();
        move |seen| {
            if seen.header("x-wait").is_some() {
                gate.wait();
            }
            Script::stream_head("text/event-stream").chunk(CHUNK).chunk(END).end()
        }
    });
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    let gateway = home.serve();
    let ask = |task: &str| {
        gateway
            .client
            .request("POST", CHAT, &[("X-Agent-Task", task)], STREAM.as_bytes())
    };
    for at in 0..5 {
        assert_eq!(ask(&format!("before-{at}")).status, 200);
    }
    let mut running = gateway.client.send(
        "POST",
        CHAT,
        &[("X-Wait", "yes"), ("X-Agent-Task", "running")],
        STREAM.as_bytes(),
    );
    while upstream.seen().len() < 6 {
        thread::sleep(Duration::from_millis(5));
    }
    let acknowledged = home.export();
    assert_eq!(acknowledged.len(), 5);

    // From now on no file may grow: every write of the journal fails, as on a full disk. A signal comes along that ends
    // a process which does not listen for it.
    let limited = Command::new("prlimit")
        .args(["--pid", &gateway.id().to_string(), "--fsize=1:1"])
        .status()
        .unwrap();
    assert!(limited.success());
    let mut refused = None;
    for at in 0..200 {
        let reply = ask(&format!("after-{at}"));
        if reply.status == 503 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("admission stops");
    assert_eq!(
        refused.json()["error"]["code"],
        "ledger_unavailable",
        "{}",
        refused.text()
    );
    let next = ask("later");
    assert_eq!(
        (next.status, next.json()["error"]["code"].as_str()),
        (503, Some("ledger_unavailable"))
    );
    assert_eq!(gateway.client.get("/readyz").status, 503);
    assert_eq!(
        gateway.client.get("/health").status,
        200,
        "it lives, and can be asked why"
    );

    gate.open();
    let reply = read_reply(&mut running);
    assert!(
        reply.whole && reply.text().ends_with("data: [DONE]\n\n"),
        "{}",
        reply.text()
    );
    gateway.kill();

    // With room again: what was acknowledged is there, and the hold that could not be settled on disk is recovered.
    let again = home.serve();
    let entries = home.export();
    for entry in &acknowledged {
        assert!(entries.contains(entry), "{entry}");
    }
    let running: Vec<_> = entries.iter().filter(|entry| entry["task"] == "running").collect();
    assert_eq!(running.len(), 1, "{entries:#?}");
    assert_eq!(running[0]["outcome"], "recovered");
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]));
    assert_eq!(again.client.request("POST", CHAT, &[], STREAM.as_bytes()).status, 200);
    assert!(home.run(&["verify"]).status.success());
}

#[test]
fn a_thousand_streams_that_are_opened_and_left_all_settle() {
    const STREAMS: usize = 1_000;
    let upstream = Upstream::always(
        Script::stream_head("text/event-stream")
            .chunk(CHUNK)
            .step(Step::AwaitClose),
    );
    let gateway = Gateway::to(&upstream);
    let streams: Vec<TcpStream> = (0..STREAMS)
        .map(|_| gateway.client.send("POST", CHAT, &[], STREAM.as_bytes()))
        .collect();
    for _ in 0..3000 {
        if upstream.seen_count() == STREAMS {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(upstream.seen_count(), STREAMS);
    drop(streams);
    gateway.wait_idle();
    upstream.wait_closed(u32::try_from(STREAMS).unwrap());
    let entries = gateway.entries();
    assert_eq!(entries.len(), STREAMS);
    assert!(
        entries
            .iter()
            .all(|entry| entry.settlement.outcome == Outcome::ClientGone)
    );
    assert_eq!(gateway.launched().gateway().drain.in_flight(), 0);
    let held: i64 = gateway.balances("").iter().map(|row| row.held.usd.nanos()).sum();
    assert_eq!(Usd::from_nanos(held), Usd::ZERO);
}
