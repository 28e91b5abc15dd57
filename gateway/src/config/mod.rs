//! The configuration: one file, the environment over it, defaults under it, resolved into plain typed values.
//!
//! Everything else in the gateway sees only [`Config`]; nobody else reads YAML or the environment.
//!
//! The way of a file: [`load`] finds it, `node` makes a tree of it that knows lines and columns, `env` lays the environment
//! over that, `schema` knows every key, `resolve` (with `providers` and `conf`) reads it through `cursor`, which notes faults.

mod alerts;
mod aws;
mod backup;
mod conf;
mod cursor;
mod env;
mod error;
mod key_aliases;
mod load;
mod mcp;
mod mcp_pricing;
mod mounts;
mod node;
mod otlp;
mod providers;
mod refusals;
mod resolve;
mod rollback;
mod schema;
mod spelling;
#[cfg(test)]
mod tests;
mod tokens;
pub mod units;
mod values;
mod vendor;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::clients::Client;
use crate::limits::Limits;
use crate::price::{self, Unpriced};
use crate::secret::Secret;
pub use alerts::{Alerts, Destination, Form, HttpReceiver, MailReceiver, MailTls, Receiver};
pub use conf::read as read_conf;
pub use env::Env;
pub use error::{ConfigError, ConfigErrors, Place};
pub use key_aliases::{KeyAliases, is_fingerprint};
pub use load::{load, load_text};
pub use mcp::{LongLines, Mcp, McpServer, Offline, Pin, ToolRefusals, is_server_name};
pub use mcp_pricing::{Rates as ToolRates, ToolPrice, ToolPricing};
pub use mounts::Mount;
pub use otlp::{Otlp, OtlpProtocol, Sampling};
pub use refusals::{RefusalStatuses, Refused};
pub use resolve::Known;
pub use spelling::nearest;
pub use values::Given;

/// The resolved configuration. Cheap to share: held in an `Arc` and swapped whole on reload.
#[derive(Clone)]
pub struct Config {
    /// `host:port`; an empty host is every address (`:8787`).
    pub listen: String,
    /// Names by which clients call the gateway, beside addresses, `localhost` and where it listens; `*.NAME` is all below one.
    pub hosts: Vec<String>,
    /// In the order in which prefixes are matched: longest first.
    pub providers: Vec<Provider>,
    /// Providers that are known by name but not served: a request to their prefix can be told why.
    pub absent: Vec<AbsentProvider>,
    pub storage: Storage,
    pub log: Log,
    /// What clients do not say by our headers is read from what they send anyway.
    pub infers_identity: bool,
    pub hold: Hold,
    pub budgets: Budgets,
    pub breaker: Breaker,
    pub tls: Option<Tls>,
    pub control: Control,
    pub plugins: Plugins,
    pub policies: Policies,
    pub prices_files: Vec<PathBuf>,
    pub price_updates: PriceUpdates,
    pub backup: Backup,
    pub cors_allow_origins: Vec<String>,
    pub tenants_enabled: bool,
    pub dashboard_enabled: bool,
    pub agent: Agent,
    pub alerts: Alerts,
    pub mcp: Mcp,
    /// Where traces and metrics are sent; `None`: nowhere.
    pub otlp: Option<Otlp>,
    /// The secret of key fingerprints, where it is given and not kept beside the store.
    pub fingerprint_secret: Option<Secret<String>>,
    pub refusals: Refusals,
    /// By which names people know keys.
    pub key_aliases: KeyAliases,
    pub limits: Limits,
    /// Things worth telling at start: mapped keys, sections that are not built yet.
    pub warnings: Vec<String>,
    /// What was read, and where each value came from.
    pub given: Given,
}

/// With which statuses refusals are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    pub all: RefusalStatuses,
    /// Those of a client that is known by name count before those of all.
    pub by_client: [(Client, RefusalStatuses); Client::ALL.len()],
    /// Of final refusals to a client that sends the same request again after pauses that grow; `None`: as to any other.
    pub backing_off: Option<u16>,
    /// A connection is closed after so many refusals in a row; 0: never.
    pub close_after: u32,
}

/// When archives of the ledger are written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// `None`: only when somebody says so.
    pub every: Option<Duration>,
    pub dir: PathBuf,
    /// Archives in that folder; the oldest go.
    pub keep: usize,
}

/// Where new prices come from, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceUpdates {
    /// Names of known lists, addresses, or files.
    pub from: Vec<String>,
    /// `None`: only when somebody says so.
    pub every: Option<Duration>,
    /// Written down; else only told.
    pub apply: bool,
    /// Where dated price files are written, and read from.
    pub dir: PathBuf,
}

impl Config {
    /// All price files, later ones over earlier ones: what updates wrote, then the operator's own.
    pub fn price_files(&self) -> Vec<PathBuf> {
        let mut all = price::update::files_in(&self.price_updates.dir);
        all.retain(|file| !self.prices_files.contains(file));
        all.extend(self.prices_files.iter().cloned());
        all
    }

