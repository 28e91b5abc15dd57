//! Reads answers: whole ones, and the events of streams.

mod counted;
mod tools;
mod usage;

use agentledger_guest::answer::{Contradiction, Raw, parse, report, said, text, there, used};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{AnswerFrame, Kind, Part, Reading};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fees::Fees;
use crate::info::{ASYNC_CHAT, BATCH_JOB, CANCEL, CHAT, FILE_CONTENT, REALTIME, RESPONSES, RETRIEVE};
use crate::realtime;
use crate::wants::RESULTS_MAX;

pub use counted::seconds;
pub use tools::IMAGE_TOOL_MODEL;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
    /// xAI's chat that is put off.
    #[serde(borrow, default)]
    request_id: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow, default)]
    service_tier: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    usage_breakdown: Raw<'a>,
    #[serde(borrow, default)]
    x_groq: Option<XGroq<'a>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Option<Choice<'a>>>>,
    #[serde(borrow, default)]
    error: Raw<'a>,
    #[serde(borrow, default)]
    status: Raw<'a>,
    #[serde(borrow, default)]
    store: Raw<'a>,
    #[serde(borrow, default)]
    tool_usage: Raw<'a>,
    #[serde(borrow, default)]
    server_side_tool_usage: Raw<'a>,
    #[serde(borrow, default)]
    output: Raw<'a>,
    #[serde(borrow, default)]
    tools: Raw<'a>,
    #[serde(borrow, default)]
    response: Option<Answer<'a>>,
    /// Of Mistral's conversations, and of its jobs.
    #[serde(borrow, default)]
    outputs: Raw<'a>,
    /// Images.
    #[serde(borrow, default)]
    data: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    svg_usage: Raw<'a>,
    /// Of a recording, in seconds.
    #[serde(borrow, default)]
    duration: Raw<'a>,
    #[serde(borrow, default)]
    meta: Option<Meta<'a>>,
    #[serde(borrow, default)]
    usage_info: Raw<'a>,
    #[serde(borrow, default)]
    pages: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    timings: Raw<'a>,
    #[serde(borrow, default)]
    prompt_eval_count: Raw<'a>,
    #[serde(borrow, default)]
    eval_count: Raw<'a>,
    #[serde(borrow, default)]
    done: Raw<'a>,
    #[serde(borrow, default)]
    custom_id: Raw<'a>,
}

#[derive(Deserialize)]
struct XGroq<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    usage_breakdown: Raw<'a>,
}

#[derive(Deserialize, Default)]
struct Choice<'a> {
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    message: Option<tools::Executed<'a>>,
    #[serde(borrow, default)]
    delta: Option<tools::Executed<'a>>,
}

/// What says how much was used: a whole answer, the response within an event, the body within a line of a batch.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    id: Raw<'a>,
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    status: Raw<'a>,
    #[serde(borrow, default)]
    store: Raw<'a>,
    #[serde(borrow, default)]
    service_tier: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
    #[serde(borrow, default)]
    tool_usage: Raw<'a>,
    #[serde(borrow, default)]
    output: Raw<'a>,
    #[serde(borrow, default)]
    tools: Raw<'a>,
    #[serde(borrow, default)]
    body: Raw<'a>,
}

/// What a text model used that wrote a drawing.
#[derive(Deserialize)]
struct SvgUsage<'a> {
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(default)]
    reasoning_tokens: Option<Units>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default)]
    billed_units: Raw<'a>,
}

