//! Servers and clients that do not do as they should.

use super::*;

#[test]
fn what_is_one_line_to_some_readers_and_three_to_others_does_not_pass() {
    let rpc = Scripted::new(admits);
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    let hidden = call(2, "dear").trim().to_owned();
    wrapped.says(format!("{{\"id\":1,\"method\":\"ping\",\"params\":{{\"a\":[\r{hidden}\r]}}}}\n").as_bytes());
    let answer = wrapped.json();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32_600)));
    // An end of a line that has one is none within.
    wrapped.says(call(1, "read").replace('\n', "\r\n").as_bytes());
    assert_eq!(wrapped.json()["id"], 1);
    let (_, _, seen, _dir) = wrapped.ends();
    assert!(!std::fs::read_to_string(seen).unwrap().contains("dear"));
    assert_eq!(rpc.endings(), ["result"]);
}

#[test]
fn a_request_whose_id_cannot_be_read_is_answered_all_the_same() {
    let rpc = Scripted::new(admits);
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    let twice = format!("[{0},{0}]\n", call(1, "read").trim());
    for line in [
        twice.as_str(),
        "{\"id\":null,\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}\n",
    ] {
        wrapped.says(line.as_bytes());
        let answer = wrapped.json();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&Value::Null, &json!(-32_600)),
            "{line}"
        );
    }
    assert!(!wrapped.ends().2.exists());
}

#[test]
fn a_call_that_waits_for_its_hold_does_not_keep_others_from_being_entered_when_the_server_ends() {
    let rpc = Scripted {
        opened: Some(Arc::default()),
        ..Scripted::new(admits)
    };
    let script = "for n in 1 2 3 4 5; do read -r line; done; : >five; while [ ! -e go ]; do sleep 0.02; done
        for n in 1 2 3; do echo \"{\\\"id\\\":$n,\\\"result\\\":{}}\"; done";
    let opened = rpc.opened.clone().unwrap();
    let mut wrapped = Setup::new(&rpc).start(script);
    let asked: String = (1..=6).map(|id| call(id, "read")).collect();
    wrapped.says(asked.as_bytes());
    // The sixth is never held.
    for _ in 0..5 {
        opened.notify_one();
        let before = rpc.of("mcp.begin").len();
        while before < 6 && rpc.of("mcp.begin").len() == before {
            thread::sleep(Duration::from_millis(5));
        }
    }
    while !wrapped.dir.path().join("five").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(wrapped.dir.path().join("go"), "").unwrap();
    let (rest, ..) = wrapped.ends();
    assert_eq!(rest.iter().filter(|byte| **byte == b'\n').count(), 3);
    let mut endings = rpc.endings();
    endings.sort_unstable();
    assert_eq!(endings, ["result", "result", "result", "server_gone", "server_gone"]);
}

#[test]
fn a_server_that_does_not_read_keeps_no_answer_from_being_entered() {
    let rpc = Scripted::new(admits);
    // It reads one call, answers it late, and nothing else.
    let script = "read -r line; : >one; while [ ! -e go ]; do sleep 0.02; done; echo '{\"id\":1,\"result\":{}}'
        while [ ! -e end ]; do sleep 0.02; done";
    let mut wrapped = Setup::new(&rpc).start(script);
    wrapped.says(call(1, "read").as_bytes());
    while !wrapped.dir.path().join("one").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    // More than a pipe holds.
    let long = json!({"id": 2, "method": "tools/call", "params": {"name": "read", "arguments": "x".repeat(200_000)}});
    wrapped.says(format!("{long}\n").as_bytes());
    while rpc.of("mcp.begin").len() < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(wrapped.dir.path().join("go"), "").unwrap();
    assert_eq!(wrapped.json()["id"], 1);
    while rpc.endings().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(wrapped.dir.path().join("end"), "").unwrap();
    wrapped.ends();
    let endings = rpc.endings();
    assert_eq!(endings[0], "result");
    assert!(["unsent", "server_gone"].contains(&endings[1].as_str()), "{endings:?}");
}

#[test]
fn a_client_that_does_not_read_its_refusals_keeps_no_wrapper_running() {
    let rpc = Scripted::new(refuses);
    let mut wrapped = Setup::new(&rpc).start("while [ ! -e go ]; do sleep 0.02; done; exit 6");
    // Answers to them are more than a pipe holds.
    let long = "y".repeat(2_000);
    let asked: String = (0..200)
        .map(|id| {
            json!({"id": format!("{long}{id}"), "method": "tools/call", "params": {"name": "dear"}}).to_string() + "\n"
        })
        .collect();
    wrapped.says(asked.as_bytes());
    while rpc.of("mcp.begin").len() < 100 {
        thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(wrapped.dir.path().join("go"), "").unwrap();
    let Wrapped {
        client: _client,
        answers: _answers,
        code,
        dir: _dir,
    } = wrapped;
    assert_eq!(code.join().unwrap().unwrap(), 6);
}

#[test]
fn an_answer_that_is_too_long_beside_a_list_is_answered_in_its_place() {
    let rpc = Scripted::new(admits);
    let script = format!(
        "read -r a; read -r b; echo '{{\"result\":{{\"text\":\"{}\"}},\"id\":1}}'; cat >/dev/null",
        "x".repeat(3_000)
    );
    let mut wrapped = Setup {
        line_bytes_max: 2_000,
        ..Setup::new(&rpc)
    }
    .start(&script);
    wrapped.says(format!("{}{{\"id\":9,\"method\":\"tools/list\"}}\n", call(1, "read")).as_bytes());
    let answer = wrapped.json();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(413)));
    wrapped.ends();
    assert_eq!(rpc.endings(), ["result"]);
}

#[test]
fn a_client_that_left_is_told_from_a_server_that_ended() {
    let rpc = Scripted::new(admits);
    let script = "read -r a; read -r b; : >two; while [ ! -e go ]; do sleep 0.02; done
        echo '{\"id\":1,\"result\":{}}'; sleep 0.2; echo more; sleep 0.2; echo more";
    let mut wrapped = Setup::new(&rpc).start(script);
    wrapped.says((call(1, "read") + &call(2, "read")).as_bytes());
    while !wrapped.dir.path().join("two").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let Wrapped {
        client: _client,
        answers,
        code,
        dir,
    } = wrapped;
    drop(answers);
    std::fs::write(dir.path().join("go"), "").unwrap();
    code.join().unwrap().unwrap();
    assert_eq!(rpc.endings(), ["result", "client_gone"]);
}
