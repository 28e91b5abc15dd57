//! Providers: those known by name with their defaults, and any other host that the file describes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use agentledger_ledger::UnitPrice;

use super::aws;
use super::cursor::Cursor;
use super::mounts;
use super::node::{Node, Value};
use super::resolve::Known;
use super::units;
use super::vendor;
use super::{
    Absence, AbsentProvider, OutputLimit, Paths, Provider, Retries, Timeouts, UnknownRoutes, Unpriced, Upstream,
};

/// What is known of a provider before the file says anything.
struct Default {
    name: &'static str,
    kind: &'static str,
    upstream: &'static str,
}

const fn known(name: &'static str, kind: &'static str, upstream: &'static str) -> Default {
    Default { name, kind, upstream }
}

/// Served at the root, enabled unless the file says otherwise.
const AT_ROOT: [Default; 2] = [
    known("openai", "openai", "https://api.openai.com"),
    known("anthropic", "anthropic", "https://api.anthropic.com"),
];

/// Under `providers.extra`, at `/NAME`, off unless the file says otherwise.
const EXTRA: [Default; 16] = [
    known("groq", "openai", "https://api.groq.com/openai"),
    known("mistral", "openai", "https://api.mistral.ai"),
    known("deepseek", "openai", "https://api.deepseek.com"),
    known("gemini", "gemini", "https://generativelanguage.googleapis.com"),
    known("cohere", "cohere", "https://api.cohere.com"),
    known("azure", "azure", ""),
    known("together", "openai", "https://api.together.xyz"),
    known("fireworks", "openai", "https://api.fireworks.ai/inference"),
    known("perplexity", "openai", "https://api.perplexity.ai"),
    known("openrouter", "openai", "https://openrouter.ai/api"),
    known("xai", "openai", "https://api.x.ai"),
    known("cerebras", "openai", "https://api.cerebras.ai"),
    known("sambanova", "openai", "https://api.sambanova.ai"),
    known("bedrock", "bedrock", ""),
    known("vertex", "vertex", "https://aiplatform.googleapis.com"),
    known("ollama", "openai", "http://localhost:11434"),
];

/// Types that name a dialect of their own; any other is OpenAI's unless a plugin of that name is there.
const DIALECTS: [&str; 7] = ["openai", "anthropic", "azure", "gemini", "cohere", "bedrock", "vertex"];

/// Hosts whose streams report their usage unasked, and that refuse or ignore being asked: Mistral answers
/// `stream_options.include_usage` with 422.
const REPORT_UNASKED: [&str; 2] = ["mistral", "perplexity"];

/// Hosts whose chats are limited by `max_tokens` alone. Mistral refuses `max_completion_tokens` with 422, DeepSeek and Ollama
/// ignore it, and the others do not document it; Groq, xAI, Cerebras, Fireworks and OpenRouter know it.
/// <https://docs.mistral.ai/api/endpoint/chat>, <https://api-docs.deepseek.com/api/create-chat-completion>,
/// <https://docs.together.ai/reference/chat-completions-1>, <https://docs.perplexity.ai/api-reference/chat-completions-post>,
/// <https://docs.sambanova.ai/docs/en/api-reference/endpoints/chat>, <https://docs.ollama.com/api/openai-compatibility>
const MAX_TOKENS_ALONE: [&str; 6] = ["mistral", "deepseek", "together", "perplexity", "sambanova", "ollama"];

/// Types whose hosts take a key in the query: Google's, all of them.
const KEY_IN_QUERY: [&str; 2] = ["gemini", "vertex"];

/// Paths of the gateway itself.
const RESERVED: [&str; 10] = [
    "/v1",
    "/api",
    "/rpc",
    "/mcp",
    "/metrics",
    "/health",
    "/healthz",
    "/readyz",
    "/assets",
    "/_agentledger",
];

