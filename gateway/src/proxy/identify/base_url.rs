//! What is wrong with the base URL that a client was given, where that can be told: clients differ in what they add to it.

use super::{Sharing, dialect_of, find_route};
use crate::proxy::shared::rules::Rules;

/// What some clients need, and others add by themselves.
const VERSION: &str = "/v1";
/// What paths end in that clients of a dialect add whole; a base URL that has it already has it twice.
const OPERATIONS: [&str; 5] = [
    "/chat/completions",
    "/responses",
    "/messages",
    "/embeddings",
    "/completions",
];

/// A sentence to follow the refusal; empty where nothing better is known.
pub fn advice(rules: &Rules, sharing: &Sharing<'_, '_>, path: &str, method: &str) -> String {
    let is_served = |change: &dyn Fn(&str) -> Option<String>| {
        sharing.iter().any(|(endpoint, rest)| {
            change(rest).is_some_and(|path| find_route(&[(*endpoint, path.as_str())], method).is_some())
        })
    };
    let undoubled = |rest: &str| {
        rest.strip_prefix(VERSION)?
            .strip_prefix("/v1/")
            .map(|rest| format!("/v1/{rest}"))
    };
    if is_served(&undoubled) {
        return ": the client adds /v1 itself, leave it out of its base URL".to_owned();
    }
    if is_served(&|rest| Some(format!("{VERSION}{rest}")).filter(|_| !rest.starts_with("/v1/"))) {
        return ": the base URL needs /v1 at its end".to_owned();
    }
    let ended = |text: &str| OPERATIONS.iter().find(|operation| text.ends_with(*operation));
    // Some clients add the version with it.
    let added = ended(path).map(|operation| match path.strip_suffix(operation) {
        Some(before) if before.ends_with(VERSION) => format!("{VERSION}{operation}"),
        _ => (*operation).to_owned(),
    });
    let without_added = |rest: &str| {
        let before = rest.strip_suffix(added.as_deref()?)?;
        ended(before).map(|_| before.to_owned())
    };
    if is_served(&without_added) {
        let added = added.as_deref().unwrap_or_default();
        return format!(": the client adds {added} itself, let its base URL end before it");
    }
    other_prefix(rules, path, method)
}

/// The path is one that is served elsewhere: behind a provider's prefix, or not behind this one.
fn other_prefix(rules: &Rules, path: &str, method: &str) -> String {
    // A provider that is served at the root has no prefix to leave out or to add.
    let prefixed = rules
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.provider.prefix.is_empty());
    for endpoint in prefixed {
        let provider = &endpoint.provider;
        if endpoint.mount.is_none() && find_route(&[(endpoint, path)], method).is_some() && !is_shared(rules, provider)
        {
            return format!(
                ": {} is served at {}, its base URL ends so",
                provider.name, provider.prefix
            );
        }
    }
    // `/anthropic/v1/messages`: the name of a provider that is served at the root.
    for endpoint in rules
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.provider.prefix.is_empty())
    {
        let provider = &endpoint.provider;
        let rest = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(provider.name.as_str()))
            .filter(|rest| rest.starts_with('/'));
        if rest.is_some_and(|rest| find_route(&[(endpoint, rest)], method).is_some()) {
            return format!(
                ": {} is served without a prefix, leave /{0} out of the base URL",
                provider.name
            );
        }
    }
    match dialect_of(path) {
        Some(dialect) if !rules.config.speaks(dialect) => {
            format!(": this is a path of {dialect}, and no provider that speaks it is enabled here")
        }
        _ => String::new(),
    }
}

/// Several providers speak its dialect: whose client this is cannot be told by the path.
fn is_shared(rules: &Rules, provider: &crate::config::Provider) -> bool {
    let speaking = rules
        .config
        .providers
        .iter()
        .filter(|other| other.dialect == provider.dialect);
    speaking.count() > 1
}
