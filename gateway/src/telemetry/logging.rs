//! Log lines on stderr, as text or JSON.
//!
//! A reader of our log that stalls must not stall the gateway: a line is copied into a buffer, and a thread writes the
//! buffer out. When the reader is so slow that the buffer is full, lines are dropped, and a line says how many.
//!
//! Dependencies log at `warn` and above only, whatever the level: some print whole requests, keys included, at lower ones.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::Log;

/// Bytes of log lines that wait at most for a slow reader.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// How long lines are gathered into one write.
const GATHER: Duration = Duration::from_millis(10);
/// How long the end of the program waits for a reader that stalls.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("log.level: unknown level {0:?}: use debug, info, warn or error")]
    Level(String),
    #[error("cannot start logging: {0}")]
    Start(String),
}

/// Flushes the log when dropped: keep it until the program's end.
#[must_use = "dropping it ends logging"]
pub struct LogGuard {
    shared: Arc<LogBuffer>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closing = true;
        self.shared.filled.notify_one();
        let stalled = !state.written_out && self.shared.written.wait_for(&mut state, FLUSH_WAIT).timed_out();
        drop(state);
        if let (false, Some(thread)) = (stalled, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Starts logging for the whole process, once. `config.level` is the level of our own lines.
pub fn init(config: &Log) -> Result<LogGuard, LoggingError> {
    let level = parse_level(&config.level)?;
    let (writer, guard) = buffered(io::stderr()).map_err(|error| LoggingError::Start(error.to_string()))?;
    let layer = layer(config.json, io::stderr().is_terminal(), writer);
    tracing_subscriber::registry()
        .with(layer.with_filter(filter(level)))
        .try_init()
        .map_err(|error| LoggingError::Start(error.to_string()))?;
    Ok(guard)
}

/// `debug`, `info`, `warn` (or `warning`), `error`; empty is info.
pub fn parse_level(level: &str) -> Result<Level, LoggingError> {
    match level.to_ascii_lowercase().as_str() {
        "debug" => Ok(Level::DEBUG),
        "" | "info" => Ok(Level::INFO),
        "warn" | "warning" => Ok(Level::WARN),
        "error" => Ok(Level::ERROR),
        _ => Err(LoggingError::Level(level.to_owned())),
    }
}

fn filter(level: Level) -> Targets {
    let ours = LevelFilter::from_level(level);
    let theirs = ours.min(LevelFilter::WARN);
    Targets::new()
        .with_default(theirs)
        .with_target("agentledger", ours)
        .with_target("agentledger_ledger", ours)
}

fn layer<S, W>(json: bool, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    if json {
        fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
    } else {
        fmt::layer().with_ansi(ansi).with_writer(writer).boxed()
    }
}

struct LogBuffer {
    state: Mutex<BufferState>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct BufferState {
    buffer: Vec<u8>,
    lines_dropped: u64,
    closing: bool,
    /// The thread has written everything and ended.
    written_out: bool,
}

/// Hands out writers into the buffer.
#[derive(Clone)]
struct Buffered(Arc<LogBuffer>);

impl<'a> MakeWriter<'a> for Buffered {
    type Writer = Buffered;
    fn make_writer(&'a self) -> Buffered {
        self.clone()
    }
}

impl Write for Buffered {
    /// Takes one whole line: the formatter writes each event in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.written_out || state.buffer.len() + line.len() > BUFFER_BYTES_MAX {
            state.lines_dropped += 1;
            return Ok(line.len());
        }
        let was_empty = state.buffer.is_empty();
        state.buffer.extend_from_slice(line);
        if was_empty {
            self.0.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn buffered(target: impl Write + Send + 'static) -> io::Result<(Buffered, LogGuard)> {
    let shared = Arc::new(LogBuffer {
        state: Mutex::default(),
        filled: Condvar::new(),
        written: Condvar::new(),
    });
    let own = shared.clone();
    let thread = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_out(&own, target))?;
    Ok((
        Buffered(shared.clone()),
        LogGuard {
            shared,
            thread: Some(thread),
        },
    ))
}

fn write_out(shared: &LogBuffer, mut target: impl Write) {
    let mut batch = Vec::new();
    loop {
        let mut state = shared.state.lock();
        while state.buffer.is_empty() && !state.closing {
            shared.filled.wait(&mut state);
        }
        if !state.closing {
            // More lines follow a first one: gather them, but end at once when asked to.
            shared.filled.wait_for(&mut state, GATHER);
        }
        std::mem::swap(&mut batch, &mut state.buffer);
        let lines_dropped = std::mem::take(&mut state.lines_dropped);
        let last = state.closing && batch.is_empty();
        drop(state);
        // Where stderr is gone, there is nobody left to tell.
        let _ = target.write_all(&batch);
        if lines_dropped > 0 {
            let _ = writeln!(
                target,
                "{lines_dropped} log lines dropped: the reader of this log is too slow"
            );
        }
        let _ = target.flush();
        batch.clear();
        if last {
            shared.state.lock().written_out = true;
            shared.written.notify_all();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use tracing::subscriber::with_default;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    fn logged(json: bool, level: Level, work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let (writer, guard) = buffered(sink.clone()).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(json, false, writer).with_filter(filter(level)));
        with_default(subscriber, work);
        drop(guard);
        sink.text()
    }

    #[test]
    fn everything_logged_before_the_end_is_written() {
        let text = logged(false, Level::INFO, || {
            for n in 0..1000 {
                tracing::info!(n, "line");
            }
        });
        assert_eq!(text.lines().count(), 1000);
        assert!(text.contains("INFO") && text.contains("line n=999"), "{text}");
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = logged(true, Level::INFO, || tracing::info!(model = "m", "settled"));
        let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (value["message"].as_str(), value["model"].as_str()),
            (Some("settled"), Some("m"))
        );
        assert_eq!(value["level"], "INFO");
    }

    #[test]
    fn dependencies_never_log_below_warn() {
        let text = logged(false, Level::DEBUG, || {
            tracing::debug!(target: "jsonrpsee_server", "Authorization: Bearer canary");
            tracing::info!(target: "hyper::proto", "canary");
            tracing::warn!(target: "hyper::proto", "kept");
            tracing::debug!("ours");
        });
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("kept") && text.contains("ours"), "{text}");
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_not_time() {
        struct Stalled(Arc<Mutex<()>>, Sink);
        impl Write for Stalled {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                drop(self.0.lock());
                self.1.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (gate, sink) = (Arc::new(Mutex::new(())), Sink::default());
        let (mut writer, guard) = buffered(Stalled(gate.clone(), sink.clone())).unwrap();
        let closed = gate.lock();
        let line = [b'x'; 1 << 20];
        for _ in 0..20 {
            writer.write_all(&line).unwrap();
        }
        drop(closed);
        drop(guard);
        assert!(sink.text().contains("log lines dropped"), "nothing dropped");
    }

    #[test]
    fn levels_are_the_contracts() {
        assert_eq!(parse_level("WARN").unwrap(), Level::WARN);
        assert_eq!(parse_level("").unwrap(), Level::INFO);
        assert!(parse_level("trace").is_err());
    }
}
