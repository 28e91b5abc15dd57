//! Whole requests through a running gateway. One binary: the gateway is linked once. A file a theme.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;

mod chat;
mod failing;
mod guard;
mod passing;
mod tidy;
