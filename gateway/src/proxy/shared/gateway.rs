//! The running gateway: the rules of the moment (swapped whole on reload) and the parts that outlive them.

use std::path::PathBuf;
use std::sync::Arc;

use agentledger_ledger::{Clock, Ledger};
use arc_swap::ArcSwap;

use crate::alerting::Dispatch;
use crate::meter::Estimator;
use crate::policy::{Balances, Engine};
use crate::proxy::session::progress::SessionProgress;
use crate::proxy::shared::backing_off::BackingOff;
use crate::proxy::shared::body::BodyBudget;
use crate::proxy::shared::cached_input::CachedInput;
use crate::proxy::shared::deferred_holds::DeferredHolds;
use crate::proxy::shared::drain::Drain;
use crate::proxy::shared::live_answers::LiveAnswers;
use crate::proxy::shared::rules::Rules;
use crate::proxy::shared::upkeep::Upkeep;
use crate::rates::Rates;
use crate::telemetry::alerts::Outbox;
use crate::telemetry::{Metrics, Otlp};

/// The running gateway.
pub struct Gateway {
    pub rules: ArcSwap<Rules>,
    /// Versions of policies that should be in force and cannot be, each with why.
    pub refused_policies: ArcSwap<Vec<String>>,
    /// Asks the policies of the rules that a call goes by.
    pub policies: Engine,
    /// What policies see of the ledger.
    pub balances: Arc<dyn Balances>,
    pub ledger: Arc<Ledger>,
    pub metrics: Arc<Metrics>,
    pub rates: Arc<Rates>,
    /// What policies in shadow count: apart, so that it binds nobody.
    pub shadow_rates: Arc<Rates>,
    pub alerts: Arc<Outbox>,
    pub alert_dispatch: Arc<Dispatch>,
    /// Where traces are sent; `None`: nowhere.
    pub otlp: Option<Arc<Otlp>>,
    pub estimator: Arc<Estimator>,
    pub clock: Arc<dyn Clock>,
    pub drain: Arc<Drain>,
    pub bodies: Arc<BodyBudget>,
    /// Holds that wait for results to be fetched.
    pub deferred: DeferredHolds,
    /// What the sessions did lately.
    pub progress: Arc<SessionProgress>,
    pub backing_off: BackingOff,
    /// Prompts that lie in their providers' caches, and the calls that rely on that.
    pub cached_input: Arc<CachedInput>,
    /// The control plane's socket, to which `/rpc`, `/metrics` and the dashboard are handed over.
    pub control: PathBuf,
    /// How far the answers that pass have come.
    pub live: Arc<LiveAnswers>,
    /// What tasks beside the traffic did last.
    pub upkeep: Upkeep,
}
