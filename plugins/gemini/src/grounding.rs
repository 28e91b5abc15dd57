//! What an answer was grounded in: searches of the web, maps, the caller's own documents. Each is billed beside tokens.

use std::collections::BTreeSet;

use agentledger_guest::Kind;
use agentledger_guest::answer::{Raw, text, there};
use agentledger_guest::usage::{Tally, Units};
use serde::Deserialize;

/// <https://ai.google.dev/api/generate-content#GroundingMetadata>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grounding<'a> {
    /// What was searched for; one that is too long stands as `null`.
    #[serde(borrow, default)]
    web_search_queries: Option<Vec<Raw<'a>>>,
    /// The same for what is retrieved from elsewhere than the web.
    #[serde(borrow, default)]
    retrieval_queries: Option<Vec<Raw<'a>>>,
    #[serde(borrow, default)]
    grounding_chunks: Option<Vec<Option<Chunk<'a>>>>,
}

/// A source. Only of what kind it is shows here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, default)]
    web: Raw<'a>,
    #[serde(borrow, default)]
    maps: Raw<'a>,
    #[serde(borrow, default)]
    retrieved_context: Raw<'a>,
}

/// Searches that interactions count by tool. <https://ai.google.dev/api/interactions-api>
#[derive(Deserialize)]
pub struct ToolCount {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    count: Units,
}

/// Up to Gemini 2.5 a prompt that was grounded is billed once; later models are billed by the query.
/// <https://ai.google.dev/gemini-api/docs/pricing>
fn is_billed_once(model: Option<&str>) -> bool {
    model.is_some_and(bills_once)
}

/// The same by a model's name. One that is not known counts by the query, which is never less often.
pub fn bills_once(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    ["gemini-1", "gemini-2"].iter().any(|old| name.starts_with(old))
}

/// Adds what the candidates were grounded in. Queries count once each, and empty ones do not:
/// <https://ai.google.dev/gemini-api/docs/google-search>. Maps are billed beside the web where a place was found:
/// <https://ai.google.dev/gemini-api/docs/maps-grounding>.
pub fn add<'g, 'a: 'g>(tally: &mut Tally, all: impl Iterator<Item = &'g Grounding<'a>>, model: Option<&str>) {
    let (mut queries, mut retrieved) = (Queries::default(), Queries::default());
    let (mut web, mut maps, mut own) = (false, false, false);
    for one in all {
        queries.take(&one.web_search_queries);
        retrieved.take(&one.retrieval_queries);
        for chunk in one.grounding_chunks.iter().flatten().flatten() {
            web |= there(chunk.web).is_some();
            maps |= there(chunk.maps).is_some();
            own |= there(chunk.retrieved_context).is_some();
        }
    }
    let once = is_billed_once(model);
    let billed = |used: bool, queries: u64| match (used, once) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => queries.max(1),
    };
    let found = [
        (Kind::WebSearch, billed(web || queries.count() > 0, queries.count())),
        (Kind::Maps, billed(maps, if own { 0 } else { retrieved.count() })),
        (Kind::FileSearch, u64::from(own)),
    ];
    for (kind, units) in found.into_iter().filter(|(_, units)| *units > 0) {
        tally.add(kind, units);
    }
}

/// Adds what an interaction's usage counts by tool.
pub fn add_counted(tally: &mut Tally, counts: &[ToolCount], model: Option<&str>) {
    for tool in counts.iter().filter(|tool| tool.count.0 > 0) {
        let (kind, once) = match tool.kind.as_str() {
            "google_search" | "enterprise_web_search" => (Kind::WebSearch, is_billed_once(model)),
            "google_maps" => (Kind::Maps, is_billed_once(model)),
            "retrieval" | "file_search" => (Kind::FileSearch, true),
            // A tool that is not known is billed like the dearest one.
            _ => (Kind::WebSearch, false),
        };
        tally.add(kind, if once { 1 } else { tool.count.0 });
    }
}

/// Different queries, and those that are too long to be compared.
#[derive(Default)]
struct Queries {
    known: BTreeSet<String>,
    long: u64,
}

impl Queries {
    fn take(&mut self, list: &Option<Vec<Raw<'_>>>) {
        for query in list.iter().flatten() {
            match query {
                None => self.long = self.long.saturating_add(1),
                Some(_) => self.known.extend(text(*query).filter(|text| !text.trim().is_empty())),
            }
        }
    }

    fn count(&self) -> u64 {
        u64::try_from(self.known.len())
            .unwrap_or(u64::MAX)
            .saturating_add(self.long)
    }
}