pub fn read(frame: &AnswerFrame) -> Option<Reading> {
    let body: Frame<'_> = serde_json::from_str(&frame.outline).ok()?;
    let operation = frame.operation.as_str();
    match operation {
        FILE_CONTENT => return line(&body),
        BATCH_JOB => return job(&body),
        _ => {}
    }
    let kind = text(body.kind);
    // A response stands at the top of a whole answer, and inside the events of a stream.
    let whole = body.as_answer();
    let answer = body.response.as_ref().unwrap_or(&whole);
    let status = text(if operation == ASYNC_CHAT {
        body.status
    } else {
        answer.status
    });
    let mut reading = Reading {
        model: body.model_of(answer),
        service_tier: text(answer.service_tier),
        failed: there(body.error).is_some() || kind.as_deref() == Some("error") || is_failure(status.as_deref()),
        ..agentledger_guest::reading()
    };
    bill(&mut reading, &body, answer, status.as_deref(), operation);
    account(&mut reading, &body, answer, operation);
    if frame.streamed {
        end(&mut reading, &body, kind.as_deref(), operation);
    }
    said(reading)
}

fn is_failure(status: Option<&str>) -> bool {
    matches!(status, Some("failed" | "FAILED"))
}

/// Under which id it is billed once, and whether it goes on at the provider.
fn bill(reading: &mut Reading, body: &Frame<'_>, answer: &Answer<'_>, status: Option<&str>, operation: &str) {
    let id = |raw| text(raw).filter(|id| !id.is_empty());
    match operation {
        RESPONSES | RETRIEVE | CANCEL => {
            // What is not stored cannot be fetched again.
            let stored = there(answer.store).is_none_or(|store| store.get() != "false");
            reading.bill_id = id(answer.id).filter(|_| stored);
            reading.pending = matches!(status, Some("queued" | "in_progress"));
        }
        ASYNC_CHAT => {
            reading.bill_id = id(body.id);
            reading.pending = matches!(status, Some("CREATED" | "IN_PROGRESS"));
        }
        // A chat that is put off is answered by an id alone.
        CHAT if body.choices.is_none() && there(body.usage).is_none() && there(body.error).is_none() => {
            reading.bill_id = id(body.request_id);
            reading.pending = reading.bill_id.is_some();
        }
        _ => {}
    }
}

/// What was used: the report, else what can be counted without one; hosted tools beside it.
fn account(reading: &mut Reading, body: &Frame<'_>, answer: &Answer<'_>, operation: &str) {
    let raw = match usage::believed(&body.reports(answer)) {
        Ok(raw) => raw,
        Err(contradiction) => return used(reading, Err::<Option<Part>, _>(contradiction)),
    };
    match raw {
        Some(raw) if operation == REALTIME => used(reading, realtime::part(raw)),
        Some(raw) => {
            let told = reported(reading, body, answer, raw, operation);
            used(reading, told);
        }
        None => {
            reading.unread_fee = tools::Hosted::is_billed(answer) || body.executed().is_some();
            used(reading, counted::counted(body, operation));
        }
    }
    if let Some(raw) = report(body.svg_usage) {
        used(reading, drawing(raw));
    }
}

/// The parts of a report: the answer's own, then those of other models that were billed with it.
fn reported(
    reading: &mut Reading,
    body: &Frame<'_>,
    answer: &Answer<'_>,
    raw: &RawValue,
    operation: &str,
) -> Result<Vec<Part>, Contradiction> {
    let fees: Fees<'_> = parse(raw)?;
    reading.reported_cost = fees.reported();
    reading.service_tier = reading.service_tier.take().or_else(|| fees.tier());
    let told: usage::Usage<'_> = parse(raw)?;
    let mut tally = told.tally(operation)?;
    // More was thought than written, though thoughts are a part of what is written: what is counted is the least of it.
    reading.contradictory |= tally.as_ref().is_some_and(thinks_too_much);
    let research = fees.research();
    let hosted = tools::Hosted::of(&fees, answer, body.server_side_tool_usage, body.executed())?;
    reading.unread_fee |= hosted.unread || body.several_models();
    let by_model = usage::by_model(body.breakdown(), operation)?;
    if !by_model.is_empty() {
        // Each of its models is billed for itself: the sum of them is not billed again.
        tally = tally.map(|_| Tally::default());
    }
    let mut own = match tally {
        Some(tally) => tally,
        None if hosted.is_empty() => return Ok(by_model),
        None => Tally::default(),
    };
    research.add_to(&mut own);
    hosted.add_to(&mut own);
    let own = own.part(None);
    let mut parts = Vec::with_capacity(1);
    if !own.usage.is_empty() || by_model.is_empty() {
        parts.push(own);
    }
    parts.extend(by_model);
    parts.extend(hosted.parts);
    Ok(parts)
}

