//! Everything that a change of configuration changes: the endpoints of the providers, prices, fingerprints.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use agentledger_ledger::Name;
use pingora::connectors::http::v2::Connector;

use crate::config::{Config, McpServer, Mount, OutputLimit, Paths, Provider, Retries, UnknownRoutes};
use crate::files;
use crate::meter::AnswerReader;
use crate::plugin::{Plugin, Plugins, ToolPricers};
use crate::policy::PolicySet;
use crate::price::Unpriced;
use crate::price::{PriceBook, Row};
use crate::proxy::forward::breaker::Breaker;
use crate::proxy::forward::pool::{self, Upstream};
use crate::proxy::session::progress::Bounds;
use crate::proxy::shared::json_rpc::{JsonRpc, MCP};
use crate::secret::Secret;

/// Further attempts to connect to an MCP server.
const CONNECT_RETRIES: u32 = 2;
/// The source of plugins that the gateway brings with it.
const BUILT_IN: &str = "built-in";

/// One dialect of a provider, ready to be used: the compiled shapes of what is read, the provider's pool and breaker.
pub struct ProviderEndpoint {
    /// The provider; its dialect is this way's.
    pub provider: Provider,
    /// Where another dialect than the provider's own is spoken.
    pub mount: Option<&'static Mount>,
    pub name: Name,
    pub plugin: Arc<Plugin>,
    pub reader: Arc<AnswerReader>,
    pub upstream: Arc<Upstream>,
    pub breaker: Arc<Breaker>,
    /// What the config says a model without a row costs here.
    pub stated_price: Option<Row>,
}

/// An MCP server, ready to be called. Its endpoint's provider is named after it; in the books all of them are `mcp`.
pub struct ToolServer {
    pub config: McpServer,
    pub name: Name,
    pub endpoint: Arc<ProviderEndpoint>,
}

/// Everything that a change of configuration changes, policies included: a request decides with the pair it started with.
pub struct Rules {
    pub config: Arc<Config>,
    pub policies: Arc<PolicySet>,
    /// By which the journal knows what is in force; 0: it does not.
    pub recorded: u64,
    /// Requests may say whose they are, by header: tenants are on, by the file or by a rule put since.
    pub reads_claims: bool,
    /// Longest prefix first; a provider's own dialect before those of its mounts.
    pub endpoints: Vec<Arc<ProviderEndpoint>>,
    pub tool_servers: Vec<Arc<ToolServer>>,
    /// What stands for the servers that clients start themselves: nothing is sent to it.
    pub wrapped: Arc<ProviderEndpoint>,
    /// What their tools cost.
    pub tool_pricers: Arc<ToolPricers>,
    pub prices: PriceBook,
    /// Providers that an operator has switched off: they stay configured, and serve nobody.
    pub disabled: Arc<BTreeSet<String>>,
    pub fingerprints: Fingerprints,
    /// How far back a session's steps are looked at.
    pub progress: Bounds,
    /// Connects to all upstreams but those that have authorities of their own.
    pub connector: Arc<Connector>,
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
    /// The names that the operator gave keys, by their fingerprints.
    pub fn aliases(&self) -> impl Fn(&str) -> Option<String> {
        |fingerprint| self.config.alias_of(fingerprint).map(str::to_owned)
    }

