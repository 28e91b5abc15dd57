//! Where the figures come from: one batch of calls. A feed says that something happened, and then the figures are requested anew, at
//! most once a second; where nothing happens they are now and then, and where nothing can be followed each second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use agentledger_ledger::{Clock, SystemClock, Usd, rfc3339_ms};
use rand::Rng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::super::client::{Address, ClientError, post};
use super::super::tail::subscribe;
use super::changes::Change;
use super::text::at_ms;
use crate::control::wire::{
    AlertRow, AlertRows, BudgetRow, BudgetStatus, CostRow, HoldRow, Holds, SessionRow, Sessions,
};
use crate::tasks::spawn_named;
use crate::timer::Timer;

/// What is followed: each says that some figure is no longer what it was.
const FEEDS: [&str; 4] = ["hold.changes", "session.changes", "alert.feed", "rule.changes"];
/// Between two batches, whatever happens; it is also how often a feed may say something.
const REST: Duration = Duration::from_secs(1);
/// Between two where nothing happens: rates sink, windows end.
const QUIET: Duration = Duration::from_secs(5);
/// Waits between attempts to reach a gateway that is gone: the first, the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const ANSWER_WAIT: Duration = Duration::from_secs(30);
const SESSIONS_MAX: u32 = 500;
const BUDGETS_MAX: u32 = 2_000;
const ALERTS_MAX: u32 = 100;
pub const DAY_MS: i64 = 86_400_000;
pub const MINUTE_MS: i64 = 60_000;
/// Minutes of the sparkline, the running one included.
pub const MINUTES: i64 = 60;

/// A figure, or why there is none: a token may see some of them only.
pub type Part<T> = Result<T, String>;

/// What one batch answered.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The gateway's time.
    pub now_ms: i64,
    pub today: Part<Usd>,
    /// What calls of each of the last minutes cost, the running one last.
    pub minutes: Part<Vec<Usd>>,
    pub agents: Part<Vec<CostRow>>,
    pub sessions: Part<Vec<SessionRow>>,
    pub holds: Part<Vec<HoldRow>>,
    pub budgets: Part<Vec<BudgetRow>>,
    pub alerts: Part<Vec<AlertRow>>,
}

/// What becomes known beside the drawing.
pub enum News {
    Answers(Box<Answers>),
    /// Nobody answers; it is tried again after so long.
    Lost {
        why: String,
        again: Duration,
    },
    /// A change was carried out, or refused in these words.
    Changed(u64, Result<Value, String>),
}

