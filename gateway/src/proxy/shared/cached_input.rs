//! Input that its provider's cache has: what the last call of a session left there, and the calls that were let through on the
//! strength of it.
//!
//! A provider that reads most of a prompt from its cache bills a tenth of the price for it, and says so only with the answer. A
//! call is held at the full price wherever that is left. Where it is not, and the last call of the same session shows that its
//! prompt lies in the cache, it may be held as it will be billed. Whoever sends another prompt than it seemed is billed more than is
//! held, so on each limit one such call runs at a time: what may come to it beyond the limit is one call's input, once.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use agentledger_ledger::{Kind, Ledger, Name, Usage};
use parking_lot::Mutex;

/// How long a prompt is taken to stay in its provider's cache after it was last used: a little less than the five minutes that
/// Anthropic keeps the shorter-lived ones (https://docs.claude.com/en/docs/build-with-claude/prompt-caching) and OpenAI all at least
/// (https://platform.openai.com/docs/guides/prompt-caching).
const KEPT_MS: i64 = 270_000;
/// Prompts that are remembered, some 60 bytes each; the half that was not used for longest goes.
const REMEMBERED: usize = 16_384;
/// What is added to the part of a prompt that is not expected in the cache, per cent: its tokens are estimated.
const MARGIN_PER_CENT: u64 = 25;
/// Tokens that a caller may add to a prompt beside its text.
const MARGIN_TOKENS: u64 = 256;

/// Whose prompt it is: a session's, of one tenant and key, to one model.
#[derive(Clone, Copy, Debug, Hash)]
pub struct PromptOf<'p> {
    pub tenant: &'p str,
    pub key: &'p str,
    pub session: &'p str,
    pub model: &'p str,
}

/// How a prompt was billed.
#[derive(Clone, Copy, Debug)]
struct Prompt {
    text_bytes: u64,
    /// With what was read from the cache and written to it.
    tokens: u64,
    /// Of them those that lie in the cache now.
    cached: u64,
    at_ms: i64,
}

/// What a prompt's tokens are expected to be billed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedTokens {
    pub read: u64,
    /// At the full price.
    pub fresh: u64,
}

/// The prompts that lie in caches, by the sessions whose they are.
#[derive(Default)]
pub struct CachedPrompts {
    hasher: RandomState,
    prompts: Mutex<HashMap<u64, Prompt>>,
}

/// The prompts that lie in caches, and the limits on which a call runs that relies on that.
pub struct CachedInput {
    pub prompts: CachedPrompts,
    ledger: Arc<Ledger>,
    relied_on: Mutex<HashSet<Name>>,
}

/// A call relies on its cache: no other on the same limits does, until this is dropped.
pub struct Reliance {
    of: Arc<CachedInput>,
    accounts: Vec<Name>,
}

impl CachedPrompts {
    /// A session's prompt with so much text was answered and billed.
    pub fn seen(&self, of: PromptOf<'_>, text_bytes: u64, billed: &Usage, now_ms: i64) {
        let cached = [Kind::CacheRead, Kind::CacheWrite5m, Kind::CacheWrite1h];
        let cached = cached.iter().map(|kind| billed.get(*kind)).sum();
        let prompt = Prompt {
            text_bytes,
            tokens: billed.input_tokens(),
            cached,
            at_ms: now_ms,
        };
        let place = self.hasher.hash_one(of);
        let mut prompts = self.prompts.lock();
        if prompts.len() >= REMEMBERED && !prompts.contains_key(&place) {
            let mut times: Vec<i64> = prompts.values().map(|prompt| prompt.at_ms).collect();
            let (_, middle, _) = times.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            prompts.retain(|_, prompt| prompt.at_ms > middle);
        }
        prompts.insert(place, prompt);
    }

    /// How a session's next prompt will be billed, of so much text and estimated at so many tokens. `None`: nothing says that it
    /// lies in a cache, as where it is shorter than the one before, which it would go on from.
    pub fn expected(&self, of: PromptOf<'_>, text_bytes: u64, tokens: u64, now_ms: i64) -> Option<CachedTokens> {
        let before = self.prompts.lock().get(&self.hasher.hash_one(of)).copied()?;
        let is_kept = now_ms.saturating_sub(before.at_ms) <= KEPT_MS;
        let grown_bytes = text_bytes.checked_sub(before.text_bytes)?;
        if !is_kept || before.cached == 0 || text_bytes == 0 {
            return None;
        }
        let share = u128::from(tokens) * u128::from(grown_bytes) / u128::from(text_bytes);
        let grown = u64::try_from(share).unwrap_or(u64::MAX);
        let fresh = before.tokens.saturating_sub(before.cached).saturating_add(grown);
        let margin = fresh.saturating_mul(MARGIN_PER_CENT) / 100;
        Some(CachedTokens {
            read: before.cached.min(before.tokens),
            fresh: fresh.saturating_add(margin).saturating_add(MARGIN_TOKENS),
        })
    }
}

