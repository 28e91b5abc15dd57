//! Keys, prompts and answers are in no log, no metric, no answer of the control plane and no file, whichever way a request
//! takes through the real binary at its most talkative.

use std::path::Path;

use serde_json::json;

use crate::harness::client::read_reply;
use crate::harness::upstream::{Step, find};
use crate::harness::{Installation, Script, Upstream, dead_port};

const BEARER: &str = "sk-canary-bearer-5f0c1e77aa";
const API_KEY: &str = "sk-ant-canary-header-93bd02";
const GOOGLE_KEY: &str = "AIza-canary-google-77d1c4";
const QUERY_KEY: &str = "AIza-canary-query-1b9e08";
const BASIC: &str = "dXNlcjpjYW5hcnktYmFzaWMtNDQ1NTY2";
const PASSWORD: &str = "canary-basic-445566";
const PROMPT: &str = "canary-prompt-purple-walrus-8841";
const ANSWER: &str = "canary-answer-green-otter-2290";
const TOKEN: &str = "canary-control-token-6b6b6b6b";
const ALL: [&str; 9] = [
    BEARER, API_KEY, GOOGLE_KEY, QUERY_KEY, BASIC, PASSWORD, PROMPT, ANSWER, TOKEN,
];

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn chat(stream: bool) -> String {
    format!(
        "{{\"model\":\"gpt-4o\",\"messages\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}],\"stream\":{stream},\"max_tokens\":50,\"metadata\":{{\"note\":\"{PROMPT}\"}}}}"
    )
}

/// What the upstream does is asked for by a header. It says the secrets back wherever it can.
fn answer(wish: Option<&str>) -> Script {
    let whole = format!(
        "{{\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{ANSWER} {PROMPT}\"}}}}],\"usage\":{{\"prompt_tokens\":10,\"completion_tokens\":10,\"total_tokens\":20}}}}"
    );
    let chunk = format!(
        "data: {{\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{ANSWER}\"}}}}]}}\n\n"
    );
    let stream = || Script::stream_head("text/event-stream").chunk(chunk.as_bytes());
    let error =
        format!("{{\"error\":{{\"message\":\"Incorrect API key provided: {BEARER}. {PROMPT}\",\"type\":\"x\"}}}}");
    match wish {
        Some("stream") => stream().chunk(b"data: [DONE]\n\n").end(),
        Some("break") => stream().step(Step::Close),
        Some("error") => Script::json(401, &error),
        Some("fails") => Script::json(500, &error),
        Some("not json") => Script::body(200, "text/html", format!("<p>{ANSWER} {BEARER}</p>").as_bytes(), &[]),
        // Nothing in it is what the plugin expects.
        Some("nonsense") => Script::json(
            200,
            &format!(
                "{{\"model\":[\"{ANSWER}\"],\"usage\":{{\"prompt_tokens\":\"{ANSWER}\",\"completion_tokens\":-5}}}}"
            ),
        ),
        Some("bad frame") => stream()
            .chunk(format!("data: {{\"usage\":\"{ANSWER}\",\"choices\":\n\n").as_bytes())
            .end(),
        Some("bad head") => {
            Script::raw(format!("HTTP/1.1 {ANSWER} {BEARER}\r\n{PROMPT}\r\n\r\n").into_bytes()).step(Step::Close)
        }
        Some("silent") => Script::default().step(Step::Close),
        _ => Script::json(200, &whole),
    }
}

