//! Rules as operators live with them: short ways to put them, their ends, reloads of the file, tenants' own, prices, providers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::{Gateway, Installation, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
/// A question that may cost a cent at most (1,000 tokens at 10 USD a million).
const CENT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#;
const KEY: &str = "sk-test-0123456789abcdef";
pub const CONTROL: &str = "
control:
  tokens:
    - {name: ops, role: admin, token: ops-token-0123456789}
    - {name: acme-ops, role: admin, tenant: acme, token: acme-token-0123456789}
";
const TENANTS: &str = "tenants: {enabled: true, key_mappings: [{api_key_pattern: \"sk-test-*\", tenant_id: acme}, {api_key_pattern: \"sk-globex-*\", tenant_id: globex}]}\n";

pub fn upstream() -> Upstream {
    Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":1000,"total_tokens":1000}}"#,
    ))
}

pub fn answer(gateway: &Gateway, token: &str, method: &str, params: &Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    gateway.client.request("POST", "/rpc", &headers, body.as_bytes()).json()
}

pub fn rpc(gateway: &Gateway, method: &str, params: &Value) -> Value {
    let answer = answer(gateway, "ops-token-0123456789", method, params);
    assert_eq!(answer["error"], Value::Null, "{method} {params}");
    answer["result"].clone()
}

