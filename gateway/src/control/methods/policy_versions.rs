//! The methods that change which version of a policy is in force: `policy.put`, `activate`, `shadow`, `rollback`, `deactivate`.

use std::cell::RefCell;
use std::time::Duration;

use agentledger_ledger::{Name, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::methods::policy_history::{rehearsal, stand};
use crate::control::methods::rules::change::decision_ms;
use crate::control::methods::rules::shortcuts::needed;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::params::parse_last;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::policy::check::check_source;
use crate::policy::{Options, PolicyError, PolicySet, Source, source_hash, spec};
use crate::runtime::{
    Ending, InForce, PolicyBook, PolicyPlace, PolicyRecord, PolicyStep, Refused, Rehearsal, StoredVersion, Wanted,
    change_id, short, source,
};

/// Longest note in bytes.
const NOTE_BYTES_MAX: usize = 2_000;
/// How long the specs of a version may take, all together.
const SPECS_WITHIN: Duration = Duration::from_secs(10);
/// Failed specs that a refusal shows.
const FAULTS_SHOWN: usize = 5;
/// Longest time in shadow before an activation.
const SHADOW_FOR_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
/// What errors call a text that is put.
const PUT_ORIGIN: &str = "text";

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = |name, summary, example| Method::new(name, Role::Admin, Scope::Whole, summary, example);
    table.add(
        method(
            "policy.put",
            "Keeps a version of a policy; nothing is in force of it.",
            r#"{"text": "return { name = \"night\", version = \"1\", request = function(conf, call) end }", "note": "for the night"}"#,
        ),
        put,
    )?;
    table.add(
        method(
            "policy.activate",
            "Puts a version of a policy in force, at once or after a time in shadow.",
            r#"{"policy": "night", "shadow_for": "1h", "note": "after a look"}"#,
        ),
        activate,
    )?;
    table.add(
        method(
            "policy.shadow",
            "Runs a version in shadow beside what is in force: what it says is counted and noted, and not done.",
            r#"{"policy": "night", "note": "a look first"}"#,
        ),
        shadow,
    )?;
    table.add(
        method(
            "policy.rollback",
            "Puts the version before in force again; before the first it is the file's.",
            r#"{"policy": "night", "note": "it denies too much"}"#,
        ),
        |state, call, asked| back(state, call, &asked, false),
    )?;
    table.add(
        method(
            "policy.deactivate",
            "Puts what the files say in force again.",
            r#"{"policy": "night"}"#,
        ),
        |state, call, asked| back(state, call, &asked, true),
    )
}

fn check_note(note: &str) -> Result<(), RpcError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(Refused::unfit("note", format!("is longer than {NOTE_BYTES_MAX} bytes")).into());
    }
    Ok(())
}

/// Everything that keeps a text from loading, as `policy check` finds it.
fn not_loaded(text: &str, errors: &[PolicyError]) -> String {
    let found: Vec<String> = check_source(PUT_ORIGIN, text).iter().map(ToString::to_string).collect();
    if found.is_empty() {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    } else {
        found.join("\n")
    }
}

fn put(state: &ControlState, call: &Call, asked: wire::PolicyPutParams) -> Result<wire::PolicyChanged, RpcError> {
    needed("text", &asked.text)?;
    check_note(&asked.note)?;
    let given = Source {
        name: PUT_ORIGIN.to_owned(),
        text: asked.text.clone(),
        origin: PUT_ORIGIN.to_owned(),
    };
    let options = Options {
        deadline: state.config.load().policies.deadline,
        ..Options::default()
    };
    let head = PolicySet::read(given, &options);
    let head =
        head.map_err(|errors| Refused::unfit("text", format!("does not load:\n{}", not_loaded(&asked.text, &errors))))?;
    let specs = (!asked.specs.is_empty()).then_some(asked.specs.as_str());
    if let Some(specs) = specs {
        let read = spec::check_text(&head.name, specs);
        read.map_err(|text| Refused::unfit("specs", text))?;
    }
    let at_ms = decision_ms(state);
    let change = change_id(at_ms);
    let version = StoredVersion {
        policy: head.name.clone(),
        hash: source_hash(&asked.text),
        version: head.version,
        text: asked.text.as_str().into(),
        specs: specs.map(Into::into),
        author: Name::clone(&call.caller.name),
        at_ms,
        note: asked.note.as_str().into(),
        change,
    };
    let hash = version.hash.clone();
    let about = About {
        policy: &head.name,
        note: &asked.note,
        version: Some(&hash),
        if_version: None,
        specs: None,
    };
    run(state, call, &about, &mut |in_force| {
        Ok(in_force.parts.policies.put(version.clone())?)
    })
}

