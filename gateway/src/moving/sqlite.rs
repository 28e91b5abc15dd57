//! The original's SQLite file, read and never written: in one transaction, so that what it adds meanwhile is another run's.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use super::original::{
    AdminRows, Cell, Misfit, Original, SESSION_COLUMNS, SessionRow, SourceError, TENANT, USAGE_COLUMNS, UsageRow,
    admin_row, id_of, session_row, usage_row,
};
use ulid::Ulid;

/// The original's file, open.
pub struct SqliteSource {
    file: PathBuf,
    connection: Connection,
    has_tenants: bool,
}

impl SqliteSource {
    /// Opens a file and looks whether it is the original's.
    ///
    /// # Errors
    /// It cannot be read, or is another's.
    pub fn open(file: &Path) -> Result<SqliteSource, SourceError> {
        let unreadable = |reason: String| SourceError::Unreadable {
            from: file.display().to_string(),
            reason,
        };
        let found = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?;
        if !found.is_file() {
            return Err(unreadable("not a regular file".to_owned()));
        }
        let connection = connect(file).map_err(|error| refused(file, &error))?;
        let mut source = SqliteSource {
            file: file.to_owned(),
            connection,
            has_tenants: false,
        };
        let columns = source.columns("usage_records")?;
        if let Some(missing) = USAGE_COLUMNS
            .iter()
            .find(|name| **name != TENANT && !columns.contains(name))
        {
            return Err(source.foreign(match columns.is_empty() {
                true => "it has no table usage_records".to_owned(),
                false => format!("its usage_records has no column {missing}"),
            }));
        }
        source.has_tenants = columns.contains(TENANT);
        Ok(source)
    }

    fn foreign(&self, reason: String) -> SourceError {
        SourceError::Foreign {
            from: self.file.display().to_string(),
            reason,
        }
    }

    fn columns(&self, table: &str) -> Result<Columns, SourceError> {
        let query = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
            let names = statement.query_map([table], |row| row.get(0))?;
            names.collect()
        };
        query().map(Columns).map_err(|error| refused(&self.file, &error))
    }

    fn id_where(&self, query: &str, place: Option<u64>) -> Result<Option<Ulid>, SourceError> {
        let read = || -> rusqlite::Result<Option<Ulid>> {
            let mut statement = self.connection.prepare(query)?;
            let place = place.map(|place| i64::try_from(place).unwrap_or(i64::MAX));
            let mut rows = match place {
                Some(place) => statement.query([place])?,
                None => statement.query([])?,
            };
            let Some(row) = rows.next()? else { return Ok(None) };
            let id = match row.get_ref(0)? {
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            let at_ms = cell(row, 1).at_ms().unwrap_or_default();
            Ok(Some(id_of(&id, at_ms)))
        };
        read().map_err(|error| refused(&self.file, &error))
    }

    fn each_row(&self, table: &'static str, query: &str, mut visit: impl FnMut(&Row<'_>)) -> Result<(), SourceError> {
        let mut place = 0;
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare(query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                place += 1;
                visit(row);
            }
            Ok(())
        };
        let read = read();
        read.map_err(|error| SourceError::Damaged {
            from: self.file.display().to_string(),
            table,
            place,
            reason: error.to_string(),
        })
    }
}

impl Original for SqliteSource {
    fn name(&self) -> Result<Option<String>, SourceError> {
        let first = self.id_where("SELECT id, timestamp FROM usage_records ORDER BY rowid LIMIT 1", None)?;
        Ok(first.map(|id| format!("sqlite:{id}")))
    }

    fn id_at(&self, place: u64) -> Result<Option<Ulid>, SourceError> {
        self.id_where("SELECT id, timestamp FROM usage_records WHERE rowid = ?1", Some(place))
    }

