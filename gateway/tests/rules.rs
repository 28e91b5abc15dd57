//! Rules that operators change while traffic runs, over `/rpc` with a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::{Gateway, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
/// A question that may cost a cent at most (1,000 tokens at 10 USD a million).
const CENT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#;
const KEY: &str = "sk-test-0123456789abcdef";
/// Tokens of an admin, of a reader, and of one tenant's admin.
const CONTROL: &str = "
control:
  tokens:
    - {name: ops, role: admin, token: ops-token-0123456789}
    - {name: looker, role: read, token: looker-token-0123456789}
";

fn upstream() -> Upstream {
    Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":1000,"total_tokens":1000}}"#,
    ))
}

/// The whole answer to a method.
fn answer(gateway: &Gateway, token: &str, method: &str, params: &Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    gateway.client.request("POST", "/rpc", &headers, body.as_bytes()).json()
}

/// The result of a method, as the admin.
fn rpc(gateway: &Gateway, method: &str, params: &Value) -> Value {
    let answer = answer(gateway, "ops-token-0123456789", method, params);
    assert_eq!(answer["error"], Value::Null, "{method} {params}");
    answer["result"].clone()
}

/// The error's word, path and message, as the admin.
fn refused(gateway: &Gateway, method: &str, params: &Value) -> (String, String, String) {
    let answer = answer(gateway, "ops-token-0123456789", method, params);
    let error = &answer["error"];
    assert!(error.is_object(), "{method} {params}: {answer}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&error["data"]["code"]),
        text(&error["data"]["path"]),
        text(&error["message"]),
    )
}

fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
    let bearer = format!("Bearer {KEY}");
    let own = [("authorization", bearer.as_str())];
    gateway
        .client
        .request("POST", CHAT, &[&own[..], headers].concat(), CENT.as_bytes())
}

/// Status, and the refusal's code.
fn outcome(reply: &Reply) -> String {
    match reply.status {
        200 => "200".to_owned(),
        status => format!("{status} {}", reply.json()["error"]["code"].as_str().unwrap_or("-")),
    }
}

/// A kind of rule, and how the next request shows that it is obeyed.
struct Kind {
    name: &'static str,
    /// What the file says beside it.
    yaml: &'static str,
    list: &'static str,
    value: Value,
    /// Headers of the request that shows it.
    headers: &'static [(&'static str, &'static str)],
    /// How many requests it takes; the last one's outcome counts.
    requests: usize,
    /// Without the rule, and with it.
    outcomes: [&'static str; 2],
}

fn kind(name: &'static str, list: &'static str, value: Value, with: &'static str) -> Kind {
    Kind {
        name,
        yaml: "",
        list,
        value,
        headers: &[
            ("X-Agent-Id", "coder"),
            ("X-Agent-User", "ann"),
            ("X-Agent-Session", "s1"),
        ],
        requests: 1,
        outcomes: ["200", with],
    }
}

fn kinds() -> Vec<Kind> {
    let spent = "429 budget_exceeded";
    let tenants = "tenants: {enabled: true, key_mappings: [{api_key_pattern: \"sk-test-*\", tenant_id: acme}]}\n";
    vec![
        kind(
            "budget.rules",
            "budget.rules",
            json!({"api_key_pattern": "sk-test-*", "daily_limit_usd": "0.001", "action": "block"}),
            spent,
        ),
        kind(
            "budget.default",
            "budget.default",
            json!({"daily_limit_usd": 0.001, "action": "block"}),
            spent,
        ),
        kind(
            "budget.global",
            "budget.global",
            json!({"daily_limit_usd": 0.001, "action": "block"}),
            spent,
        ),
        kind(
            "budget.limits",
            "budget.limits",
            json!({"account": "agent", "window": "day", "limit": "0.001"}),
            spent,
        ),
        Kind {
            yaml: "budgets: {default: {daily_limit_usd: 0.001, action: block}}\n",
            outcomes: [spent, "200"],
            ..kind(
                "budget.top_ups",
                "budget.top_ups",
                json!({"account": "key", "amount": "100", "until": "2126-01-01"}),
                "200",
            )
        },
        Kind {
            requests: 2,
            ..kind(
                "rate_limit.rules",
                "rate_limit.rules",
                json!({"api_key_pattern": "sk-test-*", "requests_per_hour": 1}),
                "429 rate_limited",
            )
        },
        Kind {
            requests: 2,
            ..kind(
                "rate_limit.limits",
                "rate_limit.limits",
                json!({"account": "agent:c*", "requests_per_hour": 1}),
                "429 rate_limited",
            )
        },
        Kind {
            requests: 2,
            ..kind(
                "rate_limit.limits of one name",
                "rate_limit.limits",
                json!({"account": "user:ann", "requests_per_day": 1}),
                "429 rate_limited",
            )
        },
        Kind {
            yaml: tenants,
            headers: &[("X-AgentLedger-Tenant", "globex")],
            outcomes: ["403 tenant_not_allowed", "200"],
            ..kind(
                "tenant.key_mappings",
                "tenant.key_mappings",
                json!({"api_key_pattern": "sk-test-*", "tenant_id": "globex"}),
                "200",
            )
        },
        Kind {
            headers: &[("X-AgentLedger-Tenant", "globex")],
            ..kind(
                "tenant.enabled",
                "tenant.enabled",
                json!(true),
                "403 tenant_not_allowed",
            )
        },
        Kind {
            yaml: "",
            ..kind(
                "tenant.bindings",
                "tenant.bindings",
                json!({"api_key_pattern": "sk-test-*", "agent": "stopped"}),
                spent,
            )
        },
        kind("block.keys", "block.keys", json!("sk-test-*"), "403 key_blocked"),
        kind("block.agents", "block.agents", json!("cod*"), "403 agent_blocked"),
        kind("block.users", "block.users", json!("ann"), "403 user_blocked"),
        kind("block.models", "block.models", json!("gpt-4*"), "403 model_blocked"),
        Kind {
            requests: 3,
            ..kind(
                "loop",
                "loop",
                json!({"threshold": 3, "action": "block"}),
                "429 loop_detected",
            )
        },
        Kind {
            yaml: "agent: {loop_threshold: 2, loop_action: block}\n",
            requests: 3,
            outcomes: ["429 loop_detected", "200"],
            ..kind("loop.mode off", "loop.mode", json!("off"), "200")
        },
        Kind {
            yaml: "agent: {loop_threshold: 2, loop_action: block}\n",
            requests: 3,
            outcomes: ["429 loop_detected", "200"],
            ..kind("loop.mode shadow", "loop.mode", json!("shadow"), "200")
        },
    ]
}

impl Kind {
    fn setup(&self, upstream: &Upstream) -> Setup {
        // The binding shows itself by a limit on the name that it gives.
        let setup = Setup::new(upstream).with(CONTROL).with(self.yaml);
        setup.conf(
            "budget",
            "{limits: [{account: \"agent:stopped\", window: day, limit: 0}]}",
        )
    }

