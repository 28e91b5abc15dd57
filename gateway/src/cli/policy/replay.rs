//! `agentledger policy replay` and `policy diff`: the past's requests decided again, by a running gateway beside its work, else
//! here, from the journal, also one that is too damaged to be opened.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use agentledger_ledger as ledger;
use agentledger_ledger::{Clock, OfflineLedger, Retention, SystemClock};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::ask::{Ask, Target};
use crate::cli::client::{Address, Client, ClientError};
use crate::cli::progress::Progress;
use crate::cli::view::{Column, Is, View};
use crate::cli::{CliError, Done};
use crate::config::{Config, Env};
use crate::control::methods::replay::{mode_of, prices_of, span_of};
use crate::control::wire::{ReplayCandidate, ReplayParams, ReplayPolicy, ReplayState, Replayed};
use crate::files;
use crate::launch;
use crate::replay::candidate::Present;
use crate::replay::run::{self, Request};
use crate::runtime::{Parts, documents_of};

/// How often a running gateway is asked how far it is.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// Longest policy file that is sent.
const POLICY_BYTES_MAX: u64 = 1 << 20;

/// Which time is replayed.
#[derive(Debug, Args)]
pub struct SpanArgs {
    /// A stretch of time up to now: 24h, 7d (default), 4w
    #[arg(long)]
    last: Option<String>,
    /// From this time on, RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time, which is excluded
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// A configuration file, whose policies' confs are tried
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// A price file: every call is priced anew
    #[arg(long, value_name = "FILE")]
    prices: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A policy file to try, a version of the store (NAME@HASH, its beginning is enough), or the name of a policy that is in
    /// force; without it all that are
    #[arg(value_name = "FILE|NAME[@HASH]")]
    policy: Option<String>,
    #[command(flatten)]
    span: SpanArgs,
    /// With what each decision read then: it must come out as it is recorded
    #[arg(long, conflicts_with = "simulated")]
    exact: bool,
    /// End the replay that the gateway runs
    #[arg(long, conflicts_with_all = ["policy", "exact", "simulated"])]
    cancel: bool,
    /// On a ledger of its own: what would have been denied, clamped, routed, delayed, cut and saved (default)
    #[arg(long)]
    simulated: bool,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A policy file, a version of the store (NAME@HASH), or the name of a policy that is in force
    #[arg(value_name = "A")]
    one: String,
    /// What it is compared with
    #[arg(value_name = "B")]
    other: String,
    #[command(flatten)]
    span: SpanArgs,
}

pub fn replay(ask: &Ask, args: &ReplayArgs) -> Result<Done, CliError> {
    if args.cancel {
        let given = ReplayParams {
            cancel: true,
            ..ReplayParams::default()
        };
        let client = gateway(ask)?.ok_or(ClientError::NoGateway)?;
        let state: ReplayState = client.call("policy.replay", &given)?;
        return Ok(Done::well(format!("replay {} ends\n", state.job)));
    }
    let mode = if args.exact { "exact" } else { "simulated" };
    let given = ReplayParams {
        mode: mode.to_owned(),
        candidate: candidate(args.policy.as_deref(), &args.span)?,
        ..spanned(&args.span)
    };
    show(ask, &replayed(ask, &given)?)
}

pub fn diff(ask: &Ask, args: &DiffArgs) -> Result<Done, CliError> {
    let given = ReplayParams {
        mode: "diff".to_owned(),
        candidate: candidate(Some(&args.one), &args.span)?,
        against: Some(candidate(Some(&args.other), &args.span)?),
        ..spanned(&args.span)
    };
    show(ask, &replayed(ask, &given)?)
}

fn spanned(span: &SpanArgs) -> ReplayParams {
    ReplayParams {
        last: span.last.clone(),
        from: span.from.clone(),
        to: span.to.clone(),
        ..ReplayParams::default()
    }
}

/// What is tried: files are read here, for a gateway elsewhere does not have them.
fn candidate(policy: Option<&str>, span: &SpanArgs) -> Result<ReplayCandidate, CliError> {
    let read = |path: &Path, most: u64| {
        files::read_text(path, most).map_err(|error| ClientError::Usage(format!("{}: {error}", path.display())))
    };
    let mut candidate = ReplayCandidate {
        name: policy.unwrap_or("what is in force").to_owned(),
        ..ReplayCandidate::default()
    };
    if let Some(policy) = policy {
        let path = Path::new(policy);
        candidate.policies.push(if is_file(path) {
            ReplayPolicy {
                name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                text: read(path, POLICY_BYTES_MAX)?,
                ..ReplayPolicy::default()
            }
        } else {
            let (name, version) = policy.split_once('@').unwrap_or((policy, ""));
            ReplayPolicy {
                name: name.to_owned(),
                version: version.to_owned(),
                ..ReplayPolicy::default()
            }
        });
    }
    if let Some(path) = &span.conf {
        let given = launch::read(Some(path), &Env::of_process())?;
        (candidate.confs, candidate.confs_are_all) = (given.confs, true);
    }
    for path in &span.prices {
        candidate.prices.push(read(path, files::TEXT_BYTES_MAX)?);
    }
    Ok(candidate)
}

