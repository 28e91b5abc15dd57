#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use agentledger_ledger::Kind;

use super::offers::{SourceError, read};
use super::*;
use crate::price::check::check;
use crate::price::diff::day;
use crate::price::tests::builtin;
use crate::price::{PriceBook, PriceError};

const NOW_MS: i64 = 1_795_910_400_000; // 2026-11-29

/// A made-up provider under the name of a real one, so that the lists of others are read as its.
const BOOK: &str = "provider: openai
qualifiers: [openai/]
fees: {file_search: 0.0025}
tiers: {fast: priority}
caches: [cache_read]
models:
- id: lark-1
  aliases: [lark, the-lark]
  max_output: 4096
  checked: 2026-01-01
  minimum: {second: 3}
  prices:
    2025-01-01: {standard: {input: 9, cache_read: 0.9, output: 18}}
    2026-01-01:
      standard: {input: 2, cache_read: 0.2, output: 8, web_search: 0.01}
      standard >200000: {input: 4, cache_read: 0.4, output: 12}
      priority: {input: 4, cache_read: 0.4, output: 16}
- {id: wren-1, prices: {always: {standard: {input: 1, cache_read: 0.1, output: 3}}}}
- {id: noted-1, note: \"as agreed\", prices: {always: {standard: {input: 5, cache_read: 0.5, output: 9}}}}
- {id: old-1, retired: 2026-06-01, prices: {always: {standard: {input: 5, cache_read: 0.5, output: 9}}}}
- {id: \"*:gift\", cache: none, prices: {always: {standard: {input: 0, output: 0}}}}
";

/// A built-in file's name, so that the rows are not the operator's own.
const BUILT_IN: &str = "prices/openai.yaml";

fn book() -> PriceBook {
    PriceBook::empty().with_texts(&[(BUILT_IN, BOOK)]).unwrap()
}

fn litellm(entries: &str) -> String {
    format!("{{\"sample_spec\": {{\"litellm_provider\": \"one of\"}}, {entries}}}")
}

fn entry(id: &str, fields: &str) -> String {
    format!("\"{id}\": {{\"litellm_provider\": \"openai\", \"mode\": \"chat\", {fields}}}")
}

fn proposed(sources: &[(&str, &str)]) -> Proposal {
    let sources: Vec<Offers> = sources.iter().map(|(name, text)| read(name, text).unwrap()).collect();
    propose(&book(), &sources, NOW_MS)
}

fn changes(proposal: &Proposal) -> Vec<String> {
    proposal.changes.iter().map(ToString::to_string).collect()
}

fn held(proposal: &Proposal) -> Vec<String> {
    proposal.held_back.iter().map(ToString::to_string).collect()
}

#[test]
fn each_form_is_read_and_shown_with_old_and_new() {
    let dollars = "\"input_cost_per_token\": 3e-06, \"output_cost_per_token\": 8.0e-6, \"cache_read_input_token_cost\": 1.9999999999999998e-07, \
        \"input_cost_per_token_above_200k_tokens\": 6e-06, \"input_cost_per_token_priority\": 0.000006, \"max_output_tokens\": 9000";
    let first = litellm(&[entry("lark-1", dollars), entry("ft:lark-9", dollars)].join(", "));
    let told = changes(&proposed(&[("litellm", &first)]));
    assert_eq!(
        told,
        [
            "openai lark-1: priority input: 4 -> 6",
            "openai lark-1: standard input: 2 -> 3",
            "openai lark-1: standard >200000 input: 4 -> 6",
            "openai ft:lark-9: standard input, output: - -> 3, 8",
        ]
    );
    let second = r#"[{"id": "openai", "models": [
        {"id": "lark-1", "match": {"or": [{"equals": "the-lark"}, {"starts_with": "wren"}]},
         "prices": [{"prices": {"input_mtok": 50}}, {"constraint": {"start_date": "2026-02-01"}, "prices":
            {"input_mtok": {"base": 3, "tiers": [{"start": 200000, "price": 5}]}, "output_mtok": 8}},
            {"constraint": {"start_date": "2999-01-01"}, "prices": {"input_mtok": 77}}]},
        {"id": "a title", "prices": {"input_mtok": 1, "output_mtok": 2}},
        {"id": "wren-1", "prices": [{"prices": {"input_mtok": 0.5}}, {"constraint": {"start_time": "01:00"}, "prices": {"input_mtok": 2}}]}]}]"#;
    let proposal = proposed(&[("genai-prices", second)]);
    assert_eq!(
        held(&proposal),
        ["openai wren-1: genai-prices: its prices go by the hour"]
    );
    assert_eq!(
        changes(&proposal),
        [
            "openai lark-1: standard input: 2 -> 3",
            "openai lark-1: standard >200000 input: 4 -> 5"
        ]
    );
    let third = r#"{"openai": {"id": "openai", "models": {
        "lark-1": {"cost": {"input": 2, "output": 7.5, "context_over_200k": {"input": 4.5}}, "limit": {"context": 1, "output": 5}},
        "without": {"limit": {}}}}, "elsewhere": {"models": {"lark-1": {"cost": {"input": 99}}}}}"#;
    let told = changes(&proposed(&[("models.dev", third)]));
    assert_eq!(
        told,
        [
            "openai lark-1: standard output: 8 -> 7.5",
            "openai lark-1: standard >200000 input: 4 -> 4.5"
        ]
    );
    let own = "provider: openai\nmodels:\n- {id: wren-1, prices: {always: {standard: {input: 1.5}}}}\n";
    assert_eq!(
        changes(&proposed(&[("mine.yaml", own)])),
        ["openai wren-1: standard input: 1 -> 1.5"]
    );
}

