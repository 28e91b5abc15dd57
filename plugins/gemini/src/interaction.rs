//! Interactions: asked for like contents, in the background or not, and fetched under their id.
//! <https://ai.google.dev/api/interactions-api>

use agentledger_guest::answer::{Contradiction, Raw, parse, report, said, text, there, thought_inside, used};
use agentledger_guest::fields::{Field, flag, limit, model, parse as fields_of, present};
use agentledger_guest::usage::may_bill;
use agentledger_guest::{AnswerFrame, Call, EditPoint, Kind, Part, Problem, Reading, Request};
use serde::Deserialize;

use crate::grounding;
use crate::request::media_named;
use crate::tools::{self, Tool};
use crate::usage::Usage;

const LIMIT: &str = "generation_config.max_output_tokens";
/// Searches of one research, as Google estimates them: <https://ai.google.dev/gemini-api/docs/deep-research>
const SEARCHES_OF_RESEARCH: u64 = 160;

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    agent: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    background: Field<'a>,
    #[serde(borrow, default, alias = "previousInteractionId")]
    previous_interaction_id: Field<'a>,
    #[serde(borrow, default, alias = "responseModalities")]
    response_modalities: Field<'a>,
    #[serde(borrow, default, rename = "serviceTier", alias = "service_tier")]
    tier: Field<'a>,
    #[serde(borrow, default, alias = "generationConfig")]
    generation_config: Option<Settings<'a>>,
    #[serde(borrow, default)]
    tools: Option<Vec<Option<Tool<'a>>>>,
}

#[derive(Deserialize)]
struct Settings<'a> {
    #[serde(borrow, default, alias = "maxOutputTokens")]
    max_output_tokens: Field<'a>,
}

/// A model is named, or an agent, whose models are Google's choice.
pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let body: Asked<'_> = fields_of(&request.outline)?;
    let agent = present(body.agent).filter(|_| present(body.model).is_none());
    let named = model(agent.or(body.model))?;
    let settings = body.generation_config.as_ref();
    let tier = agentledger_guest::fields::text(body.tier, "service_tier")?;
    let mut call = Call {
        any_model: present(body.agent).is_some(),
        stream: flag(body.stream, "stream")?.unwrap_or(false),
        background: flag(body.background, "background")?.unwrap_or(false),
        max_output: limit(settings.and_then(|own| own.max_output_tokens), LIMIT)?,
        service_tier: tier.map(|tier| crate::tier_name(&tier)),
        continues: present(body.previous_interaction_id).is_some(),
        output_kinds: media_named(present(body.response_modalities)),
        ..agentledger_guest::call(named)
    };
    if agent.is_none() {
        call.edits.push(EditPoint::Model("model".to_owned()));
        call.edits.push(EditPoint::MaxOutput(LIMIT.to_owned()));
    } else if call.model.contains("research") {
        may_bill(&mut call, None, Kind::WebSearch, SEARCHES_OF_RESEARCH);
    }
    tools::add(&mut call, body.tools.as_deref().unwrap_or_default())?;
    Ok(call)
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    event_type: Raw<'a>,
    #[serde(borrow, default)]
    error: Raw<'a>,
    /// In an event of a stream; a whole answer is the interaction itself.
    #[serde(borrow, default)]
    interaction: Raw<'a>,
}

#[derive(Deserialize)]
struct Interaction<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
    #[serde(borrow, default)]
    status: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    agent: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let place = there(body.interaction).map_or(frame.outline.as_str(), |raw| raw.get());
    let own: Interaction<'_> = serde_json::from_str(place).ok()?;
    let event = text(body.event_type)
        .or_else(|| frame.event.clone())
        .unwrap_or_default();
    let status = text(own.status).unwrap_or_default();
    let failed = there(body.error).is_some() || status == "failed";
    let named = text(own.model).filter(|name| !name.is_empty());
    let named = named.map(|name| name.trim_start_matches("models/").to_owned());
    let ends = matches!(
        event.as_str(),
        "interaction.completed" | "interaction.complete" | "error"
    );
    let usage = report(own.usage).map(parse::<Usage>).transpose();
    let told = usage.and_then(|usage| match usage {
        Some(usage) => part(&usage, named.as_deref()),
        None => Ok(None),
    });
    let mut reading = Reading {
        bill_id: text(own.id).filter(|id| !id.is_empty()),
        pending: matches!(status.as_str(), "in_progress" | "queued"),
        // What an agent's environment costs is not told.
        unread_fee: there(own.agent).is_some() && there(own.usage).is_some(),
        model: named,
        final_: frame.streamed && (ends || failed),
        failed,
        ..agentledger_guest::reading()
    };
    used(&mut reading, thought_inside(told));
    said(reading)
}

fn part(usage: &Usage, model: Option<&str>) -> Result<Option<Part>, Contradiction> {
    let Some(mut tally) = usage.tally(false)? else {
        return Ok(None);
    };
    grounding::add_counted(&mut tally, usage.grounding(), model);
    Ok(Some(tally.part(None)))
}
