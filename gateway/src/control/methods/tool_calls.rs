//! Tool calls of MCP servers that clients start themselves: begun before the server has them, ended by its answer.

use std::sync::Arc;

use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

/// Calls that `mcp.keep` names at most.
const KEEP_MAX: usize = 1_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add_waiting(
        Method::new(
            "mcp.begin",
            Role::Operate,
            Scope::Whole,
            "Holds a tool call of a wrapped MCP server before the server has it, or refuses it.",
            r#"{"id":"01KCR5T7QK3W4S6J8M0N2P4R6T","server":"files","tool":"read","arguments":"{\"path\":\"a\"}","argument_bytes":12}"#,
        ),
        begin,
    )?;
    table.add(
        Method::new(
            "mcp.keep",
            Role::Operate,
            Scope::Whole,
            "Says of open tool calls that they go on.",
            r#"{"ids":["01KCR5T7QK3W4S6J8M0N2P4R6T"]}"#,
        ),
        keep,
    )?;
    table.add(
        Method::new(
            "mcp.settle",
            Role::Operate,
            Scope::Whole,
            "Enters a tool call by its answer, or by what became of it.",
            r#"{"id":"01KCR5T7QK3W4S6J8M0N2P4R6T","ending":"result","result_bytes":120}"#,
        ),
        end,
    )
}

async fn begin(state: Arc<ControlState>, params: wire::BeginParams) -> Result<wire::BeginResult, RpcError> {
    state.data_plane.begin_call(params).await
}

fn keep(state: &ControlState, _: &Call, params: wire::KeepParams) -> Result<wire::KeepResult, RpcError> {
    if params.ids.len() > KEEP_MAX {
        return Err(RpcError::InvalidParams(format!("ids: {KEEP_MAX} at most")));
    }
    let kept = state.data_plane.keep_calls(&params.ids)?;
    Ok(wire::KeepResult { kept })
}

fn end(state: &ControlState, _: &Call, params: wire::EndParams) -> Result<wire::EndResult, RpcError> {
    state.data_plane.end_call(&params)
}
