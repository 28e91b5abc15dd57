//! A report of usage, by whatever names a host has for it, as disjoint counts.

use agentledger_guest::answer::{Contradiction, Raw, parse, report, rest, text, there};
use agentledger_guest::usage::{Tally, Units};
use agentledger_guest::{Kind, Part};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::counted::seconds;
use crate::info::{
    CLASSIFY, EMBEDDINGS, IMAGE_EDITS, IMAGE_VARIATIONS, IMAGES, NATIVE_EMBED, RERANK, SPEECH, TRANSCRIPTIONS,
    TRANSLATIONS,
};

/// Models that one answer may be billed by; the host takes no more.
const MODELS_MAX: usize = 30;

/// Chat's names and the newer ones of Responses beside each other; hosts mix them.
#[derive(Deserialize)]
pub struct Usage<'a> {
    #[serde(default)]
    prompt_tokens: Option<Units>,
    #[serde(default)]
    completion_tokens: Option<Units>,
    #[serde(default)]
    input_tokens: Option<Units>,
    #[serde(default)]
    output_tokens: Option<Units>,
    #[serde(default)]
    total_tokens: Option<Units>,
    #[serde(default)]
    prompt_tokens_details: Option<InputDetails>,
    /// Transcriptions say `input_token_details`.
    #[serde(default, alias = "input_token_details")]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    completion_tokens_details: Option<OutputDetails>,
    #[serde(default, alias = "output_token_details")]
    output_tokens_details: Option<OutputDetails>,
    /// DeepSeek's name for cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<Units>,
    /// Moonshot's.
    #[serde(default)]
    cached_tokens: Option<Units>,
    /// What Mistral's connectors brought into the prompt, outside of it.
    #[serde(default)]
    connector_tokens: Option<Units>,
    /// A recording billed by its length.
    #[serde(borrow, default)]
    seconds: Raw<'a>,
    /// The same at Mistral, where in a chat it stands beside tokens of text.
    #[serde(borrow, default)]
    prompt_audio_seconds: Raw<'a>,
}

#[derive(Deserialize, Default)]
struct InputDetails {
    /// Perplexity has Anthropic's names for both.
    #[serde(default, alias = "cache_read_input_tokens")]
    cached_tokens: Option<Units>,
    #[serde(default, alias = "cache_creation_input_tokens")]
    cache_write_tokens: Option<Units>,
    #[serde(default)]
    audio_tokens: Option<Units>,
    #[serde(default)]
    image_tokens: Option<Units>,
}

#[derive(Deserialize, Default)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<Units>,
    #[serde(default)]
    audio_tokens: Option<Units>,
    #[serde(default)]
    image_tokens: Option<Units>,
}

/// The report to go by among those that an answer has at several places. One of zeros gives way; two that count
/// differently contradict each other.
pub fn believed<'a>(reports: &[&'a RawValue]) -> Result<Raw<'a>, Contradiction> {
    let Some((first, others)) = reports.split_first() else {
        return Ok(None);
    };
    if others.is_empty() {
        return Ok(Some(first));
    }
    let mut chosen = (*first, sums(first)?);
    for other in others {
        let counts = sums(other)?;
        match (chosen.1 == (0, 0), counts == (0, 0)) {
            (true, false) => chosen = (other, counts),
            (false, false) if counts != chosen.1 => return Err(Contradiction),
            _ => {}
        }
    }
    Ok(Some(chosen.0))
}

fn sums(raw: &RawValue) -> Result<(u64, u64), Contradiction> {
    let usage: Usage<'_> = parse(raw)?;
    let count = |units: Option<Units>| units.unwrap_or_default().0;
    Ok((count(usage.input()?), count(usage.output()?)))
}

/// The parts of an answer that several models made: `{"models":[{"model":…,"usage":{…}}]}`, as Groq's compound systems tell
/// it <https://console.groq.com/docs/compound>.
pub fn by_model(breakdown: Raw<'_>, operation: &str) -> Result<Vec<Part>, Contradiction> {
    #[derive(Deserialize)]
    struct Breakdown<'a> {
        #[serde(borrow, default)]
        models: Option<Vec<One<'a>>>,
    }
    #[derive(Deserialize)]
    struct One<'a> {
        #[serde(borrow, default)]
        model: Raw<'a>,
        #[serde(borrow, default)]
        usage: Raw<'a>,
    }
    let Some(raw) = report(breakdown) else {
        return Ok(vec![]);
    };
    let Ok(Breakdown { models: Some(models) }) = parse::<Breakdown<'_>>(raw) else {
        return Ok(vec![]);
    };
    if models.len() > MODELS_MAX {
        return Err(Contradiction);
    }
    let mut parts = Vec::new();
    for one in models {
        let (Some(model), Some(raw)) = (text(one.model), report(one.usage)) else {
            continue;
        };
        let tally = parse::<Usage<'_>>(raw)?.tally(operation)?;
        parts.extend(tally.map(|tally| tally.part(Some(model))));
    }
    Ok(parts)
}

/// One count under two names. One of them may be left at zero; two that differ contradict.
fn either(one: Option<Units>, other: Option<Units>) -> Result<Option<Units>, Contradiction> {
    match (one, other) {
        (Some(one), Some(other)) if one.0 > 0 && other.0 > 0 && one != other => Err(Contradiction),
        (one, other) => Ok(one.max(other)),
    }
}

