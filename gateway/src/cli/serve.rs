//! `agentledger serve`: runs in the foreground. SIGTERM and SIGINT go down in order, a second one hurries; SIGHUP and a
//! changed file put new rules in force while traffic runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::SystemClock;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Env;
use crate::launch::{self, LaunchError, Launched};
use crate::policy::Watch;
use crate::telemetry::logging::{self, LoggingError};

/// How often files are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often what was learned about models is written down.
const KEEP_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ServeCommandError {
    #[error("{0}")]
    Launch(#[from] LaunchError),
    #[error("{0}")]
    Logging(#[from] LoggingError),
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// Runs until a signal ends it; then everything is settled and on disk.
pub fn run(path: Option<&Path>) -> Result<(), ServeCommandError> {
    let env = Env::of_process();
    let loaded = launch::read(path, &env)?;
    let _logs = logging::init(&loaded.config.log)?;
    for warning in &loaded.config.warnings {
        tracing::warn!("{warning}");
    }
    let file = loaded.file.clone();
    let launched = launch::launch(loaded, Arc::new(SystemClock::default()))?;
    tracing::info!(address = %launched.address(), version = launch::VERSION, "serving");
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeCommandError::Signals)?;
    let mut signals = runtime
        .block_on(async { Signals::new() })
        .map_err(ServeCommandError::Signals)?;
    runtime.block_on(watch(&launched, path, file, &env, &mut signals));
    tracing::info!("going down: running answers end first");
    // The data plane blocks while it drains; a second signal is heard meanwhile.
    let (hurry, hurried) = tokio::sync::oneshot::channel::<()>();
    let listener = std::thread::Builder::new().name("second-signal".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = signals.end() => drop(hurry),
                () = tokio::time::sleep(Duration::from_secs(24 * 3600)) => {}
            }
        });
    });
    if let Err(error) = &listener {
        tracing::warn!(%error, "a second signal will not be heard");
    }
    launched.stop(async {
        let _ = hurried.await;
    });
    drop(listener);
    tracing::info!("everything is settled");
    Ok(())
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> Result<Signals, std::io::Error> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Waits for the end; reloads meanwhile.
async fn watch(launched: &Launched, path: Option<&Path>, file: Option<PathBuf>, env: &Env, signals: &mut Signals) {
    let mut policies = Watch::default();
    let mut seen = Files::default();
    let dir = || launched.gateway().rules.load().config.policies.dir.clone();
    policies.changed(dir().as_deref());
    seen.changed(file.as_deref(), &prices(launched));
    let mut keep = tokio::time::interval(KEEP_EVERY);
    keep.reset();
    loop {
        tokio::select! {
            _ = signals.term.recv() => return,
            _ = signals.int.recv() => return,
            _ = signals.hup.recv() => reload(launched, path, env),
            _ = keep.tick() => launch::keep_learned(launched.gateway()),
            () = tokio::time::sleep(LOOK_EVERY) => {
                let policy = policies.changed(dir().as_deref());
                let files = seen.changed(file.as_deref(), &prices(launched));
                if files {
                    reload(launched, path, env);
                } else if policy {
                    log_outcome(launched.reload_policies());
                }
            }
        }
    }
}

fn prices(launched: &Launched) -> Vec<PathBuf> {
    launched.gateway().rules.load().config.prices_files.clone()
}

fn reload(launched: &Launched, path: Option<&Path>, env: &Env) {
    log_outcome(launch::read(path, env).and_then(|loaded| launched.reload(loaded)));
}

/// A faulty change is told, and what was in force stays so.
fn log_outcome(reloaded: Result<(), LaunchError>) {
    match reloaded {
        Ok(()) => tracing::info!("new rules are in force"),
        Err(error) => tracing::error!("not reloaded, the old rules stay: {error}"),
    }
}

/// Notices that files changed, by their content.
#[derive(Default)]
struct Files {
    seen: Option<[u8; 32]>,
}

impl Files {
    /// The first look says no.
    fn changed(&mut self, config: Option<&Path>, others: &[PathBuf]) -> bool {
        let mut hasher = blake3::Hasher::new();
        for path in config.into_iter().chain(others.iter().map(PathBuf::as_path)) {
            let text = std::fs::read(path).unwrap_or_default();
            hasher.update(&text.len().to_le_bytes());
            hasher.update(&text);
        }
        let now = *hasher.finalize().as_bytes();
        let before = self.seen.replace(now);
        before.is_some_and(|before| before != now)
    }
}
