//! Batches: their lines are metered and entered when the results are fetched, at the batch's prices, once.

use agentledger_ledger::{Kind, Outcome, Usd};

use super::harness::upstream::Step;
use super::harness::{Gateway, Script, Setup, Upstream};

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

/// A line of OpenAI's results.
fn line(id: u32, model: &str, input: u64, output: u64) -> String {
    format!(
        r#"{{"id":"batch_req_{id}","custom_id":"c{id}","response":{{"status_code":200,"request_id":"r","body":{{"id":"chatcmpl-{id}","object":"chat.completion","model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"ok"}}}}],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}}}}},"error":null}}"#,
        input + output
    ) + "\n"
}

fn fetch(gateway: &Gateway, path: &str) -> super::harness::client::Reply {
    let key = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("range", "bytes=100-"),
    ];
    gateway.client.request("GET", path, &key, b"")
}

const FILE: &str = "/v1/files/file-out/content";

#[test]
fn results_fetched_twice_are_one_charge() {
    let failed = "{\"id\":\"batch_req_9\",\"custom_id\":\"c9\",\"response\":{\"status_code\":429,\"body\":{\"error\":{\"message\":\"no\"}}},\"error\":null}\n";
    let body = [
        line(1, "gpt-4o-mini-2024-07-18", 1_000, 100),
        failed.to_owned(),
        line(2, "gpt-4o-mini-2024-07-18", 2_000, 200),
    ]
    .concat();
    let upstream = Upstream::always(Script::body(200, "application/octet-stream", body.as_bytes(), &[]));
    let gateway = Gateway::to(&upstream);
    for _ in 0..3 {
        assert_eq!(fetch(&gateway, FILE).text(), body);
    }
    assert!(
        upstream.seen().iter().all(|seen| seen.header("range").is_none()),
        "lines are billed from the first on"
    );
    let entry = gateway.entry();
    let end = &entry.settlement;
    assert_eq!((end.usage.get(Kind::Input), end.usage.get(Kind::Output)), (3_000, 300));
    // Half of 0.15 and 0.6 a million.
    assert_eq!((end.cost, end.estimate_reason.as_deref()), (usd("0.000315"), None));
    assert_eq!(
        (&*entry.facts.operation, &*end.model),
        ("files.content", "gpt-4o-mini-2024-07-18")
    );
    assert_eq!((entry.held, entry.overage), (Usd::ZERO, end.cost));
    assert_eq!(entry.overage_reason.as_deref(), Some("fetched_result"));
}

#[test]
fn a_tier_is_that_of_each_line_and_not_of_their_sum() {
    let model = "gpt-5.4";
    let body: String = (0..3).map(|id| line(id, model, 200_000, 0)).collect();
    let long = line(9, model, 300_000, 0);
    let upstream = Upstream::playing(move |seen| {
        let body = if seen.path.contains("long") { &long } else { &body };
        Script::body(200, "application/octet-stream", body.as_bytes(), &[])
    });
    let gateway = Gateway::to(&upstream);
    fetch(&gateway, FILE);
    fetch(&gateway, "/v1/files/long/content");
    let entries = gateway.entries_of(2);
    // 600,000 at 1.25; 300,000 at twice that, being over 272,000 in one request.
    assert_eq!(entries[0].settlement.cost, usd("0.75"));
    assert_eq!(entries[1].settlement.cost, usd("0.75"));
}

#[test]
fn several_models_are_parts_of_one_entry() {
    let body = line(1, "gpt-4o-mini-2024-07-18", 1_000, 0) + &line(2, "gpt-4o-2024-08-06", 1_000, 0);
    let upstream = Upstream::always(Script::body(200, "application/octet-stream", body.as_bytes(), &[]));
    let gateway = Gateway::to(&upstream);
    fetch(&gateway, FILE);
    let entry = gateway.entry();
    let parts: Vec<(&str, Usd)> = entry
        .settlement
        .parts
        .iter()
        .map(|part| (&*part.model, part.cost))
        .collect();
    assert_eq!(
        parts,
        [
            ("gpt-4o-mini-2024-07-18", usd("0.000075")),
            ("gpt-4o-2024-08-06", usd("0.00125"))
        ]
    );
    assert_eq!(entry.settlement.cost, usd("0.001325"));
}

