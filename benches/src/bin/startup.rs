//! How long `agentledger serve` takes until it is ready, with all its plugins.
//!
//! `cargo run --release -p agentledger-benches --bin startup -- BINARY [ROUNDS]`
//!
//! Every round is a process of its own on the same ledger and cache folders: the first finds nothing there, the later ones
//! whatever a start leaves for the next, the plugins' machine code among it.

use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agentledger_benches::process;

type Failure = Box<dyn Error + Send + Sync>;

/// One of each dialect, so that every built-in plugin is needed.
const PROVIDERS: &str = "providers:
  openai: {enabled: true}
  anthropic: {enabled: true}
  bedrock: {enabled: true, region: eu-central-1}
  extra: {gemini: {enabled: true}, cohere: {enabled: true}}
";

const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (binary, rounds) = match arguments.as_slice() {
        [binary] => (binary, 10),
        [binary, rounds] => (binary, rounds.parse()?),
        _ => return Err("usage: startup BINARY [ROUNDS]".into()),
    };
    let folder = tempfile::tempdir()?;
    let mut warm = Vec::new();
    for round in 0..=rounds {
        let (took, cpu_ms) = start(Path::new(binary), folder.path())?;
        let what = if round == 0 { "first" } else { "warm" };
        println!(
            "{what}: ready after {:.1} ms, {cpu_ms:.0} ms of CPU",
            took.as_secs_f64() * 1e3
        );
        if round > 0 {
            warm.push(took);
        }
    }
    warm.sort_unstable();
    if let Some(median) = warm.get(warm.len() / 2) {
        println!(
            "median of {} warm starts: {:.1} ms",
            warm.len(),
            median.as_secs_f64() * 1e3
        );
    }
    Ok(())
}

/// From the process's start to its first `ready`.
fn start(binary: &Path, folder: &Path) -> Result<(Duration, f64), Failure> {
    // Freed just before: another process could take it, and the start would fail aloud.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = folder.join("agentledger.yaml");
    let ledger = folder.join("ledger");
    std::fs::write(
        &config,
        format!(
            "listen: \"{address}\"\nstorage: {{driver: sled, dsn: \"{}\"}}\nlog: {{level: error}}\n{PROVIDERS}",
            ledger.display()
        ),
    )?;
    let began = Instant::now();
    let mut child = Command::new(binary)
        .args(["serve", "-c"])
        .arg(&config)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let ready = wait_ready(address, &mut child, began);
    let cpu_ms = process::cpu_us(child.id()).unwrap_or(f64::NAN) / 1e3;
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    child.wait()?;
    Ok((ready?, cpu_ms))
}

fn wait_ready(address: SocketAddr, child: &mut Child, began: Instant) -> Result<Duration, Failure> {
    while began.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Err(format!("the gateway ended: {status}").into());
        }
        if is_ready(address) {
            return Ok(began.elapsed());
        }
        thread::sleep(Duration::from_micros(500));
    }
    Err("the gateway does not get ready".into())
}

fn is_ready(address: SocketAddr) -> bool {
    use std::io::Read;
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    asked.is_ok() && stream.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.1 200")
}
