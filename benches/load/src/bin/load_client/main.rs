//! The load bench: drives each target alike and prints the table for the README. `benches/load/run` starts everything and
//! then this.
//!
//! `load_client [--seconds N] [--rounds N] [--connections N] [--streams N] [--header LINE …] [--requests-only] NAME=ADDRESS,PID …`
//!
//! `--header` is one more header of every request; `--requests-only` leaves streams and large requests out, and prints only what
//! ordinary requests took.
//!
//! With `--swap FILE` it measures instead what a swap of policies does to the requests beside it, a target at a time: FILE is
//! a policy of that gateway's folder, written anew each second in every third window of time. With `--beside COMMAND` it is what
//! COMMAND does that runs in every third window; it says `ready` when it has begun.
//!
//! With `--unchanged` it measures instead what a client that sends no header of ours takes of CPU, beside one that does: of two gateways,
//! with and without `identity.infer`.
//!
//! The first target is the upstream itself, which the others are compared with. A target's CPU is the user and system time
//! of its process and that one's children over a segment, over what was done in it. Rounds go through the targets in
//! turn, so that a noisy minute hits all of them; the median round is told. A single failed request fails the run.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use agentledger_load::http::Connection;
use agentledger_load::process;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

mod windows;

use windows::{Disturbance, SWAPPED};

type Failure = Box<dyn Error + Send + Sync>;

/// Events of one stream, and the time between two of them.
const EVENTS: u64 = 500;
const INTERVAL_MS: u64 = 10;
/// Streams that run at one time where events are measured.
const EVENT_STREAMS: u64 = 64;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that are opened at one time.
const OPENING: usize = 50;

struct Plan {
    seconds: u64,
    rounds: usize,
    connections: u64,
    /// Streams that are open at one time where memory is measured.
    streams: u64,
    disturbance: Option<Disturbance>,
    unchanged: bool,
    /// Lines of each request's head, `@` for its number.
    headers: String,
    requests_only: bool,
    targets: Vec<Target>,
}

#[derive(Clone)]
struct Target {
    name: String,
    address: String,
    pid: u32,
}

/// What one target showed; one value a round, or one.
#[derive(Default)]
struct Shown {
    cpu_us: Vec<f64>,
    rate: Vec<f64>,
    event_cpu_ms: Vec<f64>,
    large_cpu_us: Vec<f64>,
    p50_us: f64,
    p99_us: f64,
    idle_mib: f64,
    stream_kib: f64,
    end_mib: f64,
}

fn main() -> Result<(), Failure> {
    let plan = Plan::of_arguments(std::env::args().skip(1))?;
    // One thread: the machine belongs to what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &plan.disturbance {
        Some(disturbance) => runtime.block_on(windows::run(&plan, disturbance)),
        None if plan.unchanged => runtime.block_on(beside(&plan)),
        None => runtime.block_on(run(&plan)),
    }
}

impl Plan {
    fn of_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Plan, Failure> {
        let mut plan = Plan {
            seconds: 4,
            rounds: 3,
            connections: 64,
            streams: 1_000,
            disturbance: None,
            unchanged: false,
            headers: OUR_HEADERS.to_owned(),
            requests_only: false,
            targets: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            if argument == "--swap" {
                let file = arguments.next().ok_or("a file is missing")?;
                plan.disturbance = Some(Disturbance::Swaps(file.into()));
                continue;
            }
            if argument == "--beside" {
                let command = arguments.next().ok_or("a command is missing")?;
                plan.disturbance = Some(Disturbance::Command(command));
                continue;
            }
            if argument == "--header" {
                plan.headers += &arguments.next().ok_or("a header is missing")?;
                plan.headers += "\r\n";
                continue;
            }
            let mut number = || -> Result<u64, Failure> { Ok(arguments.next().ok_or("a number is missing")?.parse()?) };
            match argument.as_str() {
                "--unchanged" => plan.unchanged = true,
                "--requests-only" => plan.requests_only = true,
                "--seconds" => plan.seconds = number()?,
                "--rounds" => plan.rounds = usize::try_from(number()?)?,
                "--connections" => plan.connections = number()?,
                "--streams" => plan.streams = number()?,
                target => {
                    let (name, rest) = target.split_once('=').ok_or("a target is NAME=ADDRESS,PID")?;
                    let (address, pid) = rest.split_once(',').ok_or("a target is NAME=ADDRESS,PID")?;
                    let (name, address) = (name.to_owned(), address.to_owned());
                    plan.targets.push(Target {
                        name,
                        address,
                        pid: pid.parse()?,
                    });
                }
            }
        }
        if plan.targets.is_empty() || plan.rounds == 0 {
            return Err("at least one target and one round".into());
        }
        Ok(plan)
    }
}

