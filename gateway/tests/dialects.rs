//! Gemini and Cohere through the running gateway: what their formats have that no other has.

use agentledger_ledger::{Kind, Outcome, Usd};
use serde_json::{Value, json};

use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};

const STREAM: &str = "/gemini/v1beta/models/scripted-pro:streamGenerateContent";
const GENERATE: &str = "/gemini/v1beta/models/scripted-pro:generateContent";
const CHAT: &str = "/cohere/v2/chat";
const KEY: [(&str, &str); 1] = [("x-goog-api-key", "AIza-0123456789abcdef")];
/// Sixteen words: about as many tokens.
const WORDS: &str = "one two three four five six seven eight nine ten red green blue black white grey ";
const ELEMENTS: usize = 300;

/// Both providers lead to the upstream, at a price of $1 and $10 a million; `more` is further configuration.
fn gateway(upstream: &Upstream, more: &str) -> Gateway {
    let base = upstream.base();
    let provider = |name: &str| {
        format!("{name}: {{enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 10}}}}")
    };
    let yaml = format!(
        "providers: {{extra: {{{}, {}}}}}\n{more}",
        provider("gemini"),
        provider("cohere")
    );
    Setup::new(upstream).only(&yaml).start()
}

fn ask(gateway: &Gateway, path: &str, body: &Value) -> crate::harness::client::Reply {
    gateway.client.request("POST", path, &KEY, body.to_string().as_bytes())
}

fn contents() -> Value {
    json!({"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 16_000}})
}

/// An element of a stream: the text, and no usage.
fn element(at: usize) -> String {
    // Quotes, brackets and a line's end inside the text are no ends of elements.
    let text = format!("{at} ]}}\",\n[{{ {WORDS}");
    json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}], "modelVersion": "scripted-pro"})
        .to_string()
}

fn array_piece(at: usize) -> String {
    let before = if at == 0 { "[" } else { "\n,\r\n" };
    format!("{before}{}", element(at))
}

/// Some 5,000 tokens of text, and then nothing: only a cut ends it.
fn endless(content_type: &str, piece: fn(usize) -> String) -> Script {
    (0..ELEMENTS)
        .fold(Script::stream_head(content_type), |script, at| {
            // Split inside the element.
            let piece = piece(at);
            let (head, tail) = piece.as_bytes().split_at(piece.len() / 2);
            script.chunk(head).chunk(tail)
        })
        .step(Step::AwaitClose)
}

const SMALL: &str = "hold: {size: expected}\nbudgets: {default: {daily_limit_usd: 0.02, action: block}}";

/// What a client got of a stream that its budget cut.
fn cut(script: Script, path: &str, body: &Value) -> String {
    let upstream = Upstream::always(script);
    let gateway = gateway(&upstream, SMALL);
    let reply = ask(&gateway, path, body);
    assert_eq!((reply.status, reply.whole), (200, true), "{}", reply.text());
    upstream.wait_closed(1);
    let entry = gateway.entry();
    assert_eq!(entry.settlement.outcome, Outcome::Cut);
    assert!(
        entry.settlement.cost >= entry.held && entry.settlement.cost > Usd::ZERO,
        "{entry:?}"
    );
    let row = gateway.balances("key:").remove(0);
    assert_eq!((row.posted.usd, row.held.usd), (entry.settlement.cost, Usd::ZERO));
    reply.text()
}

fn assert_google_error(error: &Value, code: u16, status: &str, reason: &str) {
    let error = &error["error"];
    assert_eq!(
        (&error["code"], &error["status"]),
        (&json!(code), &json!(status)),
        "{error}"
    );
    assert_eq!(error["details"][0]["reason"], reason, "{error}");
}

#[test]
fn a_cut_array_stays_json_and_ends_with_the_error() {
    let text = cut(
        endless("application/json; charset=UTF-8", array_piece),
        STREAM,
        &contents(),
    );
    let array: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(array.len() > 20 && array.len() < ELEMENTS, "{}", array.len());
    let (error, elements) = array.split_last().unwrap();
    assert_google_error(error, 429, "RESOURCE_EXHAUSTED", "budget_exceeded");
    for (at, passed) in elements.iter().enumerate() {
        assert_eq!(
            passed.to_string(),
            serde_json::from_str::<Value>(&element(at)).unwrap().to_string()
        );
    }
}

