//! WebSocket frames (RFC 6455 §5), read and written by a relay: whole messages come out, in order, at any byte split, and
//! control frames as soon as they are there, also between the fragments of a message. What the RFC forbids is a named
//! [`Violation`] with the code that the connection is to be closed with. Extensions are never agreed on, so that reserved
//! bits and compressed payloads do not occur.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::plugin::Sender;

/// Longest payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;
/// Longest reason in a close frame: its code takes two of the payload's bytes.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;
/// Buffers that grew beyond this are given back once they are empty.
const BUFFER_KEPT_BYTES: usize = 16 << 10;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Codes of close frames (RFC 6455 §7.4.1).
pub mod code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const UNSUPPORTED: u16 = 1003;
    pub const NOT_UTF8: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const RESTART: u16 = 1012;
    pub const TRY_AGAIN: u16 = 1013;
    pub const BAD_GATEWAY: u16 = 1014;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Valid UTF-8.
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// The code and the reason, where any were given.
    Close(Option<(u16, String)>),
}

impl Message {
    /// Bytes of a text or binary message; control frames do not count.
    pub fn payload_len(&self) -> usize {
        match self {
            Message::Text(bytes) | Message::Binary(bytes) => bytes.len(),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => 0,
        }
    }
}

/// A frame that is out of protocol, or too much. Nothing can be read after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a reserved bit is set, and no extension was agreed on")]
    ReservedBit,
    #[error("an unknown opcode")]
    Opcode,
    #[error("a client's frame is not masked")]
    Unmasked,
    #[error("a server's frame is masked")]
    Masked,
    #[error("a control frame is fragmented")]
    ControlFragmented,
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    #[error("a length is not written in the fewest bytes")]
    LengthNotMinimal,
    #[error("a length has its highest bit set")]
    LengthTooHigh,
    #[error("a continuation of no message")]
    NothingToContinue,
    #[error("a new message inside the fragments of another")]
    Interleaved,
    #[error("a close frame with half a code")]
    HalfCloseCode,
    #[error("a close frame with a code that may not be sent")]
    CloseCode,
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("a message is too long")]
    TooBig,
}

impl Violation {
    /// The code to close with.
    pub fn code(self) -> u16 {
        match self {
            Violation::NotUtf8 => code::NOT_UTF8,
            Violation::TooBig => code::TOO_BIG,
            _ => code::PROTOCOL_ERROR,
        }
    }
}

/// A frame's head, once all its bytes are there.
#[derive(Clone, Copy)]
struct FrameHeader {
    last: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    payload_len: usize,
    head_len: usize,
}

/// Bytes in, messages out.
#[derive(Debug)]
pub struct SocketFramer {
    sender: Sender,
    message_bytes_max: usize,
    buffer: BytesMut,
    /// The fragments so far, and the opcode of the first.
    message: Option<(u8, BytesMut)>,
}

impl SocketFramer {
    /// Reads what `sender` sends: a client's frames are masked, a server's are not.
    ///
    /// Messages longer than `message_bytes_max`, in one frame or in many, are a violation: of such a frame the head is
    /// read and nothing more.
    pub fn new(sender: Sender, message_bytes_max: usize) -> SocketFramer {
        SocketFramer {
            sender,
            message_bytes_max,
            buffer: BytesMut::new(),
            message: None,
        }
    }

    /// Takes the next bytes of the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held: of incomplete frames, and of messages whose fragments are not all there.
    pub fn pending(&self) -> usize {
        self.buffer.len() + self.message.as_ref().map_or(0, |(_, bytes)| bytes.len())
    }

