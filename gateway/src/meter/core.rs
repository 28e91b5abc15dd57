//! What a meter knows of its answer so far: all but the bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use agentledger_ledger::Usage;

use super::answer::{AnswerFacts, Passed};
use super::fold::Fold;
use super::frames::{Frame, FrameFault, FrameKind, Framer};
use super::lines::Lines;
use super::metered::{FramesRead, Metered};
use super::reader::AnswerReader;
use super::sides::{Side, groups, sum};
use super::text::Text;
use crate::estimate_reason;
use crate::plugin::outline::{Arriving, Outline, Shape, Template};
use crate::plugin::{AnswerFrame, Reading};

/// Unread frames kept, as outlines, to be read again at the end.
const KEPT_FRAMES_MAX: usize = 4;
/// Longest outline kept so; a longer one is read at once.
const KEPT_OUTLINE_BYTES_MAX: usize = 2 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Data after the last usage that may be formalities: more of it was made and is not counted.
const FORMALITIES_BYTES_MAX: u64 = 2 << 10;

pub(super) struct Core {
    pub(super) reader: Arc<AnswerReader>,
    operation: Arc<str>,
    pub(super) stream: bool,
    hide_usage: bool,
    status: u16,
    pub(super) streamed: bool,
    pub(super) response_id: Option<String>,
    /// The tool calls seen so far; boxed, for few answers have any to keep.
    calls: Option<Box<blake3::Hasher>>,
    pub(super) request_id: Option<String>,
    pub(super) fold: Fold,
    pub(super) text: Text,
    pub(super) sound_bytes: u64,
    /// Text up to and with the last frame that bore usage.
    text_bytes_covered: u64,
    pub(super) frames: u64,
    /// The last frame that bore usage, by number.
    usage_frame: u64,
    /// Data of the frames after it.
    bytes_since_usage: u64,
    /// A frame that is read as it passes.
    passing: PassingFrame,
    /// The first byte after its document, where there is one.
    after_passing: Option<u8>,
    /// JSON frames whose outline could be made.
    outlined: u64,
    unreadable: u64,
    pub(super) encoded_badly: bool,
    /// Two places of the answer say different things.
    contradictory: bool,
    /// The end that chat completions have after their last event has passed.
    done: bool,
    /// Its last text has passed.
    pub(super) end_near: bool,
    /// The framing lacks its end.
    unclosed: bool,
    frame_fault: Option<FrameFault>,
    plugin_errors: u32,
    frames_read: FramesRead,
    /// The plugin failed on a frame after the last usage.
    failed_since_usage: bool,
    /// The last usage, or a frame after it, could not be read whole.
    truncated: bool,
    kept: VecDeque<Kept>,
    /// By which the next unmarked event is read, where it is like the last one.
    like: LastEvent,
    /// Where each frame is an answer of its own.
    pub(super) lines: Option<Lines>,
    /// The last frame is among the kept.
    last_unread: bool,
    /// The answer's headers that the plugin wants, as the first member of an outline; empty where there are none.
    pub(super) headers: String,
}

#[derive(Default)]
enum PassingFrame {
    #[default]
    None,
    /// Its data begins.
    Begun,
    Json(Box<Arriving>),
    /// Data that is no object says nothing.
    Other,
}

/// The last unmarked event that was read whole, where it paid to keep it.
#[derive(Default)]
struct LastEvent {
    template: Option<Box<Template>>,
    /// Events in a row that were like none.
    unlike: u32,
}

/// After so many events that were like none, a template is made of every so-manyeth only.
const UNLIKE_MAX: u32 = 4;
const UNLIKE_STEP: u32 = 32;

impl LastEvent {
    /// Makes a template of an event, unless events of this stream are not alike.
    fn made(&mut self, data: &[u8], outline: &Outline) -> Option<Template> {
        self.unlike = self.unlike.saturating_add(1);
        let is_tried = self.unlike <= UNLIKE_MAX || self.unlike.is_multiple_of(UNLIKE_STEP);
        is_tried.then(|| Template::new(data, outline)).flatten()
    }
}

#[derive(Default)]
struct Kept {
    event: Option<String>,
    outline: String,
    strict: bool,
}

