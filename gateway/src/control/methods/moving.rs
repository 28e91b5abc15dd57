//! Moving in and out: the methods that take over rows of elsewhere, and that write an archive.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use agentledger_ledger::{Facts, ImportRow, ImportedEntry, Inferred, Ledger, LedgerError, Name, Outcome, Settlement};
use jsonrpsee::server::RegisterMethodError;
use serde_json::json;
use tokio::runtime::Handle;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::ledger_view::LedgerView;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::estimate_reason;
use crate::moving::archive::{self, ArchiveError};

const SOURCE_BYTES_MAX: usize = 128;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method {
            name: "ledger.import",
            needs: Role::Admin,
            scope: Scope::Whole,
            summary: "Takes over calls that passed no hold here, each at its own time.",
            example: r#"{"source": "example", "rows": "{\"place\": 1, \"id\": \"01J8Z0000000000000000000AB\", \"at\": \"2026-03-15T12:34:56Z\", \"provider\": \"openai\", \"operation\": \"chat\", \"model\": \"gpt-4o\", \"usage\": {\"input\": 120}, \"cost_usd\": \"0.0003\"}"}"#,
        },
        import,
    )?;
    table.add(
        Method {
            name: "system.backup",
            needs: Role::Admin,
            scope: Scope::Whole,
            summary: "Writes the ledger into one archive, while it runs.",
            example: r#"{"path": "/mnt/backups/agentledger/2026-11-22.tar.zst"}"#,
        },
        backup,
    )
}

fn live(state: &ControlState) -> Result<&Arc<Ledger>, RpcError> {
    match &state.ledger {
        LedgerView::Live(ledger) => Ok(ledger),
        LedgerView::Offline(_) => Err(RpcError::NoGateway),
    }
}

fn import(state: &ControlState, call: &Call, asked: wire::ImportParams) -> Result<wire::ImportedRows, RpcError> {
    let unfit = |path: &str, text: &str| RpcError::Unfit {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    if !(1..=SOURCE_BYTES_MAX).contains(&asked.source.len()) || asked.source.chars().any(char::is_control) {
        return Err(unfit("source", "must be 1 to 128 bytes, without control characters"));
    }
    let source = Name::from(asked.source.as_str());
    let mut names = Names::default();
    let mut rows = Vec::new();
    for (number, line) in asked
        .rows
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let read = serde_json::from_str(line).map_err(|error| error.to_string());
        let row = read.and_then(|line| names.row(line));
        rows.push(row.map_err(|text| unfit(&format!("rows[{number}]"), &format!("is no row: {text}")))?);
    }
    let is_end = rows.is_empty();
    // How far it is can be asked of any ledger.
    if is_end && asked.note.is_none() && matches!(state.ledger, LedgerView::Offline(_)) {
        return Ok(answer(state, &source, 0));
    }
    let ledger = live(state)?;
    let taken = Handle::current().block_on(async {
        let taken = ledger.import(&source, asked.legacy_keys, rows).await?;
        if is_end {
            ledger.flushed().await;
        }
        Ok(taken)
    });
    let taken = taken.map_err(|error| match error {
        LedgerError::Books(error) => unfit("rows", &format!("cannot be taken: {error}")),
        other => RpcError::ledger(other),
    })?;
    let answer = answer(state, &source, taken as u64);
    if let Some(note) = asked.note {
        let changed = Changed {
            subject: format!("import:{source}"),
            note,
            after: Some(json!({ "place": answer.place, "last": answer.last })),
            kept: true,
            ..Changed::default()
        };
        call.commit(&state.ledger, Ulid::new(), changed, &answer)?;
    }
    Ok(answer)
}

fn answer(state: &ControlState, source: &str, taken: u64) -> wire::ImportedRows {
    let known = state.ledger.taken(source);
    wire::ImportedRows {
        taken,
        place: known.map_or(0, |known| known.place),
        last: known.map(|known| known.last.to_string()),
    }
}

/// Names repeat in every row: each is in memory once.
#[derive(Default)]
struct Names(BTreeMap<String, Name>);

impl Names {
    fn name(&mut self, text: String) -> Name {
        match self.0.get(&text) {
            Some(name) => Name::clone(name),
            None => {
                let name = Name::from(text.as_str());
                self.0.insert(text, Name::clone(&name));
                name
            }
        }
    }

    fn row(&mut self, row: wire::ImportRow) -> Result<ImportRow, String> {
        let id = Ulid::from_string(&row.id).map_err(|_| format!("id {:?} is no ULID", row.id))?;
        let at = row.at.parse::<jiff::Timestamp>();
        let at_ms = at
            .map_err(|_| format!("at {:?} is no RFC 3339 time", row.at))?
            .as_millisecond();
        let model = self.name(row.model);
        let facts = Facts {
            id,
            at_ms,
            provider: self.name(row.provider),
            operation: self.name(row.operation),
            requested_model: Name::clone(&model),
            stream: false,
            key: self.name(row.key),
            tenant: self.name(row.tenant),
            agent: self.name(row.agent),
            session: self.name(row.session),
            user: self.name(row.user),
            task: self.name(row.task),
            tags: BTreeMap::new(),
            path: self.name(row.path),
            inferred: Inferred::NONE,
        };
        let duration_ms = i64::try_from(row.duration_ms).map_err(|_| "duration_ms is beyond all measure".to_owned())?;
        let outcome = match row.status {
            400.. => Outcome::UpstreamFailed,
            _ => Outcome::Completed,
        };
        let end_ms = at_ms.saturating_add(duration_ms);
        Ok(ImportRow {
            place: row.place,
            entry: ImportedEntry {
                facts: Arc::new(facts),
                settlement: Settlement {
                    usage: row.usage,
                    cost: row.cost_usd,
                    estimate_reason: row.estimated.then(|| Name::from(estimate_reason::ELSEWHERE)),
                    ..Settlement::unanswered(end_ms, outcome, row.status, model, row.duration_ms)
                },
            },
        })
    }
}

fn backup(state: &ControlState, _: &Call, asked: wire::BackupParams) -> Result<wire::BackedUp, RpcError> {
    let path = Path::new(&asked.path);
    if !path.is_absolute() {
        return Err(RpcError::Unfit {
            path: "path".to_owned(),
            text: "must be an absolute path on the gateway's machine".to_owned(),
        });
    }
    let ledger = live(state)?;
    let dir = state.config.load().storage.dir.clone();
    let source = archive::Source::Running(ledger, &dir);
    let written = archive::into_file(&source, path, state.version, ledger.now_ms());
    let written = written.map_err(|error| match error {
        ArchiveError::Exists(_) => RpcError::Conflict(error.to_string()),
        ArchiveError::Write { error, .. } => RpcError::Unfit {
            path: "path".to_owned(),
            text: format!("cannot be written: {error}"),
        },
        other => RpcError::ledger(other),
    })?;
    Ok(wire::BackedUp {
        path: asked.path,
        bytes: written.bytes,
        events: written.manifest.events,
        head: written.manifest.head.to_string(),
        has_secret: written.manifest.has_secret,
    })
}