fn is_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lua") || path.components().count() > 1
}

/// The gateway that is meant; `None`: none runs here.
fn gateway(ask: &Ask) -> Result<Option<Client>, CliError> {
    Ok(match &ask.target {
        Target::Here(config) => Client::gateway(config)?,
        Target::Elsewhere(remote) => Some(Client::at(Address::Remote(remote.clone()))?),
    })
}

fn replayed(ask: &Ask, given: &ReplayParams) -> Result<Replayed, CliError> {
    match (gateway(ask)?, &ask.target) {
        (Some(client), _) => by_gateway(&client, given),
        (None, Target::Here(config)) => here(config, given),
        (None, Target::Elsewhere(_)) => Err(ClientError::NoGateway.into()),
    }
}

/// A running gateway replays its own journal.
fn by_gateway(client: &Client, given: &ReplayParams) -> Result<Replayed, CliError> {
    let mut progress = Progress::new("replay");
    let mut state: ReplayState = client.call("policy.replay", given)?;
    let poll = ReplayParams {
        job: state.job.clone(),
        ..ReplayParams::default()
    };
    while state.state == "running" {
        thread::sleep(POLL_EVERY);
        state = client.call("policy.replay", &poll)?;
        let count = |count: u64| usize::try_from(count).unwrap_or_default();
        progress.of(count(state.events), count(state.events_in_all), "events");
    }
    match state.result {
        Some(replayed) => Ok(replayed),
        None => Err(ClientError::Ledger(state.error).into()),
    }
}

/// No gateway runs: the journal is read here.
fn here(config: &Config, given: &ReplayParams) -> Result<Replayed, CliError> {
    let dir = &config.storage.dir;
    if !dir.join("journal").is_dir() {
        return Err(ClientError::NoLedger(dir.clone()).into());
    }
    let refused = |error: crate::control::RpcError| CliError::from(ClientError::Usage(error.to_string()));
    let (from_ms, to_ms) = span_of(given, SystemClock::default().now_ms()).map_err(refused)?;
    let setup = launch::of_config(config.clone())?;
    let parts = match OfflineLedger::open(dir, Retention::default()) {
        Ok(Some(ledger)) => documents_of(&|prefix| ledger.documents(prefix)).map_err(ClientError::Ledger)?,
        // Too damaged to be opened: what it has is replayed all the same, by what the files say.
        Ok(None) => Parts::default(),
        Err(error) => {
            let said = "rules, prices and versions that were put at runtime are left out";
            let _ = writeln!(io::stderr(), "the ledger cannot be opened, and {said}: {error}");
            Parts::default()
        }
    };
    let (policies, prices) = launch::would_be_in_force(&setup, &parts)?;
    let present = Present::of(&policies, &setup.confs, &parts);
    let mode = mode_of(given, &present, &prices_of(prices, config)).map_err(refused)?;
    let request = Request { from_ms, to_ms, mode };
    let (state, mut shown) = (run::Progress::default(), Progress::new("replay"));
    let mut failed = None;
    let replayed = run::replay(
        request,
        &mut |from_ms, visit| {
            let read = ledger::journal_events(dir, from_ms, |sequence, event| {
                let events = state.events.load(Ordering::Relaxed);
                shown.at(usize::try_from(events).unwrap_or_default(), "events");
                visit(sequence, event)
            });
            match read {
                Ok(read) => read,
                Err(error) => {
                    failed = Some(error.to_string());
                    Ok(())
                }
            }
        },
        &state,
    );
    match failed {
        Some(error) => Err(ClientError::Ledger(error).into()),
        None => Ok(replayed),
    }
}

fn show(ask: &Ask, replayed: &Replayed) -> Result<Done, CliError> {
    Ok(Done {
        text: ask.show(replayed, |value| text(value, replayed, ask))?,
        well: replayed.is_well(),
    })
}

