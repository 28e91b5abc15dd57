//! What is tried in a replay: versions of the store by their hash, with and without a gateway; policies that failed; a replay that
//! is cancelled; and a journal of two months.

use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Clock, ManualClock};
use serde_json::{Value, json};

use crate::harness::{Client, Installation, Script, Setup, Upstream};
use crate::replay::{CONTROL, all_time, ask, chat, replayed, rpc};

/// Denies calls of an agent.
fn denying(version: &str, agent: &str) -> String {
    format!(
        r#"return {{ name = "house", version = "{version}", priority = 10,
            request = function(_, call)
                if call.agent == "{agent}" then return deny{{ code = "not_here", message = "not here" }} end
            end }}"#
    )
}

fn upstream() -> Upstream {
    let usage = r#"{"prompt_tokens":0,"completion_tokens":1000,"total_tokens":1000}"#;
    let body = format!(r#"{{"id":"c","model":"gpt-4o","choices":[],"usage":{usage}}}"#);
    Upstream::always(Script::json(200, &body))
}

fn call_as(client: Client, agent: &str) -> u16 {
    let headers = [("authorization", "Bearer sk-tried-0123456789"), ("X-Agent-Id", agent)];
    let body = chat("gpt-4o", 1_000, false).to_string();
    client
        .request("POST", "/v1/chat/completions", &headers, body.as_bytes())
        .status
}

#[test]
fn versions_of_the_store_are_tried_by_their_hash_with_and_without_a_gateway() {
    let upstream = upstream();
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    let gateway = home.serve();
    let put = |text: String| {
        let put = home.rpc("policy.put", &json!({ "text": text }));
        put["version"].as_str().unwrap().to_owned()
    };
    let (first, second) = (put(denying("1", "crawler")), put(denying("2", "coder")));
    home.print(&["policy", "activate", &format!("house@{first}")]);
    assert_eq!(["crawler", "coder", "coder"].map(|agent| call_as(gateway.client, agent)), [403, 200, 200]);

    let json = |args: &[&str]| -> Value {
        let all = [&["policy"], args, &["--last", "1h", "--json"]].concat();
        serde_json::from_str(&home.print(&all)).unwrap()
    };
    let named = |hash: &str| format!("house@{}", &hash[..10]);
    let compare = || {
        // 1,000 tokens of output at $10 a million each; the one that was refused has cost nothing.
        let tried = json(&["replay", &named(&second)]);
        let totals = &tried["simulated"]["totals"];
        assert_eq!(
            (&totals["denied"], &totals["saved_usd"], &totals["newly_allowed"]),
            (&json!(2), &json!("0.02"), &json!(1)),
            "{tried:#}"
        );
        let present = json(&["replay", "house"]);
        assert_eq!(present["simulated"]["totals"]["denied"], json!(0), "{present:#}");
        let differ = json(&["diff", &named(&first), &named(&second)]);
        assert_eq!((&differ["diff"]["same"], &differ["diff"]["different"]), (&json!(0), &json!(3)));
        let same = json(&["diff", "house", &named(&first)]);
        assert_eq!(same["diff"]["different"], json!(0), "{same:#}");
        for (unknown, said) in [("house@ffff", "no version of \"house\" begins with"), ("mouse", "there is no policy \"mouse\"")] {
            let refused = home.run(&["policy", "replay", unknown]);
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && text.contains(said), "{unknown}: {text}");
        }
    };
    compare();
    gateway.stop();
    compare();
}

