//! Real servers, started and ended, between a client and a scripted gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

mod hostile;
mod lists;
mod silent;

use super::*;
use crate::config::{LongLines, Offline, ToolRefusals};
use crate::control::wire::ToolCaller;
use spool::Spool;

/// Answers as it is told, and keeps what was asked.
#[derive(Clone)]
struct Scripted {
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    answers: fn(&str, &Value) -> Result<Value, Away>,
    /// Where there is one, calls begin only after it.
    opened: Option<Arc<Notify>>,
    /// Whether the end of a call is ever answered.
    settles: bool,
}

impl Rpc for Scripted {
    async fn call<P, A>(&self, method: &'static str, params: &P) -> Result<A, Away>
    where
        P: Serialize + Sync,
        A: DeserializeOwned,
    {
        let params = serde_json::to_value(params).unwrap();
        self.asked.lock().push((method.to_owned(), params.clone()));
        if let Some(opened) = self.opened.as_ref().filter(|_| method == "mcp.begin") {
            opened.notified().await;
        }
        if method == "mcp.settle" && !self.settles {
            std::future::pending::<()>().await;
        }
        (self.answers)(method, &params).map(|answer| serde_json::from_value(answer).unwrap())
    }
}

impl Scripted {
    fn new(answers: fn(&str, &Value) -> Result<Value, Away>) -> Scripted {
        Scripted {
            asked: Arc::default(),
            answers,
            opened: None,
            settles: true,
        }
    }

    fn of(&self, method: &str) -> Vec<Value> {
        let asked = self.asked.lock();
        asked
            .iter()
            .filter(|(asked, _)| asked == method)
            .map(|(_, params)| params.clone())
            .collect()
    }

    fn endings(&self) -> Vec<String> {
        let ends = self.of("mcp.settle");
        ends.iter()
            .map(|end| end["ending"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Admits all calls.
fn admits(method: &str, _: &Value) -> Result<Value, Away> {
    Ok(match method {
        "mcp.begin" => json!({"admitted": true, "wants_result": true, "keep_ms": 600_000}),
        "mcp.keep" => json!({"kept": 1}),
        _ => json!({"ended": true}),
    })
}

/// Refuses the tool `dear`.
fn refuses(method: &str, params: &Value) -> Result<Value, Away> {
    if method != "mcp.begin" || params["tool"] != "dear" {
        return admits(method, params);
    }
    let id: Value = serde_json::from_str(params["request"].as_str().unwrap()).unwrap();
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"isError": true, "content": []}});
    Ok(json!({"admitted": false, "answer": answer.to_string(), "code": "budget_exceeded", "keep_ms": 1000}))
}

fn nobody(_: &str, _: &Value) -> Result<Value, Away> {
    Err(Away::Nobody("no such socket".to_owned()))
}

/// A server that runs, and its client.
struct Wrapped {
    client: Option<PipeWriter>,
    answers: BufReader<PipeReader>,
    code: JoinHandle<io::Result<u8>>,
    dir: tempfile::TempDir,
}

struct Setup {
    rpc: Scripted,
    offline: Offline,
    long: LongLines,
    line_bytes_max: usize,
}

impl Setup {
    fn new(rpc: &Scripted) -> Setup {
        Setup {
            rpc: rpc.clone(),
            offline: Offline::Refuse,
            long: LongLines::Refuse,
            line_bytes_max: 1 << 20,
        }
    }

    /// The server is a script of the shell, in a folder of its own.
    fn start(self, script: &str) -> Wrapped {
        let dir = tempfile::tempdir().unwrap();
        let (reads, client) = pipe().unwrap();
        let (answers, writes) = pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path());
        let books = Books::new(self.rpc, self.offline, Spool::new(dir.path().join("spool"), None));
        let settings = Settings {
            server: "files".to_owned(),
            caller: ToolCaller {
                agent: "a1".to_owned(),
                ..ToolCaller::default()
            },
            refusals: ToolRefusals::Result,
            answer_timeout: Duration::from_secs(3_600),
            answer_wait: Duration::from_secs(600),
        };
        let lines = LineLimits {
            bytes_max: self.line_bytes_max,
            long: self.long,
        };
        let ends = ClientEnds {
            reads: Box::new(reads),
            writes: Box::new(writes),
        };
        let code = thread::spawn(move || run(command, ends, books, settings, lines));
        Wrapped {
            client: Some(client),
            answers: BufReader::new(answers),
            code,
            dir,
        }
    }
}

impl Wrapped {
    fn says(&mut self, text: &[u8]) {
        self.client.as_mut().unwrap().write_all(text).unwrap();
    }

