//! Decodes a copy of an encoded answer for the meter. The bytes themselves go on as they came.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Encoded bytes taken at a time, so that a short input cannot become a long output unseen.
const SLICE_BYTES: usize = 8 << 10;
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
    codec: Codec,
    failed: bool,
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
    let name = content_encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let sink = Sink {
        out: Vec::new(),
        left: decoded_bytes_max,
    };
    let codec = match name.as_str() {
        "" | "identity" => return Ok(None),
        "gzip" | "x-gzip" => Codec::Gzip(MultiGzDecoder::new(sink)),
        "deflate" => Codec::DeflateUnseen { decoded_bytes_max },
        "br" => Codec::Brotli(Box::new(brotli::DecompressorWriter::new(sink, BROTLI_BUFFER_BYTES))),
        "zstd" => {
            let mut decoder = zstd::stream::write::Decoder::new(sink).map_err(|_| DecodeError)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| DecodeError)?;
            Codec::Zstd(decoder)
        }
        _ => return Err(DecodeError),
    };
    Ok(Some(Decoder { codec, failed: false }))
}

impl Decoder {
    /// Hands the decoded bytes to `sink`, piece by piece. After an error nothing more is decoded.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        if self.failed {
            return Err(DecodeError);
        }
        for slice in bytes.chunks(SLICE_BYTES) {
            let result = self.codec.write(slice);
            if let Some(out) = self.codec.sink() {
                if !out.out.is_empty() {
                    sink(&out.out);
                }
                out.out.clear();
                out.out.shrink_to(SLICE_BYTES);
            }
            if result.is_err() {
                self.failed = true;
                return Err(DecodeError);
            }
        }
        Ok(())
    }
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
            }
        }
    }

    #[test]
    fn what_is_not_encoded_needs_no_decoder_and_what_is_unknown_has_none() {
        assert!(matches!(decoder(None, 1), Ok(None)));
        assert!(matches!(decoder(Some("identity"), 1), Ok(None)));
        assert!(matches!(decoder(Some("compress"), 1), Err(DecodeError)));
        assert!(matches!(decoder(Some("gzip, br"), 1), Err(DecodeError)));
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
