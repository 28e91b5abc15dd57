//! From the cause of an alert to a real receiver, in the contract's exact payloads; whose alerts they are; and what a restart does
//! not say again.

use std::sync::Arc;

use agentledger_ledger::{Clock, ManualClock};
use serde_json::{Value, json};

use crate::alerts::{CHAT, DAY_11_MS, Receiver, arrived, webhook};
use crate::harness::client::Reply;
use crate::harness::upstream::Seen;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::policy_versions::{activate, failing, history, put, row};
use crate::rules_kept::{CONTROL, answer, rpc};

const MINUTE_MS: i64 = 60_000;
/// A call that may cost, and costs, ten cents.
const DIME: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":10000}"#;
/// Warned of at 17.5 cents, used up at 35: the third call is warned of, the fourth refused.
const LIMIT: &str = "daily_limit_usd: 0.35, soft_limit_pct: 0.5, action: block";
const TENANTS: &str = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-acme-*', tenant_id: acme}, \
                       {api_key_pattern: 'sk-globex-*', tenant_id: globex}]}";
const ACME: &str = "Bearer sk-acme-0123456789abcdef";
const GLOBEX: &str = "Bearer sk-globex-0123456789abcdef";

fn dimes(model: &str) -> Upstream {
    let answer = json!({"id": "c", "model": model, "choices": [],
        "usage": {"prompt_tokens": 0, "completion_tokens": 10_000, "total_tokens": 10_000}});
    Upstream::always(Script::json(200, &answer.to_string()))
}

fn noon() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(DAY_11_MS + 12 * 60 * MINUTE_MS))
}

fn started(upstream: &Upstream, clock: &Arc<ManualClock>, yaml: &[&str]) -> Setup {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Setup::new(upstream).with(&yaml.join("\n")).clock(clock)
}

fn ask_with(gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
    let reply = gateway.client.request("POST", CHAT, headers, DIME.as_bytes());
    gateway.wait_idle();
    reply
}

fn ask(gateway: &Gateway, bearer: &str) -> u16 {
    ask_with(gateway, &[("authorization", bearer)]).status
}

fn kinds(seen: &[Seen]) -> Vec<String> {
    let kind = |one: &Seen| one.json()["type"].as_str().unwrap().to_owned();
    seen.iter().map(kind).collect()
}

#[test]
fn budgets_loops_ghosts_and_rollbacks_arrive_from_their_causes_in_exact_payloads() {
    let (upstream, receiver, clock) = (dimes("gpt-4o"), Receiver::taking(), noon());
    let agent = "agent: {loop_threshold: 2, loop_window_mins: 5, loop_action: warn, \
                 ghost_max_age_mins: 60, ghost_min_calls: 3, ghost_min_cost_usd: 0.25}";
    let budgets = format!("budgets: {{default: {{{LIMIT}}}}}");
    let gateway = started(&upstream, &clock, &[&webhook(&receiver), agent, &budgets, CONTROL]).start();
    let session = |bearer| {
        let who = [
            ("authorization", bearer),
            ("X-Agent-Id", "coder"),
            ("X-Agent-Session", "s1"),
        ];
        ask_with(&gateway, &who)
    };
    let replies: Vec<Reply> = (0..4).map(|_| session(ACME)).collect();
    assert_eq!(
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>(),
        [200, 200, 200, 429]
    );
    let key = gateway.entries()[0].facts.key.to_string();
    let of_key = |kind: &str, severity: &str, how: &str, spent: &str| {
        json!({"type": kind, "severity": severity, "message": format!("API key {key} {how} budget limit"),
            "details": {"api_key_hash": key, "daily_spent": spent, "daily_limit": "0.35"}})
    };
    let agent = json!({"session_id": "s1", "agent_id": "coder"});
    let warned = of_key("budget_warning", "warning", "approaching", "0.20");
    assert_eq!(arrived(&receiver, "budget_warning"), warned);
    let exceeded = of_key("budget_exceeded", "critical", "exceeded", "0.30");
    assert_eq!(arrived(&receiver, "budget_exceeded"), exceeded);
    let said = replies[1].header("x-agentledger-loop-warning").unwrap();
    let looped = json!({"type": "loop_detected", "severity": "warning", "message": said, "details": agent});
    assert_eq!(arrived(&receiver, "loop_detected"), looped);

    clock.advance_ms(65 * MINUTE_MS);
    assert_eq!(session(GLOBEX).status, 200);
    let ghost = json!({"type": "ghost_detected", "severity": "critical",
        "message": "session active 1h5m0s, 4 calls, $0.40 spent", "details": agent});
    assert_eq!(arrived(&receiver, "ghost_detected"), ghost);

    let bad = put(&gateway, &failing("2"));
    activate(&gateway, &bad);
    while row(&history(&gateway), &bad).0 != "rolled_back" {
        ask(&gateway, "Bearer sk-other");
    }
    let now = "nothing of it is in force, as before its activation";
    let message = format!(
        "policy house: version {} is rolled back, 20 of 20 calls of request failed: {now}",
        &bad[..12]
    );
    let rolled_back = json!({"type": "policy_rolled_back", "severity": "critical", "message": message,
        "details": {"policy": "house", "version": bad, "calls": "20", "failures": "20", "in_force": ""}});
    assert_eq!(arrived(&receiver, "policy_rolled_back"), rolled_back);
}