impl Core {
    pub(super) fn new(reader: Arc<AnswerReader>, facts: &AnswerFacts<'_>) -> Core {
        Core {
            reader,
            operation: Arc::clone(&facts.operation),
            stream: facts.stream,
            hide_usage: facts.hide_usage,
            status: facts.status,
            streamed: false,
            response_id: None,
            calls: None,
            request_id: None,
            fold: Fold::default(),
            text: Text::default(),
            sound_bytes: 0,
            text_bytes_covered: 0,
            frames: 0,
            usage_frame: 0,
            bytes_since_usage: 0,
            passing: PassingFrame::None,
            after_passing: None,
            outlined: 0,
            unreadable: 0,
            encoded_badly: false,
            contradictory: false,
            done: false,
            end_near: false,
            unclosed: false,
            frame_fault: None,
            plugin_errors: 0,
            frames_read: FramesRead::default(),
            failed_since_usage: false,
            truncated: false,
            kept: VecDeque::new(),
            like: LastEvent::default(),
            lines: facts.lines.then(Lines::default),
            last_unread: false,
            headers: String::new(),
        }
    }

    pub(super) fn arriving(&self) -> Arriving {
        self.reader.arriving()
    }

    pub(super) fn shape(&self) -> &Shape {
        self.reader.shape()
    }

    /// `None`: the document is not exactly one as JSON has them.
    pub(super) fn outline_strictly(&self, json: &[u8]) -> Option<Outline> {
        self.reader.outline_strictly(json).ok()
    }

    pub(super) fn piece(&self, raw_len: usize) -> Passed {
        let passing = match &self.passing {
            PassingFrame::Json(arriving) => arriving.text_bytes(),
            _ => 0,
        };
        Passed {
            raw_len,
            hide: false,
            frame_end: false,
            text_bytes: self.text.bytes().saturating_add(passing),
            sound_bytes: self.sound_bytes,
        }
    }