/// What the drawing side wants.
pub enum Order {
    Now,
    Change(Box<Change>),
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: Option<usize>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

#[derive(Deserialize)]
struct Summed {
    to: String,
    rows: Vec<CostRow>,
}

#[derive(Deserialize)]
struct Series {
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    at: String,
    cost_usd: Usd,
}

fn calls(now_ms: i64) -> [(&'static str, Value); 7] {
    let today = rfc3339_ms(now_ms - now_ms.rem_euclid(DAY_MS));
    let minute = now_ms - now_ms.rem_euclid(MINUTE_MS);
    let hour = rfc3339_ms(minute - (MINUTES - 1) * MINUTE_MS);
    [
        ("ledger.summary", json!({ "by": "agent", "from": today })),
        ("ledger.series", json!({ "step": "day", "from": today })),
        ("ledger.series", json!({ "step": "minute", "from": hour })),
        ("session.list", json!({ "last": "24h", "limit": SESSIONS_MAX })),
        ("hold.list", json!({})),
        ("budget.status", json!({ "limit": BUDGETS_MAX })),
        ("alert.list", json!({ "limit": ALERTS_MAX })),
    ]
}

/// Requests all figures as of now, which is the gateway's time, as far as it is known.
///
/// # Errors
/// Nobody answers, or not in the way that a gateway does.
pub async fn ask(address: &Address, now_ms: i64) -> Result<Answers, ClientError> {
    let calls = calls(now_ms);
    let batch: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(id, (method, params))| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
        .collect();
    let text = asked(address, Value::from(batch).to_string()).await?;
    read(&text, now_ms)
}

async fn asked(address: &Address, body: String) -> Result<bytes::Bytes, ClientError> {
    timeout(ANSWER_WAIT, post(address, body)).await.unwrap_or_else(|_| {
        Err(ClientError::Transport {
            address: address.to_string(),
            text: format!("no answer within {} s", ANSWER_WAIT.as_secs()),
        })
    })
}

/// `now_ms`: what was requested as of.
fn read(text: &[u8], now_ms: i64) -> Result<Answers, ClientError> {
    let unexpected = |error| ClientError::Answer {
        method: "the batch".to_owned(),
        error,
    };
    let replies: Vec<Reply<'_>> = serde_json::from_slice(text).map_err(unexpected)?;
    let summed: Part<Summed> = part(&replies, 0);
    let days: Part<Series> = part(&replies, 1);
    let minutes: Part<Series> = part(&replies, 2);
    let of_gateway = summed.as_ref().ok().and_then(|summed| at_ms(&summed.to));
    Ok(Answers {
        now_ms: of_gateway.unwrap_or(now_ms),
        agents: summed.map(|summed| summed.rows),
        today: days.map(|days| days.points.last().map_or(Usd::default(), |point| point.cost_usd)),
        minutes: minutes.map(|series| by_minute(&series, now_ms)),
        sessions: part(&replies, 3).map(|found: Sessions| found.sessions),
        holds: part(&replies, 4).map(|found: Holds| found.holds),
        budgets: part(&replies, 5).map(|found: BudgetStatus| found.budgets),
        alerts: part(&replies, 6).map(|found: AlertRows| found.alerts),
    })
}

fn part<T: DeserializeOwned>(replies: &[Reply<'_>], id: usize) -> Part<T> {
    let reply = replies.iter().find(|reply| reply.id == Some(id));
    let reply = reply.ok_or("the gateway does not answer this")?;
    if let Some(refusal) = &reply.error {
        return Err(refusal.message.clone());
    }
    let result = reply.result.map_or("null", RawValue::get);
    serde_json::from_str(result).map_err(|error| format!("unexpected answer: {error}"))
}

/// Minutes without a call are left out of answers.
fn by_minute(series: &Series, now_ms: i64) -> Vec<Usd> {
    let first = now_ms - now_ms.rem_euclid(MINUTE_MS) - (MINUTES - 1) * MINUTE_MS;
    let mut minutes = vec![Usd::default(); usize::try_from(MINUTES).unwrap_or_default()];
    for point in &series.points {
        let place = at_ms(&point.at).map(|at| (at - first).div_euclid(MINUTE_MS));
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(minute) = place.and_then(|place| minutes.get_mut(place)) {
            *minute = minute.saturating_add(point.cost_usd);
        }
    }
    minutes
}

/// What the feeds say to whom it concerns.
#[derive(Default)]
struct Pulse {
    happened: Notify,
    followed: AtomicUsize,
}

/// Requests figures and carries out changes until nobody wants news any more.
pub async fn run(address: Address, offset_ms: i64, news: Sender<News>, orders: UnboundedReceiver<Order>) {
    let pulse = Arc::new(Pulse::default());
    for method in FEEDS {
        spawn_named("top-feed", follow(address.clone(), method, Arc::clone(&pulse)));
    }
    let wanted = Arc::new(Notify::new());
    let changes = carry_out(address.clone(), news.clone(), orders, Arc::clone(&wanted));
    spawn_named("top-changes", changes);
    let clock = SystemClock::default();
    let (mut tries, mut offset_ms) = (0, offset_ms);
    loop {
        let asked = Timer::start();
        let here = clock.now_ms();
        let said = match ask(&address, here.saturating_add(offset_ms)).await {
            Ok(answers) => {
                tries = 0;
                offset_ms = answers.now_ms.saturating_sub(clock.now_ms());
                News::Answers(Box::new(answers))
            }
            Err(error) => {
                tries += 1;
                News::Lost {
                    why: error.to_string(),
                    again: backoff(tries),
                }
            }
        };
        let rest = match &said {
            News::Lost { again, .. } => *again,
            _ => REST,
        };
        if news.send(said).is_err() {
            return;
        }
        // What is wanted by a person comes at once.
        if timeout(rest.saturating_sub(asked.elapsed()), wanted.notified())
            .await
            .is_ok()
            || tries > 0
        {
            continue;
        }
        let is_followed = pulse.followed.load(Ordering::Relaxed) == FEEDS.len();
        let quiet = if is_followed {
            QUIET.saturating_sub(REST)
        } else {
            Duration::ZERO
        };
        tokio::select! {
            () = sleep(quiet) => {}
            () = pulse.happened.notified() => {}
            () = wanted.notified() => {}
        }
    }
}

/// 1, 2, 4 … 30 s, a fifth more or less: many that lost one gateway do not come back at one moment.
fn backoff(tries: u32) -> Duration {
    let (first, longest) = RETRY;
    let whole = first.saturating_mul(1 << tries.saturating_sub(1).min(5)).min(longest);
    whole.mul_f64(rand::rng().random_range(0.8..1.2))
}

/// Subscribes as often as it takes.
async fn follow(address: Address, method: &'static str, pulse: Arc<Pulse>) {
    let every = u32::try_from(REST.as_millis()).unwrap_or_default();
    let mut tries = 0;
    loop {
        let params = Map::from_iter([("every_ms".to_owned(), every.into())]);
        if let Ok(mut feed) = subscribe(&address, method, params).await {
            tries = 0;
            pulse.followed.fetch_add(1, Ordering::Relaxed);
            while feed.next().await.is_some() {
                pulse.happened.notify_one();
            }
            pulse.followed.fetch_sub(1, Ordering::Relaxed);
            // It may be that the gateway is gone: figures show it.
            pulse.happened.notify_one();
        }
        tries += 1;
        sleep(backoff(tries)).await;
    }
}

async fn carry_out(address: Address, news: Sender<News>, mut orders: UnboundedReceiver<Order>, wanted: Arc<Notify>) {
    while let Some(order) = orders.recv().await {
        let Order::Change(change) = order else {
            wanted.notify_one();
            continue;
        };
        let result = changed(&address, &change).await.map_err(|error| error.to_string());
        if news.send(News::Changed(change.number, result)).is_err() {
            return;
        }
        if !change.is_trial() {
            wanted.notify_one();
        }
    }
}

/// The same request is sent again should its answer be lost: by its id the gateway knows whether it was carried out.
async fn changed(address: &Address, change: &Change) -> Result<Value, ClientError> {
    let (method, params) = (change.method, &change.params);
    let body = json!({ "jsonrpc": "2.0", "id": 0, "method": method, "params": params }).to_string();
    let text = match asked(address, body.clone()).await {
        Err(ClientError::Transport { .. }) => asked(address, body).await?,
        text => text?,
    };
    let unexpected = |error| ClientError::Answer {
        method: method.to_owned(),
        error,
    };
    let reply: Reply<'_> = serde_json::from_slice(&text).map_err(unexpected)?;
    if let Some(refusal) = reply.error {
        return Err(ClientError::Local(refusal.message));
    }
    serde_json::from_str(reply.result.map_or("null", RawValue::get)).map_err(unexpected)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_batch_is_read_part_by_part_and_what_is_refused_stands_for_itself() {
        let now = at_ms("2026-12-01T14:05:30Z").unwrap();
        let text = json!([
            {"jsonrpc": "2.0", "id": 4, "error": {"code": -32001, "message": "not for this token"}},
            {"jsonrpc": "2.0", "id": 0, "result": {"from": "F", "to": "2026-12-01T14:05:31.000Z", "by": "agent", "rows": []}},
            {"jsonrpc": "2.0", "id": 1, "result": {"points": [{"at": "2026-12-01T00:00:00.000Z", "cost_usd": "12.000000001"}]}},
            {"jsonrpc": "2.0", "id": 2, "result": {"points": [
                {"at": "2026-12-01T14:05:00.000Z", "cost_usd": "0.5"}, {"at": "2026-12-01T13:06:00.000Z", "cost_usd": "0.25"},
                {"at": "2026-12-01T12:00:00.000Z", "cost_usd": "7"}]}},
            {"jsonrpc": "2.0", "id": 3, "result": {"sessions": "nonsense"}},
        ]);
        let answers = read(text.to_string().as_bytes(), now).unwrap();
        assert_eq!(answers.today.unwrap().to_string(), "12.000000001");
        assert_eq!(answers.now_ms, now + 1_000);
        let minutes = answers.minutes.unwrap();
        assert_eq!(
            (minutes.len(), minutes[59].to_string(), minutes[0].to_string()),
            (60, "0.5".into(), "0.25".into())
        );
        assert_eq!(answers.holds.unwrap_err(), "not for this token");
        assert!(answers.sessions.unwrap_err().starts_with("unexpected answer"));
        assert!(answers.alerts.is_err() && answers.agents.unwrap().is_empty());
        assert!(read(b"<html>", now).is_err());
    }

    #[test]
    fn a_lost_gateway_is_tried_ever_less_often_and_never_not() {
        let waits: Vec<u128> = (1..12).map(|tries| backoff(tries).as_millis()).collect();
        assert!(
            (800..1_200).contains(&waits[0]) && (3_200..4_800).contains(&waits[2]),
            "{waits:?}"
        );
        assert!(
            waits.iter().all(|wait| *wait < 36_000) && waits[10] >= 24_000,
            "{waits:?}"
        );
    }
}