    /// `before` lends its pools and breakers to providers that did not change.
    ///
    /// # Errors
    /// A provider whose dialect no plugin reads, or whose plugin declares paths that cannot be compiled.
    pub fn new(
        config: Arc<Config>,
        plugins: &Plugins,
        tool_pricers: &Arc<ToolPricers>,
        prices: PriceBook,
        policies: PolicySet,
        fingerprints: Fingerprints,
        before: Option<&Rules>,
    ) -> Result<Rules, RulesError> {
        let connector = before.map_or_else(|| pool::connector(None), |rules| Arc::clone(&rules.connector));
        let mut endpoints: Vec<Arc<ProviderEndpoint>> = Vec::with_capacity(config.providers.len());
        for provider in &config.providers {
            let own = endpoints.len();
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
                    let mut endpoints = rules.endpoints.iter();
                    endpoints.find(|endpoint| endpoint.mount == mount && endpoint.serves_alike(&spoken, plugin))
                });
                endpoints.push(match kept {
                    Some(endpoint) => Arc::clone(endpoint),
                    None => {
                        let beside = endpoints.get(own).map(Arc::as_ref);
                        Arc::new(ProviderEndpoint::new(
                            spoken,
                            mount,
                            beside,
                            &connector,
                            plugin,
                            config.limits.json_depth_max,
                        )?)
                    }
                });
            }
        }
        endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.provider.prefix.len()));
        Ok(Rules {
            tool_servers: tool_servers(&config, &connector, before)?,
            wrapped: wrapped(&config, &connector)?,
            tool_pricers: Arc::clone(tool_pricers),
            progress: Bounds::of(&config),
            recorded: before.map_or(0, |rules| rules.recorded),
            reads_claims: reads_claims(&config, &policies),
            policies: Arc::new(policies),
            config,
            endpoints,
            prices,
            disabled: before.map(|rules| Arc::clone(&rules.disabled)).unwrap_or_default(),
            fingerprints,
            connector,
        })
    }

    /// The ways of one provider, its own dialect first.
    pub fn endpoints_of(&self, provider: &str) -> impl Iterator<Item = &Arc<ProviderEndpoint>> {
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| endpoint.provider.name == provider)
    }

    /// The same, with the id under which the journal has what is in force.
    pub fn recorded_as(self, recorded: u64) -> Rules {
        Rules { recorded, ..self }
    }

    /// The same with other policies.
    pub fn with_policies(&self, policies: PolicySet) -> Rules {
        Rules {
            reads_claims: reads_claims(&self.config, &policies),
            policies: Arc::new(policies),
            ..self.again()
        }
    }

    /// The same with other prices.
    pub fn with_prices(&self, prices: PriceBook) -> Rules {
        Rules { prices, ..self.again() }
    }

    /// The same with other providers switched off.
    pub fn with_disabled(&self, disabled: Arc<BTreeSet<String>>) -> Rules {
        Rules {
            disabled,
            ..self.again()
        }
    }

    fn again(&self) -> Rules {
        Rules {
            config: Arc::clone(&self.config),
            policies: Arc::clone(&self.policies),
            reads_claims: self.reads_claims,
            endpoints: self.endpoints.clone(),
            tool_servers: self.tool_servers.clone(),
            wrapped: Arc::clone(&self.wrapped),
            tool_pricers: Arc::clone(&self.tool_pricers),
            prices: self.prices.clone(),
            disabled: Arc::clone(&self.disabled),
            fingerprints: self.fingerprints.clone(),
            progress: self.progress,
            recorded: self.recorded,
            connector: Arc::clone(&self.connector),
        }
    }
}

impl ProviderEndpoint {
    /// Nothing that this way was made of has changed: its pool and breaker serve on.
    fn serves_alike(&self, provider: &Provider, plugin: &Plugin) -> bool {
        // A file's plugin may be another one under the same name: it is taken anew.
        self.provider == *provider && self.plugin.source == plugin.source && plugin.source == BUILT_IN
    }

