//! From the tree to the resolved [`Config`]: defaults, checks, and what follows from one key for another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::alerts;
use super::cursor::Cursor;
use super::otlp;
use super::values::Given;
use super::{
    Agent, Breaker, BudgetRule, Budgets, Config, Control, Durability, Hold, HoldSize, Limits, Log, Plugins, Policies,
    PriceUpdates, RecoveredCost, Storage, Tls, UnnamedOutput, backup, conf, key_aliases, mcp, providers, refusals,
    rollback, tokens,
};
use crate::price::update;
use crate::secret::Secret;

/// What the gateway at hand can do; decides which providers can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Dialects that a plugin reads; `None`: any may be.
    dialects: Option<BTreeSet<String>>,
    /// Providers (by name) that a price book covers; `None`: any may be.
    books: Option<BTreeSet<String>>,
}

impl Known {
    pub fn new<'a>(dialects: impl IntoIterator<Item = &'a str>, books: impl IntoIterator<Item = &'a str>) -> Known {
        Known {
            dialects: Some(dialects.into_iter().map(str::to_owned).collect()),
            books: Some(books.into_iter().map(str::to_owned).collect()),
        }
    }

    /// What is built in.
    pub fn built_in() -> Known {
        Known::new(
            ["openai", "anthropic", "gemini", "cohere", "bedrock"],
            crate::price::built_in_providers(),
        )
    }

    /// Not known yet: for the reading that finds the plugins and price files by which it will be, and for commands that
    /// serve nothing.
    pub fn undecided() -> Known {
        Known {
            dialects: None,
            books: None,
        }
    }

    pub(super) fn reads(&self, dialect: &str) -> bool {
        self.dialects.as_ref().is_none_or(|dialects| dialects.contains(dialect))
    }

    pub(super) fn has_book(&self, provider: &str) -> bool {
        self.books.as_ref().is_none_or(|books| books.contains(provider))
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Counts without a limit of their own: beyond this a number is a slip.
const COUNT_MAX: u64 = 1_000_000_000;
/// Longest path of a Unix socket that every system takes.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Resolves the tree. `file` is where it came from: `policies.dir` stands beside it.
pub fn resolve(root: &Cursor<'_>, file: Option<&Path>, known: &Known) -> Config {
    let storage = storage(&root.at("storage"));
    let control = control(root, &storage);
    // Defaults that follow from something else than their own key.
    root.at("listen").default_is(":8787");
    root.at("storage.dsn").default_is(storage.dir.display());
    root.at("control.socket").default_is(control.socket.display());
    let plugins = plugins(&root.at("plugins"));
    let budgets = budgets(&root.at("budgets"));
    let (served, absent) = providers::resolve(&root.at("providers"), known);
    let price_updates = price_updates(&root.at("prices.update"), &storage.dir);
    let backup = backup::resolve(&root.at("backup"), &storage.dir);
    warn_of_what_is_not_built(root);
    Config {
        listen: listen(&root.at("listen")).unwrap_or_else(|| ":8787".to_owned()),
        hosts: hosts(&root.at("hosts")),
        providers: served,
        absent,
        storage,
        log: log(&root.at("log")),
        infers_identity: root.at("identity.infer").flag(true),
        hold: hold(&root.at("hold")),
        budgets,
        breaker: breaker(&root.at("circuit_breaker")),
        tls: tls(&root.at("tls")),
        control,
        plugins,
        policies: policies(root, file),
        prices_files: root
            .at("prices.files")
            .items()
            .iter()
            .filter_map(Cursor::path)
            .collect(),
        price_updates,
        backup,
        cors_allow_origins: origins(&root.at("cors.allow_origins")),
        tenants_enabled: root.at("tenants.enabled").flag(false),
        dashboard_enabled: root.at("dashboard.enabled").flag(true),
        agent: agent(&root.at("agent")),
        alerts: alerts::resolve(&root.at("alerts")),
        mcp: mcp::resolve(&root.at("mcp")),
        otlp: otlp::resolve(&root.at("telemetry.otlp")),
        fingerprint_secret: fingerprint_secret(&root.at("fingerprint.secret")),
        refusals: refusals::resolve(&root.at("refusals")),
        key_aliases: key_aliases::resolve(&root.at("keys.aliases")),
        limits: limits(&root.at("limits")),
        warnings: Vec::new(),
        given: Given::default(),
    }
}

/// Off unless `every` is given.
fn price_updates(at: &Cursor<'_>, ledger: &Path) -> PriceUpdates {
    let mut from = Vec::new();
    for item in at.at("from").items() {
        let Some(source) = item.filled() else { continue };
        if !update::is_source(source) {
            item.refuse("is no source: litellm, genai-prices, models.dev, an https address or a file");
        }
        from.push(source.to_owned());
    }
    let every = at.at("every").millis(Duration::ZERO, 0, 366 * 24 * HOUR);
    if from.is_empty() && !every.is_zero() {
        at.at("from")
            .refuse("name at least one source: litellm, genai-prices, models.dev, an https address or a file");
    }
    at.at("dir").default_is(ledger.join("prices").display());
    PriceUpdates {
        from,
        every: (!every.is_zero()).then_some(every),
        apply: at.at("apply").flag(false),
        dir: at.at("dir").path().unwrap_or_else(|| ledger.join("prices")),
    }
}

/// `host:port`, the host empty for every address.
fn listen(at: &Cursor<'_>) -> Option<String> {
    let text = at.filled()?;
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_fits = match host.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')
                .is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
            None => host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
        };
        host_fits && !port.starts_with('+') && port.parse::<u16>().is_ok()
    });
    if !fits {
        at.refuse("must be host:port, such as 127.0.0.1:8787, or :8787 for every address");
    }
    Some(text.to_owned())
}

