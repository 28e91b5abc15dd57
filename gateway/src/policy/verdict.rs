//! What policies ask for, checked and merged into one Verdict, which the rest of the gateway makes hold.

use agentledger_ledger::{Bound, Name, Unit, Window};

/// The merged outcome of all policies on one request.
///
/// Policies run by priority, lowest first, equal ones by name. The first `deny` ends the run: what later ones would have asked for
/// could not change the refusal. Everything else adds up: every bound must hold, the smallest clamp counts, and of two
/// headers of one name the later policy's stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub deny: Option<Deny>,
    /// At most one for each (account, window, zone, unit, mode): of several the strictest limit stays.
    pub bounds: Vec<AskedBound>,
    /// Most output tokens that the request may name; the host splices it in where the call named more or none.
    pub clamp: Option<u64>,
    /// Response headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// `name@version` of every policy that asked for anything, in the order in which they ran.
    pub spoke: Vec<Name>,
    /// What the policies read of the balances, for the record: a replay gives them the same values.
    pub reads: Vec<Read>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deny {
    /// `name@version` of the policy that denied.
    pub policy: Name,
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Stable word for programs: `model_not_allowed`.
    pub code: String,
    /// For people; goes to the client.
    pub message: String,
    /// Seconds; `None` says nothing about retrying.
    pub retry_after: Option<u32>,
}

/// A bound that a policy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedBound {
    /// Account, window, zone, limit and mode: hard (`action = "block"`) refuses, watch (`"warn"`) counts and warns.
    pub bound: Bound,
    /// Share of the limit from which a warning is due, in parts per million; 0 for none.
    pub soft_ppm: u32,
    /// `name@version` of the policy that asked.
    pub policy: Name,
}

/// One value that a policy read with `spent` or `held`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub account: Name,
    /// `None` for `held`, which knows no window.
    pub window: Option<Window>,
    pub unit: Unit,
    /// In nano-dollars, tokens or requests.
    pub value: i64,
}

/// The kinds of accounts, as in the design's table of nouns; `global` stands alone.
const ACCOUNT_KINDS: [&str; 9] = [
    "key", "tenant", "user", "agent", "session", "task", "model", "provider", "tag",
];
/// Longest account name in bytes. Those that clients name are shorter by `limits.identity_bytes_max`.
const ACCOUNT_BYTES_MAX: usize = 512;

/// Checks an account's name. The part after the colon may be empty: all requests that say no agent share `agent:`.
pub fn check_account(account: &str) -> Result<(), String> {
    if account.len() > ACCOUNT_BYTES_MAX {
        return Err(format!("is longer than {ACCOUNT_BYTES_MAX} bytes"));
    }
    if account.chars().any(char::is_control) {
        return Err("has control characters".to_owned());
    }
    let kind = account.split_once(':').map_or(account, |(kind, _)| kind);
    let known = if account.contains(':') {
        ACCOUNT_KINDS.contains(&kind)
    } else {
        account == "global"
    };
    if known {
        Ok(())
    } else {
        Err(format!(
            "must be global or one of {}:NAME",
            ACCOUNT_KINDS.join(":NAME, ")
        ))
    }
}

impl Verdict {
    /// Adds a bound; one on the same window instance and of the same mode leaves the stricter of the two.
    pub(super) fn add_bound(&mut self, bound: AskedBound) {
        let same = |known: &&mut AskedBound| {
            let (known, asked) = (&known.bound, &bound.bound);
            known.window() == asked.window()
                && known.unit() == asked.unit()
                && known.mode() == asked.mode()
                && known.account() == asked.account()
                && known.zone() == asked.zone()
        };
        match self.bounds.iter_mut().find(same) {
            Some(known) if known.bound.limit().count() <= bound.bound.limit().count() => {}
            Some(known) => *known = bound,
            None => self.bounds.push(bound),
        }
    }

    pub(super) fn add_clamp(&mut self, max_output: u64) {
        self.clamp = Some(self.clamp.map_or(max_output, |known| known.min(max_output)));
    }

    pub(super) fn add_header(&mut self, name: String, value: String) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
    }

    /// Whether any policy asked for anything.
    pub fn is_empty(&self) -> bool {
        self.spoke.is_empty()
    }
}
