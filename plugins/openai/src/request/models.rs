//! All models that a request names: what may serve it, and what may be billed with it.

use agentledger_guest::fields::{Field, present};
use agentledger_guest::{Problem, Request, problem};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Body;
use crate::info::{AGENT, CONVERSATION, RESPONSES};
use crate::wants::{MODELS_MAX, TOOLS_MAX};

/// Lists of models, and objects that name one, in one entry of `tools` or `plugins`.
#[derive(Deserialize)]
struct Naming<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    models: Field<'a>,
    #[serde(borrow, default)]
    analysis_models: Field<'a>,
    #[serde(borrow, default)]
    allowed_models: Field<'a>,
    #[serde(borrow, default)]
    parameters: Field<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Field<'a>,
}

/// The models beside `model`, in the request's order, each once.
///
/// # Errors
/// A list that is none, a name that is none, or more than [`MODELS_MAX`].
pub fn further(body: &Body<'_>) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    // <https://openrouter.ai/docs/guides/routing/model-fallbacks>, <https://docs.perplexity.ai/docs/agent-api/model-fallback>
    list(body.models, "models", &mut names)?;
    list(body.fallbacks, "fallbacks", &mut names)?;
    if let Some(raw) = present(body.moderation).filter(|raw| raw.get().starts_with('{')) {
        one(naming(raw, "moderation")?.model, "moderation.model", &mut names)?;
    }
    for plugin in entries(body.plugins, "plugins", MODELS_MAX)? {
        let plugin = naming(plugin, "plugins")?;
        of_entry(&plugin, "plugins", &mut names)?;
    }
    for tool in entries(body.tools, "tools", TOOLS_MAX)? {
        let tool = naming(tool, "tools")?;
        // `model` may be any parameter of a function's, but then it stands in the function's schema.
        one(tool.model, "tools.model", &mut names)?;
        let hosted = present(tool.kind).is_some_and(|kind| kind.get().starts_with("\"openrouter:"));
        if let Some(parameters) = present(tool.parameters).filter(|_| hosted) {
            of_entry(&naming(parameters, "tools.parameters")?, "tools.parameters", &mut names)?;
        }
    }
    Ok(names)
}

fn of_entry(entry: &Naming<'_>, param: &str, names: &mut Vec<String>) -> Result<(), Problem> {
    one(entry.model, &format!("{param}.model"), names)?;
    for (field, name) in [
        (entry.models, "models"),
        (entry.analysis_models, "analysis_models"),
        (entry.allowed_models, "allowed_models"),
    ] {
        list(field, &format!("{param}.{name}"), names)?;
    }
    Ok(())
}

/// The elements of an array of at most `max`. What is no array is none of ours: the provider says so.
pub fn entries<'a>(field: Field<'a>, param: &str, max: usize) -> Result<Vec<&'a RawValue>, Problem> {
    let Some(raw) = present(field) else {
        return Ok(Vec::new());
    };
    let found: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| wrong(param, "must be an array"))?;
    if found.len() > max {
        return Err(problem(
            "invalid_value",
            format!("'{param}' has more than {max} elements"),
            param,
        ));
    }
    Ok(found.into_iter().filter(|entry| entry.get().starts_with('{')).collect())
}

fn naming<'a>(raw: &'a RawValue, param: &str) -> Result<Naming<'a>, Problem> {
    if !raw.get().starts_with('{') {
        return Err(wrong(param, "must be an object"));
    }
    serde_json::from_str(raw.get()).map_err(|_| wrong(param, "must be an object"))
}

/// A list of names, or of objects that name one.
fn list(field: Field<'_>, param: &str, names: &mut Vec<String>) -> Result<(), Problem> {
    let Some(raw) = present(field) else { return Ok(()) };
    let elements: Vec<Option<&RawValue>> =
        serde_json::from_str(raw.get()).map_err(|_| wrong(param, "must be an array of names of models"))?;
    if elements.len() > MODELS_MAX {
        return Err(many(param));
    }
    for element in elements {
        // `null` stands where a name was too long to be one.
        let element = element.ok_or_else(|| wrong(param, "must be an array of names of models"))?;
        if element.get().starts_with('{') {
            let named = naming(element, param)?.model;
            if present(named).is_none() {
                return Err(wrong(param, "must be an array of names of models"));
            }
            one(named, param, names)?;
        } else {
            one(Some(element), param, names)?;
        }
    }
    Ok(())
}

fn one(field: Field<'_>, param: &str, names: &mut Vec<String>) -> Result<(), Problem> {
    let Some(raw) = present(field) else { return Ok(()) };
    let name: String = serde_json::from_str(raw.get()).map_err(|_| wrong(param, "must be the name of a model"))?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(problem("invalid_value", format!("'{param}' must name a model"), param));
    }
    if !names.contains(&name) {
        names.push(name);
    }
    if names.len() > MODELS_MAX {
        return Err(many(param));
    }
    Ok(())
}

fn wrong(param: &str, what: &str) -> Problem {
    problem("invalid_type", format!("'{param}' {what}"), param)
}

fn many(param: &str) -> Problem {
    problem(
        "invalid_value",
        format!("a request may name {MODELS_MAX} models"),
        param,
    )
}

/// A stored prompt <https://platform.openai.com/docs/guides/prompting>, a preset, an agent, or a conversation that goes on:
/// what is stored there names the model.
pub fn chosen_elsewhere(body: &Body<'_>, request: &Request) -> bool {
    match request.operation.as_str() {
        RESPONSES => {
            present(body.prompt).is_some_and(|prompt| prompt.get().starts_with('{')) || present(body.preset).is_some()
        }
        AGENT => present(body.agent_id).is_some(),
        CONVERSATION => present(body.agent_id).is_some() || goes_on(request),
        _ => false,
    }
}

/// A conversation that was begun before.
pub fn goes_on(request: &Request) -> bool {
    request.path.trim_end_matches('/').split('/').count() > "/v1/conversations".split('/').count()
}

/// Names that stand for whatever model a router chooses: OpenRouter's own
/// <https://openrouter.ai/docs/guides/routing/routers/auto-router> and its presets, Perplexity's `auto`, Azure's model router
/// <https://learn.microsoft.com/en-us/azure/ai-foundry/openai/concepts/model-router>, Groq's compound systems
/// <https://console.groq.com/docs/compound>.
pub fn is_router(model: &str) -> bool {
    let plain = model.to_ascii_lowercase();
    let last = plain.rsplit('/').next().unwrap_or_default();
    let base = last.split(':').next().unwrap_or_default();
    plain.contains("@preset/")
        || plain.starts_with("openrouter/")
        || plain.starts_with("groq/compound")
        || base == "auto"
        || base.starts_with("model-router")
}