#[test]
fn truncated_results_are_named_and_the_rest_is_billed_with_the_next_fetch() {
    let lines: Vec<String> = (1..=3).map(|id| line(id, "gpt-4o-mini-2024-07-18", 1_000, 0)).collect();
    let whole = lines.concat();
    let torn = whole[..lines[0].len() + lines[1].len() + 40].to_owned();
    let (first, second) = (torn.clone(), whole.clone());
    let fetches = std::sync::atomic::AtomicUsize::new(0);
    let upstream = Upstream::playing(
        move |_| match fetches.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Script::body(200, "application/octet-stream", first.as_bytes(), &[]),
            1 => Script::stream_head("application/octet-stream")
                .chunk(first.as_bytes())
                .step(Step::Close),
            _ => Script::body(200, "application/octet-stream", second.as_bytes(), &[]),
        },
    );
    let gateway = Gateway::to(&upstream);
    assert_eq!(fetch(&gateway, FILE).text(), torn);
    let entry = gateway.entry();
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("broken_results"));
    assert_eq!(entry.settlement.usage.get(Kind::Input), 2_000);
    let broken = fetch(&gateway, FILE);
    assert!(!broken.whole, "what is cut short does not look whole");
    assert_eq!(gateway.entries().len(), 1, "nothing new");
    for _ in 0..2 {
        assert_eq!(fetch(&gateway, FILE).text(), whole);
    }
    let entries = gateway.entries();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].settlement.usage.get(Kind::Input), 1_000);
    assert_eq!(
        (
            entries[1].settlement.estimate_reason.as_deref(),
            entries[1].settlement.outcome
        ),
        (None, Outcome::Completed)
    );
}

#[test]
fn usage_that_contradicts_itself_is_flagged_and_estimated() {
    let absurd = line(1, "gpt-4o-mini-2024-07-18", 10, 1).replace(
        "\"total_tokens\":11",
        "\"total_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":99}",
    );
    let upstream = Upstream::always(Script::body(200, "application/octet-stream", absurd.as_bytes(), &[]));
    let gateway = Gateway::to(&upstream);
    fetch(&gateway, FILE);
    fetch(&gateway, FILE);
    let entry = gateway.entry();
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("contradictory_usage"));
    assert!(entry.settlement.usage.get(Kind::Output) > 0);
}

#[test]
fn other_files_pass_and_are_no_entry() {
    let picture = [
        0x89, b'P', b'N', b'G', 0, b'\n', 0xff, b'"', b'u', b's', b'a', b'g', b'e', b'"', b':', b'{',
    ];
    let input =
        "{\"custom_id\":\"c1\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"gpt-4o\"}}\n";
    let upstream = Upstream::playing(move |seen| match seen.path.contains("picture") {
        true => Script::body(200, "image/png", &picture, &[]),
        false => Script::body(200, "application/octet-stream", input.as_bytes(), &[]),
    });
    let gateway = Gateway::to(&upstream);
    assert_eq!(fetch(&gateway, "/v1/files/picture/content").body, picture);
    assert_eq!(fetch(&gateway, "/v1/files/input/content").text(), input);
    assert!(gateway.entries().is_empty());
}

