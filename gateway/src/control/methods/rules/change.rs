//! How a rule is changed: what all methods that do it have in common.

use std::sync::Arc;

use agentledger_ledger::{Clock, Name, SystemClock, rfc3339_ms};
use jiff::Timestamp;
use serde_json::Value;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::ledger_view::LedgerView;
use crate::control::rpc::call::{Call, Changed};
use crate::control::rpc::params::parse_last;
use crate::control::state::ControlState;
use crate::control::wire;
use crate::policy::{PolicyMode, PolicySet};
use crate::runtime::{
    Edit, InForce, RULE, Refused, Rule, RuleBook, Step, Wanted, change_id, policy_of, tenant_of, with_rules,
};

/// Longest value in bytes of JSON, and longest note in bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;
const NOTE_BYTES_MAX: usize = 2_000;

/// A rule as a caller wants it.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Wish {
    /// `None`: a new one.
    pub id: Option<Ulid>,
    pub list: String,
    /// `None`: it shall go.
    pub value: Option<Value>,
    /// Milliseconds since the epoch.
    pub expires_ms: Option<i64>,
    pub note: String,
    pub if_version: Option<u64>,
    /// Whose it shall be, where the caller is bound to no tenant; `None`: the whole installation's.
    pub tenant: Option<Name>,
}

impl Wish {
    /// Takes a rule away.
    pub fn removal(rule: &Rule, note: &str) -> Wish {
        Wish {
            id: Some(rule.id),
            list: rule.list.clone(),
            note: note.to_owned(),
            ..Wish::default()
        }
    }
}

/// Where the method's own parameters say nothing of `value`, faults within it are told at the method.
pub(in crate::control) type Plan<'a> = dyn FnMut(&InForce) -> Result<Vec<Wish>, RpcError> + 'a;

/// Looks at the policies before and after a change: refuses one that does nothing, or says what its author may not expect.
pub(in crate::control) type Look<'a> = dyn FnMut(&InForce, &PolicySet) -> Result<Option<String>, RpcError> + 'a;

/// Changes rules as `plan` wants, all or none of them; the answer is of the last. A `dry_run` is checked like any other.
pub(in crate::control) fn change(
    state: &ControlState,
    call: &Call,
    dry_run: bool,
    plan: &mut Plan<'_>,
) -> Result<wire::RuleChanged, RpcError> {
    change_seen(state, call, dry_run, plan, None)
}

/// The same, looked at before it is kept.
pub(in crate::control) fn change_seen(
    state: &ControlState,
    call: &Call,
    dry_run: bool,
    plan: &mut Plan<'_>,
    mut look: Option<&mut Look<'_>>,
) -> Result<wire::RuleChanged, RpcError> {
    let now_ms = decision_ms(state);
    let id = change_id(now_ms);
    let mut answer = None;
    let mut plan_edits = |in_force: &InForce| {
        let mut making = Making {
            now_ms,
            change: id,
            newest: None,
            // Under the lock that changes take: none of a rule is decided meanwhile.
            decided: state.ledger.live()?.last_sequence(),
        };
        let wishes = plan(in_force)?.into_iter();
        let edits = wishes.map(|wish| edit(call, in_force, wish, &mut making));
        edits.collect::<Result<Vec<Edit>, RpcError>>().map(Wanted::Rules)
    };
    let mut record = |in_force: &InForce, steps: &[Step]| {
        let last = steps.last().ok_or_else(nothing)?;
        let mut changed = outcome(last, &in_force.policies, dry_run);
        if let Some(look) = &mut look
            && let Some(after) = after(in_force, steps)
        {
            changed.warning = look(in_force, &after)?;
        }
        let parts: Vec<Changed> = steps.iter().map(recorded).collect();
        let entered = (!dry_run).then(|| call.enter(&state.ledger, id, &parts, &changed));
        answer = Some(changed);
        entered.transpose()
    };
    state.change(&mut plan_edits, &mut record)?;
    answer.ok_or_else(nothing)
}

/// The policies as the steps make them; `None` where they do not change.
fn after(in_force: &InForce, steps: &[Step]) -> Option<PolicySet> {
    let mut rules = RuleBook::clone(&in_force.parts.rules);
    steps.iter().for_each(|step| rules.apply(step));
    let policies = steps.iter().flat_map(Step::policies);
    with_rules(&in_force.policies, &in_force.file, &rules, policies).ok()
}

fn nothing() -> RpcError {
    RpcError::InvalidParams("there is nothing to change".to_owned())
}

/// What the edits of one change have in common.
struct Making {
    now_ms: i64,
    change: Ulid,
    /// The id that was given last.
    newest: Option<Ulid>,
    /// The sequence of the last event of the journal. No version of a rule is beyond it: each took an event at least.
    decided: u64,
}

pub(in crate::control) fn decision_ms(state: &ControlState) -> i64 {
    match &state.ledger {
        LedgerView::Live(ledger) => ledger.decision_ms(),
        LedgerView::Offline(_) => SystemClock::default().now_ms(),
    }
}

