//! The control plane as its clients see it: who is shown what, what can be followed, and what its document says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use agentledger::testing::Occurrence;
use agentledger::testing::meter::websocket::Message;
use serde_json::{Value, json};

use crate::harness::json_schema::check;
use crate::harness::upstream::Step;
use crate::harness::{Gateway, Peer, Script, Setup, Upstream};

const ADMIN: &str = "admin-token-0123456789";
const ALPHA: &str = "alpha-token-0123456789";
const CONTROL: &str = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-alpha-*', tenant_id: alpha}, \
    {api_key_pattern: 'sk-bravo-*', tenant_id: bravo}]}\n\
    budgets: {default: {daily_limit_usd: 100, action: block}}\n\
    control: {tokens: [{name: root, token: admin-token-0123456789, role: admin}, \
    {name: of-alpha, token: alpha-token-0123456789, role: admin, tenant: alpha}]}";
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;

/// Answers at once, or, to sessions whose names say so, once `said`.
fn upstream(said: &Arc<AtomicBool>) -> Upstream {
    let said = Arc::clone(said);
    Upstream::playing(move |seen| {
        let mut script = Script::default();
        if String::from_utf8_lossy(&seen.body).contains("held") {
            script = script.step(Step::When(Arc::clone(&said)));
        }
        script.steps.extend(Script::json(200, ANSWER).steps);
        script
    })
}

