//! How fast the past is decided again, and what its record takes on disk:
//! `cargo build --release -p agentledger-benches && target/release/replay [EXCHANGES]`
//!
//! Writes EXCHANGES (100,000) exchanges of 50 keys with all shipped policies in force, each with what its decision read, into a
//! journal in a temporary folder; the same without records, and with a policy that reads a balance, for the difference. Replays them
//! on one thread: exact, simulated with a tighter budget, and both side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agentledger::testing::Secret;
use agentledger::testing::policy::{
    Balances, CallFacts, CostEstimate, DecisionRecord, Engine, FailureCounts, History, NoBalances, Options, Phase,
    PolicySet, Source, Verdict, builtin_sources,
};
use agentledger::testing::price::PriceBook;
use agentledger::testing::replay::{Candidate, Mode, Progress, ReplayPrices, Replayed, Request, recorded_base, replay};
use agentledger_benches::{process, sample};
use agentledger_ledger::{
    Amounts, Bound, Durability, Facts, HoldNotes, Ledger, Name, Options as LedgerOptions, SystemClock, Usd,
    journal_events,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error>;

const KEYS: u64 = 50;

fn main() -> Result<(), Failure> {
    let exchanges: u64 = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let ways = [
        ("without records", false, false),
        ("with records", true, false),
        ("with records, and a policy that reads a balance", true, true),
    ];
    for (name, records, reads) in ways {
        let folder = tempfile::tempdir()?;
        let began = Instant::now();
        write(folder.path(), exchanges, records, reads)?;
        let each = began.elapsed().as_secs_f64() * 1e6 / exchanges as f64;
        let journal = process::disk_bytes(&folder.path().join("journal")) / exchanges;
        println!("{name}: {journal} B an exchange on disk (goal 300), {each:.1} us each to decide and write");
        if records {
            measure(folder.path(), exchanges, reads)?;
        }
    }
    Ok(())
}

/// A policy that people ask for, and that reads a balance on each call.
const NEAR_LIMIT: &str = include_str!("../../../examples/policies/near-limit.lua");

fn confs(limit: &str) -> BTreeMap<String, Value> {
    BTreeMap::from([
        (
            "budget".to_owned(),
            json!({"rules": [{"api_key_pattern": "sk-bench-*", "daily_limit_usd": limit, "action": "block"}]}),
        ),
        ("near-limit".to_owned(), json!({"limit": 1_000_000})),
        (
            "block".to_owned(),
            json!({"keys": ["sk-leaked-*"], "agents": ["crawler"]}),
        ),
    ])
}

fn set(limit: &str, reads: bool) -> Result<PolicySet, Failure> {
    let mut sources = builtin_sources();
    if reads {
        sources.push(Source {
            name: "near-limit".to_owned(),
            text: NEAR_LIMIT.to_owned(),
            origin: "near-limit.lua".to_owned(),
        });
    }
    // There may be a conf of the one that is not among them.
    PolicySet::load_files(sources, &confs(limit), Options::default())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>().into())
}

fn write(folder: &Path, exchanges: u64, records: bool, reads: bool) -> Result<(), Failure> {
    let options = LedgerOptions {
        durability: Durability::Relaxed,
        ..LedgerOptions::new(folder)
    };
    let ledger = Ledger::open(options, Arc::new(SystemClock::default()))?;
    let set = set("1000000", reads)?;
    let rules = ledger.put_in_force(set.digest(), &recorded_base(&set, &confs("1000000")));
    let engine = Engine::new(Arc::new(FailureCounts::default()));
    let balances: Arc<dyn Balances> = Arc::new(NoBalances);
    let keys: Vec<Secret<String>> = (0..KEYS)
        .map(|key| Secret::new(format!("sk-bench-{key:016}")))
        .collect();
    Runtime::new()?.block_on(async {
        for number in 0..exchanges {
            let mut facts = sample::facts(ledger.now_ms(), number);
            facts.key = format!("{:024x}", number % KEYS).into();
            // No tenants are mapped.
            facts.tenant = "".into();
            let key = usize::try_from(number % KEYS)
                .ok()
                .and_then(|at| keys.get(at))
                .ok_or("a key")?;
            let (record, bounds) = decide(&engine, &set, rules, &facts, key, number, &balances)?;
            let permit = ledger.admit().await?;
            let notes = HoldNotes {
                record: records.then(|| record.write(&facts, None, None)),
                bill: None,
            };
            let amounts = Amounts::of_request(Usd::from_nanos(10_000_000), 1_200);
            let hold = ledger.reserve_noted(permit, facts, &bounds, amounts, &Name::from("named maximum"), notes)?;
            hold.settle(sample::settlement(ledger.now_ms()));
            if number % 4_096 == 0 {
                ledger.flushed().await;
            }
        }
        ledger.flushed().await;
        Ok::<(), Failure>(())
    })?;
    ledger.close();
    Ok(())
}

