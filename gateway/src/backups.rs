//! The schedule of backups (`backup.every`; off by default): an archive of the running ledger into a folder, the oldest ones
//! removed. One that fails is an alert, a log line and a number; traffic and journal do not notice.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::config::Backup;
use crate::moving::archive::{self, ArchiveError, Source, Written};
use crate::proxy::report::{self, OwnAlert};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::upkeep::BackupFailure;
use crate::tasks::{background, spawn_named_on};
use crate::telemetry::alerts::Severity;
use crate::telemetry::{self, Samples};

/// A gateway that is started daily would else never come to a daily backup.
const FIRST_AFTER: Duration = Duration::from_secs(5 * 60);
/// Where the schedule was switched off while the gateway runs, so often it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const PREFIX: &str = "agentledger-";
const SUFFIX: &str = ".tar.zst";

/// The task; it ends with this.
pub struct Backups {
    runtime: Option<Runtime>,
}

/// How backups fare.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    failed: AtomicU64,
    /// Seconds since the epoch; 0 before the first.
    last_s: AtomicI64,
    bytes: AtomicU64,
}

impl telemetry::Source for Counts {
    fn sample(&self, out: &mut Samples) {
        let help = "Scheduled backups, by how they ended.";
        for (outcome, count) in [("written", &self.written), ("failed", &self.failed)] {
            let count = count.load(Ordering::Relaxed);
            out.counter("agentledger_backups_total", help, &[("outcome", outcome)], count);
        }
        let last_s = self.last_s.load(Ordering::Relaxed);
        let help = "When the last scheduled backup was written; 0 before the first.";
        out.gauge("agentledger_backup_last_timestamp_seconds", help, &[], last_s);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let help = "How large the last scheduled backup is.";
        out.gauge("agentledger_backup_last_bytes", help, &[], bytes);
    }
}

impl Backups {
    /// `None` where the configuration has no schedule: one that is added later begins with the next start.
    pub fn start(gateway: &Arc<Gateway>, version: &'static str) -> std::io::Result<Option<Backups>> {
        if gateway.rules.load().config.backup.every.is_none() {
            return Ok(None);
        }
        let counts = Arc::new(Counts::default());
        gateway
            .metrics
            .add_source(Arc::clone(&counts) as Arc<dyn telemetry::Source>);
        let runtime = background("backups").max_blocking_threads(1).build()?;
        spawn_named_on(&runtime, "backups", run(Arc::downgrade(gateway), version, counts));
        Ok(Some(Backups { runtime: Some(runtime) }))
    }
}

impl Drop for Backups {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn run(gateway: Weak<Gateway>, version: &'static str, counts: Arc<Counts>) {
    let settings = |gateway: &Gateway| gateway.rules.load().config.backup.clone();
    let mut wait = FIRST_AFTER;
    loop {
        let Some(scheduled) = gateway.upgrade().map(|gateway| settings(&gateway).every) else {
            return;
        };
        tokio::time::sleep(scheduled.map_or(LOOK_AGAIN, |every| every.min(wait))).await;
        let Some(gateway) = gateway.upgrade() else { return };
        let settings = settings(&gateway);
        if settings.every.is_some() {
            let (gateway, counts) = (Arc::clone(&gateway), Arc::clone(&counts));
            // Reads and writes files: never on a thread that others wait for.
            let done = tokio::task::spawn_blocking(move || once(&gateway, &settings, version, &counts));
            // One that panicked has said so.
            let _ = done.await;
            wait = Duration::MAX;
        }
    }
}

fn once(gateway: &Gateway, settings: &Backup, version: &str, counts: &Counts) {
    match write(gateway, settings, version) {
        Ok((path, written)) => {
            counts.written.fetch_add(1, Ordering::Relaxed);
            counts.last_s.store(gateway.clock.now_ms() / 1_000, Ordering::Relaxed);
            counts.bytes.store(written.bytes, Ordering::Relaxed);
            tracing::info!(file = %path.display(), bytes = written.bytes, head = %written.manifest.head, "backup written");
        }
        Err(error) => {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            gateway.upkeep.backup_failed(BackupFailure {
                at_ms: gateway.clock.now_ms(),
                why: error.to_string(),
            });
            let own = OwnAlert {
                severity: Severity::Warning,
                details: Vec::new(),
                kind: "backup_failed",
                about: "backup".to_owned(),
                message: format!("no backup was written: {error}"),
            };
            let cooldown = gateway.rules.load().config.alerts.cooldown;
            report::own_alert(gateway, own, cooldown);
        }
    }
}

fn write(gateway: &Gateway, settings: &Backup, version: &str) -> Result<(PathBuf, Written), ArchiveError> {
    let dir = &settings.dir;
    std::fs::create_dir_all(dir).map_err(|error| ArchiveError::Write {
        path: dir.clone(),
        error,
    })?;
    let now_ms = gateway.clock.now_ms();
    let path = dir.join(file_name(now_ms));
    let ledger_dir = gateway.rules.load().config.storage.dir.clone();
    let written = archive::into_file(&Source::Running(&gateway.ledger, &ledger_dir), &path, version, now_ms)?;
    if let Err(error) = remove_old(dir, settings.keep) {
        tracing::warn!(%error, dir = %dir.display(), "old backups cannot be removed");
    }
    Ok((path, written))
}

fn file_name(now_ms: i64) -> String {
    let at = agentledger_ledger::rfc3339_ms(now_ms);
    let at: String = at.chars().filter(|one| one.is_ascii_alphanumeric()).collect();
    format!("{PREFIX}{at}{SUFFIX}")
}

/// An archive of the schedule that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptArchive {
    pub file: String,
    /// When it was written, by its name: RFC 3339.
    pub at: String,
    pub bytes: u64,
}