fn storage(at: &Cursor<'_>) -> Storage {
    let driver = at.at("driver");
    let dsn = at.at("dsn");
    let default = PathBuf::from("data/agentledger");
    let dir = match driver.filled().map(str::to_ascii_lowercase).as_deref() {
        Some("sled") => dsn.path().unwrap_or(default),
        Some("sqlite" | "sqlite3") => {
            let dir = beside(dsn.filled().unwrap_or("data/agentledger.db"), &dsn);
            driver.warn(format_args!(
                "sqlite is not used: the ledger is the sled folder {}",
                dir.display()
            ));
            dir
        }
        Some("postgres" | "postgresql" | "pgx") => {
            driver.refuse("postgres is not there yet; use sled, whose dsn is a folder");
            default
        }
        Some(_) => {
            driver.refuse("must be sled (or sqlite, which is mapped to a sled folder)");
            default
        }
        None => match dsn.filled() {
            // Written for a file of the original's default driver.
            Some(text) if is_sqlite(text) => {
                let dir = beside(text, &dsn);
                dsn.warn(format_args!(
                    "names an SQLite file; the ledger is the sled folder {}",
                    dir.display()
                ));
                dir
            }
            Some(text) if text.contains("://") => {
                dsn.refuse("must be a folder; a database server is not there yet");
                default
            }
            Some(text) => PathBuf::from(text),
            None => default,
        },
    };
    for name in ["max_open_conns", "max_idle_conns"] {
        let pool = at.at(name);
        if pool.count(0, 0, COUNT_MAX) > 0 {
            pool.warn("is for postgres and has no effect");
        }
    }
    let months = at.at("retention_months").count_u32(0, 0, 1200);
    Storage {
        dir,
        durability: at.at("durability").word(
            Durability::Strict,
            &[("strict", Durability::Strict), ("relaxed", Durability::Relaxed)],
        ),
        retention_months: (months > 0).then_some(months),
    }
}

fn is_sqlite(dsn: &str) -> bool {
    let path = dsn.split('?').next().unwrap_or(dsn);
    dsn.starts_with("file:")
        || dsn == ":memory:"
        || [".db", ".sqlite", ".sqlite3"].iter().any(|end| path.ends_with(end))
}

/// The folder beside an SQLite file: `data/agentledger.db` becomes `data/agentledger`.
fn beside(dsn: &str, at: &Cursor<'_>) -> PathBuf {
    let path = dsn.strip_prefix("file:").unwrap_or(dsn);
    let path = Path::new(path.split('?').next().unwrap_or(path));
    if dsn.contains(":memory:") || path.as_os_str().is_empty() {
        at.refuse("a ledger in memory would be lost with the process; name a folder");
    }
    match path.extension() {
        Some(_) => path.with_extension(""),
        // The file itself may stand at this path.
        None => path.with_extension("ledger"),
    }
}

