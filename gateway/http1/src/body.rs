//! The content of a body, out of the bytes that were read.

use bytes::{Bytes, BytesMut};

use crate::chunked::{BadChunk, ChunkDecoder};
use crate::framing::BodyLength;

/// Where in its body a message is.
#[derive(Debug)]
pub enum BodyDecoder {
    /// So many bytes are to come.
    Exact(u64),
    Chunked(ChunkDecoder),
    /// All bytes are content, until the connection ends.
    UntilClose,
}

impl BodyDecoder {
    pub const NONE: BodyDecoder = BodyDecoder::Exact(0);

    pub fn new(length: BodyLength) -> BodyDecoder {
        match length {
            BodyLength::Exact(length) => BodyDecoder::Exact(length),
            BodyLength::Chunked => BodyDecoder::Chunked(ChunkDecoder::default()),
            BodyLength::UntilClose => BodyDecoder::UntilClose,
        }
    }

    /// The next bytes of the content, taken off the buffer; `None`: it ends, or more is to be read.
    ///
    /// # Errors
    /// The body cannot be read.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, BadChunk> {
        match self {
            BodyDecoder::Exact(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= length as u64;
                Ok((length > 0).then(|| buffer.split_to(length).freeze()))
            }
            BodyDecoder::Chunked(chunks) => chunks.next(buffer),
            BodyDecoder::UntilClose => Ok((!buffer.is_empty()).then(|| buffer.split().freeze())),
        }
    }

    pub fn is_done(&self) -> bool {
        match self {
            BodyDecoder::Exact(left) => *left == 0,
            BodyDecoder::Chunked(chunks) => chunks.is_done(),
            BodyDecoder::UntilClose => false,
        }
    }

    /// The connection has ended. `false`: in the midst of the body.
    pub fn close(&mut self) -> bool {
        if matches!(self, BodyDecoder::UntilClose) {
            *self = BodyDecoder::NONE;
        }
        self.is_done()
    }

    /// Bytes that are worth reading at one time, where this is known.
    pub(crate) fn expected(&self) -> Option<u64> {
        match self {
            BodyDecoder::Exact(left) => Some(*left),
            BodyDecoder::Chunked(_) | BodyDecoder::UntilClose => None,
        }
    }
}
