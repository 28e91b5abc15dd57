//! `agentledger guide`: the guide's pages, as they are.

use clap::Args;

use super::CliError;
use super::client::ClientError;
use crate::config::nearest;

/// By the name under which a reader asks for it.
const PAGES: [(&str, &str); 20] = [
    ("admin", include_str!("../../assets/guide/admin.md")),
    ("alerts", include_str!("../../assets/guide/alerts.md")),
    ("budgets", include_str!("../../assets/guide/budgets.md")),
    ("cli", include_str!("../../assets/guide/cli.md")),
    ("clients", include_str!("../../assets/guide/clients.md")),
    ("deploy", include_str!("../../assets/guide/deploy.md")),
    ("estimates", include_str!("../../assets/guide/estimates.md")),
    ("fetched", include_str!("../../assets/guide/fetched.md")),
    ("mcp", include_str!("../../assets/guide/mcp.md")),
    ("moving", include_str!("../../assets/guide/moving.md")),
    ("operations", include_str!("../../assets/guide/operations.md")),
    ("plugins", include_str!("../../assets/guide/plugins.md")),
    ("policies", include_str!("../../assets/guide/policies.md")),
    ("policy-versions", include_str!("../../assets/guide/policy-versions.md")),
    ("prices", include_str!("../../assets/guide/prices.md")),
    ("refusals", include_str!("../../assets/guide/refusals.md")),
    ("replay", include_str!("../../assets/guide/replay.md")),
    ("rest", include_str!("../../assets/guide/rest.md")),
    ("rules", include_str!("../../assets/guide/rules.md")),
    ("telemetry", include_str!("../../assets/guide/telemetry.md")),
];

#[derive(Debug, Args)]
pub struct GuideArgs {
    /// A page; without it all of them
    topic: Option<String>,
}

/// A page, or what there is to read.
pub fn run(args: &GuideArgs) -> Result<String, CliError> {
    let Some(topic) = &args.topic else {
        let width = PAGES.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let row = |(name, page): &(&str, &str)| format!("{name:width$}  {}\n", title(page));
        return Ok(PAGES.iter().map(row).collect());
    };
    let found = PAGES.iter().find(|(name, _)| name == topic);
    let (_, page) = found.ok_or_else(|| {
        let near = nearest(PAGES.iter().map(|(name, _)| *name), topic);
        let meant = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        ClientError::Usage(format!("the guide has no page {topic:?}{meant}"))
    })?;
    Ok((*page).to_owned())
}

fn title(page: &str) -> &str {
    page.lines().next().unwrap_or_default().trim_start_matches("# ")
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
        let mut names: Vec<&str> = PAGES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, files);
        let listed = print(None).unwrap();
        for (name, page) in PAGES {
            assert!(page.starts_with("# "), "{name}");
            assert!(listed.contains(&format!("  {}\n", title(page))), "{listed}");
            assert_eq!(print(Some(name)).unwrap(), page);
        }
    }

    #[test]
    fn a_page_that_is_not_there_names_one_that_may_be_meant() {
        let error = print(Some("budgts")).unwrap_err().to_string();
        assert!(error.contains("did you mean budgets?"), "{error}");
    }
}
