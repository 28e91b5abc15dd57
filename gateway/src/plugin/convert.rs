//! Between the generated records and ours. What a plugin says is checked here: a value outside the contract is a failed
//! call, never a surprise further on.

mod plans;

use agentledger_ledger::Kind;

use super::dialect::{
    AnswerFrame, Billing, Call, CountedKind, DialectRefusal, EditPoint, Ending, Info, Link, Meaning, Media, Medium,
    Problem, Progress, ProgressPart, Reading, ReadingPart, Request, RequestedCacheWrites, Route, Sender, SocketMessage,
    Step, Want,
};
use super::host::bindings::agentledger::plugin::types as wit;

/// Longest name, path or marker in an `info`, and the longest model or id in a reading.
const NAME_BYTES_MAX: usize = 2_048;
/// Entries in each list of an `info`.
const LIST_MAX: usize = 512;
/// Models of one call beside its own.
const MODELS_MAX: usize = 64;
/// Parts of one reading.
const PARTS_MAX: usize = 64;
/// More units of one kind than any answer can bill.
const UNITS_MAX: u64 = 1_000_000_000_000;
/// Headers that bear credentials. No plugin ever sees them.
const SECRET_HEADERS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "x-amz-security-token",
];

pub(super) fn info(info: wit::Info) -> Result<Info, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if info.name.is_empty() || info.name.len() > 64 || !info.name.chars().all(plain) {
        return Err("its name must be of lower case letters, digits, - and _".to_owned());
    }
    let lists = [
        info.routes.len(),
        info.request_paths.len(),
        info.request_headers.len(),
        info.request_media.len(),
        info.request_markers.len(),
        info.request_counts.len(),
        info.progress_paths.len(),
        info.answer_paths.len(),
        info.text_paths.len(),
        info.markers.len(),
        info.events.len(),
        info.end_markers.len(),
        info.answer_links.len(),
        info.response_id_paths.len(),
        info.answer_calls.len(),
        info.request_id_headers.len(),
        info.reading_plans.len(),
    ];
    if lists.iter().any(|len| *len > LIST_MAX) {
        return Err(format!("a list of its info is longer than {LIST_MAX}"));
    }
    if let Some(header) = info
        .request_headers
        .iter()
        .find(|header| SECRET_HEADERS.contains(&header.to_ascii_lowercase().as_str()))
    {
        return Err(format!("it asks for the header {header}, which no plugin may see"));
    }
    let request_id_headers = lower(&info.request_id_headers);
    if let Some(header) = request_id_headers
        .iter()
        .find(|header| SECRET_HEADERS.contains(&header.as_str()) || *header == "set-cookie")
    {
        return Err(format!("it takes the header {header} for an id, which it is not"));
    }
    if info
        .response_id_paths
        .iter()
        .any(|path| path.split('.').any(|segment| segment == "*"))
    {
        return Err("a path of its answers' ids has a *: an answer has one id".to_owned());
    }
    if info
        .markers
        .iter()
        .chain(&info.request_markers)
        .chain(&info.end_markers)
        .any(|marker| marker.is_empty() || marker.len() > NAME_BYTES_MAX)
    {
        return Err("a marker is empty or too long".to_owned());
    }
    Ok(Info {
        name: info.name,
        version: short(info.version)?,
        routes: info.routes.into_iter().map(route).collect::<Result<_, _>>()?,
        request_paths: info.request_paths.into_iter().map(want).collect(),
        request_headers: lower(&info.request_headers),
        request_media: info.request_media.into_iter().map(media).collect(),
        request_markers: info.request_markers,
        request_counts: info.request_counts,
        progress_paths: info.progress_paths.into_iter().map(progress).collect(),
        answer_paths: info.answer_paths.into_iter().map(want).collect(),
        text_paths: info.text_paths,
        markers: info.markers,
        events: info.events,
        end_markers: info.end_markers,
        answer_links: info.answer_links.into_iter().map(link).collect(),
        response_id_paths: info.response_id_paths,
        answer_calls: info.answer_calls,
        request_id_headers,
        reading_plans: info
            .reading_plans
            .into_iter()
            .map(plans::plan)
            .collect::<Result<_, _>>()?,
    })
}

fn lower(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

fn short(text: String) -> Result<String, String> {
    if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err("it gave a name that is too long or has control characters".to_owned());
    }
    Ok(text)
}

fn short_option(text: Option<String>) -> Result<Option<String>, String> {
    text.map(short).transpose()
}