/// Moves `providers.NAME` to `providers.extra.NAME`, where the original keeps all but the two at the root.
pub fn gather_extra(root: &mut Node) {
    let Value::Map(sections) = &mut root.value else { return };
    let Some(providers) = sections
        .iter_mut()
        .find(|pair| pair.name.eq_ignore_ascii_case("providers"))
    else {
        return;
    };
    let place = providers.place.clone();
    let Value::Map(pairs) = &mut providers.node.value else {
        return;
    };
    let stays = |name: &str| {
        ["openai", "anthropic", "extra"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    };
    let (stay, moved): (Vec<_>, Vec<_>) = pairs.drain(..).partition(|pair| stays(&pair.name));
    *pairs = stay;
    if moved.is_empty() {
        return;
    }
    let Some(extra) = providers.node.child_mut("extra", &place) else {
        return;
    };
    if extra.is_null() {
        extra.value = Value::Map(Vec::new());
    }
    if let Value::Map(pairs) = &mut extra.value {
        // One that is there twice stays twice, and is refused below.
        pairs.extend(moved);
    }
}

/// Those to serve, longest prefix first, and those that are known but not served.
pub fn resolve(at: &Cursor<'_>, known: &Known) -> (Vec<Provider>, Vec<AbsentProvider>) {
    let mut served = Vec::new();
    let mut absent = Vec::new();
    let mut add = |outcome| match outcome {
        Some(Ok(provider)) => served.push(provider),
        Some(Err(missing)) => absent.push(missing),
        None => {}
    };
    for default in &AT_ROOT {
        let section = at.at(default.name);
        if section.at("path_prefix").filled().is_some() {
            section
                .at("path_prefix")
                .warn("has no effect: it is served at the root");
        }
        add(one(
            &section,
            default.name,
            default,
            "",
            section.at("enabled").flag(true),
            known,
        ));
    }
    let given = given_extras(at);
    let unknown = known_default("");
    for default in &EXTRA {
        let nowhere = Cursor {
            node: None,
            path: format!("{}.extra.{}", at.path, default.name),
            problems: at.problems,
        };
        let section = given.get(default.name).unwrap_or(&nowhere);
        add(extra(section, default.name, default, known));
    }
    for (name, section) in given
        .iter()
        .filter(|(name, _)| !EXTRA.iter().any(|default| default.name == *name))
    {
        if !section.at("enabled").is_given() {
            section.warn("is not enabled: say enabled: true");
        }
        add(extra(section, name, &unknown, known));
    }
    refuse_shared_prefixes(at, &served);
    // A stable order: longest prefix first, so that /groq/eu wins over /groq; the root's two last.
    served.sort_by_key(|provider| std::cmp::Reverse(provider.prefix.len()));
    (served, absent)
}

const fn known_default(upstream: &'static str) -> Default {
    Default {
        name: "",
        kind: "openai",
        upstream,
    }
}

/// What the file says under `extra`, by name in lower case.
fn given_extras<'a>(at: &Cursor<'a>) -> BTreeMap<String, Cursor<'a>> {
    let mut given = BTreeMap::new();
    for (name, section) in at.at("extra").names() {
        let name = name.to_ascii_lowercase();
        let fits = !name.is_empty()
            && name
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
        if !fits || name.len() > 64 {
            section.refuse("a provider's name takes letters, digits, '-', '_' and '.', 64 at most");
        } else if AT_ROOT.iter().any(|default| default.name == name) {
            section.refuse(format_args!("stands at providers.{name}"));
        } else {
            match given.entry(name) {
                Entry::Occupied(_) => section.refuse("is there twice, as providers.NAME and as providers.extra.NAME"),
                Entry::Vacant(slot) => {
                    slot.insert(section);
                }
            }
        }
    }
    given
}

fn extra(at: &Cursor<'_>, name: &str, default: &Default, known: &Known) -> Option<Result<Provider, AbsentProvider>> {
    let prefix = prefix(&at.at("path_prefix"), name);
    one(at, name, default, &prefix, at.at("enabled").flag(false), known)
}

