//! Clients that nobody configured, known by what they send: requests of the shapes that Claude Code, Codex, opencode and
//! Gemini CLI send, with no header of ours.

use agentledger_ledger::{Entry, Inferred};
use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::sessions::call;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const BLOCKING: &str = "agent: {loop_threshold: 4, loop_window_mins: 5, loop_action: block}";
const RUN: &str = "4c969c67-36fc-49b0-b19c-a541da334ebf";
const THREAD: &str = "01a2299d-ef26-7e50-b7b9-91022de43ab8";

fn upstream() -> Upstream {
    Upstream::playing(|seen| {
        let answer = if seen.path.starts_with(MESSAGES) {
            r#"{"id":"m","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"usage":{"input_tokens":10,"output_tokens":10}}"#
        } else if seen.path.starts_with(RESPONSES) {
            r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-5","output":[],"usage":{"input_tokens":10,"output_tokens":10,"total_tokens":20}}"#
        } else {
            r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#
        };
        Script::json(200, answer)
    })
}

fn send(gateway: &Gateway, path: &str, headers: &[&[(&str, &str)]], body: &Value) -> Reply {
    gateway
        .client
        .request("POST", path, &headers.concat(), body.to_string().as_bytes())
}

/// The head of Claude Code's calls.
const CLAUDE: &[(&str, &str)] = &[
    ("user-agent", "claude-cli/2.1.197 (external, cli)"),
    ("x-claude-code-session-id", RUN),
    ("x-api-key", "sk-ant-api03-0123456789abcdef"),
    ("anthropic-version", "2023-06-01"),
    ("x-app", "cli"),
    ("x-stainless-retry-count", "0"),
];

/// Who sends a call of Claude Code is said in its body too.
fn claude_metadata() -> Value {
    let user = json!({"device_id": "6e4f834a", "account_uuid": "", "session_id": RUN});
    json!({"user_id": user.to_string()})
}

/// A call of Claude Code: so many turns ago it began to do the same thing again and again.
fn claude_turn(turns: usize) -> Value {
    let mut messages = vec![json!({"role": "user", "content": [{"type": "text", "text": "Run the tests."}]})];
    for turn in 0..turns {
        let id = format!("toolu_{turn}");
        messages.push(json!({"role": "assistant", "content": [
            {"type": "text", "text": format!("Attempt {turn}.")},
            {"type": "tool_use", "id": id, "name": "Bash", "input": {"command": "make test"}}]}));
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": "make: no rule", "is_error": true}]}));
    }
    json!({"model": "claude-sonnet-4-5", "max_tokens": 64, "metadata": claude_metadata(), "messages": messages})
}

/// The head of Codex's calls on a thread.
fn codex(thread: &str) -> Vec<(&str, &str)> {
    vec![
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("user-agent", "codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm"),
        ("originator", "codex_exec"),
        ("session-id", THREAD),
        ("thread-id", thread),
    ]
}

fn codex_turn(turns: usize) -> Value {
    let mut input =
        vec![json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Run the tests."}]})];
    for turn in 0..turns {
        let id = format!("call_{turn}");
        input.push(json!({"type": "function_call", "call_id": id, "name": "shell", "arguments": "{\"command\":\"make test\"}"}));
        input.push(json!({"type": "function_call_output", "call_id": id, "output": "make: no rule"}));
    }
    json!({"model": "gpt-5", "max_output_tokens": 64, "store": false, "prompt_cache_key": THREAD, "input": input})
}

fn chat(more: &Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]});
    let members = body.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    body
}

/// Agent, session, user and parent.
fn names(entry: &Entry) -> [String; 4] {
    let facts = &entry.facts;
    let parent = facts.tags.get("parent").map_or("", |parent| parent);
    [&*facts.agent, &facts.session, &facts.user, parent].map(str::to_owned)
}

fn strings(names: [&str; 4]) -> [String; 4] {
    names.map(str::to_owned)
}