/// The error's word and path, as the admin.
pub fn refused(gateway: &Gateway, method: &str, params: &Value) -> (String, String) {
    let answer = answer(gateway, "ops-token-0123456789", method, params);
    assert!(answer["error"].is_object(), "{method} {params}: {answer}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let data = &answer["error"]["data"];
    (text(&data["code"]), text(&data["path"]))
}

fn ask_as(gateway: &Gateway, key: &str, headers: &[(&str, &str)]) -> Reply {
    let bearer = format!("Bearer {key}");
    let own = [("authorization", bearer.as_str())];
    gateway
        .client
        .request("POST", CHAT, &[&own[..], headers].concat(), CENT.as_bytes())
}

pub fn ask(gateway: &Gateway) -> Reply {
    ask_as(gateway, KEY, &[("X-Agent-Id", "coder")])
}

/// Status, and the refusal's code.
pub fn outcome(reply: &Reply) -> String {
    match reply.status {
        200 => "200".to_owned(),
        status => format!("{status} {}", reply.json()["error"]["code"].as_str().unwrap_or("-")),
    }
}

#[test]
fn short_ways_put_the_rules_that_they_name_and_replace_their_own() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    assert_eq!(outcome(&ask(&gateway)), "200");
    let set = |limit: &str| {
        let set = json!({"account": "agent:coder", "window": "day", "limit": limit, "note": "tight"});
        rpc(&gateway, "budget.set", &set)
    };
    let first = set("0.001");
    assert_eq!(first["rule"]["list"], "budget.limits");
    assert_eq!(outcome(&ask(&gateway)), "429 budget_exceeded");
    // The same account, window and unit: the same rule.
    let second = set("0.002");
    assert_eq!(
        (&second["rule"]["id"], &second["rule"]["version"]),
        (&first["rule"]["id"], &json!(2))
    );
    let up = json!({"account": "agent:coder", "amount": 5, "until": "7d", "reason": "a launch"});
    let topped = rpc(&gateway, "budget.top_up", &up);
    assert_eq!(
        (&topped["rule"]["note"], &topped["rule"]["expires"]),
        (&json!("a launch"), &topped["rule"]["value"]["until"])
    );
    assert_eq!(outcome(&ask(&gateway)), "200");
    rpc(&gateway, "rule.revert", &json!({"change": topped["change"]}));
    assert_eq!(outcome(&ask(&gateway)), "429 budget_exceeded");
    rpc(&gateway, "rule.delete", &json!({"id": first["rule"]["id"]}));

    // Of keys: what a window's limit says beside that of another stays.
    let key = |window: &str, limit: Value| {
        let set = json!({"api_key_pattern": "sk-test-*", "window": window, "limit": limit});
        rpc(&gateway, "budget.set", &set)
    };
    key("day", json!(100));
    let value = key("month", json!("0.001"))["rule"]["value"].clone();
    assert_eq!(
        value,
        json!({"api_key_pattern": "sk-test-*", "daily_limit_usd": 100, "monthly_limit_usd": "0.001", "action": "block"})
    );
    assert_eq!(outcome(&ask(&gateway)), "429 budget_exceeded");
    key("month", json!(100));
    let rate = rpc(
        &gateway,
        "rate.set",
        &json!({"api_key_pattern": "sk-test-*", "requests_per_day": 1}),
    );
    assert_eq!(rate["rule"]["list"], "rate_limit.rules");
    assert_eq!([0, 1].map(|_| outcome(&ask(&gateway))), ["200", "429 rate_limited"]);
    rpc(
        &gateway,
        "rate.set",
        &json!({"api_key_pattern": "sk-test-*", "requests_per_day": 0}),
    );
    assert_eq!(outcome(&ask(&gateway)), "200");

    for (method, params, path) in [
        ("budget.set", json!({}), "account or api_key_pattern or tenant"),
        (
            "budget.set",
            json!({"account": "agent", "tenant": "x", "window": "day", "limit": 1}),
            "tenant",
        ),
        ("budget.set", json!({"account": "agent", "limit": 1}), "window"),
        ("budget.set", json!({"account": "agent", "window": "day"}), "limit"),
        (
            "budget.set",
            json!({"account": "agent", "window": "day", "limit": "x"}),
            "limit",
        ),
        (
            "budget.set",
            json!({"tenant": "acme", "window": "eon", "limit": 1}),
            "window",
        ),
        (
            "budget.set",
            json!({"account": "pet", "window": "day", "limit": 1}),
            "account",
        ),
        (
            "budget.set",
            json!({"api_key_pattern": "sk-*", "window": "week", "limit": 1}),
            "window",
        ),
        (
            "budget.set",
            json!({"api_key_pattern": "sk-*", "window": "day", "limit": "x"}),
            "limit",
        ),
        (
            "budget.set",
            json!({"api_key_pattern": "[", "window": "day", "limit": 1}),
            "api_key_pattern",
        ),
        ("budget.top_up", json!({"account": "agent", "amount": 1}), "until"),
        (
            "budget.top_up",
            json!({"account": "agent", "amount": 1, "until": "never"}),
            "until",
        ),
        (
            "budget.top_up",
            json!({"account": "agent", "amount": 1, "until": "2020-01-01"}),
            "until",
        ),
        (
            "budget.top_up",
            json!({"account": "agent", "amount": "x", "until": "7d"}),
            "amount",
        ),
        (
            "rate.set",
            json!({"account": "agent"}),
            "requests_per_second or requests_per_minute or requests_per_hour or requests_per_day or tokens_per_minute or tokens_per_hour or tokens_per_day or parallel",
        ),
        ("key.block", json!({}), "pattern or fingerprint"),
        ("key.block", json!({"pattern": "["}), "pattern"),
        ("key.block", json!({"fingerprint": "abc"}), "fingerprint"),
        (
            "tenant.map",
            json!({"api_key_pattern": "sk-*", "tenant": "acme"}),
            "enable",
        ),
        (
            "tenant.bind",
            json!({"api_key_pattern": "sk-*"}),
            "user or agent or session or task",
        ),
        ("policy.enable", json!({"policy": "loop", "mode": "off"}), "mode"),
        ("price.put", json!({"provider": "openai", "row": {"id": "x"}}), "row"),
        (
            "price.put",
            json!({"provider": "nobody", "row": {"id": "x"}}),
            "provider",
        ),
    ] {
        let (word, at) = refused(&gateway, method, &params);
        assert_eq!(
            (word.as_str(), at.as_str()),
            ("does_not_fit", path),
            "{method} {params}"
        );
    }
}

#[test]
fn a_leaked_key_is_blocked_and_the_journal_never_learns_it() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    assert_eq!(outcome(&ask(&gateway)), "200");
    let blocked = rpc(&gateway, "key.block", &json!({"pattern": KEY, "note": "leaked"}));
    assert_eq!(blocked["rule"]["list"], "block.fingerprints");
    assert!(!blocked.to_string().contains(KEY));
    assert_eq!(outcome(&ask(&gateway)), "403 key_blocked");
    let keys = rpc(&gateway, "key.list", &json!({}));
    let key = &keys["keys"][0];
    assert_eq!(
        (&key["fingerprint"], &key["blocked"], &key["requests"]),
        (&blocked["rule"]["value"], &json!(true), &json!(1))
    );
    assert_eq!(keys["blocked"].as_array().unwrap().len(), 1);
    let history = rpc(&gateway, "rule.history", &json!({"list": "block.fingerprints"}));
    assert!(!history.to_string().contains(KEY));
    rpc(&gateway, "key.unblock", &json!({"fingerprint": key["fingerprint"]}));
    assert_eq!(outcome(&ask(&gateway)), "200");
    assert_eq!(
        refused(&gateway, "key.unblock", &json!({"pattern": KEY})).0,
        "not_found"
    );
    rpc(&gateway, "key.block", &json!({"pattern": "sk-test-*"}));
    assert_eq!(outcome(&ask(&gateway)), "403 key_blocked");
    rpc(&gateway, "key.unblock", &json!({"pattern": "sk-test-*"}));
    assert_eq!(outcome(&ask(&gateway)), "200");
}

