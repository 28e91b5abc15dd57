//! What all requests share: the rules of the moment (swapped whole on reload) and the parts that outlive them.

use std::path::PathBuf;
use std::sync::Arc;

use agentledger_ledger::{Clock, Ledger, Name};
use arc_swap::ArcSwap;
use pingora::connectors::http::Connector;

use crate::config::{Config, Mount, Provider};
use crate::files;
use crate::meter::price::{PriceBook, Row};
use crate::meter::{Estimator, Reader};
use crate::plugin::{Plugin, Plugins};
use crate::policy::{Balances, Engine, PolicySet};
use crate::proxy::awaited::Awaited;
use crate::proxy::breaker::Breaker;
use crate::proxy::drain::Drain;
use crate::proxy::guard::BodyBudget;
use crate::proxy::progress::{Bounds, Progress};
use crate::proxy::upstream::{self, Upstream};
use crate::rates::Rates;
use crate::secret::Secret;
use crate::telemetry::Metrics;
use crate::telemetry::alerts::Outbox;

/// The source of plugins that the gateway brings with it.
const BUILT_IN: &str = "built-in";

/// One dialect of a provider, ready to be used: the compiled shapes of what is read, the provider's pool and breaker.
pub struct Way {
    /// The provider; its dialect is this way's.
    pub provider: Provider,
    /// Where another dialect than the provider's own is spoken.
    pub mount: Option<&'static Mount>,
    pub name: Name,
    pub plugin: Arc<Plugin>,
    pub reader: Arc<Reader>,
    pub upstream: Arc<Upstream>,
    pub breaker: Arc<Breaker>,
    /// What the config says a model without a row costs here.
    pub stated_price: Option<Row>,
}

/// Everything that a change of configuration changes, policies included: a request decides with the pair it started with.
pub struct Rules {
    pub config: Arc<Config>,
    pub policies: Arc<PolicySet>,
    /// Longest prefix first; a provider's own dialect before those of its mounts.
    pub ways: Vec<Arc<Way>>,
    pub prices: PriceBook,
    pub fingerprints: Fingerprints,
    /// How far back a session's steps are looked at.
    pub progress: Bounds,
    /// Connections to all upstreams but those that have authorities of their own.
    pub pool: Arc<Connector>,
}

/// Why rules could not be made of a configuration; the old ones stay.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("provider {provider}: no plugin for dialect {dialect}")]
    NoDialect { provider: String, dialect: String },
    #[error("provider {provider}: plugin {dialect}: {reason}")]
    BadDialect {
        provider: String,
        dialect: String,
        reason: String,
    },
    #[error("provider {provider}: ca_file {path}: {error}", path = path.display())]
    Authorities {
        provider: String,
        path: PathBuf,
        error: std::io::Error,
    },
}

impl Rules {
    /// `before` lends its pools and breakers to providers that did not change.
    pub fn new(
        config: Arc<Config>,
        plugins: &Plugins,
        prices: PriceBook,
        policies: PolicySet,
        fingerprints: Fingerprints,
        before: Option<&Rules>,
    ) -> Result<Rules, RulesError> {
        let pool = before.map_or_else(|| upstream::pool(None), |rules| Arc::clone(&rules.pool));
        let mut ways: Vec<Arc<Way>> = Vec::with_capacity(config.providers.len());
        for provider in &config.providers {
            let own = ways.len();
            for mount in std::iter::once(None).chain(provider.mounts.iter().copied().map(Some)) {
                let dialect = mount.map_or(provider.dialect.as_str(), |mount| mount.dialect);
                let Some(plugin) = plugins.get(dialect) else {
                    return Err(RulesError::NoDialect {
                        provider: provider.name.clone(),
                        dialect: dialect.to_owned(),
                    });
                };
                let spoken = Provider {
                    dialect: dialect.to_owned(),
                    ..provider.clone()
                };
                let kept = before.and_then(|rules| {
                    let mut ways = rules.ways.iter();
                    ways.find(|way| way.mount == mount && way.serves_alike(&spoken, plugin))
                });
                ways.push(match kept {
                    Some(way) => Arc::clone(way),
                    None => {
                        let beside = ways.get(own).map(Arc::as_ref);
                        Arc::new(Way::new(
                            spoken,
                            mount,
                            beside,
                            &pool,
                            plugin,
                            config.limits.json_depth_max,
                        )?)
                    }
                });
            }
        }
        ways.sort_by_key(|way| std::cmp::Reverse(way.provider.prefix.len()));
        Ok(Rules {
            progress: Bounds::of(&config),
            policies: Arc::new(policies),
            config,
            ways,
            prices,
            fingerprints,
            pool,
        })
    }

