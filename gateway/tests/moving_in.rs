//! Taking over what the original AgentLedger has recorded, by the real binary, with and without a running gateway.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use agentledger_ledger::{Clock, ManualClock, SystemClock, Usd, Window};
use serde_json::{Value, json};

use crate::harness::original::{Original, Record, go_time};
use crate::harness::process::Process;
use crate::harness::{Installation, Script, Setup, Upstream};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// The original's sums are floats: each row is rounded once, by half a nano-dollar at most.
const NANOS: f64 = 1e9;

fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

fn home() -> Installation {
    Installation::new("providers: {openai: {upstream: \"http://127.0.0.1:9\"}}")
}

fn import(home: &Installation, file: &Path, more: &[&str]) -> String {
    let file = file.display().to_string();
    home.print(&[&["import", "sqlite", &file], more].concat())
}

fn nanos(entry: &Value) -> i64 {
    entry["cost_usd"].as_str().unwrap().parse::<Usd>().unwrap().nanos()
}

fn assert_same_sum(entries: &[Value], original: &Original) {
    let ours: i64 = entries.iter().map(nanos).sum();
    let theirs = original.sum() * NANOS;
    let apart = (ours as f64 - theirs).abs();
    assert!(apart <= 0.5 * entries.len() as f64 + 1.0, "{ours} and {theirs}");
}

/// The line of a report that begins with this word.
fn line<'r>(report: &'r str, word: &str) -> &'r str {
    let line = report.lines().find(|line| line.starts_with(word));
    line.unwrap_or_else(|| panic!("no {word} in {report}"))
}

