//! `agentledger serve`: runs in the foreground. SIGTERM and SIGINT go down in order, a second one hurries; SIGHUP and a
//! changed file put new rules in force while traffic runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use agentledger_ledger::SystemClock;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::announce;
use super::running::{self, Noted};
use crate::config::Env;
use crate::files;
use crate::launch::{self, LaunchError, Launched, Reloads};
use crate::policy::Watch;
use crate::telemetry::logging::{self, LoggingError};

/// How often files are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many looks what was learned about models is written down.
const KEEP_EVERY_LOOKS: u32 = 60;

#[derive(Debug, thiserror::Error)]
pub enum ServeCommandError {
    #[error("{0}")]
    Launch(#[from] LaunchError),
    #[error("{0}")]
    Logging(#[from] LoggingError),
    #[error("signals: {0}")]
    Signals(std::io::Error),
    #[error("the thread that looks at files: {0}")]
    Watch(std::io::Error),
}

/// Runs until a signal ends it; then everything is settled and on disk.
pub fn run(path: Option<&Path>, new_fingerprints: bool) -> Result<(), ServeCommandError> {
    let env = Env::of_process();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeCommandError::Signals)?;
    let early = {
        let _context = runtime.enter();
        EarlySignals::new().map_err(ServeCommandError::Signals)?
    };
    let mut loaded = launch::read(path, &env)?;
    loaded.new_fingerprints = new_fingerprints;
    let _logs = logging::init(&loaded.config.log)?;
    for warning in &loaded.config.warnings {
        tracing::warn!("{warning}");
    }
    let file = loaded.file.clone();
    let launched = launch::launch(loaded, Arc::new(SystemClock::default()))?;
    // Before it is said that it serves: whoever reads that may stop it at once. Until then a signal ends it as a crash would.
    let mut signals = runtime
        .block_on(async { Signals::new(early) })
        .map_err(ServeCommandError::Signals)?;
    let _note = announce(&launched, file.as_deref());
    let watcher = Watcher {
        reloads: Arc::clone(launched.reloads()),
        path: path.map(Path::to_owned),
        file,
        env,
    };
    let (reload, asked) = sync_channel(1);
    // Nobody waits for its end: what it looks at may never answer (a network file system that is gone), and a signal must
    // end the process all the same.
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || watcher.run(&asked))
        .map_err(ServeCommandError::Watch)?;
    runtime.block_on(ended(&mut signals, &reload));
    drop(reload);
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

/// Says where it is reached and what is budgeted, and notes it for commands.
fn announce(launched: &Launched, file: Option<&Path>) -> Option<Noted> {
    let in_force = launched.reloads().in_force();
    let rules = launched.gateway().rules.load();
    let config = &rules.config;
    let said = announce::announce(
        config,
        in_force.file.get("budget"),
        in_force.parts.rules.of("budget").count(),
        &in_force.policies,
        launched.gateway().clock.now_ms(),
    );
    let running = announce::running(config, file, launched.address());
    // Before it is said that it serves: whoever reads that may run a command at once.
    let noted = running::note(&running);
    tracing::info!(address = %launched.address(), version = launch::version(), "serving");
    for provider in &config.providers {
        tracing::info!(
            "{} is served at {}{}",
            provider.name,
            running.url,
            if provider.prefix.is_empty() {
                "/v1"
            } else {
                &provider.prefix
            }
        );
    }
    tracing::info!("budgeted: {}", said.budgeted);
    if let Some(open) = said.open {
        tracing::warn!("{open}");
    }
    if let Err(error) = &noted {
        tracing::info!("commands find this gateway by its configuration file alone: {error}");
    }
    noted.ok()
}

struct Signals {
    term: Signal,
    int: Signal,
    early: EarlySignals,
}

/// Those that must not end the process at any time: listened to before anything that takes long.
struct EarlySignals {
    /// A wish that came before it can be fulfilled is kept until then.
    hup: Signal,
    /// With somebody listening, a file that may not grow is an error of the write, as a full disk is; else it is the end.
    _file_size: Signal,
}

impl EarlySignals {
    fn new() -> Result<EarlySignals, std::io::Error> {
        Ok(EarlySignals {
            hup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }
}

impl Signals {
    fn new(early: EarlySignals) -> Result<Signals, std::io::Error> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            early,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Waits for the end; asks for a reload where a signal does. Reads nothing itself.
async fn ended(signals: &mut Signals, reload: &SyncSender<()>) {
    loop {
        tokio::select! {
            _ = signals.term.recv() => return,
            _ = signals.int.recv() => return,
            _ = signals.early.hup.recv() => {
                // One that is asked for already will read what this one would.
                let _ = reload.try_send(());
            }
        }
    }
}

/// Looks at files and puts new rules in force, on a thread of its own.
struct Watcher {
    reloads: Arc<Reloads>,
    path: Option<PathBuf>,
    file: Option<PathBuf>,
    env: Env,
}

impl Watcher {
    fn run(&self, asked: &Receiver<()>) {
        let (mut policies, mut seen) = (Watch::default(), Files::default());
        policies.changed(self.policies().as_deref());
        seen.changed(self.file.as_deref(), &self.prices());
        let mut looks = 0_u32;
        loop {
            match asked.recv_timeout(LOOK_EVERY) {
                Ok(()) => self.reload(),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let policy = policies.changed(self.policies().as_deref());
                    if seen.changed(self.file.as_deref(), &self.prices()) {
                        self.reload();
                    } else if policy {
                        log_outcome(self.reloads.reload_policies());
                    }
                    looks += 1;
                    if looks.is_multiple_of(KEEP_EVERY_LOOKS) {
                        launch::keep_learned(self.reloads.gateway());
                    }
                }
            }
        }
    }

    fn reload(&self) {
        let loaded = launch::read(self.path.as_deref(), &self.env);
        log_outcome(loaded.and_then(|loaded| self.reloads.reload(loaded)));
    }

    fn policies(&self) -> Option<PathBuf> {
        self.reloads.gateway().rules.load().config.policies.dir.clone()
    }

    fn prices(&self) -> Vec<PathBuf> {
        self.reloads.gateway().rules.load().config.price_files()
    }
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
            // One that cannot be read differs from any that can: the reload which follows says what is wrong with it.
            let text = files::read(path, files::TEXT_BYTES_MAX).unwrap_or_else(|error| error.to_string().into_bytes());
            hasher.update(&text.len().to_le_bytes());
            hasher.update(&text);
        }
        let now = *hasher.finalize().as_bytes();
        let before = self.seen.replace(now);
        before.is_some_and(|before| before != now)
    }
}
