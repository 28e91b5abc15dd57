//! Many wrappers at one time, whose calls all wait for one budget.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::mcp::call;
use crate::mcp_wrap::{Wrapper, installed, wrap};

/// Each says that it failed, and costs nothing, once there is a file `go`.
const FREE: &str = r#"while IFS= read -r line; do printf '%s\n' "$line" >>seen; while [ ! -e go ]; do sleep 0.02; done
id=${line#*\"id\":}; printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"isError":true}}\n' "${id%%,*}"; done"#;
const WRAPPERS: usize = 10;
const CALLS: u32 = 30;
/// Of all of them one is held, so many wait for it, and the others are refused.
const WAITING: usize = 128;

/// Lets the servers go on, also where the test fails: else their wrappers would be waited for without end.
struct Go(PathBuf);

impl Drop for Go {
    fn drop(&mut self) {
        std::fs::write(&self.0, "").unwrap();
    }
}

#[test]
fn calls_that_wait_by_the_hundred_keep_neither_the_end_of_others_nor_the_command_line_out() {
    let home = installed("budgets: {default: {daily_limit_usd: 0.015, action: block}}\nhold: {wait_ms: 60s}");
    let gateway = home.serve();
    let wrappers: Vec<Wrapper> = (0..WRAPPERS).map(|_| wrap(&home, &[], FREE)).collect();
    let (answered, answers) = mpsc::channel();
    thread::scope(|scope| {
        let go = Go(home.path("go"));
        for mut wrapper in wrappers {
            let answered = answered.clone();
            scope.spawn(move || {
                for id in 1..=CALLS {
                    wrapper.says(&call(id, "read", json!({"n": id})));
                }
                for _ in 0..CALLS {
                    let answer = wrapper.answer();
                    let code = answer["result"]["_meta"]["agentledger/refusal"]["code"].as_str();
                    answered.send(code.map(str::to_owned)).unwrap();
                }
                wrapper.ends();
            });
        }
        let next = || answers.recv_timeout(Duration::from_secs(40)).expect("an answer");
        let all = WRAPPERS * usize::try_from(CALLS).unwrap();
        // At once, and worth another try.
        for _ in 0..all - WAITING - 1 {
            let code = next();
            assert!(
                matches!(code.as_deref(), Some("budget_held" | "overloaded")),
                "{code:?}"
            );
        }
        assert_eq!(home.rpc("hold.list", &json!({}))["holds"].as_array().unwrap().len(), 1);
        drop(go);
        for _ in 0..=WAITING {
            assert_eq!(next(), None, "one after the other they pass");
        }
    });
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]));
    assert_eq!(home.export().len(), WAITING + 1);
    gateway.stop();
}
