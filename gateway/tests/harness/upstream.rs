//! A provider that does as it is told: every request is recorded, every answer is scripted byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Names as they came, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    Bytes(Vec<u8>),
    Pause(Duration),
    /// Waits until the test says so.
    When(Arc<AtomicBool>),
    /// The connection is closed, without an end of the body if none was sent.
    Close,
    /// Waits until the gateway closes; for tests of cancelling.
    AwaitClose,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
}

impl Script {
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Script {
        Script {
            steps: vec![Step::Bytes(bytes.into())],
        }
    }

    pub fn json(status: u16, body: &str) -> Script {
        Script::body(status, "application/json", body.as_bytes(), &[])
    }

    pub fn body(status: u16, content_type: &str, body: &[u8], headers: &[(&str, &str)]) -> Script {
        let mut head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Script::raw([head.as_bytes(), body].concat())
    }

    /// A chunked event stream, one chunk a piece.
    pub fn sse<P: AsRef<[u8]>>(pieces: &[P]) -> Script {
        Script::chunked("text/event-stream", pieces)
    }

    pub fn chunked<P: AsRef<[u8]>>(content_type: &str, pieces: &[P]) -> Script {
        let mut script = Script::stream_head(content_type);
        for piece in pieces {
            script = script.chunk(piece.as_ref());
        }
        script.end()
    }

    /// The head of a chunked answer; chunks and an end are to follow.
    pub fn stream_head(content_type: &str) -> Script {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n");
        Script::raw(head.into_bytes())
    }

    pub fn chunk(mut self, bytes: &[u8]) -> Script {
        if !bytes.is_empty() {
            let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
            self.steps.push(Step::Bytes(framed));
        }
        self
    }

    pub fn end(self) -> Script {
        self.step(Step::Bytes(b"0\r\n\r\n".to_vec()))
    }

    pub fn step(mut self, step: Step) -> Script {
        self.steps.push(step);
        self
    }

    pub fn pause_ms(self, ms: u64) -> Script {
        self.step(Step::Pause(Duration::from_millis(ms)))
    }
}

type Play = dyn Fn(&Seen) -> Script + Send + Sync;

pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections that the gateway closed while an answer awaited it.
    closed: Arc<Mutex<u32>>,
}

impl Upstream {
    /// Answers every request with the same script.
    pub fn always(script: Script) -> Upstream {
        Upstream::playing(move |_| script.clone())
    }

    pub fn playing(play: impl Fn(&Seen) -> Script + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Upstream {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            closed: Arc::default(),
        };
        let (seen, closed, play) = (Arc::clone(&upstream.seen), Arc::clone(&upstream.closed), Arc::new(play));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, closed, play) = (Arc::clone(&seen), Arc::clone(&closed), Arc::clone(&play));
                thread::spawn(move || serve(stream, &seen, &closed, &*play));
            }
        });
        upstream
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn seen_count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The only request there was.
    pub fn only_seen(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }

    /// Waits, boundedly, until the gateway has closed so many connections whose answers awaited it.
    pub fn wait_closed(&self, count: u32) {
        for _ in 0..500 {
            if *self.closed.lock().unwrap() >= count {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the gateway did not cancel its upstream request");
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, closed: &Mutex<u32>, play: &Play) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer) {
        seen.lock().unwrap().push(request.clone());
        for step in play(&request).steps {
            match step {
                Step::Bytes(bytes) => {
                    if stream.write_all(&bytes).is_err() {
                        *closed.lock().unwrap() += 1;
                        return;
                    }
                }
                Step::Pause(time) => thread::sleep(time),
                Step::When(said) => {
                    while !said.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                Step::Close => return,
                Step::AwaitClose => {
                    let mut one = [0];
                    let _ = stream.read(&mut one);
                    *closed.lock().unwrap() += 1;
                    return;
                }
            }
        }
    }
}

pub fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at;
        }
        fill(stream, buffer)?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    let is_chunked = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
    let body = match is_chunked {
        true => read_chunks(stream, buffer)?,
        false => {
            while buffer.len() < length {
                fill(stream, buffer)?;
            }
            buffer.drain(..length).collect()
        }
    };
    Some(Seen {
        method,
        path,
        headers,
        body,
    })
}

/// A body in chunks; `None`: it broke off.
fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            match find(buffer, b"\r\n") {
                Some(at) => break at,
                None => fill(stream, buffer)?,
            }
        };
        let size = usize::from_str_radix(&String::from_utf8_lossy(&buffer[..line]), 16).ok()?;
        while buffer.len() < line + 2 + size + 2 {
            fill(stream, buffer)?;
        }
        body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
        buffer.drain(..line + 2 + size + 2);
        if size == 0 {
            return Some(body);
        }
    }
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 << 10];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            Some(())
        }
    }
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Holds answers back until it is opened, for good.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    pub fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}
