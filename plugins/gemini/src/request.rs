//! Reads requests. The model stands in the path; one that the body names beside it is held and judged, too.

use agentledger_guest::fields::{COUNT_MAX, Field, bears, count, parse, present, text};
use agentledger_guest::{Call, Count, EditPoint, Kind, Problem, Request, problem};
use serde::Deserialize;

use crate::info::{AUDIO, EMBED, EMBED_BATCH, INTERACTIONS, PREDICT, STREAM, TOOLS_MAX};
use crate::interaction;
use crate::tools::{self, Tool};

/// Candidates of one request; Google allows 8.
const CANDIDATES_MAX: u64 = 128;

/// Other models than the path's that a body may name.
const MODELS_MAX: usize = 16;

/// Images that Imagen makes where none are named: <https://ai.google.dev/gemini-api/docs/imagen#imagen-configuration>
const IMAGES_UNNAMED: u64 = 4;
const IMAGEN: &str = "imagen";

/// Google's parser takes both spellings of a field.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "generationConfig")]
    config: Option<Config<'a>>,
    #[serde(borrow, default)]
    generation_config: Option<Config<'a>>,
    #[serde(borrow, default, rename = "serviceTier")]
    tier: Field<'a>,
    #[serde(borrow, default)]
    service_tier: Field<'a>,
    #[serde(borrow, default)]
    parameters: Option<Parameters<'a>>,
    #[serde(borrow, default, rename = "cachedContent")]
    cached: Field<'a>,
    #[serde(borrow, default)]
    cached_content: Field<'a>,
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    requests: Option<Vec<Option<Single<'a>>>>,
    #[serde(borrow, default)]
    tools: Option<Vec<Option<Tool<'a>>>>,
}

/// One of a batch of embeddings.
#[derive(Deserialize)]
struct Single<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
}

#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow, default, rename = "maxOutputTokens")]
    max_output: Field<'a>,
    #[serde(borrow, default)]
    max_output_tokens: Field<'a>,
    #[serde(borrow, default, rename = "candidateCount")]
    candidates: Field<'a>,
    #[serde(borrow, default)]
    candidate_count: Field<'a>,
    #[serde(borrow, default, rename = "responseModalities")]
    modalities: Field<'a>,
    #[serde(borrow, default)]
    response_modalities: Field<'a>,
}

#[derive(Deserialize)]
struct Parameters<'a> {
    #[serde(borrow, default, rename = "sampleCount")]
    samples: Field<'a>,
}

pub fn inspect(request: &Request) -> Result<Call, Problem> {
    if request.operation == INTERACTIONS {
        return interaction::inspect(request);
    }
    let body: Body<'_> = parse(&request.outline)?;
    let named = request.path_model.as_deref().unwrap_or_default();
    if named.trim().is_empty() || named.chars().any(char::is_control) {
        return Err(problem("invalid_value", "the path must name a model", "model"));
    }
    let mut call = Call {
        stream: request.operation == STREAM,
        models: others(&body, named)?,
        service_tier: tier(&body, request)?,
        continues: present(body.cached).or(present(body.cached_content)).is_some(),
        ..agentledger_guest::call(named.to_owned())
    };
    match request.operation.as_str() {
        EMBED | EMBED_BATCH => call.max_output = Some(0),
        PREDICT => {
            let samples = body.parameters.and_then(|parameters| parameters.samples);
            call.max_output = Some(0);
            call.choices = choices(samples, "parameters.sampleCount")?;
            let images = match present(samples) {
                Some(_) => u64::from(call.choices),
                None if call.model.starts_with(IMAGEN) => IMAGES_UNNAMED,
                // An embedding.
                None => 0,
            };
            if images > 0 {
                call.units.push(Count {
                    kind: Kind::Image,
                    units: images,
                });
            }
        }
        _ => {
            let (at, limit, candidates) = limits(&body)?;
            call.max_output = limit;
            call.choices = candidates;
            if bears(request, AUDIO) {
                call.input_kinds.push(Kind::AudioInput);
            }
            call.output_kinds = media_out(&body);
            call.edits.push(EditPoint::MaxOutput(at));
            tools::add(&mut call, body.tools.as_deref().unwrap_or_default())?;
        }
    }
    Ok(call)
}

