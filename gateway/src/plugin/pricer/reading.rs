//! What an answer to a tool call says of its price: one pass over the JSON-RPC message, as it arrives or whole.

use super::contract::{Tariff, ToolEnding};
use crate::estimate_reason;
use crate::plugin::dialect::Want;
use crate::plugin::outline::{Arriving, Bounds, Outline, Shape, ShapeError};

/// Where an MCP result says of itself that the tool failed.
const IS_ERROR: &str = "isError";
const RESULT: &str = "result";
const ERROR: &str = "error";

/// What is read of answers under one tariff.
pub(super) struct AnswerShape {
    shape: Shape,
    /// The place of [`IS_ERROR`] among the wants.
    is_error: usize,
}

impl AnswerShape {
    pub fn of(tariff: &Tariff) -> Result<AnswerShape, ShapeError> {
        let in_result = |path: &String| format!("{RESULT}.{path}");
        let mut wants: Vec<Want> = tariff
            .result_paths
            .iter()
            .map(|want| Want {
                path: in_result(&want.path),
                ..*want
            })
            .collect();
        let own = in_result(&IS_ERROR.to_owned());
        let is_error = wants.iter().position(|want| want.path == own).unwrap_or(wants.len());
        if is_error == wants.len() {
            // Found, and never shown to a plugin that did not ask.
            wants.push(Want {
                path: own,
                max_bytes: 0,
                max_items: 0,
            });
        }
        let counts: Vec<String> = [RESULT.to_owned(), ERROR.to_owned()]
            .into_iter()
            .chain(tariff.result_counts.iter().map(in_result))
            .collect();
        let shape = Shape::compile_named(&wants, &[], &[])?
            .with_counts(&counts)?
            .with_measured(RESULT)?;
        Ok(AnswerShape { shape, is_error })
    }

    pub fn begin(&self, bounds: Bounds) -> Arriving {
        Arriving::new(&self.shape, bounds)
    }

    pub fn push(&self, arriving: &mut Arriving, bytes: &[u8]) -> usize {
        arriving.push(&self.shape, bytes)
    }

    /// What a result says that stands by itself.
    pub fn of_result(&self, result: &[u8], bounds: Bounds) -> Result<AnswerRead, &'static str> {
        let mut arriving = self.begin(bounds);
        for part in [&b"{\"result\":"[..], result, b"}"] {
            self.push(&mut arriving, part);
        }
        self.finish(arriving)
    }

    /// What the message says; it is over, or broke off. An error is the reason for an estimate.
    pub fn finish(&self, arriving: Arriving) -> Result<AnswerRead, &'static str> {
        let outline = arriving.finish(&self.shape).ok_or(estimate_reason::UNREADABLE)?;
        let mut counts = outline.counts.clone();
        let own: Vec<bool> = counts.drain(..2.min(counts.len())).map(|count| count > 0).collect();
        let ending = match own.as_slice() {
            [true, false] if self.says_error(&outline) => ToolEnding::ToolError,
            [true, false] => ToolEnding::Success,
            [false, true] => ToolEnding::ProtocolError,
            [true, true] => return Err(estimate_reason::CONTRADICTORY_USAGE),
            _ if outline.flaws.unfinished => return Err(estimate_reason::INCOMPLETE),
            _ => return Err(estimate_reason::UNREADABLE),
        };
        let flaws = outline.flaws;
        let doubt = if flaws.unfinished {
            Some(estimate_reason::INCOMPLETE)
        } else if flaws.contradictory {
            Some(estimate_reason::CONTRADICTORY_USAGE)
        } else if flaws.patched {
            Some(estimate_reason::UNREADABLE)
        } else {
            None
        };
        Ok(AnswerRead {
            ending,
            result: result_in(&outline.doc).to_owned(),
            result_bytes: outline.measured.unwrap_or_default(),
            result_counts: counts,
            doubt,
        })
    }

    /// What contradicts itself there is no error: errors are free by default.
    fn says_error(&self, outline: &Outline) -> bool {
        let mut spans = outline.spans.iter();
        let said = spans.find(|(want, _)| *want == self.is_error);
        let raw = said.and_then(|(_, span)| outline.raw(&[]).get(span.clone()));
        raw == Some(b"true") && !outline.flaws.contradictory
    }
}

/// What is known of an answer of which nothing but its length was read.
pub(super) fn unread(ending: ToolEnding, bytes: u64, doubt: Option<&'static str>) -> AnswerRead {
    AnswerRead {
        ending,
        result: "{}".to_owned(),
        result_bytes: bytes,
        result_counts: Vec::new(),
        doubt,
    }
}

/// What was read of an answer.
pub(super) struct AnswerRead {
    pub ending: ToolEnding,
    pub result: String,
    pub result_bytes: u64,
    pub result_counts: Vec<u64>,
    /// It was read in spite of a fault: the cost is an estimate.
    pub doubt: Option<&'static str>,
}

/// The outline of a message has its result and nothing else.
fn result_in(doc: &str) -> &str {
    doc.strip_prefix("{\"result\":")
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or("{}")
}
