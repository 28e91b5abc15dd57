//! How things stand now: what is left of limits and when it runs out, what runs, who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use agentledger_ledger::{Clock, ManualClock};
use serde_json::{Value, json};

use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::rpc::rpc;

const ADMIN: &str = "admin-token-0123456789";
const ALPHA: &str = "alpha-token-0123456789";
const CONTROL: &str = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-alpha-*', tenant_id: alpha}, \
    {api_key_pattern: 'sk-bravo-*', tenant_id: bravo}]}\n\
    control: {tokens: [{name: root, token: admin-token-0123456789, role: admin, expires: 2027-01-31}, \
    {name: of-alpha, token: alpha-token-0123456789, role: operate, tenant: alpha}]}";
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;
/// 2026-10-05T12:00:00Z.
const NOON_MS: i64 = 1_791_201_600_000;
const HOUR_MS: i64 = 3_600_000;

fn upstream() -> Upstream {
    Upstream::always(Script::json(200, ANSWER))
}

/// A call of 0.000125 dollars.
fn chat(gateway: &Gateway, tenant: &str, agent: &str) {
    let key = format!("Bearer sk-{tenant}-0123456789abcdef");
    let session = format!("{agent}-session");
    let headers = [
        ("authorization", key.as_str()),
        ("x-agent-id", agent),
        ("x-agent-session", &session),
    ];
    let body = r#"{"model":"gpt-4o","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
    let reply = gateway
        .client
        .request("POST", "/v1/chat/completions", &headers, body.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn result(gateway: &Gateway, method: &str, params: &Value) -> Value {
    let answer = rpc(gateway, ADMIN, method, params);
    assert!(answer["error"].is_null(), "{method}: {answer}");
    answer["result"].clone()
}

/// The limit in dollars of an account's month.
fn limit_of(gateway: &Gateway, account: &str) -> Value {
    let status = result(
        gateway,
        "budget.status",
        &json!({"account": account, "window": "month"}),
    );
    status["budgets"][0]["limits"][0].clone()
}

/// A call each noon from the 5th to the 11th of October; then it is half past one.
fn a_week(upstream: &Upstream) -> (Gateway, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOON_MS));
    let gateway = Setup::new(upstream)
        .with(CONTROL)
        .with("budgets: {global: {monthly_limit_usd: 0.0025, soft_limit_pct: 0.5, action: block}}")
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .start();
    for day in 0..7 {
        clock.set_ms(NOON_MS + day * 24 * HOUR_MS);
        chat(&gateway, "alpha", "coder");
    }
    clock.advance_ms(HOUR_MS + HOUR_MS / 2);
    (gateway, clock)
}

#[test]
fn a_limit_says_what_is_left_where_it_goes_and_when_it_runs_out() {
    let upstream = upstream();
    let (gateway, _clock) = a_week(&upstream);
    // Seven are spent, and of the 20 noons that are ahead each costs as much.
    assert_eq!(
        limit_of(&gateway, "global"),
        json!({"unit": "usd", "limit": "0.0025", "mode": "hard", "left": "0.001625", "soft": [0.5], "forecast": "0.003375",
            "forecast_low": "0.003375", "forecast_high": "0.003375", "runs_out_at": "2026-10-24T13:00:00.000Z"})
    );
    let forecast = result(
        &gateway,
        "ledger.forecast",
        &json!({"account": "global", "window": "month"}),
    );
    assert_eq!(
        (&forecast["to"], &forecast["end"]["usd"]),
        (&json!("2026-11-01T00:00:00.000Z"), &json!("0.003375"))
    );
    let ahead = forecast["ahead"].as_array().unwrap();
    assert_eq!(
        (ahead.len(), &ahead[0]["at"], &ahead[0]["usd"]),
        (21, &json!("2026-10-12T00:00:00.000Z"), &json!("0.000875"))
    );
    assert_eq!((&ahead[1]["usd"], &ahead[20]), (&json!("0.001"), &forecast["end"]));
    for (params, code) in [
        (json!({"account": "agent:nobody"}), "not_found"),
        (json!({"account": "global", "window": "total"}), "not_found"),
        (json!({"account": "global", "window": "year"}), "invalid_params"),
        (json!({}), "does_not_fit"),
    ] {
        let refused = rpc(&gateway, ADMIN, "ledger.forecast", &params);
        assert_eq!(refused["error"]["data"]["code"], code, "{refused}");
    }
    let refused = rpc(&gateway, ALPHA, "ledger.forecast", &json!({"account": "global"}));
    assert_eq!(refused["error"]["data"]["code"], "other_tenant");
    let own = rpc(&gateway, ALPHA, "ledger.forecast", &json!({"account": "tenant:alpha"}));
    assert_eq!(own["result"]["end"]["usd"], "0.003375", "{own}");
}

