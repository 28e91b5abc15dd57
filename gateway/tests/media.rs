//! Images, speech, transcriptions, rerank: what is billed in other units than text, and asked for by forms.

use agentledger_ledger::{Kind, Outcome, Usd};

use super::harness::client::{Reply, read_reply};
use super::harness::{Gateway, Script, Setup, Upstream};

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

/// A form of fields and files, as clients send it.
fn post_form(gateway: &Gateway, path: &str, content_type: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Reply {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map_or(String::new(), |name| {
            format!("; filename=\"{name}\"\r\nContent-Type: application/octet-stream")
        });
        let head = format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XyZ--\r\n");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer sk-test-0123456789abcdef\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    read_reply(&mut gateway.client.raw(&[head.as_bytes(), &body].concat()))
}

const FORM: &str = "multipart/form-data; boundary=XyZ";

#[test]
fn gpt_image_bills_its_tokens_by_medium() {
    let answer = r#"{"created":1,"data":[{"b64_json":"aGVsbG8="}],"usage":{"total_tokens":1106,"input_tokens":50,"output_tokens":1056,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#;
    let upstream = Upstream::always(Script::json(200, answer));
    let gateway = Gateway::to(&upstream);
    let reply = gateway.client.post(
        "/v1/images/generations",
        r#"{"model":"gpt-image-1","prompt":"an otter","size":"1024x1024","quality":"medium"}"#,
    );
    assert_eq!((reply.status, reply.text().as_str()), (200, answer));
    let entry = gateway.entry();
    let usage = &entry.settlement.usage;
    assert_eq!(
        (
            usage.get(Kind::Input),
            usage.get(Kind::ImageInput),
            usage.get(Kind::ImageOutput)
        ),
        (10, 40, 1_056)
    );
    // 10 x 5 + 40 x 10 + 1,056 x 40, a million.
    assert_eq!(entry.settlement.cost, usd("0.04269"));
    assert_eq!(entry.settlement.estimate_reason, None);
    assert_eq!(&*entry.facts.operation, "images.generations");
    assert!(
        entry.held >= usd("0.04224") && entry.held < usd("0.1"),
        "{}",
        entry.held
    );
}

#[test]
fn dall_e_bills_images_by_size_and_quality() {
    let answer = r#"{"created":1,"data":[{"url":"u"},{"url":"v"}]}"#;
    let upstream = Upstream::always(Script::json(200, answer));
    let gateway = Gateway::to(&upstream);
    let reply = gateway.client.post(
        "/v1/images/generations",
        r#"{"model":"dall-e-3","prompt":"an otter","n":2,"size":"1792x1024","quality":"hd"}"#,
    );
    assert_eq!(reply.status, 200);
    let entry = gateway.entry();
    assert_eq!(entry.settlement.usage.get(Kind::Image), 2);
    assert_eq!(entry.settlement.cost, usd("0.24"));
    assert_eq!(entry.settlement.estimate_reason, None);
    assert!(
        entry.held >= usd("0.24") && entry.overage == Usd::ZERO,
        "{}",
        entry.held
    );
}

#[test]
fn an_edit_by_form_goes_out_as_it_came() {
    let answer = r#"{"created":1,"data":[{"b64_json":"x"}],"usage":{"input_tokens":330,"output_tokens":272,"input_tokens_details":{"text_tokens":7,"image_tokens":323},"output_tokens_details":{"image_tokens":272,"text_tokens":0}}}"#;
    let upstream = Upstream::always(Script::json(200, answer));
    let gateway = Gateway::to(&upstream);
    let parts: [(&str, Option<&str>, &[u8]); 5] = [
        ("model", None, b"gpt-image-1"),
        ("prompt", None, b"a hat\r\n--for the otter"),
        ("size", None, b"1024x1024"),
        ("quality", None, b"low"),
        ("image[]", Some("otter.png"), &[0x89, b'P', 0xff, b'\r', b'\n', 0]),
    ];
    let reply = post_form(&gateway, "/v1/images/edits", FORM, &parts);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = upstream.only_seen();
    assert_eq!(seen.header("content-type"), Some(FORM));
    assert!(seen.body.starts_with(b"--XyZ\r\n") && seen.body.ends_with(b"--XyZ--\r\n"));
    let entry = gateway.entry();
    assert_eq!(entry.settlement.usage.get(Kind::ImageInput), 323);
    assert_eq!(entry.settlement.usage.get(Kind::ImageOutput), 272);
    assert_eq!(entry.settlement.cost, usd("0.014145"));
}

#[test]
fn a_form_without_its_boundary_is_refused_by_name() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    let parts: [(&str, Option<&str>, &[u8]); 2] = [("model", None, b"whisper-1"), ("file", Some("a.mp3"), b"xx")];
    for (content_type, code) in [
        ("multipart/form-data", "missing_boundary"),
        ("multipart/form-data; boundary=\"\"", "missing_boundary"),
        ("multipart/form-data; boundary=another", "invalid_multipart"),
    ] {
        let reply = post_form(&gateway, "/v1/audio/transcriptions", content_type, &parts);
        assert_eq!(reply.status, 400, "{content_type}");
        assert_eq!(reply.json()["error"]["code"], code, "{content_type}");
    }
    let twice: [(&str, Option<&str>, &[u8]); 2] =
        [("model", None, b"whisper-1"), ("model", None, b"gpt-4o-transcribe")];
    let reply = post_form(&gateway, "/v1/audio/transcriptions", FORM, &twice);
    assert_eq!(
        (reply.status, reply.json()["error"]["code"].as_str()),
        (400, Some("invalid_multipart"))
    );
    assert_eq!(upstream.seen_count(), 0);
    assert!(gateway.entries().is_empty());
}

