//! What an answer of a server means for the calls that wait for it: the reader beside a relay hands each message here, and the calls
//! that it answers are settled before their client sees it.

use std::sync::Arc;

use agentledger_ledger::Outcome;

use super::Mcp;
use super::answer::{Answer, Piece, Turn, is_over, result_of_task};
use super::arrive::{Arrival, channel_at};
use super::call::OpenCall;
use super::definition::Definition;
use super::discovery::{Resource, with_resource};
use super::endpoints::ForeignAddress;
use super::list::{UnreadableList, filtered};
use super::message::{Message, Messages, id_key, written_alike};
use super::view::ToolView;
use super::waiting::WaitKey;
use crate::estimate_reason;
use crate::meter::End;
use crate::proxy::shared::gateway::Gateway;

const ACCEPTED: u16 = 202;

/// What of an answer may have to be changed before it goes on.
pub enum Edits<'a> {
    Nothing,
    /// The address that a stream of the older transport tells of.
    Endpoint,
    /// Lists of tools: the ids of the requests for them, and who sees what.
    Lists(Vec<String>, Box<ToolView<'a>>),
    /// The address of the resource in its document.
    Resource(Resource),
}

/// Why an answer goes no further.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It would lead its client to another host.
    LeadsAway,
    /// It is to be changed, and cannot be read.
    Unreadable,
}

/// One HTTP answer, and who waits for what is in it.
pub struct Traffic<'a> {
    gateway: &'a Arc<Gateway>,
    mcp: &'a Mcp,
    arrival: &'a Arrival,
    /// The calls of the request.
    open: Vec<OpenCall>,
    /// Its questions about tasks: by id, the task, and whether its result is asked for.
    tasks: Vec<(String, String, bool)>,
    /// On which answers find calls that wait.
    channel: String,
    edits: Edits<'a>,
    /// The revision has no streams that are resumed.
    is_stateless: bool,
    status: u16,
}

