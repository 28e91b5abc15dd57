#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::TcpListener;

use clap::{CommandFactory, Parser};

use super::form::FormArgs;
use super::{Command, Root, check, healthcheck, version};
use crate::config::Env;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let root = Root::try_parse_from(line.split(' '))?;
    Ok(root.command.unwrap())
}

#[test]
fn the_flags_are_the_contracts() {
    Root::command().debug_assert();
    for line in [
        "agentledger serve",
        "agentledger serve -c x.yaml",
        "agentledger serve --config=x.yaml",
        "agentledger costs --last 7d --by agent --tenant acme -c x.yaml",
        "agentledger export --last 30d --by model -f json",
        "agentledger export --by entry -f jsonl -c x.yaml",
        "agentledger verify -c x.yaml --expect abc",
        "agentledger check -c x.yaml",
        "agentledger healthcheck --addr 127.0.0.1:1",
        "agentledger version",
        "agentledger demo",
        "agentledger holds",
        "agentledger budgets --account key:",
        "agentledger budgets --all --window day",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
    for line in [
        "agentledger --version",
        "agentledger serve --port 1",
        "agentledger nonsense",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    let Ok(Command::Costs(costs)) = parse("agentledger costs") else {
        panic!()
    };
    assert_eq!(
        (costs.by.concat(), costs.query.last, costs.query.tenant.as_str()),
        ("model".to_owned(), None, "")
    );
    let Ok(Command::Healthcheck(health)) = parse("agentledger healthcheck") else {
        panic!()
    };
    assert_eq!(health.addr, "localhost:8787");
    assert!(Root::command().find_subcommand("healthcheck").unwrap().is_hide_set());
    let Ok(Command::Serve(serve)) =
        Root::try_parse_from(["agentledger", "serve", "-c", ""]).map(|r| r.command.unwrap())
    else {
        panic!()
    };
    assert_eq!(serve.config.path(), None, "an empty path is none");
}

#[test]
fn version_is_one_line() {
    let text = version::text(FormArgs::default());
    assert!(
        text.starts_with("agentledger ") && text.ends_with('\n') && text.lines().count() == 1,
        "{text:?}"
    );
}

/// Answers one connection with `answer`.
fn serve_once(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        assert!(request[..read].starts_with(b"GET /health HTTP/1.1\r\n"));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    addr
}

#[test]
fn a_healthcheck_believes_a_200_alone() {
    let well = serve_once("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}");
    assert!(healthcheck::run(&well).is_ok());
    let unwell = serve_once("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let error = healthcheck::run(&unwell).unwrap_err().to_string();
    assert!(error.contains("503"), "{error}");
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    assert!(healthcheck::run(&nobody).is_err());
}

#[test]
fn check_tells_all_faults_at_once_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agentledger.yaml");
    std::fs::write(
        &file,
        "listen: x\nlog:\n  level: y\nproviders: {extra: {ollama: {enabled: true}}}\n",
    )
    .unwrap();
    let error = check::run(Some(&file), FormArgs::default(), &Env::default())
        .unwrap_err()
        .to_string();
    let places: Vec<String> = [
        "1:9: listen: ",
        "3:10: log.level: ",
        "4:29: providers.extra.ollama: has no price book",
    ]
    .map(|place| format!("{}:{place}", file.display()))
    .into();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    for (line, place) in lines.iter().zip(&places) {
        assert!(line.starts_with(place.as_str()), "{line} {place}");
    }
}

#[test]
fn check_reads_what_the_file_names() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agentledger.yaml");
    std::fs::write(&file, "tls: {cert_file: /nowhere/c.pem, key_file: /nowhere/k.pem}\n").unwrap();
    let error = check::run(Some(&file), FormArgs::default(), &Env::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tls.cert_file: /nowhere/c.pem: ") && error.contains("tls.key_file: "),
        "{error}"
    );
    std::fs::write(&file, "listne: x\nlisten: '127.0.0.1:1'\n").unwrap();
    let report = check::run(Some(&file), FormArgs::default(), &Env::default()).unwrap();
    assert!(
        report.starts_with("warning: ") && report.contains("did you mean listen?"),
        "{report}"
    );
    assert!(
        report.contains("listen      127.0.0.1:1\n") && report.ends_with("OK\n"),
        "{report}"
    );
    assert!(
        report.contains("provider    openai at /v1 -> https://api.openai.com:443 (openai)\n"),
        "{report}"
    );
}

/// Every command that does something, with its arguments' names: `rules put`, `costs`.
fn leaves(command: &clap::Command, above: &str) -> Vec<String> {
    let mut found = Vec::new();
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
    {
        let name = format!("{above}{}", sub.get_name());
        if sub.get_subcommands().next().is_none() || !sub.is_subcommand_required_set() {
            found.push(name.clone());
        }
        found.extend(leaves(sub, &format!("{name} ")));
    }
    found
}

const GUIDE: &str = include_str!("../../assets/guide/cli.md");

/// The guide's rows: a command, and the method that it calls, if any.
pub fn documented() -> Vec<(String, String)> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        Some((cell(cells.next()?), cell(cells.next()?)))
    };
    GUIDE.lines().filter_map(row).collect()
}

