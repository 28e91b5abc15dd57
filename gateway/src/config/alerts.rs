//! `alerts`: who gets alerts, which of them, and when. Addresses, headers and passwords are secrets.

use std::time::Duration;

use agentledger_alerts::plan::Digest;
use agentledger_alerts::quiet::QuietHours;
use agentledger_alerts::render::{EVENTS_URL, Template};
use agentledger_alerts::signature::Signer;
use agentledger_alerts::{Patterns, Plan, Retry, Route, Severity};
use http::{HeaderName, HeaderValue, Uri};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use lettre::message::Mailbox;

use super::cursor::{Cursor, Problems};
use super::env::Env;
use super::error::Place;
use super::node::{Node, Value};
use crate::addresses::{is_own_machine, is_public};
use crate::secret::Secret;

const MINUTE: Duration = Duration::from_secs(60);
const SEVERITIES: [(&str, Severity); 3] = [
    ("info", Severity::Info),
    ("warning", Severity::Warning),
    ("critical", Severity::Critical),
];
const NAME_BYTES_MAX: usize = 64;
/// Headers that the gateway writes itself.
const OWN_HEADERS: [&str; 8] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];
/// Keys of a receiver that an environment variable of any name may give, as `KEY_env`.
const FROM_ENV: [&str; 3] = ["url", "secret", "password"];

/// Where alerts go, and when.
#[derive(Clone)]
pub struct Alerts {
    pub receivers: Vec<Receiver>,
    pub plan: Plan,
    pub cooldown: Duration,
    /// For a whole delivery.
    pub timeout: Duration,
}

#[derive(Clone)]
pub struct Receiver {
    pub name: String,
    /// It may be at an address that is not public.
    pub allow_private: bool,
    pub to: Destination,
}

#[derive(Clone)]
pub enum Destination {
    Http(HttpReceiver),
    Mail(MailReceiver),
}

#[derive(Clone)]
pub struct HttpReceiver {
    pub form: Form,
    pub url: Secret<String>,
    pub headers: Vec<(HeaderName, Secret<HeaderValue>)>,
    pub signer: Option<Signer>,
}

/// What a body looks like.
#[derive(Clone)]
pub enum Form {
    Slack,
    Webhook,
    /// With its routing key.
    PagerDuty(Secret<String>),
    Template {
        template: Template,
        content_type: HeaderValue,
    },
}

#[derive(Clone)]
pub struct MailReceiver {
    pub host: String,
    pub port: u16,
    pub tls: MailTls,
    pub login: Option<(String, Secret<String>)>,
    pub from: Mailbox,
    pub to: Vec<Mailbox>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    StartTls,
    Tls,
    /// On this machine alone.
    None,
}

/// Puts the variables that `url_env`, `secret_env` and `password_env` name in place of the values themselves.
pub fn overlay(root: &mut Node, env: &Env, problems: &Problems) {
    let receivers = root.get_mut("alerts").and_then(|alerts| alerts.get_mut("receivers"));
    let Some(Value::List(rows)) = receivers.map(|receivers| &mut receivers.value) else {
        return;
    };
    for (index, row) in rows.iter_mut().enumerate() {
        for key in FROM_ENV {
            let named = row.get(&format!("{key}_env")).and_then(|node| match &node.value {
                Value::Scalar { text, .. } if !text.trim().is_empty() => Some(text.trim().to_owned()),
                _ => None,
            });
            let Some(variable) = named else { continue };
            let path = format!("alerts.receivers[{index}].{key}_env");
            let fault = match env.get(&variable) {
                _ if row.get(key).is_some_and(|node| !node.is_null()) => format!("takes the place of {key}: give one"),
                None => "names an environment variable that is not set".to_owned(),
                Some(value) => {
                    let place = Place::Env(variable);
                    if let Some(node) = row.child_mut(key, &place) {
                        *node = Node::text(value.trim(), place);
                    }
                    continue;
                }
            };
            problems.refuse(&row.place.clone(), &path, fault);
        }
    }
}

