//! The task that delivers: takes what is raised, writes it down, tries what is due, and takes in what came of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_alerts::outbox::Routed;
use agentledger_alerts::{Alert, Attempt, Outbox, Outcome, Plan, Settled, Severity, StoreFailed};
use agentledger_ledger::{Clock, Ledger};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::block_in_place;
use ulid::Ulid;

use super::http::Connector;
use super::send::{self, SendError};
use super::silences;
use super::states::{DeliveryState, Ways};
use super::table::Table;
use crate::config::{Config, Receiver};
use crate::tasks::{background, spawn_named, spawn_named_on};
use crate::telemetry::Metrics;
use crate::telemetry::alerts::Outbox as Raised;

/// Where nothing is due it looks again after so long all the same: the machine's clock may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What the disk did not take is tried again after so long.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// Attempts that a stop waits for: what does not end by then is sent again by the next start.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    pub id: Ulid,
    /// What the receiver said, or why it does not have it.
    pub answer: Result<String, String>,
}

struct State {
    outbox: Outbox<Table>,
    ways: Ways,
    /// The configuration that the outbox goes by.
    config: Arc<Config>,
    receivers: HashMap<String, Arc<Receiver>>,
    is_save_failing: bool,
}

/// Delivers alerts. Shared by the task, and by those who look at it.
pub struct Dispatch {
    raised: Arc<Raised>,
    ledger: Arc<Ledger>,
    config: Arc<ArcSwap<Config>>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    connector: Connector,
    /// Notified of each change that is not a new alert.
    changed: Notify,
}