    /// `beside` is another way of the same provider, whose pool and breaker this one shares.
    fn new(
        provider: Provider,
        mount: Option<&'static Mount>,
        beside: Option<&ProviderEndpoint>,
        connector: &Arc<Connector>,
        plugin: &Arc<Plugin>,
        depth_max: u32,
    ) -> Result<ProviderEndpoint, RulesError> {
        let reader =
            AnswerReader::new(Arc::clone(&plugin.dialect), depth_max).map_err(|error| RulesError::BadDialect {
                provider: provider.name.clone(),
                dialect: provider.dialect.clone(),
                reason: error.to_string(),
            })?;
        let name: Name = provider.name.as_str().into();
        let (upstream, breaker) = match beside {
            Some(endpoint) => (Arc::clone(&endpoint.upstream), Arc::clone(&endpoint.breaker)),
            None => {
                check_authorities(&provider)?;
                (Arc::new(Upstream::new(&provider, connector)), Arc::default())
            }
        };
        Ok(ProviderEndpoint {
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

/// The MCP servers; those that did not change keep their pools and breakers.
fn tool_servers(
    config: &Config,
    connector: &Arc<Connector>,
    before: Option<&Rules>,
) -> Result<Vec<Arc<ToolServer>>, RulesError> {
    let made = |server: &McpServer| {
        let kept = before.and_then(|rules| rules.tool_servers.iter().find(|kept| kept.config == *server));
        if let Some(kept) = kept {
            return Ok(Arc::clone(kept));
        }
        let mut endpoint = mcp_endpoint(provider_of(server), config, connector)?;
        let upstream = Upstream::new(&endpoint.provider, connector);
        endpoint.upstream = Arc::new(upstream.public_only(!server.allow_private));
        Ok(Arc::new(ToolServer {
            config: server.clone(),
            name: server.name.as_str().into(),
            endpoint: Arc::new(endpoint),
        }))
    };
    config.mcp.servers.iter().map(made).collect()
}

fn mcp_endpoint(
    provider: Provider,
    config: &Config,
    connector: &Arc<Connector>,
) -> Result<ProviderEndpoint, RulesError> {
    let plugin = JsonRpc::plugin().map_err(|error| RulesError::BadDialect {
        provider: provider.name.clone(),
        dialect: MCP.to_owned(),
        reason: error.to_string(),
    })?;
    let depth_max = config.limits.json_depth_max;
    let mut endpoint = ProviderEndpoint::new(provider, None, None, connector, &plugin, depth_max)?;
    endpoint.name = MCP.into();
    Ok(endpoint)
}

fn wrapped(config: &Config, connector: &Arc<Connector>) -> Result<Arc<ProviderEndpoint>, RulesError> {
    mcp_endpoint(provider_of(&McpServer::nowhere()), config, connector).map(Arc::new)
}

/// An MCP server as the steps of the proxy know whom they call.
fn provider_of(server: &McpServer) -> Provider {
    Provider {
        name: format!("{MCP}/{}", server.name),
        dialect: MCP.to_owned(),
        mounts: Vec::new(),
        key_in_query: false,
        prefix: format!("/{MCP}/{}", server.name),
        upstream: server.upstream.clone(),
        inject_usage: false,
        output_limit: OutputLimit::MaxCompletionTokens,
        websocket: false,
        unknown_routes: UnknownRoutes::Refuse,
        vendor: String::new(),
        book: MCP.to_owned(),
        unpriced: Unpriced::Free,
        timeouts: server.timeouts.clone(),
        retries: Retries {
            connect: CONNECT_RETRIES,
            statuses: Vec::new(),
        },
        paths: Paths::Plain,
        deployments: std::collections::BTreeMap::new(),
        aws: None,
        client_keys: server.client_keys.clone(),
    }
}

/// Whether tenants are on: as the policy's conf says with all rules in it, else as the file does.
fn reads_claims(config: &Config, policies: &PolicySet) -> bool {
    let enabled = policies
        .policy("tenant")
        .and_then(|policy| policy.conf.get("enabled")?.as_bool());
    enabled.unwrap_or(config.tenants_enabled)
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

/// The fingerprint that the original AgentLedger gave this key: of its first eight and last four bytes, so that other keys may
/// have it, too. For what is imported from there, and answers in its forms; nothing new is named by it.
pub fn legacy_fingerprint(key: &Secret<String>) -> String {
    let key = key.expose().as_bytes();
    if key.is_empty() {
        return String::new();
    }
    let ends = match (key.first_chunk::<8>(), key.last_chunk::<4>()) {
        (Some(first), Some(last)) if key.len() >= 12 => [&first[..], &last[..]].concat(),
        _ => key.to_vec(),
    };
    let hash = ring::digest::digest(&ring::digest::SHA256, &ends);
    hash.as_ref()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_originals_fingerprint_is_of_both_ends_of_the_key() {
        let of = |key: &str| legacy_fingerprint(&Secret::new(key.to_owned()));
        // By `printf %s sk-proj-wxyz | sha256sum`, and so on.
        assert_eq!(of("sk-proj-abcdefghijklmnopqrstuvwxyz"), "9f9b14fa928b978e7c64b31f");
        assert_eq!(of("sk-proj-abcdefghijklmnopqrstuvwxyz"), of("sk-proj-0123456789wxyz"));
        assert_eq!(of("short"), "f9b0078b5df596d2ea19010c");
        assert_eq!(of(""), "");
    }

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
