//! MCP servers with what their tools cost and how they are pinned: `mcp.servers`, and `mcp.decide` on one that changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use agentledger_ledger::{Dimension, SummaryQuery, SummaryRow, Usd, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;
use serde_json::json;

use crate::config::{ToolPrice, ToolRates};
use crate::control::error::RpcError;
use crate::control::methods::rules::change::decision_ms;
use crate::control::methods::rules::shortcuts::needed;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::params::{LAST_DEFAULT, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::{ControlState, PinnedTool, ToolDecision, ToolServerNow};
use crate::control::wire;
use crate::policy::Glob;
use crate::runtime::change_id;

/// The provider that entries of tool calls name.
const PROVIDER: &str = "mcp";

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "mcp.servers",
            Role::Read,
            Scope::Whole,
            "MCP servers with their tools: what they cost, how they are pinned, and which changed.",
            r#"{"last": "24h"}"#,
        ),
        servers,
    )?;
    table.add(
        Method::new(
            "mcp.decide",
            Role::Admin,
            Scope::Whole,
            "Accepts a tool whose definition changed as it is now, or has it refused.",
            r#"{"server": "hub", "tool": "create_issue", "definition": "e90c41d8", "accept": false, "note": "asks for keys"}"#,
        ),
        decide,
    )
}

/// What was spent and is held under a name.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    calls: u64,
    failed: u64,
    spent: Usd,
    held: Usd,
    held_calls: u64,
}

/// By server and tool.
type Spent = BTreeMap<String, BTreeMap<String, Sums>>;

fn servers(state: &ControlState, _: &Call, asked: wire::ToolServersParams) -> Result<wire::ToolServers, RpcError> {
    let span = Span::new(&asked.last, &asked.from, &asked.to);
    let (from_ms, to_ms) = span.ms(state.ledger.now_ms(), Some(LAST_DEFAULT))?;
    state.ledger.flush()?;
    let mut spent = spent(state, from_ms, to_ms);
    let prices = state.config.load().mcp.pricing.rules.clone();
    let mut known = state.data_plane.tool_servers();
    for name in spent.keys() {
        if known.iter().all(|server| server.name != *name) {
            known.push(ToolServerNow {
                name: name.clone(),
                ..ToolServerNow::default()
            });
        }
    }
    let mut servers: Vec<wire::ToolServerRow> = known
        .into_iter()
        .map(|server| {
            let spent = spent.remove(&server.name).unwrap_or_default();
            server_row(server, spent, &prices)
        })
        .collect();
    servers.sort_by(|one, other| (Reverse(one.spent_usd), &one.name).cmp(&(Reverse(other.spent_usd), &other.name)));
    Ok(wire::ToolServers {
        from: rfc3339_ms(from_ms),
        to: rfc3339_ms(to_ms),
        servers,
    })
}

/// Tool calls are entered with `SERVER:TOOL` as their model.
fn spent(state: &ControlState, from_ms: i64, to_ms: i64) -> Spent {
    let rows = state.ledger.summary(&SummaryQuery {
        from_ms,
        to_ms,
        by: Dimension::Model,
        tenant: None,
    });
    let mut spent = Spent::new();
    let mut add = |provider: &str, model: &str, more: &dyn Fn(&mut Sums)| {
        let named = model.split_once(':').filter(|_| provider == PROVIDER);
        if let Some((server, tool)) = named {
            more(
                spent
                    .entry(server.to_owned())
                    .or_default()
                    .entry(tool.to_owned())
                    .or_default(),
            );
        }
    };
    for SummaryRow {
        provider,
        model,
        requests,
        errors,
        cost,
        ..
    } in &rows
    {
        add(provider, model, &|sums| {
            sums.calls += requests;
            sums.failed += errors;
            sums.spent = sums.spent.saturating_add(*cost);
        });
    }
    for hold in state.ledger.open_holds() {
        let facts = &hold.held.facts;
        add(&facts.provider, &facts.requested_model, &|sums| {
            sums.held_calls += 1;
            sums.held = sums.held.saturating_add(hold.amounts.usd);
        });
    }
    spent
}