#[test]
fn claude_code_unchanged_ends_at_the_fourth_repeat() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(BLOCKING).start();
    for turns in 1..4 {
        assert_eq!(send(&gateway, MESSAGES, &[CLAUDE], &claude_turn(turns)).status, 200);
    }
    let refused = send(&gateway, MESSAGES, &[CLAUDE], &claude_turn(4));
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    assert_eq!(upstream.seen_count(), 3);
    let entries = gateway.entries();
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        assert_eq!(names(entry), strings(["claude-code", RUN, "6e4f834a", ""]));
        let inferred: Vec<&str> = entry.facts.inferred.names().collect();
        assert_eq!(inferred, ["agent", "session", "user"]);
    }
    let shown = serde_json::to_value(&entries[0]).unwrap();
    assert_eq!(shown["inferred"], json!(["agent", "session", "user"]));
    // What it is known by goes on to the upstream as it came.
    assert_eq!(upstream.seen()[0].header("x-claude-code-session-id"), Some(RUN));
}

#[test]
fn codex_unchanged_ends_at_the_fourth_repeat() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(BLOCKING).start();
    for turns in 1..4 {
        assert_eq!(
            send(&gateway, RESPONSES, &[&codex(THREAD)], &codex_turn(turns)).status,
            200
        );
    }
    let refused = send(&gateway, RESPONSES, &[&codex(THREAD)], &codex_turn(4));
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    assert_eq!(upstream.seen_count(), 3);
    for entry in gateway.entries() {
        assert_eq!(names(&entry), strings(["codex", THREAD, "", ""]));
        assert_eq!(entry.facts.inferred, Inferred::AGENT | Inferred::SESSION);
    }
}

#[test]
fn subagents_have_sessions_of_their_own_and_a_parent() {
    let gateway = Setup::new(&upstream()).with(BLOCKING).start();
    let agent = |id: &'static str| [("x-claude-code-agent-id", id)];
    // Eight of them look at the same thing first, which is no loop.
    for id in ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"] {
        assert_eq!(
            send(&gateway, MESSAGES, &[CLAUDE, &agent(id)], &claude_turn(1)).status,
            200,
            "{id}"
        );
    }
    let deeper = [
        ("x-claude-code-agent-id", "b1"),
        ("x-claude-code-parent-agent-id", "a1"),
    ];
    assert_eq!(
        send(&gateway, MESSAGES, &[CLAUDE, &deeper], &claude_turn(1)).status,
        200
    );
    let entries = gateway.entries();
    let (first, last) = (&entries[0], &entries[8]);
    let (a1, b1) = (format!("{RUN}/a1"), format!("{RUN}/b1"));
    assert_eq!(names(first), strings(["claude-code", &a1, "6e4f834a", RUN]));
    assert_eq!(names(last), strings(["claude-code", &b1, "6e4f834a", &a1]));
    let all = Inferred::AGENT | Inferred::SESSION | Inferred::USER | Inferred::PARENT;
    assert_eq!((first.facts.inferred, last.facts.inferred), (all, all));
    let found = call(&gateway, "session.get", &json!({ "id": a1 }));
    assert_eq!(found["result"]["sessions"][0]["parent"], RUN, "{found}");

    // Codex says its thread, opencode its sessions.
    assert_eq!(send(&gateway, RESPONSES, &[&codex("t2")], &codex_turn(1)).status, 200);
    let opencode = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        (
            "user-agent",
            "opencode/1.18.33 ai-sdk/provider-utils/4.0.46 runtime/bun/1.3.14",
        ),
        ("x-session-affinity", "ses_2"),
        ("x-session-id", "ses_2"),
        ("x-parent-session-id", "ses_1"),
    ];
    assert_eq!(send(&gateway, CHAT, &[&opencode], &chat(&json!({}))).status, 200);
    let entries = gateway.entries();
    assert_eq!(names(&entries[9]), strings(["codex", "t2", "", THREAD]));
    assert_eq!(names(&entries[10]), strings(["opencode", "ses_2", "", "ses_1"]));
}

#[test]
fn killing_a_run_ends_its_subagents_too() {
    let gateway = Gateway::to(&upstream());
    let agent = [("x-claude-code-agent-id", "a1")];
    assert_eq!(send(&gateway, MESSAGES, &[CLAUDE], &claude_turn(1)).status, 200);
    assert_eq!(send(&gateway, MESSAGES, &[CLAUDE, &agent], &claude_turn(1)).status, 200);
    let killed = call(&gateway, "session.kill", &json!({ "id": RUN }));
    assert!(killed["error"].is_null(), "{killed}");
    for headers in [&[CLAUDE][..], &[CLAUDE, &agent]] {
        let refused = send(&gateway, MESSAGES, headers, &claude_turn(2));
        assert!((400..500).contains(&refused.status), "{}", refused.text());
    }
    let other = [&[("x-claude-code-session-id", "another")], &CLAUDE[..1], &CLAUDE[2..]].concat();
    assert_eq!(send(&gateway, MESSAGES, &[&other], &claude_turn(2)).status, 200);
}

