//! Calls that somebody looks through, and sums of those that bear some names: never another sum than that of the entries.

use std::collections::BTreeMap;

use agentledger_ledger::Usd;
use serde_json::{Value, json};

use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::rpc::rpc;

const ADMIN: &str = "admin-token-0123456789";
const ALPHA: &str = "alpha-token-0123456789";
const CONTROL: &str = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-alpha-*', tenant_id: alpha}, \
    {api_key_pattern: 'sk-bravo-*', tenant_id: bravo}]}\n\
    control: {tokens: [{name: root, token: admin-token-0123456789, role: admin}, \
    {name: of-alpha, token: alpha-token-0123456789, role: read, tenant: alpha}]}";
const KINDS: [&str; 7] = ["provider", "model", "key", "agent", "session", "user", "task"];

/// Bills what the request's limit says, and fails where it is 13.
fn upstream() -> Upstream {
    Upstream::playing(|seen| {
        let asked = seen.json();
        let tokens = asked["max_tokens"].as_u64().unwrap();
        if tokens == 13 {
            return Script::json(500, r#"{"error":{"message":"no"}}"#);
        }
        let usage = json!({"prompt_tokens": tokens * 3, "completion_tokens": tokens});
        let answer = json!({"id": "c", "model": asked["model"], "choices": [], "usage": usage});
        Script::json(200, &answer.to_string())
    })
}

/// Sixty calls: two tenants, three agents, two models, two teams, every eleventh fails.
fn made() -> Gateway {
    let gateway = Setup::new(&upstream()).with(CONTROL).start();
    for n in 0_u64..60 {
        let tokens = if n % 11 == 7 { 13 } else { 14 + n * 7 % 50 };
        let names = [
            (
                "authorization",
                format!(
                    "Bearer sk-{}-0123456789abcdef",
                    if n % 3 == 0 { "bravo" } else { "alpha" }
                ),
            ),
            ("x-agent-id", format!("agent-{}", n % 4)),
            ("x-agent-session", format!("session-{}", n % 7)),
            ("x-agent-user", format!("user-{}", n % 2)),
            ("x-agent-task", format!("task-{}", n % 5)),
            (
                "x-agent-tags",
                format!("team={}", if n % 5 == 0 { "ml" } else { "web" }),
            ),
        ];
        let headers: Vec<(&str, &str)> = names.iter().map(|(name, value)| (*name, &**value)).collect();
        let model = if n % 2 == 0 { "gpt-4o" } else { "gpt-4o-mini" };
        let body = json!({"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": "x"}]});
        gateway
            .client
            .request("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes());
    }
    gateway.entries_of(60);
    gateway
}

fn ask(gateway: &Gateway, token: &str, method: &str, params: &Value) -> Value {
    let answer = rpc(gateway, token, method, params);
    assert!(answer["error"].is_null(), "{method} {params}: {answer}");
    answer["result"].clone()
}

fn entries(gateway: &Gateway) -> Vec<Value> {
    let all = ask(gateway, ADMIN, "ledger.query", &json!({"limit": 1000}));
    all["entries"].as_array().unwrap().clone()
}

fn usd(value: &Value) -> Usd {
    Usd::parse(value.as_str().unwrap()).unwrap()
}

fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> Usd {
    values.fold(Usd::ZERO, |all, one| all.saturating_add(usd(one)))
}

#[test]
fn sums_of_some_names_are_the_sums_of_their_entries() {
    let gateway = made();
    // A correction, which sums have and entries have not.
    let entry = entries(&gateway)[8].clone();
    let (id, by) = (entry["id"].as_str().unwrap(), "0.5");
    ask(
        &gateway,
        ADMIN,
        "ledger.adjust",
        &json!({"entry": id, "usd": by, "reason": "credit"}),
    );
    let all: Vec<Value> = entries(&gateway)
        .into_iter()
        .map(|mut one| {
            if one["id"] == id {
                let cost = usd(&one["cost_usd"]).saturating_add(Usd::parse(by).unwrap());
                one["cost_usd"] = json!(cost.to_string());
            }
            one
        })
        .collect();
    for filter in KINDS {
        for other in KINDS {
            let wanted = json!({filter: entry[filter], other: entry[other]});
            let fits = |one: &&Value| one[filter] == entry[filter] && one[other] == entry[other];
            let expected = sum(all.iter().filter(fits).map(|one| &one["cost_usd"]));
            for by in ["agent", "model", "tenant", "tag:team", "session"] {
                let mut params = wanted.clone();
                params["by"] = json!(by);
                let found = ask(&gateway, ADMIN, "ledger.summary", &params);
                let rows = found["rows"].as_array().unwrap();
                assert_eq!(usd(&found["total"]["cost_usd"]), expected, "{params}: {found}");
                let count = all.iter().filter(fits).count();
                assert_eq!(found["total"]["requests"], json!(count), "{params}");
                if by != "tag:team" {
                    assert_eq!(sum(rows.iter().map(|row| &row["cost_usd"])), expected, "{params}");
                }
                params["step"] = json!("hour");
                let points = ask(&gateway, ADMIN, "ledger.series", &params)["points"].clone();
                let points = points.as_array().unwrap();
                if by != "tag:team" {
                    assert_eq!(sum(points.iter().map(|point| &point["cost_usd"])), expected, "{params}");
                }
            }
        }
    }
}

