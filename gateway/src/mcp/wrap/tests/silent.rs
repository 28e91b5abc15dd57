//! A gateway that hangs: it has its connections, and answers nothing.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

static ASKED: AtomicU32 = AtomicU32::new(0);

/// Answers from the third call that is to be voided on.
fn silent(method: &str, params: &Value) -> Result<Value, Away> {
    match method {
        "mcp.settle" if ASKED.fetch_add(1, Ordering::Relaxed) >= 2 => admits(method, params),
        _ => Err(Away::Silent(Duration::from_secs(20))),
    }
}

#[test]
fn a_call_that_a_silent_gateway_may_have_held_is_refused_and_voided_once_it_answers() {
    let rpc = Scripted::new(silent);
    let mut wrapped = Setup {
        offline: Offline::Spool,
        ..Setup::new(&rpc)
    }
    .start(SERVER);
    wrapped.says(call(1, "read").as_bytes());
    let answer = wrapped.json();
    assert_eq!(
        answer["result"]["_meta"]["agentledger/refusal"]["code"], "no_gateway",
        "{answer}"
    );
    for _ in 0..1_000 {
        if rpc.endings().len() >= 3 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(rpc.endings().len(), 3);
    let begun = rpc.of("mcp.begin");
    for end in rpc.of("mcp.settle") {
        assert_eq!((&end["id"], &end["ending"]), (&begun[0]["id"], &json!("unsent")));
    }
    let (_, _, seen, _dir) = wrapped.ends();
    assert!(!seen.exists(), "it is not gone round");
}

#[test]
fn a_wrapper_ends_with_its_server_although_the_gateway_hangs() {
    let rpc = Scripted {
        settles: false,
        ..Scripted::new(admits)
    };
    let script = "n=1; while [ $n -le 100 ]; do read -r line; n=$((n+1)); done
        n=1; while [ $n -le 100 ]; do echo \"{\\\"id\\\":$n,\\\"result\\\":{}}\"; n=$((n+1)); done";
    let mut wrapped = Setup::new(&rpc).start(script);
    let asked: String = (1..=100).map(|id| call(id, "read")).collect();
    wrapped.says(asked.as_bytes());
    let (rest, code, ..) = wrapped.ends();
    assert_eq!((rest.iter().filter(|byte| **byte == b'\n').count(), code), (100, 0));
}
