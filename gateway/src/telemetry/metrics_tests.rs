#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::telemetry::Samples;
use agentledger_ledger::{Facts, Name, Settlement, Usage, Usd};

fn entry() -> Entry {
    let name = |text: &str| Name::from(text);
    Entry {
        facts: Facts {
            id: ulid::Ulid::from_parts(1, 1),
            at_ms: 1_700_000_000_000,
            provider: name("openai"),
            operation: name("chat"),
            requested_model: name("gpt-4o"),
            stream: false,
            key: name("0123456789abcdef01234567"),
            tenant: name("acme"),
            agent: name("a"),
            session: name("s"),
            user: name("u"),
            task: name("canary-task"),
            tags: Default::default(),
            path: name("/v1/chat/completions"),
            inferred: Default::default(),
        },
        settlement: Settlement {
            at_ms: 1_700_000_000_500,
            outcome: Outcome::Completed,
            status: 200,
            model: name("gpt-4o-2024-08-06"),
            usage: usage(),
            parts: Vec::new(),
            reasoning: 3,
            cost: Usd::from_nanos(3_750_000),
            reported_cost: None,
            upper_bound: None,
            price: None,
            estimate_reason: None,
            verdict: Vec::new(),
            duration_ms: 480,
            ttfb_ms: Some(40),
            response_id: None,
            request_id: None,
        },
        held: Usd::from_nanos(5_000_000),
        overage: Usd::ZERO,
        overage_reason: None,
        source: None,
    }
}

fn usage() -> Usage {
    let mut usage = Usage::default();
    usage.set(Kind::Input, 1_000);
    usage.set(Kind::CacheRead, 200);
    usage.set(Kind::Output, 50);
    usage.set(Kind::WebSearch, 2);
    usage
}

fn metrics() -> Metrics {
    Metrics::new(&Limits::default())
}

fn text(metrics: &Metrics) -> String {
    metrics.render().unwrap()
}

fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|have| have == line), "no line {line:?} in\n{text}");
}

#[test]
fn a_settled_exchange_shows_in_the_contracts_names() {
    let metrics = metrics();
    metrics.settled(&entry());
    metrics.settled(&entry());
    let text = text(&metrics);
    let exchange = r#"provider="openai",model="gpt-4o-2024-08-06",status_code="200",streaming="false""#;
    let model = r#"provider="openai",model="gpt-4o-2024-08-06""#;
    assert_has(&text, &format!("agentledger_request_total{{{exchange}}} 2"));
    assert_has(&text, &format!("agentledger_requests_total{{{exchange}}} 2"));
    assert_has(
        &text,
        &format!("agentledger_tokens_total{{{model},type=\"prompt\"}} 2400"),
    );
    assert_has(
        &text,
        &format!("agentledger_tokens_total{{{model},type=\"completion\"}} 100"),
    );
    assert_has(&text, &format!("agentledger_input_tokens_total{{{model}}} 2400"));
    assert_has(&text, &format!("agentledger_output_tokens_total{{{model}}} 100"));
    assert_has(
        &text,
        &format!("agentledger_usage_total{{{model},kind=\"web_search\"}} 4"),
    );
    let key = r#"api_key_hash="0123456789abcdef01234567""#;
    assert_has(&text, &format!("agentledger_cost_usd_total{{{model},{key}}} 0.0075"));
    assert_has(
        &text,
        &format!("agentledger_request_duration_ms_bucket{{{exchange},le=\"250\"}} 0"),
    );
    assert_has(
        &text,
        &format!("agentledger_request_duration_ms_bucket{{{exchange},le=\"500\"}} 2"),
    );
    assert_has(
        &text,
        &format!("agentledger_request_duration_ms_bucket{{{exchange},le=\"30000\"}} 2"),
    );
    assert_has(&text, &format!("agentledger_request_duration_ms_sum{{{exchange}}} 960"));
    assert_has(&text, "# TYPE agentledger_request_duration_ms histogram");
}

#[test]
fn holds_overage_estimates_and_drift_show() {
    let metrics = metrics();
    let mut entry = entry();
    entry.overage = Usd::from_nanos(1_000);
    entry.settlement.estimate_reason = Some("usage_missing".into());
    entry.settlement.outcome = Outcome::ClientGone;
    entry.settlement.reported_cost = Some(Usd::from_nanos(3_749_999));
    metrics.settled(&entry);
    let text = text(&metrics);
    let model = r#"provider="openai",model="gpt-4o-2024-08-06""#;
    assert_has(&text, &format!("agentledger_held_usd_total{{{model}}} 0.005"));
    assert_has(&text, &format!("agentledger_overage_usd_total{{{model}}} 0.000001"));
    assert_has(
        &text,
        &format!("agentledger_price_drift_usd_total{{{model},reported=\"below\"}} 0.000000001"),
    );
    assert_has(
        &text,
        r#"agentledger_estimated_total{provider="openai",reason="usage_missing"} 1"#,
    );
    assert_has(
        &text,
        r#"agentledger_outcomes_total{provider="openai",outcome="client_gone"} 1"#,
    );
}