/// One provider; none where it has faults, which are noted.
fn one(
    at: &Cursor<'_>,
    name: &str,
    default: &Default,
    prefix: &str,
    enabled: bool,
    known: &Known,
) -> Option<Result<Provider, AbsentProvider>> {
    let absent = |why| {
        Some(Err(AbsentProvider {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            why,
        }))
    };
    let kind = kind(&at.at("type"), default, known);
    let dialect = plugin_of(&kind).to_owned();
    let region = (dialect == "bedrock").then(|| aws::region(at));
    let upstream = provider_upstream(at, default, region.as_deref(), enabled);
    let aws = match region {
        Some(region) => aws::credentials(at, region),
        None => aws::warn_of_keys_elsewhere(at),
    };
    let client_keys = aws::client_keys(&at.at("client_keys"), aws.is_some());
    let deployments = deployments(&at.at("deployments"));
    let book = book(&at.at("book"), name, known);
    let unpriced = unpriced(at, &book, enabled, known);
    let timeouts = timeouts(&at.at("timeouts"));
    let retries = retries(&at.at("retries"));
    let inject_usage = at.at("inject_usage").flag(!REPORT_UNASKED.contains(&name));
    let usual = match MAX_TOKENS_ALONE.contains(&name) {
        true => OutputLimit::MaxTokens,
        false => OutputLimit::MaxCompletionTokens,
    };
    let output_limit = at.at("output_limit").word(
        usual,
        &[
            ("max_tokens", OutputLimit::MaxTokens),
            ("max_completion_tokens", OutputLimit::MaxCompletionTokens),
        ],
    );
    let websocket = at.at("websocket").flag(true);
    let unknown_routes = at.at("unknown_routes").word(
        UnknownRoutes::Refuse,
        &[("refuse", UnknownRoutes::Refuse), ("pass", UnknownRoutes::Pass)],
    );
    if !enabled {
        return absent(Absence::Disabled);
    }
    if !known.reads(&dialect) {
        at.warn(format_args!(
            "no plugin reads the dialect {dialect} yet: its routes answer 404"
        ));
        return absent(Absence::NoDialect);
    }
    let upstream = upstream?;
    let vendor = vendor::of(name, &upstream.host, &book, is_known);
    Some(Ok(Provider {
        name: name.to_owned(),
        mounts: mounts::of(&kind, name),
        key_in_query: KEY_IN_QUERY.contains(&kind.as_str()),
        dialect,
        prefix: prefix.to_owned(),
        upstream,
        inject_usage,
        output_limit,
        websocket,
        unknown_routes,
        vendor,
        book,
        unpriced: unpriced?,
        timeouts,
        retries,
        paths: if kind == "azure" { Paths::Azure } else { Paths::Plain },
        deployments,
        aws,
        client_keys,
    }))
}

fn is_known(name: &str) -> bool {
    AT_ROOT.iter().chain(&EXTRA).any(|default| default.name == name)
}

/// The plugin that reads a type: mostly the one of its name.
fn plugin_of(kind: &str) -> &str {
    match kind {
        // Gemini's API at other paths.
        "vertex" => "gemini",
        // OpenAI's behind deployments: see `Paths`.
        "azure" => "openai",
        own => own,
    }
}

fn kind(at: &Cursor<'_>, default: &Default, known: &Known) -> String {
    let kind = at
        .filled()
        .map_or_else(|| default.kind.to_owned(), str::to_ascii_lowercase);
    if AT_ROOT.iter().any(|root| root.name == default.name) && kind != default.kind {
        at.refuse(format_args!(
            "is always {}; another type goes under providers.extra",
            default.kind
        ));
    }
    if DIALECTS.contains(&kind.as_str()) || known.reads(&kind) {
        return kind;
    }
    at.warn("is no type of its own: read as openai");
    "openai".to_owned()
}

/// The model behind each deployment.
fn deployments(at: &Cursor<'_>) -> BTreeMap<String, String> {
    let named = |(name, at): (&str, Cursor<'_>)| {
        let model = at.filled()?;
        if model.chars().any(char::is_control) {
            at.refuse("must be a model's name");
        }
        Some((name.to_owned(), model.to_owned()))
    };
    at.names().into_iter().filter_map(named).collect()
}

