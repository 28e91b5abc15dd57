//! `mcp.pricing`, `mcp.hold` and `mcp.pricers`: what tool calls cost. The first is read here and served by the built-in plugin
//! `mcp-pricing`; the last are the confs of pricers of the operator's own.

use std::collections::{BTreeMap, BTreeSet};

use agentledger_ledger::Usd;
use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::node::{Node, Value};

/// Held for what only an answer tells, where nothing else is said: a cent.
const HOLD: (&str, Usd) = ("0.01", Usd::from_nanos(10_000_000));
/// Rules of the section.
const RULES_MAX: usize = 4_096;
/// Longest pattern or path.
const TEXT_BYTES_MAX: usize = 256;

/// What tool calls cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPricing {
    /// Served by the built-in pricer.
    pub rules: Vec<ToolPrice>,
    /// What is held for the part of a cost that only the answer tells, where a rule or pricer does not say.
    pub hold: Usd,
    /// What other pricers are configured with, by their names.
    pub confs: BTreeMap<String, Json>,
}

/// The price of some tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolPrice {
    /// Names, or patterns over names; empty is every one.
    pub server: String,
    pub tool: String,
    pub rates: Rates,
    /// The path of the list whose items are counted.
    pub items: Option<String>,
    /// A call never costs more.
    pub max: Option<Usd>,
    /// Held for what only the answer tells.
    pub hold: Option<Usd>,
    pub errors: PricedErrors,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub per_call: Usd,
    /// For 1,000 bytes.
    pub per_kb_arguments: Usd,
    pub per_kb_result: Usd,
    pub per_second: Usd,
    pub per_item: Usd,
}

/// Which answers that say they failed are priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PricedErrors {
    #[default]
    None,
    /// Results with `isError: true`.
    Tool,
    /// JSON-RPC errors, too.
    All,
}

pub fn resolve(at: &Cursor<'_>) -> ToolPricing {
    let hold = at.at("hold");
    hold.default_is(HOLD.0);
    let hold = if hold.is_given() { hold.usd() } else { HOLD.1 };
    ToolPricing {
        rules: rules(&at.at("pricing")),
        hold,
        confs: confs(&at.at("pricers")),
    }
}

fn rules(at: &Cursor<'_>) -> Vec<ToolPrice> {
    let rows = at.items();
    if rows.len() > RULES_MAX {
        at.refuse(format_args!("has more than {RULES_MAX} rules"));
    }
    let mut seen = BTreeSet::new();
    let mut rules = Vec::with_capacity(rows.len().min(RULES_MAX));
    for row in rows.iter().take(RULES_MAX) {
        let rule = rule(row);
        if !seen.insert((rule.server.clone(), rule.tool.clone())) {
            row.warn("names the server and tool of an earlier rule: it never counts");
        }
        rules.push(rule);
    }
    rules
}

fn rule(row: &Cursor<'_>) -> ToolPrice {
    let usd = |name: &str| row.at(name).usd();
    let given = |name: &str| Some(row.at(name)).filter(Cursor::is_given).map(|at| at.usd());
    let rates = Rates {
        per_call: usd("cost_per_call"),
        per_kb_arguments: usd("cost_per_kb_arguments"),
        per_kb_result: usd("cost_per_kb_result"),
        per_second: usd("cost_per_second"),
        per_item: usd("cost_per_item"),
    };
    let items = items(&row.at("items"));
    if !row.at("items").is_given() && !rates.per_item.is_zero() {
        row.at("cost_per_item")
            .refuse("needs items beside it: the path of a list in the result, such as structuredContent.rows");
    }
    if items.is_some() && rates.per_item.is_zero() {
        row.at("items").warn("has no effect without cost_per_item");
    }
    let costs = COSTS.iter().any(|name| row.at(name).is_given());
    if row.is_section() && !costs {
        row.warn(format_args!("names no cost ({}): its calls are free", COSTS.join(", ")));
    }
    let max = given("max_cost");
    if max.is_some_and(|max| max < rates.per_call) {
        row.at("max_cost").refuse("is less than cost_per_call");
    }
    ToolPrice {
        server: pattern(&row.at("server")),
        tool: pattern(&row.at("tool")),
        rates,
        items,
        max,
        hold: given("hold"),
        errors: row.at("errors").word(
            PricedErrors::None,
            &[
                ("free", PricedErrors::None),
                ("tool", PricedErrors::Tool),
                ("all", PricedErrors::All),
            ],
        ),
    }
}

