//! Sums by several words, and refusals.

use super::*;

#[test]
fn sums_by_a_period_and_by_several_names_add_up_to_the_same_with_corrections() {
    let books = Books::open();
    books.settle("gpt-4o", "a", 2_000_000);
    books.settle("gpt-4o", "b", 3_000_000);
    let corrected = books.settle("gpt-4o-mini", "a", 900_000);
    let delta = Usd::from_nanos(-800_000);
    books
        .ledger
        .adjust(corrected.facts.id, delta, "the invoice says less")
        .unwrap();
    books.runtime.block_on(books.ledger.flushed());
    let _handle = books.serve();
    let rows = |words: &str| -> Vec<Value> {
        let ask = Ask {
            form: Some(Form::Json),
            ..ask(&books.config)
        };
        let text = costs::shown(&ask, &by(words)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["rows"]
            .as_array()
            .unwrap()
            .clone()
    };
    let nanos = |rows: &[Value]| -> i64 {
        let costs = rows
            .iter()
            .map(|row| row["cost_usd"].as_str().unwrap().parse::<Usd>().unwrap());
        costs.map(Usd::nanos).sum()
    };
    for (words, count) in [
        ("model", 2),
        ("day", 1),
        ("hour,agent", 2),
        ("week,model", 2),
        ("month", 1),
        ("agent,model", 3),
        ("month,agent,model", 3),
    ] {
        let rows = rows(words);
        // Where a period ends just now there are more.
        assert!(rows.len() >= count, "{words}: {rows:?}");
        assert_eq!(nanos(&rows), 5_100_000, "{words}: {rows:?}");
        assert!(
            rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum::<u64>() == 3,
            "{words}"
        );
    }
    let of_mini = rows("agent,model")
        .into_iter()
        .find(|row| row["model"] == "gpt-4o-mini")
        .unwrap();
    assert_eq!(
        (&of_mini["cost_usd"], &of_mini["agent"]),
        (&"0.0001".into(), &"a".into()),
        "with its correction"
    );
    assert_eq!(rows("month")[0]["month"].as_str().unwrap().len(), "2026-11".len());
    let text = costs_of(&books.config, &by("day,agent")).unwrap();
    assert!(
        text.starts_with("DAY          AGENT   REQUESTS") && text.contains(" UTC\n"),
        "{text}"
    );
}

#[test]
fn refusals_are_listed_with_and_without_a_gateway() {
    let books = Books::open();
    let deny = |account: &str, reason: &str| {
        books.ledger.deny(&agentledger_ledger::Denial {
            account: account.into(),
            tenant: "".into(),
            reason: reason.into(),
            policy: "budget".into(),
        });
    };
    for _ in 0..3 {
        deny("key:k", "budget_exceeded");
    }
    deny("agent:x", "rate_limited");
    let handle = books.serve();
    let listed = |config: &Config| ask(config).read("denial.list", params([]), &denials::DENIALS).unwrap();
    // Of those within a minute the first is told at once, the others when it is over, or the ledger is closed.
    assert!(listed(&books.config).contains("rate_limited"));
    handle.stop();
    let Books {
        config, ledger, _dir, ..
    } = books;
    ledger.close();
    drop(ledger);
    let offline = listed(&config);
    let line = offline.lines().find(|line| line.contains("budget_exceeded")).unwrap();
    assert!(
        line.contains("key:k") && line.contains("budget ") && line.contains("    3   "),
        "{offline}"
    );
}
