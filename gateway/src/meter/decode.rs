//! Decodes a copy of an encoded answer for the meter. The bytes themselves go on as they came.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::sniff::{Declared, Found, found};

/// Encodings of one answer, one inside the other.
const CODINGS_MAX: usize = 4;
/// Bytes kept of an answer of which nothing was decoded yet: it may not be encoded at all.
const PLAIN_BYTES_MAX: usize = 4 << 10;
/// Encoded bytes taken at a time, so that a short input cannot become a long output unseen: deflate makes a MiB of them at
/// most.
const SLICE_BYTES: usize = 1 << 10;
/// Decoded bytes that one slice may become.
const SLICE_DECODED_BYTES_MAX: usize = 8 << 20;
/// What RFC 9659 allows `zstd` as a content coding: windows of 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const BROTLI_BUFFER_BYTES: usize = 4 << 10;

/// The encoding is not known, or the bytes are not what it says, or are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer's content-encoding cannot be read")]
pub struct DecodeError;

/// Decodes an answer as it passes.
pub struct Decoder {
    /// In the order in which they are undone.
    codecs: Vec<Codec>,
    /// What has come while nothing was decoded.
    head: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was decoded yet.
    Begins,
    Decodes,
    /// The answer is not encoded, whatever it says.
    Plain,
    Failed,
}

