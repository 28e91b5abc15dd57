//! Reads requests.

use agentledger_guest::fields::{COUNT_MAX, Field, bears, count, flag, model, parse, text};
use agentledger_guest::{CacheWrites, Call, EditPoint, Problem, Request, call};
use serde::Deserialize;

use crate::info::{CACHE_CONTROL, DOCUMENT, ONE_HOUR, PLAIN_TEXT};

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
    #[serde(borrow, default)]
    inference_geo: Field<'a>,
}

pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let body: Body<'_> = parse(&request.outline)?;
    let tier = text(body.service_tier, "service_tier")?;
    let speed = text(body.speed, "speed")?;
    let geo = text(body.inference_geo, "inference_geo")?;
    let mut edits = vec![EditPoint::MaxOutput("max_tokens".to_owned())];
    let named = match &request.path_model {
        Some(named) => named.clone(),
        None => {
            edits.push(EditPoint::Model("model".to_owned()));
            model(body.model)?
        }
    };
    let streams_by_path = request.path.ends_with(":streamRawPredict");
    let has = |marker: &str| bears(request, marker);
    Ok(Call {
        stream: flag(body.stream, "stream")?.unwrap_or(false) || streams_by_path,
        max_output: count(body.max_tokens, "max_tokens", 0, COUNT_MAX)?,
        service_tier: priced_tier(tier, speed.as_deref(), geo.as_deref()),
        edits,
        cache_writes: match has(CACHE_CONTROL) {
            true if has(ONE_HOUR) => CacheWrites::OneHour,
            true => CacheWrites::FiveMinutes,
            false => CacheWrites::None,
        },
        // A document's text is a token for four bytes; a scanned page is a few thousand tokens for some 100 KB.
        media_bytes_per_token: has(DOCUMENT).then(|| if has(PLAIN_TEXT) { 4 } else { 60 }),
        ..call(named)
    })
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
