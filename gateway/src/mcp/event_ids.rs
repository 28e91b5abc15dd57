//! Whether a stream's events have ids: then what it did not bring can be fetched by `Last-Event-ID`, on another stream.

/// Reads a stream at any split. An id without a value is none.
#[derive(Debug, Default)]
pub struct EventIds {
    /// The beginning of the line at hand, as far as it matters.
    line: Vec<u8>,
    /// The rest of the line does not.
    is_decided: bool,
    told: bool,
}

const FIELD: &[u8] = b"id:";

impl EventIds {
    pub fn push(&mut self, chunk: &[u8]) {
        if self.told {
            return;
        }
        for byte in chunk {
            match byte {
                b'\n' | b'\r' => {
                    self.line.clear();
                    self.is_decided = false;
                }
                _ if self.is_decided => {}
                b' ' if self.line == FIELD => {}
                _ => {
                    self.line.push(*byte);
                    self.told |= self.line.len() > FIELD.len() && self.line.starts_with(FIELD);
                    let is_like = FIELD.starts_with(&self.line) || self.line.starts_with(FIELD);
                    self.is_decided = !is_like || self.told;
                }
            }
        }
    }

    pub fn are_told(&self) -> bool {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stream: &[u8]) -> bool {
        let whole = |stream: &[u8]| {
            let mut ids = EventIds::default();
            ids.push(stream);
            ids.are_told()
        };
        let mut split = EventIds::default();
        stream.chunks(1).for_each(|byte| split.push(byte));
        assert_eq!(whole(stream), split.are_told());
        whole(stream)
    }

    #[test]
    fn ids_are_seen_at_the_beginning_of_a_line_alone() {
        assert!(told(b"id: 7\ndata: x\n\n") && told(b": c\r\nid:7\r\n") && told(b"event: a\rid: 7\r"));
        assert!(
            !told(b"data: id: 7\n\n") && !told(b"id\n\n") && !told(b"id: \n\n") && !told(b"idx: 7\n") && !told(b"")
        );
    }
}