fn provider_upstream(at: &Cursor<'_>, default: &Default, region: Option<&str>, enabled: bool) -> Option<Upstream> {
    let given = at.at("upstream");
    let mut resolved = match given.filled() {
        Some(_) => upstream(&given)?,
        None => match parse_upstream(&region.map_or_else(|| default.upstream.to_owned(), aws::endpoint)) {
            Ok(upstream) => upstream,
            Err(_) => {
                if enabled {
                    at.refuse(format_args!("needs an upstream: set {}.upstream", at.path));
                }
                return None;
            }
        },
    };
    if resolved.base_path.ends_with("/v1") {
        given.warn("ends in /v1, which requests bring along: they would go to /v1/v1/…");
    }
    resolved.ca_file = at.at("ca_file").path();
    if resolved.ca_file.is_some() && !resolved.tls {
        at.at("ca_file").refuse("is for an https upstream");
    }
    resolved.h2 = at.at("h2").flag(true) && resolved.tls;
    Some(resolved)
}

/// Reads a base URL; a fault is noted. The text is not shown: people put keys into URLs.
pub fn upstream(at: &Cursor<'_>) -> Option<Upstream> {
    parse_upstream(at.filled()?).map_err(|message| at.refuse(message)).ok()
}

/// `https://host[:port][/base/path]`.
pub fn parse_upstream(text: &str) -> Result<Upstream, &'static str> {
    const FORM: &str = "must be a URL such as https://api.example.com or http://127.0.0.1:8000/base";
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        _ => return Err(FORM),
    };
    if rest.contains(['?', '#']) {
        return Err("must be a URL without a query and without '#'");
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at_checked(at).ok_or(FORM)?,
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err("must be a URL without a user or password in it");
    }
    let authority: http::uri::Authority = authority.parse().map_err(|_| FORM)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = match (authority.port_u16(), authority.as_str().ends_with(':')) {
        (Some(0), _) => return Err("must be a URL with a port from 1 to 65535"),
        (Some(port), _) => port,
        // The port is there, and none of ours.
        (None, false) if authority.port().is_some() => return Err("must be a URL with a port from 1 to 65535"),
        (None, _) if tls => 443,
        (None, _) => 80,
    };
    let path = path.trim_end_matches('/');
    let path_fits = path.is_empty() || path.parse::<http::uri::PathAndQuery>().is_ok();
    if host.is_empty() || !path_fits || has_odd_segment(path) {
        return Err(FORM);
    }
    Ok(Upstream {
        tls,
        host: host.to_ascii_lowercase(),
        port,
        base_path: path.to_owned(),
        ca_file: None,
        h2: tls,
    })
}

/// Empty segments and those that climb; a path of ours has none.
fn has_odd_segment(path: &str) -> bool {
    path.split('/')
        .skip(1)
        .any(|segment| matches!(segment, "" | "." | ".."))
}

fn prefix(at: &Cursor<'_>, name: &str) -> String {
    let Some(text) = at.filled() else {
        return format!("/{name}");
    };
    let prefix = text.trim_end_matches('/');
    let letters_fit = prefix
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'-' | b'_' | b'.' | b'~'));
    if !prefix.starts_with('/') || !letters_fit || has_odd_segment(prefix) {
        at.refuse("must be a path such as /groq, of letters, digits, '-', '_', '.' and '~'");
    } else if RESERVED
        .iter()
        .any(|own| prefix == *own || prefix.strip_prefix(own).is_some_and(|rest| rest.starts_with('/')))
    {
        at.refuse("is a path of the gateway itself");
    }
    prefix.to_owned()
}

fn refuse_shared_prefixes(at: &Cursor<'_>, served: &[Provider]) {
    for (index, provider) in served
        .iter()
        .enumerate()
        .filter(|(_, provider)| !provider.prefix.is_empty())
    {
        let twin = served.iter().take(index).find(|other| other.prefix == provider.prefix);
        if let Some(twin) = twin {
            let given = at.at("extra").at(&provider.name).at("path_prefix");
            given.refuse(format_args!("{} is the prefix of {} too", provider.prefix, twin.name));
        }
    }
}

