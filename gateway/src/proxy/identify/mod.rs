//! Second step: which provider is meant, and who sends the request.

pub mod arrival;
pub mod aws_signature;
pub mod azure;
mod base_url;
pub mod clients;
pub mod infer;
pub mod keys;
pub mod legacy;
pub mod ownership;

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::{Inferred, Name, PARENT_TAG};
use pingora::http::RequestHeader;

use crate::config::{Absence, AbsentProvider, Paths, UnknownRoutes};
use crate::limits::Limits;
use crate::plugin::{Billing, WEBSOCKET};
use crate::policy::{SERVER_TAG, TOOL_TAG};
use crate::proxy::identify::clients::known_client;
use crate::proxy::sanitize::is_websocket;
use crate::proxy::sanitize::query::value_of;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::{ProviderEndpoint, Rules};
use crate::secret::Secret;
use crate::telemetry::trace::TraceParent;

/// Finds the provider and the operation. Longest prefix first; several providers may share one (the root).
///
/// # Errors
/// No provider serves the path; with the provider in whose dialect that is said.
pub fn find_target(rules: &Rules, header: &RequestHeader) -> Found {
    let path = header.uri.path();
    let method = method_of(header);
    let sharing = sharing(rules, header);
    let refused = |refusal: Refusal| Err((refusal.final_answer(), speaker(rules, &sharing, path)));
    if let Some(target) = find_route(&sharing, method) {
        let Some(target) = billed_where_it_leads(&sharing, method, target) else {
            return refused(misspelled());
        };
        return match target.billing {
            Billing::Refused => refused(Refusal::new(RefusalCode::RouteRefused, why_refused(&target, method))),
            _ => served(rules, target),
        };
    }
    // What a free GET would tell at length, a HEAD tells in short.
    if method == "HEAD"
        && let Some(target) = find_route(&sharing, "GET").filter(|target| target.billing == Billing::Free)
    {
        return served(rules, target);
    }
    let allowed = methods_of(&sharing);
    let open = sharing.iter().find(|(endpoint, rest)| {
        endpoint.mount.is_none()
            && endpoint.provider.unknown_routes == UnknownRoutes::Pass
            && (!endpoint.provider.prefix.is_empty() || rest.starts_with("/v1/"))
    });
    if let Some((endpoint, rest)) = open.filter(|_| PASSED_METHODS.contains(&method)) {
        if allowed.iter().any(|(_, billing)| *billing == Billing::Metered) || is_billed_alike(&sharing, method) {
            return refused(misspelled());
        }
        let target = Target {
            endpoint: Arc::clone(endpoint),
            path: (*rest).to_owned(),
            dialect_path: (*rest).to_owned(),
            operation: Name::from("unknown"),
            path_model: None,
            path_id: None,
            billing: Billing::Free,
        };
        return served(rules, target);
    }
    if !allowed.is_empty() {
        let message = format!("{} is not served for {}", shown(path), shown(method));
        return refused(Refusal::new(RefusalCode::MethodNotAllowed, message).header("Allow", allow(&allowed)));
    }
    let message = why_absent(rules, path).unwrap_or_else(|| {
        format!(
            "no provider serves {method} {}{}",
            shown(path),
            base_url::advice(rules, &sharing, path, method)
        )
    });
    refused(Refusal::new(RefusalCode::NoRoute, message))
}

type Found = Result<Target, (Refusal, Option<Arc<ProviderEndpoint>>)>;

/// Refuses what an operator has switched off. Requests that run already are not looked at again.
fn served(rules: &Rules, target: Target) -> Found {
    let provider = &target.endpoint.provider.name;
    if !rules.disabled.contains(provider) {
        return Ok(target);
    }
    let message = format!("the provider {provider} is switched off by an operator of this gateway");
    let refusal = Refusal::new(RefusalCode::ProviderDisabled, message).final_answer();
    Err((refusal, Some(Arc::clone(&target.endpoint))))
}

/// Methods that pass where unknown routes do.
const PASSED_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// An endpoint, and the path after its prefix.
pub(in crate::proxy::identify) type Sharing<'r, 'p> = Vec<(&'r Arc<ProviderEndpoint>, &'p str)>;

/// The endpoints with the longest prefix that the path has, those first whose dialect it is.
fn sharing<'r, 'p>(rules: &'r Rules, header: &'p RequestHeader) -> Sharing<'r, 'p> {
    let mut sharing: Sharing<'_, '_> = Vec::new();
    for endpoint in &rules.endpoints {
        let Some(rest) = after_prefix(header.uri.path(), &endpoint.provider.prefix) else {
            continue;
        };
        if sharing
            .first()
            .is_some_and(|(first, _)| first.provider.prefix != endpoint.provider.prefix)
        {
            break;
        }
        sharing.push((endpoint, rest));
    }
    let rest = sharing.first().map_or("", |(_, rest)| rest);
    // Both root dialects list models; Anthropic's clients always name their API version.
    let wanted = dialect_of(rest).or_else(|| speaks_anthropic(header).then_some("anthropic"));
    if let Some(wanted) = wanted {
        sharing.sort_by_key(|(endpoint, _)| endpoint.provider.dialect != wanted);
    }
    sharing
}