    /// The same with other policies.
    pub fn with_policies(&self, policies: PolicySet) -> Rules {
        Rules {
            config: Arc::clone(&self.config),
            policies: Arc::new(policies),
            ways: self.ways.clone(),
            prices: self.prices.clone(),
            fingerprints: self.fingerprints.clone(),
            progress: self.progress,
            pool: Arc::clone(&self.pool),
        }
    }
}

impl Way {
    /// Nothing that this way was made of has changed: its pool and breaker serve on.
    fn serves_alike(&self, provider: &Provider, plugin: &Plugin) -> bool {
        // A file's plugin may be another one under the same name: it is taken anew.
        self.provider == *provider && self.plugin.source == plugin.source && plugin.source == BUILT_IN
    }

    /// `beside` is another way of the same provider, whose pool and breaker this one shares.
    fn new(
        provider: Provider,
        mount: Option<&'static Mount>,
        beside: Option<&Way>,
        pool: &Arc<Connector>,
        plugin: &Arc<Plugin>,
        depth_max: u32,
    ) -> Result<Way, RulesError> {
        let reader = Reader::new(Arc::clone(&plugin.dialect), depth_max).map_err(|error| RulesError::BadDialect {
            provider: provider.name.clone(),
            dialect: provider.dialect.clone(),
            reason: error.to_string(),
        })?;
        let name: Name = provider.name.as_str().into();
        let (upstream, breaker) = match beside {
            Some(way) => (Arc::clone(&way.upstream), Arc::clone(&way.breaker)),
            None => {
                check_authorities(&provider)?;
                (Arc::new(Upstream::new(&provider, pool)), Arc::default())
            }
        };
        Ok(Way {
            reader: Arc::new(reader),
            upstream,
            breaker,
            stated_price: Row::stated(name.clone(), &provider.unpriced),
            provider,
            mount,
            plugin: Arc::clone(plugin),
            name,
        })
    }
}

/// The pool reads the file by its path, and would wait for one that never ends.
fn check_authorities(provider: &Provider) -> Result<(), RulesError> {
    let Some(path) = &provider.upstream.ca_file else {
        return Ok(());
    };
    let opened = files::open(path, files::TEXT_BYTES_MAX);
    opened.map(drop).map_err(|error| RulesError::Authorities {
        provider: provider.name.clone(),
        path: path.clone(),
        error,
    })
}

/// Makes fingerprints of keys: a keyed hash under a secret of this installation, so that a fingerprint can neither be
/// guessed back nor shared by two keys that look alike.
#[derive(Clone)]
pub struct Fingerprints(Secret<[u8; 32]>);

impl Fingerprints {
    pub fn new(secret: [u8; 32]) -> Fingerprints {
        Fingerprints(Secret::new(secret))
    }

    /// 24 hex characters; empty for no key.
    pub fn of(&self, key: &Secret<String>) -> String {
        if key.expose().is_empty() {
            return String::new();
        }
        let hash = blake3::keyed_hash(self.0.expose(), key.expose().as_bytes());
        hash.to_hex().chars().take(24).collect()
    }
}

/// The running gateway.
pub struct Gateway {
    pub rules: ArcSwap<Rules>,
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
    pub estimator: Arc<Estimator>,
    pub clock: Arc<dyn Clock>,
    pub drain: Arc<Drain>,
    pub bodies: Arc<BodyBudget>,
    /// Holds that wait for results to be fetched.
    pub awaited: Awaited,
    /// What the sessions did lately.
    pub progress: Arc<Progress>,
    /// The control plane's socket, to which `/rpc`, `/metrics` and the dashboard are handed over.
    pub control: PathBuf,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn fingerprints_tell_keys_with_the_same_ends_apart() {
        let of = |key: &str| Fingerprints::new([7; 32]).of(&Secret::new(key.to_owned()));
        assert_ne!(of("sk-proj-aaaaaaaaaaaaaaaa1234"), of("sk-proj-bbbbbbbbbbbbbbbb1234"));
        assert_eq!(of("sk-1").len(), 24);
        assert_eq!(of(""), "");
        assert_ne!(
            Fingerprints::new([8; 32]).of(&Secret::new("sk-1".to_owned())),
            of("sk-1")
        );
    }
}
