//! A ledger in one file and back: under load, by a schedule, killed in the middle, and with archives that are none.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use agentledger_ledger::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::harness::original::Original;
use crate::harness::{Installation, Script, Upstream};

const ASK: &[u8] = br#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;
const ANSWER: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}"#;

fn served(upstream: &Upstream, more: &str) -> Installation {
    Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\n{more}",
        upstream.base()
    ))
}

/// The installation whose ledger is the one that was restored there.
fn restored(archive: &Path) -> Installation {
    let elsewhere = Installation::new("providers: {openai: {upstream: \"http://127.0.0.1:9\"}}");
    let (file, dir) = (
        archive.display().to_string(),
        elsewhere.path("ledger").display().to_string(),
    );
    let output = bare(&["restore", &file, &dir]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    elsewhere
}

fn bare(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_agentledger"))
        .args(args)
        .output()
        .unwrap()
}

fn refusal(archive: &Path, dir: &Path) -> String {
    let output = bare(&["restore", &archive.display().to_string(), &dir.display().to_string()]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn by_id(entries: Vec<Value>) -> BTreeMap<String, Value> {
    entries
        .into_iter()
        .map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry))
        .collect()
}

#[test]
fn a_backup_under_load_restored_elsewhere_verifies_and_its_balances_are_equal() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let home = served(&upstream, "");
    let gateway = home.serve();
    let is_over = AtomicBool::new(false);
    let archives: Vec<_> = (0..4)
        .map(|number| home.path(&format!("backup-{number}.tar.zst")))
        .collect();
    thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, is_over) = (&gateway, &is_over);
            scope.spawn(move || {
                let key = format!("Bearer sk-worker-number-{worker}");
                while !is_over.load(Ordering::Relaxed) {
                    let reply = gateway
                        .client
                        .request("POST", "/v1/chat/completions", &[("authorization", &key)], ASK);
                    assert_eq!(reply.status, 200, "{}", reply.text());
                }
            });
        }
        for archive in &archives {
            let said = home.print(&["backup", &archive.display().to_string()]);
            assert!(said.contains("head        ") && said.contains("The secret"), "{said}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let last = home.path("last.tar.zst");
    home.print(&["backup", &last.display().to_string()]);
    let (entries, balances) = (
        by_id(home.export()),
        home.rpc("budget.status", &json!({ "account": "key:" })),
    );
    gateway.stop();

    for archive in &archives {
        let elsewhere = restored(archive);
        assert!(elsewhere.print(&["verify"]).contains("\nOK"));
        for (id, entry) in by_id(elsewhere.export()) {
            assert!(
                entry["outcome"] == "recovered" || entries.get(&id) == Some(&entry),
                "{entry}"
            );
        }
    }
    let elsewhere = restored(&last);
    assert_eq!(by_id(elsewhere.export()), entries);
    // Keys have the same names there, and the same has been spent.
    let gateway = elsewhere.serve();
    assert_eq!(elsewhere.rpc("budget.status", &json!({ "account": "key:" })), balances);
    gateway.stop();
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!(
        (mode(&last), mode(&elsewhere.path("ledger/fingerprint.key"))),
        (0o600, 0o600)
    );
}

/// A stopped ledger with some thousand entries, and an archive of it.
fn archived() -> (Installation, std::path::PathBuf) {
    let home = Installation::new("providers: {openai: {upstream: \"http://127.0.0.1:9\"}}");
    let original = Original::new(&home.path("."));
    original.records(4_000, SystemClock::default().now_ms() - 60_000);
    home.print(&["import", "sqlite", &original.file.display().to_string()]);
    let archive = home.path("whole.tar.zst");
    home.print(&["backup", &archive.display().to_string()]);
    (home, archive)
}

#[test]
fn an_archive_that_is_damaged_cut_off_foreign_or_newer_is_refused_by_name_and_nothing_is_made_of_it() {
    let (home, archive) = archived();
    let whole = std::fs::read(&archive).unwrap();
    let (bad, dir) = (home.path("bad.tar.zst"), home.path("elsewhere"));
    for place in [
        0,
        40,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 20,
        whole.len() - 1,
    ] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        for bytes in [bytes, whole[..place].to_vec()] {
            std::fs::write(&bad, bytes).unwrap();
            let said = refusal(&bad, &dir);
            assert!(said.contains("bad.tar.zst"), "byte {place}: {said}");
            let is_left = dir.exists() || home.path("elsewhere.restoring").exists();
            assert!(!is_left, "byte {place}");
        }
    }
    std::fs::write(&bad, "not an archive").unwrap();
    assert!(refusal(&bad, &dir).contains("is no archive of agentledger"));
    assert!(refusal(&home.path("none"), &dir).contains("none"));

    let about = |schema: u32| {
        json!({ "format": 1, "schema": schema, "version": "9.9", "at": "2026-01-01T00:00:00Z" }).to_string()
    };
    let parts = |parts: &[(&str, &[u8])]| std::fs::write(&bad, tar_of(parts)).unwrap();
    parts(&[("agentledger/archive.json", about(99).as_bytes())]);
    let said = refusal(&bad, &dir);
    assert!(
        said.contains("written by agentledger 9.9") && said.contains("schema 99"),
        "{said}"
    );
    for trick in [
        "../../escaped",
        "/tmp/escaped",
        "agentledger/journal/../../escaped",
        "agentledger/journal/2026-11/../x",
        "agentledger/state",
        "agentledger/journal/2026-11/00000002",
        "agentledger/journal/2026-99/00000001",
    ] {
        parts(&[("agentledger/archive.json", about(1).as_bytes()), (trick, b"x")]);
        let said = refusal(&bad, &dir);
        assert!(said.contains("is no part of an archive"), "{trick}: {said}");
    }
    parts(&[
        ("agentledger/archive.json", about(1).as_bytes()),
        ("agentledger/journal/2026-11/00000001", &[0, 0, 0, 9, 1]),
    ]);
    assert!(refusal(&bad, &dir).contains("ends within a record"));
    assert!(!dir.exists() && !home.path("escaped").exists());
}

