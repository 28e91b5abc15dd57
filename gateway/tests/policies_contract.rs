//! The contract's sections drive the shipped policies, unchanged, and each defect of the original that it marks in §5, §6 and
//! §9 has a test that is named after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use agentledger_ledger::ManualClock;

use crate::harness::client::Reply;
use crate::harness::{Gate, Gateway, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
/// 2026-03-01, noon.
const NOON_MS: i64 = 1_772_366_400_000;

/// A question that may cost a cent at most (1,000 tokens at 10 USD a million), and one input token or so.
const CENT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#;

/// An answer that bills a cent.
fn cent() -> Script {
    Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":1000,"total_tokens":1000}}"#,
    )
}

fn upstream() -> Upstream {
    Upstream::always(cent())
}

fn with(gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
    gateway.client.request("POST", CHAT, headers, CENT.as_bytes())
}

fn as_key(gateway: &Gateway, key: &str) -> Reply {
    let bearer = format!("Bearer {key}");
    with(gateway, &[("authorization", bearer.as_str())])
}

fn statuses<const N: usize>(gateway: &Gateway, key: &str) -> [u16; N] {
    [0; N].map(|_| as_key(gateway, key).status)
}

fn at_noon(upstream: &Upstream, yaml: &str) -> (Gateway, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOON_MS));
    let gateway = Setup::new(upstream).with(yaml).clock(clock.clone()).start();
    (gateway, clock)
}

fn error(reply: &Reply, field: &str) -> String {
    let value = &reply.json()["error"][field];
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn the_contracts_budgets_yaml_drives_budgets() {
    let yaml = "
budgets:
  default:
    daily_limit_usd: 0.025
    monthly_limit_usd: 0.045
    soft_limit_pct: 0.8
    action: block
  rules:
    - api_key_pattern: \"sk-dev-*\"
      daily_limit_usd: 0.015
      action: block
";
    let upstream = upstream();
    let (gateway, clock) = at_noon(&upstream, yaml);
    assert_eq!(statuses(&gateway, "sk-dev-1"), [200, 429]);
    assert_eq!(statuses(&gateway, "sk-main"), [200, 200]);
    let refused = as_key(&gateway, "sk-main");
    assert_eq!(
        (refused.status, error(&refused, "type").as_str()),
        (429, "budget_exceeded")
    );
    assert_eq!(error(&refused, "daily_limit"), "0.025");
    // Another day, the same month: two more cents, and then the month is used up.
    clock.advance_ms(86_400_000);
    let warned = as_key(&gateway, "sk-main");
    assert_eq!(
        (warned.status, warned.header("x-agentledger-budget-warning")),
        (200, None)
    );
    assert_eq!(as_key(&gateway, "sk-main").header("x-agentledger-budget-warning"), None);
    let said = error(&as_key(&gateway, "sk-main"), "message");
    let phrase = "estimated cost of request exceeds remaining budget";
    assert!(said.contains(phrase), "{said}");
}

#[test]
fn the_contracts_soft_limit_and_warn_action_warn() {
    let yaml = "budgets: {default: {daily_limit_usd: 0.02, monthly_limit_usd: 1, soft_limit_pct: 0.8, action: warn}}";
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, yaml);
    let warnings: Vec<Option<String>> = (0..4)
        .map(|_| as_key(&gateway, "sk-a"))
        .map(|reply| reply.header("x-agentledger-budget-warning").map(str::to_owned))
        .collect();
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(
        warnings,
        [
            None,
            None,
            said("daily=0.02/0.02 monthly=0.02/1.00"),
            said("daily=0.03/0.02 monthly=0.03/1.00")
        ],
        "and nothing is refused"
    );
}

#[test]
fn the_contracts_rate_limits_yaml_drives_rates() {
    let yaml = "
rate_limits:
  default:
    requests_per_minute: 3
    requests_per_hour: 5
  rules:
    - api_key_pattern: \"sk-batch-*\"
      requests_per_minute: 1
";
    let upstream = upstream();
    let (gateway, clock) = at_noon(&upstream, yaml);
    assert_eq!(statuses(&gateway, "sk-batch-1"), [200, 429]);
    assert_eq!(statuses(&gateway, "sk-main"), [200, 200, 200, 429]);
    let refused = as_key(&gateway, "sk-main");
    assert_eq!(error(&refused, "type"), "proxy_error");
    let said = error(&refused, "message");
    assert!(said.contains("rate limit exceeded"), "{said}");
    assert_eq!(refused.header("retry-after"), Some("60"));
    clock.advance_ms(60_000);
    assert_eq!(statuses(&gateway, "sk-main"), [200, 200, 429], "the hour's five");
    assert_eq!(as_key(&gateway, "sk-main").header("retry-after"), Some("3540"));
    let metrics = gateway.client.get("/metrics").text();
    assert!(
        metrics.contains("agentledger_rate_limited_total{api_key_hash=\""),
        "{metrics}"
    );
}

