//! The scripted upstream and a gateway beside it, as processes of their own: binaries of the folder that this one is in.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::http::{Connection, Head};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A token for the control plane, of the role that the bench starts the gateway with.
pub const TOKEN: &str = "bench-token-0123456789";
pub const GATEWAY: &str = "127.0.0.1:18191";
const UPSTREAM: &str = "127.0.0.1:18190";
const START_WAIT: Duration = Duration::from_secs(60);

/// Both processes, ended with it.
pub struct Started {
    _upstream: Ended,
    gateway: Ended,
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Started {
    /// Starts both over an empty ledger in `dir`. `role`: of [`TOKEN`].
    ///
    /// # Errors
    /// One of the binaries is not there.
    pub fn new(dir: &Path, role: &str) -> Result<Started, Failure> {
        Started::with(dir, role, "")
    }

    /// The same, with further configuration, top level YAML. Policies are those of `dir`/policies.
    ///
    /// # Errors
    /// As `new`.
    pub fn with(dir: &Path, role: &str, yaml: &str) -> Result<Started, Failure> {
        Started::durable(dir, role, "strict", yaml)
    }

    /// The same, with a ledger of this durability.
    ///
    /// # Errors
    /// As `new`.
    pub fn durable(dir: &Path, role: &str, durability: &str, yaml: &str) -> Result<Started, Failure> {
        let here = std::env::current_exe()?;
        let beside = |name: &str| here.with_file_name(name);
        let config = format!(
            "listen: \"{GATEWAY}\"\nproviders: {{openai: {{upstream: \"http://{UPSTREAM}\"}}}}\n\
             storage: {{driver: sled, dsn: \"{0}/ledger\", durability: {durability}}}\npolicies: {{dir: \"{0}/policies\"}}\nlog: {{level: error}}\n\
             budgets: {{default: {{daily_limit_usd: 1000000, action: block}}}}\n\
             control: {{tokens: [{{name: bench, token: {TOKEN}, role: {role}}}]}}\n{yaml}",
            dir.display()
        );
        let file = dir.join("agentledger.yaml");
        std::fs::write(&file, config)?;
        let upstream = Command::new(beside("load_upstream"))
            .args([UPSTREAM, "1800"])
            .stderr(Stdio::null())
            .spawn()?;
        let upstream = Ended(upstream);
        let gateway = Command::new(beside("agentledger"))
            .args(["serve", "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Started {
            _upstream: upstream,
            gateway: Ended(gateway),
        })
    }

    pub fn gateway_pid(&self) -> u32 {
        self.gateway.0.id()
    }

    /// Waits until the gateway listens.
    ///
    /// # Errors
    /// It does not within a minute.
    pub async fn ready(&self) -> Result<(), Failure> {
        let up = timeout(START_WAIT, async {
            while TcpStream::connect(GATEWAY).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(up.await?)
    }
}

/// A connection to the gateway.
///
/// # Errors
/// It does not listen.
pub async fn connected() -> Result<Connection, Failure> {
    Ok(Connection::new(TcpStream::connect(GATEWAY).await?)?)
}

/// A chat of a hundred tokens, and its answer's head. `headers`: further lines, each ended.
///
/// # Errors
/// The connection broke.
pub async fn chat(connection: &mut Connection, headers: &str) -> Result<Head, Failure> {
    const BODY: &str =
        r#"{"model":"gpt-4o","max_tokens":100,"messages":[{"role":"user","content":"What is 6 times 7?"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-load-0123456789\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    connection.write(request.as_bytes()).await?;
    let head = connection.answer().await?;
    connection.body(&head, |_| ()).await?;
    Ok(head)
}

/// Calls a method; its answer's text.
///
/// # Errors
/// The connection broke, or the answer is an error.
pub async fn call(connection: &mut Connection, method: &str, params: &str) -> Result<String, Failure> {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let request = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write(request.as_bytes()).await?;
    let head = connection.answer().await?;
    let mut answer = Vec::new();
    connection.body(&head, |piece| answer.extend_from_slice(piece)).await?;
    let answer = String::from_utf8(answer)?;
    if head.status() != Some(200) || answer.contains("\"error\":") {
        return Err(format!("{method}: {answer}").into());
    }
    Ok(answer)
}