    /// The next line that the client reads.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Says nothing more; what the client reads until the end, and the exit code.
    fn ends(mut self) -> (Vec<u8>, u8, PathBuf, tempfile::TempDir) {
        self.client = None;
        let mut rest = Vec::new();
        self.answers.read_to_end(&mut rest).unwrap();
        let code = self.code.join().unwrap().unwrap();
        (rest, code, self.dir.path().join("seen"), self.dir)
    }
}

/// Keeps what it is sent in `seen`, and answers the requests 1, 2, … in turn.
const SERVER: &str = r#"n=1; while IFS= read -r line; do printf '%s\n' "$line" >>seen
case $line in *'"method":"tools/call"'*) printf '{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}\n' $n; n=$((n+1));; *ping*) echo '{"jsonrpc":"2.0","id":"p","result":{}}';; esac
done"#;

fn call(id: u32, tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"n": id}}})
        .to_string()
        + "\n"
}

#[test]
fn a_call_is_held_before_the_server_has_it_and_entered_by_its_answer() {
    let rpc = Scripted::new(admits);
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    wrapped.says(call(1, "read").as_bytes());
    assert_eq!(wrapped.json()["id"], 1);
    let (rest, code, ..) = wrapped.ends();
    assert_eq!((rest.as_slice(), code), (&b""[..], 0));
    let begun = &rpc.of("mcp.begin")[0];
    for (name, value) in [
        ("server", json!("files")),
        ("tool", json!("read")),
        ("arguments", json!("{\"n\":1}")),
        ("argument_bytes", json!(7)),
        ("request", json!("1")),
    ] {
        assert_eq!(begun[name], value, "{name}");
    }
    assert_eq!(begun["caller"]["agent"], "a1");
    let ended = &rpc.of("mcp.settle")[0];
    assert_eq!((&ended["id"], &ended["ending"]), (&begun["id"], &json!("result")));
    assert_eq!(
        (&ended["result"], &ended["result_bytes"]),
        (&json!("{\"content\":[]}"), &json!(14))
    );
}

#[test]
fn a_refused_call_is_answered_and_the_server_does_not_hear_of_it() {
    let rpc = Scripted::new(refuses);
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    wrapped.says(call(7, "dear").as_bytes());
    let answer = wrapped.json();
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(7), &json!(true)));
    wrapped.says(call(1, "cheap").as_bytes());
    assert_eq!(wrapped.json()["id"], 1);
    let (_, _, seen, _dir) = wrapped.ends();
    assert_eq!(std::fs::read_to_string(seen).unwrap(), call(1, "cheap"));
    assert_eq!(rpc.endings(), ["result"]);
}

#[test]
fn of_a_batch_with_a_refused_call_nothing_is_sent() {
    let rpc = Scripted::new(refuses);
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    let (cheap, dear) = (call(1, "cheap"), call(2, "dear"));
    wrapped.says(format!("[{},{},{{\"id\":3,\"method\":\"x\"}}]\n", cheap.trim(), dear.trim()).as_bytes());
    let answers = wrapped.json();
    let ids: Vec<&Value> = answers.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
    let (_, _, seen, _dir) = wrapped.ends();
    assert!(!seen.exists());
    assert_eq!(rpc.endings(), ["unsent"]);
}

#[test]
fn what_is_no_call_flows_past_one_that_waits() {
    let opened = Arc::new(Notify::new());
    let rpc = Scripted {
        opened: Some(Arc::clone(&opened)),
        ..Scripted::new(admits)
    };
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    wrapped.says(format!("{}{{\"id\":\"p\",\"method\":\"ping\"}}\n", call(1, "read")).as_bytes());
    assert_eq!(wrapped.json()["id"], "p", "it is answered first");
    opened.notify_one();
    assert_eq!(wrapped.json()["id"], 1);
    wrapped.ends();
}

#[test]
fn a_call_that_is_cancelled_while_it_waits_does_not_happen() {
    let opened = Arc::new(Notify::new());
    let rpc = Scripted {
        opened: Some(Arc::clone(&opened)),
        ..Scripted::new(admits)
    };
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    let cancel = "{\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}}\n";
    wrapped.says(format!("{}{cancel}{{\"id\":\"p\",\"method\":\"ping\"}}\n", call(1, "read")).as_bytes());
    assert_eq!(wrapped.json()["id"], "p");
    opened.notify_one();
    let (rest, _, seen, _dir) = wrapped.ends();
    assert!(rest.is_empty());
    assert!(!std::fs::read_to_string(seen).unwrap().contains("tools/call"));
    assert_eq!(rpc.endings(), ["unsent"]);
}

