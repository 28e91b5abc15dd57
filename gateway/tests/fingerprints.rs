//! The secret behind the names of keys: one that is lost or bent gives no key a new budget without a word.

use crate::harness::{Installation, Script, Upstream};

const CHAT: &str = "/v1/chat/completions";
const ASKED: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;

/// An installation that has served a request of a key with a budget of two, and went down.
fn used(upstream: &Upstream) -> Installation {
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\npolicies: {{conf: {{budget: {{limits: [{{account: key, window: total, limit: 2, unit: requests}}]}}}}}}",
        upstream.base()
    ));
    let gateway = home.serve();
    assert_eq!(gateway.client.post(CHAT, ASKED).status, 200);
    gateway.stop();
    home
}

fn refusal(home: &Installation) -> String {
    let output = home.run(&["serve"]);
    assert!(!output.status.success(), "it starts");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_lost_or_bent_fingerprint_key_refuses_the_start_and_verify_finds_it() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let home = used(&upstream);
    let key = home.path("ledger/fingerprint.key");
    let secret = std::fs::read(&key).unwrap();
    assert!(home.print(&["verify"]).ends_with("OK\n"));

    std::fs::remove_file(&key).unwrap();
    let said = refusal(&home);
    assert!(
        said.contains("fingerprint.key is missing") && said.contains("--new-fingerprints"),
        "{said}"
    );
    let verified = home.run(&["verify"]);
    let report = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        !verified.status.success() && report.contains("fingerprint.key is missing"),
        "{report}"
    );

    let mut bent = secret.clone();
    bent[5] ^= 1;
    std::fs::write(&key, bent).unwrap();
    let said = refusal(&home);
    assert!(said.contains("fingerprint.key is not the secret"), "{said}");
    let verified = home.run(&["verify"]);
    let report = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        !verified.status.success() && report.contains("is not the secret"),
        "{report}"
    );

    // Restored, it goes on where it was: of two requests one is left.
    std::fs::write(&key, secret).unwrap();
    assert!(home.print(&["verify"]).ends_with("OK\n"));
    let gateway = home.serve();
    let statuses = [0; 2].map(|_| gateway.client.post(CHAT, ASKED).status);
    assert_eq!(statuses, [200, 429]);
}

#[test]
fn new_fingerprints_begin_only_where_the_operator_says_so_and_are_remembered() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let home = used(&upstream);
    std::fs::remove_file(home.path("ledger/fingerprint.key")).unwrap();
    let gateway = home.serve_with(&["--new-fingerprints"]);
    let statuses = [0; 3].map(|_| gateway.client.post(CHAT, ASKED).status);
    assert_eq!(statuses, [200, 200, 429], "the key has a new name");
    gateway.stop();
    // Also after a kill, and without the flag.
    let gateway = home.serve();
    assert_eq!(gateway.client.post(CHAT, ASKED).status, 429);
    gateway.kill();
    let gateway = home.serve();
    assert_eq!(gateway.client.post(CHAT, ASKED).status, 429);
}

#[test]
fn a_secret_in_the_configuration_that_changed_refuses_the_start() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let yaml = |secret: &str| {
        format!(
            "providers: {{openai: {{upstream: \"{}\"}}}}\nfingerprint: {{secret: \"{}\"}}",
            upstream.base(),
            secret.repeat(8)
        )
    };
    let home = Installation::new(&yaml("right"));
    let gateway = home.serve();
    assert_eq!(gateway.client.post(CHAT, ASKED).status, 200);
    gateway.stop();
    home.configure(&yaml("wrong"));
    let said = refusal(&home);
    assert!(said.contains("AGENTLEDGER_FINGERPRINT_SECRET"), "{said}");
    home.configure(&yaml("right"));
    home.serve().stop();
}