#[test]
fn the_guide_lists_each_command_and_no_other() {
    let mut commands = leaves(&Root::command(), "");
    let mut listed: Vec<String> = documented().into_iter().map(|(command, _)| command).collect();
    commands.sort();
    listed.sort();
    assert!(commands.contains(&"rules put".to_owned()) && commands.contains(&"holds".to_owned()));
    assert_eq!(listed, commands);
}

#[test]
fn every_command_that_prints_what_a_method_answers_takes_json() {
    let root = Root::command();
    for (command, method) in documented() {
        let path: Vec<&clap::Command> = command
            .split(' ')
            .scan(&root, |at, name| {
                *at = at.find_subcommand(name)?;
                Some(*at)
            })
            .collect();
        assert_eq!(path.len(), command.split(' ').count(), "{command}");
        let takes_json = path
            .iter()
            .any(|at| at.get_arguments().any(|arg| arg.get_id() == "json"));
        let has_its_own_form = command == "export";
        assert!(takes_json || method.is_empty() || has_its_own_form, "{command}");
    }
}

/// Commands without a form for their results, and why.
const WITHOUT_FORMS: [(&str, &str); 8] = [
    ("serve", "runs until it is stopped, and logs"),
    ("demo", "is shown to people as it runs"),
    ("top", "is drawn on a terminal; --once prints the frame as text"),
    ("mcp-wrap", "passes on what its server says"),
    ("guide", "prints pages, which are texts"),
    ("completions", "prints a script for a shell"),
    ("man", "prints manual pages"),
    ("healthcheck", "answers by its exit code"),
];

/// The commands that do something, by their whole names; an option of one holds for what stands below it.
fn without_forms(command: &clap::Command, name: &str, above: bool, out: &mut Vec<String>) {
    let has = |long: &str| command.get_arguments().any(|arg| arg.get_long() == Some(long));
    let has_forms = above || (has("json") && has("format"));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        let name = format!("{name} {}", below.get_name());
        without_forms(below, name.trim(), has_forms, out);
    }
    let does_something = command.get_subcommands().next().is_none();
    if does_something && !has_forms {
        out.push(name.to_owned());
    }
}

#[test]
fn each_command_has_every_form_or_stands_in_the_list_with_why_not() {
    let mut found = Vec::new();
    without_forms(&Root::command(), "", false, &mut found);
    let expected: Vec<&str> = WITHOUT_FORMS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, expected);
}

#[test]
fn options_may_stand_before_a_command_and_behind_it() {
    for line in [
        "agentledger --url https://x rules list --policy budget",
        "agentledger rules list --url https://x --token-file t --json",
        "agentledger rules --json list",
        "agentledger budgets set agent:crawler 5 --window day --dry-run",
        "agentledger budgets set 5 --api-key-pattern sk-* --window day",
        "agentledger budgets top-up tag:team=ml 100 --until 2026-12-31 --reason audit",
        "agentledger keys block sk-leaked-* --note leaked",
        "agentledger keys block --fingerprint 0123456789abcdef01234567",
        "agentledger sessions kill s1 -c x.yaml",
        "agentledger sessions -c x.yaml kill s1",
        "agentledger holds 5",
        "agentledger holds void 5 --reason stuck",
        "agentledger holds recovered --last 7d --json",
        "agentledger holds correct 5 --cost 0.05",
        "agentledger holds correct 01J --expected --reason typical",
        "agentledger policy test policies",
        "agentledger policy test --coverage --min-coverage 90 --json",
        "agentledger policy check a.lua policies --json",
        "agentledger policy new house --dir rules",
        "agentledger policy eval a.lua --call {} --spent agent:day=5 --spent global:month=7 --json",
        "agentledger adjust 01J -1.5 --reason wrong",
        "agentledger tail holds --tenant acme --json",
        "agentledger top --once --pane budgets --url https://x",
        "agentledger rpc ledger.summary {}",
        "agentledger config show budgets",
        "agentledger completions bash",
        "agentledger man dir",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
    for line in [
        "agentledger budgets set --window day",
        "agentledger budgets set agent:crawler 5",
        "agentledger budgets set agent:crawler 5 --window day --tenant acme",
        "agentledger keys block",
        "agentledger holds correct 5",
        "agentledger holds correct 5 --cost 1 --expected",
        "agentledger rules put budget.limits",
        "agentledger tail nonsense",
        "agentledger completions nonsense",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}
