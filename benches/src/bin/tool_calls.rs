//! What the gateway adds to a tool call over HTTP, and what a listening stream takes of its memory:
//! `cargo build --release -p agentledger -p agentledger-benches && target/release/tool_calls [CALLS] [ROUNDS] [STREAMS] [DURABILITY]`
//!
//! A scripted MCP server, a gateway with a price, a budget and all shipped policies before it, and one client that sends CALLS calls
//! (2,000) one after the other in each of ROUNDS (5) rounds: to the server itself and through the gateway in turn, as both eras of the
//! protocol send them. Then STREAMS (1,000) are opened, of each era's kind, and resident memory is compared. DURABILITY: relaxed
//! or strict; without it both are run.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use agentledger_benches::http::{Connection, Head};
use agentledger_benches::process;
use agentledger_benches::started::{Failure, GATEWAY, Started};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
/// Streams that are opened at one time.
const OPENING: usize = 50;

/// How one era of the protocol sends the same things.
struct Era {
    name: &'static str,
    headers: &'static str,
    call: &'static str,
    listen: fn(&str) -> String,
}

const ERAS: [Era; 2] = [
    Era {
        name: "2025-11-25",
        headers: "mcp-protocol-version: 2025-11-25\r\nmcp-session-id: s-1\r\n",
        call: r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"query":"why does the test fail"}}}"#,
        listen: |path| {
            format!(
                "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-load-0123456789\r\naccept: text/event-stream\r\n\
                 mcp-protocol-version: 2025-11-25\r\nmcp-session-id: s-1\r\n\r\n"
            )
        },
    },
    Era {
        name: "2026-07-28",
        headers: "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: search\r\n",
        call: r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"query":"why does the test fail"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#,
        listen: |path| {
            const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;
            post(
                path,
                "mcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\n",
                BODY,
            )
        },
    },
];

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-load-0123456789\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (calls, rounds, streams) = (number(2_000)?, number(5)?, number(1_000)?);
    let only = arguments.next();
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    std::thread::spawn(move || served(server));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for durability in ["relaxed", "strict"] {
        if only.as_ref().is_some_and(|only| only != durability) {
            continue;
        }
        let dir = tempfile::tempdir()?;
        std::fs::create_dir_all(dir.path().join("policies"))?;
        let started = started(dir.path(), address, durability)?;
        runtime.block_on(async {
            started.ready().await?;
            println!(
                "{durability}:\n| | direct p50 µs | through p50 µs | added p50 µs | direct p99 µs | through p99 µs |"
            );
            println!("|---|---:|---:|---:|---:|---:|");
            for era in &ERAS {
                times(era, address, calls, rounds).await?;
            }
            for era in &ERAS {
                let kib = listening(era, started.gateway_pid(), streams).await?;
                println!("{} streams of {}: {kib:.1} KiB each", streams, era.name);
            }
            Ok::<_, Failure>(())
        })?;
    }
    Ok(())
}

fn started(dir: &Path, address: SocketAddr, durability: &str) -> Result<Started, Failure> {
    let yaml = format!(
        "mcp:\n  servers: {{hub: {{upstream: \"http://{address}/mcp\"}}}}\n  pricing: [{{server: hub, cost_per_call: 0.000001}}]\n"
    );
    Started::durable(dir, "read", durability, &yaml)
}

/// One connection to the server and one through the gateway, in turn; the median round's figures.
async fn times(era: &Era, address: SocketAddr, calls: usize, rounds: usize) -> Result<(), Failure> {
    let ways = [
        (address.to_string(), post("/mcp", era.headers, era.call)),
        (GATEWAY.to_owned(), post("/mcp/hub", era.headers, era.call)),
    ];
    let mut shown: [Vec<(f64, f64)>; 2] = Default::default();
    // One round before those that count: code and caches are cold.
    for round in 0..=rounds {
        for ((to, request), shown) in ways.iter().zip(&mut shown) {
            let mut connection = Connection::new(TcpStream::connect(to).await?)?;
            let mut took = Vec::with_capacity(calls);
            for _ in 0..calls {
                let sent = Instant::now();
                timeout(PATIENCE, answered(&mut connection, request)).await??;
                took.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            took.sort_by(f64::total_cmp);
            let at = |share: f64| {
                took.get((took.len() as f64 * share) as usize)
                    .copied()
                    .unwrap_or(f64::NAN)
            };
            if round > 0 {
                shown.push((at(0.5), at(0.99)));
            }
        }
    }
    let [direct, through] = shown.map(|mut rounds| {
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        rounds.get(rounds.len() / 2).copied().unwrap_or((f64::NAN, f64::NAN))
    });
    println!(
        "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
        era.name,
        direct.0,
        through.0,
        through.0 - direct.0,
        direct.1,
        through.1
    );
    Ok(())
}

async fn answered(connection: &mut Connection, request: &str) -> Result<Head, Failure> {
    connection.write(request.as_bytes()).await?;
    let head = connection.answer().await?;
    let mut body = Vec::new();
    connection.body(&head, |bytes| body.extend_from_slice(bytes)).await?;
    let text = String::from_utf8_lossy(&body);
    if head.status() == Some(200) && text.contains("fixture") {
        Ok(head)
    } else {
        Err(format!("{}\n{text}", head.text).into())
    }
}

/// KiB of the gateway's memory that each of so many open streams takes.
async fn listening(era: &Era, gateway: u32, count: usize) -> Result<f64, Failure> {
    let resident = || process::resident_kib(gateway).ok_or("the gateway has ended");
    let before = resident()?;
    let (mut open, mut opening) = (Vec::new(), JoinSet::new());
    for _ in 0..count {
        let request = (era.listen)("/mcp/hub");
        opening.spawn(async move {
            let mut connection = Connection::new(TcpStream::connect(GATEWAY).await?)?;
            connection.write(request.as_bytes()).await?;
            let head = timeout(PATIENCE, connection.answer()).await??;
            if head.status() != Some(200) {
                return Err::<_, Failure>(head.text.into());
            }
            timeout(PATIENCE, connection.chunk(&mut |_| {})).await??;
            Ok(connection)
        });
        if opening.len() >= OPENING
            && let Some(opened) = opening.join_next().await
        {
            open.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    sleep(Duration::from_secs(1)).await;
    let taken = (resident()? - before) / count.max(1) as f64;
    drop(open);
    sleep(Duration::from_secs(2)).await;
    Ok(taken)
}

/// The server: a call has a short result, what listens gets one notification and then silence.
fn served(listener: std::net::TcpListener) -> Result<(), Failure> {
    listener.set_nonblocking(true)?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A client that leaves ends its connection, and nothing else.
                let _ = serve(stream).await;
            });
        }
    })
}

async fn serve(stream: TcpStream) -> Result<(), Failure> {
    let text = "The test fails because the fixture is missing. ".repeat(14);
    let result = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
    );
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{result}",
        result.len()
    );
    let event = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
    let begun = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n",
        event.len()
    );
    let mut connection = Connection::new(stream)?;
    let mut body = Vec::new();
    while let Some(head) = connection.head().await? {
        body.clear();
        connection.body(&head, |bytes| body.extend_from_slice(bytes)).await?;
        if body.windows(10).any(|window| window == b"tools/call") {
            connection.write(whole.as_bytes()).await?;
        } else {
            connection.write(begun.as_bytes()).await?;
            connection.closed().await;
        }
    }
    Ok(())
}