const COSTS: [&str; 5] = [
    "cost_per_call",
    "cost_per_kb_arguments",
    "cost_per_kb_result",
    "cost_per_second",
    "cost_per_item",
];

/// A name, or a pattern over names.
fn pattern(at: &Cursor<'_>) -> String {
    let text = at.filled().unwrap_or("");
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        at.refuse(format_args!(
            "must be a name or a pattern of at most {TEXT_BYTES_MAX} bytes without control characters"
        ));
    } else if globset::GlobBuilder::new(text).backslash_escape(true).build().is_err() {
        at.refuse("is not a pattern (*, ?, [a-z], \\ before a sign that means itself)");
    }
    text.to_owned()
}

/// The path of a list in the result.
fn items(at: &Cursor<'_>) -> Option<String> {
    let text = at.filled()?;
    let fits = |segment: &str| !segment.is_empty() && !segment.chars().any(|c| c < ' ' || c == '"' || c == '\\');
    if text.len() > TEXT_BYTES_MAX || !text.split('.').all(fits) {
        at.refuse("must be the path of a list in the result, such as structuredContent.rows or content");
        return None;
    }
    Some(text.trim_end_matches(".*").to_owned())
}

/// What each pricer is configured with, by its name.
fn confs(at: &Cursor<'_>) -> BTreeMap<String, Json> {
    let mut confs = BTreeMap::new();
    for (name, own) in at.names() {
        if name == ToolPricing::BUILT_IN {
            own.refuse("is configured by mcp.pricing");
        }
        confs.insert(name.to_owned(), own.node.map_or(Json::Null, exact));
    }
    confs
}

/// A free part of the file as JSON. Unlike a policy's conf, decimals are text, digit by digit: they may be prices.
fn exact(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar { text, quoted: true } => Json::from(text.as_str()),
        Value::Scalar { text, .. } => match text.as_str() {
            "true" | "True" | "TRUE" => Json::Bool(true),
            "false" | "False" | "FALSE" => Json::Bool(false),
            text => text.parse::<i64>().map_or_else(|_| Json::from(text), Json::from),
        },
        Value::List(items) => items.iter().map(exact).collect(),
        Value::Map(pairs) => {
            let members = pairs.iter().map(|pair| (pair.name.clone(), exact(&pair.node)));
            Json::Object(members.collect())
        }
    }
}

impl ToolPricing {
    /// The built-in pricer, which serves the rules.
    pub const BUILT_IN: &'static str = "mcp-pricing";