impl<'a> Traffic<'a> {
    /// Of a stream that a client listens on.
    pub fn of_stream(parts: (&'a Arc<Gateway>, &'a Mcp, &'a Arrival)) -> Traffic<'a> {
        Traffic::new(parts, Vec::new(), None, Edits::Endpoint)
    }

    /// Of a document.
    pub fn of_document(parts: (&'a Arc<Gateway>, &'a Mcp, &'a Arrival), edits: Edits<'a>) -> Traffic<'a> {
        Traffic::new(parts, Vec::new(), None, edits)
    }

    /// Of a request that says `messages`.
    pub fn new(
        (gateway, mcp, arrival): (&'a Arc<Gateway>, &'a Mcp, &'a Arrival),
        open: Vec<OpenCall>,
        messages: Option<(&Messages<'_>, bool)>,
        edits: Edits<'a>,
    ) -> Traffic<'a> {
        let is_stateless = messages.is_some_and(|(_, is_stateless)| is_stateless);
        let messages = messages.map(|(messages, _)| messages);
        let all = messages.map(|messages| messages.all.as_slice()).unwrap_or_default();
        Traffic {
            tasks: task_questions(all).collect(),
            channel: arrival.channel.clone(),
            edits,
            status: 0,
            gateway,
            mcp,
            arrival,
            open,
            is_stateless,
        }
    }

    /// The head of the answer has come.
    pub fn began(&mut self, status: u16) {
        self.status = status;
        self.open.iter_mut().for_each(OpenCall::first_byte);
    }

    /// Whether some of it may have to be changed, so that it passes piece by piece.
    pub fn edits(&self) -> bool {
        !matches!(self.edits, Edits::Nothing)
    }

    /// Takes what a piece says. The data that goes on in place of its own, where that is another.
    ///
    /// # Errors
    /// It must not go on.
    pub fn take(&mut self, piece: &Piece<'_>) -> Result<Option<String>, Unfit> {
        for answer in &piece.answers {
            self.answer(answer);
        }
        let text = |data: &[u8]| String::from_utf8(data.to_vec()).map_err(|_| Unfit::Unreadable);
        match (&self.edits, piece.data) {
            (Edits::Nothing, _) => Ok(None),
            (Edits::Endpoint, Some(data)) if piece.event == Some("endpoint") => self.endpoint(data).map(Some),
            (Edits::Endpoint, _) => Ok(None),
            // Only what is whole can be changed.
            (Edits::Lists(..), None) if piece.is_part => Err(Unfit::Unreadable),
            (Edits::Lists(ids, view), Some(data)) if piece.answers.iter().any(|answer| is_of(ids, &answer.id)) => {
                let changed = filtered(&text(data)?, |tool, definition| {
                    view.shows(tool, &Definition::Whole(definition))
                });
                changed.map_err(|UnreadableList| Unfit::Unreadable)
            }
            (Edits::Resource(resource), Some(data)) => {
                let upstream = &self.arrival.server.config.upstream;
                Ok(with_resource(&text(data)?, upstream, resource))
            }
            (Edits::Lists(..) | Edits::Resource(_), _) => Ok(None),
        }
    }

    /// The older transport tells its client where to post; the answers come on this stream.
    fn endpoint(&mut self, data: &[u8]) -> Result<String, Unfit> {
        let (server, address) = (&self.arrival.server, String::from_utf8_lossy(data));
        let told = self.mcp.endpoints.tell(server, &address);
        let told = told.map_err(|ForeignAddress| Unfit::LeadsAway)?;
        let mark = if told.query.is_empty() { "" } else { "?" };
        let forward_path = format!("{}{mark}{}", told.path, told.query);
        self.channel = channel_at(server, &forward_path, &self.arrival.identity.fingerprint);
        Ok(told.address)
    }

    fn answer(&mut self, answer: &Answer<'_>) {
        if !self.answers(&answer.id, answer)
            && let Some(id) = written_alike(&answer.id)
        {
            self.answers(&id, answer);
        }
    }

    /// Whether it is the answer to something with this id.
    fn answers(&mut self, id: &str, answer: &Answer<'_>) -> bool {
        if let Some(at) = self.open.iter().position(|call| call.id == id) {
            let call = self.open.swap_remove(at);
            self.answered(call, answer);
            return true;
        }
        if let Some((_, task, wants_result)) = self.tasks.iter().find(|(known, ..)| known == id) {
            let (key, is_over) = (WaitKey::task(&self.channel, task), is_over(&answer.says, *wants_result));
            if let Some((says, call)) = is_over.and_then(|says| Some((says, self.mcp.waiting.take(&key)?))) {
                let answer = Answer {
                    id: answer.id.clone(),
                    says,
                    result: answer.result.map(|answer| result_of_task(answer).unwrap_or(answer)),
                    ..*answer
                };
                call.answered(self.gateway, &answer.says, answer.seen(), self.status);
            }
            return true;
        }
        let waiting = self.mcp.waiting.take(&WaitKey::answer(&self.channel, id));
        let is_known = waiting.is_some();
        if let Some(mut call) = waiting {
            call.first_byte();
            self.answered(call, answer);
        }
        is_known
    }

    /// An answer that asks for input, or goes on as a task, is none yet.
    fn answered(&self, call: OpenCall, answer: &Answer<'_>) {
        let key = match answer.says.turn() {
            Turn::WantsInput(state) => call.round_key(&self.arrival.channel, state),
            Turn::GoesOn(task) => WaitKey::task(&self.channel, task),
            Turn::Ended(says) => return call.answered(self.gateway, &says, answer.of_call().seen(), self.status),
        };
        self.mcp.waiting.put(self.gateway, key, call);
    }

    /// The answer is over. What it did not answer may be answered on another stream, where it can and its client wants it: one was
    /// accepted for the stream of the older transport, or broke off and can be resumed.
    pub fn end(self, end: End, is_resumable: bool) {
        let comes_elsewhere = self.status == ACCEPTED || (is_resumable && !self.is_stateless && end != End::Cut);
        for call in self.open {
            // A redirect is none of the tool's doing, either.
            if self.status >= 300 {
                call.turned_down(self.gateway, self.status);
            } else if comes_elsewhere && call.is_wanted() {
                let key = WaitKey::answer(&self.channel, &call.id);
                self.mcp.waiting.put(self.gateway, key, call);
            } else {
                let (outcome, reason) = match end {
                    End::Completed if !call.is_wanted() => (Outcome::ClientGone, estimate_reason::CLIENT_GONE),
                    End::Completed => (Outcome::UpstreamFailed, estimate_reason::INCOMPLETE),
                    End::UpstreamFailed => (Outcome::UpstreamFailed, estimate_reason::UPSTREAM_FAILED),
                    End::ClientGone => (Outcome::ClientGone, estimate_reason::CLIENT_GONE),
                    End::Cut => (Outcome::Cut, estimate_reason::CUT),
                };
                call.unseen(self.gateway, outcome, self.status, reason);
            }
        }
        // The older transport's stream was the only one on which answers could come.
        if self.channel != self.arrival.channel {
            self.mcp.end(self.gateway, &self.channel);
        }
    }
}

fn is_of(ids: &[String], id: &str) -> bool {
    ids.iter().any(|known| known == id) || written_alike(id).is_some_and(|id| ids.contains(&id))
}

/// The questions about tasks among messages: by their ids, the task, and whether its result is asked for.
pub fn task_questions(messages: &[Message<'_>]) -> impl Iterator<Item = (String, String, bool)> {
    messages.iter().filter_map(|message| {
        let wants_result = match message.method.as_deref()? {
            "tasks/result" => true,
            "tasks/get" | "tasks/cancel" => false,
            _ => return None,
        };
        let task = message.params.task_id.as_deref()?.to_owned();
        Some((id_key(message.id?), task, wants_result))
    })
}