#[test]
fn a_route_of_a_tenant_gets_its_budgets_and_paces_and_so_does_its_list() {
    let (upstream, receiver, clock) = (dimes("gpt-4o"), Receiver::taking(), noon());
    let to = receiver.url();
    let alerts = format!(
        "alerts: {{receivers: [{{name: team, kind: webhook, url: '{to}', allow_private: true}}], \
         routes: [{{types: ['budget_*', burn_rate], tenants: [acme], receivers: [team]}}]}}"
    );
    let budgets = format!("budgets: {{rules: [{{tenant_id: acme, {LIMIT}}}, {{tenant_id: globex, {LIMIT}}}]}}");
    let gateway = started(&upstream, &clock, &[&alerts, &budgets, TENANTS, CONTROL]).start();
    for bearer in [GLOBEX, ACME] {
        assert_eq!([0; 4].map(|_| ask(&gateway, bearer)), [200, 200, 200, 429]);
    }
    let wanted = ["budget_exceeded", "budget_warning", "burn_rate"];
    let seen = receiver.wait(|seen| wanted.iter().all(|kind| kinds(seen).iter().any(|known| known == kind)));
    for body in seen.iter().map(Seen::json) {
        assert_eq!(body["details"]["account"], "tenant:acme", "{body}");
    }
    let listed = answer(&gateway, "acme-token-0123456789", "alert.list", &json!({}));
    let mut listed: Vec<&str> = listed["result"]["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["type"].as_str().unwrap())
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, wanted);
}

/// By hand: ten cents in the twelve hours of the day, of a dollar for the month: 90 cents last 108 hours more.
#[test]
fn the_pace_of_a_model_is_its_accounts_whatever_name_answers_and_a_budget_that_warns_has_one() {
    let (upstream, receiver, clock) = (dimes("gpt-4o-2024-08-06"), Receiver::taking(), noon());
    let gateway = started(&upstream, &clock, &[&webhook(&receiver)])
        .conf(
            "budget",
            "{limits: [{account: model, window: month, limit: 1, action: warn}]}",
        )
        .start();
    assert_eq!(ask(&gateway, ACME), 200);
    let burn = arrived(&receiver, "burn_rate");
    assert_eq!(
        burn["message"],
        "model:gpt-4o: at this pace the month's budget ends on the 16th"
    );
    assert_eq!(burn["details"]["ends_at"], "2026-03-16T00:00:00Z");
}

#[test]
fn what_was_spent_before_midnight_is_no_pace_of_the_new_day() {
    let (upstream, receiver) = (dimes("gpt-4o"), Receiver::taking());
    let clock = Arc::new(ManualClock::new(DAY_11_MS - 30 * MINUTE_MS));
    let yaml = "budgets: {default: {daily_limit_usd: 5, action: block}}";
    let gateway = started(&upstream, &clock, &[&webhook(&receiver), yaml, TENANTS]).start();
    // At this hour's pace the old day's budget lasts.
    assert_eq!([0; 10].map(|_| ask(&gateway, ACME)), [200; 10]);
    clock.advance_ms(31 * MINUTE_MS);
    assert_eq!(ask(&gateway, ACME), 200);
    // Others do burn: by the time that both are said, the first was looked at twice.
    for (burning, bearer) in [GLOBEX, "Bearer sk-late"].into_iter().enumerate() {
        assert_eq!([0; 8].map(|_| ask(&gateway, bearer)), [200; 8]);
        clock.advance_ms(MINUTE_MS);
        receiver.wait(|seen| seen.len() > burning);
    }
    let first = gateway.entries().iter().map(|entry| entry.facts.key.to_string()).next();
    let said: Vec<Value> = receiver.wait(|seen| seen.len() >= 2).iter().map(Seen::json).collect();
    let first = format!("key:{}", first.unwrap());
    assert!(said.iter().all(|burn| burn["details"]["account"] != first), "{said:?}");
}

