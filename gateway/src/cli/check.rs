//! `agentledger check`: reads a configuration and everything it names, as `serve` would, and starts nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::CliError;
use super::ask::{ConfigArgs, params};
use super::client::Client;
use super::form::FormArgs;
use crate::config::{Config, ConfigError, ConfigErrors, Durability, Env, Provider};
use crate::files;
use crate::launch::{self, LaunchError, LoadedSetup};
use crate::policy::PolicyError;
use crate::price::Unpriced;

#[derive(Debug, Default, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub format: FormArgs,
}

/// What is configured, warnings first; or all faults at once.
pub fn run(path: Option<&Path>, format: FormArgs, env: &Env) -> Result<String, CliError> {
    let loaded = launch::read(path, env)?;
    let unknown = unknown_policies(&loaded);
    if !unknown.is_empty() {
        return Err(LaunchError::Policies(unknown).into());
    }
    let missing = unreadable(&loaded.config);
    if !missing.is_empty() {
        return Err(ConfigErrors(missing).into());
    }
    let checked = checked(&loaded);
    Ok(format.one(&checked, || report(&checked)))
}

/// Confs of policies that neither the files have nor the store: a running gateway's, or that of none.
fn unknown_policies(loaded: &LoadedSetup) -> Vec<PolicyError> {
    let nowhere = |policies: &mut dyn Iterator<Item = &String>| loaded.policies.unknown(policies);
    if nowhere(&mut loaded.confs.keys()).is_empty() {
        return Vec::new();
    }
    let client = Client::open(&loaded.config).ok().flatten();
    let is_stored = |policy: &String| {
        let asked = params([("policy", policy.as_str().into())]);
        let kept = client.as_ref().map(|client| client.call_raw("policy.history", &asked));
        kept.is_some_and(|kept| kept.is_ok())
    };
    nowhere(&mut loaded.confs.keys().filter(|policy| !is_stored(policy)))
}

/// Files that are read only when they are needed: told now rather than then.
fn unreadable(config: &Config) -> Vec<ConfigError> {
    let tls = config
        .tls
        .iter()
        .flat_map(|tls| [("tls.cert_file", &tls.cert_file), ("tls.key_file", &tls.key_file)]);
    let tls = tls.map(|(key, file)| (key.to_owned(), file));
    let authorities = config.providers.iter().filter_map(|provider| {
        let file = provider.upstream.ca_file.as_ref()?;
        Some((format!("providers.{}.ca_file", provider.name), file))
    });
    let fault = |(key, file): (String, &PathBuf)| {
        let error = files::open(file, files::TEXT_BYTES_MAX).err()?;
        Some(ConfigError {
            location: String::new(),
            key,
            message: format!("{}: {error}", file.display()),
        })
    };
    tls.chain(authorities).filter_map(fault).collect()
}

/// What there is, as programs read it.
fn checked(loaded: &LoadedSetup) -> Value {
    let config = &loaded.config;
    let durability = match config.storage.durability {
        Durability::Strict => "strict",
        Durability::Relaxed => "relaxed",
    };
    let budgets = &config.budgets;
    let limits = usize::from(budgets.default.is_some()) + usize::from(budgets.global.is_some()) + budgets.rules.len();
    let names = loaded.policies.names();
    json!({
        "ok": true,
        "warnings": config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "config": loaded.file.as_ref().map(|file| file.display().to_string()),
        "listen": config.listen,
        "tls": config.tls.is_some(),
        "ledger": config.storage.dir.display().to_string(),
        "durability": durability,
        "providers": config.providers.iter().map(describe).collect::<Vec<_>>(),
        "policies": names.iter().map(|name| &**name).collect::<Vec<&str>>(),
        "budgets": limits,
    })
}

/// The same for people, a line each.
fn report(checked: &Value) -> String {
    let text = |name: &str| checked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |name: &str| {
        let all = checked.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let mut lines: Vec<String> = texts("warnings")
        .iter()
        .map(|warning| format!("warning: {warning}"))
        .collect();
    let file = Some(text("config")).filter(|file| !file.is_empty());
    lines.push(format!("config      {}", file.as_deref().unwrap_or("none, defaults")));
    let tls = checked.get("tls").and_then(Value::as_bool).unwrap_or(false);
    lines.push(format!(
        "listen      {}{}",
        text("listen"),
        if tls { " (TLS)" } else { "" }
    ));
    lines.push(format!("ledger      {} ({})", text("ledger"), text("durability")));
    lines.extend(
        texts("providers")
            .iter()
            .map(|provider| format!("provider    {provider}")),
    );
    lines.extend(texts("policies").iter().map(|policy| format!("policy      {policy}")));
    let limits = checked.get("budgets").and_then(Value::as_u64).unwrap_or_default();
    let limits = if limits == 0 {
        "none".to_owned()
    } else {
        limits.to_string()
    };
    lines.push(format!("budgets     {limits}"));
    lines.push("OK".to_owned());
    lines.join("\n") + "\n"
}

fn describe(provider: &Provider) -> String {
    let upstream = &provider.upstream;
    let scheme = if upstream.tls { "https" } else { "http" };
    let host = if upstream.host.contains(':') {
        format!("[{}]", upstream.host)
    } else {
        upstream.host.clone()
    };
    let prefix = if provider.prefix.is_empty() {
        "/v1"
    } else {
        &provider.prefix
    };
    let unpriced = match provider.unpriced {
        Unpriced::Dearest => "",
        Unpriced::Refuse => ", unpriced models refused",
        Unpriced::Free => ", free",
        Unpriced::Price { .. } => ", default price",
    };
    let Provider { name, dialect, .. } = provider;
    format!(
        "{name} at {prefix} -> {scheme}://{host}:{}{} ({dialect}{unpriced})",
        upstream.port, upstream.base_path
    )
}
