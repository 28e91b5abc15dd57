//! The engine from outside: what policies can do, and what they cannot do to us.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod authoring;
mod balances;
mod budget;
mod hardening;
mod intents;
mod remembering;
mod settled;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{AccountBalances, Amounts, Bound, Limit, Mode, Name, Unit, Usd, Window, Zone};
use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::verdict::Thresholds;
use super::*;
use crate::secret::Secret;

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
        origin: format!("{name}.lua"),
    }
}

/// A policy file with this body of `request`.
fn policy(name: &str, request: &str) -> Source {
    let text =
        format!("return {{ name = \"{name}\", version = \"1\", request = function(conf, call)\n{request}\nend }}");
    source(name, &text)
}

fn set(sources: Vec<Source>) -> PolicySet {
    PolicySet::load(sources, &BTreeMap::new(), Options::default()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn set_with(sources: Vec<Source>, name: &str, conf: Value) -> Result<PolicySet, Vec<PolicyError>> {
    PolicySet::load(sources, &BTreeMap::from([(name.to_owned(), conf)]), Options::default())
}

struct Bed {
    engine: Engine,
    set: ArcSwap<PolicySet>,
    counts: Arc<FailureCounts>,
    balances: Arc<dyn Balances>,
}

impl Bed {
    fn new(set: PolicySet) -> Bed {
        let counts = Arc::new(FailureCounts::default());
        Bed {
            engine: Engine::new(counts.clone()),
            set: ArcSwap::from_pointee(set),
            counts,
            balances: Arc::new(NoBalances),
        }
    }

    fn of(request: &str) -> Bed {
        Bed::new(set(vec![policy("p", request)]))
    }

    fn ask(&self, call: &Call) -> Result<Verdict, PolicyFailure> {
        self.engine.request(&self.set.load(), &call.facts(), &self.balances)
    }
}

/// What one body of `request` does on an ordinary call.
fn run(request: &str) -> Result<Verdict, PolicyFailure> {
    Bed::of(request).ask(&Call::default())
}

struct Call {
    key: Secret<String>,
    fingerprint: String,
    claim: String,
    tenant: String,
    agent: String,
    model: String,
    at_ms: i64,
    zone: String,
    max_output: Option<u64>,
    tags: BTreeMap<Name, Name>,
    history: Option<History>,
}

impl Default for Call {
    fn default() -> Call {
        Call::with_key("sk-dev-1")
    }
}

impl Call {
    fn with_key(key: &str) -> Call {
        Call {
            key: Secret::new(key.to_owned()),
            fingerprint: "f1".to_owned(),
            claim: String::new(),
            tenant: String::new(),
            agent: "coder".to_owned(),
            model: "claude-opus-4-5".to_owned(),
            // 2026-03-01 is a Sunday; 22:30:15 UTC.
            at_ms: 1_772_404_215_000,
            zone: "UTC".to_owned(),
            max_output: Some(1_000),
            tags: BTreeMap::from([("team".into(), "ml".into()), ("feature".into(), "chat".into())]),
            history: None,
        }
    }

    fn for_tenant(mut self, tenant: &str) -> Call {
        self.tenant = tenant.to_owned();
        self
    }

    fn facts(&self) -> CallFacts<'_> {
        CallFacts {
            at_ms: self.at_ms,
            zone: &self.zone,
            provider: "anthropic",
            dialect: "anthropic",
            operation: "messages",
            model: &self.model,
            models: std::slice::from_ref(&self.model),
            any_model: false,
            stream: true,
            max_output: self.max_output,
            key: &self.key,
            fingerprint: &self.fingerprint,
            claim: &self.claim,
            tenant: &self.tenant,
            agent: &self.agent,
            session: "",
            user: "",
            task: "",
            path: "/v1/messages",
            tags: &self.tags,
            estimate: CostEstimate {
                input_tokens: 120,
                output_tokens: 1_000,
                usd: Usd::from_nanos(25_600_000),
                output_usd: Usd::from_nanos(25_000_000),
            },
            history: self.history,
            priced: true,
            free: false,
        }
    }
}

#[test]
fn a_whole_policy_as_the_design_shows_it() {
    let text = r#"
      return {
        name = "no-dear-models-at-night", version = "1", priority = 50,
        schema = { after_hour = { type = "number", default = 20, description = "local hour from which it holds" } },
        request = function(conf, call)
          if call.at.hour >= conf.after_hour and call.key:matches("sk-dev-*") and call.model:find("opus") then
            return deny{ status = 403, code = "model_not_allowed", message = "no opus for dev keys at night" }
          end
          return { budget{ account = "agent:" .. call.agent, window = "day", limit = 5, unit = "usd", action = "block" } }
        end,
      }"#;
    let bed = Bed::new(set(vec![source("night", text)]));
    let deny = bed.ask(&Call::default()).unwrap().deny.unwrap();
    assert_eq!(
        (deny.status, deny.code.as_str(), &*deny.policy),
        (403, "model_not_allowed", "no-dear-models-at-night@1")
    );

    let verdict = bed.ask(&Call::with_key("sk-prod-1")).unwrap();
    let limit = Limit::usd(Usd::from_nanos(5_000_000_000)).unwrap();
    let expected = RequestedBound {
        bound: Bound::new("agent:coder".into(), Window::Day, Zone::utc(), limit, Mode::Hard).unwrap(),
        soft: Thresholds::default(),
        clamps: false,
        policy: "no-dear-models-at-night@1".into(),
    };
    assert_eq!((verdict.bounds.as_slice(), verdict.deny), ([expected].as_slice(), None));

    let late = set_with(
        vec![source("night", text)],
        "no-dear-models-at-night",
        json!({"after_hour": 23}),
    )
    .unwrap();
    bed.set.store(Arc::new(late));
    assert!(bed.ask(&Call::default()).unwrap().deny.is_none());
}

#[test]
fn facts_are_what_the_proxy_knows() {
    run(r#"
      assert(call.provider == "anthropic" and call.operation == "messages" and call.path == "/v1/messages")
      assert(call.stream == true and call.max_output == 1000 and call.session == "")
      assert(call.tags.team == "ml" and call.tags.none == nil)
      local seen = {}
      for name, value in call.tags do table.insert(seen, name .. "=" .. value) end
      table.sort(seen)
      assert(table.concat(seen, ",") == "feature=chat,team=ml")
      assert(call.estimate.input_tokens == 120 and call.estimate.usd == 0.0256)
      local at = call.at
      assert(at.year == 2026 and at.month == 3 and at.day == 1 and at.hour == 22 and at.minute == 30)
      assert(at.weekday == 7 and at.zone == "UTC")
      local there = at:in_zone("Asia/Tokyo")
      assert(there.day == 2 and there.hour == 7 and there.weekday == 1)
      assert(call.key.fingerprint == "f1" and call.key.present and tostring(call.key) == "f1")
    "#)
    .unwrap();
    for (slip, named) in [
        ("return call.modle", "modle"),
        ("return call.at.hours", "hours"),
        ("call.model = 'x'", ""),
    ] {
        let failure = run(slip).unwrap_err();
        assert!(failure.message.contains(named), "{failure}");
    }
}

#[test]
fn lower_priority_runs_first_and_a_deny_is_the_last_word() {
    let at = |name: &str, priority: i32, body: &str| {
        let text = format!(
            "return {{ name = \"{name}\", version = \"2\", priority = {priority}, request = function(conf, call) {body} end }}"
        );
        source(name, &text)
    };
    let bed = Bed::new(set(vec![
        at("last", 30, "error('never asked')"),
        at("second", 20, "return deny{ code = 'no' }"),
        at(
            "first",
            10,
            "return { header{ name = 'X-A', value = '1' }, clamp{ max_output = 10 } }",
        ),
        at("silent", 5, ""),
    ]));
    let names: Vec<String> = bed.set.load().names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["silent@2", "first@2", "second@2", "last@2"]);
    let verdict = bed.ask(&Call::default()).unwrap();
    assert_eq!(
        verdict.policies_applied.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["first@2", "second@2"]
    );
    assert_eq!(verdict.deny.unwrap().message, "refused by policy second@2");
    assert_eq!(
        (verdict.clamp, verdict.headers),
        (Some(10), vec![("x-a".to_owned(), "1".to_owned())])
    );
}

#[test]
fn files_are_refused_with_their_line_and_key() {
    let wrong = |text: &str| {
        PolicySet::load(vec![source("bad", text)], &BTreeMap::new(), Options::default())
            .err()
            .unwrap()
    };
    for (text, line, says) in [
        ("return {\n  name = = 1\n}", Some(2), "="),
        ("local x = 1", None, "returns nothing"),
        ("return 5", None, "returns a"),
        (
            "return { name = 'x',\n version = 1, request = function() end }",
            Some(2),
            "version must be text",
        ),
        ("return { name = 'x', version = '1' }", None, "none of the phases"),
        (
            "return { name = 'x', version = '1',\n requst = function() end }",
            Some(2),
            "requst",
        ),
        (
            "return { name = 'x', version = '1', request = 5 }",
            None,
            "request must be a function",
        ),
        ("\nerror('broken on purpose')", Some(2), "broken on purpose"),
        (
            "return { name = 'x', version = '1', request = function() end,\n schema = {\n a = { type = 'float' } } }",
            Some(3),
            "float",
        ),
        (
            "return { name = 'x', version = '1', request = function() end,\n schema = {\n a = { type = 'usd', default = -1 } } }",
            Some(3),
            "negative",
        ),
        (
            "return { name = 'x', version = '1', request = function() end, setup = function()\n error('no') end }",
            Some(2),
            "no",
        ),
        ("while true do end", None, "deadline"),
    ] {
        let errors = wrong(text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].message.contains(says), "{text}: {}", errors[0]);
        assert!(line.is_none() || errors[0].line == line, "{text}: {}", errors[0]);
        assert_eq!(errors[0].file, "bad.lua");
    }
}