#[test]
fn what_is_no_price_list_changes_nothing() {
    for (text, said) in [
        ("", "it is empty"),
        ("  \u{feff}", "it is empty"),
        ("<!doctype html><html>", "it is a page of HTML and no price list"),
        ("\n <html>", "it is a page of HTML and no price list"),
        ("{\"a\": ", "it is no JSON: EOF"),
        ("{\"a\": {\"input_cost\": NaN}}", "it is no JSON: expected"),
        ("{\"error\": \"not found\"}", "it is JSON of no known form"),
        ("[1, 2]", "it is no JSON: invalid type"),
        ("[]", "it has no price of any provider"),
        ("404: Not Found", ""),
        ("provider: openai\ncurrency: EUR\nmodels: []\n", ""),
    ] {
        let error = read("x", text)
            .map(|offers| offers.models.len())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(said), "{text:?}: {error}");
    }
    assert!(matches!(
        read("x", "provider: openai\nmodels: []\n"),
        Err(SourceError::NoPrices)
    ));
}

#[test]
fn a_source_that_lies_is_held_back_by_name() {
    let cheap = "\"output_cost_per_token\": 3e-06";
    for (fields, said) in [
        (
            "\"input_cost_per_token\": 0",
            "standard input: 1 -> 0: it would be free",
        ),
        (
            "\"input_cost_per_token\": 0.001",
            "standard input: 1 -> 1000: it would cost ten times as much or more",
        ),
        (
            "\"input_cost_per_token\": 1e-9",
            "standard input: 1 -> 0.001: it would cost a tenth or less",
        ),
        (
            "\"input_cost_per_token\": -1e-6",
            "litellm: input_cost_per_token: -1e-6 is negative",
        ),
        (
            "\"input_cost_per_token\": \"NaN\"",
            "litellm: input_cost_per_token: \"NaN\" is no price",
        ),
        (
            "\"input_cost_per_token\": 1e39",
            "litellm: input_cost_per_token: 1e39 is too large",
        ),
        (
            "\"input_cost_per_token\": 1e999999999999",
            "litellm: input_cost_per_token: 1e999999999999 is no price",
        ),
        (
            "\"input_cost_per_token\": 2e-6, \"currency\": \"EUR\"",
            "litellm: its prices are in EUR",
        ),
        // A cache that is dearer than reading afresh; a discount that is none.
        (
            "\"cache_read_input_token_cost\": 9e-7, \"input_cost_per_token\": 8e-7",
            "`cache_read` costs more than `input`",
        ),
        (
            "\"input_cost_per_token_flex\": 5e-6, \"output_cost_per_token_flex\": 1e-6",
            "`input` costs more than in the standard tier",
        ),
        (
            "\"input_cost_per_token_above_200k_tokens\": 5e-7",
            "costs less than below its threshold",
        ),
    ] {
        let text = litellm(&entry("wren-1", &format!("{fields}, {cheap}")));
        let proposal = proposed(&[("litellm", &text)]);
        assert_eq!(changes(&proposal), [""; 0], "{fields}");
        let told = held(&proposal);
        assert!(
            told.iter()
                .any(|line| line.starts_with("openai wren-1: ") && line.contains(said)),
            "{fields}: {told:?}"
        );
    }
}

