//! What it costs to read the usage of long answers while they pass: CPU beside a relay that passes them unread, and memory
//! beyond the relay's own.
//!
//! `cargo run --release -p agentledger-benches --bin large_answers`
//!
//! The relay is one thread that reads 64 KiB at a time from one loopback connection and writes them to another, as every
//! relay must; its CPU is its thread's alone, as the kernel counts it. The same thread then gives each chunk to a meter
//! first. Each figure is the median of some rounds. The memory is what the process's peak grew by in a round of each.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use agentledger::testing::config::{self, Limits};
use agentledger::testing::meter::{AnswerFacts, AnswerReader, Meter};
use agentledger::testing::plugin::Plugins;

const ROUNDS: usize = 7;
const CHUNK_BYTES: usize = 64 << 10;
const DEPTH_MAX: u32 = 128;

struct Answer {
    name: &'static str,
    dialect: &'static str,
    operation: &'static str,
    content_type: &'static str,
    body: Arc<Vec<u8>>,
}

fn repeated(piece: &str, mib: usize) -> String {
    piece.repeat((mib << 20) / piece.len())
}

fn answers() -> Vec<Answer> {
    let picture = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAYAAAB/HSuDAAAA";
    let gemini_usage = "\"usageMetadata\":{\"promptTokenCount\":20,\"candidatesTokenCount\":2000,\"totalTokenCount\":2020,\
         \"candidatesTokensDetails\":[{\"modality\":\"IMAGE\",\"tokenCount\":2000}]}";
    let frame = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"inlineData\":{{\"mimeType\":\"image/png\",\"data\":\"{}\"}}}}]}},\
         \"finishReason\":\"STOP\"}}],{gemini_usage},\"modelVersion\":\"gemini-3-pro-image-preview\"}}\n\n",
        repeated(picture, 12)
    );
    let image_usage = "\"usage\":{\"total_tokens\":4210,\"input_tokens\":50,\"output_tokens\":4160}";
    let images = format!(
        "{{\"created\":1,\"data\":[{{\"b64_json\":\"{}\"}}],{image_usage}}}",
        repeated(picture, 70)
    );
    let numbers = format!(
        "{{\"object\":\"list\",\"data\":[{{\"index\":0,\"embedding\":[{}0]}}],\"model\":\"m\",\"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}",
        repeated("-0.0123456789,", 70)
    );
    let text = format!(
        "{{\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"content\":\"{}\"}}}}],\"usage\":{{\"prompt_tokens\":8,\"completion_tokens\":9000}}}}",
        repeated("Read `src/main.rs` and tell me why \\\"cargo test\\\" fails.\\n", 70)
    );
    let answer = |name, dialect, operation, content_type, body: String| Answer {
        name,
        dialect,
        operation,
        content_type,
        body: Arc::new(body.into_bytes()),
    };
    let json = "application/json";
    vec![
        answer(
            "a 12 MiB picture in an SSE frame",
            "gemini",
            "stream-generate-content",
            "text/event-stream",
            frame,
        ),
        answer(
            "a 70 MiB body with a picture",
            "openai",
            "images.generations",
            json,
            images,
        ),
        answer("a 70 MiB body of numbers", "openai", "embeddings", json, numbers),
        answer("a 70 MiB body of text with escapes", "openai", "chat", json, text),
    ]
}

/// CPU of this thread so far, in milliseconds.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos: u64 = stat.split(' ').next().unwrap().parse().unwrap();
    nanos as f64 / 1e6
}

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// One answer through the relay; its CPU in milliseconds, and what the peak of memory grew by in KiB.
fn relay(answer: &Answer, mut meter: Option<Meter>) -> (f64, u64, String) {
    let (mut upstream, mut from_upstream) = pair();
    let (mut to_client, mut client) = pair();
    let body = Arc::clone(&answer.body);
    let sender = thread::spawn(move || upstream.write_all(&body).unwrap());
    let reader = thread::spawn(move || {
        let mut sink = vec![0; CHUNK_BYTES];
        let mut sum = 0;
        while let Ok(len) = client.read(&mut sink) {
            if len == 0 {
                break;
            }
            sum += len;
        }
        sum
    });
    let mut chunk = vec![0; CHUNK_BYTES];
    // Forgets the peak so far.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (rss, began) = (status_kib("VmRSS"), cpu_ms());
    loop {
        let len = from_upstream.read(&mut chunk).unwrap();
        if len == 0 {
            break;
        }
        if let Some(meter) = &mut meter {
            let mut passed = 0;
            meter.push(&chunk[..len], &mut |piece| passed += piece.raw_len);
            std::hint::black_box(passed);
        }
        to_client.write_all(&chunk[..len]).unwrap();
    }
    let found = meter.map(|mut meter| {
        let metered = meter.finish(&mut |_| {});
        format!("{:?}, {:?}", metered.usage.iter().collect::<Vec<_>>(), metered.reason)
    });
    let (cpu, grown) = (cpu_ms() - began, status_kib("VmHWM").saturating_sub(rss));
    drop(to_client);
    sender.join().unwrap();
    assert_eq!(reader.join().unwrap(), answer.body.len());
    (cpu, grown, found.unwrap_or_default())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let plugins = Plugins::load(&config::Plugins::default(), &Limits::default()).unwrap();
    println!("| | relay, CPU ms | with the meter, CPU ms | ratio | relay, peak KiB | with the meter, peak KiB |");
    println!("|---|---:|---:|---:|---:|---:|");
    for answer in answers() {
        let plugin = plugins.get(answer.dialect).unwrap();
        let reader = Arc::new(AnswerReader::new(Arc::clone(&plugin.dialect), DEPTH_MAX).unwrap());
        let facts = AnswerFacts {
            lines: false,
            operation: answer.operation.into(),
            stream: answer.content_type == "text/event-stream",
            hide_usage: false,
            status: 200,
            content_type: Some(answer.content_type),
            content_encoding: None,
        };
        let meter = || Some(Meter::new(Arc::clone(&reader), facts.clone(), &Limits::default()));
        // Once for what is allocated once.
        relay(&answer, None);
        let found = relay(&answer, meter()).2;
        let (mut unread, mut read) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            unread.push(relay(&answer, None));
            read.push(relay(&answer, meter()));
        }
        let cpu = |rounds: &[(f64, u64, String)]| median(rounds.iter().map(|round| round.0).collect());
        let peak = |rounds: &[(f64, u64, String)]| rounds.iter().map(|round| round.1).max().unwrap();
        let (plain, metered) = (cpu(&unread), cpu(&read));
        println!(
            "| {} | {plain:.1} | {metered:.1} | {:.2} | {} | {} |",
            answer.name,
            metered / plain,
            peak(&unread),
            peak(&read)
        );
        eprintln!("{}: {found}", answer.name);
    }
}
