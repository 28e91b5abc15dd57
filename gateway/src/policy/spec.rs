//! Specs: what a policy is to ask for on given facts, as a file beside it, run by `agentledger policy test`.
//!
//! ```lua
//! return {
//!   policy = "block",
//!   specs = {
//!     { name = "a leaked key is refused", conf = { keys = { "sk-leaked-*" } }, call = { key = "sk-leaked-1" },
//!       expect = { "deny 403 key_blocked: API key is blocked" } },
//!   },
//! }
//! ```
//!
//! `expect` is the verdict in words, whole and in order ([`Verdict::lines`]). Each spec is run on a fresh VM and again on the
//! one it used: a policy that remembers gives different answers, and fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{AccountBalances, Amounts, Name, Unit, Usd, Window, Zone};
use jiff::Timestamp;
use mlua::{LuaSerdeExt, Value};
use serde::Deserialize;

use super::balances::Balances;
use super::engine::{Engine, FailureCounts};
use super::event::{Event, Fact};
use super::facts::{CallFacts, CostEstimate};
use super::history::History;
use super::lines::alert_line;
use super::set::{Options, PolicyError, PolicySet, Source};
use super::verdict::Verdict;
use super::{folder, sandbox};
use crate::files;
use crate::secret::Secret;
use crate::timer::Timer;

/// Memory that reading a spec file may take.
const SPEC_MEMORY_BYTES_MAX: usize = 64 << 20;
/// What errors call specs that are kept with a version.
const SPECS: &str = "specs";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecFile {
    policy: String,
    specs: Vec<Spec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    name: String,
    #[serde(default)]
    conf: serde_json::Value,
    call: Option<CallSpec>,
    event: Option<BTreeMap<String, serde_json::Value>>,
    /// `account window` or `account window unit`, as numbers of the unit.
    #[serde(default)]
    spent: BTreeMap<String, f64>,
    /// `account` or `account unit`.
    #[serde(default)]
    held: BTreeMap<String, f64>,
    expect: Option<Vec<String>>,
    /// Part of the error with which the conf is refused, or the policy fails.
    fails: Option<String>,
}

/// A call's facts; what is left out is as on an ordinary call.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CallSpec {
    key: String,
    fingerprint: String,
    at: String,
    zone: String,
    provider: String,
    dialect: String,
    operation: String,
    model: String,
    /// Left out: the model alone.
    models: Vec<String>,
    any_model: bool,
    stream: bool,
    max_output: Option<u64>,
    claim: String,
    tenant: String,
    agent: String,
    session: String,
    user: String,
    task: String,
    path: String,
    tags: BTreeMap<String, String>,
    input_tokens: u64,
    output_tokens: u64,
    estimated_usd: f64,
    priced: bool,
    free: bool,
    /// Of its session: fields of `call.history`, as numbers. Left out: a call without a session.
    history: Option<BTreeMap<String, f64>>,
}

impl Default for CallSpec {
    fn default() -> CallSpec {
        CallSpec {
            key: "sk-test-1".to_owned(),
            fingerprint: "f1".to_owned(),
            at: "2026-03-01T12:00:00Z".to_owned(),
            zone: "UTC".to_owned(),
            provider: "openai".to_owned(),
            dialect: "openai".to_owned(),
            operation: "chat".to_owned(),
            model: "gpt-4o".to_owned(),
            models: Vec::new(),
            any_model: false,
            stream: false,
            max_output: None,
            claim: String::new(),
            tenant: String::new(),
            agent: String::new(),
            session: String::new(),
            user: String::new(),
            task: String::new(),
            path: "/v1/chat/completions".to_owned(),
            tags: BTreeMap::new(),
            input_tokens: 100,
            output_tokens: 1_000,
            estimated_usd: 0.01,
            priced: true,
            free: false,
            history: None,
        }
    }
}

/// How one spec came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub file: PathBuf,
    pub spec: String,
    /// What is wrong; `None` for well.
    pub fault: Option<String>,
}

/// Runs the specs in `DIR/spec/*.lua` on the policies of the folder, and on built-in ones that it does not replace.
///
/// # Errors
/// Files that cannot be read, or are no spec files.
pub fn test_folder(dir: &Path) -> Result<Vec<Outcome>, Vec<PolicyError>> {
    let sources = folder::sources(Some(dir))?;
    let fault = |file: &Path, message: String| PolicyError {
        file: file.display().to_string(),
        line: None,
        message,
    };
    let folder = dir.join("spec");
    let listing = std::fs::read_dir(&folder).map_err(|error| vec![fault(&folder, error.to_string())])?;
    let mut files: Vec<PathBuf> = listing.filter_map(|item| Some(item.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "lua"));
    files.sort();
    let (mut outcomes, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match read(&file, &sources) {
            Ok((source, specs)) => outcomes.extend(specs.into_iter().map(|spec| Outcome {
                file: file.clone(),
                fault: run(source, &spec).err(),
                spec: spec.name,
            })),
            Err(message) => errors.push(fault(&file, message)),
        }
    }
    if errors.is_empty() { Ok(outcomes) } else { Err(errors) }
}