async fn run(plan: &Plan) -> Result<(), Failure> {
    let mut all = Vec::new();
    for target in &plan.targets {
        let mut shown = Shown {
            idle_mib: target.resident_kib()? / 1024.0,
            ..Shown::default()
        };
        requests(target, plan.connections, Duration::from_secs(2), &plan.headers).await?;
        if !plan.requests_only {
            shown.stream_kib = open_streams(target, plan.streams).await?;
        }
        eprintln!(
            "{}: {:.0} MiB idle, {:.1} KiB a stream",
            target.name, shown.idle_mib, shown.stream_kib
        );
        all.push((target, shown));
    }
    for round in 1..=plan.rounds {
        for (target, shown) in &mut all {
            one_round(plan, round, target, shown).await?;
        }
    }
    for (target, shown) in &mut all {
        let took = requests(target, 1, Duration::from_secs(plan.seconds), &plan.headers).await?;
        (shown.p50_us, shown.p99_us) = (took.percentile(0.5), took.percentile(0.99));
        shown.end_mib = target.resident_kib()? / 1024.0;
    }
    print_table(&mut all);
    Ok(())
}

async fn one_round(plan: &Plan, round: usize, target: &Target, shown: &mut Shown) -> Result<(), Failure> {
    let seconds = Duration::from_secs(plan.seconds);
    let cpu = target.cpu_us()?;
    let took = requests(target, plan.connections, seconds, &plan.headers).await?;
    let per_request = (target.cpu_us()? - cpu) / took.latencies_us.len() as f64;
    shown.cpu_us.push(per_request);
    shown.rate.push(took.rate());
    let (name, rate) = (&target.name, took.rate());
    if plan.requests_only {
        eprintln!("round {round}, {name}: {per_request:.1} us, {rate:.0}/s");
        return Ok(());
    }
    let cpu = target.cpu_us()?;
    event_streams(target).await?;
    let per_thousand = (target.cpu_us()? - cpu) / (EVENT_STREAMS * EVENTS) as f64;
    shown.event_cpu_ms.push(per_thousand);
    let cpu = target.cpu_us()?;
    let large = large_requests(target, seconds).await?;
    let per_large = (target.cpu_us()? - cpu) / large.latencies_us.len() as f64;
    shown.large_cpu_us.push(per_large);
    eprintln!("round {round}, {name}: {per_request:.1} us, {rate:.0}/s, {per_thousand:.1} ms, {per_large:.0} us");
    Ok(())
}

