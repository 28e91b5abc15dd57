//! `agentledger check`: reads a configuration and everything it names, as `serve` would, and starts nothing.

use std::path::{Path, PathBuf};

use super::CliError;
use super::ask::params;
use super::client::Client;
use crate::config::{Config, ConfigError, ConfigErrors, Durability, Env, Provider};
use crate::files;
use crate::launch::{self, LaunchError, LoadedSetup};
use crate::policy::PolicyError;
use crate::price::Unpriced;

/// What is configured, warnings first; or all faults at once.
pub fn run(path: Option<&Path>, env: &Env) -> Result<String, CliError> {
    let loaded = launch::read(path, env)?;
    let unknown = unknown_policies(&loaded);
    if !unknown.is_empty() {
        return Err(LaunchError::Policies(unknown).into());
    }
    let missing = unreadable(&loaded.config);
    if !missing.is_empty() {
        return Err(ConfigErrors(missing).into());
    }
    Ok(report(&loaded))
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

fn report(loaded: &LoadedSetup) -> String {
    let config = &loaded.config;
    let mut lines: Vec<String> = config
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}"))
        .collect();
    let file = loaded
        .file
        .as_ref()
        .map_or_else(|| "none, defaults".to_owned(), |file| file.display().to_string());
    let durability = match config.storage.durability {
        Durability::Strict => "strict",
        Durability::Relaxed => "relaxed",
    };
    lines.push(format!("config      {file}"));
    lines.push(format!(
        "listen      {}{}",
        config.listen,
        if config.tls.is_some() { " (TLS)" } else { "" }
    ));
    lines.push(format!("ledger      {} ({durability})", config.storage.dir.display()));
    lines.extend(
        config
            .providers
            .iter()
            .map(|provider| format!("provider    {}", describe(provider))),
    );
    lines.extend(loaded.policies.names().iter().map(|name| format!("policy      {name}")));
    let budgets = &config.budgets;
    let limits = usize::from(budgets.default.is_some()) + usize::from(budgets.global.is_some()) + budgets.rules.len();
    lines.push(format!(
        "budgets     {}",
        if limits == 0 {
            "none".to_owned()
        } else {
            limits.to_string()
        }
    ));
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
