//! What the tools of a request may bill beside the answer's own tokens.

use agentledger_guest::fields::{Field, present, text};
use agentledger_guest::usage::may_bill;
use agentledger_guest::{Call, Kind, Problem, problem};
use serde::Deserialize;

use crate::grounding::bills_once;
use crate::info::TOOLS_MAX;

/// Searches of a request to a model that is billed by the query: none is limited, most make fewer.
const SEARCHES_UNNAMED: u64 = 5;

/// One of `tools`: of contents it is an object under the tool's name, of interactions a `type`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Field<'a>,
    #[serde(borrow, default, alias = "google_search")]
    google_search: Field<'a>,
    #[serde(borrow, default, alias = "google_search_retrieval")]
    google_search_retrieval: Field<'a>,
    #[serde(borrow, default, alias = "enterprise_web_search")]
    enterprise_web_search: Field<'a>,
    #[serde(borrow, default, alias = "google_maps")]
    google_maps: Field<'a>,
    /// Vertex AI: the caller's own documents.
    #[serde(borrow, default)]
    retrieval: Field<'a>,
    #[serde(borrow, default)]
    file_search: Field<'a>,
}

impl Tool<'_> {
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let kind = text(self.kind, "tools").ok().flatten().unwrap_or_default();
        let is =
            |name: &str, fields: &[Field<'_>]| kind == name || fields.iter().any(|field| present(*field).is_some());
        let web = [
            self.google_search,
            self.google_search_retrieval,
            self.enterprise_web_search,
        ];
        let found = [
            (Kind::WebSearch, is("google_search", &web)),
            (Kind::Maps, is("google_maps", &[self.google_maps])),
            (Kind::FileSearch, is("file_search", &[self.retrieval, self.file_search])),
        ];
        found.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind)
    }
}

/// Adds what the tools may bill; each once, however often it is named.
pub fn add(call: &mut Call, tools: &[Option<Tool<'_>>]) -> Result<(), Problem> {
    if tools.len() > TOOLS_MAX {
        let most = format!("'tools' may have at most {TOOLS_MAX} items");
        return Err(problem("invalid_value", most, "tools"));
    }
    let searches = if bills_once(&call.model) { 1 } else { SEARCHES_UNNAMED };
    let mut held: Vec<Kind> = vec![];
    for kind in tools.iter().flatten().flat_map(Tool::kinds) {
        if !held.contains(&kind) {
            held.push(kind);
            may_bill(call, None, kind, if kind == Kind::FileSearch { 1 } else { searches });
        }
    }
    Ok(())
}