    pub(super) fn frame(&mut self, frame: Frame<'_>) -> Passed {
        let mut hide = false;
        let frame_end = match frame.kind {
            FrameKind::Data => {
                hide = self.event(frame.event, frame.data);
                true
            }
            FrameKind::Filler => true,
            FrameKind::Part => {
                self.part(frame.data);
                false
            }
            FrameKind::LastPart => {
                self.part(frame.data);
                self.end_parts(frame.event);
                true
            }
            FrameKind::Unread => {
                self.passing = PassingFrame::None;
                self.after_passing = None;
                self.truncated = true;
                false
            }
        };
        Passed {
            hide,
            // An array that was not requested as a stream is one answer: there is no place in it to cut.
            frame_end: frame_end && self.streamed,
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
        let start = data.strip_prefix(BYTE_ORDER_MARK).unwrap_or(data).trim_ascii_start();
        // `[DONE]` and its like carry nothing.
        if !start.starts_with(b"{") {
            self.done |= start.starts_with(b"[DONE]");
            return false;
        }
        if self.event_like_the_last(event, data) {
            return false;
        }
        let Ok(outline) = self.reader.outline(data) else {
            self.unreadable += 1;
            self.truncated = true;
            return false;
        };
        let template = if self.reader.is_each_read_whole() {
            None
        } else {
            self.like.made(data, &outline)
        };
        let hide = self.outlined(event, data, outline, false);
        if let (Some(template), true) = (template, self.last_unread) {
            self.like.template = Some(Box::new(template));
        }
        hide
    }

    /// An unmarked event that is the last one but for its text: what [`Core::outlined`] does with such, without an outline. It names
    /// the answer as the last one did, and has no calls.
    fn event_like_the_last(&mut self, event: Option<&str>, data: &[u8]) -> bool {
        let Some(template) = &mut self.like.template else {
            return false;
        };
        let Some(alike) = template.read(data).filter(|_| !self.reader.marks(event, data)) else {
            return false;
        };
        self.outlined += 1;
        self.text.add_ranges(data, alike.text, alike.text_bytes);
        self.bytes_since_usage = self.bytes_since_usage.saturating_add(data.len() as u64);
        self.end_near = self.end_near || self.reader.ends(data);
        // A template is made of what was read strictly, and this is its document but for some values.
        keep(&mut self.kept, event, true, |outline| {
            outline.clear();
            outline.push_str(alike.doc);
        });
        self.last_unread = true;
        self.like.unlike = 0;
        true
    }

    /// Some data of a frame that is not held.
    fn part(&mut self, data: &[u8]) {
        if let PassingFrame::None = self.passing {
            self.passing = PassingFrame::Begun;
        }
        let data = match self.passing {
            PassingFrame::Begun => {
                let blank = |byte: &u8| byte.is_ascii_whitespace() || BYTE_ORDER_MARK.contains(byte);
                let blanks = data.iter().take_while(|byte| blank(byte)).count();
                data.get(blanks..).unwrap_or_default()
            }
            _ => data,
        };
        if let (PassingFrame::Begun, Some(first)) = (&self.passing, data.first()) {
            self.passing = match first {
                b'{' => PassingFrame::Json(Box::new(self.reader.arriving())),
                _ => PassingFrame::Other,
            };
        }
        if let PassingFrame::Json(arriving) = &mut self.passing {
            let taken = arriving.push(self.reader.shape(), data);
            if arriving.is_over() && self.after_passing.is_none() {
                let rest = data.get(taken..).unwrap_or_default();
                self.after_passing = rest.trim_ascii_start().first().copied();
            }
        }
    }

    /// The frame is over: it is always read.
    fn end_parts(&mut self, event: Option<&str>) {
        self.frames += 1;
        let follows = self.after_passing.take();
        let outline = match std::mem::take(&mut self.passing) {
            PassingFrame::Json(arriving) => arriving.finish(self.reader.shape()),
            _ => None,
        };
        let Some(mut outline) = outline else {
            return self.line_broken();
        };
        outline.flaws.contradictory |= follows == Some(b'{');
        if self.lines.is_some() {
            self.read_line(&[], &outline);
        } else {
            self.outlined(event, &[], outline, true);
        }
    }

    /// A frame that was outlined already; `read`: the plugin is to see it, marked or not. True: it is to be hidden.
    pub(super) fn outlined(&mut self, event: Option<&str>, data: &[u8], outline: Outline, read: bool) -> bool {
        let flaws = outline.flaws;
        self.outlined += u64::from(!flaws.unfinished);
        self.name(data, &outline);
        self.note_calls(data, &outline);
        self.text.add(data, &outline);
        self.bytes_since_usage = self.bytes_since_usage.saturating_add(outline.bytes);
        self.end_near = self.end_near || self.reader.ends(data);
        let first = self.outlined == 1;
        let long = outline.doc.len() > KEPT_OUTLINE_BYTES_MAX;
        if !(first || long || read || flaws.any() || self.reader.marks(event, data)) {
            let strict = outline.is_strict();
            keep(&mut self.kept, event, strict, |kept| *kept = outline.doc);
            self.last_unread = true;
            return false;
        }
        self.last_unread = false;
        let usage_only = self.read(event, &outline.doc, outline.is_strict());
        self.contradictory |= flaws.contradictory;
        if flaws.unfinished || flaws.patched {
            self.truncated = true;
            self.unreadable += u64::from(flaws.unfinished);
        }
        usage_only && self.hide_usage && !flaws.any()
    }

    /// A document of a whole answer.
    pub(super) fn document(&mut self, data: &[u8], outline: Outline) {
        let before = self.fold.parts();
        let several = self.frames > 0;
        self.frames += 1;
        self.outlined(None, data, outline, true);
        if !several {
            return;
        }
        if self.stream {
            // Lines of JSON under another name.
            self.streamed = true;
        } else {
            // One request, one answer: the second one is somebody's mistake.
            self.contradictory |= !before.is_empty() && before != self.fold.parts();
        }
    }

    /// Keeps the answer's id, where this is the first frame that has one.
    fn name(&mut self, data: &[u8], outline: &Outline) {
        if self.response_id.is_none() {
            self.response_id = self.reader.response_id(data, outline);
        }
    }

    /// Takes the calls of a frame into the digest, each with its length before it: two values are not one that reads like both.
    fn note_calls(&mut self, data: &[u8], outline: &Outline) {
        for piece in &outline.pieces {
            let Some(value) = outline.raw(data).get(piece.range.clone()) else {
                continue;
            };
            let calls = self.calls.get_or_insert_default();
            calls.update(&(value.len() as u64).to_le_bytes());
            calls.update(value);
        }
    }

    /// One line of results, an answer of its own.
    fn line(&mut self, data: &[u8]) {
        match self.reader.outline(data) {
            Ok(outline) if outline.flaws.any() || self.reader.marks(None, data) => self.read_line(data, &outline),
            Ok(_) => {}
            Err(_) => self.line_broken(),
        }
    }

    fn line_broken(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.broken(1);
        }
    }