fn route(route: wit::Route) -> Result<Route, String> {
    Ok(Route {
        method: short(route.method)?,
        path: short(route.path)?,
        operation: short(route.operation)?,
        billing: match route.billing {
            wit::Billing::Metered => Billing::Metered,
            wit::Billing::Free => Billing::Free,
            wit::Billing::Fetched => Billing::Fetched,
            wit::Billing::FetchedLines => Billing::FetchedLines,
            wit::Billing::Refused => Billing::Refused,
        },
        vendors: route.vendors.into_iter().map(short).collect::<Result<_, _>>()?,
        reason: short(route.reason)?,
        source: short(route.source)?,
    })
}

fn want(want: wit::Want) -> Want {
    Want {
        path: want.path,
        max_bytes: want.max_bytes,
        max_items: want.max_items,
    }
}

fn link(link: wit::Link) -> Link {
    Link {
        operation: link.operation,
        path: link.path,
        max_items: link.max_items,
    }
}

fn media(media: wit::Media) -> Media {
    let medium = match media.medium {
        wit::Medium::Text => Medium::Text,
        wit::Medium::Image => Medium::Image,
        wit::Medium::Audio => Medium::Audio,
        wit::Medium::File => Medium::File,
    };
    Media {
        path: media.path,
        medium,
    }
}

fn progress(progress: wit::Progress) -> Progress {
    let part = match progress.part {
        wit::ProgressPart::Role => ProgressPart::Role,
        wit::ProgressPart::Content => ProgressPart::Content,
        wit::ProgressPart::ToolCall => ProgressPart::ToolCall,
        wit::ProgressPart::Continued => ProgressPart::Continued,
    };
    Progress {
        path: progress.path,
        part,
    }
}

/// The lists of a request, as they are handed over.
pub(super) struct Lists<'a> {
    headers: Vec<(&'a str, &'a str)>,
    markers: Vec<&'a str>,
    characters: Vec<(&'a str, u64)>,
}

pub(super) fn lists(request: &Request) -> Lists<'_> {
    Lists {
        headers: request
            .headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect(),
        markers: request.markers.iter().map(String::as_str).collect(),
        characters: request
            .characters
            .iter()
            .map(|(path, count)| (&**path, *count))
            .collect(),
    }
}

pub(super) fn request<'a>(request: &'a Request, lists: &'a Lists<'a>) -> wit::Request<'a> {
    wit::Request {
        method: &request.method,
        vendor: &request.vendor,
        path: &request.path,
        operation: &request.operation,
        path_model: request.path_model.as_deref(),
        headers: &lists.headers,
        outline: &request.outline,
        markers: &lists.markers,
        characters: &lists.characters,
    }
}

/// Edits may only name paths that the plugin's own info declared: the host has outlined no others.
pub(super) fn call(call: wit::Call, info: &Info) -> Result<Call, String> {
    let edits = call.edits.into_iter().map(|edit| {
        let edit = match edit {
            wit::EditPoint::Model(path) => EditPoint::Model(path),
            wit::EditPoint::MaxOutput(path) => EditPoint::MaxOutput(path),
            wit::EditPoint::StreamUsage(path) => EditPoint::StreamUsage(path),
        };
        let (EditPoint::Model(path) | EditPoint::MaxOutput(path) | EditPoint::StreamUsage(path)) = &edit;
        match info.request_paths.iter().any(|want| want.path == *path) {
            true => Ok(edit),
            false => Err("an edit names a path that its info does not".to_owned()),
        }
    });
    Ok(Call {
        edits: edits.take(LIST_MAX).collect::<Result<_, _>>()?,
        models: models(call.models)?,
        any_model: call.any_model,
        model: short(call.model)?,
        stream: call.stream,
        max_output: call.max_output,
        choices: call.choices.max(1),
        service_tier: short_option(call.service_tier)?,
        variant: short_option(call.variant)?,
        cache_writes: match call.cache_writes {
            wit::CacheWrites::None => RequestedCacheWrites::None,
            wit::CacheWrites::FiveMinutes => RequestedCacheWrites::FiveMinutes,
            wit::CacheWrites::OneHour => RequestedCacheWrites::OneHour,
            wit::CacheWrites::Unasked(tokens) => RequestedCacheWrites::Unasked(tokens),
        },
        input_kinds: kinds(call.input_kinds)?,
        output_kinds: kinds(call.output_kinds)?,
        media_bytes_per_token: call.media_bytes_per_token,
        continues: call.continues,
        units: units(call.units)?,
        beside: call.beside.into_iter().map(part).collect::<Result<_, _>>()?,
        thoughtless: call.thoughtless,
        background: call.background,
    })
}

