//! The meter of one answer: what the relay feeds.

use std::collections::VecDeque;
use std::sync::Arc;

use agentledger_ledger::Usage;

use super::decode::{self, Decoder};
use super::fold::Fold;
use super::frames::{Frame, FrameFault, FrameKind, Framer, Framing};
use super::lines::{Line, Lines};
use super::metered::Metered;
use super::reader::AnswerReader;
use super::text::Text;
use crate::estimate_reason;
use crate::limits::Limits;
use crate::plugin::AnswerFrame;
use crate::plugin::outline::Outline;

/// Unread frames kept, as outlines, to be read again at the end.
const KEPT_FRAMES_MAX: usize = 4;
/// Longest outline kept so; a longer one is read at once.
const KEPT_OUTLINE_BYTES_MAX: usize = 2 << 10;
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
    frame_bytes_max: usize,
    answer_bytes_max: usize,
}

enum Source {
    /// Not metered: an error's status.
    Ignored,
    /// Cannot be read.
    Opaque,
    /// The first byte will tell.
    Undecided,
    Framed(Framer),
    Whole(Vec<u8>),
}

/// All but the bytes.
struct Core {
    reader: Arc<AnswerReader>,
    operation: Arc<str>,
    stream: bool,
    hide_usage: bool,
    status: u16,
    streamed: bool,
    response_id: Option<String>,
    request_id: Option<String>,
    fold: Fold,
    text: Text,
    sound_bytes: u64,
    /// Text up to and with the last frame that bore usage.
    text_bytes_covered: u64,
    frames: u64,
    /// JSON frames whose outline could be made.
    outlined: u64,
    unreadable: u64,
    encoded_badly: bool,
    frame_fault: Option<FrameFault>,
    plugin_errors: u32,
    /// The plugin failed on a frame after the last usage.
    failed_since_usage: bool,
    /// A frame after the last usage is no JSON, or the stream lacks its end.
    truncated: bool,
    kept: VecDeque<Kept>,
    /// Where each frame is an answer of its own.
    lines: Option<Lines>,
    /// The last frame is among the kept.
    last_unread: bool,
    /// The answer's headers that the plugin wants, as the first member of an outline; empty where there are none.
    headers: String,
}

#[derive(Default)]
struct Kept {
    event: Option<String>,
    outline: String,
}

