//! `agentledger check`: reads a configuration and everything it names, and starts nothing.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, ConfigErrors, Env};
use crate::launch::{self, LaunchError};

/// What the configuration says, in a few lines; its warnings first.
///
/// # Errors
/// All faults, each with file, line and column.
pub fn run(path: Option<&Path>, env: &Env) -> Result<String, LaunchError> {
    let loaded = launch::read(path, env)?;
    let missing = unreadable(&loaded.config);
    if !missing.is_empty() {
        return Err(ConfigErrors(missing).into());
    }
    let mut out = String::new();
    for warning in &loaded.config.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    let file = loaded.file.map_or_else(
        || "no file, defaults and environment".to_owned(),
        |file| file.display().to_string(),
    );
    let _ = writeln!(out, "{file}: good");
    let _ = writeln!(out, "  listen     {}", loaded.config.listen);
    let _ = writeln!(out, "  ledger     {}", loaded.config.storage.dir.display());
    for provider in &loaded.config.providers {
        let address = &provider.upstream;
        let at = if provider.prefix.is_empty() {
            "/"
        } else {
            &provider.prefix
        };
        let scheme = if address.tls { "https" } else { "http" };
        let _ = writeln!(
            out,
            "  provider   {} ({}) at {at} to {scheme}://{}:{}{}",
            provider.name, provider.dialect, address.host, address.port, address.base_path
        );
    }
    for policy in loaded.policies.names() {
        let _ = writeln!(out, "  policy     {policy}");
    }
    Ok(out)
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
        Some((format!("ca_file of provider {}", provider.name), file))
    });
    let fault = |(key, file): (String, &PathBuf)| {
        let error = std::fs::File::open(file).err()?;
        Some(ConfigError {
            location: String::new(),
            key,
            message: format!("{}: {error}", file.display()),
        })
    };
    tls.chain(authorities).filter_map(fault).collect()
}