#[test]
fn message_batches_are_entered_by_batch_and_custom_id() {
    let message = |id: &str, model: &str, input: u64| {
        format!(
            r#"{{"custom_id":"{id}","result":{{"type":"succeeded","message":{{"id":"msg_{id}","type":"message","role":"assistant","model":"{model}","content":[{{"type":"text","text":"hi"}}],"usage":{{"input_tokens":{input},"output_tokens":34,"service_tier":"batch"}}}}}}}}"#
        ) + "\n"
    };
    let expired = "{\"custom_id\":\"late\",\"result\":{\"type\":\"expired\"}}\n";
    let body = message("one", "claude-sonnet-4-5-20250929", 1_000)
        + expired
        + &message("two", "claude-sonnet-4-5-20250929", 500);
    let upstream = Upstream::always(Script::body(200, "application/x-jsonl", body.as_bytes(), &[]));
    let gateway = Gateway::to(&upstream);
    let headers = [
        ("x-api-key", "sk-ant-api03-0123456789abcdef"),
        ("anthropic-version", "2023-06-01"),
    ];
    for batch in ["msgbatch_1", "msgbatch_1", "msgbatch_2"] {
        let path = format!("/v1/messages/batches/{batch}/results");
        assert_eq!(gateway.client.request("GET", &path, &headers, b"").text(), body);
    }
    let entries = gateway.entries();
    assert_eq!(
        entries.len(),
        2,
        "the same custom ids in another batch are other requests"
    );
    let end = &entries[0].settlement;
    assert_eq!((end.usage.get(Kind::Input), end.usage.get(Kind::Output)), (1_500, 68));
    // 1,500 x 1.5 + 68 x 7.5, a million.
    assert_eq!((end.cost, end.estimate_reason.as_deref()), (usd("0.00276"), None));
    assert_eq!(
        gateway
            .client
            .post_anthropic("/v1/messages/batches", r#"{"requests":[]}"#)
            .status,
        200
    );
    assert_eq!(gateway.entries().len(), 2);
}

#[test]
fn a_batch_leads_to_its_results_here_and_not_at_the_provider() {
    let batch = |id: &str, host: &str| {
        format!(
            "{{\n  \"id\": \"{id}\",\n  \"results_url\": \"{host}/v1/messages/batches/{id}/results\",\n  \"note\":\"{host}/v1/messages/batches/{id}/results\"\n}}"
        )
    };
    let (real, other) = ("https://api.anthropic.com", "https://api.anthropic.com/elsewhere");
    let (one, two) = (batch("msgbatch_1", real), batch("msgbatch_2", real));
    let list = format!("{{\"data\":[{one},{{\"results_url\":null}},{two}],\"has_more\":false}}");
    let (running, strange) = (
        "{\"id\":\"b\",\"results_url\":null}".to_owned(),
        batch("msgbatch_3", other),
    );
    let answers = [
        ("msgbatch_1", one.clone()),
        ("running", running.clone()),
        ("strange", strange.clone()),
    ];
    let upstream = Upstream::playing(move |seen| {
        assert_eq!(
            seen.header("accept-encoding"),
            Some("identity"),
            "what is changed must come plain"
        );
        let of_path = answers.iter().find(|(id, _)| seen.path.contains(id));
        Script::json(200, of_path.map_or(&list, |(_, answer)| answer))
    });
    let gateway = Gateway::to(&upstream);
    let here = "http://gateway".to_owned();
    let ask = |method: &str, path: &str, more: (&str, &str)| {
        let key = [
            ("x-api-key", "sk-ant-api03-0123456789abcdef"),
            ("accept-encoding", "gzip, br"),
            more,
        ];
        let body: &[u8] = if method == "POST" { b"{\"requests\":[]}" } else { b"" };
        gateway
            .client
            .request(method, &format!("/v1/messages/batches{path}"), &key, body)
            .text()
    };
    let plain = ("anthropic-version", "2023-06-01");
    // Only the value at its place changes, and every other byte stays.
    let led = one.replacen(real, &here, 1);
    assert_eq!(ask("GET", "/msgbatch_1", plain), led);
    assert_eq!(ask("POST", "/msgbatch_1/cancel", plain), led);
    let listed = ask("GET", "", plain);
    assert!(
        listed.contains(&led) && listed.contains(&two.replacen(real, &here, 1)),
        "{listed}"
    );
    assert_eq!(ask("POST", "", plain), listed);
    assert_eq!(ask("GET", "/running", plain), running);
    assert_eq!(
        ask("GET", "/strange", plain),
        strange,
        "what is not served here stays where it is"
    );
    let over_tls = ask("GET", "/msgbatch_1", ("x-forwarded-proto", "https"));
    assert_eq!(over_tls, led.replacen("http://", "https://", 1));
    assert!(gateway.entries().is_empty());
}

#[test]
fn fetches_at_once_bill_once_and_a_restart_remembers() {
    let body: String = (0..200).map(|id| line(id, "gpt-4o-mini-2024-07-18", 10, 1)).collect();
    let whole = body.clone();
    let upstream = Upstream::always(Script::body(200, "application/octet-stream", body.as_bytes(), &[]));
    let gateway = Gateway::to(&upstream);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(fetch(&gateway, FILE).text(), whole));
        }
    });
    assert_eq!(gateway.entry().settlement.usage.get(Kind::Input), 2_000);
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).in_dir(&dir).start();
    fetch(&gateway, FILE);
    assert_eq!(gateway.entries().len(), 1);
}

#[test]
fn a_client_that_leaves_early_has_its_results_billed_all_the_same() {
    let lines: Vec<String> = (0..50).map(|id| line(id, "gpt-4o-mini-2024-07-18", 10, 1)).collect();
    let gate = super::harness::Gate::default();
    let (held, body) = (gate.clone(), lines.concat());
    let upstream = Upstream::playing(move |_| {
        if held.is_open() {
            return Script::body(200, "application/octet-stream", body.as_bytes(), &[]);
        }
        let half = body.len() / 2;
        Script::stream_head("application/octet-stream")
            .chunk(&body.as_bytes()[..half])
            .pause_ms(200)
            .chunk(&body.as_bytes()[half..])
            .end()
    });
    let gateway = Gateway::to(&upstream);
    let key = [("authorization", "Bearer sk-test-0123456789abcdef")];
    let mut stream = gateway.client.send("GET", FILE, &key, b"");
    std::io::Read::read(&mut stream, &mut [0; 100]).unwrap();
    drop(stream);
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(entry.settlement.usage.get(Kind::Input), 500);
    gate.open();
    fetch(&gateway, FILE);
    assert_eq!(gateway.entries().len(), 1);
}

#[test]
fn a_line_of_a_model_that_is_refused_for_want_of_a_price_costs_as_the_dearest() {
    let body = line(1, "nobody-knows-9", 1_000, 100) + &line(2, "gpt-4o-mini-2024-07-18", 1_000, 0);
    let upstream = Upstream::always(Script::body(200, "application/octet-stream", body.as_bytes(), &[]));
    let yaml = format!(
        "providers: {{openai: {{upstream: \"{}\", unpriced: refuse}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    fetch(&gateway, FILE);
    let end = gateway.entry().settlement;
    assert_eq!(end.estimate_reason.as_deref(), Some("unpriced_model"));
    // What was spent is spent: at 0 it would count against no budget.
    assert!(end.parts[0].cost > usd("0.01"), "{:?}", end.parts);
    assert_eq!(end.parts[1].cost, usd("0.000075"));
    assert_eq!(end.cost, end.parts[0].cost.checked_add(end.parts[1].cost).unwrap());
}