#[test]
fn tenants_are_mapped_bound_and_summed() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let map = json!({"api_key_pattern": "sk-test-*", "tenant": "acme", "enable": true});
    rpc(&gateway, "tenant.map", &map);
    assert_eq!(outcome(&ask(&gateway)), "200");
    let tenant = rpc(&gateway, "tenant.get", &json!({"tenant": "acme"}));
    assert_eq!(
        (
            &tenant["requests"],
            &tenant["spent_day_usd"],
            &tenant["spent_month_usd"]
        ),
        (&json!(1), &json!("0.01"), &json!("0.01"))
    );
    assert_eq!(tenant["mappings"][0]["value"]["api_key_pattern"], "sk-test-*");
    rpc(
        &gateway,
        "tenant.bind",
        &json!({"api_key_pattern": "sk-test-*", "agent": "bound"}),
    );
    ask(&gateway);
    assert_eq!(
        gateway
            .entries_of(2)
            .iter()
            .map(|entry| &*entry.facts.agent)
            .collect::<Vec<_>>(),
        ["coder", "bound"]
    );
    rpc(&gateway, "tenant.unmap", &map);
    let rows = rpc(&gateway, "tenant.list", &json!({}));
    assert_eq!(rows["tenants"][0]["mappings"], json!([]));
    ask(&gateway);
    assert_eq!(&*gateway.entries_of(3)[2].facts.tenant, "", "no mapping is left");
}

#[test]
fn a_rule_ends_when_it_says_and_also_where_no_gateway_runs_then() {
    let upstream = upstream();
    let setup = || Setup::new(&upstream).with(CONTROL);
    let gateway = setup().start();
    let block = |gateway: &Gateway, at_ms: i64| {
        let expires = jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
        let put = json!({"list": "block.keys", "value": "sk-test-*", "expires": expires});
        rpc(gateway, "rule.put", &put)["rule"]["id"].clone()
    };
    let now_ms = |gateway: &Gateway| gateway.launched().gateway().clock.now_ms();
    let id = block(&gateway, now_ms(&gateway) + 1_500);
    assert_eq!(outcome(&ask(&gateway)), "403 key_blocked");
    let gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        outcome(&ask(&gateway)) == "200"
    });
    assert!(gone, "it never ends");
    assert_eq!(refused(&gateway, "rule.get", &json!({"id": id})).0, "not_found");
    let history = rpc(&gateway, "rule.history", &json!({"id": id}));
    let last = &history["changes"][0];
    assert_eq!(
        (&last["action"], &last["author"]),
        (&json!("rule.expire"), &json!("agentledger"))
    );
    let second = block(&gateway, now_ms(&gateway) + 1_500);
    let dir = gateway.stop();
    std::thread::sleep(Duration::from_millis(1_600));
    let gateway = setup().in_dir(&dir).start();
    assert_eq!(outcome(&ask(&gateway)), "200");
    assert_eq!(refused(&gateway, "rule.get", &json!({"id": second})).0, "not_found");
}

