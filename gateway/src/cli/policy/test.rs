//! `agentledger policy test`: runs the specs of a folder, and says what they reach.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::{Value, json};

use super::author::AuthoringError;
use crate::cli::form::FormArgs;
use crate::cli::view::{Column, Is};
use crate::cli::{CliError, Done};
use crate::policy::Covered;
use crate::policy::spec::{self, Outcome};

#[derive(Debug, Default, Args)]
pub struct TestArgs {
    /// The folder; `policies` without it
    #[arg(value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub dir: Option<PathBuf>,
    /// Say which lines and branches no spec reaches
    #[arg(long)]
    pub coverage: bool,
    /// Fail where specs reach less than this share of a policy's lines and branches
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub min_coverage: Option<u32>,
}

/// What came of each spec, and whether all went well. Without a folder it is `policies`.
pub fn run(args: TestArgs, format: FormArgs) -> Result<Done, CliError> {
    let dir = args.dir.unwrap_or_else(|| PathBuf::from("policies"));
    let with_coverage = args.coverage || args.min_coverage.is_some();
    let tested = spec::test_folder(&dir, with_coverage).map_err(|errors| AuthoringError::of(&errors))?;
    let wrong = tested.outcomes.iter().filter(|outcome| outcome.fault.is_some()).count();
    let least = args.min_coverage.unwrap_or(0);
    let thin: Vec<&Covered> = tested
        .covered
        .iter()
        .filter(|covered| covered.percent() < least)
        .collect();
    let well = wrong == 0 && thin.is_empty();
    let told = || {
        let mut text = outcomes(&tested.outcomes);
        let _ = writeln!(text, "{} specs, {wrong} wrong", tested.outcomes.len());
        if with_coverage {
            text.push_str(&tested.covered.iter().map(covered).collect::<String>());
        }
        for covered in &thin {
            let _ = writeln!(
                text,
                "{}: {} % is reached, {least} % must be",
                covered.file,
                covered.percent()
            );
        }
        text
    };
    let result = as_value(&tested.outcomes, &tested.covered);
    let text = format.list(&result, "specs", &COLUMNS, told);
    Ok(Done { text, well })
}

/// A spec for programs.
const COLUMNS: [Column; 3] = [
    Column("FILE", "file", Is::Text),
    Column("SPEC", "spec", Is::Text),
    Column("FAULT", "fault", Is::Text),
];

fn outcomes(all: &[Outcome]) -> String {
    let (mut report, mut file) = (String::new(), Path::new(""));
    for outcome in all {
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
    report
}

/// A line for the file, one for lines that were never run, one for each branch that was never taken.
fn covered(covered: &Covered) -> String {
    let reached = |all: usize, missed: usize| format!("{} of {all}", all - missed.min(all));
    let mut text = format!(
        "{:>4} %  {}  lines {}, branches {}\n",
        covered.percent(),
        covered.file,
        reached(covered.lines, covered.lines_missed.len()),
        reached(covered.branches, covered.branches_missed.len())
    );
    if !covered.lines_missed.is_empty() {
        let _ = writeln!(text, "        lines never run: {}", ranges(&covered.lines_missed));
    }
    for missed in &covered.branches_missed {
        let _ = writeln!(
            text,
            "        {}:{}: {}",
            missed.line,
            missed.column,
            never(missed.branch)
        );
    }
    text
}

fn never(branch: &str) -> &'static str {
    match branch {
        "if" => "its condition never held",
        "else" => "its else was never taken",
        "no else" => "one of its conditions always held",
        "loop" => "the loop's body was never run",
        "value" => "this value was never chosen",
        "and" | "or" => "this side was never looked at",
        _ => "the function was never called",
    }
}

