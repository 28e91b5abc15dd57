//! Alerts of what the gateway notices by itself, from the thing that goes wrong to a real receiver; and mails over TLS.

use std::sync::Arc;

use agentledger::testing::plugin::{
    AnswerFrame, Call, Dialect, DialectError, DialectRefusal, Ending, Info, Reading, Request,
};
use agentledger_ledger::testing::flip;
use agentledger_ledger::{Clock, ManualClock};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;

use crate::alerts::{ASKED, CHAT, Receiver, arrived, chat, webhook};
use crate::harness::mail::{MailSecurity, MailServer};
use crate::harness::{Installation, Setup};
use crate::tls::Identity;

/// Traps at every answer, as a plugin with a fault does.
struct FailsToRead(Arc<dyn Dialect>, Info);

impl FailsToRead {
    /// Without a plan every frame is read by a call.
    fn of(dialect: Arc<dyn Dialect>) -> FailsToRead {
        let info = Info {
            reading_plans: Vec::new(),
            ..dialect.info().clone()
        };
        FailsToRead(dialect, info)
    }
}

impl Dialect for FailsToRead {
    fn info(&self) -> &Info {
        &self.1
    }

    fn inspect(&self, request: &Request) -> Result<Call, DialectError> {
        self.0.inspect(request)
    }

    fn read(&self, _: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
        Err(DialectError::Failed {
            plugin: "openai".to_owned(),
            reason: "unreachable".to_owned(),
        })
    }

    fn terminal(&self, of: &str, ending: Ending, said: &str, id: Option<&str>) -> Result<Vec<u8>, DialectError> {
        self.0.terminal(of, ending, said, id)
    }

    fn error_body(&self, operation: &str, refusal: &DialectRefusal) -> Result<Vec<u8>, DialectError> {
        self.0.error_body(operation, refusal)
    }
}

#[test]
fn a_plugin_that_fails_on_an_answer_is_an_alert_and_what_was_held_is_entered() {
    let (upstream, receiver) = (chat(), Receiver::taking());
    let gateway = Setup::new(&upstream)
        .with(&webhook(&receiver))
        .replacing("openai", |dialect| Arc::new(FailsToRead::of(dialect)))
        .start();
    for _ in 0..3 {
        assert_eq!(gateway.client.post(CHAT, ASKED).status, 200);
    }
    let told = arrived(&receiver, "plugin_error");
    assert_eq!(
        (
            &told["severity"],
            &told["details"]["plugin"],
            &told["details"]["provider"]
        ),
        (&json!("warning"), &json!("openai"), &json!("openai"))
    );
    let entries = gateway.entries_of(3);
    assert!(entries.iter().all(|entry| entry.settlement.cost == entry.held));
    assert!(entries.iter().all(|entry| entry.settlement.estimate_reason.is_some()));
    let seen = receiver.wait(|seen| !seen.is_empty());
    assert_eq!(seen.len(), 1, "one thing is one alert");
}

#[test]
fn damage_that_verify_finds_in_a_running_ledger_is_an_alert() {
    // 2026-11-30T23:59:59Z
    let (upstream, receiver, clock) = (
        chat(),
        Receiver::taking(),
        Arc::new(ManualClock::new(1_796_083_199_000)),
    );
    let gateway = Setup::new(&upstream)
        .with(&webhook(&receiver))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .start();
    let headers = [("X-Agent-Id", "spot-of-damage")];
    let ask = || gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes()).status;
    assert_eq!(ask(), 200);
    gateway.wait_idle();
    // The month before is closed, and read from the disk again.
    clock.advance_ms(2_000);
    assert_eq!(ask(), 200);
    gateway.wait_idle();
    let dir = gateway.stop();
    assert!(flip(&dir.path().join("ledger/journal/2026-11"), b"spot-of-damage").unwrap() > 0);
    let gateway = Setup::new(&upstream)
        .with(&webhook(&receiver))
        .in_dir(&dir)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .start();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ledger.verify","params":{}}"#;
    let socket = dir.path().join("ledger/control.sock");
    let verified = crate::harness::process::over_socket(&socket, "POST", "/rpc", body)
        .unwrap()
        .json();
    assert_eq!(verified["result"]["ok"], json!(false), "{verified:#}");
    let told = arrived(&receiver, "ledger_fault");
    assert_eq!(
        (&told["severity"], &told["details"]["state"]),
        (&json!("critical"), &json!("damaged"))
    );
    drop(gateway);
}

