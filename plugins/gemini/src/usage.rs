//! Counts as Google reports them: `usageMetadata` of contents, and `usage` of interactions, which has the same under
//! other names.

use agentledger_guest::Kind;
use agentledger_guest::answer::{Contradiction, rest};
use agentledger_guest::usage::{Tally, Units};
use serde::Deserialize;

use crate::grounding::ToolCount;

/// <https://ai.google.dev/api/generate-content#UsageMetadata>, <https://ai.google.dev/api/interactions-api>. Protocol
/// buffers leave out what is zero, and some elements of a stream leave out more.
#[derive(Deserialize)]
pub struct Usage {
    #[serde(
        default,
        rename = "promptTokenCount",
        alias = "total_input_tokens",
        alias = "totalInputTokens"
    )]
    prompt: Option<Units>,
    #[serde(
        default,
        rename = "cachedContentTokenCount",
        alias = "total_cached_tokens",
        alias = "totalCachedTokens"
    )]
    cached: Option<Units>,
    #[serde(
        default,
        rename = "toolUsePromptTokenCount",
        alias = "total_tool_use_tokens",
        alias = "totalToolUseTokens"
    )]
    tools: Option<Units>,
    #[serde(
        default,
        rename = "candidatesTokenCount",
        alias = "responseTokenCount",
        alias = "total_output_tokens",
        alias = "totalOutputTokens"
    )]
    candidates: Option<Units>,
    #[serde(
        default,
        rename = "thoughtsTokenCount",
        alias = "total_thought_tokens",
        alias = "totalThoughtTokens",
        alias = "total_reasoning_tokens"
    )]
    thoughts: Option<Units>,
    #[serde(default, rename = "totalTokenCount", alias = "total_tokens", alias = "totalTokens")]
    total: Option<Units>,
    #[serde(
        default,
        rename = "promptTokensDetails",
        alias = "promptTokenDetails",
        alias = "input_tokens_by_modality",
        alias = "inputTokensByModality"
    )]
    of_prompt: Option<Vec<Modality>>,
    #[serde(
        default,
        rename = "cacheTokensDetails",
        alias = "cached_tokens_by_modality",
        alias = "cachedTokensByModality"
    )]
    of_cache: Option<Vec<Modality>>,
    #[serde(
        default,
        rename = "toolUsePromptTokensDetails",
        alias = "tool_use_tokens_by_modality",
        alias = "toolUseTokensByModality"
    )]
    of_tools: Option<Vec<Modality>>,
    #[serde(
        default,
        rename = "candidatesTokensDetails",
        alias = "responseTokensDetails",
        alias = "output_tokens_by_modality",
        alias = "outputTokensByModality"
    )]
    of_candidates: Option<Vec<Modality>>,
    #[serde(default, rename = "grounding_tool_count", alias = "groundingToolCount")]
    grounding: Option<Vec<ToolCount>>,
    /// Vertex AI: how the request was served.
    #[serde(default, rename = "trafficType")]
    traffic_type: Option<String>,
    #[serde(default, rename = "serviceTier", alias = "service_tier")]
    service_tier: Option<String>,
}

#[derive(Deserialize)]
struct Modality {
    #[serde(default)]
    modality: String,
    #[serde(default, rename = "tokenCount", alias = "tokens")]
    tokens: Units,
}

/// The two sides of a report: what stood before the answer, and what was put out.
struct Sides {
    prompt: u64,
    tools: u64,
    output: u64,
}

impl Usage {
    pub fn tier(self) -> Option<String> {
        self.service_tier.or(self.traffic_type)
    }

    pub fn grounding(&self) -> &[ToolCount] {
        self.grounding.as_deref().unwrap_or_default()
    }