#[test]
fn a_ledger_of_the_original_is_taken_over_with_its_totals_and_once() {
    let home = home();
    let original = Original::new(&home.path("."));
    original.run("PRAGMA journal_mode = WAL");
    original.records(1_000, now_ms() - MINUTE_MS);
    original.sessions();

    let dry = import(&home, &original.file, &["--dry-run"]);
    assert!(dry.contains("1,000 would be taken") && dry.contains("dry run"), "{dry}");
    assert!(!home.path("ledger").exists(), "a dry run writes nothing");

    let report = import(&home, &original.file, &[]);
    assert!(line(&report, "calls").contains("1,000 taken, 1,000 read"), "{report}");
    assert_eq!(
        line(&report, "left out").split_whitespace().last(),
        Some("0"),
        "{report}"
    );
    let entries = home.export();
    assert_eq!(entries.len(), 1_000);
    assert_same_sum(&entries, &original);
    let failed = entries
        .iter()
        .filter(|entry| entry["outcome"] == "upstream_failed")
        .count();
    assert_eq!(failed, 20);
    let first = &entries[0];
    assert!(first["source"].as_str().unwrap().starts_with("sqlite:"), "{first}");
    assert_eq!(
        (&first["operation"], &first["task"], &first["tenant"]),
        (&json!("chat"), &json!("fix run-0"), &json!("acme"))
    );
    let costs = home.print(&["costs", "--last", "30d"]);
    assert!(costs.contains("1000") || costs.contains("1,000"), "{costs}");
    assert!(home.print(&["verify"]).contains("entries     1000"));

    // Again, and again with more, which may have come while the file was open.
    assert!(line(&import(&home, &original.file, &[]), "calls").contains(" 0 taken, 0 read"));
    original.run("DELETE FROM agent_sessions");
    original.record(&Record {
        id: "not-a-ulid".to_owned(),
        at_ms: now_ms() - 1_000,
        key: format!("{:024x}", 3),
        cost: 0.25,
        tokens: 7,
        session: "run-0".to_owned(),
        status: 200,
    });
    let copy = home.path("copy.db");
    original.run("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::copy(&original.file, &copy).unwrap();
    assert!(line(&import(&home, &copy, &[]), "calls").contains(" 1 taken, 1 read"));
    let entries = home.export();
    assert_eq!(entries.len(), 1_001);
    assert_same_sum(&entries, &original);
}

#[test]
fn what_makes_no_sense_is_left_out_named_and_counted() {
    let home = home();
    let original = Original::new(&home.path("."));
    original.records(40, now_ms() - MINUTE_MS);
    original.sessions();
    original.run(
        "UPDATE usage_records SET cost_usd = -1 WHERE rowid = 3; UPDATE usage_records SET cost_usd = 1e30 WHERE rowid = 4;
         UPDATE usage_records SET timestamp = 'soon' WHERE rowid = 5; UPDATE usage_records SET cost_usd = NULL WHERE rowid = 6;
         UPDATE usage_records SET model = CAST(x'ff' AS TEXT) WHERE rowid = 7;
         UPDATE usage_records SET input_tokens = 9e18 WHERE rowid IN (8, 9, 10);
         INSERT INTO admin_config (key, value) VALUES ('budget_rules', '[{'), ('colours', '1');
         UPDATE agent_sessions SET call_count = 99 WHERE id = 'run-1'",
    );
    original.run(&format!(
        "UPDATE usage_records SET timestamp = '{}' WHERE rowid = 11",
        go_time(now_ms() + DAY_MS)
    ));
    let report = import(&home, &original.file, &[]);
    assert!(line(&report, "calls").contains("31 taken, 40 read"), "{report}");
    for said in [
        "usage_records 3: cost_usd is negative",
        "usage_records 4: cost_usd is beyond all measure",
        "usage_records 5: timestamp is no time",
        "usage_records 6: cost_usd is NULL",
        "usage_records 7: model is not UTF-8",
        "3  input_tokens is beyond all measure",
        "usage_records 11: timestamp is of the future",
        "admin_config budget_rules: value is not what budget_rules has",
        "admin_config colours",
        "agent_sessions run-1: its sums are not those of its records",
    ] {
        assert!(report.contains(said), "{said}\n{report}");
    }
    assert_eq!(home.export().len(), 31);
    assert!(line(&import(&home, &original.file, &[]), "calls").contains(" 0 taken, 0 read"));
}

#[test]
fn a_foreign_a_missing_and_a_damaged_file_are_named_and_nothing_is_made_of_them() {
    let home = home();
    let said = |file: &Path| {
        let output = home.run(&["import", "sqlite", &file.display().to_string()]);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
    };
    let text = home.path("notes.txt");
    std::fs::write(
        &text,
        "no database at all, but long enough to have a header of one: ".repeat(20),
    )
    .unwrap();
    assert!(said(&text).contains("no ledger of the original"), "{}", said(&text));
    assert!(said(&home.path("none.db")).contains("none.db"));
    assert!(said(&home.path(".")).contains("not a regular file"));
    let other = home.path("other.db");
    let made = rusqlite::Connection::open(&other).unwrap();
    made.execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(said(&other).contains("no table usage_records"));
    made.execute_batch("CREATE TABLE usage_records (id TEXT)").unwrap();
    assert!(said(&other).contains("no column timestamp"));
    assert!(!home.path("ledger").exists());

    let original = Original::new(&home.path("."));
    original.records(3_000, now_ms() - MINUTE_MS);
    let whole = original.sum();
    original.run("PRAGMA journal_mode = DELETE");
    drop(original.connection);
    let mut bytes = std::fs::read(&original.file).unwrap();
    // The second half of its pages, from one on that holds records.
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    std::fs::write(&original.file, bytes).unwrap();
    let told = said(&original.file);
    assert!(told.contains("damaged") || told.contains("malformed"), "{told}");
    let taken: i64 = home.export().iter().map(nanos).sum();
    assert!((taken as f64) < whole * NANOS);
    if home.path("ledger").exists() {
        assert!(home.print(&["verify"]).contains("OK"));
    }
}

#[test]
fn a_running_gateway_takes_it_over_and_goes_on_after_it_was_killed_in_the_middle() {
    let home = home();
    let original = Original::new(&home.path("."));
    original.records(30_000, now_ms() - MINUTE_MS);
    let gateway = home.serve();
    let place = |home: &Installation| {
        let source = format!("sqlite:{}", first_id(&original));
        let known = home.try_rpc("ledger.import", &json!({ "source": source }));
        known.and_then(|known| known["place"].as_u64()).unwrap_or_default()
    };
    let killed = thread::scope(|scope| {
        let running = scope.spawn(|| home.run(&["import", "sqlite", &original.file.display().to_string()]));
        while place(&home) == 0 && !running.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        gateway.kill();
        !running.join().unwrap().status.success()
    });
    let gateway: Process = home.serve();
    let before = place(&home);
    assert!(before > 0);
    assert!(!killed || before < 30_000, "what was not taken was not said to be");
    let report = import(&home, &original.file, &[]);
    assert!(
        report.contains(&format!("{} read", thousands(30_000 - before))),
        "{report}"
    );
    let entries = home.export();
    assert_eq!(entries.len(), 30_000);
    assert_same_sum(&entries, &original);
    gateway.stop();
    assert!(home.print(&["verify"]).contains("entries     30000"));
}

fn thousands(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ => format!("{},{:03}", count / 1_000, count % 1_000),
    }
}

fn first_id(original: &Original) -> String {
    let id = original
        .connection
        .query_row("SELECT id FROM usage_records ORDER BY rowid LIMIT 1", [], |row| {
            row.get(0)
        });
    id.unwrap()
}

