//! An alert as a mail: a subject, a plain text, and a Message-ID by which a mail that came twice is known.

use std::fmt::Write as _;

use super::at;
use crate::alert::Alert;

const SUBJECT_CHARS_MAX: usize = 150;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// One line.
    pub subject: String,
    pub text: String,
    /// With its angle brackets.
    pub message_id: String,
}

pub fn mail(alert: &Alert) -> Mail {
    let subject = format!(
        "[AgentLedger] {}: {}: {}",
        alert.severity.name(),
        alert.kind,
        alert.message
    );
    let one_line = subject
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut text = format!("{}\n\n", alert.message);
    let own = [
        ("type", alert.kind.clone()),
        ("severity", alert.severity.name().to_owned()),
        ("at", at(alert)),
        ("about", alert.about.clone()),
        ("tenant", alert.tenant.clone()),
        ("policy", alert.policy.clone()),
        ("id", alert.id.to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    for (name, value) in alert.shown_details().into_iter().chain(own) {
        if !value.is_empty() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    Mail {
        subject: one_line.take(SUBJECT_CHARS_MAX).collect(),
        text,
        message_id: format!("<{}@agentledger>", alert.id),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::alert::tests::alert;

    #[test]
    fn a_subject_is_one_line_and_the_text_has_all() {
        let mut alert = alert("loop_detected", "s1");
        alert.message = "round\r\nBcc: everyone@example.com".to_owned();
        let mail = mail(&alert);
        assert_eq!(
            mail.subject,
            "[AgentLedger] warning: loop_detected: round  Bcc: everyone@example.com"
        );
        assert!(mail.text.contains("daily_limit: 10.00\n") && mail.text.contains("about: s1\n"));
        assert!(!mail.text.contains("tenant:"));
        assert_eq!(mail.message_id, format!("<{}@agentledger>", alert.id));
    }
}