/// Every model named is held and judged: a list that is too long to do so is no call.
fn models(named: Vec<String>) -> Result<Vec<String>, String> {
    if named.len() > MODELS_MAX {
        return Err(format!("a call names more than {MODELS_MAX} models"));
    }
    named.into_iter().map(short).collect()
}

/// Kinds of the ledger; a cache write of unsaid length is of the short kind.
fn kinds(named: Vec<wit::Kind>) -> Result<Vec<Kind>, String> {
    if named.len() > Kind::COUNT {
        return Err("a call names a kind twice".to_owned());
    }
    Ok(named.into_iter().map(|named| kind(named).in_ledger()).collect())
}

fn units(counts: Vec<wit::Count>) -> Result<Vec<(Kind, u64)>, String> {
    if counts.len() > Kind::COUNT || counts.iter().any(|count| count.units > UNITS_MAX) {
        return Err("a call counts absurd units".to_owned());
    }
    Ok(counts
        .into_iter()
        .map(|count| (kind(count.kind).in_ledger(), count.units))
        .collect())
}

pub(super) fn problem(problem: wit::Problem) -> Problem {
    let cut = |text: String| text.chars().take(NAME_BYTES_MAX).collect();
    Problem {
        code: cut(problem.code),
        message: cut(problem.message),
        param: problem.param.map(cut),
    }
}

pub(super) fn frame<'a>(frame: &AnswerFrame<'a>) -> wit::AnswerFrame<'a> {
    wit::AnswerFrame {
        operation: frame.operation,
        event: frame.event,
        streamed: frame.streamed,
        status: frame.status,
        outline: frame.outline,
    }
}

pub(super) fn socket_message<'a>(message: &SocketMessage<'a>) -> wit::SocketMessage<'a> {
    wit::SocketMessage {
        operation: message.operation,
        sender: match message.sender {
            Sender::Client => wit::Sender::Client,
            Sender::Server => wit::Sender::Server,
        },
        outline: message.outline,
    }
}

pub(super) fn meaning(meaning: wit::Meaning) -> Result<Meaning, String> {
    Ok(Meaning {
        step: match meaning.step {
            wit::Step::Ask => Step::Ask,
            wit::Step::Begin => Step::Begin,
            wit::Step::Part => Step::Part,
            wit::Step::Sound => Step::Sound,
            wit::Step::End => Step::End,
            wit::Step::Refuse => Step::Refuse,
            wit::Step::Aside => Step::Aside,
            wit::Step::Setting => Step::Setting,
        },
        lane: short_option(meaning.lane)?,
        answer: short_option(meaning.answer)?,
        asked_by: short_option(meaning.asked_by)?,
        model: short_option(meaning.model)?,
        max_output: meaning.max_output,
        aside_model: short_option(meaning.aside_model)?,
        cancel: short_option(meaning.cancel)?,
        status: meaning.status.filter(|status| (100..=599).contains(status)),
        echo: short_option(meaning.echo)?,
    })
}

pub(super) fn reading(reading: wit::Reading) -> Result<Reading, String> {
    if reading.parts.len() > PARTS_MAX {
        return Err("a reading has too many parts".to_owned());
    }
    Ok(Reading {
        model: short_option(reading.model)?,
        bill_id: short_option(reading.bill_id)?,
        pending: reading.pending,
        service_tier: short_option(reading.service_tier)?,
        parts: reading.parts.into_iter().map(part).collect::<Result<_, _>>()?,
        contradictory: reading.contradictory,
        unread_fee: reading.unread_fee,
        reported_cost: reading.reported_cost.map(decimal).transpose()?,
        usage_only: reading.usage_only,
        is_final: reading.final_,
        failed: reading.failed,
    })
}

fn part(part: wit::Part) -> Result<ReadingPart, String> {
    let mut usage: Vec<(CountedKind, u64)> = Vec::with_capacity(part.usage.len().min(Kind::COUNT + 1));
    for count in part.usage {
        let kind = kind(count.kind);
        if count.units > UNITS_MAX {
            return Err("a count is absurd".to_owned());
        }
        if usage.iter().any(|(given, _)| *given == kind) {
            return Err("a part counts one kind twice".to_owned());
        }
        usage.push((kind, count.units));
    }
    Ok(ReadingPart {
        model: short_option(part.model)?,
        usage,
        reasoning: part.reasoning,
    })
}

fn decimal(text: String) -> Result<String, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let digits = |part: &str| !part.is_empty() && part.len() <= 60 && part.bytes().all(|byte| byte.is_ascii_digit());
    if digits(whole) && digits(fraction) {
        Ok(text)
    } else {
        Err("a reported cost is no decimal number".to_owned())
    }
}

