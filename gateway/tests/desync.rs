//! Many clients share the connections to one upstream: whatever one of them sends, and whatever the upstream answers it, each gets
//! its own answer and no byte of another's.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::client::{Client, read_reply};
use crate::harness::{Gateway, Script, Upstream};

const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;
/// Would be seen in a victim's place.
const SMUGGLED: &str = "GET /v1/models?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const VICTIMS: usize = 4;

/// Answers each request with its own path.
fn echo() -> Upstream {
    Upstream::playing(|seen| Script::json(200, &format!("{{\"path\":\"{}\"}}", seen.path)))
}

/// Asks until it is told to stop; the number of its answers.
fn victim(client: &Client, number: usize, stop: &AtomicBool) -> usize {
    let mut answers = 0;
    let mut stream = client.raw(b"");
    while !stop.load(Ordering::SeqCst) {
        let path = format!("/v1/models?victim={number}.{answers}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let reply = read_reply(&mut stream);
        assert_eq!((reply.status, reply.text()), (200, format!("{{\"path\":\"{path}\"}}")));
        answers += 1;
    }
    answers
}

/// Ends the victims, also where what is done beside them fails.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Victims ask while this is done.
fn beside_victims(client: &Client, hostile: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let victims: Vec<_> = (0..VICTIMS)
            .map(|number| {
                let stop = &stop;
                scope.spawn(move || victim(client, number, stop))
            })
            .collect();
        let ends = Stop(&stop);
        hostile();
        drop(ends);
        for victim in victims {
            assert!(victim.join().unwrap() > 0, "a victim was never answered");
        }
    });
}

/// Sends each, and closes its side. What came back, which is to be nothing of a victim's.
fn send_all(client: &Client, mut each: impl FnMut(&[u8], &str)) {
    for request in hostile_requests() {
        let mut stream = client.raw(&request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let text = String::from_utf8_lossy(&all);
        assert!(
            !text.contains("victim"),
            "{:?}: {text}",
            String::from_utf8_lossy(&request)
        );
        each(&request, &text);
    }
}

/// Each way to frame beside each other one, and behind a body that ends early in one reading.
fn hostile_requests() -> Vec<Vec<u8>> {
    let framings = [
        "",
        "Content-Length: 32\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: +32\r\n",
        "Content-Length : 32\r\n",
        "content_length: 5\r\n",
        "Content-Length: 32, 32\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "transfer_encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
    ];
    let bodies = [
        BODY.to_owned(),
        format!("20\r\n{BODY}\r\n0\r\n\r\n"),
        format!("20\n{BODY}\r\n0\n\r\n"),
    ];
    let mut requests = Vec::new();
    for first in framings {
        for second in framings {
            for body in &bodies {
                let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
                requests.push(format!("{head}{first}{second}\r\n{body}{SMUGGLED}").into_bytes());
            }
        }
    }
    requests
}

#[test]
fn no_request_makes_another_clients_request_of_its_rest() {
    let upstream = echo();
    let gateway = Gateway::to(&upstream);
    beside_victims(&gateway.client, || {
        send_all(&gateway.client, |request, text| {
            let answers = text.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count();
            assert_eq!(answers, 1, "{:?}: {text}", String::from_utf8_lossy(request));
        });
    });
    let smuggled = upstream
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("smuggled"))
        .count();
    assert_eq!(smuggled, 0);
}

/// What an upstream, or something before it, may send where one answer is due.
const HOSTILE_ANSWERS: [&str; 12] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}poison",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\npoison",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\npoison",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\npoison",
    "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}poison",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\npoison",
    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}poison",
    "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}poison",
    "nonsense\r\n\r\npoison",
];

#[test]
fn nothing_that_an_upstream_sends_beside_its_answer_is_another_clients_answer() {
    let upstream = Upstream::playing(|seen| {
        let answer = seen
            .path
            .split("hostile=")
            .nth(1)
            .and_then(|number| number.parse().ok());
        match answer.and_then(|number: usize| HOSTILE_ANSWERS.get(number)) {
            Some(answer) => Script::raw(*answer),
            None => Script::json(200, &format!("{{\"path\":\"{}\"}}", seen.path)),
        }
    });
    let gateway = Gateway::to(&upstream);
    beside_victims(&gateway.client, || {
        for number in (0..HOSTILE_ANSWERS.len()).cycle().take(5 * HOSTILE_ANSWERS.len()) {
            let reply = gateway.client.get(&format!("/v1/models?hostile={number}"));
            assert!(!reply.text().contains("poison"), "{number}: {}", reply.text());
        }
    });
}

/// A server before the gateway, which shares a few connections to it among all its clients.
struct Front {
    _running: Running,
    client: Client,
    _dir: tempfile::TempDir,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Front {
    /// `program` reads this configuration, in which `@DIR@`, `@LISTEN@` and `@GATEWAY@` are filled in.
    fn start(program: &mut Command, configuration: &str, gateway: SocketAddr) -> Front {
        let dir = tempfile::tempdir().unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = dir.path().join("front.conf");
        let filled = configuration
            .replace("@DIR@", dir.path().to_str().unwrap())
            .replace("@LISTEN@", &listen.to_string())
            .replace("@GATEWAY@", &gateway.to_string());
        std::fs::write(&file, filled).unwrap();
        let running = Running(program.arg(&file).stderr(Stdio::null()).spawn().unwrap());
        for _ in 0..500 {
            if TcpStream::connect(listen).is_ok() {
                let client = Client::to(listen);
                return Front {
                    _running: running,
                    client,
                    _dir: dir,
                };
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{program:?} does not listen");
    }
}

const NGINX: &str = "daemon off; master_process off; pid @DIR@/pid; error_log stderr crit; events {}
http {
    access_log off; client_body_temp_path @DIR@/a; proxy_temp_path @DIR@/b; fastcgi_temp_path @DIR@/c;
    uwsgi_temp_path @DIR@/d; scgi_temp_path @DIR@/e; underscores_in_headers on; ignore_invalid_headers off;
    upstream gateway { server @GATEWAY@; keepalive 2; }
    server {
        listen @LISTEN@;
        location / {
            proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection \"\";
            proxy_request_buffering off; proxy_buffering off;
        }
    }
}
";
const HAPROXY: &str = "defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    http-reuse always
    option accept-invalid-http-request
frontend front
    bind @LISTEN@
    default_backend gateway
backend gateway
    server gateway @GATEWAY@ maxconn 16 pool-max-conn 2
";

/// `$NGINX` and `$HAPROXY` name the programs, else they are Debian's.
fn program(variable: &str, debians: &str) -> Command {
    Command::new(std::env::var_os(variable).unwrap_or_else(|| debians.into()))
}

fn no_desync_behind(program: &mut Command, configuration: &str) {
    let upstream = echo();
    let gateway = Gateway::to(&upstream);
    let front = Front::start(program, configuration, gateway.address());
    beside_victims(&front.client, || send_all(&front.client, |_, _| {}));
}

#[test]
#[ignore = "needs nginx"]
fn nginx_before_the_gateway_gives_each_client_its_own_answer() {
    no_desync_behind(program("NGINX", "/usr/sbin/nginx").args(["-e", "stderr", "-c"]), NGINX);
}

#[test]
#[ignore = "needs haproxy"]
fn haproxy_before_the_gateway_gives_each_client_its_own_answer() {
    no_desync_behind(program("HAPROXY", "/usr/sbin/haproxy").args(["-db", "-f"]), HAPROXY);
}
