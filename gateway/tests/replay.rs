//! The past's requests decided again: what was recorded of them gives what was decided, and other rules what would have been.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use agentledger::testing::replay::{Mode, Progress, Replayed, Request, replay};
use agentledger_ledger::testing::flip;
use agentledger_ledger::{ManualClock, journal_events};
use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::{Gateway, Script, Setup, Upstream, root};

const CHAT: &str = "/v1/chat/completions";
pub const CONTROL: &str = "
control:
  tokens:
    - {name: ops, role: admin, token: ops-token-0123456789}
";
/// 2026-11-22T10:00:00Z.
const START_MS: i64 = 1_795_341_600_000;

/// 1,000 tokens of output, streamed where the request asks for a stream.
fn upstream() -> Upstream {
    Upstream::playing(|seen| {
        let asked = seen.json();
        let usage = r#"{"prompt_tokens":0,"completion_tokens":1000,"total_tokens":1000}"#;
        if asked["stream"] == json!(true) {
            let last = format!("data: {{\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{usage}}}\n\n");
            return Script::sse(&[last.as_bytes(), b"data: [DONE]\n\n"]);
        }
        Script::json(
            200,
            &format!(r#"{{"id":"c","model":"gpt-4o","choices":[],"usage":{usage}}}"#),
        )
    })
}

pub fn rpc(gateway: &Gateway, method: &str, params: &Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let headers = [("authorization", "Bearer ops-token-0123456789")];
    let answer = gateway.client.request("POST", "/rpc", &headers, body.as_bytes()).json();
    assert_eq!(answer["error"], Value::Null, "{method} {params}");
    answer["result"].clone()
}

/// Begins a replay and waits for its end, boundedly.
pub fn replayed(gateway: &Gateway, params: &Value) -> Value {
    let mut state = rpc(gateway, "policy.replay", params);
    let job = json!({ "job": state["job"] });
    for _ in 0..3_000 {
        if state["state"] != json!("running") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        state = rpc(gateway, "policy.replay", &job);
    }
    assert_eq!(state["state"], json!("done"), "{state}");
    state["result"].clone()
}

pub fn all_time(mut params: Value) -> Value {
    params["from"] = json!("2000-01-01T00:00:00Z");
    params
}

pub fn ask(gateway: &Gateway, key: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let bearer = format!("Bearer {key}");
    let own = [("authorization", bearer.as_str())];
    let all = [&own[..], headers].concat();
    gateway.client.request("POST", CHAT, &all, body.to_string().as_bytes())
}

pub fn chat(model: &str, most: u64, stream: bool) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": most, "stream": stream})
}

