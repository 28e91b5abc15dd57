//! One dialect made ready for metering: its paths and markers, compiled once.

use std::sync::Arc;

use memchr::memmem::Finder;

use super::ids::readable;
use crate::plugin::outline::{Arriving, Outline, OutlineError, Shape, ShapeError, lenient, outline};
use crate::plugin::{AnswerFrame, Dialect, DialectError, HEADERS, PlanError, Plans, Progress, ProgressPart, Reading};

/// Why answers of a dialect cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// What a frame says, and who read it.
pub(super) struct Said {
    pub reading: Result<Option<Reading>, DialectError>,
    pub by_plan: bool,
}

/// What every meter of one dialect shares.
pub struct AnswerReader {
    dialect: Arc<dyn Dialect>,
    /// What it says of common frames, without a call.
    plans: Plans,
    shape: Shape,
    markers: Vec<Finder<'static>>,
    end_markers: Vec<Finder<'static>>,
    events: Vec<String>,
    /// Which of the wants are a response's id, in the order in which they count.
    response_ids: Vec<usize>,
    depth_max: u32,
    read_all: bool,
    each_whole: bool,
}

impl AnswerReader {
    /// `depth_max`: deepest nesting of an answer's JSON.
    pub fn new(dialect: Arc<dyn Dialect>, depth_max: u32) -> Result<AnswerReader, ReaderError> {
        let info = dialect.info();
        let wants = info.answer_wants();
        let calls = info.answer_calls.iter().map(|path| Progress {
            path: path.clone(),
            part: ProgressPart::ToolCall,
        });
        let calls: Vec<Progress> = calls.collect();
        let shape = Shape::compile(&wants, &[], &info.text_paths)?.with_progress(&calls)?;
        let named = |path: &String| wants.iter().position(|want| want.path == *path);
        let response_ids = info.response_id_paths.iter().filter_map(named).collect();
        let finders = |markers: &[String]| -> Vec<Finder<'static>> {
            let finder = |marker: &String| Finder::new(marker.as_bytes()).into_owned();
            markers.iter().map(finder).collect()
        };
        let markers = finders(&info.markers);
        let end_markers = finders(&info.end_markers);
        let events = info.events.clone();
        let plans = Plans::compile(info)?;
        Ok(AnswerReader {
            dialect,
            plans,
            shape,
            markers,
            end_markers,
            events,
            response_ids,
            depth_max,
            read_all: false,
            each_whole: false,
        })
    }

    /// Gives every frame to the plugin, marked or not: what marked reading is compared with.
    #[must_use]
    pub fn reading_all(mut self) -> AnswerReader {
        self.read_all = true;
        self
    }

    /// Outlines every event by itself: what reading by the last one is compared with.
    #[cfg(test)]
    #[must_use]
    pub fn each_whole(mut self) -> AnswerReader {
        self.each_whole = true;
        self
    }

    pub(super) const fn is_each_read_whole(&self) -> bool {
        self.each_whole
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

    /// After this frame only usage is still to come.
    pub(super) fn ends(&self, data: &[u8]) -> bool {
        self.end_markers.iter().any(|marker| marker.find(data).is_some())
    }

    /// The frame may bear usage.
    pub(super) fn marks(&self, event: Option<&str>, data: &[u8]) -> bool {
        self.read_all
            || event.is_some_and(|event| self.events.iter().any(|name| name == event))
            || self.markers.iter().any(|marker| marker.find(data).is_some())
    }

    /// The outline of an answer or of one of its frames, which may have flaws. An error: it has no outline at all.
    pub fn outline(&self, json: &[u8]) -> Result<Outline, OutlineError> {
        self.outline_strictly(json)
            .or_else(|error| lenient(json, &self.shape, self.depth_max).ok_or(error))
    }

    pub(super) fn outline_strictly(&self, json: &[u8]) -> Result<Outline, OutlineError> {
        outline(json, &self.shape, self.depth_max)
    }

    /// The outline of an answer, or of a frame, that is read as it passes.
    pub(super) fn arriving(&self) -> Arriving {
        Arriving::new(&self.shape, self.depth_max)
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The id by which an answer, or one of its frames, names itself: a look at where the outline's values stand, no parsing.
    pub(super) fn response_id(&self, json: &[u8], outline: &Outline) -> Option<String> {
        self.response_ids.iter().find_map(|want| {
            let (_, span) = outline.spans.iter().find(|(index, _)| index == want)?;
            let text = std::str::from_utf8(outline.raw(json).get(span.clone())?).ok()?;
            let id = text.strip_prefix('"')?.strip_suffix('"')?;
            readable(id).filter(|id| !id.contains('\\')).map(str::to_owned)
        })
    }

    /// The id that the provider gave the request, from its answer's headers. `header` finds one by its name in lower case.
    pub fn request_id<'h>(&self, header: impl Fn(&str) -> Option<&'h str>) -> Option<&'h str> {
        let mut names = self.dialect.info().request_id_headers.iter();
        names.find_map(|name| readable(header(name)?.trim()))
    }

    /// Reads a frame by its plan, where it has one that is certain, and by a call into the plugin everywhere else. `strict`: its
    /// outline is of a document as JSON has them, which leaves nothing to interpret.
    pub(super) fn read(&self, frame: &AnswerFrame<'_>, strict: bool) -> Said {
        #[cfg(test)]
        super::plan_tests::note(frame);
        let planned = if strict { self.plans.read(frame) } else { None };
        match planned {
            Some(reading) => {
                let reading = Some(reading).filter(|reading| *reading != Reading::default());
                #[cfg(test)]
                self.compare(frame, reading.as_ref());
                Said {
                    reading: Ok(reading),
                    by_plan: true,
                }
            }
            None => Said {
                reading: self.dialect.read(frame),
                by_plan: false,
            },
        }
    }

    /// A plan that says another thing than its plugin is wrong, whichever test finds it.
    #[cfg(test)]
    fn compare(&self, frame: &AnswerFrame<'_>, planned: Option<&Reading>) {
        let called = self.dialect.read(frame).ok().flatten();
        assert_eq!(planned, called.as_ref(), "the plan and the plugin differ on {frame:?}");
    }
}