    /// Disjoint counts; `None` where there are none. A kind whose count is not there is not told as zero.
    ///
    /// Cached tokens lie inside the prompt's; what tools brought in, and thoughts, lie outside prompt and candidates.
    /// Pictures, films and documents are input like text, at one price, but where `pictures_apart`; sound has its own,
    /// cached or not, and so has each medium that is put out.
    pub fn tally(&self, pictures_apart: bool) -> Result<Option<Tally>, Contradiction> {
        let counts = [self.prompt, self.tools, self.candidates, self.thoughts, self.total];
        if counts.iter().all(Option::is_none) {
            return Ok(None);
        }
        let sides = self.sides()?;
        let mut tally = Tally::default();
        self.add_input(&mut tally, &sides, pictures_apart)?;
        // The first elements of a stream may say nothing of the output yet.
        if self.candidates.is_some() || self.thoughts.is_some() || sides.output > 0 {
            self.add_output(&mut tally, sides.output)?;
        }
        Ok(Some(tally))
    }

    /// What the total has beyond its parts was put out: elements leave thoughts out. A total below one of its parts is none.
    fn sides(&self) -> Result<Sides, Contradiction> {
        let (tools, candidates, thoughts) = (units(self.tools), units(self.candidates), units(self.thoughts));
        let prompt = match (self.prompt, self.total) {
            (Some(prompt), _) => prompt.0,
            // Embeddings of some hosts: a total alone.
            (None, Some(total)) => total.0.saturating_sub(tools + candidates + thoughts),
            (None, None) => 0,
        };
        let parts = prompt + tools + candidates;
        let Some(total) = self.total.map(|total| total.0) else {
            return Ok(Sides {
                prompt,
                tools,
                output: candidates + thoughts,
            });
        };
        for part in [prompt, tools, candidates, thoughts] {
            rest(total, part)?;
        }
        // Some models count their thoughts among the candidates' tokens: then these make up the total with the prompt.
        let inside = thoughts <= candidates && total == parts;
        let output = if inside { candidates } else { candidates + thoughts };
        let beyond = total.saturating_sub(prompt + tools + output);
        Ok(Sides {
            prompt,
            tools,
            output: output + beyond,
        })
    }

    fn add_input(&self, tally: &mut Tally, sides: &Sides, pictures_apart: bool) -> Result<(), Contradiction> {
        let cached = units(self.cached);
        let fresh = rest(sides.prompt, cached)?;
        let audio_cached = of(&self.of_cache, "AUDIO");
        let of_medium = |medium: &str, cached: u64| -> Result<u64, Contradiction> {
            let (given, by_tools) = (of(&self.of_prompt, medium), of(&self.of_tools, medium));
            rest(sides.prompt, given)?;
            rest(sides.tools, by_tools)?;
            Ok(given.saturating_sub(cached).min(fresh) + by_tools)
        };
        let audio = of_medium("AUDIO", audio_cached)?;
        let pictures = if pictures_apart { of_medium("IMAGE", 0)? } else { 0 };
        if self.prompt.is_some() || self.tools.is_some() || fresh + sides.tools > 0 {
            tally.add(Kind::Input, rest(fresh + sides.tools, audio + pictures)?);
        }
        if self.cached.is_some() {
            tally.add(Kind::CacheRead, rest(cached, audio_cached)?);
        }
        let told = self.of_prompt.is_some() || self.of_tools.is_some();
        for (kind, units, told) in [
            (Kind::CacheReadAudio, audio_cached, self.of_cache.is_some()),
            (Kind::AudioInput, audio, told),
            (Kind::ImageInput, pictures, told && pictures_apart),
        ] {
            if told {
                tally.add(kind, units);
            }
        }
        Ok(())
    }

    fn add_output(&self, tally: &mut Tally, output: u64) -> Result<(), Contradiction> {
        let audio = of(&self.of_candidates, "AUDIO");
        let image = of(&self.of_candidates, "IMAGE");
        tally.add(Kind::Output, rest(rest(output, audio)?, image)?);
        if self.of_candidates.is_some() {
            tally.add(Kind::AudioOutput, audio);
            tally.add(Kind::ImageOutput, image);
        }
        tally.reason(self.thoughts.map(|units| units.0));
        Ok(())
    }
}

fn units(count: Option<Units>) -> u64 {
    count.unwrap_or_default().0
}

fn of(details: &Option<Vec<Modality>>, modality: &str) -> u64 {
    let all = details.iter().flatten();
    all.filter(|part| part.modality.eq_ignore_ascii_case(modality))
        .fold(0, |sum, part| sum.saturating_add(part.tokens.0))
}
