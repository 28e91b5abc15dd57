//! `agentledger top`: the real binary in a terminal, which tmux is. Where there is no tmux, these say so and check nothing but the
//! frame that `--once` prints.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::cli::{READER, at, failed, installation, printed, spend, stderr, stdout, upstream};
use crate::harness::process::binary;
use crate::harness::upstream::Step;
use crate::harness::{Installation, Script, Upstream};

static SERVERS: AtomicUsize = AtomicUsize::new(0);

/// A terminal with something running in it, on a server of its own.
struct Screen {
    server: String,
    folder: PathBuf,
}

impl Screen {
    /// Runs a line of a shell; `None` where there is no tmux.
    fn start(home: &Installation, columns: u16, lines: u16, line: &str) -> Option<Screen> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("SKIPPED: tmux is not installed, so nothing is shown on a terminal");
            return None;
        }
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let screen = Screen {
            server: format!("top-{}-{number}", std::process::id()),
            folder: home.path(""),
        };
        let size = [columns.to_string(), lines.to_string()];
        let begun = screen.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
            line,
        ]);
        assert!(begun.status.success(), "{}", stderr(&begun));
        Some(screen)
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let folder = [
            ("HOME", &self.folder),
            ("TMUX_TMPDIR", &self.folder),
            ("AGENTLEDGER_RUNTIME_DIR", &self.folder),
        ];
        tmux.envs(folder).env("LC_ALL", "C.UTF-8").env("SHELL", "/bin/sh");
        tmux.args(["-u", "-L", &self.server]).args(args).output().unwrap()
    }

    fn text(&self) -> String {
        stdout(&self.tmux(&["capture-pane", "-p"]))
    }

    fn keys(&self, keys: &[&str]) {
        for key in keys {
            let sent = self.tmux(&["send-keys", key]);
            assert!(sent.status.success(), "{}", stderr(&sent));
        }
    }

    /// Waits, boundedly, until all of it is shown at once; what is.
    fn wait(&self, shown: &[&str]) -> String {
        self.until(&format!("{shown:?}"), |text| shown.iter().all(|one| text.contains(one)))
    }

    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        for _ in 0..600 {
            text = self.text();
            if is_so(&text) {
                return text;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} is never shown:\n{text}");
    }

    fn resize(&self, columns: u16, lines: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// The line of a shell that runs it.
fn top(home: &Installation, more: &str) -> String {
    format!(
        "{} top -c {} {more}",
        env!("CARGO_BIN_EXE_agentledger"),
        home.path("agentledger.yaml").display()
    )
}

/// Its words after it: its exit code, and whether the terminal takes lines and shows them, as a shell needs it.
fn and_after(line: &str, pid: &Path) -> String {
    format!(
        "sh -c 'echo $$ > {}; exec {line}'; echo ended $?; stty -a | tr ' ;' '\\n\\n' | grep -xE -e '-?(icanon|echo)' | xargs; sleep 600",
        pid.display()
    )
}

fn spend_tiny(home: &Installation) -> (crate::harness::process::Process, Upstream) {
    let upstream = upstream();
    home.configure(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nbudgets: {{default: {{daily_limit_usd: 0.02, action: block}}}}",
        upstream.base()
    ));
    (home.serve(), upstream)
}

fn status_of_call(gateway: &crate::harness::process::Process) -> u16 {
    let headers = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-id", "crawler"),
    ];
    let body = br#"{"model":"gpt-4o","messages":[],"max_tokens":50}"#;
    gateway
        .client
        .request("POST", "/v1/chat/completions", &headers, body)
        .status
}

#[test]
fn top_shows_the_sums_of_ledger_summary_as_text_and_on_a_terminal_of_any_size() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    for agent in ["crawler", "coder", "crawler", "crawler"] {
        spend(&gateway, agent);
    }
    assert_eq!(home.export().len(), 4);
    let summary = home.rpc("ledger.summary", &json!({"by": "agent", "last": "24h"}));
    let cost = |agent: &str| {
        let rows = summary["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["agent"] == agent).unwrap();
        format!("${}", row["cost_usd"].as_str().unwrap())
    };
    assert_eq!((cost("crawler"), cost("coder")), ("$0.0135".into(), "$0.0045".into()));
    let once = printed(
        binary()
            .args(["top", "--once", "-c"])
            .arg(home.path("agentledger.yaml"))
            .env("COLUMNS", "90"),
    );
    for shown in [&cost("crawler"), &cost("coder"), "$0.02 today", "nothing held"] {
        assert!(once.contains(shown), "{shown}\n{once}");
    }
    assert!(!once.contains('\u{1b}'));
    let elsewhere = printed(at(&gateway, READER, &["top", "--once", "--pane", "budgets"]).env("COLUMNS", "90"));
    assert!(
        elsewhere.contains("$1,000") && elsewhere.contains("ACCOUNT"),
        "{elsewhere}"
    );
    let (code, said) = failed(&mut at(&gateway, "guess", &["top", "--once"]));
    assert!(code == 1 && said.contains("401"), "{said}");
    let (code, said) = failed(&mut at(&gateway, READER, &["top"]));
    assert!(code == 2 && said.contains("--once"), "{said}");

    let Some(screen) = Screen::start(&home, 100, 24, &top(&home, "")) else {
        return;
    };
    screen.wait(&[&cost("crawler"), &cost("coder"), "$0.02 today", "1 Agents 2"]);
    screen.resize(170, 45);
    screen.wait(&["AGENT", "SESSION", "ACCOUNT", "No alert", "$1,000"]);
    screen.resize(20, 5);
    screen.wait(&["$0.02 today", "1 Agents 2", "$0.0135"]);
    // What happens is shown by itself.
    screen.resize(100, 24);
    spend(&gateway, "coder");
    screen.wait(&["$0.0090"]);
}