#[test]
fn the_contracts_tenants_yaml_drives_tenants() {
    let yaml = "
tenants:
  enabled: true
  key_mappings:
    - api_key_pattern: \"sk-acme-*\"
      tenant_id: acme
budgets:
  rules:
    - tenant_id: acme
      daily_limit_usd: 0.015
      action: block
";
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, yaml);
    assert_eq!(as_key(&gateway, "sk-acme-1").status, 200);
    let refused = as_key(&gateway, "sk-acme-2");
    assert_eq!(
        (refused.status, error(&refused, "account").as_str()),
        (429, "tenant:acme"),
        "tenants count all their keys"
    );
    assert_eq!(statuses(&gateway, "sk-other"), [200, 200]);
    assert_eq!(&*gateway.entries()[0].facts.tenant, "acme");
}

#[test]
fn the_demos_yaml_loads_and_serves() {
    let yaml = "admin: {enabled: true, token: demo-admin-token}\nbudgets: {default: {daily_limit_usd: 50, monthly_limit_usd: 500, \
                soft_limit_pct: 0.8, action: block}}\nagent: {loop_threshold: 20, loop_window_mins: 5, loop_action: warn, \
                ghost_max_age_mins: 60, ghost_min_calls: 50, ghost_min_cost_usd: 1.0}";
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, yaml);
    assert_eq!(as_key(&gateway, "sk-a").status, 200);
}

#[test]
fn defect_5a_parallel_calls_do_not_all_pass_on_a_stale_sum() {
    let gate = Gate::default();
    let opened = gate.clone();
    let upstream = Upstream::playing(move |_| {
        opened.wait();
        cent()
    });
    let gateway = Setup::new(&upstream)
        .with("budgets: {default: {daily_limit_usd: 0.035, action: block}}\nhold: {wait_ms: 0}")
        .start();
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                if as_key(&gateway, "sk-a").status == 200 {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while upstream.seen_count() < 3 {
            thread::yield_now();
        }
        gate.open();
    });
    assert_eq!(passed.into_inner(), 3);
}

#[test]
fn defect_5b_the_preflight_counts_input_and_is_silent_where_the_action_is_warn() {
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, "budgets: {default: {daily_limit_usd: 0.011, action: block}}");
    let long = CENT.replace("hi", &"word ".repeat(2_000));
    let reply = gateway.client.post(CHAT, &long);
    let said = error(&reply, "message");
    let phrase = "estimated cost of request exceeds remaining budget";
    assert!(said.contains(phrase), "half a cent of input: {said}");
    assert_eq!(gateway.client.post(CHAT, CENT).status, 200);
    let (gateway, _) = at_noon(&upstream, "budgets: {default: {daily_limit_usd: 0.001, action: warn}}");
    assert_eq!(gateway.client.post(CHAT, CENT).status, 200);
}

#[test]
fn defect_5c_a_model_without_a_price_is_not_unlimited() {
    let upstream = Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"homemade","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1000,"total_tokens":1001}}"#,
    ));
    let (gateway, _) = at_noon(&upstream, "budgets: {default: {daily_limit_usd: 0.9, action: block}}");
    let asked = CENT.replace("gpt-4o", "homemade");
    let replies: Vec<u16> = (0..20).map(|_| gateway.client.post(CHAT, &asked).status).collect();
    assert!(replies.contains(&429), "{replies:?}");
    assert!(gateway.entries().iter().all(|entry| entry.settlement.cost.nanos() > 0));
}

#[test]
fn defect_5d_a_ledger_that_cannot_answer_lets_nothing_through() {
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, "budgets: {default: {daily_limit_usd: 1, action: block}}");
    assert_eq!(statuses(&gateway, "sk-a"), [200]);
    gateway.launched().gateway().ledger.close();
    let reply = as_key(&gateway, "sk-a");
    assert_eq!(
        (reply.status, error(&reply, "code").as_str()),
        (503, "ledger_unavailable")
    );
    assert_eq!(upstream.seen_count(), 1);
}

