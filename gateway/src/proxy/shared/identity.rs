//! Who sends a request, and where it leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::{Inferred, Name};

use crate::clients::Client;
use crate::plugin::Billing;
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::secret::Secret;
use crate::telemetry::trace::TraceParent;

/// Who sends it, as far as the request says. Empty names: it does not say. All but the key are as true as the client.
#[derive(Clone)]
pub struct Identity {
    /// The program that sends it, where its headers are of a known one.
    pub client: Option<Client>,
    pub key: Secret<String>,
    /// Keyed hash of the whole key, 24 hex characters; empty without a key.
    pub fingerprint: Name,
    pub agent: Name,
    pub session: Name,
    /// The run that an inferred session is part of, where the client names it.
    pub run: Name,
    pub user: Name,
    pub task: Name,
    pub tags: BTreeMap<Name, Name>,
    /// Which of these were read from what the client sends anyway.
    pub inferred: Inferred,
    /// What the client claims by header; read only where tenants are on.
    pub tenant_claim: Option<Name>,
    pub session_end: bool,
    /// The trace that the client's `traceparent` names.
    pub trace: Option<TraceParent>,
    /// An SDK sends again what it got no answer to.
    pub is_retry: bool,
}

/// What the path leads to.
#[derive(Clone)]
pub struct Target {
    pub endpoint: Arc<ProviderEndpoint>,
    /// Path after the provider's prefix, for the upstream.
    pub path: String,
    /// The same as the dialect knows it: another where the dialect is mounted.
    pub dialect_path: String,
    pub operation: Name,
    pub path_model: Option<String>,
    /// The id of what the answer is, where the path names it.
    pub path_id: Option<String>,
    pub billing: Billing,
}