/// The dialect that has such paths, and no other.
fn dialect_of(path: &str) -> Option<&'static str> {
    const BEGINNINGS: [(&str, &str); 6] = [
        ("/v1/messages", "anthropic"),
        ("/v1/complete", "anthropic"),
        ("/v1beta", "gemini"),
        ("/v1alpha", "gemini"),
        ("/upload/v1beta", "gemini"),
        ("/model", "bedrock"),
    ];
    BEGINNINGS
        .iter()
        .find(|(start, _)| {
            path.strip_prefix(start)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .map(|(_, dialect)| *dialect)
}

/// The ways to read what follows the prefix, in order: some hosts' own clients bring the host's base path along.
fn readings<'p>(endpoint: &ProviderEndpoint, rest: &'p str) -> impl Iterator<Item = &'p str> {
    let undoubled = after_prefix(rest, &endpoint.provider.upstream.base_path);
    undoubled.into_iter().chain([rest])
}

fn find_route(sharing: &[(&Arc<ProviderEndpoint>, &str)], method: &str) -> Option<Target> {
    for (endpoint, rest) in sharing {
        for path in readings(endpoint, rest) {
            let Some((known, deployment)) = in_terms_of_dialect(endpoint, path) else {
                continue;
            };
            if let Some(found) = endpoint.plugin.routes.find(&endpoint.provider.vendor, method, &known) {
                return Some(Target {
                    endpoint: Arc::clone(endpoint),
                    path: path.to_owned(),
                    operation: Name::from(found.operation),
                    path_model: deployment.map(str::to_owned).or(found.path_model),
                    path_id: found.path_id,
                    billing: found.billing,
                    dialect_path: known,
                });
            }
        }
    }
    None
}

/// What is free in one dialect of a host may be billed in another one of it, and there is but one answer: then it is billed.
/// `None`: it is spelled unlike what it resembles.
fn billed_where_it_leads(sharing: &Sharing<'_, '_>, method: &str, target: Target) -> Option<Target> {
    if !matches!(target.billing, Billing::Free | Billing::Refused) {
        return Some(target);
    }
    let name = &target.endpoint.name;
    let own: Sharing<'_, '_> = sharing
        .iter()
        .filter(|(endpoint, _)| endpoint.name == *name)
        .copied()
        .collect();
    let billed = own
        .iter()
        .filter_map(|one| find_route(std::slice::from_ref(one), method))
        .find(|other| !matches!(other.billing, Billing::Free | Billing::Refused));
    match billed {
        Some(billed) => Some(billed),
        None if target.billing == Billing::Refused => Some(target),
        None => (!is_billed_alike(&own, method)).then_some(target),
    }
}

/// The reason that a refused route bears.
fn why_refused(target: &Target, method: &str) -> String {
    let (routes, vendor) = (&target.endpoint.plugin.routes, &target.endpoint.provider.vendor);
    let reason = routes
        .find(vendor, method, &target.dialect_path)
        .map(|found| found.reason.to_owned());
    reason.unwrap_or_default()
}

/// Whether a server that does not mind the case of letters would read this as what is billed.
fn is_billed_alike(sharing: &Sharing<'_, '_>, method: &str) -> bool {
    sharing.iter().any(|(endpoint, rest)| {
        let lower = rest.to_ascii_lowercase();
        readings(endpoint, &lower).any(|path| {
            in_terms_of_dialect(endpoint, path)
                .and_then(|(known, _)| {
                    endpoint
                        .plugin
                        .routes
                        .find_alike(&endpoint.provider.vendor, method, &known)
                        .map(|found| found.billing)
                })
                .is_some_and(|billing| billing != Billing::Free)
        })
    })
}

fn misspelled() -> Refusal {
    let message = "the path or its method is spelled unlike the billed operation that it resembles";
    Refusal::new(RefusalCode::BadPath, message)
}

/// The methods for which the path is served, each once.
fn methods_of(sharing: &Sharing<'_, '_>) -> Vec<(String, Billing)> {
    let mut methods: Vec<(String, Billing)> = Vec::new();
    for (endpoint, rest) in sharing {
        for path in readings(endpoint, rest) {
            let Some((known, _)) = in_terms_of_dialect(endpoint, path) else {
                continue;
            };
            for (method, billing) in endpoint.plugin.routes.methods_of(&endpoint.provider.vendor, &known) {
                if method != WEBSOCKET && methods.iter().all(|(listed, _)| listed != method) {
                    methods.push((method.to_owned(), billing));
                }
            }
        }
    }
    methods
}

