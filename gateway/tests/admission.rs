//! A journal's queue that stays full, as where the disk hangs: nobody waits for it for long.

use agentledger_ledger::Permit;

use super::harness::{Gateway, Script, Setup, Upstream};

const ASK: &str = r#"{"model":"gpt-4o","max_tokens":10,"messages":[{"role":"user","content":"x"}]}"#;
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const KEY: (&str, &str) = ("authorization", "Bearer sk-test-0123456789abcdef");

/// All permits of the gateway's queue are somebody else's.
pub fn full(gateway: &Gateway) -> Vec<Permit> {
    let ledger = &gateway.launched().gateway().ledger;
    let mut taken = Vec::new();
    while let Some(permit) = ledger.admit_now() {
        taken.push(permit);
    }
    assert!(!taken.is_empty());
    taken
}

fn gateway(admission_wait: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let limits =
        format!("limits: {{journal_queue_events_max: 256, drain_ms: 300, admission_wait_ms: {admission_wait}}}");
    let gateway = Setup::new(&upstream).with(&limits).start();
    (upstream, gateway)
}

#[test]
fn a_queue_that_stays_full_refuses_in_time_and_says_when_to_try_again() {
    let (upstream, gateway) = gateway("200ms");
    let taken = full(&gateway);
    let refused = gateway.client.post("/v1/chat/completions", ASK);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["error"]["code"], "ledger_busy");
    assert!(upstream.seen().is_empty(), "nothing was sent that is not held");
    drop(taken);
    assert_eq!(gateway.client.post("/v1/chat/completions", ASK).status, 200);
}

#[test]
fn a_client_that_leaves_waits_for_no_permit() {
    let (upstream, gateway) = gateway("1m");
    let taken = full(&gateway);
    let waiting = gateway
        .client
        .send("POST", "/v1/chat/completions", &[KEY], ASK.as_bytes());
    waiting.shutdown(std::net::Shutdown::Both).unwrap();
    drop(waiting);
    gateway.wait_in_flight();
    assert!(upstream.seen().is_empty());
    drop(taken);
    assert_eq!(gateway.client.post("/v1/chat/completions", ASK).status, 200);
}

#[test]
fn a_gateway_that_goes_down_keeps_nobody_who_waits_for_a_permit() {
    let (_upstream, gateway) = gateway("1m");
    let taken = full(&gateway);
    let mut waiting = gateway
        .client
        .send("POST", "/v1/chat/completions", &[KEY], ASK.as_bytes());
    let client = std::thread::spawn(move || super::harness::client::read_reply(&mut waiting));
    // It has come as far as the queue.
    while gateway.launched().gateway().drain.in_flight() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    gateway.stop();
    let refused = client.join().unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "shutting_down");
    drop(taken);
}
