//! Alerts as mails, by SMTP.

use std::time::Duration;

use agentledger_alerts::{Alert, render};
use lettre::message::Message;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::send::{SendError, vetted};
use crate::config::{MailReceiver, MailTls};

/// Sends one mail to all recipients. What the server said.
pub(super) async fn send(
    to: &MailReceiver,
    allow_private: bool,
    alert: &Alert,
    within: Duration,
) -> Result<String, SendError> {
    let message = message_of(to, alert)?;
    let address = vetted(&to.host, to.port, allow_private).await?;
    let mail_error = |error: lettre::transport::smtp::Error| SendError::Mail {
        is_final: error.is_permanent(),
        text: error.to_string(),
    };
    let tls = match to.tls {
        MailTls::None if address.ip().is_loopback() => Tls::None,
        MailTls::None => return Err(SendError::PlainMail),
        kind => {
            // The certificate is of the name; the connection is to the vetted address.
            let parameters = TlsParameters::new(to.host.clone()).map_err(mail_error)?;
            match kind {
                MailTls::Tls => Tls::Wrapper(parameters),
                _ => Tls::Required(parameters),
            }
        }
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
        .port(address.port())
        .tls(tls)
        .timeout(Some(within));
    if let Some((name, password)) = &to.login {
        transport = transport.credentials(Credentials::new(name.clone(), password.expose().clone()));
    }
    let answer = transport.build().send(message).await.map_err(mail_error)?;
    let said: Vec<&str> = answer.message().collect();
    Ok(format!("{} {}", answer.code(), said.join(" ")))
}

fn message_of(to: &MailReceiver, alert: &Alert) -> Result<Message, SendError> {
    let mail = render::mail(alert);
    let mut builder = Message::builder().from(to.from.clone());
    for recipient in &to.to {
        builder = builder.to(recipient.clone());
    }
    builder
        .subject(mail.subject)
        .message_id(Some(mail.message_id))
        .header(ContentType::TEXT_PLAIN)
        .body(mail.text)
        .map_err(|error| SendError::Unsendable(error.to_string()))
}
