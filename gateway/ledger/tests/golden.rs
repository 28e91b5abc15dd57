//! Stores as earlier versions left them open for ever, and say what they said then. `v0` is from before stores had versions,
//! written by the gateway of that time; `v1` bears every kind of event of its time, `v2` a document that was put again as well,
//! `v3` what decisions read and what was in force, `v4` the policy that refused; `v5` is what `kill -9` leaves, with events that its
//! write-ahead log alone has.
//!
//! A store of a new version is made once: `AGENTLEDGER_GOLDEN=v6 cargo test -p agentledger-ledger --test golden`; it and its
//! expectation are then in `tests/golden`, to be committed and never changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use agentledger_ledger::{
    Amounts, Answered, BillId, Bound, Change, ChangeQuery, Denial, DenialQuery, EntryQuery, HoldNotes, ImportRow,
    ImportedEntry, Ledger, Limit, ManualClock, Mark, Mode, Name, OfflineLedger, Options, Record, RefusalRecord,
    Retention, SessionQuery, Window, Zone, verify,
};
use common::{START_MS, all_entries, exchange, facts, hold, settlement, usd};
use serde_json::{Value, json};
use ulid::Ulid;

const MINUTE_MS: i64 = 60_000;

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

fn tar(args: &[&str]) {
    let status = Command::new("tar").args(args).status().unwrap();
    assert!(status.success(), "tar {args:?}");
}

/// The store of a version, in a folder of its own.
fn unpacked(version: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = golden(&format!("{version}.tar.gz"));
    tar(&[
        "xzf",
        &file.display().to_string(),
        "-C",
        &dir.path().display().to_string(),
    ]);
    dir
}

/// All that a store says, without changing it.
fn told(dir: &Path) -> Value {
    let ledger = OfflineLedger::open(dir, Retention::default()).unwrap().unwrap();
    let query = EntryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        limit: 10_000,
        after: None,
    };
    let balances: BTreeMap<String, Value> = ledger
        .balances()
        .into_iter()
        .map(|row| {
            let name = format!("{} {:?} {} {}", row.account, row.window, row.zone, row.period.start_s);
            let amounts = |amounts: Amounts| json!([amounts.usd.nanos(), amounts.tokens, amounts.requests]);
            (
                name,
                json!([amounts(row.posted), amounts(row.held), amounts(row.overage)]),
            )
        })
        .collect();
    let sessions = SessionQuery {
        from_ms: 0,
        tenant: None,
        status: None,
        now_ms: ledger.decision_ms(),
        timeout_ms: 30 * MINUTE_MS,
        order: Default::default(),
        limit: 1_000,
    };
    let sessions = ledger.sessions().list(&sessions).unwrap();
    let sessions = sessions.iter().map(|session| {
        json!({
            "tenant": &*session.who.tenant, "id": &*session.id, "agent": &*session.who.agent, "task": &*session.who.task,
            "started_ms": session.started_ms, "last_ms": session.last_ms, "calls": session.calls,
            "errors": session.errors, "cost": session.cost, "tokens": session.tokens, "ended": session.ended,
            "is_killed": session.is_killed,
        })
    });
    let documents = ledger.documents("");
    let documents = documents.iter().map(|document| {
        json!({
            "subject": &*document.subject, "value": &*document.value, "version": document.version,
            "change": document.change.to_string(), "author": &*document.author, "note": &*document.note,
        })
    });
    let changes = ChangeQuery {
        to_ms: i64::MAX,
        limit: 1_000,
        ..ChangeQuery::default()
    };
    let changes = ledger.changes(&changes).unwrap().changes;
    let denials = ledger.denials(&DenialQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        tenant: None,
    });
    json!({
        "head": ledger.head().to_string(),
        "decision_ms": ledger.decision_ms(),
        "entries": ledger.entries(&query).unwrap().entries,
        "balances": balances,
        "sessions": sessions.collect::<Vec<_>>(),
        "documents": documents.collect::<Vec<_>>(),
        "changes": changes.iter().map(|(sequence, change)| json!({
            "sequence": sequence, "id": change.id.to_string(), "author": &*change.author, "peer": &*change.peer,
            "action": &*change.action, "subject": &*change.subject, "after": change.after.as_deref(), "kept": change.kept,
            "request": change.request.as_ref().map(|request| request.id.to_string()),
        })).collect::<Vec<_>>(),
        "denials": denials.iter().map(|row| json!({
            "account": &*row.of.account, "tenant": &*row.of.tenant, "reason": &*row.of.reason, "policy": &*row.of.policy,
            "count": row.count, "first_ms": row.first_ms, "last_ms": row.last_ms,
        })).collect::<Vec<_>>(),
        "holds": ledger.open_holds().iter().map(|hold| json!({
            "id": hold.id.0, "usd": hold.amounts.usd, "key": &*hold.held.facts.key, "at_ms": hold.held.at_ms,
        })).collect::<Vec<_>>(),
        "links": ledger.links().iter().map(|(legacy, key)| [legacy.to_string(), key.to_string()]).collect::<Vec<_>>(),
        "taken": ledger.taken("golden").map(|taken| json!([taken.place, taken.last.to_string()])),
    })
}

