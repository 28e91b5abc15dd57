//! The policies of the store where no gateway runs: what a command changes there is checked as the gateway would, and in force
//! when it starts.

use std::sync::Arc;

use agentledger_ledger::{Clock, Ledger, SystemClock};
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::sources::Sources;
use super::versions::failure_limit;
use super::{LaunchError, LoadedSetup, open_ledger, policies, version};
use crate::config::Config;
use crate::control::{BreakerStatus, ControlState, DataPlane, LedgerView, Plan, Record, RpcError};
use crate::policy::PolicySet;
use crate::price::PriceBook;
use crate::runtime::prices::with_rows;
use crate::runtime::{InForce, Ingredients, Parts, Tallies, Wanted};
use crate::telemetry::Metrics;

/// The policies that a gateway would start with.
struct StoredPolicies {
    /// With what would be in force.
    sources: Mutex<(Sources, Arc<PolicySet>)>,
    clock: SystemClock,
}

/// Opens a ledger that no gateway has open, to change its policies: what methods answer from, and the ledger, which is to be
/// closed.
///
/// # Errors
/// The ledger cannot be opened, or the policies of the files do not load.
pub fn open_policies(config: &Config) -> Result<(Arc<ControlState>, Arc<Ledger>), LaunchError> {
    let (files, confs) = policies(config)?;
    let ledger = open_ledger(config)?;
    let opened = open(config, files, confs, &ledger);
    match opened {
        Ok(state) => Ok((state, ledger)),
        Err(error) => {
            ledger.close();
            Err(error)
        }
    }
}

/// The policies and prices that a gateway would start with, of documents that are at hand: also where the ledger cannot be opened.
///
/// # Errors
/// What operators changed does not fit what the files say.
pub fn would_be_in_force(setup: &LoadedSetup, parts: &Parts) -> Result<(PolicySet, PriceBook), LaunchError> {
    let ingredients = Ingredients {
        files: &setup.policies,
        confs: &setup.confs,
        rules: &parts.rules,
        book: &parts.policies,
    };
    let mut tallies = Tallies::new(None, Arc::new(|| ()), Arc::new(SystemClock::default()));
    let policies = ingredients.all(&mut tallies).map_err(LaunchError::RuntimeRule)?;
    let prices = with_rows(&setup.prices, &parts.prices).map_err(LaunchError::RuntimePrice)?;
    Ok((policies.set, prices))
}

fn open(
    config: &Config,
    files: PolicySet,
    confs: super::Confs,
    ledger: &Arc<Ledger>,
) -> Result<Arc<ControlState>, LaunchError> {
    // Nothing fails here: no request is served.
    let tallies = Tallies::new(failure_limit(config), Arc::new(|| ()), Arc::new(SystemClock::default()));
    let no_prices = PriceBook::builtin_of(std::iter::empty()).map_err(|error| LaunchError::Prices(vec![error]))?;
    let mut sources = Sources::open(ledger, confs, files, no_prices, tallies)?;
    let policies = sources.policies_over()?;
    Ok(Arc::new(ControlState {
        ledger: LedgerView::Live(Arc::clone(ledger)),
        config: Arc::new(ArcSwap::from_pointee(config.clone())),
        metrics: Arc::new(Metrics::new(&config.limits)),
        data_plane: Arc::new(StoredPolicies {
            sources: Mutex::new((sources, Arc::new(policies))),
            clock: SystemClock::default(),
        }),
        version: version(),
        started_at_ms: SystemClock::default().now_ms(),
        requests: Mutex::default(),
        corrections: Mutex::default(),
        replays: Default::default(),
        verifications: Default::default(),
        issued_tokens: Default::default(),
    }))
}

impl DataPlane for StoredPolicies {
    fn breaker(&self, _provider: &str) -> BreakerStatus {
        BreakerStatus::default()
    }

    fn in_force(&self) -> Option<InForce> {
        let kept = self.sources.lock();
        let (sources, policies) = &*kept;
        Some(sources.view(policies))
    }

    fn change(&self, plan: &mut Plan<'_>, record: &mut Record<'_>) -> Result<Option<u64>, RpcError> {
        let mut kept = self.sources.lock();
        let (sources, policies) = &mut *kept;
        let before = sources.view(policies);
        let Wanted::Policy(step) = plan(&before)? else {
            return Err(RpcError::NoGateway);
        };
        let mut planned = sources.plan(policies, &step, self.clock.now_ms())?;
        let entered = record(&before, &[])?;
        if entered.is_some() {
            if let Some(set) = planned.set.take() {
                *policies = Arc::new(set);
            }
            sources.take(planned);
        }
        Ok(entered)
    }
}
