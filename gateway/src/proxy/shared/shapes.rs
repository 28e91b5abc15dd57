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

/// Codex sits out every `Retry-After`, however long, and shows no word of why. Longer ones end it.
const CODEX_WAITS_S: u64 = 60;
/// The `type` with which a 429 ends Codex: it shows when the limit resets.
const CODEX_LIMIT: &str = "usage_limit_reached";
/// Codex shows this header within its own message; it shows no word of the body's.
const CODEX_WORDS: &str = "x-codex-promo-message";
/// The dialect that Codex speaks.
const CODEX_DIALECT: &str = "openai";

/// The refusal as it is sent. `dialect` is empty where none is known. `backs_off` notes one more final refusal of the request: is
/// its client one that waits for it to pass?
pub fn shaped(
    mut refusal: Refusal,
    client: Option<Client>,
    dialect: &str,
    config: &Refusals,
    backs_off: impl FnOnce() -> bool,
) -> Refusal {
    let refused = kind_of(&refusal);
    if refused == Some(Refused::Budget) && !refusal.fields.contains_key("resets_in_seconds") {
        refusal = refusal.resets_at(None, 0);
    }
    if let Some(status) = refused.and_then(|refused| config.status(client, refused)) {
        refusal.status = status;
    }
    if refusal.status == 429
        && matches!(refused, Some(Refused::Budget | Refused::Loop))
        && backs_off()
        && let Some(status) = config.backing_off
    {
        refusal.status = status;
    }
    let waits_long = refusal.retry_after_s.is_some_and(|seconds| seconds > CODEX_WAITS_S);
    let is_final = refusal.should_retry == Some(false);
    if client == Some(Client::Codex) && dialect == CODEX_DIALECT && refusal.status == 429 && (is_final || waits_long) {
        refusal.retry_after_s = None;
        let words = header_text(&signed(&refusal.message));
        refusal = refusal.kind(CODEX_LIMIT).header(CODEX_WORDS, words).final_answer();
        // Codex reads a null as a body that it does not know.
        refusal.fields.retain(|_, value| *value != Value::Null);
    }
    refusal
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

/// What stands in the way, where its status can be chosen.
fn kind_of(refusal: &Refusal) -> Option<Refused> {
    match &refusal.code {
        Code::Own(RefusalCode::SessionKilled) => Some(Refused::Kill),
        Code::Foreign(code) if **code == *LOOP_CODE => Some(Refused::Loop),
        _ if refusal.status == 429 && refusal.should_retry == Some(false) => Some(Refused::Budget),
        _ if refusal.status == 403 => Some(Refused::Denial),
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

    fn sent(refusal: Refusal, client: Option<Client>) -> Refusal {
        shaped(refusal, client, CODEX_DIALECT, &config("").refusals, || false)
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
        let elsewhere = shaped(budget(), Some(Client::Codex), "anthropic", &config("").refusals, || {
            false
        });
        assert_eq!(elsewhere, budget(), "another dialect keeps its shape");
        let never = Refusal::new(RefusalCode::NoRouteFits, "none").final_answer();
        assert!(
            !sent(never.clone(), Some(Client::Codex))
                .fields
                .contains_key("resets_at")
        );
        assert_eq!(sent(never, None).fields["resets_in_seconds"], Value::Null);
    }

    #[test]
    fn codex_waits_for_what_comes_soon_and_for_nothing_else() {
        let rate = |wait: i64| {
            Refusal::new(RefusalCode::RateLimited, "rate limit exceeded")
                .resets_at(Some(wait * 1_000), 0)
                .retry_after(u64::try_from(wait).unwrap())
        };
        let soon = sent(rate(30), Some(Client::Codex));
        assert_eq!((soon.retry_after_s, soon.kind), (Some(30), "proxy_error"));
        let late = sent(rate(3_600), Some(Client::Codex));
        assert_eq!(
            (late.retry_after_s, late.kind, late.should_retry),
            (None, CODEX_LIMIT, Some(false))
        );
        assert_eq!(sent(rate(3_600), None).retry_after_s, Some(3_600));
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
        assert_eq!(shaped(budget(), None, "openai", &all, || false).status, 402);
        assert_eq!(shaped(killed, None, "openai", &all, || false).status, 403);
    }

    #[test]
    fn who_backs_off_from_a_final_refusal_gets_a_status_that_ends_it() {
        let to = |yaml: &str, refusal| shaped(refusal, None, "", &config(yaml).refusals, || true).status;
        assert_eq!(to("", budget()), 400);
        assert_eq!(to("refusals: {backing_off: own}", budget()), 429);
        assert_eq!(
            to("", Refusal::new(RefusalCode::BudgetHeld, "held").retry_after(2)),
            429,
            "it passes"
        );
    }
}
