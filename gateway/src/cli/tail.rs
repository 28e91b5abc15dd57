//! `agentledger tail`: what happens, as it happens. A connection that breaks off is made again, and what may have been missed
//! meanwhile is said.

use std::io::{self, Write};
use std::time::Duration;

use agentledger_ledger::Usd;
use clap::{Args, ValueEnum};
use http::Uri;
use serde_json::{Map, Value, json};

use super::CliError;
use super::aliases;
use super::ask::{AskArgs, Elsewhere, params};
use super::client::{Address, ClientError, post, runtime};
use super::form::Form;
use super::style::{Style, Tone, printable};
use super::view::{fields, named};
use crate::config::{KeyAliases, is_fingerprint};
use crate::control::contract_forms::fixed;
use crate::control::{Feed, FollowError, follow};
use crate::thousands::thousands;

/// Waits between attempts to reach a gateway that was there, the last one over and over.
const RETRY_AFTER: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// What to follow
    #[arg(default_value = "entries")]
    what: What,
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    provider: String,
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    model: String,
    /// A fingerprint, its first digits, or an alias
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    key: String,
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    tenant: String,
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    agent: String,
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    session: String,
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// Alerts of this type
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
    /// Changes of what begins so: rule:, price:openai/, provider:
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
}

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Requests as they are settled
    Entries,
    /// Holds as they are placed, extended and ended
    Holds,
    /// Sessions as they begin and end
    Sessions,
    /// Alerts
    Alerts,
    /// Rules as they are changed
    Rules,
}

impl What {
    const fn method(self) -> &'static str {
        match self {
            What::Entries => "ledger.tail",
            What::Holds => "hold.changes",
            What::Sessions => "session.changes",
            What::Alerts => "alert.feed",
            What::Rules => "rule.changes",
        }
    }
}

/// Prints items until it is interrupted, or the gateway refuses.
pub fn run(args: &TailArgs, elsewhere: &Elsewhere) -> Result<(), CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    if ask.form() == Form::Csv {
        let text = "what happens has no columns of its own: --json prints one object a line".to_owned();
        return Err(ClientError::Usage(text).into());
    }
    let address = ask.target.address()?;
    let is_json = ask.form() != Form::Table;
    let tail = Tail {
        what: args.what,
        // Programs know keys by their fingerprints.
        aliases: if is_json { KeyAliases::new() } else { ask.aliases() },
        filters: filters(args),
        address,
        style: ask.style,
        json: is_json,
    };
    runtime()?.block_on(tail.run())
}

fn filters(args: &TailArgs) -> Map<String, Value> {
    params([
        ("provider", args.provider.as_str().into()),
        ("model", args.model.as_str().into()),
        ("key", args.key.as_str().into()),
        ("tenant", args.tenant.as_str().into()),
        ("agent", args.agent.as_str().into()),
        ("session", args.session.as_str().into()),
        ("user", args.user.as_str().into()),
        ("type", args.kind.as_str().into()),
        ("subject", args.subject.as_str().into()),
    ])
}

struct Tail {
    what: What,
    filters: Map<String, Value>,
    aliases: KeyAliases,
    address: Address,
    style: Style,
    json: bool,
}

impl Tail {
    async fn run(&self) -> Result<(), CliError> {
        let mut feed = self.subscribe().await?;
        let mut last_at = String::new();
        loop {
            while let Some(item) = feed.next().await {
                if let Some(missed) = item.get("lagged").and_then(Value::as_u64) {
                    let missed = thousands(missed);
                    self.say(&format!("{missed} were missed: they came faster than they were read"));
                    break;
                }
                if let Some(at) = item.get("at").and_then(Value::as_str) {
                    at.clone_into(&mut last_at);
                }
                self.print(&item)?;
            }
            feed = self.again(&last_at).await?;
        }
    }

