//! The provider of the load bench: answers as it is told, as cheaply as it can.
//!
//! `load_upstream ADDRESS [SECONDS]`; ends by itself after so many seconds (900).
//!
//! A request whose body asks for a stream gets `x-load-events` events of text, one write each, `x-load-interval-ms` apart, then
//! its usage and `[DONE]`; with `x-load-hold-ms` it stays silent for so long after the first event. Any other gets a whole
//! answer of 1 KB.

use std::error::Error;
use std::io;
use std::time::Duration;

use agentledger_load::http::{Connection, Head};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

const DELTA: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1795305600,\
     \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\
     \"choices\":[{\"index\":0,\"delta\":{\"content\":\" because\"},\"logprobs\":null,\"finish_reason\":null}],\
     \"usage\":null}\n\n";

const USAGE: &str = "\"usage\":{\"prompt_tokens\":220,\"completion_tokens\":140,\"total_tokens\":360,\
     \"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\
     \"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: load_upstream ADDRESS [SECONDS]")?;
    let seconds = arguments.next().map_or(Ok(900), |seconds| seconds.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&address).await?;
        let _ = timeout(Duration::from_secs(seconds), accept(listener)).await;
        Ok(())
    })
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    // A client that leaves ends its connection, and nothing else.
                    let _ = serve(stream).await;
                });
            }
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream) -> io::Result<()> {
    let whole = whole_answer();
    let mut connection = Connection::new(stream)?;
    let mut body = Vec::new();
    while let Some(head) = connection.head().await? {
        body.clear();
        connection.body(&head, |bytes| body.extend_from_slice(bytes)).await?;
        if contains(&body, b"\"stream\":true") {
            stream_answer(&mut connection, &head, contains(&body, b"\"include_usage\":true")).await?;
        } else {
            connection.write(&whole).await?;
        }
    }
    Ok(())
}

fn contains(body: &[u8], what: &[u8]) -> bool {
    body.windows(what.len()).any(|window| window == what)
}

fn whole_answer() -> Vec<u8> {
    let content = "The test fails because the fixture is missing. ".repeat(14);
    let body = format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1795305600,\"model\":\"gpt-4o-2024-08-06\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\",\"refusal\":null}},\
         \"logprobs\":null,\"finish_reason\":\"stop\"}}],{USAGE}}}"
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: ";
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn stream_answer(connection: &mut Connection, head: &Head, include_usage: bool) -> io::Result<()> {
    let events = head.number("x-load-events").unwrap_or(100);
    let pause = Duration::from_millis(head.number("x-load-interval-ms").unwrap_or(0));
    let event = chunk(DELTA);
    connection
        .write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    if let Some(hold_ms) = head.number("x-load-hold-ms") {
        connection.write(&event).await?;
        // Over when the client has gone, or the time is up.
        let _ = timeout(Duration::from_millis(hold_ms), connection.closed()).await;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let mut pace = (!pause.is_zero()).then(|| interval_at(Instant::now() + pause, pause));
    if let Some(pace) = &mut pace {
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    for _ in 0..events {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        connection.write(&event).await?;
    }
    let mut end = Vec::new();
    if include_usage {
        let usage = format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1795305600,\
             \"model\":\"gpt-4o-2024-08-06\",\"choices\":[],{USAGE}}}\n\n"
        );
        end.extend(chunk(&usage));
    }
    end.extend(chunk("data: [DONE]\n\n"));
    end.extend_from_slice(b"0\r\n\r\n");
    connection.write(&end).await
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}