#[test]
fn a_threshold_of_spend_that_nothing_limits_is_one_alert_a_window() {
    let (upstream, receiver) = (chat(), Receiver::taking());
    // A call costs 0.000125 USD.
    let clock = Arc::new(ManualClock::new(1_795_950_800_000));
    let gateway = Setup::new(&upstream)
        .with(&webhook(&receiver))
        .conf(
            "threshold",
            r#"{rules: [{account: global, limit_usd: "0.0002"}, {account: "model:gpt-3*", limit_usd: "0.0001"}]}"#,
        )
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .start();
    let ask = |times: usize| {
        for _ in 0..times {
            assert_eq!(gateway.client.post(CHAT, ASKED).status, 200);
            gateway.wait_idle();
        }
    };
    ask(1);
    assert_eq!(receiver.upstream.seen_count(), 0);
    ask(3);
    let told = arrived(&receiver, "threshold_reached");
    assert_eq!(
        (
            &told["severity"],
            &told["details"]["account"],
            &told["details"]["threshold"]
        ),
        (&json!("info"), &json!("global"), &json!("0.0002"))
    );
    let on_29th = "global has spent $0.000250 on 2026-11-29: $0.0002 is the threshold";
    assert_eq!(told["message"], json!(on_29th));
    // The next day is another window.
    clock.advance_ms(24 * 60 * 60 * 1_000);
    ask(4);
    let seen = receiver.wait(|seen| seen.len() >= 2);
    let said: Vec<String> = seen.iter().map(|seen| seen.json()["message"].to_string()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().any(|said| said.contains("on 2026-11-30")), "{said:?}");
}

/// A gateway whose alerts of this receiver go out by mail; it trusts the certificate.
fn mailed(
    server: &MailServer,
    identity: &Identity,
    tls: &str,
    host: &str,
) -> (String, Vec<crate::harness::mail::Mail>) {
    let upstream = chat();
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: '{}'}}}}\nalerts: {{receivers: [{{name: team, kind: email, addr: '{host}:{}', tls: {tls}, \
         username: ann, password: 'p w', allow_private: true, from: ledger@example.com, to: [ops@example.com]}}]}}",
        upstream.base(),
        server.address().port()
    ));
    let trusted = home.path("ca.pem");
    std::fs::write(&trusted, &identity.cert_pem).unwrap();
    let running = home.serve_with_env(&[("SSL_CERT_FILE", &trusted.display().to_string())]);
    let said = home.rpc("alert.test", &json!({"receiver": "team"}))["answer"].to_string();
    running.stop();
    (said, server.mails())
}

#[test]
fn mails_go_over_tls_from_the_start_or_after_starttls_and_never_without() {
    let identity = Identity::new();
    let config = Arc::new(identity.server());
    let ways = [
        ("tls", MailSecurity::Tls(Arc::clone(&config))),
        ("starttls", MailSecurity::StartTls(Arc::clone(&config))),
    ];
    for (word, security) in ways {
        let server = MailServer::with(security);
        let (said, mails) = mailed(&server, &identity, word, "localhost");
        assert_eq!(mails.len(), 1, "{word}: {said}");
        assert_eq!(mails[0].login, BASE64_STANDARD.encode("\0ann\0p w"), "{word}");
        assert!(
            mails[0].data.contains("a test of the receiver team"),
            "{word}: {}",
            mails[0].data
        );
    }
    // A server that does not offer STARTTLS gets neither password nor mail.
    let plain = MailServer::new();
    let (said, mails) = mailed(&plain, &identity, "starttls", "localhost");
    assert!(mails.is_empty() && said.to_lowercase().contains("tls"), "{said}");
    // A certificate of somebody else is no certificate.
    let other = MailServer::with(MailSecurity::Tls(Arc::new(Identity::new().server())));
    let (said, mails) = mailed(&other, &identity, "tls", "localhost");
    assert!(mails.is_empty() && said.contains("certificate"), "{said}");
}