#[test]
fn defect_5e_a_tenants_rule_does_not_bind_requests_without_a_key() {
    let upstream = upstream();
    let (gateway, _) = at_noon(
        &upstream,
        "budgets: {rules: [{tenant_id: acme, daily_limit_usd: 0.001, action: block}]}",
    );
    assert_eq!(with(&gateway, &[]).status, 200);
}

#[test]
fn defect_5f_a_tenants_rule_does_not_inherit_the_default_of_keys() {
    let yaml = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-*', tenant_id: acme}]}\n\
                budgets: {default: {daily_limit_usd: 0.015, action: block}, rules: [{tenant_id: acme, monthly_limit_usd: 1}]}";
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, yaml);
    assert_eq!(
        ["sk-1", "sk-2", "sk-3"].map(|key| as_key(&gateway, key).status),
        [200; 3],
        "each has its own day"
    );
}

#[test]
fn defect_5g_spend_survives_a_restart() {
    let yaml = "budgets: {default: {monthly_limit_usd: 0.025, action: block}}";
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(yaml).start();
    assert_eq!(statuses(&gateway, "sk-a"), [200, 200]);
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).with(yaml).in_dir(&dir).start();
    assert_eq!(statuses(&gateway, "sk-a"), [429]);
}

#[test]
fn defect_5h_agents_sessions_tasks_users_and_models_have_budgets() {
    let upstream = upstream();
    let headers = [
        ("x-agent-id", "a"),
        ("x-agent-session", "s"),
        ("x-agent-task", "t"),
        ("x-agent-user", "u"),
    ];
    for kind in [
        "agent", "session", "task", "user", "model", "provider", "global", "tag:team",
    ] {
        let yaml = format!("account: \"{kind}\", window: day, limit: 0.015");
        let home = conf(&upstream, "budget", &format!("{{limits: [{{{yaml}}}]}}"));
        let gateway = home.serve();
        let mut headers = headers.to_vec();
        headers.push(("x-agent-tags", "team=ml"));
        let ask = || gateway.client.request("POST", CHAT, &headers, CENT.as_bytes());
        assert_eq!([ask().status, ask().status], [200, 429], "{kind}");
        gateway.stop();
    }
}

/// An installation with this conf for one policy.
fn conf(upstream: &Upstream, policy: &str, conf: &str) -> crate::harness::Installation {
    crate::harness::Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\npolicies: {{conf: {{{policy}: {conf}}}}}",
        upstream.base()
    ))
}

#[test]
fn defect_6_the_window_slides_and_is_not_fixed_at_the_first_request() {
    let upstream = upstream();
    let (gateway, clock) = at_noon(&upstream, "rate_limits: {default: {requests_per_minute: 2}}");
    assert_eq!(as_key(&gateway, "sk-a").status, 200);
    clock.advance_ms(59_000);
    assert_eq!(statuses(&gateway, "sk-a"), [200, 429]);
    // A fixed minute would begin anew here and let two more through within two seconds.
    clock.advance_ms(1_000);
    assert_eq!(statuses(&gateway, "sk-a"), [200, 429]);
    assert_eq!(as_key(&gateway, "sk-a").header("retry-after"), Some("59"));
}

#[test]
fn defect_6_tokens_and_requests_at_one_time_have_limits() {
    let upstream = upstream();
    let yaml = "rate_limits: {default: {tokens_per_minute: 2500, parallel: 8}}";
    let (gateway, clock) = at_noon(&upstream, yaml);
    assert_eq!(statuses(&gateway, "sk-a"), [200, 200, 429]);
    clock.advance_ms(60_000);
    assert_eq!(statuses(&gateway, "sk-a"), [200]);
}

#[test]
fn defect_6_a_refused_request_takes_nothing_from_any_rate_or_budget() {
    let yaml =
        "rate_limits: {default: {requests_per_hour: 3}}\nbudgets: {default: {daily_limit_usd: 0.015, action: block}}";
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, yaml);
    assert_eq!(statuses(&gateway, "sk-a"), [200, 429, 429, 429, 429]);
    let remaining = |reply: &Reply| reply.header("ratelimit-remaining").map(str::to_owned);
    let small = CENT.replace("1000", "100");
    let reply = gateway
        .client
        .request("POST", CHAT, &[("authorization", "Bearer sk-a")], small.as_bytes());
    assert_eq!(
        (reply.status, remaining(&reply).as_deref()),
        (200, Some("1")),
        "the budget's refusals took no turn"
    );
    gateway.wait_idle();
}