#[test]
fn a_transcript_is_billed_by_its_tokens_or_its_seconds() {
    let tokens = r#"{"text":"hello","usage":{"type":"tokens","input_tokens":114,"input_token_details":{"text_tokens":14,"audio_tokens":100},"output_tokens":20,"total_tokens":134}}"#;
    let seconds = r#"{"task":"transcribe","duration":8.47,"text":"hello","usage":{"type":"duration","seconds":9}}"#;
    let other = r#"{"task":"transcribe","duration":8.47,"text":"hello"}"#;
    let upstream = Upstream::playing(move |seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        Script::json(
            200,
            match body {
                body if body.contains("gpt-4o-transcribe") => tokens,
                body if body.contains("verbose") => other,
                _ => seconds,
            },
        )
    });
    let gateway = Gateway::to(&upstream);
    let ask = |model: &str, format: &str| {
        let parts: [(&str, Option<&str>, &[u8]); 3] = [
            ("file", Some("a.mp3"), &[7; 40_000]),
            ("model", None, model.as_bytes()),
            ("response_format", None, format.as_bytes()),
        ];
        let path = if format == "verbose_json" {
            "translations"
        } else {
            "transcriptions"
        };
        assert_eq!(
            post_form(&gateway, &format!("/v1/audio/{path}"), FORM, &parts).status,
            200
        );
    };
    ask("gpt-4o-transcribe", "json");
    ask("whisper-1", "json");
    ask("whisper-1", "verbose_json");
    let entries = gateway.entries_of(3);
    let first = &entries[0].settlement;
    assert_eq!(
        (
            first.usage.get(Kind::Input),
            first.usage.get(Kind::AudioInput),
            first.usage.get(Kind::Output)
        ),
        (14, 100, 20)
    );
    // 14 x 2.5 + 100 x 6 + 20 x 10, a million.
    assert_eq!(first.cost, usd("0.000835"));
    for entry in &entries[1..] {
        assert_eq!(entry.settlement.usage.get(Kind::Second), 9);
        assert_eq!(entry.settlement.cost, usd("0.0009"));
        assert_eq!(entry.settlement.estimate_reason, None);
    }
    // 40,000 bytes are ten seconds at least.
    assert!(entries[1].held >= usd("0.001"), "{}", entries[1].held);
}

#[test]
fn a_transcript_as_plain_text_is_estimated_by_the_recording() {
    let upstream = Upstream::always(Script::body(200, "text/plain", b"hello there", &[]));
    let gateway = Gateway::to(&upstream);
    let parts: [(&str, Option<&str>, &[u8]); 3] = [
        ("file", Some("a.mp3"), &[7; 40_000]),
        ("model", None, b"whisper-1"),
        ("response_format", None, b"text"),
    ];
    assert_eq!(
        post_form(&gateway, "/v1/audio/transcriptions", FORM, &parts).text(),
        "hello there"
    );
    let entry = gateway.entry();
    assert_eq!(entry.settlement.usage.get(Kind::Second), 10);
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("no_usage"));
    assert_eq!(entry.settlement.cost, usd("0.001"));
}

