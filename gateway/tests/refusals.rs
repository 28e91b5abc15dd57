//! What is refused says why in words that a person understands, in the shape with which the client at hand stops. All texts are
//! golden, in four dialects: `AGENTLEDGER_GOLDEN=1 cargo test` writes them anew.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use agentledger_ledger::ManualClock;
use serde_json::{Value, json};

use crate::harness::aws::{EVENT_STREAM, event, messages};
use crate::harness::client::{Reply, read_reply};
use crate::harness::upstream::{Step, find};
use crate::harness::{Gate, Gateway, Script, Setup, Upstream};
use crate::rest::golden;
use crate::sessions::call;

const CHAT: &str = "/v1/chat/completions";
/// 2026-11-29T11:13:20Z.
const START_MS: i64 = 1_795_950_800_000;
const KEY: &str = "sk-golden-0123456789";

/// How one dialect asks.
pub struct Dialect {
    pub name: &'static str,
    pub path: &'static str,
    key: &'static str,
    pub body: &'static str,
}

/// Each may answer with a thousand tokens.
pub const DIALECTS: [Dialect; 4] = [
    Dialect {
        name: "openai",
        path: CHAT,
        key: "authorization",
        body: r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#,
    },
    Dialect {
        name: "anthropic",
        path: "/v1/messages",
        key: "x-api-key",
        body: r#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#,
    },
    Dialect {
        name: "gemini",
        path: "/gemini/v1beta/models/gemini-2.5-pro:generateContent",
        key: "x-goog-api-key",
        body: r#"{"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"maxOutputTokens":1000}}"#,
    },
    Dialect {
        name: "bedrock",
        path: "/bedrock/model/made-up/converse",
        key: "authorization",
        body: r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}],"inferenceConfig":{"maxTokens":1000}}"#,
    },
];

impl Dialect {
    fn ask(&self, gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
        self.send(gateway, "POST", self.path, headers, self.body.as_bytes())
    }

    /// Anything else under this dialect's key.
    pub fn send(&self, gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let key = match self.key {
            "authorization" => format!("Bearer {KEY}"),
            _ => KEY.to_owned(),
        };
        let known = [
            (self.key, key.as_str()),
            ("anthropic-version", "2023-06-01"),
            ("x-agent-id", "ci"),
            ("x-agent-session", "s1"),
        ];
        let headers = [&known[..], headers].concat();
        gateway.client.request(method, path, &headers, body)
    }
}

/// What the one model costs that no book has.
pub const PRICED: &str = ", default_price: {input: 1, output: 10}";

/// A gateway of all four dialects, at a fixed moment, with a fixed secret for its fingerprints.
pub fn setup(upstream: &Upstream, more: &str) -> (Setup, Arc<ManualClock>) {
    setup_of("", PRICED, upstream, more)
}

/// The same, with this said of each provider, and of the one whose model has no price.
pub fn setup_of(each: &str, unpriced: &str, upstream: &Upstream, more: &str) -> (Setup, Arc<ManualClock>) {
    let provider = format!("upstream: \"{}\"{each}", upstream.base());
    let yaml = format!(
        "fingerprint: {{secret: 0123456789abcdef0123456789abcdef}}\nproviders:\n  openai: {{{provider}}}\n  anthropic: {{{provider}}}\n  \
         extra:\n    gemini: {{enabled: true, {provider}}}\n    bedrock: {{enabled: true, {provider}{unpriced}}}\n{more}"
    );
    let clock = Arc::new(ManualClock::new(START_MS));
    (Setup::new(upstream).only(&yaml).clock(clock.clone()), clock)
}

/// An answer to OpenAI's clients that bills sixty cents.
pub fn sixty_cents() -> Upstream {
    Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":60000,"total_tokens":60000}}"#,
    ))
}

/// Answers only once the gate is open.
pub fn gated() -> (Upstream, Gate) {
    let gate = Gate::default();
    let opened = gate.clone();
    let upstream = Upstream::playing(move |_| {
        opened.wait();
        Script::json(
            200,
            r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
        )
    });
    (upstream, gate)
}