fn activate(
    state: &ControlState,
    call: &Call,
    asked: wire::PolicyActivateParams,
) -> Result<wire::PolicyChanged, RpcError> {
    needed("policy", &asked.policy)?;
    check_note(&asked.note)?;
    let shadow_only = match asked.mode.as_str() {
        "" | "enforce" => false,
        "shadow" => true,
        _ => return Err(Refused::unfit("mode", "must be enforce or shadow").into()),
    };
    let shadow_for_ms = shadow_for(&asked.shadow_for)?;
    let found = kept(state, &asked.policy, &asked.version)?;
    let specs = run_specs(&found)?;
    if let Some(specs) = specs.as_ref().filter(|specs| !specs.failed.is_empty() && !asked.force) {
        return Err(Refused::unfit("version", failed_specs(specs)).into());
    }
    let hash = found.hash;
    let about = About {
        policy: &asked.policy,
        note: &asked.note,
        version: Some(&hash),
        if_version: asked.if_version,
        specs,
    };
    run(state, call, &about, &mut |in_force| {
        in_force.parts.policies.find(&asked.policy, &hash)?;
        let (record, ending) = standing(state, call, in_force, &asked.policy, &asked.note);
        let stands = record.in_force.as_ref();
        let is_same = stands.is_some_and(|stands| stands.hash == hash && stands.shadow_only == shadow_only);
        if is_same && !is_refused(in_force, &asked.policy, &hash) {
            let text = format!("version {} of {} is in force already", short(&hash), asked.policy);
            return Err(RpcError::Conflict(text));
        }
        let next = match shadow_for_ms {
            None => record.activated(&hash, shadow_only, &ending),
            Some(for_ms) => {
                let rehearsal = Rehearsal {
                    hash: hash.clone(),
                    since_ms: ending.at_ms,
                    activate_at_ms: Some(ending.at_ms.saturating_add(for_ms)),
                    shadow_only,
                };
                // One that runs in shadow already is not counted anew.
                match &record.shadow {
                    Some(shadow) if shadow.hash == hash => PolicyRecord {
                        shadow: Some(Rehearsal {
                            since_ms: shadow.since_ms,
                            ..rehearsal
                        }),
                        ..record
                    },
                    _ => record.rehearsed(rehearsal, &ending),
                }
            }
        };
        Ok(PolicyStep::of_record(&asked.policy, next))
    })
}

fn shadow_for(text: &str) -> Result<Option<i64>, RpcError> {
    if text.is_empty() {
        return Ok(None);
    }
    let span = parse_last(text).map_err(|_| Refused::unfit("shadow_for", "is no time span such as 90m or 7d"))?;
    if span > SHADOW_FOR_MAX {
        return Err(Refused::unfit("shadow_for", "is more than 90 days").into());
    }
    Ok(i64::try_from(span.as_millis()).ok())
}

fn shadow(state: &ControlState, call: &Call, asked: wire::PolicyShadowParams) -> Result<wire::PolicyChanged, RpcError> {
    needed("policy", &asked.policy)?;
    check_note(&asked.note)?;
    let found = (!asked.end).then(|| kept(state, &asked.policy, &asked.version));
    let found = found.transpose()?;
    let about = About {
        policy: &asked.policy,
        note: &asked.note,
        version: found.as_ref().map(|found| found.hash.as_str()),
        if_version: asked.if_version,
        specs: None,
    };
    run(state, call, &about, &mut |in_force| {
        let (record, ending) = standing(state, call, in_force, &asked.policy, &asked.note);
        let running = record.shadow.as_ref();
        let next = match &found {
            None if running.is_none() => {
                let text = format!("no version of {} runs in shadow", asked.policy);
                return Err(RpcError::Conflict(text));
            }
            None => record.unrehearsed(&ending),
            Some(found) if running.is_some_and(|running| running.hash == found.hash) => {
                let mut next = record.clone();
                let waited = next.shadow.as_mut().and_then(|shadow| shadow.activate_at_ms.take());
                if waited.is_none() {
                    let text = format!(
                        "version {} of {} runs in shadow already",
                        short(&found.hash),
                        asked.policy
                    );
                    return Err(RpcError::Conflict(text));
                }
                next
            }
            Some(found) => {
                let rehearsal = Rehearsal {
                    hash: found.hash.clone(),
                    since_ms: ending.at_ms,
                    activate_at_ms: None,
                    shadow_only: false,
                };
                record.rehearsed(rehearsal, &ending)
            }
        };
        Ok(PolicyStep::of_record(&asked.policy, next))
    })
}

