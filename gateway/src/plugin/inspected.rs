//! What plugins said of requests, remembered by the whole request. Agents send the same outline call after call: of what a plugin is
//! shown nothing changes between two turns but what it counts. A plugin is stateless and imports nothing, so that it would say the same
//! again; asking it takes 40,000 instructions, and code that nothing else runs.
//!
//! Each thread remembers by itself, within [`ROOM`], whatever clients send. A plugin that is loaded again is another one.

use std::cell::RefCell;
use std::rc::Rc;

use super::dialect::{Call, DialectError, EditPoint, ReadingPart, Request};
use super::registry::Plugin;
use crate::recent::{Recent, Room};

/// For each thread and generation.
const ROOM: Room = Room {
    entries: 1_024,
    bytes: 1 << 20,
    entry_bytes: 8 << 10,
};

/// What was asked of which plugin.
#[derive(PartialEq, Eq, Hash)]
struct Asked {
    plugin: u64,
    request: Request,
}

thread_local! {
    static INSPECTED: RefCell<Recent<Asked, Rc<Call>>> = RefCell::new(Recent::new(ROOM));
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    Hit,
    /// The plugin was asked, and its answer is remembered from now on.
    Miss,
    /// It was asked, and failed, or said more than is remembered.
    Unkept,
}

impl Plugin {
    /// See [`super::Dialect::inspect`].
    ///
    /// # Errors
    /// The request is at fault, or the plugin failed; neither is remembered.
    pub fn inspect(&self, request: Request) -> (Result<Call, DialectError>, Recall) {
        let asked = Asked {
            plugin: self.number,
            request,
        };
        // The memory is not held while the plugin runs.
        if let Some(known) = INSPECTED.with_borrow_mut(|inspected| inspected.get(&asked)) {
            return (Ok(Call::clone(&known)), Recall::Hit);
        }
        let said = self.dialect.inspect(&asked.request);
        let is_kept = said.as_ref().is_ok_and(|call| {
            let bytes = size_of_request(&asked.request) + size_of_call(call);
            INSPECTED.with_borrow_mut(|inspected| inspected.put(asked, Rc::new(call.clone()), bytes))
        });
        (said, if is_kept { Recall::Miss } else { Recall::Unkept })
    }
}

fn size_of_texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    let size = |text: &String| size_of::<String>() + text.len();
    texts.into_iter().map(size).sum()
}

fn size_of_request(request: &Request) -> usize {
    let Request {
        method,
        vendor,
        path,
        operation,
        path_model,
        headers,
        outline,
        markers,
        characters,
    } = request;
    let headers = headers.iter().flat_map(|(name, value)| [name, value]);
    let counted = characters.iter().map(|(path, _)| path);
    let texts = [method, vendor, path, operation, outline];
    size_of::<Request>()
        + size_of_texts(
            texts
                .into_iter()
                .chain(path_model)
                .chain(headers)
                .chain(markers)
                .chain(counted),
        )
}

