//! What tool calls cost: pricers are plugins of the world `tool-pricer`, one of them built in.
//!
//! The way of a call: [`ToolPricers::quote`] before it is passed on, from which the hold is made; [`Quoted::price`] after its
//! answer. What a plugin cannot say is estimated at the hold and flagged; nothing it does is an error here.
//!
//! No pricer sees arguments or results, only what its tariff names.

mod contract;
mod host;
mod tariffs;

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use agentledger_ledger::{Picos, Usd};

use contract::{AnswerOutline, CallOutline, Pricer, ToolHold};
pub use contract::{CostPart, ToolEnding};
use host::{ConfProblem, PricerHost, Unusable};
use tariffs::{Rule, Tariffs};

use super::outline::{Bounds, OutlineError, outline};
use super::registry::{LoadError, Plugins};
use crate::config::{Config, ConfigError, ConfigErrors, ToolPricing};
use crate::estimate_reason;

/// A tool call before it is passed on.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    /// The server's name in the configuration, never one that it gives itself.
    pub server: &'a str,
    pub tool: &'a str,
    /// The JSON of `params.arguments`, where there are any.
    pub arguments: Option<&'a [u8]>,
}

/// All pricers of a configuration. A reload makes new ones; calls that were quoted keep theirs.
pub struct ToolPricers {
    tariffs: Tariffs,
    /// Held where a pricer cannot say.
    unknown_hold: Usd,
    bounds: Bounds,
}

impl ToolPricers {
    /// Has each pricer at hand read its configuration.
    ///
    /// # Errors
    /// A pricer that cannot be used, all faults of one's configuration, or a configuration of one that is not there.
    pub fn load(plugins: &Plugins, config: &Config) -> Result<ToolPricers, LoadError> {
        let pricing = &config.mcp.pricing;
        let mut faults = Vec::new();
        let mut pricers: Vec<(&str, Arc<dyn Pricer>)> = Vec::new();
        for (name, source) in plugins.pricers() {
            let conf = pricing.conf(name).to_string();
            match PricerHost::start(name, &source.component, source.caps, conf) {
                Ok(host) => pricers.push((name, Arc::new(host))),
                Err(Unusable::Load(error)) => return Err(error),
                Err(Unusable::Conf(problems)) => {
                    faults.extend(problems.into_iter().map(|problem| fault(config, name, problem)));
                }
            }
        }
        let absent = pricing.confs.keys().filter(|name| plugins.pricer(name).is_none());
        faults.extend(absent.map(|name| {
            let message = "no pricer of this name is there: plugins.dir has no such file".to_owned();
            let path = String::new();
            fault(config, name, ConfProblem { path, message })
        }));
        if !faults.is_empty() {
            return Err(LoadError::Conf(ConfigErrors(faults)));
        }
        // Of tariffs that are equally narrow, the operator's own pricers come before the built-in one.
        pricers.sort_by_key(|(name, _)| *name == ToolPricing::BUILT_IN);
        ToolPricers::new(&pricers, pricing.hold, Bounds::from(&config.limits))
    }

    /// Any pricer may stand here, by its name; tests put their own.
    fn new(pricers: &[(&str, Arc<dyn Pricer>)], unknown_hold: Usd, bounds: Bounds) -> Result<ToolPricers, LoadError> {
        let mut rules = Vec::new();
        for (name, pricer) in pricers {
            let unfit = |reason: String| LoadError::Unfit {
                plugin: (*name).to_owned(),
                reason,
            };
            for (index, tariff) in (0_u32..).zip(&pricer.info().tariffs) {
                rules.push(Rule::new(pricer, index, tariff).map_err(unfit)?);
            }
        }
        Ok(ToolPricers {
            tariffs: Tariffs::new(rules),
            unknown_hold,
            bounds,
        })
    }

    /// How many tariffs there are.
    pub fn tariffs(&self) -> usize {
        self.tariffs.count()
    }

    /// What to hold for a call.
    ///
    /// # Errors
    /// The arguments are not one JSON document, or name something twice that the price depends on: two readers would
    /// disagree about the price, so the call is not to be passed on.
    pub fn quote(&self, call: &ToolCall<'_>) -> Result<Quoted, OutlineError> {
        let Some(rule) = self.tariffs.find(call.server, call.tool) else {
            return Ok(Quoted {
                hold: Usd::ZERO,
                is_upper_bound: true,
                plan: None,
                bounds: self.bounds,
            });
        };
        // What is no object names nothing.
        let arguments = call.arguments.and_then(object).unwrap_or_default();
        let outlined = match arguments {
            [] => outline(b"{}", &rule.arguments, self.bounds)?,
            given => outline(given, &rule.arguments, self.bounds)?,
        };
        let seen = CallOutline {
            tariff: rule.index,
            server: call.server.to_owned(),
            tool: call.tool.to_owned(),
            arguments: outlined.doc,
            // Without the blanks around them, which are the message's.
            argument_bytes: if arguments.is_empty() {
                0
            } else {
                outlined.root.len() as u64
            },
            argument_counts: outlined.counts,
        };
        let (hold, is_upper_bound) = match rule.pricer.quote(&seen) {
            Ok(ToolHold::AtMost(picos)) => (rounded_up(picos), true),
            Ok(ToolHold::About(picos)) => (rounded_up(picos), false),
            Ok(ToolHold::Unknown) | Err(_) => (self.unknown_hold, false),
        };
        Ok(Quoted {
            hold,
            is_upper_bound,
            plan: Some(Arc::new(Plan {
                rule: Arc::clone(rule),
                call: seen,
            })),
            bounds: self.bounds,
        })
    }
}