impl Meter {
    pub fn new(reader: Arc<AnswerReader>, facts: AnswerFacts<'_>, limits: &Limits) -> Meter {
        let mut core = Core::new(reader, &facts);
        let decoded_max = (limits.answer_bytes_max as u64).saturating_mul(DECODED_STREAM_FACTOR);
        let mut source = if (200..300).contains(&facts.status) && facts.lines {
            Source::Framed(Framer::new(Framing::Ndjson, limits.frame_bytes_max))
        } else if (200..300).contains(&facts.status) {
            by_content_type(facts.content_type, limits.frame_bytes_max)
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
        core.streamed = matches!(source, Source::Framed(_));
        let (frame_bytes_max, answer_bytes_max) = (limits.frame_bytes_max, limits.answer_bytes_max);
        Meter {
            source,
            decoder,
            core,
            frame_bytes_max,
            answer_bytes_max,
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
        Meter::new(reader, facts, limits)
    }

    /// One message of the answer, outlined with this meter's reader. `read`: the plugin is to see it, marked or not.
    pub fn message(&mut self, data: &[u8], outline: Outline, kind: SoundOrText, read: bool) -> Passed {
        self.core.frames += 1;
        match kind {
            SoundOrText::Sound => self.core.sound_bytes = self.core.sound_bytes.saturating_add(outline.text_bytes),
            SoundOrText::Text if read => {
                self.core.name(data, &outline);
                self.core.outlined += 1;
                self.core.text.add(data, &outline);
                self.core.last_unread = false;
                self.core.read(None, &outline.doc);
            }
            SoundOrText::Text => {
                self.core.outlined(None, data, outline);
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
            _ => 0,
        }
    }

    /// The answer passes frame by frame: it can be cut at a frame's end, and end in the dialect's error.
    pub fn is_framed(&self) -> bool {
        self.decoder.is_none() && matches!(&self.source, Source::Framed(framer) if !framer.is_broken())
    }

    /// An ending of the dialect's as bytes that may follow what has passed, whatever the answer's framing. `None`: none may.
    pub fn closing(&self, event: Vec<u8>) -> Option<Vec<u8>> {
        match &self.source {
            Source::Framed(framer) => framer.closing(event),
            _ => None,
        }
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
        let encoded = self.decoder.is_some();
        let mut oversized = 0;
        match std::mem::replace(&mut self.source, Source::Ignored) {
            Source::Framed(mut framer) => {
                framer.finish(&mut |frame| {
                    let piece = self.core.frame(frame);
                    if !encoded {
                        passed(piece);
                    }
                });
                oversized = framer.oversized();
                self.core.frame_fault = framer.fault();
                self.core.truncated |= !framer.is_whole();
                self.core.reread();
                let unread = self.core.outlined == 0 && (self.core.unreadable > 0 || self.core.frames == 0);
                self.core.metered(
                    oversized,
                    unread || (oversized > 0 && !self.core.fold.usage_seen()),
                    false,
                )
            }
            Source::Whole(body) => {
                let readable = self.core.whole(&body);
                self.core.metered(oversized, !readable, false)
            }
            Source::Undecided | Source::Opaque => {
                // A body that cannot be read may be counted in its headers.
                if !self.core.headers.is_empty() {
                    self.core.read(None, "{}");
                }
                self.core.metered(oversized, true, false)
            }
            Source::Ignored => self.core.metered(oversized, false, true),
        }
    }

    fn feed(&mut self, bytes: &[u8], passed: &mut dyn FnMut(Passed)) {
        if matches!(self.source, Source::Undecided)
            && let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            self.source = by_first_byte(*first, self.core.stream, self.frame_bytes_max);
            self.core.streamed = matches!(self.source, Source::Framed(_));
        }
        match &mut self.source {
            Source::Framed(framer) => {
                let core = &mut self.core;
                framer.push(bytes, &mut |frame| passed(core.frame(frame)));
                return;
            }
            Source::Whole(body) if body.len() + bytes.len() > self.answer_bytes_max => self.source = Source::Opaque,
            Source::Whole(body) => body.extend_from_slice(bytes),
            Source::Ignored | Source::Opaque | Source::Undecided => {}
        }
        passed(self.core.piece(bytes.len()));
    }
}

/// What the answer says it is. JSON may still be an array that arrives element by element.
fn by_content_type(content_type: Option<&str>, frame_bytes_max: usize) -> Source {
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let framing = match essence.as_str() {
        "text/event-stream" => Framing::Sse,
        "application/vnd.amazon.eventstream" => Framing::AwsEventStream,
        // The last is Cohere's.
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/jsonlines"
        | "application/stream+json" => Framing::Ndjson,
        essence if essence.starts_with("audio/") || essence.starts_with("image/") || essence.starts_with("video/") => {
            return Source::Opaque;
        }
        _ => return Source::Undecided,
    };
    Source::Framed(Framer::new(framing, frame_bytes_max))
}

/// What the answer is by its first byte, where its content type does not say it is a stream.
fn by_first_byte(first: u8, stream: bool, frame_bytes_max: usize) -> Source {
    match first {
        b'[' if stream => Source::Framed(Framer::new(Framing::JsonArray, frame_bytes_max)),
        b'{' | b'[' => Source::Whole(Vec::new()),
        // `data:`, `event:`, `id:`, `retry:`, a comment, a byte order mark: an event stream under another name.
        b'd' | b'e' | b'i' | b'r' | b':' | 0xef if stream => Source::Framed(Framer::new(Framing::Sse, frame_bytes_max)),
        _ => Source::Opaque,
    }
}

impl Core {
    fn new(reader: Arc<AnswerReader>, facts: &AnswerFacts<'_>) -> Core {
        Core {
            reader,
            operation: Arc::clone(&facts.operation),
            stream: facts.stream,
            hide_usage: facts.hide_usage,
            status: facts.status,
            streamed: false,
            response_id: None,
            request_id: None,
            fold: Fold::default(),
            text: Text::default(),
            sound_bytes: 0,
            text_bytes_covered: 0,
            frames: 0,
            outlined: 0,
            unreadable: 0,
            encoded_badly: false,
            frame_fault: None,
            plugin_errors: 0,
            failed_since_usage: false,
            truncated: false,
            kept: VecDeque::new(),
            lines: facts.lines.then(Lines::default),
            last_unread: false,
            headers: String::new(),
        }
    }

    fn piece(&self, raw_len: usize) -> Passed {
        Passed {
            raw_len,
            hide: false,
            frame_end: false,
            text_bytes: self.text.bytes(),
            sound_bytes: self.sound_bytes,
        }
    }

    fn frame(&mut self, frame: Frame<'_>) -> Passed {
        let hide = frame.kind == FrameKind::Data && self.event(frame.event, frame.data);
        let frame_end = frame.kind != FrameKind::Unread;
        Passed {
            hide,
            frame_end,
            ..self.piece(frame.raw_len)
        }
    }

    /// One event of a stream. True: it is to be hidden.
    fn event(&mut self, event: Option<&str>, data: &[u8]) -> bool {
        self.frames += 1;
        if self.lines.is_some() {
            self.line(data);
            return false;
        }
        // `[DONE]` and its like carry nothing.
        if !data.trim_ascii_start().starts_with(b"{") {
            return false;
        }
        let Ok(outline) = self.reader.outline(data) else {
            self.unreadable += 1;
            self.truncated = true;
            return false;
        };
        self.outlined(event, data, outline)
    }

    /// A frame that was outlined already. True: it is to be hidden.
    fn outlined(&mut self, event: Option<&str>, data: &[u8], outline: Outline) -> bool {
        self.outlined += 1;
        self.name(data, &outline);
        self.text.add(data, &outline);
        let first = self.outlined == 1;
        if first || outline.doc.len() > KEPT_OUTLINE_BYTES_MAX || self.reader.marks(event, data) {
            self.last_unread = false;
            return self.read(event, &outline.doc) && self.hide_usage;
        }
        self.keep(event, outline.doc);
        false
    }

    /// Keeps the answer's id, where this is the first frame that has one.
    fn name(&mut self, data: &[u8], outline: &Outline) {
        if self.response_id.is_none() {
            self.response_id = self.reader.response_id(data, outline);
        }
    }

    /// One line of results, an answer of its own.
    fn line(&mut self, data: &[u8]) {
        let outline = self.reader.outline(data).ok();
        let Some(lines) = &mut self.lines else { return };
        let Some(outline) = outline else {
            return lines.broken(1);
        };
        if !self.reader.marks(None, data) {
            return;
        }
        let (operation, streamed, status) = (self.operation.as_ref(), self.streamed, self.status);
        match self.reader.read(&AnswerFrame {
            operation,
            event: None,
            streamed,
            status,
            outline: &outline.doc,
        }) {
            Ok(Some(reading)) => {
                let mut text = Text::default();
                text.add(data, &outline);
                lines.add(reading, text);
            }
            Ok(None) => {}
            Err(_) => self.plugin_errors = self.plugin_errors.saturating_add(1),
        }
    }

    fn keep(&mut self, event: Option<&str>, outline: String) {
        let mut kept = if self.kept.len() >= KEPT_FRAMES_MAX {
            self.kept.pop_front()
        } else {
            None
        }
        .unwrap_or_default();
        kept.outline = outline;
        match (event, &mut kept.event) {
            // The older frame's name is written over: names of events cost no memory of their own.
            (Some(name), Some(old)) => {
                old.clear();
                old.push_str(name);
            }
            (name, old) => *old = name.map(str::to_owned),
        }
        self.kept.push_back(kept);
        self.last_unread = true;
    }

    /// Gives one outline to the plugin. True: the frame said nothing but usage.
    fn read(&mut self, event: Option<&str>, outline: &str) -> bool {
        let with_headers;
        let outline = match outline.strip_prefix('{') {
            Some(members) if !self.headers.is_empty() => {
                let comma = if members.starts_with('}') { "" } else { "," };
                with_headers = format!("{{{}{comma}{members}", self.headers);
                &with_headers
            }
            _ => outline,
        };
        let (operation, streamed, status) = (self.operation.as_ref(), self.streamed, self.status);
        match self.reader.read(&AnswerFrame {
            operation,
            event,
            streamed,
            status,
            outline,
        }) {
            Ok(Some(reading)) => {
                let usage_only = reading.usage_only;
                if self.fold.add(reading) {
                    self.text_bytes_covered = self.text.bytes();
                    self.failed_since_usage = false;
                    self.truncated = false;
                }
                usage_only
            }
            Ok(None) => false,
            Err(_) => {
                self.plugin_errors = self.plugin_errors.saturating_add(1);
                self.failed_since_usage = true;
                false
            }
        }
    }

    /// The stream has ended: its last frame is always read, and if none bore usage, the last few are.
    fn reread(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        let skipped = if !self.fold.usage_seen() {
            0
        } else if self.last_unread {
            kept.len().saturating_sub(1)
        } else {
            kept.len()
        };
        for frame in kept.into_iter().skip(skipped) {
            self.read(frame.event.as_deref(), &frame.outline);
        }
    }

    /// A whole answer. False: it cannot be read.
    fn whole(&mut self, body: &[u8]) -> bool {
        let Ok(outline) = self.reader.outline(body) else {
            return false;
        };
        self.frames = 1;
        self.outlined = 1;
        self.name(body, &outline);
        self.text.add(body, &outline);
        self.read(None, &outline.doc);
        true
    }

    fn metered(&mut self, frames_oversized: u64, unreadable: bool, ignored: bool) -> Metered {
        let parts = self.fold.parts();
        let usage = parts.iter().fold(Usage::default(), |sum, part| sum.sum(&part.usage));
        let reasoning = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.reasoning));
        Metered {
            usage,
            reasoning,
            parts,
            model: self.fold.take_model(),
            response_id: self.response_id.take(),
            request_id: self.request_id.take(),
            bill_id: self.fold.take_bill_id(),
            pending: self.fold.pending(),
            service_tier: self.fold.take_service_tier(),
            reported_cost: self.fold.take_reported_cost(),
            failed: self.fold.failed(),
            unread_fee: self.fold.unread_fee(),
            final_seen: self.fold.final_seen(),
            streamed: self.streamed,
            reason: if ignored { None } else { self.reason(unreadable) },
            text: std::mem::take(&mut self.text),
            sound_bytes: self.sound_bytes,
            frames: self.frames,
            frames_oversized,
            lines_broken: self.lines.as_ref().map_or(0, Lines::broken_count) + frames_oversized,
            plugin_errors: self.plugin_errors,
            ignored,
        }
    }