    fn obeyed(&self, gateway: &Gateway, with: bool) {
        let replies = (0..self.requests).map(|_| ask(gateway, self.headers));
        let last = outcome(&replies.last().unwrap());
        assert_eq!(
            last,
            self.outcomes[usize::from(with)],
            "{}: with the rule: {with}",
            self.name
        );
    }
}

/// Requests of a key that no rule here touches, until told to stop; none of them may fail by the gateway's fault.
fn under_load<T>(gateway: &Gateway, run: impl FnOnce() -> T) -> T {
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = gateway.client;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.request("POST", CHAT, &[("authorization", "Bearer other")], CENT.as_bytes());
                    assert!(reply.status < 500, "{}", reply.text());
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while sent.load(Ordering::Relaxed) < 4 {
            thread::yield_now();
        }
        let result = run();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn each_kind_of_rule_is_obeyed_by_the_next_request_also_after_a_restart_and_can_be_taken_back() {
    let upstream = upstream();
    for kind in kinds() {
        let gateway = kind.setup(&upstream).start();
        kind.obeyed(&gateway, false);
        let put = json!({"list": kind.list, "value": kind.value, "note": "because"});
        let changed = under_load(&gateway, || rpc(&gateway, "rule.put", &put));
        kind.obeyed(&gateway, true);
        let id = changed["rule"]["id"].as_str().unwrap().to_owned();
        assert_eq!(changed["rule"]["version"], 1, "{changed}");
        assert_eq!(
            (&changed["rule"]["author"], &changed["rule"]["note"]),
            (&json!("ops"), &json!("because"))
        );
        let dir = gateway.stop();
        let gateway = kind.setup(&upstream).in_dir(&dir).start();
        kind.obeyed(&gateway, true);
        assert_eq!(rpc(&gateway, "rule.get", &json!({"id": id}))["value"], kind.value);
        let reverted = rpc(&gateway, "rule.revert", &json!({"change": changed["change"]}));
        assert_eq!(reverted["before"], kind.value);
        kind.obeyed(&gateway, false);
        let audit = rpc(&gateway, "audit.list", &json!({"subject": format!("rule:{id}")}));
        let rows = audit["changes"].as_array().unwrap();
        assert_eq!(rows.len(), 2, "{audit}");
        assert_eq!(
            (&rows[0]["action"], &rows[1]["action"]),
            (&json!("rule.revert"), &json!("rule.put"))
        );
        assert_eq!(
            (&rows[1]["author"], &rows[1]["note"]),
            (&json!("ops"), &json!("because"))
        );
        assert_eq!(
            (&rows[1]["before"], &rows[1]["after"]["value"]),
            (&Value::Null, &kind.value)
        );
        assert_eq!(
            (&rows[0]["before"], &rows[0]["after"]),
            (&rows[1]["after"], &Value::Null)
        );
        assert!(rows[1]["peer"].as_str().unwrap().starts_with("127.0.0.1"), "{audit}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_its_path_and_nothing_changes() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .policy(
            "fragile",
            "return { name = 'fragile', version = '1', schema = { price = { type = 'number' } },
               request = function(conf, call) if conf.price then error('cannot take a price') end end }",
        )
        .start();
    let limit = |field: &str, value: Value| {
        let mut limit = json!({"account": "agent", "window": "day", "limit": "5"});
        limit[field] = value;
        limit
    };
    for (list, value, path, text) in [
        ("budget.limits", limit("limit", json!("many")), "value.limit", "decimal"),
        ("budget.limits", limit("limit", json!(-1)), "value.limit", "negative"),
        (
            "budget.limits",
            limit("window", json!("decade")),
            "value.window",
            "one of",
        ),
        ("budget.limits", limit("colour", json!(1)), "value.colour", "schema"),
        (
            "budget.limits",
            limit("account", json!("planet:mars")),
            "value.account",
            "a kind",
        ),
        (
            "budget.limits",
            limit("zone", json!("Mars/Base")),
            "value.zone",
            "time zone",
        ),
        ("budget.limits", json!("5"), "value", "table"),
        (
            "budget.limits",
            limit("action", json!("downgrade")),
            "value.action",
            "alternatives",
        ),
        (
            "budget.rules",
            json!({"api_key_pattern": "["}),
            "value.api_key_pattern",
            "glob",
        ),
        (
            "budget.default",
            json!({"daily_limit_usd": "x"}),
            "value.daily_limit_usd",
            "decimal",
        ),
        ("budget.default", json!(7), "value", "table"),
        ("budget", json!({"limits": []}), "value.limits", "by itself"),
        ("budget", json!({"nothing": 1}), "value.nothing", "schema"),
        ("budget.nothing", json!(1), "list", "no field"),
        ("loop", json!({"threshold": -1}), "value.threshold", "below"),
        ("loop.threshold", json!("many"), "value", "whole number"),
        ("loop.mode", json!("maybe"), "value", "enforce, shadow or off"),
        ("nobody.limits", json!(1), "list", "no policy"),
        (
            "rate_limit.limits",
            json!({"account": "planet:mars", "parallel": 1}),
            "value.account",
            "a kind",
        ),
        (
            "tenant.bindings",
            json!({"user": "x"}),
            "value.api_key_pattern",
            "missing",
        ),
        ("fragile.price", json!(1), "value", "cannot take a price"),
        ("block.keys", json!("x".repeat(70_000)), "value", "longer"),
    ] {
        for dry_run in [true, false] {
            let params = json!({"list": list, "value": value, "dry_run": dry_run});
            let (word, at, message) = refused(&gateway, "rule.put", &params);
            assert_eq!(
                (word.as_str(), at.as_str()),
                ("does_not_fit", path),
                "{list} {value}: {message}"
            );
            assert!(message.contains(text), "{list} {value}: {message}");
        }
    }
    for (params, word, path) in [
        (json!({}), "does_not_fit", "list"),
        (json!({"list": "loop"}), "does_not_fit", "value"),
        (json!({"list": "loop", "value": {}, "id": "x"}), "does_not_fit", "id"),
        (
            json!({"list": "loop", "value": {}, "id": "file:loop:1"}),
            "does_not_fit",
            "id",
        ),
        (
            json!({"list": "loop", "value": {}, "expires": "soon"}),
            "does_not_fit",
            "expires",
        ),
        (
            json!({"list": "loop", "value": {}, "expires": "2020-01-01T00:00:00Z"}),
            "does_not_fit",
            "expires",
        ),
        (
            json!({"list": "loop", "value": {}, "note": "n".repeat(3_000)}),
            "does_not_fit",
            "note",
        ),
        (json!({"list": "loop", "value": {}, "colour": 1}), "invalid_params", ""),
    ] {
        let (found, at, message) = refused(&gateway, "rule.put", &params);
        assert_eq!((found.as_str(), at.as_str()), (word, path), "{message}");
    }
    assert_eq!(
        rpc(&gateway, "rule.list", &json!({"source": "runtime"}))["rules"],
        json!([])
    );
    assert_eq!(outcome(&ask(&gateway, &[("X-Agent-Id", "coder")])), "200");
    let looker = answer(
        &gateway,
        "looker-token-0123456789",
        "rule.put",
        &json!({"list": "loop", "value": {}}),
    );
    assert_eq!(looker["error"]["data"]["code"], "forbidden");
}

#[test]
fn of_two_writers_of_one_rule_one_wins_and_the_other_learns_it() {
    let upstream = upstream();
    let gateway = Arc::new(Setup::new(&upstream).with(CONTROL).start());
    let made = rpc(
        &gateway,
        "rule.put",
        &json!({"list": "loop", "value": {"threshold": 9}}),
    );
    let id = made["rule"]["id"].as_str().unwrap().to_owned();
    let put = |threshold: u64, if_version: u64| {
        let params = json!({"list": "loop", "id": id, "value": {"threshold": threshold}, "if_version": if_version});
        answer(&gateway, "ops-token-0123456789", "rule.put", &params)
    };
    let answers: Vec<Value> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64).map(|at| scope.spawn(move || put(100 + at, 1))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let (won, lost): (Vec<&Value>, Vec<&Value>) = answers.iter().partition(|answer| answer["error"].is_null());
    assert_eq!((won.len(), lost.len()), (1, 3), "{answers:?}");
    for lost in lost {
        assert_eq!(lost["error"]["data"]["code"], "conflict");
        assert!(
            lost["error"]["message"].as_str().unwrap().contains("version 2"),
            "{lost}"
        );
    }
    let now = rpc(&gateway, "rule.get", &json!({"id": id}));
    assert_eq!(
        (&now["value"], &now["version"]),
        (&won[0]["result"]["rule"]["value"], &json!(2))
    );
    // 0: it must not be there yet.
    assert_eq!(put(5, 0)["error"]["data"]["code"], "conflict");
    let dry = json!({"list": "loop", "id": id, "value": {"threshold": 3}, "dry_run": true});
    let dry = rpc(&gateway, "rule.put", &dry);
    assert_eq!(
        (&dry["before"], &dry["change"], &dry["rule"]["version"]),
        (&now["value"], &Value::Null, &json!(3))
    );
    assert_eq!(
        rpc(&gateway, "rule.get", &json!({"id": id})),
        now,
        "a dry run changes nothing"
    );
}

#[test]
fn rules_of_both_sources_are_listed_in_the_order_in_which_they_count() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .with("agent: {loop_threshold: 8}")
        .conf("block", "{keys: [\"sk-old-*\", \"sk-older-*\"]}")
        .start();
    for key in ["sk-a-*", "sk-b-*"] {
        rpc(&gateway, "rule.put", &json!({"list": "block.keys", "value": key}));
    }
    let values = |params: &Value| {
        let listed = rpc(&gateway, "rule.list", params);
        let rows = listed["rules"].as_array().unwrap().clone();
        (
            rows.iter().map(|row| row["value"].clone()).collect::<Vec<_>>(),
            listed["next"].clone(),
            rows,
        )
    };
    let (all, next, rows) = values(&json!({"list": "block.keys"}));
    assert_eq!(
        all,
        ["sk-b-*", "sk-a-*", "sk-old-*", "sk-older-*"],
        "the newest first, the file's last"
    );
    assert_eq!(
        (next, &rows[3]["id"], &rows[3]["source"]),
        (Value::Null, &json!("file:block.keys:2"), &json!("file"))
    );
    assert!(
        rows.iter()
            .all(|row| row["in_force"] == true && row["policy"] == "block")
    );
    let (first, next, _) = values(&json!({"list": "block.keys", "limit": 3}));
    assert_eq!(first, ["sk-b-*", "sk-a-*", "sk-old-*"]);
    assert_eq!(
        values(&json!({"list": "block.keys", "limit": 3, "after": next})).0,
        ["sk-older-*"]
    );
    assert_eq!(values(&json!({"policy": "block", "source": "runtime"})).0.len(), 2);
    assert_eq!(
        rpc(&gateway, "rule.get", &json!({"id": "file:loop:1"}))["value"]["threshold"],
        8
    );
    assert_eq!(
        refused(&gateway, "rule.get", &json!({"id": "file:loop:2"})).0,
        "not_found"
    );
    let (word, path, _) = refused(&gateway, "rule.delete", &json!({"id": "file:loop:1"}));
    assert_eq!((word.as_str(), path.as_str()), ("does_not_fit", "id"));
}
