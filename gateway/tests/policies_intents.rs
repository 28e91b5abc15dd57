//! Each intent and each phase, through a running gateway. A policy is a few lines, and so is its test.

use std::thread;

use agentledger_ledger::{Entry, Unit};

use crate::harness::client::Reply;
use crate::harness::{Gate, Gateway, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const ASKED: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#;

fn small() -> Upstream {
    Upstream::always(Script::json(200, SMALL))
}

/// A gateway with one policy of this function in this phase.
fn ruled(upstream: &Upstream, phase: &str, body: &str) -> Gateway {
    let text = format!("return {{ name = 'p', version = '1', {phase} = function(_, call)\n{body}\nend }}");
    Setup::new(upstream).policy("p", &text).start()
}

fn ask(gateway: &Gateway) -> Reply {
    gateway.client.post(CHAT, ASKED)
}

fn as_agent(gateway: &Gateway, agent: &str) -> Reply {
    let headers = [("authorization", "Bearer sk-test-1"), ("x-agent-id", agent)];
    gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes())
}

fn verdict(entry: &Entry) -> Vec<&str> {
    entry.settlement.verdict.iter().map(|name| &**name).collect()
}

fn code(reply: &Reply) -> String {
    reply.json()["error"]["code"].as_str().unwrap().to_owned()
}

fn headers<'r, const N: usize>(reply: &'r Reply, names: [&str; N]) -> [&'r str; N] {
    names.map(|name| reply.header(name).unwrap_or_default())
}

fn counted(gateway: &Gateway, line: &str) -> bool {
    gateway.client.get("/metrics").text().lines().any(|known| known == line)
}

#[test]
fn allow_has_looked_and_has_nothing_against_it() {
    let upstream = small();
    let gateway = ruled(&upstream, "request", "return allow()");
    assert_eq!(ask(&gateway).status, 200);
    assert_eq!(verdict(&gateway.entry()), ["p@1"]);
}

#[test]
fn deny_refuses_in_its_own_words_and_nothing_is_sent() {
    let upstream = small();
    let deny = "return deny{ status = 418, code = 'teapot', message = 'short and stout', retry_after = 7 }";
    let gateway = ruled(&upstream, "request", deny);
    let reply = ask(&gateway);
    assert_eq!((reply.status, code(&reply).as_str()), (418, "teapot"));
    assert_eq!(reply.header("retry-after"), Some("7"));
    assert_eq!(reply.json()["error"]["policy"], "p@1");
    assert_eq!((upstream.seen_count(), gateway.entries().len()), (0, 0));
}

#[test]
fn deny_reaches_what_costs_nothing_too() {
    let upstream = small();
    let gateway = ruled(
        &upstream,
        "request",
        "if call.free then return deny{ code = 'no_lists' } end",
    );
    let reply = gateway.client.get("/v1/models");
    assert_eq!((reply.status, code(&reply).as_str()), (403, "no_lists"));
    assert_eq!(ask(&gateway).status, 200);
}

#[test]
fn budget_holds_on_any_account_and_unit() {
    let upstream = small();
    let budget = "return budget{ account = 'agent', window = 'total', limit = 2, unit = 'requests' }";
    let gateway = ruled(&upstream, "request", budget);
    assert_eq!([0; 3].map(|_| as_agent(&gateway, "coder").status), [200, 200, 429]);
    let refused = as_agent(&gateway, "coder").json();
    assert_eq!(refused["error"]["account"], "agent:coder");
    assert_eq!(
        (&refused["error"]["spent"], &refused["error"]["limit"]),
        (&2.into(), &2.into())
    );
    assert_eq!(as_agent(&gateway, "writer").status, 200);
}

