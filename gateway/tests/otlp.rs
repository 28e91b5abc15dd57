//! Telemetry by OTLP: a collector that decodes the official protobufs gets the named spans and metrics, whichever way they go,
//! and whatever it does, no request notices.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::collector::{Collector, Manner, attributes, points};
use crate::harness::{Gateway, Installation, Script, Setup, Upstream, dead_port};

const CHAT: &str = "/v1/chat/completions";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";
/// Words that stand in requests and answers, and for keys and people: none may be found in what is sent.
const SECRETS: [&str; 4] = ["canary-prompt", "canary-answer", "canary-user", "canary-task"];
const KEY: &str = "sk-canary-0123456789abcdef";

const ANSWER: &str = r#"{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[{"message":{"content":"canary-answer"}}],
    "usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_tokens_details":{"cached_tokens":40},
    "completion_tokens_details":{"reasoning_tokens":4}}}"#;
const ASKED: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"canary-prompt"}],"max_tokens":50}"#;

fn sending(upstream: &Upstream, otlp: &str) -> Gateway {
    Setup::new(upstream)
        .with("budgets: {default: {daily_limit_usd: 5, action: block}}")
        .with(&format!("telemetry: {{otlp: {otlp}}}"))
        .start()
}

fn ask(gateway: &Gateway, body: &str, more: &[(&str, &str)]) -> u16 {
    let key = format!("Bearer {KEY}");
    let headers = [
        ("authorization", key.as_str()),
        ("x-agent-id", "coder"),
        ("x-agent-session", "s1"),
        ("x-agent-user", "canary-user"),
        ("x-agent-task", "canary-task"),
    ];
    let reply = gateway
        .client
        .request("POST", CHAT, &[&headers[..], more].concat(), body.as_bytes());
    reply.status
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CLIENT_SPAN}-{flags}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One whole call, and one streamed one, sent this way; what the collector has of it.
fn named_spans_and_metrics(protocol: &str) {
    let upstream = Upstream::playing(|seen| match seen.json()["stream"].as_bool() {
        Some(true) => Script::sse(&[
            "data: {\"id\":\"c2\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"delta\":{\"content\":\"canary-answer\"}}]}\n\n",
            "data: {\"id\":\"c2\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\n",
            "data: [DONE]\n\n",
        ]),
        _ => Script::json(200, ANSWER),
    });
    let collector = Collector::new(Manner::Takes);
    let otlp = format!(
        "{{endpoint: \"{}\", protocol: {protocol}, interval: 1h, service_name: gate, headers: {{x-token: t1}}}}",
        collector.base()
    );
    let gateway = sending(&upstream, &otlp);
    let from = traceparent("01");
    let with_trace = [("traceparent", from.as_str()), ("tracestate", "vendor=1")];
    assert_eq!(ask(&gateway, ASKED, &with_trace), 200);
    let streamed = ASKED.replace("\"max_tokens\":50", "\"max_tokens\":50,\"stream\":true");
    assert_eq!(ask(&gateway, &streamed, &[]), 200);
    gateway.wait_idle();
    let entries = gateway.entries();
    gateway.stop();

    collector.look(|received| {
        assert_eq!(received.spans.len(), 2, "{:#?}", received.spans);
        assert_eq!(received.resource["service.name"], "gate");
        assert!(received.headers.iter().all(|headers| headers["x-token"] == "t1"));
        let span = &received.spans[0];
        assert_eq!((span.name.as_str(), span.kind), ("chat gpt-4o", 3), "a client's span");
        assert_eq!(
            (hex(&span.trace_id), hex(&span.parent_span_id)),
            (TRACE.into(), CLIENT_SPAN.into())
        );
        let said = attributes(&span.attributes);
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.system", "openai"),
            ("gen_ai.request.model", "gpt-4o"),
            ("gen_ai.response.model", "gpt-4o-2024-08-06"),
            ("gen_ai.response.id", "chatcmpl-1"),
            ("gen_ai.conversation.id", "s1"),
            ("gen_ai.usage.input_tokens", "100"),
            ("gen_ai.usage.output_tokens", "10"),
            ("gen_ai.usage.cache_read.input_tokens", "40"),
            ("gen_ai.usage.reasoning.output_tokens", "4"),
            ("server.address", "127.0.0.1"),
            ("http.response.status_code", "200"),
            ("agentledger.agent", "coder"),
            ("agentledger.session", "s1"),
            ("agentledger.outcome", "completed"),
            ("agentledger.estimated", "false"),
            ("agentledger.overage_usd", "0"),
            ("agentledger.budget.window", "day"),
            ("agentledger.budget.unit", "usd"),
            ("agentledger.budget.limit", "5"),
        ] {
            assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}: {said:#?}");
        }
        assert_eq!(said["agentledger.cost_usd"], entries[0].settlement.cost.to_string());
        assert_eq!(said["agentledger.held_usd"], entries[0].held.to_string());
        assert_eq!(said["agentledger.exchange.id"], entries[0].facts.id.to_string());
        assert!(said["agentledger.verdict"].contains("budget@"), "{said:#?}");
        assert!(!said.contains_key("error.type"));
        let took = span.end_time_unix_nano - span.start_time_unix_nano;
        assert_eq!(took, entries[0].settlement.duration_ms * 1_000_000);

        // The upstream's call is below our span, and the trace goes on with what other vendors said.
        let seen = upstream.seen();
        let carried = format!("00-{TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(seen[0].header("traceparent"), Some(carried.as_str()));
        assert_eq!(seen[0].header("tracestate"), Some("vendor=1"));
        let own = &received.spans[1];
        assert!(own.parent_span_id.is_empty());
        let carried = format!("00-{}-{}-01", hex(&own.trace_id), hex(&own.span_id));
        assert_eq!(seen[1].header("traceparent"), Some(carried.as_str()));

        let sums = |name: &str, more: &str| -> f64 {
            let all = points(&received.metrics[name]).iter();
            let fitting = all.filter(|point| {
                attributes(&point.attributes)
                    .values()
                    .any(|value| more.is_empty() || value == more)
            });
            fitting.map(|point| point.sum.unwrap_or_default()).sum()
        };
        assert_eq!(sums("gen_ai.client.token.usage", "input"), 107.0);
        assert_eq!(sums("gen_ai.client.token.usage", "output"), 13.0);
        let duration = points(&received.metrics["gen_ai.client.operation.duration"]);
        assert_eq!(duration.iter().map(|point| point.count).sum::<u64>(), 2);
        assert_eq!(duration[0].explicit_bounds[..3], [0.01, 0.02, 0.04]);
        let tokens = points(&received.metrics["gen_ai.client.token.usage"]);
        assert_eq!(tokens[0].explicit_bounds[..3], [1.0, 4.0, 16.0]);
        let keys: Vec<String> = attributes(&tokens[0].attributes).into_keys().collect();
        let expected = [
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "gen_ai.token.type",
            "server.address",
            "server.port",
        ];
        assert_eq!(keys, expected);
        for name in [
            "gen_ai.server.time_to_first_token",
            "gen_ai.client.operation.time_to_first_chunk",
        ] {
            let first = points(&received.metrics[name]);
            assert_eq!(
                first.iter().map(|point| point.count).sum::<u64>(),
                1,
                "{name}: of the stream alone"
            );
            assert_eq!(first[0].explicit_bounds.len(), 16);
        }

        let raw = received.raw.concat();
        let raw = String::from_utf8_lossy(&raw);
        for secret in SECRETS.iter().chain(&[KEY]) {
            assert!(!raw.contains(secret), "{secret} was sent");
        }
    });
}

