//! One request and its answer on their way through the gateway: what each step adds for the ones after it.

use std::sync::Arc;
use std::time::Instant;

use agentledger_ledger::{Facts, Name};
use pingora::http::RequestHeader;
use ulid::Ulid;

use crate::meter::Ids;
use crate::plugin::{Billing, Dialect};
use crate::policy::History;
use crate::proxy::gateway::{Rules, Way};
use crate::proxy::identify::{Identity, Target};
use crate::proxy::inspect::Inspected;
use crate::proxy::price::StatedPrice;
use crate::proxy::progress::Step;
use crate::proxy::session::SessionEnd;

/// What is known once the request is identified and inspected. A request keeps the rules it started with.
pub struct Exchange {
    pub id: Ulid,
    pub at_ms: i64,
    pub started: Instant,
    pub rules: Arc<Rules>,
    pub way: Arc<Way>,
    pub operation: Name,
    pub billing: Billing,
    pub method: String,
    /// The path that the client called, without its query.
    pub called_path: String,
    /// Path and query for the upstream, its base path included.
    pub forward_path: String,
    pub identity: Identity,
    /// As the policies found it; empty for none.
    pub tenant: Name,
    /// IANA name of the tenant's time zone; `UTC` unless a policy says otherwise.
    pub zone: Name,
    /// What a model without a price costs here, where a policy says so.
    pub unpriced: Option<StatedPrice>,
    /// Policies that spoke before the request was decided on.
    pub spoke: Vec<Name>,
    pub inspected: Inspected,
    /// What its session did before; `None` without a session.
    pub history: Option<History>,
    /// Its place among the session's steps, until it is over.
    pub step: Option<Step>,
    /// What is known of the provider's ids before its answer is metered.
    pub ids: Ids,
    /// Set where the client says that the session ends with this call.
    pub session_end: Option<SessionEnd>,
}

impl Exchange {
    pub fn new(
        id: Ulid,
        at_ms: i64,
        started: Instant,
        rules: Arc<Rules>,
        target: Target,
        identity: Identity,
        header: &RequestHeader,
        inspected: Inspected,
    ) -> Exchange {
        let base = &target.way.provider.upstream.base_path;
        let query = header
            .uri
            .query()
            .map(crate::proxy::identify::forwarded_query)
            .filter(|query| !query.is_empty());
        let mut forward_path = format!("{base}{}", target.path);
        if let Some(query) = query {
            forward_path.push('?');
            forward_path.push_str(&query);
        }
        Exchange {
            id,
            at_ms,
            started,
            rules,
            operation: target.operation,
            billing: target.billing,
            method: header.method.as_str().to_owned(),
            called_path: header.uri.path().to_owned(),
            forward_path,
            tenant: Name::from(""),
            zone: Name::from("UTC"),
            unpriced: None,
            spoke: Vec::new(),
            identity,
            inspected,
            history: None,
            step: None,
            session_end: None,
            ids: Ids::new(target.path_id.as_deref(), None),
            way: target.way,
        }
    }

    /// Milliseconds since the request's start.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn is_metered(&self) -> bool {
        self.billing == Billing::Metered
    }

    /// Its answer is read for what it used.
    pub fn is_read(&self) -> bool {
        self.billing != Billing::Free
    }

    pub fn dialect(&self) -> (&Arc<dyn Dialect>, &str) {
        (&self.way.plugin.dialect, &self.operation)
    }

    /// What the books keep of the request.
    pub fn facts(&self) -> Facts {
        Facts {
            id: self.id,
            at_ms: self.at_ms,
            provider: self.way.name.clone(),
            operation: self.operation.clone(),
            requested_model: Name::from(self.inspected.call.model.as_str()),
            stream: self.inspected.call.stream,
            key: self.identity.fingerprint.clone(),
            tenant: self.tenant.clone(),
            agent: self.identity.agent.clone(),
            session: self.identity.session.clone(),
            user: self.identity.user.clone(),
            task: self.identity.task.clone(),
            tags: self.identity.tags.clone(),
            path: Name::from(self.called_path.as_str()),
        }
    }
}