    /// The next message that is complete. `None`: more bytes are needed.
    pub fn message(&mut self) -> Result<Option<Message>, Violation> {
        loop {
            let Some(head) = self.head()? else { return Ok(None) };
            if self.buffer.len() < head.head_len.saturating_add(head.payload_len) {
                return Ok(None);
            }
            self.buffer.advance(head.head_len);
            let mut payload = self.buffer.split_to(head.payload_len);
            if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_BYTES {
                self.buffer = BytesMut::new();
            }
            if let Some(mask) = head.mask {
                apply_mask(&mut payload, mask);
            }
            if let Some(message) = self.take(head, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn take(&mut self, head: FrameHeader, payload: BytesMut) -> Result<Option<Message>, Violation> {
        match head.opcode {
            PING => return Ok(Some(Message::Ping(payload.freeze()))),
            PONG => return Ok(Some(Message::Pong(payload.freeze()))),
            CLOSE => return close(&payload).map(Some),
            _ => {}
        }
        let (opcode, whole) = match self.message.take() {
            None => (head.opcode, payload),
            Some((opcode, mut so_far)) => {
                so_far.unsplit(payload);
                (opcode, so_far)
            }
        };
        if !head.last {
            self.message = Some((opcode, whole));
            return Ok(None);
        }
        if opcode == BINARY {
            return Ok(Some(Message::Binary(whole.freeze())));
        }
        match std::str::from_utf8(&whole) {
            Ok(_) => Ok(Some(Message::Text(whole.freeze()))),
            Err(_) => Err(Violation::NotUtf8),
        }
    }

    /// Reads a head, and refuses what the RFC forbids as soon as it shows.
    fn head(&self) -> Result<Option<FrameHeader>, Violation> {
        let mut bytes = &self.buffer[..];
        let all = bytes.len();
        if all < 2 {
            return Ok(None);
        }
        let (first, second) = (bytes.get_u8(), bytes.get_u8());
        let (last, opcode, short) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
        self.check(first, second)?;
        let payload_len = match short {
            126 if bytes.len() < 2 => return Ok(None),
            126 => match u64::from(bytes.get_u16()) {
                len if len < 126 => return Err(Violation::LengthNotMinimal),
                len => len,
            },
            127 if bytes.len() < 8 => return Ok(None),
            127 => match bytes.get_u64() {
                len if len >> 63 != 0 => return Err(Violation::LengthTooHigh),
                len if len <= u64::from(u16::MAX) => return Err(Violation::LengthNotMinimal),
                len => len,
            },
            len => u64::from(len),
        };
        let payload_len = usize::try_from(payload_len).map_err(|_| Violation::TooBig)?;
        let so_far = match opcode {
            CONTINUATION => self.message.as_ref().map_or(0, |(_, bytes)| bytes.len()),
            _ => 0,
        };
        if payload_len.saturating_add(so_far) > self.message_bytes_max.max(CONTROL_BYTES_MAX) {
            return Err(Violation::TooBig);
        }
        let mut mask = None;
        if self.sender == Sender::Client {
            if bytes.len() < 4 {
                return Ok(None);
            }
            mask = Some(bytes.get_u32().to_be_bytes());
        }
        Ok(Some(FrameHeader {
            last,
            opcode,
            mask,
            payload_len,
            head_len: all - bytes.len(),
        }))
    }

    /// What the first two bytes alone can get wrong.
    fn check(&self, first: u8, second: u8) -> Result<(), Violation> {
        let (last, opcode, short, masked) = (first & 0x80 != 0, first & 0x0f, second & 0x7f, second & 0x80 != 0);
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBit);
        }
        match (self.sender, masked) {
            (Sender::Client, false) => return Err(Violation::Unmasked),
            (Sender::Server, true) => return Err(Violation::Masked),
            _ => {}
        }
        match opcode {
            CLOSE | PING | PONG if !last => Err(Violation::ControlFragmented),
            CLOSE | PING | PONG if usize::from(short) > CONTROL_BYTES_MAX => Err(Violation::ControlTooLong),
            CLOSE | PING | PONG => Ok(()),
            CONTINUATION if self.message.is_none() => Err(Violation::NothingToContinue),
            TEXT | BINARY if self.message.is_some() => Err(Violation::Interleaved),
            CONTINUATION | TEXT | BINARY => Ok(()),
            _ => Err(Violation::Opcode),
        }
    }
}

fn close(mut payload: &[u8]) -> Result<Message, Violation> {
    match payload.len() {
        0 => return Ok(Message::Close(None)),
        1 => return Err(Violation::HalfCloseCode),
        _ => {}
    }
    let code = payload.get_u16();
    // 1004 to 1006 and 1015 say what no frame says; below 1000 and from 5000 there is nothing (RFC 6455 §7.4).
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    let reason = std::str::from_utf8(payload).map_err(|_| Violation::NotUtf8)?;
    Ok(Message::Close(Some((code, reason.to_owned()))))
}

fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let whole = u32::from_ne_bytes(mask);
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 4]>::try_from(&*word) {
            word.copy_from_slice(&(u32::from_ne_bytes(bytes) ^ whole).to_ne_bytes());
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// The bytes of a message, in one frame. `mask`: as a client sends it.
pub fn encode(message: &Message, mask: Option<[u8; 4]>) -> BytesMut {
    let closing;
    let (opcode, payload) = match message {
        Message::Text(bytes) => (TEXT, bytes),
        Message::Binary(bytes) => (BINARY, bytes),
        Message::Ping(bytes) => (PING, bytes),
        Message::Pong(bytes) => (PONG, bytes),
        Message::Close(why) => {
            closing = close_payload(why.as_ref());
            (CLOSE, &closing)
        }
    };
    let mut out = BytesMut::with_capacity(payload.len() + 14);
    out.put_u8(0x80 | opcode);
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if len < 126 => out.put_u8(masked | len),
        (_, Ok(len)) => {
            out.put_u8(masked | 126);
            out.put_u16(len);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(payload.len() as u64);
        }
    }
    if let Some(mask) = mask {
        out.put_slice(&mask);
    }
    let start = out.len();
    out.put_slice(payload);
    if let Some(mask) = mask {
        apply_mask(out.get_mut(start..).unwrap_or_default(), mask);
    }
    out
}

/// A close frame of our own.
pub fn closing(code: u16, reason: &str) -> Message {
    Message::Close(Some((code, reason.to_owned())))
}

fn close_payload(why: Option<&(u16, String)>) -> Bytes {
    let Some((code, reason)) = why else {
        return Bytes::new();
    };
    let mut payload = BytesMut::with_capacity(CONTROL_BYTES_MAX);
    payload.put_u16(*code);
    let end = (0..=reason.len().min(REASON_BYTES_MAX))
        .rev()
        .find(|at| reason.is_char_boundary(*at));
    payload.put_slice(reason.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes());
    payload.freeze()
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
