//! A client that shows everything: raw bytes, heads and how a connection ended.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::upstream::find;

#[derive(Clone, Copy, Debug)]
pub struct Client {
    address: SocketAddr,
}

/// An answer as the client got it.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Without its transfer coding.
    pub body: Vec<u8>,
    /// The body ended as its framing says; false: the connection broke off.
    pub whole: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        Client { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As the OpenAI clients post.
    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.request(
            "POST",
            path,
            &[("authorization", "Bearer sk-test-0123456789abcdef")],
            body.as_bytes(),
        )
    }

    /// As the Anthropic clients post.
    pub fn post_anthropic(&self, path: &str, body: &str) -> Reply {
        let headers = [
            ("x-api-key", "sk-ant-api03-0123456789abcdef"),
            ("anthropic-version", "2023-06-01"),
        ];
        self.request("POST", path, &headers, body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.send(method, path, headers, body);
        read_reply(&mut stream)
    }

    /// Sends a request and hands over the connection, its answer unread.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        self.try_send(method, path, headers, body).unwrap()
    }

    /// The same; `None` where nobody listens any more.
    pub fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<TcpStream> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
        if !body.is_empty() {
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.try_raw(&[head.as_bytes(), body].concat())
    }

    /// Sends bytes as they are.
    pub fn raw(&self, bytes: &[u8]) -> TcpStream {
        self.try_raw(bytes).unwrap()
    }

    fn try_raw(&self, bytes: &[u8]) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = stream.set_nodelay(true);
        // A gateway that refuses early may close while we still write.
        let _ = stream.write_all(bytes);
        Some(stream)
    }
}

/// The answer on a connection that is closed after it; `None` where it does not come whole.
pub fn try_read_reply<S: Read>(stream: &mut S) -> Option<Reply> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    find(&bytes, b"\r\n\r\n")?;
    Some(read_reply(&mut bytes.as_slice())).filter(|reply| reply.whole)
}

/// Reads one answer to its end.
pub fn read_reply<S: Read>(stream: &mut S) -> Reply {
    let mut bytes = Vec::new();
    loop {
        let (status, headers, start) = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break head(&bytes[..at], at + 4);
            }
            assert!(
                more(stream, &mut bytes),
                "no answer: {:?}",
                String::from_utf8_lossy(&bytes)
            );
        };
        if (100..200).contains(&status) && status != 101 {
            bytes.drain(..start);
            continue;
        }
        let header = |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let (body, whole) = if header("transfer-encoding").is_some() {
            read_chunked(stream, bytes.split_off(start))
        } else if let Some((_, length)) = header("content-length") {
            let length: usize = length.parse().unwrap();
            let mut body = bytes.split_off(start);
            while body.len() < length && more(stream, &mut body) {}
            let whole = body.len() >= length;
            body.truncate(length);
            (body, whole)
        } else {
            let mut body = bytes.split_off(start);
            while more(stream, &mut body) {}
            (body, true)
        };
        return Reply {
            status,
            headers,
            body,
            whole,
        };
    }
}

fn head(bytes: &[u8], start: usize) -> (u16, Vec<(String, String)>, usize) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    (status, headers, start)
}

fn read_chunked<S: Read>(stream: &mut S, mut raw: Vec<u8>) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let line = loop {
            match find(&raw, b"\r\n") {
                Some(at) => break at,
                None if more(stream, &mut raw) => {}
                None => return (body, false),
            }
        };
        let size = usize::from_str_radix(String::from_utf8_lossy(&raw[..line]).trim(), 16).unwrap();
        while raw.len() < line + 2 + size + 2 {
            if !more(stream, &mut raw) {
                body.extend_from_slice(raw.get(line + 2..).unwrap_or_default());
                return (body, false);
            }
        }
        body.extend_from_slice(&raw[line + 2..line + 2 + size]);
        raw.drain(..line + 2 + size + 2);
        if size == 0 {
            return (body, true);
        }
    }
}

fn more<S: Read>(stream: &mut S, bytes: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 << 10];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => false,
        Ok(read) => {
            bytes.extend_from_slice(&chunk[..read]);
            true
        }
    }
}
