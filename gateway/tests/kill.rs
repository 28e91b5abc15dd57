//! `kill -9` of the real binary under load, again and again: nothing acknowledged is lost, nothing stays held, and the
//! books stay whole. `AGENTLEDGER_KILL_ROUNDS` says how often; each round kills at another moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use agentledger_ledger::Usd;
use serde_json::{Value, json};

use crate::harness::process::Process;
use crate::harness::upstream::{Seen, Step};
use crate::harness::{Installation, Script, Upstream};

/// Rounds that share one ledger, before another is begun.
const ROUNDS_A_LEDGER: usize = 10;
const WHOLE: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;

fn rounds() -> usize {
    std::env::var("AGENTLEDGER_KILL_ROUNDS").map_or(50, |text| text.parse().unwrap())
}

/// Whole answers, streams that end, streams that stay open, an upstream that breaks off.
fn answer(seen: &Seen) -> Script {
    let chunk = b"data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one two three\"}}]}\n\n";
    let usage = b"data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\ndata: [DONE]\n\n";
    let stream = || Script::stream_head("text/event-stream").chunk(chunk);
    match seen.header("x-wish") {
        Some("open") => stream().step(Step::AwaitClose),
        Some("break") => stream().step(Step::Close),
        Some("stream") => stream().chunk(chunk).chunk(usage).end(),
        _ => Script::json(200, WHOLE),
    }
}

/// What must be true of one ledger, gathered over its rounds.
#[derive(Default)]
struct Known {
    /// Entries as they were acknowledged, by id: to be found again, unchanged.
    acknowledged: BTreeMap<String, Value>,
    /// Tasks of requests that the upstream has received: each has exactly one entry once the gateway is up again.
    received: BTreeSet<String>,
    sent: usize,
    /// Of the tasks of this ledger.
    prefix: String,
}

impl Known {
    /// Every entry that was once shown is there as it was, and no exchange has two.
    fn check(&mut self, entries: &[Value]) {
        let mut by_id = BTreeMap::new();
        let mut tasks = BTreeSet::new();
        for entry in entries {
            let id = entry["id"].as_str().unwrap();
            assert!(by_id.insert(id.to_owned(), entry).is_none(), "entered twice: {entry}");
            assert!(
                tasks.insert(entry["task"].as_str().unwrap().to_owned()),
                "settled twice: {entry}"
            );
        }
        for (id, entry) in &self.acknowledged {
            assert_eq!(by_id.get(id), Some(&entry), "an acknowledged entry is gone or changed");
        }
        self.acknowledged = by_id.into_iter().map(|(id, entry)| (id, entry.clone())).collect();
    }

    /// With a gateway running anew: what the upstream got is in the books, once, settled or recovered.
    fn check_received(&self) {
        let entered: BTreeSet<&str> = self
            .acknowledged
            .values()
            .map(|entry| entry["task"].as_str().unwrap())
            .collect();
        let lost: Vec<&String> = self
            .received
            .iter()
            .filter(|task| !entered.contains(task.as_str()))
            .collect();
        assert!(lost.is_empty(), "the upstream served {lost:?}, the books do not know");
    }
}

fn entries_by_rpc(home: &Installation) -> Option<Vec<Value>> {
    let (mut entries, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut params = json!({"limit": 1000});
        if !cursor.is_null() {
            params["cursor"] = cursor;
        }
        let page = home.try_rpc("ledger.query", &params)?;
        entries.extend(page["entries"].as_array()?.iter().cloned());
        cursor = page["next"].clone();
        if cursor.is_null() {
            return Some(entries);
        }
    }
}

