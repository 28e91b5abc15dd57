//! What holds for any bytes that a client may send. The fuzz target and `tests/any_bytes.rs` check it alike.
//!
//! Whatever is accepted is read in the same way at every split, is read by lenient servers as it is read here, and is read again
//! from what goes upstream of it.

use agentledger_http1::{BodyDecoder, BodyLength, head_end, key_of, may_come_again, request_head};
use bytes::{Bytes, BytesMut};

/// A request as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub method: String,
    pub target: Vec<u8>,
    /// In the order of the map.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Bytes that it takes of those that came.
    pub taken: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Read(Read),
    /// More is to come.
    Partial,
    Refused,
}

/// Reads one request, given in pieces of so many bytes.
pub fn read(bytes: &[u8], piece: usize) -> Outcome {
    let mut buffer = BytesMut::new();
    let mut pieces = bytes.chunks(piece.max(1));
    let (mut given, mut seen) = (0, 0);
    let end = loop {
        if let Some(end) = head_end(&buffer, seen) {
            break end;
        }
        seen = buffer.len();
        let Some(piece) = pieces.next() else {
            return Outcome::Partial;
        };
        buffer.extend_from_slice(piece);
        given += piece.len();
    };
    let Ok(head) = request_head(&buffer.split_to(end).freeze()) else {
        return Outcome::Refused;
    };
    if head.fault.is_some() {
        return Outcome::Refused;
    }
    let (mut decoder, mut body) = (BodyDecoder::new(head.body), Vec::new());
    loop {
        match decoder.next(&mut buffer) {
            Err(_) => return Outcome::Refused,
            Ok(Some(content)) => body.extend_from_slice(&content),
            Ok(None) if decoder.is_done() => break,
            Ok(None) => {
                let Some(piece) = pieces.next() else {
                    return Outcome::Partial;
                };
                buffer.extend_from_slice(piece);
                given += piece.len();
            }
        }
    }
    let fields = head.header.headers.iter();
    Outcome::Read(Read {
        method: head.header.method.to_string(),
        target: head.header.raw_path().to_vec(),
        fields: fields
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        body,
        taken: given - buffer.len(),
    })
}

/// How servers read that take what they get: lines end with a line feed, names with anything before a colon, numbers with the
/// first byte that is no digit.
struct Lenient<'b> {
    lengths: Vec<&'b [u8]>,
    is_chunked: bool,
    body: &'b [u8],
}

impl Lenient<'_> {
    fn of(bytes: &[u8]) -> Option<Lenient<'_>> {
        let (mut lengths, mut is_chunked, mut rest, mut is_first) = (Vec::new(), false, bytes, true);
        loop {
            let (line, after) = line(rest)?;
            rest = after;
            if line.is_empty() && !is_first {
                break;
            }
            is_first &= line.is_empty();
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
                continue;
            };
            let name: Vec<u8> = name.trim_ascii().to_ascii_lowercase();
            match name.as_slice() {
                b"content-length" => lengths.push(value.trim_ascii()),
                b"transfer-encoding" => {
                    let value = value.to_ascii_lowercase();
                    is_chunked |= value.windows(7).any(|window| window == b"chunked");
                }
                _ => {}
            }
        }
        Some(Lenient {
            lengths,
            is_chunked,
            body: rest,
        })
    }

    /// The bytes that the body takes: chunks before a length, or the other way round; of two lengths the first or the last.
    fn readings(&self) -> Vec<Option<usize>> {
        let chunks = || self.is_chunked.then(|| chunks(self.body));
        let length = |length: Option<&&[u8]>| {
            length.map(|length| number(length, 10).filter(|length| *length <= self.body.len()))
        };
        let (first, last) = (length(self.lengths.first()), length(self.lengths.last()));
        [
            chunks().or(first),
            first.or(chunks()),
            chunks().or(last),
            last.or(chunks()),
        ]
        .into_iter()
        .map(|read| read.unwrap_or(Some(0)))
        .collect()
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes.get(..at)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), bytes.get(at + 1..)?))
}

fn number(text: &[u8], radix: u32) -> Option<usize> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().map_while(|byte| char::from(*byte).to_digit(radix));
    digits.fold(None, |sum: Option<usize>, digit| {
        sum.unwrap_or(0)
            .checked_mul(radix as usize)?
            .checked_add(digit as usize)
    })
}