#[test]
fn bytes_pass_unchanged_both_ways() {
    let mut bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    bytes.extend_from_slice(b"{\"half\": \xff \"a line without its end");
    let rpc = Scripted::new(admits);
    let mut wrapped = Setup {
        long: LongLines::Pass,
        line_bytes_max: 1_000,
        ..Setup::new(&rpc)
    }
    .start("exec cat");
    let mut client = wrapped.client.take().unwrap();
    let sent = bytes.clone();
    let writer = thread::spawn(move || client.write_all(&sent));
    let (passed, code, ..) = wrapped.ends();
    writer.join().unwrap().unwrap();
    assert!(passed == bytes, "{} of {} bytes", passed.len(), bytes.len());
    assert_eq!((code, rpc.asked.lock().len()), (0, 0));
}

#[test]
fn what_another_reader_could_take_for_a_call_does_not_pass() {
    let rpc = Scripted::new(admits);
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    for (line, id) in [
        (
            &br#"{"id":1,"method":"ping","Method":"tools/call","params":{"name":"a"}}"#[..],
            Some(1),
        ),
        (
            br#"{"id":2,"method":"tools\/call","params":{"name":"a","name":"b"}}"#,
            Some(2),
        ),
        (
            b"{\"id\":3,\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\"}}",
            Some(3),
        ),
        (br#"{"method":"tools/call","params":{"name":"a"}}"#, None),
        (br#"{"id":5,"method":"tools/call","params":{"na"#, Some(5)),
    ] {
        wrapped.says(&[line, b"\n"].concat());
        let answer = wrapped.json();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-32_600)));
    }
    wrapped.says(b"{\"not\": \"read \\u0041 \xff\n");
    let (_, _, seen, _dir) = wrapped.ends();
    assert_eq!(std::fs::read(seen).unwrap(), b"{\"not\": \"read \\u0041 \xff\n");
    assert!(rpc.asked.lock().is_empty());
}

#[test]
fn a_call_without_the_end_of_its_line_is_one() {
    let rpc = Scripted::new(refuses);
    let mut wrapped = Setup::new(&rpc).start("cat >seen; echo done");
    wrapped.says(call(1, "dear").trim_end().as_bytes());
    let (rest, _, seen, _dir) = wrapped.ends();
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("\"isError\":true") && rest.ends_with("done\n"), "{rest}");
    assert_eq!(std::fs::read(seen).unwrap(), b"");
}

#[test]
fn a_line_of_a_hundred_megabytes_is_refused_or_passes() {
    for (long, passes) in [(LongLines::Refuse, false), (LongLines::Pass, true)] {
        let rpc = Scripted::new(admits);
        let mut wrapped = Setup {
            long,
            ..Setup::new(&rpc)
        }
        .start("wc -c >seen; echo '{\"over\":1}'");
        let mut client = wrapped.client.take().unwrap();
        let writer = thread::spawn(move || {
            client.write_all(b"{\"id\":9,\"method\":\"x\",\"params\":\"").unwrap();
            (0..100).for_each(|_| client.write_all(&vec![b'x'; 1 << 20]).unwrap());
            client.write_all(b"\"}\n{\"id\":10,\"method\":\"y\"}\n").unwrap();
        });
        writer.join().unwrap();
        if !passes {
            let answer = wrapped.json();
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(9), &json!(413)));
        }
        assert_eq!(wrapped.json()["over"], 1);
        let (_, _, seen, _dir) = wrapped.ends();
        let bytes: usize = std::fs::read_to_string(seen).unwrap().trim().parse().unwrap();
        assert_eq!(bytes > 100 << 20, passes, "{bytes}");
        assert!(passes || bytes == 23, "what follows passes: {bytes}");
    }
}

#[test]
fn an_answer_of_megabytes_passes_and_ends_its_call() {
    let rpc = Scripted::new(admits);
    let script = r#"read -r line; printf '{"result":{"isError":true,"text":"'; head -c 5000000 /dev/zero | tr '\0' x; printf '"},"id":1}\n'"#;
    let mut wrapped = Setup::new(&rpc).start(script);
    wrapped.says(call(1, "read").as_bytes());
    assert!(wrapped.line().len() > 5_000_000);
    wrapped.ends();
    let ended = &rpc.of("mcp.settle")[0];
    assert_eq!(
        (&ended["ending"], &ended["unread"], ended.get("result")),
        (&json!("tool_error"), &json!(true), None)
    );
    assert!(ended["result_bytes"].as_u64().unwrap() > 5_000_000);
}

