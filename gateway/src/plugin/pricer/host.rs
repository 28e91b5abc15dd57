//! A pricer as a plugin: the world `tool-pricer`, run in a [`Pool`]. What it says is checked here: a value outside the
//! contract is a failed call, never a sum in the books.

use std::sync::OnceLock;

use agentledger_ledger::Picos;
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Store, StoreLimits};

use super::contract::{AnswerOutline, CallOutline, CostPart, Pricer, PricerInfo, Tariff, ToolEnding, ToolHold};
use crate::plugin::dialect::Want;
use crate::plugin::pool::{Caps, Failed, Pool, World};
use crate::plugin::registry::LoadError;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../sdk/wit/v1",
        world: "tool-pricer",
    });
}

use bindings::agentledger::plugin::tools as wit;
use bindings::{ToolPricer, ToolPricerPre};

/// More than any call costs, and any hold: a million USD.
const COST_MAX: Picos = Picos::from_picos(1_000_000_000_000_000_000);
const TARIFFS_MAX: usize = 4_096;
/// Entries in each list of a tariff.
const LIST_MAX: usize = 64;
/// Longest name, pattern or path.
const TEXT_BYTES_MAX: usize = 512;
/// Parts of one cost.
const PARTS_MAX: usize = 16;
const PART_NAME_BYTES_MAX: usize = 32;
/// Faults of a configuration that are told, and how much of each.
const PROBLEMS_MAX: usize = 100;
const PROBLEM_CHARS_MAX: usize = 500;

/// A fault that a pricer found in its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfProblem {
    /// A dotted path within the pricer's own configuration; empty: all of it.
    pub path: String,
    pub message: String,
}

type Told = Result<wit::Info, Vec<wit::Problem>>;

/// Every instance is told the configuration; what the first one makes of it counts.
struct PricerWorld {
    conf: String,
    told: OnceLock<Told>,
}

impl World for PricerWorld {
    type Fitted = ToolPricerPre<StoreLimits>;
    type Exports = ToolPricer;

    fn fit(pre: InstancePre<StoreLimits>) -> wasmtime::Result<Self::Fitted> {
        ToolPricerPre::new(pre)
    }

    fn instantiate(fitted: &Self::Fitted, store: &mut Store<StoreLimits>) -> wasmtime::Result<ToolPricer> {
        fitted.instantiate(store)
    }

    fn prepare(&self, exports: &ToolPricer, store: &mut Store<StoreLimits>) -> wasmtime::Result<()> {
        let told = exports.call_info(store, &self.conf)?;
        if self.told.get().is_none() {
            // Another instance may have been as quick; they say the same.
            let _ = self.told.set(told);
        }
        Ok(())
    }
}

/// A loaded pricer.
pub struct PricerHost {
    info: PricerInfo,
    pool: Pool<PricerWorld>,
}

/// Why a pricer cannot be used.
pub(super) enum Unusable {
    Load(LoadError),
    Conf(Vec<ConfProblem>),
}

impl PricerHost {
    /// Has the plugin read its configuration, JSON text.
    pub(super) fn start(name: &str, component: &Component, caps: Caps, conf: String) -> Result<PricerHost, Unusable> {
        let unfit = |reason: String| {
            Unusable::Load(LoadError::Unfit {
                plugin: name.to_owned(),
                reason,
            })
        };
        let world = PricerWorld {
            conf,
            told: OnceLock::new(),
        };
        let pool = Pool::new(name, component, caps, world).map_err(Unusable::Load)?;
        pool.call(|_, _| Ok(())).map_err(|failed| unfit(failed.to_string()))?;
        let told = pool.world().told.get().cloned();
        let info = match told {
            Some(Ok(info)) => read_info(info).map_err(unfit)?,
            Some(Err(problems)) => return Err(Unusable::Conf(read_problems(problems))),
            None => return Err(unfit("it did not read its configuration".to_owned())),
        };
        Ok(PricerHost { info, pool })
    }

    /// Calls that ended in a trap, out of time, or outside the contract.
    #[cfg(test)]
    pub(super) fn failures(&self) -> u64 {
        self.pool.failures()
    }
}

impl Pricer for PricerHost {
    fn info(&self) -> &PricerInfo {
        &self.info
    }

    fn quote(&self, call: &CallOutline) -> Result<ToolHold, Failed> {
        let hold = self.pool.call(|pricer, store| pricer.call_quote(store, &shown(call)))?;
        let bounded = |picos: u64| {
            let picos = Picos::from_picos(picos.into());
            match picos > COST_MAX {
                true => Err(self.pool.failed("it would hold more than a million USD".to_owned())),
                false => Ok(picos),
            }
        };
        Ok(match hold {
            wit::Hold::AtMost(picos) => ToolHold::AtMost(bounded(picos)?),
            wit::Hold::About(picos) => ToolHold::About(bounded(picos)?),
            wit::Hold::Unknown => ToolHold::Unknown,
        })
    }

