//! Heads that come again. An agent's client says the same in every head of a conversation, but for the length of its body: a head without
//! these digits is a key under which whoever reads heads finds what it made of an equal one.

use std::ops::Range;

use memchr::memchr_iter;

use crate::framing::{BodyLength, digits};
use crate::head::RequestHead;

const CONTENT_LENGTH: &[u8] = b"content-length:";

/// Puts the head without the digits of its Content-Length into `key`, and returns the length of its body where such a head is
/// [`may_come_again`]. `None`: its length cannot be read here, so it has to be read as a whole.
pub fn key_of(head: &[u8], key: &mut Vec<u8>) -> Option<BodyLength> {
    key.clear();
    let Some(value) = content_length(head) else {
        key.extend_from_slice(head);
        return Some(BodyLength::NONE);
    };
    let length = digits(head.get(value.clone())?)?;
    key.extend_from_slice(head.get(..value.start)?);
    key.extend_from_slice(head.get(value.end..)?);
    Some(BodyLength::Exact(length))
}

/// What was made of this head is right for one of the same key and any length.
pub fn may_come_again(head: &RequestHead) -> bool {
    let is_by_length = matches!(head.body, BodyLength::Exact(_));
    is_by_length && head.fault.is_none()
}

/// The value of the first line of this name, without the space before it. A second one stays in the key, and is a fault.
fn content_length(head: &[u8]) -> Option<Range<usize>> {
    let start = memchr_iter(b'\n', head).map(|end| end + 1).find(|start| {
        let name = head.get(*start..start + CONTENT_LENGTH.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(CONTENT_LENGTH))
    })?;
    let from = start + CONTENT_LENGTH.len();
    let from = from + usize::from(head.get(from) == Some(&b' '));
    let line = head.get(from..)?;
    let length = line.iter().position(|byte| *byte == b'\r')?;
    Some(from..from + length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use bytes::Bytes;

    use super::*;
    use crate::head::request_head;

    fn key(text: &str) -> Option<(String, BodyLength)> {
        let mut key = vec![b'x'];
        let length = key_of(text.as_bytes(), &mut key)?;
        Some((String::from_utf8(key).unwrap(), length))
    }

    #[test]
    fn heads_that_differ_by_their_length_have_one_key() {
        let of = |length: &str| {
            key(&format!(
                "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nX: y\r\n\r\n"
            ))
        };
        let (one, length) = of("12").unwrap();
        assert_eq!(length, BodyLength::Exact(12));
        assert_eq!(of("4096"), Some((one.clone(), BodyLength::Exact(4096))));
        assert_eq!(one, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: \r\nX: y\r\n\r\n");
        for odd in ["", "-1", "1 ", "1,1", "\t1", "99999999999999999999"] {
            assert_eq!(of(odd), None, "{odd:?}");
        }
        let (none, length) = key("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(
            (none.as_str(), length),
            ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", BodyLength::NONE)
        );
    }

    /// Whatever a head says, one with its key that may come again is read as the head itself would be.
    #[test]
    fn what_a_key_gives_is_what_reading_gives() {
        let lines = [
            "Host: a\r\n",
            "content-length: 5\r\n",
            "Content-Length:5\r\n",
            "CONTENT-LENGTH: 05\r\n",
            "Content-Length: 5 \r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "X-Content-Length: 7\r\n",
            "X: Content-Length: 7\r\n",
            "Content-Length: 5\n",
        ];
        let mut known: Vec<(Vec<u8>, RequestHead)> = Vec::new();
        let mut found = 0;
        for first in lines {
            for second in lines {
                for third in lines {
                    for digits in ["5", "31"] {
                        let text = format!("POST / HTTP/1.1\r\n{first}{second}{third}\r\n")
                            .replace(": 5", &format!(": {digits}"));
                        let bytes = Bytes::from(text.clone());
                        let mut key = Vec::new();
                        let length = key_of(&bytes, &mut key);
                        let read = request_head(&bytes);
                        let again = known.iter().find(|(other, _)| *other == key).zip(length);
                        if let Some(((_, head), length)) = again {
                            let read = read.as_ref().unwrap();
                            assert_eq!((length, head.fault), (read.body, read.fault), "{text:?}");
                            assert_eq!(format!("{:?}", head.header), format!("{:?}", read.header), "{text:?}");
                            assert_eq!(head.keep_alive, read.keep_alive);
                            found += 1;
                        }
                        if let (Ok(head), Some(_)) = (read, length)
                            && may_come_again(&head)
                            && again.is_none()
                        {
                            known.push((key, head));
                        }
                    }
                }
            }
        }
        assert!(found > 20 && known.len() > 20, "{found} {}", known.len());
    }
}
