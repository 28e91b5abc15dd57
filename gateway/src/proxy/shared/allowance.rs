//! What a relayed answer is checked against and handed to: how far it may go on, and who takes its lines.

use crate::meter::Line;

/// Decides, as a stream grows, whether it may go on. The reserve step makes it of the hold.
pub trait Allowance: Send {
    /// `text_bytes`: text of the answer so far. `Err`: cut here, with this message.
    fn covers(&mut self, text_bytes: u64) -> Result<(), String>;
}

/// For operations that are not held.
pub struct Unbounded;

impl Allowance for Unbounded {
    fn covers(&mut self, _text_bytes: u64) -> Result<(), String> {
        Ok(())
    }
}

/// Takes the lines of a batch's results, as they pass.
pub trait LineSink: Send + Sync {
    fn line(&mut self, line: Line);
}
