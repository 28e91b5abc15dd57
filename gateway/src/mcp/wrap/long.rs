//! A request that is not held whole, or cannot be read in one way alone: as much of it as it takes to answer it.

use std::sync::LazyLock;

use serde_json::value::RawValue;

use crate::plugin::Want;
use crate::plugin::outline::{Arriving, Shape};

const DEPTH_MAX: u32 = 128;

static ESSENTIALS: LazyLock<Option<Shape>> = LazyLock::new(|| {
    let want = |(path, max_bytes): (&str, u32)| Want {
        path: path.to_owned(),
        max_bytes,
        max_items: 0,
    };
    Shape::compile_named(&[("id", 512), ("method", 256)].map(want), &[], &[]).ok()
});

/// See the module.
pub struct LongRequest(Option<Arriving>);

#[derive(serde::Deserialize)]
struct Said {
    id: Option<Box<RawValue>>,
    method: Option<String>,
}

impl LongRequest {
    pub fn new() -> LongRequest {
        LongRequest(ESSENTIALS.as_ref().map(|shape| Arriving::new(shape, DEPTH_MAX)))
    }

    pub fn of(line: &[u8]) -> LongRequest {
        let mut request = LongRequest::new();
        request.push(line);
        request
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if let (Some(arriving), Some(shape)) = (&mut self.0, &*ESSENTIALS) {
            arriving.push(shape, bytes);
        }
    }

    /// By which it is answered; `None`: it asks for nothing, as far as it can be read.
    pub fn id(self) -> Option<Box<RawValue>> {
        let outline = self.0?.finish(ESSENTIALS.as_ref()?)?;
        let said: Said = serde_json::from_str(&outline.doc).ok()?;
        said.method?;
        said.id.filter(|id| id.get() != "null")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(line: &str, size: usize) -> Option<String> {
        let mut request = LongRequest::new();
        line.as_bytes().chunks(size).for_each(|part| request.push(part));
        request.id().map(|id| id.get().to_owned())
    }

    #[test]
    fn a_requests_id_is_found_wherever_it_stands() {
        let long = "x".repeat(100_000);
        let line = format!("{{\"params\":{{\"id\":7,\"a\":\"{long}\"}},\"method\":\"tools/call\",\"id\":\"b\"}}\n");
        for size in [1_000, line.len()] {
            assert_eq!(id(&line, size).as_deref(), Some("\"b\""));
        }
        for none in [
            r#"{"method":"m"}"#,
            r#"{"id":1,"result":{}}"#,
            "[]",
            "",
            r#"{"id":null,"method":"m"}"#,
        ] {
            assert_eq!(id(none, 10), None, "{none}");
        }
    }
}