#[test]
fn rows_that_contradict_each_other_are_held_back() {
    let price = |text: &str| format!("\"input_cost_per_token\": {text}, \"output_cost_per_token\": 3e-6");
    // Within one source: the same name twice, and two snapshots of one row.
    let twice = litellm(&[entry("wren-1", &price("2e-6")), entry("wren-1", &price("3e-6"))].join(", "));
    let snapshots = litellm(
        &[
            entry("wren-1-2026-01-01", &price("2e-6")),
            entry("wren-1-2026-02-02", &price("3e-6")),
        ]
        .join(", "),
    );
    for text in [twice, snapshots] {
        let proposal = proposed(&[("litellm", &text)]);
        assert!(changes(&proposal).is_empty(), "{:?}", changes(&proposal));
        assert_eq!(
            held(&proposal),
            ["openai wren-1: standard input: 1 -> ?: the sources contradict each other: litellm has 2, litellm has 3"]
        );
    }
    // The row's own name comes before a snapshot's.
    let own = litellm(
        &[
            entry("wren-1", &price("2e-6")),
            entry("wren-1-2026-02-02", &price("3e-6")),
        ]
        .join(", "),
    );
    assert_eq!(
        changes(&proposed(&[("litellm", &own)])),
        ["openai wren-1: standard input: 1 -> 2"]
    );
    // Between two: neither is what the book has; then one of them is.
    let first = litellm(&entry("wren-1", &price("2e-6")));
    let second = |input: &str| {
        format!(
            "[{{\"id\": \"openai\", \"models\": [{{\"id\": \"wren-1\", \"prices\": {{\"input_mtok\": {input}, \"output_mtok\": 4}}}}]}}]"
        )
    };
    let proposal = proposed(&[("litellm", &first), ("genai-prices", &second("1.5"))]);
    assert!(changes(&proposal).is_empty());
    assert_eq!(held(&proposal).len(), 1, "{:?}", held(&proposal));
    assert_eq!(
        proposal.known.len(),
        1,
        "of output the book has what one of them has: {:?}",
        proposal.known
    );
    let known = proposed(&[("litellm", &first), ("genai-prices", &second("1"))]);
    assert_eq!((held(&known).len(), known.known.len()), (0, 2));
    // What both say is believed.
    let agreed = proposed(&[
        ("litellm", &first),
        (
            "genai-prices",
            &second("2").replace("\"output_mtok\": 4", "\"output_mtok\": 3"),
        ),
    ]);
    assert_eq!(changes(&agreed), ["openai wren-1: standard input: 1 -> 2"]);
}

#[test]
fn noted_retired_and_the_operators_own_rows_are_left_alone() {
    let price = "\"input_cost_per_token\": 6e-6, \"output_cost_per_token\": 9e-6";
    let text = litellm(&["noted-1", "old-1", "any:gift"].map(|id| entry(id, price)).join(", "));
    let proposal = proposed(&[("litellm", &text)]);
    assert!(
        changes(&proposal).is_empty() && held(&proposal).is_empty(),
        "{proposal:?}"
    );
    assert_eq!(proposal.known.len(), 1);
    let mine = "provider: openai\nmodels:\n- {id: wren-1, prices: {always: {standard: {input: 0.5, output: 1}}}}\n";
    let contracted = book().with_texts(&[("mine.yaml", mine)]).unwrap();
    let offers = read("litellm", &litellm(&entry("wren-1", price))).unwrap();
    assert!(propose(&contracted, &[offers], NOW_MS).changes.is_empty());
}