/// JSON that is an object.
fn object(json: &[u8]) -> Option<&[u8]> {
    json.trim_ascii_start().starts_with(b"{").then_some(json)
}

/// A fault that a pricer found in its configuration, at its place in the file as far as that is known.
fn fault(config: &Config, pricer: &str, problem: ConfProblem) -> ConfigError {
    let key = match problem.path.as_str() {
        "" => format!("mcp.pricers.{pricer}"),
        path => format!("mcp.pricers.{pricer}.{path}"),
    };
    let known_as = key.to_ascii_lowercase();
    let is_within = |path: &str| {
        path.strip_prefix(known_as.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let place = config.given.values.iter().find(|value| is_within(&value.path));
    ConfigError {
        location: place.map_or_else(String::new, |value| value.source.clone()),
        key,
        message: problem.message,
    }
}

/// A hold covers what it is for: never a part of a nano-dollar too little.
fn rounded_up(picos: Picos) -> Usd {
    let ceiling = picos.checked_add(Picos::from_picos(499)).unwrap_or(picos);
    ceiling.to_usd().unwrap_or(Usd::MAX)
}

/// What is known of a call's price before it is passed on.
#[derive(Clone)]
pub struct Quoted {
    pub hold: Usd,
    /// By its pricer the call costs no more than the hold.
    pub is_upper_bound: bool,
    plan: Option<Arc<Plan>>,
    bounds: Bounds,
}

struct Plan {
    rule: Arc<Rule>,
    call: CallOutline,
}

impl Quoted {
    /// Whether a tariff fits the call; without one it is free.
    pub fn is_priced(&self) -> bool {
        self.plan.is_some()
    }

    /// The pricer's name; empty where the call is free.
    pub fn pricer(&self) -> &str {
        self.plan.as_ref().map_or("", |plan| &plan.rule.pricer.info().name)
    }

    /// What the call costs by its answer. `result`: its JSON; `None`: a JSON-RPC error has none, and of any other answer only its
    /// `bytes` are known, so that its price is an estimate. `milliseconds`: from the call's passing on to its answer.
    pub fn price(&self, ending: ToolEnding, result: Option<&[u8]>, bytes: u64, milliseconds: u64) -> Priced {
        let free = Priced {
            cost: Usd::ZERO,
            parts: Vec::new(),
            estimated: None,
            is_beyond_quote: false,
        };
        let Some(plan) = &self.plan else { return free };
        let tariff = &plan.rule.tariff;
        let is_priced = match ending {
            ToolEnding::Success => true,
            ToolEnding::ToolError => tariff.prices_tool_errors,
            ToolEnding::ProtocolError => tariff.prices_protocol_errors,
        };
        if !is_priced {
            return free;
        }
        let result = result.filter(|_| ending != ToolEnding::ProtocolError);
        let Some(answer) = plan.seen(ending, result, bytes, milliseconds, self.bounds) else {
            return self.unread(estimate_reason::UNREADABLE);
        };
        let summed = plan.rule.pricer.price(&plan.call, &answer).ok();
        let Some((cost, parts)) = summed.and_then(|parts| Some((cost_of(&parts)?, parts))) else {
            return self.unread(estimate_reason::PLUGIN_FAILED);
        };
        let is_whole = result.is_some() || ending == ToolEnding::ProtocolError;
        Priced {
            // What was not read may cost more than its length says.
            cost: if is_whole { cost } else { cost.max(self.hold) },
            parts,
            estimated: (!is_whole).then_some(estimate_reason::UNREADABLE),
            is_beyond_quote: self.is_upper_bound && cost > self.hold,
        }
    }

    /// What is not read costs what was held, for a reason of `estimate_reason`: the tool may have done its work.
    fn unread(&self, reason: &'static str) -> Priced {
        Priced {
            cost: self.hold,
            parts: Vec::new(),
            estimated: Some(reason),
            is_beyond_quote: false,
        }
    }
}

impl Plan {
    /// What the pricer sees of an answer.
    fn seen(
        &self,
        ending: ToolEnding,
        result: Option<&[u8]>,
        bytes: u64,
        milliseconds: u64,
        bounds: Bounds,
    ) -> Option<AnswerOutline> {
        let nothing = AnswerOutline {
            ending,
            result: "{}".to_owned(),
            result_bytes: if ending == ToolEnding::ProtocolError { 0 } else { bytes },
            result_counts: vec![0; self.rule.tariff.result_counts.len()],
            milliseconds,
        };
        let Some(result) = result else { return Some(nothing) };
        let outlined = outline(object(result)?, &self.rule.result, bounds).ok()?;
        Some(AnswerOutline {
            result: outlined.doc,
            result_bytes: outlined.root.len() as u64,
            result_counts: outlined.counts,
            ..nothing
        })
    }
}

/// Exact, and rounded once.
fn cost_of(parts: &[CostPart]) -> Option<Usd> {
    let sum = parts
        .iter()
        .try_fold(Picos::ZERO, |sum, part| sum.checked_add(part.cost))?;
    sum.to_usd().ok()
}

/// What a call costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    pub cost: Usd,
    /// What it is made of; empty where it is free or estimated at its hold.
    pub parts: Vec<CostPart>,
    /// Why the cost is an estimate, in a word of `estimate_reason`.
    pub estimated: Option<&'static str>,
    /// It is more than its pricer said at most. It is entered all the same: what is above the hold is overage.
    pub is_beyond_quote: bool,
}
