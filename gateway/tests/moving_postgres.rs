//! Taking over what the original kept in a real PostgreSQL. Where none is installed the test says that it was skipped.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use agentledger_ledger::{Clock, SystemClock, Usd};

use crate::harness::{Installation, dead_port};

/// A cluster of its own in a temporary folder, gone with this.
struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

impl Cluster {
    /// `None` where PostgreSQL is not installed.
    fn start() -> Option<Cluster> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let bin = versions.flatten().map(|version| version.path().join("bin")).max()?;
        let cluster = Cluster {
            dir: tempfile::tempdir().unwrap(),
            bin,
            port: dead_port(),
        };
        std::fs::set_permissions(cluster.dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let (data, port) = (cluster.data(), cluster.port);
        cluster.run(&format!("initdb -D {data} -U original -A trust --no-sync"));
        cluster.run(&format!(
            "pg_ctl -D {data} -w -l {data}/log -o '-p {port} -k {data} -h 127.0.0.1 -c fsync=off' start"
        ));
        Some(cluster)
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    /// The server refuses to run as root.
    fn command(&self, line: &str) -> Output {
        let line = format!("{}/{line}", self.bin.display());
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let mut command = Command::new(if is_root { "su" } else { "sh" });
        if is_root {
            command.args(["postgres", "-s", "/bin/sh"]);
        }
        command
            .args(["-c", &line])
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    fn run(&self, line: &str) {
        let output = self.command(line);
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn sql(&self, sql: &str) -> String {
        let file = self.dir.path().join("statement.sql");
        std::fs::write(&file, sql).unwrap();
        let output = self.command(&format!(
            "psql -h 127.0.0.1 -p {} -U original -d postgres -v ON_ERROR_STOP=1 -qtA -f {}",
            self.port,
            file.display()
        ));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn url(&self) -> String {
        format!("postgres://original@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command(&format!("pg_ctl -D {} -m immediate stop", self.data()));
    }
}

/// As the original's migrations leave it.
const SCHEMA: &str = "
CREATE TABLE usage_records (id TEXT PRIMARY KEY, timestamp TIMESTAMPTZ NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
  api_key_hash TEXT NOT NULL DEFAULT '', input_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0,
  total_tokens INTEGER NOT NULL DEFAULT 0, cost_usd DOUBLE PRECISION NOT NULL DEFAULT 0.0,
  estimated BOOLEAN NOT NULL DEFAULT FALSE, duration_ms BIGINT NOT NULL DEFAULT 0, status_code INTEGER NOT NULL DEFAULT 0,
  path TEXT NOT NULL DEFAULT '', agent_id TEXT NOT NULL DEFAULT '', session_id TEXT NOT NULL DEFAULT '',
  user_id TEXT NOT NULL DEFAULT '', tenant_id TEXT NOT NULL DEFAULT '');
CREATE TABLE agent_sessions (id TEXT PRIMARY KEY, agent_id TEXT NOT NULL DEFAULT '', user_id TEXT NOT NULL DEFAULT '',
  task TEXT NOT NULL DEFAULT '', started_at TIMESTAMPTZ NOT NULL, ended_at TIMESTAMPTZ, status TEXT NOT NULL DEFAULT 'active',
  call_count INTEGER NOT NULL DEFAULT 0, total_cost_usd DOUBLE PRECISION NOT NULL DEFAULT 0.0,
  total_tokens INTEGER NOT NULL DEFAULT 0);
CREATE TABLE admin_config (key TEXT PRIMARY KEY, value TEXT NOT NULL DEFAULT '', updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW());
";

fn import(home: &Installation, url: &str) -> Output {
    home.run(&["import", "postgres", url])
}

fn line(output: &Output, word: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.lines()
        .find(|line| line.starts_with(word))
        .unwrap_or_else(|| panic!("{text}"))
        .to_owned()
}

#[test]
fn the_originals_postgresql_is_taken_over_with_its_totals_and_once() {
    let home = Installation::new("providers: {openai: {upstream: \"http://127.0.0.1:9\"}}");
    let Some(cluster) = Cluster::start() else {
        println!("SKIPPED: PostgreSQL is not installed");
        return;
    };
    let refused = import(&home, &cluster.url());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no table usage_records"));
    cluster.sql(SCHEMA);
    let rows = |from: u32, to: u32| {
        format!(
            "INSERT INTO usage_records SELECT '01J' || lpad(n::text, 23, '0'), now() - interval '1 minute' * (3000 - n), 'openai', \
             'gpt-4o', lpad((n % 5)::text, 24, 'a'), n % 1000, 3, n % 1000 + 3, 0.0001 * n / 3, n % 10 = 0, 812, 200, \
             '/v1/chat/completions', 'coder', 'run-' || n / 20, '', 'acme' FROM generate_series({from}, {to}) n"
        )
    };
    cluster.sql(&rows(1, 2_000));
    cluster.sql(
        "INSERT INTO agent_sessions SELECT session_id, 'coder', '', 'fix', min(timestamp), max(timestamp), 'completed', count(*), \
         sum(cost_usd), sum(total_tokens) FROM usage_records GROUP BY session_id; \
         UPDATE usage_records SET cost_usd = 'NaN' WHERE id LIKE '%0000000007'",
    );
    let first = import(&home, &cluster.url());
    assert!(
        line(&first, "calls").contains("1,999 taken, 2,000 read"),
        "{}",
        line(&first, "calls")
    );
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(
        said.contains("usage_records 7: cost_usd is beyond all measure"),
        "{said}"
    );
    let sum: f64 = cluster
        .sql("SELECT sum(cost_usd) FROM usage_records WHERE cost_usd <> 'NaN'")
        .trim()
        .parse()
        .unwrap();
    let entries = home.export();
    let ours: i64 = entries
        .iter()
        .map(|entry| entry["cost_usd"].as_str().unwrap().parse::<Usd>().unwrap().nanos())
        .sum();
    assert!((ours as f64 - sum * 1e9).abs() <= 1_001.0, "{ours} and {sum}");
    assert!(entries.iter().all(|entry| entry["task"] == "fix"));
    let estimated = entries
        .iter()
        .filter(|entry| entry["estimate_reason"] == "estimated_elsewhere")
        .count();
    assert_eq!(estimated, 200);
    let at = entries[0]["at"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap()
        .as_millisecond();
    assert!((SystemClock::default().now_ms() - 2_999 * 60_000 - at).abs() < 600_000);

    assert!(line(&import(&home, &cluster.url()), "calls").contains(" 0 taken, 0 read"));
    cluster.sql(&rows(2_001, 2_100));
    assert!(line(&import(&home, &cluster.url()), "calls").contains(" 100 taken, 100 read"));
    // A record between those that were taken: what stands at a place is no longer what it was.
    cluster
        .sql("INSERT INTO usage_records (id, timestamp, provider, model) VALUES ('01J0', now(), 'openai', 'gpt-4o')");
    let refused = import(&home, &cluster.url());
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is not what was taken over before"), "{said}");
    assert_eq!(home.export().len(), 2_099);
}

#[test]
fn addresses_that_lead_nowhere_are_named_without_their_password() {
    let home = Installation::new("providers: {openai: {upstream: \"http://127.0.0.1:9\"}}");
    for (url, said) in [
        (
            format!("postgres://me:geheim@127.0.0.1:{}/db", dead_port()),
            "postgres db",
        ),
        (
            "postgres://me:geheim@127.0.0.1:1/db?sslmode=require".to_owned(),
            "TLS is not supported",
        ),
        ("postgres://me:geheim@[".to_owned(), "must be postgres://"),
        ("mysql://me:geheim@host/db".to_owned(), "must be postgres://"),
    ] {
        let output = import(&home, &url);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(said), "{url}: {told}");
        assert!(!told.contains("geheim"), "{told}");
    }
    assert!(!Path::new(&home.path("ledger")).exists());
}