    fn read_line(&mut self, data: &[u8], outline: &Outline) {
        if outline.flaws.unfinished || outline.flaws.patched {
            return self.line_broken();
        }
        let Ok(Some(mut reading)) = self.reading(None, &outline.doc, outline.is_strict()) else {
            return;
        };
        if outline.flaws.contradictory {
            reading.contradictory = true;
            reading.parts.clear();
        }
        let mut text = Text::default();
        text.add(data, outline);
        if let Some(lines) = &mut self.lines {
            lines.add(reading, text);
        }
    }

    /// Reads one outline. True: the frame said nothing but usage.
    fn read(&mut self, event: Option<&str>, outline: &str, strict: bool) -> bool {
        let with_headers;
        let outline = match outline.strip_prefix('{') {
            Some(members) if !self.headers.is_empty() => {
                let comma = if members.starts_with('}') { "" } else { "," };
                with_headers = format!("{{{}{comma}{members}", self.headers);
                &with_headers
            }
            _ => outline,
        };
        match self.reading(event, outline, strict) {
            Ok(Some(reading)) => {
                let usage_only = reading.usage_only;
                if self.fold.add(reading) {
                    self.usage_is_here();
                }
                usage_only
            }
            Ok(None) => false,
            Err(()) => {
                self.failed_since_usage = true;
                false
            }
        }
    }

    fn reading(&mut self, event: Option<&str>, outline: &str, strict: bool) -> Result<Option<Reading>, ()> {
        let frame = AnswerFrame {
            operation: self.operation.as_ref(),
            event,
            streamed: self.streamed,
            status: self.status,
            outline,
        };
        let said = self.reader.read(&frame, strict);
        self.frames_read.note(said.by_plan);
        said.reading.map_err(|_| {
            self.plugin_errors = self.plugin_errors.saturating_add(1);
        })
    }

    /// The usage covers all that has come.
    fn usage_is_here(&mut self) {
        self.text_bytes_covered = self.text.bytes();
        self.bytes_since_usage = 0;
        self.usage_frame = self.frames;
        self.failed_since_usage = false;
        self.truncated = false;
    }

    /// A body that cannot be read may be counted in its headers.
    pub(super) fn read_headers(&mut self) {
        if !self.headers.is_empty() {
            self.read(None, "{}", true);
        }
    }

