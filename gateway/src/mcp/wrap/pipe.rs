//! A pipe that lines go into from two sides: the bytes that are passed on as they come, and between two lines of theirs whole lines
//! that waited for something, or are the gateway's own.

use std::io::{self, Write};

use memchr::memchr;
use parking_lot::Mutex;

/// Lines that wait for the end of one that is passed on. Whoever never ends its line is broken.
const WAITING_MAX: usize = 4_096;

/// See the module.
pub struct LinePipe<W> {
    pipe: Mutex<Pipe<W>>,
}

struct Pipe<W> {
    /// `None`: it is closed.
    writer: Option<W>,
    /// The line that is passed on is not over.
    is_within: bool,
    waiting: Vec<Vec<u8>>,
}

impl<W: Write> LinePipe<W> {
    pub fn new(writer: W) -> LinePipe<W> {
        LinePipe {
            pipe: Mutex::new(Pipe {
                writer: Some(writer),
                is_within: false,
                waiting: Vec::new(),
            }),
        }
    }

    /// Passes bytes on, unchanged.
    ///
    /// # Errors
    /// The other end is closed.
    pub fn pass(&self, bytes: &[u8]) -> io::Result<()> {
        let mut pipe = self.pipe.lock();
        let mut rest = bytes;
        if !pipe.waiting.is_empty()
            && let Some(end) = memchr(b'\n', bytes)
        {
            let (line, after) = bytes.split_at(end + 1);
            pipe.write(line)?;
            pipe.write_waiting()?;
            rest = after;
        }
        pipe.write(rest)
    }

    /// Puts a whole line in, with the end that it has.
    ///
    /// # Errors
    /// The other end is closed, or too many wait for the end of a line.
    pub fn put(&self, line: Vec<u8>) -> io::Result<()> {
        let mut pipe = self.pipe.lock();
        if !pipe.is_within {
            return pipe.write(&line);
        }
        if pipe.waiting.len() >= WAITING_MAX {
            return Err(io::Error::other("a line was begun, and is not ended"));
        }
        pipe.waiting.push(line);
        Ok(())
    }

    /// Nothing is passed on any more: what waits goes in on lines of its own, and the pipe is closed.
    pub fn close(&self) {
        let mut pipe = self.pipe.lock();
        if pipe.is_within && !pipe.waiting.is_empty() {
            // Whether the other end still reads is its own affair.
            let _ = pipe.write(b"\n");
        }
        let _ = pipe.write_waiting();
        pipe.writer = None;
    }
}

impl<W: Write> Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(last) = bytes.last() else { return Ok(()) };
        let Some(writer) = &mut self.writer else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        self.is_within = *last != b'\n';
        writer.write_all(bytes)?;
        writer.flush()
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        for line in std::mem::take(&mut self.waiting) {
            self.write(&line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::Arc;

    use super::*;

    /// What was written, also after its pipe is closed.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(steps: &[&str]) -> String {
        let kept = Kept::default();
        let pipe = LinePipe::new(kept.clone());
        for step in steps {
            match step.strip_prefix("put: ") {
                Some(line) => pipe.put(format!("{line}\n").into_bytes()).unwrap(),
                None => pipe.pass(step.as_bytes()).unwrap(),
            }
        }
        pipe.close();
        let kept = kept.0.lock().clone();
        String::from_utf8(kept).unwrap()
    }

    #[test]
    fn what_is_put_in_stands_between_two_lines() {
        assert_eq!(said(&["put: A", "one\n", "put: B"]), "A\none\nB\n");
        assert_eq!(
            said(&["on", "put: A", "put: B", "e\ntwo\nthr", "ee\n"]),
            "one\nA\nB\ntwo\nthree\n"
        );
        assert_eq!(said(&["one\nha", "put: A", "", "lf"]), "one\nhalf\nA\n");
        assert_eq!(
            said(&["one\nhalf"]),
            "one\nhalf",
            "nothing is added where nothing waits"
        );
    }

    #[test]
    fn a_line_that_never_ends_takes_no_memory_without_end() {
        let pipe = LinePipe::new(Kept::default());
        pipe.pass(b"half").unwrap();
        for _ in 0..WAITING_MAX {
            pipe.put(b"no\n".to_vec()).unwrap();
        }
        assert!(pipe.put(b"no\n".to_vec()).is_err());
    }

    #[test]
    fn nothing_goes_into_a_closed_pipe() {
        let pipe = LinePipe::new(Kept::default());
        pipe.close();
        assert_eq!(pipe.pass(b"a\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(pipe.put(b"a\n".to_vec()).is_err());
    }
}
