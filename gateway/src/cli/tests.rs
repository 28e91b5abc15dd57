#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::TcpListener;

use clap::{CommandFactory, Parser};

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
        (costs.by.as_str(), costs.query.last, costs.query.tenant.as_str()),
        ("model", None, "")
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
    let text = version::text();
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
    let error = check::run(Some(&file), &Env::default()).unwrap_err().to_string();
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
    let error = check::run(Some(&file), &Env::default()).unwrap_err().to_string();
    assert!(
        error.contains("tls.cert_file: /nowhere/c.pem: ") && error.contains("tls.key_file: "),
        "{error}"
    );
    std::fs::write(&file, "listne: x\nlisten: '127.0.0.1:1'\n").unwrap();
    let report = check::run(Some(&file), &Env::default()).unwrap();
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
