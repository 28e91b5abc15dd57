//! Reading plans: what a plugin would say of the common answers, as tables that are read natively. A call into a plugin
//! costs 34 µs of an answer; a plan reads the same outline without one.
//!
//! A plan answers where it is certain, and a call everywhere else: each member of the outline must be named by a row, and be
//! what the row says. So a plan needs no knowledge of providers, and what is new in an answer is the plugin's to read. In
//! tests each answer of a plan is compared with the plugin's own (`meter/reader.rs`).

mod compile;
mod run;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::dialect::{AnswerFrame, Info, Reading};
use compile::Table;

/// Plans of one plugin.
const PLANS_MAX: usize = 32;

/// Why a plugin's plans cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its reading plan for {operations}: {fault}")]
pub struct PlanError {
    pub operations: String,
    pub fault: String,
}

/// The plans of one plugin, compiled.
#[derive(Debug, Default)]
pub struct Plans {
    tables: Vec<Table>,
}

impl Plans {
    pub fn compile(info: &Info) -> Result<Plans, PlanError> {
        let wants = info.answer_wants();
        let mut known: HashSet<(&str, bool)> = HashSet::new();
        let mut tables = Vec::new();
        for (at, plan) in info.reading_plans.iter().enumerate() {
            let unfit = |fault: String| PlanError {
                operations: plan.operations.join(", "),
                fault,
            };
            if at >= PLANS_MAX {
                return Err(unfit(format!("it is one of more than {PLANS_MAX}")));
            }
            for operation in &plan.operations {
                if !info.routes.iter().any(|route| route.operation == *operation) {
                    return Err(unfit(format!("no route has the operation {operation:?}")));
                }
                if !known.insert((operation, plan.streamed)) {
                    return Err(unfit(format!("another one is for {operation:?}, too")));
                }
            }
            tables.push(Table::compile(plan, &wants).map_err(unfit)?);
        }
        Ok(Plans { tables })
    }

    /// What the plugin would say of this frame, whose outline was read strictly. `None`: it is to be asked.
    pub fn read(&self, frame: &AnswerFrame<'_>) -> Option<Reading> {
        let fits = |table: &&Table| {
            table.streamed == frame.streamed && table.operations.iter().any(|own| own == frame.operation)
        };
        let table = self.tables.iter().find(fits)?;
        if !(200..300).contains(&frame.status) {
            return None;
        }
        run::read(table, frame)
    }
}
