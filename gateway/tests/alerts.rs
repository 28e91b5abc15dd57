//! Alerts arrive: in the contract's payloads, across a kill of the gateway, whatever their receivers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use agentledger::testing::{Alert, Occurrence, Severity};
use agentledger_ledger::ManualClock;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::mail::MailServer;
use crate::harness::upstream::{Seen, Step};
use crate::harness::{Gateway, Installation, Script, Setup, Upstream};

pub const CHAT: &str = "/v1/chat/completions";
pub const ASKED: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
/// 2026-03-11T00:00:00Z: ten of March's days are over.
pub const DAY_11_MS: i64 = 1_773_187_200_000;
const COOLDOWN: Duration = Duration::from_secs(300);
const TYPES: [(&str, &str); 14] = [
    ("budget_warning", "warning"),
    ("budget_exceeded", "critical"),
    ("threshold_reached", "info"),
    ("loop_detected", "warning"),
    ("ghost_detected", "critical"),
    ("circuit_open", "critical"),
    ("policy_error", "critical"),
    ("policy_rolled_back", "critical"),
    ("plugin_error", "warning"),
    ("unpriced_model", "warning"),
    ("price_drift", "warning"),
    ("ledger_fault", "critical"),
    ("hold_stuck", "warning"),
    ("burn_rate", "warning"),
];

/// An HTTP receiver that answers as it is told to at the moment.
pub struct Receiver {
    pub upstream: Upstream,
    answer: Arc<Mutex<Script>>,
}

impl Receiver {
    pub fn new(answer: Script) -> Receiver {
        let answer = Arc::new(Mutex::new(answer));
        let playing = Arc::clone(&answer);
        Receiver {
            upstream: Upstream::playing(move |_| playing.lock().unwrap().clone()),
            answer,
        }
    }

    pub fn taking() -> Receiver {
        Receiver::new(ok())
    }

    fn behave(&self, answer: Script) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn url(&self) -> String {
        format!("{}/hook", self.upstream.base())
    }

