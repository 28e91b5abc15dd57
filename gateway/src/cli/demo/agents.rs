//! Three agents as their users would write them: they know a base URL and a key, say who they are in headers, and send.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::DemoError;
use crate::tasks::spawn_named;

/// Calls that the swarm makes at once.
pub const SWARM_CALLS: usize = 8;
/// The maximum that each of them names, which its model uses up.
pub const SWARM_TOKENS: u64 = 2_000;

/// A page of text and a repository, for prompts of the size that the provider bills.
const PAGE: usize = 280;
const REPOSITORY: usize = 1_800;
const SENTENCE: &str = "Whoever spends it has to hold it first. ";

/// What came back from the gateway.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Value of `x-should-retry`, empty where it is not there.
    pub should_retry: String,
    pub body: String,
}

/// Replies to the three agents, in the order in which they asked.
#[derive(Debug)]
pub struct Heard {
    pub researcher: Vec<Reply>,
    pub coder: Vec<Reply>,
    pub swarm: Vec<Reply>,
}

/// Runs the three at once.
pub async fn run(gateway: SocketAddr) -> Result<Heard, DemoError> {
    let (researcher, coder, swarm) = tokio::join!(researcher(gateway), coder(gateway), swarm(gateway));
    Ok(Heard {
        researcher: researcher?,
        coder: coder?,
        swarm: swarm?,
    })
}

/// Streams chat completions. It does not ask for usage.
async fn researcher(gateway: SocketAddr) -> Result<Vec<Reply>, DemoError> {
    let mut heard = Vec::new();
    for task in ["find-papers", "read-papers", "write-summary"] {
        let body = json!({"model": "gpt-5.4", "stream": true,
            "messages": [{"role": "user", "content": format!("Next: {task}. {}", SENTENCE.repeat(PAGE))}]});
        heard.push(
            Agent::openai("researcher", "sk-demo-researcher")
                .call(gateway, task, &body)
                .await?,
        );
    }
    Ok(heard)
}

/// A conversation with Claude over one long, cached prompt; the first turn whole, the next ones streamed.
async fn coder(gateway: SocketAddr) -> Result<Vec<Reply>, DemoError> {
    let mut heard = Vec::new();
    let mut said = Vec::new();
    // The whole repository, as a coding agent sends it with every turn.
    for (task, stream) in [("plan", false), ("edit", true), ("test", true)] {
        said.push(json!({"role": "user", "content": format!("Now {task}.")}));
        let body = json!({"model": "claude-sonnet-4-6", "max_tokens": 1_024, "stream": stream, "messages": said,
            "system": [{"type": "text", "text": SENTENCE.repeat(REPOSITORY), "cache_control": {"type": "ephemeral"}}]});
        heard.push(
            Agent::anthropic("coder", "sk-ant-demo-coder")
                .call(gateway, task, &body)
                .await?,
        );
        said.push(json!({"role": "assistant", "content": "Here is what I found out."}));
    }
    Ok(heard)
}

/// Many calls at the same moment on one key with little money: what check-then-charge lets through.
async fn swarm(gateway: SocketAddr) -> Result<Vec<Reply>, DemoError> {
    let body = json!({"model": "gpt-5.4-mini", "max_completion_tokens": SWARM_TOKENS,
        "messages": [{"role": "user", "content": "Label this ticket: the printer is on fire."}]});
    let calls = (0..SWARM_CALLS).map(|_| Agent::openai("swarm", "sk-demo-swarm").call(gateway, "label", &body));
    join_all(calls).await.into_iter().collect()
}

struct Agent {
    name: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
}

impl Agent {
    fn openai(name: &'static str, key: &str) -> Agent {
        Agent {
            name,
            path: "/v1/chat/completions",
            headers: vec![("authorization", format!("Bearer {key}"))],
        }
    }

    fn anthropic(name: &'static str, key: &str) -> Agent {
        let headers = vec![
            ("x-api-key", key.to_owned()),
            ("anthropic-version", "2023-06-01".to_owned()),
        ];
        Agent {
            name,
            path: "/v1/messages",
            headers,
        }
    }

    async fn call(self, gateway: SocketAddr, task: &str, body: &Value) -> Result<Reply, DemoError> {
        let failed = |what: String| DemoError::Call { agent: self.name, what };
        let mut request = Request::post(self.path)
            .header(HOST, gateway.to_string())
            .header("content-type", "application/json")
            .header("x-agent-id", self.name)
            .header("x-agent-session", format!("{}-1", self.name))
            .header("x-agent-task", task);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| failed(error.to_string()))?;
        let stream = TcpStream::connect(gateway)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        spawn_named("demo-connection", connection);
        let reply = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let status = reply.status().as_u16();
        let retry = reply
            .headers()
            .get("x-should-retry")
            .and_then(|value| value.to_str().ok());
        let should_retry = retry.unwrap_or_default().to_owned();
        let body = reply
            .into_body()
            .collect()
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Reply {
            status,
            should_retry,
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    }
}