/// To the version before, or all the way to the files.
fn back(
    state: &ControlState,
    call: &Call,
    asked: &wire::PolicyRollbackParams,
    all_the_way: bool,
) -> Result<wire::PolicyChanged, RpcError> {
    needed("policy", &asked.policy)?;
    check_note(&asked.note)?;
    let about = About {
        policy: &asked.policy,
        note: &asked.note,
        version: None,
        if_version: asked.if_version,
        specs: None,
    };
    let mut unfit = 0;
    loop {
        let mut has_more = false;
        let done = run(state, call, &about, &mut |in_force| {
            let next = back_from(state, call, asked, in_force, (!all_the_way).then_some(unfit))?;
            has_more = !all_the_way && next.in_force.is_some();
            Ok(PolicyStep::of_record(&asked.policy, next))
        });
        // What was before may not load any more: then what was before that.
        match done {
            Err(RpcError::Unfit { .. }) if has_more => unfit += 1,
            done => return done,
        }
    }
}

/// What stands of a policy once it is back: past so many versions that do not load, or all the way at the files.
fn back_from(
    state: &ControlState,
    call: &Call,
    asked: &wire::PolicyRollbackParams,
    in_force: &InForce,
    unfit: Option<usize>,
) -> Result<PolicyRecord, RpcError> {
    let (record, ending) = standing(state, call, in_force, &asked.policy, &asked.note);
    if record.in_force.is_none() && record.shadow.is_none() {
        let text = format!(
            "no version of {:?} from the store is in force or in shadow",
            asked.policy
        );
        return Err(RpcError::NotFound(text));
    }
    let effective = in_force.versions.effective.get(&asked.policy);
    let effective = effective.map(|effective| effective.hash.as_str());
    Ok(match unfit {
        Some(unfit) => record.rolled_back_past(effective, unfit, &ending),
        None => record.deactivated(&ending),
    })
}

/// The version that is meant, as it is kept.
fn kept(state: &ControlState, policy: &str, hash: &str) -> Result<StoredVersion, RpcError> {
    let in_force = state.data_plane.in_force().ok_or(RpcError::NoGateway)?;
    Ok(in_force.parts.policies.find(policy, hash)?.as_ref().clone())
}

fn is_refused(in_force: &InForce, policy: &str, hash: &str) -> bool {
    let mut refused = in_force.versions.refused.iter();
    refused.any(|refused| refused.policy == policy && refused.hash == hash)
}

/// What stands of a policy, and what is noted of what ends by this call.
fn standing(state: &ControlState, call: &Call, in_force: &InForce, policy: &str, note: &str) -> (PolicyRecord, Ending) {
    let record = in_force.parts.policies.record(policy);
    let counts = |place| {
        let found = in_force.versions.counts.get(&(policy.to_owned(), place));
        found.copied().unwrap_or_default()
    };
    let ending = Ending {
        at_ms: decision_ms(state),
        by: call.caller.name.to_string(),
        why: note.to_owned(),
        in_force: counts(PolicyPlace::InForce),
        in_shadow: counts(PolicyPlace::Shadow),
    };
    (record.map(|kept| kept.record.clone()).unwrap_or_default(), ending)
}

/// Runs the specs that were put with a version; `None`: there are none.
fn run_specs(version: &StoredVersion) -> Result<Option<wire::SpecsOutcome>, RpcError> {
    let Some(specs) = &version.specs else { return Ok(None) };
    let outcomes = spec::test_text(&source(version), specs, SPECS_WITHIN);
    let outcomes =
        outcomes.map_err(|text| Refused::unfit("version", format!("has specs that cannot be run: {text}")))?;
    let failed = outcomes.iter().filter_map(|outcome| {
        let fault = outcome.fault.as_ref()?;
        Some(format!("{}: {}", outcome.spec, fault.trim_end()))
    });
    Ok(Some(wire::SpecsOutcome {
        run: outcomes.len() as u64,
        failed: failed.collect(),
    }))
}

