//! The method `session.tree`: a session with the sessions that it started, step by step.

mod fold;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::{Entry, Name, Refused, Session, SessionRows, SessionRowsQuery, Usd, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;

use super::sessions::{own, row, sessions, times, whole};
use crate::control::error::RpcError;
use crate::control::made_of::EntryPrices;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire::{self, TreeStep, TreeSums};

/// Bounds of one answer; [`wire::SessionTree::cut`] names them.
const SESSIONS_MAX: usize = 200;
const LEVELS_MAX: usize = 16;
const ENTRIES_MAX: usize = 5_000;
const EVENTS_MAX: usize = 1_000_000;
/// A refused request is no call: what a session was refused so long after its last one is shown.
const REFUSED_AFTER_MS: i64 = 10 * 60 * 1_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "session.tree",
            Role::Read,
            Scope::Tenant,
            "A session with the sessions that it started, step by step: calls, loops and refusals, with what each cost.",
            r#"{"id": "run-1"}"#,
        ),
        tree,
    )
}

fn tree(state: &ControlState, call: &Call, asked: wire::SessionTreeParams) -> Result<wire::SessionTree, RpcError> {
    let asked = wire::SessionParams {
        id: asked.id,
        tenant: asked.tenant,
        ..wire::SessionParams::default()
    };
    let asked = own(&call.caller, asked)?;
    state.ledger.flush()?;
    let asked = whole(state, asked)?;
    let mut found = sessions(state, &asked)?;
    if found.len() > 1 {
        let text = format!(
            "{} tenants have a session {:?}: say whose by `tenant`",
            found.len(),
            asked.id
        );
        return Err(RpcError::InvalidParams(text));
    }
    let unknown = || RpcError::NotFound(format!("there is no session {:?}", asked.id));
    let root = found.pop().ok_or_else(unknown)?;
    let kin = state
        .ledger
        .sessions()
        .started_by(&root.who.tenant, &root.id, SESSIONS_MAX)
        .map_err(RpcError::ledger)?;
    let query = query_of(&root, &kin.started);
    let rows = state.ledger.session_rows(&query).map_err(RpcError::ledger)?;
    let prices = EntryPrices::of(state);
    let mut tree = Tree::new(&rows, &kin.started, prices.as_ref(), times(state));
    let branch = tree.branch(&root, 1);
    Ok(wire::SessionTree {
        session: tree.row(&root),
        sums: branch.sums,
        subagents: tree.sessions_below,
        steps: branch.steps,
        shown: tree.shown,
        cut: kin.is_cut || rows.is_cut || tree.is_cut,
    })
}

/// What the journal has of all of them.
fn query_of(root: &Session, started: &[Session]) -> SessionRowsQuery {
    let all = || std::iter::once(root).chain(started);
    let from_ms = all().map(|session| session.started_ms).min();
    let last_ms = all().map(|session| session.last_ms).max();
    SessionRowsQuery {
        tenant: Name::clone(&root.who.tenant),
        sessions: all().map(|session| Name::clone(&session.id)).collect(),
        from_ms: from_ms.unwrap_or_default(),
        to_ms: last_ms.unwrap_or_default().saturating_add(REFUSED_AFTER_MS),
        entries_max: ENTRIES_MAX,
        events_max: EVENTS_MAX,
    }
}

/// A session's steps and sums, those of the sessions below it included.
struct Branch {
    steps: Vec<TreeStep>,
    sums: TreeSums,
}

/// What a tree is made of.
struct Tree<'a> {
    entries: HashMap<&'a Name, Vec<&'a Entry>>,
    refused: HashMap<&'a Name, Vec<&'a Refused>>,
    started: HashMap<&'a Name, Vec<&'a Session>>,
    prices: Option<&'a EntryPrices>,
    /// Now, and the silence that completes a session; milliseconds.
    times: (i64, i64),
    sessions_below: u64,
    shown: u64,
    is_cut: bool,
}

impl<'a> Tree<'a> {
    fn new(
        rows: &'a SessionRows,
        started: &'a [Session],
        prices: Option<&'a EntryPrices>,
        times: (i64, i64),
    ) -> Tree<'a> {
        let mut tree = Tree {
            entries: HashMap::new(),
            refused: HashMap::new(),
            started: HashMap::new(),
            prices,
            times,
            sessions_below: 0,
            shown: 0,
            is_cut: false,
        };
        for entry in &rows.entries {
            tree.entries.entry(&entry.facts.session).or_default().push(entry);
        }
        for refused in rows.refused.iter().map(Arc::as_ref) {
            tree.refused.entry(&refused.facts.session).or_default().push(refused);
        }
        for session in started {
            tree.started.entry(&session.who.parent).or_default().push(session);
        }
        // The journal has them in the order in which they ended.
        for entries in tree.entries.values_mut() {
            entries.sort_by_key(|entry| (entry.facts.at_ms, entry.facts.id));
        }
        tree
    }

    fn row(&self, session: &Session) -> wire::SessionRow {
        row(session, self.times.0, self.times.1)
    }

    fn branch(&mut self, session: &Session, level: usize) -> Branch {
        let entries = self.entries.remove(&session.id).unwrap_or_default();
        let refused = self.refused.remove(&session.id).unwrap_or_default();
        self.shown = self.shown.saturating_add(entries.len() as u64);
        let mut steps = fold::fold(&entries);
        steps.extend(fold::refusals(&refused));
        let mut sums = TreeSums {
            calls: session.calls,
            cost_usd: session.cost,
            usage: fold::usage(&entries),
            refused: refused.len() as u64,
            saved_usd: self.saved(&entries),
        };
        // Each is taken once, so that whoever names itself as its parent's parent ends.
        let mut below = self.started.remove(&session.id).unwrap_or_default();
        if level >= LEVELS_MAX && !below.is_empty() {
            self.is_cut = true;
            below.clear();
        }
        for child in below {
            self.sessions_below += 1;
            let branch = self.branch(child, level + 1);
            with(&mut sums, &branch.sums);
            steps.push(TreeStep {
                kind: "session".to_owned(),
                label: child.id.to_string(),
                calls: branch.sums.calls,
                first: rfc3339_ms(child.started_ms),
                last: rfc3339_ms(child.last_ms),
                session: Some(Box::new(self.row(child))),
                sums: Some(Box::new(branch.sums)),
                steps: Some(branch.steps),
                ..TreeStep::default()
            });
        }
        // RFC 3339 with milliseconds: the order of the text is that of time.
        steps.sort_by(|a, b| a.first.cmp(&b.first));
        Branch { steps, sums }
    }

    fn saved(&self, entries: &[&Entry]) -> Option<Usd> {
        let prices = self.prices?;
        entries
            .iter()
            .try_fold(Usd::ZERO, |sum, entry| Some(sum.saturating_add(prices.saved(entry)?)))
    }
}

fn with(sums: &mut TreeSums, more: &TreeSums) {
    sums.calls = sums.calls.saturating_add(more.calls);
    sums.cost_usd = sums.cost_usd.saturating_add(more.cost_usd);
    sums.usage = sums.usage.sum(&more.usage);
    sums.refused = sums.refused.saturating_add(more.refused);
    sums.saved_usd = match (sums.saved_usd, more.saved_usd) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        _ => None,
    };
}
