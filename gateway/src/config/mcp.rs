//! MCP servers: the contract's single upstream, and any number of servers by name, each with a way to reach it and, where the
//! gateway is to log in there, a credential of its own.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::aws::client_keys;
use super::cursor::{Cursor, Problems};
use super::env::Env;
use super::error::Place;
use super::node::{Node, Value};
use super::providers::parse_upstream;
use super::{Timeouts, ToolPricing, Upstream, mcp_pricing};
use crate::addresses::{is_own_machine, is_public};
use crate::secret::Secret;

/// The name of the contract's single upstream.
const DEFAULT_SERVER: &str = "default";
/// Longest name of a server: it is a part of a path, of a model's name and of a tag.
const NAME_BYTES_MAX: usize = 64;
const DAY: Duration = Duration::from_secs(86_400);
/// Headers that a request has from the gateway or the client whatever is configured.
const OWN_HEADERS: [&str; 9] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "mcp-method",
    "mcp-name",
    "mcp-session-id",
    "transfer-encoding",
];

#[derive(Clone, PartialEq, Eq)]
pub struct Mcp {
    pub servers: Vec<McpServer>,
    pub pricing: ToolPricing,
    pub refusals: ToolRefusals,
    /// How long a call's hold waits for an answer that comes by another way than its own: a resumed stream, the next round of
    /// a call that asked for input, the result of a task. Then it is entered as spent.
    pub answer_wait: Duration,
    pub stdio: McpStdio,
}

/// How `mcp-wrap` wraps servers that their clients start themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpStdio {
    /// The server's name, where the command line gives none.
    pub server: Option<String>,
    pub offline: Offline,
    /// The folder of calls that pass while no gateway runs; `None`: beside the ledger, see [`super::Config::spool_dir`].
    pub spool: Option<PathBuf>,
    /// How long a call may go without an answer. Then it is entered as spent.
    pub answer_timeout: Duration,
    pub long_lines: LongLines,
    /// Whether the definitions of such servers' tools are pinned.
    pub pin: Option<Pin>,
}

/// What becomes of calls while no gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// They pass, and are written down for the gateway.
    Spool,
    Refuse,
    /// They pass, and nobody knows of them.
    Pass,
}

impl Offline {
    pub const fn meaning(self) -> &'static str {
        match self {
            Offline::Spool => "tool calls pass, and are entered when it runs again",
            Offline::Refuse => "tool calls are refused",
            Offline::Pass => "tool calls pass, and are entered nowhere",
        }
    }
}

/// What becomes of a client's lines that are longer than `limits.body_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongLines {
    Refuse,
    /// They pass unread: a call among them is not held.
    Pass,
}

/// How a refused tool call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolRefusals {
    /// By a result that the model reads, with `isError`.
    Result,
    /// By an error of JSON-RPC, which clients tell of themselves.
    Error,
}

impl ToolRefusals {
    /// By their words, in the config and to `mcp.begin`.
    const WORDS: [(&'static str, ToolRefusals); 2] = [
        (ToolRefusals::Result.word(), ToolRefusals::Result),
        (ToolRefusals::Error.word(), ToolRefusals::Error),
    ];

    pub const fn word(self) -> &'static str {
        match self {
            ToolRefusals::Result => "result",
            ToolRefusals::Error => "error",
        }
    }

    pub fn from_word(word: &str) -> Option<ToolRefusals> {
        let found = ToolRefusals::WORDS.into_iter().find(|(known, _)| *known == word);
        found.map(|(_, refusals)| refusals)
    }
}

/// What becomes of a tool whose definition changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It is listed no more and its calls are refused; an alert is raised.
    Refuse,
    /// An alert is raised.
    Alert,
}

/// One MCP server. Has no `Debug`: its headers are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct McpServer {
    /// The config's name: what paths, entries and policies call it.
    pub name: String,
    pub upstream: Upstream,
    /// Its own address ends in a slash, which some servers insist on.
    pub ends_in_slash: bool,
    /// The path under which it is served is a part of its own: the contract's single upstream.
    pub keeps_path: bool,
    /// What the gateway says to it in the client's place: a credential.
    pub headers: Vec<(HeaderName, Secret<String>)>,
    /// Keys of clients that may use it; empty: all that reach the gateway.
    pub client_keys: Vec<Secret<String>>,
    /// Its name may lead to an address that is not public.
    pub allow_private: bool,
    pub pin: Option<Pin>,
    pub timeouts: Timeouts,
}