    /// Waits, boundedly, until what came is enough.
    pub fn wait(&self, is_enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        for _ in 0..3_000 {
            let seen = self.upstream.seen();
            if is_enough(&seen) {
                return seen;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it never came; {} requests did", self.upstream.seen_count());
    }

    /// Bodies by id: whatever comes twice comes with the same id and the same body.
    fn wait_for(&self, count: usize) -> BTreeMap<String, Value> {
        let seen = self.wait(|seen| ids(seen).len() >= count);
        let mut bodies = BTreeMap::new();
        for one in &seen {
            let id = one.header("webhook-id").unwrap().to_owned();
            let before = bodies.insert(id, one.json());
            assert!(before.is_none_or(|before| before == one.json()), "{one:?}");
        }
        bodies
    }
}

fn ids(seen: &[Seen]) -> BTreeSet<&str> {
    seen.iter().filter_map(|one| one.header("webhook-id")).collect()
}

fn ok() -> Script {
    Script::body(200, "text/plain", b"ok", &[("connection", "close")])
}

fn status(status: u16) -> Script {
    Script::body(status, "text/plain", b"no", &[("connection", "close")])
}

pub fn chat() -> Upstream {
    Upstream::always(Script::json(200, SMALL))
}

pub fn webhook(receiver: &Receiver) -> String {
    format!(
        "alerts: {{webhooks: [{{url: '{}', allow_private: true}}]}}",
        receiver.url()
    )
}

/// A policy that raises an alert of each type at each request.
fn raises_all() -> String {
    let alerts: Vec<String> = TYPES
        .iter()
        .map(|(kind, severity)| {
            format!(
                "alert{{ type = '{kind}', severity = '{severity}', message = 'this is {kind}', \
                 details = {{ api_key_hash = 'f1', daily_spent = '8.00', daily_limit = '10.00' }}, about = 'key:f1' }}"
            )
        })
        .collect();
    format!(
        "return {{ name = 'all', version = '1', request = function() return {{ {} }} end }}",
        alerts.join(", ")
    )
}

fn raised(kind: &str, about: &str) -> Alert {
    Alert {
        id: ulid::Ulid::new(),
        at_ms: DAY_11_MS,
        kind: kind.to_owned(),
        severity: Severity::Warning,
        message: format!("{kind} of {about}"),
        details: vec![("session_id".to_owned(), about.to_owned())],
        about: about.to_owned(),
        tenant: String::new(),
        policy: String::new(),
        folded: 0,
    }
}

fn put(gateway: &Gateway, kind: &str, about: &str) {
    let alerts = &gateway.launched().gateway().alerts;
    assert!(alerts.put(0, raised(kind, about), COOLDOWN, Occurrence::New));
}

fn metric(gateway: &Gateway, line: &str) -> bool {
    gateway.client.get("/metrics").text().lines().any(|known| known == line)
}

fn wait_for_metric(gateway: &Gateway, line: &str) {
    for _ in 0..1_500 {
        if metric(gateway, line) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{line}\n{}", gateway.client.get("/metrics").text());
}

/// The first alert of a type that a webhook got.
pub fn arrived(receiver: &Receiver, kind: &str) -> Value {
    let seen = receiver.wait(|seen| seen.iter().any(|one| one.json()["type"] == kind));
    seen.iter().map(Seen::json).find(|body| body["type"] == kind).unwrap()
}

#[test]
fn every_type_arrives_in_the_contracts_payloads_across_a_kill_of_the_gateway() {
    let upstream = chat();
    let (hook, slack) = (Receiver::new(status(500)), Receiver::new(status(500)));
    let yaml = format!(
        "providers: {{openai: {{upstream: '{}'}}}}\nalerts:\n  slack: {{webhook_url: '{}', allow_private: \
         true}}\n  webhooks: [{{url: '{}', headers: {{X-Source: ours}}, allow_private: true}}]\n",
        upstream.base(),
        slack.url(),
        hook.url()
    );
    let home = Installation::new(&yaml);
    home.policy("all", &raises_all());
    let running = home.serve();
    assert_eq!(running.client.post(CHAT, ASKED).status, 200);
    // Whatever was tried is written down before.
    hook.wait(|seen| ids(seen).len() >= 4);
    slack.wait(|seen| seen.len() >= 4);
    running.kill();
    let before = hook.upstream.seen();
    hook.behave(ok());
    slack.behave(ok());

    let running = home.serve();
    let bodies = hook.wait_for(TYPES.len());
    assert!(
        before
            .iter()
            .all(|one| bodies.contains_key(one.header("webhook-id").unwrap()))
    );
    let golden = |(kind, severity): &(&str, &str)| {
        json!({"type": kind, "severity": severity, "message": format!("this is {kind}"),
            "details": {"api_key_hash": "f1", "daily_spent": "8.00", "daily_limit": "10.00"}})
    };
    let sorted = |bodies: Vec<Value>| bodies.iter().map(Value::to_string).collect::<BTreeSet<String>>();
    let expected = TYPES.iter().map(golden).collect();
    assert_eq!(sorted(bodies.into_values().collect()), sorted(expected));
    let first = &hook.upstream.seen()[0];
    assert_eq!(first.header("x-source"), Some("ours"));
    assert_eq!(first.header("content-type"), Some("application/json"));

    let blocks = |(kind, severity): &(&str, &str)| {
        let icon = if *severity == "critical" {
            ":rotating_light:"
        } else {
            ":warning:"
        };
        let details = "• *api_key_hash:* f1\n• *daily_limit:* 10.00\n• *daily_spent:* 8.00\n";
        json!({"blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": format!("{icon} AgentLedger Alert: {kind}")}},
            {"type": "section", "text": {"type": "mrkdwn", "text": format!("this is {kind}")}},
            {"type": "section", "text": {"type": "mrkdwn", "text": details}},
        ]})
    };
    let expected = sorted(TYPES.iter().map(blocks).collect());
    let posted = |seen: &[Seen]| sorted(seen.iter().map(Seen::json).collect());
    slack.wait(|seen| posted(seen) == expected);
    running.stop();
}