    /// Subscribes once more, as often as it takes.
    async fn again(&self, last_at: &str) -> Result<Feed, CliError> {
        let mut waits = RETRY_AFTER.iter();
        let mut wait = Duration::ZERO;
        let mut is_said = false;
        loop {
            wait = waits.next().copied().unwrap_or(wait);
            tokio::time::sleep(wait).await;
            match self.subscribe().await {
                Ok(feed) => {
                    let since = if last_at.is_empty() {
                        String::new()
                    } else {
                        format!(" after {last_at}")
                    };
                    self.say(&format!(
                        "it goes on; what happened{since} and before now may be missing"
                    ));
                    return Ok(feed);
                }
                Err(ClientError::Unreachable { text, .. } | ClientError::Transport { text, .. }) => {
                    if !is_said {
                        self.say(&format!("the gateway is gone ({text}), and tried again"));
                        is_said = true;
                    }
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    async fn subscribe(&self) -> Result<Feed, ClientError> {
        subscribe(&self.address, self.what.method(), self.filters.clone()).await
    }

    /// On standard error, so that what is printed stays what happened.
    fn say(&self, text: &str) {
        let name = Style::of_stderr().paint(Tone::Warning, "tail");
        // Nothing can be done where even this cannot be printed.
        let _ = writeln!(io::stderr(), "{name}: {text}");
    }

    fn print(&self, item: &Value) -> Result<(), CliError> {
        let text = if self.json { item.to_string() } else { self.line(item) };
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    fn line(&self, item: &Value) -> String {
        let mut item = item.clone();
        aliases::put_in(&self.aliases, &mut item);
        let item = &item;
        match self.what {
            What::Entries => match item.get("entry") {
                Some(entry) => entry_line(entry, self.style),
                None => other_line(item, self.style),
            },
            _ => other_line(item, self.style),
        }
    }
}

/// Follows what a method says of what happens.
pub(super) async fn subscribe(
    address: &Address,
    method: &str,
    filters: Map<String, Value>,
) -> Result<Feed, ClientError> {
    let named = address.to_string();
    let connection = address.connect().await;
    let connection = connection.map_err(|error| ClientError::Unreachable {
        address: named.clone(),
        text: error.why,
    })?;
    let uri = Uri::builder()
        .scheme("ws")
        .authority(address.authority())
        .path_and_query(address.path())
        .build();
    let uri = uri.map_err(|error| ClientError::Usage(error.to_string()))?;
    match follow(connection, &uri, address.headers(), method, filters).await {
        Ok(feed) => Ok(feed),
        Err(FollowError::Refused { code, word, text }) => Err(ClientError::Refused {
            code,
            word,
            message: text,
        }),
        Err(FollowError::Broken(text)) => Err(ClientError::Transport { address: named, text }),
        // A handshake that is refused tells no reason; an ordinary request, which is refused alike, does.
        Err(FollowError::Handshake(text)) => {
            let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
            post(address, request.to_string()).await?;
            Err(ClientError::Transport { address: named, text })
        }
    }
}

fn text<'v>(item: &'v Value, name: &str) -> &'v str {
    item.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// When, what, who, how many tokens, at what cost, and how it ended.
fn entry_line(entry: &Value, style: Style) -> String {
    let usage = entry.get("usage").and_then(Value::as_object);
    let tokens = |fits: fn(&str) -> bool| {
        let counts = usage.into_iter().flatten().filter(|(kind, _)| fits(kind));
        let sum: u64 = counts.filter_map(|(_, count)| count.as_u64()).sum();
        thousands(sum)
    };
    let read = tokens(|kind| kind.contains("input") || kind.contains("cache"));
    let written = tokens(|kind| kind.contains("output"));
    let cost = text(entry, "cost_usd")
        .parse::<Usd>()
        .map_or_else(|_| "-".to_owned(), |usd| format!("${}", thousands(fixed(usd, 6))));
    let outcome = text(entry, "outcome");
    let tone = match outcome {
        "completed" => Tone::Good,
        "client_gone" | "recovered" => Tone::Warning,
        _ => Tone::Bad,
    };
    let status = entry.get("status").and_then(Value::as_u64).unwrap_or_default();
    // A key that has a name; any other is too long for one line beside the rest.
    let is_shown =
        |field: &&str| !text(entry, field).is_empty() && (*field != "key" || !is_fingerprint(text(entry, field)));
    let who = ["key", "agent", "session", "user", "tenant"]
        .into_iter()
        .filter(is_shown);
    let who: Vec<String> = who.map(|field| format!("{field}={}", text(entry, field))).collect();
    format!(
        "{}  {:<32}  {:>9} in {:>7} out  {cost:>12}  {} {}  {}",
        style.paint(Tone::Faint, text(entry, "at")),
        printable(&format!("{}/{}", text(entry, "provider"), named(text(entry, "model")))),
        read,
        written,
        status,
        style.paint(tone, &printable(outcome)),
        printable(&who.join(" ")),
    )
    .trim_end()
    .to_owned()
}

/// When, and each field that has anything.
fn other_line(item: &Value, style: Style) -> String {
    let mut rest = item.clone();
    if let Some(rest) = rest.as_object_mut() {
        rest.remove("at");
        rest.remove("sequence");
    }
    let plain = Style::default();
    let words: Vec<String> = fields(&rest, plain)
        .lines()
        .map(|line| {
            line.split_once("   ").map_or_else(
                || line.to_owned(),
                |(name, value)| format!("{}={}", name.trim(), value.trim()),
            )
        })
        .collect();
    format!("{}  {}", style.paint(Tone::Faint, text(item, "at")), words.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = json!({
            "at": "2026-11-29T20:00:00.000Z", "provider": "openai", "model": "gpt-4o", "agent": "a\nb",
            "usage": {"input": 1_000, "cache_read": 200, "output": 30, "web_search": 2}, "cost_usd": "0.0125",
            "status": 200, "outcome": "completed",
        });
        let line = entry_line(&entry, Style::PLAIN);
        assert_eq!(
            line,
            "2026-11-29T20:00:00.000Z  openai/gpt-4o                         1,200 in      30 out     $0.012500  200 completed  agent=a?b"
        );
    }

    #[test]
    fn other_items_are_their_fields() {
        let item = json!({"sequence": 7, "at": "T", "subject": "rule:1", "after": {"limit": 5}, "note": ""});
        let line = other_line(&item, Style::PLAIN);
        assert_eq!(line, "T  after={\"limit\":5} subject=rule:1");
    }
}
