//! Reads what an answer used while its bytes pass: framing, folding, estimating. The relay feeds a [`Meter`]; what comes
//! out is a [`Metered`], and, once the exchange's end is known, a [`Settled`].

mod answer;
mod decode;
pub mod estimate;
pub mod fold;
pub mod frames;
mod ids;
pub mod kept;
pub mod learn;
pub mod lines;
mod metered;
pub mod price;
mod reader;
pub mod reason;
mod settle;
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
mod tests;

pub use answer::{AnswerFacts, Meter, Passed, SoundOrText};
pub use estimate::Estimator;
pub use fold::MeteredPart;
pub use ids::Ids;
pub use metered::Metered;
pub use reader::Reader;
pub use settle::{End, Settled, sound_tokens};
pub use text::Text;
