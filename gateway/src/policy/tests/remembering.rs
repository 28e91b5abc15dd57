//! An engine that remembers answers as one that runs every policy each time, whatever is asked.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::policy::fact::Fact;

/// Random calls that each policy is asked about.
const CALLS: usize = 10_000;

/// Numbers that look random, and are the same each time.
struct Dice(StdRng);

impl Dice {
    fn of(seed: u64) -> Dice {
        Dice(StdRng::seed_from_u64(seed))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0.random_range(0..sides)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }

    /// Mostly one of these, sometimes one that never was.
    fn name(&mut self, of: &[&str]) -> String {
        match self.roll(12) {
            0 => format!("{}-{}", self.one(of), self.roll(1 << 40)),
            _ => self.one(of).to_owned(),
        }
    }
}

/// Every account stands where it is put, and further each time that it is read.
#[derive(Default)]
struct Growing(AtomicI64);

impl Balances for Growing {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        let now = self.0.load(Ordering::Relaxed);
        let usd = |cents: i64| Amounts::of_request(Usd::from_nanos(cents * 10_000_000), 0);
        let balances = AccountBalances {
            held: usd(now % 7),
            ..AccountBalances::default()
        };
        let spent = |balances: AccountBalances, window| balances.with_posted(window, usd(now));
        vec![Window::ALL.into_iter().fold(balances, spent); accounts.len()]
    }
}

/// On a busy machine a policy that is given no processor is no slow one.
fn patient() -> Options {
    Options {
        deadline: Duration::from_secs(600),
        ..Options::default()
    }
}

fn patient_set(sources: Vec<Source>) -> PolicySet {
    PolicySet::load(sources, &BTreeMap::new(), patient()).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

/// A call with all that it owns.
struct RandomCall {
    call: Call,
    others: [String; 7],
    models: Vec<String>,
    flags: [bool; 4],
    estimate: CostEstimate,
}

impl RandomCall {
    fn new(dice: &mut Dice, at: usize) -> RandomCall {
        let mut call = Call::with_key(&dice.name(&["sk-dev-1", "sk-web-2", "sk-ops-3", "sk-leaked-4", "other", ""]));
        // Of the same key and of another: nothing here says that one goes with the other.
        call.fingerprint = dice.name(&["f1", "f2", "f3", ""]);
        call.claim = dice.name(&["", "", "acme", "globex"]);
        call.tenant = dice.name(&["", "acme", "globex", "gone"]);
        call.agent = dice.name(&["", "coder", "ci-nightly", "crawler-1"]);
        call.model = dice.name(&["gpt-4o", "gpt-4o-mini", "claude-opus-4-5", "o3-preview", "delete"]);
        // Hours pass, and weeks.
        call.at_ms += i64::try_from(at).unwrap() * 1_234_567;
        call.zone = dice.one(&["UTC", "UTC", "Europe/Berlin", "Asia/Tokyo"]).to_owned();
        call.max_output = [None, Some(1), Some(1_000), Some(100_000)][usize::try_from(dice.roll(4)).unwrap()];
        call.tags = BTreeMap::new();
        for (name, values) in [
            ("team", &["ml", "web", "other"][..]),
            ("feature", &["chat"][..]),
            (TOOL_TAG, &["delete", "search"][..]),
            (SERVER_TAG, &["hub", "files"][..]),
        ] {
            if dice.roll(2) == 0 {
                call.tags.insert(name.into(), dice.name(values).into());
            }
        }
        let grown = u32::try_from(at).unwrap();
        call.history = (dice.roll(3) > 0).then(|| History {
            age_ms: i64::from(grown) * 500,
            calls: grown.into(),
            cost: Usd::from_nanos(i64::from(grown) * 1_000_000),
            tokens: u64::from(grown) * 100,
            window_ms: 300_000,
            repeats: grown % 23,
            tool_repeats: grown % 19,
            stretch: grown % 29,
            distinct: 1 + grown % 3,
            path_calls: grown % 41,
            repeats_cost: Usd::from_nanos(i64::from(grown)),
            ..History::default()
        });
        RandomCall {
            others: [
                dice.name(&["openai", "anthropic"]),
                dice.name(&["openai", "anthropic"]),
                dice.one(&["chat", "messages", TOOL_OPERATION]).to_owned(),
                dice.name(&["", "run-7", "run-8", "run-9"]),
                dice.name(&["", "ann", "eve"]),
                dice.name(&["", "t1"]),
                dice.name(&["/v1/messages", "/v1/chat/completions"]),
            ],
            models: (0..dice.roll(3)).map(|_| dice.name(&["gpt-4o", "o3"])).collect(),
            flags: [
                dice.roll(9) == 0,
                dice.roll(2) == 0,
                dice.roll(4) > 0,
                dice.roll(9) == 0,
            ],
            estimate: CostEstimate {
                input_tokens: dice.roll(1 << 20),
                usd: Usd::from_nanos(i64::try_from(dice.roll(1 << 30)).unwrap()),
                ..CostEstimate::default()
            },
            call,
        }
    }

    fn facts(&self) -> CallFacts<'_> {
        let [provider, dialect, operation, session, user, task, path] = &self.others;
        let [any_model, stream, priced, free] = self.flags;
        CallFacts {
            provider,
            dialect,
            operation,
            session,
            user,
            task,
            path,
            models: &self.models,
            any_model,
            stream,
            priced,
            free,
            estimate: self.estimate,
            ..self.call.facts()
        }
    }
}

