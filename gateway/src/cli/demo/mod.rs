//! `agentledger demo`: the main job without a key and without a network. A scripted provider inside, the real gateway on a
//! loopback port with a ledger of its own, three agents through it; then what the books say.
//!
//! Nothing is staged but the provider: the refusals are the ledger's, the sums are read through the control socket, and
//! the journal is verified at the end. The output is the same each time, and nothing is left behind.

mod agents;
mod upstream;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{SystemClock, Usd};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::cli::ask::Ask;
use crate::cli::client::{Client, ClientError};
use crate::cli::costs::{self, CostsError, CostsQuery};
use crate::cli::style::Style;
use crate::cli::table::{Cell, Table};
use crate::config::{self, Config, ConfigErrors, Env, Known};
use crate::control::wire::{Entries, Verified};
use crate::launch::{self, LaunchError};
use agents::{Heard, Reply, SWARM_CALLS};

/// What the swarm's key may spend a day: three of its calls and a part of a fourth.
const SWARM_LIMIT: &str = "0.03";
const SWARM_ANSWERED: usize = 3;
/// Longest wait for the books to be up to date once every answer is there.
const SETTLING: Duration = Duration::from_secs(10);
/// Longest folder in which a Unix socket still has room for its name.
const SOCKET_DIR_BYTES_MAX: usize = 60;

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("the demo's configuration: {0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Launch(#[from] LaunchError),
    #[error("the agent {agent}: {what}")]
    Call { agent: &'static str, what: String },
    #[error(transparent)]
    Costs(#[from] CostsError),
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The demo did not show what it is there to show.
    #[error("{0}")]
    Unexpected(String),
}

/// Runs the demo on standard output.
pub fn run() -> Result<(), DemoError> {
    show(&mut io::stdout().lock(), Style::of_stdout())
}

fn show(out: &mut dyn Write, style: Style) -> Result<(), DemoError> {
    let folder = Folder::new().map_err(failed("a temporary folder"))?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(failed("threads"))?;
    let provider = runtime
        .block_on(upstream::start())
        .map_err(failed("the scripted provider"))?;
    let config = configuration(folder.path(), provider)?;
    say(out, INTRODUCTION)?;

    let launched = launch::launch(launch::of_config(config.clone())?, Arc::new(SystemClock::default()))?;
    let told = runtime.block_on(agents::run(launched.address())).and_then(|heard| {
        settled(&runtime, &launched)?;
        tell(out, &config, &heard, style)
    });
    launched.stop(std::future::ready(()));
    told?;

    verified(out, &config)?;
    say(out, NEXT)
}

const INTRODUCTION: &str = "\
AgentLedger demo: a scripted provider, the real gateway, three agents. No API key, no network.

  researcher   streams OpenAI chat completions, and does not ask for usage
  coder        talks to Claude about 12,000 tokens of code, which it has cached
  swarm        makes 8 calls at the same moment; its key may spend $0.03 a day, and each call costs $0.009
";

const NEXT: &str = "
Try next
  ./task start                                            # the gateway at 127.0.0.1:8787; or: agentledger serve
  ANTHROPIC_BASE_URL=http://127.0.0.1:8787 claude         # Claude Code through it, with its own login or key
  OPENAI_BASE_URL=http://127.0.0.1:8787/v1 python app.py  # anything built on OpenAI's SDK
  agentledger costs --by agent                            # agents name themselves in X-Agent-Id
  agentledger budgets                                     # limits: section budgets of the config
  agentledger export --by entry -f jsonl                  # every entry
";

fn failed(what: &'static str) -> impl Fn(io::Error) -> DemoError {
    move |error| DemoError::Io { what, error }
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), DemoError> {
    out.write_all(text.as_bytes()).map_err(failed("writing"))
}

/// What a user would write, but for the addresses. The environment is left out, so that the demo is the same everywhere.
fn configuration(dir: &Path, provider: SocketAddr) -> Result<Config, DemoError> {
    let config = json!({
        "listen": "127.0.0.1:0",
        "providers": {
            "openai": {"upstream": format!("http://{provider}")},
            "anthropic": {"upstream": format!("http://{provider}")},
        },
        "storage": {"driver": "sled", "dsn": dir.join("ledger")},
        "policies": {"dir": dir.join("policies")},
        "budgets": {
            "default": {"daily_limit_usd": 50, "action": "block"},
            "rules": [{"api_key_pattern": "sk-demo-swarm", "daily_limit_usd": SWARM_LIMIT, "action": "block"}],
        },
    });
    // JSON is YAML too, and quotes whatever a path may hold.
    Ok(config::load_text(
        None,
        &config.to_string(),
        &Env::default(),
        &Known::built_in(),
    )?)
}

/// Waits until every exchange is settled and on disk.
fn settled(runtime: &Runtime, launched: &launch::Launched) -> Result<(), DemoError> {
    let gateway = launched.gateway();
    let books = async {
        gateway.drain.idle().await;
        gateway.ledger.flushed().await;
    };
    runtime
        .block_on(async { tokio::time::timeout(SETTLING, books).await })
        .map_err(|_| DemoError::Unexpected("the exchanges were not settled in time".to_owned()))
}

fn tell(out: &mut dyn Write, config: &Config, heard: &Heard, style: Style) -> Result<(), DemoError> {
    for (agent, replies) in [("researcher", &heard.researcher), ("coder", &heard.coder)] {
        if let Some(reply) = replies.iter().find(|reply| reply.status != 200) {
            return Err(unexpected(agent, reply));
        }
    }
    let (answered, refused): (Vec<_>, Vec<_>) = heard.swarm.iter().partition(|reply| reply.status == 200);
    if let Some(reply) = refused.iter().find(|reply| reply.status != 429) {
        return Err(unexpected("swarm", reply));
    }
    let last = refused.last().filter(|_| answered.len() == SWARM_ANSWERED);
    let last =
        last.ok_or_else(|| DemoError::Unexpected(format!("{} of the swarm's calls were answered", answered.len())))?;

    say(out, "\nWhat they saw\n")?;
    say(
        out,
        &format!("  researcher   {} answers, streamed\n", heard.researcher.len()),
    )?;
    say(
        out,
        &format!("  coder        {} answers, the last 2 streamed\n", heard.coder.len()),
    )?;
    let (answered, refused) = (answered.len(), refused.len());
    say(
        out,
        &format!(
            "  swarm        {answered} answers of {SWARM_CALLS}; {refused} refusals, each before a cent was spent:\n"
        ),
    )?;
    say(out, &refusal(last)?)?;
    say(
        out,
        "\nEach answer is an entry; more than it cost was held before its request left\n\n",
    )?;
    let client = Client::open(config)?.ok_or_else(|| DemoError::Unexpected("there is no ledger".to_owned()))?;
    let entries: Entries = client.call("ledger.query", &json!({}))?;
    say(out, &entries_table(&entries, style)?)?;
    say(out, "\n$ agentledger costs --by agent\n\n")?;
    let query = CostsQuery {
        by: vec!["agent".to_owned()],
        ..CostsQuery::default()
    };
    let ask = Ask {
        target: config.clone().into(),
        style,
        form: None,
    };
    say(out, &costs::shown(&ask, &query)?)
}

fn unexpected(agent: &'static str, reply: &Reply) -> DemoError {
    DemoError::Call {
        agent,
        what: format!("HTTP {}: {}", reply.status, reply.body.trim_end()),
    }
}

/// The contract's refusal. Of its message the first sentence: the others name what differs from run to run, the key's
/// fingerprint and the day.
fn refusal(reply: &Reply) -> Result<String, DemoError> {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let field = |name: &str| body.pointer(&format!("/error/{name}")).cloned().unwrap_or_default();
    let kind = field("type");
    if kind != "budget_exceeded" || reply.should_retry != "false" {
        return Err(unexpected("swarm", reply));
    }
    let message = field("message");
    let message = message.as_str().and_then(|message| message.split(". ").next());
    let shown = json!({"type": kind, "message": message, "daily_spent": field("daily_spent"),
        "daily_limit": field("daily_limit")});
    Ok(format!("               429 {shown}\n"))
}

/// What the demo shows of an entry.
#[derive(Deserialize)]
struct Row {
    agent: String,
    task: String,
    model: String,
    stream: bool,
    usage: BTreeMap<String, u64>,
    held_usd: Usd,
    cost_usd: Usd,
}

fn entries_table(entries: &Entries, style: Style) -> Result<String, DemoError> {
    let mut rows: Vec<Row> = Vec::new();
    for entry in &entries.entries {
        let row = serde_json::from_str(entry.get());
        let row: Row = row.map_err(|error| DemoError::Unexpected(format!("an entry that does not read: {error}")))?;
        if row.held_usd < row.cost_usd {
            let text = format!("{} cost {} and only {} was held", row.agent, row.cost_usd, row.held_usd);
            return Err(DemoError::Unexpected(text));
        }
        rows.push(row);
    }
    // By agent; the agents ran at once. Within one the order of settling stays.
    rows.sort_by(|one, other| one.agent.cmp(&other.agent));
    let mut table = Table::new([
        "AGENT",
        "TASK",
        "MODEL",
        "STREAM",
        "INPUT",
        "CACHE READ",
        "CACHE WRITE",
        "OUTPUT",
        "COST (USD)",
    ]);
    for row in rows {
        let count = |kind: &str| row.usage.get(kind).copied().unwrap_or(0);
        table.row::<Cell>([
            row.agent.as_str().into(),
            row.task.as_str().into(),
            row.model.as_str().into(),
            if row.stream { "yes" } else { "no" }.into(),
            count("input").into(),
            count("cache_read").into(),
            count("cache_write_5m").into(),
            count("output").into(),
            Cell::Usd(row.cost_usd, 6),
        ]);
    }
    Ok(table.render(style))
}

/// The gateway is down now: the journal is read from its files.
fn verified(out: &mut dyn Write, config: &Config) -> Result<(), DemoError> {
    let client = Client::open(config)?.ok_or_else(|| DemoError::Unexpected("there is no ledger".to_owned()))?;
    let verified: Verified = client.call("ledger.verify", &json!({}))?;
    if !verified.ok || verified.open_holds != 0 {
        let damage = verified.damage.join("; ");
        return Err(DemoError::Unexpected(format!(
            "{} open holds; {damage}",
            verified.open_holds
        )));
    }
    let entries = verified.entries;
    say(
        out,
        &format!("\n$ agentledger verify\n\nOK: {entries} entries, no open hold, every link of the hash chain fits\n"),
    )
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Folder> {
        let mut parent = std::env::temp_dir();
        if parent.as_os_str().len() > SOCKET_DIR_BYTES_MAX {
            parent = PathBuf::from("/tmp");
        }
        let path = parent.join(format!("agentledger-demo-{}", ulid::Ulid::new()));
        std::fs::create_dir(&path)?;
        Ok(Folder(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_demo_is_the_same_each_time_and_its_sums_are_right() {
        let text = || {
            let mut out = Vec::new();
            show(&mut out, Style::PLAIN).unwrap_or_else(|error| panic!("{error}"));
            String::from_utf8(out).unwrap()
        };
        let first = text();
        // 3 × (826 × 2.5 + 1,024 × 0.25 + 320 × 15) USD per million.
        assert!(
            first.contains("\nresearcher   3          5550           960             $0.0214\n"),
            "{first}"
        );
        // (240 × 3 + 410 × 15) × 3 + 12,000 × 3.75 + 2 × 12,000 × 0.3.
        assert!(
            first.contains("\ncoder        3          36720          1230            $0.0728\n"),
            "{first}"
        );
        // 3 × (16 × 0.75 + 2,000 × 4.5): under 0.03, and a fourth would not be.
        assert!(
            first.contains("\nswarm        3          48             6000            $0.0270\n"),
            "{first}"
        );
        assert!(first.contains("3 answers of 8; 5 refusals"), "{first}");
        assert_eq!(first, text());
    }

    #[test]
    fn a_folder_goes_with_its_content() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