#[test]
fn answers_to_nothing_pass_and_an_id_that_is_used_again_is_answered_in_turn() {
    let rpc = Scripted::new(admits);
    let script =
        "read -r a; read -r b; echo '{\"id\":99,\"result\":{}}'; echo 'no JSON'; echo '{\"id\":1,\"result\":{}}'
        echo '{\"id\":1,\"error\":{}}'; echo '{\"id\":1,\"result\":{}}'; cat >/dev/null";
    let mut wrapped = Setup::new(&rpc).start(script);
    wrapped.says((call(1, "read") + &call(1, "read")).as_bytes());
    let lines: Vec<String> = (0..5).map(|_| wrapped.line()).collect();
    assert_eq!(
        (lines[0].as_str(), lines[1].as_str()),
        ("{\"id\":99,\"result\":{}}\n", "no JSON\n")
    );
    wrapped.ends();
    assert_eq!(rpc.endings(), ["result", "error"]);
    let begun: Vec<Value> = rpc.of("mcp.begin").iter().map(|begun| begun["id"].clone()).collect();
    let ended: Vec<Value> = rpc.of("mcp.settle").iter().map(|ended| ended["id"].clone()).collect();
    assert_eq!(begun, ended);
}

#[test]
fn a_server_that_ends_within_a_call_ends_it_and_its_code_is_ours() {
    let rpc = Scripted::new(admits);
    let mut wrapped = Setup::new(&rpc).start("read -r line; printf '{\"id\":1,\"resu'; exit 7");
    wrapped.says(call(1, "read").as_bytes());
    assert_eq!(wrapped.line(), "{\"id\":1,\"resu", "half a line is passed as it is");
    let (_, code, ..) = wrapped.ends();
    assert_eq!((code, rpc.endings()), (7, vec!["server_gone".to_owned()]));
}

#[test]
fn exit_codes_are_passed_on() {
    let rpc = Scripted::new(admits);
    for (script, expected) in [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137)] {
        assert_eq!(Setup::new(&rpc).start(script).ends().1, expected, "{script}");
    }
}

#[test]
fn a_client_that_reads_no_more_ends_the_server() {
    let rpc = Scripted::new(admits);
    let Wrapped {
        client: _client,
        answers,
        code,
        dir: _dir,
    } = Setup::new(&rpc).start("exec yes");
    drop(answers);
    assert_eq!(code.join().unwrap().unwrap(), 141);
}

#[test]
fn something_that_the_server_started_does_not_keep_us() {
    let rpc = Scripted::new(admits);
    let mut wrapped = Setup::new(&rpc).start("sleep 30 & echo hi; exit 3");
    assert_eq!(wrapped.line(), "hi\n");
    let Wrapped { client, code, .. } = wrapped;
    drop(client);
    assert_eq!(code.join().unwrap().unwrap(), 3);
}

#[test]
fn without_a_gateway_calls_are_refused_pass_or_are_written_down() {
    for (offline, reaches, files) in [
        (Offline::Refuse, false, 0),
        (Offline::Pass, true, 0),
        (Offline::Spool, true, 1),
    ] {
        let rpc = Scripted::new(nobody);
        let mut wrapped = Setup {
            offline,
            ..Setup::new(&rpc)
        }
        .start(SERVER);
        wrapped.says(call(1, "read").as_bytes());
        let answer = wrapped.json();
        assert_eq!(answer["result"]["isError"] == true, !reaches, "{offline:?}: {answer}");
        if !reaches {
            assert_eq!(answer["result"]["_meta"]["agentledger/refusal"]["code"], "no_gateway");
        }
        let (_, _, seen, dir) = wrapped.ends();
        assert_eq!(seen.exists(), reaches);
        let spool: Vec<_> = std::fs::read_dir(dir.path().join("spool"))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(spool.len(), files, "{offline:?}");
        for file in spool {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(
                text.contains("\"begun\"") && text.contains("\"ended\"") && !text.contains("{\\\"n\\\":1}"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_gateway_that_takes_no_calls_is_not_gone_round() {
    let rpc = Scripted::new(|_, _| Err(Away::Refuses("forbidden".to_owned())));
    let mut wrapped = Setup {
        offline: Offline::Spool,
        ..Setup::new(&rpc)
    }
    .start(SERVER);
    wrapped.says(call(1, "read").as_bytes());
    assert_eq!(wrapped.json()["result"]["isError"], true);
    assert!(!wrapped.ends().2.exists());
}
