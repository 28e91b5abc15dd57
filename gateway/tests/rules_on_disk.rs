//! What becomes of a change of a rule where the gateway is killed, or the disk is full, before its answer: it is wholly there
//! afterwards or not at all, and whoever repeats its request has it once.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::{Client, try_read_reply};
use crate::harness::process::Process;
use crate::harness::{Installation, Script, Upstream};

const ROUNDS: usize = 8;
const WORKERS: usize = 6;
const TOKEN: (&str, &str) = ("authorization", "Bearer ops-token-0123456789");

/// A `rule.put` that blocks an agent of its own.
struct Put {
    /// Its `request_id`, its note, and the agent that it blocks.
    name: String,
    /// The rule that it changes; none: a new one.
    rule: Option<String>,
    answer: Option<Value>,
}

impl Put {
    fn params(&self) -> Value {
        let mut params =
            json!({"list": "block.agents", "value": self.name, "note": self.name, "request_id": self.name});
        if let Some(rule) = &self.rule {
            params["id"] = json!(rule);
        }
        params
    }
}

/// The whole answer to a method. The first `None`: nobody listens any more; the second: nobody answered.
fn try_call(client: Client, method: &str, params: &Value) -> Option<Option<Value>> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let mut stream = client.try_send("POST", "/rpc", &[TOKEN], body.as_bytes())?;
    Some(try_read_reply(&mut stream).map(|reply| reply.json()))
}

fn result(answer: &Value) -> Value {
    assert_eq!(answer["error"], Value::Null);
    answer["result"].clone()
}

fn rpc(gateway: &Process, method: &str, params: &Value) -> Value {
    result(&try_call(gateway.client, method, params).flatten().unwrap())
}

/// Puts one rule after another until nobody answers; every other time the one before is changed.
fn put_until_killed(client: Client, prefix: &str, answered: &AtomicUsize) -> Vec<Put> {
    let mut puts: Vec<Put> = Vec::new();
    loop {
        let last = puts.last().filter(|_| puts.len() % 2 == 1);
        let mut put = Put {
            name: format!("{prefix}-{}", puts.len()),
            rule: last.map(|put| rule_of(put.answer.as_ref().unwrap()).to_owned()),
            answer: None,
        };
        let Some(answer) = try_call(client, "rule.put", &put.params()) else {
            return puts;
        };
        put.answer = answer.as_ref().map(result);
        let is_answered = put.answer.is_some();
        puts.push(put);
        if !is_answered {
            return puts;
        }
        answered.fetch_add(1, Ordering::AcqRel);
    }
}

fn rule_of(answer: &Value) -> &str {
    answer["rule"]["id"].as_str().unwrap()
}

/// The changes of rules that the journal has, latest first.
fn audited(gateway: &Process) -> Vec<Value> {
    let (mut changes, mut before) = (Vec::new(), Value::Null);
    loop {
        let mut params = json!({"action": "rule.put", "limit": 1000});
        if !before.is_null() {
            params["before"] = before;
        }
        let page = rpc(gateway, "audit.list", &params);
        changes.extend(page["changes"].as_array().unwrap().iter().cloned());
        before = page["next"].clone();
        if before.is_null() {
            return changes;
        }
    }
}

/// The changes that a put made.
fn changes_of<'a>(audited: &'a [Value], put: &Put) -> Vec<&'a Value> {
    audited.iter().filter(|change| change["note"] == *put.name).collect()
}

/// The agent that each rule blocks, as the rules in force say it.
fn in_force(gateway: &Process) -> BTreeMap<String, String> {
    let all = json!({"list": "block.agents", "source": "runtime", "limit": 10_000});
    let listed = rpc(gateway, "rule.list", &all);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rules = listed["rules"].as_array().unwrap().iter();
    rules.map(|rule| (text(&rule["id"]), text(&rule["value"]))).collect()
}

