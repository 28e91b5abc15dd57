//! A pipe that lines go into from two sides: the bytes that are passed on as they come, and between two lines of theirs whole lines
//! that waited for something, or are the gateway's own. Those are queued: whoever puts one in never waits for the other end to read,
//! and a thread of the pipe's own writes them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use memchr::memchr;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Lines that are queued before whoever puts them in has to wait.
const QUEUED_MAX: usize = 256;

/// See the module.
pub struct LinePipe<W> {
    /// Locked while the other end does not read.
    pipe: Mutex<Pipe<W>>,
    /// A line that was passed on is over, or nothing is passed on any more.
    between: Condvar,
    /// Never locked for long.
    queue: Mutex<Queue>,
    /// Something was queued.
    queued: Condvar,
    /// Something was taken out of the queue.
    taken: Condvar,
    /// The same, for who waits in a task.
    room: Arc<Notify>,
}

struct Pipe<W> {
    /// `None`: it is closed.
    writer: Option<W>,
    /// The line that is passed on is not over.
    is_within: bool,
    /// Nothing is passed on any more.
    is_over: bool,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Queued>,
    /// It is to be closed once the queue is empty.
    closes: bool,
    is_closed: bool,
}

/// A line that waits for its turn.
pub struct Queued {
    pub line: Vec<u8>,
    /// Called where the other end does not get it.
    pub lost: Option<Box<dyn FnOnce() + Send>>,
}

impl Queued {
    /// One that nobody misses.
    pub fn answer(line: Vec<u8>) -> Queued {
        Queued { line, lost: None }
    }
}

impl<W: Write> LinePipe<W> {
    /// `room`: notified when lines leave the queue.
    pub fn new(writer: W, room: Arc<Notify>) -> LinePipe<W> {
        LinePipe {
            pipe: Mutex::new(Pipe {
                writer: Some(writer),
                is_within: false,
                is_over: false,
            }),
            between: Condvar::new(),
            queue: Mutex::default(),
            queued: Condvar::new(),
            taken: Condvar::new(),
            room,
        }
    }

    /// Passes bytes on, unchanged.
    ///
    /// # Errors
    /// The other end is closed.
    pub fn pass(&self, bytes: &[u8]) -> io::Result<()> {
        let mut pipe = self.pipe.lock();
        let mut rest = bytes;
        let is_queued = !self.queue.lock().lines.is_empty();
        if is_queued && let Some(end) = memchr(b'\n', bytes) {
            let (line, after) = bytes.split_at(end + 1);
            pipe.write(line)?;
            self.write_queue(&mut pipe);
            rest = after;
        }
        let written = pipe.write(rest);
        if !pipe.is_within || written.is_err() {
            self.between.notify_all();
        }
        written
    }

    /// Nothing is passed on any more: what is queued goes in on lines of its own.
    pub fn pass_no_more(&self) {
        self.pipe.lock().is_over = true;
        self.between.notify_all();
    }

    pub fn has_room(&self) -> bool {
        self.queue.lock().lines.len() < QUEUED_MAX
    }

    /// Queues a whole line, with the end that it has.
    pub fn put(&self, queued: Queued) {
        let lost = {
            let mut queue = self.queue.lock();
            if queue.is_closed {
                queued.lost
            } else {
                queue.lines.push_back(queued);
                None
            }
        };
        self.queued.notify_all();
        if let Some(lost) = lost {
            lost();
        }
    }

    /// Queues a whole line once there is room.
    pub fn put_in_turn(&self, queued: Queued) {
        {
            let mut queue = self.queue.lock();
            while queue.lines.len() >= QUEUED_MAX && !queue.is_closed {
                self.taken.wait(&mut queue);
            }
        }
        self.put(queued);
    }

    /// Closes it once the queue is empty.
    pub fn close(&self) {
        self.queue.lock().closes = true;
        self.queued.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.queue.lock().is_closed
    }

    /// Writes what is queued until it is closed; to be run in a thread of its own.
    pub fn run(&self) {
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.lines.is_empty() && !queue.closes {
                    self.queued.wait(&mut queue);
                }
            }
            let mut pipe = self.pipe.lock();
            while pipe.is_within && !pipe.is_over && pipe.writer.is_some() && !self.queue.lock().lines.is_empty() {
                self.between.wait(&mut pipe);
            }
            self.write_queue(&mut pipe);
            let mut queue = self.queue.lock();
            if queue.closes && queue.lines.is_empty() {
                pipe.writer = None;
                queue.is_closed = true;
                drop(queue);
                self.taken.notify_all();
                self.room.notify_one();
                return;
            }
        }
    }

    fn write_queue(&self, pipe: &mut Pipe<W>) {
        loop {
            let Some(Queued { line, lost }) = self.queue.lock().lines.pop_front() else {
                break;
            };
            let ended = match pipe.is_within {
                true => pipe.write(b"\n"),
                false => Ok(()),
            };
            if ended.and_then(|()| pipe.write(&line)).is_err()
                && let Some(lost) = lost
            {
                lost();
            }
            self.taken.notify_all();
            self.room.notify_one();
        }
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

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
        let pipe = LinePipe::new(kept.clone(), Arc::default());
        thread::scope(|scope| {
            scope.spawn(|| pipe.run());
            for step in steps {
                match step.strip_prefix("put: ") {
                    Some(line) => {
                        let is_between = !pipe.pipe.lock().is_within;
                        pipe.put(Queued::answer(format!("{line}\n").into_bytes()));
                        while is_between && !pipe.queue.lock().lines.is_empty() {
                            thread::yield_now();
                        }
                        // It is taken out before it is written.
                        drop(pipe.pipe.lock());
                    }
                    None => pipe.pass(step.as_bytes()).unwrap(),
                }
            }
            pipe.pass_no_more();
            pipe.close();
        });
        assert!(pipe.is_closed());
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
    fn who_puts_a_line_in_does_not_wait_for_the_other_end() {
        let pipe = LinePipe::new(Kept::default(), Arc::default());
        pipe.pass(b"half").unwrap();
        let written = pipe.pipe.lock();
        for at in 0..QUEUED_MAX {
            assert_eq!(pipe.has_room(), at < QUEUED_MAX);
            pipe.put(Queued::answer(b"no\n".to_vec()));
        }
        assert!(!pipe.has_room());
        drop(written);
    }

    #[test]
    fn nothing_goes_into_a_closed_pipe_and_who_put_it_in_is_notified() {
        let (pipe, lost) = (
            LinePipe::new(Kept::default(), Arc::default()),
            Arc::new(AtomicUsize::new(0)),
        );
        pipe.close();
        pipe.run();
        assert_eq!(pipe.pass(b"a\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let count = Arc::clone(&lost);
        pipe.put(Queued {
            line: b"a\n".to_vec(),
            lost: Some(Box::new(move || count.store(1, Ordering::Relaxed))),
        });
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }
}