#[test]
fn confs_are_checked_by_the_schema() {
    let text = "return { name = 'x', version = '1', request = function(conf)\n assert(conf.limit == '2.5') end,\n schema = {\n limit = { type = 'usd', required = true },\n who = { type = 'list', items = { type = 'glob' } },\n kind = { type = 'string', one_of = { 'a', 'b' } },\n n = { type = 'integer', min = 1, max = 9 } } }";
    let load = |conf: Value| set_with(vec![source("x", text)], "x", conf);
    let bed = Bed::new(load(json!({"limit": 2.5, "who": ["sk-*"], "kind": "a", "n": 3})).unwrap());
    bed.ask(&Call::default()).unwrap();
    let errors = load(json!({"limit": "-1", "who": ["ok", "[bad"], "kind": "c", "n": 10, "typo": 1}))
        .err()
        .unwrap();
    let all = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for expected in [
        "x.lua:4: conf.limit is negative",
        "conf.who[2]",
        "conf.kind must be one of",
        "conf.n is 10, above 9",
        "conf.typo is not",
    ] {
        assert!(all.contains(expected), "{expected} in\n{all}");
    }
    assert!(
        load(json!({})).err().unwrap()[0]
            .message
            .contains("conf.limit is missing")
    );
    let nobody = set_with(vec![source("x", text)], "nobody", json!({})).err().unwrap();
    assert!(!nobody.is_empty());
}