    fn price(&self, call: &CallOutline, answer: &AnswerOutline) -> Result<Vec<CostPart>, Failed> {
        let given = wit::Answer {
            ending: match answer.ending {
                ToolEnding::Success => wit::Ending::Success,
                ToolEnding::ToolError => wit::Ending::ToolError,
                ToolEnding::ProtocolError => wit::Ending::ProtocolError,
            },
            result: answer.result.clone(),
            result_bytes: answer.result_bytes,
            result_counts: answer.result_counts.clone(),
            milliseconds: answer.milliseconds,
        };
        let parts = self
            .pool
            .call(|pricer, store| pricer.call_price(store, &shown(call), &given))?;
        read_parts(parts).map_err(|reason| self.pool.failed(reason))
    }
}

fn shown(call: &CallOutline) -> wit::Call {
    wit::Call {
        tariff: call.tariff,
        server: call.server.clone(),
        tool: call.tool.clone(),
        arguments: call.arguments.clone(),
        argument_bytes: call.argument_bytes,
        argument_counts: call.argument_counts.clone(),
    }
}

fn read_parts(parts: Vec<wit::Part>) -> Result<Vec<CostPart>, String> {
    if parts.len() > PARTS_MAX {
        return Err(format!("a cost has more than {PARTS_MAX} parts"));
    }
    let mut sum = Picos::ZERO;
    let mut read = Vec::with_capacity(parts.len());
    for part in parts {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if part.name.is_empty() || part.name.len() > PART_NAME_BYTES_MAX || !part.name.bytes().all(plain) {
            return Err("a part of a cost has no name, or none of lower case letters, digits and _".to_owned());
        }
        let cost = Picos::from_picos(part.cost.into());
        sum = sum.checked_add(cost).unwrap_or(Picos::from_picos(i128::MAX));
        read.push(CostPart {
            name: part.name,
            units: part.units,
            cost,
        });
    }
    match sum > COST_MAX {
        true => Err("a call would cost more than a million USD".to_owned()),
        false => Ok(read),
    }
}

fn read_info(info: wit::Info) -> Result<PricerInfo, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if info.name.is_empty() || info.name.len() > 64 || !info.name.chars().all(plain) {
        return Err("its name must be of lower case letters, digits, - and _".to_owned());
    }
    if info.tariffs.len() > TARIFFS_MAX {
        return Err(format!("it has more than {TARIFFS_MAX} tariffs"));
    }
    Ok(PricerInfo {
        name: info.name,
        version: short(info.version)?,
        tariffs: info.tariffs.into_iter().map(tariff).collect::<Result<_, _>>()?,
    })
}

fn tariff(tariff: wit::Tariff) -> Result<Tariff, String> {
    let lists = [
        tariff.argument_paths.len(),
        tariff.result_paths.len(),
        tariff.argument_counts.len(),
        tariff.result_counts.len(),
    ];
    if lists.iter().any(|len| *len > LIST_MAX) {
        return Err(format!("a list of a tariff is longer than {LIST_MAX}"));
    }
    let wants = |wants: Vec<wit::Want>| {
        let want = |want: wit::Want| {
            Ok(Want {
                path: short(want.path)?,
                max_bytes: want.max_bytes,
                max_items: want.max_items,
            })
        };
        wants.into_iter().map(want).collect::<Result<_, String>>()
    };
    let texts = |texts: Vec<String>| texts.into_iter().map(short).collect::<Result<_, String>>();
    Ok(Tariff {
        server: short(tariff.server)?,
        tool: short(tariff.tool)?,
        argument_paths: wants(tariff.argument_paths)?,
        result_paths: wants(tariff.result_paths)?,
        argument_counts: texts(tariff.argument_counts)?,
        result_counts: texts(tariff.result_counts)?,
        prices_tool_errors: tariff.prices_tool_errors,
        prices_protocol_errors: tariff.prices_protocol_errors,
    })
}

fn short(text: String) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err("it gave a name or path that is too long or has control characters".to_owned());
    }
    Ok(text)
}

fn read_problems(problems: Vec<wit::Problem>) -> Vec<ConfProblem> {
    let cut = |text: String| -> String {
        let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        line.take(PROBLEM_CHARS_MAX).collect()
    };
    let mut read: Vec<ConfProblem> = problems
        .into_iter()
        .take(PROBLEMS_MAX)
        .map(|problem| ConfProblem {
            path: cut(problem.path),
            message: cut(problem.message),
        })
        .collect();
    if read.is_empty() {
        read.push(ConfProblem {
            path: String::new(),
            message: "it is refused, and the plugin does not say why".to_owned(),
        });
    }
    read
}
