//! WebSocket ends that say and hear what a test tells them: a client, and an upstream whose every connection is a script.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use agentledger::testing::meter::websocket::{Message, SocketFramer, encode};
use agentledger::testing::plugin::Sender;
use serde_json::Value;

use super::client::{Reply, read_reply};
use super::upstream::{Seen, find, read_request};

/// Sixteen bytes in base64, and what a server answers to them (RFC 6455 §1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Of every handshake, by the upstream.
pub const REQUEST_ID: &str = "req_handshake";
const MASK: [u8; 4] = [1, 2, 3, 4];

/// One end of a connection.
pub struct Peer {
    stream: TcpStream,
    framer: SocketFramer,
    mask: Option<[u8; 4]>,
    /// The handshake as it arrived here: of a client its answer, of an upstream its request.
    pub headers: Vec<(String, String)>,
}

impl Peer {
    fn new(stream: TcpStream, hears: Sender, early: &[u8], headers: Vec<(String, String)>) -> Peer {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut framer = SocketFramer::new(hears, 64 << 20);
        framer.push(early);
        Peer {
            stream,
            framer,
            mask: (hears == Sender::Server).then_some(MASK),
            headers,
        }
    }

    /// Opens a connection to a gateway.
    pub fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Peer {
        Peer::try_open(address, path, headers).unwrap_or_else(|reply| panic!("{}: {}", reply.status, reply.text()))
    }

    /// The same; what the gateway answered where it did not switch.
    pub fn try_open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Peer, Reply> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        let end = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at;
            }
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "no answer to the handshake");
            bytes.extend_from_slice(&chunk[..read]);
        };
        if !bytes.starts_with(b"HTTP/1.1 101") {
            return Err(read_reply(&mut bytes.as_slice().chain(stream)));
        }
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let headers = text
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Ok(Peer::new(stream, Sender::Server, &bytes[end + 4..], headers))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn send(&mut self, message: &Message) {
        let bytes = encode(message, self.mask);
        self.raw(&bytes);
    }

    pub fn say(&mut self, json: impl ToString) {
        self.send(&Message::Text(json.to_string().into_bytes().into()));
    }

    /// Bytes as they are. Whoever is gone hears nothing.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next message; `None`: the connection has ended.
    pub fn hear(&mut self) -> Option<Message> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(message) = self.framer.message().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.framer.push(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing heard: {error}"),
            }
        }
    }

    /// The next message, which must be JSON.
    pub fn json(&mut self) -> Value {
        match self.hear() {
            Some(Message::Text(text)) => serde_json::from_slice(&text).unwrap(),
            other => panic!("no JSON: {other:?}"),
        }
    }

    /// Hears until a message of this type; all of them.
    pub fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let message = self.json();
            let last = message["type"] == kind;
            heard.push(message);
            if last {
                return heard;
            }
        }
    }

    /// Hears until the other end closes: the code and the reason.
    pub fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.hear() {
                Some(Message::Close(why)) => return why,
                Some(_) => {}
                None => return None,
            }
        }
    }

    /// The connection is taken away without a word.
    pub fn vanish(self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

type Play = dyn Fn(&mut Peer) + Send + Sync;

/// Switches every connection, and plays.
pub struct SocketUpstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl SocketUpstream {
    /// When `play` returns, the connection is closed.
    pub fn playing(play: impl Fn(&mut Peer) + Send + Sync + 'static) -> SocketUpstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = SocketUpstream {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let (seen, play): (_, Arc<Play>) = (Arc::clone(&upstream.seen), Arc::new(play));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, play) = (Arc::clone(&seen), Arc::clone(&play));
                thread::spawn(move || serve(stream, &seen, &*play));
            }
        });
        upstream
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, play: &Play) {
    let mut early = Vec::new();
    let Some(request) = read_request(&mut stream, &mut early) else {
        return;
    };
    seen.lock().unwrap().push(request.clone());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nx-codex-turn-state: sticky\r\nx-request-id: {REQUEST_ID}\r\n\r\n"
    );
    let _ = stream.write_all(answer.as_bytes());
    play(&mut Peer::new(stream, Sender::Client, &early, request.headers));
}
