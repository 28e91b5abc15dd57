//! `agentledger demo`.

pub use crate::demo::DemoError;

/// Runs the demo on standard output.
pub fn run() -> Result<(), DemoError> {
    crate::demo::run(&mut std::io::stdout().lock())
}
