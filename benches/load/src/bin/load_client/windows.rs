//! What goes on beside the requests, in every third window of time: swaps of policies, or a command.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{Failure, OUR_HEADERS, PATIENCE, Plan, Took, median, requests};

/// The header in which the policy that is swapped says which one it is.
pub const SWAPPED: &str = "x-swapped";
/// The gateway looks for changed files once a second.
const SWAP_EVERY: Duration = Duration::from_secs(1);

/// Writes the policy anew, whole at once.
fn write_policy(file: &Path, number: u64) -> Result<(), Failure> {
    let text = format!(
        "return {{ name = 'swapped', version = '{number}', request = function()\n\
         return header({{ name = '{SWAPPED}', value = '{number}' }}) end }}\n"
    );
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, file)?;
    Ok(())
}

/// What goes on beside the requests in every third window.
pub enum Disturbance {
    /// A policy that is written anew each second.
    Swaps(PathBuf),
    /// A command, run by the shell.
    Command(String),
}

impl Disturbance {
    fn name(&self) -> &'static str {
        match self {
            Disturbance::Swaps(_) => "swaps",
            Disturbance::Command(_) => "beside it",
        }
    }

    /// Begins it; what is answered ends it when it is dropped.
    async fn begin(&self) -> Result<Option<Child>, Failure> {
        let Disturbance::Command(command) = self else {
            return Ok(None);
        };
        // `exec`, so that what is ended is the command itself.
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let first = timeout(PATIENCE, lines.next_line()).await??;
        if first.as_deref() != Some("ready") {
            return Err(format!("{command}: said {first:?} instead of ready").into());
        }
        Ok(Some(child))
    }

    /// Goes on until it fails.
    async fn go_on(&self, number: &mut u64) -> Result<Took, Failure> {
        if let Disturbance::Swaps(policy) = self {
            loop {
                *number += 1;
                write_policy(policy, *number)?;
                sleep(SWAP_EVERY).await;
            }
        }
        std::future::pending().await
    }
}

/// Two windows alike, which tell how much two windows alike differ here, then one with the disturbance; and again.
pub async fn run(plan: &Plan, disturbance: &Disturbance) -> Result<(), Failure> {
    let time = Duration::from_secs(plan.seconds);
    for target in &plan.targets {
        let mut number = 1;
        if let Disturbance::Swaps(policy) = disturbance {
            write_policy(policy, number)?;
        }
        requests(target, plan.connections, 2 * SWAP_EVERY, OUR_HEADERS).await?;
        println!(
            "| {} | requests | swaps seen | p50 µs | p99 µs | p99.9 µs |",
            target.name
        );
        println!("|---|---:|---:|---:|---:|---:|");
        let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            for is_disturbed in [false, false, true] {
                let name = if is_disturbed { disturbance.name() } else { "quiet" };
                let took = if is_disturbed {
                    let child = disturbance.begin().await?;
                    let took = tokio::select! {
                        took = requests(target, plan.connections, time, OUR_HEADERS) => took?,
                        failed = disturbance.go_on(&mut number) => failed?,
                    };
                    if let Some(mut child) = child {
                        child.kill().await?;
                    }
                    took
                } else {
                    requests(target, plan.connections, time, OUR_HEADERS).await?
                };
                let p99 = took.percentile(0.99);
                println!(
                    "| {name} | {} | {} | {:.0} | {p99:.0} | {:.0} |",
                    took.latencies_us.len(),
                    took.swaps.len().saturating_sub(1),
                    took.percentile(0.5),
                    took.percentile(0.999)
                );
                if is_disturbed { &mut disturbed } else { &mut quiet }.push(p99);
                // The last policy that was written is in force before the next window begins.
                sleep(SWAP_EVERY + SWAP_EVERY / 2).await;
            }
        }
        let lowest = quiet.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = quiet.iter().copied().fold(0.0, f64::max);
        println!(
            "\n{}: 0 failed; p99 {:.0} µs with {}, {lowest:.0} to {highest:.0} µs (median {:.0}) without\n",
            target.name,
            median(&mut disturbed),
            disturbance.name(),
            median(&mut quiet)
        );
    }
    Ok(())
}
