//! Parameters and results of the JSON-RPC methods. Every parameter object may be left out, and so may each of its
//! fields. Times are RFC 3339, money is decimal text in USD.
//!
//! One file a noun; whoever reads a parameter or a row finds it by the method's first word.

mod alerts;
mod audit;
mod budgets;
mod calls;
mod clock;
mod denials;
mod discover;
mod feeds;
mod holds;
mod journal;
mod keys;
mod ledger;
mod made_of;
mod moving;
mod policies;
mod policy_versions;
mod prices;
mod providers;
mod rates;
mod replay;
mod rules;
mod series;
mod session_tree;
mod sessions;
mod system;
mod tenants;
mod tool_calls;
mod tool_servers;

pub use alerts::*;
pub use audit::*;
pub use budgets::*;
pub use calls::*;
pub use clock::*;
pub use denials::*;
pub use discover::*;
pub use feeds::*;
pub use holds::*;
pub use journal::*;
pub use keys::*;
pub use ledger::*;
pub use made_of::*;
pub use moving::*;
pub use policies::*;
pub use policy_versions::*;
pub use prices::*;
pub use providers::*;
pub use rates::*;
pub use replay::*;
pub use rules::*;
pub use series::*;
pub use session_tree::*;
pub use sessions::*;
pub use system::*;
pub use tenants::*;
pub use tool_calls::*;
pub use tool_servers::*;
