//! `agentledger policy new`: a policy that does something, with a spec that shows it, to begin from.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::author::AuthoringError;
use crate::cli::form::FormArgs;
use crate::cli::{CliError, Done};
use crate::policy::is_plain_word;

const POLICY: &str = include_str!("new/policy.lua");
const SPEC: &str = include_str!("new/spec.lua");
/// The name that both templates bear.
const TEMPLATE: &str = "my-policy";

/// Writes DIR/NAME.lua and DIR/spec/NAME.lua, and overwrites nothing.
pub fn run(name: &str, dir: &Path, format: FormArgs) -> Result<Done, CliError> {
    if !is_plain_word(name) || name.starts_with('.') {
        let message = format!("{name:?} is no name for a policy: 1 to 64 letters, digits, dashes, dots, _");
        return Err(AuthoringError(message).into());
    }
    let file = format!("{name}.lua");
    let (policy, spec) = (dir.join(&file), dir.join("spec").join(&file));
    if let Some(known) = [&policy, &spec].into_iter().find(|path| path.exists()) {
        return Err(AuthoringError(format!("{} is there already", known.display())).into());
    }
    let wrong = |path: &PathBuf, error: &dyn std::fmt::Display| AuthoringError(format!("{}: {error}", path.display()));
    let folder = dir.join("spec");
    std::fs::create_dir_all(&folder).map_err(|error| wrong(&folder, &error))?;
    for (path, template) in [(&policy, POLICY), (&spec, SPEC)] {
        write_new(path, &template.replace(TEMPLATE, name)).map_err(|error| wrong(path, &error))?;
    }
    let (policy, spec, dir) = (policy.display(), spec.display(), dir.display());
    let result = json!({"policy": policy.to_string(), "spec": spec.to_string()});
    Ok(Done::well(format.one(&result, || {
        format!(
            "{policy}\n{spec}\n\n\
             next:\n\
             \x20 agentledger policy check {policy}\n\
             \x20 agentledger policy test {dir} --coverage\n\
             \x20 agentledger policy eval {policy} --call '{{\"agent\": \"coder\"}}' --spent agent:day=4.50\n\
             A gateway whose policies.dir is {dir} takes it within a second; `agentledger policy list` shows it.\n"
        )
    })))
}

/// Refuses where somebody else was quicker.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::cli::policy::{check, test};

    #[test]
    fn the_template_passes_the_checker_and_its_spec_reaches_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        run("a.b_c-1", folder.path(), FormArgs::default()).unwrap();
        let checked = check::run(vec![folder.path().to_owned()], None, FormArgs::default()).unwrap();
        assert!(checked.well, "{}", checked.text);
        let args = test::TestArgs {
            dir: Some(folder.path().to_owned()),
            coverage: true,
            min_coverage: Some(100),
        };
        let tested = test::run(args, FormArgs::default()).unwrap();
        assert!(tested.well, "{}", tested.text);
        assert!(!tested.text.contains(TEMPLATE), "{}", tested.text);
    }
}