fn server_row(server: ToolServerNow, mut spent: BTreeMap<String, Sums>, prices: &[ToolPrice]) -> wire::ToolServerRow {
    let since_ms = server.tools.iter().filter_map(|tool| tool.pinned_ms).min();
    let mut row = wire::ToolServerRow {
        transport: server.transport.to_owned(),
        path: (!server.path.is_empty()).then_some(server.path),
        pin: server.pin.map(str::to_owned),
        pinned_since: since_ms.map(rfc3339_ms),
        name: server.name,
        ..wire::ToolServerRow::default()
    };
    for sums in spent.values() {
        row.calls += sums.calls;
        row.failed += sums.failed;
        row.spent_usd = row.spent_usd.saturating_add(sums.spent);
        row.held_usd = row.held_usd.saturating_add(sums.held);
        row.held_calls += sums.held_calls;
    }
    for pinned in server.tools {
        let sums = spent.remove(&pinned.name).unwrap_or_default();
        row.tools.push(tool_row(&row.name, pinned, sums, prices));
    }
    for (name, sums) in spent {
        let unpinned = PinnedTool {
            name,
            ..PinnedTool::default()
        };
        row.tools.push(tool_row(&row.name, unpinned, sums, prices));
    }
    row.tools
        .sort_by(|one, other| (Reverse(one.spent_usd), &one.name).cmp(&(Reverse(other.spent_usd), &other.name)));
    row
}

fn tool_row(server: &str, tool: PinnedTool, sums: Sums, prices: &[ToolPrice]) -> wire::ToolRow {
    let pinned = tool.pinned;
    let pinned_by = tool.pinned_by;
    let pinned_at = tool.pinned_ms.map(rfc3339_ms);
    let changed = tool.changed.map(|changed| wire::ToolChange {
        now: changed.now,
        since: changed.since_ms.map(rfc3339_ms),
        refused: changed.refused,
        is_refused: changed.is_refused,
        pinned: pinned.clone(),
        pinned_at,
        pinned_by,
        lines: changed
            .lines
            .into_iter()
            .map(|(sign, line)| (sign.to_string(), line))
            .collect(),
    });
    wire::ToolRow {
        price: price_of(server, &tool.name, prices),
        name: tool.name,
        calls: sums.calls,
        failed: sums.failed,
        held_usd: sums.held,
        spent_usd: sums.spent,
        pinned: (!pinned.is_empty()).then_some(pinned),
        changed,
    }
}

/// By the first rule that is for a tool: `$0.05 a call + $0.002 a second`.
fn price_of(server: &str, tool: &str, prices: &[ToolPrice]) -> Option<String> {
    let fits =
        |pattern: &str, name: &str| pattern.is_empty() || Glob::new(pattern).is_ok_and(|glob| glob.matches(name));
    let rule = prices
        .iter()
        .find(|rule| fits(&rule.server, server) && fits(&rule.tool, tool))?;
    let ToolRates {
        per_call,
        per_kb_arguments,
        per_kb_result,
        per_second,
        per_item,
    } = &rule.rates;
    let parts = [
        (per_call, "a call"),
        (per_kb_arguments, "a KB of arguments"),
        (per_kb_result, "a KB of result"),
        (per_second, "a second"),
        (per_item, "an item"),
    ];
    let words: Vec<String> = parts
        .iter()
        .filter(|(rate, _)| !rate.is_zero())
        .map(|(rate, of)| format!("${rate} {of}"))
        .collect();
    Some(match words.is_empty() {
        true => "nothing".to_owned(),
        false => words.join(" + "),
    })
}

fn decide(state: &ControlState, call: &Call, asked: wire::DecideParams) -> Result<wire::Decided, RpcError> {
    for (name, value) in [
        ("server", &asked.server),
        ("tool", &asked.tool),
        ("definition", &asked.definition),
    ] {
        needed(name, value)?;
    }
    let id = change_id(decision_ms(state));
    let mut answer = wire::Decided {
        server: asked.server.clone(),
        tool: asked.tool.clone(),
        pinned: asked.definition.clone(),
        accepted: asked.accept,
        change: id.to_string(),
    };
    let decision = ToolDecision {
        server: &asked.server,
        tool: &asked.tool,
        definition: &asked.definition,
        accept: asked.accept,
        author: &call.caller.name,
    };
    state.data_plane.decide_tool(&decision, &mut |pinned| {
        if !asked.accept {
            answer.pinned = pinned.unwrap_or_default().to_owned();
        }
        let changed = Changed {
            subject: format!("mcp-tool:{}/{}", asked.server, asked.tool),
            note: asked.note.clone(),
            before: Some(json!({ "pinned": pinned })),
            after: Some(json!({ "pinned": answer.pinned, "definition": asked.definition, "accepted": asked.accept })),
            ..Changed::default()
        };
        call.commit(&state.ledger, id, changed, &answer)
    })?;
    Ok(answer)
}
