//! Reads requests.

use agentledger_guest::fields::{Field, count, flag, limit, model, parse, present};
use agentledger_guest::{Call, EditPoint, Problem, Request};
use serde::Deserialize;

use crate::info::{EMBED, GENERATE, RERANK, SUMMARIZE};

/// Texts of one request; Cohere allows 5.
const GENERATIONS_MAX: u64 = 64;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    num_generations: Field<'a>,
    #[serde(borrow, default)]
    conversation_id: Field<'a>,
}

/// The model must be named: Cohere's answers do not say which one it was.
pub fn inspect(request: &Request) -> Result<Call, Problem> {
    let body: Body<'_> = parse(&request.outline)?;
    let mut call = Call {
        max_output: Some(0),
        edits: vec![EditPoint::Model("model".to_owned())],
        continues: present(body.conversation_id).is_some(),
        ..agentledger_guest::call(model(body.model)?)
    };
    if matches!(request.operation.as_str(), EMBED | RERANK) {
        return Ok(call);
    }
    if request.operation == SUMMARIZE {
        // It is limited by words such as `long`, not by tokens.
        call.max_output = None;
        return Ok(call);
    }
    call.stream = flag(body.stream, "stream")?.unwrap_or(false);
    call.max_output = limit(body.max_tokens, "max_tokens")?;
    call.edits.push(EditPoint::MaxOutput("max_tokens".to_owned()));
    if request.operation == GENERATE {
        let texts = count(body.num_generations, "num_generations", 1, GENERATIONS_MAX)?.unwrap_or(1);
        call.choices = u32::try_from(texts).unwrap_or(u32::MAX);
    }
    Ok(call)
}
