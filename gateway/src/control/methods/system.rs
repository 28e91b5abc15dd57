//! The methods about the gateway itself.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Dimension, Session, Status, SummaryQuery, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;
use serde_json::Value;

use crate::config::{Config, Durability};
use crate::control::error::RpcError;
use crate::control::ledger_view::now_ms;
use crate::control::methods::clock;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::{Nothing, parse_last};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::{ControlState, PluginInfo};
use crate::control::wire;
use crate::telemetry::alerts::{NumberedAlert, Severity};

/// What is shown in place of a whole key.
const REDACTED: &str = "***";
/// How long a token lasts that is given out.
const TOKEN_LASTS: &str = "12h";
const TOKEN_LASTS_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Folders within folders of the store.
const DEPTH_MAX: usize = 4;
/// How long an alert asks for a person.
const OPEN_MS: i64 = 24 * 3_600_000;

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
            "system.whoami",
            Role::Read,
            Scope::Tenant,
            "Who calls, and what it may.",
            r#"{}"#,
        ),
        whoami,
    )?;
    table.add(
        Method::new(
            "system.token",
            Role::Admin,
            Scope::Whole,
            "A token for a while, for whoever opens the dashboard. It ends with the gateway, its time, and the token that it was got by.",
            r#"{"role": "read", "lasts": "12h"}"#,
        ),
        token,
    )?;
    table.add(
        Method::new(
            "system.backups",
            Role::Read,
            Scope::Whole,
            "The archives that the schedule keeps, and the last backup that failed.",
            r#"{}"#,
        ),
        backups,
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
    let (sessions_active, alerts_open) = open_matters(state, call)?;
    status.sessions_active = sessions_active;
    status.alerts_open = alerts_open;
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

/// Sessions that are active, and alerts that ask for a person: those that the caller sees.
fn open_matters(state: &ControlState, call: &Call) -> Result<(u64, u64), RpcError> {
    let now_ms = state.ledger.now_ms();
    let timeout_ms = state.config.load().agent.session_timeout_ms();
    let sessions = state.ledger.sessions();
    let active = match &call.caller.tenant {
        None => sessions.active(now_ms, timeout_ms),
        Some(own) => {
            let is_own =
                |session: &Session| session.who.tenant == *own && session.status(now_ms, timeout_ms) == Status::Active;
            sessions.select(is_own).len()
        }
    };
    let recent = state.data_plane.alerts().recent();
    let is_open = |numbered: &&Arc<NumberedAlert>| {
        let alert = &numbered.alert;
        let is_recent = alert.at_ms >= now_ms.saturating_sub(OPEN_MS);
        is_recent && alert.severity != Severity::Info && call.caller.sees(&alert.tenant)
    };
    Ok((active as u64, recent.iter().filter(is_open).count() as u64))
}

fn token(state: &ControlState, call: &Call, asked: wire::TokenParams) -> Result<wire::TokenResult, RpcError> {
    let (role, word) = match asked.role.as_str() {
        "" | "read" => (Role::Read, "read"),
        "operate" => (Role::Operate, "operate"),
        "admin" => (Role::Admin, "admin"),
        _ => return Err(RpcError::InvalidParams("role: read, operate or admin".to_owned())),
    };
    let lasts = if asked.lasts.is_empty() {
        TOKEN_LASTS
    } else {
        &asked.lasts
    };
    let lasts =
        parse_last(lasts).map_err(|_| RpcError::InvalidParams("lasts: a time such as 90m or 12h".to_owned()))?;
    if lasts.is_zero() || lasts > TOKEN_LASTS_MAX {
        return Err(RpcError::InvalidParams("lasts: at most 7d".to_owned()));
    }
    // Of a gateway that runs: nobody else lets anybody in.
    let now_ms = state.ledger.live()?.now_ms();
    let expires_ms = now_ms.saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX));
    let token = blake3::Hash::from_bytes(rand::random()).to_hex().to_string();
    state.issued_tokens.keep(&token, &call.caller, role, expires_ms);
    let (by, expires) = (&call.caller, rfc3339_ms(expires_ms));
    tracing::info!(role = word, by = %by.name, peer = %by.peer, %expires, "a token was given out");
    Ok(wire::TokenResult {
        token,
        role: word.to_owned(),
        expires,
    })
}

fn whoami(state: &ControlState, call: &Call, _: Nothing) -> Result<wire::WhoAmI, RpcError> {
    let caller = &call.caller;
    let config = state.config.load();
    let token = config.control.tokens.iter().find(|token| *token.name == *caller.name);
    let role = match caller.role {
        Role::Read => "read",
        Role::Operate => "operate",
        Role::Admin => "admin",
    };
    Ok(wire::WhoAmI {
        name: caller.name.to_string(),
        role: role.to_owned(),
        tenant: caller.tenant.as_ref().map(ToString::to_string),
        expires: token.and_then(|token| token.expires_ms).map(rfc3339_ms),
    })
}

fn backups(state: &ControlState, _: &Call, _: Nothing) -> Result<wire::Backups, RpcError> {
    let config = state.config.load();
    Ok(wire::Backups {
        backups: state.data_plane.backups(),
        every: config.backup.every.map(go_text),
        keep: config.backup.keep as u64,
        folder: config.backup.dir.display().to_string(),
    })
}

/// `24h`, `90m`, `45s`.
fn go_text(every: Duration) -> String {
    let seconds = every.as_secs();
    match seconds {
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
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
    let entries = state.ledger.summary(&SummaryQuery {
        from_ms: state.started_at_ms,
        to_ms: i64::MAX,
        by: Dimension::Provider,
        tenant: None,
    });
    let calls: HashMap<&str, u64> = entries.iter().map(|row| (&*row.provider, row.requests)).collect();
    let calls_of = |provider: &String| calls.get(provider.as_str()).copied().unwrap_or(0);
    let row = |plugin: PluginInfo| wire::PluginRow {
        calls: plugin.providers.iter().map(calls_of).sum(),
        failures: plugin.failures,
        name: plugin.name,
        version: plugin.version,
        source: plugin.source,
        providers: plugin.providers,
    };
    Ok(wire::PluginRows {
        plugins: state.data_plane.plugins().into_iter().map(row).collect(),
    })
}
