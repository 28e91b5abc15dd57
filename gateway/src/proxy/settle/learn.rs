//! Learns from answers that report their usage exactly: a model's bytes per token, what an agent's calls of it take, and what of a
//! session's prompt lies in its provider's cache.

use agentledger_ledger::{Kind, Outcome, Settlement};

use crate::meter::{CallSeen, Metered};
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;

/// Texts shorter than these teach nothing of a model's ratio: what surrounds them weighs more.
const LEARNED_INPUT_BYTES_MIN: u64 = 512;
const LEARNED_OUTPUT_BYTES_MIN: u64 = 512;

/// What an exact answer teaches about its model and its agent.
pub fn learn(gateway: &Gateway, exchange: &Exchange, metered: &Metered, settlement: &Settlement) {
    if settlement.estimate_reason.is_some()
        || settlement.outcome != Outcome::Completed
        || settlement.usage.input_tokens() == 0
    {
        return;
    }
    let usage = &settlement.usage;
    let text = &exchange.inspected.text;
    let plain = !exchange.inspected.has_media && text.bytes() >= LEARNED_INPUT_BYTES_MIN;
    let input = plain.then(|| (text.bytes(), usage.input_tokens()));
    let visible = usage.get(Kind::Output).saturating_sub(settlement.reasoning);
    let output = Some((metered.text.bytes(), visible)).filter(|(bytes, _)| *bytes >= LEARNED_OUTPUT_BYTES_MIN);
    let model = &exchange.inspected.call.model;
    gateway.estimator.learn(model, input, output);
    let call = CallSeen {
        output_tokens: usage.get(Kind::Output),
        cost_nanos: settlement.cost.nanos(),
    };
    gateway.estimator.call_seen(model, &exchange.identity.agent, call);
    if let Some(of) = exchange.prompt_of().filter(|_| settlement.parts.is_empty()) {
        let now_ms = gateway.clock.monotonic_ms();
        gateway.cached_input.prompts.seen(of, text.bytes(), usage, now_ms);
    }
}
