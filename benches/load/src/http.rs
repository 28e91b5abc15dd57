//! As much HTTP/1.1 as both ends of the load bench need: kept connections, lengths and chunks. Small on purpose, so that the
//! bench's own ends take little of the machine that is measured.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for one read.
const READ_BYTES: usize = 16 << 10;
/// Longest head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A connection and what was read ahead of it.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are used up.
    used: usize,
}

/// The head of a request or an answer.
pub struct Head {
    /// First line and headers, as they came.
    pub text: String,
    length: Length,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
}

impl Head {
    fn parse(text: String) -> Result<Head> {
        let mut length = Length::Known(0);
        for line in text.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(value.trim().parse().map_err(|_| broken("content-length"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        Ok(Head { text, length })
    }

    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        self.text.split(' ').nth(1)?.parse().ok()
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.text.lines().filter_map(|line| line.split_once(':'));
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(found.1.trim())
    }

    /// A header with a number in it.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

impl Connection {
    pub fn new(stream: TcpStream) -> Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: Vec::with_capacity(READ_BYTES),
            used: 0,
        })
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Reads more. `false`: the other side has closed.
    async fn fill(&mut self) -> Result<bool> {
        if self.used == self.buffer.len() {
            self.buffer.clear();
        } else if self.used > 0 {
            self.buffer.drain(..self.used);
        }
        self.used = 0;
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn fill_more(&mut self) -> Result<()> {
        if self.fill().await? {
            Ok(())
        } else {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }

    /// The next head; `None` where the connection ends before one.
    pub async fn head(&mut self) -> Result<Option<Head>> {
        loop {
            if let Some(end) = self.unread().windows(4).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(self.unread().get(..end).unwrap_or_default()).into_owned();
                self.used += end + 4;
                return Head::parse(text).map(Some);
            }
            if self.unread().len() > HEAD_BYTES_MAX {
                return Err(broken("head too long"));
            }
            let begun = !self.unread().is_empty();
            if !self.fill().await? {
                return if begun {
                    Err(ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(None)
                };
            }
        }
    }

    /// The head of an answer that must come.
    pub async fn answer(&mut self) -> Result<Head> {
        self.head().await?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// Gives the whole body to `take`, piece by piece as it comes.
    pub async fn body(&mut self, head: &Head, mut take: impl FnMut(&[u8])) -> Result<()> {
        match head.length {
            Length::Known(length) => self.exactly(length, &mut take).await,
            Length::Chunked => {
                while self.chunk(&mut take).await? {}
                Ok(())
            }
        }
    }

    /// One chunk of a chunked body. `false`: it was the last.
    pub async fn chunk(&mut self, take: &mut impl FnMut(&[u8])) -> Result<bool> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken("chunk size"))?;
        self.exactly(size, take).await?;
        if self.line().await?.is_empty() {
            Ok(size > 0)
        } else {
            Err(broken("chunk end"))
        }
    }

    async fn exactly(&mut self, mut length: usize, take: &mut impl FnMut(&[u8])) -> Result<()> {
        while length > 0 {
            let at_hand = self.unread().len().min(length);
            if at_hand == 0 {
                self.fill_more().await?;
                continue;
            }
            take(self.unread().get(..at_hand).unwrap_or_default());
            self.used += at_hand;
            length -= at_hand;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.unread().windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(self.unread().get(..end).unwrap_or_default()).into_owned();
                self.used += end + 2;
                return Ok(line);
            }
            if self.unread().len() > HEAD_BYTES_MAX {
                return Err(broken("line too long"));
            }
            self.fill_more().await?;
        }
    }

    /// Waits until the other side closes; what it still sends is thrown away.
    pub async fn closed(&mut self) {
        while self.fill().await.unwrap_or(false) {
            self.used = self.buffer.len();
        }
    }
}
