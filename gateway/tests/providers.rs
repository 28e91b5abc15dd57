//! Every provider that the contract names, by its default configuration, through the running gateway: the path its host
//! receives, the headers, the usage, the cost; whole answers and streams.
//!
//! The scripted upstream stands in for the hosts: only scheme, name and port of each default are replaced. Prices are a
//! book of this test, another for each provider, so that a cost tells whose price it was.

use std::collections::BTreeSet;

use agentledger::testing::config::{self, Config, Env, Known};
use agentledger_ledger::{Entry, Kind};
use serde_json::{Value, json};

use crate::harness::upstream::Seen;
use crate::harness::{Gateway, Script, Setup, Upstream};

const KEY: &str = "key-of-a-client-0123456789";
const MODEL: &str = "scripted-1";

/// Which answers a host gives, and what a request to it looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speaks {
    OpenAi,
    Anthropic,
    Gemini,
    Cohere,
}

/// One way to a provider.
struct Way {
    name: &'static str,
    /// The default host and base path.
    host: &'static str,
    base: &'static str,
    speaks: Speaks,
    /// Behind the prefix: of a whole answer, and of a stream.
    path: &'static str,
    stream_path: &'static str,
    /// How its clients send their key; `{}` is the key.
    key: (&'static str, &'static str),
    /// The usage as this host writes it, and by kind.
    usage: fn() -> Value,
    counts: &'static [(Kind, u64)],
}

const BEARER: (&str, &str) = ("authorization", "Bearer {}");
const CHAT: &str = "/v1/chat/completions";

const fn compatible(name: &'static str, host: &'static str, base: &'static str) -> Way {
    Way {
        name,
        host,
        base,
        speaks: Speaks::OpenAi,
        path: CHAT,
        stream_path: CHAT,
        key: BEARER,
        usage: plain,
        counts: &[(Kind::Input, 1_000), (Kind::Output, 100)],
    }
}

fn plain() -> Value {
    json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100})
}

/// <https://platform.openai.com/docs/guides/prompt-caching>
fn cached() -> Value {
    json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100,
        "prompt_tokens_details": {"cached_tokens": 600}})
}

/// <https://api-docs.deepseek.com/guides/kv_cache>
fn deepseek() -> Value {
    json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100,
        "prompt_cache_hit_tokens": 600, "prompt_cache_miss_tokens": 400})
}

/// <https://docs.x.ai/docs/guides/reasoning>: thinking stands outside the completion, and in the total.
fn xai() -> Value {
    json!({"prompt_tokens": 1_000, "completion_tokens": 60, "total_tokens": 1_100,
        "completion_tokens_details": {"reasoning_tokens": 40}, "cost_in_usd_ticks": 12_340_000})
}

/// <https://openrouter.ai/docs/use-cases/usage-accounting>
fn openrouter() -> Value {
    json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100, "cost": 0.001_234})
}

/// <https://docs.perplexity.ai/api-reference/chat-completions-post>
fn perplexity() -> Value {
    json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100, "search_context_size": "low",
        "cost": {"input_tokens_cost": 0.001, "output_tokens_cost": 0.000_234, "total_cost": 0.001_234}})
}

/// <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>
fn anthropic() -> Value {
    json!({"input_tokens": 300, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 100, "output_tokens": 100})
}

/// <https://ai.google.dev/api/generate-content#UsageMetadata>
fn gemini() -> Value {
    json!({"promptTokenCount": 900, "cachedContentTokenCount": 600, "toolUsePromptTokenCount": 100,
        "candidatesTokenCount": 60, "thoughtsTokenCount": 40, "totalTokenCount": 1_100})
}

/// <https://docs.cohere.com/reference/chat>
fn cohere() -> Value {
    json!({"billed_units": {"input_tokens": 1_000, "output_tokens": 100.0}, "tokens": {"input_tokens": 1_207, "output_tokens": 100}})
}

