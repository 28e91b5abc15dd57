//! The methods that decide the past's requests again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jsonrpsee::server::RegisterMethodError;
use ulid::Ulid;

use crate::config::Config;
use crate::control::error::RpcError;
use crate::control::ledger_view::LedgerView;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::Span;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::policy::{PolicySet, Source};
use crate::price::PriceBook;
use crate::replay::candidate::{Amendment, Present};
use crate::replay::explain::explain;
use crate::replay::jobs::Job;
use crate::replay::prices::ReplayPrices;
use crate::replay::run::{Candidate, Mode, Request, Visit, replay};
use crate::runtime::source;

/// How far back a replay goes where nothing is said.
const REPLAY_LAST_DEFAULT: &str = "7d";

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "policy.replay",
            Role::Read,
            Scope::Whole,
            "Decides the past's requests again, beside the gateway's work: begins a replay, or says how one stands.",
            r#"{"mode": "simulated", "candidate": {"name": "a tighter budget", "confs": {"budget": {"default": {"daily_limit_usd": 5}}}}, "last": "7d"}"#,
        ),
        start,
    )?;
    table.add(
        Method::new(
            "policy.explain",
            Role::Read,
            Scope::Whole,
            "Why a past request got its verdict, policy by policy.",
            r#"{"id": "01J0000000000000000000000A"}"#,
        ),
        explained,
    )
}

/// What is in force, the past's decisions and how a replay stands are for every reader; to try something else takes the machine's
/// time, and ends others' replays.
fn may(call: &Call, asked: &wire::ReplayParams) -> Result<(), RpcError> {
    let is_plain = |candidate: &wire::ReplayCandidate| {
        let plain = wire::ReplayCandidate {
            name: candidate.name.clone(),
            ..wire::ReplayCandidate::default()
        };
        *candidate == plain
    };
    let is_reading = !asked.cancel && is_plain(&asked.candidate) && asked.against.as_ref().is_none_or(is_plain);
    match is_reading || call.caller.role >= Role::Operate {
        true => Ok(()),
        false => Err(RpcError::Forbidden),
    }
}

fn start(state: &ControlState, call: &Call, mut asked: wire::ReplayParams) -> Result<wire::ReplayState, RpcError> {
    may(call, &asked)?;
    if asked.cancel && asked.job.is_empty() {
        let running = state.replays.running();
        let running = running.ok_or_else(|| RpcError::NotFound("no replay runs".to_owned()))?;
        asked.job = running.id.to_string();
    }
    if !asked.job.is_empty() {
        let unknown = || RpcError::NotFound(format!("there is no replay {:?}", asked.job));
        let id = Ulid::from_string(&asked.job).map_err(|_| unknown())?;
        let job = if asked.cancel {
            state.replays.cancel(id)
        } else {
            state.replays.get(id)
        };
        return job.map(|job| state_of(&job)).ok_or_else(unknown);
    }
    let LedgerView::Live(ledger) = &state.ledger else {
        return Err(RpcError::NoGateway);
    };
    let (from_ms, to_ms) = span_of(&asked, state.ledger.now_ms())?;
    let _turn = state.replays.turn().map_err(RpcError::Conflict)?;
    let in_force = state.data_plane.in_force().ok_or(RpcError::NoGateway)?;
    let prices = state.data_plane.prices().ok_or(RpcError::NoGateway)?;
    let present = Present::of(&in_force.policies, &in_force.file, &in_force.parts);
    let mode = mode_of(&asked, &present, &prices_of(prices, &state.config.load()))?;
    let request = Request { from_ms, to_ms, mode };
    state.ledger.flush()?;
    let ledger = Arc::clone(ledger);
    let job = state
        .replays
        .start(move |progress| {
            progress.head.store(ledger.head().sequence, Ordering::Relaxed);
            let mut journal = |from_ms: i64, visit: &mut Visit<'_>| ledger.events(from_ms, visit);
            Ok(replay(request, &mut journal, progress))
        })
        .map_err(RpcError::Conflict)?;
    Ok(state_of(&job))
}

/// The time that is replayed, milliseconds since the epoch.
///
/// # Errors
/// It cannot be read.
pub fn span_of(asked: &wire::ReplayParams, now_ms: i64) -> Result<(i64, i64), RpcError> {
    Span::new(&asked.last, &asked.from, &asked.to).ms(now_ms, Some(REPLAY_LAST_DEFAULT))
}

fn state_of(job: &Job) -> wire::ReplayState {
    let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let (name, error, result) = match &job.result {
        None => ("running", String::new(), None),
        Some(Ok(replayed)) => ("done", String::new(), Some(wire::Replayed::clone(replayed))),
        Some(Err(error)) => ("failed", error.clone(), None),
    };
    wire::ReplayState {
        job: job.id.to_string(),
        state: name.to_owned(),
        events: of(&job.progress.events),
        decisions: of(&job.progress.decisions),
        events_in_all: of(&job.progress.events_in_all),
        error,
        result,
    }
}

