//! Where traces and metrics are sent by OTLP. Keys of the section come first; the variables that OpenTelemetry's own tools
//! read fill in what it leaves out, and an endpoint of theirs alone turns it on.

use std::time::Duration;

use super::cursor::{Cursor, Problems};
use super::env::Env;
use super::error::Place;
use super::node::{Node, Value};
use super::providers;
use crate::secret::Secret;

/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
const GRPC_PORT: u16 = 4317;
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const NONE: &str = "none";

/// Where traces and metrics are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Otlp {
    /// `None`: no spans are sent.
    pub traces: Option<String>,
    /// `None`: no metrics are sent.
    pub metrics: Option<String>,
    pub protocol: OtlpProtocol,
    pub headers: Vec<(String, Secret<String>)>,
    /// How often metrics are sent.
    pub interval: Duration,
    pub timeout: Duration,
    pub sampling: Sampling,
    pub service_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protobuf in the body of a POST.
    Http,
    Grpc,
}

/// Which traces are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Of the traces that begin here, in parts per million.
    pub share_ppm: u32,
    /// A trace of the client's is sent where it says so, and else is not.
    pub follows_parent: bool,
}

/// Variables of OpenTelemetry's tools, and the key that each fills in as it is.
const VARIABLES: [(&str, &str); 5] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "traces"),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "metrics"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "protocol"),
    ("OTEL_SERVICE_NAME", "service_name"),
];
/// The same in milliseconds.
const MILLIS: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "timeout"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "interval"),
];
const EXPORTERS: [(&str, &str); 2] = [("OTEL_TRACES_EXPORTER", "traces"), ("OTEL_METRICS_EXPORTER", "metrics")];
const DISABLED: &str = "OTEL_SDK_DISABLED";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

/// Fills in what the section leaves out.
pub fn overlay(root: &mut Node, env: &Env, problems: &Problems) {
    let given = |variable: &str| env.get(variable).map(str::trim).filter(|value| !value.is_empty());
    let mut found: Vec<(&str, &str, String)> = Vec::new();
    // The first one for a key counts.
    for (variable, key) in EXPORTERS {
        match given(variable) {
            Some(NONE) => found.push((variable, key, NONE.to_owned())),
            None | Some("otlp") => {}
            Some(_) => warn(problems, variable, "only otlp and none are known here: ignored"),
        }
    }
    for (variable, key) in VARIABLES {
        found.extend(given(variable).map(|value| (variable, key, value.to_owned())));
    }
    for (variable, key) in MILLIS {
        found.extend(given(variable).map(|value| (variable, key, format!("{value}ms"))));
    }
    if given(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        found.push((DISABLED, "enabled", "false".to_owned()));
    }
    found.extend(sampler(given(SAMPLER), given(SAMPLER_ARG), problems));
    let headers = given(HEADERS);
    let is_on = root
        .get("telemetry")
        .and_then(|node| node.get("otlp"))
        .is_some_and(|node| !node.is_null());
    // Their defaults alone turn nothing on.
    let names_place = found
        .iter()
        .any(|(_, key, value)| matches!(*key, "endpoint" | "traces" | "metrics") && value != NONE);
    if (!is_on && !names_place) || (found.is_empty() && headers.is_none()) {
        return;
    }
    let place = Place::Env("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned());
    let Some(section) = root
        .child_mut("telemetry", &place)
        .and_then(|node| node.child_mut_or_text("otlp", &place))
    else {
        return;
    };
    for (variable, key, value) in found {
        fill(section, key, &value, &Place::Env(variable.to_owned()));
    }
    let place = Place::Env(HEADERS.to_owned());
    for (name, value) in headers.map(pairs).unwrap_or_default() {
        if let Some(headers) = section.child_mut("headers", &place) {
            fill(headers, &name, &value, &place);
        }
    }
}

fn warn(problems: &Problems, variable: &str, message: &str) {
    problems.warn(&Place::Env(variable.to_owned()), "", message);
}

/// <https://opentelemetry.io/docs/languages/sdk-configuration/general/#otel_traces_sampler>
fn sampler(name: Option<&str>, share: Option<&str>, problems: &Problems) -> Vec<(&'static str, &'static str, String)> {
    let Some(name) = name else { return Vec::new() };
    let (follows, name) = match name.strip_prefix("parentbased_") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let share = match name {
        "always_on" => "1",
        "always_off" => "0",
        "traceidratio" => share.unwrap_or("1"),
        _ => {
            warn(problems, SAMPLER, "is none that is known here: ignored");
            return Vec::new();
        }
    };
    vec![
        (SAMPLER, "sample", share.to_owned()),
        (SAMPLER, "follow_parent", follows.to_string()),
    ]
}

/// Sets a key that is not there.
fn fill(section: &mut Node, key: &str, value: &str, place: &Place) {
    let is_empty = |node: &Node| match &node.value {
        Value::Scalar { text, .. } => text.trim().is_empty(),
        Value::Null => true,
        _ => false,
    };
    if section.get(key).is_some_and(|node| !is_empty(node)) {
        return;
    }
    if let Some(node) = section.child_mut(key, place) {
        *node = Node::text(value, place.clone());
    }
}

/// `name=value,name=value`, values percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), decoded(value.trim())))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let hex = tail
            .split_at_checked(2)
            .filter(|_| *byte == b'%')
            .and_then(|(digits, tail)| {
                let digits = std::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, tail))
            });
        let (byte, tail) = hex.unwrap_or((*byte, tail));
        out.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Off unless an endpoint is given. A text alone is the endpoint.