/// Counts failures, and what an engine remembered.
#[derive(Default)]
struct Counted {
    failures: FailureCounts,
    hits: AtomicU64,
    misses: AtomicU64,
    unkept: AtomicU64,
}

impl Counters for Counted {
    fn policy_failed(&self, policy: &str, phase: Phase, cause: Cause) {
        self.failures.policy_failed(policy, phase, cause);
    }

    fn policies_asked(&self, lookups: Lookups) {
        self.hits.fetch_add(lookups.hits.into(), Ordering::Relaxed);
        self.misses.fetch_add(lookups.misses.into(), Ordering::Relaxed);
        self.unkept.fetch_add(lookups.unkept.into(), Ordering::Relaxed);
    }
}

impl Counted {
    fn lookups(&self) -> [u64; 3] {
        [&self.hits, &self.misses, &self.unkept].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What both engines are asked: each in a set of its own, made alike.
struct Pair {
    sets: [PolicySet; 2],
    engines: [Engine; 2],
    counts: [Arc<Counted>; 2],
    balances: Arc<Growing>,
}

impl Pair {
    fn new(set: impl Fn() -> PolicySet) -> Pair {
        let counts: [Arc<Counted>; 2] = Default::default();
        let [plain, remembering] = counts.clone();
        Pair {
            sets: [set(), set()],
            engines: [Engine::new(plain), Engine::remembering(remembering)],
            counts,
            balances: Arc::default(),
        }
    }

    fn of(sources: &[Source], confs: &Value) -> Pair {
        let confs: BTreeMap<String, Value> = serde_json::from_value(confs.clone()).unwrap();
        Pair::new(|| PolicySet::load(sources.to_vec(), &confs, patient()).unwrap_or_else(|wrong| panic!("{wrong:?}")))
    }

    /// What both say of a call, in both phases, must be the same.
    fn ask(&self, facts: &CallFacts<'_>) {
        let balances: Arc<dyn Balances> = self.balances.clone();
        let [plain, remembering] = [0, 1].map(|at| {
            let (engine, set) = (&self.engines[at], &self.sets[at]);
            (
                engine.tenant(set, facts, &balances),
                engine.request(set, facts, &balances),
            )
        });
        assert_eq!(plain, remembering);
        let words = |asked: &Result<Verdict, PolicyFailure>| asked.as_ref().map(Verdict::lines).ok();
        assert_eq!(words(&plain.1), words(&remembering.1));
    }

    fn ask_many(&self, calls: usize, seed: u64) {
        let mut dice = Dice::of(seed);
        for at in 0..calls {
            self.balances
                .0
                .fetch_add(i64::try_from(dice.roll(3)).unwrap(), Ordering::Relaxed);
            // Two of three are one of a few again, but for what goes on; the others any.
            let number = if dice.roll(3) > 0 {
                dice.roll(40)
            } else {
                dice.roll(1 << 40)
            };
            let call = RandomCall::new(&mut Dice::of(number), at);
            self.ask(&call.facts());
        }
        let failures = self.counts.each_ref().map(|counts| counts.failures.snapshot());
        assert_eq!(failures[0], failures[1]);
    }

    fn remembered(&self) -> [u64; 3] {
        self.counts[1].lookups()
    }
}

/// A conf with which each shipped policy, and each example, has something to say.
fn confs() -> Value {
    json!({
        "alert": {},
        "block": {"keys": ["sk-leaked-*"], "fingerprints": ["f3"], "agents": ["crawler-*"], "users": ["eve"],
            "tenants": ["gone"], "models": ["*-preview"]},
        "budget": {
            "default": {"daily_limit_usd": "50", "monthly_limit_usd": "500", "soft_limit_pct": 0.8, "action": "block"},
            "rules": [{"api_key_pattern": "sk-dev-*", "daily_limit_usd": "5"},
                {"tenant_id": "acme", "monthly_limit_usd": "1000", "action": "warn"}],
            "global": {"monthly_limit_usd": "9000"},
            "limits": [{"account": "session", "window": "total", "limit": "2"},
                {"account": "tag:team=ml", "window": "month", "limit": "300", "soft": [0.8, 0.9, 1.0]},
                {"account": "agent:ci-*", "window": "minute", "limit": "100000", "unit": "tokens", "action": "clamp"},
                {"account": "model", "window": "day", "limit": "500", "unit": "requests", "action": "warn"},
                {"account": "user", "window": "day", "limit": "3", "action": "downgrade"}],
            "alternatives": [{"model": "*opus*", "to": ["gpt-4o", "gpt-4o-mini"]}],
            "unpriced": "default_price",
            "default_price": {"input": "3", "output": "9"},
        },
        "ghost": {"max_age_mins": 60},
        "loop": {"threshold": 8, "action": "block"},
        "rate_limit": {
            "default": {"requests_per_minute": 60, "requests_per_hour": 1000},
            "rules": [{"api_key_pattern": "sk-web-*", "tokens_per_minute": 5000, "parallel": 3}],
            "limits": [{"account": "agent:ci-*", "requests_per_day": 9}, {"account": "tag:team", "requests_per_day": 99},
                {"account": "global", "requests_per_second": 50}],
        },
        "tenant": {"enabled": true, "zones": {"acme": "Europe/Berlin"},
            "key_mappings": [{"api_key_pattern": "sk-dev-*", "tenant_id": "acme"}, {"api_key_pattern": "sk-web-*", "tenant_id": "globex"}],
            "bindings": [{"api_key_pattern": "sk-ops-*", "user": "ops", "task": "nightly"}]},
        "threshold": {"rules": [{"account": "key", "window": "day", "limit_usd": "1"}]},
        "tools": {"deny": ["hub:del*", "delete"], "rules": [{"api_key_pattern": "sk-ops-*", "allow": ["*:*", "*"]},
            {"tenant": "acme", "agent": "c*", "deny": ["files:*"]}]},
        "break-loop": {}, "burn-alert": {}, "canary": {"percent": 50}, "near-limit": {},
        "night-hours": {}, "run-budget": {}, "weekend-caps": {},
        "key-tags": {"keys": [{"pattern": "sk-web-*", "team": "web"}, {"pattern": "sk-*", "team": "other"}]},
        "team-models": {"teams": {"web": ["gpt-4o-mini", "claude-*"], "ml": ["gpt-4o"]}},
        "top-up": {"limit": "100.10", "extra": "0.20", "till": "2026-03-15T18:00:00Z"},
    })
}

fn examples() -> Vec<Source> {
    let dir = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/policies"));
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "lua"));
    let mut sources: Vec<Source> = files
        .map(|file| {
            source(
                file.file_stem().unwrap().to_str().unwrap(),
                &std::fs::read_to_string(&file).unwrap(),
            )
        })
        .collect();
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    sources
}

