//! `agentledger policy test`: runs the specs beside a folder's policies.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::CliError;
use crate::policy::spec;

/// The specs could not be run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SpecsError(String);

/// What came of each spec, and whether all went well. Without a folder it is `policies`.
pub fn test(dir: Option<PathBuf>) -> Result<(String, bool), CliError> {
    let dir = dir.unwrap_or_else(|| PathBuf::from("policies"));
    let outcomes = spec::test_folder(&dir).map_err(|errors| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        SpecsError(all.join("\n"))
    })?;
    let (mut report, mut file) = (String::new(), Path::new(""));
    for outcome in &outcomes {
        if outcome.file != file {
            file = &outcome.file;
            // Writing to a String cannot fail.
            let _ = writeln!(report, "{}", file.display());
        }
        let _ = match &outcome.fault {
            None => writeln!(report, "  ok    {}", outcome.spec),
            Some(fault) => writeln!(
                report,
                "  WRONG {}\n        {}",
                outcome.spec,
                fault.trim_end().replace('\n', "\n        ")
            ),
        };
    }
    let wrong = outcomes.iter().filter(|outcome| outcome.fault.is_some()).count();
    let _ = writeln!(report, "{} specs, {wrong} wrong", outcomes.len());
    Ok((report, wrong == 0))
}
