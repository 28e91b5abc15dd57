//! `agentledger tail`: over the control socket and from elsewhere, through the loss of the gateway.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::cli::{ADMIN, READER, at, failed, installation, json_of, spend, upstream};
use crate::harness::process::binary;

/// Lines of a child, as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

struct Tail {
    child: Child,
    out: Receiver<String>,
    errors: Receiver<String>,
}

impl Tail {
    fn start(command: &mut Command) -> Tail {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Tail {
            out: lines(child.stdout.take().unwrap()),
            errors: lines(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Has things happen until one is printed.
    fn until(&self, mut happen: impl FnMut()) -> String {
        for _ in 0..300 {
            happen();
            if let Ok(line) = self.out.recv_timeout(Duration::from_millis(200)) {
                return line;
            }
        }
        panic!("nothing is printed: {:?}", self.errors.try_iter().collect::<Vec<_>>());
    }

    /// Waits, boundedly, until this is said on standard error.
    fn wait_said(&self, text: &str) {
        let mut heard = Vec::new();
        while let Ok(line) = self.errors.recv_timeout(Duration::from_secs(60)) {
            if line.contains(text) {
                return;
            }
            heard.push(line);
        }
        panic!("{text:?} is never said: {heard:?}");
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tail_prints_what_happens_and_goes_on_after_the_gateway_was_gone() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    let tail = Tail::start(
        binary()
            .args(["tail", "--json", "--agent", "crawler", "-c"])
            .arg(home.path("agentledger.yaml")),
    );
    let item = json_of(&tail.until(|| {
        spend(&gateway, "coder");
        spend(&gateway, "crawler");
    }));
    assert_eq!(item["entry"]["agent"], "crawler");
    gateway.kill();
    tail.wait_said("the gateway is gone");
    let gateway = home.serve();
    tail.wait_said("it goes on");
    for _ in tail.out.try_iter() {}
    let item = json_of(&tail.until(|| spend(&gateway, "crawler")));
    assert_eq!(item["entry"]["agent"], "crawler");
}

#[test]
fn tail_follows_a_gateway_elsewhere_and_is_refused_in_words() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    let tail = Tail::start(&mut at(&gateway, READER, &["tail"]));
    let line = tail.until(|| spend(&gateway, "crawler"));
    assert!(
        line.contains("openai/gpt-4o") && line.contains("1,000 in") && line.contains("agent=crawler"),
        "{line}"
    );
    let rules = Tail::start(&mut at(&gateway, ADMIN, &["tail", "rules"]));
    let line = rules.until(|| {
        home.print(&["keys", "block", "sk-leaked-*"]);
        home.print(&["keys", "unblock", "sk-leaked-*"]);
    });
    assert!(line.contains("action=key.") && line.contains("subject=rule:"), "{line}");
    let (code, said) = failed(&mut at(&gateway, "guess", &["tail"]));
    assert!(
        code == 1 && said.contains("401") && said.contains("AGENTLEDGER_TOKEN"),
        "{said}"
    );
    let (code, said) = failed(&mut at(&gateway, READER, &["tail", "alerts", "--model", "x"]));
    assert!(code == 1 && said.contains("(invalid_params)"), "{said}");
}