/// All that was said then is said now; what is said beside it may be new.
fn bears(found: &Value, expected: &Value, at: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (name, expected) in expected {
                bears(
                    found.get(name).unwrap_or(&Value::Null),
                    expected,
                    &format!("{at} {name}"),
                );
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{at}");
            let pairs = found.iter().zip(expected).enumerate();
            pairs.for_each(|(place, (found, expected))| bears(found, expected, &format!("{at} {place}")));
        }
        _ => assert_eq!(found, expected, "{at}"),
    }
}

fn check(version: &str) {
    let dir = unpacked(version);
    let store = dir.path().join("ledger");
    let report = verify(&store, None).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let expected: Value = serde_json::from_slice(&std::fs::read(golden(&format!("{version}.json"))).unwrap()).unwrap();
    let found = told(&store);
    bears(&found, &expected, version);
    // From the journal alone, too.
    std::fs::remove_dir_all(store.join("state")).unwrap();
    let anew = told(&store);
    for name in [
        "head",
        "entries",
        "balances",
        "documents",
        "changes",
        "holds",
        "links",
        "taken",
    ] {
        bears(
            &anew[name],
            &expected[name],
            &format!("{version} without its state: {name}"),
        );
    }
    goes_on(&store, &expected);
}

/// What is written now follows what was written then.
fn goes_on(store: &Path, expected: &Value) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clock = Arc::new(ManualClock::new(expected["decision_ms"].as_i64().unwrap() + MINUTE_MS));
    let ledger = Ledger::open(Options::new(store), clock).unwrap();
    let recovered = expected["holds"].as_array().unwrap().len();
    runtime.block_on(async {
        exchange(&ledger, 99, 1_000).await.durable().await.unwrap();
        ledger.flushed().await;
    });
    let entries = all_entries(&ledger, 100);
    assert_eq!(
        entries.len(),
        expected["entries"].as_array().unwrap().len() + recovered + 1
    );
    ledger.close();
    drop(ledger);
    assert!(verify(store, None).unwrap().is_sound());
    assert_eq!(
        std::fs::read_to_string(store.join("schema")).unwrap(),
        format!("{}\n", agentledger_ledger::store::SCHEMA)
    );
}

#[test]
fn a_store_from_before_there_were_versions_opens_for_ever() {
    check("v0");
}

#[test]
fn a_store_of_version_1_opens_for_ever() {
    check("v1");
}

#[test]
fn a_store_of_version_2_opens_for_ever() {
    check("v2");
}

#[test]
fn a_store_of_version_3_opens_for_ever() {
    check("v3");
}

#[test]
fn a_store_of_version_4_opens_for_ever() {
    check("v4");
}

#[test]
fn a_store_of_version_5_whose_log_is_ahead_opens_for_ever() {
    check("v5");
}

/// Writes a store with every kind of event, if that is wanted.
#[test]
fn a_store_of_this_version_is_made_where_one_is_wanted() {
    let Ok(version) = std::env::var("AGENTLEDGER_GOLDEN") else {
        return;
    };
    let dir = match version.as_str() {
        // It was written by a gateway of its time: only what it says is written down.
        "v0" => unpacked("v0"),
        _ => made(),
    };
    let told = serde_json::to_vec_pretty(&told(&dir.path().join("ledger"))).unwrap();
    std::fs::write(golden(&format!("{version}.json")), told).unwrap();
    if version != "v0" {
        let file = golden(&format!("{version}.tar.gz"));
        let dir = dir.path().display().to_string();
        tar(&[
            "czf",
            &file.display().to_string(),
            "-C",
            &dir,
            "--exclude=lock",
            "ledger",
        ]);
    }
}

fn change(number: u128, subject: &str, after: Option<&str>) -> Change {
    Change {
        id: Ulid::from_parts(START_MS as u64, number),
        at_ms: START_MS,
        author: "admin".into(),
        peer: "127.0.0.1".into(),
        action: "rule.put".into(),
        subject: subject.into(),
        tenant: "acme".into(),
        note: "golden".into(),
        before: None,
        after: after.map(Into::into),
        kept: true,
        min_version: 0,
        request: Some(Answered {
            id: format!("request-{number}").into(),
            digest: [number as u8; 32],
            answer: "{}".into(),
        }),
    }
}

