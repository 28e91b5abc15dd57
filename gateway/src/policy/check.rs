//! What is wrong with a policy, found without traffic: its syntax, its schema, names that are nowhere, intents that make no sense,
//! and errors of its `setup` and on a made-up call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::file::{FileFault, PolicyFile, Role};
use super::lint::tree::{Block, place_of};
use super::lint::{self, Unreadable};
use super::set::{GlobCache, Options, PolicySet, Source};
use super::trial::Trial;

/// Something wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub file: String,
    /// From 1, where it is known; so is the column, which counts characters.
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// A stable word: `too_long`, `syntax`, `load`, `no_policy`, `field`, `schema`, `no_phase`, `global_unknown`, `global_written`,
    /// `member_unknown`, `fact_unknown`, `intent`, `conf`, `fails`, `not_understood`.
    pub code: &'static str,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {} [{}]", self.message, self.code)
    }
}

/// Everything that is wrong with a policy's text, in the order of the text. Findings bear `NAME.lua` as their file.
pub fn check_source(name: &str, text: &str) -> Vec<Finding> {
    let source = Source {
        name: name.to_owned(),
        text: text.to_owned(),
        // By its ending errors of Lua know that a place lies in a policy.
        origin: format!("{name}.lua"),
    };
    check(&source, None)
}

/// The same of a file, and of a conf for it.
pub fn check(source: &Source, conf: Option<&serde_json::Value>) -> Vec<Finding> {
    let mut report = Report {
        source,
        tree: lint::parse(&source.text),
        findings: Vec::new(),
    };
    report.names();
    report.loads(conf);
    let mut findings = report.findings;
    // What has no place comes last.
    findings.sort_by_key(|finding| (finding.line.is_none(), finding.line, finding.column));
    findings
}

