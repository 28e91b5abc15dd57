//! What wrapping an MCP server costs, over pipes:
//! `cargo build --release -p agentledger -p agentledger-benches && target/release/mcp_wrap [CALLS] [MEGABYTES]`
//!
//! Latency: CALLS (5,000) calls of a tool one after the other, of a server that answers at once, direct and wrapped in turn, beside
//! a gateway with the shipped policies, a daily budget and a price; with both durabilities. Throughput: MEGABYTES (1,000) of lines
//! of 1 KB that are no calls, through a server that is `cat`: alone, with a `cat` before and behind it, and wrapped.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agentledger_benches::started::{Failure, Started};
use tokio::runtime::Builder;

const ROUNDS: usize = 5;
const LINE_BYTES: usize = 1_024;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve();
    }
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (calls, megabytes) = (number(0, 5_000)?, number(1, 1_000)?);
    println!("| a call | p50 µs | p99 µs |\n|---|---:|---:|");
    for durability in ["relaxed", "strict"] {
        let dir = tempfile::tempdir()?;
        let _started = started(dir.path(), durability)?;
        let (mut direct, mut wrapped) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            direct.extend(latencies(Command::new(own()?).arg("serve"), calls / ROUNDS)?);
            wrapped.extend(latencies(wrap(dir.path())?.arg(own()?).arg("serve"), calls / ROUNDS)?);
        }
        for (name, times) in [("direct", &mut direct), ("wrapped", &mut wrapped)] {
            times.sort_unstable();
            let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
            println!("| {name}, {durability} | {} | {} |", at(50), at(99));
        }
    }
    println!("\n| lines of 1 KB | MB/s, median of {ROUNDS} |\n|---|---:|");
    let dir = tempfile::tempdir()?;
    let _started = started(dir.path(), "relaxed")?;
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (at, rates) in rates.iter_mut().enumerate() {
            let mut command = match at {
                0 => Command::new("cat"),
                1 => {
                    let mut command = Command::new("sh");
                    command.args(["-c", "cat | cat | cat"]);
                    command
                }
                _ => {
                    let mut command = wrap(dir.path())?;
                    command.arg("cat");
                    command
                }
            };
            rates.push(throughput(&mut command, megabytes)?);
        }
    }
    for (name, mut rates) in ["cat", "cat before and behind it", "wrapped"].into_iter().zip(rates) {
        rates.sort_unstable_by(f64::total_cmp);
        println!("| {name} | {:.0} |", rates.get(ROUNDS / 2).copied().unwrap_or_default());
    }
    Ok(())
}

fn own() -> Result<std::path::PathBuf, Failure> {
    Ok(std::env::current_exe()?)
}

fn wrap(dir: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(own()?.with_file_name("agentledger"));
    command.args(["mcp-wrap", "--server", "bench", "-c"]);
    command.arg(dir.join("agentledger.yaml")).arg("--");
    command
        .env("AGENTLEDGER_KEY", "sk-bench-0123456789")
        .stderr(Stdio::null());
    Ok(command)
}

/// A gateway that prices the server's calls, and a budget over them.
fn started(dir: &Path, durability: &str) -> Result<Started, Failure> {
    std::fs::create_dir_all(dir.join("policies"))?;
    let yaml = "mcp: {pricing: [{server: bench, cost_per_call: 0.000001}]}\n";
    let started = Started::durable(dir, "operate", durability, yaml)?;
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(started.ready())?;
    Ok(started)
}

fn piped(command: &mut Command) -> Result<(Child, ChildStdin, ChildStdout), Failure> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take().ok_or("no stdin")?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    Ok((child, stdin, stdout))
}

/// From a call's line to its answer's.
fn latencies(command: &mut Command, calls: usize) -> Result<Vec<Duration>, Failure> {
    let (mut child, mut stdin, stdout) = piped(command)?;
    let mut answers = BufReader::new(stdout);
    let mut answer = String::new();
    let mut times = Vec::with_capacity(calls);
    // What starts first takes longer.
    let warm = calls / 10;
    for id in 0..calls + warm {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\"arguments\":{{\"n\":{id}}}}}}}\n"
        );
        let began = Instant::now();
        stdin.write_all(line.as_bytes())?;
        answer.clear();
        answers.read_line(&mut answer)?;
        if id >= warm {
            times.push(began.elapsed());
        }
        if !answer.contains("\"done\"") {
            return Err(format!("answered {answer}").into());
        }
    }
    drop(stdin);
    child.wait()?;
    Ok(times)
}

/// Megabytes a second.
fn throughput(command: &mut Command, megabytes: usize) -> Result<f64, Failure> {
    let (mut child, mut stdin, mut stdout) = piped(command)?;
    let text = "x".repeat(LINE_BYTES - 60);
    let mut line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"p\":\"{text}\"}}");
    line.truncate(LINE_BYTES - 1);
    line.push('\n');
    let chunk = line.repeat(64);
    let chunks = megabytes * 1_000_000 / chunk.len();
    let began = Instant::now();
    let writer = thread::spawn(move || (0..chunks).try_for_each(|_| stdin.write_all(chunk.as_bytes())));
    let mut read = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stdout.read(&mut buffer)? {
            0 => break,
            more => read += more,
        }
    }
    let took = began.elapsed().as_secs_f64();
    writer.join().map_err(|_| "the writer panicked")??;
    child.wait()?;
    Ok(read as f64 / 1e6 / took)
}

/// A server that answers each call at once.
fn serve() -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let id = line
            .split_once("\"id\":")
            .and_then(|(_, rest)| rest.split_once(','))
            .map_or("0", |(id, _)| id);
        writeln!(
            out,
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"done\"}}]}}}}"
        )?;
        out.flush()?;
    }
    Ok(())
}