const INPUT_OUTPUT: &[(Kind, u64)] = &[(Kind::Input, 1_000), (Kind::Output, 100)];
const WITH_CACHE: &[(Kind, u64)] = &[(Kind::Input, 400), (Kind::CacheRead, 600), (Kind::Output, 100)];
const WITH_WRITES: &[(Kind, u64)] = &[
    (Kind::Input, 300),
    (Kind::CacheRead, 600),
    (Kind::CacheWrite5m, 100),
    (Kind::Output, 100),
];
/// A request with a search context of a size has a fee.
const WITH_FEE: &[(Kind, u64)] = &[(Kind::Input, 1_000), (Kind::Output, 100), (Kind::Request, 1)];
const CLAUDE_ON_VERTEX: &str = "/v1/projects/p/locations/global/publishers/anthropic/models/scripted-1:rawPredict";
const CLAUDE_ON_VERTEX_STREAM: &str =
    "/v1/projects/p/locations/global/publishers/anthropic/models/scripted-1:streamRawPredict";
const ON_VERTEX: &str = "/v1/projects/p/locations/global/publishers/google/models/scripted-1:generateContent";
const ON_VERTEX_STREAM: &str =
    "/v1/projects/p/locations/global/publishers/google/models/scripted-1:streamGenerateContent";
const OPEN_ON_VERTEX: &str = "/v1/projects/p/locations/global/endpoints/openapi/chat/completions";

