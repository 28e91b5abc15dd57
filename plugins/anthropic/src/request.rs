//! Reads requests.

use agentledger_guest::fields::{COUNT_MAX, Field, bears, count, flag, limit, model, models, parse, present, text};
use agentledger_guest::{CacheWrites, Call, EditPoint, Problem, Request, call, problem};
use serde::Deserialize;

use crate::info::{CACHE_CONTROL, DOCUMENT, FALLBACKS_MAX, ONE_HOUR, PLAIN_TEXT};
use crate::tools::{self, Plugin, Tool};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    /// OpenRouter: the models to try, the first in place of `model`.
    #[serde(borrow, default)]
    models: Field<'a>,
    #[serde(borrow, default)]
    fallbacks: Field<'a>,
    /// OpenRouter: settings that are kept there, the model among them.
    #[serde(borrow, default)]
    preset: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    thinking: Option<Thinking<'a>>,
    #[serde(borrow, default)]
    thread: Option<Thread<'a>>,
    #[serde(borrow, default)]
    service_tier: Field<'a>,
    #[serde(borrow, default)]
    speed: Field<'a>,
    #[serde(borrow, default)]
    inference_geo: Field<'a>,
    #[serde(borrow, default)]
    tools: Option<Vec<Option<Tool<'a>>>>,
    #[serde(borrow, default)]
    plugins: Option<Vec<Option<Plugin<'a>>>>,
}

#[derive(Deserialize)]
struct Thinking<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Field<'a>,
}

/// What is kept at the provider and billed as input: the beta `message-threads-2026-08-12`, as Anthropic's SDK for TypeScript 1.14.0
/// sends it.
#[derive(Deserialize)]
struct Thread<'a> {
    #[serde(borrow, default)]
    previous_message_id: Field<'a>,
}

/// Models up to the fourth generation think where they are told to; of later ones that is not known.
/// <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>
const THINK_WHEN_TOLD: [&str; 6] = [
    "claude-3",
    "claude-2",
    "claude-opus-4",
    "claude-sonnet-4",
    "claude-haiku-4",
    "claude-instant",
];

/// Whether a call has none of its models think.
fn thoughtless(call: &Call, thinking: Option<&Thinking<'_>>) -> bool {
    match thinking.and_then(|thinking| text(thinking.kind, "thinking").ok().flatten()) {
        Some(kind) => kind == "disabled",
        None => {
            let told = |model: &String| THINK_WHEN_TOLD.iter().any(|known| model.contains(known));
            !call.any_model && std::iter::once(&call.model).chain(&call.models).all(told)
        }
    }
}

/// One of `fallbacks`: each may have settings of its own.
/// <https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback>
#[derive(Deserialize)]
struct Fallback<'a> {
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    speed: Field<'a>,
}

pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let body: Body<'_> = parse(&request.outline)?;
    let named = named(&body, request)?;
    let own = fallbacks(&body)?;
    let tier = text(body.service_tier, "service_tier")?;
    let geo = text(body.inference_geo, "inference_geo")?;
    let speed = text(body.speed, "speed")?.filter(|speed| speed == "fast");
    let fast = speed.is_some()
        || own
            .iter()
            .any(|one| text(one.speed, "speed").is_ok_and(|it| it.as_deref() == Some("fast")));
    let mut max_output = limit(body.max_tokens, "max_tokens")?;
    for one in &own {
        // What the request itself does not limit, a fallback's own limit does not limit either.
        let more = limit(one.max_tokens, "fallbacks")?;
        max_output = max_output.map(|limit| limit.max(more.unwrap_or(0)));
    }
    let streams_by_path = request.path.ends_with(":streamRawPredict");
    let has = |marker: &str| bears(request, marker);
    let mut call = Call {
        models: named.others,
        any_model: named.any,
        stream: flag(body.stream, "stream")?.unwrap_or(false) || streams_by_path,
        max_output,
        service_tier: priced_tier(tier, fast.then_some("fast"), geo.as_deref()),
        edits: named.edits,
        cache_writes: match has(CACHE_CONTROL) {
            true if has(ONE_HOUR) => CacheWrites::OneHour,
            true => CacheWrites::FiveMinutes,
            false => CacheWrites::None,
        },
        continues: body
            .thread
            .as_ref()
            .is_some_and(|thread| present(thread.previous_message_id).is_some()),
        // A document's text is a token for four bytes; a scanned page is a few thousand tokens for some 100 KB.
        media_bytes_per_token: has(DOCUMENT).then(|| if has(PLAIN_TEXT) { 4 } else { 60 }),
        ..call(named.first)
    };
    tools::add(&mut call, body.tools.as_deref().unwrap_or_default(), &request.vendor)?;
    tools::add_plugins(&mut call, body.plugins.as_deref().unwrap_or_default())?;
    tools::add_suffix(&mut call, &request.vendor);
    let (first, mut seen) = (call.model.clone(), vec![]);
    call.models.retain(|other| {
        let new = *other != first && !seen.contains(other);
        seen.push(other.clone());
        new
    });
    call.thoughtless = thoughtless(&call, body.thinking.as_ref());
    Ok(call)
}

