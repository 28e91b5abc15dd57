//! What a gateway that does not run left in its outbox, for whoever looks at it meanwhile.

use std::collections::{BTreeMap, HashMap};

use agentledger_alerts::Alert;
use agentledger_alerts::outbox::Delivery;
use agentledger_ledger::{LedgerError, OfflineLedger};
use ulid::Ulid;

use super::states::{DeliveryState, Ways};
use super::table::NAME;

/// By alert, how far it has come at each receiver.
type Deliveries = HashMap<Ulid, Vec<DeliveryState>>;

/// Alerts that wait or are dead letters, oldest first, and how far each has come. What cannot be read is left out: the next start
/// removes it, and says so.
///
/// # Errors
/// The disk fails.
pub fn left_in(ledger: &OfflineLedger) -> Result<(Vec<Alert>, Deliveries), LedgerError> {
    let rows = ledger.side_rows(NAME)?;
    let deliveries: Vec<Delivery> = rows
        .iter()
        .filter_map(|(_, value)| serde_json::from_slice(value).ok())
        .collect();
    let alerts: BTreeMap<Ulid, &Alert> = deliveries
        .iter()
        .map(|delivery| (delivery.alert.id, &delivery.alert))
        .collect();
    let states = Ways::default().states(&deliveries.iter().collect::<Vec<_>>());
    Ok((alerts.into_values().cloned().collect(), states))
}
