//! The gateway itself: how it is, what it goes by, what it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ClockStatus;

/// Result of `system.status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemStatus {
    pub version: String,
    pub started: String,
    pub uptime_s: u64,
    /// Whether requests are taken; `reason` says why not.
    pub ready: bool,
    pub reason: Option<String>,
    /// The last event on disk, `SEQUENCE:HASH`.
    pub head: Option<String>,
    pub journal: Option<JournalStatus>,
    pub holds_open: u64,
    /// Requests that are not answered yet.
    pub in_flight: u64,
    /// Sessions that are active, and alerts of the last 24 hours that ask for a person (`warning`, `critical`): those that the token
    /// sees.
    #[serde(default)]
    pub sessions_active: u64,
    #[serde(default)]
    pub alerts_open: u64,
    /// For tokens of the whole installation; null for those of a tenant, as all below.
    pub clock: Option<ClockStatus>,
    /// Null where no file was read.
    pub config_file: Option<String>,
    pub listen: Option<String>,
    pub control_listen: Option<String>,
    pub control_socket: Option<String>,
    pub storage: Option<StorageStatus>,
}

/// The journal's writer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JournalStatus {
    /// Decided, not on disk yet.
    pub waiting_events: u64,
    /// Places for further events.
    pub places_left: u64,
    /// How long no checkpoint was written though there is something to write down.
    pub checkpoint_age_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StorageStatus {
    pub folder: String,
    /// The version of its format.
    pub schema: u32,
    /// What its files take on disk.
    pub bytes: u64,
    /// `strict` or `relaxed`.
    pub durability: String,
    /// Null: all are kept.
    pub retention_months: Option<u32>,
}

/// `config.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigParams {
    /// Only what stands at or below this path: `limits`, `providers.openai.upstream`. Empty: everything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// Result of `config.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigValues {
    /// By path; what was changed at runtime comes last.
    pub values: Vec<ConfigValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigValue {
    pub path: String,
    /// As it was written, as text; a secret is `***`. What was changed at runtime is JSON.
    pub value: Value,
    /// `default`, `FILE:LINE`, `environment NAME` or `runtime`.
    pub source: String,
}

/// Result of `plugin.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PluginRows {
    pub plugins: Vec<PluginRow>,
}

/// A plugin in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PluginRow {
    /// The dialect that it reads.
    pub name: String,
    pub version: String,
    /// `built-in`, or the file it came from.
    pub source: String,
    /// Providers that it serves.
    pub providers: Vec<String>,
    /// Entries of these since the gateway started.
    #[serde(default)]
    pub calls: u64,
    /// Calls into it since then that trapped, ran out of their limits or answered outside their contract.
    #[serde(default)]
    pub failures: u64,
}

/// Result of `system.whoami`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    /// The token's; `owner` for the control socket's owner.
    pub name: String,
    /// `read`, `operate` or `admin`.
    pub role: String,
    /// The only tenant that it sees and changes; null: all.
    pub tenant: Option<String>,
    /// From when on it opens nothing; null: never.
    pub expires: Option<String>,
}

/// `system.token`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenParams {
    /// `read` (the default), `operate` or `admin`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// How long it opens anything: `90m`, `12h` (the default), at most `7d`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lasts: String,
}

/// Result of `system.token`. The token is nowhere else: not in the audit, nor on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenResult {
    pub token: String,
    pub role: String,
    pub expires: String,
}

/// Result of `system.backups`: the archives that the schedule keeps, and the last backup that failed, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backups {
    pub backups: Vec<BackupRow>,
    /// `24h`; null: there is no schedule.
    pub every: Option<String>,
    /// Archives in the folder; the oldest go.
    pub keep: u64,
    pub folder: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupRow {
    pub at: String,
    /// Null where none was written.
    pub file: Option<String>,
    pub bytes: Option<u64>,
    /// `written` or `failed`.
    pub state: String,
    /// Why it failed, since the gateway started; empty where it was written.
    pub why: String,
}