#[test]
fn a_trial_of_a_change_says_how_its_limit_would_stand() {
    let upstream = upstream();
    let (gateway, _clock) = a_week(&upstream);
    let set = json!({"account": "global", "window": "month", "limit": "0.000625", "soft": [0.9], "dry_run": true});
    let after = result(&gateway, "budget.set", &set)["after"].clone();
    assert_eq!(
        (&after["limit"], &after["left"], &after["over"], &after["soft"]),
        (&json!("0.000625"), &json!("0"), &json!("0.00025"), &json!([0.9])),
        "{after}"
    );
    // The fifth of them was the one of the 9th.
    assert_eq!(after["used_up_since"], "2026-10-09T13:00:00.000Z");
    assert!(after["runs_out_at"].is_null());
    let new = json!({"account": "agent:fresh", "window": "day", "limit": "2", "dry_run": true});
    let after = result(&gateway, "budget.set", &new)["after"].clone();
    assert_eq!(
        after,
        json!({"unit": "usd", "limit": "2", "mode": "hard", "left": "2", "soft": []})
    );
    let kinds = json!({"account": "agent", "window": "day", "limit": "2", "dry_run": true});
    assert!(result(&gateway, "budget.set", &kinds)["after"].is_null());

    let mut top_up =
        json!({"account": "global", "window": "month", "amount": "0.001", "until": "2026-10-20", "dry_run": true});
    let after = result(&gateway, "budget.top_up", &top_up)["after"].clone();
    assert_eq!(
        (
            &after["limit"],
            &after["left"],
            &after["topped_up"],
            &after["topped_up_until"]
        ),
        (
            &json!("0.0035"),
            &json!("0.002625"),
            &json!("0.001"),
            &json!("2026-10-20T00:00:00.000Z")
        ),
        "{after}"
    );
    assert_eq!(limit_of(&gateway, "global")["limit"], "0.0025", "it was a trial");
    top_up["dry_run"] = json!(false);
    assert!(result(&gateway, "budget.top_up", &top_up)["after"].is_null());
    chat(&gateway, "alpha", "coder");
    let limit = limit_of(&gateway, "global");
    assert_eq!(
        (
            &limit["limit"],
            &limit["left"],
            &limit["topped_up"],
            &limit["topped_up_until"]
        ),
        (
            &json!("0.0035"),
            &json!("0.0025"),
            &json!("0.001"),
            &json!("2026-10-20T00:00:00.000Z")
        ),
        "{limit}"
    );
}

#[test]
fn what_somebody_should_look_at_first_comes_first() {
    let limits = "{limits: [{account: agent, window: day, limit: 1, action: block}]}";
    let gateway = Setup::new(&upstream()).with(CONTROL).conf("budget", limits).start();
    for agent in ["idle", "busy", "busy", "aside"] {
        chat(&gateway, "alpha", agent);
    }
    let asked = json!({"account": "agent:", "order": "urgency", "limit": 2});
    let status = result(&gateway, "budget.status", &asked);
    let accounts: Vec<&Value> = status["budgets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["account"])
        .collect();
    assert_eq!(accounts, ["agent:busy", "agent:aside"]);
    assert!(status["next"].is_null());
    for row in status["budgets"].as_array().unwrap() {
        let usd = |value: &Value| {
            value
                .as_str()
                .unwrap()
                .parse::<agentledger_ledger::Usd>()
                .unwrap()
                .nanos()
        };
        let sum = usd(&row["spent_usd"]) + usd(&row["held_usd"]) + usd(&row["limits"][0]["left"]);
        assert_eq!(sum, usd(&row["limits"][0]["limit"]), "{row}");
        assert!(row["limits"][0]["forecast"].is_null(), "too little is known");
    }
    let refused = rpc(&gateway, ADMIN, "budget.status", &json!({"order": "size"}));
    assert_eq!(refused["error"]["data"]["code"], "invalid_params");
}

#[test]
fn a_running_call_says_how_far_it_is() {
    let said = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(AtomicBool::new(false));
    let (gate, head) = (Arc::clone(&said), Arc::clone(&begun));
    let text = "word ".repeat(200);
    let event = format!(
        "data: {}\n\n",
        json!({"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": text}}]})
    );
    let upstream = Upstream::playing(move |_| {
        let last = concat!(
            r#"data: {"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":200}}"#,
            "\n\ndata: [DONE]\n\n"
        );
        let script = Script::default().step(Step::When(Arc::clone(&head)));
        let mut script = script;
        script.steps.extend(Script::stream_head("text/event-stream").steps);
        script
            .chunk(event.as_bytes())
            .step(Step::When(Arc::clone(&gate)))
            .chunk(last.as_bytes())
            .end()
    });
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
    thread::scope(|scope| {
        let call = scope.spawn(|| gateway.client.post("/v1/chat/completions", body).status);
        let wait = |state: &str| {
            for _ in 0..3_000 {
                let hold = result(&gateway, "hold.list", &json!({}))["holds"][0].clone();
                if hold["state"] == state {
                    return hold;
                }
                thread::sleep(Duration::from_millis(10));
            }
            panic!("no call {state}");
        };
        let hold = wait("waits");
        assert!(hold["spent_usd"].is_null() && hold["output_tokens"].is_null(), "{hold}");
        begun.store(true, Ordering::SeqCst);
        let hold = wait("streams");
        let usd = |name: &str| hold[name].as_str().unwrap().parse::<agentledger_ledger::Usd>().unwrap();
        assert!(
            usd("spent_usd") <= usd("held_usd") && !usd("spent_usd").is_zero(),
            "{hold}"
        );
        assert!(hold["output_tokens"].as_u64().unwrap() > 50, "{hold}");
        said.store(true, Ordering::SeqCst);
        assert_eq!(call.join().unwrap(), 200);
    });
    gateway.wait_idle();
    assert_eq!(result(&gateway, "hold.list", &json!({}))["holds"], json!([]));
}

