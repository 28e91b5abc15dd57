//! What `gateway/tests` and `benches` reach of the gateway's inside. No interface: it changes with what it shows.

pub use crate::proxy::shared::codes::{RefusalCode, Retry};
pub use crate::rates::ACCOUNTS_MAX;
pub use crate::secret::Secret;
pub use crate::telemetry::alerts::{ALERTS_MAX, Alert, Occurrence, Severity};

pub mod config {
    pub use crate::config::{Config, ConfigErrors, Env, Known, Plugins, load, load_text};
    pub use crate::limits::Limits;
}

pub mod identify {
    pub use crate::proxy::identify::clients::known_client;
    pub use crate::proxy::identify::infer::from_head;
    pub use crate::proxy::shared::identity::Identity;
}

pub mod launch {
    pub use crate::launch::{Launched, LoadedSetup, launch, of_config, read};
}

pub mod meter {
    pub use crate::meter::frames::websocket;
    pub use crate::meter::{AnswerFacts, AnswerReader, Meter};
}

pub mod plugin {
    pub use crate::plugin::outline::outline;
    pub use crate::plugin::{
        AnswerFrame, Call, Dialect, DialectError, DialectRefusal, Ending, Info, Plugin, Plugins, Reading, Request,
        Sender,
    };
}

pub mod policy {
    pub use crate::policy::check::{Finding, check_source};
    pub use crate::policy::record::DecisionRecord;
    pub use crate::policy::{
        Balances, CallFacts, CostEstimate, Engine, FailureCounts, History, NoBalances, Options, Phase, PolicySet,
        Source, Verdict, builtin_sources, load_dir,
    };
}

pub mod replay {
    pub use crate::replay::base::recorded_base;
    pub use crate::replay::prices::ReplayPrices;
    pub use crate::replay::report::Replayed;
    pub use crate::replay::run::{Candidate, Mode, Progress, Request, replay};
}

pub mod price {
    pub use crate::price::PriceBook;
}

pub mod progress {
    pub use crate::proxy::session::progress::{Bounds, SessionProgress};
}
