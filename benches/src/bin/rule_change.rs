//! From a change of a rule to the next request that obeys it:
//! `cargo build --release -p agentledger -p agentledger-benches && target/release/rule_change [ROUNDS] [RULES…]`
//!
//! Starts the scripted upstream and a gateway beside it, and, with no other runtime rule, then with each number of RULES (500) of
//! the same policy, ROUNDS (100) times: blocks an agent by `rule.put`, then sends its chat, which must be refused; and sets
//! a budget of nothing for an agent by `budget.set`, then sends its chat, which must be refused. Each change is synced before its
//! answer comes. Times are of the call, and of the call with the chat.

use std::time::Instant;

use agentledger_benches::http::Connection;
use agentledger_benches::paced::median;
use agentledger_benches::started::{Failure, Started, call, chat, connected};
use tokio::runtime::Builder;

fn main() -> Result<(), Failure> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let rounds = numbers.first().copied().unwrap_or(100);
    let rules = numbers.get(1..).filter(|rules| !rules.is_empty()).unwrap_or(&[500]);
    let dir = tempfile::tempdir()?;
    let started = Started::new(dir.path(), "admin")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        started.ready().await?;
        run(rounds, rules).await
    })
}

async fn run(rounds: usize, rules: &[usize]) -> Result<(), Failure> {
    let mut connection = connected().await?;
    println!("| change | other rules | call, median | to effect, median | slowest |\n|---|---:|---:|---:|---:|");
    let mut made = 0;
    for wanted in [0].iter().chain(rules) {
        let began = Instant::now();
        let added = wanted.saturating_sub(made);
        while made < *wanted {
            let block = format!(r#"{{"list":"block.agents","value":"other-{made}"}}"#);
            call(&mut connection, "rule.put", &block).await?;
            let limit = format!(r#"{{"account":"agent:other-{made}","limit":5,"window":"day"}}"#);
            call(&mut connection, "budget.set", &limit).await?;
            made += 1;
        }
        if added > 0 {
            let each = began.elapsed().as_secs_f64() * 1e3 / (2.0 * added as f64);
            eprintln!("{added} more rules of each policy: {each:.1} ms each");
        }
        let mut blocks = Vec::new();
        let mut budgets = Vec::new();
        for round in 0..rounds {
            let agent = format!("blocked-{wanted}-{round}");
            let put = format!(r#"{{"list":"block.agents","value":"{agent}"}}"#);
            blocks.push(changed(&mut connection, "rule.put", &put, &agent, 403).await?);
            let agent = format!("poor-{wanted}-{round}");
            let set = format!(r#"{{"account":"agent:{agent}","limit":0,"window":"day"}}"#);
            budgets.push(changed(&mut connection, "budget.set", &set, &agent, 429).await?);
        }
        for (name, times) in [("rule.put block.agents", blocks), ("budget.set", budgets)] {
            let call = median(times.iter().map(|(call, _)| *call));
            let effect = median(times.iter().map(|(_, effect)| *effect));
            let slowest = times.iter().map(|(_, effect)| *effect).fold(0.0, f64::max);
            println!("| {name} | {wanted} | {call:.1} ms | {effect:.1} ms | {slowest:.1} ms |");
        }
    }
    Ok(())
}

/// Makes a change that the agent's next chat must be refused by: milliseconds of the call, and of both.
async fn changed(
    connection: &mut Connection,
    method: &str,
    params: &str,
    agent: &str,
    status: u16,
) -> Result<(f64, f64), Failure> {
    let began = Instant::now();
    call(connection, method, params).await?;
    let called = began.elapsed().as_secs_f64() * 1e3;
    let head = chat(connection, &format!("X-Agent-Id: {agent}\r\n")).await?;
    match head.status() {
        Some(refused) if refused == status => Ok((called, began.elapsed().as_secs_f64() * 1e3)),
        other => Err(format!("after {method} {params} the chat was answered with {other:?}").into()),
    }
}