#[test]
fn a_folder_adds_replaces_and_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("policies");
    let mut watch = Watch::default();
    assert!(!watch.changed(Some(&dir)));
    assert_eq!(
        load_dir(Some(&dir), &BTreeMap::new(), Options::default())
            .unwrap()
            .names()
            .len(),
        builtin_sources().len()
    );
    std::fs::create_dir(&dir).unwrap();
    assert!(!watch.changed(Some(&dir)));
    std::fs::write(dir.join("budget.lua"), policy("mine", "").text).unwrap();
    assert!(watch.changed(Some(&dir)) && !watch.changed(Some(&dir)));
    let names = load_dir(Some(&dir), &BTreeMap::new(), Options::default())
        .unwrap()
        .names();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    assert!(names.contains(&"mine@1") && !names.contains(&"budget@2"), "{names:?}");
    std::fs::write(dir.join("broken.lua"), "return {\n!").unwrap();
    assert!(watch.changed(Some(&dir)));
    let errors = load_dir(Some(&dir), &BTreeMap::new(), Options::default())
        .err()
        .unwrap();
    assert!(
        errors[0].file.ends_with("broken.lua") && errors[0].line == Some(2),
        "{errors:?}"
    );
    assert!(!watch.changed(Some(&dir)));
}

#[test]
fn confs_may_have_maps_times_zones_and_amounts_and_checks_across_fields() {
    let text = "return { name = 'x', version = '1',
      schema = {
        zones = { type = 'map', items = { type = 'zone' } },
        since = { type = 'time' },
        most = { type = 'amount' },
        words = { type = 'list', items = { type = 'string' } },
      },
      check = function(conf)
        if conf.since and conf.since > 5 and not conf.most then return { { key = 'since', message = 'needs most' } } end
      end,
      request = function(conf)
        assert(conf.zones.acme == 'Europe/Berlin' and conf.since == 1767225600000)
        assert(conf.most == '90000000000' and conf.words[1] == 'one' and #conf.words == 1)
      end }";
    let load = |conf: Value| set_with(vec![source("x", text)], "x", conf);
    let good =
        json!({"zones": {"acme": "Europe/Berlin"}, "since": "2026-01-01", "most": 90_000_000_000_u64, "words": "one"});
    Bed::new(load(good).unwrap()).ask(&Call::default()).unwrap();
    for (conf, line, says) in [
        (
            json!({"zones": {"acme": "Mars/Base"}}),
            Some(3),
            "conf.zones.acme is no time zone",
        ),
        (json!({"since": "yesterday"}), Some(4), "conf.since is no time"),
        (json!({"most": -1}), Some(5), "conf.most is negative"),
        (
            json!({"since": "2026-01-01T00:00:00+01:00"}),
            Some(4),
            "conf.since needs most",
        ),
    ] {
        let errors = load(conf).err().unwrap();
        assert!(errors[0].message.contains(says) && errors[0].line == line, "{errors:?}");
    }
    let taken =
        "return { name = 'x', version = '1', request = function() end,\n schema = { mode = { type = 'string' } } }";
    assert!(
        set_with(vec![source("x", taken)], "x", json!({})).err().unwrap()[0]
            .message
            .contains("every policy's already")
    );
}

