//! The commands end to end: a ledger in a temporary folder, with and without a gateway's control socket over it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sums_tests;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use agentledger_ledger::testing::flip;
use agentledger_ledger::{
    Amounts, Bound, Clock, Entry, Facts, Hold, Kind, Ledger, Limit, Mode, Name, Options, Outcome, Settlement,
    SystemClock, Usage, Usd, Window, Zone,
};
use arc_swap::ArcSwap;
use serde_json::Value;
use tempfile::TempDir;
use ulid::Ulid;

use super::alerts;
use super::ask::{Ask, Target, params};
use super::budgets::BudgetsArgs;
use super::client::Client;
use super::costs::{CostsError, CostsQuery};
use super::form::Form;
use super::style::Style;
use super::{
    CliError, budgets, costs, denials, export, holds, keys, overview, policy, prices, providers, rules, sessions,
    settings, tenants, verify,
};
use crate::config::Config;
use crate::control::{self, ControlHandle, ControlState, NoDataPlane};
use crate::telemetry::Metrics;

const KEY: &str = "0123456789abcdef01234567";

/// A folder with a ledger, and the config that names it.
struct Books {
    config: Config,
    runtime: tokio::runtime::Runtime,
    ledger: Arc<Ledger>,
    /// Removed after the ledger is closed.
    _dir: TempDir,
}

impl Books {
    fn open() -> Books {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::for_tests(dir.path());
        config.control.socket = dir.path().join("s");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let ledger = Ledger::open(Options::new(&config.storage.dir), clock).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Books {
            _dir: dir,
            config,
            runtime,
            ledger,
        }
    }

    /// The control plane of a gateway over this ledger.
    fn serve(&self) -> ControlHandle {
        let state = ControlState {
            ledger: self.ledger.clone().into(),
            config: Arc::new(ArcSwap::from_pointee(self.config.clone())),
            metrics: Arc::new(Metrics::new(&self.config.limits)),
            data_plane: Arc::new(NoDataPlane),
            version: "0.0.0",
            started_at_ms: 0,
            requests: Default::default(),
            corrections: Default::default(),
            replays: Default::default(),
            verifications: Default::default(),
            issued_tokens: Default::default(),
        };
        control::start(Arc::new(state), &self.config.control.socket, None).unwrap()
    }

    fn hold(&self, facts: Facts) -> Hold {
        let permit = self.runtime.block_on(self.ledger.admit()).unwrap();
        let account = Name::from(format!("key:{}", facts.key));
        let limit = Limit::usd(Usd::from_nanos(5_000_000_000)).unwrap();
        let bound = Bound::new(account, Window::Day, Zone::utc(), limit, Mode::Hard).unwrap();
        let amounts = Amounts::of_request(Usd::from_nanos(10_000_000), 500);
        self.ledger
            .reserve(permit, facts, &[bound], amounts, &Name::from("named maximum"))
            .unwrap()
    }

    fn settle(&self, model: &str, agent: &str, cost_nanos: i64) -> Entry {
        let hold = self.hold(self.facts(model, agent));
        let settled = hold.settle(settlement(self.ledger.now_ms(), model, cost_nanos));
        let entry = settled.entry.clone();
        self.runtime.block_on(self.ledger.flushed());
        entry
    }

    fn facts(&self, model: &str, agent: &str) -> Facts {
        let name = |text: &str| Name::from(text);
        Facts {
            id: Ulid::new(),
            at_ms: self.ledger.now_ms(),
            provider: name("openai"),
            operation: name("chat"),
            requested_model: name(model),
            stream: false,
            key: name(KEY),
            tenant: name(""),
            agent: name(agent),
            session: name(""),
            user: name(""),
            task: name(""),
            tags: Default::default(),
            path: name("/v1/chat/completions"),
            inferred: Default::default(),
        }
    }