impl CachedInput {
    pub fn new(ledger: &Arc<Ledger>) -> Arc<CachedInput> {
        Arc::new(CachedInput {
            prompts: CachedPrompts::default(),
            ledger: Arc::clone(ledger),
            relied_on: Mutex::default(),
        })
    }

    /// One call relies on its cache on all these limits.
    ///
    /// # Errors
    /// The account of a limit on which another one does. Who waits for it is notified when that one does no longer.
    pub fn rely(self: &Arc<CachedInput>, accounts: impl Iterator<Item = Name>) -> Result<Reliance, Name> {
        let accounts: Vec<Name> = accounts.collect();
        let mut relied_on = self.relied_on.lock();
        if let Some(busy) = accounts.iter().find(|account| relied_on.contains(*account)) {
            return Err(Name::clone(busy));
        }
        relied_on.extend(accounts.iter().cloned());
        Ok(Reliance {
            of: Arc::clone(self),
            accounts,
        })
    }
}

impl Drop for Reliance {
    fn drop(&mut self) {
        {
            let mut relied_on = self.of.relied_on.lock();
            for account in &self.accounts {
                relied_on.remove(account);
            }
        }
        for account in &self.accounts {
            self.of.ledger.freed(account).notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const CODER: PromptOf<'_> = PromptOf {
        tenant: "",
        key: "k",
        session: "s",
        model: "m",
    };

    fn billed(fresh: u64, read: u64, written: u64) -> Usage {
        let kinds = [
            (Kind::Input, fresh),
            (Kind::CacheRead, read),
            (Kind::CacheWrite5m, written),
        ];
        kinds.into_iter().collect()
    }

    #[test]
    fn a_conversation_that_goes_on_is_read_from_the_cache_up_to_where_it_was() {
        let prompts = CachedPrompts::default();
        assert_eq!(
            prompts.expected(CODER, 400_000, 100_000, 0),
            None,
            "nothing is known of it"
        );
        prompts.seen(CODER, 400_000, &billed(4, 0, 99_996), 1_000);
        let next = prompts.expected(CODER, 404_000, 101_000, 2_000).unwrap();
        assert_eq!((next.read, next.fresh), (99_996, 1_004 + 251 + MARGIN_TOKENS));
        let again = prompts.expected(CODER, 400_000, 100_000, 2_000).unwrap();
        assert_eq!((again.read, again.fresh), (99_996, 4 + 1 + MARGIN_TOKENS));
    }

    #[test]
    fn what_no_cache_has_is_not_relied_on() {
        let prompts = CachedPrompts::default();
        prompts.seen(CODER, 400_000, &billed(4, 0, 99_996), 1_000);
        let expected = |of, bytes, at_ms| prompts.expected(of, bytes, bytes / 4, at_ms);
        assert_eq!(expected(CODER, 399_999, 2_000), None, "another prompt");
        assert_eq!(expected(CODER, 404_000, 1_001 + KEPT_MS), None, "too long ago");
        for other in [
            PromptOf { session: "t", ..CODER },
            PromptOf { model: "n", ..CODER },
            PromptOf { key: "l", ..CODER },
            PromptOf { tenant: "a", ..CODER },
        ] {
            assert_eq!(expected(other, 404_000, 2_000), None, "{other:?}");
        }
        prompts.seen(CODER, 400_000, &billed(100_000, 0, 0), 3_000);
        assert_eq!(
            expected(CODER, 404_000, 4_000),
            None,
            "the last call read and wrote none"
        );
    }

    #[test]
    fn prompts_are_bounded_and_the_oldest_go() {
        let prompts = CachedPrompts::default();
        for number in 0..40_000 {
            let session = number.to_string();
            let of = PromptOf {
                session: &session,
                ..CODER
            };
            prompts.seen(of, 10, &billed(1, 9, 0), number);
        }
        assert!(prompts.prompts.lock().len() <= REMEMBERED);
        let last = PromptOf {
            session: "39999",
            ..CODER
        };
        assert!(prompts.expected(last, 10, 10, 40_000).is_some());
    }

    proptest! {
        /// What a conversation really is billed is never more than what was expected of it, where its text is as long in tokens all
        /// over; and no size makes a sum overflow.
        #[test]
        fn an_honest_conversation_costs_no_more_than_expected(
            bytes in 1_000_u64..4_000_000, grown in 0_u64..400_000, bytes_per_token in 2_u64..6, tail in 0_u64..50
        ) {
            let prompts = CachedPrompts::default();
            let before = bytes / bytes_per_token;
            prompts.seen(CODER, bytes, &billed(tail.min(before), 0, before.saturating_sub(tail)), 0);
            let now = (bytes + grown) / bytes_per_token;
            let expected = prompts.expected(CODER, bytes + grown, now, 0);
            if let Some(expected) = expected {
                prop_assert!(expected.read <= before);
                prop_assert!(expected.fresh + expected.read >= now);
            }
            let most = prompts.expected(CODER, u64::MAX, u64::MAX, 0);
            prop_assert!(most.is_none_or(|most| most.read <= before));
        }
    }
}
