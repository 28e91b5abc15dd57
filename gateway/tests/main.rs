//! Whole requests through a running gateway. One binary: the gateway is linked once. A file a theme.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;

mod admission;
mod azure;
mod background;
mod batches;
mod bedrock;
mod booked;
mod canary;
mod chat;
mod clocks;
mod contradictions;
mod cutting;
mod dialects;
mod failing;
mod fetched_meanwhile;
mod fingerprints;
mod guard;
mod ids;
mod kill;
mod loops;
mod media;
mod money;
mod passing;
mod planes;
mod policies;
mod policies_contract;
mod policies_intents;
mod policies_soak;
mod prices;
mod providers;
mod sessions;
mod socket;
mod socket_ends;
mod socket_rules;
mod special_files;
mod storage;
mod tidy;
mod tls;
mod vendors;