/// How much of what a policy is asked is found again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    /// Everything that it is asked comes from facts.
    Much,
    /// Some of its answers hang on what goes on.
    Some,
    /// It reads the time, a balance or the history before anything else matters, or is asked nothing about calls.
    Nothing,
}

fn found(pair: &Pair) -> Found {
    match pair.remembered() {
        [0, ..] => Found::Nothing,
        [_, _, 0] => Found::Much,
        _ => Found::Some,
    }
}

fn each_alone(sources: Vec<Source>, expected: &[(&str, Found)]) {
    let all = confs();
    let mut seen = Vec::new();
    for (seed, source) in (1..).zip(sources) {
        let name = source.name.clone();
        let pair = Pair::of(&[source], &json!({ name.as_str(): all[&name] }));
        pair.ask_many(CALLS, seed);
        let [hits, misses, _] = pair.remembered();
        let wanted = expected.iter().find(|(known, _)| *known == name);
        let (_, wanted) = wanted.unwrap_or_else(|| panic!("{name} is new: say how much of it is found again"));
        assert_eq!(found(&pair), *wanted, "{name}: {:?}", pair.remembered());
        // Names that never were come up all the time: even so most calls ask what was asked before.
        assert!(
            *wanted == Found::Nothing || hits > misses,
            "{name}: {hits} hits, {misses} misses"
        );
        seen.push(name);
    }
    assert_eq!(seen.len(), expected.len());
}