/// Rules of each kind: tenants by key, budgets that run out, rates, blocks, clamps.
fn mixed(upstream: &Upstream, clock: &Arc<ManualClock>) -> Gateway {
    Setup::new(upstream)
        .with(CONTROL)
        .with("tenants: {enabled: true, key_mappings: [{api_key_pattern: \"sk-acme-*\", tenant_id: acme}, {api_key_pattern: \"sk-beta-*\", tenant_id: beta}]}")
        .conf("budget", r#"{rules: [{api_key_pattern: "sk-acme-poor*", daily_limit_usd: "0.05", action: block}, {api_key_pattern: "sk-*", daily_limit_usd: "500", action: block}]}"#)
        .with("rate_limits: {rules: [{api_key_pattern: \"sk-beta-fast*\", requests_per_minute: 3}]}")
        .conf("block", r#"{agents: [crawler]}"#)
        .policy("routes", ROUTES)
        .clock(Arc::clone(clock) as Arc<dyn agentledger_ledger::Clock>)
        .start()
}

/// A policy of the folder's own, that reads balances, tags, clamps and routes.
const ROUTES: &str = r#"return {
  name = "routes", version = "1", priority = 40, description = "cheaper near the limit",
  request = function(_, call)
    local asked, used = {}, spent("key", "day")
    if call.tags.team == "ml" then asked[#asked + 1] = clamp({ max_output = 200 }) end
    if call.user == "bob" and used > 0.02 then asked[#asked + 1] = route({ alternatives = { "gpt-4o-mini" } }) end
    if call.user == "eve" then asked[#asked + 1] = tag({ name = "seen", value = "eve" }) end
    return asked
  end,
}"#;

const KEYS: [&str; 5] = [
    "sk-acme-rich-0123456789ab",
    "sk-acme-poor-0123456789ab",
    "sk-beta-fast-0123456789ab",
    "sk-beta-slow-0123456789ab",
    "other-0123456789abcdef",
];
const PEOPLE: [&str; 4] = ["ann", "bob", "eve", ""];

/// One of many calls that differ in all that policies look at.
fn one_of_many(gateway: &Gateway, number: usize) -> u16 {
    let key = KEYS[number % KEYS.len()];
    let person = PEOPLE[number % PEOPLE.len()];
    let session = format!("s-{}", number / 40 % 17);
    let agent = if number.is_multiple_of(29) { "crawler" } else { "coder" };
    let mut headers = vec![("X-Agent-Id", agent), ("X-Agent-Session", session.as_str())];
    if !person.is_empty() {
        headers.push(("X-Agent-User", person));
    }
    if number.is_multiple_of(7) {
        headers.push(("X-Agent-Tags", "team=ml"));
    }
    let body = chat("gpt-4o", 1_000 + (number % 3) as u64, number.is_multiple_of(4));
    ask(gateway, key, &headers, &body).status
}

/// So many calls of each kind, with rules and policies that change in between.
fn run_many(gateway: &Gateway, clock: &ManualClock, count: usize) -> Vec<u16> {
    let mut statuses = Vec::with_capacity(count);
    for number in 0..count {
        // Refusals are recorded one by one where there are few of a kind in a minute.
        clock.advance_ms(2_500);
        if number % 500 == 250 {
            let value = json!({"account": format!("agent:other-{number}"), "limit": 5, "window": "day"});
            rpc(gateway, "budget.set", &value);
        }
        match number * 10 / count {
            3 if number % 100 == 0 => drop(rpc(gateway, "policy.disable", &json!({"policy": "routes"}))),
            6 if number % 100 == 0 => drop(rpc(gateway, "policy.enable", &json!({"policy": "routes"}))),
            _ => {}
        }
        if number == count / 2 {
            let file = gateway.dir.path().join("policies/routes.lua");
            std::fs::write(
                file,
                ROUTES
                    .replace("200", "300")
                    .replace("version = \"1\"", "version = \"2\""),
            )
            .unwrap();
            gateway.launched().reloads().reload_policies().unwrap();
        }
        statuses.push(one_of_many(gateway, number));
    }
    gateway.wait_idle();
    statuses
}

fn count_of(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|found| **found == status).count()
}

#[test]
fn every_decision_of_a_mixed_run_comes_out_as_it_is_recorded() {
    let count = std::env::var("AGENTLEDGER_REPLAY_CALLS").map_or(10_000, |count| count.parse().unwrap());
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(START_MS)));
    let gateway = mixed(&upstream, &clock);
    let statuses = run_many(&gateway, &clock, count);
    assert!(count_of(&statuses, 200) > count / 3, "let through");
    assert!(count_of(&statuses, 403) > 0 && count_of(&statuses, 429) > 0, "refused");
    let result = replayed(&gateway, &all_time(json!({"mode": "exact"})));
    let told = |what: &str| result[what].as_u64().unwrap();
    assert_eq!(
        result["exact"]["different"],
        json!(0),
        "{:#}",
        result["exact"]["differences"]
    );
    assert_eq!(result["undecidable"], json!([]));
    assert_eq!(result.get("stopped"), None);
    assert_eq!(told("decisions") + told("refusals_not_recorded"), count as u64);
    assert_eq!(result["exact"]["equal"].as_u64().unwrap(), told("decisions"));
    assert_eq!(told("refusals_not_recorded"), 0, "all of them are recorded");

    // With what is in force the simulation decides alike where time alone does not make a difference.
    let simulated = replayed(&gateway, &all_time(json!({"mode": "simulated"})));
    assert_eq!(simulated["undecidable"], json!([]), "all patterns were asked about");

    // Another text of one policy is found.
    let text = ROUTES.replace("200", "201");
    let amended = json!({"name": "routes", "policies": [{"name": "routes", "text": text}]});
    let other = replayed(&gateway, &all_time(json!({"mode": "exact", "candidate": amended})));
    assert!(other["exact"]["different"].as_u64().unwrap() > 0);
}

#[test]
fn savings_are_exact_to_the_nano_dollar() {
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(START_MS)));
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .conf("budget", r#"{default: {daily_limit_usd: "100", action: block}}"#)
        .clock(Arc::clone(&clock) as Arc<dyn agentledger_ledger::Clock>)
        .start();
    // Six calls of 1,000 tokens of output at $10 a million: a cent each.
    for _ in 0..6 {
        clock.advance_ms(1_000);
        let reply = ask(
            &gateway,
            "sk-test-0123456789abcdef",
            &[("X-Agent-User", "ann")],
            &chat("gpt-4o", 1_000, false),
        );
        assert_eq!(reply.status, 200);
    }
    gateway.wait_idle();
    let entries = gateway.entries();
    let cost: i64 = entries.iter().map(|entry| entry.settlement.cost.nanos()).sum();
    assert_eq!(cost, 60_000_000, "six cents");
    // With 3.5 cents a day three calls fit: a hold is a cent, and a little for the input.
    let confs = json!({"budget": {"default": {"daily_limit_usd": "0.035", "action": "block"}}});
    let candidate = json!({"name": "three and a half cents", "confs": confs});
    let result = replayed(
        &gateway,
        &all_time(json!({"mode": "simulated", "candidate": candidate})),
    );
    let totals = &result["simulated"]["totals"];
    assert_eq!(
        (totals["calls"].as_u64(), totals["denied"].as_u64()),
        (Some(6), Some(3)),
        "{result:#}"
    );
    assert_eq!(totals["cost_usd"], json!("0.06"));
    assert_eq!(totals["simulated_usd"], json!("0.03"));
    assert_eq!(totals["saved_usd"], json!("0.03"));
    assert_eq!(result["simulated"]["people_hit"], json!(1));
    let users = &result["simulated"]["by"]["user"];
    assert_eq!((&users[0]["name"], &users[0]["denied"]), (&json!("ann"), &json!(3)));
    assert_eq!(result["simulated"]["examples"].as_array().unwrap().len(), 3);

    // A clamp at 250 tokens: a quarter of each answer, at a price of its own.
    let clamp = r#"return { name = "short", version = "1", priority = 50, description = "short answers",
        request = function() return clamp({ max_output = 250 }) end }"#;
    let candidate = json!({"name": "short", "policies": [{"name": "short", "text": clamp}]});
    let result = replayed(
        &gateway,
        &all_time(json!({"mode": "simulated", "candidate": candidate.clone()})),
    );
    let totals = &result["simulated"]["totals"];
    assert_eq!(
        (totals["clamped"].as_u64(), &totals["saved_usd"]),
        (Some(6), &json!("0.045")),
        "{result:#}"
    );

    // Side by side they differ in every call.
    let params = json!({"mode": "diff", "candidate": {"name": "as it is"}, "against": candidate});
    let result = replayed(&gateway, &all_time(params));
    assert_eq!(
        (&result["diff"]["different"], &result["diff"]["same"]),
        (&json!(6), &json!(0))
    );
    assert_eq!(result["diff"]["kinds"][0]["saved_usd"], json!("0.045"));
}