fn failed_specs(specs: &wire::SpecsOutcome) -> String {
    let shown: Vec<&str> = specs.failed.iter().take(FAULTS_SHOWN).map(String::as_str).collect();
    let more = specs.failed.len().saturating_sub(FAULTS_SHOWN);
    let more = if more > 0 {
        format!("\nand {more} more")
    } else {
        String::new()
    };
    format!(
        "fails {} of its {} specs (`force` puts it in force all the same):\n{}{more}",
        specs.failed.len(),
        specs.run,
        shown.join("\n")
    )
}

/// What a change is about.
struct About<'a> {
    policy: &'a str,
    note: &'a str,
    /// The hash of the version.
    version: Option<&'a str>,
    if_version: Option<u64>,
    specs: Option<wire::SpecsOutcome>,
}

/// Changes a policy's versions as `plan` wants, and records it.
fn run(
    state: &ControlState,
    call: &Call,
    about: &About<'_>,
    plan: &mut dyn FnMut(&InForce) -> Result<PolicyStep, RpcError>,
) -> Result<wire::PolicyChanged, RpcError> {
    let change = change_id(decision_ms(state));
    let mut answer = wire::PolicyChanged::default();
    // The plan makes the step, and the record is of it.
    let planned = RefCell::new(None);
    let mut wanted = |in_force: &InForce| {
        let stands = in_force
            .parts
            .policies
            .record(about.policy)
            .map_or(0, |kept| kept.version);
        if let Some(believed) = about.if_version.filter(|believed| *believed != stands) {
            return Err(RpcError::Conflict(format!(
                "what stands of {} was changed {stands} times, and was believed to be changed {believed} times",
                about.policy
            )));
        }
        let step = plan(in_force)?;
        planned.replace(Some(step.clone()));
        Ok(Wanted::Policy(step))
    };
    let mut record = |in_force: &InForce, _: &[_]| {
        let Some(step) = planned.take() else { return Ok(None) };
        let parts = step.parts(&in_force.parts.policies).into_iter().map(|part| Changed {
            subject: part.subject,
            note: about.note.to_owned(),
            before: part.before,
            after: part.after,
            kept: true,
            ..Changed::default()
        });
        answer = changed(in_force, &step, about);
        answer.change = Some(change.to_string());
        let parts: Vec<Changed> = parts.collect();
        call.enter(&state.ledger, change, &parts, &answer).map(Some)
    };
    state.change(&mut wanted, &mut record)?;
    Ok(answer)
}

/// What a step comes to, as its author is answered.
fn changed(in_force: &InForce, step: &PolicyStep, about: &About<'_>) -> wire::PolicyChanged {
    let mut book = in_force.parts.policies.as_ref().clone();
    let waited = |book: &PolicyBook| {
        let shadow = book.record(&step.policy)?.record.shadow.clone()?;
        Some((shadow.hash, shadow.activate_at_ms?))
    };
    let before = waited(&book);
    book.apply(step);
    let after = waited(&book);
    let is_activated = |hash: &str| {
        let record = book.record(&step.policy);
        record.is_some_and(|kept| kept.record.in_force.as_ref().is_some_and(|stands| stands.hash == hash))
    };
    let cancelled = before.filter(|(hash, at)| after.as_ref() != Some(&(hash.clone(), *at)) && !is_activated(hash));
    let record = book.record(&step.policy);
    let none = PolicyRecord::default();
    let now = record.map_or(&none, |kept| &kept.record);
    wire::PolicyChanged {
        policy: step.policy.clone(),
        version: about.version.map(str::to_owned),
        in_force: stand(&step.policy, now.in_force.as_ref(), Some(&in_force.versions)),
        shadow: now.shadow.as_ref().map(rehearsal),
        changes: record.map_or(0, |kept| kept.version),
        specs: about.specs.clone(),
        dropped: step.dropped.iter().map(|version| version.hash.clone()).collect(),
        cancelled: cancelled.map(|(hash, at)| format!("{} at {}", short(&hash), rfc3339_ms(at))),
        change: None,
    }
}
