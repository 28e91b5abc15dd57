//! Cuts a pipe's bytes into lines, of which none is held beyond a cap.

use memchr::memchr;

/// What a pipe brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole line, its end included where it has one.
    Line(&'a [u8]),
    /// A part of a line that is longer than the cap. The last one of a line `ends` it.
    Part { bytes: &'a [u8], ends: bool },
}

/// A pipe of which some bytes have come.
pub struct Lines {
    cap: usize,
    held: Vec<u8>,
    is_long: bool,
}

impl Lines {
    pub fn new(cap: usize) -> Lines {
        Lines {
            cap,
            held: Vec::new(),
            is_long: false,
        }
    }

    /// Bytes of a line have come, and its end has not.
    pub fn is_within(&self) -> bool {
        self.is_long || !self.held.is_empty()
    }

    /// Hands on what is whole, and what is too long to become so. The first error of `sink` ends it.
    pub fn push<E>(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            let end = memchr(b'\n', bytes).map(|at| at + 1);
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.take(line, end.is_some(), sink)?;
            bytes = rest;
        }
        Ok(())
    }

    /// The pipe has ended: what is held is a line without its end.
    pub fn finish<E>(&mut self, sink: &mut dyn FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.is_long) {
            return sink(Piece::Part { bytes: b"", ends: true });
        }
        match held.is_empty() {
            true => Ok(()),
            false => sink(Piece::Line(&held)),
        }
    }

    fn take<E>(&mut self, line: &[u8], ends: bool, sink: &mut dyn FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.is_long {
            self.is_long = !ends;
            return sink(Piece::Part { bytes: line, ends });
        }
        if self.held.len() + line.len() > self.cap {
            let mut long = std::mem::take(&mut self.held);
            long.extend_from_slice(line);
            self.is_long = !ends;
            return sink(Piece::Part { bytes: &long, ends });
        }
        if !ends {
            self.held.extend_from_slice(line);
            return Ok(());
        }
        if self.held.is_empty() {
            // The usual case: nothing is copied.
            return sink(Piece::Line(line));
        }
        self.held.extend_from_slice(line);
        let held = std::mem::take(&mut self.held);
        sink(Piece::Line(&held))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Whole lines, and long ones as they were put together again.
    fn cut(bytes: &[u8], cap: usize, size: usize) -> Vec<(bool, Vec<u8>)> {
        let mut lines = Lines::new(cap);
        let mut found: Vec<(bool, Vec<u8>)> = Vec::new();
        let mut long: Option<Vec<u8>> = None;
        let mut sink = |piece: Piece<'_>| -> Result<(), Infallible> {
            match piece {
                Piece::Line(line) => found.push((false, line.to_vec())),
                Piece::Part { bytes, ends } => {
                    long.get_or_insert_default().extend_from_slice(bytes);
                    if ends {
                        found.push((true, long.take().unwrap()));
                    }
                }
            }
            Ok(())
        };
        for chunk in bytes.chunks(size) {
            lines.push(chunk, &mut sink).unwrap();
        }
        lines.finish(&mut sink).unwrap();
        assert!(!lines.is_within());
        found
    }

    #[test]
    fn lines_are_cut_at_their_ends_and_long_ones_pass_in_parts() {
        let text = b"one\n\ntwo two\r\nthe third is long\nfour\nhalf";
        for size in 1..text.len() + 1 {
            let found = cut(text, 9, size);
            let expected: [(bool, &[u8]); 6] = [
                (false, b"one\n"),
                (false, b"\n"),
                (false, b"two two\r\n"),
                (true, b"the third is long\n"),
                (false, b"four\n"),
                (false, b"half"),
            ];
            assert_eq!(found.len(), expected.len(), "{size}");
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!((found.0, found.1.as_slice()), expected, "{size}");
            }
        }
    }

    #[test]
    fn what_fails_ends_it() {
        let mut lines = Lines::new(9);
        let mut seen = 0;
        let refused = lines.push(b"a\nb\nc\n", &mut |_| {
            seen += 1;
            if seen == 2 { Err("closed") } else { Ok(()) }
        });
        assert_eq!((refused, seen), (Err("closed"), 2));
    }

    proptest! {
        /// No byte is lost, doubled or moved, and what is held stays below the cap.
        #[test]
        fn all_bytes_come_out(bytes in prop::collection::vec(prop::sample::select(b"ab\n\r\xff".to_vec()), 0..80), cap in 1_usize..12, size in 1_usize..20) {
            let found = cut(&bytes, cap, size);
            prop_assert_eq!(found.iter().flat_map(|(_, line)| line.clone()).collect::<Vec<u8>>(), bytes);
            for (long, line) in found {
                prop_assert_eq!(long, line.len() > cap);
            }
        }
    }
}