#[test]
fn receivers_that_hang_fail_redirect_or_reset_hold_no_request_up_and_lose_nothing_over_a_restart() {
    let upstream = chat();
    let elsewhere = Receiver::taking();
    let lead = Script::body(
        302,
        "text/plain",
        b"",
        &[("location", &elsewhere.url()), ("connection", "close")],
    );
    let receivers = [
        Receiver::new(Script::default().step(Step::AwaitClose)),
        Receiver::new(status(500)),
        Receiver::new(lead),
        Receiver::new(Script::default().step(Step::Close)),
        Receiver::new(Script::raw(b"HTTP/1.1 200 OK\r\n".to_vec()).step(Step::AwaitClose)),
        Receiver::new(Script::body(
            429,
            "text/plain",
            b"",
            &[("retry-after", "1"), ("connection", "close")],
        )),
    ];
    let hooks: Vec<String> = receivers
        .iter()
        .map(|receiver| format!("{{url: '{}', allow_private: true}}", receiver.url()))
        .collect();
    let yaml = format!("alerts: {{timeout: 300ms, webhooks: [{}]}}", hooks.join(", "));
    let policy = "return { name = 'p', version = '1', settled = function(_, entry)
        return alert{ type = 'seen', message = 'seen', about = entry.id } end }";
    let start = |setup: Setup| setup.with(&yaml).policy("p", policy).start();
    let gateway = start(Setup::new(&upstream));
    for _ in 0..10 {
        assert_eq!(gateway.client.post(CHAT, ASKED).status, 200);
    }
    for receiver in &receivers {
        receiver.wait(|seen| !seen.is_empty());
    }
    let dir = gateway.stop();
    receivers.iter().for_each(|receiver| receiver.behave(ok()));
    let gateway = start(Setup::new(&upstream).in_dir(&dir));
    for receiver in &receivers {
        assert_eq!(receiver.wait_for(10).len(), 10);
    }
    wait_for_metric(&gateway, "agentledger_alert_deliveries_waiting 0");
    assert_eq!(elsewhere.upstream.seen_count(), 0, "no redirect is followed");
    assert!(metric(&gateway, "agentledger_alert_deliveries_dead 0"));
}

