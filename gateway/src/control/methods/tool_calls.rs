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
/// Tools that `mcp.list` names at most.
const LIST_MAX: usize = 1_000;
/// Longest name of a definition: a hash of 32 bytes in hexadecimal digits.
const DEFINITION_BYTES_MAX: usize = 64;

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
            "mcp.list",
            Role::Operate,
            Scope::Whole,
            "Says which tools of a wrapped MCP server's list its caller may not see, and pins those that are new where the \
             configuration pins them.",
            r#"{"server":"files","tools":[{"name":"read","definition":"5d1c0e"}]}"#,
        ),
        list,
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

fn list(state: &ControlState, _: &Call, params: wire::ListParams) -> Result<wire::ListResult, RpcError> {
    if params.tools.len() > LIST_MAX {
        return Err(RpcError::InvalidParams(format!("tools: {LIST_MAX} at most")));
    }
    if params
        .tools
        .iter()
        .any(|tool| tool.definition.len() > DEFINITION_BYTES_MAX)
    {
        let message = format!("definition: {DEFINITION_BYTES_MAX} characters at most");
        return Err(RpcError::InvalidParams(message));
    }
    state.data_plane.list_tools(&params)
}
