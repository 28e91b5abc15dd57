//! The real binary on terminals, in pipes and in shells.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::cli::{ADMIN, FOR_TENANT, READER, installation, printed, spend, stderr, stdout, upstream};
use crate::harness::Installation;
use crate::harness::process::binary;

/// The line of `costs` for the model, as it is shown in this environment.
fn costs_line(home: &Installation, environment: &[(&str, &str)]) -> String {
    let mut command = binary();
    command
        .args(["costs", "-c"])
        .arg(home.path("agentledger.yaml"))
        .envs(environment.iter().copied());
    let text = printed(&mut command);
    text.lines().find(|line| line.contains("gpt-4o")).unwrap().to_owned()
}

#[test]
fn colours_and_alignment_are_for_terminals_and_the_contracts_table_for_pipes() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    for _ in 0..2 {
        spend(&gateway, "crawler");
    }
    assert_eq!(home.export().len(), 2);
    let plain = "openai     gpt-4o   2          2000           400             $0.0090";
    assert_eq!(costs_line(&home, &[]), plain);
    assert_eq!(costs_line(&home, &[("NO_COLOR", "1")]), plain);
    let aligned = "openai     gpt-4o          2          2,000             400      $0.0090";
    let forced = costs_line(&home, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert_eq!(forced, aligned);
    let header = |environment: &[(&str, &str)]| {
        let mut command = binary();
        command
            .args(["costs", "-c"])
            .arg(home.path("agentledger.yaml"))
            .envs(environment.iter().copied());
        printed(&mut command).lines().next().unwrap().to_owned()
    };
    assert!(header(&[("CLICOLOR_FORCE", "1")]).contains("\u{1b}[1mPROVIDER"));
    assert!(!header(&[]).contains('\u{1b}'));

    // util-linux's `script` gives a command a terminal.
    let mut on_terminal = Command::new("script");
    let line = format!(
        "{} costs -c {}",
        env!("CARGO_BIN_EXE_agentledger"),
        home.path("agentledger.yaml").display()
    );
    on_terminal
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .env("TERM", "xterm");
    on_terminal
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .env_remove("CLICOLOR_FORCE");
    let shown = printed(&mut on_terminal);
    assert!(
        shown.contains("\u{1b}[1mPROVIDER") && shown.contains(aligned),
        "{shown}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Installation::new("");
    let mut child = binary()
        .args(["prices", "list", "--json", "-c"])
        .arg(home.path("agentledger.yaml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut beginning = [0; 16];
    out.read_exact(&mut beginning).unwrap();
    assert!(beginning.starts_with(b"{\"rows\":["));
    // More is on its way than a pipe holds.
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn completions_and_manual_pages_are_what_shells_and_man_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(binary().args(["completions", shell]));
        assert!(script.contains("agentledger") && script.contains("top-up"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("completions.bash");
    std::fs::write(&script, printed(binary().args(["completions", "bash"]))).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));

    let pages = dir.path().join("pages");
    printed(binary().args(["man", pages.to_str().unwrap()]));
    let names: Vec<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in [
        "agentledger.1",
        "agentledger-rules.1",
        "agentledger-rules-put.1",
        "agentledger-budgets-top-up.1",
    ] {
        assert!(names.iter().any(|name| name == page), "{page} in {names:?}");
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(
            text.contains(".TH ") && text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"),
            "{page}: {text}"
        );
    }
    assert!(!names.iter().any(|name| name.contains("healthcheck")), "{names:?}");
    assert!(printed(binary().arg("man")).contains(".TH agentledger"));
    // groff complains of what it cannot set. Where there is no man, the shape above is all that is checked.
    if Command::new("man").arg("--version").output().is_ok() {
        let read = Command::new("man")
            .args(["--warnings", "-l"])
            .arg(pages.join("agentledger-rules-put.1"))
            .env("MANPAGER", "cat")
            .output()
            .unwrap();
        assert!(
            read.status.success() && stdout(&read).contains("--dry-run"),
            "{}",
            stderr(&read)
        );
    }
}

#[test]
fn settings_are_shown_with_their_source_and_without_their_secrets() {
    let upstream = upstream();
    let home = installation(&upstream);
    let offline = home.print(&["config", "show"]);
    let gateway = home.serve();
    let online = home.print(&["config", "show"]);
    drop(gateway);
    for text in [&offline, &online] {
        let line = text
            .lines()
            .find(|line| line.starts_with("budgets.default.daily_limit_usd"))
            .unwrap();
        assert!(line.contains("1000") && line.contains("agentledger.yaml:"), "{line}");
        assert!(text.contains("***"), "{text}");
        for secret in [READER, ADMIN, FOR_TENANT] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