pub fn resolve(at: &Cursor<'_>) -> Alerts {
    let mut receivers: Vec<Receiver> = Vec::new();
    receivers.extend(contract_receiver(&at.at("slack"), "webhook_url", "slack", Form::Slack));
    for (index, row) in at.at("webhooks").items().iter().enumerate() {
        if !row.at("url").is_given() {
            row.refuse("needs a url");
        }
        receivers.extend(contract_receiver(
            row,
            "url",
            &format!("webhook{}", index + 1),
            Form::Webhook,
        ));
    }
    for row in at.at("receivers").items() {
        let Some(receiver) = receiver(&row) else { continue };
        if receivers.iter().any(|known| known.name == receiver.name) {
            row.at("name").refuse("is another receiver's name too");
        }
        receivers.push(receiver);
    }
    let names: Vec<String> = receivers.iter().map(|receiver| receiver.name.clone()).collect();
    let mins = |name: &str, default| MINUTE * at.at(name).count_u32(default, 0, 1_000_000);
    let cooldown = mins("cooldown_mins", 0);
    let retry = at.at("retry");
    let hours = retry.at("hours").count(24, 1, 24 * 30);
    Alerts {
        plan: Plan {
            routes: at
                .at("routes")
                .items()
                .iter()
                .filter_map(|row| route(row, &names))
                .collect(),
            receivers: names,
            quiet: quiet_hours(&at.at("quiet_hours")),
            digest: digest(&at.at("digest")),
            retry: Retry {
                attempts_max: retry.at("attempts").count_u32(100, 1, 10_000),
                age_max_ms: i64::try_from(hours).unwrap_or(24).saturating_mul(3_600_000),
                ..Retry::default()
            },
        },
        receivers,
        cooldown: if cooldown.is_zero() { 5 * MINUTE } else { cooldown },
        timeout: at
            .at("timeout")
            .millis(Duration::from_secs(10), 100, Duration::from_secs(120)),
    }
}