#[test]
fn a_request_is_explained_policy_by_policy() {
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(START_MS)));
    let gateway = mixed(&upstream, &clock);
    let poor = |most| {
        clock.advance_ms(1_000);
        ask(
            &gateway,
            KEYS[1],
            &[("X-Agent-Id", "coder")],
            &chat("gpt-4o", most, false),
        )
    };
    let first = poor(1_000);
    assert_eq!(first.status, 200);
    let id = first.header("X-AgentLedger-Exchange").unwrap().to_owned();
    let explained = rpc(&gateway, "policy.explain", &json!({ "id": id }));
    assert_eq!(
        (&explained["outcome"], &explained["tenant"]),
        (&json!("allowed"), &json!("acme"))
    );
    let policies = explained["policies"].as_array().unwrap();
    let of = |name: &str| {
        policies
            .iter()
            .find(|policy| policy["policy"].as_str().unwrap().starts_with(name))
            .unwrap()
    };
    assert_eq!(
        of("routes")["read"][0].as_str().unwrap().split(" by ").next(),
        Some("$0 spent this day")
    );
    assert!(of("tenant")["requested"][0].as_str().unwrap().contains("acme"));
    assert!(
        of("budget")["requested"][0]
            .as_str()
            .unwrap()
            .starts_with("at most $0.05 a day on key:")
    );
    let limit = &explained["limits"][0];
    assert_eq!(
        (&limit["most"], &limit["spent"], &limit["fits"]),
        (&json!("0.05"), &json!("0"), &json!(true))
    );

    // The limit is used up: the refusal says how it stood.
    let refused = (0..20).map(|_| poor(1_000)).find(|reply| reply.status != 200).unwrap();
    let id = refused.json()["error"]["exchange"].clone();
    assert_eq!(refused.header("X-AgentLedger-Exchange"), id.as_str());
    let explained = rpc(&gateway, "policy.explain", &json!({ "id": id }));
    assert_eq!(explained["outcome"], json!("denied: budget_exceeded"));
    let limit = &explained["limits"][0];
    assert_eq!((&limit["most"], &limit["fits"]), (&json!("0.05"), &json!(false)));
    assert!(
        limit["policy"].as_str().unwrap().starts_with("budget@"),
        "{explained:#}"
    );
    let said = explained["decided"][0].as_str().unwrap();
    assert!(
        said.starts_with("at most $0.05 a day on key:") && said.ends_with("it is used up"),
        "{said}"
    );
}