/// Checks a wish for all that does not need the policies.
fn edit(call: &Call, in_force: &InForce, wish: Wish, making: &mut Making) -> Result<Edit, RpcError> {
    let now_ms = making.now_ms;
    if wish.note.len() > NOTE_BYTES_MAX {
        return Err(Refused::unfit("note", format!("is longer than {NOTE_BYTES_MAX} bytes")).into());
    }
    if wish.expires_ms.is_some_and(|at_ms| at_ms <= now_ms) {
        return Err(Refused::unfit("expires", "is not in the future").into());
    }
    let known = wish.id.and_then(|id| in_force.parts.rules.get(id));
    let own = call.caller.tenant.as_ref();
    if let (Some(own), Some(known)) = (own, known)
        && known.tenant != *own
    {
        return Err(if is_seen(own, known) {
            RpcError::OtherTenant
        } else {
            no_rule(known.id)
        });
    }
    let made = change_id(now_ms);
    let id = wish.id.unwrap_or_else(|| {
        let newest = making.newest.map(|newest| u128::from(newest).saturating_add(1));
        in_force.parts.rules.next_id(newest.map_or(made, Ulid::from))
    });
    making.newest = Some(id);
    // A rule of this id may have been here before, unless it is made up now: whoever still knows that one must not take this one
    // for it.
    let min_version = match known {
        None if id != made => making.decided.saturating_add(1),
        _ => 0,
    };
    let removal = Edit {
        if_version: wish.if_version,
        ..Edit::removal(id, making.change, wish.note.into())
    };
    let Some(value) = wish.value else {
        return Ok(removal);
    };
    if in_force.policies.policy(policy_of(&wish.list)).is_none() {
        let names: Vec<&str> = in_force.policies.policies().map(|policy| policy.name).collect();
        let text = format!("names no policy that there is: {}", names.join(", "));
        return Err(Refused::unfit("list", text).into());
    }
    if value.to_string().len() > VALUE_BYTES_MAX {
        return Err(Refused::unfit("value", format!("is longer than {VALUE_BYTES_MAX} bytes")).into());
    }
    // Their rules must not reach anybody else's requests.
    if own.is_some_and(|own| tenant_of(&wish.list, &value) != Some(&**own)) {
        return Err(RpcError::OtherTenant);
    }
    let after = Rule {
        id,
        list: wish.list,
        value,
        expires_ms: wish.expires_ms,
        tenant: own.cloned().or(wish.tenant).unwrap_or_default(),
        author: Name::clone(&call.caller.name),
        at_ms: now_ms,
        note: Name::clone(&removal.note),
        change: removal.change,
        version: min_version,
    };
    Ok(Edit {
        after: Some(after),
        ..removal
    })
}

/// Whether a token that is bound to a tenant sees a rule.
pub(in crate::control) fn is_seen(own: &str, rule: &Rule) -> bool {
    tenant_of(&rule.list, &rule.value) == Some(own)
}

pub(in crate::control) fn no_rule(id: impl std::fmt::Display) -> RpcError {
    RpcError::NotFound(format!("there is no rule {id}"))
}

/// The change as the journal has it.
fn recorded(step: &Step) -> Changed {
    let about = step.after.as_ref().or(step.before.as_ref());
    let tenant = about.and_then(|rule| tenant_of(&rule.list, &rule.value));
    Changed {
        subject: format!("{RULE}{}", step.id),
        tenant: tenant.unwrap_or_default().into(),
        note: step.note.to_string(),
        before: step.before.as_ref().map(|rule| rule.document()),
        after: step.after.as_ref().map(|rule| rule.document()),
        kept: true,
        // The ledger counts on by itself where a document is there.
        min_version: match (&step.before, &step.after) {
            (None, Some(rule)) => rule.version,
            _ => 0,
        },
    }
}

/// The change as its author is answered.
fn outcome(step: &Step, policies: &Arc<PolicySet>, dry_run: bool) -> wire::RuleChanged {
    let about = step.after.as_ref().or(step.before.as_ref());
    let mut rule = about.map(|rule| row(rule, Some(policies))).unwrap_or_default();
    rule.in_force &= step.after.is_some() && !dry_run;
    if dry_run {
        rule.change = None;
    }
    wire::RuleChanged {
        rule,
        change: (!dry_run).then(|| step.change.to_string()),
        before: step.before.as_ref().map(|rule| rule.value.clone()),
        dry_run,
        warning: None,
        after: None,
    }
}

/// A rule as it is told; `policies` are those of the running gateway.
pub(in crate::control) fn row(rule: &Rule, policies: Option<&Arc<PolicySet>>) -> wire::RuleRow {
    wire::RuleRow {
        id: rule.id.to_string(),
        list: rule.list.clone(),
        policy: rule.policy().to_owned(),
        value: rule.value.clone(),
        source: "runtime".to_owned(),
        in_force: is_in_force(policies, rule.policy(), rule.field()),
        version: Some(rule.version),
        author: Some(rule.author.to_string()),
        at: Some(rfc3339_ms(rule.at_ms)),
        note: (!rule.note.is_empty()).then(|| rule.note.to_string()),
        expires: rule.expires_ms.map(rfc3339_ms),
        tenant: tenant_of(&rule.list, &rule.value).map(str::to_owned),
        change: Some(rule.change.to_string()),
    }
}

/// Whether requests go by a part of a policy's conf. Its mode counts even where it says `off`.
pub(in crate::control) fn is_in_force(policies: Option<&Arc<PolicySet>>, policy: &str, field: Option<&str>) -> bool {
    let known = policies.and_then(|policies| policies.policy(policy));
    known.is_some_and(|known| known.mode != PolicyMode::Off || field == Some("mode"))
}

/// When a rule ends: a time, or how long it holds; empty is never.
pub(in crate::control) fn ends_at(expires: &str, now_ms: i64) -> Result<Option<i64>, RpcError> {
    if expires.is_empty() {
        return Ok(None);
    }
    if let Ok(at) = expires.parse::<Timestamp>() {
        return Ok(Some(at.as_millisecond()));
    }
    let unread = |_| Refused::unfit("expires", "is no RFC 3339 time, and no time span such as 90m or 7d");
    let holds = parse_last(expires).map_err(unread)?;
    Ok(Some(
        now_ms.saturating_add(i64::try_from(holds.as_millis()).unwrap_or(i64::MAX)),
    ))
}
