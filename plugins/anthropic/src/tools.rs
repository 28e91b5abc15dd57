//! What the tools of a request may bill beside the answer's own tokens: searches, and further models.

use agentledger_guest::fields::{Field, model, models, present, text};
use agentledger_guest::usage::may_bill;
use agentledger_guest::{Call, Kind, Problem, problem};
use serde::Deserialize;

use crate::info::{FALLBACKS_MAX, TOOLS_MAX};
use crate::request::bounded;

/// Searches of a request that does not limit them: the provider's own loop ends after so many turns.
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools>
const SEARCHES_UNNAMED: u64 = 10;
/// Advice that a task takes as a rule, and its tokens where they are not limited: up to 1,800 with thinking.
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool>
const ADVICE_UNNAMED: u64 = 3;
const ADVICE_TOKENS_UNNAMED: u64 = 2_000;

/// One of `tools`, as far as it can bill.
#[derive(Deserialize)]
pub struct Tool<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Field<'a>,
    /// The model that an advisor, or any other tool that runs one, takes.
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    max_uses: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    parameters: Option<Parameters<'a>>,
}

/// Settings of OpenRouter's tools. <https://openrouter.ai/docs/guides/features/server-tools>
#[derive(Deserialize)]
struct Parameters<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
}

/// One of OpenRouter's plugins. <https://openrouter.ai/docs/guides/features/plugins>
#[derive(Deserialize)]
pub struct Plugin<'a> {
    #[serde(borrow, default)]
    id: Field<'a>,
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    models: Field<'a>,
    #[serde(borrow, default)]
    allowed_models: Field<'a>,
}

/// Adds what the tools may bill.
pub fn add(call: &mut Call, tools: &[Option<Tool<'_>>], vendor: &str) -> Result<(), Problem> {
    if tools.len() > TOOLS_MAX {
        let most = format!("'tools' may have at most {TOOLS_MAX} items");
        return Err(problem("invalid_value", most, "tools"));
    }
    for tool in tools.iter().flatten() {
        let kind = text(tool.kind, "tools").ok().flatten().unwrap_or_default();
        if let Some(named) = of_tool(tool)? {
            call.models.push(named);
        } else if is_advisor(&kind) {
            call.any_model = true;
        }
        if is_advisor(&kind) {
            advice(call, tool)?;
        } else if is_search(&kind) {
            let searches = bounded(tool.max_uses, "tools")?.unwrap_or(SEARCHES_UNNAMED);
            may_bill(call, None, Kind::WebSearch, searches);
        } else if vendor == "openrouter" && kind.starts_with("openrouter:") && names_no_model(tool) {
            // A hosted tool that is not known may run a model of its own.
            call.any_model |= !["openrouter:datetime", "openrouter:web_fetch"].contains(&kind.as_str());
        }
    }
    Ok(())
}

fn names_no_model(tool: &Tool<'_>) -> bool {
    let inside = tool.parameters.as_ref().and_then(|own| present(own.model));
    present(tool.model).or(inside).is_none()
}

fn is_advisor(kind: &str) -> bool {
    kind.starts_with("advisor") || kind == "openrouter:advisor"
}

/// `web_search_20250305` and later ones, and OpenRouter's.
fn is_search(kind: &str) -> bool {
    kind.starts_with("web_search") || kind == "openrouter:web_search"
}

fn of_tool(tool: &Tool<'_>) -> Result<Option<String>, Problem> {
    // A tool of the caller's own may have a member of that name: only a name is one.
    let inside = tool.parameters.as_ref().and_then(|own| present(own.model));
    let inside = inside.filter(|raw| raw.get().starts_with('"'));
    match present(tool.model).or(inside) {
        Some(raw) => model(Some(raw))
            .map(Some)
            .map_err(|_| problem("invalid_value", "a tool's 'model' must name a model", "tools")),
        None => Ok(None),
    }
}

/// What an advisor may put out; what it reads is held with the call's own input, at the dearest model.
fn advice(call: &mut Call, tool: &Tool<'_>) -> Result<(), Problem> {
    let uses = bounded(tool.max_uses, "tools")?.unwrap_or(ADVICE_UNNAMED);
    let each = bounded(tool.max_tokens, "tools")?.filter(|tokens| *tokens > 0);
    let tokens = uses.saturating_mul(each.unwrap_or(ADVICE_TOKENS_UNNAMED));
    may_bill(call, of_tool(tool)?, Kind::Output, tokens);
    Ok(())
}

/// Adds what OpenRouter's plugins may bill, and the models that they may take.
pub fn add_plugins(call: &mut Call, plugins: &[Option<Plugin<'_>>]) -> Result<(), Problem> {
    if plugins.len() > FALLBACKS_MAX {
        return Err(problem("invalid_value", "'plugins' has too many items", "plugins"));
    }
    for plugin in plugins.iter().flatten() {
        let id = text(plugin.id, "plugins").ok().flatten().unwrap_or_default();
        match id.as_str() {
            "web" => may_bill(call, None, Kind::WebSearch, 1),
            // These take models of the host's choice where they name none.
            "auto-router" | "fusion" | "pareto-router" => call.any_model = true,
            _ => {}
        }
        if present(plugin.model).is_some() {
            call.models.push(model(plugin.model)?);
        }
        call.models.extend(models(plugin.models, "plugins", FALLBACKS_MAX)?);
        if present(plugin.allowed_models).is_some() {
            call.any_model = true;
        }
    }
    Ok(())
}

/// What the names of OpenRouter's models say beside the model: `:online` searches, and some names are routers.
/// <https://openrouter.ai/docs/guides/routing/model-variants>
pub fn add_suffix(call: &mut Call, vendor: &str) {
    if vendor != "openrouter" {
        return;
    }
    let names = || std::iter::once(&call.model).chain(&call.models);
    let searches = names().any(|name| name.to_ascii_lowercase().ends_with(":online"));
    let routed = names().any(|name| name.starts_with("openrouter/") || name.contains("@preset/"));
    call.any_model |= routed;
    if searches {
        may_bill(call, None, Kind::WebSearch, 1);
    }
}