#[test]
fn what_operators_changed_becomes_rules_through_a_running_gateway_and_once() {
    let home = home();
    let original = Original::new(&home.path("."));
    original.records(20, now_ms() - MINUTE_MS);
    original.run(
        "INSERT INTO admin_config (key, value) VALUES
         ('budget_rules', '[{\"api_key_pattern\":\"sk-dev-*\",\"daily_limit_usd\":5,\"monthly_limit_usd\":0,\"soft_limit_pct\":0.8,\"action\":\"block\"},{\"api_key_pattern\":\"\"}]'),
         ('blocked_keys', '[\"sk-bad-*\"]')",
    );
    let without = import(&home, &original.file, &[]);
    assert!(without.contains("import again while one does"), "{without}");
    let gateway = home.serve();
    let report = import(&home, &original.file, &[]);
    assert!(line(&report, "rules").contains("1 budgets, 1 blocked keys"), "{report}");
    assert!(
        report.contains("admin_config budget.rules"),
        "the rule for no key is left out: {report}"
    );
    let rules = || {
        home.rpc("rule.list", &json!({ "source": "runtime" }))["rules"]
            .as_array()
            .unwrap()
            .clone()
    };
    let found = rules();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .all(|rule| rule["note"] == "taken over from the original AgentLedger")
    );
    let refused = gateway.client.request(
        "POST",
        "/v1/chat/completions",
        &[("authorization", "Bearer sk-bad-1")],
        CENT.as_bytes(),
    );
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(line(&import(&home, &original.file, &[]), "rules").contains("0 budgets, 0 blocked keys"));
    assert_eq!(rules().len(), 2);
    gateway.stop();
}

#[test]
fn another_database_under_the_name_of_the_first_is_refused() {
    let home = home();
    let original = Original::new(&home.path("."));
    original.records(50, now_ms() - MINUTE_MS);
    import(&home, &original.file, &[]);
    original.run("DELETE FROM usage_records WHERE rowid > 40");
    let output = home.run(&["import", "sqlite", &original.file.display().to_string()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("is not what was taken over before"),
        "{said}"
    );
    assert_eq!(home.export().len(), 50);
}

/// A question that may cost a cent at most.
const CENT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#;

#[test]
fn the_next_day_of_an_imported_ledger_goes_on_here() {
    let key = "sk-proj-abcdefghijklmnopqrstuvwxyz";
    let fingerprint = "9f9b14fa928b978e7c64b31f";
    let at_ms = now_ms();
    let home = home();
    let original = Original::new(&home.path("."));
    let today_ms = at_ms - at_ms.rem_euclid(DAY_MS);
    for (number, at_ms) in [today_ms - 40 * DAY_MS, today_ms].into_iter().enumerate() {
        original.record(&Record {
            id: ulid::Ulid::from_parts(at_ms as u64, number as u128).to_string(),
            at_ms,
            key: legacy(key),
            cost: 0.995,
            tokens: 10,
            session: "old-run".to_owned(),
            status: 200,
        });
    }
    assert_eq!(legacy(key), fingerprint);
    import(&home, &original.file, &[]);

    let answer = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":1000,"total_tokens":1000}}"#;
    let upstream = Upstream::always(Script::json(200, answer));
    let clock = Arc::new(ManualClock::new(at_ms));
    let setup = Setup::new(&upstream)
        .with("budgets: {default: {daily_limit_usd: 1.0, action: block}}")
        .clock(clock.clone());
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(home.path("ledger"))
        .arg(dir.path().join("ledger"))
        .status();
    assert!(copied.unwrap().success());
    let gateway = setup.in_dir(&Arc::new(dir)).start();
    let ask = |key: &str| {
        let bearer = format!("Bearer {key}");
        gateway.client.request(
            "POST",
            "/v1/chat/completions",
            &[("authorization", &bearer)],
            CENT.as_bytes(),
        )
    };
    let refused = ask(key);
    assert_eq!(
        refused.status,
        429,
        "what it spent in the original counts: {}",
        refused.text()
    );
    assert_eq!(refused.json()["error"]["daily_spent"], json!(0.995));
    assert_eq!(ask("sk-another-key-with-another-end").status, 200);

    clock.advance_ms(DAY_MS);
    assert_eq!(ask(key).status, 200, "another day has its own budget");
    let ledger = &gateway.launched().gateway().ledger;
    let own = ledger.links().pop().unwrap();
    assert_eq!(&*own.0, fingerprint);
    let account = format!("key:{}", own.1);
    // A key that no bound names is forgotten when its month is over, and tomorrow may be another.
    let tomorrow = jiff::Timestamp::from_millisecond(at_ms + DAY_MS).unwrap();
    let is_next_month = tomorrow.to_zoned(jiff::tz::TimeZone::UTC).day() == 1;
    let in_total = if is_next_month { "0.01" } else { "2" };
    assert_eq!(ledger.spent(&account, Window::Total).usd.to_string(), in_total);
    assert_eq!(ledger.spent(&format!("key:{}", own.0), Window::Total).usd, Usd::ZERO);
    // Only the cent of today.
    assert_eq!(ledger.spent(&account, Window::Day).usd.to_string(), "0.01");
    let session = ledger.sessions().find(None, "old-run").unwrap().pop().unwrap();
    assert_eq!((session.calls, session.cost.to_string().as_str()), (2, "1.99"));
}

/// The original's fingerprint, by the system's own SHA-256.
fn legacy(key: &str) -> String {
    let ends = format!("{}{}", &key[..8], &key[key.len() - 4..]);
    let output = Command::new("sh")
        .args(["-c", &format!("printf %s '{ends}' | sha256sum")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()[..24].to_owned()
}