/// `value` is the result with the names that keys have.
fn text(value: &Value, replayed: &Replayed, ask: &Ask) -> String {
    let mut text = format!(
        "{} decisions from {} to {}, {} events read\n",
        replayed.decisions, replayed.from, replayed.to, replayed.events
    );
    if let Some(stopped) = &replayed.stopped {
        let month = if stopped.month.is_empty() {
            String::new()
        } else {
            format!(" of {}", stopped.month)
        };
        text += &format!(
            "STOPPED: the journal{month} could be read up to event {}: {}\n",
            stopped.after_sequence, stopped.reason
        );
    }
    if replayed.refusals_not_recorded > 0 {
        text += &format!(
            "{} refusals were counted and not recorded one by one\n",
            replayed.refusals_not_recorded
        );
    }
    for undecidable in &replayed.undecidable {
        text += &format!(
            "{} undecidable: {} (as {})\n",
            undecidable.count, undecidable.why, undecidable.example
        );
    }
    if let Some(exact) = &replayed.exact {
        text += &format!("{} equal, {} different\n", exact.equal, exact.different);
        if exact.different > 0 {
            text += &DIFFERENCES.table(&value["exact"], ask.style);
        }
    }
    if replayed.simulated.is_some() {
        text += &simulated(&value["simulated"], ask);
    }
    if let Some(diff) = &replayed.diff {
        text += &format!("{} same, {} different\n", diff.same, diff.different);
        if diff.different > 0 {
            text += &KINDS.table(&value["diff"], ask.style);
            text += &DIFF_EXAMPLES.table(&value["diff"], ask.style);
        }
    }
    text
}

fn simulated(value: &Value, ask: &Ask) -> String {
    let mut rows = vec![named("all", &value["totals"])];
    let by: BTreeMap<String, Vec<Value>> = serde_json::from_value(value["by"].clone()).unwrap_or_default();
    for (dimension, of) in by {
        rows.extend(of.iter().map(|row| {
            let name = row["name"].as_str().unwrap_or_default();
            named(&format!("{dimension} {name}"), row)
        }));
    }
    let mut text = SUMS.table(&json!({ "rows": rows }), ask.style);
    text += &format!("people hit: {}\n", value["people_hit"]);
    let has_examples = value["examples"]
        .as_array()
        .is_some_and(|examples| !examples.is_empty());
    if has_examples {
        text += &EXAMPLES.table(value, ask.style);
    }
    for assumed in value["assumed"].as_array().into_iter().flatten() {
        text += &format!("assumed: {}\n", assumed.as_str().unwrap_or_default());
    }
    text
}

fn named(name: &str, row: &Value) -> Value {
    let mut row = row.clone();
    if let Value::Object(fields) = &mut row {
        fields.insert("name".to_owned(), name.into());
    }
    row
}

const DIFFERENCES: View = View::within(
    "differences",
    &[
        Column("ID", "id", Is::Text),
        Column("EVENT", "sequence", Is::Count),
        Column("AT", "at", Is::Text),
        Column("WHAT", "what", Is::Text),
        Column("RECORDED", "recorded", Is::Text),
        Column("REPLAYED", "replayed", Is::Text),
    ],
);

const SUMS: View = View::within(
    "rows",
    &[
        Column("OF", "name", Is::Text),
        Column("CALLS", "calls", Is::Count),
        Column("DENIED", "denied", Is::Count),
        Column("CLAMPED", "clamped", Is::Count),
        Column("ROUTED", "routed", Is::Count),
        Column("DELAYED", "delayed", Is::Count),
        Column("CUT", "cut", Is::Count),
        Column("NEWLY ALLOWED", "newly_allowed", Is::Count),
        Column("COST", "cost_usd", Is::Usd),
        Column("SIMULATED", "simulated_usd", Is::Usd),
        Column("SAVED", "saved_usd", Is::Usd),
    ],
);

const EXAMPLES: View = View::within(
    "examples",
    &[
        Column("ID", "id", Is::Text),
        Column("AT", "at", Is::Text),
        Column("KEY", "key", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("USER", "user", Is::Text),
        Column("MODEL", "model", Is::Text),
        Column("WAS", "was", Is::Text),
        Column("WOULD BE", "outcome", Is::Text),
        Column("COST", "cost_usd", Is::Usd),
        Column("SAVED", "saved_usd", Is::Usd),
    ],
);

const KINDS: View = View::within(
    "kinds",
    &[
        Column("A", "a", Is::Text),
        Column("B", "b", Is::Text),
        Column("CALLS", "count", Is::Count),
        Column("B SAVES", "saved_usd", Is::Usd),
    ],
);

const DIFF_EXAMPLES: View = View::within(
    "examples",
    &[
        Column("ID", "id", Is::Text),
        Column("AT", "at", Is::Text),
        Column("KEY", "key", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("MODEL", "model", Is::Text),
        Column("A", "a", Is::Text),
        Column("B", "b", Is::Text),
        Column("A COST", "a_usd", Is::Usd),
        Column("B COST", "b_usd", Is::Usd),
    ],
);
