//! What all requests share: the rules of the moment (swapped whole on reload) and the parts that outlive them.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::Ledger;
use agentledger_ledger::clock::Clock;
use arc_swap::ArcSwap;

use crate::config::{Config, Provider};
use crate::meter::price::PriceBook;
use crate::meter::{Estimator, Reader};
use crate::plugin::outline::Shape;
use crate::plugin::{Dialect, Plugins, RouteTable};
use crate::policy::Engine;
use crate::proxy::breaker::Breaker;
use crate::proxy::drain::Drain;
use crate::proxy::guard::BodyBudget;
use crate::proxy::upstream::Upstream;
use crate::secret::Secret;
use crate::telemetry::Metrics;

/// One provider, ready to be used: its dialect, the compiled shapes of what is read, its pool and its breaker.
pub struct Way {
    pub provider: Provider,
    pub name: agentledger_ledger::Name,
    pub dialect: Arc<dyn Dialect>,
    pub routes: RouteTable,
    pub request_shape: Shape,
    pub reader: Arc<Reader>,
    pub upstream: Upstream,
    pub breaker: Breaker,
}

/// Everything that a change of configuration changes. A request keeps the rules it started with.
pub struct Rules {
    pub config: Arc<Config>,
    /// Longest prefix first.
    pub ways: Vec<Arc<Way>>,
    pub prices: PriceBook,
    pub fingerprints: Fingerprints,
}

/// Why rules could not be made of a configuration; the old ones stay.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("provider {provider}: no plugin for dialect {dialect}")]
    NoDialect { provider: String, dialect: String },
    #[error("provider {provider}: plugin {dialect}: {reason}")]
    BadDialect { provider: String, dialect: String, reason: String },
}

impl Rules {
    /// `before` lends its pools and breakers to providers that did not change.
    pub fn new(
        config: Arc<Config>,
        plugins: &Plugins,
        prices: PriceBook,
        fingerprints: Fingerprints,
        before: Option<&Rules>,
    ) -> Result<Rules, RulesError> {
        let mut ways = Vec::with_capacity(config.providers.len());
        for provider in &config.providers {
            let Some(dialect) = plugins.get(&provider.dialect) else {
                return Err(RulesError::NoDialect {
                    provider: provider.name.clone(),
                    dialect: provider.dialect.clone(),
                });
            };
            let kept = before.and_then(|rules| {
                rules
                    .ways
                    .iter()
                    .find(|way| Arc::ptr_eq(&way.dialect, &dialect) && way.provider == *provider)
            });
            ways.push(match kept {
                Some(way) => Arc::clone(way),
                None => Arc::new(Way::new(provider, dialect)?),
            });
        }
        ways.sort_by_key(|way| std::cmp::Reverse(way.provider.prefix.len()));
        Ok(Rules { config, ways, prices, fingerprints })
    }
}

impl Way {
    fn new(provider: &Provider, dialect: Arc<dyn Dialect>) -> Result<Way, RulesError> {
        let bad = |reason: String| RulesError::BadDialect {
            provider: provider.name.clone(),
            dialect: provider.dialect.clone(),
            reason,
        };
        let info = dialect.info();
        Ok(Way {
            name: provider.name.as_str().into(),
            routes: RouteTable::compile(&info.routes).map_err(|error| bad(error.to_string()))?,
            request_shape: Shape::compile(&info.request_paths, &info.request_media, &[])
                .map_err(|error| bad(error.to_string()))?,
            reader: Arc::new(Reader::new(Arc::clone(&dialect)).map_err(|error| bad(error.to_string()))?),
            upstream: Upstream::new(provider),
            breaker: Breaker::default(),
            provider: provider.clone(),
            dialect,
        })
    }
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
    pub policies: Engine,
    pub ledger: Arc<Ledger>,
    pub metrics: Arc<Metrics>,
    pub estimator: Arc<Estimator>,
    pub clock: Arc<dyn Clock>,
    pub drain: Arc<Drain>,
    pub bodies: Arc<BodyBudget>,
    /// The control plane's socket, to which `/rpc`, `/metrics` and the dashboard are handed over.
    pub control_socket: std::path::PathBuf,
}

impl Gateway {
    /// State of every provider's breaker, by the provider's name.
    pub fn breakers(&self) -> BTreeMap<String, &'static str> {
        let now_ms = self.clock.now_ms();
        let rules = self.rules.load();
        rules.ways.iter().map(|way| (way.provider.name.clone(), way.breaker.state(now_ms).name())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_keys_with_the_same_ends_apart() {
        let of = |key: &str| Fingerprints::new([7; 32]).of(&Secret::new(key.to_owned()));
        assert_ne!(of("sk-proj-aaaaaaaaaaaaaaaa1234"), of("sk-proj-bbbbbbbbbbbbbbbb1234"));
        assert_eq!(of("sk-1").len(), 24);
        assert_eq!(of(""), "");
        assert_ne!(Fingerprints::new([8; 32]).of(&Secret::new("sk-1".to_owned())), of("sk-1"));
    }
}