    fn count_after(&self, place: u64) -> Result<u64, SourceError> {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        let query = "SELECT count(*) FROM usage_records WHERE rowid > ?1";
        let count = self.connection.query_row(query, [place], |row| row.get::<_, i64>(0));
        let count = count.map_err(|error| refused(&self.file, &error))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    fn each_usage(
        &self,
        after: u64,
        now_ms: i64,
        visit: &mut dyn FnMut(Result<UsageRow, Misfit>) -> bool,
    ) -> Result<(), SourceError> {
        let columns = USAGE_COLUMNS.map(|name| match name {
            TENANT if !self.has_tenants => "''",
            name => name,
        });
        let query = format!(
            "SELECT {}, rowid FROM usage_records WHERE rowid > ?1 ORDER BY rowid",
            columns.join(", ")
        );
        let mut last = after;
        let damaged = |place: u64, error: &rusqlite::Error| SourceError::Damaged {
            from: self.file.display().to_string(),
            table: "usage_records",
            place,
            reason: error.to_string(),
        };
        let mut statement = self.connection.prepare(&query).map_err(|error| damaged(last, &error))?;
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let mut rows = statement.query([after]).map_err(|error| damaged(last, &error))?;
        while let Some(row) = rows.next().map_err(|error| damaged(last, &error))? {
            let place: i64 = row.get(USAGE_COLUMNS.len()).map_err(|error| damaged(last, &error))?;
            last = u64::try_from(place).unwrap_or_default();
            if !visit(usage_row(last, now_ms, |at| cell(row, at))) {
                break;
            }
        }
        Ok(())
    }

    fn sessions(&self) -> Result<(Vec<SessionRow>, Vec<Misfit>), SourceError> {
        let columns = self.columns("agent_sessions")?;
        let (mut sessions, mut misfits) = (Vec::new(), Vec::new());
        if SESSION_COLUMNS.iter().any(|name| !columns.contains(name)) {
            // Older than its second migration: it knew no sessions.
            return Ok((sessions, misfits));
        }
        let query = format!(
            "SELECT {}, rowid FROM agent_sessions ORDER BY rowid",
            SESSION_COLUMNS.join(", ")
        );
        self.each_row("agent_sessions", &query, |row| {
            let number = row.get::<_, i64>(SESSION_COLUMNS.len()).unwrap_or_default();
            match session_row(u64::try_from(number).unwrap_or_default(), |at| cell(row, at)) {
                Ok(session) => sessions.push(session),
                Err(misfit) => misfits.push(misfit),
            }
        })?;
        Ok((sessions, misfits))
    }

    fn admin(&self) -> Result<(AdminRows, Vec<Misfit>), SourceError> {
        let (mut found, mut misfits) = (AdminRows::default(), Vec::new());
        let columns = self.columns("admin_config")?;
        if columns.contains("key") && columns.contains("value") {
            let query = "SELECT key, value FROM admin_config ORDER BY key";
            self.each_row("admin_config", query, |row| {
                misfits.extend(admin_row(&mut found, cell(row, 0), cell(row, 1)).err());
            })?;
        }
        Ok((found, misfits))
    }
}

struct Columns(Vec<String>);

impl Columns {
    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Read-only. A database in WAL mode wants to write beside itself even to be read: where that is not allowed, and there is no
/// log with something in it, the file is read as it is.
fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let begun = |connection: Connection| -> rusqlite::Result<Connection> {
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.execute_batch("PRAGMA query_only = ON; BEGIN")?;
        // The transaction begins with the first reading.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok(connection)
    };
    let opened = Connection::open_with_flags(file, flags).and_then(begun);
    let Err(error) = opened else { return opened };
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let is_logged = std::fs::metadata(log).is_ok_and(|found| found.len() > 0);
    if is_logged || error.sqlite_error_code() != Some(ErrorCode::CannotOpen) {
        return Err(error);
    }
    let mut uri = String::from("file:");
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(file.as_os_str()) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).and_then(begun)
}

fn refused(file: &Path, error: &rusqlite::Error) -> SourceError {
    let (from, reason) = (file.display().to_string(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => SourceError::Foreign { from, reason },
        _ => SourceError::Unreadable { from, reason },
    }
}

fn cell<'a>(row: &'a Row<'_>, at: usize) -> Cell<'a> {
    match row.get_ref(at) {
        Ok(ValueRef::Integer(integer)) => Cell::Integer(integer),
        Ok(ValueRef::Real(real)) => Cell::Real(real),
        Ok(ValueRef::Text(text)) => Cell::Text(text),
        Ok(ValueRef::Blob(_)) => Cell::Bytes,
        Ok(ValueRef::Null) | Err(_) => Cell::Null,
    }
}