impl McpServer {
    /// Nothing is ever sent to it.
    pub fn nowhere() -> McpServer {
        McpServer {
            name: "stdio".to_owned(),
            upstream: Upstream {
                tls: false,
                host: "localhost".to_owned(),
                port: 0,
                base_path: String::new(),
                ca_file: None,
                h2: false,
            },
            ends_in_slash: false,
            keeps_path: false,
            headers: Vec::new(),
            client_keys: Vec::new(),
            allow_private: false,
            pin: None,
            timeouts: Timeouts {
                connect: DAY,
                first_byte: DAY,
                idle: DAY,
            },
        }
    }

    /// It is served on a credential of the gateway's own, whoever sends the request.
    pub fn is_open(&self) -> bool {
        !self.headers.is_empty() && self.client_keys.is_empty()
    }
}

/// Puts the variables that `bearer_env` names in place of `bearer`.
pub fn overlay(root: &mut Node, env: &Env, problems: &Problems) {
    let servers = root.get_mut("mcp").and_then(|mcp| mcp.get_mut("servers"));
    let Some(Value::Map(pairs)) = servers.map(|servers| &mut servers.value) else {
        return;
    };
    for pair in pairs {
        let named = pair.node.get("bearer_env").and_then(|node| match &node.value {
            Value::Scalar { text, .. } if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => None,
        });
        let Some(variable) = named else { continue };
        let fault = match env.get(&variable) {
            _ if pair.node.get("bearer").is_some_and(|node| !node.is_null()) => "takes the place of bearer: give one",
            None => "names an environment variable that is not set",
            Some(value) => {
                let place = Place::Env(variable);
                if let Some(node) = pair.node.child_mut("bearer", &place) {
                    *node = Node::text(value.trim(), place);
                }
                continue;
            }
        };
        let path = format!("mcp.servers.{}.bearer_env", pair.name);
        problems.refuse(&pair.place.clone(), &path, fault);
    }
}

pub fn resolve(at: &Cursor<'_>) -> Mcp {
    let given = at.at("servers").names();
    let single = at.at("upstream");
    let enabled = at.at("enabled").flag(!given.is_empty());
    if enabled && given.is_empty() && single.filled().is_none() {
        at.at("enabled")
            .warn("has no effect without mcp.servers or mcp.upstream");
    }
    let mut servers: Vec<McpServer> = Vec::new();
    for (name, section) in given {
        let name = name.to_ascii_lowercase();
        check_name(&section, &name);
        if servers.iter().any(|known| known.name == name) {
            section.refuse("is there twice");
        }
        servers.extend(server(&section, name));
    }
    servers.extend(single_upstream(&single));
    if !enabled {
        servers.clear();
    }
    Mcp {
        servers,
        pricing: mcp_pricing::resolve(at),
        refusals: at.at("refusals").word(ToolRefusals::Result, &ToolRefusals::WORDS),
        answer_wait: at.at("answer_wait").millis(Duration::from_secs(600), 1, DAY),
        stdio: stdio(&at.at("stdio")),
    }
}

fn stdio(at: &Cursor<'_>) -> McpStdio {
    let server = at.at("server");
    let name = server.filled().map(str::to_owned);
    if let Some(name) = &name {
        check_name(&server, name);
    }
    McpStdio {
        server: name,
        offline: at.at("offline").word(
            Offline::Spool,
            &[
                ("spool", Offline::Spool),
                ("refuse", Offline::Refuse),
                ("pass", Offline::Pass),
            ],
        ),
        spool: at.at("spool").path(),
        answer_timeout: at.at("answer_timeout").millis(Duration::from_secs(3_600), 1, DAY),
        long_lines: at.at("long_lines").word(
            LongLines::Refuse,
            &[("refuse", LongLines::Refuse), ("pass", LongLines::Pass)],
        ),
        pin: pin(&at.at("pin")),
    }
}

fn pin(at: &Cursor<'_>) -> Option<Pin> {
    at.word(
        None,
        &[
            ("off", None),
            ("refuse", Some(Pin::Refuse)),
            ("alert", Some(Pin::Alert)),
        ],
    )
}

/// Whether a server can be called so.
pub fn is_server_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits) && !name.starts_with('.')
}

fn check_name(at: &Cursor<'_>, name: &str) {
    if !is_server_name(name) {
        at.refuse("a server's name takes letters, digits, '-', '_' and '.', 64 at most");
    } else if name == DEFAULT_SERVER {
        at.refuse("is the name of mcp.upstream");
    }
}

/// The contract's `mcp.upstream`, of which nothing else is said.
fn single_upstream(at: &Cursor<'_>) -> Option<McpServer> {
    Some(McpServer {
        name: DEFAULT_SERVER.to_owned(),
        upstream: upstream(at, None, true)?,
        ends_in_slash: false,
        keeps_path: true,
        headers: Vec::new(),
        client_keys: Vec::new(),
        allow_private: true,
        pin: None,
        timeouts: USUAL_TIMEOUTS,
    })
}