/// Checks that a text has specs of a policy.
///
/// # Errors
/// What is wrong with it.
pub fn check_text(policy: &str, specs: &str) -> Result<(), String> {
    specs_of(policy, specs).map(drop)
}

/// Runs the specs of a text on a policy. One that takes too long fails by name, as those after it do.
///
/// # Errors
/// The text has no specs of the policy.
pub fn test_text(source: &Source, specs: &str, within: Duration) -> Result<Vec<Outcome>, String> {
    let specs = specs_of(&source.name, specs)?;
    let started = Timer::start();
    let outcomes = specs.into_iter().map(|spec| {
        let is_late = started.elapsed() > within;
        let late = || {
            Err(format!(
                "it was not run: the specs before it took longer than {} s",
                within.as_secs()
            ))
        };
        let outcome = if is_late { late() } else { run(source, &spec) };
        Outcome {
            file: PathBuf::from(SPECS),
            fault: outcome.err(),
            spec: spec.name,
        }
    });
    Ok(outcomes.collect())
}

fn specs_of(policy: &str, specs: &str) -> Result<Vec<Spec>, String> {
    let read = parse(specs, SPECS)?;
    if read.policy != policy {
        return Err(format!(
            "the specs are of the policy {:?}, and not of {policy:?}",
            read.policy
        ));
    }
    Ok(read.specs)
}