#[test]
fn a_restart_does_not_repeat_what_is_said_once_a_window() {
    let (upstream, receiver, clock) = (dimes("gpt-4o"), Receiver::taking(), noon());
    let rules = r#"{rules: [{account: global, limit_usd: "0.05"}, {account: key, limit_usd: "0.05"}]}"#;
    let start = |setup: Setup| setup.conf("threshold", rules).start();
    let gateway = start(started(&upstream, &clock, &[&webhook(&receiver)]));
    assert_eq!(ask(&gateway, ACME), 200);
    receiver.wait(|seen| seen.len() >= 2);
    let dir = gateway.stop();
    let gateway = start(started(&upstream, &clock, &[&webhook(&receiver)]).in_dir(&dir));
    assert_eq!([ACME, GLOBEX].map(|bearer| ask(&gateway, bearer)), [200, 200]);
    // The other key's is new; the first one's and that of all together are not.
    let seen = receiver.wait(|seen| seen.len() >= 3);
    let mut accounts: Vec<String> = seen
        .iter()
        .map(|one| one.json()["details"]["account"].to_string())
        .collect();
    accounts.sort_unstable();
    accounts.dedup();
    assert_eq!((seen.len(), accounts.len()), (3, 3), "{accounts:?}");
}

/// Fails at whatever it is shown.
const BROKEN: &str = "return { name = 'alert', version = '9', events = { 'policy', 'version' }, \
                      schema = { cooldown_mins = { type = 'integer' } }, \
                      alert = function(_, event) if event.kind ~= 'probe' then error('broken') end end }";

#[test]
fn people_are_notified_where_the_policy_that_would_notify_them_fails() {
    let (upstream, receiver, clock) = (dimes("gpt-4o"), Receiver::taking(), noon());
    let fails = "return { name = 'fails', version = '1', request = function(_, call)
        if call.model == 'gpt-4o' then error('on purpose') end end }";
    let gateway = started(&upstream, &clock, &[&webhook(&receiver)])
        .policy("alert", BROKEN)
        .policy("fails", fails)
        .start();
    assert_eq!(ask(&gateway, ACME), 503);
    let told = arrived(&receiver, "policy_error");
    assert_eq!(
        (&told["severity"], &told["details"]["policy"]),
        (&json!("critical"), &json!("alert"))
    );
    assert!(told["message"].as_str().unwrap().contains("broken"), "{told}");
}

/// Has a version of the policy `house` rolled back, and waits until it is.
fn rolled_back(gateway: &Gateway) {
    let bad = put(gateway, &failing("2"));
    activate(gateway, &bad);
    while row(&history(gateway), &bad).0 != "rolled_back" {
        ask(gateway, ACME);
    }
}

#[test]
fn conf_turns_a_rollback_down_or_off_and_nothing_else_loses_it() {
    let upstream = dimes("gpt-4o");
    let said = |setup: Setup| {
        let gateway = setup.with(CONTROL).start();
        rolled_back(&gateway);
        let alerts = gateway.alerts();
        let found = alerts.iter().find(|alert| alert.kind == "policy_rolled_back");
        found.map(|alert| (alert.severity.name().to_owned(), alert.policy.clone()))
    };
    let with_conf = |conf: &str| said(Setup::new(&upstream).conf("alert", conf));
    assert_eq!(with_conf("{off: [policy_rolled_back]}"), None);
    let quiet = with_conf("{severities: [{type: policy_rolled_back, severity: info}]}");
    assert_eq!(quiet, Some(("info".to_owned(), "alert@1".to_owned())));
    // Where nobody listens, or who does fails, it is the gateway's own.
    let own = Some(("critical".to_owned(), String::new()));
    assert_eq!(with_conf("{mode: off}"), own);
    assert_eq!(said(Setup::new(&upstream).policy("alert", BROKEN)), own);
    let deaf = BROKEN
        .replace("events = { 'policy', 'version' }, ", "")
        .replace("error('broken')", "return nil");
    assert_eq!(said(Setup::new(&upstream).policy("alert", &deaf)), own);
}

#[test]
fn where_the_policy_of_alerts_is_rolled_back_the_one_before_it_says_so() {
    let (upstream, receiver, clock) = (dimes("gpt-4o"), Receiver::taking(), noon());
    let gateway = started(&upstream, &clock, &[&webhook(&receiver), CONTROL]).start();
    // It fails at each call that is settled, and so at what it is shown of that.
    let bad = put(
        &gateway,
        &BROKEN.replace(
            "alert =",
            "settled = function(_, entry) if entry.agent ~= 'probe' then error('no') end end, alert =",
        ),
    );
    rpc(&gateway, "policy.activate", &json!({"policy": "alert", "version": bad}));
    for _ in 0..30 {
        assert_eq!(ask(&gateway, ACME), 200);
    }
    let told = arrived(&receiver, "policy_rolled_back");
    assert_eq!(
        (&told["details"]["policy"], &told["details"]["version"]),
        (&json!("alert"), &json!(bad))
    );
    let alerts = gateway.alerts();
    let found = alerts.iter().find(|alert| alert.kind == "policy_rolled_back").unwrap();
    assert_eq!(found.policy, "alert@1", "the built-in one is in force again");
}