#[test]
fn a_budget_of_sessions_holds_for_each_run() {
    let limits = "{limits: [{account: session, window: total, limit: 2, unit: requests}]}";
    let gateway = Setup::new(&upstream()).conf("budget", limits).start();
    let status = |thread: &str| send(&gateway, RESPONSES, &[&codex(thread)], &codex_turn(1)).status;
    assert_eq!([status("t1"), status("t1")], [200, 200]);
    assert!((400..500).contains(&status("t1")), "its third");
    assert_eq!(status("t2"), 200, "another run's first");
}

#[test]
fn our_own_headers_win_over_all_that_clients_send() {
    let gateway = Gateway::to(&upstream());
    let ours = [
        ("X-Agent-Id", "coder"),
        ("X-Agent-Session", "run-1"),
        ("X-Agent-User", "ann"),
    ];
    let contrary = [
        ("x-claude-code-agent-id", "a1"),
        ("session-id", "s9"),
        ("x-title", "App"),
    ];
    assert_eq!(
        send(&gateway, MESSAGES, &[CLAUDE, &ours, &contrary], &claude_turn(1)).status,
        200
    );
    let entry = gateway.entry();
    assert_eq!(names(&entry), strings(["coder", "run-1", "ann", ""]));
    assert!(entry.facts.inferred.is_empty());
    let shown = serde_json::to_value(&entry).unwrap();
    assert!(shown.get("inferred").is_none(), "nothing to say, nothing there");
}

#[test]
fn what_lies_repeats_or_cannot_be_read_refuses_nothing() {
    let gateway = Gateway::to(&upstream());
    let long = "x".repeat(300);
    let app = ("user-agent", "my-app/3");
    let cases: [(&[(&str, &str)], &str); 6] = [
        // Of several the first that can be a name.
        (&[app, ("session-id", "s1"), ("session-id", "s2")], "s1"),
        (&[app, ("session-id", &long), ("session-id", "s2")], "s2"),
        (&[app, ("session-id", "a\tb"), ("x-session-id", "s3")], "s3"),
        (&[app, ("session-id", "\u{85}\u{85}")], ""),
        (&[app, ("session-id", &long), ("thread-id", " ")], ""),
        // Two clients' words in one request: the table's first.
        (&[app, ("x-claude-code-session-id", "s4"), ("thread-id", "t4")], "s4"),
    ];
    for (headers, session) in cases {
        let body = chat(&json!({"prompt_cache_key": "one for all"}));
        let reply = send(&gateway, CHAT, &[headers], &body);
        assert_eq!(reply.status, 200, "{headers:?}: {}", reply.text());
        let entries = gateway.entries();
        let facts = &entries.last().unwrap().facts;
        assert_eq!(&*facts.session, session, "{headers:?}");
    }
    // Ours are another matter: who says something says it well.
    let refused = send(&gateway, CHAT, &[&[("X-Agent-Session", &long)]], &chat(&json!({})));
    assert_eq!(refused.status, 400, "{}", refused.text());
}