#[test]
fn a_source_in_which_most_moved_is_not_believed() {
    let rows: Vec<String> = (0..12)
        .map(|at| format!("- {{id: bird-{at}, prices: {{always: {{standard: {{input: 2, output: 4}}}}}}}}\n"))
        .collect();
    let many = PriceBook::empty()
        .with_texts(&[(BUILT_IN, &format!("provider: openai\nmodels:\n{}", rows.concat()))])
        .unwrap();
    let moved = |how_many: usize| {
        let price = |at: usize| if at < how_many { "1.8e-6" } else { "2e-6" };
        let entries: Vec<String> = (0..12)
            .map(|at| {
                entry(
                    &format!("bird-{at}"),
                    &format!(
                        "\"input_cost_per_token\": {}, \"output_cost_per_token\": 4e-6",
                        price(at)
                    ),
                )
            })
            .collect();
        propose(
            &many,
            &[read("litellm", &litellm(&entries.join(", "))).unwrap()],
            NOW_MS,
        )
    };
    assert_eq!(moved(6).changes.len(), 6);
    let euros = moved(7);
    assert!(euros.changes.is_empty() && euros.held_back.len() == 7);
    assert!(
        euros.held_back[0].reason.contains("7 of 12 models moved at once"),
        "{:?}",
        euros.held_back[0]
    );
}

#[test]
fn new_models_need_a_price_that_can_be() {
    let of = |id: &str, input: &str, output: &str| {
        let text = litellm(&entry(
            id,
            &format!("\"input_cost_per_token\": {input}, \"output_cost_per_token\": {output}"),
        ));
        let proposal = proposed(&[("litellm", &text)]);
        (changes(&proposal).join(""), held(&proposal).join(""))
    };
    assert_eq!(
        of("robin-1", "1e-6", "2e-6").0,
        "openai robin-1: standard input, output: - -> 1, 2"
    );
    assert!(of("robin-1", "0", "2e-6").1.contains("it would be free"));
    assert!(
        of("robin-1", "1e-3", "2e-3")
            .1
            .contains("ten times the provider's dearest")
    );
    assert!(of("robin 1", "1e-6", "2e-6").1.contains("its name is none"));
    // One of speech is looked at by people.
    let speech =
        "\"robin-tts\": {\"litellm_provider\": \"openai\", \"mode\": \"audio_speech\", \"input_cost_per_token\": 1e-6}";
    assert!(
        proposed(&[(
            "litellm",
            &litellm(&[speech.to_owned(), entry("wren-1", "\"input_cost_per_token\": 1e-6")].join(", "))
        )])
        .changes
        .is_empty()
    );
}

/// Applies what a source says, as `--apply` does, and reads the book anew.
fn applied(before: &PriceBook, text: &str, path: &Path) -> PriceBook {
    let proposal = propose(before, &[read("litellm", text).unwrap()], NOW_MS);
    assert!(!proposal.changes.is_empty(), "{:?}", proposal.held_back);
    write_file(before, &proposal, path, NOW_MS).unwrap();
    book().with_files(&files_in(path.parent().unwrap())).unwrap()
}

#[test]
fn applied_twice_the_second_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file_name(NOW_MS));
    assert!(path.ends_with("prices-2026-11-29.yaml"));
    let price = |input: &str| format!("\"input_cost_per_token\": {input}, \"output_cost_per_token\": 8e-6");
    let text = litellm(&[entry("lark-1", &price("3e-6")), entry("robin-1", &price("1e-6"))].join(", "));
    let once = applied(&book(), &text, &path);
    let again = propose(&once, &[read("litellm", &text).unwrap()], NOW_MS);
    assert!(again.changes.is_empty() && again.held_back.is_empty(), "{again:?}");
    assert!(
        check(&once, NOW_MS, None).is_empty(),
        "{:?}",
        check(&once, NOW_MS, None)
    );
    // The past keeps its prices, and the row all that it had.
    let at = |book: &PriceBook, model: &str, day: &str| {
        let quote = book.find("openai", model, crate::price::day_ms(day).unwrap()).unwrap();
        (
            quote.unit_price(Kind::Input, 0, None).per_million(),
            quote.unit_price(Kind::Input, 200_001, None).per_million(),
        )
    };
    assert_eq!(at(&once, "the-lark", "2025-06-01").0, "9");
    assert_eq!(at(&once, "openai/lark-1", "2026-11-28"), ("2".into(), "4".into()));
    assert_eq!(at(&once, "lark", "2026-11-29"), ("3".into(), "4".into()));
    let row = once.row("openai", "lark-1").unwrap();
    assert_eq!(
        (row.max_output(), row.minimum(), row.checked()),
        (Some(4096), &[(Kind::Second, 3)][..], Some("2026-11-29"))
    );
    assert_eq!(row.aliases().collect::<Vec<_>>(), ["lark", "the-lark"]);
    let quote = row.quote(NOW_MS);
    assert!(quote.knows_tier(Some("fast")) && quote.states(Kind::FileSearch, None));
    // Another change on the same day is put beside the first.
    let more = litellm(&entry("wren-1", "\"input_cost_per_token\": 1.2e-6"));
    let twice = applied(&once, &more, &path);
    assert_eq!(at(&twice, "wren-1", "2026-11-29").0, "1.2");
    assert_eq!(at(&twice, "lark", "2026-11-29").0, "3");
    // And a day later into a file of its own, which is no overlap.
    let later = NOW_MS + 86_400_000;
    let proposal = propose(
        &twice,
        &[read("litellm", &litellm(&entry("lark-1", &price("2.5e-6")))).unwrap()],
        later,
    );
    write_file(&twice, &proposal, &dir.path().join(file_name(later)), later).unwrap();
    std::fs::write(dir.path().join("prices-latest.yaml"), "no price file").unwrap();
    assert_eq!(files_in(dir.path()).len(), 2);
    let third = book().with_files(&files_in(dir.path())).unwrap();
    assert_eq!(at(&third, "lark", "2026-11-30").0, "2.5");
    assert!(
        check(&third, later, None).is_empty(),
        "{:?}",
        check(&third, later, None)
    );
}