struct Report<'s> {
    source: &'s Source,
    tree: Result<Block, Unreadable>,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn find(&mut self, code: &'static str, place: Option<(u32, Option<u32>)>, message: String) {
        self.findings.push(Finding {
            file: self.source.origin.clone(),
            line: place.map(|(line, _)| line),
            column: place.and_then(|(_, column)| column),
            code,
            message,
        });
    }

    /// What can be said without running it.
    fn names(&mut self) {
        let slips = match (&self.tree, Trial::new()) {
            (Ok(file), Ok(trial)) => lint::lint(file, &trial),
            _ => return,
        };
        for slip in slips {
            self.find(slip.code, Some((slip.at.line, Some(slip.at.column))), slip.message);
        }
    }

    /// What is found by loading it as the gateway does.
    fn loads(&mut self, conf: Option<&serde_json::Value>) {
        let (options, globs) = (Options::default(), Arc::new(GlobCache::default()));
        let on_bench = match PolicyFile::read_faults(self.source.clone(), &options, &globs) {
            Ok(on_bench) => on_bench,
            Err(faults) => return faults.into_iter().for_each(|fault| self.fault(fault)),
        };
        if let Err(wrong) = &self.tree {
            let place = Some((wrong.at.line, Some(wrong.at.column)));
            let message = format!(
                "Luau takes this, and the checker does not: it expects {}; names are not checked",
                wrong.expected
            );
            self.find("not_understood", place, message);
        }
        let file = Arc::clone(&on_bench.file);
        let given = match conf {
            Some(conf) => conf,
            // Whoever puts it in force gives a conf.
            None if file.needs_conf() => return,
            None => &serde_json::Value::Null,
        };
        if let Err(faults) = on_bench.set_up(given, Role::default()) {
            for fault in faults {
                let error = file.fault(fault);
                self.error(if conf.is_some() { "conf" } else { "fails" }, error.line, error.message);
            }
            return;
        }
        // What is found already would only be found once more.
        if self.findings.is_empty() {
            self.made_up_call(&file.name, given);
        }
    }

    /// Whether it answers a made-up call.
    fn made_up_call(&mut self, name: &str, conf: &serde_json::Value) {
        let confs = BTreeMap::from([(name.to_owned(), conf.clone())]);
        let Ok(set) = PolicySet::load(vec![self.source.clone()], &confs, Options::default()) else {
            return;
        };
        if let Err(failure) = set.probe(name, 0) {
            let error = super::file::place(self.source, failure.message);
            self.error("fails", error.line, format!("on a made-up call: {}", error.message));
        }
    }

    fn fault(&mut self, fault: FileFault) {
        let path: Vec<&str> = fault.key.split('.').filter(|key| !key.is_empty()).collect();
        let written = self.tree.as_ref().ok().and_then(|file| place_of(file, &path));
        let code = match fault.code {
            "load" if fault.message.starts_with("the file returns") => "no_policy",
            code => code,
        };
        let error = fault.into_error(self.source);
        match written {
            Some(at) => self.find(code, Some((at.line, Some(at.column))), error.message),
            None => self.error(code, error.line, error.message),
        }
    }

    /// An error of a run, which knows its line. A slip on that line says it better.
    fn error(&mut self, code: &'static str, line: Option<u32>, message: String) {
        if line.is_some() && self.findings.iter().any(|known| known.line == line) {
            return;
        }
        let column = line.map(|line| self.column(line));
        self.find(code, line.map(|line| (line, column)), message);
    }

    /// Where this reader stopped, if on that line, else where the line's text begins.
    fn column(&self, line: u32) -> u32 {
        match &self.tree {
            Err(wrong) if wrong.at.line == line => wrong.at.column,
            _ => {
                let text = usize::try_from(line)
                    .ok()
                    .and_then(|line| self.source.text.lines().nth(line.saturating_sub(1)));
                let blanks = text
                    .unwrap_or_default()
                    .chars()
                    .take_while(|letter| letter.is_whitespace());
                u32::try_from(blanks.count() + 1).unwrap_or(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::policy::folder;

    /// `line:column code` of each finding, and the messages.
    fn found(text: &str) -> (Vec<String>, String) {
        let findings = check_source("test", text);
        let place = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
        let shown = findings
            .iter()
            .map(|finding| format!("{}:{} {}", place(finding.line), place(finding.column), finding.code))
            .collect();
        let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        (shown, messages.join("\n"))
    }

    /// A policy whose phase `request` has this body.
    fn request(body: &str) -> String {
        format!(
            "return {{\n\tname = \"t\",\n\tversion = \"1\",\n\trequest = function(conf, call)\n{body}\n\tend,\n}}\n"
        )
    }

    #[test]
    fn what_is_shipped_and_shown_has_no_findings() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut sources = folder::builtin_sources();
        for folder in ["policies", "examples/quickstart/policies", "examples/policies"] {
            sources.extend(folder::sources(Some(&root.join(folder))).unwrap());
        }
        assert!(sources.len() > 10);
        for source in sources {
            assert_eq!(check(&source, None), [], "{}", source.origin);
        }
    }

    #[test]
    fn each_slip_in_a_phase_has_its_place_and_a_word_that_was_meant() {
        for (body, place, said) in [
            (
                "return dny({ message = 'x' })",
                "5:8 global_unknown",
                "did you mean deny?",
            ),
            (
                "if call.agnt == '' then end",
                "5:9 fact_unknown",
                "call has no field \"agnt\"; did you mean agent?",
            ),
            (
                "if call.at.huor == 1 then end",
                "5:12 fact_unknown",
                "did you mean hour?",
            ),
            (
                "local at = call.at if at.wekday == 1 then end",
                "5:26 fact_unknown",
                "did you mean weekday?",
            ),
            (
                "local x = call.stream.yes",
                "5:23 fact_unknown",
                "stream is a boolean and has no field \"yes\"",
            ),
            (
                "local x = call.key.text",
                "5:20 fact_unknown",
                "call.key has no field \"text\"",
            ),
            ("print(call.model)", "5:1 global_unknown", "there is no print"),
            ("local x = os.time()", "5:11 global_unknown", "there is no os"),
            (
                "local x = math.random(3)",
                "5:16 member_unknown",
                "math has no random in the sandbox",
            ),
            ("local x = table.inser", "5:17 member_unknown", "did you mean insert?"),
            ("counter = 1", "5:1 global_written", "writes the global counter"),
            (
                "local counter = 1 cuonter = 2",
                "5:19 global_written",
                "did you mean counter?",
            ),
            (
                "function helper() end",
                "5:10 global_written",
                "writes the global helper",
            ),
            (
                "return deny({ statsu = 400 })",
                "5:8 intent",
                "deny has no field statsu; did you mean status?",
            ),
            (
                "return deny({ status = 200 })",
                "5:8 intent",
                "deny.status must be a whole number from 400 to 599",
            ),
            (
                "return deny({ status = '403' })",
                "5:8 intent",
                "deny.status must be a number",
            ),
            (
                "return budget({ account = 'agent', window = 'dayly', limit = conf.x })",
                "5:8 intent",
                "budget.window must be",
            ),
            (
                "return { budget({ account = call.x_, window = 'day', limit = 1 }) }",
                "5:34 fact_unknown",
                "x_",
            ),
            (
                "return budget({ window = 'day', limit = 1 })",
                "5:8 intent",
                "budget.account is missing",
            ),
            (
                "return budget({ account = 'agnet', window = 'day', limit = 1 })",
                "5:8 intent",
                "budget.account must be global",
            ),
            (
                "return rate({ account = 'key', per = 'week', limit = 1 })",
                "5:8 intent",
                "rate.per",
            ),
            (
                "return bind({ tenant = 'x' })",
                "5:8 intent",
                "bind cannot be asked for in request",
            ),
            (
                "return route({ alternatives = {} })",
                "5:8 intent",
                "route.alternatives must have 1 to 16 items",
            ),
            (
                "return alert({ type = 'Bad Type', message = 'x' })",
                "5:8 intent",
                "alert.type must be a word",
            ),
            (
                "if spent('agent', 'dya') > 1 then end",
                "5:4 intent",
                "spent: window must be",
            ),
            (
                "if held('agnet') > 1 then end",
                "5:4 intent",
                "held: account must be global",
            ),
            ("return clamp({ 'x' })", "5:8 intent", "clamp has no field 1"),
        ] {
            let (places, messages) = found(&request(body));
            assert_eq!(
                places.first().map(String::as_str),
                Some(place),
                "{body}: {places:?} {messages}"
            );
            assert!(messages.contains(said), "{body}: {messages}");
        }
    }

    #[test]
    fn what_is_right_is_not_found_fault_with() {
        for body in [
            "local deny = 1 return deny == 2 and nil or nil",
            "for name, value in call.tags do if value == name then return nil end end",
            "local t = call.tags.team return t and tag({ name = 'team', value = t }) or nil",
            "return { deny = nil }",
            "local function f(call) return call.anything end return if call.free then f({}) else nil",
            "local history = call.history history = { mine = 1 } return if history.mine == 2 then nil else nil",
            "local m = call.model:find('opus', 1, true) return m and clamp({ max_output = 10 }) or nil",
            "return { budget({ account = 'tag:team', window = 'day', limit = '5.50', soft = { 0.5, 0.9 } }), allow() }",
            "return alert({ type = 'x', message = `{call.model}`, details = { a = call.agent, b = 1 } })",
            "local b = at do return end",
        ] {
            let (places, messages) = found(&request(body));
            let real: Vec<&String> = places.iter().filter(|place| !place.contains(" at ")).collect();
            if body.contains("= at do") {
                assert_eq!(places.len(), 1, "{messages}");
            } else {
                assert_eq!(real, Vec::<&String>::new(), "{body}: {messages}");
            }
        }
        // Facts of the other phases, and a name that is declared further up.
        let text = "local limit = 5\nreturn { name = 't', version = '1',\n\
            settled = function(_, entry) if tonumber(entry.cost_usd) > limit and entry.usage.input > 1 then \
            return alert({ type = 'dear', message = entry.model }) end end,\n\
            tenant = function(_, call) return if call.claim ~= '' then bind({ tenant = call.claim }) else nil end,\n\
            alert = function(_, event) return if event.whatever == 1 then alert({ type = 'x', message = 'y' }) else nil end }";
        assert_eq!(found(text).0, Vec::<String>::new(), "{}", found(text).1);
        let wrong =
            "return { name = 't', version = '1',\nsettled = function(_, entry)\nreturn entry.cost and deny({}) end }";
        assert_eq!(found(wrong).0, ["3:14 fact_unknown", "3:23 intent"]);
    }

    #[test]
    fn a_file_that_is_no_policy_says_what_it_is() {
        for (text, place, said) in [
            ("local x = 1\n", "-:- no_policy", "the file returns nothing"),
            ("return 5", "-:- no_policy", "the file returns a"),
            ("return {\n\tname = 'x'\n\tversion = '1' }", "3:2 syntax", "Expected"),
            (
                "return {\n  name = 'x',\n  version = '1',\n  requst = function() end,\n  settled = function() end }",
                "4:3 field",
                "did you mean request?",
            ),
            (
                "return { name = 'x', version = '1' }",
                "-:- no_phase",
                "none of the phases tenant, request, settled, alert",
            ),
            (
                "return { name = 'x', version = '1',\n request = 5 }",
                "-:- load",
                "request must be a function",
            ),
            (
                "return { name = 'a b', version = '1',\n request = function() end }",
                "1:10 field",
                "name must be 1 to 64",
            ),
            (
                "return { version = '1',\n request = function() end }",
                "-:- field",
                "name must be text",
            ),
            ("while true do end", "-:- load", "deadline"),
            ("error('no')", "1:1 load", "no"),
        ] {
            let (places, messages) = found(text);
            assert_eq!(
                places.first().map(String::as_str),
                Some(place),
                "{text}: {places:?} {messages}"
            );
            assert!(messages.contains(said), "{text}: {messages}");
        }
        assert_eq!(check_source("big", &"-".repeat(2 << 20))[0].code, "too_long");
    }

    #[test]
    fn everything_wrong_in_a_schema_is_found_at_once() {
        let text = "return {\n\tname = \"s\",\n\tversion = \"1\",\n\tschema = {\n\
            \t\tlimit = { type = \"usd\", default = \"x\" },\n\
            \t\tcount = { typ = \"number\" },\n\
            \t\tshare = { type = \"number\", max = 1, default = 2 },\n\
            \t\tlist = { type = \"list\", items = { type = \"table\", fields = { zone = { type = \"zone\", default = \"Mars\" } } } },\n\
            \t\tkind = { type = \"numbre\" },\n\
            \t\tword = { type = \"string\", one_of = { \"a\" }, default = \"b\" },\n\
            \t},\n\trequest = function() end,\n}\n";
        let (places, messages) = found(text);
        let expected = ["5:3", "6:3", "7:3", "8:3", "9:3", "10:3"].map(|place| format!("{place} schema"));
        assert_eq!(places, expected, "{messages}");
        for said in [
            "limit is",
            "unknown field `typ`",
            "above 1",
            "list[1].zone is no time zone",
            "unknown variant `numbre`",
            "one of",
        ] {
            assert!(messages.contains(said), "{said}: {messages}");
        }
    }

    #[test]
    fn a_conf_is_checked_by_the_schema_and_by_what_the_policy_makes_of_it() {
        let source = |text: &str| Source {
            name: "t".to_owned(),
            text: text.to_owned(),
            origin: "t.lua".to_owned(),
        };
        let text = "return { name = 't', version = '1', schema = { limit = { type = 'usd', required = true } },\n\
            setup = function(conf)\n\treturn { limit = conf.limit.x.y }\nend,\nrequest = function() end }";
        let needs = source(text);
        assert_eq!(check(&needs, None), [], "it is put in force with a conf");
        let wrong = check(&needs, Some(&json!({"limti": 5})));
        let said: Vec<&str> = wrong.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(
            said,
            ["conf.limit is missing", "conf.limti is not in the policy's schema"]
        );
        assert!(wrong.iter().all(|finding| finding.code == "conf"));
        let fails = check(&needs, Some(&json!({"limit": 5})));
        assert_eq!((fails[0].line, fails[0].column), (Some(3), Some(2)), "{fails:?}");
        let call =
            source("return { name = 't', version = '1',\nrequest = function(_, call)\n  return #call.max_output end }");
        let fails = check(&call, None);
        assert_eq!((fails[0].line, fails[0].code), (Some(3), "fails"), "{fails:?}");
        assert!(
            fails[0].to_string().starts_with("t.lua:3:3: on a made-up call: "),
            "{}",
            fails[0]
        );
    }
}
