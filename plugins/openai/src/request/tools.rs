//! What hosted tools that a request names may bill: held beside the answer's own tokens. How often a tool will be called
//! nobody knows beforehand; what it was is read from the answer.

use std::collections::BTreeMap;

use agentledger_guest::fields::{COUNT_MAX, Field, count, present};
use agentledger_guest::{Call, Count, Kind, Part, Problem};
use serde::Deserialize;

use super::{Body, media, models, units};
use crate::answer::IMAGE_TOOL_MODEL;
use crate::wants::{MODELS_MAX, TOOLS_MAX};

/// Calls of one tool that are held, where the request sets no smaller limit.
const CALLS_HELD: u64 = 3;
/// Input tokens of an image tool: its prompt is written by the model.
const IMAGE_PROMPT_TOKENS: u64 = 1_000;
/// xAI's live search takes so many sources unless told otherwise: <https://docs.x.ai/docs/guides/live-search>.
const SOURCES_UNTOLD: u64 = 20;

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Field<'a>,
    #[serde(borrow, default)]
    id: Field<'a>,
    #[serde(borrow, default)]
    enabled: Field<'a>,
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    size: Field<'a>,
    #[serde(borrow, default)]
    quality: Field<'a>,
    #[serde(borrow, default)]
    partial_images: Field<'a>,
    #[serde(borrow, default)]
    container: Field<'a>,
    #[serde(borrow, default)]
    environment: Field<'a>,
}

/// Units by kind of the call's own model.
#[derive(Default)]
struct Held {
    own: BTreeMap<&'static str, Count>,
    images: Vec<Part>,
}

impl Held {
    fn add(&mut self, name: &'static str, kind: Kind, more: u64) {
        let held = self.own.entry(name).or_insert(Count { kind, units: 0 });
        held.units = held.units.saturating_add(more);
    }
}

/// Puts what the request's tools may bill into `call.beside`, and the models of image tools among its models.
pub fn hold(call: &mut Call, body: &Body<'_>, vendor: &str) -> Result<(), Problem> {
    let calls = count(body.max_tool_calls, "max_tool_calls", 0, COUNT_MAX)?;
    let calls = calls.map_or(CALLS_HELD, |most| most.min(CALLS_HELD));
    let mut held = Held::default();
    for raw in models::entries(body.tools, "tools", TOOLS_MAX)? {
        let Ok(tool) = serde_json::from_str::<Tool<'_>>(raw.get()) else {
            continue;
        };
        one(&mut held, &tool, calls, vendor);
    }
    for raw in models::entries(body.plugins, "plugins", MODELS_MAX)? {
        let Ok(plugin) = serde_json::from_str::<Tool<'_>>(raw.get()) else {
            continue;
        };
        let off = present(plugin.enabled).is_some_and(|raw| raw.get() == "false");
        if !off && said(plugin.id) == "web" {
            held.add("web_search", Kind::WebSearch, 1);
        }
    }
    // <https://openrouter.ai/docs/guides/routing/model-variants/online>
    if call.model.ends_with(":online") || call.models.iter().any(|model| model.ends_with(":online")) {
        held.add("web_search", Kind::WebSearch, 1);
    }
    live_search(&mut held, body.search_parameters);
    if call.model.starts_with("groq/compound") {
        held.add("web_search", Kind::WebSearch, calls);
        held.add("code_execution", Kind::CodeExecution, 1);
    }
    let own: Vec<Count> = held.own.into_values().filter(|count| count.units > 0).collect();
    if !own.is_empty() {
        call.beside.push(Part {
            model: None,
            usage: own,
            reasoning: None,
        });
    }
    for part in held.images {
        let named = part.model.clone().unwrap_or_default();
        if !call.models.contains(&named) && call.model != named && call.models.len() < MODELS_MAX {
            call.models.push(named);
        }
        call.beside.push(part);
    }
    Ok(())
}