    /// The stream has ended.
    pub(super) fn end_stream(&mut self, framer: &Framer) -> Metered {
        self.frame_fault = framer.fault();
        self.unclosed = !framer.is_whole();
        self.reread();
        let unread = self.outlined == 0 && (self.unreadable > 0 || self.frames == 0);
        self.metered(framer.oversized(), unread, false)
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
            self.read(frame.event.as_deref(), &frame.outline, frame.strict);
        }
    }

    pub(super) fn metered(&mut self, frames_oversized: u64, unreadable: bool, ignored: bool) -> Metered {
        let parts = self.fold.parts();
        let usage = parts.iter().fold(Usage::default(), |sum, part| sum.sum(&part.usage));
        let reason = if ignored { None } else { self.reason(unreadable, &usage) };
        let reasoning = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.reasoning));
        Metered {
            usage,
            reasoning,
            parts,
            model: self.fold.take_model(),
            response_id: self.response_id.take(),
            calls: self.calls.take().map(|calls| calls.finalize().into()),
            request_id: self.request_id.take(),
            bill_id: self.fold.take_bill_id(),
            pending: self.fold.pending(),
            service_tier: self.fold.take_service_tier(),
            reported_cost: self.fold.take_reported_cost(),
            failed: self.fold.failed(),
            unread_fee: self.fold.unread_fee(),
            final_seen: self.fold.final_seen(),
            streamed: self.streamed,
            reason,
            text: std::mem::take(&mut self.text),
            sound_bytes: self.sound_bytes,
            frames: self.frames,
            frames_oversized,
            lines_broken: self.lines.as_ref().map_or(0, Lines::broken_count),
            plugin_errors: self.plugin_errors,
            frames_read: self.frames_read,
            ignored,
        }
    }

    /// Why what was read may be less than what is billed. `None` is a promise that it is not.
    fn reason(&self, unreadable: bool, usage: &Usage) -> Option<&'static str> {
        let seen = self.fold.usage_seen();
        // A whole answer is over where its document is.
        let over = if self.streamed {
            self.fold.final_seen()
        } else {
            self.outlined > 0 && !self.truncated
        };
        if self.fold.refused().is_some() || (seen && self.contradictory) || self.fold.contradicts() {
            Some(estimate_reason::CONTRADICTORY_USAGE)
        } else if self.encoded_badly && !(seen && over) {
            Some(estimate_reason::ENCODED)
        } else if self.failed_since_usage {
            Some(estimate_reason::PLUGIN_FAILED)
        } else if let Some(fault) = self.frame_fault.filter(|_| self.truncated || !(seen && over)) {
            Some(reason_of(fault))
        } else if !seen && (unreadable || self.contradictory) {
            Some(estimate_reason::UNREADABLE)
        } else if !seen && !self.truncated && !self.unclosed {
            Some(estimate_reason::NO_USAGE)
        } else if self.truncated && !self.streamed {
            Some(estimate_reason::UNREADABLE)
        } else if !seen || self.truncated || self.lacks_its_end() {
            Some(estimate_reason::INCOMPLETE)
        // Text was made, and what was counted is not of it: all is zero, or of output nothing was told, not even a zero.
        } else if self.text.bytes() > 0 && (usage.is_zero() || !self.fold.tells_output()) {
            Some(estimate_reason::NO_USAGE)
        } else {
            None
        }
    }

    /// The answer goes on after its last usage, and was not seen to end well.
    fn lacks_its_end(&self) -> bool {
        let ended_well = self.fold.final_seen() && !self.fold.failed();
        if self.unclosed && !self.fold.final_seen() {
            return true;
        }
        if !self.streamed || ended_well {
            return false;
        }
        if self.text.bytes() > self.text_bytes_covered {
            return true;
        }
        if self.done {
            return false;
        }
        // What is no text is not counted in it: pictures, thoughts that are not shown. A usage at the start, before anything was
        // made, covers none of it; an answer that fails at once has made none.
        let is_first = self.usage_frame == 1 && self.text_bytes_covered == 0 && self.output_units() <= 1;
        (is_first && !self.fold.failed()) || self.bytes_since_usage > FORMALITIES_BYTES_MAX
    }

    fn output_units(&self) -> u64 {
        let parts = self.fold.parts();
        let units = parts
            .iter()
            .flat_map(|part| groups(Side::Output).map(|kinds| sum(&part.usage, kinds)));
        units.fold(0, u64::saturating_add)
    }
}

/// Keeps an event that was not read, in place of the oldest where there are many.
fn keep(kept: &mut VecDeque<Kept>, event: Option<&str>, strict: bool, write: impl FnOnce(&mut String)) {
    let oldest = if kept.len() >= KEPT_FRAMES_MAX {
        kept.pop_front()
    } else {
        None
    };
    let mut last = oldest.unwrap_or_default();
    write(&mut last.outline);
    last.strict = strict;
    match (event, &mut last.event) {
        // The older frame's name is written over: names of events cost no memory of their own.
        (Some(name), Some(old)) => {
            old.clear();
            old.push_str(name);
        }
        (name, old) => *old = name.map(str::to_owned),
    }
    kept.push_back(last);
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