impl Dispatch {
    /// With what the last run left. Blocks.
    ///
    /// # Errors
    /// The ledger's database cannot be read.
    pub fn open(
        raised: Arc<Raised>,
        ledger: &Arc<Ledger>,
        config: &Arc<ArcSwap<Config>>,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Dispatch, StoreFailed> {
        let current = config.load_full();
        let plan = plan_of(&current);
        let (mut outbox, unreadable) = Outbox::open(Table::of(ledger), plan, rand::random())?;
        if unreadable > 0 {
            tracing::error!(
                rows = unreadable,
                "rows of the alerts' outbox cannot be read: they are removed"
            );
        }
        let left = outbox.deliveries();
        let mut alerts: Vec<Alert> = left.iter().map(|delivery| delivery.alert.clone()).collect();
        alerts.dedup_by_key(|alert| alert.id);
        raised.restore(alerts);
        raised.go_on_cooling(clock.monotonic_ms(), &outbox.cooling(clock.now_ms()));
        let dispatch = Dispatch {
            raised,
            ledger: Arc::clone(ledger),
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            state: Mutex::new(State {
                outbox,
                ways: Ways::default(),
                receivers: receivers_of(&current),
                config: current,
                is_save_failing: false,
            }),
            config: Arc::clone(config),
            connector: Connector::new(),
            changed: Notify::new(),
        };
        dispatch.show_counts(&dispatch.state.lock());
        Ok(dispatch)
    }

    /// How far each alert has come that is remembered.
    pub fn states(&self) -> HashMap<Ulid, Vec<DeliveryState>> {
        let state = self.state.lock();
        state.ways.states(&state.outbox.deliveries())
    }

    /// Puts dead letters back, see [`Outbox::retry`]. How many.
    pub fn retry(&self, id: Option<Ulid>, receiver: Option<&str>) -> usize {
        let count = self.state.lock().outbox.retry(self.clock.now_ms(), id, receiver);
        self.changed.notify_one();
        count
    }

    /// Sends a test alert to one receiver, once and past the outbox; `None` where there is none of that name.
    pub async fn test(&self, receiver: &str) -> Option<Tested> {
        let now_ms = self.clock.now_ms();
        let (config, found) = {
            let config = self.config.load_full();
            let found = receivers_of(&config).remove(receiver);
            (config, found?)
        };
        let alert = Alert {
            id: Ulid::from_parts(u64::try_from(now_ms).unwrap_or_default(), rand::random()),
            at_ms: now_ms,
            kind: "test".to_owned(),
            severity: Severity::Info,
            message: format!("a test of the receiver {receiver}"),
            details: vec![("receiver".to_owned(), receiver.to_owned())],
            about: receiver.to_owned(),
            tenant: String::new(),
            policy: String::new(),
            folded: 0,
        };
        let sent = send::send(&self.connector, &found, &alert, now_ms, config.alerts.timeout).await;
        self.metrics.alert_delivery(receiver, result_of(&sent));
        Some(Tested {
            id: alert.id,
            answer: sent.map_err(|error| error.to_string()),
        })
    }

    /// Goes by the configuration in force.
    fn refresh(&self, state: &mut State) {
        let current = self.config.load_full();
        if !Arc::ptr_eq(&current, &state.config) {
            state.outbox.set_plan(plan_of(&current));
            state.receivers = receivers_of(&current);
            state.config = current;
        }
    }

    /// Takes in what was raised, writes down what has changed, and says what to try now and when to look again. Blocks.
    fn step(&self) -> (Vec<(Attempt, Arc<Receiver>)>, Duration) {
        let now_ms = self.clock.now_ms();
        let mut locked = self.state.lock();
        let state = &mut *locked;
        self.refresh(state);
        let (alerts, cooled) = self.raised.take();
        // What was said and that it was are on disk together, or neither.
        cooled.into_iter().for_each(|cooled| state.outbox.cool(cooled));
        if !alerts.is_empty() {
            let silences = silences::in_force(&self.ledger, now_ms);
            let routed = state.outbox.raise(now_ms, &alerts, &silences);
            for (alert, routed) in alerts.iter().zip(routed) {
                match routed {
                    Routed::To(receivers) => state.ways.routed(alert.id, receivers),
                    Routed::Silenced(silence) => state.ways.silenced(alert.id, silence),
                }
            }
        }
        self.save(state);
        let due = state.outbox.due(now_ms);
        // A digest that was made just now is written down before it is tried, too.
        self.save(state);
        let with_receiver = |attempt: Attempt| {
            let receiver = state.receivers.get(&attempt.receiver).map(Arc::clone)?;
            Some((attempt, receiver))
        };
        let attempts = due.into_iter().filter_map(with_receiver).collect();
        let next = state.outbox.next_ms().map_or(LOOK_AGAIN, |next_ms| {
            let wait_ms = u64::try_from(next_ms.saturating_sub(now_ms)).unwrap_or_default();
            Duration::from_millis(wait_ms).min(LOOK_AGAIN)
        });
        let wait = if state.is_save_failing {
            next.min(SAVE_AGAIN)
        } else {
            next
        };
        self.show_counts(state);
        (attempts, wait)
    }

    /// What cannot be written is delivered all the same: a full disk is itself worth an alert.
    fn save(&self, state: &mut State) {
        match state.outbox.save() {
            Ok(()) => {
                if std::mem::take(&mut state.is_save_failing) {
                    tracing::info!("the alerts' outbox is written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut state.is_save_failing, true) {
                    tracing::error!(%error, "alerts that wait would not outlive a restart");
                }
            }
        }
    }

    fn show_counts(&self, state: &State) {
        let (waiting, dead) = state.outbox.counts();
        self.metrics.alerts_kept(waiting, dead);
    }

    async fn attempt(self: Arc<Self>, attempt: Attempt, receiver: Arc<Receiver>) {
        let within = self.config.load().alerts.timeout;
        let sent = send::send(&self.connector, &receiver, &attempt.alert, self.clock.now_ms(), within).await;
        let outcome = match &sent {
            Ok(_) => Outcome::Delivered,
            Err(error) => error.outcome(),
        };
        let (name, id) = (&attempt.receiver, attempt.alert.id);
        let settled = {
            let mut state = self.state.lock();
            let settled = state.outbox.settled(self.clock.now_ms(), &attempt, outcome);
            if settled == Settled::Delivered {
                state.ways.delivered(id, name);
            }
            settled
        };
        self.metrics.alert_delivery(name, result_of(&sent));
        match (sent, settled) {
            (Err(error), Settled::Dead) => {
                tracing::error!(%id, receiver = name, %error, "an alert is a dead letter: `agentledger alerts retry` sends it again");
            }
            (Err(error), _) => {
                tracing::warn!(%id, receiver = name, %error, "an alert has not arrived; it is tried again")
            }
            (Ok(_), _) => tracing::debug!(%id, receiver = name, "an alert has arrived"),
        }
        self.changed.notify_one();
    }
}

fn plan_of(config: &Config) -> Plan {
    config.alerts.plan.clone()
}

fn receivers_of(config: &Config) -> HashMap<String, Arc<Receiver>> {
    let receivers = config.alerts.receivers.iter();
    receivers
        .map(|receiver| (receiver.name.clone(), Arc::new(receiver.clone())))
        .collect()
}

/// As the metrics name it.
fn result_of(sent: &Result<String, SendError>) -> &'static str {
    match sent.as_ref().map_err(SendError::outcome) {
        Ok(_) | Err(Outcome::Delivered) => "delivered",
        Err(Outcome::Failed { .. }) => "failed",
        Err(Outcome::Refused { .. }) => "refused",
    }
}

/// The task; it ends with this.
pub struct Dispatcher {
    dispatch: Arc<Dispatch>,
    runtime: Option<Runtime>,
}

impl Dispatcher {
    /// # Errors
    /// No thread can be had.
    pub fn start(dispatch: Arc<Dispatch>) -> std::io::Result<Dispatcher> {
        let runtime = background("alerts").build()?;
        spawn_named_on(&runtime, "alerts", run(Arc::clone(&dispatch)));
        Ok(Dispatcher {
            dispatch,
            runtime: Some(runtime),
        })
    }

    /// Writes down what was raised to the last. Blocks; the ledger must still be open.
    pub fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOP_PATIENCE);
        }
        // Nothing is tried any more: what is taken in is written down for the next start.
        let _ = self.dispatch.step();
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn run(dispatch: Arc<Dispatch>) {
    loop {
        let (attempts, wait) = block_in_place(|| dispatch.step());
        for (attempt, receiver) in attempts {
            spawn_named("alert-delivery", Arc::clone(&dispatch).attempt(attempt, receiver));
        }
        tokio::select! {
            () = dispatch.raised.wait() => {}
            () = dispatch.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
