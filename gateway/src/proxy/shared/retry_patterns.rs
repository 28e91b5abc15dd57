//! opencode tries a call again, five times and for more than a minute, wherever the message or the body of its refusal has one of
//! these patterns, whatever its status says (1.18.33, `SessionRetry.retryable`). Three digits of a sum, of a fingerprint or of an
//! exchange are enough. A refusal that is final must have none.

use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::reply::{Code, Refusal};

/// In small letters, each as wide as its expression there or wider.
const PATTERNS: [&str; 33] = [
    "429",
    "500",
    "502",
    "503",
    "504",
    "524",
    "rate increased too quickly",
    "rate limit",
    "rate-limit",
    "rate_limit",
    "too many requests",
    "overloaded",
    "service unavailable",
    "service_unavailable",
    "service-unavailable",
    "internal error",
    "internal_error",
    "server error",
    "server_error",
    "server-error",
    "terminated",
    "fetch failed",
    "failed to fetch",
    "network error",
    "connection error",
    "connection refused",
    "connection lost",
    "timed out",
    "try your request again",
    "retry your request",
    "resource_exhausted",
    "resource exhausted",
    "try again",
];
/// Stands between two letters and is not seen.
const WORD_JOINER: &str = "\u{2060}";
/// Means nothing within a word of a shell, so that a command that is copied stays what it is.
const EMPTY_QUOTES: &str = "''";

/// The same refusal without them. What a field says is said by the message, too, or by the head.
pub fn without_patterns(mut refusal: Refusal) -> Refusal {
    refusal.message = broken_up(&refusal.message);
    refusal.fields.retain(|_, value| first(&value.to_string()).is_none());
    if first(refusal.code.as_str()).is_some() {
        // What no waiting helps over is as good as a budget to a client.
        refusal.code = Code::Own(RefusalCode::BudgetExceeded);
    }
    refusal
}

/// The text as it reads, with each pattern broken after its first letter.
fn broken_up(text: &str) -> String {
    let (mut whole, mut rest, mut in_command) = (String::with_capacity(text.len()), text, false);
    while let Some(at) = first(rest) {
        let Some((before, after)) = rest.split_at_checked(at + 1) else {
            break;
        };
        in_command ^= before.matches('`').count() % 2 == 1;
        whole.push_str(before);
        whole.push_str(if in_command { EMPTY_QUOTES } else { WORD_JOINER });
        rest = after;
    }
    whole.push_str(rest);
    whole
}

/// Where the first of them begins. Each begins with an ASCII letter or digit.
fn first(text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    PATTERNS.iter().filter_map(|pattern| text.find(pattern)).min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_final_refusal_reads_the_same_and_has_no_pattern_left() {
        let message = "spending limit exceeded. The budget of key 5029 is $1,500.00 a day: raise it: `agentledger budgets top-up \
                       key:ab4295020d 'tag:a=500' 0.524`. Rate Limit, $500.";
        let refusal = Refusal::new(RefusalCode::RateLimited, message)
            .field("resets_at", 1_795_005_029)
            .field("daily_limit", 1_500)
            .field("unit", "usd")
            .of_exchange(ulid::Ulid::from_parts(0, 5));
        let sent = without_patterns(refusal.clone());
        assert_eq!(first(&String::from_utf8(sent.body(None)).unwrap()), None, "{sent:?}");
        assert_eq!(sent.message.replace(WORD_JOINER, "").replace(EMPTY_QUOTES, ""), message);
        let command = sent.message.split('`').nth(1).unwrap();
        assert!(!command.contains(WORD_JOINER), "{command}");
        let kept: Vec<&String> = sent.fields.keys().collect();
        assert_eq!(kept, ["exchange", "unit"]);
        assert_eq!(sent.headers, refusal.headers);
    }

    #[test]
    fn what_has_none_is_left_as_it_is() {
        let plain =
            Refusal::new(RefusalCode::BudgetExceeded, "spending limit exceeded \u{e9}.").field("daily_limit", 50);
        assert_eq!(without_patterns(plain.clone()), plain);
    }

    #[test]
    fn the_pasted_command_is_what_was_meant() {
        let command = format!(
            "printf '%s ' {}",
            &broken_up("`key:ab4295020d 'tag:a b=500' 0.524`").replace('`', "")
        );
        let said = broken_up("`key:ab4295020d 'tag:a b=500' 0.524`").replace('`', "");
        assert!(first(&said).is_none(), "{said}");
        let pasted = std::process::Command::new("sh")
            .args(["-c", &command])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(pasted.stdout).unwrap(),
            "key:ab4295020d tag:a b=500 0.524 "
        );
    }
}