fn print_table(all: &mut [(&Target, Shown)]) {
    println!(
        "| | CPU µs a request | requests/s | of direct | p50 µs | p99 µs | CPU ms per 1,000 events | CPU µs a request of 1 MB | MiB idle | KiB a stream | MiB after |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut direct = None;
    for (target, shown) in all {
        let rate = median(&mut shown.rate);
        let direct = *direct.get_or_insert(rate);
        println!(
            "| {} | {:.1} | {:.0} | {:.2} | {:.0} | {:.0} | {:.1} | {:.0} | {:.0} | {:.1} | {:.0} |",
            target.name,
            median(&mut shown.cpu_us),
            rate,
            rate / direct,
            shown.p50_us,
            shown.p99_us,
            median(&mut shown.event_cpu_ms),
            median(&mut shown.large_cpu_us),
            shown.idle_mib,
            shown.stream_kib,
            shown.end_mib
        );
    }
}

/// CPU a request where a client's session is inferred from its own headers, where it is said by ours, and where it is not known at
/// all: of the first target twice, then of the second. Each round takes all three in turn, every second one the other way about, so
/// that what drifts falls on all. What rounds of one kind differ by says what a difference is worth.
async fn beside(plan: &Plan) -> Result<(), Failure> {
    let [infers, does_not] = plan.targets.as_slice() else {
        return Err("two targets are compared".into());
    };
    let mut kinds = [
        ("inferred", infers, CODEX_HEADERS, Vec::new()),
        ("said by our headers", infers, OUR_HEADERS, Vec::new()),
        ("not known", does_not, CODEX_HEADERS, Vec::new()),
    ];
    for (_, target, headers, _) in &kinds {
        requests(target, plan.connections, Duration::from_secs(2), headers).await?;
    }
    for round in 0..plan.rounds {
        for at in 0..kinds.len() {
            let at = if round % 2 == 0 { at } else { kinds.len() - 1 - at };
            if let Some((_, target, headers, shown)) = kinds.get_mut(at) {
                let cpu = target.cpu_us()?;
                let took = requests(target, plan.connections, Duration::from_secs(plan.seconds), headers).await?;
                shown.push((target.cpu_us()? - cpu) / took.latencies_us.len() as f64);
            }
        }
    }
    println!(
        "| a client's session | CPU µs a request, median of {} | lowest | highest |",
        plan.rounds
    );
    println!("|---|---:|---:|---:|");
    for (name, _, _, shown) in &mut kinds {
        let median = median(shown);
        let (lowest, highest) = (shown.first().copied(), shown.last().copied());
        println!(
            "| {name} | {median:.1} | {:.1} | {:.1} |",
            lowest.unwrap_or(f64::NAN),
            highest.unwrap_or(f64::NAN)
        );
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Target {
    fn pids(&self) -> Vec<u32> {
        let mut pids = process::children(self.pid);
        pids.push(self.pid);
        pids
    }

    fn sum(&self, figure: impl Fn(u32) -> Option<f64>) -> Result<f64, Failure> {
        let sum = self.pids().into_iter().map(figure).sum::<Option<f64>>();
        sum.ok_or_else(|| format!("{}: its process has ended", self.name).into())
    }

    fn cpu_us(&self) -> Result<f64, Failure> {
        self.sum(process::cpu_us)
    }

    fn resident_kib(&self) -> Result<f64, Failure> {
        self.sum(process::resident_kib)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        Ok(Connection::new(TcpStream::connect(&self.address).await?)?)
    }
}

struct Took {
    latencies_us: Vec<u32>,
    elapsed: Duration,
    /// The values of [`SWAPPED`] in the answers.
    swaps: BTreeSet<u64>,
}

impl Took {
    fn rate(&self) -> f64 {
        self.latencies_us.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile(&self, share: f64) -> f64 {
        let at = (self.latencies_us.len() as f64 * share) as usize;
        self.latencies_us.get(at).copied().map_or(f64::NAN, f64::from)
    }
}

/// How an agent says who it is.
const OUR_HEADERS: &str = "user-agent: load\r\nx-agent-id: coder\r\nx-agent-session: session-@\r\n";
/// How Codex says so, which knows nothing of a gateway.
const CODEX_HEADERS: &str = "user-agent: codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm\r\noriginator: codex_exec\r\n\
     session-id: 01a2299d-ef26-7e50-b7b9-91022de43a@\r\nthread-id: 01a2299d-ef26-7e50-b7b9-91022de43a@\r\n";

/// Repetitions of a sentence in a prompt: of an ordinary request of about 1 KB, and of one of 1 MB.
const ORDINARY: usize = 18;
const LARGE: usize = 21_000;
/// Connections that send large requests.
const LARGE_CONNECTIONS: u64 = 8;

/// A request as an agent sends it. `number` chooses its key and session, which stands for `@` in the headers.
fn request(number: u64, headers: &str, stream: bool, sentences: usize) -> Vec<u8> {
    let content = "Read the file and tell me why the test fails. ".repeat(sentences);
    let stream = if stream { ",\"stream\":true" } else { "" };
    let body = format!(
        "{{\"model\":\"gpt-4o\",\"max_tokens\":256{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"{content}\"}}]}}"
    );
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         authorization: Bearer sk-load-{}-0123456789abcdef\r\n{}content-length: {}\r\n\r\n",
        number % 8,
        headers.replace('@', &format!("{number:02}")),
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Requests one after the other on each of so many kept connections, until the time is up.
async fn requests(target: &Target, connections: u64, time: Duration, headers: &str) -> Result<Took, Failure> {
    let bytes = (0..connections).map(|number| request(number, headers, false, ORDINARY));
    requests_of(target, bytes, time).await
}

/// The same of requests of 1 MB.
async fn large_requests(target: &Target, time: Duration) -> Result<Took, Failure> {
    let bytes = (0..LARGE_CONNECTIONS).map(|number| request(number, OUR_HEADERS, false, LARGE));
    requests_of(target, bytes, time).await
}

/// One connection for each request, on which it is sent again and again.
async fn requests_of(
    target: &Target,
    requests: impl Iterator<Item = Vec<u8>>,
    time: Duration,
) -> Result<Took, Failure> {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for bytes in requests {
        let target = target.clone();
        tasks.spawn(async move {
            let mut connection = target.connect().await?;
            let (mut latencies_us, mut swaps) = (Vec::new(), BTreeSet::new());
            while began.elapsed() < time {
                let sent = Instant::now();
                swaps.extend(timeout(PATIENCE, whole(&mut connection, &bytes)).await??);
                latencies_us.push(u32::try_from(sent.elapsed().as_micros())?);
            }
            Ok::<_, Failure>((latencies_us, swaps))
        });
    }
    let (mut latencies_us, mut swaps) = (Vec::new(), BTreeSet::new());
    while let Some(done) = tasks.join_next().await {
        let (of_one, seen) = done?.map_err(|error| format!("{}: {error}", target.name))?;
        latencies_us.extend(of_one);
        swaps.extend(seen);
    }
    let elapsed = began.elapsed();
    latencies_us.sort_unstable();
    if latencies_us.is_empty() {
        return Err(format!("{}: no request was answered", target.name).into());
    }
    Ok(Took {
        latencies_us,
        elapsed,
        swaps,
    })
}

/// One request and its answer; what the answer's [`SWAPPED`] says.
async fn whole(connection: &mut Connection, request: &[u8]) -> Result<Option<u64>, Failure> {
    connection.write(request).await?;
    let head = connection.answer().await?;
    let mut refusal = Vec::new();
    let good = head.status() == Some(200);
    connection
        .body(&head, |bytes| {
            if !good {
                refusal.extend_from_slice(bytes)
            }
        })
        .await?;
    if good {
        Ok(head.number(SWAPPED))
    } else {
        Err(format!("{}: {}", head.text, String::from_utf8_lossy(&refusal)).into())
    }
}

/// Streams of paced events, all at one time, each read to its end.
async fn event_streams(target: &Target) -> Result<(), Failure> {
    let headers = format!("{OUR_HEADERS}x-load-events: {EVENTS}\r\nx-load-interval-ms: {INTERVAL_MS}\r\n");
    let mut tasks = JoinSet::new();
    for number in 0..EVENT_STREAMS {
        let (target, bytes) = (target.clone(), request(number, &headers, true, ORDINARY));
        tasks.spawn(async move {
            let mut connection = target.connect().await?;
            connection.write(&bytes).await?;
            let head = connection.answer().await?;
            let mut lines = 0;
            let count = |bytes: &[u8]| lines += bytes.iter().filter(|byte| **byte == b'\n').count();
            timeout(PATIENCE, connection.body(&head, count)).await??;
            // A line and an empty one for each event and for `[DONE]`.
            let expected = usize::try_from(2 * (EVENTS + 1))?;
            if head.status() == Some(200) && lines == expected {
                Ok::<_, Failure>(())
            } else {
                Err(format!("{lines} lines for {expected}: {}", head.text).into())
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?.map_err(|error| format!("{}: {error}", target.name))?;
    }
    Ok(())
}

/// KiB that each of so many open, silent streams takes.
async fn open_streams(target: &Target, count: u64) -> Result<f64, Failure> {
    let before = target.resident_kib()?;
    let mut open = Vec::new();
    let mut opening = JoinSet::new();
    for number in 0..count {
        let (asked, bytes) = (
            target.clone(),
            request(
                number,
                &format!("{OUR_HEADERS}x-load-hold-ms: 120000\r\n"),
                true,
                ORDINARY,
            ),
        );
        opening.spawn(async move {
            let mut connection = asked.connect().await?;
            connection.write(&bytes).await?;
            let head = timeout(PATIENCE, connection.answer()).await??;
            if head.status() != Some(200) {
                return Err(head.text.into());
            }
            timeout(PATIENCE, connection.chunk(&mut |_| {})).await??;
            Ok::<_, Failure>(connection)
        });
        if opening.len() >= OPENING
            && let Some(opened) = opening.join_next().await
        {
            open.push(opened?.map_err(|error| format!("{}: {error}", target.name))?);
        }
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened?.map_err(|error| format!("{}: {error}", target.name))?);
    }
    sleep(Duration::from_secs(1)).await;
    let taken = (target.resident_kib()? - before) / count.max(1) as f64;
    drop(open);
    // The target sees them go.
    sleep(Duration::from_secs(2)).await;
    Ok(taken)
}
