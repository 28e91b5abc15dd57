//! The real binary: started as a user starts it, signalled and killed as a machine does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::Client;
use super::client::{Reply, try_read_reply};

const BINARY: &str = env!("CARGO_BIN_EXE_agentledger");

/// A config file with its policies folder and its ledger, in a folder of its own.
pub struct Installation {
    dir: tempfile::TempDir,
}

impl Installation {
    /// `yaml` is everything but `listen` and `storage`.
    pub fn new(yaml: &str) -> Installation {
        let made = Installation {
            dir: tempfile::tempdir().unwrap(),
        };
        made.configure(yaml);
        made
    }

    /// Replaces the configuration in one step, as careful editors do.
    pub fn configure(&self, yaml: &str) {
        let text = format!(
            "listen: \"127.0.0.1:0\"\nhosts: [gateway]\nstorage: {{driver: sled, dsn: \"{}\"}}\n{yaml}\n",
            self.path("ledger").display()
        );
        self.write("agentledger.yaml", &text);
    }

    pub fn policy(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path("policies")).unwrap();
        self.write(&format!("policies/{name}.lua"), text);
    }

    fn write(&self, name: &str, text: &str) {
        let draft = self.path(&format!("{name}.draft"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, self.path(name)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts `serve` and waits until it listens.
    pub fn serve(&self) -> Process {
        self.serve_with(&[])
    }

    /// The same, with further arguments.
    pub fn serve_with(&self, args: &[&str]) -> Process {
        Process::start(self, args, &[])
    }

    /// The same, with variables in its environment.
    pub fn serve_with_env(&self, variables: &[(&str, &str)]) -> Process {
        Process::start(self, &[], variables)
    }

    /// Runs another command on the same configuration.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        quiet_env(&mut command)
            .env("AGENTLEDGER_RUNTIME_DIR", self.dir.path())
            .env("HOME", self.dir.path())
            .args(args)
            .arg("-c")
            .arg(self.path("agentledger.yaml"));
        command.output().unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    pub fn print(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every entry, as the command line exports them.
    pub fn export(&self) -> Vec<Value> {
        let text = self.print(&["export", "--by", "entry", "-f", "jsonl"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Calls a method on the control socket; its result.
    pub fn rpc(&self, method: &str, params: &Value) -> Value {
        rpc(&self.path("ledger/control.sock"), method, params).unwrap()
    }

    /// The same, where the gateway may be killed meanwhile.
    pub fn try_rpc(&self, method: &str, params: &Value) -> Option<Value> {
        rpc(&self.path("ledger/control.sock"), method, params)
    }
}

/// The binary with a path in its environment and no other gateway to find, for whatever a test adds.
pub fn binary() -> Command {
    let mut command = Command::new(BINARY);
    quiet_env(&mut command);
    command
}

fn quiet_env(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        // No gateway but the test's own is found.
        .env("AGENTLEDGER_RUNTIME_DIR", "/nonexistent")
        .stdin(Stdio::null())
}

/// Calls a method on a control socket; `None` where nobody answers, or with an error.
pub fn rpc(socket: &std::path::Path, method: &str, params: &Value) -> Option<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let reply = over_socket(socket, "POST", "/rpc", &body)?;
    let answer: Value = serde_json::from_slice(&reply.body).ok()?;
    answer.get("result").cloned()
}

/// One request over a Unix socket; `None` where nobody answers it whole.
pub fn over_socket(socket: &std::path::Path, method: &str, path: &str, body: &str) -> Option<Reply> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: control\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    try_read_reply(&mut stream)
}

/// A running `serve`.
pub struct Process {
    child: Child,
    pub client: Client,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    fn start(home: &Installation, args: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(BINARY);
        quiet_env(&mut command)
            .env("AGENTLEDGER_RUNTIME_DIR", home.dir.path())
            .envs(variables.iter().copied())
            .args(["serve", "-c"])
            .arg(home.path("agentledger.yaml"))
            .args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            gather(child.stderr.take().unwrap(), &log),
            gather(child.stdout.take().unwrap(), &log),
        ];
        for _ in 0..3000 {
            if let Some(address) = address_in(&log.lock().unwrap()) {
                return Process {
                    child,
                    client: Client::to(address),
                    log: Arc::clone(&log),
                    readers,
                };
            }
            assert!(
                child.try_wait().unwrap().is_none(),
                "serve ended: {}",
                log.lock().unwrap()
            );
            thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        panic!("serve does not come up: {}", log.lock().unwrap());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to stdout and stderr.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits, boundedly, until the log has this text so many times.
    pub fn wait_for_log(&self, text: &str, times: usize) {
        for _ in 0..1500 {
            if self.log.lock().unwrap().matches(text).count() >= times {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the log never says {text:?} {times} times:\n{}", self.log());
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// `kill -9`.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.rest()
    }

    /// SIGTERM; waits for the end, which must be in order. The whole log.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        let log = self.rest();
        assert!(status.success(), "{status}\n{log}");
        log
    }

    fn rest(&mut self) -> String {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        self.log()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// The address of the line that says it serves.
fn address_in(log: &str) -> Option<SocketAddr> {
    let line = log
        .lines()
        .find(|line| line.contains("serving") && line.contains("127.0.0.1:"))?;
    let from = line.find("127.0.0.1:")?;
    let end = line[from..]
        .find(|one: char| !(one.is_ascii_digit() || one == '.' || one == ':'))
        .unwrap_or(line.len() - from);
    line[from..from + end].parse().ok()
}