/// As a client sees it: status, the headers that it acts on, and the body.
pub fn shown(reply: &Reply) -> String {
    let mut text = format!("{}", reply.status);
    for name in ["retry-after", "x-should-retry", "x-codex-promo-message"] {
        if let Some(value) = reply.header(name) {
            write!(text, "  {name}: {value}").unwrap();
        }
    }
    assert!(!reply.text().contains(KEY), "{}", reply.text());
    let mut body = reply.json();
    // The id is another one each time: what a head says of it, the body says, too.
    let named = body["error"].as_object_mut().and_then(|error| error.remove("exchange"));
    let in_head = reply.header("x-agentledger-exchange").map(Value::from);
    assert!(named.is_none() || named == in_head, "{named:?} {in_head:?}");
    format!("{text}\n{}\n", serde_json::to_string_pretty(&body).unwrap())
}

/// What a gateway refuses, in each dialect.
fn in_each_dialect(out: &mut String, title: &str, gateway: &Gateway, status: u16) {
    writeln!(out, "# {title}").unwrap();
    for dialect in &DIALECTS {
        let reply = dialect.ask(gateway, &[]);
        assert_eq!(reply.status, status, "{title}, {}: {}", dialect.name, reply.text());
        writeln!(out, "\n## {}: {}", dialect.name, shown(&reply).trim_end()).unwrap();
    }
    out.push('\n');
}

/// A call before, which is answered.
fn answered(gateway: &Gateway) {
    assert_eq!(DIALECTS[0].ask(gateway, &[]).status, 200);
}

#[test]
fn the_refusals_of_limits_are_as_recorded() {
    let mut out = String::new();
    let spending = sixty_cents();
    let limits = |limits: &str, title: &str, first: bool, out: &mut String| {
        let (setup, _clock) = setup(&spending, "");
        let gateway = setup.conf("budget", &format!("{{limits: [{limits}]}}")).start();
        if first {
            answered(&gateway);
        }
        in_each_dialect(out, title, &gateway, 429);
    };
    limits(
        "{account: key, window: day, limit: 0.50}",
        "A budget is spent",
        true,
        &mut out,
    );
    limits(
        "{account: key, window: month, limit: 0.004}",
        "A request may cost more than is left",
        false,
        &mut out,
    );
    limits(
        "{account: agent, window: hour, unit: tokens, limit: 100, zone: Asia/Kolkata}",
        "A budget of tokens, in another time zone",
        false,
        &mut out,
    );
    limits(
        "{account: session, window: total, unit: requests, limit: 1}",
        "A budget that never resets",
        true,
        &mut out,
    );

    let rate = |rate: &str, title: &str, first: bool, out: &mut String| {
        let (setup, _clock) = setup(&spending, &format!("rate_limits: {{default: {{{rate}}}}}"));
        let gateway = setup.start();
        if first {
            answered(&gateway);
        }
        in_each_dialect(out, title, &gateway, 429);
    };
    rate("requests_per_hour: 1", "A rate", true, &mut out);
    rate(
        "tokens_per_minute: 100",
        "A request that is more than a rate alone",
        false,
        &mut out,
    );

    for (title, yaml, conf) in [
        (
            "A budget is held",
            "hold: {wait_ms: 0}",
            "{limits: [{account: key, window: day, unit: tokens, limit: 1500}]}",
        ),
        ("Requests at one time", "rate_limits: {default: {parallel: 1}}", "{}"),
    ] {
        let (upstream, gate) = gated();
        let (setup, _clock) = setup(&upstream, yaml);
        let gateway = setup.conf("budget", conf).start();
        thread::scope(|scope| {
            scope.spawn(|| answered(&gateway));
            while upstream.seen_count() == 0 {
                thread::yield_now();
            }
            in_each_dialect(&mut out, title, &gateway, 429);
            gate.open();
        });
    }
    golden("refusals/limits.txt", &out);
}

