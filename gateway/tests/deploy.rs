//! What `configs/deploy` takes for granted of the gateway. What its own tools can see, `configs/deploy/check` looks at.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{Script, Setup, Upstream, root};

/// What a histogram shows under its name.
const OF_A_HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The metrics' names in a text, as Prometheus has them.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("agentledger_"))
        .map(str::to_owned)
        .collect()
}

/// All names that the gateway's code gives to metrics: those it writes as texts.
fn named_by_code(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            named_by_code(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let texts = code.split('"').skip(1).step_by(2);
            found.extend(
                texts
                    .filter(|text| names(text).contains(*text))
                    .map(|text| (*text).to_owned()),
            );
        }
    }
}

/// A histogram's name is one of a time in ms.
fn family(name: &str) -> &str {
    let of_histogram = OF_A_HISTOGRAM.iter().find_map(|end| name.strip_suffix(end));
    of_histogram.filter(|base| base.ends_with("_ms")).unwrap_or(name)
}

#[test]
fn each_metric_that_alert_rules_and_the_board_ask_for_is_one_of_the_gateways() {
    let mut exported = BTreeSet::new();
    named_by_code(&root().join("gateway/src"), &mut exported);
    let gateway = Setup::new(&Upstream::always(Script::json(200, "{}"))).start();
    let shown = gateway.client.get("/metrics").text();
    let shown: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(shown.len() > 15, "{shown:?}");
    for line in shown {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(exported.contains(name), "{name} is shown, and not found in the code");
        assert_eq!(kind == "histogram", name.ends_with("_ms"), "{name} is a {kind}");
    }
    for file in [
        "configs/deploy/prometheus/alerts.yml",
        "configs/deploy/prometheus/alerts_test.yml",
        "configs/deploy/prometheus/alerts_days_test.yml",
        "configs/deploy/grafana/agentledger.json",
    ] {
        let asked = names(&read(file));
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        let unknown: Vec<&String> = asked.iter().filter(|name| !exported.contains(family(name))).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}, which nobody exports");
    }
}

#[test]
fn a_metric_is_known_by_its_whole_name() {
    assert_eq!(family("agentledger_ttfb_ms_bucket"), "agentledger_ttfb_ms");
    assert_eq!(family("agentledger_ttfb_ms"), "agentledger_ttfb_ms");
    assert_eq!(family("agentledger_outcomes_count"), "agentledger_outcomes_count");
    let found = names("sum(rate(agentledger_x_total{a=\"agentledger\"}[5m])) / agentledger_y");
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        ["agentledger_x_total", "agentledger_y"]
    );
}
