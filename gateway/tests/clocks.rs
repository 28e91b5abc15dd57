//! A wall clock that jumps, as machines' clocks do: what measures a stretch of time goes on as if nothing had happened.

use std::sync::Arc;

use agentledger_ledger::ManualClock;

use crate::harness::{Gateway, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
const ASKED: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const NOON_MS: i64 = 1_772_366_400_000;
const HOUR_MS: i64 = 3_600_000;

fn at_noon(setup: Setup) -> (Gateway, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOON_MS));
    (setup.clock(clock.clone()).start(), clock)
}

fn statuses<const N: usize>(gateway: &Gateway) -> [u16; N] {
    [0; N].map(|_| gateway.client.post(CHAT, ASKED).status)
}

#[test]
fn a_clock_set_back_an_hour_freezes_no_rate() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let (gateway, clock) = at_noon(Setup::new(&upstream).with("rate_limits: {default: {requests_per_minute: 2}}"));
    assert_eq!(statuses(&gateway), [200, 200, 429]);
    clock.jump_ms(-HOUR_MS);
    clock.advance_ms(60_000);
    assert_eq!(statuses(&gateway), [200, 200, 429]);
}

#[test]
fn a_clock_set_forward_gives_no_rate_a_second_time() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let (gateway, clock) = at_noon(Setup::new(&upstream).with("rate_limits: {default: {requests_per_minute: 2}}"));
    assert_eq!(statuses(&gateway), [200, 200, 429]);
    clock.jump_ms(61_000);
    assert_eq!(statuses(&gateway), [429]);
}

#[test]
fn a_clock_set_back_an_hour_opens_no_breaker_for_longer() {
    let upstream = Upstream::playing(|seen| match seen.header("x-wish") {
        Some(_) => Script::json(200, SMALL),
        None => Script::json(500, "{}"),
    });
    let yaml = "circuit_breaker: {max_failures: 2, timeout_secs: 30}";
    let (gateway, clock) = at_noon(Setup::new(&upstream).with(yaml));
    assert_eq!(statuses(&gateway), [500, 500, 503]);
    clock.jump_ms(-HOUR_MS);
    clock.advance_ms(30_000);
    let probe = gateway
        .client
        .request("POST", CHAT, &[("x-wish", "well")], ASKED.as_bytes());
    assert_eq!(probe.status, 200);
}

#[test]
fn a_clock_set_back_an_hour_silences_no_alert_and_forgets_no_loop() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let yaml = "agent: {loop_threshold: 2, loop_window_mins: 5, loop_action: warn}\nalerts: {cooldown_mins: 5}";
    let (gateway, clock) = at_noon(Setup::new(&upstream).with(yaml));
    let told = || {
        let session = [("X-Agent-Session", "s1")];
        let warned = [(); 2].map(|()| gateway.client.request("POST", CHAT, &session, ASKED.as_bytes()));
        let warned = warned.map(|reply| reply.header("x-agentledger-loop-warning").is_some());
        (warned, gateway.alerts().len())
    };
    assert_eq!(told(), ([false, true], 1));
    clock.jump_ms(-HOUR_MS);
    // Its first steps have left the window, and the cooldown is over.
    clock.advance_ms(301_000);
    assert_eq!(told(), ([false, true], 2));
}