#[test]
fn budget_warns_at_each_threshold_and_an_alert_goes_out() {
    let upstream = small();
    let text = "return { name = 'p', version = '1',
      request = function() return budget{ account = 'key', window = 'day', limit = 10, unit = 'requests', soft = { 0.5, 0.9 } } end,
      alert = function(_, event)
        return alert{ type = 'near', message = event.account:sub(1, 4) .. event.share .. ' ' .. event.spent, about = event.share .. '' }
      end }";
    let gateway = Setup::new(&upstream).policy("p", text).start();
    (0..10).for_each(|_| assert_eq!(ask(&gateway).status, 200));
    let waiting = gateway.alerts();
    let said: Vec<&str> = waiting.iter().map(|alert| alert.message.as_str()).collect();
    assert_eq!(said, ["key:0.5 5", "key:0.9 9"]);
    assert_eq!(ask(&gateway).status, 429);
    assert_eq!(gateway.alerts().last().unwrap().message, "key:1 10");
}

#[test]
fn budget_clamps_an_answer_to_what_is_left() {
    let upstream = small();
    let budget = "return budget{ account = 'key', window = 'day', limit = 500, unit = 'tokens', action = 'clamp' }";
    let gateway = ruled(&upstream, "request", budget);
    let reply = ask(&gateway);
    assert_eq!(reply.status, 200);
    let sent = upstream.only_seen().json()["max_tokens"].as_u64().unwrap();
    assert!((400..500).contains(&sent), "{sent}");
    assert_eq!(reply.header("x-agentledger-clamped"), Some(sent.to_string().as_str()));
    assert!(
        gateway
            .balances("key:")
            .iter()
            .all(|row| row.posted.get(Unit::Tokens) <= 500)
    );
}

#[test]
fn rate_refuses_in_the_contracts_words_and_says_when_to_come_again() {
    let upstream = small();
    let rate = "return rate{ account = 'key', per = 'hour', limit = 2 }";
    let gateway = ruled(&upstream, "request", rate);
    assert_eq!(
        headers(&ask(&gateway), ["ratelimit-limit", "ratelimit-remaining"]),
        ["2", "1"]
    );
    assert_eq!((ask(&gateway).status, ask(&gateway).status), (200, 429));
    let refused = ask(&gateway);
    let said = refused.json()["error"]["message"].to_string();
    assert!(said.contains("rate limit exceeded"), "{said}");
    assert_eq!(refused.json()["error"]["type"], "proxy_error");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&wait));
    let said = headers(&refused, ["ratelimit-remaining", "ratelimit-policy"]);
    assert_eq!(said, ["0", "2;w=3600"]);
    assert_eq!(gateway.entries().len(), 2);
}

#[test]
fn rate_counts_tokens_as_they_are_billed() {
    let upstream = small();
    let gateway = ruled(
        &upstream,
        "request",
        "return rate{ account = 'key', per = 'day', limit = 1500, unit = 'tokens' }",
    );
    // Each asks for a thousand and is billed twenty.
    for _ in 0..5 {
        assert_eq!(ask(&gateway).status, 200);
        gateway.wait_idle();
    }
    let huge = ASKED.replace("1000", "2000");
    let reply = gateway.client.post(CHAT, &huge);
    assert_eq!(
        (reply.status, reply.header("x-should-retry")),
        (429, Some("false")),
        "alone it is too much"
    );
}

#[test]
fn parallel_lets_so_many_run_and_gives_places_back() {
    let gate = Gate::default();
    let opened = gate.clone();
    let upstream = Upstream::playing(move |_| {
        opened.wait();
        Script::json(200, SMALL)
    });
    let gateway = ruled(&upstream, "request", "return parallel{ account = 'key', limit = 1 }");
    thread::scope(|scope| {
        let first = scope.spawn(|| ask(&gateway));
        while upstream.seen_count() == 0 {
            thread::yield_now();
        }
        assert_eq!(code(&ask(&gateway)), "rate_limited");
        gate.open();
        assert_eq!(first.join().unwrap().status, 200);
    });
    gateway.wait_idle();
    assert_eq!(ask(&gateway).status, 200);
}

#[test]
fn clamp_lowers_what_the_request_names() {
    let upstream = small();
    let gateway = ruled(&upstream, "request", "return clamp{ max_output = 50 }");
    assert_eq!(ask(&gateway).status, 200);
    assert_eq!(upstream.only_seen().json()["max_tokens"], 50);
}

