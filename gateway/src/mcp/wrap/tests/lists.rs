//! Lists of tools, on their way through the wrapper.

use super::*;

const LIST: &str =
    r#"{"jsonrpc":"2.0", "id":"l","result":{"tools":[ {"name":"cheap","x":[1, 2]}, {"name":"dear"}],"n":1}}"#;
const SHOWN: &str = r#"{"jsonrpc":"2.0", "id":"l","result":{"tools":[ {"name":"cheap","x":[1, 2]}],"n":1}}"#;
const ASK: &[u8] = b"{\"id\":\"l\",\"method\":\"tools/list\"}\n";

/// Answers the first line by a notification and a list, and ends with its client.
fn lister() -> String {
    format!("read -r line; echo '{{\"method\":\"n\"}}'; echo '{LIST}'; cat >/dev/null")
}

/// Hides the tool `dear`.
fn hides(method: &str, params: &Value) -> Result<Value, Away> {
    match method {
        "mcp.list" => Ok(json!({"hidden": ["dear"]})),
        _ => admits(method, params),
    }
}

#[test]
fn a_list_is_shown_as_the_gateway_says_and_nothing_else_is_changed() {
    let rpc = Scripted::new(hides);
    let mut wrapped = Setup::new(&rpc).start(&lister());
    wrapped.says(ASK);
    assert_eq!(wrapped.line(), "{\"method\":\"n\"}\n");
    assert_eq!(wrapped.line(), format!("{SHOWN}\n"));
    wrapped.ends();
    let asked = &rpc.of("mcp.list")[0];
    assert_eq!(
        (&asked["server"], &asked["request"]),
        (&json!("files"), &json!("\"l\""))
    );
    assert_eq!(asked["caller"]["agent"], "a1");
    let tools = asked["tools"].as_array().unwrap();
    assert_eq!(
        (&tools[0]["name"], &tools[1]["name"]),
        (&json!("cheap"), &json!("dear"))
    );
    assert_ne!(tools[0]["definition"], tools[1]["definition"]);
}

#[test]
fn a_list_reaches_a_client_that_has_said_all_and_whose_server_has_ended() {
    let rpc = Scripted::new(hides);
    let mut wrapped = Setup::new(&rpc).start(&format!("read -r line; printf '%s' '{LIST}'; exit 4"));
    wrapped.says(ASK);
    let (rest, code, ..) = wrapped.ends();
    assert_eq!((String::from_utf8(rest).unwrap().as_str(), code), (SHOWN, 4));
}

#[test]
fn a_caller_that_may_not_have_the_list_is_answered_with_why() {
    let rpc = Scripted::new(|_, _| {
        let answer = json!({"jsonrpc": "2.0", "id": "l", "error": {"code": 403, "message": "denied"}});
        Ok(json!({"answer": answer.to_string()}))
    });
    let mut wrapped = Setup::new(&rpc).start(&lister());
    wrapped.says(ASK);
    wrapped.line();
    let answer = wrapped.json();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("l"), &json!(403)));
    wrapped.ends();
}

#[test]
fn of_a_batch_the_list_alone_is_changed() {
    let rpc = Scripted::new(hides);
    let batch = format!("[{{\"id\":1,\"result\":{{\"content\":[]}}}},{LIST}]");
    let mut wrapped = Setup::new(&rpc).start(&format!("read -r line; echo '{batch}'; cat >/dev/null"));
    let asked = format!(
        "[{},{}]\n",
        call(1, "cheap").trim(),
        std::str::from_utf8(ASK).unwrap().trim()
    );
    wrapped.says(asked.as_bytes());
    assert_eq!(wrapped.line(), batch.replace(LIST, SHOWN) + "\n");
    wrapped.ends();
    assert_eq!(rpc.endings(), ["result"]);
}

#[test]
fn without_a_gateway_a_list_passes_where_calls_do() {
    for (offline, passes) in [(Offline::Refuse, false), (Offline::Pass, true), (Offline::Spool, true)] {
        let mut wrapped = Setup {
            offline,
            ..Setup::new(&Scripted::new(nobody))
        }
        .start(&lister());
        wrapped.says(ASK);
        wrapped.line();
        let line = wrapped.line();
        assert_eq!(line == format!("{LIST}\n"), passes, "{offline:?}: {line}");
        assert_eq!(
            line.contains("\"no_gateway\"") && line.contains("\"id\":\"l\""),
            !passes,
            "{line}"
        );
        wrapped.ends();
    }
}

#[test]
fn a_list_that_could_be_read_in_two_ways_is_shown_to_nobody() {
    for list in [
        r#"{"id":"l","result":{"tools":[{"name":"a"}],"tools":[]}}"#,
        r#"{"id":"l","result":{"tools":[{"title":"nameless"}]}}"#,
        r#"{"id":"l","result":{"tools":[{"name":"a","name":"b"}]}}"#,
    ] {
        let rpc = Scripted::new(hides);
        let mut wrapped = Setup::new(&rpc).start(&format!("read -r line; echo '{list}'; cat >/dev/null"));
        wrapped.says(ASK);
        let answer = wrapped.json();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!("l"), &json!(-32_600)),
            "{list}"
        );
        wrapped.ends();
    }
}

#[test]
fn what_another_reader_could_take_for_a_request_of_a_list_does_not_pass() {
    let rpc = Scripted::new(hides);
    let mut wrapped = Setup::new(&rpc).start(SERVER);
    wrapped.says(b"{\"id\":1,\"method\":\"ping\",\"Method\":\"tools\\/list\"}\n");
    assert_eq!(wrapped.json()["error"]["code"], -32_600);
    assert!(!wrapped.ends().2.exists());
}

#[test]
fn a_line_of_the_servers_that_is_too_long_to_be_held_is_refused_or_passes() {
    let long = format!(
        r#"{{"result":{{"tools":[{{"name":"dear","x":"{}"}}]}},"id":"l"}}"#,
        "x".repeat(3_000)
    );
    for (how, passes) in [(LongLines::Refuse, false), (LongLines::Pass, true)] {
        let rpc = Scripted::new(hides);
        let mut wrapped = Setup {
            long: how,
            line_bytes_max: 2_000,
            ..Setup::new(&rpc)
        }
        .start(&format!(
            "read -r line; echo '{long}'; echo '{{\"after\":1}}'; cat >/dev/null"
        ));
        wrapped.says(ASK);
        let mut lines = [wrapped.line(), wrapped.line()];
        lines.sort_by_key(|line| line.starts_with("{\"after"));
        assert_eq!(lines[0] == format!("{long}\n"), passes, "{how:?}");
        assert!(
            passes || (lines[0].contains("\"code\":413") && lines[0].contains("\"id\":\"l\"")),
            "{}",
            lines[0]
        );
        assert_eq!(lines[1], "{\"after\":1}\n");
        wrapped.ends();
    }
}
