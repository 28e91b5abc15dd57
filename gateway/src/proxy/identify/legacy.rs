//! Keys that the ledger knows by the fingerprint of the program it was imported from: what such a key has spent there counts on
//! it from its first request here, before its budget is looked at.

use agentledger_ledger::Name;

use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::identity::Identity;
use crate::proxy::shared::rules::legacy_fingerprint;

/// Gives the key what its imported entries have posted, where there are any. Costs a look at a number else.
pub fn link(gateway: &Gateway, identity: &Identity) {
    if identity.fingerprint.is_empty() || !gateway.ledger.has_unseen_keys() {
        return;
    }
    let legacy = Name::from(legacy_fingerprint(&identity.key));
    if gateway.ledger.link_key(&legacy, &identity.fingerprint) {
        tracing::info!(%legacy, key = %identity.fingerprint, "an imported key was seen: what it spent counts on it");
    }
}
