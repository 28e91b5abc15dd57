//! What the session of a call did before it, as policies see it: `call.history`.

use std::collections::BTreeMap;

use agentledger_ledger::Usd;

/// What a session did before a call. The counts of the window hold the call itself too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Since the first call of the session.
    pub age_ms: i64,
    /// Settled calls, and their sums.
    pub calls: u64,
    pub cost: Usd,
    pub tokens: u64,
    /// Calls that run beside this one.
    pub running: u32,
    /// How far back the following look.
    pub window_ms: i64,
    /// Calls that did what this one does: the same last tool calls with the same results, or the same words.
    pub repeats: u32,
    /// Calls on end whose last tool calls were these, with these arguments, whatever came of them; 0 without a tool call.
    pub tool_repeats: u32,
    /// Calls since the first of `repeats`, and how many different things they did.
    pub stretch: u32,
    pub distinct: u32,
    /// Calls of this path, whatever they did and however they ended.
    pub path_calls: u32,
    /// What the calls that were repeated cost, all together, the first and the last.
    pub repeats_cost: Usd,
    pub first_cost: Usd,
    pub last_cost: Usd,
}

/// For Lua to look at and compare.
#[allow(clippy::cast_precision_loss)]
fn dollars(usd: Usd) -> f64 {
    usd.nanos() as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)]
fn seconds(ms: i64) -> f64 {
    (ms / 1_000) as f64
}

impl History {
    /// One field, by the name it has in Lua; `None` where there is no such field.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn field(&self, name: &[u8]) -> Option<f64> {
        Some(match name {
            b"age_s" => seconds(self.age_ms),
            b"calls" => self.calls as f64,
            b"cost_usd" => dollars(self.cost),
            b"tokens" => self.tokens as f64,
            b"running" => f64::from(self.running),
            b"window_s" => seconds(self.window_ms),
            b"repeats" => f64::from(self.repeats),
            b"tool_repeats" => f64::from(self.tool_repeats),
            b"stretch" => f64::from(self.stretch),
            b"distinct" => f64::from(self.distinct),
            b"path_calls" => f64::from(self.path_calls),
            b"repeats_usd" => dollars(self.repeats_cost),
            b"cost_slope" => self.cost_slope(),
            _ => return None,
        })
    }

    /// A history as a spec gives it, by the names that Lua has; what it leaves out is 0, as on a session's first call.
    // A spec's numbers are its author's own; no money is summed here.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn given(fields: &BTreeMap<String, f64>) -> Result<History, String> {
        let usd = |dollars: f64| Usd::from_nanos((dollars * 1e9).round() as i64);
        let mut history = History {
            window_ms: 300_000,
            ..History::default()
        };
        for (name, value) in fields {
            let (value, whole) = (*value, *value as u32);
            match name.as_str() {
                "age_s" => history.age_ms = i64::from(whole) * 1_000,
                "window_s" => history.window_ms = i64::from(whole) * 1_000,
                "calls" => history.calls = u64::from(whole),
                "tokens" => history.tokens = u64::from(whole),
                "cost_usd" => history.cost = usd(value),
                "running" => history.running = whole,
                "repeats" => history.repeats = whole,
                "tool_repeats" => history.tool_repeats = whole,
                "stretch" => history.stretch = whole,
                "distinct" => history.distinct = whole,
                "path_calls" => history.path_calls = whole,
                "repeats_usd" => history.repeats_cost = usd(value),
                "cost_slope" => (history.first_cost, history.last_cost) = (usd(1.0), usd(value)),
                other => return Err(format!("call.history has no field {other}")),
            }
        }
        Ok(history)
    }

    /// How many times the first of the repeated calls the last one cost; 1 where that is not known.
    fn cost_slope(&self) -> f64 {
        if self.first_cost > Usd::ZERO {
            dollars(self.last_cost) / dollars(self.first_cost)
        } else {
            1.0
        }
    }
}