#[test]
fn every_shipped_policy_answers_as_if_it_ran() {
    each_alone(
        builtin_sources(),
        &[
            ("alert", Found::Nothing),
            ("block", Found::Much),
            ("budget", Found::Much),
            ("ghost", Found::Nothing),
            ("loop", Found::Nothing),
            ("rate_limit", Found::Much),
            ("tenant", Found::Much),
            ("threshold", Found::Nothing),
            ("tools", Found::Much),
        ],
    );
}

#[test]
fn every_example_answers_as_if_it_ran() {
    each_alone(
        examples(),
        &[
            ("break-loop", Found::Nothing),
            ("burn-alert", Found::Nothing),
            ("canary", Found::Much),
            ("key-tags", Found::Much),
            ("near-limit", Found::Nothing),
            ("night-hours", Found::Nothing),
            ("run-budget", Found::Much),
            ("team-models", Found::Much),
            ("top-up", Found::Nothing),
            ("weekend-caps", Found::Nothing),
        ],
    );
}

#[test]
fn all_together_answer_as_if_they_ran_and_see_each_others_tags() {
    let mut sources = builtin_sources();
    sources.extend(examples());
    let pair = Pair::of(&sources, &confs());
    pair.ask_many(CALLS, 99);
    assert_eq!(found(&pair), Found::Some);
}

/// Calls that differ in one thing alone.
fn asked_about(request: &str, calls: &[Call]) -> [u64; 3] {
    let pair = Pair::of(&[policy("p", request)], &json!({}));
    // Twice, so that each could be found, and one before another.
    for call in calls.iter().chain(calls) {
        pair.ask(&call.facts());
    }
    pair.remembered()
}

fn calls<const N: usize>(make: impl Fn(&mut Call, usize)) -> [Call; N] {
    std::array::from_fn(|at| {
        let mut call = Call::default();
        make(&mut call, at);
        call
    })
}

