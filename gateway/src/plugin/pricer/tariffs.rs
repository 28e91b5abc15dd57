//! Which tariff prices a call: by server and tool, the exact name before a pattern before all.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::contract::{Pricer, Tariff};
use crate::plugin::dialect::Want;
use crate::plugin::outline::Shape;

/// A tariff with everything that is compiled once from it.
pub(super) struct Rule {
    pub pricer: Arc<dyn Pricer>,
    /// Among the pricer's own.
    pub index: u32,
    pub tariff: Tariff,
    pub arguments: Shape,
    pub result: Shape,
    server: Pattern,
    tool: Pattern,
}

enum Pattern {
    Any,
    Exact(String),
    /// With how many plain characters.
    Glob(GlobMatcher, usize),
}

impl Pattern {
    fn read(text: &str) -> Result<Pattern, String> {
        if text.is_empty() || text == "*" {
            return Ok(Pattern::Any);
        }
        let is_sign = |c: char| matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\');
        if !text.contains(is_sign) {
            return Ok(Pattern::Exact(text.to_owned()));
        }
        let glob = GlobBuilder::new(text)
            .backslash_escape(true)
            .build()
            .map_err(|_| format!("a tariff's pattern {text:?} is none"))?;
        let plain = text.chars().filter(|c| !is_sign(*c)).count();
        Ok(Pattern::Glob(glob.compile_matcher(), plain))
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(exact) => exact == name,
            Pattern::Glob(glob, _) => glob.is_match(name),
        }
    }

    /// The narrower, the greater.
    fn narrowness(&self) -> (u8, usize) {
        match self {
            Pattern::Any => (0, 0),
            Pattern::Glob(_, plain) => (1, *plain),
            Pattern::Exact(_) => (2, 0),
        }
    }
}

impl Rule {
    pub fn new(pricer: &Arc<dyn Pricer>, index: u32, tariff: &Tariff) -> Result<Rule, String> {
        let shape = |wants: &[Want], counts: &[String], of: &str| {
            let shape = Shape::compile_named(wants, &[], &[]).and_then(|shape| shape.with_counts(counts));
            shape.map_err(|error| format!("its {of}: {error}"))
        };
        Ok(Rule {
            pricer: Arc::clone(pricer),
            index,
            arguments: shape(&tariff.argument_paths, &tariff.argument_counts, "arguments")?,
            result: shape(&tariff.result_paths, &tariff.result_counts, "result")?,
            server: Pattern::read(&tariff.server)?,
            tool: Pattern::read(&tariff.tool)?,
            tariff: tariff.clone(),
        })
    }
}

/// The tariffs of all pricers.
#[derive(Default)]
pub(super) struct Tariffs {
    /// Those of one tool of one server.
    exact: HashMap<String, HashMap<String, Arc<Rule>>>,
    /// All others, the narrowest first.
    wider: Vec<Arc<Rule>>,
}

impl Tariffs {
    /// Of tariffs that are equally narrow the first counts.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Tariffs {
        let mut tariffs = Tariffs::default();
        for rule in rules.into_iter().map(Arc::new) {
            match (&rule.server, &rule.tool) {
                (Pattern::Exact(server), Pattern::Exact(tool)) => {
                    let tools = tariffs.exact.entry(server.clone()).or_default();
                    tools.entry(tool.clone()).or_insert(rule);
                }
                _ => tariffs.wider.push(rule),
            }
        }
        tariffs
            .wider
            .sort_by_key(|rule| Reverse((rule.server.narrowness(), rule.tool.narrowness())));
        tariffs
    }

    pub fn find(&self, server: &str, tool: &str) -> Option<&Arc<Rule>> {
        let exact = self.exact.get(server).and_then(|tools| tools.get(tool));
        exact.or_else(|| {
            let mut wider = self.wider.iter();
            wider.find(|rule| rule.server.fits(server) && rule.tool.fits(tool))
        })
    }

    pub fn count(&self) -> usize {
        self.wider.len() + self.exact.values().map(HashMap::len).sum::<usize>()
    }
}