#[test]
fn defect_9_a_client_may_not_claim_a_tenant_that_its_key_is_not_of() {
    let yaml = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-acme-*', tenant_id: acme}, \
                {api_key_pattern: 'sk-beta-*', tenant_id: beta}]}";
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, yaml);
    let claim = |key: &str, tenant: &str| with(&gateway, &[("authorization", key), ("x-agentledger-tenant", tenant)]);
    assert_eq!(claim("Bearer sk-acme-1", "acme").status, 200);
    let refused = claim("Bearer sk-beta-1", "acme");
    assert_eq!(
        (refused.status, error(&refused, "code").as_str()),
        (403, "tenant_not_allowed")
    );
    assert_eq!(upstream.seen_count(), 1);
    assert_eq!(
        upstream.only_seen().header("x-agentledger-tenant"),
        None,
        "nor is the header passed on"
    );
}

#[test]
fn defect_9_keys_in_every_header_are_mapped() {
    let yaml = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-acme-*', tenant_id: acme}]}";
    let upstream = upstream();
    let (gateway, _) = at_noon(&upstream, yaml);
    for (name, value) in [
        ("authorization", "Bearer sk-acme-1"),
        ("api-key", "sk-acme-1"),
        ("x-goog-api-key", "sk-acme-1"),
    ] {
        assert_eq!(with(&gateway, &[(name, value)]).status, 200);
    }
    assert!(gateway.entries().iter().all(|entry| &*entry.facts.tenant == "acme"));
}

#[test]
fn blocked_keys_are_refused_in_the_contracts_words_before_all_else() {
    let upstream = upstream();
    let home = conf(&upstream, "block", "{keys: [\"sk-leaked-*\"]}");
    let gateway = home.serve();
    let ask = |key: &str| {
        gateway
            .client
            .request("POST", CHAT, &[("authorization", key)], CENT.as_bytes())
    };
    let refused = ask("Bearer sk-leaked-9");
    assert_eq!((refused.status, error(&refused, "type").as_str()), (403, "proxy_error"));
    let said = error(&refused, "message");
    assert!(said.contains("API key is blocked"), "{said}");
    assert_eq!(ask("Bearer sk-fine").status, 200);
    gateway.stop();
}

#[test]
fn a_top_up_that_has_ended_raises_nothing_and_the_status_tells_the_limit_in_force() {
    let upstream = upstream();
    let raised = |until: &str| {
        format!(
            "{{limits: [{{account: agent, window: day, limit: 0.015}}], top_ups: [{{account: agent, amount: 1, until: \"{until}\"}}]}}"
        )
    };
    for (until, expected, limit) in [("2999-01-01", [200, 200], "1.015"), ("2020-01-01", [200, 429], "0.015")] {
        let home = conf(&upstream, "budget", &raised(until));
        let gateway = home.serve();
        let ask = || {
            gateway
                .client
                .request("POST", CHAT, &[("x-agent-id", "a")], CENT.as_bytes())
                .status
        };
        assert_eq!([ask(), ask()], expected, "{until}");
        let status = home.rpc(
            "budget.status",
            &serde_json::json!({"account": "agent:a", "window": "day"}),
        );
        assert_eq!(status["budgets"][0]["limits"][0]["limit"], limit);
        gateway.stop();
    }
}

#[test]
fn defect_9_a_webhook_that_hangs_holds_no_request_up() {
    let upstream = upstream();
    // Takes connections and never says a word.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", hung.local_addr().unwrap());
    let yaml = format!(
        "alerts: {{slack: {{webhook_url: '{url}'}}, webhooks: [{{url: '{url}'}}]}}
budgets: {{default: {{daily_limit_usd: 1, soft_limit_pct: 0.01, action: block}}}}"
    );
    let (gateway, _) = at_noon(&upstream, &yaml);
    assert_eq!(statuses(&gateway, "sk-a"), [200; 20]);
    let alerts = gateway.alerts();
    assert_eq!(alerts.first().unwrap().kind, "budget_warning");
}