pub fn resolve(at: &Cursor<'_>) -> Option<Otlp> {
    let endpoint = if at.is_section() { at.at("endpoint") } else { at.clone() };
    let base = providers::upstream(&endpoint);
    let default = match &base {
        Some(url) if url.port == GRPC_PORT => OtlpProtocol::Grpc,
        _ => OtlpProtocol::Http,
    };
    let words = [
        ("http", OtlpProtocol::Http),
        ("http/protobuf", OtlpProtocol::Http),
        ("grpc", OtlpProtocol::Grpc),
    ];
    let protocol = at.at("protocol").word(default, &words);
    let base = base.map(|url| url_of(&url));
    let signal = |key: &str| {
        let at = at.at(key);
        match at.filled() {
            Some(text) if text.eq_ignore_ascii_case(NONE) => None,
            Some(_) => providers::upstream(&at).map(|url| url_of(&url)),
            // gRPC has paths of its own.
            None if protocol == OtlpProtocol::Grpc => base.clone(),
            None => base.as_ref().map(|base| format!("{base}/v1/{key}")),
        }
    };
    let otlp = Otlp {
        traces: signal("traces"),
        metrics: signal("metrics"),
        protocol,
        headers: headers(&at.at("headers")),
        interval: at.at("interval").millis(INTERVAL, 100, HOUR),
        timeout: at.at("timeout").millis(TIMEOUT, 10, HOUR),
        sampling: Sampling {
            share_ppm: match at.at("sample").filled() {
                Some(_) => at.at("sample").share_ppm(),
                None => 1_000_000,
            },
            follows_parent: at.at("follow_parent").flag(true),
        },
        service_name: at.at("service_name").filled().unwrap_or("agentledger").to_owned(),
    };
    let is_on = at.at("enabled").flag(true) && (otlp.traces.is_some() || otlp.metrics.is_some());
    is_on.then_some(otlp)
}

fn url_of(url: &super::Upstream) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    let host = if url.host.contains(':') {
        format!("[{}]", url.host)
    } else {
        url.host.clone()
    };
    format!("{scheme}://{host}:{}{}", url.port, url.base_path)
}

fn headers(at: &Cursor<'_>) -> Vec<(String, Secret<String>)> {
    let names = at.names().into_iter();
    let header = |(name, at): (&str, Cursor<'_>)| {
        let value = at.secret()?;
        let fits =
            http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value.expose().as_str()).is_ok();
        if !fits {
            at.refuse("is no header: a name of letters, digits and dashes, and a value without line breaks");
        }
        fits.then(|| (name.to_ascii_lowercase(), value))
    };
    names.filter_map(header).collect()
}

impl Node {
    /// The section below a name; a text there becomes its `endpoint`.
    fn child_mut_or_text(&mut self, name: &str, place: &Place) -> Option<&mut Node> {
        let child = self.child_mut(name, place)?;
        if let Value::Scalar { .. } = child.value {
            let text = std::mem::replace(child, Node::empty_map());
            child.place = text.place.clone();
            let place = text.place.clone();
            *child.child_mut("endpoint", &place)? = text;
        }
        Some(child)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Config, Known, load_text};