#[test]
fn the_refusals_of_rules_are_as_recorded() {
    let mut out = String::new();
    let upstream = sixty_cents();
    let start = |policy: Option<&str>, confs: &[(&str, &str)]| {
        let (setup, _clock) = setup(&upstream, "");
        let setup = confs.iter().fold(setup, |setup, (name, conf)| setup.conf(name, conf));
        match policy {
            Some(policy) => setup.policy("house", policy).start(),
            None => setup.start(),
        }
    };
    let looping = start(None, &[("loop", "{threshold: 2, action: block, by: path}")]);
    for dialect in &DIALECTS {
        dialect.ask(&looping, &[]);
    }
    in_each_dialect(&mut out, "A loop", &looping, 429);

    let killed = start(None, &[]);
    answered(&killed);
    call(&killed, "session.kill", &json!({"id": "s1"}));
    in_each_dialect(&mut out, "A killed session", &killed, 400);

    let deny = r#"return { name = "house", version = "1", priority = 10, request = function()
        return deny{ status = 403, code = "not_you", message = "This model is for the night shift." } end }"#;
    in_each_dialect(&mut out, "A policy denies", &start(Some(deny), &[]), 403);
    let later = r#"return { name = "house", version = "1", priority = 10, request = function()
        return deny{ status = 429, code = "not_now", message = "the batch runs", retry_after = 90 } end }"#;
    in_each_dialect(&mut out, "A policy denies for a while", &start(Some(later), &[]), 429);
    in_each_dialect(
        &mut out,
        "A blocked key",
        &start(None, &[("block", "{keys: [\"sk-golden-*\"]}")]),
        403,
    );
    let route = r#"return { name = "house", version = "1", priority = 10, request = function()
        return route{ alternatives = { "no-such-model" } } end }"#;
    in_each_dialect(
        &mut out,
        "No model that the rules route to",
        &start(Some(route), &[]),
        429,
    );
    golden("refusals/rules.txt", &out);
}

#[test]
fn each_known_client_gets_the_shape_that_ends_it() {
    let mut out = String::new();
    let upstream = sixty_cents();
    let (setup, _clock) = setup(&upstream, "budgets: {default: {daily_limit_usd: 0.5, action: block}}");
    let gateway = setup.start();
    answered(&gateway);
    let clients = [
        (0, "claude-cli/2.1.197 (external, cli)", "openai"),
        (1, "claude-cli/2.1.197 (external, cli)", "anthropic"),
        (0, "codex_exec/0.171.0 (Debian 12.0.0; x86_64)", "openai"),
        (1, "codex_exec/0.171.0 (Debian 12.0.0; x86_64)", "anthropic"),
        (2, "GeminiCLI/0.61.0/gemini-2.5-pro (linux; x64)", "gemini"),
        (1, "opencode/1.18.33", "anthropic"),
        (0, "curl/8.7.1", "openai"),
    ];
    for (dialect, agent, name) in clients {
        let reply = DIALECTS[dialect].ask(&gateway, &[("user-agent", agent)]);
        assert_eq!(DIALECTS[dialect].name, name);
        assert_eq!(
            reply.json()["error"]["account"].as_str().map(|account| &account[..4]),
            Some("key:")
        );
        writeln!(out, "## {agent}, {name}: {}\n", shown(&reply).trim_end()).unwrap();
    }
    golden("refusals/clients.txt", &out);
}

#[test]
fn the_config_chooses_a_refusals_status() {
    let yaml = "budgets: {default: {daily_limit_usd: 0.5, action: block}}\nrefusals: {budget: 402, by_client: {codex: {budget: 400}}}";
    let upstream = sixty_cents();
    let (setup, _clock) = setup(&upstream, yaml);
    let gateway = setup.start();
    answered(&gateway);
    let ask = |agent: &str| DIALECTS[0].ask(&gateway, &[("user-agent", agent)]);
    let plain = ask("curl/8");
    assert_eq!((plain.status, plain.header("x-should-retry")), (402, Some("false")));
    assert_eq!(plain.json()["error"]["type"], "budget_exceeded");
    assert_eq!(ask("claude-cli/2.1.197").status, 429, "its default");
    let codex = ask("codex_exec/0.171.0");
    assert_eq!(
        (codex.status, &codex.json()["error"]["type"]),
        (400, &json!("budget_exceeded"))
    );
    // What running requests hold is no matter of status: it passes.
    assert_eq!(gateway.entries().len(), 1);
}

