//! Rules change while requests run, and none fails for it; what a policy does wrong costs its own requests alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::harness::process::Process;
use crate::harness::{Client, Gateway, Installation, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const ASKED: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;

/// A policy that names its version in a header of every answer.
fn marking(version: u32) -> String {
    format!(
        r#"return {{ name = "house", version = "{version}", priority = 10, request = function()
            return header{{ name = "X-House", value = "{version}" }}
        end }}"#
    )
}

/// Clients that ask without a pause while `change` happens. Every one of their requests must be served.
fn under_load(client: Client, change: impl FnOnce()) -> usize {
    let (running, served) = (AtomicBool::new(true), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while running.load(Ordering::Acquire) {
                    let reply = client.post(CHAT, ASKED);
                    if reply.status != 200 || reply.text() != SMALL {
                        running.store(false, Ordering::Release);
                        panic!(
                            "a request failed while rules changed: {} {}",
                            reply.status,
                            reply.text()
                        );
                    }
                    served.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        // Whatever happens here, the clients must end.
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(change));
        assert!(running.swap(false, Ordering::AcqRel), "a request failed");
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    served.into_inner()
}

/// Waits, boundedly, until answers bear this mark.
fn wait_for_mark(gateway: &Process, mark: Option<&str>) {
    for _ in 0..3000 {
        if gateway.client.post(CHAT, ASKED).header("x-house") == mark {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("answers never bear {mark:?}:\n{}", gateway.log());
}

#[test]
fn files_and_config_change_under_load_and_no_request_fails() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let yaml = format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base());
    let home = Installation::new(&yaml);
    let gateway = home.serve();
    let served = under_load(gateway.client, || {
        // Into a folder that was not even there.
        home.policy("house", &marking(1));
        wait_for_mark(&gateway, Some("1"));
        home.policy("house", &marking(2));
        wait_for_mark(&gateway, Some("2"));

        // Broken on its third line: refused, with the line, and the old one speaks on.
        home.policy("house", "return {\n  name = \"house\",\n  version = = 3,\n}\n");
        gateway.wait_for_log("not reloaded", 1);
        let log = gateway.log();
        let line = log
            .lines()
            .skip_while(|line| !line.contains("not reloaded"))
            .take(2)
            .collect::<String>();
        assert!(line.contains("house.lua:3"), "{line}");
        wait_for_mark(&gateway, Some("2"));

        // Mended; and a signal says so too.
        home.policy("house", &marking(4));
        wait_for_mark(&gateway, Some("4"));
        let before = gateway.log().matches("new rules are in force").count();
        gateway.signal("HUP");
        gateway.wait_for_log("new rules are in force", before + 1);

        // The configuration: a broken one is refused whole, a good one comes into force.
        home.configure(&format!("{yaml}\nhold: {{size: enormous}}"));
        gateway.wait_for_log("not reloaded", 2);
        wait_for_mark(&gateway, Some("4"));
        std::fs::remove_file(home.path("policies/house.lua")).unwrap();
        home.configure(&format!(
            "{yaml}\nbudgets: {{default: {{daily_limit_usd: 1000, soft_limit_pct: 0.000001, action: block}}}}"
        ));
        for _ in 0..3000 {
            if gateway
                .client
                .post(CHAT, ASKED)
                .header("x-agentledger-budget-warning")
                .is_some()
            {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the new budget never speaks:\n{}", gateway.log());
    });
    assert!(served > 0);
    wait_for_mark(&gateway, None);
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]));
    gateway.stop();
}

