//! A real Prometheus scrapes the gateway, and finds by the queries of a board what a board over the contract's names asks
//! for: those of the original's Grafana board, of its documentation, and ours.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Gateway, Script, Setup, Upstream, dead_port};

const CHAT: &str = "/v1/chat/completions";
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}"#;
const ASKED: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":50}"#;

/// Queries of a board over the names of the contract, each with the labels that its answer is told apart by.
const QUERIES: [(&str, &[&str]); 17] = [
    ("sum by (provider) (rate(agentledger_request_total[1m]))", &["provider"]),
    (
        "sum by (provider, status_code) (rate(agentledger_request_total[1m]))",
        &["provider", "status_code"],
    ),
    ("sum by (streaming) (agentledger_request_total)", &["streaming"]),
    ("sum by (type) (rate(agentledger_tokens_total[1m]))", &["type"]),
    ("sum by (model) (agentledger_cost_usd_total)", &["model"]),
    (
        "topk(10, sum by (api_key_hash) (agentledger_cost_usd_total))",
        &["api_key_hash"],
    ),
    (
        "histogram_quantile(0.95, sum by (le, provider) (rate(agentledger_request_duration_ms_bucket[1m])))",
        &["provider"],
    ),
    (
        "rate(agentledger_request_duration_ms_sum[1m]) / rate(agentledger_request_duration_ms_count[1m])",
        &["provider", "model", "status_code", "streaming"],
    ),
    ("agentledger_active_sessions", &[]),
    ("sum by (type) (agentledger_alerts_total)", &["type"]),
    (
        "sum by (api_key_hash) (agentledger_rate_limited_total)",
        &["api_key_hash"],
    ),
    // Names that only the original's documentation has.
    (
        "sum by (provider) (rate(agentledger_requests_total[1m]))",
        &["provider"],
    ),
    ("sum by (model) (agentledger_input_tokens_total)", &["model"]),
    ("sum by (model) (agentledger_output_tokens_total)", &["model"]),
    ("agentledger_sessions_active", &[]),
    // Ours.
    ("sum by (outcome) (agentledger_outcomes_total)", &["outcome"]),
    ("agentledger_spent_usd{window=\"day\"}", &["window"]),
];

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("AGENTLEDGER_PROMETHEUS").map(PathBuf::from);
    let usual = named
        .into_iter()
        .chain(["/usr/bin/prometheus".into(), "/usr/local/bin/prometheus".into()]);
    usual.into_iter().find(|path| path.is_file())
}

/// A running Prometheus, which ends with this.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn scraping(program: PathBuf, gateway: &Gateway, dir: &std::path::Path) -> Prometheus {
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n  - job_name: agentledger\n    \
             static_configs: [{{targets: [\"{}\"]}}]\n",
            gateway.address()
        );
        std::fs::write(&config, text).unwrap();
        let port = dead_port();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Prometheus {
            child: quiet.spawn().unwrap(),
            port,
        }
    }

    /// The vector that a query gives; `None` while it does not answer.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        let client = crate::harness::Client::to(address);
        std::net::TcpStream::connect(address).ok()?;
        let answer = client.get(&format!("/api/v1/query?query={encoded}"));
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["data"]["result"].as_array().cloned()
    }
}

#[test]
fn the_queries_of_a_board_over_the_contracts_names_find_their_series_in_a_real_prometheus() {
    let Some(program) = program() else {
        eprintln!(
            "SKIPPED: no prometheus here (AGENTLEDGER_PROMETHEUS, or Debian's package prometheus); ./task test brings one"
        );
        return;
    };
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let gateway = Setup::new(&upstream)
        .with("budgets: {default: {daily_limit_usd: 0.02, soft_limit_pct: 0.1, action: warn}}")
        .with("rate_limits: {rules: [{api_key_pattern: \"sk-limited*\", requests_per_minute: 1}]}")
        .start();
    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::scraping(program, &gateway, dir.path());
    let ask = |key: &str| {
        let headers = [
            ("authorization", key),
            ("x-agent-id", "coder"),
            ("x-agent-session", "s1"),
        ];
        gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes()).status
    };
    for _ in 0..3 {
        ask("Bearer sk-limited-0123456789");
    }
    // Rates need counts that grow between two scrapes.
    let mut missing: Vec<(&str, &[&str])> = QUERIES.to_vec();
    for _ in 0..400 {
        assert_eq!(ask("Bearer sk-open-0123456789ab"), 200);
        missing.retain(|(query, labels)| {
            let found = prometheus.query(query).unwrap_or_default();
            let is_there = |row: &Value| {
                let value = row["value"][1].as_str().unwrap_or_default();
                let is_number = value.parse::<f64>().is_ok_and(f64::is_finite);
                is_number && labels.iter().all(|label| row["metric"][label].is_string())
            };
            !found.iter().any(is_there)
        });
        if missing.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    assert!(missing.is_empty(), "never found: {missing:#?}");
    let up = prometheus.query("up").unwrap();
    assert_eq!(up[0]["value"][1], "1");
    // What Prometheus has added up is what the books have.
    let spent = prometheus.query("sum(agentledger_cost_usd_total)").unwrap();
    let spent: f64 = spent[0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(spent > 0.0);
}