fn log(at: &Cursor<'_>) -> Log {
    let levels = ["trace", "debug", "info", "warn", "error"].map(|level| (level, level));
    let mut words = levels.to_vec();
    words.push(("warning", "warn"));
    Log {
        level: at.at("level").word("info", &words).to_owned(),
        json: at.at("format").word(false, &[("text", false), ("json", true)]),
    }
}

fn hold(at: &Cursor<'_>) -> Hold {
    let mut allowances = default_allowances();
    for (name, tokens) in at.at("allowances").names() {
        let name = name.to_ascii_lowercase();
        match allowances.get(&name).copied() {
            Some(default) => {
                allowances.insert(name, tokens.count(default, 0, COUNT_MAX));
            }
            None => tokens.warn("unknown allowance, ignored; there are image, audio, file and context"),
        }
    }
    Hold {
        size: at.at("size").word(
            HoldSize::Auto,
            &[
                ("auto", HoldSize::Auto),
                ("worst_case", HoldSize::WorstCase),
                ("expected", HoldSize::Expected),
            ],
        ),
        unnamed_output: at.at("unnamed_output").word(
            UnnamedOutput::Expected,
            &[("expected", UnnamedOutput::Expected), ("max", UnnamedOutput::Max)],
        ),
        recovered: at.at("recovered").word(
            RecoveredCost::Expected,
            &[("expected", RecoveredCost::Expected), ("held", RecoveredCost::Held)],
        ),
        wait: at.at("wait_ms").millis(Duration::from_secs(10), 0, 10 * MINUTE),
        allowances,
    }
}

/// Input tokens for one item: a large picture, a minute and a half of speech, a paper of some pages, and what a server
/// keeps of earlier turns.
fn default_allowances() -> BTreeMap<String, u64> {
    [("image", 1_600), ("audio", 3_000), ("file", 8_000), ("context", 8_000)]
        .map(|(name, tokens)| (name.to_owned(), tokens))
        .into()
}

fn budgets(at: &Cursor<'_>) -> Budgets {
    let rule = |at: Cursor<'_>| at.is_section().then(|| budget_rule(&at));
    let rules = at.at("rules").items();
    for row in rules.iter().filter(|row| row.is_section()) {
        if row.at("api_key_pattern").filled().is_none() && row.at("tenant_id").filled().is_none() {
            row.warn("has neither api_key_pattern nor tenant_id: it rules requests without a key alone");
        }
    }
    Budgets {
        default: rule(at.at("default")),
        rules: rules.into_iter().filter_map(rule).collect(),
        global: rule(at.at("global")),
    }
}

fn budget_rule(at: &Cursor<'_>) -> BudgetRule {
    let limit = |name: &str| Some(at.at(name).usd()).filter(|usd| usd.nanos() > 0);
    let action = at.at("action");
    let known = ["block", "warn"]
        .into_iter()
        .find(|word| action.filled().unwrap_or("").eq_ignore_ascii_case(word));
    if known.is_none() && action.filled().is_some() {
        action.warn("is neither block nor warn, and counts as warn: nothing is refused");
    }
    BudgetRule {
        api_key_pattern: pattern(&at.at("api_key_pattern")),
        tenant_id: at.at("tenant_id").filled().unwrap_or("").to_owned(),
        daily_limit: limit("daily_limit_usd"),
        monthly_limit: limit("monthly_limit_usd"),
        soft_limit_ppm: at.at("soft_limit_pct").share_ppm(),
        action: match (known, action.filled()) {
            (Some(word), _) => word.to_owned(),
            (None, Some(_)) => "warn".to_owned(),
            (None, None) => String::new(),
        },
    }
}

/// A pattern over raw keys. It may be a whole key, so no message shows it.
pub(super) fn pattern(at: &Cursor<'_>) -> String {
    let text = at.filled().unwrap_or("");
    if globset::GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .is_err()
    {
        at.refuse("is not a pattern (*, ?, [a-z], \\ before a sign that means itself)");
    }
    text.to_owned()
}

fn breaker(at: &Cursor<'_>) -> Breaker {
    let timeout_secs = at.at("timeout_secs").count(0, 0, 86_400);
    Breaker {
        max_failures: at.at("max_failures").count_u32(0, 0, 1_000_000),
        timeout: Duration::from_secs(if timeout_secs == 0 { 30 } else { timeout_secs }),
    }
}