#[test]
fn a_tenants_token_keeps_its_own_rules_and_no_others() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).with(TENANTS).start();
    let own = |method: &str, params: Value| answer(&gateway, "acme-token-0123456789", method, &params);
    let of_ops = rpc(
        &gateway,
        "budget.set",
        &json!({"tenant": "acme", "window": "month", "limit": 100}),
    );
    for account in ["tenant:globex", "tenant:ac*", "tenant", "global", "key", "agent:coder"] {
        for (list, value) in [
            (
                "budget.limits",
                json!({"account": account, "window": "day", "limit": 1}),
            ),
            (
                "budget.top_ups",
                json!({"account": account, "amount": 1, "until": "2126-01-01"}),
            ),
            ("rate_limit.limits", json!({"account": account, "requests_per_day": 1})),
        ] {
            let answer = own("rule.put", json!({"list": list, "value": value}));
            assert_eq!(
                answer["error"]["data"]["code"], "other_tenant",
                "{list} {account}: {answer}"
            );
        }
    }
    for (list, value) in [
        ("block.keys", json!("sk-*")),
        (
            "budget.rules",
            json!({"api_key_pattern": "sk-*", "tenant_id": "acme", "daily_limit_usd": 1}),
        ),
        ("budget.rules", json!({"tenant_id": "globex", "daily_limit_usd": 1})),
        (
            "tenant.key_mappings",
            json!({"api_key_pattern": "sk-*", "tenant_id": "acme"}),
        ),
        ("loop", json!({"threshold": 2})),
        ("budget.default", json!({"daily_limit_usd": 1})),
    ] {
        let answer = own("rule.put", json!({"list": list, "value": value}));
        assert_eq!(answer["error"]["data"]["code"], "other_tenant", "{list}: {answer}");
    }
    for method in [
        "key.block",
        "tenant.map",
        "policy.list",
        "policy.disable",
        "price.put",
        "provider.disable",
    ] {
        assert_eq!(
            own(method, json!({}))["error"]["data"]["code"],
            "other_tenant",
            "{method}"
        );
    }
    // What the installation's operators set for it is seen, and stays.
    let id = of_ops["rule"]["id"].clone();
    assert_eq!(own("rule.get", json!({"id": id}))["result"]["value"]["limit"], 100);
    assert_eq!(
        own("rule.delete", json!({"id": id}))["error"]["data"]["code"],
        "other_tenant"
    );
    assert_eq!(
        own("rule.revert", json!({"change": of_ops["change"]}))["error"]["data"]["code"],
        "other_tenant"
    );
    let mine = own(
        "budget.set",
        json!({"tenant": "acme", "window": "day", "limit": "0.001"}),
    );
    assert_eq!(mine["result"]["rule"]["tenant"], "acme", "{mine}");
    assert_eq!(outcome(&ask(&gateway)), "429 budget_exceeded");
    assert_eq!(outcome(&ask_as(&gateway, "sk-globex-1", &[])), "200");
    let of_globex = rpc(
        &gateway,
        "budget.set",
        &json!({"tenant": "globex", "window": "day", "limit": 5}),
    );
    let listed = own("rule.list", json!({}));
    let rules = listed["result"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "{listed}");
    assert!(rules.iter().all(|rule| rule["tenant"] == "acme"));
    assert_eq!(
        own("rule.get", json!({"id": of_globex["rule"]["id"]}))["error"]["data"]["code"],
        "not_found"
    );
    let history = own("rule.history", json!({}));
    assert!(!history.to_string().contains("globex"), "{history}");
    let deleted = own("rule.delete", json!({"id": mine["result"]["rule"]["id"]}));
    assert!(deleted["error"].is_null(), "{deleted}");
    assert_eq!(outcome(&ask(&gateway)), "200");
}

#[test]
fn a_provider_that_is_switched_off_refuses_and_serves_again_when_switched_on() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let switched = rpc(
        &gateway,
        "provider.disable",
        &json!({"provider": "openai", "note": "too dear"}),
    );
    assert_eq!(switched["enabled"], false);
    let reply = ask(&gateway);
    assert_eq!(
        (outcome(&reply).as_str(), reply.header("x-should-retry")),
        ("503 provider_disabled", Some("false"))
    );
    assert_eq!(
        rpc(&gateway, "provider.disable", &json!({"provider": "openai"}))["change"],
        Value::Null
    );
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).with(CONTROL).in_dir(&dir).start();
    assert_eq!(outcome(&ask(&gateway)), "503 provider_disabled");
    let listed = rpc(&gateway, "provider.list", &json!({"provider": "openai"}));
    assert_eq!(listed["providers"][0]["enabled"], false);
    rpc(&gateway, "provider.enable", &json!({"provider": "openai"}));
    assert_eq!(outcome(&ask(&gateway)), "200");
    assert_eq!(
        refused(&gateway, "provider.disable", &json!({"provider": "nobody"})).0,
        "not_found"
    );
}