impl Usage<'_> {
    fn input(&self) -> Result<Option<Units>, Contradiction> {
        either(self.prompt_tokens, self.input_tokens)
    }

    fn output(&self) -> Result<Option<Units>, Contradiction> {
        either(self.completion_tokens, self.output_tokens)
    }

    /// Disjoint counts. Cached and written tokens lie inside the prompt's, audio and images inside both sides, reasoning
    /// inside output. What is not told is not counted as zero. `None`: it counts nothing.
    pub fn tally(&self, operation: &str) -> Result<Option<Tally>, Contradiction> {
        let mut tally = Tally::default();
        if let Some(length) = there(self.seconds).or(there(self.prompt_audio_seconds)) {
            tally.add(Kind::Second, seconds(length)?);
            if matches!(operation, TRANSCRIPTIONS | TRANSLATIONS) || there(self.seconds).is_some() {
                // A recording is billed by its length alone.
                return Ok(Some(tally));
            }
        }
        let (mut input, output) = (self.input()?, self.output()?);
        let takes_only = matches!(operation, RERANK | EMBEDDINGS | CLASSIFY | NATIVE_EMBED);
        if takes_only && input.is_none() {
            // There is no output: where only the total is told, it is the input.
            input = self.total_tokens;
        }
        if input.is_none() && output.is_none() {
            return Ok(Some(tally).filter(|_| there(self.prompt_audio_seconds).is_some()));
        }
        let prompt = input.unwrap_or_default().0;
        if input.is_some() {
            self.add_input(&mut tally, prompt)?;
        }
        let brought = self.connector_tokens.map_or(0, |units| units.0);
        if self.connector_tokens.is_some() {
            tally.add(Kind::Input, brought);
        }
        let total = self.total_tokens.filter(|_| there(self.prompt_audio_seconds).is_none());
        // Some hosts (xAI, Gemini's compatible API) leave thinking out of the output and count it in the total alone.
        let more = total.map_or(0, |total| total.0.saturating_sub(prompt).saturating_sub(brought));
        if output.is_some() || (more > 0 && !takes_only) {
            self.add_output(&mut tally, output.unwrap_or_default().0.max(more), operation)?;
        }
        Ok(Some(tally))
    }

    fn add_input(&self, tally: &mut Tally, prompt: u64) -> Result<(), Contradiction> {
        let nothing = InputDetails::default();
        let details = self
            .prompt_tokens_details
            .as_ref()
            .or(self.input_tokens_details.as_ref())
            .unwrap_or(&nothing);
        let cached = details
            .cached_tokens
            .or(self.prompt_cache_hit_tokens)
            .or(self.cached_tokens);
        let read = cached.unwrap_or_default().0;
        let written = details.cache_write_tokens.unwrap_or_default().0;
        let fresh = rest(rest(prompt, read)?, written)?;
        // Cached sound is counted as cached and as sound, and so are pictures. Nothing tells how much that is: what cannot be
        // fresh is cached.
        let (sound, picture) = (
            details.audio_tokens.unwrap_or_default().0,
            details.image_tokens.unwrap_or_default().0,
        );
        let sound_in = sound.min(fresh);
        let picture_in = picture.min(fresh - sound_in);
        let cached_sound = (sound - sound_in).min(read);
        let cached_picture = (picture - picture_in).min(read - cached_sound);
        tally.add(Kind::Input, fresh - sound_in - picture_in);
        if cached.is_some() {
            tally.add(Kind::CacheRead, read - cached_sound - cached_picture);
        }
        for (kind, units, told) in [
            (Kind::CacheReadAudio, cached_sound, cached_sound > 0),
            (Kind::CacheReadImage, cached_picture, cached_picture > 0),
            (Kind::CacheWrite5m, written, details.cache_write_tokens.is_some()),
            (Kind::AudioInput, sound_in, details.audio_tokens.is_some()),
            (Kind::ImageInput, picture_in, details.image_tokens.is_some()),
        ] {
            if told {
                tally.add(kind, units);
            }
        }
        Ok(())
    }

    /// Kinds follow what is reported; where an operation makes but one kind, what is not told apart is of that.
    fn add_output(&self, tally: &mut Tally, output: u64, operation: &str) -> Result<(), Contradiction> {
        let nothing = OutputDetails::default();
        let details = self
            .completion_tokens_details
            .as_ref()
            .or(self.output_tokens_details.as_ref())
            .unwrap_or(&nothing);
        let draws = matches!(operation, IMAGES | IMAGE_EDITS | IMAGE_VARIATIONS);
        let all = Some(Units(output));
        let sound = if operation == SPEECH { all } else { details.audio_tokens };
        let picture = details.image_tokens.or(all.filter(|_| draws));
        let text = rest(
            rest(output, sound.unwrap_or_default().0)?,
            picture.unwrap_or_default().0,
        )?;
        tally.add(Kind::Output, text);
        for (kind, units) in [(Kind::AudioOutput, sound), (Kind::ImageOutput, picture)] {
            if let Some(units) = units {
                tally.add(kind, units.0);
            }
        }
        tally.reason(details.reasoning_tokens.map(|units| units.0));
        Ok(())
    }
}