/// Clients of every kind until the kill, which comes when so many requests were served.
fn load_until_killed(home: &Installation, gateway: Process, known: &mut Known, round: usize) {
    let (served, running) = (AtomicUsize::new(0), AtomicBool::new(true));
    let sent = AtomicUsize::new(known.sent);
    let shown: Mutex<Vec<Value>> = Mutex::default();
    let (client, prefix) = (gateway.client, known.prefix.clone());
    let prefix = prefix.as_str();
    thread::scope(|scope| {
        for worker in 0..6 {
            let (served, running, sent) = (&served, &running, &sent);
            scope.spawn(move || {
                let mut open = Vec::new();
                for turn in 0.. {
                    if !running.load(Ordering::Acquire) {
                        break;
                    }
                    let wish = ["whole", "stream", "open", "break", "whole"][(worker + turn) % 5];
                    let task = format!("{prefix}{}", sent.fetch_add(1, Ordering::AcqRel));
                    let headers = [
                        ("authorization", "Bearer sk-test-0123456789abcdef"),
                        ("x-agent-task", task.as_str()),
                        ("x-task", task.as_str()),
                        ("x-wish", wish),
                    ];
                    let body = r#"{"model":"gpt-4o","messages":[],"stream":true,"max_tokens":100}"#;
                    let body = if wish == "whole" {
                        body.replace("\"stream\":true,", "")
                    } else {
                        body.to_owned()
                    };
                    let Some(mut stream) = client.try_send("POST", "/v1/chat/completions", &headers, body.as_bytes())
                    else {
                        break;
                    };
                    if wish == "open" {
                        let mut some = [0; 300];
                        let _ = stream.read(&mut some);
                        // Kept open to the end of the round, some of them; the others are left.
                        if open.len() < 6 {
                            open.push(stream);
                        }
                    } else {
                        let mut all = Vec::new();
                        let _ = stream.read_to_end(&mut all);
                    }
                    served.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        // One who reads the books meanwhile: what it is shown must never be lost.
        scope.spawn(|| {
            while running.load(Ordering::Acquire) {
                if let Some(entries) = entries_by_rpc(home) {
                    *shown.lock().unwrap() = entries;
                }
                thread::sleep(Duration::from_millis(30));
            }
        });
        // Another moment each round: after 1 to 60 requests.
        let wanted = 1 + (round * 37) % 60;
        for _ in 0..10_000 {
            if served.load(Ordering::Acquire) >= wanted {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        gateway.kill();
        running.store(false, Ordering::Release);
    });
    known.sent = sent.into_inner();
    let shown = shown.into_inner().unwrap();
    let seen_before: BTreeMap<String, Value> = std::mem::take(&mut known.acknowledged);
    known.acknowledged = shown
        .into_iter()
        .map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry))
        .collect();
    for (id, entry) in seen_before {
        let now = known.acknowledged.entry(id).or_insert_with(|| entry.clone());
        assert_eq!(*now, entry, "an entry changed");
    }
}

/// Balances and sums of the running gateway equal its entries.
fn check_sums(home: &Installation, entries: &[Value]) {
    let usd = |text: &Value| text.as_str().unwrap().parse::<Usd>().unwrap().nanos();
    let all: i64 = entries.iter().map(|entry| usd(&entry["cost_usd"])).sum();
    let status = home.rpc("budget.status", &json!({"account": "global", "window": "total"}));
    let [row] = status["budgets"].as_array().unwrap().as_slice() else {
        panic!("{status}")
    };
    assert_eq!(usd(&row["spent_usd"]), all, "the balance is the sum of the entries");
    assert_eq!(usd(&row["held_usd"]), 0, "{row}");
    let summary = home.rpc("ledger.summary", &json!({"by": "provider", "last": "7d"}));
    let sums: i64 = summary["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| usd(&row["cost_usd"]))
        .sum();
    assert_eq!(sums, all, "so are the rollups: {summary}");
}

#[test]
fn nothing_acknowledged_is_lost_and_no_hold_leaks() {
    let upstream = Upstream::playing(answer);
    let base = upstream.base();
    let yaml = format!("providers: {{openai: {{upstream: \"{base}\"}}}}");
    let all_time = r#"return { name = "house", version = "1", priority = 10, request = function()
        return budget{ account = "global", window = "total", limit = 1000000, unit = "usd", action = "block" }
    end }"#;
    let (mut home, mut known) = (Installation::new(&yaml), Known::default());
    let (mut killed, mut recovered, mut acknowledged) = (0, 0, 0);
    let mut running: Option<Process> = None;
    let total = rounds();
    for round in 0..total {
        if round % ROUNDS_A_LEDGER == 0 {
            drop(running.take());
            home = Installation::new(&yaml);
            home.policy("house", all_time);
            known = Known {
                prefix: format!("ledger-{round}-"),
                ..Known::default()
            };
        }
        let gateway = running.take().unwrap_or_else(|| home.serve());
        load_until_killed(&home, gateway, &mut known, round);
        killed += 1;

        // With the socket stale and holds open, the books are whole, and show everything that they have shown.
        let verified = home.run(&["verify"]);
        assert!(verified.status.success(), "round {round}: {verified:?}");
        known.check(&home.export());
        let received = upstream.seen();
        let tasks = received.iter().filter_map(|seen| seen.header("x-task"));
        known
            .received
            .extend(tasks.filter(|task| task.starts_with(&known.prefix)).map(str::to_owned));

        // Up again: every hold has ended.
        let gateway = home.serve();
        assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]), "round {round}");
        let entries = entries_by_rpc(&home).unwrap();
        known.check(&entries);
        known.check_received();
        check_sums(&home, &entries);
        acknowledged += entries.len();
        recovered += entries.iter().filter(|entry| entry["outcome"] == "recovered").count();
        // The next round kills this one.
        running = Some(gateway);
    }
    println!("{killed} kills; {recovered} recovered of {acknowledged} entries, as counted each round");
    assert!(recovered > 0, "no round was killed with a hold open: it shows nothing");
}
