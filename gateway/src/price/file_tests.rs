#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write as _;

use agentledger_ledger::Kind;

use super::file::Fault;
use super::tests::{builtin, in_out};
use super::*;

#[test]
fn a_file_by_path_wins_over_the_built_in_row() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let yaml = "provider: openai\nmodels:\n- {id: GPT-3.5-turbo, prices: {always: {standard: {input: 7, output: 8}}}}\n- {id: house, aliases: [o3], prices: {always: {standard: {input: 9, output: 9}}}}\n";
    file.write_all(yaml.as_bytes()).unwrap();
    let book = builtin();
    let ours = book.with_files(&[file.path().to_owned()]).unwrap();
    assert_eq!(in_out(&ours, "openai", "gpt-3.5-turbo"), ("7".into(), "8".into()));
    assert_eq!(in_out(&ours, "openai", "gpt-35-turbo"), ("7".into(), "8".into())); // the old row's alias
    assert_eq!(in_out(&ours, "openai", "o3"), ("9".into(), "9".into()));
    assert_eq!(in_out(&ours, "openai", "o3-mini"), in_out(&book, "openai", "o3-mini"));
    assert_eq!(in_out(&book, "openai", "o3"), ("2".into(), "8".into()));
    assert_ne!(ours.digest(), book.digest());
    assert_eq!(book.digest(), builtin().digest());
    assert_eq!(
        ours.row("openai", "house").unwrap().origin(),
        (file.path().to_str().unwrap(), 4)
    );
}

#[test]
fn every_fault_is_told_with_its_line() {
    let yaml = "provider: p
models:
- id: a
  aliases: [A, b]
  retired: someday
  prices:
    2026-02-01:
      standard: {input: -1, cache_read: 0.1234567, output: 1e3, juice: 4}
    2026-02-01:
      standard: {input: 1}
";
    // The YAML itself: keys twice.
    let errors = PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap_err();
    assert!(
        matches!(&errors[..], [PriceError::Syntax { line: 9, .. }]),
        "{errors:?}"
    );
    let yaml = yaml.replace(
        "    2026-02-01:\n      standard: {input: 1}",
        "    2026-01-31:\n      standard: {input: 1}
- id: b
  prices:
    always:
      standard: {input: 5, output: 2}
      standard >200: {input: 6}
      standard >100: {input: 7}
      flex >100: {input: 1}
      batch: {input: 1}
      batch >50: {input: 0.5}
      Weird tier: {input: 1}
- {id: c, prices: {}}
- {id: d, prices: {always: {flex: {input: 1}}}}
- {id: \"\", prices: {always: {standard: {input: 99999999999999}}}}",
    );
    let errors = PriceBook::empty().with_texts(&[("p.yaml", &yaml)]).unwrap_err();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "p.yaml:4: `A` is already named on line 3",
            "p.yaml:8: price `-1` is negative",
            "p.yaml:8: price `0.1234567` has more decimals than can be kept exactly",
            "p.yaml:8: price `1e3` is no decimal number",
            "p.yaml:8: unknown usage kind `juice`",
            "p.yaml:10: the prices from 2026-01-31 overlap those before them: dates must rise",
            "p.yaml:5: `someday` is no date (YYYY-MM-DD)",
            "p.yaml:11: `b` is already named on line 4",
            "p.yaml:16: tier `standard >100` out of order: a tier's base comes first, then its thresholds, rising",
            "p.yaml:17: tier `flex >100` out of order: a tier's base comes first, then its thresholds, rising",
            "p.yaml:19: tier `batch >50`: `input` costs less than below its threshold",
            "p.yaml:20: `Weird tier` is no tier: write `NAME` or `NAME >TOKENS`",
            "p.yaml:21: model `c` has no prices",
            "p.yaml:22: no `standard` prices",
            "p.yaml:23: an id of a model is empty or too long",
            "p.yaml:23: price `99999999999999` is too large",
        ]
    );
    assert!(matches!(
        &errors[0],
        PriceError::Fault {
            fault: Fault::Duplicate { first: 3, .. },
            ..
        }
    ));
}

#[test]
fn faults_of_all_files_come_at_once() {
    let missing = std::path::PathBuf::from("/nonexistent/prices.yaml");
    let mut broken = tempfile::NamedTempFile::new().unwrap();
    broken.write_all(b"provider: p\nmodles: []\n").unwrap();
    let errors = builtin().with_files(&[missing, broken.path().to_owned()]).unwrap_err();
    assert!(matches!(&errors[0], PriceError::Unreadable { .. }));
    assert!(matches!(&errors[1], PriceError::Syntax { line: 2, .. }), "{errors:?}");
    assert_eq!(errors.len(), 2);
}

#[test]
fn prices_are_read_from_their_text() {
    // As a double 0.1 + 0.2 is not 0.3, and 4.35 × 10⁶ is 4,349,999.
    let yaml = "provider: p\nmodels:\n- {id: a, prices: {always: {standard: {input: 4.35, output: \"0.000001\", web_search: 0.014}}}}\n";
    let book = PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap();
    let picos = |kind| book.find("p", "a", 0).unwrap().unit_price(kind, 0, None).picos();
    assert_eq!(
        (picos(Kind::Input), picos(Kind::Output), picos(Kind::WebSearch)),
        (4_350_000, 1, 14_000_000_000)
    );
}