/// The same, as the changes that the journal has make it.
fn kept(audited: &[Value]) -> BTreeMap<String, String> {
    let oldest_first = audited.iter().rev().map(|change| {
        let rule = change["subject"].as_str().unwrap().strip_prefix("rule:").unwrap();
        (rule.to_owned(), change["after"]["value"].as_str().unwrap().to_owned())
    });
    oldest_first.collect()
}

fn is_blocked(gateway: &Process, agent: &str) -> bool {
    let headers = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-id", agent),
    ];
    let body = br#"{"model":"gpt-4o","messages":[],"max_tokens":10}"#;
    let reply = gateway.client.request("POST", "/v1/chat/completions", &headers, body);
    match reply.status {
        200 => false,
        403 => reply.json()["error"]["code"] == "agent_blocked",
        status => panic!("{status}: {}", reply.text()),
    }
}

/// After the restart, before anything is repeated: an answered put is kept, one without an answer is or is not, and all that is
/// kept is in force. How many without an answer are kept.
fn check_whole(gateway: &Process, puts: &[Put]) -> usize {
    let audited = audited(gateway);
    let kept = kept(&audited);
    assert_eq!(in_force(gateway), kept, "the journal says otherwise");
    let mut unanswered = 0;
    for put in puts {
        let changes = changes_of(&audited, put);
        match (&put.answer, changes.as_slice()) {
            (Some(answer), [change]) => assert_eq!(change["id"], answer["change"]),
            (None, []) => {}
            (None, [_]) => unanswered += 1,
            (answer, changes) => panic!("{}: answered {answer:?}, audited {changes:?}", put.name),
        }
        let is_kept = kept.values().any(|agent| *agent == put.name);
        assert_eq!(is_blocked(gateway, &put.name), is_kept, "{}", put.name);
    }
    unanswered
}

/// Repeats each put: it has the answer that it had, or that the journal has, or is made now; and each is made once.
fn check_repeated(gateway: &Process, puts: &[Put]) {
    let before = audited(gateway);
    for put in puts {
        let answer = rpc(gateway, "rule.put", &put.params());
        if let Some(known) = &put.answer {
            assert_eq!(answer, *known);
        }
        if let [change] = changes_of(&before, put).as_slice() {
            assert_eq!(answer["change"], change["id"]);
        }
        assert_eq!(answer["rule"]["value"], *put.name);
    }
    let after = audited(gateway);
    for put in puts {
        assert_eq!(changes_of(&after, put).len(), 1, "{}", put.name);
    }
    let kept = kept(&after);
    assert_eq!(in_force(gateway), kept);
    for put in puts {
        let is_kept = kept.values().any(|agent| *agent == put.name);
        assert_eq!(is_blocked(gateway, &put.name), is_kept, "{}", put.name);
    }
}

fn upstream() -> Upstream {
    let answer = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    Upstream::always(Script::json(200, answer))
}

fn home(upstream: &Upstream) -> Installation {
    Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\ncontrol: {{tokens: [{{name: ops, role: admin, token: ops-token-0123456789}}]}}",
        upstream.base()
    ))
}

#[test]
fn a_crash_between_a_change_and_its_answer_leaves_it_whole_or_not_at_all() {
    let upstream = upstream();
    let home = home(&upstream);
    let mut gateway = home.serve();
    let (mut seed, mut unanswered, mut whole) = (0x2545_f491_4f6c_dd1d_u64, 0, 0);
    let mut next = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..ROUNDS {
        let answered = AtomicUsize::new(0);
        let (wanted, later) = (usize::try_from(next(30)).unwrap(), Duration::from_micros(next(40_000)));
        let client = gateway.client;
        let puts: Vec<Put> = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let answered = &answered;
                    scope.spawn(move || put_until_killed(client, &format!("agent-{round}-{worker}"), answered))
                })
                .collect();
            while answered.load(Ordering::Acquire) < wanted && !workers.iter().any(|worker| worker.is_finished()) {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(later);
            gateway.kill();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let verified = home.run(&["verify"]);
        assert!(verified.status.success(), "round {round}: {verified:?}");
        gateway = home.serve();
        unanswered += puts.iter().filter(|put| put.answer.is_none()).count();
        whole += check_whole(&gateway, &puts);
        check_repeated(&gateway, &puts);
    }
    println!("{ROUNDS} kills; {unanswered} changes without an answer, {whole} of them whole");
    assert!(
        unanswered > 0,
        "no round was killed with a change under way: it shows nothing"
    );
    gateway.stop();
}

