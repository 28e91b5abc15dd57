//! The chunked transfer coding (RFC 9112 §7.1), read strictly: two readers that disagree on one byte of it disagree on where
//! the next message begins. So a size is hexadecimal digits and nothing else, a line ends in CRLF, extensions and trailers are
//! bounded and dropped.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of extensions and trailers that one body may have.
const ASIDE_BYTES_MAX: u32 = 16 << 10;
/// Digits of a size: no body has 2⁶⁰ bytes.
const SIZE_DIGITS_MAX: u8 = 15;

/// A body whose chunks cannot be read, or not in one way alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunks of the body cannot be read")]
pub struct BadChunk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// At the beginning of a trailer, or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Done,
    Failed,
}

/// Reads the chunks of one body, at any split.
#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    /// Of the size that is being read, or bytes of the chunk that are to come.
    left: u64,
    digits: u8,
    aside: u32,
}

impl Default for ChunkDecoder {
    fn default() -> ChunkDecoder {
        ChunkDecoder {
            state: State::Size,
            left: 0,
            digits: 0,
            aside: 0,
        }
    }
}

impl ChunkDecoder {
    /// The next bytes of the content, taken off the buffer; `None`: it ends, or more is to be read.
    ///
    /// # Errors
    /// The chunks cannot be read: nothing after them can.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, BadChunk> {
        self.skip(buffer)?;
        if self.state != State::Data || buffer.is_empty() {
            return Ok(None);
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let content = buffer.split_to(length).freeze();
        self.left -= length as u64;
        if self.left == 0 {
            self.state = State::DataReturn;
            // The end is known with the last byte, where it came along. What is wrong with it is said when it is asked for.
            let _ = self.skip(buffer);
        }
        Ok(Some(content))
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes everything off the buffer that is no content, up to the next content.
    fn skip(&mut self, buffer: &mut BytesMut) -> Result<(), BadChunk> {
        let mut taken = 0;
        for byte in buffer.iter() {
            if matches!(self.state, State::Data | State::Done | State::Failed) {
                break;
            }
            taken += 1;
            match self.step(*byte) {
                Some(next) => self.state = next,
                None => self.state = State::Failed,
            }
        }
        buffer.advance(taken);
        match self.state {
            State::Failed => Err(BadChunk),
            _ => Ok(()),
        }
    }

    /// The state after a byte; `None`: it may not stand here.
    fn step(&mut self, byte: u8) -> Option<State> {
        match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => Some(State::SizeLineFeed),
            (State::Size, b';') if self.digits > 0 => Some(State::Extension),
            (State::Size, _) => self.digit(byte),
            (State::Extension, b'\r') => Some(State::SizeLineFeed),
            (State::Extension, _) => self.aside(byte, State::Extension),
            (State::SizeLineFeed, b'\n') => {
                self.digits = 0;
                Some(if self.left > 0 {
                    State::Data
                } else {
                    State::TrailerStart
                })
            }
            (State::DataReturn, b'\r') => Some(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Some(State::Size),
            (State::TrailerStart, b'\r') => Some(State::LastLineFeed),
            (State::Trailer, b'\r') => Some(State::TrailerLineFeed),
            // A line that begins with a space would go on with the one before.
            (State::TrailerStart, b' ' | b'\t') => None,
            (State::TrailerStart | State::Trailer, _) => self.aside(byte, State::Trailer),
            (State::TrailerLineFeed, b'\n') => Some(State::TrailerStart),
            (State::LastLineFeed, b'\n') => Some(State::Done),
            _ => None,
        }
    }

    fn digit(&mut self, byte: u8) -> Option<State> {
        let digit = char::from(byte).to_digit(16)?;
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        (self.digits <= SIZE_DIGITS_MAX).then_some(State::Size)
    }

    fn aside(&mut self, byte: u8, state: State) -> Option<State> {
        self.aside += 1;
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        (is_text && self.aside <= ASIDE_BYTES_MAX).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    /// The content, and what is left behind it.
    type Decoded = (Vec<u8>, Vec<u8>);

    /// Reads in pieces of so many bytes; `None`: the body has not ended.
    fn decoded(bytes: &[u8], piece: usize) -> Result<Option<Decoded>, BadChunk> {
        let mut decoder = ChunkDecoder::default();
        let (mut buffer, mut content) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(more) = decoder.next(&mut buffer)? {
                content.extend_from_slice(&more);
            }
        }
        Ok(decoder.is_done().then(|| (content, buffer.to_vec())))
    }

    #[test]
    fn chunks_are_read_at_every_split() {
        let bytes =
            b"4\r\nWiki\r\n5;name=\"v\"\r\npedia\r\n00E\r\n in\r\n\r\nchunks.\r\n0\r\nTrailer: x\r\nY: z\r\n\r\nGET /";
        for piece in 1..bytes.len() {
            let (content, left) = decoded(bytes, piece).unwrap().unwrap();
            assert_eq!(content, b"Wikipedia in\r\n\r\nchunks.");
            assert!(b"GET /".ends_with(&left), "{piece}");
        }
    }

    #[test]
    fn what_readers_disagree_on_is_refused() {
        for bytes in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b";a=b\r\nhello\r\n0\r\n\r\n",
            b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            b"5;a\0b\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\n",
            b"5\r\nhello\r\n0\n\r\n",
            b"5\r\nhello\r\n0\r\nT: x\n\r\n",
            b"5\r\nhello\r\n0\r\n folded\r\n\r\n",
            b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            b"1000000000000000\r\nhello",
            b"-1\r\nhello\r\n0\r\n\r\n",
            b"5,5\r\nhello\r\n0\r\n\r\n",
        ] {
            for piece in [1, 3, bytes.len()] {
                assert_eq!(
                    decoded(bytes, piece),
                    Err(BadChunk),
                    "{:?}",
                    bytes.escape_ascii().to_string()
                );
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = "x".repeat(ASIDE_BYTES_MAX as usize + 1);
        assert_eq!(
            decoded(format!("5;{long}\r\nhello\r\n").as_bytes(), 1 << 20),
            Err(BadChunk)
        );
        assert_eq!(decoded(format!("0\r\n{long}").as_bytes(), 1 << 20), Err(BadChunk));
        let many = "1;xxx\r\na\r\n".repeat(ASIDE_BYTES_MAX as usize / 2);
        assert_eq!(
            decoded(many.as_bytes(), 1 << 20),
            Err(BadChunk),
            "all of a body together"
        );
    }

    #[test]
    fn the_end_is_known_with_the_last_byte() {
        let (mut decoder, mut buffer) = (ChunkDecoder::default(), BytesMut::from("2\r\nhi\r\n0\r\n\r\n"));
        assert_eq!(decoder.next(&mut buffer).unwrap().unwrap(), "hi");
        assert!(decoder.is_done());
    }

    proptest! {
        #[test]
        fn a_split_changes_nothing(bytes in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'2'), Just(b'a'), Just(b';'), Just(b' '), any::<u8>()
        ], 0..60), piece in 1_usize..9) {
            let (whole, split) = (decoded(&bytes, bytes.len().max(1)), decoded(&bytes, piece));
            match (whole, split) {
                (Ok(Some((whole, _))), Ok(Some((split, _)))) => prop_assert_eq!(whole, split),
                (whole, split) => prop_assert_eq!(whole.map(|end| end.is_some()), split.map(|end| end.is_some())),
            }
        }
    }
}
