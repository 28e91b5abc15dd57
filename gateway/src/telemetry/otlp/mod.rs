//! Traces and metrics by OTLP: a span for each settled exchange, made of its entry, one for each call that was refused, and the
//! histograms of the GenAI conventions over what was settled. Never what was asked or answered.
//!
//! Nothing on a request's way waits for any of it. What has ended is put into a bounded queue; a task on a runtime of its
//! own takes it from there, counts it in the histograms and hands its span on to a second queue, from which another task sends
//! batches. A collector that is away, slow or broken fills the second queue, whose surplus is dropped and counted; the counts
//! are metrics, and the log is told when it begins and when it is over.

mod client;
mod exporters;
mod instruments;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentledger_ledger::{Entry, Name};
use arc_swap::ArcSwap;
use opentelemetry_sdk::trace::SpanData;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use ulid::Ulid;

use self::exporters::SpanSender;
use self::instruments::Instruments;
use super::family::LabelValues;
use super::samples::{Samples, Source};
use super::trace::{SpanIds, TraceParent, Traced};
use crate::config::{Config, Otlp as OtlpConfig, Sampling};
use crate::tasks::{background, spawn_named_on};

/// What has ended and waits to be counted: a tenth of a second of the busiest gateway.
const ENDED_MAX: usize = 8_192;
/// Spans that wait to be sent; further ones are dropped.
const SPANS_MAX: usize = 8_192;
const BATCH_SPANS: usize = 512;
/// A batch that is not full waits so long for more.
const LINGER: Duration = Duration::from_secs(1);
/// What still waits at the end may take so long.
const LAST_WAIT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("telemetry.otlp: {0}")]
    Exporter(String),
    #[error("telemetry.otlp: no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A settled exchange, for its span.
struct Finished {
    entry: Arc<Entry>,
    ids: SpanIds,
    traced: Traced,
}

/// A metered call that was refused: it has no entry. What was not known by then is empty.
#[derive(Debug)]
pub struct RefusedCall {
    pub id: Ulid,
    pub at_ms: i64,
    pub duration_ms: u64,
    /// As the config names it.
    pub provider: Name,
    pub operation: Name,
    pub model: Name,
    pub tenant: Name,
    pub agent: Name,
    pub session: Name,
    /// The policies that spoke.
    pub verdict: Vec<Name>,
    pub status: u16,
    /// The stable word of the refusal.
    pub code: Name,
    /// What the client said.
    pub parent: Option<TraceParent>,
}

/// What has ended, one way or the other.
enum Ended {
    Settled(Finished),
    Refused(Box<RefusedCall>, SpanIds),
}

/// What became of what was to be sent.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    missed: AtomicU64,
    /// Sendings that failed, of either kind.
    failures: AtomicU64,
    is_failing: AtomicBool,
}

impl Counts {
    fn add(count: &AtomicU64, by: usize) {
        count.fetch_add(by as u64, Ordering::Relaxed);
    }

    fn read(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    /// The log is told of the first of several failures, and that they are over.
    fn went(&self, signal: &'static str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(signal, "telemetry is sent again");
                }
            }
            Err(error) => {
                Counts::add(&self.failures, 1);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        signal,
                        error,
                        "telemetry cannot be sent: see agentledger_otlp_failures_total; requests are served as ever"
                    );
                }
            }
        }
    }
}

/// See the module. It is closed when it is dropped.
pub struct Otlp {
    queue: RwLock<Option<Sender<Ended>>>,
    counts: Arc<Counts>,
    sampling: Sampling,
    has_spans: bool,
    running: Mutex<Option<Running>>,
}

/// What runs until it is closed.
struct Running {
    runtime: Runtime,
    tasks: Vec<JoinHandle<()>>,
    instruments: Option<Arc<Instruments>>,
}

impl Otlp {
    /// `config` tells where the providers are reached, as it is at each moment; `label_values_max` as in the metrics.
    ///
    /// # Errors
    /// An address or a header that cannot be used, or no thread is to be had. A collector that is away is no error.
    pub fn start(otlp: &OtlpConfig, config: &Arc<ArcSwap<Config>>, label_values_max: usize) -> Result<Otlp, OtlpError> {
        let runtime = background("otlp").build()?;
        let counts = Arc::<Counts>::default();
        let resource = exporters::resource(otlp);
        let (metrics, spans) = {
            let _on_runtime = runtime.enter();
            let metrics = exporters::metrics(otlp, &counts, runtime.handle())?;
            (metrics, exporters::spans(otlp, &resource)?)
        };
        let instruments = metrics.map(|exporter| {
            let instruments = Instruments::new(exporter, otlp.interval, &resource, label_values_max);
            Arc::new(instruments)
        });
        let mut tasks = Vec::new();
        let spans = spans.map(|exporter| {
            let (queue, waiting) = mpsc::channel(SPANS_MAX);
            tasks.push(spawn_named_on(
                &runtime,
                "otlp-spans",
                send(exporter, waiting, Arc::clone(&counts)),
            ));
            queue
        });
        let has_spans = spans.is_some();
        let (queue, ended) = mpsc::channel(ENDED_MAX);
        let counting = Counting {
            instruments: instruments.clone(),
            spans,
            names: LabelValues::new(label_values_max),
            config: Arc::clone(config),
            counts: Arc::clone(&counts),
        };
        tasks.push(spawn_named_on(&runtime, "otlp-counting", counting.run(ended)));
        Ok(Otlp {
            queue: RwLock::new(Some(queue)),
            counts,
            sampling: otlp.sampling,
            has_spans,
            running: Mutex::new(Some(Running {
                runtime,
                tasks,
                instruments,
            })),
        })
    }