#[test]
fn what_is_read_tells_calls_apart_and_what_is_not_does_not() {
    let models: [Call; 3] = calls(|call, at| call.model = format!("m{at}"));
    assert_eq!(
        asked_about("return header{ name = 'x', value = call.model }", &models),
        [3, 3, 0]
    );
    assert_eq!(
        asked_about("return header{ name = 'x', value = call.agent }", &models),
        [5, 1, 0]
    );
    // Which fact is read hangs on another one.
    let paths = "if call.agent == 'coder' then return header{ name = 'x', value = call.model } end
        return header{ name = 'x', value = tostring(call.tags.team) }";
    let agents: [Call; 4] = calls(|call, at| {
        call.agent = ["coder", "other"][at % 2].to_owned();
        call.model = format!("m{}", at / 2);
    });
    assert_eq!(asked_about(paths, &agents), [5, 3, 0]);
    // A tag that is missing is not one that is empty; neither does one text run into the next.
    let tags: [Call; 4] = calls(|call, at| {
        call.tags.clear();
        let tags = [&[][..], &[("a", "")], &[("a", "b")], &[("b", "")]];
        call.tags
            .extend(tags[at].iter().map(|(name, value)| ((*name).into(), (*value).into())));
    });
    let of_a = "return header{ name = 'x', value = tostring(call.tags.a) }";
    assert_eq!(asked_about(of_a, &tags), [5, 3, 0]);
    let all = "local said = '' for name, value in call.tags do said ..= `{name}={value};` end
        return header{ name = 'x', value = said }";
    assert_eq!(asked_about(all, &tags), [4, 4, 0]);
}

#[test]
fn raw_keys_are_told_apart_by_what_is_asked_about_them() {
    let keys: [Call; 3] = calls(|call, at| call.key = Secret::new(["sk-a-1", "sk-a-2", "sk-b"][at].to_owned()));
    let glob = "return header{ name = 'x', value = tostring(call.key:matches('sk-a-*')) }";
    assert_eq!(asked_about(glob, &keys), [4, 2, 0]);
    // What was answered is in the record each time: `Pair::ask` compares it.
    let two = "local one, other = call.key:matches('sk-a-*'), call.key:matches('sk-*')
        return header{ name = 'x', value = `{one} {other}` }";
    assert_eq!(asked_about(two, &keys), [4, 2, 0]);
}

#[test]
fn accounts_and_windows_are_facts_that_were_read() {
    let agents: [Call; 3] = calls(|call, at| call.agent = format!("a{at}"));
    let bound = |account: &str| format!("return budget{{ account = '{account}', window = 'day', limit = 1 }}");
    assert_eq!(asked_about(&bound("agent"), &agents), [3, 3, 0]);
    assert_eq!(asked_about(&bound("global"), &agents), [5, 1, 0]);
    let zones: [Call; 3] = calls(|call, at| call.zone = ["UTC", "Asia/Tokyo", "Europe/Berlin"][at].to_owned());
    assert_eq!(asked_about(&bound("global"), &zones), [3, 3, 0]);
    let teams: [Call; 3] = calls(|call, at| {
        call.tags.insert("team".into(), format!("t{at}").into());
    });
    assert_eq!(asked_about(&bound("tag:team"), &teams), [3, 3, 0]);
}

#[test]
fn what_goes_on_keeps_an_answer_from_being_remembered() {
    let same: [Call; 3] = calls(|_, _| ());
    for request in [
        "return call.at.ms > 0 and allow() or nil",
        "local at = call.at return allow()",
        "return call.estimate.usd > 0 and allow() or nil",
        "return call.history and allow() or nil",
        "return spent('agent', 'day') > 1 and allow() or nil",
        "return held('agent') > 1 and allow() or nil",
        "pcall(function() return call.nonsense end) return allow()",
    ] {
        assert_eq!(asked_about(request, &same), [0, 0, 6], "{request}");
    }
}

#[test]
fn every_fact_of_a_call_is_one_or_goes_on() {
    let passing = ["key", "tags", "estimate", "at", "history"];
    for field in super::super::fields::CALL {
        let is_fact = Fact::of_call(field.as_bytes()).is_some();
        assert_ne!(is_fact, passing.contains(&field), "{field}");
    }
}

#[test]
fn a_policy_that_counts_is_run_each_time() {
    let text = "local calls = 0 return { name = 'p', version = '1', request = function(_, call)
        calls += 1 return header{ name = 'x', value = tostring(calls) } end }";
    let pair = Pair::of(&[source("p", text)], &json!({}));
    (0..10).for_each(|_| pair.ask(&Call::default().facts()));
    assert_eq!(pair.remembered(), [0, 0, 10]);
}