#[test]
fn top_kills_a_session_with_its_running_call_after_a_yes() {
    let chunk =
        b"data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
    let upstream = Upstream::playing(move |_| {
        Script::stream_head("text/event-stream")
            .chunk(chunk)
            .step(Step::AwaitClose)
    });
    let home = installation(&upstream);
    let gateway = home.serve();
    let Some(screen) = Screen::start(&home, 110, 24, &top(&home, "--pane sessions")) else {
        return;
    };
    screen.wait(&["No session in the last day"]);
    let headers = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-id", "crawler"),
        ("x-agent-session", "run-7"),
    ];
    let body = br#"{"model":"gpt-4o","messages":[],"max_tokens":50,"stream":true}"#;
    let mut call = gateway.client.send("POST", "/v1/chat/completions", &headers, body);
    screen.wait(&["run-7", "1 running", "held in 1 call"]);
    screen.keys(&["k"]);
    screen.wait(&["Kill session run-7?", "It cuts 1 running call, for which $0.0"]);
    screen.keys(&["n"]);
    screen.wait(&["nothing is changed"]);
    screen.keys(&["k", "y"]);
    screen.wait(&["run-7 is killed"]);
    // The running call was cut: its connection ends.
    let mut rest = Vec::new();
    call.read_to_end(&mut rest).unwrap();
    screen.wait(&["✕ run-7", "killed", "nothing held"]);
    let sessions = home.rpc("session.list", &json!({}));
    assert_eq!(sessions["sessions"][0]["status"], "killed");
    assert_eq!(
        home.rpc("audit.list", &json!({}))["changes"][0]["action"],
        "session.kill"
    );
}

#[test]
fn top_tops_up_a_used_up_budget_and_the_next_call_passes() {
    let home = Installation::new("");
    let (gateway, _upstream) = spend_tiny(&home);
    let refused = (0..20).map(|_| status_of_call(&gateway)).find(|status| *status != 200);
    assert_eq!(refused, Some(429));
    let Some(screen) = Screen::start(&home, 110, 24, &top(&home, "--pane budgets")) else {
        return;
    };
    screen.wait(&["key:", "$0.02"]);
    screen.keys(&["t"]);
    screen.wait(&["Top up key:", "Amount $"]);
    // First something that is refused: nothing can be asked for then.
    screen.keys(&["z"]);
    screen.until("a refusal", |text| {
        text.lines().rev().take(4).any(|line| line.starts_with("✕ "))
    });
    screen.keys(&["BSpace", "1", ".", "5", "0"]);
    screen.until("what will be", |text| {
        text.contains("would take it") || text.contains("After it: $")
    });
    screen.keys(&["Enter"]);
    screen.wait(&["by $1.50 until", "y: top up"]);
    assert_eq!(status_of_call(&gateway), 429, "a question changes nothing");
    screen.keys(&["y"]);
    screen.wait(&["is topped up by $1.50"]);
    assert_eq!(status_of_call(&gateway), 200);
    // Limits are those that the last request went by.
    screen.wait(&["$1.52"]);
}

#[test]
fn top_says_that_the_gateway_is_gone_and_catches_up_when_it_is_back() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    spend(&gateway, "crawler");
    assert_eq!(home.export().len(), 1);
    let Some(screen) = Screen::start(&home, 100, 24, &top(&home, "")) else {
        return;
    };
    screen.wait(&["$0.0045"]);
    gateway.kill();
    screen.wait(&["▲ lost since", "tried again in", "$0.0045"]);
    screen.keys(&["2", "k"]);
    screen.wait(&["not while the gateway is gone"]);
    let gateway = home.serve();
    spend(&gateway, "crawler");
    screen.keys(&["1"]);
    let text = screen.wait(&["$0.0090"]);
    assert!(!text.contains("lost since"), "{text}");
}

#[test]
fn top_gives_the_terminal_back_by_key_and_by_signal_and_while_it_is_suspended() {
    let upstream = upstream();
    let home = installation(&upstream);
    let _gateway = home.serve();
    let pid = home.path("pid");
    for signal in ["", "TERM", "INT", "HUP"] {
        let line = and_after(&top(&home, ""), &pid);
        let Some(screen) = Screen::start(&home, 100, 24, &line) else {
            return;
        };
        screen.wait(&["nothing held"]);
        match signal {
            "" => screen.keys(&["q"]),
            signal => {
                let process = std::fs::read_to_string(&pid).unwrap();
                let sent = Command::new("kill")
                    .args(["-s", signal, process.trim()])
                    .status()
                    .unwrap();
                assert!(sent.success());
            }
        }
        let text = screen.wait(&["ended 0", "icanon"]);
        assert!(
            text.contains("icanon echo") && !text.contains("-icanon") && !text.contains("nothing held"),
            "{signal}\n{text}"
        );
    }
    let Some(screen) = Screen::start(&home, 100, 24, "PS1='ready> ' bash --norc --noprofile -i") else {
        return;
    };
    screen.wait(&["ready>"]);
    screen.keys(&[&top(&home, ""), "Enter"]);
    screen.wait(&["nothing held", "? help"]);
    screen.keys(&["C-z"]);
    let text = screen.wait(&["Stopped"]);
    assert!(!text.contains("nothing held"), "{text}");
    screen.keys(&["fg", "Enter"]);
    screen.wait(&["nothing held", "? help"]);
    screen.keys(&["C-l", "?"]);
    screen.wait(&["Ctrl-Z"]);
    screen.keys(&["Escape", "C-c"]);
    let text = screen.wait(&["Stopped", "ready>"]);
    assert!(!text.contains("nothing held"), "{text}");
}
