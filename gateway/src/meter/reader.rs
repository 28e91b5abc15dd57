//! One dialect made ready for metering: its paths and markers, compiled once.

use std::sync::Arc;

use memchr::memmem::Finder;

use crate::plugin::outline::{Outline, OutlineError, Shape, ShapeError, outline};
use crate::plugin::{AnswerFrame, Dialect, DialectError, HEADERS, Reading};

/// What every meter of one dialect shares.
pub struct AnswerReader {
    dialect: Arc<dyn Dialect>,
    shape: Shape,
    markers: Vec<Finder<'static>>,
    events: Vec<String>,
    depth_max: u32,
    read_all: bool,
}

impl AnswerReader {
    /// `depth_max`: deepest nesting of an answer's JSON.
    pub fn new(dialect: Arc<dyn Dialect>, depth_max: u32) -> Result<AnswerReader, ShapeError> {
        let info = dialect.info();
        let shape = Shape::compile(&info.answer_paths, &[], &info.text_paths)?;
        let markers = info
            .markers
            .iter()
            .map(|marker| Finder::new(marker.as_bytes()).into_owned())
            .collect();
        let events = info.events.clone();
        Ok(AnswerReader {
            dialect,
            shape,
            markers,
            events,
            depth_max,
            read_all: false,
        })
    }

    /// Gives every frame to the plugin, marked or not: what marked reading is compared with.
    #[must_use]
    pub fn reading_all(mut self) -> AnswerReader {
        self.read_all = true;
        self
    }

    pub fn dialect(&self) -> &Arc<dyn Dialect> {
        &self.dialect
    }

    /// The member of an outline that holds the wanted headers of an answer; empty where it has none of them.
    pub(super) fn headers_member<'h>(&self, header: impl Fn(&str) -> Option<&'h str>) -> String {
        let wants = &self.dialect.info().answer_paths;
        let found: serde_json::Map<_, _> = wants
            .iter()
            .filter_map(|want| {
                let name = want.path.strip_prefix(HEADERS)?.strip_prefix('.')?;
                let value = header(name).filter(|value| value.len() <= want.max_bytes as usize)?;
                Some((name.to_owned(), value.into()))
            })
            .collect();
        if found.is_empty() {
            return String::new();
        }
        format!("\"{HEADERS}\":{}", serde_json::Value::Object(found))
    }

    /// The frame may bear usage.
    pub(super) fn marks(&self, event: Option<&str>, data: &[u8]) -> bool {
        self.read_all
            || event.is_some_and(|event| self.events.iter().any(|name| name == event))
            || self.markers.iter().any(|marker| marker.find(data).is_some())
    }

    /// The outline of an answer or of one of its frames.
    pub fn outline(&self, json: &[u8]) -> Result<Outline, OutlineError> {
        outline(json, &self.shape, self.depth_max)
    }

    pub(super) fn read(&self, frame: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
        self.dialect.read(frame)
    }
}