#[test]
fn a_flood_is_bounded_and_each_alert_arrives_or_is_counted() {
    let upstream = chat();
    let receiver = Receiver::new(Script::default().step(Step::AwaitClose));
    let yaml = format!(
        "alerts: {{timeout: 500ms, webhooks: [{{url: '{}', allow_private: true}}]}}",
        receiver.url()
    );
    let gateway = Setup::new(&upstream).with(&yaml).start();
    for number in 0..10_000 {
        put(&gateway, "flood", &format!("agent:{number}"));
    }
    assert!(
        !gateway
            .launched()
            .gateway()
            .alerts
            .put(1, raised("flood", "agent:1"), COOLDOWN, Occurrence::New)
    );
    wait_for_metric(&gateway, "agentledger_alert_deliveries_waiting 1000");
    receiver.behave(ok());
    wait_for_metric(&gateway, "agentledger_alert_deliveries_waiting 0");
    let bodies = receiver.wait_for(1_000);
    let folded = |body: &Value| {
        body["details"]["folded"]
            .as_str()
            .map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let counted: u64 = bodies.values().map(|body| 1 + folded(body)).sum();
    // Room that deliveries leave is taken by what still comes.
    assert!((1_000..2_000).contains(&bodies.len()), "{}", bodies.len());
    assert_eq!(counted, 10_000);
}

#[test]
fn a_mail_arrives_at_a_mail_server() {
    let upstream = chat();
    let server = MailServer::new();
    let yaml = format!(
        "alerts: {{receivers: [{{name: team, kind: email, addr: '{}', tls: none, username: u, password: p, allow_private: true, \
         from: 'AgentLedger <ledger@example.com>', to: [ops@example.com, b@example.com]}}]}}",
        server.address()
    );
    let gateway = Setup::new(&upstream).with(&yaml).start();
    server.refuse(Some("451 4.7.1 later"));
    put(&gateway, "loop_detected", "s1");
    wait_for_metric(
        &gateway,
        "agentledger_alert_deliveries_total{receiver=\"team\",result=\"failed\"} 1",
    );
    server.refuse(None);
    wait_for_metric(
        &gateway,
        "agentledger_alert_deliveries_total{receiver=\"team\",result=\"delivered\"} 1",
    );
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert_eq!(mail.from, "ledger@example.com");
    assert_eq!(mail.to, ["ops@example.com", "b@example.com"]);
    assert_eq!(mail.login, BASE64_STANDARD.encode("\0u\0p"));
    assert!(
        mail.data
            .contains("Subject: [AgentLedger] warning: loop_detected: loop_detected of s1\n"),
        "{}",
        mail.data
    );
    assert!(
        mail.data.contains("session_id: s1\n") && mail.data.contains("Message-ID: <"),
        "{}",
        mail.data
    );

    server.refuse(Some("550 5.1.1 no such user"));
    put(&gateway, "ghost_detected", "s1");
    wait_for_metric(&gateway, "agentledger_alert_deliveries_dead 1");
}

#[test]
fn bodies_are_signed_and_forms_are_those_of_the_receivers() {
    let upstream = chat();
    let (signed, pager, teams) = (Receiver::taking(), Receiver::taking(), Receiver::taking());
    let secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let yaml = format!(
        "alerts:\n  receivers:\n    - {{name: signed, kind: webhook, url: '{}', secret: whsec_{secret}, allow_private: true}}\n    \
         - {{name: pager, kind: pagerduty, url: '{}', secret: routing, allow_private: true}}\n    \
         - {{name: teams, kind: template, url: '{}', allow_private: true, template: '{{\"text\": \"{{{{type}}}}: {{{{message}}}}\"}}'}}\n  \
         routes: [{{types: ['loop_*'], severity: warning, receivers: [pager, teams]}}]",
        signed.url(),
        pager.url(),
        teams.url()
    );
    let gateway = Setup::new(&upstream).with(&yaml).start();
    put(&gateway, "ghost_detected", "s0");
    put(&gateway, "loop_detected", "s\"1\"");
    signed.wait_for(2);
    for one in signed.upstream.seen() {
        let header = |name: &str| one.header(name).unwrap();
        let body = String::from_utf8(one.body.clone()).unwrap();
        let content = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(secret).unwrap());
        let (version, signature) = header("webhook-signature").split_once(',').unwrap();
        let signature = BASE64_STANDARD.decode(signature).unwrap();
        assert_eq!(version, "v1");
        hmac::verify(&key, content.as_bytes(), &signature).unwrap();
    }
    let event = pager.wait(|seen| !seen.is_empty())[0].json();
    assert_eq!(event["routing_key"], "routing");
    assert_eq!(event["dedup_key"], "agentledger:loop_detected:s\"1\"");
    let text = teams.wait_for(1);
    assert_eq!(
        text.into_values().next().unwrap(),
        json!({"text": "loop_detected: loop_detected of s\"1\""})
    );
    assert_eq!(
        (pager.upstream.seen_count(), teams.upstream.seen_count()),
        (1, 1),
        "routes hold"
    );
}

