//! Standard base64 (RFC 4648 §4), padded or not: what clients put into `Authorization: Basic`, and AWS into event streams.

/// The bytes that `text` stands for; `None` where it is not base64.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    decode_into(text, &mut out)?;
    Some(out)
}

/// The same, added to `out`. After `None` what was added is of no use.
pub fn decode_into(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let end = text
        .iter()
        .rposition(|byte| *byte != b'=')
        .map_or(0, |last| last.saturating_add(1));
    for group in text.get(..end)?.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let value = VALUES.get(usize::from(*byte)).copied().filter(|value| *value < 64)?;
            bits = (bits << 6) | u32::from(value);
        }
        let bytes = (bits << (6 * (4 - group.len()) + 8)).to_be_bytes();
        // One letter alone is no byte.
        let whole = group.len().checked_sub(1).filter(|whole| *whole > 0)?;
        out.extend_from_slice(bytes.get(..whole)?);
    }
    Some(())
}

/// Padded.
pub fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32, at: usize| {
        LETTERS
            .get((bits >> (18 - 6 * at)) as usize & 63)
            .copied()
            .map_or('?', char::from)
    };
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| {
            (bits << 8) | u32::from(three.get(at).copied().unwrap_or(0))
        });
        (0..4)
            .map(|at| if at > three.len() { '=' } else { letter(bits, at) })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// What each letter is worth; 64 for one that is none.
const VALUES: [u8; 256] = values();

#[allow(clippy::indexing_slicing)] // Evaluated by the compiler, which would refuse an index out of bounds.
const fn values() -> [u8; 256] {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [64; 256];
    let mut at = 0;
    while at < letters.len() {
        values[letters[at] as usize] = at as u8;
        at += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc_are_read_with_and_without_padding() {
        for (text, plain) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap(), plain.as_bytes());
            assert_eq!(decode(text.trim_end_matches('=').as_bytes()).unwrap(), plain.as_bytes());
            assert_eq!(encode(plain.as_bytes()), text);
        }
        assert_eq!(decode(b"//79").unwrap(), [0xff, 0xfe, 0xfd]);
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["Z", "Zm9vY", "Zm 9v", "Zm=9v", "-_-_", "é"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
