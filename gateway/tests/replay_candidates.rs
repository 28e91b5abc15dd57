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
    assert_eq!(
        ["crawler", "coder", "coder"].map(|agent| call_as(gateway.client, agent)),
        [403, 200, 200]
    );

    let json = |args: &[&str]| -> Value {
        let all = [&["policy"], args, &["--last", "1h", "--json"]].concat();
        serde_json::from_str(&home.print(&all)).unwrap()
    };
    let named = |hash: &str| format!("house@{}", &hash[..10]);
    let compare = || {
        // 1,000 tokens of output at $10 a million each; the one that was refused would have cost what it was sized as.
        let tried = json(&["replay", &named(&second)]);
        let totals = &tried["simulated"]["totals"];
        assert_eq!(
            (&totals["denied"], &totals["cost_usd"], &totals["newly_allowed"]),
            (&json!(2), &json!("0.02"), &json!(1)),
            "{tried:#}"
        );
        let present = json(&["replay", "house"]);
        assert_eq!(present["simulated"]["totals"]["denied"], json!(0), "{present:#}");
        let differ = json(&["diff", &named(&first), &named(&second)]);
        assert_eq!(
            (&differ["diff"]["same"], &differ["diff"]["different"]),
            (&json!(0), &json!(3))
        );
        let same = json(&["diff", "house", &named(&first)]);
        assert_eq!(same["diff"]["different"], json!(0), "{same:#}");
        for (unknown, said) in [
            ("house@ffff", "no version of \"house\" begins with"),
            ("mouse", "there is no policy \"mouse\""),
        ] {
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
    let by_eve = || {
        ask(
            &gateway,
            "sk-fails-0123456789",
            &[("X-Agent-User", "eve")],
            &chat("gpt-4o", 10, false),
        )
    };
    assert_eq!(by_eve().status, 200);
    gateway.wait_idle();
    let refused = by_eve();
    assert_eq!(refused.status, 503);
    let id = refused.json()["error"]["exchange"].clone();
    let explained = rpc(&gateway, "policy.explain", &json!({ "id": id }));
    assert_eq!(explained["outcome"], json!("denied: policy_failed"));
    assert_eq!(
        explained["decided"],
        json!(["fails failed (error), and gave no verdict"])
    );
    let row = explained["policies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["policy"] == "fails@3")
        .unwrap();
    assert!(row["requested"][0].as_str().unwrap().contains("no such team"), "{row}");
    let denials = rpc(&gateway, "denial.list", &json!({"last": "1h"}));
    assert_eq!(denials["denials"][0]["code"], json!("policy_failed"), "{denials:#}");

    let exact = replayed(&gateway, &all_time(json!({"mode": "exact"})));
    assert_eq!(
        (&exact["exact"]["equal"], &exact["exact"]["different"]),
        (&json!(2), &json!(0)),
        "{exact:#}"
    );
    let mended = fails.replace("error(\"no such team\")", "return");
    let candidate = json!({"name": "mended", "policies": [{"name": "fails", "text": mended}]});
    let exact = replayed(&gateway, &all_time(json!({"mode": "exact", "candidate": candidate})));
    let different = &exact["exact"]["differences"][0];
    assert_eq!(
        (&different["what"], &different["recorded"]),
        (&json!("policy"), &json!("policy fails failed"))
    );
    let tried = replayed(
        &gateway,
        &all_time(json!({"mode": "simulated", "candidate": candidate})),
    );
    assert_eq!(tried["simulated"]["totals"]["newly_allowed"], json!(1), "{tried:#}");
}

#[test]
fn a_replay_is_cancelled_with_what_it_has_and_goes_over_the_turn_of_a_month() {
    // 2026-11-30T23:59:50Z: ten calls before the month turns, ten after.
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(1_796_083_190_000)));
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .conf(
            "budget",
            r#"{rules: [{api_key_pattern: "sk-*", monthly_limit_usd: "0.055", action: block}]}"#,
        )
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
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        10,
        "{statuses:?}"
    );
    let exact = replayed(&gateway, &all_time(json!({"mode": "exact"})));
    assert_eq!(
        (&exact["exact"]["equal"], &exact["exact"]["different"]),
        (&json!(20), &json!(0)),
        "{exact:#}"
    );
    let halved = json!({"name": "half", "confs": {"budget":
        {"rules": [{"api_key_pattern": "sk-*", "monthly_limit_usd": "0.025", "action": "block"}]}}});
    let tried = replayed(&gateway, &all_time(json!({"mode": "simulated", "candidate": halved})));
    let totals = &tried["simulated"]["totals"];
    assert_eq!(
        (&totals["denied"], &totals["saved_usd"]),
        (&json!(6), &json!("0.06")),
        "{tried:#}"
    );

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

