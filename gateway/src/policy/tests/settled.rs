//! The phase after the answer: told of entries, asks for nothing, fails open.
use agentledger_ledger::{Entry, Facts, Kind, Outcome, Settlement, Usage};

use super::*;

fn entry() -> Arc<Entry> {
    Arc::new(Entry {
        facts: Facts {
            id: ulid::Ulid::nil(),
            at_ms: 1_772_404_215_000,
            provider: "openai".into(),
            operation: "chat".into(),
            requested_model: "gpt-5".into(),
            stream: true,
            key: "f1".into(),
            tenant: "acme".into(),
            agent: "coder".into(),
            session: "".into(),
            user: "".into(),
            task: "".into(),
            tags: BTreeMap::from([("team".into(), "ml".into())]),
            path: "/v1/chat/completions".into(),
            inferred: Default::default(),
        },
        settlement: Settlement {
            at_ms: 1_772_404_216_500,
            outcome: Outcome::ClientGone,
            status: 200,
            model: "gpt-5-2026".into(),
            usage: Usage::ZERO.with(Kind::Input, 100).with(Kind::CacheRead, 7),
            parts: Vec::new(),
            reasoning: 3,
            cost: Usd::from_nanos(3_750_000),
            reported_cost: None,
            upper_bound: None,
            price: None,
            estimate_reason: Some("client_gone".into()),
            verdict: Vec::new(),
            duration_ms: 1_500,
            ttfb_ms: None,
            response_id: Some("chatcmpl-1".into()),
            request_id: None,
        },
        held: Usd::from_nanos(5_000_000),
        overage: Usd::ZERO,
        overage_reason: None,
        source: None,
    })
}

fn told(body: &str) -> (Vec<PolicyFailure>, u64) {
    let text = format!("return {{ name = 'p', version = '1', settled = function(conf, entry)\n{body}\nend }}");
    let bed = Bed::new(
        PolicySet::load(vec![source("p", &text)], &BTreeMap::new(), hardening::QUICK)
            .unwrap_or_else(|wrong| panic!("{wrong:?}")),
    );
    // A policy without request is not asked there.
    assert!(bed.ask(&Call::default()).unwrap().is_empty());
    (
        bed.engine.settled(&bed.set.load(), &entry(), &bed.balances).1,
        bed.counts.total(),
    )
}

#[test]
fn an_entry_reads_as_its_json_does() {
    let (failures, _) = told(
        r#"
        assert(entry.provider == "openai" and entry.model == "gpt-5-2026" and entry.requested_model == "gpt-5")
        assert(entry.cost_usd == "0.00375" and entry.held_usd == "0.005" and entry.overage_usd == "0")
        assert(entry.outcome == "client_gone" and entry.estimated and entry.estimate_reason == "client_gone")
        assert(entry.usage.input == 100 and entry.usage.cache_read == 7 and entry.usage.output == 0)
        assert(entry.status == 200 and entry.reasoning == 3 and entry.ttfb_ms == nil and entry.stream)
        assert(entry.response_id == "chatcmpl-1" and entry.request_id == "")
        assert(entry.key == "f1" and entry.tags.team == "ml" and entry.at.second == 15)
        return allow()
        "#,
    );
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn failures_are_counted_and_change_nothing() {
    for (body, cause) in [
        ("return entry.cost", Cause::Error),
        ("return entry.usage.inputs", Cause::Error),
        ("while true do end", Cause::Deadline),
        ("return string.rep('x', 1e9)", Cause::Memory),
        ("return deny{}", Cause::Intent),
        ("return clamp{ max_output = 1 }", Cause::Intent),
        (
            "return budget{ account = 'global', window = 'day', limit = 1 }",
            Cause::Intent,
        ),
    ] {
        let (failures, counted) = told(body);
        assert_eq!(
            failures.iter().map(|failure| failure.cause).collect::<Vec<_>>(),
            [cause],
            "{body}: {failures:?}"
        );
        assert_eq!(counted, 1);
    }
}

#[test]
fn one_that_fails_does_not_keep_it_from_the_others() {
    let text = |name: &str, body: &str| {
        source(
            name,
            &format!("return {{ name = '{name}', version = '1', settled = function(conf, entry) {body} end }}"),
        )
    };
    let seen = "held('global')";
    struct Seen(std::sync::atomic::AtomicU32);
    impl Balances for Seen {
        fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            vec![AccountBalances::default(); accounts.len()]
        }
    }
    let all = vec![text("a", seen), text("b", "error('no')"), text("c", "held('key:f1')")];
    let bed = Bed::new(set(all));
    let balances = Arc::new(Seen(0.into()));
    let shared: Arc<dyn Balances> = balances.clone();
    assert_eq!(bed.engine.settled(&bed.set.load(), &entry(), &shared).1.len(), 1);
    assert_eq!(balances.0.load(std::sync::atomic::Ordering::Relaxed), 2);
}