#[test]
fn labels_are_bounded_and_the_sum_stays_whole() {
    let limits = Limits {
        metric_label_values_max: 3,
        ..Limits::default()
    };
    let metrics = Metrics::new(&limits);
    for n in 0..500 {
        let mut entry = entry();
        entry.settlement.model = format!("model-{n}").into();
        entry.facts.key = format!("key-{n}").into();
        metrics.settled(&entry);
    }
    let text = text(&metrics);
    let requests: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("agentledger_request_total{"))
        .collect();
    assert_eq!(requests.len(), 4, "{requests:?}");
    let sum: u64 = requests
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 500);
    assert_has(
        &text,
        r#"agentledger_request_total{provider="openai",model="other",status_code="200",streaming="false"} 497"#,
    );
    assert!(metrics.ready.read().len() <= metrics.ready_max);
}

#[test]
fn what_clients_name_is_no_label() {
    let metrics = metrics();
    let mut entry = entry();
    entry.facts.agent = "canary-agent".into();
    entry.facts.session = "canary-session".into();
    entry.facts.user = "canary-user".into();
    entry.facts.requested_model = "canary-model".into();
    entry.facts.path = "/canary".into();
    metrics.settled(&entry);
    assert!(!text(&metrics).contains("canary"));
}

#[test]
fn guards_count_down_also_in_a_panic() {
    let metrics = metrics();
    let exchange = metrics.exchange_started();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _stream = metrics.stream_opened();
        assert_has(&text(&metrics), "agentledger_streams_open 1");
        panic!("as a relay might");
    }));
    assert!(panicked.is_err());
    assert_has(&text(&metrics), "agentledger_streams_open 0");
    assert_eq!(metrics.in_flight(), 1);
    drop(exchange);
    assert_has(&text(&metrics), "agentledger_in_flight 0");
}

#[test]
fn refusals_alerts_and_tool_calls_have_both_names() {
    let metrics = metrics();
    metrics.refused("openai", "budget_exceeded");
    metrics.rate_limited("0123456789abcdef01234567");
    metrics.alert("loop_detected");
    metrics.policy_error("budget", "request");
    metrics.plugin_traps("openai", 2);
    metrics.frames_read("openai", 3, 0);
    let mut entry = entry();
    entry.facts.provider = "mcp".into();
    entry.settlement.model = "files:read".into();
    metrics.settled(&entry);
    let text = text(&metrics);
    assert_has(
        &text,
        r#"agentledger_refused_total{provider="openai",code="budget_exceeded"} 1"#,
    );
    assert_has(
        &text,
        r#"agentledger_rate_limited_total{api_key_hash="0123456789abcdef01234567"} 1"#,
    );
    assert_has(&text, r#"agentledger_alerts_total{type="loop_detected"} 1"#);
    assert_has(&text, "agentledger_loop_detected_total 1");
    assert_has(
        &text,
        r#"agentledger_policy_errors_total{policy="budget",phase="request"} 1"#,
    );
    assert_has(&text, r#"agentledger_plugin_traps_total{plugin="openai"} 2"#);
    assert_has(
        &text,
        r#"agentledger_answer_frames_read_total{plugin="openai",by="plan"} 3"#,
    );
    assert!(!text.contains("by=\"call\""), "{text}");
    assert_has(&text, r#"agentledger_mcp_calls_total{tool="files:read"} 1"#);
}

#[test]
fn sources_are_asked_at_every_reading() {
    struct Head(AtomicI64);
    impl Source for Head {
        fn sample(&self, out: &mut Samples) {
            let now = self.0.fetch_add(1, Ordering::Relaxed);
            out.gauge("agentledger_journal_sequence", "Last event.", &[], now);
        }
    }
    let metrics = metrics();
    assert!(
        !text(&metrics).contains("agentledger_journal_commit_ms"),
        "no commit yet"
    );
    metrics.add_source(Arc::new(Head(AtomicI64::new(7))));
    metrics.journal_commit(3, Duration::from_millis(4));
    assert_has(&text(&metrics), "agentledger_journal_sequence 7");
    let text = text(&metrics);
    assert_has(&text, "agentledger_journal_sequence 8");
    assert_has(&text, "agentledger_journal_commit_ms_bucket{le=\"2\"} 0");
    assert_has(&text, "agentledger_journal_commit_ms_bucket{le=\"5\"} 1");
    assert_has(&text, "agentledger_journal_events_total 3");
}

#[test]
fn every_line_is_well_formed_and_every_family_has_one_header() {
    let metrics = metrics();
    let mut odd = entry();
    odd.settlement.model = "a \"quoted\\\" name\nwith a line".into();
    metrics.settled(&odd);
    metrics.settled(&entry());
    let text = text(&metrics);
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(seen.insert(rest.to_owned()), "twice: {rest}");
        } else if !line.starts_with('#') {
            let value = line.rsplit(' ').next().unwrap();
            assert!(
                line.starts_with("agentledger_") && value.parse::<f64>().is_ok(),
                "{line}"
            );
        }
    }
}

#[test]
fn the_whole_text_is_as_it_was_agreed() {
    let metrics = metrics();
    let mut odd = entry();
    odd.overage = Usd::from_nanos(1_000);
    odd.settlement.estimate_reason = Some("usage_missing".into());
    odd.settlement.reported_cost = Some(Usd::from_nanos(3_749_999));
    odd.settlement.model = "a \"quoted\\\" name\nwith a line".into();
    metrics.settled(&odd);
    metrics.settled(&entry());
    metrics.refused("openai", "budget_exceeded");
    metrics.rate_limited("0123456789abcdef01234567");
    metrics.alert("loop_detected");
    metrics.policy_error("budget", "request");
    metrics.upstream_error("openai", "connect");
    let golden = include_str!("golden_metrics.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&metrics), golden);
}
