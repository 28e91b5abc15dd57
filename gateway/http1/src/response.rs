//! The head of an answer: its status, and its fields in the order in which they came.
//!
//! A head is read, looked into for a handful of names, and written again within microseconds: so a field is a place in the bytes that
//! were read, found by looking through the list. A map would hash every name, keep a counted reference for every value, and be copied
//! on the way; an answer has some fifteen fields.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;

/// The head of an answer, in either protocol. Names are found whatever their case.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    /// What was read, for the fields that stand in it.
    bytes: Bytes,
    fields: Vec<(Text, Text)>,
}

/// A name or a value.
#[derive(Clone, Debug)]
enum Text {
    /// From where to where in the bytes that were read.
    Read(u32, u32),
    Said(Box<[u8]>),
}

impl Text {
    fn of<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Read(start, end) => bytes.get(*start as usize..*end as usize).unwrap_or_default(),
            Text::Said(said) => said,
        }
    }
}

/// What cannot stand in a head: it would be read as something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name or a value that no header can have")]
pub struct BadField;

impl ResponseHead {
    pub fn new(status: StatusCode) -> ResponseHead {
        ResponseHead {
            status,
            bytes: Bytes::new(),
            fields: Vec::new(),
        }
    }

    /// Of these bytes, with room for so many fields.
    pub(crate) fn read(status: StatusCode, bytes: Bytes, fields: usize) -> ResponseHead {
        ResponseHead {
            status,
            bytes,
            fields: Vec::with_capacity(fields + 4),
        }
    }

    /// Adds a field that a parser found in the bytes. `false`: it does not stand in them.
    pub(crate) fn found(&mut self, name: &[u8], value: &[u8]) -> bool {
        let (Some(name), Some(value)) = (self.place(name), self.place(value)) else {
            return false;
        };
        self.fields.push((name, value));
        true
    }

    fn place(&self, part: &[u8]) -> Option<Text> {
        if part.is_empty() {
            return Some(Text::Read(0, 0));
        }
        let start = (part.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize)?;
        let end = start.checked_add(part.len()).filter(|end| *end <= self.bytes.len())?;
        Some(Text::Read(u32::try_from(start).ok()?, u32::try_from(end).ok()?))
    }

    /// All fields, in order; names as they were written.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let fields = self.fields.iter();
        fields.map(|(name, value)| (name.of(&self.bytes), value.of(&self.bytes)))
    }

    /// The values of a name, in order.
    pub fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &[u8]> {
        let is_it = move |known: &Text| known.of(&self.bytes).eq_ignore_ascii_case(name.as_bytes());
        let found = self.fields.iter().filter(move |(known, _)| is_it(known));
        found.map(|(_, value)| value.of(&self.bytes))
    }

    /// The first value of a name, where it is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.values(name).next()?).ok()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Adds a field behind the others.
    ///
    /// # Errors
    /// It cannot stand in a head.
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), BadField> {
        let is_name = !name.is_empty() && name.bytes().all(is_of_name);
        if !is_name || !value.bytes().all(is_of_value) {
            return Err(BadField);
        }
        let said = |text: &str| Text::Said(text.as_bytes().into());
        self.fields.push((said(name), said(value)));
        Ok(())
    }

    /// Puts a field in the place of all of its name.
    ///
    /// # Errors
    /// It cannot stand in a head: then all is as it was.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), BadField> {
        let before = self.fields.len();
        self.append(name, value)?;
        let mut at = 0;
        let (bytes, fields) = (&self.bytes, &mut self.fields);
        fields.retain(|(known, _)| {
            at += 1;
            at > before || !known.of(bytes).eq_ignore_ascii_case(name.as_bytes())
        });
        Ok(())
    }

    pub fn remove(&mut self, name: &str) {
        self.keep(|known| !known.eq_ignore_ascii_case(name.as_bytes()));
    }

    /// Keeps the fields whose names are wanted.
    pub fn keep(&mut self, mut is_wanted: impl FnMut(&[u8]) -> bool) {
        let (bytes, fields) = (&self.bytes, &mut self.fields);
        fields.retain(|(name, _)| is_wanted(name.of(bytes)));
    }
}