/// Every user's calls go to the cheap model.
const CHEAPER: &str = r#"return { name = "cheaper", version = "1", priority = 40,
    request = function(_, call)
        if call.user == "bob" then return route({ alternatives = { "gpt-4o-mini" } }) end
    end }"#;

#[test]
fn what_a_route_saves_and_what_its_end_costs_is_exact() {
    let upstream = Upstream::playing(|seen| {
        let model = seen.json()["model"].as_str().unwrap().to_owned();
        let usage = r#"{"prompt_tokens":0,"completion_tokens":1000,"total_tokens":1000}"#;
        Script::json(
            200,
            &format!(r#"{{"id":"c","model":"{model}","choices":[],"usage":{usage}}}"#),
        )
    });
    let gateway = Setup::new(&upstream).with(CONTROL).policy("cheaper", CHEAPER).start();
    let by = |user: &str| {
        let reply = ask(
            &gateway,
            "sk-route-0123456789",
            &[("X-Agent-User", user)],
            &chat("gpt-4o", 1_000, false),
        );
        assert_eq!(reply.status, 200);
        gateway.wait_idle();
    };
    by("bob");
    by("ann");
    // 1,000 tokens of output cost $0.01 of gpt-4o and $0.0006 of gpt-4o-mini.
    let tried = |text: Option<String>| {
        let policies = text.map_or(json!([]), |text| json!([{"name": "cheaper", "text": text}]));
        let candidate = json!({"name": "tried", "policies": policies});
        replayed(
            &gateway,
            &all_time(json!({"mode": "simulated", "candidate": candidate})),
        )["simulated"]["totals"]
            .clone()
    };
    let present = tried(None);
    assert_eq!(
        (&present["cost_usd"], &present["saved_usd"], &present["routed"]),
        (&json!("0.0106"), &json!("0"), &json!(1))
    );
    let ended = tried(Some(CHEAPER.replace("\"bob\"", "\"nobody\"")));
    assert_eq!((&ended["saved_usd"], &ended["routed"]), (&json!("-0.0094"), &json!(0)));
    let for_all = tried(Some(CHEAPER.replace("call.user == \"bob\"", "true")));
    assert_eq!(
        (&for_all["saved_usd"], &for_all["routed"]),
        (&json!("0.0094"), &json!(2))
    );
}

#[test]
fn what_one_of_two_candidates_cannot_decide_is_left_out_and_named() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    assert_eq!(
        ask(&gateway, "sk-acme-0123456789", &[], &chat("gpt-4o", 10, false)).status,
        200
    );
    gateway.wait_idle();
    let unknown =
        json!({"budget": {"rules": [{"api_key_pattern": "sk-a??e*", "daily_limit_usd": "1", "action": "block"}]}});
    let result = replayed(
        &gateway,
        &all_time(json!({"mode": "diff", "candidate": {"name": "now"}, "against": {"name": "then", "confs": unknown}})),
    );
    assert_eq!(
        (&result["diff"]["same"], &result["diff"]["different"]),
        (&json!(0), &json!(0)),
        "{result:#}"
    );
    let why = result["undecidable"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("B: ") && why.contains("sk-a??e*"), "{why}");
}

