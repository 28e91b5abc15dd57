//! Calls that passed through a wrapper while no gateway ran: taken in from its spool (`wrap::spool`), each once by its id, however
//! often this or its writer is killed meanwhile. They are spent: no limit refuses them, and every budget counts them.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentledger_ledger::{Name, Outcome, Settlement};
use bytes::Bytes;
use tokio::runtime::Runtime;
use ulid::Ulid;

use super::answer::Says;
use super::call::{Arguments, Called, settlement_of};
use super::wrap::spool::{ENDING, Record};
use super::wrapped::{ANSWERED, NO_STATUS, Whose, WrappedCalls, bill_of, seen};
use crate::control::wire::{BeginParams, CallEnding, EndParams};
use crate::estimate_reason;
use crate::files;
use crate::proxy::decide;
use crate::proxy::fetch;
use crate::proxy::settle::blank::blank;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::gateway::Gateway;

/// Why an entry has no hold: the reason of its overage.
const SPOOLED_CALL: &str = "spooled_call";
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// What a file is called that could not be read whole, once what could be is taken in.
const UNREAD: &str = "unread";

/// Takes spools in.
pub struct Intake {
    runtime: Runtime,
    /// Those that were told of, and are left alone.
    given_up: Vec<PathBuf>,
}

/// Why a spool is left where it is.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("its writer is not done")]
    Written,
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("it belongs to another user")]
    Foreign,
    #[error("the ledger takes nothing")]
    Ledger,
}

impl Intake {
    /// # Errors
    /// There are no means to wait for the ledger.
    pub fn new() -> io::Result<Intake> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Intake {
            runtime,
            given_up: Vec::new(),
        })
    }

    /// Takes in what lies in a folder.
    pub fn look(&mut self, dir: &Path, calls: &WrappedCalls) {
        for path in spools(dir) {
            if self.given_up.contains(&path) {
                continue;
            }
            match self.take(&path, calls.gateway()) {
                Ok(0) => {}
                Ok(entered) => {
                    tracing::info!(spool = %path.display(), entered, "tool calls that passed while no gateway ran are entered")
                }
                Err(Left::Written | Left::Ledger) => {}
                Err(error) => {
                    tracing::error!(spool = %path.display(), %error, "tool calls that passed while no gateway ran cannot be entered");
                    self.given_up.push(path);
                }
            }
        }
    }

    /// How many were entered; the file is gone then.
    fn take(&self, path: &Path, gateway: &Arc<Gateway>) -> Result<usize, Left> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
            return Err(Left::Foreign);
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Left::Written),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let text = files::read(path, FILE_BYTES_MAX)?;
        let spool = Spooled::read(&text);
        let mut entered = 0;
        for (call, fingerprint) in &spool.begun {
            entered += usize::from(self.enter(gateway, call, fingerprint, &spool.ended)?);
        }
        // Not removed before all of it is kept.
        let kept = gateway.ledger.durable(gateway.ledger.last_sequence());
        self.runtime.block_on(kept).map_err(|_| Left::Ledger)?;
        if spool.broken == 0 {
            fs::remove_file(path)?;
        } else {
            fs::rename(path, path.with_extension(UNREAD))?;
            tracing::error!(
                spool = %path.display(),
                lines = spool.broken,
                "lines of a spool cannot be read: it is kept under another name"
            );
        }
        Ok(entered)
    }

    /// Whether it was entered, and not before.
    fn enter(
        &self,
        gateway: &Arc<Gateway>,
        call: &BeginParams,
        fingerprint: &str,
        ended: &HashMap<String, EndParams>,
    ) -> Result<bool, Left> {
        let Ok(id) = Ulid::from_string(&call.id) else {
            return Ok(false);
        };
        let unanswered = EndParams::default();
        let end = ended.get(&call.id).unwrap_or(&unanswered);
        if end.ending == CallEnding::Unsent || gateway.ledger.is_billed(&bill_of(id)) {
            return Ok(false);
        }
        let rules = gateway.rules.load_full();
        let whose = Whose::of(&rules, &call.server, &call.tool, &call.caller).map(|mut whose| {
            whose.identity.fingerprint = Name::from(fingerprint);
            whose
        });
        let Ok(whose) = whose else {
            tracing::error!(id = call.id, "a call of a spool is none, and is not entered");
            return Ok(false);
        };
        let called = Called {
            id,
            key: String::new(),
            tool: &call.tool,
            arguments: match call.argument_bytes {
                0 => Arguments::Json(Bytes::new()),
                bytes => Arguments::Unseen {
                    bytes,
                    hash: String::new(),
                },
            },
        };
        let caller = whose.caller(gateway, &rules);
        let Ok(quoted) = caller.quote(&called) else {
            return Ok(false);
        };
        let mut exchange = caller.exchange(&whose.header, Some((&called, Some(&quoted))), Body::own(Bytes::new()));
        // One that the rules bind to nobody counts on its own accounts all the same.
        let _ = decide::bind(gateway, &mut exchange);
        let says = match end.ending {
            CallEnding::Result => Some(Says::Result),
            CallEnding::ToolError => Some(Says::ToolError),
            CallEnding::Error => Some(Says::Error),
            _ => None,
        };
        let settlement = match says {
            Some(says) => settlement_of(
                gateway,
                &exchange,
                &quoted,
                (&says, ANSWERED),
                seen(end),
                end.milliseconds,
            ),
            None => Settlement {
                cost: quoted.hold,
                upper_bound: Some(quoted.hold),
                estimate_reason: Some(Name::from(estimate_reason::NOT_ANSWERED)),
                ..blank(gateway, &exchange, Outcome::Recovered, NO_STATUS)
            },
        };
        let settlement = Settlement {
            duration_ms: end.milliseconds,
            ..settlement
        };
        let entering = fetch::enter(gateway, *exchange, settlement, vec![bill_of(id)], SPOOLED_CALL);
        match self.runtime.block_on(entering) {
            true => Ok(true),
            false => Err(Left::Ledger),
        }
    }
}

