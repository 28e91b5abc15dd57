//! Reading plans, as far as their form goes. What they say is checked where they are compiled.

use super::{LIST_MAX, kind, short, short_option, wit};
use crate::plugin::dialect::{PlanRow, ReadingPlan, Role, Tally, Word, WordMeaning};

pub(super) fn plan(plan: wit::ReadingPlan) -> Result<ReadingPlan, String> {
    for len in [plan.operations.len(), plan.usage.len(), plan.rows.len()] {
        bounded(len)?;
    }
    Ok(ReadingPlan {
        operations: texts(plan.operations)?,
        streamed: plan.streamed,
        usage: texts(plan.usage)?,
        rows: plan.rows.into_iter().map(row).collect::<Result<_, _>>()?,
    })
}

fn bounded(len: usize) -> Result<(), String> {
    match len > LIST_MAX {
        true => Err(format!("a list of a reading plan is longer than {LIST_MAX}")),
        false => Ok(()),
    }
}

fn texts(list: Vec<String>) -> Result<Vec<String>, String> {
    list.into_iter().map(short).collect()
}

fn row(row: wit::PlanRow) -> Result<PlanRow, String> {
    Ok(PlanRow {
        path: short(row.path)?,
        role: match row.role {
            wit::Role::Model(prefix) => Role::Model { prefix: short(prefix)? },
            wit::Role::ServiceTier(pairs) => {
                bounded(pairs.len())?;
                let pair = |(said, tier)| Ok((short(said)?, short(tier)?));
                Role::ServiceTier(pairs.into_iter().map(pair).collect::<Result<_, String>>()?)
            }
            wit::Role::BillId => Role::BillId,
            wit::Role::Words(words) => {
                bounded(words.len())?;
                Role::Words(words.into_iter().map(word).collect::<Result<_, _>>()?)
            }
            wit::Role::UsageAlone => Role::UsageAlone,
            wit::Role::Counted(counted) => Role::Counted(tally(counted)?),
            wit::Role::Zero(kinds) => {
                bounded(kinds.len())?;
                Role::Zero(kinds.into_iter().map(kind).collect())
            }
            wit::Role::Ignored => Role::Ignored,
            wit::Role::Empty => Role::Empty,
        },
    })
}

fn word(word: wit::Word) -> Result<Word, String> {
    Ok(Word {
        text: short(word.text)?,
        meaning: match word.meaning {
            wit::WordMeaning::Nothing => WordMeaning::Nothing,
            wit::WordMeaning::Final => WordMeaning::Final,
            wit::WordMeaning::Pending => WordMeaning::Pending,
        },
    })
}

fn tally(tally: wit::Tally) -> Result<Tally, String> {
    bounded(tally.sum_of.len())?;
    Ok(Tally {
        kind: tally.kind.map(kind),
        inside: short_option(tally.inside)?,
        beside: short_option(tally.beside)?,
        thoughts: tally.thoughts,
        sum_of: texts(tally.sum_of)?,
    })
}