#[test]
fn a_cut_event_stream_ends_with_the_error() {
    let script = endless("text/event-stream", |at| format!("data: {}\r\n\r\n", element(at)));
    let text = cut(script, &format!("{STREAM}?alt=sse"), &contents());
    let last = text.trim_end().rsplit("\r\n\r\n").next().unwrap();
    // Bare JSON, as Google ends its own: Gemini CLI passes over an error within an event.
    let error = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
    assert_google_error(&error, 429, "RESOURCE_EXHAUSTED", "budget_exceeded");
}

#[test]
fn a_cut_cohere_stream_ends_with_its_last_event() {
    let script = endless("text/event-stream", |at| {
        let data = json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": format!("{at} {WORDS}")}}}});
        format!("event: content-delta\ndata: {data}\n\n")
    });
    let body = json!({"model": "scripted-chat", "stream": true, "max_tokens": 16_000, "messages": [{"role": "user", "content": "hi"}]});
    let text = cut(script, CHAT, &body);
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let data = last
        .strip_prefix("event: message-end\ndata: ")
        .unwrap_or_else(|| panic!("{last}"));
    let end: Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        (&end["type"], &end["delta"]["finish_reason"]),
        (&json!("message-end"), &json!("ERROR"))
    );
    assert!(end["delta"]["error"].as_str().unwrap().starts_with("budget_exceeded: "));
}

#[test]
fn a_cut_stream_of_lines_ends_with_a_line() {
    let script = endless("application/stream+json", |at| {
        json!({"is_finished": false, "event_type": "text-generation", "text": format!("{at} {WORDS}")}).to_string()
            + "\n"
    });
    let body = json!({"model": "scripted-chat", "stream": true, "max_tokens": 16_000, "message": "hi"});
    let text = cut(script, "/cohere/v1/chat", &body);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["finish_reason"], "ERROR");
    assert!(lines.len() > 20 && lines.iter().rev().skip(1).all(|line| line["is_finished"] == false));
}

#[test]
fn an_array_that_its_upstream_breaks_off_stays_json() {
    for (pieces, elements) in [
        (vec![], 0),
        (vec![array_piece(0)], 1),
        (vec![array_piece(0), array_piece(1)], 2),
    ] {
        let half = array_piece(elements);
        let script = pieces
            .iter()
            .fold(Script::stream_head("application/json"), |script, piece| {
                script.chunk(piece.as_bytes())
            })
            .chunk(&half.as_bytes()[..half.len() - 9])
            .step(Step::Close);
        let upstream = Upstream::always(script);
        let gateway = gateway(&upstream, "");
        let reply = ask(&gateway, STREAM, &contents());
        let array: Vec<Value> =
            serde_json::from_str(&reply.text()).unwrap_or_else(|error| panic!("{error}: {}", reply.text()));
        assert_eq!(array.len(), elements + 1);
        assert_google_error(array.last().unwrap(), 502, "UNAVAILABLE", "upstream_failed");
        let entry = gateway.entry();
        assert_eq!(entry.settlement.outcome, Outcome::UpstreamFailed);
        assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("upstream_failed"));
    }
}

#[test]
fn an_array_that_ends_too_early_is_entered_once_as_an_estimate() {
    let usage = |text: &str, count: u64| {
        json!({"candidates": [{"content": {"parts": [{"text": text}]}}], "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": count}})
            .to_string()
    };
    let sent = format!("[{},\n{}", usage("one", 3), &usage("two and three", 9)[..60]);
    let upstream = Upstream::always(Script::chunked("application/json", &[sent.as_bytes()]));
    let gateway = gateway(&upstream, "");
    assert_eq!(
        ask(&gateway, STREAM, &contents()).text(),
        sent,
        "what ended well by its framing is the client's"
    );
    let entry = gateway.entry();
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("incomplete_answer"));
    assert_eq!(entry.settlement.usage.get(Kind::Input), 10);
}