/// `alerts.slack`, and a row of `alerts.webhooks`.
fn contract_receiver(at: &Cursor<'_>, key: &str, name: &str, form: Form) -> Option<Receiver> {
    let allow_private = at.at("allow_private").flag(false);
    let url = url(&at.at(key))?;
    warn_of_private(&at.at(key), &host_of(url.expose()), allow_private);
    Some(Receiver {
        name: name.to_owned(),
        allow_private,
        to: Destination::Http(HttpReceiver {
            form,
            url,
            headers: headers(&at.at("headers")),
            signer: signer(&at.at("secret")),
        }),
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Slack,
    Webhook,
    PagerDuty,
    Email,
    Template,
}

fn receiver(at: &Cursor<'_>) -> Option<Receiver> {
    const KINDS: [(&str, Kind); 5] = [
        ("slack", Kind::Slack),
        ("webhook", Kind::Webhook),
        ("pagerduty", Kind::PagerDuty),
        ("email", Kind::Email),
        ("template", Kind::Template),
    ];
    let name = at.at("name").filled().unwrap_or_default().to_owned();
    let fits = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        at.at("name").refuse("must be a name of letters, digits, - _ and .");
    }
    if at.at("kind").filled().is_none() {
        at.refuse("needs a kind: slack, webhook, pagerduty, email or template");
        return None;
    }
    let kind = at.at("kind").word(Kind::Webhook, &KINDS);
    let allow_private = at.at("allow_private").flag(false);
    let to = match kind {
        Kind::Email => {
            let to = mail(at)?;
            warn_of_private(&at.at("addr"), &to.host, allow_private);
            Destination::Mail(to)
        }
        kind => Destination::Http(http(at, kind, allow_private)?),
    };
    Some(Receiver {
        name,
        allow_private,
        to,
    })
}

fn http(at: &Cursor<'_>, kind: Kind, allow_private: bool) -> Option<HttpReceiver> {
    let secret = at.at("secret");
    let form = match kind {
        Kind::Slack => Form::Slack,
        Kind::PagerDuty => match secret.secret() {
            Some(key) => Form::PagerDuty(key),
            None => {
                at.refuse("needs a secret: the integration's routing key");
                return None;
            }
        },
        Kind::Template => template(at)?,
        Kind::Webhook | Kind::Email => Form::Webhook,
    };
    let given = at.at("url");
    let url = match (url(&given), kind) {
        (Some(url), _) => url,
        (None, Kind::PagerDuty) if !given.is_given() => Secret::new(EVENTS_URL.to_owned()),
        (None, _) => {
            if !given.is_given() {
                at.refuse("needs a url");
            }
            return None;
        }
    };
    warn_of_private(&given, &host_of(url.expose()), allow_private);
    let signer = match kind {
        Kind::PagerDuty => None,
        _ => signer(&secret),
    };
    Some(HttpReceiver {
        form,
        url,
        headers: headers(&at.at("headers")),
        signer,
    })
}

fn template(at: &Cursor<'_>) -> Option<Form> {
    let given = at.at("content_type");
    given.default_is("application/json");
    let content_type = given.filled().unwrap_or("application/json");
    let is_json = content_type.to_ascii_lowercase().contains("json");
    let text = at.at("template");
    let Some(body) = text.filled() else {
        at.refuse("needs a template");
        return None;
    };
    let template = Template::parse(body, is_json)
        .map_err(|error| text.refuse(error))
        .ok()?;
    let content_type = HeaderValue::from_str(content_type)
        .map_err(|_| given.refuse("is no content type"))
        .ok()?;
    Some(Form::Template { template, content_type })
}

fn mail(at: &Cursor<'_>) -> Option<MailReceiver> {
    const TLS: [(&str, MailTls); 3] = [
        ("starttls", MailTls::StartTls),
        ("tls", MailTls::Tls),
        ("none", MailTls::None),
    ];
    let tls = at.at("tls").word(MailTls::StartTls, &TLS);
    let given = at.at("addr");
    let address = given.filled().and_then(|text| text.rsplit_once(':'));
    let address = address.and_then(|(host, port)| Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)));
    let Some((host, port)) = address.filter(|(host, _)| !host.is_empty()) else {
        given.refuse("must be HOST:PORT of a mail server");
        return None;
    };
    let mailbox = |at: &Cursor<'_>| {
        let read = at.filled().and_then(|text| text.parse::<Mailbox>().ok());
        if read.is_none() {
            at.refuse("must be a mail address");
        }
        read
    };
    let from = mailbox(&at.at("from"));
    let to: Vec<Option<Mailbox>> = at.at("to").items().iter().map(mailbox).collect();
    if to.is_empty() {
        at.at("to").refuse("must name at least one mail address");
    }
    let login = match (at.at("username").filled(), at.at("password").secret()) {
        (Some(name), Some(password)) => Some((name.to_owned(), password)),
        (None, None) => None,
        _ => {
            at.refuse("needs both username and password, or neither");
            None
        }
    };
    Some(MailReceiver {
        host,
        port,
        tls,
        login,
        from: from?,
        to: to.into_iter().flatten().collect(),
    })
}

fn url(at: &Cursor<'_>) -> Option<Secret<String>> {
    let url = at.secret()?;
    let uri = url.expose().parse::<Uri>().ok();
    let fits = uri.is_some_and(|uri| {
        let host = uri.host().unwrap_or_default();
        let has_user = uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        matches!(uri.scheme_str(), Some("http" | "https")) && !host.is_empty() && !has_user
    });
    if fits {
        return Some(url);
    }
    at.refuse("must be an http or https URL, without a user in it");
    None
}