    /// Takes a settled exchange. Never waits.
    pub fn settled(&self, entry: &Arc<Entry>, traced: &Traced) {
        let finished = Finished {
            ids: SpanIds::of(entry.facts.id, traced.parent, self.sampling),
            entry: Arc::clone(entry),
            traced: traced.clone(),
        };
        let taken = self
            .queue
            .read()
            .as_ref()
            .map(|queue| queue.try_send(Ended::Settled(finished)));
        if !matches!(taken, Some(Ok(()))) {
            Counts::add(&self.counts.missed, 1);
        }
    }

    /// Takes a call that was refused. Never waits. However many they are, they leave half of the way to what was settled.
    pub fn refused(&self, call: RefusedCall) {
        let ids = SpanIds::of(call.id, call.parent, self.sampling);
        if !self.has_spans || !ids.own.is_sampled {
            return;
        }
        let queue = self.queue.read();
        let free = queue.as_ref().filter(|queue| queue.capacity() > ENDED_MAX / 2);
        let taken = free.map(|queue| queue.try_send(Ended::Refused(Box::new(call), ids)));
        if !matches!(taken, Some(Ok(()))) {
            Counts::add(&self.counts.dropped, 1);
        }
    }

    /// Sends what is left, for some seconds at most. What is settled later is missed. Blocks.
    pub fn close(&self) {
        // Each task ends once the one before it has.
        *self.queue.write() = None;
        let Some(running) = self.running.lock().take() else {
            return;
        };
        let Running {
            runtime,
            tasks,
            instruments,
        } = running;
        // The caller's thread may be one of a runtime, which must not wait for another.
        let last = std::thread::Builder::new().name("otlp-last".to_owned()).spawn(move || {
            let ended = async { timeout(LAST_WAIT, futures_util::future::join_all(tasks)).await };
            // What is not sent by then is lost.
            let _ = runtime.block_on(ended);
            if let Some(instruments) = instruments {
                instruments.shutdown(LAST_WAIT);
            }
            runtime.shutdown_background();
        });
        if let Ok(last) = last {
            let _ = last.join();
        }
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        self.close();
    }
}

/// Counts what is settled, and makes spans of what has ended.
struct Counting {
    instruments: Option<Arc<Instruments>>,
    spans: Option<Sender<SpanData>>,
    /// What spans of refused calls are named by: nothing checks the models that their clients make up.
    names: LabelValues,
    config: Arc<ArcSwap<Config>>,
    counts: Arc<Counts>,
}

impl Counting {
    async fn run(self, mut waiting: Receiver<Ended>) {
        let scope = span::scope();
        while let Some(ended) = waiting.recv().await {
            let config = self.config.load();
            let finished = match ended {
                Ended::Settled(finished) => finished,
                Ended::Refused(call, ids) => {
                    let provider = span::Provider::of(&config, &call.provider);
                    let refused = span::of_refused(&call, &ids, &provider, &self.names, &scope);
                    let free = self.spans.as_ref().filter(|spans| spans.capacity() > SPANS_MAX / 2);
                    if free.is_none_or(|spans| spans.try_send(refused).is_err()) {
                        Counts::add(&self.counts.dropped, 1);
                    }
                    continue;
                }
            };
            let provider = span::Provider::of(&config, &finished.entry.facts.provider);
            if let Some(instruments) = &self.instruments {
                instruments.record(&finished.entry, &provider);
            }
            let spans = self.spans.as_ref().filter(|_| finished.ids.own.is_sampled);
            if let Some(spans) = spans
                && spans.try_send(span::of(&finished, &provider, &scope)).is_err()
            {
                Counts::add(&self.counts.dropped, 1);
            }
        }
    }
}

/// Sends spans in batches until there will be no more.
async fn send(exporter: SpanSender, mut waiting: Receiver<SpanData>, counts: Arc<Counts>) {
    let mut batch = Vec::with_capacity(BATCH_SPANS);
    while waiting.recv_many(&mut batch, BATCH_SPANS).await > 0 {
        let until = Instant::now() + LINGER;
        while batch.len() < BATCH_SPANS {
            let room = BATCH_SPANS - batch.len();
            // At the end there are no more, and nothing is waited for.
            match timeout_at(until, waiting.recv_many(&mut batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let spans = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_SPANS));
        let number = spans.len();
        let result = exporter.send(spans).await;
        let count = if result.is_ok() { &counts.sent } else { &counts.failed };
        Counts::add(count, number);
        counts.went("traces", result);
    }
}

impl Source for Otlp {
    fn sample(&self, out: &mut Samples) {
        let counts = &self.counts;
        let help =
            "Spans by what became of them: sent, failed (the collector did not take them), dropped (too many waited).";
        for (result, count) in [
            ("sent", &counts.sent),
            ("failed", &counts.failed),
            ("dropped", &counts.dropped),
        ] {
            out.counter(
                "agentledger_otlp_spans_total",
                help,
                &[("result", result)],
                Counts::read(count),
            );
        }
        let help = "Settled exchanges that neither OTLP's histograms nor its spans know: too many waited.";
        out.counter("agentledger_otlp_missed_total", help, &[], Counts::read(&counts.missed));
        let help = "Sendings of telemetry that failed: spans and metrics.";
        out.counter(
            "agentledger_otlp_failures_total",
            help,
            &[],
            Counts::read(&counts.failures),
        );
    }
}