fn kind(kind: wit::Kind) -> CountedKind {
    CountedKind::Kind(match kind {
        wit::Kind::Input => Kind::Input,
        wit::Kind::CacheRead => Kind::CacheRead,
        wit::Kind::CacheWrite5m => Kind::CacheWrite5m,
        wit::Kind::CacheWrite1h => Kind::CacheWrite1h,
        wit::Kind::CacheWrite => return CountedKind::CacheWrite,
        wit::Kind::Output => Kind::Output,
        wit::Kind::AudioInput => Kind::AudioInput,
        wit::Kind::AudioOutput => Kind::AudioOutput,
        wit::Kind::ImageInput => Kind::ImageInput,
        wit::Kind::ImageOutput => Kind::ImageOutput,
        wit::Kind::WebSearch => Kind::WebSearch,
        wit::Kind::Request => Kind::Request,
        wit::Kind::Second => Kind::Second,
        wit::Kind::Character => Kind::Character,
        wit::Kind::Image => Kind::Image,
        wit::Kind::Page => Kind::Page,
        wit::Kind::CacheReadAudio => Kind::CacheReadAudio,
        wit::Kind::CacheReadImage => Kind::CacheReadImage,
        wit::Kind::FileSearch => Kind::FileSearch,
        wit::Kind::WebFetch => Kind::WebFetch,
        wit::Kind::CodeExecution => Kind::CodeExecution,
        wit::Kind::Container => Kind::Container,
        wit::Kind::Maps => Kind::Maps,
        wit::Kind::Attachment => Kind::Attachment,
    })
}

pub(super) fn ending(ending: Ending) -> wit::Ending {
    match ending {
        Ending::BudgetExceeded => wit::Ending::BudgetExceeded,
        Ending::Denied => wit::Ending::Denied,
        Ending::UpstreamFailed => wit::Ending::UpstreamFailed,
        Ending::ShuttingDown => wit::Ending::ShuttingDown,
    }
}

pub(super) fn refusal(refusal: &DialectRefusal) -> wit::Refusal<'_> {
    wit::Refusal {
        status: refusal.status,
        code: &refusal.code,
        object: &refusal.object,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn info_with(paths: &[&str], headers: &[&str]) -> Result<Info, String> {
        info_of(paths, headers, vec![])
    }

    #[test]
    fn a_plan_of_endless_rows_is_refused_before_it_is_looked_at() {
        let row = |at: u32| wit::PlanRow {
            path: format!("id.{at}"),
            role: wit::Role::Ignored,
        };
        let plan = |rows: u32| wit::ReadingPlan {
            operations: vec![],
            streamed: false,
            usage: vec![],
            rows: (0..rows).map(row).collect(),
        };
        assert!(info_of(&[], &[], vec![plan(512)]).is_ok());
        for plans in [vec![plan(100_000)], vec![plan(0); 513]] {
            assert!(info_of(&[], &[], plans).unwrap_err().contains("is longer than 512"));
        }
    }

    fn info_of(paths: &[&str], headers: &[&str], plans: Vec<wit::ReadingPlan>) -> Result<Info, String> {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        info(wit::Info {
            name: "p".to_owned(),
            version: "1".to_owned(),
            routes: vec![],
            request_paths: vec![],
            request_headers: vec![],
            request_media: vec![],
            request_markers: vec![],
            request_counts: vec![],
            progress_paths: vec![],
            answer_paths: vec![wit::Want {
                path: "id".to_owned(),
                max_bytes: 64,
                max_items: 0,
            }],
            text_paths: vec![],
            markers: vec![],
            events: vec![],
            end_markers: vec![],
            answer_links: vec![],
            response_id_paths: strings(paths),
            answer_calls: vec![],
            request_id_headers: strings(headers),
            reading_plans: plans,
        })
    }

    #[test]
    fn a_credential_is_no_id_and_an_answer_has_one_id() {
        let info = info_with(&["response.id", "id"], &["X-Request-Id"]).unwrap();
        assert_eq!(info.request_id_headers, ["x-request-id"]);
        let wanted: Vec<String> = info.answer_wants().into_iter().map(|want| want.path).collect();
        assert_eq!(wanted, ["id", "response.id"], "each once");
        for header in ["Set-Cookie", "authorization", "x-api-key"] {
            assert!(info_with(&[], &[header]).is_err(), "{header}");
        }
        assert!(info_with(&["choices.*.id"], &[]).is_err());
    }
}