#[test]
fn a_file_that_cannot_be_written_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("taken"), "a file").unwrap();
    let offers = read(
        "litellm",
        &litellm(&entry("wren-1", "\"input_cost_per_token\": 1.2e-6")),
    )
    .unwrap();
    let proposal = propose(&book(), &[offers], NOW_MS);
    assert!(
        write_file(
            &book(),
            &proposal,
            &dir.path().join("taken/prices-2026-11-29.yaml"),
            NOW_MS
        )
        .is_err()
    );
    assert!(files_in(&dir.path().join("taken")).is_empty() && files_in(&dir.path().join("none")).is_empty());
}

/// The whole book survives being written and read, row by row.
#[test]
fn every_built_in_row_is_written_as_it_is() {
    let before = builtin();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file_name(NOW_MS));
    for provider in before.providers() {
        let drafts: Vec<_> = before
            .rows(provider)
            .filter(|row| row.is_model())
            .map(write::Draft::as_it_is)
            .collect();
        std::fs::write(&path, write::document(provider, &drafts, &day(NOW_MS))).unwrap();
        let after = before
            .with_files(std::slice::from_ref(&path))
            .unwrap_or_else(|errors: Vec<PriceError>| panic!("{errors:?}"));
        let differences = crate::price::diff::differences(&before, &after);
        assert!(differences.is_empty(), "{provider}: {}", differences[0]);
        let faults = check(&after, NOW_MS, None);
        assert!(faults.is_empty(), "{}", faults[0]);
    }
}

/// From the two references, where they are at hand: what is believed is written, and then nothing is left to change.
#[test]
fn the_references_applied_twice_change_nothing_the_second_time() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/prices");
    let folder = std::env::var_os("AGENTLEDGER_PRICES").map_or(beside, Into::into);
    let files = ["litellm-model-prices.json", "genai-prices.json"].map(|name| folder.join(name));
    if files.iter().any(|file| !file.is_file()) {
        println!(
            "SKIPPED: no price references in {}; set AGENTLEDGER_PRICES",
            folder.display()
        );
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let sources = runtime.block_on(load_all(&names)).unwrap();
    let before = builtin();
    let first = propose(&before, &sources, NOW_MS);
    assert!(first.compared > 1_000, "only {} models compared", first.compared);
    changes(&first).iter().for_each(|line| println!("{line}"));
    println!(
        "{} changes, {} held back, {} known, {} compared",
        first.changes.len(),
        first.held_back.len(),
        first.known.len(),
        first.compared
    );
    held(&first).iter().for_each(|line| println!("held back: {line}"));
    let dir = tempfile::tempdir().unwrap();
    write_file(&before, &first, &dir.path().join(file_name(NOW_MS)), NOW_MS).unwrap();
    let after = before.with_files(&files_in(dir.path())).unwrap();
    let second = propose(&after, &sources, NOW_MS);
    assert!(second.changes.is_empty(), "{:?}", changes(&second));
    let faults: Vec<String> = check(&after, NOW_MS, None).iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
