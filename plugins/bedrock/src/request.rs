//! Reads requests. The model stands in the path; what limits the output stands where the model's own dialect has it.

use agentledger_guest::fields::{COUNT_MAX, Field, bears, count, limit as limit_of, parse, text};
use agentledger_guest::{CacheWrites, Call, EditPoint, Problem, Request, problem};
use serde::Deserialize;

use crate::info::{
    CACHE_POINTS, CONVERSE, CONVERSE_STREAM, DOCUMENT, DOCUMENTS_MAX, INVOKE_STREAM, LATENCY_HEADER, ONE_HOUR,
    PLAIN_TEXT, TIER_HEADER,
};
use crate::model;

/// Candidates or images that one request may ask for.
const CHOICES_MAX: u64 = 1_024;
const CONVERSE_LIMIT: &str = "inferenceConfig.maxTokens";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "inferenceConfig")]
    inference_config: Option<InferenceConfig<'a>>,
    #[serde(borrow, default, rename = "serviceTier")]
    service_tier: Option<ServiceTier<'a>>,
    #[serde(borrow, default, rename = "performanceConfig")]
    performance_config: Option<PerformanceConfig<'a>>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_completion_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_tokens_to_sample: Field<'a>,
    #[serde(borrow, default)]
    max_gen_len: Field<'a>,
    #[serde(borrow, default, rename = "maxTokens")]
    max_tokens_ai21: Field<'a>,
    #[serde(borrow, default, rename = "textGenerationConfig")]
    text_generation_config: Option<TextGenerationConfig<'a>>,
    #[serde(borrow, default)]
    num_generations: Field<'a>,
    #[serde(borrow, default, rename = "numResults")]
    num_results: Field<'a>,
    #[serde(borrow, default, rename = "imageGenerationConfig")]
    image_generation_config: Option<ImageGenerationConfig<'a>>,
    #[serde(borrow, default)]
    documents: Option<Vec<Field<'a>>>,
}

#[derive(Deserialize)]
struct InferenceConfig<'a> {
    #[serde(borrow, default, rename = "maxTokens")]
    max_tokens: Field<'a>,
}

#[derive(Deserialize)]
struct ServiceTier<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Field<'a>,
}

#[derive(Deserialize)]
struct PerformanceConfig<'a> {
    #[serde(borrow, default)]
    latency: Field<'a>,
}

#[derive(Deserialize)]
struct TextGenerationConfig<'a> {
    #[serde(borrow, default, rename = "maxTokenCount")]
    max_token_count: Field<'a>,
}

#[derive(Deserialize)]
struct ImageGenerationConfig<'a> {
    #[serde(borrow, default, rename = "numberOfImages")]
    number_of_images: Field<'a>,
}

pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let named = request.path_model.as_deref().unwrap_or_default();
    let model = model::of_path(named);
    if model.trim().is_empty() || model.chars().any(char::is_control) {
        return Err(problem("invalid_value", "the path must name a model", "modelId"));
    }
    let body: Body<'_> = parse(&request.outline)?;
    let converse = matches!(request.operation.as_str(), CONVERSE | CONVERSE_STREAM);
    let (limit, max_output) = if converse {
        let max = body.inference_config.as_ref().and_then(|config| config.max_tokens);
        (Some(CONVERSE_LIMIT), limit_of(max, CONVERSE_LIMIT)?)
    } else {
        invoke_limit(&body, model)?
    };
    if model::ranks(model) && body.documents.as_ref().is_some_and(|list| list.len() > DOCUMENTS_MAX) {
        let most = format!(
            "'documents' may have at most {DOCUMENTS_MAX} items: more are billed as several queries, which no answer tells"
        );
        return Err(problem("invalid_value", most, "documents"));
    }
    let has = |marker: &str| bears(request, marker);
    Ok(Call {
        any_model: model::is_chosen_elsewhere(named),
        stream: matches!(request.operation.as_str(), CONVERSE_STREAM | INVOKE_STREAM),
        max_output,
        choices: choices(&body)?,
        service_tier: tier(request, &body)?,
        edits: limit
            .map(|path| EditPoint::MaxOutput(path.to_owned()))
            .into_iter()
            .collect(),
        cache_writes: match CACHE_POINTS.into_iter().any(has) {
            true if has(ONE_HOUR) => CacheWrites::OneHour,
            true => CacheWrites::FiveMinutes,
            false => CacheWrites::None,
        },
        // A document's text is a token for four bytes; a scanned page is a few thousand tokens for some 100 KB.
        media_bytes_per_token: has(DOCUMENT).then(|| if has(PLAIN_TEXT) { 4 } else { 60 }),
        ..agentledger_guest::call(model.to_owned())
    })
}

/// Where the body limits its output, and the limit. Of several the largest counts, so that a hold is never too small.
fn invoke_limit(body: &Body<'_>, model: &str) -> Result<(Option<&'static str>, Option<u64>), Problem> {
    if model::gives_no_text(model) {
        return Ok((None, Some(0)));
    }
    let nested = body.inference_config.as_ref().and_then(|config| config.max_tokens);
    let titan = body
        .text_generation_config
        .as_ref()
        .and_then(|config| config.max_token_count);
    let places = [
        (CONVERSE_LIMIT, nested),
        ("textGenerationConfig.maxTokenCount", titan),
        ("max_tokens", body.max_tokens),
        ("max_completion_tokens", body.max_completion_tokens),
        ("max_tokens_to_sample", body.max_tokens_to_sample),
        ("max_gen_len", body.max_gen_len),
        ("maxTokens", body.max_tokens_ai21),
    ];
    let mut found: Option<(&'static str, u64)> = None;
    let mut nothing = false;
    for (path, field) in places {
        let max = count(field, path, 0, COUNT_MAX)?;
        nothing |= max == Some(0);
        if let Some(max) = max
            && found.is_none_or(|(_, known)| max > known)
        {
            found = Some((path, max));
        }
    }
    Ok(match found {
        // A limit of 0 may be read as none.
        Some((path, max)) => (Some(path), Some(max).filter(|_| !nothing)),
        None => (model::output_limit(model), None),
    })
}

fn choices(body: &Body<'_>) -> Result<u32, Problem> {
    let images = body
        .image_generation_config
        .as_ref()
        .and_then(|config| config.number_of_images);
    let mut choices = 1;
    for (param, field) in [
        ("num_generations", body.num_generations),
        ("numResults", body.num_results),
        ("imageGenerationConfig.numberOfImages", images),
    ] {
        choices = choices.max(count(field, param, 1, CHOICES_MAX)?.unwrap_or(1));
    }
    Ok(u32::try_from(choices).unwrap_or(u32::MAX))
}

/// Converse names the tier in its body, an invocation in a header. Optimized latency has its own prices, as a tier has.
fn tier(request: &Request, body: &Body<'_>) -> Result<Option<String>, Problem> {
    let header = |name: &str| {
        let found = request.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let latency = body.performance_config.as_ref().and_then(|config| config.latency);
    let latency = text(latency, "performanceConfig.latency")?.or_else(|| header(LATENCY_HEADER));
    let tier = text(
        body.service_tier.as_ref().and_then(|tier| tier.kind),
        "serviceTier.type",
    )?;
    Ok(latency
        .filter(|latency| latency == "optimized")
        .or(tier)
        .or_else(|| header(TIER_HEADER)))
}
