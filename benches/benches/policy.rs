//! One evaluation of `budget.lua` with 1, 100 and 10,000 key rules (goal: under 6 µs, flat), and what a worker thread pays
//! to load a swapped set. `cargo bench -p agentledger-benches --bench policy`
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use agentledger::config::{BudgetRule, Budgets};
use agentledger::policy::{
    Balances, CallFacts, Engine, Estimate, FailureCounts, NoBalances, Options, PolicySet, budgets_conf, builtin_sources,
};
use agentledger::secret::Secret;
use agentledger_ledger::Usd;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn set(rules: usize) -> PolicySet {
    let rule = |pattern: String, dollars: i64| BudgetRule {
        api_key_pattern: pattern,
        daily_limit: Some(Usd::from_nanos(dollars * 1_000_000_000)),
        monthly_limit: Some(Usd::from_nanos(dollars * 10_000_000_000)),
        soft_limit_ppm: 800_000,
        action: "block".to_owned(),
        ..BudgetRule::default()
    };
    let budgets = Budgets {
        default: Some(rule(String::new(), 50)),
        rules: (0..rules).map(|at| rule(format!("sk-team-{at:05}-*"), 5)).collect(),
        global: None,
    };
    let confs = BTreeMap::from([("budget".to_owned(), budgets_conf(&budgets))]);
    PolicySet::load(builtin_sources(), &confs, Options::default()).expect("the set loads")
}

fn evaluation(criterion: &mut Criterion) {
    let balances: Arc<dyn Balances> = Arc::new(NoBalances);
    let tags = BTreeMap::new();
    let mut group = criterion.benchmark_group("policy");
    for rules in [1usize, 100, 10_000] {
        let engine = Engine::new(set(rules), Arc::new(FailureCounts::default()));
        let key = Secret::new(format!("sk-team-{:05}-abcdefghijklmnop", rules - 1));
        let facts = CallFacts {
            at_ms: 1_772_404_215_000,
            zone: "UTC",
            provider: "anthropic",
            dialect: "anthropic",
            operation: "messages",
            model: "claude-sonnet-4-5",
            stream: true,
            max_output: Some(4_096),
            key: &key,
            fingerprint: "0123456789abcdef01234567",
            claim: "",
            tenant: "",
            agent: "coder",
            session: "",
            user: "",
            task: "",
            path: "/v1/messages",
            tags: &tags,
            estimate: Estimate::default(),
            history: None,
            priced: true,
            free: false,
        };
        let verdict = engine.request(&facts, &balances).expect("the policy runs");
        assert_eq!(verdict.bounds.len(), 2);
        group.bench_function(BenchmarkId::new("budget, key rules", rules), |bench| {
            bench.iter(|| engine.request(black_box(&facts), &balances));
        });
        group
            .sample_size(10)
            .bench_function(BenchmarkId::new("swap, first call after it", rules), |bench| {
                bench.iter_batched(
                    || engine.swap(set(rules)),
                    |()| engine.request(black_box(&facts), &balances),
                    criterion::BatchSize::PerIteration,
                );
            });
    }
    group.finish();
}

criterion_group!(benches, evaluation);
criterion_main!(benches);
