#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

#[test]
fn each_fault_of_the_alerts_section_is_named_where_it_stands() {
    let mail = "name: m, kind: email, from: a@example.com, to: [b@example.com]";
    let rows = [
        (
            "webhooks: [{headers: {A: b}}]".to_owned(),
            "alerts.webhooks[0]: needs a url",
        ),
        (
            "slack: {webhook_url: 'ftp://x'}".to_owned(),
            "alerts.slack.webhook_url: must be an http or https URL",
        ),
        (
            "webhooks: [{url: 'https://ann:pw@x'}]".to_owned(),
            "without a user in it",
        ),
        (
            "webhooks: [{url: 'https://x', headers: {Host: y}}]".to_owned(),
            "is no header that may be set",
        ),
        (
            "webhooks: [{url: 'https://x', secret: 'no base64!'}]".to_owned(),
            "alerts.webhooks[0]",
        ),
        (
            "receivers: [{name: 'a b', kind: slack, url: 'https://x'}]".to_owned(),
            "must be a name of letters",
        ),
        (
            "receivers: [{name: a, url: 'https://x'}]".to_owned(),
            "needs a kind: slack, webhook, pagerduty, email or template",
        ),
        (
            "receivers: [{name: a, kind: fax, url: 'https://x'}]".to_owned(),
            "alerts.receivers[0].kind",
        ),
        (
            "receivers: [{name: a, kind: webhook}]".to_owned(),
            "alerts.receivers[0]: needs a url",
        ),
        (
            "receivers: [{name: a, kind: pagerduty}]".to_owned(),
            "needs a secret: the integration's routing key",
        ),
        (
            "receivers: [{name: a, kind: template, url: 'https://x'}]".to_owned(),
            "needs a template",
        ),
        (
            "receivers: [{name: a, kind: template, url: 'https://x', template: '{{nobody}}'}]".to_owned(),
            "alerts.receivers[0].template",
        ),
        (
            format!("receivers: [{{{mail}, addr: 'h:99999'}}]"),
            "must be HOST:PORT of a mail server",
        ),
        (
            format!("receivers: [{{{mail}, addr: 'h:25', username: ann}}]"),
            "needs both username and password, or neither",
        ),
        (
            format!("receivers: [{{{mail}, addr: 'h:25', tls: maybe}}]"),
            "alerts.receivers[0].tls",
        ),
        (
            "receivers: [{name: m, kind: email, addr: 'h:25', from: nobody, to: []}]".to_owned(),
            "alerts.receivers[0].from: must be a mail address",
        ),
        (
            "receivers: [{name: m, kind: email, addr: 'h:25', from: a@b.c, to: []}]".to_owned(),
            "must name at least one mail address",
        ),
        (
            "receivers: [{name: a, kind: slack, url: 'https://x'}, {name: a, kind: slack, url: 'https://y'}]"
                .to_owned(),
            "is another receiver's name too",
        ),
        (
            "receivers: [{name: a, kind: slack, url: 'https://x'}], routes: [{types: ['*']}]".to_owned(),
            "alerts.routes[0]: needs receivers",
        ),
        (
            "receivers: [{name: a, kind: slack, url: 'https://x'}], routes: [{receivers: [b]}]".to_owned(),
            "\"b\" is no receiver: a",
        ),
        ("quiet_hours: {from: '22:00'}".to_owned(), "needs both from and until"),
        (
            "quiet_hours: {from: '22:00', until: '7:00'}".to_owned(),
            "must be a time of day: HH:MM",
        ),
        (
            "quiet_hours: {from: '22:00', until: '07:00', zone: Mars/Base}".to_owned(),
            "is no time zone",
        ),
        (
            "receivers: [{name: a, kind: slack, url_env: NOT_SET}]".to_owned(),
            "names an environment variable that is not set",
        ),
        ("retry: {attempts: 0}".to_owned(), "alerts.retry.attempts"),
        ("timeout: 1ms".to_owned(), "alerts.timeout"),
    ];
    for (section, said) in rows {
        let yaml = format!("alerts: {{{section}}}");
        let found = faults(&yaml);
        assert!(
            found
                .iter()
                .any(|fault| fault.contains(said) && fault.starts_with("agentledger.yaml:1:")),
            "{yaml}\n{said}\n{found:#?}"
        );
    }
}

#[test]
fn all_faults_of_the_alerts_section_come_at_once() {
    let found = faults(
        "alerts:\n  webhooks: [{}]\n  receivers:\n    - {name: a, kind: pagerduty}\n  quiet_hours: {from: '22:00'}\n",
    );
    let lines: Vec<&str> = found.iter().filter_map(|fault| fault.split(':').nth(1)).collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(lines, ["2", "4", "5"], "{found:#?}");
}

#[test]
fn a_private_address_that_nothing_is_sent_to_is_warned_of() {
    let warned = |receiver: &str| {
        let yaml = format!("alerts: {{receivers: [{{name: a, {receiver}}}]}}");
        let config = load_text(None, &yaml, &none(), &Known::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
        config
            .warnings
            .iter()
            .any(|warning| warning.contains("is at a private address"))
    };
    let mail = "kind: email, from: a@example.com, to: [b@example.com]";
    for private in ["10.0.0.7", "192.168.1.7:8080", "169.254.169.254", "[fd00::1]"] {
        assert!(
            warned(&format!("kind: webhook, url: 'http://{private}/hook'")),
            "{private}"
        );
        assert!(
            !warned(&format!(
                "kind: webhook, url: 'http://{private}/hook', allow_private: true"
            )),
            "{private}"
        );
    }
    assert!(warned(&format!("{mail}, addr: '10.0.0.7:25'")));
    for meant in ["localhost", "127.0.0.1:9", "[::1]", "8.8.8.8", "hooks.example.com"] {
        assert!(
            !warned(&format!("kind: webhook, url: 'http://{meant}/hook'")),
            "{meant}"
        );
    }
    assert!(!warned(&format!("{mail}, addr: 'localhost:25'")));
}