#[test]
fn no_secret_is_left_behind_on_any_way() {
    let upstream = Upstream::playing(|seen| answer(seen.header("x-wish")));
    let (base, nobody) = (upstream.base(), dead_port());
    let home = Installation::new(&format!(
        "providers:\n  openai: {{upstream: \"{base}\"}}\n  anthropic: {{upstream: \"{base}\"}}\n  extra: {{gemini: {{enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 2}}}}, groq: {{enabled: true, upstream: \"http://127.0.0.1:{nobody}\", default_price: {{input: 1, output: 2}}}}}}\nlog: {{level: debug}}\nlimits: {{body_bytes_max: 100000}}"
    ));
    home.policy(
        "house",
        r#"return { name = "house", version = "1", priority = 10, request = function(_, call)
            if call.agent == "denied" then return deny{ status = 403, code = "no", message = "no" } end
            if call.agent == "fails" then error(tostring(call.key)) end
            if call.agent == "poor" then return budget{ account = "agent:poor", window = "day", limit = 0, action = "block" } end
            return { budget{ account = "key:" .. call.key.fingerprint, window = "day", limit = 100, action = "block" } }
        end }"#,
    );
    let gateway = home.serve();
    let bearer = format!("Bearer {BEARER}");
    let basic = format!("Basic {BASIC}");
    let post = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let all = [&[("authorization", bearer.as_str())], headers].concat();
        gateway.client.request("POST", path, &all, body).status
    };
    let mut statuses = Vec::new();
    for wish in [
        "",
        "stream",
        "break",
        "error",
        "fails",
        "not json",
        "nonsense",
        "bad frame",
        "bad head",
        "silent",
    ] {
        for stream in [false, true] {
            statuses.push(post(CHAT, &[("x-wish", wish)], chat(stream).as_bytes()));
        }
    }
    // Keys wherever clients put them; refusals, failures and bad input of every kind.
    let version = ("anthropic-version", "2023-06-01");
    for headers in [
        &[("x-api-key", API_KEY), version][..],
        &[("x-goog-api-key", GOOGLE_KEY), version],
        &[("authorization", basic.as_str())],
        // Two keys at once are refused.
        &[("x-goog-api-key", GOOGLE_KEY), ("authorization", basic.as_str())],
    ] {
        let message = format!(
            "{{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":50,\"messages\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}"
        );
        statuses.push(
            gateway
                .client
                .request("POST", MESSAGES, headers, message.as_bytes())
                .status,
        );
        statuses.push(
            gateway
                .client
                .request("POST", MESSAGES, headers, &message.as_bytes()[..message.len() - 2])
                .status,
        );
        statuses.push(gateway.client.request("GET", "/v1/models", headers, b"").status);
    }
    // Google's keys in the query: served, refused in every way, unreachable paths.
    let content = format!("{{\"contents\":[{{\"parts\":[{{\"text\":\"{PROMPT}\"}}]}}]}}");
    for verb in ["generateContent", "streamGenerateContent", "countTokens", "nothing"] {
        for (agent, body) in [
            ("a", content.as_str()),
            ("denied", &content),
            ("poor", &content),
            ("a", PROMPT),
        ] {
            for wish in ["", "stream", "break", "error", "silent"] {
                let path = format!("/gemini/v1beta/models/gemini-2.5-flash:{verb}?alt=sse&key={QUERY_KEY}");
                let headers = [("x-wish", wish), ("x-agent-id", agent)];
                statuses.push(gateway.client.request("POST", &path, &headers, body.as_bytes()).status);
            }
        }
    }
    let twice = format!("/gemini/v1beta/models?key={QUERY_KEY}&key={GOOGLE_KEY}");
    statuses.push(gateway.client.get(&twice).status);
    statuses.push(
        gateway
            .client
            .get(&format!("/gemini/v1beta/models?key={QUERY_KEY}"))
            .status,
    );
    statuses.push(gateway.client.get(&format!("/cohere/v1/models?key={QUERY_KEY}")).status);
    for agent in ["denied", "fails", "poor"] {
        statuses.push(post(CHAT, &[("x-agent-id", agent)], chat(false).as_bytes()));
    }
    let doubled = format!("{{\"model\":\"gpt-4o\",\"messages\":\"{PROMPT}\",\"messages\":\"{PROMPT}\"}}");
    let wrong = format!("{{\"model\":{{\"{PROMPT}\":1}},\"messages\":[],\"max_tokens\":\"{PROMPT}\"}}");
    let broken = format!("{{\"model\":\"gpt-4o\",\"messages\":[\"{PROMPT}");
    let large = format!("{{\"model\":\"gpt-4o\",\"messages\":[\"{}\"]}}", PROMPT.repeat(5_000));
    for body in [PROMPT, &doubled, &wrong, &broken, &large] {
        statuses.push(post(CHAT, &[], body.as_bytes()));
    }
    statuses.push(post(CHAT, &[("content-encoding", "zstd")], chat(false).as_bytes()));
    statuses.push(post("/groq/v1/chat/completions", &[], chat(false).as_bytes()));
    statuses.push(post("/v1/nothing", &[], chat(false).as_bytes()));
    statuses.push(post("/rpc", &[], chat(false).as_bytes()));
    statuses.push(
        gateway
            .client
            .request(
                "POST",
                "/rpc",
                &[("authorization", &format!("Bearer {TOKEN}"))],
                PROMPT.as_bytes(),
            )
            .status,
    );
    // Heads that no server takes.
    for head in [
        format!(
            "POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{PROMPT}"
        ),
        format!("POST {CHAT} HTTP/9.9\r\nAuthorization: {bearer}\r\n\r\n{PROMPT}"),
        format!("{PROMPT} {BEARER}\r\n\r\n"),
        format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nbad header {BEARER}\r\n\r\n"),
    ] {
        let mut stream = gateway.client.raw(head.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    }
    // A client that leaves in the middle of its body, and one in the middle of its answer.
    let half = chat(false);
    drop(
        gateway.client.raw(
            format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Length: 5000\r\n\r\n{half}")
                .as_bytes(),
        ),
    );
    let mut whole = gateway
        .client
        .send("POST", CHAT, &[("authorization", &bearer)], half.as_bytes());
    assert!(
        read_reply(&mut whole).text().contains(ANSWER),
        "the answer itself is the client's"
    );

    // The test is worth something only if the secrets went through.
    assert!(
        statuses.contains(&200) && statuses.contains(&400) && statuses.contains(&403) && statuses.contains(&502),
        "{statuses:?}"
    );
    let seen = upstream.seen();
    assert!(seen.iter().any(|seen| seen.method == "GET"));
    for secret in [BEARER, API_KEY, GOOGLE_KEY, BASIC] {
        assert!(
            seen.iter()
                .any(|seen| seen.headers.iter().any(|(_, value)| value.contains(secret))),
            "{secret} never passed"
        );
    }
    assert!(seen.iter().any(|seen| seen.path.ends_with(&format!("key={QUERY_KEY}"))));
    assert!(seen.iter().any(|seen| find(&seen.body, PROMPT.as_bytes()).is_some()));

    let mut shown = vec![("metrics", gateway.client.get("/metrics").text())];
    for by in ["model", "provider", "key", "agent", "session", "user"] {
        shown.push((
            "ledger.summary",
            home.rpc("ledger.summary", &json!({"by": by})).to_string(),
        ));
    }
    for method in [
        "ledger.query",
        "ledger.verify",
        "budget.status",
        "hold.list",
        "provider.list",
    ] {
        shown.push((method, home.rpc(method, &json!({})).to_string()));
    }
    shown.push(("costs", home.print(&["costs", "--by", "key"])));
    shown.push(("export", home.print(&["export", "--by", "entry", "-f", "jsonl"])));
    shown.push(("check", format!("{:?}", home.run(&["check"]))));
    let entries = home.export();
    assert!(entries.len() > 15, "{}", entries.len());
    let log = gateway.stop();
    assert!(log.len() > 1000, "{log}");
    shown.push(("the log", log));
    for (place, text) in &shown {
        for secret in ALL {
            assert!(!text.contains(secret), "{secret} in {place}:\n{text}");
        }
    }
    let files = assert_absent(&home.path(""));
    assert!(files > 5, "{files} files");
}

/// No file under the folder has a secret in it; how many were read.
fn assert_absent(dir: &Path) -> usize {
    let mut files = 0;
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files += assert_absent(&path);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            for secret in ALL {
                assert!(
                    find(&bytes, secret.as_bytes()).is_none(),
                    "{secret} in {}",
                    path.display()
                );
            }
            files += 1;
        }
    }
    files
}
