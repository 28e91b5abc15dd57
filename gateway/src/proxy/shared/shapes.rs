//! A refusal, or a stream's ending, in the shape with which the client at hand stops at once and shows why. The plugins give each
//! dialect its shape; here is what differs by client and by the config's section `refusals`.

use serde_json::Value;

use crate::clients::Client;
use crate::config::{Refusals, Refused};
use crate::plugin::Ending;
use crate::proxy::session::progress::LOOP_CODE;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::refusal_text::{ended, signed};
use crate::proxy::shared::reply::{Code, Refusal};
use crate::proxy::shared::retry_patterns::without_patterns;

/// What is to pass later than this many seconds from now is final to a client that runs an agent: Codex and opencode sit out any
/// `Retry-After`, however long, and show no word of why.
const WAITS_S: u64 = 60;
/// The `type` with which a 429 ends Codex: it shows when the limit resets.
const CODEX_LIMIT: &str = "usage_limit_reached";
/// Codex shows this header within its own message; it shows no word of the body's.
const CODEX_WORDS: &str = "x-codex-promo-message";
/// The dialect that Codex speaks.
const CODEX_DIALECT: &str = "openai";

/// To whom a refusal is sent, and when.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// `None`: nobody that is known by name.
    pub client: Option<Client>,
    /// Empty where none is known.
    pub dialect: &'a str,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
}

impl Recipient<'_> {
    /// It runs an agent. LiteLLM is what many programs call models with: they get what any SDK gets.
    fn runs_an_agent(&self) -> bool {
        self.client.is_some_and(|client| client != Client::Litellm)
    }
}

/// The refusal as it is sent. `backs_off` notes one more final refusal of the request: is its client one that waits for it to pass?
pub fn shaped(mut refusal: Refusal, to: Recipient<'_>, config: &Refusals, backs_off: impl FnOnce() -> bool) -> Refusal {
    if refusal.status == 429 && !refusal.fields.contains_key("resets_in_seconds") {
        refusal = says_when(refusal, to.now_ms);
    }
    let waits_long = refusal.retry_after_s.is_some_and(|seconds| seconds > WAITS_S);
    if refusal.status == 429 && waits_long && to.runs_an_agent() {
        refusal.retry_after_s = None;
        refusal = refusal.final_answer();
    }
    let refused = kind_of(&refusal, to.client);
    if let Some(status) = refused.and_then(|refused| config.status(to.client, refused)) {
        refusal.status = status;
    }
    if refusal.status == 429
        && matches!(refused, Some(Refused::Budget | Refused::Loop))
        && backs_off()
        && let Some(status) = config.backing_off
    {
        refusal.status = status;
    }
    let is_final = refusal.should_retry == Some(false);
    if to.client == Some(Client::Codex) && to.dialect == CODEX_DIALECT && refusal.status == 429 && is_final {
        let words = header_text(&signed(&refusal.message));
        refusal = refusal.kind(CODEX_LIMIT).header(CODEX_WORDS, words);
        // Codex reads a null as a body that it does not know.
        refusal.fields.retain(|_, value| *value != Value::Null);
    }
    if to.client == Some(Client::Opencode) && is_final {
        return without_patterns(refusal);
    }
    refusal
}

/// When the same request may pass: what `Retry-After` says, for clients that read the body alone; never, where nothing is said.
fn says_when(refusal: Refusal, now_ms: i64) -> Refusal {
    let wait_ms = refusal.retry_after_s.map(|seconds| seconds.saturating_mul(1_000));
    let at_ms = wait_ms.map(|wait_ms| now_ms.saturating_add(i64::try_from(wait_ms).unwrap_or(i64::MAX)));
    refusal.resets_at(at_ms, now_ms)
}

/// The ending as it is said. Codex shows the words of one that is denied, and of no other final one.
pub fn ending_for(client: Option<Client>, ending: Ending) -> Ending {
    match (client, ending) {
        (Some(Client::Codex), Ending::BudgetExceeded) => Ending::Denied,
        (_, ending) => ending,
    }
}

/// In place of a whole answer that its upstream broke off before any of it went on. Claude Code asks for one after a stream that
/// broke off, so that for it this is the last word: else it tries for minutes, and each try may be billed.
pub fn broken_off(client: Option<Client>) -> Refusal {
    let refusal = Refusal::new(RefusalCode::UpstreamFailed, ended(Ending::UpstreamFailed, ""));
    match client {
        Some(Client::ClaudeCode) => refusal.final_answer(),
        _ => refusal,
    }
}