#[test]
fn route_goes_to_the_first_model_that_has_a_price() {
    let upstream = small();
    let gateway = ruled(
        &upstream,
        "request",
        "return route{ alternatives = { 'no-such-model', 'gpt-4o-mini' } }",
    );
    let reply = ask(&gateway);
    assert_eq!(reply.header("x-agentledger-routed"), Some("gpt-4o -> gpt-4o-mini"));
    assert_eq!(upstream.only_seen().json()["model"], "gpt-4o-mini");
    let entry = gateway.entry();
    assert_eq!(entry.facts.tags["routed_from"], "gpt-4o".into());
    assert!(
        !gateway.balances("model:gpt-4o-mini").is_empty()
            && gateway
                .balances("model:gpt-4o")
                .iter()
                .all(|row| &*row.account != "model:gpt-4o")
    );
}

#[test]
fn route_downgrades_where_the_budget_is_used_up_and_no_rule_is_bypassed() {
    let upstream = small();
    let body = "if call.model == 'gpt-4.1-nano' then return deny{ code = 'no_nano' } end
      return { budget{ account = 'agent', window = 'day', limit = 0.002 },
        route{ alternatives = { 'gpt-4.1-nano', 'gpt-4o-mini' }, when = 'over_budget' } }";
    let gateway = ruled(&upstream, "request", body);
    // A cent does not fit, a twentieth of one does.
    assert_eq!(as_agent(&gateway, "coder").status, 200);
    assert_eq!(upstream.only_seen().json()["model"], "gpt-4o-mini");
    let fits_nowhere = ASKED.replace("1000", "90000");
    let reply = gateway.client.post(CHAT, &fits_nowhere);
    assert_eq!((reply.status, code(&reply).as_str()), (429, "budget_exceeded"));
    assert!(gateway.launched().gateway().ledger.open_holds().is_empty());
}

#[test]
fn delay_holds_a_request_back_and_ends_with_the_gateway() {
    let upstream = small();
    let gateway = ruled(&upstream, "request", "return delay{ seconds = 60 }");
    thread::scope(|scope| {
        let client = gateway.client;
        let delayed = scope.spawn(move || client.post(CHAT, ASKED));
        while gateway.launched().gateway().drain.in_flight() == 0 {
            thread::yield_now();
        }
        drop(gateway);
        let reply = delayed.join().unwrap();
        assert_eq!((reply.status, code(&reply).as_str()), (503, "shutting_down"));
    });
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn tag_is_a_dimension_and_an_account_once_a_limit_names_it() {
    let upstream = small();
    let gateway = ruled(
        &upstream,
        "request",
        "return { tag{ name = 'team', value = 'ml\\n' }, tag{ name = 'cc', value = '42' } }",
    );
    assert_eq!(ask(&gateway).status, 200);
    assert_eq!(gateway.entry().facts.tags["team"], "ml".into());
    assert_eq!(gateway.requests_by_tag("cc"), [("42".to_owned(), 1)]);
    assert!(gateway.balances("tag:cc=42").is_empty(), "no limit names it");
}

#[test]
fn tag_reaches_the_facts_and_the_budgets_of_later_policies() {
    let upstream = small();
    let tags = "return { name = 'a', version = '1', priority = 1,
      request = function(_, call) return tag{ name = 'team', value = call.agent } end }";
    let budget = "return { name = 'b', version = '1', request = function(_, call)
        return { header{ name = 'x-team', value = call.tags.team },
          budget{ account = 'tag:team', window = 'total', limit = 1, unit = 'requests' } } end }";
    let gateway = Setup::new(&upstream).policy("a", tags).policy("b", budget).start();
    assert_eq!(as_agent(&gateway, "ml").header("x-team"), Some("ml"));
    let refused = as_agent(&gateway, "ml");
    assert_eq!(
        (refused.status, &refused.json()["error"]["account"]),
        (429, &"tag:team=ml".into())
    );
    assert_eq!(as_agent(&gateway, "ads").status, 200);
    assert_eq!(gateway.entries_of(2)[1].facts.tags["team"], "ads".into());
}

