//! The version of the binary: tag, commit and date, as git has them when the binary is compiled.
//!
//! A macro and no build script: a build script is its whole package's, so that each commit would compile the gateway anew. This is
//! expanded where it is used, in the binary's few lines, and again once the checkout stands at another commit.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

use proc_macro::TokenStream;

/// A text: `v1.2.0 (0123abc, 2026-11-30)`; between two tags what `git describe` says, before the first the package's version with
/// `-dev`; that version alone where there is no git.
#[proc_macro]
pub fn version(_: TokenStream) -> TokenStream {
    let of_cargo = |name: &str| std::env::var(name).unwrap_or_default();
    let (folder, package) = (of_cargo("CARGO_MANIFEST_DIR"), of_cargo("CARGO_PKG_VERSION"));
    let folder = Path::new(&folder);
    let text = stamp(folder, &package).unwrap_or(package);
    // The compiler looks whether this file has changed; nothing of it is kept.
    let watched = git(
        folder,
        &["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"],
    );
    let watched = watched.filter(|file| Path::new(file).is_file());
    let watch = watched.map(|file| format!("const _: &[u8] = include_bytes!({file:?});"));
    let code = format!("{{ {} {text:?} }}", watch.unwrap_or_default());
    // Both are Rust's own way to write a text, so this parses.
    code.parse().unwrap_or_default()
}

fn stamp(folder: &Path, package: &str) -> Option<String> {
    let commit = git(folder, &["log", "-1", "--format=%h, %cs"])?;
    let tag = git(folder, &["describe", "--tags", "--match", "v[0-9]*", "--dirty"]);
    let tag = tag.unwrap_or_else(|| format!("v{package}-dev"));
    Some(format!("{tag} ({commit})"))
}

/// What git answers, in one line; `None` where it is not there, or the folder is none of its own.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let answer = Command::new("git").current_dir(folder).args(args).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let line = text.trim();
    (answer.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_checkout_has_tag_commit_and_date_and_any_other_folder_none() {
        let folder = tempfile();
        assert_eq!(stamp(&folder, "1.2.3"), None);
        let done = |args: &[&str]| {
            let status = Command::new("git").current_dir(&folder).args(args).status();
            assert!(status.unwrap().success(), "{args:?}");
        };
        done(&["init", "--quiet"]);
        let identity = ["-c", "user.name=n", "-c", "user.email=e"];
        let commit = [&identity[..], &["commit", "--quiet", "--allow-empty", "-m", "m"]].concat();
        done(&commit);
        let stamped = stamp(&folder, "1.2.3").unwrap();
        let (tag, rest) = stamped.split_once(" (").unwrap();
        let (commit, day) = rest.strip_suffix(')').unwrap().split_once(", ").unwrap();
        assert_eq!(tag, "v1.2.3-dev");
        assert!(
            commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{stamped}"
        );
        assert_eq!(day.len(), 10, "{stamped}");
        done(&["tag", "v9.0.0"]);
        assert!(stamp(&folder, "1.2.3").unwrap().starts_with("v9.0.0 ("));
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A folder of this test's own, in no checkout.
    fn tempfile() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("agentledger-stamp-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
