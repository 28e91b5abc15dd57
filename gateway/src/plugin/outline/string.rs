//! Strings as JSON writes them: where they end, and what they say.

use std::borrow::Cow;

/// Words of a string looked at one by one before memchr is worth its start.
const WORDS_MAX: usize = 8;

/// How many bytes of a string go before a quote, a backslash or a control character.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().take(WORDS_MAX).enumerate() {
        let ends = ends(u64::from_le_bytes(*word));
        if ends != 0 {
            return at * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    if words.len() < WORDS_MAX {
        let stop = tail.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
        return stop.map_or(bytes.len(), |stop| words.len() * 8 + stop);
    }
    // None near: most likely a long text, where searching for one thing at a time is fastest.
    let near = WORDS_MAX * 8;
    let rest = bytes.get(near..).unwrap_or_default();
    let stop = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let plain = rest.get(..stop).unwrap_or_default();
    near + control(plain).unwrap_or(stop)
}

/// How many bytes of a string go before a quote or a backslash, whatever else is in it.
#[inline]
pub(super) fn quoted_len(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let (words, _) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().take(WORDS_MAX).enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = (word ^ (EACH * 0x22)).wrapping_sub(EACH);
        let backslash = (word ^ (EACH * 0x5c)).wrapping_sub(EACH);
        let ends = (quote | backslash) & !word & (EACH * 0x80);
        if ends != 0 {
            return at * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    let near = words.len().min(WORDS_MAX) * 8;
    let rest = bytes.get(near..).unwrap_or_default();
    near + memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
}

/// How many bytes of a string go before its closing quote, or before a backslash that is the last of them.
pub(super) fn string_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += quoted_len(bytes.get(at..).unwrap_or_default());
        match bytes.get(at) {
            Some(b'\\') if at + 1 < bytes.len() => at += 2,
            _ => return at,
        }
    }
}

/// Marks by its high bit the lowest byte that is a quote, a backslash or a control character; bytes above it may be
/// marked wrongly. Taking from each byte borrows from its high bit where it was too small, and else only where a lower
/// byte has borrowed; bytes whose high bit was set before are none of the three.
fn ends(word: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let quote = (word ^ (EACH * 0x22)).wrapping_sub(EACH);
    let backslash = (word ^ (EACH * 0x5c)).wrapping_sub(EACH);
    let control = word.wrapping_sub(EACH * 0x20);
    (quote | backslash | control) & !word & (EACH * 0x80)
}

/// Where the first control character stands. Looks at whole blocks first, which compilers turn into vector code.
fn control(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for block in bytes.chunks(64) {
        if block.iter().fold(false, |any, byte| any | (*byte < 0x20)) {
            return block.iter().position(|byte| *byte < 0x20).map(|offset| at + offset);
        }
        at += block.len();
    }
    None
}

/// A key's bytes without escapes. A lone surrogate, which no UTF-8 can say, becomes its three-byte form, so that it
/// equals nothing but itself.
pub(super) fn decode(raw: &[u8], escaped: bool) -> Cow<'_, [u8]> {
    if !escaped {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let Some((kind, tail)) = rest.split_first() else { break };
        rest = tail;
        match kind {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let high = hex(rest);
                rest = rest.get(4..).unwrap_or_default();
                let low = rest
                    .strip_prefix(b"\\u")
                    .map(hex)
                    .filter(|low| (0xdc00..0xe000).contains(low));
                let code = match low {
                    Some(low) if (0xd800..0xdc00).contains(&high) => {
                        rest = rest.get(6..).unwrap_or_default();
                        0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                    }
                    _ => high,
                };
                push_code(&mut out, code);
            }
            other => out.push(*other),
        }
    }
    Cow::Owned(out)
}

fn hex(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |value, byte| {
        value * 16 + char::from(*byte).to_digit(16).unwrap_or(0)
    })
}

fn push_code(out: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend_from_slice(&[
            0xe0 | (code >> 12 & 0x0f) as u8,
            0x80 | (code >> 6 & 0x3f) as u8,
            0x80 | (code & 0x3f) as u8,
        ]),
    }
}

/// Where the next quote or bracket stands, outside of strings. Looks at whole blocks first, which compilers turn into
/// vector code: in an array of numbers there is none for long.
pub(super) fn next_bracket(bytes: &[u8]) -> Option<usize> {
    // Square brackets differ from curly ones in one bit.
    let is_one = |byte: u8| byte == b'"' || matches!(byte | 0x20, b'{' | b'}');
    let mut at = 0;
    for block in bytes.chunks(32) {
        if block.iter().fold(false, |any, byte| any | is_one(*byte)) {
            return block.iter().position(|byte| is_one(*byte)).map(|offset| at + offset);
        }
        at += block.len();
    }
    None
}
