//! A new user's half hour with a first policy: the guide's own commands (policies.md), one after the other, on a running gateway that has calls to
//! rehearse on.

use std::path::Path;

use crate::harness::process::binary;
use crate::harness::{Client, Installation, Script, Upstream};

/// Half a dollar a call: 50,000 tokens of output at 10 USD a million.
const DEAR: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":50000,"total_tokens":50000}}"#;
const ASK: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":50000}"#;
/// What is wanted, as a line of the spec.
const WANTED: &str = "\tspecs = {\n\t\t{ name = \"interns have a dollar\", call = { agent = \"intern\" }, expect = { \"budget agent:intern day 1 usd block\" } },\n";

struct User<'h> {
    home: &'h Installation,
    commands: Vec<Vec<String>>,
}

impl User<'_> {
    /// The next of the page's commands; what it printed, and whether it went well.
    fn next(&mut self, starts: &str) -> (String, bool) {
        let args = self.commands.remove(0);
        assert!(args.join(" ").starts_with(starts), "{args:?} in the place of {starts}");
        let output = binary()
            .args(&args)
            .env("AGENTLEDGER_CONFIG", self.home.path("agentledger.yaml"))
            .current_dir(self.home.path(""))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (said, output.status.success())
    }

    fn well(&mut self, starts: &str, says: &str) {
        let (said, well) = self.next(starts);
        assert!(well && said.contains(says), "{starts}: {said}");
    }

    fn edit(&self, file: &str, old: &str, new: &str) {
        let path = self.home.path(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} has no {old:?}");
        std::fs::write(path, text.replacen(old, new, 1)).unwrap();
    }
}

/// The commands of the page's section, without their comments.
fn commands() -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/guide/policies.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("## The first half hour").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("$ agentledger "));
    let words = |line: &str| {
        let line = line.split("  #").next().unwrap_or_default();
        // A word in quotes is one word.
        let quoted = line.split('"').enumerate();
        let words = quoted.flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    };
    lines.map(words).collect()
}

fn call(client: &Client, agent: &str) -> u16 {
    let headers = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-id", agent),
    ];
    client
        .request("POST", "/v1/chat/completions", &headers, ASK.as_bytes())
        .status
}

#[test]
fn the_guides_half_hour_with_a_first_policy() {
    let upstream = Upstream::always(Script::json(200, DEAR));
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    let running = home.serve();
    for agent in ["intern", "intern", "intern", "intern", "coder"] {
        assert_eq!(call(&running.client, agent), 200);
    }
    let mut user = User {
        home: &home,
        commands: commands(),
    };
    user.well("policy new interns", "drafts/interns.lua");
    user.edit("drafts/spec/interns.lua", "\tspecs = {\n", WANTED);
    let (said, well) = user.next("policy test drafts");
    assert!(!well && said.contains("WRONG interns have a dollar"), "{said}");
    let fixed = "limit = if call.agent == \"intern\" then 1 else conf.limit })";
    user.edit("drafts/interns.lua", "limit = conf.limit })", fixed);
    user.well("policy check", "nothing found");
    user.well("policy test drafts", "0 wrong");
    // One of the intern's four calls fits into a dollar with what it may cost at most; half a dollar each is saved of the others.
    let (said, well) = user.next("policy replay");
    assert!(
        well && said.contains("agent intern") && said.contains("$1.5000"),
        "{said}"
    );
    user.well("policy put", "nothing is in force");
    user.well("policy shadow", "in shadow");
    assert_eq!(call(&running.client, "intern"), 200, "it is counted, and not done");
    user.well("policy history", "in_shadow");
    user.well("policy activate", "of the store is in force");
    // An agent's window begins with the first limit that names the agent.
    assert_eq!([(); 2].map(|()| call(&running.client, "intern")), [200, 429]);
    assert_eq!(call(&running.client, "coder"), 200);
    user.well("policy rollback", "nothing is in force");
    assert_eq!(call(&running.client, "intern"), 200);
    assert!(user.commands.is_empty());
    let audit = home.print(&["audit", "--last", "1d"]);
    for action in ["policy.put", "policy.shadow", "policy.activate", "policy.rollback"] {
        assert!(audit.contains(action), "{audit}");
    }
    running.stop();
}