#[test]
fn a_client_that_ignores_every_refusal_loses_its_connection_and_is_counted() {
    let yaml = "budgets: {default: {daily_limit_usd: 0.5, action: block}}\nrefusals: {close_after: 3}";
    let upstream = sixty_cents();
    let (setup, _clock) = setup(&upstream, yaml);
    let gateway = setup.start();
    answered(&gateway);
    let request = |key: &str| {
        let body = DIALECTS[0].body;
        format!(
            "POST {CHAT} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let refused = request(KEY);
    let say = |stream: &mut std::net::TcpStream, text: &str| {
        std::io::Write::write_all(stream, text.as_bytes()).unwrap();
        read_reply(stream).status
    };
    let mut stream = gateway.client.raw(refused.as_bytes());
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(read_reply(&mut stream).status, 429);
    assert_eq!(say(&mut stream, &refused), 429);
    // An answer in between begins the count anew.
    assert_eq!(say(&mut stream, &request("sk-other-0123456789")), 200);
    for _ in 0..3 {
        assert_eq!(say(&mut stream, &refused), 429);
    }
    let mut rest = Vec::new();
    let ended = std::io::Read::read_to_end(&mut stream, &mut rest);
    assert!(matches!(ended, Ok(0)), "{ended:?}: {}", String::from_utf8_lossy(&rest));
    let metrics = gateway.client.get("/metrics").text();
    assert!(
        metrics.contains("agentledger_refusals_ignored_total{provider=\"openai\"} 1"),
        "{metrics}"
    );
    assert_eq!(
        DIALECTS[0].ask(&gateway, &[]).status,
        429,
        "another connection is served"
    );
}

#[test]
fn a_rate_that_takes_long_is_not_sat_out_in_silence_by_codex() {
    let upstream = sixty_cents();
    let (setup, clock) = setup(&upstream, "rate_limits: {default: {requests_per_hour: 1}}");
    let gateway = setup.start();
    answered(&gateway);
    let codex = [("user-agent", "codex_exec/0.171.0 (Debian 12.0.0; x86_64)")];
    let late = DIALECTS[0].ask(&gateway, &codex);
    assert_eq!((late.status, late.header("retry-after")), (429, None));
    let error = &late.json()["error"];
    assert_eq!(
        (&error["type"], &error["resets_in_seconds"]),
        (&json!("usage_limit_reached"), &json!(3_600))
    );
    clock.advance_ms(3_560_000);
    let soon = DIALECTS[0].ask(&gateway, &codex);
    assert_eq!((soon.status, soon.header("retry-after")), (429, Some("40")));
    assert_eq!(soon.json()["error"]["type"], "proxy_error");
    let retry: Value = DIALECTS[2].ask(&gateway, &[]).json()["error"]["details"][1].clone();
    assert_eq!(retry["retryDelay"], "40s");
}

/// Sixteen words: about as many tokens.
const WORDS: &str = "one two three four five six seven eight nine ten red green blue black white grey ";

impl Dialect {
    /// Where it asks for a stream, with which body, and as what the stream comes.
    fn stream(&self) -> (String, String, &'static str) {
        let sse = "text/event-stream";
        let streamed = self.body.replacen('{', "{\"stream\":true,", 1);
        match self.name {
            "gemini" => {
                let path = "/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
                (path.to_owned(), self.body.to_owned(), sse)
            }
            "bedrock" => (format!("{}-stream", self.path), self.body.to_owned(), EVENT_STREAM),
            _ => (self.path.to_owned(), streamed, sse),
        }
    }

    /// The `at`th piece of a stream.
    fn piece(&self, at: usize) -> Vec<u8> {
        let text = match (self.name, at) {
            ("openai", _) => format!(
                "data: {}\n\n",
                json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": WORDS}}]})
            ),
            ("anthropic", 0) => format!(
                "event: message_start\ndata: {}\n\n",
                json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-4-5", "usage": {"input_tokens": 9, "output_tokens": 1}}})
            ),
            ("anthropic", _) => format!(
                "event: content_block_delta\ndata: {}\n\n",
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}})
            ),
            ("gemini", _) => format!(
                "data: {}\r\n\r\n",
                json!({"candidates": [{"content": {"parts": [{"text": WORDS}], "role": "model"}}]})
            ),
            (_, 0) => return event("messageStart", r#"{"role":"assistant"}"#),
            _ => {
                let delta = json!({"contentBlockIndex": 0, "delta": {"text": WORDS}});
                return event("contentBlockDelta", &delta.to_string());
            }
        };
        text.into_bytes()
    }

    /// How the stream ends: its last frame, once all before it are known ones.
    fn last(&self, reply: &Reply) -> String {
        assert_eq!((reply.status, reply.whole), (200, true), "{}", reply.text());
        if self.name == "bedrock" {
            let (headers, payload) = messages(&reply.body).pop().unwrap();
            let kind = headers.iter().find(|(name, _)| name == ":exception-type");
            return format!("{} {payload}", kind.map_or("", |(_, kind)| kind.as_str()));
        }
        let text = reply.text();
        let at = text
            .trim_end()
            .rfind("\n\n")
            .or_else(|| text.trim_end().rfind("\r\n\r\n").map(|at| at + 2));
        text[at.unwrap() + 2..].trim_end().to_owned()
    }
}