/// The bytes that chunks take.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    loop {
        let (size, after) = line(rest)?;
        let size = number(size, 16)?;
        rest = after.get(size..)?;
        if size > 0 {
            rest = line(rest)?.1;
            continue;
        }
        loop {
            let (trailer, after) = line(rest)?;
            rest = after;
            if trailer.is_empty() {
                return Some(bytes.len() - rest.len());
            }
        }
    }
}

/// What is made of a head serves those of its key: with another length in its place it has the same key, and is read in the same
/// way but for that length.
fn check_key(bytes: &[u8]) {
    let Some(head) = head_end(bytes, 0).and_then(|end| bytes.get(..end)) else {
        return;
    };
    let Ok(read) = request_head(&Bytes::copy_from_slice(head)) else {
        return;
    };
    let mut key = Vec::new();
    let length = key_of(head, &mut key);
    if !may_come_again(&read) {
        return;
    }
    let Some(length) = length else { return };
    assert_eq!(length, read.body, "a key gives another length");
    let digits = head.len() - key.len();
    let cut = |at: &usize| key.get(*at..) == head.get(at + digits..) && key.get(..*at) == head.get(..*at);
    let Some(at) = (0..key.len()).find(cut).filter(|_| digits > 0) else {
        assert_eq!(key, head);
        return;
    };
    let other = [&key[..at], b"7", &key[at..]].concat();
    let other_read = request_head(&Bytes::copy_from_slice(&other)).expect("another length reads as well");
    let mut other_key = Vec::new();
    assert_eq!(key_of(&other, &mut other_key), Some(BodyLength::Exact(7)));
    assert_eq!(other_key, key);
    assert_eq!((other_read.body, other_read.fault), (BodyLength::Exact(7), None));
    assert_eq!(format!("{:?}", other_read.header), format!("{:?}", read.header));
    assert_eq!(other_read.keep_alive, read.keep_alive);
}

/// Panics where something does not hold.
pub fn check(bytes: &[u8]) {
    let whole = read(bytes, bytes.len());
    for piece in [1, 2, 7] {
        assert_eq!(read(bytes, piece), whole, "in pieces of {piece}");
    }
    check_key(bytes);
    let Outcome::Read(whole) = whole else { return };
    let lenient = Lenient::of(bytes).expect("what is read here is read leniently, too");
    let head = bytes.len() - lenient.body.len();
    for reading in lenient.readings() {
        assert_eq!(
            reading.map(|body| head + body),
            Some(whole.taken),
            "a lenient server reads another body"
        );
    }
    // As it goes upstream: framed anew, by its length.
    let mut again = format!("{} ", whole.method).into_bytes();
    again.extend_from_slice(&whole.target);
    again.extend_from_slice(b" HTTP/1.1\r\n");
    let framing = ["content-length", "transfer-encoding", "host"];
    let fields: Vec<_> = whole
        .fields
        .iter()
        .filter(|(name, _)| !framing.contains(&name.as_str()))
        .collect();
    for (name, value) in &fields {
        again.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    let host = whole.fields.iter().find(|(name, _)| name == "host");
    // A request of HTTP/1.0 need not have one, and may name it in its target instead.
    let named = http::Uri::try_from(whole.target.as_slice()).ok();
    let named = named.as_ref().and_then(|target| target.authority());
    let named = named.map_or(b"".as_slice(), |authority| authority.as_str().as_bytes());
    let host = host.map_or(named, |(_, value)| value);
    again.extend_from_slice(&[b"host: ", host, b"\r\n"].concat());
    again.extend_from_slice(format!("content-length: {}\r\n\r\n", whole.body.len()).as_bytes());
    again.extend_from_slice(&whole.body);
    let again = Bytes::from(again);
    let Outcome::Read(read) = read(&again, again.len()) else {
        panic!("what goes upstream is not read: {:?}", again.escape_ascii().to_string());
    };
    assert_eq!(
        (&read.method, &read.target, &read.body),
        (&whole.method, &whole.target, &whole.body)
    );
    assert_eq!(read.taken, again.len());
    let kept: Vec<_> = read
        .fields
        .iter()
        .filter(|(name, _)| !framing.contains(&name.as_str()))
        .collect();
    assert_eq!(kept, fields);
}