#[test]
fn header_is_told_to_the_client() {
    let upstream = small();
    let gateway = ruled(
        &upstream,
        "request",
        "return header{ name = 'X-Told', value = call.model }",
    );
    assert_eq!(ask(&gateway).header("x-told"), Some("gpt-4o"));
}

#[test]
fn alert_is_counted_once_a_cooldown() {
    let upstream = small();
    let gateway = ruled(
        &upstream,
        "request",
        "return alert{ type = 'odd_model', message = call.model, about = call.model }",
    );
    (0..3).for_each(|_| assert_eq!(ask(&gateway).status, 200));
    assert!(counted(&gateway, "agentledger_alerts_total{type=\"odd_model\"} 1"));
    let alerts = gateway.alerts();
    assert_eq!((alerts.len(), alerts[0].message.as_str()), (1, "gpt-4o"));
}

#[test]
fn unpriced_says_what_a_model_without_a_price_costs() {
    let upstream = Upstream::always(Script::json(200, &SMALL.replace("gpt-4o", "homemade")));
    let body = "if call.priced then return end
      if call.agent == 'free' then return unpriced{ as = 'free' } end
      if call.agent == 'refuse' then return unpriced{ as = 'refuse' } end
      return unpriced{ input = '1', output = 2 }";
    let gateway = ruled(&upstream, "request", body);
    let asked = ASKED.replace("gpt-4o", "homemade");
    let ask = |headers: &[(&str, &str)]| gateway.client.request("POST", CHAT, headers, asked.as_bytes());
    let as_agent = |agent: &str| ask(&[("x-agent-id", agent)]).status;
    assert_eq!(["priced", "free", "refuse"].map(as_agent), [200, 200, 400]);
    let costs = gateway.entries_of(2).into_iter().map(|entry| entry.settlement.cost);
    assert_eq!(costs.map(|cost| cost.to_string()).collect::<Vec<_>>(), ["0.00003", "0"]);
}

#[test]
fn the_tenant_phase_says_who_is_asking() {
    let upstream = small();
    let text = "return { name = 'p', version = '1',
      tenant = function(_, call) return bind{ tenant = 'acme', user = 'alice', zone = 'Asia/Tokyo' } end,
      request = function(_, call) return header{ name = 'x-said', value = call.tenant .. call.user .. call.at.zone } end }";
    let gateway = Setup::new(&upstream).policy("p", text).start();
    let headers = [("x-agent-user", "bob"), ("x-agentledger-tenant", "other")];
    let reply = gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes());
    assert_eq!(reply.header("x-said"), Some("acmealiceAsia/Tokyo"));
    let facts = gateway.entry().facts;
    assert_eq!((&*facts.tenant, &*facts.user), ("acme", "alice"));
    assert!(!gateway.balances("tenant:acme").is_empty());
}

#[test]
fn the_settled_phase_is_told_of_every_entry() {
    let upstream = small();
    let body = "return alert{ type = 'dear', message = call.model .. ' ' .. call.cost_usd, about = call.id }";
    let gateway = ruled(&upstream, "settled", body);
    assert_eq!(ask(&gateway).status, 200);
    let alerts = gateway.alerts();
    assert_eq!(alerts[0].message, "gpt-4o 0.000125");
}

#[test]
fn the_alert_phase_is_told_of_budgets() {
    let upstream = small();
    let yaml = "budgets: {default: {daily_limit_usd: 0.0001, action: block}}";
    let body = "return alert{ type = 'told', severity = 'critical', message = call.kind .. ' ' .. call.state .. ' ' .. call.limit }";
    let text = format!("return {{ name = 'p', version = '1', alert = function(_, call) {body} end }}");
    let gateway = Setup::new(&upstream).with(yaml).policy("p", &text).start();
    assert_eq!(ask(&gateway).status, 429);
    let alerts = gateway.alerts();
    let said: Vec<&str> = alerts.iter().map(|alert| alert.message.as_str()).collect();
    assert!(said.contains(&"budget exceeded 0.0001"), "{said:?}");
    assert!(counted(
        &gateway,
        "agentledger_alerts_total{type=\"budget_exceeded\"} 1"
    ));
}