/// The book, with the names that providers have in it.
pub fn prices_of(book: PriceBook, config: &Config) -> ReplayPrices {
    let books: BTreeMap<String, String> = config
        .providers
        .iter()
        .map(|provider| (provider.name.clone(), provider.book.clone()))
        .collect();
    ReplayPrices::new(book, books)
}

/// What is requested, made ready.
///
/// # Errors
/// What does not fit, by its path.
pub fn mode_of(asked: &wire::ReplayParams, present: &Present, prices: &ReplayPrices) -> Result<Mode, RpcError> {
    let unfit = |path: &str, text: String| RpcError::Unfit {
        path: path.to_owned(),
        text,
    };
    let candidate = |given: &wire::ReplayCandidate, path: &str| -> Result<(Amendment, Candidate), RpcError> {
        let files: Vec<(String, String)> = (0..)
            .zip(&given.prices)
            .map(|(at, text): (usize, _)| (format!("prices[{at}]"), text.clone()))
            .collect();
        let amendment = amendment_of(given, present, path)?;
        let candidate = Candidate {
            name: given.name.clone(),
            set: present
                .with(&amendment)
                .map_err(|text| unfit(path, format!("does not fit: {text}")))?,
            prices: prices
                .with(&files)
                .map_err(|text| unfit(&format!("{path}.prices"), text))?,
        };
        Ok((amendment, candidate))
    };
    match (asked.mode.as_str(), &asked.against) {
        ("exact", None) => {
            // What cannot be loaded is said now, not of each decision.
            let (amendment, _) = candidate(&asked.candidate, "candidate")?;
            Ok(Mode::Exact((!amendment.is_empty()).then_some(amendment)))
        }
        ("" | "simulated", None) => Ok(Mode::Simulated(candidate(&asked.candidate, "candidate")?.1)),
        ("diff", Some(against)) => {
            let (_, one) = candidate(&asked.candidate, "candidate")?;
            let (_, other) = candidate(against, "against")?;
            Ok(Mode::Diff(Box::new((one, other))))
        }
        ("diff", None) => Err(unfit("against", "is missing".to_owned())),
        ("exact" | "simulated" | "", Some(_)) => Err(unfit("against", "is of diff".to_owned())),
        _ => Err(unfit("mode", "must be exact, simulated or diff".to_owned())),
    }
}

/// What a candidate puts in the place of what is in force.
fn amendment_of(given: &wire::ReplayCandidate, present: &Present, path: &str) -> Result<Amendment, RpcError> {
    let mut policies = Vec::new();
    for (at, policy) in given.policies.iter().enumerate() {
        let unfit = |text: String| RpcError::Unfit {
            path: format!("{path}.policies[{at}]"),
            text,
        };
        match (policy.text.as_str(), policy.version.as_str()) {
            ("", "") if present.has(&policy.name) => {}
            ("", "") => return Err(unfit(format!("is not in force: there is no policy {:?}", policy.name))),
            ("", hash) => policies.push(source(present.versions.find(&policy.name, hash)?)),
            (text, "") => {
                let mut source = Source {
                    name: policy.name.clone(),
                    text: text.to_owned(),
                    origin: format!("{}.lua", policy.name),
                };
                source.name = PolicySet::name_in(&source).map_err(|errors| {
                    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    unfit(format!("does not load:\n{}", all.join("\n")))
                })?;
                policies.push(source);
            }
            _ => return Err(unfit("has a text and a version: one of them is enough".to_owned())),
        }
    }
    Ok(Amendment {
        policies,
        confs: given.confs.clone(),
        confs_are_all: given.confs_are_all,
    })
}

fn explained(state: &ControlState, _: &Call, asked: wire::ExplainParams) -> Result<wire::ExplainedRequest, RpcError> {
    let id = Ulid::from_string(&asked.id).map_err(|_| RpcError::Unfit {
        path: "id".to_owned(),
        text: "is no id of an exchange".to_owned(),
    })?;
    state.ledger.flush()?;
    let found = match &state.ledger {
        LedgerView::Live(ledger) => explain(id, &mut |from_ms, visit| ledger.events(from_ms, visit)),
        LedgerView::Offline(ledger) => explain(id, &mut |from_ms, visit| ledger.events(from_ms, visit)),
    };
    let found = found.map_err(RpcError::LedgerFailed)?;
    found.ok_or_else(|| {
        RpcError::NotFound(format!(
            "the journal has no entry and no recorded refusal {id}: of refusals, the first of each account, code and minute are recorded"
        ))
    })
}