    fn reason(&self, unreadable: bool) -> Option<&'static str> {
        let (seen, over) = (self.fold.usage_seen(), self.fold.final_seen());
        if self.fold.refused().is_some() {
            Some(estimate_reason::CONTRADICTORY_USAGE)
        } else if self.encoded_badly && !(seen && over) {
            Some(estimate_reason::ENCODED)
        } else if self.failed_since_usage && !(seen && over) {
            Some(estimate_reason::PLUGIN_FAILED)
        } else if let Some(fault) = self.frame_fault.filter(|_| !(seen && over)) {
            Some(reason_of(fault))
        } else if unreadable && !seen {
            Some(estimate_reason::UNREADABLE)
        } else if !seen && !self.truncated {
            Some(estimate_reason::NO_USAGE)
        } else if !seen || (self.streamed && !over && (self.truncated || self.text.bytes() > self.text_bytes_covered)) {
            Some(estimate_reason::INCOMPLETE)
        } else {
            None
        }
    }
}

fn reason_of(fault: FrameFault) -> &'static str {
    match fault {
        FrameFault::PreludeCrc => estimate_reason::FRAME_PRELUDE_CRC,
        FrameFault::MessageCrc => estimate_reason::FRAME_MESSAGE_CRC,
        FrameFault::Length => estimate_reason::FRAME_LENGTH,
        FrameFault::Headers => estimate_reason::FRAME_HEADERS,
        FrameFault::Truncated => estimate_reason::FRAME_TRUNCATED,
    }
}
