//! Reads what an answer used while its bytes pass: framing, folding, estimating. The relay feeds a [`Meter`]; what comes
//! out is a [`Metered`], and, once the exchange's end is known, a [`SettledUsage`].

mod answer;
mod core;
mod decode;
mod documents;
mod estimate;
mod fold;
pub mod frames;
mod ids;
mod learn;
pub mod learned_file;
mod lines;
mod metered;
mod reader;
mod settle;
mod sides;
mod sketch;
mod slot;
mod sniff;
mod text;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod corpus_aws;
#[cfg(test)]
mod corpus_hosts;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod like_the_last_tests;
#[cfg(test)]
mod odd_answers_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod tests;

pub use answer::{AnswerFacts, Meter, Passed, SoundOrText};
pub use estimate::{Estimator, Method};
pub use fold::MeteredPart;
pub use ids::Ids;
pub use learn::{CallSeen, LearnedOf};
pub use lines::Line;
pub use metered::Metered;
pub use reader::AnswerReader;
pub use settle::{End, SettledUsage, sound_tokens};
pub use text::Text;
