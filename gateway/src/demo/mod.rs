//! `agentledger demo`.

/// Until the demo lands.
pub fn run() -> Result<(), std::io::Error> {
    Err(std::io::Error::other("the demo is being built"))
}