#[test]
fn setup_runs_once_and_its_result_reaches_every_thread() {
    let text = "return { name = 'x', version = '1',
      setup = function(conf)
        local shared = { 7 }
        local loop = { shared = shared, again = shared, of = choose({ 'sk-dev-*', 'sk-*' }, { limits({ { window = 'day', limit = 3 } }), 'text' }) }
        loop.self = loop
        loop.exact = choose({ 'coder', 'b' }, { 1, false }, 'exact')
        loop.globs = globs({ 'a', '*' })
        return loop
      end,
      request = function(conf, call, book)
        assert(book.self == book and book.shared == book.again and book.shared[1] == 7)
        assert(book.exact:of(call.agent) == 1 and book.exact:of('b') == false and book.exact:of('c') == nil)
        assert(book.globs:first('zz') == 2 and book.of:of('sk-x') == 'text' and book.of:of('none') == nil)
        assert(not pcall(function() book.shared[1] = 8 end) and not pcall(function() book.new = 1 end))
        return book.of:of(call.key):on('agent')
      end }";
    let bed = Bed::new(set(vec![source("x", text)]));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..3 {
                    assert_eq!(
                        bed.ask(&Call::default()).unwrap().lines(),
                        ["budget agent:coder day 3 usd block"]
                    );
                }
            });
        }
    });
    for (setup, says) in [
        ("return { function() end }", "setup returned a function"),
        ("return setmetatable({}, { __index = math })", "metatable"),
        ("return { choose({ 'a' }, {}) }", "1 patterns and 0 values"),
        ("return { choose({ '[' }, { 1 }) }", "pattern 1"),
    ] {
        let text =
            format!("return {{ name = 'x', version = '1', setup = function() {setup} end, request = function() end }}");
        let errors = PolicySet::load(vec![source("x", &text)], &BTreeMap::new(), Options::default())
            .err()
            .unwrap();
        assert!(errors[0].message.contains(says), "{errors:?}");
    }
}