/// Models that the body names and the path does not.
fn others(body: &Body<'_>, named: &str) -> Result<Vec<String>, Problem> {
    let singles = body.requests.as_deref().unwrap_or_default();
    if singles.len() > TOOLS_MAX {
        let most = format!("'requests' may have at most {TOOLS_MAX} items");
        return Err(problem("invalid_value", most, "requests"));
    }
    let mut others: Vec<String> = vec![];
    let fields = singles.iter().flatten().map(|single| single.model);
    for field in std::iter::once(body.model).chain(fields) {
        let Some(given) = text(field, "model")? else { continue };
        let bare = given.rsplit('/').next().unwrap_or_default().to_owned();
        if !bare.is_empty() && bare != named && !others.contains(&bare) {
            others.push(bare);
        }
    }
    if others.len() > MODELS_MAX {
        return Err(problem("invalid_value", "'requests' names too many models", "requests"));
    }
    Ok(others)
}

/// Where the output's limit stands, the limit, and the number of candidates. Where a field is there in several spellings the
/// largest counts, so that a hold is never too small.
fn limits(body: &Body<'_>) -> Result<(String, Option<u64>, u32), Problem> {
    let mut found: Option<(String, u64)> = None;
    let (mut candidates, mut nothing) = (1, false);
    // Where a limit may be put in: the object that is there.
    let mut vacant = "generationConfig.maxOutputTokens";
    for (config, own) in [
        ("generation_config", &body.generation_config),
        ("generationConfig", &body.config),
    ] {
        let Some(own) = own else { continue };
        vacant = if config == "generationConfig" {
            "generationConfig.maxOutputTokens"
        } else {
            "generation_config.max_output_tokens"
        };
        for (name, field) in [
            ("max_output_tokens", own.max_output_tokens),
            ("maxOutputTokens", own.max_output),
        ] {
            let path = format!("{config}.{name}");
            let limit = count(field, &path, 0, COUNT_MAX)?;
            nothing |= limit == Some(0);
            if let Some(limit) = limit
                && found.as_ref().is_none_or(|(_, larger)| limit >= *larger)
            {
                found = Some((path, limit));
            }
        }
        for (name, field) in [
            ("candidate_count", own.candidate_count),
            ("candidateCount", own.candidates),
        ] {
            candidates = candidates.max(choices(field, &format!("{config}.{name}"))?);
        }
    }
    Ok(match found {
        // A limit of 0 may be read as none.
        Some((path, limit)) => (path, Some(limit).filter(|_| !nothing), candidates),
        None => (vacant.to_owned(), None, candidates),
    })
}

/// What may be put out beside text, each at a price of its own where the model has one: models that draw or speak do so unless
/// they are told to write. <https://ai.google.dev/api/generate-content#v1beta.GenerationConfig>
fn media_out(body: &Body<'_>) -> Vec<Kind> {
    let configs = [&body.config, &body.generation_config];
    let named = configs
        .into_iter()
        .flatten()
        .find_map(|config| present(config.modalities).or(present(config.response_modalities)));
    media_named(named)
}

/// The media that a list of modalities names; without a list all that a model may put out.
pub fn media_named(list: Field<'_>) -> Vec<Kind> {
    let asked = |what: &str| list.is_none_or(|list| list.get().to_ascii_uppercase().contains(what));
    let kinds = [("AUDIO", Kind::AudioOutput), ("IMAGE", Kind::ImageOutput)];
    kinds
        .into_iter()
        .filter(|(what, _)| asked(what))
        .map(|(_, kind)| kind)
        .collect()
}

fn choices(field: Field<'_>, param: &str) -> Result<u32, Problem> {
    let asked = count(field, param, 1, CANDIDATES_MAX)?.unwrap_or(1);
    Ok(u32::try_from(asked).unwrap_or(u32::MAX))
}

/// Gemini's API takes the tier in the body, Vertex AI in a header.
/// <https://ai.google.dev/gemini-api/docs/flex-inference>,
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/flex-paygo>
fn tier(body: &Body<'_>, request: &Request) -> Result<Option<String>, Problem> {
    let named = text(body.tier, "serviceTier")?.or(text(body.service_tier, "service_tier")?);
    let header = request
        .headers
        .iter()
        .find(|(name, _)| name == "x-vertex-ai-llm-shared-request-type")
        .map(|(_, value)| value.clone());
    Ok(named.or(header).map(|tier| crate::tier_name(&tier)))
}
