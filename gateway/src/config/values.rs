//! Every value of the configuration with where it came from: for people who ask why the gateway does what it does. Secrets
//! never get in here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::Place;
use super::node::{self, Node};
use super::schema::{self, Key, Shape};

/// What a secret is shown as.
const REDACTED: &str = "***";
/// Keys whose values are secrets, wherever they stand.
const SECRETS: [&str; 11] = [
    "bearer",
    "token",
    "secret",
    "password",
    "webhook_url",
    "url",
    "headers",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "client_keys",
];
/// Parts of names that policies' own conf and unknown keys give to secrets.
const SECRET_PARTS: [&str; 6] = ["key", "token", "secret", "password", "credential", "url"];

/// What was read of a configuration.
#[derive(Clone, Default)]
pub struct Given {
    /// `None` where no file was read.
    pub file: Option<PathBuf>,
    /// By path.
    pub values: Arc<[Value]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Dotted; items of a list as `control.tokens[0].role`.
    pub path: String,
    /// As it was written; a secret is `***`.
    pub text: String,
    /// `default`, `FILE:LINE` or `environment NAME`.
    pub source: String,
}

/// The tree's values over the defaults that were taken where it has none.
pub fn collect(root: &Node, defaults: BTreeMap<String, String>, file: &str) -> Arc<[Value]> {
    let mut values = BTreeMap::new();
    for (path, text) in defaults {
        let source = "default".to_owned();
        values.insert(path.clone(), Value { path, text, source });
    }
    let mut found = Vec::new();
    section(root, Some(schema::ROOT), "", &mut found);
    for (path, text, place) in found {
        let source = match place {
            Place::Absent => "default".to_owned(),
            Place::File { line, .. } => format!("{file}:{line}"),
            Place::Env(name) => format!("environment {name}"),
        };
        values.insert(path.clone(), Value { path, text, source });
    }
    values.into_values().collect()
}

type Found = Vec<(String, String, Place)>;

/// `keys` are those that may be here; none where any may.
fn section(node: &Node, keys: Option<&'static [Key]>, path: &str, out: &mut Found) {
    for pair in node.pairs() {
        let name = pair.name.to_ascii_lowercase();
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let shape = keys.map(|keys| schema::find(keys, &name).map(|key| key.shape));
        // Nobody knows what an unknown key holds: a misspelt token is one.
        let hide = SECRETS.contains(&name.as_str()) || shape == Some(None);
        within(&pair.node, shape.flatten(), &path, hide, out);
    }
}

fn within(node: &Node, shape: Option<Shape>, path: &str, hide: bool, out: &mut Found) {
    match &node.value {
        node::Value::Null => {}
        node::Value::Scalar { text, .. } => {
            let free = matches!(shape, None | Some(Shape::NamedAny));
            let text = match hide || is_secret(path, text, free) {
                true => REDACTED,
                false => text.trim(),
            };
            out.push((path.to_owned(), text.to_owned(), node.place.clone()));
        }
        node::Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                within(item, shape, &format!("{path}[{index}]"), hide, out);
            }
        }
        node::Value::Map(_) if hide => {
            for pair in node.pairs() {
                within(&pair.node, None, &format!("{path}.{}", pair.name), true, out);
            }
        }
        node::Value::Map(_) => match shape {
            Some(Shape::Section(keys) | Shape::LeafOrSection(keys) | Shape::Rows(keys) | Shape::LeavesOrRows(keys)) => {
                section(node, Some(keys), path, out);
            }
            Some(Shape::NamedSections(keys)) => {
                for pair in node.pairs() {
                    section(&pair.node, Some(keys), &format!("{path}.{}", pair.name), out);
                }
            }
            Some(Shape::NamedLeaves) => {
                for pair in node.pairs() {
                    within(
                        &pair.node,
                        Some(Shape::Leaf),
                        &format!("{path}.{}", pair.name),
                        false,
                        out,
                    );
                }
            }
            _ => section(node, None, path, out),
        },
    }
}

/// Whether a value is a secret by what it is: a whole key as a pattern, a token alone in the list of tokens, what a policy's own
/// conf calls one, a password in an address.
fn is_secret(path: &str, text: &str, free: bool) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path);
    let is_glob = text.contains(['*', '?', '[']);
    if name.starts_with("api_key_pattern") {
        return !is_glob && !text.trim().is_empty();
    }
    let is_named_so = || SECRET_PARTS.iter().any(|part| path.to_ascii_lowercase().contains(part));
    let has_password = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    path.starts_with("control.tokens[") && path.ends_with(']')
        || has_password
        || free && !is_glob && (is_named_so() || text.contains("sk-"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::{Env, Known, load_text};
    use super::*;

    fn values(yaml: &str, env: &[(&str, &str)]) -> Vec<Value> {
        let env = Env::of(env.iter().copied());
        let file = std::path::Path::new("x.yaml");
        let config = load_text(Some(file), yaml, &env, &Known::built_in()).unwrap();
        config.given.values.to_vec()
    }

    fn of<'v>(values: &'v [Value], path: &str) -> (&'v str, &'v str) {
        let found = values.iter().find(|value| value.path == path);
        let found = found.unwrap_or_else(|| panic!("no {path} in {values:#?}"));
        (&found.text, &found.source)
    }

    #[test]
    fn each_value_says_where_it_came_from() {
        let yaml = "listen: 127.0.0.1:1\nhold:\n  size: expected\nlimits: {tags_max: 7}\n";
        let values = values(yaml, &[("AGENTLEDGER_LIMITS_TAGS_MAX", "9")]);
        assert_eq!(of(&values, "listen"), ("127.0.0.1:1", "x.yaml:1"));
        assert_eq!(of(&values, "hold.size"), ("expected", "x.yaml:3"));
        assert_eq!(
            of(&values, "limits.tags_max"),
            ("9", "environment AGENTLEDGER_LIMITS_TAGS_MAX")
        );
        assert_eq!(of(&values, "control.public_read"), ("true", "default"));
        assert_eq!(of(&values, "hold.unnamed_output"), ("expected", "default"));
        assert_eq!(of(&values, "limits.body_bytes_max"), ("33554432", "default"));
        assert_eq!(of(&values, "storage.dsn"), ("data/agentledger", "default"));
    }

    #[test]
    fn secrets_are_not_shown_wherever_they_stand() {
        let yaml = "admin: {enabled: true, token: canary-1}\n\
            control:\n  tokens: [canary-2, {name: a, token: canary-3}, {name: b, token_env: OURS}]\n\
            alerts: {slack: {webhook_url: 'https://h/canary-4'}, webhooks: [{url: 'https://h/canary-5', headers: {x: canary-6}}]}\n\
            budgets: {rules: [{api_key_pattern: canary-7, daily_limit_usd: 1}, {api_key_pattern: 'sk-dev-*', daily_limit_usd: 1}]}\n\
            fingerprint: {secret: canary-8-canary-8-canary-8-canary-8}\n\
            tokne: canary-9\n\
            policies: {conf: {mine: {api_token: canary-10, people: [sk-canary-11], size: 3}}}\n";
        let values = values(yaml, &[("OURS", "canary-12")]);
        assert!(values.iter().all(|value| !value.text.contains("canary")), "{values:#?}");
        assert_eq!(of(&values, "budgets.rules[1].api_key_pattern").0, "sk-dev-*");
        assert_eq!(of(&values, "policies.conf.mine.size").0, "3");
        assert_eq!(of(&values, "control.tokens[2].token"), ("***", "environment OURS"));
        assert_eq!(of(&values, "control.tokens[1].name").0, "a");
    }
}