#[test]
fn a_policy_that_fails_closes_its_own_requests_alone() {
    let bad = r#"return { name = "bad", version = "1", priority = 10, request = function(_, call)
        if call.agent == "errs" then error("boom " .. call.model) end
        if call.agent == "loops" then while true do end end
        if call.agent == "eats" then local all = {} while true do table.insert(all, string.rep("x", 100000) .. #all) end end
        if call.agent == "nonsense" then return 5 end
        if call.agent == "infinite" then return budget{ account = "global", window = "day", limit = 1/0 } end
    end }"#;
    let upstream = Upstream::always(Script::json(200, SMALL));
    let gateway = Setup::new(&upstream).policy("bad", bad).start();
    let ask = |agent| {
        gateway
            .client
            .request("POST", CHAT, &[("X-Agent-Id", agent)], ASKED.as_bytes())
    };
    let failing = ["errs", "loops", "eats", "nonsense", "infinite"];
    for agent in failing.iter().chain(&failing) {
        let reply = ask(agent);
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, error["code"].as_str()),
            (503, Some("policy_failed")),
            "{agent}: {}",
            reply.text()
        );
        assert_eq!(error["policy"], "bad", "{agent}");
        assert!(error["message"].as_str().unwrap().contains("bad"));
        assert_eq!(reply.header("x-should-retry"), Some("false"));
        assert_eq!(ask("good").status, 200, "after {agent}");
    }
    assert_eq!(upstream.seen().len(), 10);
    assert_eq!(gateway.entries().len(), 10);
    let counted = "agentledger_policy_errors_total{policy=\"bad\",phase=\"request\"} 10";
    let metrics = gateway.client.get("/metrics").text();
    assert!(metrics.contains(counted), "{metrics}");
    assert!(gateway.launched().gateway().ledger.open_holds().is_empty());
}

#[test]
fn a_broken_file_at_the_start_is_told_and_nothing_starts() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    home.policy("house", "return {\n  name = \n}\n");
    for command in ["serve", "check"] {
        let output = home.run(&[command]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && text.contains("house.lua:3"),
            "{command}: {text}"
        );
    }
    // The gateway in this process has another folder: it is not concerned.
    assert_eq!(Gateway::to(&upstream).client.post(CHAT, ASKED).status, 200);
}

#[test]
fn ten_thousand_rules_are_swapped_under_load_and_no_request_fails() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let yaml = |limit: f64| {
        let rules: Vec<String> = (0..10_000)
            .map(|at| format!("{{api_key_pattern: 'sk-team-{at:05}-*', daily_limit_usd: {limit}, action: block}}"))
            .collect();
        format!(
            "providers: {{openai: {{upstream: \"{}\"}}}}\nbudgets: {{rules: [{}]}}",
            upstream.base(),
            rules.join(",\n")
        )
    };
    let home = Installation::new(&yaml(100.0));
    let gateway = home.serve();
    let as_last = || {
        let headers = [("authorization", "Bearer sk-team-09999-x")];
        gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes()).status
    };
    assert_eq!(as_last(), 200);
    let served = under_load(gateway.client, || {
        for round in 1..=3 {
            home.configure(&yaml(if round % 2 == 1 { 0.000001 } else { 100.0 }));
            gateway.wait_for_log("new rules are in force", round);
            assert_eq!(as_last(), if round % 2 == 1 { 429 } else { 200 });
        }
    });
    assert!(served > 0);
    gateway.stop();
}

#[test]
fn a_request_that_waits_while_rules_change_is_decided_by_those_it_began_with() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let old = "return { name = 'house', version = '1', request = function(_, call)
        if call.model == 'gpt-4o' then
          return { delay{ seconds = 1 }, route{ alternatives = { 'gpt-4o-mini' } } } end end }";
    let new = "return { name = 'house', version = '2', request = function() return deny{ code = 'no' } end }";
    let gateway = Setup::new(&upstream).policy("house", old).start();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| gateway.client.post(CHAT, ASKED));
        while gateway.launched().gateway().drain.in_flight() == 0 {
            thread::yield_now();
        }
        thread::sleep(std::time::Duration::from_millis(200));
        std::fs::write(gateway.dir.path().join("policies/house.lua"), new).unwrap();
        gateway.launched().reloads().reload_policies().unwrap();
        assert_eq!(
            gateway.client.post(CHAT, ASKED).status,
            403,
            "who begins now goes by the new ones"
        );
        let reply = waiting.join().unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    });
    assert_eq!(upstream.only_seen().json()["model"], "gpt-4o-mini");
}