/// Two months, all kinds of events, a hold that is open at the end.
fn made() -> tempfile::TempDir {
    let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clock = Arc::new(ManualClock::new(START_MS));
    let ledger = Ledger::open(Options::new(dir.path().join("ledger")), clock.clone()).unwrap();
    runtime.block_on(async {
        ledger.set_fingerprint_check([7; 16]);
        exchange(&ledger, 1, 1_000).await;
        let mut extended = hold(&ledger, 2, 500).await;
        extended
            .extend(Amounts {
                usd: usd(100),
                ..Amounts::ZERO
            })
            .unwrap();
        let wrong = extended.facts().id;
        extended.settle(settlement(START_MS + 5, 900));
        hold(&ledger, 3, 10).await.void("never sent");
        let limit = Limit::usd(usd(5)).unwrap();
        let bound = Bound::new(
            "key:poor".into(),
            Window::Day,
            Zone::named("Europe/Berlin").unwrap(),
            limit,
            Mode::Hard,
        );
        let permit = ledger.admit().await.unwrap();
        let amounts = Amounts::of_request(usd(100), 10);
        let refused = ledger.reserve(permit, facts(START_MS, 4), &[bound.unwrap()], amounts, &"max".into());
        assert!(refused.is_err());
        ledger.deny(&Denial {
            account: "key:poor".into(),
            tenant: "acme".into(),
            reason: "budget_exceeded".into(),
            policy: "budget".into(),
        });
        let base: Arc<[u8]> = b"policies"[..].into();
        let first = ledger.put_in_force([3; 32], &base);
        let second = ledger.put_in_force([4; 32], &base);
        assert!(second > first);
        let record = Record {
            numbers: vec![1, -2, i64::MAX],
            names: vec!["openai".into(), "key:poor".into()],
        };
        let permit = ledger.admit().await.unwrap();
        ledger
            .reserve_noted(
                permit,
                facts(START_MS, 8),
                &[],
                amounts,
                &"max".into(),
                HoldNotes {
                    record: Some(record.clone()),
                    bill: None,
                },
            )
            .unwrap()
            .settle(settlement(START_MS + 9, 77));
        let denial = Denial {
            account: "key:poor".into(),
            tenant: "acme".into(),
            reason: "model_not_allowed".into(),
            policy: "".into(),
        };
        let call = RefusalRecord {
            facts: Arc::new(facts(START_MS, 9)),
            record,
        };
        ledger.deny_recorded(&denial, || Some(call));
        let waiting = hold(&ledger, 5, 50).await.defer(BillId::of(&["golden"])).unwrap();
        ledger.flushed().await;
        ledger.adjust(wrong, usd(-300), "credit").unwrap();
        ledger.mark_session(&"acme".into(), &"session-0".into(), Mark::Completed);
        ledger.change(change(1, "rule:A", Some("{\"limit\":1}"))).unwrap();
        ledger.change(change(2, "rule:A", Some("{\"limit\":2}"))).unwrap();
        ledger.change(change(3, "rule:B", Some("{}"))).unwrap();
        ledger.change(change(4, "rule:B", None)).unwrap();
        let again = Change {
            min_version: 31,
            ..change(5, "rule:B", Some("{}"))
        };
        ledger
            .change_together(vec![again, change(6, "rule:C", Some("{}"))])
            .unwrap();
        let rows = (1..=3).map(|place| {
            let mut facts = facts(START_MS - place as i64 * 20 * 24 * 60 * MINUTE_MS, place);
            facts.key = Name::from("legacy");
            ImportRow {
                place,
                entry: ImportedEntry {
                    settlement: settlement(facts.at_ms + 7, 40),
                    facts: Arc::new(facts),
                },
            }
        });
        ledger.import(&"golden".into(), true, rows.collect()).await.unwrap();
        assert!(ledger.link_key(&"legacy".into(), &"own".into()));
        ledger.flushed().await;
        // Another month, which carries the open hold on.
        clock.advance_ms(20 * 24 * 60 * MINUTE_MS);
        exchange(&ledger, 6, 2_000).await;
        ledger.flushed().await;
        // An operator sets the clock back.
        clock.set_ms(START_MS + 19 * 24 * 60 * MINUTE_MS);
        ledger.accept_clock().unwrap();
        exchange(&ledger, 7, 3_000).await;
        ledger.flushed().await;
        // As it is under a running ledger: what `kill -9` leaves.
        let (from, to) = (dir.path().join("ledger"), killed.path());
        let copied = Command::new("cp").arg("-r").args([&from, to]).status().unwrap();
        assert!(copied.success());
        ledger.close();
        // Too late to be written: it is open for whoever reads the journal.
        drop(waiting);
    });
    drop(ledger);
    killed
}