#[test]
fn what_nobody_recorded_is_named_and_not_guessed() {
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(START_MS)));
    let gateway = mixed(&upstream, &clock);
    for key in KEYS {
        clock.advance_ms(1_000);
        ask(&gateway, key, &[], &chat("gpt-4o", 1_000, false));
    }
    gateway.wait_idle();
    // A pattern that nobody asked about then: which keys match it cannot be known.
    let confs =
        json!({"budget": {"rules": [{"api_key_pattern": "sk-acme-p??r*", "daily_limit_usd": "1", "action": "block"}]}});
    let candidate = json!({"name": "another pattern", "confs": confs});
    let result = replayed(
        &gateway,
        &all_time(json!({"mode": "simulated", "candidate": candidate})),
    );
    let why = result["undecidable"][0]["why"].as_str().unwrap();
    assert!(why.contains("sk-acme-p??r*"), "{result:#}");
    assert_eq!(result["undecidable"][0]["count"], json!(5));
}

/// Replays a journal that no process has open.
fn exact_offline(dir: &Path) -> Replayed {
    let request = Request {
        from_ms: 0,
        to_ms: i64::MAX,
        mode: Mode::Exact(None),
    };
    let mut failed = None;
    let mut replayed = replay(
        request,
        &mut |from_ms, visit| match journal_events(dir, from_ms, visit) {
            Ok(read) => read,
            Err(error) => {
                failed = Some(error.to_string());
                Ok(())
            }
        },
        &Progress::default(),
    );
    if let Some(reason) = failed {
        replayed.stopped.get_or_insert_default().reason = reason;
    }
    replayed
}

#[test]
fn a_damaged_journal_is_replayed_up_to_the_damage_which_is_named() {
    let (upstream, clock) = (upstream(), Arc::new(ManualClock::new(START_MS)));
    let gateway = mixed(&upstream, &clock);
    for number in 0..40 {
        clock.advance_ms(1_000);
        let agent = if number == 20 { "spot-of-damage" } else { "coder" };
        ask(&gateway, KEYS[0], &[("X-Agent-Id", agent)], &chat("gpt-4o", 10, false));
    }
    gateway.wait_idle();
    let dir = gateway.stop();
    let ledger = dir.path().join("ledger");
    let sound = exact_offline(&ledger);
    assert!(sound.is_well(), "{sound:#?}");
    assert_eq!(sound.decisions, 40);
    assert!(flip(&ledger.join("journal"), b"spot-of-damage").unwrap() > 0);
    let damaged = exact_offline(&ledger);
    assert!(!damaged.is_well());
    let stopped = damaged.stopped.unwrap();
    assert!(!stopped.reason.is_empty());
    assert!(damaged.decisions < 40, "nothing after it is believed");
}

#[test]
fn a_journal_from_before_there_were_records_is_undecidable_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let golden = root().join("gateway/ledger/tests/golden/v2.tar.gz");
    let unpacked = Command::new("tar")
        .arg("xzf")
        .arg(&golden)
        .arg("-C")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(unpacked.success());
    let replayed = exact_offline(&dir.path().join("ledger"));
    assert!(replayed.is_well() && replayed.decisions > 0, "{replayed:#?}");
    assert_eq!(replayed.undecidable[0].why, "not recorded");
    assert_eq!(replayed.undecidable[0].count, replayed.decisions);
    assert_eq!(replayed.exact.unwrap().equal, 0);
}