#[test]
fn a_failure_is_not_remembered() {
    let pair = Pair::of(&[policy("p", "error('oh')"), policy("q", "return allow()")], &json!({}));
    (0..10).for_each(|_| pair.ask(&Call::default().facts()));
    assert_eq!(pair.counts.each_ref().map(|counts| counts.failures.total()), [10, 10]);
    assert_eq!(pair.remembered(), [0, 0, 0], "and the next one is not asked");
}

#[test]
fn another_set_remembers_nothing_of_the_one_before() {
    let counts: Arc<Counted> = Arc::default();
    let engine = Engine::remembering(counts.clone());
    let balances: Arc<dyn Balances> = Arc::new(NoBalances);
    let said = |set: &PolicySet| {
        let verdict = engine.request(set, &Call::default().facts(), &balances).unwrap();
        verdict.headers[0].1.clone()
    };
    let text = "return { name = 'p', version = '1', schema = { say = { type = 'string', default = 'a' } },
        request = function(conf, call) return header{ name = 'x', value = conf.say .. call.agent } end }";
    let of = |text: &str| patient_set(vec![source("p", text)]);
    let first = of(text);
    assert_eq!((said(&first), said(&first)), ("acoder".to_owned(), "acoder".to_owned()));
    assert_eq!(counts.lookups(), [1, 1, 0]);
    // Another conf, another text, and the first again.
    let confs = BTreeMap::from([("p".to_owned(), json!({"say": "b"}))]);
    let changed = first.with_confs(&confs).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert_eq!(said(&changed), "bcoder");
    assert_eq!(said(&of(&text.replace("conf.say ..", "'c' .."))), "ccoder");
    assert_eq!(said(&first), "acoder");
    assert_eq!(counts.lookups(), [1, 4, 0]);
}

#[test]
fn what_versions_are_counted_by_is_the_same() {
    let tally = || {
        let clock = Arc::new(agentledger_ledger::ManualClock::new(0));
        Arc::new(Tally::new(None, Arc::new(|| ()), clock))
    };
    let deny = |who: &str| {
        format!("if call.agent == '{who}' then return deny() end return call.key:matches('sk-*') and allow() or nil")
    };
    let tallies = std::cell::RefCell::new(Vec::new());
    let pair = Pair::new(|| {
        let version = |who: &str| {
            let tally = tally();
            tallies.borrow_mut().push(Arc::clone(&tally));
            Version {
                source: policy("p", &deny(who)),
                shadow_only: false,
                tally,
            }
        };
        let files = patient_set(vec![
            policy("p", ""),
            policy("q", "return tag{ name = 'a', value = call.agent }"),
        ]);
        let with = files
            .with_in_force("p", &files, Some(version("coder")), &Value::Null)
            .unwrap();
        with.with_candidate("p", Some(version("crawler-1")), &Value::Null)
            .unwrap()
    });
    pair.ask_many(1_000, 7);
    assert!(found(&pair) == Found::Much);
    let counts: Vec<TallyCounts> = tallies.take().iter().map(|tally| tally.counts()).collect();
    let [in_force, beside, again, again_beside] = counts[..] else {
        panic!("{counts:?}")
    };
    assert_eq!((in_force, beside), (again, again_beside));
    assert!(
        in_force.calls == 1_000 && in_force.denials > 100 && beside.denials > 100,
        "{counts:?}"
    );
}

#[test]
fn ever_new_names_take_no_more_than_their_room() {
    let pair = Pair::of(
        &[policy(
            "p",
            "return budget{ account = 'agent', window = 'day', limit = 1 }",
        )],
        &json!({}),
    );
    let ask = |agent: String| {
        let call = Call {
            agent,
            ..Call::default()
        };
        let balances: Arc<dyn Balances> = pair.balances.clone();
        pair.engines[1]
            .request(&pair.sets[1], &call.facts(), &balances)
            .unwrap();
    };
    for at in 0..30_000 {
        ask(format!("agent-{at}"));
        if at % 100 == 0 {
            ask("regular".to_owned());
        }
    }
    assert_eq!(
        pair.remembered(),
        [299, 30_001, 0],
        "who comes often is known all the time"
    );
    ask("x".repeat(5_000));
    ask("x".repeat(5_000));
    assert_eq!(pair.remembered()[2], 2, "what is too long is not kept");
}
