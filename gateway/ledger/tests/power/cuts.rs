//! Power cuts at random moments, again and again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::common::all_entries;
use crate::disk::{Disk, Forgets, Mounted};
use crate::{AS_CHILD, child, run, say};

const DISK_BYTES: usize = 96 << 20;
const CUTS: u64 = 3;
/// Every so many cuts the ledger begins anew: the first acknowledgement needs all folders on disk.
const ROUNDS_OF_ONE_LEDGER: u64 = 3;

/// A machine with one disk, whose file system is mounted while its power is on.
struct Machine {
    folder: tempfile::TempDir,
    disk: Disk,
    _file: Mounted,
    /// The loop device, while the file system is mounted.
    device: Option<String>,
}

impl Machine {
    /// Why there can be none here, or a machine with an empty disk.
    fn new() -> Result<Machine, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = folder.path().join("image");
        std::fs::write(&image, vec![0; DISK_BYTES]).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "nodiscard,lazy_itable_init=0"])
            .arg(&image))?;
        let disk = Disk::of_image(std::fs::read(&image).map_err(|error| error.to_string())?);
        std::fs::create_dir(folder.path().join("mounted")).map_err(|error| error.to_string())?;
        let file = Mounted::over(&folder.path().join("disk"), &disk)?;
        let mut machine = Machine {
            folder,
            disk,
            _file: file,
            device: None,
        };
        machine.mount()?;
        Ok(machine)
    }

    fn mount(&mut self) -> Result<(), String> {
        let disk = self.folder.path().join("disk");
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(disk))?;
        let mounted = run(Command::new("mount")
            .args(["-t", "ext4"])
            .arg(&device)
            .arg(self.mounted()));
        self.device = Some(device);
        mounted.map(drop)
    }

    fn unmount(&mut self) {
        if let Some(device) = self.device.take() {
            // After a cut it complains, and is gone nevertheless.
            let _ = run(Command::new("umount").arg(self.mounted()));
            let _ = run(Command::new("losetup").arg("--detach").arg(device));
        }
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn ledger(&self) -> PathBuf {
        self.mounted().join("ledger")
    }

    fn start(&self, round: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(AS_CHILD)
            .env(child::DIR, self.ledger())
            .env(child::ROUND, round.to_string())
            .env(child::WORKERS, "4")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Cuts the power under a running ledger and gives it back. What was acknowledged, and how many writes were in the
    /// drive's cache.
    fn cut(&mut self, round: u64, rng: &mut StdRng) -> (Vec<String>, usize) {
        let mut child = self.start(round);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut lines = String::new();
        // Some traffic first, so that each cut falls into the middle of it.
        for _ in 0..rng.random_range(4..60) {
            let read = out.read_line(&mut lines).unwrap();
            assert!(read > 0, "the ledger ended before the cut:\n{lines}");
        }
        // Read all the while: a full pipe would stop the traffic.
        let rest = std::thread::spawn(move || {
            out.read_to_string(&mut lines).unwrap();
            lines
        });
        std::thread::sleep(Duration::from_millis(rng.random_range(0..900)));
        self.disk.cut();
        // What was on its way to the disk may still be acknowledged; a wrong acknowledgement, too.
        std::thread::sleep(Duration::from_millis(20));
        child.kill().unwrap();
        child.wait().unwrap();
        let lines = rest.join().unwrap();
        self.unmount();
        let forgets = [Forgets::All, Forgets::Some, Forgets::Nothing][rng.random_range(0..3)];
        let cached = self.disk.power_on(forgets, rng);
        self.mount().unwrap();
        // The kill may have cut off the last line.
        let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
        (whole.lines().map(str::to_owned).collect(), cached)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.unmount();
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds: u64 = number("AGENTLEDGER_POWER_CUTS").unwrap_or(CUTS);
    let seed: u64 = number("AGENTLEDGER_SEED").unwrap_or_else(|| rand::rng().random());
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut machine, mut said): (Option<Machine>, _) = (None, Said::default());
    let (mut acknowledged, mut forgotten, mut syncs) = (0, 0, 0);
    for round in 0..rounds {
        if round % ROUNDS_OF_ONE_LEDGER == 0 {
            drop(machine.take());
            said = Said::default();
            match Machine::new() {
                Ok(new) => machine = Some(new),
                Err(why) => return say(&format!("SKIPPED {} of {rounds} power cuts: {why}", rounds - round)),
            }
        }
        let machine = machine.as_mut().unwrap();
        let (lines, cached) = machine.cut(round, &mut rng);
        acknowledged += said.add(&lines);
        forgotten += cached;
        syncs = machine.disk.syncs();
        let found = said.check(&machine.ledger());
        if let Err(why) = found {
            panic!("power cut {round} with AGENTLEDGER_SEED={seed}: {why}");
        }
    }
    say(&format!(
        "{rounds} power cuts: {acknowledged} acknowledged events, none lost; {forgotten} writes were in the drive's cache \
         at the cuts; the last disk was synced {syncs} times"
    ));
}

/// What a ledger has acknowledged, over all cuts.
#[derive(Default)]
struct Said {
    held: BTreeSet<String>,
    settled: BTreeSet<String>,
    marked: BTreeSet<String>,
}

impl Said {
    fn add(&mut self, lines: &[String]) -> usize {
        let mut count = 0;
        for line in lines {
            let Some((what, id)) = line.split_once(' ') else {
                continue;
            };
            let set = match what {
                "held" => &mut self.held,
                "settled" => &mut self.settled,
                "marked" => &mut self.marked,
                _ => continue,
            };
            count += usize::from(set.insert(id.to_owned()));
        }
        count
    }

    fn check(&self, dir: &Path) -> Result<(), String> {
        let report = agentledger_ledger::verify(dir, None).map_err(|error| error.to_string())?;
        let acknowledged = self.held.len() + self.settled.len() + self.marked.len();
        if !report.is_sound() {
            return Err(format!("{acknowledged} events were acknowledged; {report:?}"));
        }
        let ledger = child::open(dir).map_err(|error| format!("no start: {error}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(ledger.flushed());
        // Each hold has an entry by now: settled, or recovered by this start.
        let entries: BTreeSet<String> = all_entries(&ledger, 500)
            .iter()
            .map(|entry| entry.facts.id.to_string())
            .collect();
        let lost = self
            .held
            .union(&self.settled)
            .filter(|id| !entries.contains(*id))
            .count();
        let is_marked = |name: &String| ledger.sessions().is_killed(&"acme".into(), &name.as_str().into());
        let unmarked = self.marked.iter().filter(|name| !is_marked(name)).count();
        ledger.close();
        if lost + unmarked > 0 {
            return Err(format!(
                "of {acknowledged} acknowledged events {lost} exchanges and {unmarked} marks are lost"
            ));
        }
        Ok(())
    }
}