    /// The config of a copy of the folder as it is on disk now: what `kill -9` would leave, stale socket included.
    fn killed(&self, into: &Path) -> Config {
        let mut config = Config::for_tests(into);
        copy(&self.config.storage.dir, &config.storage.dir);
        config.control.socket = into.join("s");
        drop(UnixListener::bind(&config.control.socket).unwrap());
        config
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

fn settlement(at_ms: i64, model: &str, cost_nanos: i64) -> Settlement {
    Settlement {
        at_ms,
        outcome: Outcome::Completed,
        status: 200,
        model: Name::from(model),
        usage: Usage::default()
            .with(Kind::Input, 1_000)
            .with(Kind::CacheRead, 200)
            .with(Kind::Output, 30),
        parts: Vec::new(),
        reasoning: 0,
        cost: Usd::from_nanos(cost_nanos),
        reported_cost: None,
        upper_bound: None,
        price: None,
        estimate_reason: None,
        verdict: Vec::new(),
        duration_ms: 12,
        ttfb_ms: Some(3),
        response_id: None,
        request_id: None,
    }
}

fn target(config: &Config) -> Target {
    config.clone().into()
}

fn ask(config: &Config) -> Ask {
    Ask {
        target: target(config),
        style: Style::PLAIN,
        form: None,
    }
}

fn costs_of(config: &Config, query: &CostsQuery) -> Result<String, CostsError> {
    costs::shown(&ask(config), query)
}

fn budgets_of(config: &Config, query: &BudgetsArgs) -> Result<String, CliError> {
    budgets::status(&ask(config), query)
}

fn holds_of(config: &Config) -> Result<String, CliError> {
    holds::list(&ask(config))
}

fn explained(config: &Config, id: &str) -> Result<String, CliError> {
    holds::explain(&ask(config), id)
}

fn verified(config: &Config, expect: Option<&str>) -> Result<(String, bool), verify::VerifyError> {
    let found = verify::verify(&target(config), expect)?;
    let report = verify::report(&target(config), &found, expect, Style::PLAIN);
    Ok((report, found.ok))
}

fn by(by: &str) -> CostsQuery {
    CostsQuery {
        by: vec![by.to_owned()],
        ..CostsQuery::default()
    }
}

fn exported(config: &Config, query: &CostsQuery, format: &str) -> String {
    let mut out = Vec::new();
    export::export(&target(config), query, format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const BY_MODEL: &str = "\
PROVIDER   MODEL         REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)
--------   -----------   --------   ------------   -------------   ----------
openai     gpt-4o        2          2400           60              $0.0050
openai     gpt-4o-mini   1          1200           30              $0.0001
--------   -----------   --------   ------------   -------------   ----------
TOTAL                    3          3600           90              $0.0051
";

#[test]
fn costs_are_the_same_with_and_without_a_gateway() {
    let books = Books::open();
    books.settle("gpt-4o-mini", "a", 100_000);
    books.settle("gpt-4o", "a", 2_000_000);
    books.settle("gpt-4o", "", 3_000_000);
    let handle = books.serve();
    assert_eq!(costs_of(&books.config, &by("model")).unwrap(), BY_MODEL);
    let unknown = costs_of(&books.config, &by("modle")).unwrap_err();
    assert!(
        unknown.is_usage() && unknown.to_string().contains("did you mean model?"),
        "{unknown}"
    );
    handle.stop();
    let Books {
        config, ledger, _dir, ..
    } = books;
    ledger.close();
    drop(ledger);
    assert_eq!(costs_of(&config, &by("model")).unwrap(), BY_MODEL);
}

#[test]
fn export_by_entry_has_everything_settled_so_far_while_a_gateway_runs() {
    let books = Books::open();
    let _handle = books.serve();
    let first = books.settle("gpt-4o", "a", 1);
    // Settled, and not waited for.
    let hold = books.hold(books.facts("gpt-4o-mini", "b"));
    let second = hold
        .settle(settlement(books.ledger.now_ms(), "gpt-4o-mini", 2))
        .entry
        .clone();
    let text = exported(&books.config, &by("entry"), "jsonl");
    let expected: Vec<String> = [&first, &second]
        .map(|entry| serde_json::to_string(entry).unwrap() + "\n")
        .to_vec();
    assert_eq!(text, expected.concat());
    assert_eq!(text, exported(&books.config, &by("entry"), ""));
    let csv = exported(&books.config, &by("entry"), "csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("id,at,provider,operation,"), "{csv}");
    assert!(
        lines.len() == 3 && lines[1].starts_with(&first.facts.id.to_string()),
        "{csv}"
    );
}

#[test]
fn exports_go_through_many_pages() {
    let books = Books::open();
    let _handle = books.serve();
    let ids: Vec<String> = (0..2_500)
        .map(|n| {
            let hold = books.hold(books.facts("m", ""));
            hold.settle(settlement(books.ledger.now_ms(), "m", n))
                .entry
                .facts
                .id
                .to_string()
        })
        .collect();
    let text = exported(&books.config, &by("entry"), "jsonl");
    let found: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(found, ids);
}

#[test]
fn filters_let_pass_what_they_name() {
    let books = Books::open();
    let _handle = books.serve();
    for n in 0..30 {
        books.settle("m", if n % 10 == 0 { "rare" } else { "common" }, n);
    }
    let client = Client::open(&books.config).unwrap().unwrap();
    let mut found = 0;
    let mut params = serde_json::json!({ "agent": "rare", "limit": 2 });
    loop {
        let page: Value = client.call("ledger.query", &params).unwrap();
        let entries = page["entries"].as_array().unwrap();
        assert!(
            entries.len() <= 2 && entries.iter().all(|entry| entry["agent"] == "rare"),
            "{page}"
        );
        found += entries.len();
        if page["next"].is_null() {
            break;
        }
        params["cursor"] = page["next"].clone();
    }
    assert_eq!(found, 3);
}

#[test]
fn an_empty_ledger_and_none_at_all_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::for_tests(dir.path());
    let empty = Books::open();
    let _handle = empty.serve();
    let nothing = format!("{}\n", costs::NOTHING);
    assert_eq!(costs_of(&empty.config, &by("model")).unwrap(), nothing);
    assert_eq!(exported(&empty.config, &by("model"), "json"), "null\n");
    assert_eq!(exported(&empty.config, &by("model"), "csv").lines().count(), 1);
    assert_eq!(exported(&empty.config, &by("entry"), "jsonl"), "");
    for said in [
        costs_of(&config, &by("model")).unwrap_err().to_string(),
        holds_of(&config).unwrap_err().to_string(),
        budgets_of(&config, &BudgetsArgs::default()).unwrap_err().to_string(),
        export::export(&target(&config), &by("entry"), "", &mut Vec::new())
            .unwrap_err()
            .to_string(),
    ] {
        assert!(
            said.starts_with("no ledger at ") && said.contains("AGENTLEDGER_CONFIG"),
            "{said}"
        );
    }
    // Asking does not make one.
    assert!(!config.storage.dir.exists());
    assert!(matches!(verified(&config, None), Err(verify::VerifyError::NoLedger(_))));
}

#[test]
fn a_store_in_use_without_a_socket_is_told() {
    let books = Books::open();
    let error = costs_of(&books.config, &by("model")).unwrap_err().to_string();
    assert!(
        error.contains("in use by another process") && error.contains("control.socket"),
        "{error}"
    );
    let error = verified(&books.config, None).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
}

#[test]
fn bad_flags_are_told_in_the_contracts_words() {
    let books = Books::open();
    let query = CostsQuery {
        last: Some("soon".into()),
        ..by("model")
    };
    let error = costs_of(&books.config, &query).unwrap_err().to_string();
    assert!(error.starts_with("invalid --last value \"soon\": "), "{error}");
    let told = |by_what: &str, format: &str| {
        export::export(&target(&books.config), &by(by_what), format, &mut Vec::new())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(told("model", "xml"), "unsupported format \"xml\": use csv or json");
    assert_eq!(
        told("entry", "xml"),
        "unsupported format \"xml\" for single entries: use jsonl, csv, json or table"
    );
}

#[test]
fn verify_works_after_a_kill_with_stale_socket_and_open_holds() {
    let books = Books::open();
    books.settle("gpt-4o", "a", 1_000);
    let open = books.hold(books.facts("gpt-4o", "a"));
    books.runtime.block_on(open.durable()).unwrap();
    let head = books.ledger.head();
    let dir = tempfile::tempdir().unwrap();
    let config = books.killed(dir.path());

    let (text, ok) = verified(&config, None).unwrap();
    assert!(ok, "{text}");
    assert!(
        text.contains("entries     1\nopen holds  1\n") && text.ends_with("\nOK\n"),
        "{text}"
    );
    let (text, ok) = verified(&config, Some(&head.to_string())).unwrap();
    assert!(ok, "{text}");
    let (text, ok) = verified(&config, Some(&"0".repeat(64))).unwrap();
    assert!(!ok && text.contains("DAMAGE      the expected head"), "{text}");
    assert!(verified(&config, Some("nonsense")).is_err());
    // The other commands read it too, and change nothing: the hold stays open until a gateway starts.
    assert!(holds_of(&config).unwrap().contains("gpt-4o"));
    assert!(costs_of(&config, &by("model")).unwrap().contains("gpt-4o"));
    assert!(verified(&config, None).unwrap().0.contains("open holds  1"));
}

#[test]
fn a_gateway_verifies_its_own_journal() {
    let books = Books::open();
    let _handle = books.serve();
    books.settle("gpt-4o", "a", 1_000);
    let (text, ok) = verified(&books.config, Some(&books.ledger.head().to_string())).unwrap();
    assert!(ok && text.contains("entries     1\n"), "{text}");
}

#[test]
fn a_head_kept_elsewhere_finds_what_the_store_itself_takes_for_a_torn_tail() {
    let books = Books::open();
    for _ in 0..50 {
        books.settle("gpt-4o", "a", 1_000);
    }
    let head = books.ledger.head().to_string();
    let dir = tempfile::tempdir().unwrap();
    let config = books.killed(dir.path());
    assert!(verified(&config, Some(&head)).unwrap().1);
    assert!(flip(&config.storage.dir, b"/v1/chat/completions").unwrap() > 0);
    match verified(&config, Some(&head)) {
        Ok((text, ok)) => assert!(!ok && text.contains("DAMAGE") && text.ends_with("NOT OK\n"), "{text}"),
        // The store's own checksum may see it first.
        Err(error) => assert!(matches!(error, verify::VerifyError::Store(_)), "{error}"),
    }
}

#[test]
fn budgets_page_over_more_accounts_than_one_answer_bears() {
    let books = Books::open();
    let _handle = books.serve();
    for number in 0..1_100 {
        let mut facts = books.facts("gpt-4o", "a");
        facts.key = Name::from(format!("{number:024}"));
        books
            .hold(facts)
            .settle(settlement(books.ledger.now_ms(), "gpt-4o", 1_000_000));
    }
    let status = budgets_of(&books.config, &BudgetsArgs::default()).unwrap();
    let keys: Vec<&str> = status.lines().filter(|line| line.starts_with("key:")).collect();
    assert_eq!(keys.len(), 1_100, "each key's limited day, over two pages");
    assert!(keys.is_sorted());
}

#[test]
fn budgets_and_holds_show_what_is_held_and_why() {
    let books = Books::open();
    let _handle = books.serve();
    books.settle("gpt-4o", "a", 12_000_000);
    let open = books.hold(books.facts("gpt-4o", "crawler"));
    let by_default = BudgetsArgs::default();
    let of_key = BudgetsArgs {
        account: "key:".into(),
        window: "day".into(),
        ..BudgetsArgs::default()
    };
    for query in [&by_default, &of_key] {
        let status = budgets_of(&books.config, query).unwrap();
        let line = status.lines().nth(2).unwrap();
        for part in [
            &format!("key:{KEY}"),
            "$0.0120",
            "$0.0100",
            "$0.0020",
            "$5.0000",
            "$4.9780",
        ] {
            assert!(line.contains(part), "{part} in\n{status}");
        }
    }
    let status = budgets_of(&books.config, &by_default).unwrap();
    assert!(
        status.lines().skip(2).all(|line| line.contains("$5.0000")),
        "only limited ones:\n{status}"
    );
    let all = BudgetsArgs {
        all: true,
        ..BudgetsArgs::default()
    };
    let status = budgets_of(&books.config, &all).unwrap();
    assert!(status.contains("\nglobal "), "those without a limit too:\n{status}");
    assert!(holds_of(&books.config).unwrap().contains("crawler"));
    for id in [open.id().0.to_string(), open.facts().id.to_string()] {
        let text = explained(&books.config, &id).unwrap();
        assert!(
            text.contains("why       named maximum") && text.contains("4.978"),
            "{text}"
        );
    }
    open.void("test");
    assert_eq!(holds_of(&books.config).unwrap(), format!("{}\n", holds::NOTHING));
    assert!(
        explained(&books.config, "1")
            .unwrap_err()
            .to_string()
            .contains("no open hold")
    );
}

#[test]
fn by_key_shows_one_row_a_key_with_what_is_held_now() {
    let books = Books::open();
    books.settle("gpt-4o", "a", 12_000_000);
    books.settle("gpt-4o-mini", "a", 1_000_000);
    let open = books.hold(books.facts("gpt-4o", "a"));
    let mut stranger = books.facts("gpt-4o", "a");
    stranger.key = Name::from("fedcba9876543210fedcba98");
    let other = books.hold(stranger);
    let _handle = books.serve();
    let text = costs_of(&books.config, &by("key")).unwrap();
    let expected = "\
KEY                        REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)   HELD (USD)   OVERAGE (USD)
------------------------   --------   ------------   -------------   ----------   ----------   -------------
0123456789abcdef01234567   2          2400           60              $0.0130      $0.0100      $0.0020
fedcba9876543210fedcba98   0          0              0               $0.0000      $0.0100      $0.0000
------------------------   --------   ------------   -------------   ----------   ----------   -------------
TOTAL                      2          2400           60              $0.0130      $0.0200      $0.0020
";
    assert_eq!(text, expected);
    open.void("test");
    other.void("test");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let books = Books::open();
    books.settle("gpt-4o", "a", 1);
    let _handle = books.serve();
    export::export(&target(&books.config), &by("entry"), "jsonl", &mut Closed).unwrap();
    export::export(&target(&books.config), &by("model"), "csv", &mut Closed).unwrap();
}

/// Whether values of a schema can have a field, `a.b` within another.
fn has_field(document: &Value, schema: &Value, path: &str) -> bool {
    if let Some(named) = schema["$ref"].as_str() {
        let pointer = named.trim_start_matches('#');
        return has_field(document, document.pointer(pointer).unwrap(), path);
    }
    let any = ["anyOf", "allOf", "oneOf"].map(|word| schema[word].as_array());
    if any
        .into_iter()
        .flatten()
        .flatten()
        .any(|one| has_field(document, one, path))
    {
        return true;
    }
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let found = match name {
        "[]" => &schema["items"],
        _ => &schema["properties"][name],
    };
    !found.is_null() && (rest.is_empty() || has_field(document, found, rest))
}

#[test]
fn every_column_is_a_field_of_what_its_method_answers() {
    let books = Books::open();
    let _handle = books.serve();
    let client = Client::open(&books.config).unwrap().unwrap();
    let document: Value = client.call("rpc.discover", &serde_json::json!({})).unwrap();
    let methods = document["methods"].as_array().unwrap();
    let find = |name: &str| methods.iter().find(|method| method["name"] == name);
    for (method, view) in [
        ("rule.list", &rules::RULES),
        ("rule.history", &rules::CHANGES),
        ("audit.list", &rules::CHANGES),
        ("key.list", &keys::KEYS),
        ("key.list", &keys::BLOCKS),
        ("tenant.list", &tenants::TENANTS),
        ("provider.list", &providers::PROVIDERS),
        ("policy.list", &policy::POLICIES),
        ("plugin.list", &overview::PLUGINS),
        ("alert.list", &alerts::ALERTS),
        ("ledger.series", &overview::SERIES),
        ("session.list", &sessions::SESSIONS),
        ("denial.list", &denials::DENIALS),
        ("budget.status", &budgets::PAGES),
        ("price.list", &prices::ROWS),
        ("hold.list", &holds::HOLDS),
        ("hold.recovered", &holds::RECOVERED),
        ("config.get", &settings::SETTINGS),
    ] {
        let described = find(method).unwrap_or_else(|| panic!("no {method}"));
        for column in view.columns {
            let path = format!("{}.[].{}", view.rows, column.1);
            let schema = &described["result"]["schema"];
            assert!(has_field(&document, schema, &path), "{method} has no {path}");
        }
        let pages = has_field(&document, &described["result"]["schema"], "next");
        assert_eq!(pages, !view.next.is_empty(), "{method} and its pages");
    }
    assert!(!has_field(
        &document,
        &find("rule.list").unwrap()["result"]["schema"],
        "rules.[].nonsense"
    ));
    for (command, method) in super::tests::documented()
        .into_iter()
        .filter(|(_, method)| !method.is_empty())
    {
        assert!(find(&method).is_some(), "{command} calls {method}, which is not there");
    }
}