#[test]
fn a_policy_that_failed_is_recorded_explained_and_fails_again() {
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(1_795_341_600_000)));
    let fails = r#"return { name = "fails", version = "3", priority = 40,
        request = function(_, call)
            if call.user == "eve" and spent("key", "day") > 0 then error("no such team") end
        end }"#;
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .policy("fails", fails)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .start();
    let by_eve = || ask(&gateway, "sk-fails-0123456789", &[("X-Agent-User", "eve")], &chat("gpt-4o", 10, false));
    assert_eq!(by_eve().status, 200);
    gateway.wait_idle();
    let refused = by_eve();
    assert_eq!(refused.status, 503);
    let id = refused.json()["error"]["exchange"].clone();
    let explained = rpc(&gateway, "policy.explain", &json!({ "id": id }));
    assert_eq!(explained["outcome"], json!("denied: policy_failed"));
    assert_eq!(explained["decided"], json!(["fails failed (error), and gave no verdict"]));
    let row = explained["policies"].as_array().unwrap().iter().find(|row| row["policy"] == "fails@3").unwrap();
    assert!(row["requested"][0].as_str().unwrap().contains("no such team"), "{row}");
    let denials = rpc(&gateway, "denial.list", &json!({"last": "1h"}));
    assert_eq!(denials["denials"][0]["code"], json!("policy_failed"), "{denials:#}");

    let exact = replayed(&gateway, &all_time(json!({"mode": "exact"})));
    assert_eq!((&exact["exact"]["equal"], &exact["exact"]["different"]), (&json!(2), &json!(0)), "{exact:#}");
    let mended = fails.replace("error(\"no such team\")", "return");
    let candidate = json!({"name": "mended", "policies": [{"name": "fails", "text": mended}]});
    let exact = replayed(&gateway, &all_time(json!({"mode": "exact", "candidate": candidate})));
    let different = &exact["exact"]["differences"][0];
    assert_eq!((&different["what"], &different["recorded"]), (&json!("policy"), &json!("policy fails failed")));
    let tried = replayed(&gateway, &all_time(json!({"mode": "simulated", "candidate": candidate})));
    assert_eq!(tried["simulated"]["totals"]["newly_allowed"], json!(1), "{tried:#}");
}

#[test]
fn a_replay_is_cancelled_with_what_it_has_and_goes_over_the_turn_of_a_month() {
    // 2026-11-30T23:59:50Z: ten calls before the month turns, ten after.
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(1_796_083_190_000)));
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .conf("budget", r#"{rules: [{api_key_pattern: "sk-*", monthly_limit_usd: "0.055", action: block}]}"#)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .start();
    let statuses: Vec<u16> = (0..20)
        .map(|_| {
            clock.advance_ms(1_000);
            let reply = ask(&gateway, "sk-turn-0123456789", &[], &chat("gpt-4o", 1_000, false));
            gateway.wait_idle();
            reply.status
        })
        .collect();
    // Five fit in each month.
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{statuses:?}");
    let exact = replayed(&gateway, &all_time(json!({"mode": "exact"})));
    assert_eq!((&exact["exact"]["equal"], &exact["exact"]["different"]), (&json!(20), &json!(0)), "{exact:#}");
    let halved = json!({"name": "half", "confs": {"budget":
        {"rules": [{"api_key_pattern": "sk-*", "monthly_limit_usd": "0.025", "action": "block"}]}}});
    let tried = replayed(&gateway, &all_time(json!({"mode": "simulated", "candidate": halved})));
    let totals = &tried["simulated"]["totals"];
    assert_eq!((&totals["denied"], &totals["saved_usd"]), (&json!(16), &json!("0.06")), "{tried:#}");

    let begun = rpc(&gateway, "policy.replay", &all_time(json!({"mode": "exact"})));
    let job = begun["job"].clone();
    rpc(&gateway, "policy.replay", &json!({"job": job, "cancel": true}));
    let ended = (0..500).find_map(|_| {
        let state = rpc(&gateway, "policy.replay", &json!({ "job": job }));
        std::thread::sleep(Duration::from_millis(10));
        (state["state"] == "done").then_some(state)
    });
    // It may have come to its end before it was cancelled: it has a result either way, and says which.
    let result = ended.unwrap()["result"].clone();
    let whole = result["stopped"].is_null();
    assert!(whole || result["stopped"]["reason"] == "it was cancelled", "{result:#}");
    assert!(result["events"].as_u64().unwrap() > 0, "{result:#}");
}