/// How large its files may become.
fn limit_files(gateway: &Process, bytes: &str) {
    let limited = Command::new("prlimit")
        .args([
            "--pid",
            &gateway.id().to_string(),
            &format!("--fsize={bytes}:unlimited"),
        ])
        .status()
        .unwrap();
    assert!(limited.success());
}

fn put(name: &str) -> Put {
    Put {
        name: name.to_owned(),
        rule: None,
        answer: None,
    }
}

/// The stable word of a put that is refused.
fn refused(gateway: &Process, put: &Put) -> Value {
    let answer = try_call(gateway.client, "rule.put", &put.params()).flatten().unwrap();
    answer["error"]["data"]["code"].clone()
}

/// Puts a rule while no file may grow. Nobody knows yet what becomes of it; what is put after it is refused whole.
fn put_on_a_full_disk(gateway: &Process) -> [Put; 2] {
    limit_files(gateway, "1");
    let [first, later] = [put("first"), put("later")];
    assert_eq!(refused(gateway, &first), "outcome_unknown");
    assert_eq!(
        refused(gateway, &first),
        "outcome_unknown",
        "repeated, it knows no more"
    );
    assert_eq!(refused(gateway, &later), "ledger_failed");
    let reply = gateway.client.post(
        "/v1/chat/completions",
        r#"{"model":"gpt-4o","messages":[],"max_tokens":10}"#,
    );
    assert_eq!(reply.status, 503, "nothing is decided meanwhile: {}", reply.text());
    [first, later]
}

#[test]
fn a_change_that_a_full_disk_kept_waiting_counts_once_there_is_room() {
    let upstream = upstream();
    let home = home(&upstream);
    let gateway = home.serve();
    let [first, later] = put_on_a_full_disk(&gateway);
    limit_files(&gateway, "unlimited");
    let is_ready = (0..1_500).any(|_| {
        thread::sleep(Duration::from_millis(20));
        gateway.client.get("/readyz").status == 200
    });
    assert!(is_ready, "{}", gateway.log());
    let check = |gateway: &Process, agents: &[&str]| {
        let changes = audited(gateway);
        assert_eq!(changes.len(), agents.len(), "{changes:?}");
        assert_eq!(in_force(gateway).into_values().collect::<Vec<_>>(), agents);
        assert_eq!(in_force(gateway), kept(&changes));
        for agent in ["first", "later"] {
            assert_eq!(is_blocked(gateway, agent), agents.contains(&agent), "{agent}");
        }
    };
    check(&gateway, &["first"]);
    let answer = rpc(&gateway, "rule.put", &first.params());
    assert_eq!(answer["change"], audited(&gateway)[0]["id"]);
    gateway.stop();
    let gateway = home.serve();
    check(&gateway, &["first"]);
    assert_eq!(rpc(&gateway, "rule.put", &first.params()), answer);
    rpc(&gateway, "rule.put", &later.params());
    check(&gateway, &["first", "later"]);
    gateway.stop();
}

#[test]
fn a_change_that_never_reached_a_full_disk_is_not_there_after_a_crash() {
    let upstream = upstream();
    let home = home(&upstream);
    let gateway = home.serve();
    let [first, _] = put_on_a_full_disk(&gateway);
    gateway.kill();
    let gateway = home.serve();
    assert_eq!((audited(&gateway).len(), in_force(&gateway).len()), (0, 0));
    assert!(!is_blocked(&gateway, "first"));
    rpc(&gateway, "rule.put", &first.params());
    assert!(is_blocked(&gateway, "first"));
    assert_eq!(audited(&gateway).len(), 1);
    gateway.stop();
}
