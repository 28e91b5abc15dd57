//! The schedule of price updates (`prices.update.every`; off by default): fetches the sources, compares them with the book, and
//! writes a dated price file where the config says so. The watcher of files reloads it, as it does any other. What fails, and
//! what is held back, changes nothing and is told.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::price::update::{self, HeldBack, Proposal};
use crate::proxy::report::{self, OwnAlert};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::upkeep::{PriceDifference, PriceDrift};
use crate::tasks::{background, spawn_named_on};
use crate::telemetry::alerts::Severity;

/// A gateway that is started daily would else never come to a daily update.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// Where the schedule was switched off while the gateway runs, so often it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Names of what is held back in one alert.
const NAMED_MAX: usize = 5;

/// The task; it ends with this.
pub struct PriceUpdates {
    runtime: Option<Runtime>,
}

impl PriceUpdates {
    /// `None` where the configuration has no schedule: one that is added later begins with the next start.
    pub fn start(gateway: &Arc<Gateway>) -> std::io::Result<Option<PriceUpdates>> {
        if gateway.rules.load().config.price_updates.every.is_none() {
            return Ok(None);
        }
        let runtime = background("price-updates").build()?;
        spawn_named_on(&runtime, "price-updates", run(Arc::downgrade(gateway)));
        Ok(Some(PriceUpdates { runtime: Some(runtime) }))
    }
}

impl Drop for PriceUpdates {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn run(gateway: Weak<Gateway>) {
    let every = |gateway: &Gateway| gateway.rules.load().config.price_updates.every;
    let mut wait = FIRST_AFTER;
    loop {
        let Some(scheduled) = gateway.upgrade().map(|gateway| every(&gateway)) else {
            return;
        };
        tokio::time::sleep(scheduled.map_or(LOOK_AGAIN, |every| every.min(wait))).await;
        let Some(gateway) = gateway.upgrade() else { return };
        if every(&gateway).is_some() {
            once(&gateway).await;
            wait = Duration::MAX;
        }
    }
}

/// One update. Whatever fails changes nothing.
pub async fn once(gateway: &Gateway) {
    let rules = gateway.rules.load_full();
    let settings = &rules.config.price_updates;
    let sources = match update::load_all(&settings.from).await {
        Ok(sources) => sources,
        Err(error) => {
            gateway.upkeep.compared(PriceDrift {
                at_ms: gateway.clock.now_ms(),
                error: error.to_string(),
                ..PriceDrift::default()
            });
            return tell(
                gateway,
                "price_update_failed",
                "sources",
                format!("prices are not updated: {error}"),
            );
        }
    };
    let now_ms = gateway.clock.now_ms();
    let proposal = update::propose(&rules.prices, &sources, now_ms);
    gateway.upkeep.compared(drift(&proposal, now_ms));
    tell_held_back(gateway, &proposal.held_back);
    if proposal.changes.is_empty() {
        return tracing::info!(compared = proposal.compared, "prices are up to date");
    }
    if !settings.apply {
        let message = format!("{}: `agentledger prices update` shows them", summary(&proposal));
        return tell(gateway, "price_update_available", "changes", message);
    }
    let path = settings.dir.join(update::file_name(now_ms));
    match update::write_file(&rules.prices, &proposal, &path, now_ms) {
        Ok(()) => {
            for change in &proposal.changes {
                tracing::info!("price changed: {change}");
            }
            tracing::info!(file = %path.display(), "{}", summary(&proposal));
        }
        Err(error) => {
            let message = format!("prices are not updated: {}: {error}", path.display());
            tell(gateway, "price_update_failed", "file", message);
        }
    }
}

/// Of a comparison, what differs: believed or not.
fn drift(proposal: &Proposal, at_ms: i64) -> PriceDrift {
    let held_back = proposal.held_back.iter().map(|said| PriceDifference {
        provider: said.provider.clone(),
        model: said.id.clone(),
        what: said.what.clone(),
        held_back: said.reason.clone(),
        ..PriceDifference::default()
    });
    PriceDrift {
        at_ms,
        compared: proposal.compared,
        differences: proposal
            .changes
            .iter()
            .map(PriceDifference::from)
            .chain(held_back)
            .collect(),
        error: String::new(),
    }
}

fn summary(proposal: &Proposal) -> String {
    format!(
        "{} prices changed, {} held back",
        proposal.changes.len(),
        proposal.held_back.len()
    )
}

fn tell_held_back(gateway: &Gateway, held_back: &[HeldBack]) {
    if held_back.is_empty() {
        return;
    }
    let named: Vec<String> = held_back.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let message = format!("{} prices are not believed: {}", held_back.len(), named.join("; "));
    tell(gateway, "price_update_held_back", "held back", message);
}

fn tell(gateway: &Gateway, kind: &'static str, about: &str, message: String) {
    let about = format!("prices {about}");
    let cooldown = gateway.rules.load().config.alerts.cooldown;
    report::own_alert(
        gateway,
        OwnAlert {
            kind,
            severity: Severity::Warning,
            about,
            message,
            details: Vec::new(),
        },
        cooldown,
    );
}