#[test]
fn trying_something_else_takes_an_operator_and_cannot_hold_the_gateway_up() {
    let upstream = upstream();
    let tokens = "
control:
  tokens:
    - {name: ops, role: admin, token: ops-token-0123456789}
    - {name: eyes, role: read, token: eyes-token-0123456789}
";
    let gateway = Setup::new(&upstream).with(tokens).start();
    for _ in 0..5 {
        ask(&gateway, "sk-slow-0123456789", &[], &chat("gpt-4o", 10, false));
    }
    gateway.wait_idle();
    let call = |token: &str, params: &Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "policy.replay", "params": params}).to_string();
        let headers = [("authorization", token)];
        gateway.client.request("POST", "/rpc", &headers, body.as_bytes()).json()
    };
    let loops = |body: &str| {
        let text = format!("return {{ name = \"slow\", version = \"1\", {body} }}");
        all_time(json!({"candidate": {"name": "slow", "policies": [{"name": "slow", "text": text}]}}))
    };
    let reader = call("Bearer eyes-token-0123456789", &loops("request = function() end"));
    assert!(
        reader["error"]["message"].as_str().unwrap().contains("may not"),
        "{reader}"
    );
    let exact = call("Bearer eyes-token-0123456789", &all_time(json!({"mode": "exact"})));
    assert!(
        exact["result"]["job"].is_string(),
        "what is in force is no secret: {exact}"
    );
    let job = json!({"job": exact["result"]["job"]});
    while rpc(&gateway, "policy.replay", &job)["state"] == "running" {
        std::thread::sleep(Duration::from_millis(10));
    }

    let at_load = call(
        "Bearer ops-token-0123456789",
        &loops("request = (function() while true do end end)()"),
    );
    assert!(at_load["error"].to_string().contains("does not load"), "{at_load}");
    let result = replayed(
        &gateway,
        &loops("request = function(_, call) if call.agent ~= \"probe\" then while true do end end end"),
    );
    let stopped = result["stopped"]["reason"].as_str().unwrap();
    assert!(stopped.contains("3 calls ran too long"), "{result:#}");
}

/// A version in shadow, one that was put in force in shadow, a conf of a policy that only the store has, models named second, a
/// restart in between: what was decided comes out as it is recorded, and each model's answer is explained.
#[test]
fn an_exact_replay_holds_with_versions_in_shadow_further_models_and_a_restart() {
    let upstream = upstream();
    let setup = || Setup::new(&upstream).with(CONTROL);
    let gateway = setup().start();
    let put = |gateway: &crate::harness::Gateway, text: String| {
        let put = rpc(gateway, "policy.put", &json!({ "text": text }));
        put["version"].as_str().unwrap().to_owned()
    };
    let calls = |gateway: &crate::harness::Gateway| {
        for agent in ["crawler", "coder", "writer"] {
            let body = json!({"model": "gpt-4o", "models": ["gpt-4o-mini"], "max_tokens": 10,
                "messages": [{"role": "user", "content": "hi"}]});
            ask(gateway, "sk-shadow-0123456789", &[("X-Agent-Id", agent)], &body);
            gateway.wait_idle();
        }
    };
    let first = put(&gateway, denying("1", "crawler"));
    rpc(
        &gateway,
        "policy.activate",
        &json!({"policy": "house", "version": first}),
    );
    calls(&gateway);
    // Beside it one that would deny others.
    let second = put(&gateway, denying("2", "coder"));
    rpc(
        &gateway,
        "policy.shadow",
        &json!({"policy": "house", "version": second}),
    );
    calls(&gateway);
    // In force, and enforcing nothing.
    rpc(
        &gateway,
        "policy.activate",
        &json!({"policy": "house", "version": second, "mode": "shadow"}),
    );
    calls(&gateway);
    let dir = gateway.stop();
    let gateway = setup().conf("house", "{}").in_dir(&dir).start();
    calls(&gateway);
    let exact = replayed(&gateway, &all_time(json!({"mode": "exact"})));
    assert_eq!(
        (
            &exact["exact"]["equal"],
            &exact["exact"]["different"],
            &exact["undecidable"]
        ),
        (&json!(12), &json!(0), &json!([])),
        "{exact:#}"
    );
    // What enforces nothing enforces nothing in a simulation either.
    let present = replayed(&gateway, &all_time(json!({"mode": "simulated"})));
    assert_eq!(present["simulated"]["totals"]["denied"], json!(0), "{present:#}");

    let reply = ask(
        &gateway,
        "sk-shadow-0123456789",
        &[("X-Agent-Id", "coder")],
        &json!({"model": "gpt-4o", "models": ["gpt-4o-mini"], "max_tokens": 10, "messages": []}),
    );
    let explained = rpc(
        &gateway,
        "policy.explain",
        &json!({"id": reply.header("X-AgentLedger-Exchange").unwrap()}),
    );
    let asked: Vec<&str> = explained["policies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["policy"] == "house@2")
        .map(|row| row["model"].as_str().unwrap())
        .collect();
    assert_eq!(asked, ["gpt-4o", "gpt-4o-mini"], "{explained:#}");
}