    /// There are rules for the built-in pricer.
    pub fn is_given(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The conf of a pricer: what the file has for it, and for the built-in one the rules, in nano-dollars.
    pub fn conf(&self, pricer: &str) -> Json {
        if pricer != ToolPricing::BUILT_IN {
            return self.confs.get(pricer).cloned().unwrap_or(Json::Null);
        }
        let rule = |rule: &ToolPrice| {
            json!({
                "server": rule.server,
                "tool": rule.tool,
                "call": rule.rates.per_call.nanos(),
                "argument_kb": rule.rates.per_kb_arguments.nanos(),
                "result_kb": rule.rates.per_kb_result.nanos(),
                "second": rule.rates.per_second.nanos(),
                "item": rule.rates.per_item.nanos(),
                "items": rule.items,
                "max": rule.max.map(Usd::nanos),
                "hold": rule.hold.or(rule.max.is_none().then_some(self.hold)).map(Usd::nanos),
                "tool_errors": rule.errors != PricedErrors::None,
                "protocol_errors": rule.errors == PricedErrors::All,
            })
        };
        json!({ "rules": self.rules.iter().map(rule).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Config, Env, Known, load_text};

    fn read(yaml: &str) -> Result<Config, String> {
        let none: [(&str, &str); 0] = [];
        load_text(None, yaml, &Env::of(none), &Known::undecided()).map_err(|errors| errors.to_string())
    }

    fn pricing(yaml: &str) -> ToolPricing {
        read(yaml).unwrap_or_else(|errors| panic!("{errors}")).mcp.pricing
    }

    #[test]
    fn a_rule_of_the_contract_is_a_rule_here() {
        let pricing =
            pricing("mcp: {pricing: [{server: search, tool: web, cost_per_call: 0.005}, {cost_per_call: 0.001}]}");
        let rule = |server: &str, tool: &str, nanos| ToolPrice {
            server: server.to_owned(),
            tool: tool.to_owned(),
            rates: Rates {
                per_call: Usd::from_nanos(nanos),
                ..Rates::default()
            },
            ..ToolPrice::default()
        };
        assert_eq!(
            pricing.rules,
            [rule("search", "web", 5_000_000), rule("", "", 1_000_000)]
        );
        assert_eq!(pricing.hold, Usd::from_nanos(10_000_000));
    }

    #[test]
    fn the_built_in_pricer_is_told_nano_dollars() {
        let pricing = pricing(
            "mcp:\n  hold: 0.5\n  pricing:\n    - {server: 'db-*', tool: query, cost_per_call: 0.000000001, cost_per_kb_arguments: 1,\n       \
             cost_per_kb_result: 0.25, cost_per_second: 2, cost_per_item: 0.002, items: structuredContent.rows.*,\n       \
             max_cost: 3, errors: tool}\n    - {tool: t, cost_per_call: 1e-9}\n    - {cost_per_second: 1, hold: 7, errors: all}\n",
        );
        assert_eq!(
            pricing.conf("mcp-pricing"),
            json!({"rules": [
                {"server": "db-*", "tool": "query", "call": 1, "argument_kb": 1_000_000_000, "result_kb": 250_000_000,
                 "second": 2_000_000_000_i64, "item": 2_000_000, "items": "structuredContent.rows", "max": 3_000_000_000_i64,
                 "hold": null, "tool_errors": true, "protocol_errors": false},
                {"server": "", "tool": "t", "call": 1, "argument_kb": 0, "result_kb": 0, "second": 0, "item": 0, "items": null,
                 "max": null, "hold": 500_000_000, "tool_errors": false, "protocol_errors": false},
                {"server": "", "tool": "", "call": 0, "argument_kb": 0, "result_kb": 0, "second": 1_000_000_000, "item": 0,
                 "items": null, "max": null, "hold": 7_000_000_000_i64, "tool_errors": true, "protocol_errors": true},
            ]})
        );
        assert_eq!(pricing.conf("another"), Json::Null);
    }

    #[test]
    fn a_pricer_of_ones_own_is_told_each_digit() {
        let pricing = pricing(
            "mcp: {pricers: {by-size: {usd_per_mb: 0.10000000000000000001, tools: ['*', 7], exact: true, note: '1.5', x: }}}",
        );
        assert_eq!(
            pricing.conf("by-size").to_string(),
            r#"{"exact":true,"note":"1.5","tools":["*",7],"usd_per_mb":"0.10000000000000000001","x":null}"#
        );
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_places() {
        let error = read(
            "mcp:\n  hold: -1\n  pricing:\n    - {server: '[', tool: t, cost_per_call: free}\n    - {server: s, cost_per_item: 1}\n    \
             - {server: s, items: a..b, cost_per_item: 1}\n    - {tool: x, cost_per_call: 2, max_cost: 1, errors: some}\n  \
             pricers: {mcp-pricing: {}}\n",
        )
        .err()
        .unwrap();
        let lines: Vec<&str> = error.lines().collect();
        let expected = [
            ("2:9: mcp.hold", "must not be negative"),
            ("4:16: mcp.pricing[0].server", "is not a pattern"),
            ("4:45: mcp.pricing[0].cost_per_call", "is not a number"),
            ("5:34: mcp.pricing[1].cost_per_item", "needs items"),
            ("6:26: mcp.pricing[2].items", "must be the path of a list"),
            ("7:45: mcp.pricing[3].max_cost", "is less than cost_per_call"),
            ("7:56: mcp.pricing[3].errors", "is none of free, tool, all"),
            ("8:26: mcp.pricers.mcp-pricing", "is configured by mcp.pricing"),
        ];
        assert_eq!(lines.len(), expected.len(), "{error}");
        for (line, (place, fault)) in lines.iter().zip(expected) {
            assert!(
                line.contains(place) && line.contains(fault),
                "{line} is not {place}: {fault}"
            );
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let config = read(
            "mcp: {pricing: [{server: s}, {server: t, cost_per_call: 0}, {cost_per_cal: 1, items: a, cost_per_call: 1}, {server: t, \
             cost_per_call: 2}]}",
        )
        .unwrap();
        let told = config.warnings.join("\n");
        for part in [
            "mcp.pricing[0]: names no cost",
            "cost_per_cal: unknown key",
            "items: has no effect",
            "mcp.pricing[3]: names the server and tool of an earlier rule",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("pricing[1]"), "0 is said outright: {told}");
    }
}