fn tar_of(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        // Past the library's own checks.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap()
}

#[test]
fn nothing_that_is_there_is_replaced_and_a_folder_in_use_is_left_alone() {
    let (home, archive) = archived();
    let again = home.run(&["backup", &archive.display().to_string()]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("is there already"));
    let said = refusal(&archive, &home.path("ledger"));
    assert!(said.contains("is not empty"), "{said}");
    std::fs::create_dir(home.path("empty")).unwrap();
    let output = bare(&[
        "restore",
        &archive.display().to_string(),
        &home.path("empty").display().to_string(),
    ]);
    assert!(output.status.success());
    assert!(home.path("empty/journal").is_dir() && home.path("empty/schema").is_file());
    let output = home.run(&["backup", "-"]);
    assert!(output.status.success());
    let piped = home.path("piped.tar.zst");
    std::fs::write(&piped, output.stdout).unwrap();
    assert_eq!(by_id(restored(&piped).export()), by_id(home.export()));
    assert!(home.print(&["verify"]).contains("\nOK"));
}

#[test]
fn a_backup_that_is_killed_leaves_no_half_archive_under_its_name() {
    let (home, _) = archived();
    let (mut killed, mut finished) = (0, 0);
    for round in 0..24_u64 {
        let archive = home.path(&format!("round-{round}.tar.zst"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_agentledger"))
            .args([
                "backup",
                &archive.display().to_string(),
                "-c",
                &home.path("agentledger.yaml").display().to_string(),
            ])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(round * 4));
        child.kill().unwrap();
        child.wait().unwrap();
        if archive.exists() {
            finished += 1;
            assert!(restored(&archive).print(&["verify"]).contains("\nOK"));
        } else {
            killed += 1;
        }
    }
    assert!(killed > 0, "{killed} were killed, {finished} finished");
}

#[test]
fn a_schedule_keeps_the_newest_archives_and_one_that_fails_touches_no_traffic() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let home = served(&upstream, "");
    let dir = home.path("archives");
    let yaml = |dir: &Path| {
        format!(
            "providers: {{openai: {{upstream: \"{}\"}}}}\nbackup: {{every: 100ms, dir: \"{}\", keep: 2}}",
            upstream.base(),
            dir.display()
        )
    };
    home.configure(&yaml(&dir));
    let gateway = home.serve();
    let chat = || {
        gateway
            .client
            .post("/v1/chat/completions", std::str::from_utf8(ASK).unwrap())
            .status
    };
    assert_eq!(chat(), 200);
    gateway.wait_for_log("backup written", 4);
    let archives = |dir: &Path| -> Vec<_> {
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|file| file.to_string_lossy().ends_with(".tar.zst"))
            .collect();
        files.sort();
        files
    };
    assert!((2..=3).contains(&archives(&dir).len()));
    let metrics = gateway.client.get("/metrics").text();
    assert!(
        metrics.contains("agentledger_backups_total{outcome=\"written\"}"),
        "{metrics}"
    );
    gateway.stop();
    let newest = archives(&dir).pop().unwrap();
    assert!(restored(&newest).print(&["verify"]).contains("\nOK"));

    // A file where the folder should be.
    let blocked = home.path("blocked");
    std::fs::write(&blocked, "x").unwrap();
    home.configure(&yaml(&blocked.join("archives")));
    let gateway = home.serve();
    gateway.wait_for_log("backup_failed", 1);
    assert_eq!(
        gateway
            .client
            .post("/v1/chat/completions", std::str::from_utf8(ASK).unwrap())
            .status,
        200
    );
    gateway.stop();
}

#[test]
fn a_ledger_of_a_newer_version_is_refused_by_name_and_left_as_it_is() {
    let (home, _) = archived();
    let mark = home.path("ledger/schema");
    let current = std::fs::read_to_string(&mark).unwrap();
    assert!(
        current.trim_end().parse::<u32>().is_ok_and(|version| version < 99),
        "{current:?}"
    );
    std::fs::write(&mark, "99\n").unwrap();
    let all = |dir: &Path| {
        let output = Command::new("sh")
            .args(["-c", "find . -type f | sort | xargs sha256sum"])
            .current_dir(dir)
            .output();
        output.unwrap().stdout
    };
    let before = all(&home.path("ledger"));
    for args in [&["costs"][..], &["verify"], &["serve"], &["backup", "x.tar.zst"]] {
        let output = home.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("schema 99"),
            "{args:?}: {said}"
        );
    }
    assert_eq!(all(&home.path("ledger")), before);
    // One from before there were versions gets its mark with the next start that writes.
    std::fs::remove_file(&mark).unwrap();
    assert_eq!(home.export().len(), 4_000);
    assert!(!mark.exists(), "reading changes nothing");
    home.serve().stop();
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), current);
}