#[test]
fn what_the_gateway_notices_arrives_through_the_shipped_policy() {
    let receiver = Receiver::taking();
    let upstream = Upstream::playing(|seen| match seen.json()["model"].as_str().unwrap() {
        "gpt-4o-mini" => Script::json(500, "{}"),
        "gpt-6.9-sol" => Script::json(200, &SMALL.replace("gpt-4o", "gpt-6.9-sol")),
        "openai/gpt-4o" => Script::json(
            200,
            &SMALL
                .replace("\"total_tokens\":20", "\"total_tokens\":20,\"cost\":0.5")
                .replace("gpt-4o", "openai/gpt-4o"),
        ),
        _ => Script::json(200, SMALL),
    });
    let base = upstream.base();
    let yaml = format!(
        "providers: {{openai: {{upstream: '{base}'}}, extra: {{openrouter: {{enabled: true, upstream: '{base}'}}}}}}\n{}\n\
         circuit_breaker: {{max_failures: 1, timeout_secs: 30}}",
        webhook(&receiver)
    );
    let fails = "return { name = 'fails', version = '1', request = function(_, call)
        if call.model == 'o3' then error('on purpose') end end }";
    let gateway = Setup::new(&upstream).only(&yaml).policy("fails", fails).start();
    let ask = |path: &str, model: &str| gateway.client.post(path, &ASKED.replace("gpt-4o", model)).status;
    assert_eq!(ask(CHAT, "o3"), 503);
    assert_eq!(ask(CHAT, "gpt-6.9-sol"), 200);
    assert_eq!(ask("/openrouter/v1/chat/completions", "openai/gpt-4o"), 200);
    ask(CHAT, "gpt-4o-mini");

    let failed = arrived(&receiver, "policy_error");
    assert_eq!(
        (&failed["severity"], &failed["details"]["policy"]),
        (&json!("critical"), &json!("fails"))
    );
    assert!(failed["message"].as_str().unwrap().contains("on purpose"), "{failed}");
    let unpriced = arrived(&receiver, "unpriced_model");
    assert!(
        unpriced["message"]
            .as_str()
            .unwrap()
            .starts_with("openai gpt-6.9-sol: no price is known;"),
        "{unpriced}"
    );
    let drift = arrived(&receiver, "price_drift");
    assert_eq!(drift["details"]["provider"], "openrouter");
    assert_eq!(drift["details"]["reported_usd"], "0.5");
    let open = arrived(&receiver, "circuit_open");
    let expected = json!({"type": "circuit_open", "severity": "critical",
        "message": "openai: the circuit breaker is open; calls are refused for 30 s",
        "details": {"provider": "openai", "failures": "1"}});
    assert_eq!(open, expected);
}

/// By hand: 0.000125 USD in the last six hours of a limit of ten times that leaves nine times it, 54 hours: the 13th at six.
#[test]
fn a_budget_that_ends_early_at_its_pace_is_an_alert() {
    let (receiver, upstream) = (Receiver::taking(), chat());
    let clock = Arc::new(ManualClock::new(DAY_11_MS));
    let yaml = format!(
        "{}\nbudgets: {{default: {{monthly_limit_usd: 0.00125, action: block}}}}",
        webhook(&receiver)
    );
    let gateway = Setup::new(&upstream).with(&yaml).clock(clock).start();
    let small = ASKED.replace("100", "10");
    assert_eq!(gateway.client.post(CHAT, &small).status, 200);
    let burn = arrived(&receiver, "burn_rate");
    let key = &gateway.entry().facts.key;
    assert_eq!(
        burn["message"],
        format!("API key {key}: at this pace the month's budget ends on the 13th")
    );
    assert_eq!(burn["details"]["ends_at"], "2026-03-13T06:00:00Z");
    assert_eq!(burn["details"]["rate"], "12.4");
}

