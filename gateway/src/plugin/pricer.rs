//! What tool calls cost: pricers are plugins of the world `tool-pricer`, one of them built in.
//!
//! The way of a call: [`ToolPricers::quote`] before it is passed on, from which the hold is made; [`Quoted::answer`] reads the
//! answer's JSON-RPC message as it passes; [`AnswerReading::finish`] is the price. A call that nobody answers costs what was
//! held: [`Quoted::unread`]. What a plugin cannot say is estimated at the hold and flagged; nothing it does is an error here.
//!
//! No pricer sees arguments or results, only what its tariff names.

mod contract;
mod host;
mod reading;
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

use contract::{AnswerOutline, CallOutline, Pricer, Tariff, ToolHold};
pub use contract::{CostPart, ToolEnding};
use host::{ConfProblem, PricerHost, Unusable};
use reading::{AnswerRead, AnswerShape};
use tariffs::{Rule, Tariffs};

use super::outline::{Arriving, Bounds, OutlineError, outline};
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
    unpriced: Arc<AnswerShape>,
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
        let unpriced = AnswerShape::of(&Tariff::default()).map_err(|error| LoadError::Unfit {
            plugin: ToolPricing::BUILT_IN.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(ToolPricers {
            tariffs: Tariffs::new(rules),
            unpriced: Arc::new(unpriced),
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
                shape: Arc::clone(&self.unpriced),
                bounds: self.bounds,
            });
        };
        let arguments = call.arguments.unwrap_or_default();
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
            shape: Arc::clone(&rule.answer),
            plan: Some(Arc::new(Plan {
                rule: Arc::clone(rule),
                call: seen,
            })),
            bounds: self.bounds,
        })
    }
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
    shape: Arc<AnswerShape>,
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

    /// Reads the message that answers the call: one JSON-RPC response, an element of a batch by itself. An `input_required`
    /// result is not the answer of a call.
    pub fn answer(&self) -> AnswerReading {
        AnswerReading {
            arriving: self.shape.begin(self.bounds),
            quoted: self.clone(),
        }
    }

    /// The same of a message that is there whole, without what stands around it.
    pub fn price(&self, message: &[u8], milliseconds: u64) -> Priced {
        let mut reading = self.answer();
        reading.push(message);
        reading.finish(milliseconds)
    }

    /// The same where the message was read elsewhere. `result`: its JSON; `None`: a JSON-RPC error has none, and of any other
    /// answer only its `bytes` are known, so that its price is an estimate.
    pub fn price_read(&self, ending: ToolEnding, result: Option<&[u8]>, bytes: u64, milliseconds: u64) -> Priced {
        let read = match (ending, result) {
            (ToolEnding::ProtocolError, _) => Ok(reading::unread(ending, 0, None)),
            (_, Some(result)) => self.shape.of_result(result, self.bounds),
            (_, None) => Ok(reading::unread(ending, bytes, Some(estimate_reason::UNREADABLE))),
        };
        match read {
            Ok(read) => self.settle(AnswerRead { ending, ..read }, milliseconds),
            Err(reason) => Priced {
                ending: Some(ending),
                ..self.unread(reason)
            },
        }
    }

    fn settle(&self, read: AnswerRead, milliseconds: u64) -> Priced {
        let ending = Some(read.ending);
        let free = Priced {
            cost: Usd::ZERO,
            parts: Vec::new(),
            ending,
            estimated: None,
            is_beyond_quote: false,
        };
        let Some(plan) = &self.plan else { return free };
        let tariff = &plan.rule.tariff;
        let is_free = match read.ending {
            ToolEnding::Success => false,
            ToolEnding::ToolError => !tariff.prices_tool_errors,
            ToolEnding::ProtocolError => !tariff.prices_protocol_errors,
        };
        if is_free && read.doubt.is_none() {
            return free;
        }
        let mut counts = read.result_counts;
        counts.resize(tariff.result_counts.len(), 0);
        let answer = AnswerOutline {
            ending: read.ending,
            result: read.result,
            result_bytes: read.result_bytes,
            result_counts: counts,
            milliseconds,
        };
        let summed = plan
            .rule
            .pricer
            .price(&plan.call, &answer)
            .ok()
            .and_then(|parts| Some((cost_of(&parts)?, parts)));
        let Some((cost, parts)) = summed else {
            let failed = self.unread(estimate_reason::PLUGIN_FAILED);
            return Priced { ending, ..failed };
        };
        Priced {
            // What is read in spite of a fault may cost more than it says.
            cost: if read.doubt.is_some() {
                cost.max(self.hold)
            } else {
                cost
            },
            parts,
            ending,
            estimated: read.doubt,
            is_beyond_quote: self.is_upper_bound && cost > self.hold,
        }
    }

    /// What a call costs whose answer was not seen, for a reason of `estimate_reason`: the tool may have done its work.
    pub fn unread(&self, reason: &'static str) -> Priced {
        Priced {
            cost: self.hold,
            parts: Vec::new(),
            ending: None,
            estimated: self.plan.as_ref().map(|_| reason),
            is_beyond_quote: false,
        }
    }
}

/// The answer of a call, of which the first bytes have arrived. Takes bounded memory, however long it is.
pub struct AnswerReading {
    quoted: Quoted,
    arriving: Arriving,
}

impl AnswerReading {
    /// Takes the next bytes, up to the message's end; how many those were.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.quoted.shape.push(&mut self.arriving, bytes)
    }

    /// The message has ended, well or not. `milliseconds`: from the call's passing on to its answer.
    pub fn finish(self, milliseconds: u64) -> Priced {
        let AnswerReading { quoted, arriving } = self;
        match quoted.shape.finish(arriving) {
            Ok(read) => quoted.settle(read, milliseconds),
            Err(reason) => quoted.unread(reason),
        }
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
    /// How the call ended; `None`: its answer was not read.
    pub ending: Option<ToolEnding>,
    /// Why the cost is an estimate, in a word of `estimate_reason`.
    pub estimated: Option<&'static str>,
    /// It is more than its pricer said at most. It is entered all the same: what is above the hold is overage.
    pub is_beyond_quote: bool,
}
