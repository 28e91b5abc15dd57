//! A database as the original AgentLedger leaves it: its tables, its ways of writing times.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

/// Times as Go prints them.
pub fn go_time(at_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap();
    format!("{} +0000 UTC", at.strftime("%Y-%m-%d %H:%M:%S.%f"))
}

/// The original's SQLite file.
pub struct Original {
    pub file: PathBuf,
    pub connection: Connection,
}

/// One record.
#[derive(Clone)]
pub struct Record {
    pub id: String,
    pub at_ms: i64,
    pub key: String,
    pub cost: f64,
    pub tokens: i64,
    pub session: String,
    pub status: i64,
}

impl Original {
    pub fn new(dir: &Path) -> Original {
        let file = dir.join("agentledger.db");
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        Original { file, connection }
    }

    pub fn record(&self, record: &Record) {
        self.connection
            .execute(
                "INSERT INTO usage_records (id, timestamp, provider, model, api_key_hash, input_tokens, output_tokens, \
                 total_tokens, cost_usd, estimated, duration_ms, status_code, path, agent_id, session_id, user_id, tenant_id) \
                 VALUES (?1, ?2, 'openai', 'gpt-4o', ?3, ?4, 3, ?4 + 3, ?5, 0, 812, ?6, '/v1/chat/completions', 'coder', ?7, \
                 '', 'acme')",
                params![
                    record.id,
                    go_time(record.at_ms),
                    record.key,
                    record.tokens,
                    record.cost,
                    record.status,
                    record.session
                ],
            )
            .unwrap();
    }

    /// So many records, each a minute before the one after it; the last at `last_ms`.
    pub fn records(&self, count: i64, last_ms: i64) {
        self.connection.execute_batch("BEGIN").unwrap();
        for number in 0..count {
            let at_ms = last_ms - (count - 1 - number) * 60_000;
            self.record(&Record {
                id: ulid::Ulid::from_parts(at_ms as u64, number as u128 + 1).to_string(),
                at_ms,
                key: format!("{:024x}", number % 7),
                // No decimal of it is a float.
                cost: 0.000_1 * (number % 90 + 1) as f64 / 3.0,
                tokens: number % 1_000,
                session: format!("run-{}", number / 20),
                status: if number % 50 == 49 { 500 } else { 200 },
            });
        }
        self.connection.execute_batch("COMMIT").unwrap();
    }

    /// Their sessions, with the sums that the original adds up.
    pub fn sessions(&self) {
        self.connection
            .execute_batch(
                "INSERT INTO agent_sessions (id, agent_id, task, started_at, ended_at, status, call_count, total_cost_usd, total_tokens) \
                 SELECT session_id, 'coder', 'fix ' || session_id, min(timestamp), max(timestamp), 'completed', count(*), \
                 sum(cost_usd), sum(total_tokens) FROM usage_records WHERE session_id <> '' GROUP BY session_id",
            )
            .unwrap();
    }

    /// The original's own sum.
    pub fn sum(&self) -> f64 {
        let sum = self.connection.query_row(
            "SELECT sum(cost_usd) FROM usage_records WHERE cost_usd >= 0 AND cost_usd < 1e6",
            [],
            |row| row.get(0),
        );
        sum.unwrap()
    }

    pub fn run(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }
}

/// As its four migrations leave it.
const SCHEMA: &str = "
CREATE TABLE usage_records (id TEXT PRIMARY KEY, timestamp DATETIME NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
  api_key_hash TEXT NOT NULL DEFAULT '', input_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0,
  total_tokens INTEGER NOT NULL DEFAULT 0, cost_usd REAL DEFAULT 0.0, estimated BOOLEAN NOT NULL DEFAULT FALSE,
  duration_ms INTEGER NOT NULL DEFAULT 0, status_code INTEGER NOT NULL DEFAULT 0, path TEXT NOT NULL DEFAULT '',
  agent_id TEXT NOT NULL DEFAULT '', session_id TEXT NOT NULL DEFAULT '', user_id TEXT NOT NULL DEFAULT '',
  tenant_id TEXT NOT NULL DEFAULT '');
CREATE TABLE agent_sessions (id TEXT PRIMARY KEY, agent_id TEXT NOT NULL DEFAULT '', user_id TEXT NOT NULL DEFAULT '',
  task TEXT NOT NULL DEFAULT '', started_at DATETIME NOT NULL, ended_at DATETIME, status TEXT NOT NULL DEFAULT 'active',
  call_count INTEGER NOT NULL DEFAULT 0, total_cost_usd REAL NOT NULL DEFAULT 0.0, total_tokens INTEGER NOT NULL DEFAULT 0,
  tenant_id TEXT NOT NULL DEFAULT '');
CREATE TABLE admin_config (key TEXT PRIMARY KEY, value TEXT NOT NULL DEFAULT '', updated_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP);
";
