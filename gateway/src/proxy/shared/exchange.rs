//! One request and its answer on their way through the gateway: what each step adds for the ones after it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{BillId, Facts, Ledger, Mark, Name, Record, Usd};
use pingora::http::RequestHeader;
use ulid::Ulid;

use crate::meter::Ids;
use crate::plugin::{Billing, Dialect};
use crate::policy::History;
use crate::policy::record::{DecisionRecord, Original, RefusedBy};
use crate::price::{Serves, StatedPrice};
use crate::proxy::session::progress::SessionStep;
use crate::proxy::shared::cached_input::PromptOf;
use crate::proxy::shared::client::Outlast;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::inspected::Inspected;
use crate::proxy::shared::known_head::{Entrance, KnownHead};
use crate::proxy::shared::rules::{ProviderEndpoint, Rules};
use crate::telemetry::trace::{SpanIds, Traced};
use crate::timer::Timer;

/// What is known once the request is identified and inspected. A request keeps the rules it started with.
pub struct Exchange {
    pub id: Ulid,
    pub at_ms: i64,
    pub started: Timer,
    pub rules: Arc<Rules>,
    pub endpoint: Arc<ProviderEndpoint>,
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
    /// Policies that were applied before the request was decided on.
    pub policies_applied: Vec<Name>,
    /// What its decision reads, for the journal.
    pub decision: DecisionRecord,
    pub inspected: Inspected,
    /// The tool that it calls, and what that may cost; `None`: it is no such call.
    pub tool: Option<ToolCall>,
    /// What its session did before; `None` without a session.
    pub history: Option<History>,
    /// Its place among the session's steps, until it is over.
    pub step: Option<SessionStep>,
    /// What is known of the provider's ids before its answer is metered.
    pub ids: Ids,
    /// What its span says beside its entry.
    pub traced: Traced,
    /// What is known of a head like this request's, where it is.
    pub known_head: Option<Arc<KnownHead>>,
    /// Set where the client says that the session ends with this call.
    pub session_end: Option<SessionEnd>,
}

impl Exchange {
    pub fn new(
        id: Ulid,
        at_ms: i64,
        started: Timer,
        rules: Arc<Rules>,
        target: Target,
        identity: Identity,
        header: &RequestHeader,
        inspected: Inspected,
    ) -> Exchange {
        let base = &target.endpoint.provider.upstream.base_path;
        let mut forward_path = format!("{base}{}", target.path);
        if let Some(query) = header.uri.query().filter(|query| !query.is_empty()) {
            forward_path.push('?');
            forward_path.push_str(query);
        }
        let decision = DecisionRecord {
            rules: rules.recorded,
            ..DecisionRecord::default()
        };
        Exchange {
            id,
            decision,
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
            traced: Traced {
                parent: identity.trace,
                ..Traced::default()
            },
            policies_applied: Vec::new(),
            identity,
            inspected,
            tool: None,
            history: None,
            step: None,
            session_end: None,
            known_head: None,
            ids: Ids::new(target.path_id.as_deref(), None),
            endpoint: target.endpoint,
        }
    }