#[test]
fn spans_and_metrics_go_over_http() {
    named_spans_and_metrics("http");
}

#[test]
fn spans_and_metrics_go_over_grpc() {
    named_spans_and_metrics("grpc");
}

#[test]
fn nothing_is_sent_and_the_trace_passes_as_it_came_where_no_endpoint_is_named() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let gateway = Gateway::to(&upstream);
    let from = traceparent("01");
    assert_eq!(ask(&gateway, ASKED, &[("traceparent", &from)]), 200);
    assert_eq!(upstream.only_seen().header("traceparent"), Some(from.as_str()));
    assert_eq!(ask(&gateway, ASKED, &[]), 200);
    assert_eq!(upstream.seen()[1].header("traceparent"), None);
    assert!(!gateway.client.get("/metrics").text().contains("agentledger_otlp"));
}

#[test]
fn what_the_client_does_not_sample_is_no_span_and_its_trace_goes_on() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let collector = Collector::new(Manner::Takes);
    let gateway = sending(
        &upstream,
        &format!("{{endpoint: \"{}\", interval: 1h}}", collector.base()),
    );
    assert_eq!(ask(&gateway, ASKED, &[("traceparent", &traceparent("00"))]), 200);
    gateway.wait_idle();
    gateway.stop();
    let carried = upstream.only_seen().header("traceparent").unwrap().to_owned();
    assert!(
        carried.starts_with(&format!("00-{TRACE}-")) && carried.ends_with("-00"),
        "{carried}"
    );
    collector.look(|received| {
        assert!(received.spans.is_empty());
        assert!(
            received.metrics.contains_key("gen_ai.client.operation.duration"),
            "metrics count every call"
        );
    });
}