#[test]
fn a_price_that_is_put_counts_from_the_next_request_on_and_over_all_files() {
    let upstream = upstream();
    let file = "provider: openai\nmodels:\n- id: gpt-4o\n  prices: {always: {standard: {input: 1, output: 20}}}\n";
    let gateway = Setup::new(&upstream).with(CONTROL).prices(file).start();
    let row = json!({"id": "gpt-4o", "prices": {"always": {"standard": {"input": "1", "output": 30}}}});
    let put = json!({"provider": "openai", "row": row, "note": "contract"});
    ask(&gateway);
    rpc(&gateway, "price.put", &put);
    ask(&gateway);
    let shown = rpc(
        &gateway,
        "price.show",
        &json!({"model": "gpt-4o", "provider": "openai"}),
    );
    assert_eq!(
        (
            &shown["rows"][0]["source"],
            &shown["rows"][0]["prices"]["standard"]["output"]
        ),
        (&json!("runtime"), &json!("30"))
    );
    assert_eq!(
        rpc(
            &gateway,
            "prices.show",
            &json!({"model": "gpt-4o", "provider": "openai"})
        ),
        shown
    );
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).with(CONTROL).in_dir(&dir).prices(file).start();
    ask(&gateway);
    rpc(
        &gateway,
        "price.delete",
        &json!({"provider": "openai", "model": "gpt-4o"}),
    );
    ask(&gateway);
    let costs: Vec<String> = gateway
        .entries_of(4)
        .iter()
        .map(|entry| entry.settlement.cost.to_string())
        .collect();
    assert_eq!(costs, ["0.02", "0.03", "0.03", "0.02"]);
    assert_eq!(
        refused(
            &gateway,
            "price.delete",
            &json!({"provider": "openai", "model": "gpt-4o"})
        )
        .0,
        "not_found"
    );
}

#[test]
fn policies_are_listed_shown_and_switched() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .conf("block", "{keys: [\"sk-test-*\"]}")
        .start();
    let mode = || {
        let listed = rpc(&gateway, "policy.list", &json!({}));
        let rows = listed["policies"].as_array().unwrap().clone();
        let block = rows.iter().find(|row| row["name"] == "block").unwrap().clone();
        (block["mode"].as_str().unwrap().to_owned(), block["conf_digest"].clone())
    };
    assert_eq!(outcome(&ask(&gateway)), "403 key_blocked");
    let enforced = mode();
    let note = |mode: &str| json!({"policy": "block", "mode": mode, "note": "a try"});
    let first = rpc(&gateway, "policy.enable", &note("shadow"));
    assert_eq!((outcome(&ask(&gateway)).as_str(), mode().0.as_str()), ("200", "shadow"));
    assert_ne!(mode().1, enforced.1);
    let second = rpc(&gateway, "policy.disable", &json!({"policy": "block"}));
    assert_eq!(first["rule"]["id"], second["rule"]["id"], "one rule says the mode");
    assert_eq!((outcome(&ask(&gateway)).as_str(), mode().0.as_str()), ("200", "off"));
    let of_block = rpc(&gateway, "rule.list", &json!({"list": "block.keys"}));
    assert_eq!(of_block["rules"][0]["in_force"], false);
    rpc(&gateway, "policy.enable", &json!({"policy": "block"}));
    assert_eq!(
        (outcome(&ask(&gateway)), mode()),
        ("403 key_blocked".to_owned(), enforced)
    );
    let shown = rpc(&gateway, "policy.get", &json!({"policy": "block"}));
    assert_eq!(
        (&shown["conf"]["keys"], &shown["policy"]["source"]),
        (&json!(["sk-test-*"]), &json!("built-in"))
    );
    assert!(shown["text"].as_str().unwrap().contains("key_blocked"));
}

#[test]
fn rules_outlive_reloads_and_a_file_that_does_not_go_with_them_is_refused() {
    let upstream = upstream();
    let base = |more: &str| format!("providers: {{openai: {{upstream: \"{}\"}}}}\n{more}", upstream.base());
    let home = Installation::new(&base(""));
    home.policy("mine", "return { name = 'mine', version = '1', schema = { words = { type = 'list', default = {} } }, request = function() end }");
    let gateway = home.serve();
    let ask = || gateway.client.post(CHAT, CENT).status;
    assert_eq!(ask(), 200);
    home.rpc("rule.put", &json!({"list": "block.keys", "value": "sk-test-*"}));
    let mine = home.rpc("rule.put", &json!({"list": "mine.words", "value": "x"}))["rule"]["id"].clone();
    assert_eq!(ask(), 403);
    home.configure(&base("agent: {loop_threshold: 50}"));
    gateway.wait_for_log("new rules are in force", 1);
    assert_eq!(ask(), 403);
    // The next file's policy has no such list any more.
    home.policy(
        "mine",
        "return { name = 'mine', version = '2', request = function() end }",
    );
    gateway.wait_for_log("not reloaded, the old rules stay", 1);
    let id = mine.as_str().unwrap();
    assert!(
        gateway.log().contains(&format!("agentledger rules delete {id}")),
        "{}",
        gateway.log()
    );
    assert_eq!(ask(), 403);
    home.rpc("rule.delete", &json!({"id": id}));
    gateway.signal("HUP");
    gateway.wait_for_log("new rules are in force", 2);
    assert_eq!(ask(), 403);
    gateway.stop();
}