#[test]
fn speech_is_billed_by_the_character_and_its_sound_passes_untouched() {
    let sound = [0xff, 0xfb, 0x90, 0x00, b'{', 0x0a];
    let upstream = Upstream::always(Script::body(200, "audio/mpeg", &sound, &[]));
    let gateway = Gateway::to(&upstream);
    // Eleven characters, fourteen bytes, one of them escaped.
    let reply = gateway.client.post(
        "/v1/audio/speech",
        r#"{"model":"tts-1","voice":"alloy","input":"héllo \u00e4\nöo."}"#,
    );
    assert_eq!((reply.status, reply.body.as_slice()), (200, &sound[..]));
    assert_eq!(reply.header("content-type"), Some("audio/mpeg"));
    let entry = gateway.entry();
    assert_eq!(
        entry.settlement.usage.iter().collect::<Vec<_>>(),
        [(Kind::Character, 11)]
    );
    assert_eq!(entry.settlement.cost, usd("0.000165"));
    assert_eq!(entry.settlement.estimate_reason, None);
    assert!(entry.held >= entry.settlement.cost, "{}", entry.held);
}

#[test]
fn speech_of_token_models_is_estimated_unless_it_comes_as_events() {
    let events = [
        "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}\n\n",
        "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n",
    ];
    let upstream = Upstream::playing(move |seen| match seen.json()["stream_format"].as_str() {
        Some("sse") => Script::sse(&events),
        _ => Script::body(200, "audio/mpeg", b"\xff\xfb", &[]),
    });
    let gateway = Gateway::to(&upstream);
    let ask = |more: &str| {
        let body = format!(r#"{{"model":"gpt-4o-mini-tts","voice":"alloy","input":"one two three four"{more}}}"#);
        assert_eq!(gateway.client.post("/v1/audio/speech", &body).status, 200);
    };
    ask(r#","stream_format":"sse""#);
    ask("");
    let entries = gateway.entries_of(2);
    let exact = &entries[0].settlement;
    assert_eq!(exact.usage.get(Kind::AudioOutput), 101);
    // 14 x 0.6 + 101 x 12, a million.
    assert_eq!((exact.cost, exact.estimate_reason.as_deref()), (usd("0.0012204"), None));
    let estimated = &entries[1].settlement;
    assert_eq!(estimated.usage.get(Kind::AudioOutput), 27);
    assert_eq!(estimated.estimate_reason.as_deref(), Some("no_usage"));
}

#[test]
fn image_streams_report_at_their_end() {
    let events = [
        "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AA\"}\n\n",
        "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"BB\",\"usage\":{\"total_tokens\":282,\"input_tokens\":10,\"output_tokens\":272,\"input_tokens_details\":{\"text_tokens\":10,\"image_tokens\":0}}}\n\n",
    ];
    let upstream = Upstream::always(Script::sse(&events));
    let gateway = Gateway::to(&upstream);
    let reply = gateway.client.post(
        "/v1/images/generations",
        r#"{"model":"gpt-image-1","prompt":"an otter","size":"1024x1024","quality":"low","stream":true}"#,
    );
    assert_eq!(reply.text(), events.concat());
    let entry = gateway.entry();
    assert_eq!(entry.settlement.usage.get(Kind::ImageOutput), 272);
    assert_eq!(
        (entry.settlement.outcome, entry.settlement.estimate_reason.as_deref()),
        (Outcome::Completed, None)
    );
}

#[test]
fn rerank_is_billed_by_its_tokens() {
    let answer = r#"{"model":"m","results":[{"index":0,"relevance_score":0.9}],"usage":{"total_tokens":40}}"#;
    let upstream = Upstream::always(Script::json(200, answer));
    let base = upstream.base();
    let gateway = Setup::new(&upstream)
        .only(&format!(
            "providers:\n  extra:\n    host: {{type: openai, path_prefix: /host, enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 2}}}}"
        ))
        .start();
    let body = r#"{"model":"m","query":"q","documents":["a","b"],"top_n":1}"#;
    assert_eq!(gateway.client.post("/host/v1/rerank", body).status, 200);
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.usage.get(Kind::Input), entry.settlement.cost),
        (40, usd("0.00004"))
    );
    assert_eq!(entry.settlement.estimate_reason, None);
}

