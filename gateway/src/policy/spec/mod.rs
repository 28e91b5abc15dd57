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

pub(super) mod given;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mlua::{Lua, LuaSerdeExt, Table, Value};
use serde::Deserialize;

use super::balances::Balances;
use super::coverage::{Coverage, Covered};
use super::engine::{Engine, FailureCounts, PolicyFailure};
use super::lines::alert_line;
use super::set::{Options, PolicyError, PolicySet, Source};
use super::verdict::RequestedAlert;
use super::{folder, sandbox};
use crate::files;
use crate::timer::Timer;
use given::{CallSpec, EntrySpec, Given, ask_call, read_event};

/// What spec files have beside the sandbox's own globals.
const HELPERS: &str = include_str!("helpers.luau");
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
    /// A settled exchange, for the phase `settled`.
    entry: Option<EntrySpec>,
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

/// How one spec came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub file: PathBuf,
    pub spec: String,
    /// What is wrong; `None` for well.
    pub fault: Option<String>,
}

/// What came of all specs, and what they reached.
#[derive(Clone, Debug, Default)]
pub struct Tested {
    pub outcomes: Vec<Outcome>,
    /// Of the folder's policies, and of built-in ones that have specs in it; empty where that was not asked for.
    pub covered: Vec<Covered>,
}

/// Stands for a spec's name where its whole file is at fault.
const WHOLE_FILE: &str = "(the whole file)";

/// Runs the specs in `DIR/spec/*.lua` on the policies of the folder, and on built-in ones that it does not replace. A spec file that
/// cannot be read is one spec that fails; the others run.
///
/// # Errors
/// A folder that cannot be read.
pub fn test_folder(dir: &Path, with_coverage: bool) -> Result<Tested, Vec<PolicyError>> {
    let sources = folder::sources(Some(dir))?;
    let folder = dir.join("spec");
    let listing = std::fs::read_dir(&folder).map_err(|error| {
        vec![PolicyError {
            file: folder.display().to_string(),
            line: None,
            message: error.to_string(),
        }]
    })?;
    let mut files: Vec<PathBuf> = listing.filter_map(|item| Some(item.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "lua"));
    files.sort();
    let mut coverage: BTreeMap<String, Arc<Coverage>> = BTreeMap::new();
    let own = sources
        .iter()
        .filter(|source| with_coverage && Path::new(&source.origin).starts_with(dir));
    coverage.extend(own.filter_map(|source| Some((source.name.clone(), Arc::new(Coverage::new(source)?)))));
    let mut outcomes = Vec::new();
    for file in files {
        let of = |spec: String, fault: Option<String>| Outcome {
            file: file.clone(),
            spec,
            fault,
        };
        match read(&file, &sources) {
            Ok((source, specs)) => {
                if with_coverage && !coverage.contains_key(&source.name) {
                    coverage.extend(Coverage::new(source).map(|found| (source.name.clone(), Arc::new(found))));
                }
                let options = Options {
                    coverage: coverage.get(&source.name).cloned(),
                    ..Options::default()
                };
                outcomes.extend(specs.into_iter().map(|spec| {
                    let fault = run(source, &spec, &options).err();
                    of(spec.name, fault)
                }));
            }
            Err(message) => outcomes.push(of(WHOLE_FILE.to_owned(), Some(message))),
        }
    }
    let covered = coverage.iter().filter_map(|(name, coverage)| {
        let source = sources.iter().find(|source| source.name == *name)?;
        Some(coverage.covered(&source.origin))
    });
    Ok(Tested {
        covered: covered.collect(),
        outcomes,
    })
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
        let outcome = if is_late {
            late()
        } else {
            run(source, &spec, &Options::default())
        };
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
    // By the name that it gives itself: its file may have another.
    let names = |source: &&Source| PolicySet::name_in(source).is_ok_and(|name| name == read.policy);
    let source = sources
        .iter()
        .find(|source| source.name == read.policy && names(source));
    let source = source.or_else(|| sources.iter().find(names));
    let source = source.ok_or_else(|| format!("there is no policy {:?}", read.policy))?;
    Ok((source, read.specs))
}

fn parse(text: &str, origin: &str) -> Result<SpecFile, String> {
    let plain = |error: mlua::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let (lua, watch) = sandbox::open(SPEC_MEMORY_BYTES_MAX).map_err(plain)?;
    add_helpers(&lua).map_err(plain)?;
    watch.start(Options::default().deadline.saturating_mul(20));
    let chunk = lua.load(text).set_name(format!("={origin}"));
    let value: Value = chunk.eval().map_err(plain)?;
    if watch.is_late() {
        return Err("ran longer than its deadline".to_owned());
    }
    lua.from_value(value).map_err(plain)
}

fn add_helpers(lua: &Lua) -> mlua::Result<()> {
    let helpers: Table = lua.load(HELPERS).set_name("=helpers").eval()?;
    for pair in helpers.pairs::<String, Value>() {
        let (name, helper) = pair?;
        lua.globals().raw_set(name, helper)?;
    }
    Ok(())
}

fn run(source: &Source, spec: &Spec, options: &Options) -> Result<(), String> {
    let confs = match &spec.conf {
        serde_json::Value::Null => BTreeMap::new(),
        conf => {
            let name = PolicySet::name_in(source).unwrap_or_else(|_| source.name.clone());
            BTreeMap::from([(name, conf.clone())])
        }
    };
    let set = match PolicySet::load(vec![source.clone()], &confs, options.clone()) {
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
        return Ok(told(engine.alert(set, read_event(event)?, &balances)));
    }
    if let Some(entry) = &spec.entry {
        return Ok(told(engine.settled(set, &Arc::new(entry.entry()?), &balances)));
    }
    let Some(call) = &spec.call else {
        return Err("a spec needs a call, an event or an entry".to_owned());
    };
    Ok(
        ask_call(engine, set, call.clone(), &balances)?.map(|[bound, requested]| {
            let mut lines = bound.lines();
            lines.extend(requested.lines());
            lines
        }),
    )
}

/// What came of a phase that only asks for alerts.
fn told((alerts, failures): (Vec<RequestedAlert>, Vec<PolicyFailure>)) -> Result<Vec<String>, String> {
    match failures.first() {
        Some(failure) => Err(failure.message.clone()),
        None => Ok(alerts.iter().map(alert_line).collect()),
    }
}
