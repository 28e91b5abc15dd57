//! `agentledger check`: reads a configuration and everything it names, and starts nothing.

use std::fmt::Write;
use std::path::Path;

use crate::config::Env;
use crate::launch::{self, LaunchError};

/// What the configuration says, in a few lines; its warnings first.
///
/// # Errors
/// All faults, each with file, line and column.
pub fn run(path: Option<&Path>) -> Result<String, LaunchError> {
    let loaded = launch::read(path, &Env::of_process())?;
    let mut out = String::new();
    for warning in &loaded.config.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    let file = loaded.file.map_or_else(|| "no file, defaults and environment".to_owned(), |file| file.display().to_string());
    let _ = writeln!(out, "{file}: good");
    let _ = writeln!(out, "  listen     {}", loaded.config.listen);
    let _ = writeln!(out, "  ledger     {}", loaded.config.storage.dir.display());
    for provider in &loaded.config.providers {
        let address = &provider.upstream;
        let at = if provider.prefix.is_empty() { "/" } else { &provider.prefix };
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