#[test]
fn a_failed_call_says_the_class_of_its_failure() {
    let upstream = Upstream::always(Script::json(500, "{}"));
    let collector = Collector::new(Manner::Takes);
    let gateway = sending(
        &upstream,
        &format!("{{endpoint: \"{}\", interval: 1h}}", collector.base()),
    );
    assert_eq!(ask(&gateway, ASKED, &[]), 500);
    gateway.wait_idle();
    gateway.stop();
    collector.look(|received| {
        let said = attributes(&received.spans[0].attributes);
        assert_eq!(
            (said["error.type"].as_str(), said["http.response.status_code"].as_str()),
            ("500", "500")
        );
        assert_eq!(received.spans[0].status.as_ref().unwrap().code, 2);
        let duration = points(&received.metrics["gen_ai.client.operation.duration"]);
        assert_eq!(attributes(&duration[0].attributes)["error.type"], "500");
    });
}

/// The value of a counter in the Prometheus text; 0 where it is not there.
fn counted(gateway: &Gateway, line: &str) -> u64 {
    let text = gateway.client.get("/metrics").text();
    let found = text.lines().find_map(|one| one.strip_prefix(line));
    found.map_or(0, |value| value.trim().parse().unwrap())
}

fn wait_counted(gateway: &Gateway, line: &str) {
    for _ in 0..1_500 {
        if counted(gateway, line) > 0 {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{line} stays 0");
}

#[test]
fn a_collector_that_fails_never_touches_traffic() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let collector = Collector::new(Manner::Hangs);
    let refused = format!("http://127.0.0.1:{}", dead_port());
    for (base, manner, protocol) in [
        (&refused, Manner::Takes, "http"),
        (&refused, Manner::Takes, "grpc"),
        (&collector.base(), Manner::Hangs, "http"),
        (&collector.base(), Manner::Hangs, "grpc"),
        (&collector.base(), Manner::Refuses(500), "http"),
    ] {
        collector.behave(manner);
        let otlp = format!("{{endpoint: \"{base}\", protocol: {protocol}, interval: 100ms, timeout: 200ms}}");
        let gateway = sending(&upstream, &otlp);
        let started = Instant::now();
        for _ in 0..20 {
            assert_eq!(ask(&gateway, ASKED, &[]), 200, "{manner:?} {protocol}");
        }
        let took = started.elapsed();
        wait_counted(&gateway, "agentledger_otlp_spans_total{result=\"failed\"}");
        wait_counted(&gateway, "agentledger_otlp_failures_total");
        assert_eq!(gateway.entries_of(20).len(), 20);
        // Twenty calls that waited for it once each would take 4 s more.
        assert!(took < Duration::from_secs(20), "{took:?}");
        gateway.stop();
    }
    collector.behave(Manner::Takes);
}

#[test]
fn the_log_is_told_once_that_telemetry_cannot_be_sent() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\ntelemetry: {{otlp: {{endpoint: \"http://127.0.0.1:{}\", interval: 100ms, timeout: 100ms}}}}",
        upstream.base(),
        dead_port()
    ));
    let process = home.serve();
    assert_eq!(process.client.post(CHAT, ASKED).status, 200);
    let failures = || {
        let text = process.client.get("/metrics").text();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("agentledger_otlp_failures_total "));
        found.map_or(0, |value| value.trim().parse::<u64>().unwrap())
    };
    for _ in 0..1_500 {
        if failures() >= 3 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(failures() >= 3);
    assert_eq!(
        process.log().matches("telemetry cannot be sent").count(),
        1,
        "{}",
        process.log()
    );
}

#[test]
fn names_that_clients_make_up_are_bounded_in_metrics() {
    let upstream = Upstream::playing(|seen| {
        let model = seen.json()["model"].as_str().unwrap().to_owned();
        Script::json(200, &ANSWER.replace("gpt-4o-2024-08-06", &model))
    });
    let collector = Collector::new(Manner::Takes);
    let gateway = Setup::new(&upstream)
        .with("limits: {metric_label_values_max: 20}")
        .with(&format!(
            "telemetry: {{otlp: {{endpoint: \"{}\", interval: 1h}}}}",
            collector.base()
        ))
        .start();
    for model in 0..60 {
        assert_eq!(
            ask(&gateway, &ASKED.replace("gpt-4o", &format!("gpt-4o-{model}")), &[]),
            200
        );
    }
    gateway.wait_idle();
    gateway.stop();
    collector.look(|received| {
        let mut by_model: BTreeMap<String, u64> = BTreeMap::new();
        for point in points(&received.metrics["gen_ai.client.operation.duration"]) {
            let model = attributes(&point.attributes)["gen_ai.request.model"].clone();
            *by_model.entry(model).or_default() += point.count;
        }
        assert!(by_model.len() <= 21, "{}", by_model.len());
        assert_eq!(by_model.values().sum::<u64>(), 60, "the sum stays whole");
        assert!(by_model["other"] >= 40);
        assert_eq!(received.spans.len(), 60);
    });
}

#[test]
fn a_refused_call_has_a_span_that_says_why() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let collector = Collector::new(Manner::Takes);
    let gateway = Setup::new(&upstream)
        .with("budgets: {default: {daily_limit_usd: 0.000001, action: block}}")
        .conf("block", "{agents: [crawler]}")
        .with(&format!(
            "telemetry: {{otlp: {{endpoint: \"{}\", interval: 1h}}}}",
            collector.base()
        ))
        .start();
    let from = traceparent("01");
    let key = format!("Bearer {KEY}");
    let refused = |path: &str, agent: &str, body: &str| {
        let headers = [
            ("authorization", key.as_str()),
            ("x-agent-id", agent),
            ("x-agent-session", "s1"),
            ("x-agent-user", "canary-user"),
            ("traceparent", from.as_str()),
        ];
        let reply = gateway.client.request("POST", path, &headers, body.as_bytes());
        let code = reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert_ne!(reply.status, 200, "{path}");
        (reply.status.to_string(), code)
    };
    let expected = [
        (refused(CHAT, "coder", ASKED), "chat gpt-4o", "coder", "budget@"),
        (refused(CHAT, "crawler", ASKED), "chat gpt-4o", "crawler", "block@"),
        // Nobody has read yet whose it is.
        (refused(CHAT, "coder", "{"), "chat", "", ""),
    ];
    assert_eq!(expected[0].0, ("429".to_owned(), "budget_exceeded".to_owned()));
    assert_eq!(expected[1].0, ("403".to_owned(), "agent_blocked".to_owned()));
    assert_eq!(expected[2].0.0, "400");
    // No call of a model.
    refused("/nowhere", "coder", ASKED);
    gateway.wait_idle();
    assert!(gateway.entries().is_empty());
    gateway.stop();
    assert!(upstream.seen().is_empty());
    collector.look(|received| {
        assert_eq!(received.spans.len(), expected.len(), "{:#?}", received.spans);
        for (span, ((status, code), name, agent, policy)) in received.spans.iter().zip(&expected) {
            assert_eq!((span.name.as_str(), span.kind), (*name, 3));
            assert_eq!(
                (hex(&span.trace_id), hex(&span.parent_span_id)),
                (TRACE.into(), CLIENT_SPAN.into())
            );
            assert_eq!(span.status.as_ref().unwrap().code, 2);
            let said = attributes(&span.attributes);
            let of = |name: &str| said.get(name).map(String::as_str).unwrap_or_default();
            assert_eq!(
                (of("error.type"), of("http.response.status_code")),
                (code.as_str(), status.as_str())
            );
            assert_eq!(
                (of("agentledger.outcome"), of("gen_ai.provider.name")),
                ("refused", "openai")
            );
            assert_eq!((of("agentledger.agent"), of("gen_ai.agent.name")), (*agent, *agent));
            assert!(of("agentledger.verdict").contains(policy), "{said:#?}");
            assert!(!said.contains_key("agentledger.cost_usd") && !said.contains_key("server.address"));
        }
        let duration = "gen_ai.client.operation.duration";
        assert!(
            !received.metrics.contains_key(duration),
            "it did nothing that took time"
        );
        let raw = received.raw.concat();
        let raw = String::from_utf8_lossy(&raw);
        for secret in SECRETS.iter().chain(&[KEY]) {
            assert!(!raw.contains(secret), "{secret} was sent");
        }
    });
}

#[test]
fn a_call_that_reached_no_server_has_one_span_and_no_cost() {
    let collector = Collector::new(Manner::Takes);
    let gateway = Setup::to(&format!("http://127.0.0.1:{}", dead_port()))
        .with(&format!(
            "telemetry: {{otlp: {{endpoint: \"{}\", interval: 1h}}}}",
            collector.base()
        ))
        .start();
    let status = ask(&gateway, ASKED, &[]);
    gateway.wait_idle();
    assert!(gateway.entries().is_empty());
    gateway.stop();
    collector.look(|received| {
        assert_eq!(received.spans.len(), 1, "{:#?}", received.spans);
        let said = attributes(&received.spans[0].attributes);
        assert_eq!(said["http.response.status_code"], status.to_string());
        assert_eq!(said["agentledger.outcome"], "refused");
        assert!(!said["error.type"].is_empty() && !said.contains_key("agentledger.cost_usd"));
    });
}

#[test]
fn models_that_refused_clients_make_up_are_bounded_in_spans() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let collector = Collector::new(Manner::Takes);
    let gateway = Setup::new(&upstream)
        .conf("block", "{agents: [coder]}")
        .with("limits: {metric_label_values_max: 20}")
        .with(&format!(
            "telemetry: {{otlp: {{endpoint: \"{}\", interval: 1h}}}}",
            collector.base()
        ))
        .start();
    for model in 0..60 {
        let body = ASKED.replace("gpt-4o", &format!("gpt-4o-{model}"));
        assert_eq!(ask(&gateway, &body, &[]), 403);
    }
    gateway.stop();
    collector.look(|received| {
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        for span in &received.spans {
            *by_name.entry(&span.name).or_default() += 1;
        }
        assert_eq!(by_name.values().sum::<usize>(), 60);
        assert!(by_name.len() <= 21 && by_name["chat other"] >= 40, "{by_name:?}");
    });
}