    /// Every model that may serve the call or be billed with it, the requested one first, each once; of a router that the book
    /// knows, those that it chooses from.
    pub fn models(&self) -> Cow<'_, [String]> {
        let call = &self.inspected.call;
        if call.models.is_empty() && !call.any_model {
            return Cow::Borrowed(std::slice::from_ref(&call.model));
        }
        let routed = self.routed_models().into_iter().flatten();
        let mut models = vec![call.model.clone()];
        for model in call.models.iter().map(String::as_str).chain(routed) {
            if !models.iter().any(|known| known == model) {
                models.push(model.to_owned());
            }
        }
        Cow::Owned(models)
    }

    /// Nobody here knows which models may serve the call.
    pub fn is_any_model(&self) -> bool {
        self.inspected.call.any_model && self.routed_models().is_none()
    }

    /// The models that the requested one, a router, chooses from, where the book says so.
    fn routed_models(&self) -> Option<impl Iterator<Item = &str>> {
        let call = &self.inspected.call;
        let book = &self.endpoint.provider.book;
        let router = self
            .rules
            .prices
            .router(book, &call.model, self.at_ms)
            .filter(|_| call.any_model)?;
        match router.serves {
            Serves::Models(models) => Some(models.iter().map(|model| &**model)),
            Serves::Any => None,
        }
    }

    /// Whose prompt it bears, where one session and one model say that; of text alone, and all of it.
    pub fn prompt_of(&self) -> Option<PromptOf<'_>> {
        let (inspected, call, identity) = (&self.inspected, &self.inspected.call, &self.identity);
        let is_one = call.models.is_empty() && !call.any_model && call.beside.is_empty();
        let is_text = !inspected.has_media && !inspected.over_socket && !call.continues;
        (is_one && is_text && !identity.session.is_empty()).then(|| PromptOf {
            tenant: &self.tenant,
            key: &identity.fingerprint,
            session: &identity.session,
            model: &call.model,
        })
    }

    /// The gateway adds a span of its own to the trace.
    pub fn has_own_span(&self) -> bool {
        let otlp = self.rules.config.otlp.as_ref();
        otlp.is_some_and(|otlp| otlp.traces.is_some())
    }

    /// The `traceparent` that goes upstream in place of the client's; `None`: the gateway adds no span.
    pub fn traceparent(&self) -> Option<String> {
        let otlp = self.rules.config.otlp.as_ref().filter(|_| self.has_own_span())?;
        Some(SpanIds::of(self.id, self.traced.parent, otlp.sampling).own.to_string())
    }

    /// What is known of a head like this request's.
    pub fn entrance(&self) -> Option<&Entrance> {
        self.known_head.as_ref()?.entrance(&self.rules)
    }

    pub fn is_metered(&self) -> bool {
        self.billing == Billing::Metered
    }

    /// Its answer is read for what it used.
    pub fn is_read(&self) -> bool {
        self.billing != Billing::Free
    }

    /// How long it goes on once its client is gone. `whole`: what is made now comes as a whole, and is read on for the books also
    /// where nobody can be reading.
    pub fn outlast(&self, whole: bool) -> Outlast {
        let wait = Duration::from_millis(self.rules.config.limits.read_on_ms);
        let reads_on = whole && self.is_read();
        Outlast {
            closed: wait,
            reset: if reads_on { wait } else { Duration::ZERO },
        }
    }

    /// Its answers contain addresses of the provider's own, which are rewritten.
    pub fn has_links(&self) -> bool {
        self.endpoint.plugin.links_of(&self.operation).is_some()
    }

    pub fn dialect(&self) -> (&Arc<dyn Dialect>, &str) {
        (&self.endpoint.plugin.dialect, &self.operation)
    }

    /// Puts tags on the request; what they were before is for the journal.
    pub fn tag(&mut self, tags: impl IntoIterator<Item = (Name, Name)>) {
        for (tag, value) in tags {
            let was = self.identity.tags.insert(tag.clone(), value);
            let original = &mut self.decision.original;
            let is_known = original
                .iter()
                .any(|(what, _)| matches!(what, Original::Tag(known) if *known == tag));
            if self.decision.rules != 0 && !is_known {
                original.push((Original::Tag(tag), was.unwrap_or_else(|| Name::from(""))));
            }
        }
    }

    /// The model that it goes to in place of the requested one.
    pub fn rerouted_to(&self) -> Option<String> {
        let original = self.decision.original.iter();
        let is_rerouted = original.clone().any(|(what, _)| *what == Original::Model);
        is_rerouted.then(|| self.inspected.call.model.clone())
    }

    /// Notes for the journal what its policies can know and its entry does not say.
    pub fn note_facts(&mut self) {
        if self.decision.rules == 0 {
            return;
        }
        let further: Vec<Name> = {
            let (requested, models) = (&self.inspected.call.model, self.models());
            let further = models.iter().filter(|model| *model != requested);
            further.map(|model| Name::from(model.as_str())).collect()
        };
        let (is_any_model, dialect) = (self.is_any_model(), self.endpoint.provider.dialect.as_str());
        let dialect = match *self.endpoint.name == *dialect {
            true => self.endpoint.name.clone(),
            false => Name::from(dialect),
        };
        let claim = self.identity.tenant_claim.as_deref().map(Name::from);
        self.decision = DecisionRecord {
            dialect,
            claim: claim.unwrap_or_else(|| Name::from("")),
            zone: self.zone.clone(),
            any_model: is_any_model,
            free: !self.is_metered(),
            max_output: self.inspected.call.max_output,
            history: self.history,
            models: further,
            ..std::mem::take(&mut self.decision)
        };
    }

    /// What the journal keeps of the decision on it: its output was clamped to `clamped`, or it was refused. `None` where nobody
    /// recorded what is in force.
    pub fn record(&self, facts: &Facts, clamped: Option<u64>, refused: Option<&RefusedBy>) -> Option<Record> {
        (self.decision.rules != 0).then(|| self.decision.write(facts, clamped, refused))
    }

    /// What the books keep of the request.
    pub fn facts(&self) -> Facts {
        Facts {
            id: self.id,
            at_ms: self.at_ms,
            provider: self.endpoint.name.clone(),
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
            inferred: self.identity.inferred,
        }
    }
}

/// A tool that is called, and what that may cost.
#[derive(Clone, Debug)]
pub struct ToolCall {
    pub server: Name,
    pub tool: Name,
    /// What is held for it.
    pub quote: Usd,
    /// The tool has a price.
    pub priced: bool,
    /// Under which it is entered once, where others than its hold's owner may tell of it.
    pub bill: Option<BillId>,
}

/// Edits to the body: what the rules change, in the terms of the dialect's edit points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub max_output: Option<u64>,
    pub model: Option<String>,
}

/// The client said that its session ends with this call: it ends when this is dropped, however the call went.
pub struct SessionEnd {
    ledger: Arc<Ledger>,
    tenant: Name,
    session: Name,
    /// The call is in the books, and so is its session.
    pub is_entered: bool,
}

impl SessionEnd {
    /// `None` where the client did not say so.
    pub fn of(ledger: &Arc<Ledger>, exchange: &Exchange) -> Option<SessionEnd> {
        let identity = &exchange.identity;
        (identity.session_end && !identity.session.is_empty()).then(|| SessionEnd {
            ledger: Arc::clone(ledger),
            tenant: Name::clone(&exchange.tenant),
            session: Name::clone(&identity.session),
            is_entered: false,
        })
    }
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        let known = || self.ledger.sessions().running(&self.tenant, &self.session);
        // What nobody knows, or is over already, is not worth an event.
        if self.is_entered || known().is_some_and(|session| session.ended.is_none()) {
            self.ledger.mark_session(&self.tenant, &self.session, Mark::Completed);
        }
    }
}