/// A chat of a tenant, whose every name says whose it is.
fn chat(gateway: &Gateway, tenant: &str, what: &str) {
    let names = [
        (
            "authorization".to_owned(),
            format!("Bearer sk-{tenant}-0123456789abcdef"),
        ),
        ("x-agent-id".to_owned(), format!("{tenant}-agent")),
        ("x-agent-session".to_owned(), format!("{tenant}-session-{what}")),
        ("x-agent-user".to_owned(), format!("{tenant}-user")),
        ("x-agent-task".to_owned(), format!("{tenant}-task")),
    ];
    let headers: Vec<(&str, &str)> = names.iter().map(|(name, value)| (&**name, &**value)).collect();
    let body =
        json!({"model": "gpt-4o", "max_tokens": 10, "messages": [{"role": "user", "content": what}]}).to_string();
    let reply = gateway
        .client
        .request("POST", "/v1/chat/completions", &headers, body.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

pub fn rpc(gateway: &Gateway, token: &str, method: &str, params: &Value) -> Value {
    let bearer = format!("Bearer {token}");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let headers = [("authorization", bearer.as_str())];
    gateway.client.request("POST", "/rpc", &headers, body.as_bytes()).json()
}

fn open(gateway: &Gateway, token: &str) -> Peer {
    Peer::open(
        gateway.address(),
        "/rpc",
        &[("authorization", &format!("Bearer {token}"))],
    )
}

/// Calls on a connection; the answer.
fn say(peer: &mut Peer, method: &str, params: &Value) -> Value {
    peer.say(json!({"jsonrpc": "2.0", "id": 9, "method": method, "params": params}));
    loop {
        let answer = peer.json();
        if answer["id"] == 9 {
            return answer;
        }
    }
}

/// The next notification's item.
fn item(peer: &mut Peer, method: &str) -> Value {
    let notification = peer.json();
    assert_eq!(notification["method"], method, "{notification}");
    notification["params"]["result"].clone()
}

fn document(gateway: &Gateway) -> Value {
    rpc(gateway, ADMIN, "rpc.discover", &json!({}))["result"].clone()
}

fn methods(document: &Value) -> Vec<Value> {
    document["methods"].as_array().unwrap().clone()
}

fn example(method: &Value) -> Value {
    let params = method["examples"][0]["params"].as_array().unwrap();
    let field = |param: &Value| (param["name"].as_str().unwrap().to_owned(), param["value"].clone());
    Value::Object(params.iter().map(field).collect())
}

/// Runs `during` while both tenants have an open hold each.
fn with_holds(gateway: &Gateway, said: &AtomicBool, during: impl FnOnce()) {
    thread::scope(|scope| {
        let running = ["alpha", "bravo"].map(|tenant| scope.spawn(move || chat(gateway, tenant, "held")));
        let ledger = &gateway.launched().gateway().ledger;
        for _ in 0..3_000 {
            if ledger.open_holds().len() == 2 {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
        during();
        said.store(true, Ordering::SeqCst);
        for call in running {
            call.join().unwrap();
        }
    });
}

#[test]
fn a_token_of_one_tenant_is_shown_nothing_of_another() {
    let said = Arc::default();
    let upstream = upstream(&said);
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    for tenant in ["alpha", "bravo"] {
        chat(&gateway, tenant, "done");
    }
    // Something of each in the audit.
    for tenant in ["alpha", "bravo"] {
        let params = json!({"id": format!("{tenant}-session-done"), "tenant": tenant});
        assert!(rpc(&gateway, ADMIN, "session.end", &params)["error"].is_null());
    }
    with_holds(&gateway, &said, || {
        let bravo_hold = rpc(&gateway, ADMIN, "hold.list", &json!({}))["result"]["holds"]
            .as_array()
            .unwrap()
            .iter()
            .find(|hold| hold["tenant"] == "bravo")
            .unwrap()["id"]
            .to_string();
        let document = document(&gateway);
        let mut shown = Vec::new();
        for method in methods(&document) {
            let name = method["name"].as_str().unwrap();
            if method["x-scope"] != "tenant" || !method["x-subscription"].is_null() || name.ends_with(".end") {
                continue;
            }
            // As the example has it, everything that there is, and by the other's very names.
            let names = |params: &Value| {
                let mut params = params.clone();
                for (field, value) in [
                    ("tenant", json!("bravo")),
                    ("id", json!("bravo-session-done")),
                    ("account", json!("tenant:bravo")),
                ] {
                    if params_have(&method, field) {
                        params[field] = value;
                    }
                }
                params
            };
            let mut tried = vec![example(&method), json!({}), names(&json!({})), names(&example(&method))];
            if name.starts_with("hold.") {
                tried.push(json!({"id": bravo_hold, "reason": "mine now"}));
            }
            if name == "ledger.series" {
                tried.push(json!({"step": "hour", "by": "agent"}));
            }
            for by in ["agent", "session", "user", "task", "tenant", "key", "entry"] {
                if params_have(&method, "by") {
                    tried.push(json!({"by": by}));
                }
            }
            for params in tried {
                let answer = rpc(&gateway, ALPHA, name, &params);
                // What was asked comes back in refusals.
                let text = match answer["error"].is_null() {
                    true => answer["result"].to_string(),
                    false => answer["error"]["data"].to_string(),
                };
                assert!(!text.contains("bravo"), "{name} {params}: {answer}");
                shown.push((name.to_owned(), text));
            }
        }
        for own in [
            "ledger.summary",
            "ledger.query",
            "session.list",
            "hold.list",
            "audit.list",
            "budget.status",
            "ledger.export",
        ] {
            let of_own = shown.iter().any(|(name, text)| name == own && text.contains("alpha"));
            assert!(of_own, "{own} shows its own");
        }
        for params in [json!({"tenant": "bravo"}), json!({"tenant": "alpha2"})] {
            let refused = rpc(&gateway, ALPHA, "ledger.summary", &params);
            assert_eq!(refused["error"]["data"]["code"], "other_tenant");
        }
        for whole in [
            "ledger.verify",
            "config.get",
            "clock.status",
            "ledger.adjust",
            "plugin.list",
        ] {
            let refused = rpc(&gateway, ALPHA, whole, &json!({}));
            assert_eq!(refused["error"]["data"]["code"], "other_tenant", "{whole}");
        }
        // Nor did it change anything of the other's.
        let held = rpc(&gateway, ADMIN, "hold.list", &json!({}))["result"]["holds"].to_string();
        assert!(held.contains(&bravo_hold), "{held}");
    });
}

fn params_have(method: &Value, field: &str) -> bool {
    let params = method["params"].as_array().unwrap();
    params.iter().any(|param| param["name"] == field)
}

#[test]
fn entries_holds_and_sessions_are_followed_by_tenant_and_filter() {
    let said = Arc::default();
    let upstream = upstream(&said);
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let mut of_alpha = open(&gateway, ALPHA);
    let mut of_bravo = open(&gateway, ADMIN);
    let subscribed = say(&mut of_alpha, "ledger.tail", &json!({}));
    let id = subscribed["result"].clone();
    assert!(id.is_string(), "{subscribed}");
    assert!(say(&mut of_bravo, "ledger.tail", &json!({"agent": "bravo-agent"}))["result"].is_string());
    chat(&gateway, "bravo", "one");
    chat(&gateway, "alpha", "two");
    let first = item(&mut of_alpha, "ledger.tail");
    assert_eq!(first["entry"]["tenant"], "alpha");
    assert_eq!(first["entry"]["session"], "alpha-session-two");
    assert!(first["sequence"].is_u64() && first["at"].is_string());
    assert_eq!(
        item(&mut of_bravo, "ledger.tail")["entry"]["session"],
        "bravo-session-one"
    );

    // After its end nothing comes; calls go on.
    of_alpha.say(json!({"jsonrpc": "2.0", "id": 9, "method": "ledger.tail.end", "params": [id]}));
    assert_eq!(of_alpha.json()["result"], true);
    chat(&gateway, "alpha", "three");
    let refused = say(&mut of_alpha, "ledger.tail", &json!({"tenant": "bravo"}));
    assert_eq!(refused["error"]["data"]["code"], "other_tenant");

    // What is still under way of the call before is no news of those below.
    gateway.entries_of(3);
    let mut of_holds = open(&gateway, ALPHA);
    assert!(say(&mut of_holds, "hold.changes", &json!({}))["result"].is_string());
    let mut of_sessions = open(&gateway, ALPHA);
    assert!(say(&mut of_sessions, "session.changes", &json!({}))["result"].is_string());
    chat(&gateway, "bravo", "four");
    chat(&gateway, "alpha", "five");
    let (placed, settled) = (item(&mut of_holds, "hold.changes"), item(&mut of_holds, "hold.changes"));
    assert_eq!(
        (&placed["change"], &settled["change"]),
        (&json!("placed"), &json!("settled"))
    );
    assert_eq!((&placed["id"], &placed["tenant"]), (&settled["id"], &json!("alpha")));
    let changes = [(); 2].map(|()| item(&mut of_sessions, "session.changes")["change"].clone());
    assert_eq!(changes, [json!("call_started"), json!("call_ended")]);
    let params = json!({"id": "alpha-session-five", "note": "enough"});
    assert!(rpc(&gateway, ALPHA, "session.kill", &params)["error"].is_null());
    assert_eq!(item(&mut of_sessions, "session.changes")["change"], "killed");
    let audited = rpc(&gateway, ALPHA, "audit.list", &json!({}))["result"]["changes"][0].clone();
    assert_eq!(
        (
            &audited["author"],
            &audited["action"],
            &audited["subject"],
            &audited["note"]
        ),
        (
            &json!("of-alpha"),
            &json!("session.kill"),
            &json!("session:alpha/alpha-session-five"),
            &json!("enough")
        )
    );
    assert!(audited["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{audited}");
}

#[test]
fn a_connection_has_so_many_subscriptions_and_closes_as_the_protocol_says() {
    let upstream = upstream(&Arc::default());
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let mut peer = open(&gateway, ADMIN);
    for _ in 0..32 {
        assert!(say(&mut peer, "ledger.tail", &json!({}))["result"].is_string());
    }
    let refused = say(&mut peer, "ledger.tail", &json!({}));
    assert_eq!(refused["error"]["data"]["code"], "too_many_subscriptions");
    assert!(
        say(&mut peer, "system.status", &json!({}))["result"]["ready"]
            .as_bool()
            .unwrap()
    );
    peer.send(&Message::Ping(b"there?".to_vec().into()));
    assert_eq!(peer.hear(), Some(Message::Pong(b"there?".to_vec().into())));
    peer.send(&Message::Close(Some((1000, "bye".to_owned()))));
    assert_eq!(peer.closed(), Some((1000, "bye".to_owned())));
    let over_http = rpc(&gateway, ADMIN, "ledger.tail", &json!({}));
    assert_eq!(over_http["error"]["data"]["code"], "needs_websocket");
}

/// Raises an alert for each number.
fn raise(gateway: &Gateway, numbers: std::ops::Range<u32>) {
    let alerts = &gateway.launched().gateway().alerts;
    for number in numbers {
        let alert = agentledger::testing::Alert {
            at_ms: 1_000,
            kind: "test".to_owned(),
            severity: agentledger::testing::Severity::Info,
            message: "x".repeat(512),
            details: Vec::new(),
            about: format!("agent:{number}"),
            tenant: String::new(),
            policy: String::new(),
            folded: 0,
            id: ulid::Ulid::nil(),
        };
        alerts.put(1_000, alert, std::time::Duration::from_secs(1), Occurrence::New);
    }
}

#[test]
fn who_reads_too_slowly_is_told_what_it_missed_and_is_dropped() {
    let upstream = upstream(&Arc::default());
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let mut slow = open(&gateway, ADMIN);
    assert!(say(&mut slow, "alert.feed", &json!({}))["result"].is_string());
    // More at once than any buffer between holds, while nobody reads.
    raise(&gateway, 0..9_000);
    let mut seen = 0;
    let lagged = loop {
        let one = item(&mut slow, "alert.feed");
        match one["lagged"].as_u64() {
            Some(missed) => break missed,
            None => seen += 1,
        }
    };
    assert!(lagged > 0 && seen < 9_000, "{seen} seen, {lagged} missed");
    // It is over: what comes now is the answer, and no further item.
    raise(&gateway, 9_000..9_010);
    assert!(say(&mut slow, "system.status", &json!({}))["result"].is_object());
    let listed = rpc(&gateway, ADMIN, "alert.list", &json!({"type": "test", "limit": 1_000}));
    assert_eq!(listed["result"]["alerts"].as_array().unwrap().len(), 1_000);
}

#[test]
fn who_wants_to_know_that_something_happened_is_notified_every_so_often_and_never_dropped() {
    let upstream = upstream(&Arc::default());
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let mut page = open(&gateway, ADMIN);
    let every = json!({"every_ms": 20});
    assert!(say(&mut page, "alert.feed", &every)["result"].is_string());
    // More than is kept for a subscription that reads each.
    for numbers in [0..9_000, 9_000..9_010] {
        let mut left = u64::from(numbers.end - numbers.start);
        raise(&gateway, numbers);
        while left > 0 {
            let happened = item(&mut page, "alert.feed")["happened"].as_u64().unwrap();
            assert!((1..=left).contains(&happened), "{happened} of {left}");
            left -= happened;
        }
    }
    // One tenant's page is not notified of another's calls.
    let mut of_alpha = open(&gateway, ALPHA);
    assert!(say(&mut of_alpha, "ledger.tail", &every)["result"].is_string());
    chat(&gateway, "bravo", "one");
    chat(&gateway, "alpha", "two");
    assert_eq!(item(&mut of_alpha, "ledger.tail"), json!({"happened": 1}));
}

#[test]
fn the_document_is_the_one_that_is_committed() {
    let upstream = upstream(&Arc::default());
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let text = serde_json::to_string_pretty(&document(&gateway)).unwrap() + "\n";
    let golden = crate::harness::root().join("gateway/assets/openrpc.json");
    if std::env::var_os("AGENTLEDGER_WRITE_OPENRPC").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let known = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        known == text,
        "the interface changed: look at it, and run this test with AGENTLEDGER_WRITE_OPENRPC=1"
    );
}

/// Every method is called with its example, and what it answers is what the document says.
#[test]
fn every_example_runs_and_every_answer_is_as_the_document_says() {
    let said = Arc::default();
    let upstream = upstream(&said);
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    chat(&gateway, "alpha", "done");
    let document = document(&gateway);
    let mut answered = BTreeMap::new();
    for method in methods(&document) {
        let name = method["name"].as_str().unwrap().to_owned();
        if !method["x-subscription"].is_null() || name.ends_with(".end") {
            continue;
        }
        let answer = rpc(&gateway, ADMIN, &name, &example(&method));
        if answer["error"].is_null() {
            let faults = check(&document, &method["result"]["schema"], &answer["result"]);
            assert!(faults.is_empty(), "{name}: {faults:#?}\n{answer}");
        } else {
            let word = answer["error"]["data"]["code"].as_str().unwrap_or_default();
            let known = &document["components"]["errors"][word];
            assert_eq!(known["code"], answer["error"]["code"], "{name}: {answer}");
            // What an example names need not be there; the example itself must be right.
            assert!(
                ["not_found", "conflict", "does_not_fit"].contains(&word),
                "{name}: {answer}"
            );
        }
        answered.insert(name, answer["error"].is_null());
    }
    let with_result = answered.values().filter(|is_result| **is_result).count();
    assert!(with_result * 3 > answered.len() * 2, "{answered:?}");
    for method in [
        "ledger.series",
        "ledger.query",
        "provider.list",
        "config.get",
        "system.status",
        "rpc.discover",
    ] {
        assert!(answered[method], "{method}");
    }
}

#[test]
fn every_subscriptions_items_are_as_the_document_says() {
    let said = Arc::default();
    let upstream = upstream(&said);
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let document = document(&gateway);
    let feeds: Vec<Value> = methods(&document)
        .into_iter()
        .filter(|method| !method["x-subscription"].is_null())
        .collect();
    assert_eq!(feeds.len(), 5);
    for feed in feeds {
        let name = feed["name"].as_str().unwrap();
        let mut peer = open(&gateway, ADMIN);
        let subscribed = say(&mut peer, name, &example(&feed));
        assert!(check(&document, &feed["result"]["schema"], &subscribed["result"]).is_empty());
        let happens = [("alert.feed", "alert"), ("rule.changes", "rule")];
        match happens.iter().find(|(feed, _)| *feed == name) {
            Some((_, "alert")) => {
                let alert = agentledger::testing::Alert {
                    at_ms: 1_000,
                    kind: "test".to_owned(),
                    severity: agentledger::testing::Severity::Info,
                    message: "seen".to_owned(),
                    details: vec![("tenant".to_owned(), "alpha".to_owned())],
                    about: "tenant:alpha".to_owned(),
                    tenant: "alpha".to_owned(),
                    policy: String::new(),
                    folded: 0,
                    id: ulid::Ulid::nil(),
                };
                let alerts = &gateway.launched().gateway().alerts;
                assert!(alerts.put(1_000, alert, std::time::Duration::from_secs(1), Occurrence::New));
            }
            Some(_) => {
                let rule = json!({"list": "block.keys", "value": "sk-stolen-*"});
                let put = rpc(&gateway, ADMIN, "rule.put", &rule);
                assert!(put["error"].is_null(), "{put}");
            }
            None => chat(&gateway, "alpha", "seen"),
        }
        let one = item(&mut peer, name);
        let faults = check(&document, &feed["x-subscription"]["item"], &one);
        assert!(
            faults.is_empty() && one["lagged"].is_null(),
            "{name}: {faults:#?}\n{one}"
        );
    }
}

#[test]
fn a_request_that_is_repeated_gets_its_first_answer_also_after_a_restart() {
    let upstream = upstream(&Arc::default());
    let setup = || Setup::new(&upstream).with(CONTROL);
    let gateway = setup().start();
    chat(&gateway, "alpha", "done");
    let entry = gateway.entry().facts.id.to_string();
    let adjust = json!({"entry": entry, "usd": "1.5", "reason": "credited", "request_id": "once"});
    let first = rpc(&gateway, ADMIN, "ledger.adjust", &adjust);
    assert_eq!(first["result"]["usd"], "1.5", "{first}");
    // At the same time, too: one is done, the others get its answer.
    let same = thread::scope(|scope| {
        let calls = [(); 8].map(|()| scope.spawn(|| rpc(&gateway, ADMIN, "ledger.adjust", &adjust)));
        calls.map(|call| call.join().unwrap())
    });
    assert!(same.iter().all(|answer| *answer == first), "{same:?}");
    let other = json!({"entry": entry, "usd": "2.5", "reason": "credited", "request_id": "once"});
    let reused = rpc(&gateway, ADMIN, "ledger.adjust", &other);
    assert_eq!(reused["error"]["data"]["code"], "request_id_reused");
    let dir = gateway.stop();
    let gateway = setup().in_dir(&dir).start();
    assert_eq!(
        rpc(&gateway, ADMIN, "ledger.adjust", &adjust),
        first,
        "after the restart"
    );
    let changes = rpc(&gateway, ADMIN, "audit.list", &json!({"action": "ledger.adjust"}));
    assert_eq!(changes["result"]["changes"].as_array().unwrap().len(), 1);
}

#[test]
fn an_operator_voids_a_hold_and_resets_a_breaker_and_a_reader_does_neither() {
    let said = Arc::default();
    let upstream = upstream(&said);
    let control = CONTROL.replace(
        "control: {tokens: [",
        "circuit_breaker: {max_failures: 1}\ncontrol: {tokens: [{name: eye, token: reader-token-0123456789, role: read}, \
         {name: hand, token: operator-token-0123456789, role: operate}, ",
    );
    let gateway = Setup::new(&upstream).with(&control).start();
    with_holds(&gateway, &said, || {
        let holds = rpc(&gateway, "reader-token-0123456789", "hold.list", &json!({}))["result"]["holds"].clone();
        let id = holds[0]["id"].to_string();
        let void = json!({"id": id, "reason": "its agent is gone"});
        let refused = rpc(&gateway, "reader-token-0123456789", "hold.void", &void);
        assert_eq!(refused["error"]["data"]["code"], "forbidden");
        let voided = rpc(&gateway, "operator-token-0123456789", "hold.void", &void);
        assert_eq!(voided["result"]["hold"]["id"].to_string(), id, "{voided}");
        let again = rpc(&gateway, "operator-token-0123456789", "hold.void", &void);
        assert_eq!(again["error"]["data"]["code"], "not_found");
        let left = rpc(&gateway, ADMIN, "hold.list", &json!({}))["result"]["holds"].clone();
        assert_eq!(left.as_array().unwrap().len(), 1);
    });
    let reset = json!({"provider": "openai", "note": "it is up again"});
    let done = rpc(&gateway, "operator-token-0123456789", "provider.reset_breaker", &reset);
    assert_eq!(done["result"]["providers"][0]["breaker"], "closed", "{done}");
    let denied = rpc(&gateway, "operator-token-0123456789", "ledger.adjust", &json!({}));
    assert_eq!(denied["error"]["data"]["code"], "forbidden");
    let audit = rpc(&gateway, ADMIN, "audit.list", &json!({"author": "hand"}))["result"]["changes"].clone();
    let actions: Vec<&str> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["provider.reset_breaker", "hold.void"]);
    let listed = rpc(&gateway, ADMIN, "provider.list", &json!({"provider": "openai"}));
    let traffic = &listed["result"]["providers"][0]["traffic"];
    assert!(
        traffic["requests"].as_u64().unwrap() >= 1 && traffic["duration"]["p99_ms"].is_u64(),
        "{listed}"
    );
}

#[test]
fn a_connection_ends_when_its_token_does() {
    let upstream = upstream(&Arc::default());
    let yaml = |token: &str| {
        format!(
            "providers: {{openai: {{upstream: \"{}\"}}}}\ncontrol: {{tokens: [{{name: eye, token: {token}, role: read}}]}}",
            upstream.base()
        )
    };
    let home = crate::harness::Installation::new(&yaml("first-token-0123456789"));
    let process = home.serve();
    let bearer = [("authorization", "Bearer first-token-0123456789")];
    let mut peer = Peer::open(process.client.address(), "/rpc", &bearer);
    assert_eq!(say(&mut peer, "system.status", &json!({}))["result"]["ready"], true);
    home.configure(&yaml("second-token-0123456789"));
    process.signal("HUP");
    for _ in 0..3_000 {
        let given = home.rpc("config.get", &json!({"path": "control"}));
        assert!(!given.to_string().contains("token-0123456789"), "{given}");
        if Peer::try_open(process.client.address(), "/rpc", &bearer).is_err() {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    peer.say(json!({"jsonrpc": "2.0", "id": 9, "method": "system.status"}));
    assert_eq!(peer.closed().map(|(code, _)| code), Some(1008));
}
