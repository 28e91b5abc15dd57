//! One open answer of a connection, and what the connection is known to be like.

use agentledger_ledger::{Hold, Name};
use tokio::sync::watch;
use ulid::Ulid;

use crate::meter::frames::websocket::Message;
use crate::meter::{End, Meter};
use crate::plugin::Meaning;
use crate::proxy::reserve::Reservation;
use crate::proxy::reserve::extend::StreamAllowance;
use crate::proxy::shared::allowance::Uncovered;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::rates::Grant;
use crate::telemetry::Running;

/// Messages of an answer that waits for others' holds, in bytes; where it says more meanwhile it is cut.
const HELD_BACK_BYTES_MAX: usize = 4 << 20;

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
    /// What its client may not see yet, while only others' holds keep it from going on.
    pub held_back: Option<HeldBack>,
    pub ttfb_ms: Option<u64>,
    pub _guards: (Running, Running, Busy),
}

/// The messages of an answer that waits, and what its hold is to cover before they go on.
#[derive(Default)]
pub struct HeldBack {
    messages: Vec<Message>,
    bytes: usize,
    /// Bytes of text and tokens of sound, of the whole answer so far.
    said: (u64, u64),
}

impl HeldBack {
    /// Takes one more. False: it is too much to wait with.
    pub fn keep(&mut self, message: Message, said: (u64, u64)) -> bool {
        self.bytes = self.bytes.saturating_add(message.payload_len());
        self.messages.push(message);
        self.said = said;
        self.bytes <= HELD_BACK_BYTES_MAX
    }

    pub fn said(&self) -> (u64, u64) {
        self.said
    }
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

    /// Whether its hold covers so much of it; always, where it runs without one.
    pub fn covers(&mut self, (text_bytes, sound_tokens): (u64, u64)) -> Result<(), Uncovered> {
        let Some(allowance) = &mut self.held.allowance else {
            return Ok(());
        };
        let mut bounded = allowance.bind(&mut self.held.hold);
        bounded.covers_with(text_bytes, sound_tokens)
    }

    /// What was held back of it, in order.
    pub fn let_go(&mut self) -> Vec<Message> {
        self.held_back
            .take()
            .map_or_else(Vec::new, |held_back| held_back.messages)
    }

    /// Cut here: what was held back goes nowhere.
    pub fn cut(&mut self, message: String) -> AnswerStop {
        self.cut = true;
        self.held_back = None;
        self.stop(message)
    }

    fn stop(&self, message: String) -> AnswerStop {
        AnswerStop {
            message,
            answer: self.answer.clone(),
            echo: self.echo.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

impl ConnectionState {
    /// The answer with this id, while it waits.
    pub fn waiting(&mut self, id: Ulid) -> Option<&mut OpenAnswer> {
        let is_it = |open_answer: &&mut OpenAnswer| open_answer.id == id && open_answer.held_back.is_some();
        self.open.iter_mut().find(is_it)
    }

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
