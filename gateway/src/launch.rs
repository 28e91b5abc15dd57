//! From a configuration to a running gateway: what `serve`, `demo` and the tests all do alike.

mod expiry;
mod offline;
mod reloads;
mod removal;
mod sources;
mod steering;
mod versions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agentledger_alerts::StoreFailed;
use agentledger_ledger::{
    AccountBalances, Clock, CommitObserver, Durability, ExpectedCosts, Facts, Kept, Ledger, LedgerError, Name, Options,
    SystemClock, Usd, Zone,
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::alerting::{Dispatch, Dispatcher};
use crate::backups::Backups;
use crate::config::{self, Config, ConfigErrors, Env, Known, ToolPricing};
use crate::control::{self, ControlError, ControlHandle, ControlState, LedgerView};
use crate::fingerprints;
use crate::hosts;
use crate::mcp::{Intake, Mcp, WrappedCalls};
use crate::meter::{Estimator, learned_file};
use crate::plugin::{LoadError, Plugins, ToolPricers};
use crate::policy::{self, Balances, Cause, Counters, Engine, Lookups, Phase, PolicyError, PolicySet};
use crate::price::{self, PriceBook, PriceError};
use crate::price_updates::PriceUpdates;
use crate::proxy::accept::server::{self, RunningServer, ServeError};
use crate::proxy::books_watch;
use crate::proxy::session::progress::SessionProgress;
use crate::proxy::session::watch as session_watch;
use crate::proxy::shared::backing_off::BackingOff;
use crate::proxy::shared::body::BodyBudget;
use crate::proxy::shared::cached_input::CachedInput;
use crate::proxy::shared::deferred_holds::DeferredHolds;
use crate::proxy::shared::drain::Drain;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::rules::{Fingerprints, Rules, RulesError};
use crate::proxy::shared::upkeep::Upkeep;
use crate::runtime::{Fault, Tallies, short};
use crate::tasks::Watch;
use crate::telemetry::{self, Metrics, Otlp, OtlpError};

use expiry::{Expiry, wake_up};
pub use offline::{open_policies, would_be_in_force};
pub use reloads::Reloads;
pub use removal::remove_document;
use sources::Sources;
use steering::Steering;
use versions::failure_limit;

/// What the binary was stamped with.
static STAMP: OnceLock<&'static str> = OnceLock::new();

/// Notes the version of the binary. The library itself has none: it would be compiled anew for each commit.
pub fn stamp(version: &'static str) {
    STAMP.get_or_init(|| version);
}

/// The version that the binary was stamped with, else `dev`.
pub fn version() -> &'static str {
    STAMP.get().copied().unwrap_or("dev")
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Plugin(#[from] LoadError),
    #[error("{}", lines(.0))]
    Prices(Vec<PriceError>),
    #[error("{}", lines(.0))]
    Policies(Vec<PolicyError>),
    #[error("{0}")]
    Rules(#[from] RulesError),
    /// What operators changed does not go with what the files say.
    #[error("{0}")]
    RuntimeRule(Fault),
    #[error("a price put at runtime does not fit: {} (`price.delete` takes it away)", lines(.0))]
    RuntimePrice(Vec<PriceError>),
    #[error("what was changed at runtime cannot be read: {0}")]
    Documents(String),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Fingerprints(#[from] fingerprints::Refused),
    #[error("{0}")]
    Control(#[from] ControlError),
    #[error("{0}")]
    Serve(#[from] ServeError),
    #[error("{0}")]
    Otlp(#[from] OtlpError),
    #[error("{0}")]
    Alerts(#[from] StoreFailed),
    #[error(
        "listen: {listen} can be reached from other machines, and {provider} is served on the gateway's own credentials to \
         whoever sends a request: listen on 127.0.0.1, or name the keys that may use them in \
         providers.{provider}.client_keys"
    )]
    Exposed { listen: String, provider: String },
    #[error(
        "listen: {listen} can be reached from other machines, and the MCP server {server} is served on the gateway's own \
         credential to whoever sends a request: listen on 127.0.0.1, or name the keys that may use it in \
         mcp.servers.{server}.client_keys"
    )]
    ExposedTools { listen: String, server: String },
}

fn lines<E: std::fmt::Display>(errors: &[E]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A configuration, and what was loaded by it.
pub struct LoadedSetup {
    pub config: Config,
    pub file: Option<PathBuf>,
    pub plugins: Plugins,
    /// What tool calls cost.
    pub tool_pricers: Arc<ToolPricers>,
    pub prices: PriceBook,
    pub policies: PolicySet,
    /// What the configuration says to each policy.
    pub confs: BTreeMap<String, serde_json::Value>,
    /// The operator gives keys new fingerprints, where the secret that the ledger's were made with is gone.
    pub new_fingerprints: bool,
}

/// Reads a configuration and everything it names. Nothing is started and nothing is written: `check` does only this.
///
/// # Errors
/// All faults of the configuration, or the first of a plugin, price file or policy that it names.
pub fn read(path: Option<&Path>, env: &Env) -> Result<LoadedSetup, LaunchError> {
    // Plugins of the operator's own bring dialects, which the providers of the same file may use: hence two readings.
    let first = match config::load(path, env, &Known::undecided()) {
        Ok((first, _)) => first,
        // With faults in it the plugins and prices that it names stay unread: tell all that can be told without them.
        Err(undecided) => {
            return Err(config::load(path, env, &Known::built_in())
                .err()
                .unwrap_or(undecided)
                .into());
        }
    };
    let plugins = plugins(&first)?;
    let prices = prices(&first)?;
    let mut books: Vec<String> = prices.providers().into_iter().map(str::to_owned).collect();
    books.extend(price::built_in_providers().map(str::to_owned));
    let known = Known::new(plugins.iter().map(|(name, _)| name), books.iter().map(String::as_str));
    let (config, file) = config::load(path, env, &known)?;
    complete(config, file, plugins, prices)
}

/// The same from a configuration that is already resolved.
pub fn of_config(config: Config) -> Result<LoadedSetup, LaunchError> {
    let plugins = plugins(&config)?;
    let prices = prices(&config)?;
    complete(config, None, plugins, prices)
}

/// The plugins that the served providers and the prices of tools need, and those of the operator.
fn plugins(config: &Config) -> Result<Plugins, LoadError> {
    let wanted = |name: &str| config.speaks(name) || (name == ToolPricing::BUILT_IN && config.mcp.pricing.is_given());
    Plugins::load_of(wanted, &config.plugins, &config.limits)
}

/// The books of the providers that are served, and the files of the operator over them.
fn prices(config: &Config) -> Result<PriceBook, LaunchError> {
    let served = config.providers.iter().map(|provider| provider.book.as_str());
    let built_in = PriceBook::builtin_of(served).map_err(|error| LaunchError::Prices(vec![error]))?;
    built_in.with_files(&config.price_files()).map_err(LaunchError::Prices)
}

fn complete(
    config: Config,
    file: Option<PathBuf>,
    plugins: Plugins,
    prices: PriceBook,
) -> Result<LoadedSetup, LaunchError> {
    refuse_exposure(&config)?;
    let tool_pricers = ToolPricers::load(&plugins, &config).map_err(|error| match error {
        LoadError::Conf(errors) => LaunchError::Config(errors),
        other => LaunchError::Plugin(other),
    })?;
    let (policies, confs) = policies(&config)?;
    Ok(LoadedSetup {
        config,
        file,
        plugins,
        tool_pricers: Arc::new(tool_pricers),
        prices,
        policies,
        confs,
        new_fingerprints: false,
    })
}

/// Credentials of the gateway's own are for those who may use them: on this machine, or known by their keys.
fn refuse_exposure(config: &Config) -> Result<(), LaunchError> {
    if hosts::is_loopback(&config.listen) {
        return Ok(());
    }
    let listen = || config.listen.clone();
    if let Some(server) = config.mcp.servers.iter().find(|server| server.is_open()) {
        let server = server.name.clone();
        return Err(LaunchError::ExposedTools {
            listen: listen(),
            server,
        });
    }
    match config.providers.iter().find(|provider| provider.is_open()) {
        None => Ok(()),
        Some(provider) => Err(LaunchError::Exposed {
            listen: config.listen.clone(),
            provider: provider.name.clone(),
        }),
    }
}

/// What the configuration says to each policy, by its name.
type Confs = BTreeMap<String, serde_json::Value>;

/// The policies that are built in, and those of the configuration's folder, with their confs.
fn policies(config: &Config) -> Result<(PolicySet, Confs), LaunchError> {
    let options = policy::Options {
        deadline: config.policies.deadline,
        ..policy::Options::default()
    };
    let sources = policy::folder::sources(config.policies.dir.as_deref()).map_err(LaunchError::Policies)?;
    let confs = config.policies.conf.clone();
    // A conf may be of a policy that only the store has.
    let policies = PolicySet::load_files(sources, &confs, options).map_err(LaunchError::Policies)?;
    Ok((policies, confs))
}

/// A running gateway: both planes and the ledger under them.
pub struct Launched {
    running: RunningServer,
    control: ControlHandle,
    gateway: Arc<Gateway>,
    session_watch: Watch,
    books_watch: Watch,
    wrapped: (Arc<WrappedCalls>, Watch),
    price_updates: Option<PriceUpdates>,
    expiry: Expiry,
    backups: Option<Backups>,
    alert_dispatcher: Dispatcher,
    reloads: Arc<Reloads>,
}

/// Opens the ledger and starts both planes.
///
/// # Errors
/// The ledger cannot be opened, or an address or socket cannot be bound; nothing runs then.
pub fn launch(loaded: LoadedSetup, clock: Arc<dyn Clock>) -> Result<Launched, LaunchError> {
    let LoadedSetup {
        config,
        plugins,
        tool_pricers,
        prices,
        policies,
        confs,
        new_fingerprints,
        ..
    } = loaded;
    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new(&config.limits));
    let estimator = Arc::new(Estimator::new(config.limits.estimate_bytes_max));
    estimator.restore(&learned_file::load(&config.storage.dir));
    let options = Options {
        expected_costs: match config.hold.recovered {
            config::RecoveredCost::Expected => Some(Arc::new(LearnedCosts(Arc::clone(&estimator)))),
            config::RecoveredCost::Held => None,
        },
        observer: Some(Arc::new(Commits(Arc::clone(&metrics)))),
        ..ledger_options(&config)
    };
    let ledger = Ledger::open(options, Arc::clone(&clock))?;
    if ledger.recovered_holds() > 0 {
        tracing::warn!(
            holds = ledger.recovered_holds(),
            "holds of a gateway that ended abruptly were settled as recovered"
        );
    }
    let fingerprints = fingerprints(&config, &ledger, new_fingerprints)?;
    let (wake, woken) = wake_up();
    let on_exceeded = wake.clone();
    let on_exceeded = Arc::new(move || on_exceeded.look());
    let tallies = Tallies::new(failure_limit(&config), on_exceeded, Arc::clone(&clock));
    let mut sources = Sources::open(&ledger, confs, policies, prices, tallies)?;
    let (policies, prices) = sources.over()?;
    log_versions(&sources);
    ledger.set_digests(digests(&prices, &policies));
    let recorded = sources.record(&ledger, &policies);
    let rules = Rules::new(
        Arc::clone(&config),
        &plugins,
        &tool_pricers,
        prices,
        policies,
        fingerprints,
        None,
    )?;
    let rules = rules.with_disabled(sources.disabled()).recorded_as(recorded);
    let shared = Arc::new(ArcSwap::new(Arc::clone(&config)));
    let otlp = otlp(&config, &shared, &metrics)?;
    let alerts = Arc::default();
    let dispatch = Dispatch::open(Arc::clone(&alerts), &ledger, &shared, &metrics, &clock)?;
    let gateway = Arc::new(Gateway {
        rules: ArcSwap::from_pointee(rules),
        refused_policies: ArcSwap::default(),
        policies: Engine::remembering(Arc::new(PolicyCounts(Arc::clone(&metrics)))),
        balances: Arc::new(LedgerBalances(Arc::clone(&ledger))),
        estimator,
        drain: Drain::new(),
        bodies: BodyBudget::new(config.limits.bodies_in_flight_bytes_max),
        deferred: DeferredHolds::default(),
        progress: Arc::new(SessionProgress::default()),
        backing_off: BackingOff::default(),
        cached_input: CachedInput::new(&ledger),
        live: Arc::default(),
        upkeep: Upkeep::default(),
        rates: Arc::default(),
        shadow_rates: Arc::default(),
        alerts,
        alert_dispatch: Arc::new(dispatch),
        otlp,
        control: config.control.socket.clone(),
        ledger: Arc::clone(&ledger),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
    });
    let mcp = Arc::new(Mcp::new(&config.storage.dir));
    let wrapped = Arc::new(WrappedCalls::new(&gateway, &mcp));
    let reloads = Arc::new(Reloads::new(Arc::clone(&gateway), Arc::clone(&shared), sources));
    reloads.tell_all_refused();
    let state = Arc::new(ControlState {
        ledger: LedgerView::Live(ledger),
        config: Arc::clone(&shared),
        metrics,
        data_plane: Arc::new(Steering {
            reloads: Arc::clone(&reloads),
            wrapped: Arc::clone(&wrapped),
            mcp: Arc::clone(&mcp),
        }),
        version: version(),
        started_at_ms: clock.now_ms(),
        requests: Mutex::default(),
        corrections: Mutex::default(),
        replays: Default::default(),
        verifications: Default::default(),
        issued_tokens: Default::default(),
    });
    let control = control::start(state, &config.control.socket, config.control.listen.as_deref())?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let running = server::start(
        (Arc::clone(&gateway), mcp),
        &config.listen,
        config.tls.as_ref(),
        threads,
    )?;
    let session_watch = session_watch::start(&gateway).map_err(ServeError::Runtime)?;
    let books_watch = books_watch::start(&gateway).map_err(ServeError::Runtime)?;
    let wrapped_watch = watch_wrapped(&wrapped, config.spool_dir()).map_err(ServeError::Runtime)?;
    let price_updates = PriceUpdates::start(&gateway).map_err(ServeError::Runtime)?;
    let backups = Backups::start(&gateway, version()).map_err(ServeError::Runtime)?;
    Ok(Launched {
        running,
        control,
        session_watch,
        books_watch,
        wrapped: (wrapped, wrapped_watch),
        price_updates,
        expiry: Expiry::start(&reloads, wake, woken).map_err(ServeError::Runtime)?,
        backups,
        alert_dispatcher: Dispatcher::start(Arc::clone(&gateway.alert_dispatch)).map_err(ServeError::Runtime)?,
        reloads,
        gateway,
    })
}

/// How often calls of wrapped servers that nobody keeps, and spools, are looked for.
const WRAPPED_TICK: Duration = Duration::from_secs(1);

fn watch_wrapped(wrapped: &Arc<WrappedCalls>, spool: PathBuf) -> std::io::Result<Watch> {
    let mut intake = Intake::new()?;
    Watch::start("wrapped-calls", WRAPPED_TICK, wrapped, move |wrapped| {
        wrapped.look();
        intake.look(&spool, wrapped);
    })
}

/// Says which policies go by the store, over which files.
fn log_versions(sources: &Sources) {
    for (policy, activation) in &sources.effective {
        let over = match sources.files.policy(policy) {
            Some(file) => format!(", over {}", file.source.origin),
            None => String::new(),
        };
        let version = short(&activation.hash);
        tracing::info!("policy {policy}: version {version} of the store is in force{over}");
    }
}

impl Launched {
    /// Where the data plane listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// Goes down in order: running answers end or are cut, everything is settled, the ledger is closed.
    pub fn stop(self, hurry: impl Future<Output = ()> + Send) {
        let (ledger, gateway) = (Arc::clone(&self.gateway.ledger), Arc::clone(&self.gateway));
        self.running.stop(hurry);
        drop(self.session_watch);
        drop(self.books_watch);
        let (wrapped, wrapped_watch) = self.wrapped;
        drop(wrapped_watch);
        wrapped.close();
        drop(self.price_updates);
        drop(self.expiry);
        drop(self.backups);
        self.alert_dispatcher.stop();
        keep_learned(&gateway);
        if let Some(otlp) = &gateway.otlp {
            otlp.close();
        }
        self.control.stop();
        ledger.close();
    }
}

/// What sends telemetry, where the configuration says where to.
fn otlp(config: &Config, shared: &Arc<ArcSwap<Config>>, metrics: &Metrics) -> Result<Option<Arc<Otlp>>, LaunchError> {
    let Some(otlp) = &config.otlp else { return Ok(None) };
    let otlp = Arc::new(Otlp::start(otlp, shared, config.limits.metric_label_values_max)?);
    metrics.add_source(Arc::clone(&otlp) as Arc<dyn telemetry::Source>);
    Ok(Some(otlp))
}

/// Writes down what was learned about models. A failure costs nothing but better guesses after the next start.
pub fn keep_learned(gateway: &Gateway) {
    let dir = gateway.rules.load().config.storage.dir.clone();
    if let Err(error) = learned_file::save(&dir, &gateway.estimator.snapshot()) {
        tracing::warn!(%error, "what was learned about models could not be kept");
    }
}

/// What decided, for the openings of the journal's months.
fn digests(prices: &PriceBook, policies: &PolicySet) -> Vec<(Name, [u8; 32])> {
    vec![
        (Name::from("prices"), prices.digest()),
        (Name::from("policies"), policies.digest()),
    ]
}

/// Has a ledger that no gateway has open believe the machine's clock from now on.
///
/// # Errors
/// The ledger cannot be opened.
pub fn accept_clock(config: &Config) -> Result<(), LaunchError> {
    let options = Options {
        accept_clock: true,
        ..ledger_options(config)
    };
    Ledger::open(options, Arc::new(SystemClock::default()))?.close();
    Ok(())
}

/// Opens a ledger that no gateway has open, to write in it; made where there is none, with a secret for its keys.
///
/// # Errors
/// It cannot be opened, or the secret is not the one that its keys are named by.
pub fn open_ledger(config: &Config) -> Result<Arc<Ledger>, LaunchError> {
    let ledger = Ledger::open(ledger_options(config), Arc::new(SystemClock::default()))?;
    fingerprints(config, &ledger, false)?;
    Ok(ledger)
}

/// What calls cost of whose end a crash left nobody to tell.
#[derive(Debug)]
struct LearnedCosts(Arc<Estimator>);

impl ExpectedCosts for LearnedCosts {
    fn of(&self, facts: &Facts) -> Option<Usd> {
        self.0.mean_cost_of_calls(&facts.requested_model, &facts.agent)
    }
}

fn ledger_options(config: &Config) -> Options {
    Options {
        durability: match config.storage.durability {
            config::Durability::Strict => Durability::Strict,
            config::Durability::Relaxed => Durability::Relaxed,
        },
        retention_months: config.storage.retention_months,
        queue_events_max: config.limits.journal_queue_events_max,
        names_per_kind_max: config.limits.names_per_kind_max,
        bound_accounts_max: config.limits.bound_accounts_max,
        sessions: Kept {
            sessions_max: config.limits.sessions_in_memory_max,
            ..Kept::default()
        },
        ..Options::new(&config.storage.dir)
    }
}

/// The secret that the ledger's keys are named by. One that is new is noted in the ledger.
fn fingerprints(config: &Config, ledger: &Ledger, renew: bool) -> Result<Fingerprints, LaunchError> {
    let known = fingerprints::Known {
        check: ledger.fingerprint_check(),
        // The opening of the first month is all that an unused ledger has.
        is_empty: ledger.head().sequence <= 1,
    };
    let secret = config.fingerprint_secret.as_ref();
    let (found, check) = fingerprints::settle(secret, &config.storage.dir, known, renew)?;
    if let Some(check) = check {
        ledger.set_fingerprint_check(check);
    }
    Ok(found.fingerprints())
}

/// Balances for policies, from the ledger's memory.
struct LedgerBalances(Arc<Ledger>);

impl Balances for LedgerBalances {
    fn read(&self, accounts: &[Name], zone: &Zone) -> Vec<AccountBalances> {
        self.0.balances_of(accounts, zone)
    }
}

struct PolicyCounts(Arc<Metrics>);

impl Counters for PolicyCounts {
    fn policy_failed(&self, policy: &str, phase: Phase, _cause: Cause) {
        self.0.policy_error(policy, phase.name());
    }

    fn policies_asked(&self, lookups: Lookups) {
        self.0.policies_asked(lookups);
    }
}

/// The metrics' view of the journal's commits.
struct Commits(Arc<Metrics>);

impl CommitObserver for Commits {
    fn committed(&self, events: usize, took: Duration) {
        self.0.journal_commit(events, took);
    }
}