fn server(at: &Cursor<'_>, name: String) -> Option<McpServer> {
    let given = at.at("upstream");
    if given.filled().is_none() {
        at.refuse("needs an upstream: the server's own address, such as https://mcp.example.com/mcp");
    }
    let mut headers = headers(&at.at("headers"));
    headers.extend(bearer(&at.at("bearer"), &headers));
    let client_keys = client_keys(&at.at("client_keys"), !headers.is_empty());
    let (ca_file, h2) = (at.at("ca_file"), at.at("h2").flag(true));
    let upstream = upstream(&given, ca_file.path(), h2);
    if ca_file.path().is_some() && upstream.as_ref().is_some_and(|upstream| !upstream.tls) {
        ca_file.refuse("is for an https upstream");
    }
    let server = McpServer {
        name,
        ends_in_slash: given.filled().is_some_and(has_final_slash),
        upstream: upstream?,
        keeps_path: false,
        headers,
        client_keys,
        allow_private: at.at("allow_private").flag(false),
        pin: pin(&at.at("pin")),
        timeouts: timeouts(&at.at("timeouts")),
    };
    warn_of_private(&given, &server);
    Some(server)
}

/// A slash that ends a path, and not the authority.
fn has_final_slash(url: &str) -> bool {
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    path.is_some_and(|(_, path)| path.ends_with('/'))
}

fn upstream(at: &Cursor<'_>, ca_file: Option<std::path::PathBuf>, h2: bool) -> Option<Upstream> {
    let parsed = parse_upstream(at.filled()?).map_err(|fault| at.refuse(fault)).ok()?;
    Some(Upstream {
        h2: h2 && parsed.tls,
        ca_file,
        ..parsed
    })
}

fn headers(at: &Cursor<'_>) -> Vec<(HeaderName, Secret<String>)> {
    let mut headers = Vec::new();
    for (name, value) in at.names() {
        let Some(given) = value.secret() else { continue };
        let name = HeaderName::try_from(name)
            .ok()
            .filter(|name| !OWN_HEADERS.contains(&name.as_str()));
        match (name, HeaderValue::try_from(given.expose().as_str())) {
            (Some(name), Ok(_)) => headers.push((name, given)),
            _ => value.refuse("is no header that may be set"),
        }
    }
    headers
}

/// `Authorization: Bearer …`, which most servers want.
fn bearer(at: &Cursor<'_>, headers: &[(HeaderName, Secret<String>)]) -> Option<(HeaderName, Secret<String>)> {
    let given = at.secret()?;
    let value = format!("Bearer {}", given.expose());
    if HeaderValue::try_from(value.as_str()).is_err() {
        at.refuse("is no token that a header could bear");
    } else if headers.iter().any(|(name, _)| *name == http::header::AUTHORIZATION) {
        at.refuse("stands beside an Authorization in headers: give one");
    }
    Some((http::header::AUTHORIZATION, Secret::new(value)))
}

/// Tools may work, and streams be silent, for as long as they like: these are for upstreams that are gone.
const USUAL_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    first_byte: Duration::from_secs(3_600),
    idle: DAY,
};

fn timeouts(at: &Cursor<'_>) -> Timeouts {
    Timeouts {
        connect: at.at("connect_ms").millis(USUAL_TIMEOUTS.connect, 1, DAY),
        first_byte: at.at("first_byte_ms").millis(USUAL_TIMEOUTS.first_byte, 1, DAY),
        idle: at.at("idle_ms").millis(USUAL_TIMEOUTS.idle, 1, DAY),
    }
}