/// The files of a folder that are spools, the oldest first.
fn spools(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut spools: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
        .collect();
    spools.sort_unstable();
    spools
}

/// What stands in a file.
#[derive(Default)]
struct Spooled {
    begun: Vec<(Box<BeginParams>, String)>,
    ended: HashMap<String, EndParams>,
    broken: usize,
}

impl Spooled {
    /// A last line without its end was not written whole: the call that it was to be did not pass.
    fn read(text: &[u8]) -> Spooled {
        let mut spooled = Spooled::default();
        for line in text
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
        {
            match serde_json::from_slice(line) {
                Ok(Record::Begun { call, fingerprint }) => spooled.begun.push((call, fingerprint)),
                Ok(Record::Ended(ended)) => {
                    spooled.ended.insert(ended.id.clone(), ended);
                }
                Err(_) => spooled.broken += 1,
            }
        }
        spooled
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_spool_is_read_line_by_line_and_half_a_line_is_none() {
        let line = |record: &Record| serde_json::to_string(record).unwrap() + "\n";
        let begun = |id: &str| {
            line(&Record::Begun {
                call: Box::new(BeginParams {
                    id: id.to_owned(),
                    ..BeginParams::default()
                }),
                fingerprint: "f".to_owned(),
            })
        };
        let ended = line(&Record::Ended(EndParams {
            id: "a".to_owned(),
            ending: CallEnding::Result,
            ..EndParams::default()
        }));
        let text = format!("{}{ended}nonsense\n{}{}", begun("a"), begun("b"), begun("c").trim_end());
        let spool = Spooled::read(text.as_bytes());
        let ids: Vec<&str> = spool.begun.iter().map(|(call, _)| call.id.as_str()).collect();
        assert_eq!((ids, spool.broken), (vec!["a", "b"], 1));
        assert_eq!(spool.ended["a"].ending, CallEnding::Result);
    }
}