#[test]
fn a_large_conf_costs_nothing_until_it_is_looked_into() {
    let text = "return { name = 'x', version = '1', schema = { rules = { type = 'list', default = {} }, deep = { type = 'table' } },
      request = function(conf, call)
        if call.agent == 'looks' then
          assert(#conf.rules == 20000 and conf.rules[7] == 'rule 7' and conf.nothing == nil)
          local seen = 0
          for name in conf do seen += 1 end
          return header{ name = 'x', value = seen .. '' }
        end
      end }";
    let rules: Vec<Value> = (1..=20_000).map(|at| json!(format!("rule {at}"))).collect();
    let bed = Bed::new(set_with(vec![source("x", text)], "x", json!({ "rules": rules })).unwrap());
    assert!(bed.ask(&Call::default()).unwrap().is_empty());
    let looks = Call {
        agent: "looks".to_owned(),
        ..Call::default()
    };
    assert_eq!(bed.ask(&looks).unwrap().lines(), ["header x: 1"]);
}

#[test]
fn kinds_alone_are_the_calls_own_accounts_and_clients_cannot_break_them() {
    let call = Call {
        model: "m".repeat(2_000),
        agent: String::new(),
        ..Call::default()
    };
    let requested = "local function b(account) return budget{ account = account, window = 'total', limit = 1 } end
      return { b'key', b'agent', b'model', b'provider', b'tag:team', b'tag:none', b'tag:a=b', b'global', b'user:x' }";
    let bounds = Bed::of(requested).ask(&call).unwrap().bounds;
    let accounts: Vec<&str> = bounds.iter().map(|requested| &**requested.bound.account()).collect();
    assert_eq!(
        accounts,
        [
            "key:f1",
            "agent:",
            "model:other",
            "provider:anthropic",
            "tag:team=ml",
            "tag:none=",
            "tag:a=b",
            "global",
            "user:x"
        ]
    );
    assert!(run("assert(spent('key', 'day') == 0 and held('tag:team') == 0)").is_ok());
    assert!(run("return budget{ account = 'keys', window = 'day', limit = 1 }").is_err());
}

#[test]
fn the_shipped_policies_pass_their_specs() {
    let dir = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies"));
    let tested = spec::test_folder(dir, false).unwrap_or_else(|errors| panic!("{errors:?}"));
    let outcomes = tested.outcomes;
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| {
            Some(format!(
                "{}: {}: {}",
                outcome.file.display(),
                outcome.spec,
                outcome.fault.as_ref()?
            ))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for source in builtin_sources() {
        let own = |outcome: &&spec::Outcome| outcome.file.file_stem().is_some_and(|stem| *stem == *source.name);
        assert!(
            outcomes.iter().filter(own).count() >= 5,
            "{} has hardly a spec",
            source.name
        );
    }
}

#[test]
fn specs_find_what_is_wrong_and_policies_that_remember() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write(
        "counts.lua",
        "local asked = 0 return { name = 'counts', version = '1', request = function(_, call)
           asked += 1 return header{ name = 'x', value = (if call.agent == 'counts' then asked else 0) .. '' } end }",
    );
    write(
        "spec/counts.lua",
        "return { policy = 'counts', specs = {
           { name = 'good', call = {}, expect = { 'header x: 0' } },
           { name = 'wrong', call = {}, expect = {} },
           { name = 'remembers', call = { agent = 'counts' }, expect = { 'header x: 1' } },
           { name = 'does not fail', call = {}, fails = 'no' },
         } }",
    );
    let outcomes = spec::test_folder(folder.path(), false).unwrap().outcomes;
    let faults: Vec<Option<&str>> = outcomes.iter().map(|outcome| outcome.fault.as_deref()).collect();
    assert_eq!(faults[0], None);
    for (fault, says) in faults[1..].iter().zip([
        "expected\n  nothing\ngot\n  header x: 0",
        "remembers",
        "expected a failure",
    ]) {
        assert!(fault.unwrap().contains(says), "{fault:?}");
    }
    write("spec/broken.lua", "return { policy = 'counts', spexs = {} }");
    let outcomes = spec::test_folder(folder.path(), false).unwrap().outcomes;
    let broken: Vec<&spec::Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.file.ends_with("spec/broken.lua"))
        .collect();
    assert_eq!(broken.len(), 1);
    assert!(broken[0].fault.as_ref().unwrap().contains("spexs"));
    assert_eq!(outcomes.len(), 5, "the others run all the same");
}