    fn read(yaml: &str, env: &[(&str, &str)]) -> Config {
        load_text(None, yaml, &Env::of(env.iter().copied()), &Known::built_in())
            .unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn otlp(yaml: &str, env: &[(&str, &str)]) -> Otlp {
        read(yaml, env).otlp.unwrap()
    }

    #[test]
    fn off_unless_an_endpoint_is_given() {
        assert!(read("", &[]).otlp.is_none());
        assert!(read("telemetry: {otlp: \"\"}", &[]).otlp.is_none());
        assert!(read("telemetry: {otlp: {protocol: grpc}}", &[]).otlp.is_none());
        assert!(
            read(
                "",
                &[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
            )
            .otlp
            .is_none()
        );
        let on = "telemetry: {otlp: {endpoint: \"http://c:4318\", enabled: false}}";
        assert!(read(on, &[]).otlp.is_none());
    }

    #[test]
    fn a_text_alone_is_the_endpoint() {
        let http = otlp("telemetry: {otlp: \"http://collector:4318\"}", &[]);
        assert_eq!(http.traces.as_deref(), Some("http://collector:4318/v1/traces"));
        assert_eq!(http.metrics.as_deref(), Some("http://collector:4318/v1/metrics"));
        assert_eq!(http.protocol, OtlpProtocol::Http);
        let grpc = otlp("telemetry: {otlp: \"http://[::1]:4317\"}", &[]);
        assert_eq!(grpc.traces.as_deref(), Some("http://[::1]:4317"));
        assert_eq!(grpc.protocol, OtlpProtocol::Grpc);
        let variable = otlp("", &[("AGENTLEDGER_TELEMETRY_OTLP", "https://c/base/")]);
        assert_eq!(variable.traces.as_deref(), Some("https://c:443/base/v1/traces"));
        let key = otlp("", &[("AGENTLEDGER_TELEMETRY_OTLP_ENDPOINT", "http://c")]);
        assert_eq!(key.metrics.as_deref(), Some("http://c:80/v1/metrics"));
    }

    #[test]
    fn the_section_says_the_rest() {
        let all = otlp(
            "telemetry:\n  otlp:\n    endpoint: http://c:9\n    protocol: grpc\n    headers: {Authorization: Bearer x}\n    \
             interval: 5s\n    timeout: 250ms\n    sample: 0.25\n    follow_parent: false\n    service_name: gate\n    metrics: none\n",
            &[],
        );
        assert_eq!((all.traces.as_deref(), all.metrics), (Some("http://c:9"), None));
        assert_eq!(all.headers[0].0, "authorization");
        assert_eq!(all.headers[0].1.expose(), "Bearer x");
        assert_eq!(
            (all.interval, all.timeout),
            (Duration::from_secs(5), Duration::from_millis(250))
        );
        assert_eq!((all.sampling.share_ppm, all.sampling.follows_parent), (250_000, false));
        assert_eq!(all.service_name, "gate");
    }

    #[test]
    fn the_standard_variables_fill_in_what_is_left_out() {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/own"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, X-Two=2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "2000"),
            ("OTEL_SERVICE_NAME", "svc"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ];
        let all = otlp("", &env);
        assert_eq!(all.traces.as_deref(), Some("http://t:1/own"));
        assert_eq!(all.metrics.as_deref(), Some("http://c:4318/v1/metrics"));
        let headers: Vec<(&str, &str)> = all
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.expose().as_str()))
            .collect();
        assert_eq!(headers, [("api-key", "a b"), ("x-two", "2")]);
        assert_eq!(
            (all.timeout, all.interval),
            (Duration::from_millis(1_500), Duration::from_secs(2))
        );
        assert_eq!((all.sampling.share_ppm, all.sampling.follows_parent), (500_000, true));
        assert_eq!(all.service_name, "svc");
        let file = otlp("telemetry: {otlp: \"http://own:4318\"}", &env);
        assert_eq!(file.metrics.as_deref(), Some("http://own:4318/v1/metrics"));
        assert_eq!(file.service_name, "svc");
        let none = [
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ];
        assert!(otlp("", &none).metrics.is_none());
        let off = [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ];
        assert!(read("", &off).otlp.is_none());
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        for (yaml, told) in [
            ("telemetry: {otlp: \"collector\"}", "telemetry.otlp: must be a URL"),
            (
                "telemetry: {otlp: {endpoint: \"http://c\", protocol: udp}}",
                "telemetry.otlp.protocol: \"udp\" is none of",
            ),
            (
                "telemetry: {otlp: {endpoint: \"http://c\", headers: {\"a b\": x}}}",
                "telemetry.otlp.headers.a b: is no header",
            ),
            ("telemetry: {otlp: [1]}", "telemetry.otlp: must be"),
        ] {
            let none: [(&str, &str); 0] = [];
            let errors = load_text(None, yaml, &Env::of(none), &Known::built_in())
                .err()
                .unwrap()
                .to_string();
            assert!(errors.contains(told), "{yaml}: {errors}");
        }
    }
}