#[test]
fn a_request_above_the_threshold_is_billed_at_its_level_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("book.yaml");
    let book = "provider: gemini\nqualifiers: [models/]\nmodels:\n- id: scripted-pro\n  prices:\n    always:\n      standard: {input: 1.25, cache_read: 0.125, output: 10}\n      standard >200000: {input: 2.5, cache_read: 0.25, output: 15}\n";
    std::fs::write(&file, book).unwrap();
    let upstream = Upstream::playing(|seen| {
        let prompt: u64 = seen.header("x-prompt").unwrap().parse().unwrap();
        let usage = json!({"promptTokenCount": prompt, "cachedContentTokenCount": 50_000, "candidatesTokenCount": 600, "thoughtsTokenCount": 400});
        Script::json(
            200,
            &json!({"candidates": [], "usageMetadata": usage, "modelVersion": "scripted-pro"}).to_string(),
        )
    });
    let gateway = gateway(&upstream, &format!("prices: {{files: [\"{}\"]}}", file.display()));
    for (at, (prompt, cost)) in [
        // 150,000 × 1.25 + 50,000 × 0.125 + 1,000 × 10, and one token more at 2.5, 0.25 and 15.
        ("200000", "0.20375"),
        ("200001", "0.4025025"),
    ]
    .into_iter()
    .enumerate()
    {
        let headers = [KEY[0], ("x-prompt", prompt)];
        gateway
            .client
            .request("POST", GENERATE, &headers, contents().to_string().as_bytes());
        let entry = gateway.entries_of(at + 1).pop().unwrap();
        assert_eq!(entry.settlement.cost.to_string(), cost, "{prompt}");
        assert_eq!(entry.settlement.estimate_reason, None);
    }
}

