//! The way in, for plain requests and handshakes alike: where a request leads, who sends it, and what of its head goes on.

use std::sync::Arc;

use pingora::http::RequestHeader;

use super::aws_signature::refuse_foreign;
use super::keys::keys_of;
use super::ownership::{is_served_on_ours, refuse_foreign_pages, refuse_unknown_key};
use super::{find_target, identify, speaker_at};
use crate::proxy::sanitize::headers::{Passage, UnmeteredAccept, take_off};
use crate::proxy::sanitize::query::{UnmeteredFormat, passed_on};
use crate::proxy::sanitize::{check_head, normalise_path};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::{ProviderEndpoint, Rules};

/// Why a request is not let in, and in whose dialect that is said.
pub type Unplaced = (Refusal, Option<Arc<ProviderEndpoint>>);

/// Checks the head, gives the path its one spelling and finds what it leads to. A page of another origin that would spend
/// what is the gateway's own comes no further.
///
/// # Errors
/// Why not.
pub fn locate(rules: &Rules, session: &mut ServerSession) -> Result<Target, Unplaced> {
    let checked =
        check_head(session.req_header(), &rules.config.limits).and_then(|()| normalise_path(session.req_header_mut()));
    let header = session.req_header();
    checked.map_err(|refusal| (refusal, speaker_at(rules, header)))?;
    let target = find_target(rules, header)?;
    if is_served_on_ours(&target.endpoint, header) {
        refuse_foreign_pages(&rules.config, header).map_err(|refusal| (refusal, Some(Arc::clone(&target.endpoint))))?;
    }
    Ok(target)
}

/// Reads who sends the request, and takes off its head what is not to go on: other keys, what would make another request of
/// it, and what would change what is billed or seen of its answer.
///
/// # Errors
/// The sender cannot be told, or may not; or the answer could not be metered.
pub fn recognise(rules: &Rules, session: &mut ServerSession, target: &Target) -> Result<Identity, Refusal> {
    let endpoint = &target.endpoint;
    let header = session.req_header();
    refuse_foreign(endpoint, header)?;
    let keys = keys_of(endpoint, header)?;
    let identity = identify(rules, header, keys.key)?;
    let passage = Passage {
        google: endpoint.provider.is_googles(),
        billing: target.billing,
    };
    let header = session.req_header_mut();
    for name in keys.other_headers {
        header.remove_header(name);
    }
    take_off(header, passage).map_err(|UnmeteredAccept| unmetered("Accept"))?;
    pass_on_query(header, passage, &keys.other_parameters)?;
    // As it goes on now: another key than the one that counts does not make it the client's own.
    if is_served_on_ours(endpoint, header) {
        refuse_unknown_key(endpoint, &identity.key)?;
    }
    Ok(identity)
}

fn pass_on_query(header: &mut RequestHeader, passage: Passage, other_keys: &[&str]) -> Result<(), Refusal> {
    let Some(query) = header.uri.query() else { return Ok(()) };
    let passed = passed_on(query, passage, other_keys).map_err(|UnmeteredFormat(name)| unmetered(name))?;
    if passed == query {
        return Ok(());
    }
    let mark = if passed.is_empty() { "" } else { "?" };
    let target = format!("{}{mark}{passed}", header.uri.path());
    let internal = |_| Refusal::new(RefusalCode::Internal, "the query could not be rewritten");
    header.set_raw_path(target.as_bytes()).map_err(internal)
}

fn unmetered(named_by: &str) -> Refusal {
    let message = format!("{named_by} requests an answer in a format that is not metered here: use JSON or alt=sse");
    Refusal::new(RefusalCode::UnmeteredFormat, message).final_answer()
}