fn decide(
    engine: &Engine,
    set: &PolicySet,
    rules: u64,
    facts: &Facts,
    key: &Secret<String>,
    number: u64,
    balances: &Arc<dyn Balances>,
) -> Result<(DecisionRecord, Vec<Bound>), Failure> {
    let estimate = CostEstimate {
        input_tokens: 200 + number % 300,
        output_tokens: 1_000,
        usd: Usd::from_nanos(10_500_000),
        output_usd: Usd::from_nanos(10_000_000),
    };
    let history = History {
        age_ms: 60_000 + i64::try_from(number % 1_000)?,
        calls: number % 50,
        cost: Usd::from_nanos(500_000_000),
        tokens: 48_000,
        window_ms: 300_000,
        distinct: 3,
        path_calls: 4,
        ..History::default()
    };
    let models = [facts.requested_model.to_string()];
    let call = CallFacts {
        at_ms: facts.at_ms,
        zone: "UTC",
        provider: &facts.provider,
        dialect: &facts.provider,
        operation: &facts.operation,
        model: &facts.requested_model,
        models: &models,
        any_model: false,
        stream: facts.stream,
        max_output: Some(1_000),
        key,
        fingerprint: &facts.key,
        claim: "",
        tenant: "",
        agent: &facts.agent,
        session: &facts.session,
        user: &facts.user,
        task: &facts.task,
        path: &facts.path,
        tags: &facts.tags,
        estimate: CostEstimate::default(),
        history: None,
        priced: true,
        free: false,
    };
    let mut record = DecisionRecord {
        rules,
        dialect: facts.provider.clone(),
        max_output: Some(1_000),
        history: Some(history),
        ..DecisionRecord::default()
    };
    let failed = |failure: &dyn std::fmt::Display| failure.to_string();
    let mut bound: Verdict = engine
        .tenant(set, &call, balances)
        .map_err(|failure| failed(&failure))?;
    record.asked(Phase::Tenant, None, CostEstimate::default(), true, &mut bound);
    let call = CallFacts {
        tenant: &facts.tenant,
        estimate,
        history: Some(history),
        ..call
    };
    let mut verdict = engine
        .request(set, &call, balances)
        .map_err(|failure| failed(&failure))?;
    record.asked(Phase::Request, None, estimate, true, &mut verdict);
    let bounds = verdict.bounds.iter().map(|requested| requested.bound.clone());
    Ok((record, bounds.collect()))
}

fn measure(folder: &Path, exchanges: u64, reads: bool) -> Result<(), Failure> {
    let prices = ReplayPrices::new(PriceBook::builtin()?, BTreeMap::new());
    let candidate = |name: &str, limit: &str| -> Result<Candidate, Failure> {
        Ok(Candidate {
            name: name.to_owned(),
            set: Arc::new(set(limit, reads)?),
            prices: prices.clone(),
        })
    };
    let modes = [
        ("exact", Mode::Exact(None)),
        ("simulated", Mode::Simulated(candidate("tighter", "5")?)),
        (
            "diff",
            Mode::Diff(Box::new((
                candidate("as it is", "1000000")?,
                candidate("tighter", "5")?,
            ))),
        ),
    ];
    for (name, mode) in modes {
        let began = Instant::now();
        let replayed = run(folder, mode);
        let took = began.elapsed().as_secs_f64();
        println!(
            "{name}: {:.0} entries a second ({} of {exchanges} decisions, {} undecidable, well: {})",
            exchanges as f64 / took,
            replayed.decisions,
            replayed.undecidable.iter().map(|row| row.count).sum::<u64>(),
            replayed.is_well()
        );
        for row in replayed.undecidable.iter().take(3) {
            println!("    {}: {}", row.count, row.why);
        }
        for difference in replayed.exact.iter().flat_map(|exact| &exact.differences).take(3) {
            println!(
                "    {}: {} / {}",
                difference.what, difference.recorded, difference.replayed
            );
        }
    }
    Ok(())
}

fn run(folder: &Path, mode: Mode) -> Replayed {
    let request = Request {
        from_ms: 0,
        to_ms: i64::MAX,
        mode,
    };
    replay(
        request,
        &mut |from_ms, visit| match journal_events(folder, from_ms, visit) {
            Ok(read) => read,
            Err(error) => {
                eprintln!("{error}");
                Ok(())
            }
        },
        &Progress::default(),
    )
}
