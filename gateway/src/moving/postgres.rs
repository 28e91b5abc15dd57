//! The original's PostgreSQL database, read and never written: in one transaction, as it is at one moment.
//!
//! Its tables have no order of their own, so records stand in that of their ids, which ascend with time. Whoever goes on from a
//! place checks that the record there is still the one it was.

use futures_util::TryStreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, Row};
use ulid::Ulid;

use super::original::{
    AdminRows, Cell, Misfit, Original, SESSION_COLUMNS, SessionRow, SourceError, TENANT, USAGE_COLUMNS, UsageRow,
    admin_row, id_of, session_row, usage_row,
};
use crate::tasks::spawn_named;

/// The original's database, open.
pub struct PostgresSource {
    runtime: Runtime,
    client: Client,
    /// Where it is, without its password.
    name: String,
    has_tenants: bool,
}

impl PostgresSource {
    /// Connects, and looks whether it is the original's.
    ///
    /// # Errors
    /// It cannot be reached, or is another's.
    pub fn open(url: &str) -> Result<PostgresSource, SourceError> {
        let unreadable = |from: &str, reason: String| SourceError::Unreadable {
            from: from.to_owned(),
            reason,
        };
        // Its text may hold a password: neither it nor the parser's words for it are shown.
        let config: Config = url.parse().map_err(|_| {
            unreadable(
                "the PostgreSQL address",
                "must be postgres://USER@HOST:PORT/DATABASE".to_owned(),
            )
        })?;
        let name = format!("postgres {}", config.get_dbname().unwrap_or("(no database named)"));
        if config.get_ssl_mode() == SslMode::Require {
            let reason = "TLS is not supported here: leave sslmode=require out, and go through a tunnel where the network is not yours";
            return Err(unreadable(&name, reason.to_owned()));
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| unreadable(&name, error.to_string()))?;
        let connected = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await?;
            spawn_named("import-postgres", connection);
            client
                .batch_execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await?;
            Ok(client)
        });
        let client = connected.map_err(|error: tokio_postgres::Error| unreadable(&name, told(&error)))?;
        let mut source = PostgresSource {
            runtime,
            client,
            name,
            has_tenants: false,
        };
        let columns = source.columns("usage_records")?;
        let missing = |name: &&&str| **name != TENANT && !columns.iter().any(|known| known == **name);
        if let Some(missing) = USAGE_COLUMNS.iter().find(missing) {
            return Err(SourceError::Foreign {
                from: source.name,
                reason: match columns.is_empty() {
                    true => "it has no table usage_records".to_owned(),
                    false => format!("its usage_records has no column {missing}"),
                },
            });
        }
        source.has_tenants = columns.iter().any(|name| name == TENANT);
        Ok(source)
    }

    fn failed(&self, error: &tokio_postgres::Error) -> SourceError {
        SourceError::Unreadable {
            from: self.name.clone(),
            reason: told(error),
        }
    }

    fn rows(&self, query: &str) -> Result<Vec<Row>, SourceError> {
        let rows = self.runtime.block_on(self.client.query(query, &[]));
        rows.map_err(|error| self.failed(&error))
    }

    /// Of a table that the search path leads to.
    fn columns(&self, table: &str) -> Result<Vec<String>, SourceError> {
        let query = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass('{table}') AND attnum > 0 AND NOT attisdropped"
        );
        let rows = self.rows(&query)?;
        Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
    }

    fn id_from(&self, query: &str) -> Result<Option<Ulid>, SourceError> {
        let rows = self.rows(query)?;
        Ok(rows.first().map(|row| {
            let id: String = row.try_get(0).unwrap_or_default();
            id_of(&id, row.try_get(1).unwrap_or_default())
        }))
    }
}

const AT: &str = "floor(extract(epoch FROM timestamp) * 1000)::bigint";

impl Original for PostgresSource {
    fn name(&self) -> Result<Option<String>, SourceError> {
        // By its oldest record: one that comes in late may stand before the others by its id, and is no other database.
        let first = self.id_from(&format!(
            "SELECT id, {AT} FROM usage_records ORDER BY timestamp, id COLLATE \"C\" LIMIT 1"
        ))?;
        Ok(first.map(|id| format!("postgres:{id}")))
    }

    fn id_at(&self, place: u64) -> Result<Option<Ulid>, SourceError> {
        let before = place.saturating_sub(1);
        self.id_from(&format!(
            "SELECT id, {AT} FROM usage_records ORDER BY id COLLATE \"C\" OFFSET {before} LIMIT 1"
        ))
    }