fn tls(at: &Cursor<'_>) -> Option<Tls> {
    match (at.at("cert_file").path(), at.at("key_file").path()) {
        (Some(cert_file), Some(key_file)) => Some(Tls { cert_file, key_file }),
        (None, None) => None,
        (Some(_), None) => {
            at.at("cert_file").refuse("needs tls.key_file beside it");
            None
        }
        (None, Some(_)) => {
            at.at("key_file").refuse("needs tls.cert_file beside it");
            None
        }
    }
}

fn control(root: &Cursor<'_>, storage: &Storage) -> Control {
    let at = root.at("control");
    let socket = at
        .at("socket")
        .path()
        .unwrap_or_else(|| storage.dir.join("control.sock"));
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        at.at("socket").warn(format_args!(
            "{} is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a Unix socket's path may have; set a shorter one",
            socket.display()
        ));
    }
    let admin = root.at("admin");
    let enabled = admin.at("enabled").flag(false);
    let token = admin.at("token").secret();
    if enabled && token.is_none() {
        admin
            .at("enabled")
            .warn("has no effect without admin.token: the admin API stays closed");
    }
    Control {
        socket,
        listen: listen(&at.at("listen")),
        admin_token: token.filter(|_| enabled),
        tokens: tokens::resolve(&at.at("tokens")),
        public_read: at.at("public_read").flag(true),
    }
}

fn plugins(at: &Cursor<'_>) -> Plugins {
    let mut pins = BTreeMap::new();
    for (name, pin) in at.at("pins").names() {
        let hash = pin.filled().unwrap_or("").to_ascii_lowercase();
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            pin.refuse("must be the file's blake3 hash, 64 hexadecimal digits");
        }
        pins.insert(name.to_owned(), hash);
    }
    Plugins {
        dir: at.at("dir").path(),
        pins,
    }
}

fn policies(root: &Cursor<'_>, file: Option<&Path>) -> Policies {
    let beside_file = file.and_then(Path::parent).unwrap_or(Path::new("")).join("policies");
    root.at("policies.dir").default_is(beside_file.display());
    Policies {
        dir: Some(root.at("policies.dir").path().unwrap_or(beside_file)),
        deadline: root
            .at("policies.deadline_ms")
            .millis(Duration::from_millis(50), 1, 10 * MINUTE),
        conf: conf::resolve(root),
        rollback: rollback::resolve(&root.at("policies.rollback")),
    }
}

/// Names of hosts, each alone or, with `*.` before it, for all below it.
fn hosts(at: &Cursor<'_>) -> Vec<String> {
    let items = at.items();
    let host = |item: &Cursor<'_>| {
        let text = item.filled()?.trim_end_matches('.').to_ascii_lowercase();
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(fits) {
            item.refuse("must be a host's name without its port, such as gateway.example or *.example");
        }
        Some(text)
    };
    items.iter().filter_map(host).collect()
}

fn origins(at: &Cursor<'_>) -> Vec<String> {
    let items = at.items();
    let origin = |item: &Cursor<'_>| {
        let text = item.filled()?.trim_end_matches('/');
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if text != "*" && !host.is_some_and(|host| !host.is_empty() && !host.contains('/')) {
            item.refuse("must be an origin, such as https://example.com");
        }
        // As browsers say it.
        Some(text.to_ascii_lowercase())
    };
    items.iter().filter_map(origin).collect()
}

fn agent(at: &Cursor<'_>) -> Agent {
    let minutes = |name: &str, default| MINUTE * at.at(name).count_u32(default, 0, 1_000_000);
    Agent {
        session_timeout: Some(minutes("session_timeout_mins", 30))
            .filter(|time| !time.is_zero())
            .unwrap_or(30 * MINUTE),
    }
}

fn fingerprint_secret(at: &Cursor<'_>) -> Option<Secret<String>> {
    let secret = at.secret()?;
    if secret.expose().len() < 32 {
        at.refuse("must have at least 32 characters");
    }
    Some(secret)
}

/// Sections of the contract whose work no part does yet: they are read and checked, and told of when they ask for something.
fn warn_of_what_is_not_built(root: &Cursor<'_>) {
    for name in ["recording.buffer_size", "recording.workers"] {
        let recording = root.at(name);
        if recording.count(0, 0, COUNT_MAX) > 0 {
            recording.warn("has no effect: nothing is dropped here; see limits.journal_queue_events_max");
        }
    }
}

