//! A background response whose result is fetched while its own stream still runs: billed once, however that stream ends.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentledger_ledger::{Usd, Window};

use super::harness::upstream::Step;
use super::harness::{Gateway, Script, Setup, Upstream};

const ASK: &str =
    r#"{"model":"gpt-5.1","input":"think long","background":true,"stream":true,"max_output_tokens":1000}"#;
const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_bg\",\"object\":\"response\",\"status\":\"in_progress\",\"background\":true,\"model\":\"gpt-5.1-2025-11-13\",\"usage\":null}}\n\n";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"so \"}\n\n";
const DONE: &str = r#"{"id":"resp_bg","object":"response","status":"completed","background":true,"model":"gpt-5.1-2025-11-13","output":[],"usage":{"input_tokens":31,"input_tokens_details":{"cached_tokens":0},"output_tokens":409,"output_tokens_details":{"reasoning_tokens":344},"total_tokens":440}}"#;
/// 31 x 1.25 + 409 x 10, a million.
const COST: &str = "0.00412875";
const KEY: (&str, &str) = ("authorization", "Bearer sk-test-0123456789abcdef");

/// The POST's stream stalls after its first event, until the test says how it goes on.
struct Stalled {
    gateway: Gateway,
    stream: TcpStream,
    go_on: Arc<AtomicBool>,
}

fn stalled(yaml: &str, rest: impl Fn(Script) -> Script + Send + Sync + 'static) -> Stalled {
    let go_on = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&go_on);
    let upstream = Upstream::playing(move |seen| match seen.method.as_str() {
        "POST" => rest(
            Script::stream_head("text/event-stream")
                .chunk(CREATED.as_bytes())
                .step(Step::When(Arc::clone(&said))),
        ),
        _ => Script::json(200, DONE),
    });
    let gateway = Setup::new(&upstream).with(yaml).start();
    let mut stream = gateway.client.send("POST", "/v1/responses", &[KEY], ASK.as_bytes());
    let mut bytes = Vec::new();
    while !bytes.windows(2).any(|pair| pair == b"\n\n") {
        let mut some = [0; 4_096];
        let read = stream.read(&mut some).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&some[..read]);
    }
    Stalled { gateway, stream, go_on }
}

impl Stalled {
    fn fetch(&self) {
        let reply = self.gateway.client.request("GET", "/v1/responses/resp_bg", &[KEY], b"");
        assert_eq!((reply.status, reply.text().as_str()), (200, DONE));
    }

    fn go_on(&self) {
        self.go_on.store(true, Ordering::SeqCst);
    }

    fn assert_billed_once(self) {
        drop(self.stream);
        self.gateway.wait_idle();
        let reply = self.gateway.client.request("GET", "/v1/responses/resp_bg", &[KEY], b"");
        assert_eq!(reply.status, 200);
        let ledger = &self.gateway.launched().gateway().ledger;
        let cost: Usd = COST.parse().unwrap();
        let entries = self.gateway.entries();
        assert_eq!(
            entries.iter().map(|entry| entry.settlement.cost).collect::<Vec<_>>(),
            [cost]
        );
        assert_eq!(ledger.spent("global", Window::Total).usd, cost);
        assert!(ledger.open_holds().is_empty(), "{:?}", ledger.open_holds());
    }
}

#[test]
fn a_response_fetched_while_its_stream_runs_assert_billed_once_where_the_stream_ends() {
    let done = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{DONE}}}\n\n"
    );
    let stalled = stalled("", move |script| {
        script.chunk(DELTA.as_bytes()).chunk(done.as_bytes()).end()
    });
    stalled.fetch();
    stalled.go_on();
    let mut rest = String::new();
    (&stalled.stream).read_to_string(&mut rest).unwrap();
    assert!(rest.contains("response.completed"), "{rest}");
    stalled.assert_billed_once();
}

#[test]
fn a_response_fetched_while_its_stream_runs_assert_billed_once_where_the_client_leaves() {
    let stalled = stalled("", |script| {
        (0..200).fold(script, |script, _| script.chunk(DELTA.as_bytes()).pause_ms(5))
    });
    stalled.fetch();
    stalled.stream.shutdown(std::net::Shutdown::Both).unwrap();
    stalled.go_on();
    stalled.assert_billed_once();
}

#[test]
fn a_response_fetched_while_its_stream_runs_assert_billed_once_where_the_upstream_breaks() {
    let stalled = stalled("", |script| script.chunk(DELTA.as_bytes()).step(Step::Close));
    stalled.fetch();
    stalled.go_on();
    let _ = (&stalled.stream).read_to_end(&mut Vec::new());
    stalled.assert_billed_once();
}

#[test]
fn a_response_fetched_after_its_stream_broke_assert_billed_once_though_nobody_fetched_it_in_time() {
    let stalled = stalled("limits: {background_wait_ms: 300}", |script| script.step(Step::Close));
    stalled.go_on();
    let _ = (&stalled.stream).read_to_end(&mut Vec::new());
    // Given up at what it held; the fetch corrects that entry.
    let ledger = Arc::clone(&stalled.gateway.launched().gateway().ledger);
    for _ in 0..2_000 {
        if ledger.open_holds().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    stalled.fetch();
    stalled.fetch();
    stalled.gateway.wait_idle();
    assert_eq!(stalled.gateway.entries().len(), 1);
    assert_eq!(ledger.spent("global", Window::Total).usd, COST.parse().unwrap());
}
