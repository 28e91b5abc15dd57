//! One open answer of a connection, and what the connection is known to be like.

use agentledger_ledger::{Hold, Name};
use tokio::sync::watch;
use ulid::Ulid;

use crate::meter::{End, Meter};
use crate::plugin::Meaning;
use crate::proxy::reserve::Reservation;
use crate::proxy::reserve::extend::StreamAllowance;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::rates::Grant;
use crate::telemetry::Running;

/// One answer, from its hold to its end.
pub struct OpenAnswer {
    pub id: Ulid,
    pub exchange: Exchange,
    pub held: HeldAnswer,
    pub meter: Meter,
    pub lane: Option<String>,
    pub requested_by: Option<String>,
    pub answer: Option<String>,
    pub cancel: Option<String>,
    pub echo: Option<String>,
    /// The message that requests it has been written.
    pub sent: bool,
    pub begun: bool,
    /// Nothing of it is passed on any more.
    pub cut: bool,
    pub ttfb_ms: Option<u64>,
    pub _guards: (Running, Running, Busy),
}

/// What the connection is known to be like, by which answers that nobody requested are sized.
#[derive(Default)]
pub struct Setting {
    pub model: Option<String>,
    pub aside_model: Option<String>,
    pub max_output: Option<u64>,
    /// Input and output of the answer before: the next one's input has them, too.
    pub kept_tokens: u64,
    /// Text and sound that the client sent since.
    pub heard_text_bytes: u64,
    pub heard_sound_bytes: u64,
}

#[derive(Default)]
pub struct ConnectionState {
    /// In the order in which they were requested or began.
    pub open: Vec<OpenAnswer>,
    /// How the connection ended: an answer that is held only now ends at once.
    pub over: Option<End>,
    pub setting: Setting,
}

/// Counts one answer as running, or as being requested, until it is dropped.
pub struct Busy(watch::Sender<usize>);

impl Busy {
    pub fn new(count: &watch::Sender<usize>) -> Busy {
        count.send_modify(|count| *count += 1);
        Busy(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// What an answer is opened with.
pub struct HeldAnswer {
    pub hold: Hold,
    /// Rates and permits that it took; its end gives the permits back.
    pub rates: Option<Grant>,
    /// What policies in shadow count, until it ends.
    pub _shadow: Vec<Grant>,
    /// `None`: it runs although it may not, and only its end stops it.
    pub allowance: Option<StreamAllowance>,
    pub verdict: Vec<Name>,
    pub expected: ExpectedUse,
}

impl From<Reservation> for HeldAnswer {
    fn from(reserved: Reservation) -> HeldAnswer {
        HeldAnswer {
            hold: reserved.hold,
            rates: Some(reserved.rates),
            _shadow: reserved.shadow,
            allowance: Some(reserved.allowance),
            verdict: reserved.verdict,
            expected: reserved.expected,
        }
    }
}

/// A hold whose message has not been written: dropped, it is void, for nothing can have been billed.
pub struct UnsentAnswer(pub Option<HeldAnswer>);

impl Drop for UnsentAnswer {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.hold.void("not_forwarded");
        }
    }
}

/// How an answer is stopped, and what the client gets to know of it.
#[derive(Debug)]
pub struct AnswerStop {
    pub message: String,
    pub answer: Option<String>,
    pub echo: Option<String>,
    /// Sent upstream. `None`: only closing the connection stops it.
    pub cancel: Option<String>,
}

impl OpenAnswer {
    pub fn begin(&mut self, meaning: &Meaning) {
        self.begun = true;
        // Who answers has the question: the connection may end before its writing is known to be done.
        self.sent = true;
        self.answer.clone_from(&meaning.answer);
        self.cancel.clone_from(&meaning.cancel);
    }

    pub fn stop(&self, message: String) -> AnswerStop {
        AnswerStop {
            message,
            answer: self.answer.clone(),
            echo: self.echo.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

impl ConnectionState {
    /// The answer that a message belongs to: by its id, else the first of its lane.
    pub fn find(&self, meaning: &Meaning) -> Option<usize> {
        let by_id = |open_answer: &OpenAnswer| open_answer.answer.is_some() && open_answer.answer == meaning.answer;
        let by_lane = |open_answer: &OpenAnswer| {
            open_answer.lane == meaning.lane && (open_answer.answer.is_none() || meaning.answer.is_none())
        };
        self.open
            .iter()
            .position(by_id)
            .or_else(|| self.open.iter().position(by_lane))
    }
}
