//! The meter of one answer: what the relay feeds.

use std::sync::Arc;

use agentledger_ledger::Usage;

use super::core::Core;
use super::decode::{self, Decoder};
use super::documents::WholeAnswer;
use super::frames::{Framer, Framing};
use super::lines::{Line, Lines};
use super::metered::Metered;
use super::reader::AnswerReader;
use super::sniff::{Declared, Found, declared, found};
use crate::limits::Limits;
use crate::plugin::outline::Outline;

/// Decoded bytes of an encoded answer, as a multiple of the longest whole answer.
const DECODED_STREAM_FACTOR: u64 = 4;

/// What is known of an answer when its head has come.
#[derive(Clone, Debug)]
pub struct AnswerFacts<'a> {
    pub operation: Arc<str>,
    /// The request asked for a stream.
    pub stream: bool,
    /// Results as JSON lines, each an answer of its own, whatever the content type says.
    pub lines: bool,
    /// The client did not ask for its stream's usage itself: a frame that says nothing else is to be hidden.
    pub hide_usage: bool,
    pub status: u16,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
}

/// What the text of a WebSocket's message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundOrText {
    /// Sound in base64.
    Sound,
    Text,
}

/// Bytes that may go on to the client: one frame, or a piece of an answer without frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The next bytes of the answer, in order.
    pub raw_len: usize,
    /// They are left out.
    pub hide: bool,
    /// A frame ends here: the answer may be cut after it.
    pub frame_end: bool,
    /// Bytes of text in the answer so far, as JSON writes them.
    pub text_bytes: u64,
    /// Bytes of sound in the answer so far, in base64.
    pub sound_bytes: u64,
}

/// Meters one answer. Every byte pushed comes back as [`Passed`], in order, at once or when its frame is complete.
pub struct Meter {
    source: Source,
    decoder: Option<Decoder>,
    core: Core,
    held_bytes_max: usize,
}

enum Source {
    /// Not metered: an error's status.
    Ignored,
    /// Cannot be read.
    Opaque,
    /// Its first bytes will tell what it is, which may not be what it says. They are held.
    Undecided(Declared, Vec<u8>),
    Framed(Framer),
    Whole(WholeAnswer),
}

impl Meter {
    pub fn new(reader: Arc<AnswerReader>, facts: AnswerFacts<'_>, limits: &Limits) -> Meter {
        let mut core = Core::new(reader, &facts);
        let decoded_max = (limits.answer_bytes_max as u64).saturating_mul(DECODED_STREAM_FACTOR);
        let mut source = if (200..300).contains(&facts.status) && facts.lines {
            Source::Framed(Framer::new(Framing::Ndjson, limits.frame_bytes_max))
        } else if (200..300).contains(&facts.status) {
            Source::Undecided(declared(facts.content_type), Vec::new())
        } else {
            Source::Ignored
        };
        let decoder = decode::decoder(facts.content_encoding, decoded_max).unwrap_or_else(|_| {
            core.encoded_badly = true;
            None
        });
        if core.encoded_badly && !matches!(source, Source::Ignored) {
            source = Source::Opaque;
        }
        core.streamed = matches!(source, Source::Framed(_) | Source::Undecided(Declared::Framed(_), _));
        Meter {
            source,
            decoder,
            core,
            held_bytes_max: limits.frame_bytes_max,
        }
    }

