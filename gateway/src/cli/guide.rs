//! `agentledger guide`: the guide's pages, as they are.

use clap::Args;

use super::CliError;
use super::client::ClientError;
use crate::config::nearest;
use crate::guide::{self, PAGES, Page};

#[derive(Debug, Args)]
pub struct GuideArgs {
    /// A page, or a client such as claude-code; without it what there is to read
    topic: Option<String>,
}

/// A page, or what there is to read.
pub fn run(args: &GuideArgs) -> Result<String, CliError> {
    let Some(topic) = &args.topic else {
        let width = PAGES.iter().map(|page| page.name.len()).max().unwrap_or_default();
        let row = |page: &Page| format!("{:width$}  {}\n", page.name, page.title());
        let listed: String = PAGES.iter().map(row).collect();
        let sections: Vec<&str> = guide::topics().skip(PAGES.len()).map(|(name, _)| name).collect();
        return Ok(format!(
            "{listed}\nSections by their own names: {}\n",
            sections.join(", ")
        ));
    };
    let text = guide::text(topic).ok_or_else(|| {
        let near = nearest(guide::topics().map(|(name, _)| name), topic);
        let meant = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        ClientError::Usage(format!("the guide has no page {topic:?}{meant}"))
    })?;
    Ok(plain(text))
}

/// Without what a fence says of its block to tests.
fn plain(text: &str) -> String {
    let of_fence = |line: &str| match line.split_once(' ') {
        Some((fence, _)) if fence.starts_with("```") => format!("{fence}\n"),
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(of_fence).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn print(topic: Option<&str>) -> Result<String, CliError> {
        run(&GuideArgs {
            topic: topic.map(str::to_owned),
        })
    }

    #[test]
    fn each_page_of_the_folder_is_there_under_its_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/guide");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        let mut names: Vec<&str> = PAGES.iter().map(|page| page.name).collect();
        names.sort_unstable();
        assert_eq!(names, files);
        let listed = print(None).unwrap();
        for page in PAGES {
            assert!(page.text.starts_with("# "), "{}", page.name);
            assert!(listed.contains(&format!("  {}\n", page.title())), "{listed}");
            let printed = print(Some(page.name)).unwrap();
            assert_eq!(printed.lines().count(), page.text.lines().count());
            assert!(
                !printed.contains(" test=") && !printed.contains(" needs="),
                "{}",
                page.name
            );
            assert!(page.text.contains(" test=") || page.text.contains(" needs=") || printed == page.text);
        }
    }

    #[test]
    fn a_page_that_is_not_there_names_one_that_may_be_meant() {
        let error = print(Some("budgts")).unwrap_err().to_string();
        assert!(error.contains("did you mean budgets?"), "{error}");
        let error = print(Some("claud-code")).unwrap_err().to_string();
        assert!(error.contains("did you mean claude-code?"), "{error}");
        assert!(print(Some("claude-code")).unwrap().starts_with("## Claude Code\n"));
        assert!(print(None).unwrap().contains("claude-code, claude, codex"));
    }
}
