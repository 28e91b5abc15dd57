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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn each_spec_is_told_and_one_that_is_wrong_says_what_it_got() {
        let shipped = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies"));
        let (report, ok) = test(Some(shipped)).unwrap();
        assert!(ok && report.ends_with(" specs, 0 wrong\n"), "{report}");
        assert!(
            report.contains("  ok    a leaked key is refused, whatever it does\n"),
            "{report}"
        );

        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("spec")).unwrap();
        let spec = "return { policy = 'block', specs = { { name = 'hopeful', call = {}, expect = { 'allow' } } } }";
        std::fs::write(folder.path().join("spec/block.lua"), spec).unwrap();
        let (report, ok) = test(Some(folder.path().to_owned())).unwrap();
        assert!(
            !ok && report
                .contains("  WRONG hopeful\n        expected\n          allow\n        got\n          nothing"),
            "{report}"
        );
        assert!(test(Some(folder.path().join("nowhere"))).is_err());
    }
}
