//! What the policies cost a request: `budget.lua` alone (goal: under 6 µs, flat), all shipped ones in both their phases with
//! 1, 100 and 10,000 key rules each (goal: under 15 µs, flat), and what a worker thread pays at its first request after a
//! swap. `cargo bench -p agentledger-benches --bench policy`
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use agentledger::testing::Secret;
use agentledger::testing::policy::{
    Balances, CallFacts, CostEstimate, Engine, FailureCounts, History, NoBalances, Options, PolicySet, Source,
    builtin_sources,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

fn pattern(at: usize) -> String {
    format!("sk-team-{at:05}-*")
}

fn budget(rules: usize) -> Value {
    let limits = json!({"daily_limit_usd": 5, "monthly_limit_usd": 50, "soft_limit_pct": 0.8, "action": "block"});
    let rule = |at: usize| {
        let mut rule = limits.clone();
        if let Some(rule) = rule.as_object_mut() {
            rule.insert("api_key_pattern".to_owned(), pattern(at).into());
        }
        rule
    };
    json!({"default": limits, "rules": (0..rules).map(rule).collect::<Vec<_>>()})
}

/// The conf of every shipped policy, with so many rules each where it takes rules.
fn confs(rules: usize) -> BTreeMap<String, Value> {
    let rates =
        |at: usize| json!({"api_key_pattern": pattern(at), "requests_per_minute": 600, "requests_per_hour": 10_000});
    let mapping = |at: usize| json!({"api_key_pattern": pattern(at), "tenant_id": format!("tenant-{at}")});
    let list = |of: &dyn Fn(usize) -> Value| (0..rules).map(of).collect::<Vec<_>>();
    let mut confs = BTreeMap::from([
        ("budget", budget(rules)),
        (
            "rate_limit",
            json!({"default": {"requests_per_minute": 60}, "rules": list(&rates)}),
        ),
        ("tenant", json!({"enabled": true, "key_mappings": list(&mapping)})),
        (
            "block",
            json!({"keys": list(&|at| format!("sk-gone-{at:05}-*").into())}),
        ),
        ("loop", json!({"threshold": 20, "window_mins": 5, "action": "block"})),
        (
            "ghost",
            json!({"max_age_mins": 60, "min_calls": 50, "min_cost_usd": "1"}),
        ),
    ]);
    let shipped = builtin_sources();
    confs.retain(|name, _| shipped.iter().any(|source| source.name == *name));
    confs.into_iter().map(|(name, conf)| (name.to_owned(), conf)).collect()
}

fn set(sources: Vec<Source>, confs: &BTreeMap<String, Value>) -> PolicySet {
    PolicySet::load(sources, confs, Options::default()).expect("the set loads")
}

fn all(rules: usize) -> PolicySet {
    set(builtin_sources(), &confs(rules))
}

fn budget_alone(rules: usize) -> PolicySet {
    set(
        builtin_sources(),
        &BTreeMap::from([("budget".to_owned(), budget(rules))]),
    )
}

fn facts<'a>(key: &'a Secret<String>, tags: &'a BTreeMap<Arc<str>, Arc<str>>) -> CallFacts<'a> {
    CallFacts {
        at_ms: 1_772_404_215_000,
        zone: "UTC",
        provider: "anthropic",
        dialect: "anthropic",
        operation: "messages",
        model: "claude-sonnet-4-5",
        models: &[],
        any_model: false,
        stream: true,
        max_output: Some(4_096),
        key,
        fingerprint: "0123456789abcdef01234567",
        claim: "",
        tenant: "acme",
        agent: "coder",
        session: "run-1",
        user: "",
        task: "",
        path: "/v1/messages",
        tags,
        estimate: CostEstimate::default(),
        priced: true,
        free: false,
        history: Some(History {
            window_ms: 300_000,
            repeats: 1,
            tool_repeats: 1,
            stretch: 1,
            distinct: 1,
            path_calls: 12,
            ..History::default()
        }),
    }
}

fn evaluation(criterion: &mut Criterion) {
    let balances: Arc<dyn Balances> = Arc::new(NoBalances);
    let tags = BTreeMap::new();
    let mut group = criterion.benchmark_group("policy");
    for rules in [1usize, 100, 10_000] {
        let key = Secret::new(format!("sk-team-{:05}-abcdefghijklmnop", rules - 1));
        let facts = facts(&key, &tags);
        let set = budget_alone(rules);
        let engine = Engine::new(Arc::new(FailureCounts::default()));
        let verdict = engine.request(&set, &facts, &balances).expect("the policy runs");
        assert_eq!(verdict.bounds.len(), 2);
        group.bench_function(BenchmarkId::new("budget, key rules", rules), |bench| {
            bench.iter(|| engine.request(&set, black_box(&facts), &balances));
        });

        let set = all(rules);
        let bound = engine.tenant(&set, &facts, &balances).expect("the policies run");
        assert!(bound.binding.tenant.is_some());
        let verdict = engine.request(&set, &facts, &balances).expect("the policies run");
        assert_eq!((verdict.bounds.len(), verdict.rates.len()), (2, 2));
        group.bench_function(BenchmarkId::new("all shipped, key rules", rules), |bench| {
            bench.iter(|| {
                let bound = engine.tenant(&set, black_box(&facts), &balances);
                (bound, engine.request(&set, black_box(&facts), &balances))
            });
        });
        group
            .sample_size(10)
            .bench_function(BenchmarkId::new("swap, first call after it", rules), |bench| {
                bench.iter_batched(
                    || all(rules),
                    |set| {
                        let verdict = engine.request(&set, black_box(&facts), &balances);
                        // Given back, so that freeing it is not measured: a gateway does it at the next swap.
                        (verdict, set)
                    },
                    criterion::BatchSize::PerIteration,
                );
            });
    }
    group.finish();
}

/// So many rules as operators keep them at runtime: limits and rates of accounts, of which the call has one.
fn kept(rules: usize) -> BTreeMap<String, Value> {
    let account = |at: usize| match at {
        0 => "agent:coder".to_owned(),
        at => format!("agent:robot-{at}"),
    };
    let limits = |at: usize| json!({"account": account(at), "window": "day", "limit": "5"});
    let rates = |at: usize| json!({"account": account(at), "requests_per_minute": 600});
    let list = |of: &dyn Fn(usize) -> Value| (0..rules).map(of).collect::<Vec<_>>();
    BTreeMap::from([
        ("budget".to_owned(), json!({"limits": list(&limits)})),
        ("rate_limit".to_owned(), json!({"limits": list(&rates)})),
    ])
}

/// What a request costs with runtime rules, and what it costs to change one of them: the policy is set up again, with no file
/// compiled and no other policy touched.
fn runtime_rules(criterion: &mut Criterion) {
    let balances: Arc<dyn Balances> = Arc::new(NoBalances);
    let tags = BTreeMap::new();
    let key = Secret::new("sk-any".to_owned());
    let facts = facts(&key, &tags);
    let mut group = criterion.benchmark_group("runtime rules");
    for rules in [1usize, 100, 10_000] {
        let set = set(builtin_sources(), &kept(rules));
        let engine = Engine::new(Arc::new(FailureCounts::default()));
        let verdict = engine.request(&set, &facts, &balances).expect("the policies run");
        assert_eq!((verdict.bounds.len(), verdict.rates.len()), (1, 1));
        group.bench_function(BenchmarkId::new("a request", rules), |bench| {
            bench.iter(|| engine.request(&set, black_box(&facts), &balances));
        });
        let mut changed = kept(rules);
        changed.remove("rate_limit");
        group
            .sample_size(10)
            .bench_function(BenchmarkId::new("one is changed", rules), |bench| {
                bench.iter(|| {
                    set.with_confs(black_box(&changed))
                        .map(|set| set.names().len())
                        .expect("it fits")
                });
            });
    }
    group.finish();
}

criterion_group!(benches, evaluation, runtime_rules);
criterion_main!(benches);