fn headers(at: &Cursor<'_>) -> Vec<(HeaderName, Secret<HeaderValue>)> {
    let mut headers = Vec::new();
    for (name, value) in at.names() {
        let Some(given) = value.secret() else { continue };
        let name = HeaderName::try_from(name)
            .ok()
            .filter(|name| !OWN_HEADERS.contains(&name.as_str()));
        match (name, HeaderValue::try_from(given.expose().as_str())) {
            (Some(name), Ok(header)) => headers.push((name, Secret::new(header))),
            _ => value.refuse("is no header that may be set"),
        }
    }
    headers
}

fn signer(at: &Cursor<'_>) -> Option<Signer> {
    let secret = at.secret()?;
    Signer::new(secret.expose()).map_err(|error| at.refuse(error)).ok()
}

fn host_of(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    uri.host().unwrap_or_default().to_owned()
}

/// A receiver that cannot be reached as it is configured is told of at once, and not by dead letters.
fn warn_of_private(at: &Cursor<'_>, host: &str, allow_private: bool) {
    let bare = host.trim_matches(['[', ']']);
    let is_private = bare.parse().is_ok_and(|ip| !is_public(ip)) && !is_own_machine(bare);
    if is_private && !allow_private {
        at.warn("is at a private address: nothing is sent there without allow_private: true beside it");
    }
}

fn route(at: &Cursor<'_>, names: &[String]) -> Option<Route> {
    let texts = |name: &str| -> Vec<String> {
        let items = at.at(name).items();
        items.iter().filter_map(Cursor::filled).map(str::to_owned).collect()
    };
    let patterns = |name: &str| {
        let given = texts(name);
        Patterns::new(given.iter().map(String::as_str))
            .map_err(|error| at.at(name).refuse(error))
            .ok()
    };
    let (kinds, tenants) = (patterns("types"), patterns("tenants"));
    let receivers = texts("receivers");
    if receivers.is_empty() {
        at.refuse("needs receivers");
    }
    for receiver in receivers.iter().filter(|receiver| !names.contains(receiver)) {
        at.at("receivers")
            .refuse(format_args!("{receiver:?} is no receiver: {}", names.join(", ")));
    }
    Some(Route {
        kinds: kinds?,
        severity: at.at("severity").word(Severity::Info, &SEVERITIES),
        tenants: tenants?,
        receivers,
    })
}

fn quiet_hours(at: &Cursor<'_>) -> Option<QuietHours> {
    let time = |name: &str| {
        let given = at.at(name);
        let text = given.filled()?;
        // The whole-hour form is a duration to a careless reader; both parts are wanted.
        let read = text.parse::<Time>().ok().filter(|_| text.len() == 5);
        if read.is_none() {
            given.refuse("must be a time of day: HH:MM");
        }
        Some(read)
    };
    let zone = at.at("zone");
    zone.default_is("UTC");
    let zone = match TimeZone::get(zone.filled().unwrap_or("UTC")) {
        Ok(known) => Some(known),
        Err(_) => {
            zone.refuse("is no time zone: Europe/Berlin, UTC");
            None
        }
    };
    let passes = at.at("passes").word(Severity::Critical, &SEVERITIES);
    match (time("from"), time("until")) {
        (None, None) => None,
        (Some(from), Some(until)) => Some(QuietHours {
            zone: zone?,
            from: from?,
            until: until?,
            passes,
        }),
        _ => {
            at.refuse("needs both from and until");
            None
        }
    }
}

/// Off where the interval is left out or 0.
fn digest(at: &Cursor<'_>) -> Option<Digest> {
    let mins = at.at("every_mins").count(0, 0, 100_000);
    let passes = at.at("passes").word(Severity::Critical, &SEVERITIES);
    (mins > 0).then(|| Digest {
        every_ms: i64::try_from(mins).unwrap_or_default().saturating_mul(60_000),
        passes,
    })
}