#[test]
fn a_token_is_told_who_it_is_and_counts_what_is_its_own() {
    let gateway = Setup::new(&upstream()).with(CONTROL).start();
    for (tenant, agent) in [("alpha", "one"), ("bravo", "two"), ("bravo", "three")] {
        chat(&gateway, tenant, agent);
    }
    assert_eq!(
        result(&gateway, "system.whoami", &json!({})),
        json!({"name": "root", "role": "admin", "tenant": null, "expires": "2027-01-31T00:00:00.000Z"})
    );
    assert_eq!(
        rpc(&gateway, ALPHA, "system.whoami", &json!({}))["result"],
        json!({"name": "of-alpha", "role": "operate", "tenant": "alpha", "expires": null})
    );
    for (token, sessions) in [(ADMIN, 3), (ALPHA, 1)] {
        let status = rpc(&gateway, token, "system.status", &json!({}))["result"].clone();
        assert_eq!(
            (&status["sessions_active"], &status["alerts_open"]),
            (&json!(sessions), &json!(0)),
            "{status}"
        );
    }
    for method in ["system.backups", "mcp.servers", "plugin.list"] {
        let refused = rpc(&gateway, ALPHA, method, &json!({}));
        assert_eq!(refused["error"]["data"]["code"], "other_tenant", "{method}");
    }
    let backups = result(&gateway, "system.backups", &json!({}));
    assert_eq!((&backups["every"], &backups["backups"]), (&Value::Null, &json!([])));
    let drift = result(&gateway, "price.drift", &json!({}));
    assert_eq!(
        drift,
        json!({"at": null, "compared": 0, "differences": [], "error": ""})
    );
    let plugins = result(&gateway, "plugin.list", &json!({}));
    let openai = plugins["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .find(|plugin| plugin["name"] == "openai");
    assert_eq!(
        (&openai.unwrap()["calls"], &openai.unwrap()["failures"]),
        (&json!(3), &json!(0))
    );
}

#[test]
fn the_fullest_rates_come_first_and_a_tenants_token_is_shown_its_own() {
    let limits = "{limits: [{account: agent, requests_per_day: 10}, {account: tenant, tokens_per_day: 100000, requests_per_hour: 4}]}";
    let gateway = Setup::new(&upstream()).with(CONTROL).conf("rate_limit", limits).start();
    for (tenant, agent) in [("alpha", "one"), ("bravo", "two"), ("bravo", "two")] {
        chat(&gateway, tenant, agent);
    }
    let rows = |token: &str| -> Vec<String> {
        let status = rpc(&gateway, token, "rate.status", &json!({}))["result"].clone();
        let row = |row: &Value| {
            format!("{} {} {} of {}", row["account"], row["rate"], row["used"], row["limit"]).replace('"', "")
        };
        status["rates"].as_array().unwrap().iter().map(row).collect()
    };
    let all = rows(ADMIN);
    assert_eq!(
        all[..4],
        [
            "tenant:bravo requests_per_hour 2 of 4",
            "tenant:alpha requests_per_hour 1 of 4",
            "agent:two requests_per_day 2 of 10",
            "agent:one requests_per_day 1 of 10"
        ],
        "{all:?}"
    );
    let own = rows(ALPHA);
    assert_eq!(own[0], "tenant:alpha requests_per_hour 1 of 4");
    assert!(
        own.len() == 2 && own.iter().all(|row| row.starts_with("tenant:alpha ")),
        "{own:?}"
    );
}

#[test]
fn what_was_imported_is_spent_and_no_overage() {
    let gateway = Setup::new(&upstream()).with(CONTROL).start();
    chat(&gateway, "alpha", "coder");
    let now = agentledger_ledger::rfc3339_ms(agentledger_ledger::SystemClock::default().now_ms() - 1_000);
    let row = json!({"place": 1, "id": "01J8Z0000000000000000000AB", "at": now, "provider": "openai", "operation": "chat",
        "model": "gpt-4o", "usage": {"input": 120}, "cost_usd": "3"});
    result(
        &gateway,
        "ledger.import",
        &json!({"source": "elsewhere", "rows": row.to_string()}),
    );
    let summary = result(&gateway, "ledger.summary", &json!({"by": "provider"}));
    assert_eq!(
        (&summary["rows"][0]["cost_usd"], &summary["rows"][0]["overage_usd"]),
        (&json!("3.000125"), &json!("0"))
    );
    let status = result(&gateway, "budget.status", &json!({"account": "global"}));
    for row in status["budgets"].as_array().unwrap() {
        assert_eq!(
            (&row["spent_usd"], &row["overage_usd"]),
            (&json!("3.000125"), &json!("0")),
            "{row}"
        );
    }
}