fn size_of_call(call: &Call) -> usize {
    let Call {
        model,
        models,
        service_tier,
        variant,
        edits,
        input_kinds,
        output_kinds,
        units,
        beside,
        // In the call itself.
        any_model: _,
        stream: _,
        max_output: _,
        choices: _,
        cache_writes: _,
        media_bytes_per_token: _,
        continues: _,
        thoughtless: _,
        background: _,
    } = call;
    let edits = edits.iter().map(|edit| match edit {
        EditPoint::Model(path) | EditPoint::MaxOutput(path) | EditPoint::StreamUsage(path) => path,
    });
    let beside = beside.iter().map(|part| {
        let ReadingPart {
            model,
            usage,
            reasoning: _,
        } = part;
        size_of::<ReadingPart>() + size_of_texts(model) + size_of_val(usage.as_slice())
    });
    let texts = std::iter::once(model)
        .chain(models)
        .chain(service_tier)
        .chain(variant)
        .chain(edits);
    size_of::<Call>()
        + size_of_texts(texts)
        + size_of_val(input_kinds.as_slice())
        + size_of_val(output_kinds.as_slice())
        + size_of_val(units.as_slice())
        + beside.sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::dialect::{AnswerFrame, Dialect, DialectRefusal, Ending, Info, Problem, Reading};
    use super::*;

    /// Says how often it was asked as the model; of some requests that they are at fault.
    #[derive(Default)]
    struct Counting {
        info: Info,
        asked: AtomicU64,
    }

    impl Dialect for Counting {
        fn info(&self) -> &Info {
            &self.info
        }

        fn inspect(&self, request: &Request) -> Result<Call, DialectError> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if request.method == "PUT" {
                let (code, message) = (String::new(), asked.to_string());
                return Err(DialectError::Problem(Problem {
                    code,
                    message,
                    param: None,
                }));
            }
            Ok(Call {
                model: asked.to_string(),
                models: vec!["x".repeat(request.outline.len())],
                ..Call::default()
            })
        }

        fn read(&self, _: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
            Ok(None)
        }

        fn terminal(&self, _: &str, _: Ending, _: &str, _: Option<&str>) -> Result<Vec<u8>, DialectError> {
            Ok(Vec::new())
        }

        fn error_body(&self, _: &str, _: &DialectRefusal) -> Result<Vec<u8>, DialectError> {
            Ok(Vec::new())
        }
    }

    fn plugin() -> Plugin {
        Plugin::new(Arc::new(Counting::default()), "test").unwrap()
    }

    fn ask(plugin: &Plugin, request: &Request) -> (String, Recall) {
        let (call, recall) = plugin.inspect(request.clone());
        (call.unwrap().model, recall)
    }

    fn said(asked: u64, recall: Recall) -> (String, Recall) {
        (asked.to_string(), recall)
    }

    #[test]
    fn a_request_that_differs_in_anything_is_another() {
        let plugin = plugin();
        let text = || "x".to_owned();
        let base = Request::default();
        let others: [fn(&mut Request, String); 10] = [
            |request, text| request.method = text,
            |request, text| request.vendor = text,
            |request, text| request.path = text,
            |request, text| request.operation = text,
            |request, text| request.path_model = Some(text),
            |request, text| request.headers = vec![(text.clone(), text)],
            |request, text| request.headers = vec![(text, String::new())],
            |request, text| request.outline = text,
            |request, text| request.markers = vec![text],
            |request, text| request.characters = vec![(text, 1)],
        ];
        assert_eq!(ask(&plugin, &base), said(0, Recall::Miss));
        for (at, change) in (1..).zip(others) {
            let mut request = base.clone();
            change(&mut request, text());
            assert_eq!(ask(&plugin, &request), said(at, Recall::Miss), "{request:?}");
            assert_eq!(ask(&plugin, &request), said(at, Recall::Hit), "{request:?}");
        }
        assert_eq!(ask(&plugin, &base), said(0, Recall::Hit));
    }

    #[test]
    fn another_plugin_is_asked_by_itself() {
        let (one, other) = (plugin(), plugin());
        let request = Request::default();
        assert_eq!(ask(&one, &request), said(0, Recall::Miss));
        assert_eq!(ask(&one, &request), said(0, Recall::Hit));
        assert_eq!(ask(&other, &request), said(0, Recall::Miss), "a reload loads another");
        let elsewhere = std::thread::scope(|threads| threads.spawn(|| ask(&one, &request)).join().unwrap());
        assert_eq!(elsewhere, said(1, Recall::Miss), "each thread by itself");
    }

    #[test]
    fn what_is_at_fault_or_too_large_is_asked_about_again() {
        let plugin = plugin();
        let faulty = Request {
            method: "PUT".to_owned(),
            ..Request::default()
        };
        let large = Request {
            outline: "y".repeat(ROOM.entry_bytes / 2),
            ..Request::default()
        };
        for at in 0..2 {
            let (problem, recall) = plugin.inspect(faulty.clone());
            assert_eq!(problem.unwrap_err().to_string(), (2 * at).to_string());
            assert_eq!(recall, Recall::Unkept);
            assert_eq!(ask(&plugin, &large), said(2 * at + 1, Recall::Unkept));
        }
    }
}