/// `3, 7-9`.
fn ranges(lines: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => ranges.push((*line, *line)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn as_value(outcomes: &[Outcome], covered: &[Covered]) -> Value {
    let outcomes = outcomes.iter().map(
        |outcome| json!({"file": outcome.file.display().to_string(), "spec": outcome.spec, "fault": outcome.fault}),
    );
    let covered = covered.iter().map(|covered| {
        let branches = covered.branches_missed.iter();
        let branches =
            branches.map(|missed| json!({"line": missed.line, "column": missed.column, "branch": missed.branch}));
        json!({"file": covered.file, "percent": covered.percent(), "lines": covered.lines,
            "lines_missed": covered.lines_missed, "branches": covered.branches,
            "branches_missed": branches.collect::<Vec<_>>()})
    });
    json!({"specs": outcomes.collect::<Vec<_>>(), "coverage": covered.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::cli::form::Form;

    fn test(dir: &Path) -> Result<Done, CliError> {
        let args = TestArgs {
            dir: Some(dir.to_owned()),
            ..TestArgs::default()
        };
        run(args, FormArgs::default())
    }

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("spec")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn each_spec_is_told_and_one_that_is_wrong_says_what_it_got() {
        let shipped = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies"));
        let Done { text: report, well } = test(&shipped).unwrap();
        assert!(well && report.ends_with(" specs, 0 wrong\n"), "{report}");
        assert!(
            report.contains("  ok    a leaked key is refused, whatever it does\n"),
            "{report}"
        );
        let hopeful = "return { policy = 'block', specs = { { name = 'hopeful', call = {}, expect = { 'allow' } } } }";
        let wrong = folder(&[("spec/block.lua", hopeful)]);
        let Done { text: report, well } = test(wrong.path()).unwrap();
        assert!(
            !well
                && report
                    .contains("  WRONG hopeful\n        expected\n          allow\n        got\n          nothing"),
            "{report}"
        );
        assert!(test(&wrong.path().join("nowhere")).is_err());
    }

    #[test]
    fn what_loops_fails_by_its_name_and_the_others_run() {
        let policy = "return { name = 'p', version = '1', schema = { spin = { type = 'boolean', default = false } },\n\
            setup = function(conf) while conf.spin do end return nil end,\n\
            request = function(_, call) while call.model == 'loop' do pcall(error) end return allow() end }";
        let specs = "return { policy = 'p', specs = { { name = 'spins', call = { model = 'loop' }, expect = {} },\n\
            { name = 'spins at load', conf = { spin = true }, call = {}, expect = {} },\n\
            { name = 'goes on', call = {}, expect = {} } } }";
        let endless = folder(&[
            ("p.lua", policy),
            ("spec/a.lua", "while true do pcall(error) end"),
            ("spec/b.lua", specs),
            ("spec/c.lua", "return { policy = 'p', specs = { { nmae = 'x' } } }"),
            ("spec/d.lua", "return { policy = 'nobody', specs = {} }"),
        ]);
        let Done { text, well } = test(endless.path()).unwrap();
        assert!(!well && text.ends_with("6 specs, 5 wrong\n"), "{text}");
        for expected in [
            "a.lua\n  WRONG (the whole file)\n        runtime error: ran longer than its deadline\n",
            "  WRONG spins\n        ran longer than its deadline\n",
            "  WRONG spins at load\n",
            "  ok    goes on\n",
            "unknown field `nmae`",
            "there is no policy \"nobody\"",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn coverage_names_the_lines_and_branches_that_no_spec_reaches() {
        let policy = "\
local function shout(text)
\treturn text:upper()
end

return {
\tname = \"p\",
\tversion = \"1\",
\trequest = function(_, call)
\t\tif call.agent == \"a\" then return deny({ message = \"a\" }) end
\t\tif call.model == \"m\" or call.user == \"u\" then
\t\t\treturn deny({ message = shout(\"m\") })
\t\tend
\t\tfor _, name in call.models do
\t\t\tlocal word = if name == \"x\" then 1 else 2
\t\t\tif word == 2 then continue end
\t\tend
\tend,
}
";
        let specs = "return { policy = 'p', specs = { { name = 'a', call = { agent = 'a' }, expect = { 'deny 403 policy_denied: a' } },\n\
            { name = 'm', call = { model = 'y' }, expect = {} } } }";
        let dir = folder(&[
            ("p.lua", policy),
            ("spec/p.lua", specs),
            (
                "bare.lua",
                "return { name = 'bare', version = '1', alert = function() end }",
            ),
        ]);
        let args = |min_coverage| TestArgs {
            dir: Some(dir.path().to_owned()),
            coverage: true,
            min_coverage,
        };
        let Done { text, well } = run(args(None), FormArgs::default()).unwrap();
        assert!(well, "{text}");
        for expected in [
            "p.lua  lines 7 of 9, branches 8 of 12\n",
            "lines never run: 2, 11\n",
            "        1:1: the function was never called\n",
            "        10:3: its condition never held\n",
            "        14:37: this value was never chosen\n",
            "        15:4: one of its conditions always held\n",
            "   0 %  ",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!run(args(Some(90)), FormArgs::default()).unwrap().well);
        let json: Value = serde_json::from_str(&run(args(None), FormArgs::of(Form::Json)).unwrap().text).unwrap();
        assert_eq!(json["specs"].as_array().unwrap().len(), 2);
        assert_eq!(json["coverage"][1]["lines_missed"], json!([2, 11]));
    }
}