/// RFC 9110 §5.6.2.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §5.5: visible, or a space or a tab; bytes beyond ASCII are opaque.
fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Of h2, and of what is made with pingora's or hyper's maps.
impl From<(StatusCode, &HeaderMap)> for ResponseHead {
    fn from((status, map): (StatusCode, &HeaderMap)) -> ResponseHead {
        let mut head = ResponseHead::read(status, Bytes::new(), map.len());
        let fields = map.iter().map(|(name, value)| {
            let said = |text: &[u8]| Text::Said(text.into());
            (said(name.as_str().as_bytes()), said(value.as_bytes()))
        });
        head.fields.extend(fields);
        head
    }
}

/// For h2.
impl TryFrom<&ResponseHead> for ResponseHeader {
    type Error = BadField;

    fn try_from(head: &ResponseHead) -> Result<ResponseHeader, BadField> {
        let mut header = ResponseHeader::build(head.status, Some(head.fields.len())).map_err(|_| BadField)?;
        for (name, value) in head.fields() {
            let name = http::HeaderName::from_bytes(name).map_err(|_| BadField)?;
            header.append_header(name, value).map_err(|_| BadField)?;
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn said(head: &ResponseHead) -> Vec<String> {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        head.fields()
            .map(|(name, value)| format!("{}: {}", text(name), text(value)))
            .collect()
    }

    fn read(text: &'static str) -> ResponseHead {
        let bytes = Bytes::from_static(text.as_bytes());
        let mut head = ResponseHead::read(StatusCode::OK, bytes.clone(), 2);
        for line in bytes.split(|byte| *byte == b'\n') {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            assert!(head.found(&line[..colon], &line[colon + 1..]));
        }
        head
    }

    #[test]
    fn fields_are_found_in_any_case_and_keep_their_order() {
        let mut head = read("X-Id:a\nVary:b\nx-id:c\nEmpty:");
        assert_eq!(head.get("x-ID"), Some("a"));
        assert_eq!(head.values("x-id").collect::<Vec<_>>(), [b"a", b"c"]);
        assert_eq!((head.get("empty"), head.get("none")), (Some(""), None));
        head.append("X-More", "d").unwrap();
        head.insert("X-ID", "e").unwrap();
        assert_eq!(said(&head), ["Vary: b", "Empty: ", "X-More: d", "X-ID: e"]);
        head.remove("vary");
        head.keep(|name| name != b"X-More");
        assert_eq!(said(&head), ["Empty: ", "X-ID: e"]);
    }

    #[test]
    fn what_would_be_read_as_another_field_is_refused_and_changes_nothing() {
        let mut head = read("X-Id:a");
        for (name, value) in [
            ("X-Id", "b\r\nX-Other: c"),
            ("X-Id", "b\0"),
            ("X-Id", "\u{7f}"),
            ("X-Id: b\r\nX", "c"),
            ("", "c"),
            ("X Id", "c"),
        ] {
            assert_eq!(head.insert(name, value), Err(BadField), "{name:?}");
            assert_eq!(head.append(name, value), Err(BadField), "{name:?}");
        }
        assert_eq!(said(&head), ["X-Id: a"]);
        assert!(!head.found(b"elsewhere", b"x"), "it is not of the bytes");
    }

    #[test]
    fn a_head_goes_to_h2_and_back() {
        let mut head = read("Set-Cookie:a\nSet-Cookie:b\nX:c");
        head.status = StatusCode::CREATED;
        let header = ResponseHeader::try_from(&head).unwrap();
        assert_eq!(header.headers.get_all("set-cookie").iter().count(), 2);
        let back = ResponseHead::from((header.status, &header.headers));
        assert_eq!((back.status, back.values("set-cookie").count()), (head.status, 2));
        assert_eq!(back.get("x"), Some("c"));
    }
}
