//! A container that nothing is wanted of, passed over with a counter of its depth.

use super::string::next_bracket;

#[derive(Default)]
pub(super) struct Skip {
    depth: u64,
    in_string: bool,
    escaped: bool,
    is_text: bool,
    /// Bytes of its strings, where they are text. Keys too: where text is so deep, its count may be a little high.
    pub(super) text_bytes: u64,
}

impl Skip {
    /// The container has opened. `is_text`: strings in it are text.
    pub(super) fn new(is_text: bool) -> Skip {
        Skip {
            depth: 1,
            is_text,
            ..Skip::default()
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.depth == 0
    }

    /// Takes bytes up to the container's end; how many those are.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let mut pos = 0;
        while let Some(rest) = bytes.get(pos..).filter(|rest| !rest.is_empty()) {
            if self.in_string {
                pos += self.string(rest);
                continue;
            }
            let Some(at) = next_bracket(rest) else {
                return bytes.len();
            };
            pos += at + 1;
            match rest.get(at) {
                Some(b'"') => self.in_string = true,
                Some(b'{' | b'[') => self.depth += 1,
                _ => self.depth -= 1,
            }
            if self.depth == 0 {
                break;
            }
        }
        pos
    }

    fn string(&mut self, rest: &[u8]) -> usize {
        if std::mem::take(&mut self.escaped) {
            return 1;
        }
        let stop = memchr::memchr2(b'"', b'\\', rest);
        let len = stop.unwrap_or(rest.len());
        match stop.and_then(|stop| rest.get(stop)) {
            Some(b'\\') => self.escaped = true,
            Some(_) => self.in_string = false,
            None => {}
        }
        if self.is_text {
            self.text_bytes += len as u64;
        }
        len + usize::from(stop.is_some())
    }
}