#[test]
fn a_summary_by_one_name_of_another_has_each_row() {
    let gateway = made();
    let all = entries(&gateway);
    let mut expected: BTreeMap<String, Usd> = BTreeMap::new();
    for one in all
        .iter()
        .filter(|one| one["agent"] == "agent-1" && one["tenant"] == "alpha")
    {
        let slot = expected.entry(one["model"].as_str().unwrap().to_owned()).or_default();
        *slot = slot.saturating_add(usd(&one["cost_usd"]));
    }
    let params = json!({"by": "model", "agent": "agent-1", "tenant": "alpha"});
    let found = ask(&gateway, ADMIN, "ledger.summary", &params);
    let rows = found["rows"].as_array().unwrap().iter();
    let found: BTreeMap<String, Usd> = rows
        .map(|row| (row["model"].as_str().unwrap().to_owned(), usd(&row["cost_usd"])))
        .collect();
    assert_eq!(found, expected);
}

/// Pages of a few until the end, put together.
fn pages(gateway: &Gateway, token: &str, params: &Value) -> (Vec<Value>, Value) {
    let mut params = params.clone();
    params["limit"] = json!(7);
    let mut all = Vec::new();
    loop {
        let page = ask(gateway, token, "ledger.calls", &params);
        all.extend(page["calls"].as_array().unwrap().clone());
        assert!(all.len() <= 60, "{params}: never the same twice");
        if page["next"].is_null() {
            return (all, page["total"].clone());
        }
        params["cursor"] = page["next"].clone();
    }
}

#[test]
fn calls_come_in_each_order_and_by_what_they_are_page_by_page() {
    let gateway = made();
    let all = entries(&gateway);
    let value = |one: &Value, sort: &str| match sort {
        "cost" => i128::from(usd(&one["cost_usd"]).nanos()),
        "duration" => one["duration_ms"].as_i64().unwrap().into(),
        "tokens" => {
            let kinds = one["usage"].as_object().unwrap().values();
            kinds.map(|units| i128::from(units.as_u64().unwrap())).sum()
        }
        _ => ulid::Ulid::from_string(one["id"].as_str().unwrap())
            .unwrap()
            .timestamp_ms()
            .into(),
    };
    for sort in ["at", "cost", "tokens", "duration"] {
        for order in ["desc", "asc"] {
            for filter in [
                json!({}),
                json!({"agent": "agent-1"}),
                json!({"agent": "agent-1", "model": "gpt-4o-mini"}),
            ] {
                let mut params = filter.clone();
                (params["sort"], params["order"]) = (json!(sort), json!(order));
                let (found, total) = pages(&gateway, ADMIN, &params);
                let fits = |one: &&Value| {
                    filter
                        .as_object()
                        .unwrap()
                        .iter()
                        .all(|(name, value)| one[name] == *value)
                };
                let expected: Vec<&Value> = all.iter().filter(fits).collect();
                assert_eq!(found.len(), expected.len(), "{params}");
                assert_eq!(
                    usd(&total["cost_usd"]),
                    sum(expected.iter().map(|one| &one["cost_usd"])),
                    "{params}"
                );
                let is_sorted = found.windows(2).all(|two| {
                    let (one, next) = (value(&two[0], sort), value(&two[1], sort));
                    if order == "asc" { one <= next } else { one >= next }
                });
                assert!(is_sorted, "{params}");
            }
        }
    }
    let (failed, total) = pages(&gateway, ADMIN, &json!({"is": "error"}));
    assert_eq!((failed.len(), &total["requests"]), (5, &json!(5)));
    assert!(failed.iter().all(|one| one["status"] == 500));
    for (params, why) in [
        (json!({"is": "refused"}), "is"),
        (json!({"sort": "name"}), "sort"),
        (json!({"order": "up"}), "order"),
        (json!({"cursor": "12"}), "cursor"),
        (json!({"tool": "a", "tags": {"tool": "b"}}), "tool"),
    ] {
        let refused = rpc(&gateway, ADMIN, "ledger.calls", &params);
        assert!(refused["error"]["message"].as_str().unwrap().contains(why), "{refused}");
    }
}

#[test]
fn one_tenants_calls_and_pace_are_its_own() {
    let gateway = made();
    let (found, total) = pages(&gateway, ALPHA, &json!({"sort": "cost"}));
    assert_eq!((found.len(), &total["requests"]), (40, &json!(40)));
    assert!(found.iter().all(|one| one["tenant"] == "alpha"));
    let refused = rpc(&gateway, ALPHA, "ledger.calls", &json!({"tenant": "bravo"}));
    assert_eq!(refused["error"]["data"]["code"], "other_tenant");
    let refused = rpc(&gateway, ALPHA, "ledger.pace", &json!({"tenant": "bravo"}));
    assert_eq!(refused["error"]["data"]["code"], "other_tenant");
    let pace = ask(&gateway, ALPHA, "ledger.pace", &json!({}));
    assert_eq!(pace["window_s"], json!(3_600));
}