    fn count_after(&self, place: u64) -> Result<u64, SourceError> {
        let rows = self.rows("SELECT count(*) FROM usage_records")?;
        let count: i64 = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default().saturating_sub(place))
    }

    fn each_usage(
        &self,
        after: u64,
        now_ms: i64,
        visit: &mut dyn FnMut(Result<UsageRow, Misfit>) -> bool,
    ) -> Result<(), SourceError> {
        let columns = USAGE_COLUMNS.map(|name| match name {
            TENANT if !self.has_tenants => "''::text".to_owned(),
            "timestamp" => AT.to_owned(),
            "input_tokens" | "output_tokens" | "duration_ms" | "status_code" => format!("{name}::bigint"),
            "cost_usd" => format!("{name}::double precision"),
            "estimated" => format!("{name}::int::bigint"),
            name => format!("{name}::text"),
        });
        let query = format!(
            "SELECT {} FROM usage_records ORDER BY id COLLATE \"C\" OFFSET {after}",
            columns.join(", ")
        );
        let read = async {
            let none: [&str; 0] = [];
            let rows = self.client.query_raw(&query, none).await?;
            let mut rows = std::pin::pin!(rows);
            let mut place = after;
            while let Some(row) = rows.try_next().await? {
                place += 1;
                if !visit(usage_row(place, now_ms, |at| usage_cell(&row, at))) {
                    break;
                }
            }
            Ok(())
        };
        self.runtime.block_on(read).map_err(|error| self.failed(&error))
    }

    fn sessions(&self) -> Result<(Vec<SessionRow>, Vec<Misfit>), SourceError> {
        let columns = self.columns("agent_sessions")?;
        let (mut sessions, mut misfits) = (Vec::new(), Vec::new());
        if SESSION_COLUMNS
            .iter()
            .any(|name| !columns.iter().any(|known| known == name))
        {
            return Ok((sessions, misfits));
        }
        let query = "SELECT id::text, agent_id::text, user_id::text, task::text, \
                     floor(extract(epoch FROM started_at) * 1000)::bigint, \
                     floor(extract(epoch FROM ended_at) * 1000)::bigint, status::text, call_count::bigint, \
                     total_cost_usd::double precision, total_tokens::bigint FROM agent_sessions ORDER BY id";
        for (row, number) in self.rows(query)?.iter().zip(1..) {
            match session_row(number, |at| session_cell(row, at)) {
                Ok(session) => sessions.push(session),
                Err(misfit) => misfits.push(misfit),
            }
        }
        Ok((sessions, misfits))
    }

    fn admin(&self) -> Result<(AdminRows, Vec<Misfit>), SourceError> {
        let (mut found, mut misfits) = (AdminRows::default(), Vec::new());
        if !self.columns("admin_config")?.is_empty() {
            for row in self.rows("SELECT key::text, value::text FROM admin_config ORDER BY key")? {
                misfits.extend(admin_row(&mut found, text(&row, 0), text(&row, 1)).err());
            }
        }
        Ok((found, misfits))
    }
}

/// The server's own words, where there are some.
fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

fn text(row: &Row, at: usize) -> Cell<'_> {
    match row.try_get::<_, Option<&str>>(at) {
        Ok(Some(text)) => Cell::Text(text.as_bytes()),
        _ => Cell::Null,
    }
}

fn integer(row: &Row, at: usize) -> Cell<'_> {
    match row.try_get::<_, Option<i64>>(at) {
        Ok(Some(integer)) => Cell::Integer(integer),
        _ => Cell::Null,
    }
}

fn real(row: &Row, at: usize) -> Cell<'_> {
    match row.try_get::<_, Option<f64>>(at) {
        Ok(Some(real)) => Cell::Real(real),
        _ => Cell::Null,
    }
}

fn moment(row: &Row, at: usize) -> Cell<'_> {
    match integer(row, at) {
        Cell::Integer(at_ms) => Cell::At(at_ms),
        _ => Cell::Null,
    }
}

fn usage_cell(row: &Row, at: usize) -> Cell<'_> {
    match USAGE_COLUMNS.get(at).copied() {
        Some("timestamp") => moment(row, at),
        Some("input_tokens" | "output_tokens" | "duration_ms" | "status_code" | "estimated") => integer(row, at),
        Some("cost_usd") => real(row, at),
        _ => text(row, at),
    }
}

fn session_cell(row: &Row, at: usize) -> Cell<'_> {
    match SESSION_COLUMNS.get(at).copied() {
        Some("started_at" | "ended_at") => moment(row, at),
        Some("call_count" | "total_tokens") => integer(row, at),
        Some("total_cost_usd") => real(row, at),
        _ => text(row, at),
    }
}