/// What can never be reached as it is configured is told of at once.
fn warn_of_private(at: &Cursor<'_>, server: &McpServer) {
    let host = server.upstream.host.as_str();
    let is_private = host.parse().is_ok_and(|ip| !is_public(ip)) && !is_own_machine(host);
    if is_private && !server.allow_private {
        at.warn("is at a private address: nothing is sent there without allow_private: true beside it");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Config, Known, load_text};

    fn read(yaml: &str) -> Result<Config, String> {
        let env = Env::of([("HUB_TOKEN", "hub-secret")]);
        load_text(None, yaml, &env, &Known::undecided()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn servers_have_names_addresses_and_credentials_of_their_own() {
        let yaml = "mcp: {servers: {Hub: {upstream: 'https://mcp.example.com/mcp/', bearer_env: HUB_TOKEN, client_keys: \
                    [sk-0123456789abcdef], pin: refuse}, files: {upstream: 'http://127.0.0.1:3001/mcp', headers: {X-Key: k}, \
                    timeouts: {first_byte_ms: 5s}}}, refusals: error, answer_wait: 30s}";
        let mcp = read(yaml).unwrap().mcp;
        let [hub, files] = &mcp.servers[..] else { panic!() };
        assert_eq!(
            (hub.name.as_str(), hub.upstream.base_path.as_str(), hub.ends_in_slash),
            ("hub", "/mcp", true)
        );
        let (name, value) = &hub.headers[0];
        assert_eq!(
            (name.as_str(), value.expose().as_str()),
            ("authorization", "Bearer hub-secret")
        );
        assert_eq!((hub.is_open(), files.is_open()), (false, true));
        assert_eq!((hub.pin, files.pin), (Some(Pin::Refuse), None));
        assert_eq!(files.timeouts.first_byte, Duration::from_secs(5));
        assert_eq!(
            (mcp.refusals, mcp.answer_wait),
            (ToolRefusals::Error, Duration::from_secs(30))
        );
    }

    #[test]
    fn wrapped_servers_are_spooled_where_nothing_is_said() {
        let config = read("storage: {driver: sled, dsn: /var/lib/a}").unwrap();
        assert_eq!(config.spool_dir(), PathBuf::from("/var/lib/a-spool"));
        let stdio = &config.mcp.stdio;
        assert_eq!(
            (stdio.offline, stdio.long_lines, &stdio.server),
            (Offline::Spool, LongLines::Refuse, &None)
        );
        let yaml = "mcp: {stdio: {server: Files, offline: refuse, spool: /s, answer_timeout: 5m, long_lines: pass}}";
        let config = read(yaml).unwrap();
        assert_eq!(config.spool_dir(), PathBuf::from("/s"));
        let stdio = config.mcp.stdio;
        assert_eq!(
            (stdio.server.as_deref(), stdio.offline),
            (Some("Files"), Offline::Refuse)
        );
        assert_eq!(
            (stdio.answer_timeout, stdio.long_lines),
            (Duration::from_secs(300), LongLines::Pass)
        );
        let errors = read("mcp: {stdio: {server: a b, offline: never}}").err().unwrap();
        for fault in ["mcp.stdio.server: a server's name", "mcp.stdio.offline: \"never\""] {
            assert!(errors.contains(fault), "{errors}");
        }
    }

    #[test]
    fn the_contracts_single_upstream_is_on_only_where_it_says_so() {
        assert!(
            read("mcp: {upstream: 'http://127.0.0.1:3000'}")
                .unwrap()
                .mcp
                .servers
                .is_empty()
        );
        let mcp = read("mcp: {enabled: true, upstream: 'http://127.0.0.1:3000'}")
            .unwrap()
            .mcp;
        assert_eq!(
            (mcp.servers[0].name.as_str(), mcp.servers[0].keeps_path),
            (DEFAULT_SERVER, true)
        );
        let off = "mcp: {enabled: false, servers: {a: {upstream: 'http://127.0.0.1:1'}}}";
        assert!(read(off).unwrap().mcp.servers.is_empty());
        let warned = read("mcp: {enabled: true}").unwrap().warnings;
        assert!(
            warned.iter().any(|warning| warning.contains("mcp.enabled")),
            "{warned:?}"
        );
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_places() {
        let yaml = "mcp:\n  servers:\n    a b: {upstream: 'http://x'}\n    default: {upstream: 'http://x'}\n    c: {}\n    d: \
                    {upstream: 'ftp://x'}\n    e: {upstream: 'http://x', bearer: t, headers: {authorization: u}}\n    f: \
                    {upstream: 'http://x', headers: {host: evil}, bearer_env: MISSING}\n    g: {upstream: 'http://x', \
                    ca_file: c.pem, pin: maybe}\n  refusals: shout\n";
        let errors = read(yaml).err().unwrap();
        for (place, fault) in [
            (":3:", "letters, digits"),
            (":4:", "the name of mcp.upstream"),
            (":5:", "needs an upstream"),
            (":6:", "must be a URL"),
            (":7:", "give one"),
            (":8:", "is no header that may be set"),
            (":8:", "names an environment variable that is not set"),
            (":9:", "is for an https upstream"),
            (":9:", "is none of off, refuse, alert"),
            (":10:", "is none of result, error"),
        ] {
            let told = errors.lines().any(|line| line.contains(place) && line.contains(fault));
            assert!(told, "{place} {fault}:\n{errors}");
        }
    }

    #[test]
    fn a_credential_is_in_nothing_that_is_shown() {
        let yaml = "mcp: {servers: {a: {upstream: 'http://127.0.0.1:1', bearer: CANARY1}, b: {upstream: 'http://127.0.0.1:1', \
                    headers: {x-key: CANARY2}}}}";
        let config = read(yaml).unwrap();
        let shown = format!("{:?} {:?}", config.warnings, config.given.values);
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}