/// `Allow`, for methods with what they cost.
fn allow(methods: &[(String, Billing)]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
    if methods.contains(&("GET".to_owned(), Billing::Free)) {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// What an `OPTIONS` is told of a path. `None`: nobody serves it.
pub fn allowed_at(rules: &Rules, header: &RequestHeader) -> Option<String> {
    let sharing = sharing(rules, header);
    let mut methods = methods_of(&sharing);
    for method in ["GET", "DELETE"] {
        let listed = methods.iter().any(|(known, _)| known == method);
        if let Some(target) = find_route(&sharing, method).filter(|_| !listed) {
            methods.push((method.to_owned(), target.billing));
        }
    }
    (!methods.is_empty()).then(|| allow(&methods))
}

/// In whose dialect errors of a path are said: the one of the endpoints that share it whose paths look so, else any that
/// has such paths.
pub fn speaker_at(rules: &Rules, header: &RequestHeader) -> Option<Arc<ProviderEndpoint>> {
    speaker(rules, &sharing(rules, header), header.uri.path())
}

fn speaker(rules: &Rules, sharing: &Sharing<'_, '_>, path: &str) -> Option<Arc<ProviderEndpoint>> {
    // Where another dialect is mounted, the dialect's own paths are shorter.
    let mounted = sharing.iter().find(|(endpoint, rest)| {
        in_terms_of_dialect(endpoint, rest).is_some_and(|(known, _)| known.len() < rest.len())
    });
    let first = mounted.or(sharing.first()).map(|(endpoint, _)| *endpoint);
    let wanted = dialect_of(path).filter(|_| first.is_none_or(|endpoint| endpoint.provider.prefix.is_empty()));
    let speaks = |endpoint: &&Arc<ProviderEndpoint>| {
        endpoint.mount.is_none() && Some(endpoint.provider.dialect.as_str()) == wanted
    };
    rules.endpoints.iter().find(speaks).or(first).map(Arc::clone)
}

/// The method by which routes know a request: an upgrade to a WebSocket has one of its own.
pub fn method_of(header: &RequestHeader) -> &str {
    if is_websocket(header) {
        WEBSOCKET
    } else {
        header.method.as_str()
    }
}

/// The path as the dialect's routes have it, and the model that the rest of it names.
pub fn in_terms_of_dialect<'p>(endpoint: &ProviderEndpoint, path: &'p str) -> Option<(String, Option<&'p str>)> {
    match (endpoint.mount, endpoint.provider.paths) {
        (Some(mount), _) => mount.inside(path).map(|path| (path, None)),
        (None, Paths::Plain) => Some((path.to_owned(), None)),
        (None, Paths::Azure) => azure::in_openai_terms(path),
    }
}

/// The path belongs to a provider that is known and not served here.
fn why_absent(rules: &Rules, path: &str) -> Option<String> {
    let under = |absent: &&AbsentProvider| !absent.prefix.is_empty() && after_prefix(path, &absent.prefix).is_some();
    let absent = rules.config.absent.iter().find(under)?;
    Some(match absent.why {
        Absence::Disabled => format!("provider {} is not enabled here", absent.name),
        Absence::NoDialect => format!("provider {} has no plugin here that reads its dialect", absent.name),
    })
}

/// A path as an error may repeat it: bounded, printable.
fn shown(path: &str) -> String {
    path.chars().filter(|one| !one.is_control()).take(120).collect()
}

fn after_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn speaks_anthropic(header: &RequestHeader) -> bool {
    header.headers.contains_key("anthropic-version")
        || (header.headers.contains_key("x-api-key") && !header.headers.contains_key("authorization"))
}

/// Reads who sends the request from headers and, where a header is missing, from `_agent_*` query parameters; what neither
/// says is inferred from what clients send anyway.
///
/// # Errors
/// A header that is too long or cannot be read.
pub fn identify(rules: &Rules, header: &RequestHeader, key: Secret<String>) -> Result<Identity, Refusal> {
    let limits = &rules.config.limits;
    let query = header.uri.query().unwrap_or_default();
    let fingerprint = Name::from(rules.fingerprints.of(&key));
    let said = |name: &str, parameter: &str| {
        let values = header.headers.get_all(name).iter();
        let said: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Some(said.join(","))
            .filter(|value| !value.is_empty())
            .or_else(|| value_of(query, parameter))
            .unwrap_or_default()
    };
    let named = |name: &str, parameter: &str| checked(name, said(name, parameter), limits.identity_bytes_max);
    let said_tags = checked(TAGS, said(TAGS, "_agent_tags"), limits.tags_bytes_max)?;
    let parent = named("x-agent-parent", "_agent_parent")?;
    let claim = if rules.reads_claims {
        named("x-agentledger-tenant", "")?
    } else {
        Name::from("")
    };
    let mut identity = Identity {
        client: known_client(&header.headers),
        fingerprint,
        agent: named("x-agent-id", "_agent_id")?,
        session: named("x-agent-session", "_agent_session")?,
        run: Name::from(""),
        user: named("x-agent-user", "_agent_user")?,
        task: named("x-agent-task", "_agent_task")?,
        tags: tags(&said_tags, parent, limits)?,
        inferred: Inferred::NONE,
        tenant_claim: Some(claim).filter(|claim| !claim.is_empty()),
        session_end: said("x-agent-session-end", "_agent_session_end").eq_ignore_ascii_case("true"),
        trace: TraceParent::of(&header.headers),
        is_retry: header
            .headers
            .get("x-stainless-retry-count")
            .is_some_and(|count| count.as_bytes() != b"0"),
        key,
    };
    if rules.config.infers_identity {
        infer::from_head(&mut identity, &header.headers, limits);
    }
    Ok(identity)
}

/// Whether the value of one of the headers that say who sends a request can be read.
///
/// # Errors
/// It is too long or cannot be read.
pub fn check_said(name: &str, value: &str, limits: &Limits) -> Result<(), Refusal> {
    match name {
        TAGS => {
            let text = checked(TAGS, value.to_owned(), limits.tags_bytes_max)?;
            tags(&text, Name::from(""), limits).map(drop)
        }
        name => checked(name, value.to_owned(), limits.identity_bytes_max).map(drop),
    }
}

fn checked(name: &str, value: String, bytes_max: usize) -> Result<Name, Refusal> {
    if value.len() > bytes_max {
        let message = format!("{name} is longer than {bytes_max} bytes");
        return Err(Refusal::new(RefusalCode::IdentityTooLong, message).final_answer());
    }
    if value.chars().any(char::is_control) {
        return Err(Refusal::new(RefusalCode::BadIdentity, format!("{name} has control characters")).final_answer());
    }
    Ok(Name::from(value.trim()))
}

const TAGS: &str = "x-agent-tags";

/// `feature=chat,team=ml`. The parent session is a tag like any other: what a run's children spend is its account's.
fn tags(text: &str, parent: Name, limits: &Limits) -> Result<BTreeMap<Name, Name>, Refusal> {
    let refused = |message: String| Refusal::new(RefusalCode::BadIdentity, message).final_answer();
    let mut tags = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or_default();
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(refused(format!("{TAGS} must read name=value,name=value")));
        }
        if [SERVER_TAG, TOOL_TAG].contains(&name) {
            return Err(refused(format!(
                "{TAGS} cannot say {name}: the gateway says it of tool calls"
            )));
        }
        if name.len().max(value.len()) > limits.identity_bytes_max {
            let message = format!(
                "{TAGS} has a name or value longer than {} bytes",
                limits.identity_bytes_max
            );
            return Err(refused(message));
        }
        tags.insert(Name::from(name), Name::from(value));
    }
    if !parent.is_empty() {
        tags.insert(Name::from(PARENT_TAG), parent);
    }
    if tags.len() > limits.tags_max {
        return Err(refused(format!("{TAGS} has more than {} tags", limits.tags_max)));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn prefixes_end_at_a_segment() {
        assert_eq!(after_prefix("/groq/v1/x", "/groq"), Some("/v1/x"));
        assert_eq!(after_prefix("/groqx/v1", "/groq"), None);
        assert_eq!(after_prefix("/v1/x", ""), Some("/v1/x"));
    }

    #[test]
    fn tags_read_name_value_pairs() {
        let limits = Limits {
            tags_max: 3,
            identity_bytes_max: 8,
            ..Limits::default()
        };
        let read = |text: &str, parent: &str| tags(text, Name::from(parent), &limits);
        let read_tags = read("feature=chat, team=ml,", "run-1").unwrap();
        assert_eq!(read_tags.get("team").map(|team| &**team), Some("ml"));
        assert_eq!(read_tags.get("parent").map(|parent| &**parent), Some("run-1"));
        for bad in [
            "oops",
            "=x",
            "team=",
            "tool=x",
            "server=y",
            "team=123456789",
            "a=1,b=2,c=3,d=4",
        ] {
            assert_eq!(read(bad, "").unwrap_err().code.as_str(), "bad_identity", "{bad}");
        }
        assert!(read("a=1,b=2,c=3", "p").is_err(), "the parent counts");
    }
}