fn thinks_too_much(tally: &Tally) -> bool {
    let written = [Kind::Output, Kind::AudioOutput, Kind::ImageOutput].map(|kind| tally.units(kind));
    tally.thought() > written.into_iter().fold(0, u64::saturating_add)
}

/// Where the stream is by this event.
fn end(reading: &mut Reading, body: &Frame<'_>, kind: Option<&str>, operation: &str) {
    let ended = kind.is_some_and(ends) || (operation == REALTIME && realtime::is_final(kind));
    let zero = |part: &Part| part.usage.iter().all(|count| count.units == 0);
    if !ended && reading.parts.iter().all(zero) {
        // Some hosts open a stream with a usage of zeros: nothing is counted yet, and nothing is over.
        reading.parts.clear();
    }
    let only_usage = !reading.parts.is_empty() && body.choices.as_ref().is_some_and(Vec::is_empty);
    let over = there(body.done).is_some_and(|done| done.get() == "true");
    // After an error nothing comes that is billed.
    let broken = there(body.error).is_some() && reading.parts.is_empty();
    reading.usage_only = only_usage;
    reading.final_ = only_usage || ended || over || (broken && operation != REALTIME);
}

/// Events that end a stream.
fn ends(kind: &str) -> bool {
    matches!(
        kind,
        "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "conversation.response.done"
            | "conversation.response.error"
            | "error"
            | "speech.audio.done"
            | "transcript.text.done"
            | "transcription.done"
            | "image_generation.completed"
            | "image_edit.completed"
    )
}

/// A line of a batch's results: one answer, at the batch's price. Lines of other files say nothing.
fn line(body: &Frame<'_>) -> Option<Reading> {
    result(body.response.as_ref()?, text(body.id).or_else(|| text(body.custom_id)))
}

fn result(response: &Answer<'_>, bill_id: Option<String>) -> Option<Reading> {
    let inner: Answer<'_> = serde_json::from_str(there(response.body)?.get()).ok()?;
    let raw = report(inner.usage)?;
    let mut reading = Reading {
        model: text(inner.model).filter(|name| !name.is_empty()),
        bill_id,
        service_tier: Some("batch".to_owned()),
        ..agentledger_guest::reading()
    };
    let mut unread = false;
    let mut told = || -> Result<Vec<Part>, Contradiction> {
        let fees: Fees<'_> = parse(raw)?;
        let hosted = tools::Hosted::of(&fees, &inner, None, None)?;
        unread = hosted.unread;
        let Some(mut own) = parse::<usage::Usage<'_>>(raw)?.tally(FILE_CONTENT)? else {
            return Ok(vec![]);
        };
        hosted.add_to(&mut own);
        Ok(std::iter::once(own.part(None)).chain(hosted.parts).collect())
    };
    used(&mut reading, told());
    reading.unread_fee = unread;
    Some(reading)
}

