//! Reads requests.

use agentledger_guest::fields::{COUNT_MAX, Field, count, flag, model, parse, text};
use agentledger_guest::{Call, EditPoint, Problem, Request};
use serde::Deserialize;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    service_tier: Field<'a>,
    #[serde(borrow, default)]
    speed: Field<'a>,
}

pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let body: Body<'_> = parse(&request.outline)?;
    let tier = text(body.service_tier, "service_tier")?;
    let speed = text(body.speed, "speed")?;
    let mut edits = vec![EditPoint::MaxOutput("max_tokens".to_owned())];
    let named = match &request.path_model {
        Some(named) => named.clone(),
        None => {
            edits.push(EditPoint::Model("model".to_owned()));
            model(body.model)?
        }
    };
    let streams_by_path = request.path.ends_with(":streamRawPredict");
    Ok(Call {
        model: named,
        stream: flag(body.stream, "stream")?.unwrap_or(false) || streams_by_path,
        max_output: count(body.max_tokens, "max_tokens", 0, COUNT_MAX)?,
        choices: 1,
        // Fast mode has its own prices, as a tier has.
        service_tier: speed.filter(|speed| speed == "fast").or(tier),
        edits,
    })
}