    /// Where `mcp-wrap` writes down calls that pass while no gateway runs.
    pub fn spool_dir(&self) -> PathBuf {
        self.mcp.stdio.spool.clone().unwrap_or_else(|| {
            let mut beside = self.storage.dir.clone().into_os_string();
            beside.push("-spool");
            PathBuf::from(beside)
        })
    }
}

/// One provider: a dialect, where it is reached, and how patient we are with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Provider {
    /// The config's name: `openai`, `groq`. What entries and metrics say.
    pub name: String,
    /// The plugin that reads it: `openai`, `anthropic`.
    pub dialect: String,
    /// Other dialects at some of its paths.
    pub mounts: Vec<&'static Mount>,
    /// Clients may send their key in the query, as `key=…`.
    pub key_in_query: bool,
    /// Path prefix without a trailing slash; empty for the two providers served at the root.
    pub prefix: String,
    pub upstream: Upstream,
    pub inject_usage: bool,
    /// What limits a chat's output here, where the gateway names a limit.
    pub output_limit: OutputLimit,
    /// Upgrades to a WebSocket are passed on; else they get 426, and clients fall back to plain requests.
    pub websocket: bool,
    pub unknown_routes: UnknownRoutes,
    /// Whose API it has, where that is known: see `vendor.rs`.
    pub vendor: String,
    /// Whose price book has its models: its own, unless the file names another's.
    pub book: String,
    /// What an unpriced model costs here.
    pub unpriced: Unpriced,
    pub timeouts: Timeouts,
    pub retries: Retries,
    /// How its paths stand to those of its dialect.
    pub paths: Paths,
    /// The model behind each name that only the operator can tell: a deployment of Azure's, a profile of Bedrock's.
    pub deployments: BTreeMap<String, String>,
    /// What the gateway signs requests with.
    pub aws: Option<AwsCredentials>,
    /// Keys of clients that may use the gateway's own credentials; empty: all that reach it.
    pub client_keys: Vec<Secret<String>>,
}

impl Provider {
    /// Google's API platform serves it: it takes keys in the query, and system parameters beside an operation's own.
    pub fn is_googles(&self) -> bool {
        let host = &self.upstream.host;
        self.key_in_query || host == "googleapis.com" || host.ends_with(".googleapis.com")
    }

    /// It is served on credentials of the gateway's own, whoever sends the request.
    pub fn is_open(&self) -> bool {
        self.aws.is_some() && self.client_keys.is_empty()
    }
}

/// The field of a chat that limits its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputLimit {
    /// The older one, and no other.
    MaxTokens,
    /// Both, of which OpenAI's reasoning models take this one alone.
    MaxCompletionTokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// They are the dialect's own.
    Plain,
    /// OpenAI's operations behind `/openai/deployments/NAME/` and `/openai/v1/`.
    Azure,
}

/// Credentials for AWS. Has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsCredentials {
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: Secret<String>,
    pub session_token: Option<Secret<String>>,
}

/// A provider without routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentProvider {
    pub name: String,
    /// Where it would be served; empty for the root.
    pub prefix: String,
    pub why: Absence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// `enabled` is false.
    Disabled,
    /// No plugin reads its dialect.
    NoDialect,
}

/// A base URL, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Base path without a trailing slash, `""` for none.
    pub base_path: String,
    /// PEM file of the authority that signs this upstream; the system's roots where absent.
    pub ca_file: Option<PathBuf>,
    /// Allow HTTP/2 where the upstream offers it (TLS only).
    pub h2: bool,
}

/// What happens to a POST that the dialect does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownRoutes {
    Refuse,
    /// Passed on unmetered.
    Pass,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub first_byte: Duration,
    /// Longest silence between two bytes of an answer.
    pub idle: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Further connection attempts after a failed one.
    pub connect: u32,
    /// Statuses after which an unanswered request may be sent again; empty (the default) for none: a replayed POST can
    /// bill twice.
    pub statuses: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Folder of the ledger.
    pub dir: PathBuf,
    pub durability: Durability,
    /// Months of journal to keep; `None` keeps all.
    pub retention_months: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Strict,
    Relaxed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `debug`, `info`, `warn`, `error`.
    pub level: String,
    pub json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub size: HoldSize,
    pub unnamed_output: UnnamedOutput,
    pub recovered: RecoveredCost,
    pub wait: Duration,
    /// Input tokens to hold for one item: `image`, `audio`, `file`, and `context` for what the server keeps of earlier turns.
    pub allowances: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldSize {
    /// A stream holds what such calls take, as far as that is learned, and is extended or cut; a whole answer its worst case.
    Auto,
    WorstCase,
    /// A stream holds its input and a first step of output, and is extended or cut.
    Expected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnnamedOutput {
    Expected,
    Max,
}

/// What a hold is entered at that a crash left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveredCost {
    /// What such calls cost on average, as far as that is learned.
    Expected,
    Held,
}

