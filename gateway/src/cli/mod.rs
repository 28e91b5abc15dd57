//! The commands.

pub mod budgets;
pub mod client;
pub mod costs;
pub mod demo;
pub mod export;
pub mod holds;
pub mod table;
pub mod verify;

#[cfg(test)]
mod command_tests;
