//! Compact numbers and texts for what the journal and its checkpoints store.

/// Appends a number in 7-bit groups, low ones first: one byte below 128.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Signed numbers near zero stay short.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_blob(out, text.as_bytes());
}

pub fn put_blob(out: &mut Vec<u8>, blob: &[u8]) {
    put_u64(out, blob.len() as u64);
    out.extend_from_slice(blob);
}

/// The number of eight groups of seven bits, each in a byte: neighbours are moved together, then pairs, then fours.
fn joined(groups: u64) -> u64 {
    let pairs = (groups & 0x007f_007f_007f_007f) | ((groups & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4)
}

/// Takes values off the front of stored bytes; `None` where they end early or make no sense.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not taken yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        // Nearly every number ends within the next eight bytes: they are taken at once.
        if let Some(bytes) = self.rest.first_chunk() {
            let word = u64::from_le_bytes(*bytes);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                let last = ends.trailing_zeros();
                self.rest = self.rest.get(last as usize / 8 + 1..)?;
                return Some(joined(word & (u64::MAX >> (63 - last))));
            }
        }
        self.u64_by_bytes()
    }

    fn u64_by_bytes(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && group > 1 {
                return None;
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    #[inline]
    pub fn i64(&mut self) -> Option<i64> {
        let value = self.u64()?;
        Some(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    pub fn blob(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (blob, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(blob)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.blob()?).ok()
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_texts_round_trip(a: u64, b: i64, text: String) {
            let mut out = Vec::new();
            put_u64(&mut out, a);
            put_i64(&mut out, b);
            put_text(&mut out, &text);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u64(), Some(a));
            prop_assert_eq!(reader.i64(), Some(b));
            prop_assert_eq!(reader.text(), Some(text.as_str()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_number_is_read_the_same_whatever_follows(value: u64, bits in 0u32..64, after in prop::collection::vec(any::<u8>(), 0..12)) {
            let value = value >> bits;
            let mut out = Vec::new();
            put_u64(&mut out, value);
            out.extend(&after);
            let (mut at_once, mut by_bytes) = (Reader::new(&out), Reader::new(&out));
            prop_assert_eq!((at_once.u64(), by_bytes.u64_by_bytes()), (Some(value), Some(value)));
            prop_assert_eq!((at_once.left(), by_bytes.left()), (after.len(), after.len()));
        }

        #[test]
        fn any_bytes_are_read_without_failing(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() && reader.u64().is_some() && reader.blob().is_some() {}
        }
    }

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 10]).u64(), None);
        let mut out = vec![0xff; 9];
        out.push(1);
        assert_eq!(Reader::new(&out).u64(), Some(u64::MAX));
    }
}