/// The contract's `budgets` section, as given: the conf of `policies/budget.lua`. Money is decimal text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budgets {
    pub default: Option<BudgetRule>,
    pub rules: Vec<BudgetRule>,
    pub global: Option<BudgetRule>,
}

/// A limit left out, or 0, is none. Its `Debug` leaves out the pattern, which may be a whole key.
#[derive(Clone, Default, PartialEq)]
pub struct BudgetRule {
    pub api_key_pattern: String,
    pub tenant_id: String,
    pub daily_limit: Option<agentledger_ledger::Usd>,
    pub monthly_limit: Option<agentledger_ledger::Usd>,
    /// Parts per million of the limit, 800,000 for 0.8; 0 is off.
    pub soft_limit_ppm: u32,
    /// `block`, `warn` or empty.
    pub action: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// 0: off.
    pub max_failures: u32,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

#[derive(Clone)]
pub struct Control {
    /// Unix socket of the admin API; default `control.sock` in the storage folder.
    pub socket: PathBuf,
    /// TCP listener of its own; none by default.
    pub listen: Option<String>,
    /// The contract's `admin.enabled` and `admin.token`.
    pub admin_token: Option<Secret<String>>,
    pub tokens: Vec<ControlToken>,
    /// Reading needs no token, as in the original.
    pub public_read: bool,
}

/// One who may use the control plane.
#[derive(Clone)]
pub struct ControlToken {
    pub name: String,
    pub token: Secret<String>,
    pub role: ControlRole,
    /// The only tenant that it sees and changes.
    pub tenant: Option<String>,
    /// Milliseconds since the epoch from which it opens nothing.
    pub expires_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRole {
    Read,
    Operate,
    Admin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// After this silence a session is completed.
    pub session_timeout: Duration,
}

impl Agent {
    pub fn session_timeout_ms(&self) -> i64 {
        i64::try_from(self.session_timeout.as_millis()).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugins {
    /// Folder of `*.wasm` files beside the built-in plugins.
    pub dir: Option<PathBuf>,
    /// File stem → blake3 hex that the file must have.
    pub pins: BTreeMap<String, String>,
}

/// Its `Debug` leaves out the conf, in which there are patterns over keys.
#[derive(Clone, Default, PartialEq)]
pub struct Policies {
    pub dir: Option<PathBuf>,
    pub deadline: Duration,
    /// Conf by policy name, as JSON.
    pub conf: BTreeMap<String, serde_json::Value>,
    /// When a version is rolled back by itself; `None`: never.
    pub rollback: Option<Rollback>,
}

/// When a version of a policy is rolled back by itself: more than this share of at least so many calls failed, so soon after its
/// activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// Parts per million.
    pub share_ppm: u32,
    pub calls: u64,
    pub within: Duration,
}

impl Config {
    /// The name that the operator gave a key.
    pub fn alias_of(&self, fingerprint: &str) -> Option<&str> {
        self.key_aliases.get(fingerprint).map(String::as_str)
    }

    /// Whether a provider is served in this dialect, at some of its paths at least.
    pub fn speaks(&self, dialect: &str) -> bool {
        self.providers
            .iter()
            .any(|provider| provider.dialect == dialect || provider.mounts.iter().any(|mount| mount.dialect == dialect))
    }

    /// The defaults as they are without a file, with the ledger in `dir` and any free port: for tests.
    pub fn for_tests(dir: &std::path::Path) -> Config {
        let env = Env::of([
            ("AGENTLEDGER_LISTEN", "127.0.0.1:0".to_owned()),
            ("AGENTLEDGER_STORAGE_DRIVER", "sled".to_owned()),
            ("AGENTLEDGER_STORAGE_DSN", dir.join("ledger").display().to_string()),
            ("AGENTLEDGER_POLICIES_DIR", dir.join("policies").display().to_string()),
        ]);
        // Only a fault in the code above can fail here, and every test would show it.
        #[allow(clippy::expect_used)]
        load_text(None, "", &env, &Known::built_in()).expect("the defaults are a configuration")
    }
}

impl std::fmt::Debug for BudgetRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BudgetRule")
            .field("tenant_id", &self.tenant_id)
            .field("daily_limit", &self.daily_limit)
            .field("monthly_limit", &self.monthly_limit)
            .field("soft_limit_ppm", &self.soft_limit_ppm)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies")
            .field("dir", &self.dir)
            .field("deadline", &self.deadline)
            .field("conf", &self.conf.keys().collect::<Vec<_>>())
            .field("rollback", &self.rollback)
            .finish()
    }
}