fn ways() -> Vec<Way> {
    let claude_like = |name, host, base, path| Way {
        speaks: Speaks::Anthropic,
        path,
        stream_path: path,
        key: ("x-api-key", "{}"),
        usage: anthropic,
        counts: WITH_WRITES,
        ..compatible(name, host, base)
    };
    let google = |name, host| Way {
        speaks: Speaks::Gemini,
        usage: gemini,
        counts: WITH_CACHE,
        key: ("x-goog-api-key", "{}"),
        path: "/v1beta/models/scripted-1:generateContent",
        stream_path: "/v1beta/models/scripted-1:streamGenerateContent?alt=sse",
        ..compatible(name, host, "")
    };
    let vertex = |path, stream_path| Way {
        path,
        stream_path,
        key: BEARER,
        ..google("vertex", "aiplatform.googleapis.com")
    };
    vec![
        Way {
            usage: cached,
            counts: WITH_CACHE,
            ..compatible("openai", "api.openai.com", "")
        },
        Way {
            speaks: Speaks::Anthropic,
            path: "/v1/messages",
            stream_path: "/v1/messages",
            key: ("x-api-key", "{}"),
            usage: anthropic,
            counts: WITH_WRITES,
            ..compatible("anthropic", "api.anthropic.com", "")
        },
        compatible("groq", "api.groq.com", "/openai"),
        // Groq's own client brings the base path along.
        Way {
            path: "/openai/v1/chat/completions",
            stream_path: "/openai/v1/chat/completions",
            ..compatible("groq", "api.groq.com", "/openai")
        },
        compatible("mistral", "api.mistral.ai", ""),
        Way {
            path: "/v1/fim/completions",
            stream_path: "/v1/fim/completions",
            ..compatible("mistral", "api.mistral.ai", "")
        },
        Way {
            usage: deepseek,
            counts: WITH_CACHE,
            ..compatible("deepseek", "api.deepseek.com", "")
        },
        google("gemini", "generativelanguage.googleapis.com"),
        Way {
            path: "/v1/models/scripted-1:generateContent",
            // An array of JSON, and the key where Google's first clients put it.
            stream_path: "/v1/models/scripted-1:streamGenerateContent?key={}",
            ..google("gemini", "generativelanguage.googleapis.com")
        },
        Way {
            path: "/v1beta/openai/chat/completions",
            stream_path: "/v1beta/openai/chat/completions",
            ..compatible("gemini", "generativelanguage.googleapis.com", "")
        },
        Way {
            speaks: Speaks::Cohere,
            path: "/v2/chat",
            stream_path: "/v2/chat",
            usage: cohere,
            counts: INPUT_OUTPUT,
            ..compatible("cohere", "api.cohere.com", "")
        },
        Way {
            path: "/compatibility/v1/chat/completions",
            stream_path: "/compatibility/v1/chat/completions",
            ..compatible("cohere", "api.cohere.com", "")
        },
        compatible("together", "api.together.xyz", ""),
        Way {
            usage: cached,
            counts: WITH_CACHE,
            ..compatible("fireworks", "api.fireworks.ai", "/inference")
        },
        Way {
            path: "/chat/completions",
            stream_path: "/chat/completions",
            usage: perplexity,
            counts: WITH_FEE,
            ..compatible("perplexity", "api.perplexity.ai", "")
        },
        Way {
            path: "/v1/sonar",
            stream_path: "/v1/sonar",
            usage: perplexity,
            counts: WITH_FEE,
            ..compatible("perplexity", "api.perplexity.ai", "")
        },
        claude_like("deepseek", "api.deepseek.com", "", "/anthropic/v1/messages"),
        claude_like("fireworks", "api.fireworks.ai", "/inference", "/v1/messages"),
        claude_like("openrouter", "openrouter.ai", "/api", "/v1/messages"),
        claude_like("ollama", "localhost", "", "/v1/messages"),
        Way {
            path: "/chat/completions",
            stream_path: "/beta/completions",
            usage: deepseek,
            counts: WITH_CACHE,
            ..compatible("deepseek", "api.deepseek.com", "")
        },
        Way {
            usage: openrouter,
            ..compatible("openrouter", "openrouter.ai", "/api")
        },
        Way {
            usage: xai,
            counts: INPUT_OUTPUT,
            ..compatible("xai", "api.x.ai", "")
        },
        compatible("cerebras", "api.cerebras.ai", ""),
        compatible("sambanova", "api.sambanova.ai", ""),
        compatible("ollama", "localhost", ""),
        vertex(ON_VERTEX, ON_VERTEX_STREAM),
        Way {
            speaks: Speaks::Anthropic,
            usage: anthropic,
            counts: WITH_WRITES,
            ..vertex(CLAUDE_ON_VERTEX, CLAUDE_ON_VERTEX_STREAM)
        },
        Way {
            path: OPEN_ON_VERTEX,
            stream_path: OPEN_ON_VERTEX,
            ..compatible("vertex", "aiplatform.googleapis.com", "")
        },
    ]
}

/// Providers whose dialects have tables of their own.
const ELSEWHERE: [&str; 2] = ["azure", "bedrock"];

