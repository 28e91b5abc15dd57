//! Many wrappers at one time, whose calls all wait for one budget.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::mcp::call;
use crate::mcp_wrap::{Wrapper, installed, wait_for_seen, wrap};

/// Each says that it failed, and costs nothing, once there is a file `go`.
const FREE: &str = r#"while IFS= read -r line; do printf '%s\n' "$line" >>seen; while [ ! -e go ]; do sleep 0.02; done
id=${line#*\"id\":}; printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"isError":true}}\n' "${id%%,*}"; done"#;
const WRAPPERS: usize = 10;
const CALLS: u32 = 30;

#[test]
fn calls_that_wait_by_the_hundred_keep_neither_the_end_of_others_nor_the_command_line_out() {
    let home = installed("budgets: {default: {daily_limit_usd: 0.015, action: block}}\nhold: {wait_ms: 60s}");
    let gateway = home.serve();
    let mut wrappers: Vec<Wrapper> = (0..WRAPPERS).map(|_| wrap(&home, &[], FREE)).collect();
    for wrapper in &mut wrappers {
        for id in 1..=CALLS {
            wrapper.says(&call(id, "read", json!({"n": id})));
        }
    }
    wait_for_seen(&home, "tools/call");
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"].as_array().unwrap().len(), 1);
    std::fs::write(home.path("go"), "").unwrap();
    let mut passed = 0;
    let mut codes = BTreeSet::new();
    for wrapper in &mut wrappers {
        for _ in 0..CALLS {
            match &wrapper.answer()["result"]["_meta"]["agentledger/refusal"]["code"] {
                Value::String(code) => {
                    codes.insert(code.clone());
                }
                _ => passed += 1,
            }
        }
    }
    // One after the other as many as may wait; what is beyond is refused at once, and may come again.
    assert!(passed > 100, "{passed}, {codes:?}");
    assert!(
        codes.iter().all(|code| code == "budget_held" || code == "overloaded"),
        "{codes:?}"
    );
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]));
    assert_eq!(home.export().len(), passed);
    wrappers.into_iter().for_each(|wrapper| drop(wrapper.ends()));
    gateway.stop();
}