fn one(held: &mut Held, tool: &Tool<'_>, calls: u64, vendor: &str) {
    let kind = said(tool.kind);
    let plain = kind.strip_prefix("openrouter:").unwrap_or(&kind);
    match plain {
        "image_generation" if vendor == "mistral" => held.add("image", Kind::Image, 1),
        "image_generation" if vendor.is_empty() || matches!(vendor, "openai" | "azure") => {
            held.images.push(image(tool))
        }
        "code_interpreter" | "code_execution" if matches!(vendor, "mistral" | "xai" | "groq") => {
            held.add("code_execution", Kind::CodeExecution, calls);
        }
        "code_interpreter" => held.add("container", Kind::Container, memory(tool.container)),
        "shell" if !is_local(tool.environment) => held.add("container", Kind::Container, memory(tool.environment)),
        "code_execution" | "sandbox" => held.add("code_execution", Kind::CodeExecution, calls),
        "fetch_url" | "web_fetch" | "visit_website" => held.add("web_fetch", Kind::WebFetch, calls),
        "file_search" | "collections_search" | "document_library" => held.add("file_search", Kind::FileSearch, calls),
        "document_search" | "attachment_search" => held.add("attachment", Kind::Attachment, calls),
        "live_search" | "x_search" | "browser_search" | "people_search" | "finance_search" => {
            held.add("web_search", Kind::WebSearch, calls);
        }
        searches if searches.starts_with("web_search") => held.add("web_search", Kind::WebSearch, calls),
        _ => {}
    }
}

/// An image by the tool's size and quality, at the tool's model.
fn image(tool: &Tool<'_>) -> Part {
    let named = said(tool.model);
    let partial = count(tool.partial_images, "partial_images", 0, 16)
        .ok()
        .flatten()
        .unwrap_or(0);
    let tokens = media::image_tokens(&said(tool.size), &said(tool.quality));
    Part {
        model: Some(if named.is_empty() {
            IMAGE_TOOL_MODEL.to_owned()
        } else {
            named
        }),
        usage: vec![
            units(Kind::Input, IMAGE_PROMPT_TOKENS),
            units(
                Kind::ImageOutput,
                tokens.saturating_add(partial * media::PARTIAL_IMAGE_TOKENS),
            ),
        ],
        reasoning: None,
    }
}

/// A session's price grows with its memory, so that it counts as one for each GB:
/// <https://platform.openai.com/docs/pricing#built-in-tools>.
fn memory(place: Field<'_>) -> u64 {
    #[derive(Deserialize)]
    struct Sized<'a> {
        #[serde(borrow, default)]
        memory_limit: Field<'a>,
    }
    let sized = present(place)
        .filter(|raw| raw.get().starts_with('{'))
        .and_then(|raw| serde_json::from_str::<Sized<'_>>(raw.get()).ok());
    match sized.map(|sized| said(sized.memory_limit)).as_deref() {
        Some("4g") => 4,
        Some("16g") => 16,
        Some("64g") => 64,
        _ => 1,
    }
}

fn is_local(environment: Field<'_>) -> bool {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: Field<'a>,
    }
    present(environment)
        .and_then(|raw| serde_json::from_str::<Typed<'_>>(raw.get()).ok())
        .is_some_and(|typed| said(typed.kind) == "local")
}

/// xAI's search parameters: billed by the source.
fn live_search(held: &mut Held, parameters: Field<'_>) {
    #[derive(Deserialize)]
    struct Parameters<'a> {
        #[serde(borrow, default)]
        mode: Field<'a>,
        #[serde(borrow, default)]
        max_search_results: Field<'a>,
    }
    let parameters = present(parameters).filter(|raw| raw.get().starts_with('{'));
    let Some(parameters) = parameters.and_then(|raw| serde_json::from_str::<Parameters<'_>>(raw.get()).ok()) else {
        return;
    };
    if said(parameters.mode) == "off" {
        return;
    }
    let sources = count(parameters.max_search_results, "max_search_results", 1, 1_000)
        .ok()
        .flatten();
    held.add("web_search", Kind::WebSearch, sources.unwrap_or(SOURCES_UNTOLD));
}

/// A string, or nothing.
fn said(field: Field<'_>) -> String {
    present(field)
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}