enum Codec {
    Gzip(MultiGzDecoder<Sink>),
    /// `deflate` means zlib, but some senders leave its header out: the first byte tells.
    DeflateUnseen {
        decoded_bytes_max: u64,
    },
    Zlib(ZlibDecoder<Sink>),
    Deflate(DeflateDecoder<Sink>),
    Brotli(Box<brotli::DecompressorWriter<Sink>>),
    Zstd(zstd::stream::write::Decoder<'static, Sink>),
}

/// Takes what was decoded, up to a limit.
struct Sink {
    out: Vec<u8>,
    left: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        if len > self.left || self.out.len() + bytes.len() > SLICE_DECODED_BYTES_MAX {
            return Err(io::Error::other("decoded answer too long"));
        }
        self.left -= len;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `None`: the answer is not encoded.
pub fn decoder(content_encoding: Option<&str>, decoded_bytes_max: u64) -> Result<Option<Decoder>, DecodeError> {
    let names = content_encoding.unwrap_or_default().to_ascii_lowercase();
    let names: Vec<&str> = names
        .split(',')
        .map(str::trim)
        .filter(|name| !matches!(*name, "" | "identity"))
        .collect();
    if names.is_empty() {
        return Ok(None);
    }
    if names.len() > CODINGS_MAX {
        return Err(DecodeError);
    }
    // They are named in the order in which they were applied (RFC 9110 §8.4).
    let codecs: Result<_, _> = names.iter().rev().map(|name| codec(name, decoded_bytes_max)).collect();
    Ok(Some(Decoder {
        codecs: codecs?,
        head: Vec::new(),
        state: State::Begins,
    }))
}

fn codec(name: &str, decoded_bytes_max: u64) -> Result<Codec, DecodeError> {
    let sink = Sink {
        out: Vec::new(),
        left: decoded_bytes_max,
    };
    Ok(match name {
        "gzip" | "x-gzip" => Codec::Gzip(MultiGzDecoder::new(sink)),
        "deflate" => Codec::DeflateUnseen { decoded_bytes_max },
        "br" => Codec::Brotli(Box::new(brotli::DecompressorWriter::new(sink, BROTLI_BUFFER_BYTES))),
        "zstd" => {
            let mut decoder = zstd::stream::write::Decoder::new(sink).map_err(|_| DecodeError)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| DecodeError)?;
            Codec::Zstd(decoder)
        }
        _ => return Err(DecodeError),
    })
}

impl Decoder {
    /// Hands the decoded bytes to `sink`, piece by piece. After an error nothing more is decoded.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        match self.state {
            State::Failed => return Err(DecodeError),
            State::Plain => {
                sink(bytes);
                return Ok(());
            }
            State::Begins | State::Decodes => {}
        }
        let mut any = false;
        let decoded = decode(&mut self.codecs, bytes, &mut |bytes| {
            any = true;
            sink(bytes);
        });
        if any {
            self.state = State::Decodes;
        }
        match (decoded, self.state) {
            (Ok(()), State::Begins) if self.head.len() + bytes.len() <= PLAIN_BYTES_MAX => {
                self.head.extend_from_slice(bytes);
            }
            (Ok(()), _) => {
                self.state = State::Decodes;
                self.head = Vec::new();
            }
            (Err(_), State::Begins) if self.is_plain(bytes) => {
                self.state = State::Plain;
                sink(&std::mem::take(&mut self.head));
                sink(bytes);
            }
            (Err(error), _) => {
                self.state = State::Failed;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Nothing is known to be missing at its end.
    pub fn is_whole(&mut self) -> bool {
        match (self.state, self.codecs.first_mut()) {
            (State::Decodes, Some(Codec::Gzip(decoder))) => decoder.try_finish().is_ok(),
            (State::Decodes, Some(Codec::Brotli(decoder))) => decoder.close().is_ok(),
            _ => true,
        }
    }

    /// What has come reads as an answer that is not encoded.
    fn is_plain(&self, bytes: &[u8]) -> bool {
        const FIELD_BYTES: usize = 64;
        let begin: Vec<u8> = self.head.iter().chain(bytes).take(FIELD_BYTES).copied().collect();
        found(Declared::Other, true, begin.trim_ascii_start()) != Some(Found::Opaque)
    }
}

fn decode(codecs: &mut [Codec], bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
    let Some((codec, inner)) = codecs.split_first_mut() else {
        if !bytes.is_empty() {
            sink(bytes);
        }
        return Ok(());
    };
    for slice in bytes.chunks(SLICE_BYTES) {
        let written = codec.write(slice);
        if let Some(out) = codec.sink() {
            let decoded = decode(inner, &out.out, sink);
            out.out.clear();
            out.out.shrink_to(SLICE_BYTES);
            decoded?;
        }
        written.map_err(|_| DecodeError)?;
    }
    Ok(())
}

impl Codec {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Codec::DeflateUnseen { decoded_bytes_max } = self {
            let sink = Sink {
                out: Vec::new(),
                left: *decoded_bytes_max,
            };
            // The first byte of zlib names the method, 8, and a window of at most 32 KiB.
            let zlib = bytes.first().is_some_and(|first| first & 0x8f == 0x08);
            *self = if zlib {
                Codec::Zlib(ZlibDecoder::new(sink))
            } else {
                Codec::Deflate(DeflateDecoder::new(sink))
            };
        }
        let writer: &mut dyn Write = match self {
            Codec::Gzip(decoder) => decoder,
            Codec::Zlib(decoder) => decoder,
            Codec::Deflate(decoder) => decoder,
            Codec::Brotli(decoder) => decoder.as_mut(),
            Codec::Zstd(decoder) => decoder,
            Codec::DeflateUnseen { .. } => return Ok(()),
        };
        writer.write_all(bytes)?;
        writer.flush()
    }

    fn sink(&mut self) -> Option<&mut Sink> {
        match self {
            Codec::Gzip(decoder) => Some(decoder.get_mut()),
            Codec::Zlib(decoder) => Some(decoder.get_mut()),
            Codec::Deflate(decoder) => Some(decoder.get_mut()),
            Codec::Brotli(decoder) => Some(decoder.get_mut()),
            Codec::Zstd(decoder) => Some(decoder.get_mut()),
            Codec::DeflateUnseen { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    pub fn encode(name: &str, text: &[u8]) -> Vec<u8> {
        use flate2::Compression;
        let mut out = Vec::new();
        match name {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(out, Compression::default());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = flate2::write::ZlibEncoder::new(out, Compression::default());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "raw" => {
                let mut encoder = flate2::write::DeflateEncoder::new(out, Compression::default());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "br" => {
                brotli::CompressorReader::new(text, 4096, 5, 22)
                    .read_to_end(&mut out)
                    .unwrap();
                out
            }
            "zstd" => zstd::encode_all(text, 3).unwrap(),
            _ => panic!("{name}"),
        }
    }

    use std::io::Read;

    fn text() -> Vec<u8> {
        (0..20_000)
            .map(|at: u32| b"{\"usage\":12}\n"[(at % 13) as usize] ^ ((at / 977) as u8 & 1))
            .collect()
    }

    #[test]
    fn every_encoding_is_decoded_however_it_is_cut() {
        for (name, made) in [
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate", "zlib"),
            ("deflate", "raw"),
            ("br", "br"),
            ("ZSTD", "zstd"),
        ] {
            let encoded = encode(made, &text());
            for step in [1, 7, 1_000, encoded.len()] {
                let mut decoder = decoder(Some(name), 1 << 20).unwrap().unwrap();
                let mut decoded = Vec::new();
                for chunk in encoded.chunks(step) {
                    decoder
                        .push(chunk, &mut |bytes| decoded.extend_from_slice(bytes))
                        .unwrap();
                }
                assert!(decoded == text(), "{name} from {made} in steps of {step}");
                assert!(decoder.is_whole());
            }
        }
    }

    #[test]
    fn what_is_not_encoded_needs_no_decoder_and_what_is_unknown_has_none() {
        assert!(matches!(decoder(None, 1), Ok(None)));
        assert!(matches!(decoder(Some("identity"), 1), Ok(None)));
        assert!(matches!(decoder(Some("compress"), 1), Err(DecodeError)));
        assert!(matches!(decoder(Some("gzip, compress"), 1), Err(DecodeError)));
        assert!(matches!(decoder(Some("gzip,gzip,gzip,gzip,gzip"), 1), Err(DecodeError)));
        assert!(matches!(decoder(Some(" identity, ,"), 1), Ok(None)));
    }

    #[test]
    fn several_encodings_are_undone_in_turn() {
        let encoded = encode("br", &encode("gzip", &text()));
        for step in [1, 1_000, encoded.len()] {
            let mut decoder = decoder(Some("gzip, identity, br"), 1 << 20).unwrap().unwrap();
            let mut decoded = Vec::new();
            for chunk in encoded.chunks(step) {
                decoder
                    .push(chunk, &mut |bytes| decoded.extend_from_slice(bytes))
                    .unwrap();
            }
            assert!(decoded == text() && decoder.is_whole());
        }
        // A bomb in a bomb: the inner one is never unpacked.
        let bomb = encode("gzip", &encode("gzip", &vec![b'x'; 16 << 20]));
        let mut decoder = decoder(Some("gzip, gzip"), 1 << 20).unwrap().unwrap();
        let mut decoded = 0;
        assert!(
            bomb.chunks(100)
                .any(|chunk| decoder.push(chunk, &mut |b| decoded += b.len()).is_err())
        );
        assert!(decoded <= 1 << 20);
    }

    #[test]
    fn an_answer_that_only_says_it_is_encoded_is_read_as_it_is() {
        let long = format!("{{\"usage\":1,\"text\":\"{}\"}}", "words ".repeat(2_000));
        for name in ["gzip", "x-gzip", "zstd"] {
            for plain in [
                "{\"usage\":{\"total_tokens\":12},\"text\":\"some\"}",
                "data: {\"usage\":1}\n\n",
                long.as_str(),
            ] {
                for step in [1, 5, plain.len()] {
                    let mut decoder = decoder(Some(name), 1 << 20).unwrap().unwrap();
                    let mut read = Vec::new();
                    for chunk in plain.as_bytes().chunks(step) {
                        decoder.push(chunk, &mut |bytes| read.extend_from_slice(bytes)).unwrap();
                    }
                    assert!(read == plain.as_bytes(), "{name} by {step}");
                }
            }
        }
    }

    #[test]
    fn an_encoded_answer_that_is_cut_is_not_whole() {
        for name in ["gzip", "br"] {
            let encoded = encode(name, &text());
            for (len, whole) in [
                (encoded.len(), true),
                (encoded.len() - 3, false),
                (encoded.len() / 2, false),
            ] {
                let mut decoder = decoder(Some(name), 1 << 20).unwrap().unwrap();
                let mut decoded = 0;
                decoder
                    .push(&encoded[..len], &mut |bytes| decoded += bytes.len())
                    .unwrap();
                assert_eq!(decoder.is_whole(), whole, "{name} {len}, {decoded} decoded");
            }
        }
    }

    #[test]
    fn bombs_and_noise_end_in_an_error() {
        for (name, made) in [("gzip", "gzip"), ("deflate", "zlib"), ("br", "br"), ("zstd", "zstd")] {
            let bomb = encode(made, &vec![b'x'; 10 << 20]);
            let mut decoder_small = decoder(Some(name), 1 << 20).unwrap().unwrap();
            let mut decoded = 0;
            assert!(
                bomb.chunks(100)
                    .any(|chunk| decoder_small.push(chunk, &mut |b| decoded += b.len()).is_err()),
                "{name}"
            );
            assert!(decoded <= 1 << 20);
            let mut noise = decoder(Some(name), 1 << 20).unwrap().unwrap();
            let first = noise.push(b"\xffthis was never encoded, whatever its header says", &mut |_| {});
            assert!(
                first.is_err() || noise.push(&[0xff; 4096], &mut |_| {}).is_err(),
                "{name}"
            );
            assert!(noise.push(b"more", &mut |_| {}).is_err());
        }
    }
}