/// A path, headers, a body, and the agent, session, user and parent that the entry bears.
type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], Value, [&'c str; 4]);

#[test]
fn bodies_say_who_sends_them_where_heads_do_not() {
    let gateway = Gateway::to(&upstream());
    let app = [("user-agent", "OpenAI/Python 2.20.0")];
    let bare = [
        ("user-agent", "codex_exec/0.171.0"),
        ("authorization", "Bearer sk-test-0123456789abcdef"),
    ];
    let old = format!("user_6e4f_account__session_{RUN}");
    let trace = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    let traced = [&app[..], &trace].concat();
    let said = [&traced[..], &[("X-Agent-Id", "coder")]].concat();
    let tool = json!({"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}});
    let cases: [Case<'_>; 11] = [
        (
            CHAT,
            &app,
            chat(&json!({"safety_identifier": "u1", "user": "u2"})),
            ["OpenAI", "", "u1", ""],
        ),
        (CHAT, &app, chat(&json!({"user": "u2"})), ["OpenAI", "", "u2", ""]),
        (
            CHAT,
            &app,
            chat(&json!({"user": "", "prompt_cache_key": "k"})),
            ["OpenAI", "", "", ""],
        ),
        (
            CHAT,
            &app,
            chat(&json!({"metadata": {"user_id": old}})),
            ["OpenAI", RUN, "6e4f", ""],
        ),
        (
            CHAT,
            &app,
            chat(&json!({"metadata": {"user_id": 7, "n": {}}, "user": "u3"})),
            ["OpenAI", "", "u3", ""],
        ),
        (RESPONSES, &bare, codex_turn(1), ["codex", THREAD, "", ""]),
        (
            CHAT,
            &traced,
            chat(&json!({"tools": [tool]})),
            ["OpenAI", "0af7651916cd43dd8448eb211c80319c", "", ""],
        ),
        (
            CHAT,
            &said,
            chat(&json!({})),
            ["coder", "0af7651916cd43dd8448eb211c80319c", "", ""],
        ),
        // An ordinary service has a trace for each request: none of them is a session.
        (CHAT, &traced, chat(&json!({})), ["OpenAI", "", "", ""]),
        (CHAT, &traced, chat(&json!({"tools": []})), ["OpenAI", "", "", ""]),
        (
            CHAT,
            &traced,
            chat(&json!({"metadata": {"user_id": old}})),
            ["OpenAI", RUN, "6e4f", ""],
        ),
    ];
    for (path, headers, body, expected) in cases {
        let reply = send(&gateway, path, &[headers], &body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        assert_eq!(names(gateway.entries().last().unwrap()), strings(expected), "{body}");
    }
    // What a body contradicts itself in beside what is billed is passed on, and names nobody.
    let twice = r#"{"model":"gpt-4o","max_tokens":16,"messages":[],"metadata":{"user_id":"a","user_id":"b"}}"#;
    assert_eq!(gateway.client.request("POST", CHAT, &app, twice.as_bytes()).status, 200);
    assert_eq!(
        names(gateway.entries().last().unwrap()),
        strings(["OpenAI", "", "", ""])
    );
}

#[test]
fn a_client_is_known_in_whatever_dialect_it_speaks() {
    let gateway = Gateway::to(&upstream());
    assert_eq!(send(&gateway, CHAT, &[CLAUDE], &chat(&json!({}))).status, 200);
    assert_eq!(send(&gateway, MESSAGES, &[&codex("t1")], &claude_turn(1)).status, 200);
    let entries = gateway.entries();
    assert_eq!(names(&entries[0]), strings(["claude-code", RUN, "", ""]));
    // The body of another client says nothing against its head.
    assert_eq!(names(&entries[1]), strings(["codex", "t1", "6e4f834a", THREAD]));
}

#[test]
fn nothing_is_inferred_where_that_is_off() {
    let yaml = format!("identity: {{infer: false}}\n{BLOCKING}");
    let gateway = Setup::new(&upstream()).with(&yaml).start();
    for turns in 1..=6 {
        assert_eq!(send(&gateway, MESSAGES, &[CLAUDE], &claude_turn(turns)).status, 200);
    }
    for entry in gateway.entries() {
        assert_eq!(names(&entry), strings(["", "", "", ""]));
        assert!(entry.facts.inferred.is_empty());
    }
}

#[test]
fn a_name_that_a_policy_binds_is_not_inferred() {
    let bindings = "{bindings: [{api_key_pattern: \"sk-ant-*\", user: bob, agent: ci}]}";
    let gateway = Setup::new(&upstream()).conf("tenant", bindings).start();
    assert_eq!(send(&gateway, MESSAGES, &[CLAUDE], &claude_turn(1)).status, 200);
    let entry = gateway.entry();
    assert_eq!(names(&entry), strings(["ci", RUN, "bob", ""]));
    assert_eq!(entry.facts.inferred, Inferred::SESSION);
}

#[test]
fn inferred_sessions_are_bounded_as_all_are() {
    let gateway = Setup::new(&upstream())
        .with("limits: {names_per_kind_max: 100}")
        .start();
    for number in 0..120 {
        let thread = format!("t{number}");
        assert_eq!(
            send(&gateway, RESPONSES, &[&codex(&thread)], &codex_turn(1)).status,
            200
        );
    }
    assert_eq!(gateway.entries().len(), 120);
    let listed = call(&gateway, "session.list", &json!({"last": "24h", "limit": 1000}));
    assert_eq!(listed["result"]["sessions"].as_array().unwrap().len(), 100, "{listed}");
}