/// The archives of the schedule in a folder, the latest first; none where it cannot be read.
pub fn kept(dir: &Path) -> Vec<KeptArchive> {
    let Ok(found) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let kept = found.flatten().filter_map(|entry| {
        let file = entry.file_name().into_string().ok().filter(|name| is_ours(name))?;
        Some(KeptArchive {
            at: written_at(&file)?,
            bytes: entry.metadata().ok()?.len(),
            file,
        })
    });
    let mut kept: Vec<KeptArchive> = kept.collect();
    kept.sort_unstable_by(|one, other| other.at.cmp(&one.at));
    kept
}

/// `20261122T063000123Z` as `2026-11-22T06:30:00.123Z`.
fn written_at(name: &str) -> Option<String> {
    let at = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let part = |range: std::ops::Range<usize>| at.get(range);
    Some(format!(
        "{}-{}-{}T{}:{}:{}.{}Z",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(9..11)?,
        part(11..13)?,
        part(13..15)?,
        part(15..18)?
    ))
}

fn is_ours(name: &str) -> bool {
    let at = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    at.is_some_and(|at| at.len() == "20261122T063000123Z".len() && at.bytes().all(|one| one.is_ascii_alphanumeric()))
}

/// Keeps the newest, by their names; nothing that is not named as these are is touched.
fn remove_old(dir: &Path, keep: usize) -> std::io::Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        found.extend(entry?.file_name().into_string().ok().filter(|name| is_ours(name)));
    }
    found.sort_unstable();
    let surplus = found.len().saturating_sub(keep);
    for name in found.iter().take(surplus) {
        std::fs::remove_file(dir.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_newest_are_kept_and_other_files_are_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let name = file_name(1_795_305_600_123);
        assert_eq!(name, "agentledger-20261122T000000123Z.tar.zst");
        let others = [
            "agentledger-mine.tar.zst",
            "notes.txt",
            "agentledger-20261122T000000123Z.tar.zst.7.partial",
        ];
        for number in 0..5 {
            std::fs::write(dir.path().join(file_name(1_795_305_600_123 + number * 86_400_000)), "x").unwrap();
        }
        others
            .iter()
            .for_each(|other| std::fs::write(dir.path().join(other), "x").unwrap());
        remove_old(dir.path(), 2).unwrap();
        let mut left: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), 2 + others.len());
        assert!(left.contains(&file_name(1_795_305_600_123 + 4 * 86_400_000)) && !left.contains(&name));
        let kept: Vec<String> = kept(dir.path()).into_iter().map(|kept| kept.at).collect();
        assert_eq!(kept, ["2026-11-26T00:00:00.123Z", "2026-11-25T00:00:00.123Z"]);
    }
}
