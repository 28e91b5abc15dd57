//! The methods about the gateway itself.

use std::path::Path;

use agentledger_ledger::rfc3339_ms;
use jsonrpsee::server::RegisterMethodError;
use serde_json::Value;

use crate::config::{Config, Durability};
use crate::control::error::RpcError;
use crate::control::ledger_view::now_ms;
use crate::control::methods::clock;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::Nothing;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::{ControlState, PluginInfo};
use crate::control::wire;

/// What is shown in place of a whole key.
const REDACTED: &str = "***";
/// Folders within folders of the store.
const DEPTH_MAX: usize = 4;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "system.status",
            Role::Read,
            Scope::Tenant,
            "Whether requests are taken and why not, the journal's head, what runs, and where.",
            r#"{}"#,
        ),
        status,
    )?;
    table.add(
        Method::new(
            "config.get",
            Role::Admin,
            Scope::Whole,
            "The configuration in force: each value with where it came from, secrets left out.",
            r#"{"path": "control"}"#,
        ),
        config,
    )?;
    table.add(
        Method::new(
            "plugin.list",
            Role::Read,
            Scope::Whole,
            "The plugins in use, with the providers they serve.",
            r#"{}"#,
        ),
        plugins,
    )
}

pub(in crate::control) fn status(
    state: &ControlState,
    call: &Call,
    _: Nothing,
) -> Result<wire::SystemStatus, RpcError> {
    let health = state.ledger.health();
    let reason = state
        .ledger
        .not_ready()
        .or_else(|| health.is_none().then(|| "no gateway runs here".to_owned()));
    let uptime_ms = now_ms().saturating_sub(state.started_at_ms);
    let mut status = wire::SystemStatus {
        version: state.version.to_owned(),
        started: rfc3339_ms(state.started_at_ms),
        uptime_s: u64::try_from(uptime_ms / 1_000).unwrap_or(0),
        ready: reason.is_none(),
        reason,
        ..wire::SystemStatus::default()
    };
    // Counts of the whole say how much others do.
    if call.caller.tenant.is_some() {
        return Ok(status);
    }
    if let Some(health) = health {
        status.head = Some(health.head.to_string());
        status.holds_open = health.open_holds as u64;
        status.journal = Some(wire::JournalStatus {
            waiting_events: health.waiting_events,
            places_left: health.permits_left as u64,
            checkpoint_age_ms: health.checkpoint_age_ms,
        });
    }
    let config = state.config.load();
    let shown = |path: &Path| path.display().to_string();
    status.in_flight = u64::try_from(state.metrics.in_flight()).unwrap_or(0);
    status.clock = Some(clock::status(state, call, Nothing::default())?);
    status.config_file = config.given.file.as_deref().map(shown);
    status.listen = Some(config.listen.clone());
    status.control_listen = config.control.listen.clone();
    status.control_socket = Some(shown(&config.control.socket));
    status.storage = Some(wire::StorageStatus {
        folder: shown(&config.storage.dir),
        schema: agentledger_ledger::store::SCHEMA,
        bytes: bytes_in(&config.storage.dir, DEPTH_MAX),
        durability: match config.storage.durability {
            Durability::Strict => "strict".to_owned(),
            Durability::Relaxed => "relaxed".to_owned(),
        },
        retention_months: config.storage.retention_months,
    });
    Ok(status)
}

/// What the regular files of a folder take. What vanishes meanwhile counts nothing.
fn bytes_in(folder: &Path, depth: usize) -> u64 {
    let Ok(found) = std::fs::read_dir(folder) else { return 0 };
    let sizes = found.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(meta) if meta.is_dir() && depth > 0 => bytes_in(&entry.path(), depth - 1),
        _ => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

pub(in crate::control) fn config(
    state: &ControlState,
    _: &Call,
    asked: wire::ConfigParams,
) -> Result<wire::ConfigValues, RpcError> {
    let given = settings(&state.config.load(), &asked.path);
    let kinds = ["rule:", "price:", "provider:"].map(|kind| state.ledger.documents(kind));
    let runtime = kinds.into_iter().flatten().map(|document| {
        let value: Value = serde_json::from_str(&document.value).unwrap_or_default();
        // A rule is shown where the list that it joins stands.
        let path = match value.get("list").and_then(Value::as_str) {
            Some(list) => format!("policies.conf.{list}"),
            None => document.subject.to_string(),
        };
        wire::ConfigValue {
            path,
            value: without_keys(value.get("value").cloned().unwrap_or(value)),
            source: "runtime".to_owned(),
        }
    });
    let runtime = runtime.filter(|value| is_below(&asked.path, &value.path));
    Ok(wire::ConfigValues {
        values: given.into_iter().chain(runtime).collect(),
    })
}

/// What a configuration says at or below a path, with its sources.
pub fn settings(config: &Config, path: &str) -> Vec<wire::ConfigValue> {
    let given = config.given.values.iter().filter(|value| is_below(path, &value.path));
    given
        .map(|value| wire::ConfigValue {
            path: value.path.clone(),
            value: Value::String(value.text.clone()),
            source: value.source.clone(),
        })
        .collect()
}

fn is_below(wanted: &str, path: &str) -> bool {
    let rest = path.strip_prefix(wanted);
    rest.is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A pattern without a wildcard is a whole key.
fn without_keys(value: Value) -> Value {
    let is_glob = |text: &str| text.contains(['*', '?', '[']);
    match value {
        Value::Object(fields) => {
            let shown = fields.into_iter().map(|(name, value)| match &value {
                Value::String(text) if name.contains("pattern") && !is_glob(text) => (name, Value::from(REDACTED)),
                _ => (name, without_keys(value)),
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => items.into_iter().map(without_keys).collect(),
        Value::String(text) if text.contains("sk-") && !is_glob(&text) => Value::from(REDACTED),
        other => other,
    }
}

pub(in crate::control) fn plugins(state: &ControlState, _: &Call, _: Nothing) -> Result<wire::PluginRows, RpcError> {
    let row = |plugin: PluginInfo| wire::PluginRow {
        name: plugin.name,
        version: plugin.version,
        source: plugin.source,
        providers: plugin.providers,
    };
    Ok(wire::PluginRows {
        plugins: state.data_plane.plugins().into_iter().map(row).collect(),
    })
}
