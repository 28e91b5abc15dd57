//! Accounts as policies name them: whole (`agent:coder`, `global`), or by their kind alone (`agent`, `tag:team`), which is
//! the account of that kind that the call at hand belongs to.

use agentledger_ledger::Name;

/// The kinds of accounts, as in the design's table of nouns; `global` stands alone.
const ACCOUNT_KINDS: [&str; 9] = [
    "key", "tenant", "user", "agent", "session", "task", "model", "provider", "tag",
];
/// Longest account name in bytes. Those that clients name are shorter by `limits.identity_bytes_max`.
const ACCOUNT_BYTES_MAX: usize = 512;
/// The name of what cannot be told apart: a name too long for an account, or not fit to be shown.
const OTHER: &str = "other";

/// Kinds of which a call has one account each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Key,
    Tenant,
    User,
    Agent,
    Session,
    Task,
    Model,
    Provider,
}

impl Own {
    pub const COUNT: usize = 8;
    pub const ALL: [(Own, &str); Own::COUNT] = [
        (Own::Key, "key"),
        (Own::Tenant, "tenant"),
        (Own::User, "user"),
        (Own::Agent, "agent"),
        (Own::Session, "session"),
        (Own::Task, "task"),
        (Own::Model, "model"),
        (Own::Provider, "provider"),
    ];

    pub fn from_word(word: &str) -> Option<Own> {
        Own::ALL.iter().find(|(_, known)| *known == word).map(|(own, _)| *own)
    }

    pub const fn place(self) -> usize {
        self as usize
    }
}

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
            "must be global, or a kind ({}) alone or with a name: KIND:NAME",
            ACCOUNT_KINDS.join(", ")
        ))
    }
}

/// The account of a kind and a name that the client chose. It can always be made: what does not fit is `other`.
pub(super) fn account_of(kind: &str, name: &str) -> Name {
    let fits = kind.len() + 1 + name.len() <= ACCOUNT_BYTES_MAX && !name.chars().any(char::is_control);
    let name = if fits { name } else { OTHER };
    let mut account = String::with_capacity(kind.len() + 1 + name.len());
    account.push_str(kind);
    account.push(':');
    account.push_str(name);
    Name::from(account)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn names_are_checked_and_those_of_clients_always_fit() {
        for good in ["global", "agent:", "tag:team=ml", "key:0f", "model:a:b"] {
            assert_eq!(check_account(good), Ok(()), "{good}");
        }
        for bad in ["", "pet:rex", "globe", "agent:a\nb"] {
            assert!(check_account(bad).is_err(), "{bad}");
        }
        assert_eq!(&*account_of("agent", "coder"), "agent:coder");
        assert_eq!(&*account_of("model", &"m".repeat(600)), "model:other");
        assert_eq!(&*account_of("user", "a\u{0}b"), "user:other");
        for (own, word) in Own::ALL {
            assert_eq!(Own::from_word(word), Some(own));
            assert_eq!(Own::ALL[own.place()].1, word);
        }
    }
}