fn whole(way: &Way) -> String {
    let usage = (way.usage)();
    let message = json!({"role": "assistant", "content": "Hello."});
    match way.speaks {
        Speaks::OpenAi => json!({"id": "c", "object": "chat.completion", "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}),
        Speaks::Anthropic => json!({"id": "m", "type": "message", "role": "assistant", "model": MODEL,
            "content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn", "usage": usage}),
        Speaks::Gemini => json!({"candidates": [{"content": {"parts": [{"text": "Hello."}], "role": "model"},
            "finishReason": "STOP"}], "usageMetadata": usage, "modelVersion": MODEL}),
        Speaks::Cohere => json!({"id": "c", "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]}, "usage": usage}),
    }
    .to_string()
}

fn stream(way: &Way, seen: &Seen) -> Script {
    let usage = (way.usage)();
    let events = |events: &[(&str, Value)]| -> Vec<String> {
        let event = |(name, data): &(&str, Value)| match *name {
            "" => format!("data: {data}\n\n"),
            name => format!("event: {name}\ndata: {data}\n\n"),
        };
        events.iter().map(event).collect()
    };
    let pieces = match way.speaks {
        Speaks::OpenAi => {
            let chunk = |choices: Value| json!({"id": "c", "object": "chat.completion.chunk", "model": MODEL, "choices": choices});
            let text = chunk(json!([{"index": 0, "delta": {"content": "Hello."}}]));
            let mut last = chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
            let asked = seen.json()["stream_options"]["include_usage"] == true;
            // Groq reports in a place of its own, unasked hosts in their last chunk, all others where they are asked.
            let mut pieces = if way.name == "groq" {
                last["x_groq"] = json!({"id": "req", "usage": usage});
                events(&[("", text), ("", last)])
            } else if asked {
                let mut counts = chunk(json!([]));
                counts["usage"] = usage;
                events(&[("", text), ("", last), ("", counts)])
            } else {
                last["usage"] = usage;
                events(&[("", text), ("", last)])
            };
            pieces.push("data: [DONE]\n\n".to_owned());
            pieces
        }
        Speaks::Anthropic => {
            let mut start = usage.clone();
            start["output_tokens"] = json!(1);
            let message = json!({"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": start});
            events(&[
                ("message_start", json!({"type": "message_start", "message": message})),
                (
                    "content_block_delta",
                    json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}}),
                ),
                (
                    "message_delta",
                    json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": usage["output_tokens"]}}),
                ),
                ("message_stop", json!({"type": "message_stop"})),
            ])
        }
        Speaks::Gemini => {
            let element = |text: &str, usage: Value| {
                json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}}],
                "usageMetadata": usage, "modelVersion": MODEL})
            };
            let first = element("Hel", json!({"promptTokenCount": 900, "totalTokenCount": 900}));
            let last = element("lo.", usage);
            if !seen.path.contains("alt=sse") {
                let array = [format!("[{first}\n"), format!(",\r\n{last}\n"), "]".to_owned()];
                return Script::chunked("application/json; charset=UTF-8", &array);
            }
            events(&[("", first), ("", last)])
        }
        Speaks::Cohere => events(&[
            (
                "message-start",
                json!({"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}}),
            ),
            (
                "content-delta",
                json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello."}}}}),
            ),
            (
                "message-end",
                json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}),
            ),
        ]),
    };
    Script::sse(&pieces)
}

fn asked(way: &Way, streams: bool) -> String {
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    match way.speaks {
        Speaks::Gemini => {
            json!({"contents": [{"parts": [{"text": "Say hello."}]}], "generationConfig": {"maxOutputTokens": 200}})
        }
        // On Vertex the path names the model.
        Speaks::Anthropic if way.name == "vertex" => {
            json!({"anthropic_version": "vertex-2023-10-16", "max_tokens": 200, "messages": messages, "stream": streams})
        }
        Speaks::OpenAi if way.path.contains("/fim/") || (streams && way.stream_path.contains("/beta/")) => {
            json!({"model": MODEL, "prompt": "def", "suffix": "end", "max_tokens": 200, "stream": streams})
        }
        _ => json!({"model": MODEL, "max_tokens": 200, "messages": messages, "stream": streams}),
    }
    .to_string()
}