#[test]
fn a_policy_in_shadow_is_recorded_and_never_enforced() {
    let upstream = small();
    let strict = |mode: &str, body: &str| {
        format!("return {{ name = 'p', version = '3', mode = '{mode}', request = function(_, call) {body} end }}")
    };
    for (body, told) in [
        ("return deny{ code = 'never' }", "~p@3:never"),
        (
            "return rate{ account = 'key', per = 'day', limit = 0 }",
            "~p@3:rate_limited",
        ),
        (
            "return budget{ account = 'key', window = 'day', limit = 0 }",
            "~p@3:budget_exceeded",
        ),
        (
            "return { clamp{ max_output = 1 }, header{ name = 'x-never', value = '1' } }",
            "~p@3",
        ),
        ("error('broken')", ""),
    ] {
        let gateway = Setup::new(&upstream).policy("p", &strict("shadow", body)).start();
        let reply = ask(&gateway);
        assert_eq!(
            (reply.status, reply.header("x-never")),
            (200, None),
            "{body}: {}",
            reply.text()
        );
        assert_eq!(verdict(&gateway.entry()).join(""), told, "{body}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.json()["max_tokens"] == 1000));
}

#[test]
fn the_conf_puts_any_policy_into_shadow() {
    let upstream = small();
    let yaml =
        "budgets: {default: {daily_limit_usd: 0.0001, action: block}}\nrate_limits: {default: {requests_per_hour: 1}}";
    let started = |modes: &str| {
        let home = crate::harness::Installation::new(&format!(
            "providers: {{openai: {{upstream: \"{}\"}}}}\n{yaml}\npolicies: {{conf: {modes}}}",
            upstream.base()
        ));
        let gateway = home.serve();
        let replies = [0; 2].map(|_| gateway.client.post(CHAT, ASKED).status);
        gateway.stop();
        (replies, home.export())
    };
    assert_eq!(started("{}").0, [429, 429]);
    let (replies, entries) = started("{budget: {mode: shadow}, rate_limit: {mode: shadow}}");
    assert_eq!(replies, [200, 200]);
    let verdict = entries[1]["verdict"].to_string();
    assert!(
        verdict.contains("~budget@2:budget_exceeded") && verdict.contains("~rate_limit@2:rate_limited"),
        "{verdict}"
    );
}

#[test]
fn refusals_are_counted_by_the_policy_that_refused() {
    let upstream = small();
    let gateway = ruled(
        &upstream,
        "request",
        "if call.agent == 'denied' then return deny{ code = 'no_such_agent', message = 'no' } end
        if call.agent == 'poor' then return budget{ account = 'agent', window = 'day', limit = 0, action = 'block' } end
        return { rate{ account = 'agent', per = 'hour', limit = 1 }, parallel{ account = 'agent', limit = 9 } }",
    );
    assert_eq!(as_agent(&gateway, "fast").status, 200);
    for agent in ["denied", "poor", "fast", "fast"] {
        assert_ne!(as_agent(&gateway, agent).status, 200, "{agent}");
    }
    let ledger = &gateway.launched().gateway().ledger;
    crate::harness::block_on(ledger.flushed());
    let rows = ledger.denials(&agentledger_ledger::DenialQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        tenant: None,
    });
    let mut found: Vec<(&str, &str)> = rows.iter().map(|row| (&*row.of.reason, &*row.of.policy)).collect();
    found.sort_unstable();
    let by_p = ["budget_exceeded", "no_such_agent", "rate_limited"].map(|code| (code, "p@1"));
    assert_eq!(found, by_p);
}