fn read<'s>(file: &Path, sources: &'s [Source]) -> Result<(&'s Source, Vec<Spec>), String> {
    let text = files::read_text(file, folder::FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let read = parse(&text, &file.display().to_string())?;
    let source = sources.iter().find(|source| source.name == read.policy);
    let source = source.ok_or_else(|| format!("there is no policy {:?}", read.policy))?;
    Ok((source, read.specs))
}

fn parse(text: &str, origin: &str) -> Result<SpecFile, String> {
    let plain = |error: mlua::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let (lua, watch) = sandbox::open(SPEC_MEMORY_BYTES_MAX).map_err(plain)?;
    watch.start(Options::default().deadline.saturating_mul(20));
    let chunk = lua.load(text).set_name(format!("={origin}"));
    let value: Value = chunk.eval().map_err(plain)?;
    lua.from_value(value).map_err(plain)
}

fn run(source: &Source, spec: &Spec) -> Result<(), String> {
    let confs = match &spec.conf {
        serde_json::Value::Null => BTreeMap::new(),
        conf => BTreeMap::from([(source.name.clone(), conf.clone())]),
    };
    let set = match PolicySet::load(vec![source.clone()], &confs, Options::default()) {
        Ok(set) => set,
        Err(errors) => {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return expected_failure(spec, &all.join("\n"));
        }
    };
    let engine = Engine::new(Arc::new(FailureCounts::default()));
    let fresh = ask(&engine, &set, spec)?;
    let reused = ask(&engine, &set, spec)?;
    if fresh != reused {
        return Err(format!(
            "it remembers: asked again it gives another answer\n  first {fresh:?}\n  then  {reused:?}"
        ));
    }
    match (fresh, &spec.expect, &spec.fails) {
        (Err(failure), _, _) => expected_failure(spec, &failure),
        (Ok(lines), None, Some(fails)) => Err(format!("expected a failure with {fails:?}, got {lines:?}")),
        (Ok(lines), Some(expected), None) if lines == *expected => Ok(()),
        (Ok(lines), Some(expected), None) => Err(format!("expected\n{}got\n{}", indented(expected), indented(&lines))),
        (Ok(_), _, _) => Err("a spec has either expect or fails".to_owned()),
    }
}

fn indented(lines: &[String]) -> String {
    if lines.is_empty() {
        return "  nothing\n".to_owned();
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

fn expected_failure(spec: &Spec, failure: &str) -> Result<(), String> {
    match &spec.fails {
        Some(fails) if failure.contains(fails.as_str()) => Ok(()),
        Some(fails) => Err(format!("expected a failure with {fails:?}, it failed with\n{failure}")),
        None => Err(failure.to_owned()),
    }
}

/// The verdict in words, or the failure. The outer error: the spec itself is wrong.
fn ask(engine: &Engine, set: &PolicySet, spec: &Spec) -> Result<Result<Vec<String>, String>, String> {
    let balances: Arc<dyn Balances> = Arc::new(Given {
        spent: spec.spent.clone(),
        held: spec.held.clone(),
    });
    if let Some(event) = &spec.event {
        let (alerts, failures) = engine.alert(set, read_event(event)?, &balances);
        return Ok(match failures.first() {
            Some(failure) => Err(failure.message.clone()),
            None => Ok(alerts.iter().map(alert_line).collect()),
        });
    }
    let Some(call) = &spec.call else {
        return Err("a spec needs a call or an event".to_owned());
    };
    Ok(
        ask_call(engine, set, call.clone(), &balances)?.map(|[bound, requested]| {
            let mut lines = bound.lines();
            lines.extend(requested.lines());
            lines
        }),
    )
}

/// Both phases of a call, the second on what the first bound.
fn ask_call(
    engine: &Engine,
    set: &PolicySet,
    mut call: CallSpec,
    balances: &Arc<dyn Balances>,
) -> Result<Result<[Verdict; 2], String>, String> {
    let at: Timestamp = call
        .at
        .parse()
        .map_err(|_| format!("call.at {:?} is no moment", call.at))?;
    let history = call.history.as_ref().map(History::given).transpose()?;
    let key = Secret::new(call.key.clone());
    let tags: BTreeMap<Name, Name> = call
        .tags
        .iter()
        .map(|(name, value)| (Name::from(name.as_str()), Name::from(value.as_str())))
        .collect();
    let bound = match engine.tenant(set, &call.facts(at, &key, &tags, history), balances) {
        Ok(bound) => bound,
        Err(failure) => return Ok(Err(failure.message)),
    };
    if bound.deny.is_some() {
        return Ok(Ok([bound, Verdict::default()]));
    }
    for (to, name) in [
        (&mut call.tenant, bound.binding.tenant.as_ref()),
        (
            &mut call.zone,
            bound.binding.zone.as_ref().map(agentledger_ledger::Zone::name),
        ),
        (&mut call.agent, bound.binding.agent.as_ref()),
        (&mut call.session, bound.binding.session.as_ref()),
        (&mut call.user, bound.binding.user.as_ref()),
        (&mut call.task, bound.binding.task.as_ref()),
    ] {
        if let Some(name) = name {
            *to = name.to_string();
        }
    }
    let requested = engine.request(set, &call.facts(at, &key, &tags, history), balances);
    Ok(requested
        .map(|requested| [bound, requested])
        .map_err(|failure| failure.message))
}

impl CallSpec {
    fn facts<'a>(
        &'a self,
        at: Timestamp,
        key: &'a Secret<String>,
        tags: &'a BTreeMap<Name, Name>,
        history: Option<History>,
    ) -> CallFacts<'a> {
        let usd = nanos(self.estimated_usd);
        CallFacts {
            at_ms: at.as_millisecond(),
            zone: &self.zone,
            provider: &self.provider,
            dialect: &self.dialect,
            operation: &self.operation,
            model: &self.model,
            models: match self.models.as_slice() {
                [] => std::slice::from_ref(&self.model),
                named => named,
            },
            any_model: self.any_model,
            stream: self.stream,
            max_output: self.max_output,
            key,
            fingerprint: &self.fingerprint,
            claim: &self.claim,
            tenant: &self.tenant,
            agent: &self.agent,
            session: &self.session,
            user: &self.user,
            task: &self.task,
            path: &self.path,
            tags,
            estimate: CostEstimate {
                input_tokens: self.input_tokens,
                output_tokens: self.output_tokens,
                usd: Usd::from_nanos(usd),
                output_usd: Usd::from_nanos(usd / 2),
            },
            priced: self.priced,
            free: self.free,
            history,
        }
    }
}

/// Balances as the spec gives them; 0 where it says nothing.
struct Given {
    spent: BTreeMap<String, f64>,
    held: BTreeMap<String, f64>,
}

fn counted(of: &BTreeMap<String, f64>, what: &str, unit: Unit) -> i64 {
    let usd = (unit == Unit::Usd).then(|| of.get(what)).flatten();
    let found = usd.or_else(|| of.get(&format!("{what} {}", unit.name())));
    // A spec's numbers are its author's own; no money is summed here.
    #[allow(clippy::cast_possible_truncation)]
    match (found, unit) {
        (Some(amount), Unit::Usd) => nanos(*amount),
        (Some(count), _) => *count as i64,
        (None, _) => 0,
    }
}

#[allow(clippy::cast_possible_truncation)]
fn nanos(usd: f64) -> i64 {
    (usd * 1e9).round() as i64
}

impl Balances for Given {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        let balances = |account: &Name| {
            let held = AccountBalances {
                held: amounts(&self.held, account),
                ..AccountBalances::default()
            };
            Window::ALL.into_iter().fold(held, |balances, window| {
                balances.with_posted(window, amounts(&self.spent, &format!("{account} {}", window.name())))
            })
        };
        accounts.iter().map(balances).collect()
    }
}

fn amounts(of: &BTreeMap<String, f64>, what: &str) -> Amounts {
    let mut amounts = Amounts::ZERO;
    for unit in Unit::ALL {
        amounts.set(unit, counted(of, what, unit));
    }
    amounts
}

fn read_event(given: &BTreeMap<String, serde_json::Value>) -> Result<Event, String> {
    let mut event = Event::new("", 0);
    for (name, value) in given {
        let fact = match value {
            serde_json::Value::String(text) if name == "kind" => {
                event.kind = text.clone().into();
                continue;
            }
            serde_json::Value::String(text) => Fact::Text(text.clone()),
            serde_json::Value::Bool(flag) => Fact::Flag(*flag),
            other => Fact::Number(
                other
                    .as_f64()
                    .ok_or_else(|| format!("event.{name} must be text or a number"))?,
            ),
        };
        event.facts.push((name.clone().into(), fact));
    }
    Ok(event)
}