/// Its own book, or that of another provider: a second host of one kind has the first one's prices.
fn book(at: &Cursor<'_>, name: &str, known: &Known) -> String {
    let Some(other) = at.filled() else {
        return name.to_owned();
    };
    let other = other.to_ascii_lowercase();
    if !known.has_book(&other) {
        at.refuse("there is no price book of that name");
    }
    other
}

/// What a model without a price costs. A provider without a book must say it, or budgets would count nothing.
fn unpriced(at: &Cursor<'_>, book: &str, enabled: bool, known: &Known) -> Option<Unpriced> {
    let price = default_price(&at.at("default_price"));
    let free = at.at("free").flag(false);
    let choice = at.at("unpriced").word(
        None,
        &[("dearest", Some(Unpriced::Dearest)), ("refuse", Some(Unpriced::Refuse))],
    );
    match (price, free, choice) {
        (Some(price), false, None) => price,
        (None, true, None) => Some(Unpriced::Free),
        (None, false, Some(Unpriced::Refuse)) => Some(Unpriced::Refuse),
        (None, false, _) if known.has_book(book) => Some(Unpriced::Dearest),
        (None, false, _) => {
            if enabled {
                at.refuse(
                    "has no price book: add default_price: {input: 0.5, output: 1.5} (USD per million tokens) or free: true",
                );
            }
            None
        }
        _ => {
            at.refuse("takes one of default_price, free and unpriced");
            None
        }
    }
}

/// The outer option: is it given; the inner: is it right.
fn default_price(at: &Cursor<'_>) -> Option<Option<Unpriced>> {
    if !at.is_section() {
        return None;
    }
    let (input, output) = (at.at("input"), at.at("output"));
    for missing in [&input, &output].into_iter().filter(|price| !price.is_given()) {
        missing.problems.refuse(
            &at.node.map_or(super::Place::Absent, |node| node.place.clone()),
            &missing.path,
            "is missing: USD per million tokens",
        );
    }
    Some(
        unit_price(&input)
            .zip(unit_price(&output))
            .map(|(input, output)| Unpriced::Price { input, output }),
    )
}

/// USD per million tokens, which is pico-dollars per token with six places.
fn unit_price(at: &Cursor<'_>) -> Option<UnitPrice> {
    const PICOS_MAX: i128 = 1_000_000 * 1_000_000;
    let text = at.filled()?;
    match units::scaled(text, 6) {
        Ok(picos) if picos < 0 => at.refuse("must not be negative"),
        Ok(picos) if picos > PICOS_MAX => at.refuse("is more than a million USD per million tokens"),
        Ok(picos) => return i64::try_from(picos).ok().map(UnitPrice::from_picos),
        Err(error) => at.refuse(error),
    }
    None
}

fn timeouts(at: &Cursor<'_>) -> Timeouts {
    const DAY: Duration = Duration::from_secs(86_400);
    Timeouts {
        connect: at.at("connect_ms").millis(Duration::from_secs(10), 1, DAY),
        first_byte: at.at("first_byte_ms").millis(Duration::from_secs(15 * 60), 1, DAY),
        idle: at.at("idle_ms").millis(Duration::from_secs(5 * 60), 1, DAY),
    }
}

fn retries(at: &Cursor<'_>) -> Retries {
    let statuses = at.at("statuses").items();
    let status = |item: &Cursor<'_>| u16::try_from(item.count(0, 400, 599)).ok().filter(|status| *status > 0);
    Retries {
        connect: at.at("connect").count_u32(2, 0, 10),
        statuses: statuses.iter().filter_map(status).collect(),
    }
}

/// The defaults, for tests and for the example file.
#[cfg(test)]
pub(super) fn names_known() -> Vec<&'static str> {
    AT_ROOT.iter().chain(&EXTRA).map(|default| default.name).collect()
}