/// The models that the request names, and where.
struct Models {
    first: String,
    others: Vec<String>,
    any: bool,
    edits: Vec<EditPoint>,
}

fn named(body: &Body<'_>, request: &Request) -> Result<Models, Problem> {
    let mut edits = vec![EditPoint::MaxOutput("max_tokens".to_owned())];
    let mut others = models(body.models, "models", FALLBACKS_MAX)?;
    // A word in place of the list: the provider chooses which model takes over.
    let word = present(body.fallbacks).filter(|raw| raw.get().starts_with('"'));
    let any = word.is_some() || present(body.preset).is_some();
    if word.is_none() {
        others.extend(models(body.fallbacks, "fallbacks", FALLBACKS_MAX)?);
    }
    let first = match &request.path_model {
        Some(named) => {
            // What the path names is what is billed; a host that would read another one here is not known.
            let inside = text(body.model, "model")?;
            others.extend(inside.filter(|inside| !inside.is_empty()));
            named.clone()
        }
        None if present(body.model).is_none() && !others.is_empty() => others.remove(0),
        None => {
            edits.push(EditPoint::Model("model".to_owned()));
            model(body.model)?
        }
    };
    Ok(Models {
        first,
        others,
        any,
        edits,
    })
}

fn fallbacks<'a>(body: &Body<'a>) -> Result<Vec<Fallback<'a>>, Problem> {
    let list = present(body.fallbacks).filter(|raw| raw.get().starts_with('['));
    let Some(list) = list else { return Ok(vec![]) };
    let items: Vec<Field<'a>> = serde_json::from_str(list.get())
        .map_err(|_| problem("invalid_type", "'fallbacks' must be a list of models", "fallbacks"))?;
    let objects = items.into_iter().flatten().filter(|item| item.get().starts_with('{'));
    Ok(objects
        .filter_map(|item| serde_json::from_str(item.get()).ok())
        .collect())
}

/// The tier of the price book that an answer is billed at: fast mode has prices of its own, as a tier has, and so has
/// inference that is kept in the US. <https://platform.claude.com/docs/en/build-with-claude/data-residency>
pub fn priced_tier(tier: Option<String>, speed: Option<&str>, geo: Option<&str>) -> Option<String> {
    let tier = if speed == Some("fast") {
        Some("fast".to_owned())
    } else {
        tier
    };
    if geo != Some("us") {
        return tier;
    }
    Some(match tier.as_deref() {
        Some(known @ ("fast" | "batch")) => format!("{known}_us"),
        _ => "us".to_owned(),
    })
}

/// A count of a tool's uses or tokens.
pub fn bounded(field: Field<'_>, param: &str) -> Result<Option<u64>, Problem> {
    let units = count(field, param, 0, COUNT_MAX)?;
    Ok(units.map(|units| units.min(agentledger_guest::usage::UNITS_MAX)))
}
