//! The documents of the journal that say what is in force beside the files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentledger_ledger::Document;
use serde_json::Value;
use ulid::Ulid;

use super::prices::PriceRow;
use super::{PolicyBook, Rule, RuleBook};

/// How the subjects of documents begin.
pub const RULE: &str = "rule:";
pub const PRICE: &str = "price:";
pub const PROVIDER: &str = "provider:";

/// What the documents say. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub rules: Arc<RuleBook>,
    /// By what stands behind `price:` in their subjects.
    pub prices: Arc<BTreeMap<String, PriceRow>>,
    /// Providers that are switched off.
    pub disabled: Arc<BTreeSet<String>>,
    pub policies: Arc<PolicyBook>,
}

/// Reads all documents; `of` gives those whose subjects begin so.
///
/// # Errors
/// A document that cannot be read, by its subject.
pub fn documents_of(of: &dyn Fn(&str) -> Vec<Document>) -> Result<Parts, String> {
    let (mut rules, mut prices, mut disabled) = (RuleBook::default(), BTreeMap::new(), BTreeSet::new());
    for document in of(RULE) {
        let unread = |error: &str| format!("{}: {error}", document.subject);
        let id = document
            .subject
            .strip_prefix(RULE)
            .and_then(|id| Ulid::from_string(id).ok());
        let id = id.ok_or_else(|| unread("is no id"))?;
        let rule = Rule::read(id, &document).map_err(|error| unread(&error))?;
        rules.insert(Arc::new(rule));
    }
    for document in of(PRICE) {
        let row = PriceRow::read(&document.value).map_err(|error| format!("{}: {error}", document.subject))?;
        let name = document.subject.strip_prefix(PRICE).unwrap_or_default();
        prices.insert(name.to_owned(), row);
    }
    for document in of(PROVIDER) {
        let value: Value = serde_json::from_str(&document.value).unwrap_or_default();
        if value.get("enabled") == Some(&Value::Bool(false)) {
            disabled.extend(document.subject.strip_prefix(PROVIDER).map(str::to_owned));
        }
    }
    Ok(Parts {
        rules: Arc::new(rules),
        prices: Arc::new(prices),
        disabled: Arc::new(disabled),
        policies: Arc::new(PolicyBook::read(of)),
    })
}
