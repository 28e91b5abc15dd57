//! Chats at a steady rate, and what their times come to: how much the same thing differs from itself, and from another.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::interval;

use crate::started::{Failure, chat, connected};

/// Who send them: each the same number.
pub const CHATTERS: u64 = 4;

/// Sends `rate` chats a second for so many seconds; the 50th and 99th percentile of their times, in milliseconds. `headers`: as of
/// [`chat`].
///
/// # Errors
/// A connection broke, or a chat was not answered with 200.
pub async fn segment(rate: u64, seconds: u64, headers: &'static str) -> Result<(f64, f64), Failure> {
    let mut chatters = JoinSet::new();
    for _ in 0..CHATTERS {
        let every = Duration::from_secs_f64(CHATTERS as f64 / rate as f64);
        let count = rate * seconds / CHATTERS;
        chatters.spawn(async move {
            let mut connection = connected().await?;
            let mut ticks = interval(every);
            let mut times = Vec::new();
            for _ in 0..count {
                ticks.tick().await;
                let began = Instant::now();
                let head = chat(&mut connection, headers).await?;
                if head.status() != Some(200) {
                    return Err::<_, Failure>(format!("status {:?}", head.status()).into());
                }
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(chatter) = chatters.join_next().await {
        times.extend(chatter??);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times
            .get(place.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    Ok((at(0.5), at(0.99)))
}

/// The medians of segments' percentiles.
pub fn medians(segments: &[(f64, f64)]) -> (f64, f64) {
    let p50 = median(segments.iter().map(|(p50, _)| *p50));
    (p50, median(segments.iter().map(|(_, p99)| *p99)))
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The least and the greatest 99th percentile of segments of the same thing.
pub fn band(one: &[(f64, f64)], again: &[(f64, f64)]) -> (f64, f64) {
    let all = || one.iter().chain(again).map(|(_, p99)| *p99);
    (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max))
}