#[test]
fn units_that_a_default_price_does_not_name_are_never_free_unsaid() {
    let upstream = Upstream::playing(|seen| {
        let answer = match seen.path.as_str() {
            path if path.ends_with("/images/generations") => r#"{"created":1,"data":[{"url":"u"},{"url":"v"}]}"#,
            path if path.ends_with("/transcriptions") => r#"{"text":"hi","usage":{"type":"duration","seconds":9}}"#,
            path if path.ends_with("/rerank") => r#"{"results":[],"meta":{"billed_units":{"search_units":3}}}"#,
            path if path.ends_with("/responses") => {
                r#"{"id":"r","model":"m","status":"completed","output":[],"tool_usage":{"web_search":{"num_requests":4}},"usage":{"input_tokens":10,"output_tokens":0}}"#
            }
            _ => return Script::body(200, "audio/mpeg", b"\xff\xfb", &[]),
        };
        Script::json(200, answer)
    });
    let base = upstream.base();
    let host = |price: &str| {
        Setup::new(&upstream)
            .only(&format!(
                "providers:\n  extra:\n    host: {{type: openai, path_prefix: /host, enabled: true, upstream: \"{base}\", {price}}}"
            ))
            .start()
    };
    let ask = |gateway: &Gateway, kind: Kind| {
        let post = |path: &str, body: &str| gateway.client.post(path, body);
        let reply = match kind {
            Kind::Image => post("/host/v1/images/generations", r#"{"model":"m","prompt":"x","n":2}"#),
            Kind::Second => {
                let parts: [(&str, Option<&str>, &[u8]); 2] =
                    [("file", Some("a.mp3"), &[7; 400]), ("model", None, b"m")];
                post_form(gateway, "/host/v1/audio/transcriptions", FORM, &parts)
            }
            Kind::Request => post("/host/v1/rerank", r#"{"model":"m","query":"q","documents":["a"]}"#),
            Kind::WebSearch => post(
                "/host/v1/responses",
                r#"{"model":"m","input":"x","max_output_tokens":9}"#,
            ),
            _ => post(
                "/host/v1/audio/speech",
                r#"{"model":"m","voice":"v","input":"eleven long"}"#,
            ),
        };
        assert_eq!(reply.status, 200, "{kind:?}: {}", reply.text());
    };
    let kinds = [
        (Kind::Image, 2),
        (Kind::Second, 9),
        (Kind::Request, 3),
        (Kind::WebSearch, 4),
        (Kind::Character, 11),
    ];
    let priced = host("default_price: {input: 1, output: 2}");
    let free = host("free: true");
    for (at, (kind, units)) in kinds.into_iter().enumerate() {
        ask(&priced, kind);
        let entry = priced.entries_of(at + 1).pop().unwrap();
        let reason = entry.settlement.estimate_reason.as_deref();
        if kind == Kind::Character {
            // Sound says nothing of itself: what was read is estimated in tokens.
            assert_eq!(reason, Some("no_usage"));
            assert!(entry.settlement.cost > Usd::ZERO, "{entry:?}");
        } else {
            assert_eq!(
                (reason, entry.settlement.usage.get(kind)),
                (Some("unpriced_unit"), units),
                "{kind:?}"
            );
        }
        ask(&free, kind);
        let entry = free.entries_of(at + 1).pop().unwrap();
        assert_eq!(
            (entry.settlement.usage.get(kind), entry.settlement.cost),
            (units, Usd::ZERO),
            "{kind:?}"
        );
        // Free is the operator's word. How many tokens speech took is guessed all the same.
        let guessed = (kind == Kind::Character).then_some("no_usage");
        assert_eq!(entry.settlement.estimate_reason.as_deref(), guessed, "{kind:?}");
    }
}

#[test]
fn moderations_and_files_are_free() {
    let upstream = Upstream::always(Script::json(200, r#"{"id":"x","usage":{"prompt_tokens":5}}"#));
    let gateway = Gateway::to(&upstream);
    for path in [
        "/v1/moderations",
        "/v1/batches",
        "/v1/batches/b/cancel",
        "/v1/uploads",
        "/v1/responses/input_tokens",
    ] {
        assert_eq!(
            gateway.client.post(path, r#"{"model":"m","input":"x"}"#).status,
            200,
            "{path}"
        );
    }
    let parts: [(&str, Option<&str>, &[u8]); 2] = [("purpose", None, b"batch"), ("file", Some("b.jsonl"), b"{}")];
    assert_eq!(post_form(&gateway, "/v1/files", FORM, &parts).status, 200);
    assert_eq!(gateway.client.get("/v1/files").status, 200);
    assert_eq!(gateway.client.get("/v1/responses/resp_1/input_items").status, 200);
    assert!(gateway.entries().is_empty());
}