fn defaults(yaml: &str) -> Config {
    let none: [(&str, &str); 0] = [];
    config::load_text(None, yaml, &Env::of(none), &Known::undecided()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn enabled(names: &BTreeSet<&str>, more: impl Fn(&str) -> String) -> String {
    let section = |name: &&str| {
        format!(
            "{name}: {{enabled: true, default_price: {{input: 1, output: 1}}{}}}",
            more(name)
        )
    };
    let (root, extra): (Vec<&str>, Vec<&str>) = names
        .iter()
        .copied()
        .partition(|name| matches!(*name, "openai" | "anthropic"));
    let root: Vec<String> = root.iter().map(section).collect();
    let extra: Vec<String> = extra.iter().map(section).collect();
    format!("providers: {{{}, extra: {{{}}}}}", root.join(", "), extra.join(", "))
}

/// USD per million tokens at a provider: input, cache read, cache write, output.
fn prices(at: u64) -> [u64; 4] {
    [1_000 + at, 100 + at, 1_250 + at, 5_000 + at]
}

/// USD for one request, where there is such a fee.
const FEE: u64 = 5;

fn price_file(at: u64, name: &str) -> String {
    let [input, read, write, output] = prices(at);
    let level = format!("input: {input}, cache_read: {read}, cache_write_5m: {write}, output: {output}");
    let tiers = match name {
        "perplexity" => format!("standard: {{{level}, request: {FEE}}}, search_low: {{{level}, request: {FEE}}}"),
        _ => format!("standard: {{{level}}}"),
    };
    format!("provider: {name}\nmodels:\n- id: {MODEL}\n  prices: {{always: {{{tiers}}}}}\n")
}

/// Nano-dollars: tokens × USD per million is micro-dollars.
fn cost(at: u64, counts: &[(Kind, u64)]) -> i64 {
    let [input, read, write, output] = prices(at);
    let of = |kind: Kind| match kind {
        Kind::Input => input,
        Kind::CacheRead => read,
        Kind::CacheWrite5m => write,
        Kind::Output => output,
        Kind::Request => FEE * 1_000_000,
        other => panic!("{other:?}"),
    };
    let micros: u64 = counts.iter().map(|(kind, units)| units * of(*kind)).sum();
    i64::try_from(micros * 1_000).unwrap()
}

fn checked(way: &Way, at: u64, gateway: &Gateway, upstream: &Upstream, streams: bool) -> Entry {
    let (seen_before, entries_before) = (upstream.seen_count(), gateway.entries().len());
    let prefix = if matches!(way.name, "openai" | "anthropic") {
        String::new()
    } else {
        format!("/{}", way.name)
    };
    let behind = if streams { way.stream_path } else { way.path }.replace("{}", KEY);
    let key_in_path = behind.contains(KEY);
    let key = way.key.1.replace("{}", KEY);
    let mut headers = vec![("x-agent-task", "table"), ("x-provider", way.name)];
    if !key_in_path {
        headers.push((way.key.0, &key));
    }
    if way.speaks == Speaks::Anthropic {
        headers.push(("anthropic-version", "2023-06-01"));
    }
    let body = asked(way, streams);
    let label = format!("{} {behind}", way.name);
    let reply = gateway
        .client
        .request("POST", &format!("{prefix}{behind}"), &headers, body.as_bytes());
    assert_eq!((reply.status, reply.whole), (200, true), "{label}: {}", reply.text());

    let seen = &upstream.seen()[seen_before..];
    assert_eq!(seen.len(), 1, "{label}");
    let seen = &seen[0];
    // The base path is there once, whether or not the client brought it along.
    let own = behind
        .strip_prefix(way.base)
        .filter(|_| !way.base.is_empty())
        .unwrap_or(&behind);
    assert_eq!(seen.path, format!("{}{own}", way.base), "{label}");
    assert_eq!(
        seen.header("host"),
        Some(upstream.address().to_string().as_str()),
        "{label}"
    );
    assert_eq!(seen.header("x-provider"), Some(way.name), "{label}");
    assert_eq!(seen.header("x-agent-task"), None, "{label}");
    assert_eq!(seen.header("accept-encoding"), Some("identity"), "{label}");
    if !key_in_path {
        assert_eq!(seen.header(way.key.0), Some(key.as_str()), "{label}");
    }
    let asks_for_usage = seen.json()["stream_options"]["include_usage"] == true;
    let may_be_asked = streams && way.speaks == Speaks::OpenAi && !matches!(way.name, "mistral" | "perplexity");
    assert_eq!(asks_for_usage, may_be_asked, "{label}");

    let mut entries = gateway.entries_of(entries_before + 1);
    assert_eq!(entries.len(), entries_before + 1, "{label}");
    let entry = entries.pop().unwrap();
    let usage: Vec<(Kind, u64)> = entry.settlement.usage.iter().collect();
    assert_eq!(usage, way.counts, "{label}");
    assert_eq!(entry.settlement.cost.nanos(), cost(at, way.counts), "{label}");
    assert_eq!(entry.settlement.estimate_reason, None, "{label}");
    assert_eq!(
        (&*entry.facts.provider, &*entry.facts.requested_model),
        (way.name, MODEL),
        "{label}"
    );
    assert_eq!((entry.facts.stream, entry.settlement.status), (streams, 200), "{label}");
    assert!(
        !entry.facts.path.contains(KEY) && !entry.facts.key.is_empty(),
        "{label}"
    );
    entry
}

#[test]
fn every_provider_gets_its_path_and_headers_and_is_entered_at_its_price() {
    let ways = ways();
    let names: BTreeSet<&str> = ways.iter().map(|way| way.name).collect();
    let config = defaults(&enabled(&names, |_| String::new()));
    // No provider is without a row here.
    let known: BTreeSet<&str> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
    let absent = config.absent.iter().map(|absent| absent.name.as_str());
    let all: BTreeSet<&str> = known.iter().copied().chain(absent).collect();
    assert_eq!(all, names.iter().copied().chain(ELSEWHERE).collect());
    for way in &ways {
        let provider = config
            .providers
            .iter()
            .find(|provider| provider.name == way.name)
            .unwrap();
        let upstream = &provider.upstream;
        assert_eq!(
            (upstream.host.as_str(), upstream.base_path.as_str()),
            (way.host, way.base)
        );
        assert_eq!(upstream.tls, way.name != "ollama", "{}", way.name);
    }

    // What is scripted is found by the path, which differs for each way.
    let scripted = self::ways();
    let upstream = Upstream::playing(move |seen| {
        let path = seen.path.split('?').next().unwrap_or_default();
        let of = |own: &str, base: &str| {
            let own = own.split('?').next().unwrap_or_default();
            path == format!(
                "{base}{}",
                own.strip_prefix(base).filter(|_| !base.is_empty()).unwrap_or(own)
            )
        };
        let named = seen.header("x-provider").unwrap_or_default().to_owned();
        let mut fits = scripted.iter().filter(|way| way.name == named);
        match fits.find_map(|way| {
            let streams = of(way.stream_path, way.base) && (!of(way.path, way.base) || seen.json()["stream"] == true);
            (streams || of(way.path, way.base)).then_some((way, streams))
        }) {
            Some((way, true)) => stream(way, seen),
            Some((way, false)) => Script::json(200, &whole(way)),
            None => Script::json(404, "{\"error\":\"no such path\"}"),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<String> = names
        .iter()
        .zip(1..)
        .map(|(name, at)| {
            let file = dir.path().join(format!("{name}.yaml"));
            std::fs::write(&file, price_file(at, name)).unwrap();
            format!("\"{}\"", file.display())
        })
        .collect();
    let to_upstream = |name: &str| {
        let base = ways.iter().find(|way| way.name == name).unwrap().base;
        format!(", upstream: \"{}{base}\"", upstream.base())
    };
    let yaml = format!(
        "{}\nprices: {{files: [{}]}}",
        enabled(&names, to_upstream),
        files.join(", ")
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let mut keys = BTreeSet::new();
    for way in &ways {
        let at = 1 + names.iter().position(|name| *name == way.name).unwrap() as u64;
        for streams in [false, true] {
            let entry = checked(way, at, &gateway, &upstream, streams);
            keys.insert(entry.facts.key.to_string());
            let reported = entry.settlement.reported_cost.map(|cost| cost.to_string());
            let reports = way.speaks == Speaks::OpenAi && matches!(way.name, "openrouter" | "xai" | "perplexity");
            assert_eq!(reported.as_deref(), reports.then_some("0.001234"), "{}", way.name);
        }
    }
    assert_eq!(keys.len(), 1, "one key, wherever it is sent: {keys:?}");
}