#[test]
fn pictures_and_speech_are_held_at_their_own_prices() {
    let book = "provider: gemini
models:
- id: scripted-pro
  prices: {always: {standard: {input: 0.3, audio_input: 1, output: 2.5, audio_output: 20, image_output: 30, image: 0.04}}}
";
    let upstream = Upstream::playing(|seen| {
        let usage = json!({"promptTokenCount": 10, "candidatesTokenCount": 1_000,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_000}]});
        Script::json(
            200,
            &match seen.path.contains(":predict") {
                true => json!({"predictions": [{"mimeType": "image/png"}, {"mimeType": "image/png"}]}),
                false => json!({"candidates": [], "usageMetadata": usage, "modelVersion": "scripted-pro"}),
            }
            .to_string(),
        )
    });
    let base = upstream.base();
    let yaml = format!("providers: {{extra: {{gemini: {{enabled: true, upstream: \"{base}\", unpriced: refuse}}}}}}");
    let gateway = Setup::new(&upstream).only(&yaml).prices(book).start();
    let contents = json!([{"parts": [{"text": "draw"}]}]);
    let asked = |config: Value| json!({"contents": contents, "generationConfig": config});
    let heard = json!({"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}]}], "generationConfig": {"maxOutputTokens": 1}});
    let held = |at: usize, path: &str, body: &Value| {
        assert_eq!(ask(&gateway, path, body).status, 200);
        let entry = gateway.entries_of(at).pop().unwrap();
        let images = entry.settlement.usage.get(Kind::ImageOutput) + entry.settlement.usage.get(Kind::Image);
        assert!(images > 0, "{entry:?}");
        (entry.held, entry.overage)
    };
    let usd = |text: &str| text.parse::<Usd>().unwrap();
    let (held_picture, over) = held(1, GENERATE, &asked(json!({"maxOutputTokens": 1_000})));
    assert!(held_picture >= usd("0.03") && over == Usd::ZERO, "{held_picture}");
    let (held_speech, _) = held(
        2,
        GENERATE,
        &asked(json!({"maxOutputTokens": 1_000, "responseModalities": ["AUDIO"]})),
    );
    assert!(
        held_speech >= usd("0.02") && held_speech < usd("0.021"),
        "{held_speech}"
    );
    let (held_text, _) = held(
        3,
        GENERATE,
        &asked(json!({"maxOutputTokens": 1_000, "responseModalities": ["TEXT"]})),
    );
    assert!(held_text >= usd("0.0025") && held_text < usd("0.003"), "{held_text}");
    let (held_images, over) = held(
        4,
        "/gemini/v1beta/models/scripted-pro:predict",
        &json!({"instances": [{"prompt": "x"}], "parameters": {"sampleCount": 2}}),
    );
    assert!(held_images >= usd("0.08") && over == Usd::ZERO, "{held_images}");
    let quiet = asked(json!({"maxOutputTokens": 1, "responseModalities": ["TEXT"]}));
    let (held_sound, held_quiet) = (held(5, GENERATE, &heard).0, held(6, GENERATE, &quiet).0);
    assert!(held_sound > held_quiet, "a recording is held at the price of sound");
}

#[test]
fn counting_and_listing_are_free_and_not_entered() {
    let upstream = Upstream::always(Script::json(200, "{\"totalTokens\":31}"));
    let gateway = gateway(
        &upstream,
        "budgets: {default: {daily_limit_usd: 0.000001, action: block}}",
    );
    let post = |path: &str| {
        gateway
            .client
            .request("POST", path, &KEY, contents().to_string().as_bytes())
            .status
    };
    assert_eq!(post("/gemini/v1beta/models/scripted-pro:countTokens"), 200);
    assert_eq!(post("/cohere/v1/tokenize"), 200);
    for path in [
        "/gemini/v1beta/models",
        "/gemini/v1beta/models/scripted-pro",
        "/cohere/v1/models",
    ] {
        assert_eq!(gateway.client.get(path).status, 200);
    }
    assert_eq!(upstream.seen_count(), 5);
    gateway.wait_idle();
    assert_eq!(gateway.entries(), []);
    // What costs is held: a budget this small has no room for it.
    let refused = ask(&gateway, GENERATE, &contents());
    assert_eq!(refused.status, 429);
    assert_google_error(&refused.json(), 429, "RESOURCE_EXHAUSTED", "budget_exceeded");
    assert_eq!(refused.json()["error"]["type"], "budget_exceeded");
    assert_eq!(upstream.seen_count(), 5);
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = gateway(&upstream, "");
    // What is known to spend and cannot be held says why; the rest is not known.
    for (path, status) in [
        ("/gemini/v1beta/models/veo-3:predictLongRunning", 403),
        ("/gemini/v1beta/models/scripted-pro:batchGenerateContent", 403),
        ("/gemini/v1beta/cachedContents", 403),
        ("/gemini/v1beta/openai/nothing", 404),
        ("/cohere/v1/classify", 403),
        ("/cohere/v2/audio/transcriptions", 403),
        (
            "/vertex/v1/projects/p/locations/l/publishers/google/models/m:generateContent",
            404,
        ),
        ("/unheard/v1/chat/completions", 404),
    ] {
        let reply = ask(&gateway, path, &contents());
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{path}");
        assert!(reply.json()["error"]["message"].is_string(), "{path}");
    }
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn a_model_that_only_the_path_names_is_held_and_entered() {
    let upstream = Upstream::playing(|_| {
        Script::json(
            200,
            "{\"embedding\":{\"values\":[0.1]},\"usageMetadata\":{\"promptTokenCount\":1000}}",
        )
    });
    let gateway = gateway(&upstream, "");
    let body = json!({"content": {"parts": [{"text": "a ledger"}]}});
    let path = "/gemini/v1beta/models/scripted-embedding:embedContent";
    assert_eq!(ask(&gateway, path, &body).status, 200);
    let entry = gateway.entry();
    assert_eq!(
        (&*entry.facts.requested_model, &*entry.facts.operation),
        ("scripted-embedding", "embedContent")
    );
    assert_eq!(&*entry.settlement.model, "scripted-embedding");
    assert_eq!(entry.settlement.cost.to_string(), "0.001");
    assert!(
        entry.held < Usd::from_nanos(100_000),
        "nothing is held for output: {entry:?}"
    );
}

#[test]
fn a_compatible_host_is_five_lines() {
    let upstream = Upstream::always(Script::json(
        200,
        "{\"id\":\"c\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100}}",
    ));
    let yaml = format!(
        "providers:\n  extra:\n    my-host:\n      enabled: true\n      upstream: {}/deep/base\n      default_price: {{input: 3, output: 15}}\n",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let body = "{\"model\":\"m\",\"messages\":[]}";
    assert_eq!(gateway.client.post("/my-host/v1/chat/completions", body).status, 200);
    assert_eq!(upstream.only_seen().path, "/deep/base/v1/chat/completions");
    let entry = gateway.entry();
    assert_eq!(
        (&*entry.facts.provider, entry.settlement.cost.to_string().as_str()),
        ("my-host", "0.0045")
    );
}

#[test]
fn an_interaction_in_the_background_is_one_charge_when_it_is_fetched() {
    let usage = r#""usage":{"total_input_tokens":100,"total_cached_tokens":40,"total_output_tokens":30,"total_thought_tokens":20,"total_tokens":150}"#;
    let running = r#"{"id":"v1_bg","object":"interaction","status":"in_progress","model":"scripted-pro"}"#;
    let done =
        format!(r#"{{"id":"v1_bg","object":"interaction","status":"completed","model":"scripted-pro",{usage}}}"#);
    let upstream = Upstream::playing(move |seen| match seen.method.as_str() {
        "POST" => Script::json(200, running),
        _ => Script::json(200, &done),
    });
    let gateway = gateway(&upstream, "");
    let body = json!({"model": "scripted-pro", "input": "hi", "background": true,
        "generation_config": {"max_output_tokens": 1_000}});
    assert_eq!(ask(&gateway, "/gemini/v1beta/interactions", &body).status, 200);
    let ledger = &gateway.launched().gateway().ledger;
    assert_eq!(ledger.open_holds().len(), 1, "the hold waits for the result");
    for _ in 0..3 {
        let reply = gateway
            .client
            .request("GET", "/gemini/v1beta/interactions/v1_bg", &KEY, b"");
        assert_eq!(reply.status, 200);
    }
    let entry = gateway.entry();
    let usage = &entry.settlement.usage;
    assert_eq!(
        (
            usage.get(Kind::Input),
            usage.get(Kind::CacheRead),
            usage.get(Kind::Output)
        ),
        (60, 40, 50)
    );
    assert_eq!(
        (entry.settlement.reasoning, &*entry.facts.operation),
        (20, "interactions")
    );
    assert!(ledger.open_holds().is_empty());
}

/// The case gemini-last-chunk-lacks-details, whole: what an element leaves out stays, and is not counted twice.
#[test]
fn gemini_last_chunk_lacks_details() {
    let element = |usage: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"a\"}}]}}}}],\"usageMetadata\":{{{usage}}},\"modelVersion\":\"scripted-pro\"}}\n\n"
        )
    };
    let script = [
        r#""promptTokenCount":10000,"cachedContentTokenCount":8000,"totalTokenCount":10000"#,
        r#""promptTokenCount":10000,"cachedContentTokenCount":8000,"candidatesTokenCount":10,"thoughtsTokenCount":500,"totalTokenCount":10510"#,
        r#""promptTokenCount":10000,"candidatesTokenCount":20,"totalTokenCount":10520"#,
    ]
    .iter()
    .fold(Script::stream_head("text/event-stream"), |script, usage| {
        script.chunk(element(usage).as_bytes())
    });
    let upstream = Upstream::always(script.end());
    let gateway = gateway(&upstream, "");
    assert_eq!(ask(&gateway, &format!("{STREAM}?alt=sse"), &contents()).status, 200);
    let entry = gateway.entry();
    let usage = &entry.settlement.usage;
    assert_eq!(
        (
            usage.get(Kind::Input),
            usage.get(Kind::CacheRead),
            usage.get(Kind::Output)
        ),
        (2_000, 8_000, 520)
    );
    assert_eq!(entry.settlement.reasoning, 500);
}