    /// Takes the request's id from the answer's headers, and shows the plugin those that it wants. `header` finds one by its name in lower case.
    #[must_use]
    pub fn with_headers<'h>(mut self, header: impl Fn(&str) -> Option<&'h str>) -> Meter {
        self.core.request_id = self.core.reader.request_id(&header).map(str::to_owned);
        self.core.headers = self.core.reader.headers_member(header);
        self
    }

    /// Takes the next bytes of the answer and tells which may go on.
    pub fn push(&mut self, chunk: &[u8], passed: &mut dyn FnMut(Passed)) {
        if chunk.is_empty() {
            return;
        }
        let Some(mut decoder) = self.decoder.take() else {
            return self.feed(chunk, passed);
        };
        // What is encoded passes as it came: it can neither be hidden nor cut at a frame's end.
        if matches!(self.source, Source::Ignored) || self.core.encoded_badly {
            // Nothing to read.
        } else if decoder.push(chunk, &mut |bytes| self.feed(bytes, &mut |_| {})).is_err() {
            self.core.encoded_badly = true;
        }
        self.decoder = Some(decoder);
        passed(self.core.piece(chunk.len()));
    }

    /// Meters an answer whose frames are the messages of a WebSocket: they are given to [`Meter::message`] alone.
    pub fn of_messages(reader: Arc<AnswerReader>, operation: Arc<str>, limits: &Limits) -> Meter {
        let facts = AnswerFacts {
            lines: false,
            operation,
            stream: true,
            hide_usage: false,
            status: 200,
            content_type: Some("text/event-stream"),
            content_encoding: None,
        };
        let mut meter = Meter::new(reader, facts, limits);
        meter.source = Source::Framed(Framer::new(Framing::Sse, limits.frame_bytes_max));
        meter
    }

    /// One message of the answer, outlined with this meter's reader. `read`: the plugin is to see it, marked or not.
    pub fn message(&mut self, data: &[u8], outline: Outline, kind: SoundOrText, read: bool) -> Passed {
        self.core.frames += 1;
        match kind {
            SoundOrText::Sound => self.core.sound_bytes = self.core.sound_bytes.saturating_add(outline.text_bytes),
            SoundOrText::Text => {
                self.core.outlined(None, data, outline, read);
            }
        }
        Passed {
            frame_end: true,
            ..self.core.piece(data.len())
        }
    }

    /// Bytes pushed that did not come back yet: at most one incomplete frame.
    pub fn pending(&self) -> usize {
        match &self.source {
            Source::Framed(framer) if self.decoder.is_none() => framer.pending(),
            Source::Undecided(_, head) if self.decoder.is_none() => head.len(),
            _ => 0,
        }
    }

    /// The answer passes frame by frame: it can be cut at a frame's end, and end in the dialect's error.
    pub fn is_framed(&self) -> bool {
        let framed = match &self.source {
            Source::Framed(framer) => self.core.streamed && !framer.is_broken(),
            Source::Undecided(declared, _) => matches!(declared, Declared::Framed(_)),
            _ => false,
        };
        framed && self.decoder.is_none()
    }

    /// An ending of the dialect's as bytes that may follow what has passed, whatever the answer's framing. `None`: none may.
    pub fn closing(&self, event: Vec<u8>) -> Option<Vec<u8>> {
        match &self.source {
            Source::Framed(framer) => framer.closing(event),
            Source::Undecided(Declared::Framed(framing), _) => {
                Framer::new(*framing, self.held_bytes_max).closing(event)
            }
            _ => None,
        }
    }

    /// The answer is made: only its usage is still to come.
    pub fn end_is_near(&self) -> bool {
        self.core.end_near
    }

    /// Units of input, once the answer has told them.
    pub fn input(&self) -> Option<Usage> {
        self.core.fold.input()
    }

    /// The dialect's last event has passed.
    pub fn final_seen(&self) -> bool {
        self.core.fold.final_seen()
    }

    /// The lines read since the last call, where the answer is such.
    pub fn take_lines(&mut self) -> Vec<Line> {
        self.core.lines.as_mut().map(Lines::take).unwrap_or_default()
    }

    /// The answer's own id, once a frame told it.
    pub fn response_id(&self) -> Option<&str> {
        self.core.response_id.as_deref()
    }

    /// Bytes of text so far, as JSON writes them.
    pub fn text_bytes(&self) -> u64 {
        self.core.text.bytes()
    }

    /// The answer has ended, well or not. What was held back comes back through `passed`.
    pub fn finish(&mut self, passed: &mut dyn FnMut(Passed)) -> Metered {
        let mut encoded = self.decoder.take();
        self.core.encoded_badly |= encoded.as_mut().is_some_and(|decoder| !decoder.is_whole());
        let mut hand_on = |piece: Passed| {
            if encoded.is_none() && piece.raw_len > 0 {
                passed(piece);
            }
        };
        if let Source::Undecided(_, head) = &self.source
            && !head.is_empty()
        {
            hand_on(self.core.piece(head.len()));
        }
        match std::mem::replace(&mut self.source, Source::Ignored) {
            Source::Framed(mut framer) => {
                framer.finish(&mut |frame| hand_on(self.core.frame(frame)));
                self.core.end_stream(&framer)
            }
            Source::Whole(mut whole) => {
                let readable = whole.finish(&mut self.core);
                self.core.metered(0, !readable, false)
            }
            Source::Undecided(..) | Source::Opaque => {
                // A body that cannot be read may be counted in its headers.
                self.core.read_headers();
                self.core.metered(0, true, false)
            }
            Source::Ignored => self.core.metered(0, false, true),
        }
    }

    fn feed(&mut self, bytes: &[u8], passed: &mut dyn FnMut(Passed)) {
        let Source::Undecided(declared, head) = &mut self.source else {
            return self.feed_decided(bytes, passed);
        };
        // What stands before the first of its bytes tells nothing: keep-alives, a byte order mark.
        let blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
        let blanks = if head.is_empty() {
            bytes.iter().take_while(|byte| blank(byte)).count()
        } else {
            0
        };
        if blanks > 0 {
            passed(self.core.piece(blanks));
        }
        let rest = bytes.get(blanks..).unwrap_or_default();
        if head.is_empty()
            && let Some(found) = found(*declared, self.core.stream, rest)
        {
            self.begin(found);
            return self.feed_decided(rest, passed);
        }
        head.extend_from_slice(rest);
        if let Some(found) = found(*declared, self.core.stream, head) {
            let head = std::mem::take(head);
            self.begin(found);
            self.feed_decided(&head, passed);
        }
    }

    /// It is known what the answer is.
    fn begin(&mut self, found: Found) {
        let held_max = self.held_bytes_max;
        self.core.streamed = match found {
            // An array that was not requested as a stream is whole where it ends.
            Found::Framed(Framing::JsonArray) => self.core.stream,
            Found::Framed(_) => true,
            Found::Whole | Found::Opaque => false,
        };
        self.source = match found {
            Found::Framed(framing) => Source::Framed(Framer::new(framing, held_max)),
            Found::Whole => Source::Whole(WholeAnswer::new(held_max)),
            Found::Opaque => Source::Opaque,
        };
    }

    fn feed_decided(&mut self, bytes: &[u8], passed: &mut dyn FnMut(Passed)) {
        let core = &mut self.core;
        match &mut self.source {
            Source::Framed(framer) => framer.push(bytes, &mut |frame| {
                let piece = core.frame(frame);
                if piece.raw_len > 0 {
                    passed(piece);
                }
            }),
            Source::Whole(whole) => {
                whole.push(core, bytes);
                passed(core.piece(bytes.len()));
            }
            Source::Ignored | Source::Opaque | Source::Undecided(..) => passed(core.piece(bytes.len())),
        }
    }
}