fn limits(at: &Cursor<'_>) -> Limits {
    const KIB: u64 = 1 << 10;
    const GIB: u64 = 1 << 30;
    let default = Limits::default();
    let bytes = |name, default, least, most| at.at(name).bytes(default, least, most);
    // The bounds keep each value within every type it may have.
    let size = |name, default: usize, least, most: u64| {
        usize::try_from(at.at(name).bytes(default as u64, least, most)).unwrap_or(default)
    };
    let count = |name, default: usize, least, most: u64| {
        usize::try_from(at.at(name).count(default as u64, least, most)).unwrap_or(default)
    };
    let millis = |name, default: u64, most: Duration| {
        let value = at.at(name).millis(Duration::from_millis(default), 1, most);
        u64::try_from(value.as_millis()).unwrap_or(default)
    };
    let limits = Limits {
        body_bytes_max: bytes("body_bytes_max", default.body_bytes_max, KIB, GIB),
        upload_bytes_max: bytes("upload_bytes_max", default.upload_bytes_max, KIB, 1024 * GIB),
        bodies_in_flight_bytes_max: bytes(
            "bodies_in_flight_bytes_max",
            default.bodies_in_flight_bytes_max,
            KIB,
            1024 * GIB,
        ),
        json_depth_max: at.at("json_depth_max").count_u32(default.json_depth_max, 8, 1024),
        json_keys_max: at.at("json_keys_max").count_u32(default.json_keys_max, 64, 1_000_000),
        identity_bytes_max: size("identity_bytes_max", default.identity_bytes_max, 16, 64 * KIB),
        tags_bytes_max: size("tags_bytes_max", default.tags_bytes_max, 16, 64 * KIB),
        tags_max: count("tags_max", default.tags_max, 1, 256),
        sessions_in_memory_max: count("sessions_in_memory_max", default.sessions_in_memory_max, 64, 10_000_000),
        names_per_kind_max: count("names_per_kind_max", default.names_per_kind_max, 100, 10_000_000),
        bound_accounts_max: count("bound_accounts_max", default.bound_accounts_max, 100, 100_000_000),
        header_bytes_max: size("header_bytes_max", default.header_bytes_max, 4 * KIB, GIB),
        frame_bytes_max: size("frame_bytes_max", default.frame_bytes_max, KIB, GIB),
        answer_bytes_max: size("answer_bytes_max", default.answer_bytes_max, KIB, GIB),
        header_read_timeout_ms: millis("header_read_timeout_ms", default.header_read_timeout_ms, HOUR),
        body_read_timeout_ms: millis("body_read_timeout_ms", default.body_read_timeout_ms, HOUR),
        read_on_ms: millis("read_on_ms", default.read_on_ms, HOUR),
        drain_ms: millis("drain_ms", default.drain_ms, 24 * HOUR),
        estimate_bytes_max: size("estimate_bytes_max", default.estimate_bytes_max, KIB, GIB),
        plugin_deadline_ms: millis("plugin_deadline_ms", default.plugin_deadline_ms, MINUTE),
        plugin_memory_bytes_max: size(
            "plugin_memory_bytes_max",
            default.plugin_memory_bytes_max,
            1024 * KIB,
            GIB,
        ),
        metric_label_values_max: count("metric_label_values_max", default.metric_label_values_max, 1, 1_000_000),
        journal_queue_events_max: count(
            "journal_queue_events_max",
            default.journal_queue_events_max,
            256,
            16_777_216,
        ),
        admission_wait_ms: millis("admission_wait_ms", default.admission_wait_ms, MINUTE),
        socket_idle_ms: millis("socket_idle_ms", default.socket_idle_ms, 24 * HOUR),
        background_wait_ms: millis("background_wait_ms", default.background_wait_ms, 24 * HOUR),
        background_holds_max: count("background_holds_max", default.background_holds_max, 1, 1_000_000),
    };
    if limits.bodies_in_flight_bytes_max < limits.body_bytes_max {
        at.at("bodies_in_flight_bytes_max")
            .refuse("must not be less than limits.body_bytes_max");
    }
    limits
}
