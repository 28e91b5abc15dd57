#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write as _;

use super::check::{Fault, check};
use super::diff::differences;
use super::tests::{CHECKED_MS, builtin};
use super::*;

const DAY_MS: i64 = 86_400_000;

#[test]
fn the_built_in_book_has_no_fault_and_is_no_older_than_its_check() {
    let book = builtin();
    let told: Vec<String> = check(&book, CHECKED_MS, Some(0))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(told.is_empty(), "{} faults:\n{}", told.len(), told.join("\n"));
    let a_month_on = check(&book, CHECKED_MS + 31 * DAY_MS, Some(30));
    let rows: usize = book.providers().iter().map(|name| book.rows(name).count()).sum();
    assert_eq!(a_month_on.len(), rows, "every row is too old then");
}

#[test]
fn contradictions_are_told_with_file_line_and_row() {
    let yaml = "provider: p
caches: [cache_read]
models:
- id: a
  prices:
    2026-01-01:
      standard: {input: 1, output: 2}
      batch: {input: 2, cache_read: 3, output: 1}
      priority: {input: 0.5, output: 9}
- {id: b, retired: 2026-01-01, cache: none, prices: {2026-01-01: {standard: {input: 1, output: 2}}}}
- {id: c, max_output: 0, cache: part, prices: {always: {standard: {input: 1, output: 2}}}}
- {id: d, prices: {always: {standard: {}}}}
- {id: e, checked: 2026-12-24, prices: {always: {standard: {input: 1, cache_write_5m: 2, cache_write_1h: 1}}}}
- id: old-cache-prices-do-not-matter
  checked: 2026-11-01
  prices:
    2024-01-01: {standard: {input: 1, output: 2}}
    2026-01-01: {standard: {input: 1, cache_read: 0.1, output: 2}}
";
    let book = PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap();
    let told = |max_age| {
        let mut told: Vec<String> = check(&book, CHECKED_MS, max_age)
            .iter()
            .map(ToString::to_string)
            .collect();
        told.sort_unstable();
        told
    };
    assert_eq!(
        told(None),
        [
            "p.yaml:10: p b: it ends before its first price begins, on 2026-01-01",
            "p.yaml:11: p c: `max_output: 0`, and a price of output",
            "p.yaml:12: p d: no price at all",
            "p.yaml:13: p e: 1970-01-01 standard: `cache_write_5m` costs more than `cache_write_1h`",
            "p.yaml:13: p e: `checked` is in the future: 2026-12-24",
            "p.yaml:4: p a: 2026-01-01 batch: `cache_read` costs more than `input`",
            "p.yaml:4: p a: 2026-01-01 batch: `input` costs more than in the standard tier",
            "p.yaml:4: p a: 2026-01-01 priority: `input` costs less than in the standard tier",
            "p.yaml:4: p a: 2026-01-01 standard: no `cache_read`, which this provider bills apart (or say `cache: none`)",
        ]
    );
    let old: Vec<String> = told(Some(20))
        .into_iter()
        .filter(|line| line.contains("checked"))
        .collect();
    assert_eq!(
        old,
        [
            "p.yaml:10: p b: nobody says when it was `checked`",
            "p.yaml:11: p c: nobody says when it was `checked`",
            "p.yaml:12: p d: nobody says when it was `checked`",
            "p.yaml:13: p e: `checked` is in the future: 2026-12-24",
            "p.yaml:14: p old-cache-prices-do-not-matter: checked 21 days ago, on 2026-11-01: more than 20",
            "p.yaml:4: p a: nobody says when it was `checked`",
        ]
    );
}

#[test]
fn two_files_that_price_one_name_overlap_and_one_over_the_built_in_does_not() {
    let file = |id: &str, alias: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let yaml = format!(
            "provider: openai\nmodels:\n- {{id: {id}, aliases: [{alias}], cache: none, prices: {{always: {{standard: {{input: 1}}}}}}}}\n"
        );
        file.write_all(yaml.as_bytes()).unwrap();
        file
    };
    let (one, two) = (file("house", "gpt-4o"), file("other", "GPT-4o"));
    let paths = [one.path().to_owned(), two.path().to_owned()];
    let alone = builtin().with_files(&paths[..1]).unwrap();
    assert!(check(&alone, CHECKED_MS, None).is_empty());
    let both = builtin().with_files(&paths).unwrap();
    let told = check(&both, CHECKED_MS, None);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].file.as_str(), told[0].line), (paths[1].to_str().unwrap(), 3));
    assert!(matches!(&told[0].fault, Fault::Overlap { name, line: 3, .. } if name == "GPT-4o"));
    // The later one wins all the same.
    assert_eq!(both.row("openai", "gpt-4o").unwrap().id(), "other");
}

#[test]
fn a_difference_is_told_price_by_price() {
    let text = |input: &str, more: &str| {
        format!(
            "provider: p\nmodels:\n- {{id: a, max_output: 5, prices: {{always: {{standard: {{input: {input}, web_search: 0.01}}}}, 2026-01-01: {{standard: {{input: 2}}}}}}}}\n{more}"
        )
    };
    let gone = "- {id: old, prices: {always: {standard: {input: 1}}}}\n";
    let new = "- {id: new, prices: {always: {standard: {input: 1}}}}\n";
    let before = PriceBook::empty().with_texts(&[("p.yaml", &text("1", gone))]).unwrap();
    let after = text("3", new)
        .replace("max_output: 5, ", "")
        .replace("web_search: 0.01", "web_search: 0.02, reasoning: 1");
    let after = PriceBook::empty().with_texts(&[("p.yaml", &after)]).unwrap();
    let told: Vec<String> = differences(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "p a: 1970-01-01 standard input: 1 -> 3",
            "p a: 1970-01-01 standard reasoning: - -> 1",
            "p a: 1970-01-01 standard web_search: 0.01 -> 0.02",
            "p a: max_output: 5 -> -",
            "p new: - -> a row",
            "p old: a row -> -",
        ]
    );
    assert!(differences(&builtin(), &builtin()).is_empty());
}
