//! `agentledger demo`: the main job, shown without a key and without a network.

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the demo is not built yet")]
    NotBuilt,
}

pub fn run() -> Result<(), DemoError> {
    Err(DemoError::NotBuilt)
}
