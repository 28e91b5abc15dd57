//! How far long work is, said on standard error; nothing where that is no terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::thousands::thousands;
use crate::timer::Timer;

/// One line, which is written over and goes when the work ends.
pub struct Progress {
    what: &'static str,
    shown_at: Option<Timer>,
    is_terminal: bool,
}

impl Progress {
    const EVERY: Duration = Duration::from_millis(200);
    const BAR: usize = 24;

    pub fn new(what: &'static str) -> Progress {
        Progress {
            what,
            shown_at: None,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// So many of them are done, of so many in all: a bar, where that is known.
    pub fn of(&mut self, done: usize, all: usize, of_what: &str) {
        if all == 0 {
            return self.at(done, of_what);
        }
        let filled = done.min(all).saturating_mul(Progress::BAR) / all;
        let bar = format!("[{}{}]", "#".repeat(filled), "-".repeat(Progress::BAR - filled));
        let of_all = format!("of {} {of_what} {bar}", thousands(all));
        self.at(done.min(all), &of_all);
    }

    /// So many of them are done.
    pub fn at(&mut self, done: usize, of_what: &str) {
        let due = self.shown_at.is_none_or(|at| at.elapsed() >= Progress::EVERY);
        if self.is_terminal && due {
            self.shown_at = Some(Timer::start());
            let done = thousands(done);
            let _ = write!(io::stderr(), "\r\u{1b}[K{}: {done} {of_what}", self.what);
        }
    }
}

/// The same for work that does not say how far it is: for how long it has run, after a moment.
pub struct Working {
    ends: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Working {
    const AFTER: Duration = Duration::from_secs(1);

    pub fn new(what: &'static str) -> Working {
        if !io::stderr().is_terminal() {
            return Working { ends: None };
        }
        let (end, ended) = channel::<()>();
        let showing = std::thread::Builder::new().name("progress".into()).spawn(move || {
            let started = Timer::start();
            while ended.recv_timeout(Working::AFTER) == Err(RecvTimeoutError::Timeout) {
                let _ = write!(io::stderr(), "\r\u{1b}[K{what}: {} s", started.elapsed().as_secs());
            }
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        });
        Working {
            ends: showing.ok().map(|showing| (end, showing)),
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some((end, showing)) = self.ends.take() {
            drop(end);
            // It only draws: nothing is lost with it.
            let _ = showing.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown_at.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
