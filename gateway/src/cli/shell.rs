//! What makes the command at home on a machine: completions for a shell, and manual pages.

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use super::CliError;
use super::client::ClientError;
use super::form::FormArgs;

const NAME: &str = "agentledger";

/// A script for the shell, to be sourced or put where it looks for completions.
pub fn completions(mut root: Command, shell: Shell) -> Result<String, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut root, NAME, &mut script);
    text(script)
}

/// The page of the command itself; with a folder a page for each command, in it.
pub fn man(root: Command, dir: Option<&Path>) -> Result<String, CliError> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let manual = clap_mangen::Man::new(root).source(super::version::text(FormArgs::default()).trim_end());
        manual.render(&mut page)?;
        return text(page);
    };
    let unwritable = |error: io::Error| ClientError::Local(format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(unwritable)?;
    clap_mangen::generate_to(root, dir).map_err(unwritable)?;
    Ok(format!(
        "The pages are in {}: man -l {}/{NAME}.1\n",
        dir.display(),
        dir.display()
    ))
}

fn text(bytes: Vec<u8>) -> Result<String, CliError> {
    String::from_utf8(bytes).map_err(|error| CliError::Write(io::Error::other(error)))
}