/// A batch's job that bears its results itself, once it is done. The host bills it under the id in the path.
fn job(body: &Frame<'_>) -> Option<Reading> {
    #[derive(Deserialize)]
    struct Output<'a> {
        #[serde(borrow, default)]
        response: Option<Answer<'a>>,
    }
    let running = ["QUEUED", "RUNNING", "CANCELLATION_REQUESTED"];
    if text(body.status).is_some_and(|status| running.contains(&status.as_str())) {
        // Billed once, when all results are there.
        return None;
    }
    let outputs = there(body.outputs).filter(|raw| raw.get().starts_with('['))?;
    let outputs: Vec<Option<Output<'_>>> = serde_json::from_str(outputs.get()).ok()?;
    let mut reading = Reading {
        service_tier: Some("batch".to_owned()),
        unread_fee: outputs.len() > RESULTS_MAX,
        ..agentledger_guest::reading()
    };
    let mut sums: Vec<(Option<String>, Tally)> = Vec::new();
    for output in outputs.iter().flatten().filter_map(|output| output.response.as_ref()) {
        let Some(read) = result(output, None) else { continue };
        reading.contradictory |= read.contradictory;
        reading.unread_fee |= read.unread_fee;
        for part in read.parts {
            let model = part.model.or_else(|| read.model.clone());
            if !sums.iter().any(|(named, _)| *named == model) {
                sums.push((model.clone(), Tally::default()));
            }
            let tally = sums
                .iter_mut()
                .find(|(named, _)| *named == model)
                .map(|(_, tally)| tally);
            if let Some(tally) = tally {
                part.usage.iter().for_each(|count| tally.add(count.kind, count.units));
                tally.reason(part.reasoning);
            }
        }
    }
    let parts: Vec<Part> = sums.into_iter().map(|(model, tally)| tally.part(model)).collect();
    reading.model = parts.first().and_then(|part| part.model.clone());
    if !reading.contradictory {
        used(&mut reading, Ok(parts));
    }
    said(reading)
}

fn drawing(raw: &RawValue) -> Result<Option<Part>, Contradiction> {
    let told: SvgUsage<'_> = parse(raw)?;
    let (Some(model), Some(mut tally)) = (text(told.model), parse::<usage::Usage<'_>>(raw)?.tally(CHAT)?) else {
        return Ok(None);
    };
    tally.reason(told.reasoning_tokens.map(|units| units.0));
    Ok(Some(tally.part(Some(model))))
}

impl<'a> Frame<'a> {
    /// The frame itself, as an answer.
    fn as_answer(&self) -> Answer<'a> {
        Answer {
            id: self.id,
            model: self.model,
            status: self.status,
            store: self.store,
            service_tier: self.service_tier,
            usage: self.usage,
            tool_usage: self.tool_usage,
            output: self.output,
            tools: self.tools,
            body: None,
        }
    }

    /// All places where a host may report what was used.
    fn reports(&self, answer: &Answer<'a>) -> Vec<&'a RawValue> {
        let choices = self.choices.iter().flatten().flatten().map(|choice| choice.usage);
        let groq = self.x_groq.as_ref().and_then(|groq| groq.usage);
        [answer.usage, groq]
            .into_iter()
            .chain(choices)
            .filter_map(report)
            .collect()
    }

    fn breakdown(&self) -> Raw<'a> {
        report(self.usage_breakdown).or_else(|| report(self.x_groq.as_ref()?.usage_breakdown))
    }

    /// Tools that Groq ran for a choice.
    fn executed(&self) -> Option<tools::Hosted> {
        let choices = self.choices.iter().flatten().flatten();
        let ran = choices.flat_map(|choice| [&choice.message, &choice.delta].into_iter().flatten());
        tools::Hosted::of_executed(ran)
    }

    fn model_of(&self, answer: &Answer<'a>) -> Option<String> {
        let named = |raw| text(raw).filter(|name: &String| !name.is_empty());
        named(answer.model)
            .or_else(|| named(self.model))
            .or_else(|| self.output_models().into_iter().next())
    }

    /// The models of a conversation's outputs, each once.
    fn output_models(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Output<'a> {
            #[serde(borrow, default)]
            model: Raw<'a>,
        }
        let outputs = there(self.outputs).filter(|raw| raw.get().starts_with('['));
        let outputs: Vec<Option<Output<'_>>> = outputs
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let mut models: Vec<String> = outputs
            .iter()
            .flatten()
            .filter_map(|output| text(output.model))
            .collect();
        models.dedup();
        models
    }

    /// A conversation was handed on to another model: its usage is one sum, which no one price fits.
    fn several_models(&self) -> bool {
        self.output_models().len() > 1
    }
}