/// What ends a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Budget,
    Kill,
    UpstreamBreaks,
    GoingDown,
}

/// The answer to a stream that is cut so.
fn cut(dialect: &Dialect, how: Cut, agent: &str) -> Reply {
    let (path, body, content_type) = dialect.stream();
    let pieces = if how == Cut::Budget { 300 } else { 2 };
    let end = if how == Cut::UpstreamBreaks {
        Step::Close
    } else {
        Step::AwaitClose
    };
    let head = Script::stream_head(content_type);
    let script = (0..pieces)
        .fold(head, |script, at| script.chunk(&dialect.piece(at)))
        .step(end);
    let upstream = Upstream::always(script);
    let yaml = match how {
        Cut::Budget => "hold: {size: expected}\nbudgets: {default: {daily_limit_usd: 0.02, action: block}}",
        _ => "",
    };
    let (setup, _clock) = setup(&upstream, yaml);
    let gateway = setup.start();
    let key = match dialect.key {
        "authorization" => format!("Bearer {KEY}"),
        _ => KEY.to_owned(),
    };
    let headers = [
        (dialect.key, key.as_str()),
        ("anthropic-version", "2023-06-01"),
        ("x-agent-session", "s1"),
        ("user-agent", agent),
    ];
    let body = body.replace("1000", "16000");
    let mut stream = gateway.client.send("POST", &path, &headers, body.as_bytes());
    // What is cut from outside is cut once its first words are there.
    let mut first = Vec::new();
    while find(&first, b"grey").is_none() {
        let mut some = [0; 4_096];
        let read = std::io::Read::read(&mut stream, &mut some).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&first));
        first.extend_from_slice(&some[..read]);
    }
    let mut stream = std::io::Read::chain(&first[..], stream);
    let reply = match how {
        Cut::Budget | Cut::UpstreamBreaks => read_reply(&mut stream),
        Cut::Kill => {
            call(&gateway, "session.kill", &json!({"id": "s1"}));
            read_reply(&mut stream)
        }
        Cut::GoingDown => {
            let down = thread::spawn(move || drop(gateway));
            let reply = read_reply(&mut stream);
            down.join().unwrap();
            return reply;
        }
    };
    gateway.wait_idle();
    reply
}

#[test]
fn a_stream_that_is_cut_ends_in_the_dialects_error_and_says_why() {
    let mut out = String::new();
    for how in [Cut::Budget, Cut::Kill, Cut::UpstreamBreaks, Cut::GoingDown] {
        writeln!(out, "# {how:?}\n").unwrap();
        for dialect in &DIALECTS {
            writeln!(
                out,
                "## {}\n{}\n",
                dialect.name,
                dialect.last(&cut(dialect, how, "curl/8"))
            )
            .unwrap();
        }
    }
    let codex = "codex_exec/0.171.0 (Debian 12.0.0; x86_64)";
    let last = DIALECTS[0].last(&cut(&DIALECTS[0], Cut::Budget, codex));
    writeln!(out, "# Budget, to Codex\n\n{last}").unwrap();
    golden("refusals/cuts.txt", &out);
}

#[test]
fn a_client_that_backs_off_from_a_final_refusal_is_ended_by_its_status() {
    let upstream = sixty_cents();
    let (setup, clock) = setup(&upstream, "budgets: {default: {daily_limit_usd: 0.5, action: block}}");
    let gateway = setup.start();
    answered(&gateway);
    let statuses_of = |headers: &[(&str, &str)], pauses: &[i64]| -> Vec<u16> {
        let asked = pauses.iter().map(|pause| {
            clock.advance_ms(*pause);
            DIALECTS[0].ask(&gateway, headers).status
        });
        asked.collect()
    };
    let unknown = [("user-agent", "something/1")];
    assert_eq!(statuses_of(&unknown, &[0, 260, 520]), [429, 429, 400]);
    // As aider does on a busy machine: its SDK obeys `x-should-retry`, and what is above it does not.
    let aider = [
        ("user-agent", "OpenAI/Python 1.99.1"),
        ("x-stainless-raw-response", "true"),
    ];
    assert_eq!(statuses_of(&aider, &[0, 5_250]), [429, 400]);
    let polling = [("user-agent", "a script")];
    assert_eq!(statuses_of(&polling, &[0, 1_000, 1_000, 1_000, 1_000]), [429; 5]);
}