#[test]
fn a_hold_that_stays_open_is_an_alert() {
    let receiver = Receiver::taking();
    let upstream = Upstream::always(Script::stream_head("text/event-stream").step(Step::AwaitClose));
    let clock = Arc::new(ManualClock::new(DAY_11_MS));
    let gateway = Setup::new(&upstream)
        .with(&webhook(&receiver))
        .clock(clock.clone())
        .start();
    let headers = [("authorization", "Bearer sk-test-0123456789abcdef")];
    let open = gateway.client.send("POST", CHAT, &headers, ASKED.as_bytes());
    for _ in 0..500 {
        if upstream.seen_count() > 0 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    clock.advance_ms(31 * 60_000);
    let stuck = arrived(&receiver, "hold_stuck");
    assert!(
        stuck["message"]
            .as_str()
            .unwrap()
            .ends_with("for openai gpt-4o is open for 31 minutes"),
        "{stuck}"
    );
    // Looks at it are no further occurrences: by the time that a second one is said, the first was looked at again.
    let second = gateway.client.send("POST", CHAT, &headers, ASKED.as_bytes());
    for _ in 0..500 {
        if upstream.seen_count() > 1 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    clock.advance_ms(31 * 60_000);
    receiver.wait(|seen| seen.len() >= 2);
    clock.advance_ms(31 * 60_000);
    let seen = receiver.wait(|seen| seen.len() >= 3);
    assert!(
        seen.iter().all(|one| one.json()["details"]["folded"].is_null()),
        "{seen:?}"
    );
    drop((open, second));
}

#[test]
fn a_receiver_at_a_private_address_gets_nothing_unless_it_may() {
    let (upstream, receiver) = (chat(), Receiver::taking());
    // A name that leads there, and not the address itself, which the configuration would mean.
    let named = receiver.url().replace("127.0.0.1", "127.1");
    let yaml = format!("alerts: {{webhooks: [{{url: '{named}'}}]}}");
    let gateway = Setup::new(&upstream).with(&yaml).start();
    put(&gateway, "loop_detected", "s1");
    wait_for_metric(&gateway, "agentledger_alert_deliveries_dead 1");
    assert_eq!(receiver.upstream.seen_count(), 0);
}

#[test]
fn dead_letters_are_retried_receivers_tested_and_alerts_silenced_from_the_command_line() {
    let (upstream, receiver) = (chat(), Receiver::new(status(404)));
    let yaml = format!(
        "providers: {{openai: {{upstream: '{}'}}}}\n{}\n",
        upstream.base(),
        webhook(&receiver)
    );
    let home = Installation::new(&yaml);
    home.policy("all", &raises_all());
    let running = home.serve();
    let list = |params: Value| home.rpc("alert.list", &params)["alerts"].as_array().unwrap().clone();
    let wait = |state: &str, count: usize| {
        for _ in 0..1_500 {
            if list(json!({"state": state})).len() == count {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{count} {state}: {:#?}", list(json!({})));
    };
    assert_eq!(running.client.post(CHAT, ASKED).status, 200);
    wait("dead", TYPES.len());
    let dead = &list(json!({"state": "dead"}))[0]["deliveries"][0];
    assert_eq!(
        (&dead["receiver"], &dead["error"]),
        (&json!("webhook1"), &json!("it answers 404: no"))
    );
    let tested = home.run(&["alerts", "test", "webhook1"]);
    let said = String::from_utf8(tested.stdout).unwrap();
    assert!(said.contains("does not have the test: it answers 404: no"), "{said}");
    assert!(!tested.status.success(), "a script must see that it has not arrived");

    // Dead letters outlive a restart, and are seen while no gateway runs.
    running.stop();
    let left: Value = serde_json::from_str(&home.print(&["alerts", "--state", "dead", "--json"])).unwrap();
    let left = left["alerts"].as_array().unwrap();
    assert_eq!(
        (left.len(), &left[0]["deliveries"][0]["receiver"]),
        (TYPES.len(), &json!("webhook1"))
    );
    let running = home.serve();
    wait("dead", TYPES.len());
    receiver.behave(ok());
    assert!(
        home.print(&["alerts", "test", "webhook1"])
            .contains("webhook1 has the test: 200 ok")
    );
    assert_eq!(home.print(&["alerts", "retry"]), "14 tried again\n");
    wait("delivered", TYPES.len());
    let audit = home.rpc("audit.list", &json!({"subject": "alert-receiver:"}));
    let done: Vec<(&str, &str)> = audit["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["subject"].as_str().unwrap()))
        .collect();
    let tested = ("alert.test", "alert-receiver:webhook1");
    assert_eq!(done, [("alert.retry", "alert-receiver:*"), tested, tested], "{audit:#}");

    let silence: Value = serde_json::from_str(&home.print(&[
        "alerts", "silence", "--type", "*", "--for", "2h", "--note", "a test", "--json",
    ]))
    .unwrap();
    let id = silence["silence"]["id"].as_str().unwrap();
    assert!(home.print(&["alerts", "silences"]).contains(id));
    assert_eq!(running.client.post(CHAT, ASKED).status, 200);
    wait("silenced", TYPES.len());
    assert!(home.print(&["audit"]).contains("alert.silence"));
    home.print(&["alerts", "unsilence", id]);
    assert!(home.print(&["alerts", "silences"]).contains("No silence."));
    running.stop();
}