/// What stands in the way, where its status can be chosen. To a known client a 401 reads as a login that failed, as a 403 does, and a
/// 5xx as a failure that passes: one that does not is a denial to it.
fn kind_of(refusal: &Refusal, client: Option<Client>) -> Option<Refused> {
    let is_final = refusal.should_retry == Some(false);
    match (&refusal.code, refusal.status) {
        (Code::Own(RefusalCode::SessionKilled), _) => Some(Refused::Kill),
        (Code::Foreign(code), _) if **code == *LOOP_CODE => Some(Refused::Loop),
        (_, 429) if is_final => Some(Refused::Budget),
        (_, 403) => Some(Refused::Denial),
        (_, 401) if client.is_some() => Some(Refused::Denial),
        // Of a provider's failure it is said truly what it is: it ends as it is.
        (Code::Own(RefusalCode::UpstreamFailed), _) => None,
        (_, 500..) if client.is_some() && is_final => Some(Refused::Denial),
        _ => None,
    }
}

/// Without the full stop, which the client sets itself, and without what a header cannot bear.
fn header_text(message: &str) -> String {
    let plain = |sign: char| if matches!(sign, ' '..='~') { sign } else { '?' };
    message.trim_end_matches('.').chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Config, Env, Known, load_text};

    fn config(yaml: &str) -> Config {
        let none: [(&str, &str); 0] = [];
        load_text(None, yaml, &Env::of(none), &Known::undecided()).unwrap()
    }

    fn budget() -> Refusal {
        Refusal::new(RefusalCode::BudgetExceeded, "spending limit exceeded. \u{1f4b8}.")
            .kind("budget_exceeded")
            .resets_at(Some(1_795_996_800_000), 1_795_996_000_000)
            .final_answer()
    }

    fn to(client: Option<Client>, dialect: &str) -> Recipient<'_> {
        Recipient {
            client,
            dialect,
            now_ms: 0,
        }
    }

    fn sent(refusal: Refusal, client: Option<Client>) -> Refusal {
        shaped(refusal, to(client, CODEX_DIALECT), &config("").refusals, || false)
    }

    #[test]
    fn whoever_is_not_known_gets_the_contracts_refusal() {
        assert_eq!(sent(budget(), None), budget());
        assert_eq!(sent(budget(), Some(Client::ClaudeCode)), budget());
        let denied = Refusal::foreign(403, "key_blocked", "API key is blocked").final_answer();
        assert_eq!(sent(denied.clone(), None).status, 403);
        assert_eq!(
            sent(denied, Some(Client::ClaudeCode)).status,
            400,
            "no login that failed"
        );
    }

    #[test]
    fn a_budget_ends_codex_in_our_words() {
        let refusal = sent(budget(), Some(Client::Codex));
        assert_eq!((refusal.status, refusal.kind), (429, "usage_limit_reached"));
        assert_eq!(refusal.fields["resets_at"], 1_795_996_800);
        assert_eq!(refusal.fields["resets_in_seconds"], 800);
        let words = "AgentLedger: spending limit exceeded. ?".to_owned();
        assert_eq!(refusal.headers, [(CODEX_WORDS.to_owned(), words)]);
        let elsewhere = to(Some(Client::Codex), "anthropic");
        let elsewhere = shaped(budget(), elsewhere, &config("").refusals, || false);
        assert_eq!(elsewhere, budget(), "another dialect keeps its shape");
        let never = Refusal::new(RefusalCode::NoRouteFits, "none").final_answer();
        assert!(
            !sent(never.clone(), Some(Client::Codex))
                .fields
                .contains_key("resets_at")
        );
        assert_eq!(sent(never, None).fields["resets_in_seconds"], Value::Null);
    }

    fn rate(wait: i64) -> Refusal {
        Refusal::new(RefusalCode::RateLimited, "rate limit exceeded")
            .resets_at(Some(wait * 1_000), 0)
            .retry_after(u64::try_from(wait).unwrap())
    }

    #[test]
    fn agents_wait_for_what_comes_soon_and_for_nothing_else() {
        for (client, status, kind) in [
            (Client::Codex, 429, CODEX_LIMIT),
            (Client::Opencode, 400, "proxy_error"),
            (Client::Aider, 400, "proxy_error"),
            (Client::GeminiCli, 429, "proxy_error"),
            (Client::ClaudeCode, 429, "proxy_error"),
        ] {
            let soon = sent(rate(60), Some(client));
            assert_eq!(
                (soon.status, soon.retry_after_s, soon.kind),
                (429, Some(60), "proxy_error")
            );
            let late = sent(rate(3_600), Some(client));
            assert_eq!(
                (late.status, late.retry_after_s, late.kind, late.should_retry),
                (status, None, kind, Some(false)),
                "{client:?}"
            );
        }
        for client in [None, Some(Client::Litellm)] {
            let late = sent(rate(3_600), client);
            assert_eq!(
                (late.status, late.retry_after_s, late.should_retry),
                (429, Some(3_600), None)
            );
        }
    }

    #[test]
    fn whatever_refuses_a_429_says_when_it_passes() {
        let denied = Refusal::foreign(429, "busy", "busy");
        let fields = |refusal| {
            let now = Recipient {
                now_ms: 5_000,
                ..to(None, "gemini")
            };
            let sent = shaped(refusal, now, &config("").refusals, || false);
            (
                sent.fields["resets_at"].clone(),
                sent.fields["resets_in_seconds"].clone(),
            )
        };
        assert_eq!(fields(denied.clone().retry_after(90)), (95.into(), 90.into()));
        let held = Refusal::new(RefusalCode::BudgetHeld, "held").retry_after(2);
        assert_eq!(fields(held), (7.into(), 2.into()));
        let looping = Refusal::foreign(429, LOOP_CODE, "loop detected").final_answer();
        for never in [denied.final_answer(), looping] {
            assert_eq!(fields(never), (Value::Null, Value::Null));
        }
        assert_eq!(fields(rate(30)), (30.into(), 30.into()), "as it says itself");
    }

    #[test]
    fn a_denial_is_neither_a_failed_login_nor_a_failure_that_passes_to_a_known_client() {
        let refusals = [
            Refusal::foreign(401, "house", "no").final_answer(),
            Refusal::new(RefusalCode::UnknownKey, "no").final_answer(),
            Refusal::new(RefusalCode::ProviderDisabled, "off").final_answer(),
            Refusal::new(RefusalCode::PolicyFailed, "failed").final_answer(),
        ];
        for refusal in refusals {
            for client in [
                Client::ClaudeCode,
                Client::Codex,
                Client::GeminiCli,
                Client::Opencode,
                Client::Aider,
            ] {
                assert_eq!(
                    sent(refusal.clone(), Some(client)).status,
                    400,
                    "{client:?}: {refusal:?}"
                );
            }
            assert_eq!(sent(refusal.clone(), None).status, refusal.status);
        }
        let passes = Refusal::new(RefusalCode::BreakerOpen, "open").retry_after(5);
        assert_eq!(sent(passes, Some(Client::ClaudeCode)).status, 503);
    }

    #[test]
    fn what_clients_take_for_one_to_wait_for_is_a_bad_request_to_them() {
        let looping = Refusal::foreign(429, LOOP_CODE, "loop detected").final_answer();
        let killed = Refusal::new(RefusalCode::SessionKilled, "killed").final_answer();
        let held = Refusal::new(RefusalCode::BudgetHeld, "held").retry_after(2);
        for (client, statuses) in [
            (None, [429, 429, 400, 429]),
            (Some(Client::ClaudeCode), [429, 429, 400, 429]),
            (Some(Client::Codex), [429, 400, 400, 429]),
            (Some(Client::GeminiCli), [429, 400, 400, 429]),
            (Some(Client::Opencode), [400, 400, 400, 429]),
            (Some(Client::Aider), [400, 400, 400, 429]),
        ] {
            let refusals = [budget(), looping.clone(), killed.clone(), held.clone()];
            assert_eq!(
                refusals.map(|refusal| sent(refusal, client).status),
                statuses,
                "{client:?}"
            );
        }
        let all = config("refusals: {budget: 402, kill: 403}").refusals;
        assert_eq!(shaped(budget(), to(None, "openai"), &all, || false).status, 402);
        assert_eq!(shaped(killed, to(None, "openai"), &all, || false).status, 403);
    }

    #[test]
    fn who_backs_off_from_a_final_refusal_gets_a_status_that_ends_it() {
        let to = |yaml: &str, refusal| shaped(refusal, to(None, ""), &config(yaml).refusals, || true).status;
        assert_eq!(to("", budget()), 400);
        assert_eq!(to("refusals: {backing_off: own}", budget()), 429);
        assert_eq!(
            to("", Refusal::new(RefusalCode::BudgetHeld, "held").retry_after(2)),
            429,
            "it passes"
        );
    }
}
