//! Keys as people name them: whole fingerprints, their first digits as refusals show them, and the names of `keys.aliases`.
//! Whatever the form, methods go on with the fingerprint.

use std::collections::BTreeSet;

use agentledger_ledger::{Dimension, SummaryQuery};

use crate::config::is_fingerprint;
use crate::control::error::RpcError;
use crate::control::rpc::call::Caller;
use crate::control::state::ControlState;
use crate::runtime::Refused;

/// How accounts of keys begin.
const KEY_ACCOUNT: &str = "key:";
/// Fewer digits are no sign of a fingerprint.
const DIGITS_MIN: usize = 4;
/// Accounts of keys that are looked through.
const ACCOUNTS_MAX: usize = 100_000;

/// The fingerprint of a key that is named in any of its forms.
///
/// # Errors
/// `path` is the parameter: it names no key that is known, or several.
pub(in crate::control) fn fingerprint_of(
    state: &ControlState,
    caller: &Caller,
    path: &str,
    named: &str,
) -> Result<String, RpcError> {
    if is_fingerprint(named) {
        return Ok(named.to_owned());
    }
    let found = candidates(state, caller, named);
    match found.len() {
        1 => Ok(found.into_iter().next().unwrap_or_default()),
        0 => Err(Refused::unfit(
            path,
            format!("names no key that is known: {named:?}; give its alias, or its fingerprint as key.list has it"),
        )
        .into()),
        _ => {
            let all: Vec<String> = found.into_iter().collect();
            Err(Refused::unfit(path, format!("names several keys: {}", all.join(", "))).into())
        }
    }
}

/// An account, where it is a key's with its fingerprint. A pattern over fingerprints stays.
///
/// # Errors
/// As [`fingerprint_of`].
pub(in crate::control) fn account_of(
    state: &ControlState,
    caller: &Caller,
    path: &str,
    account: &str,
) -> Result<String, RpcError> {
    match account.strip_prefix(KEY_ACCOUNT) {
        Some(named) if !named.is_empty() && !named.contains(['*', '?', '[', '\\']) => {
            fingerprint_of(state, caller, path, named).map(|fingerprint| format!("{KEY_ACCOUNT}{fingerprint}"))
        }
        _ => Ok(account.to_owned()),
    }
}

/// The beginning of accounts that a filter names: an alias in place of its key; all else begins so as it is.
pub(in crate::control) fn prefix_of(state: &ControlState, caller: &Caller, prefix: &str) -> String {
    let named = prefix.strip_prefix(KEY_ACCOUNT).filter(|named| !named.is_empty());
    let known = named.and_then(|named| fingerprint_of(state, caller, "account", named).ok());
    known.map_or_else(
        || prefix.to_owned(),
        |fingerprint| format!("{KEY_ACCOUNT}{fingerprint}"),
    )
}

/// The key that a filter names; one that is not known lets nothing pass, as it is.
pub(in crate::control) fn key_of(state: &ControlState, caller: &Caller, named: &str) -> String {
    if named.is_empty() {
        return String::new();
    }
    fingerprint_of(state, caller, "key", named).unwrap_or_else(|_| named.to_owned())
}

/// The fingerprints that may be meant, of those that the caller may know of. A name of an alias is meant before digits.
fn candidates(state: &ControlState, caller: &Caller, named: &str) -> BTreeSet<String> {
    let config = state.config.load();
    let of_alias = config.key_aliases.iter().filter(|(_, name)| *name == named);
    let of_alias: BTreeSet<String> = of_alias.map(|(fingerprint, _)| fingerprint.clone()).collect();
    let is_digits = named.len() >= DIGITS_MIN && named.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !of_alias.is_empty() || !is_digits {
        return of_alias;
    }
    let mut found = BTreeSet::new();
    let seen = state.ledger.summary(&SummaryQuery {
        from_ms: i64::MIN,
        to_ms: i64::MAX,
        by: Dimension::Key,
        tenant: caller.tenant.clone(),
    });
    found.extend(seen.into_iter().map(|row| row.key.to_string()));
    if caller.tenant.is_none() {
        found.extend(config.key_aliases.keys().cloned());
        // One that was only ever refused has an account, and no sums.
        let prefix = format!("{KEY_ACCOUNT}{named}");
        let page = state.ledger.balances_after(&prefix, None, ACCOUNTS_MAX);
        let accounts = page.rows.iter().filter_map(|row| row.account.strip_prefix(KEY_ACCOUNT));
        found.extend(accounts.map(str::to_owned));
    }
    found.retain(|fingerprint| fingerprint.starts_with(named) && is_fingerprint(fingerprint));
    found
}
