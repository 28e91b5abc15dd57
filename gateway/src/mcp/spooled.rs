//! Calls that passed through a wrapper while no gateway ran: taken in from its spool (`wrap::spool`), each once by its id, however
//! often this or its writer is killed meanwhile. They are spent: no limit refuses them, and every budget counts them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentledger_ledger::{Name, Settlement};
use bytes::Bytes;
use tokio::runtime::Runtime;
use ulid::Ulid;

use super::call::{Arguments, Called, settlement_of};
use super::wrap::spool::{self, ENDING, Record};
use super::wrapped::{ANSWERED, Ended, NO_STATUS, Whose, WrappedCalls, bill_of, seen};
use crate::control::wire::{BeginParams, EndParams};
use crate::proxy::decide;
use crate::proxy::fetch;
use crate::proxy::settle::blank::blank;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::drain::DrainPhase;
use crate::proxy::shared::gateway::Gateway;

/// Why an entry has no hold: the reason of its overage.
const SPOOLED_CALL: &str = "spooled_call";
/// Longest line that is read: a call's names, and who makes it.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// What a file is called that could not be read whole, once what could be is taken in.
const UNREAD: &str = "unread";

/// Takes spools in.
pub struct Intake {
    runtime: Runtime,
    /// What was told of, and is left alone.
    given_up: Vec<PathBuf>,
}

/// Why a spool is left where it is.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("its writer is not done")]
    Written,
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("the ledger takes nothing")]
    Ledger,
    #[error("the gateway ends")]
    Ending,
}

/// What came of a call of a spool.
enum Taken {
    Entered,
    /// It was entered before, or never sent.
    Known,
    /// It names no call that could be entered.
    Unread,
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
        match spool::check_folder(dir) {
            Ok(()) => self.given_up.retain(|path| path != dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.give_up(dir.to_owned(), &error),
        }
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
                // What is left of it is taken in by the next start.
                Err(Left::Ending) => return,
                Err(error) => self.give_up(path, &error),
            }
        }
    }

    fn give_up(&mut self, path: PathBuf, error: &impl std::error::Error) {
        if !self.given_up.contains(&path) {
            tracing::error!(spool = %path.display(), %error, "tool calls that passed while no gateway ran cannot be entered");
            self.given_up.push(path);
        }
    }

    /// How many were entered; the file is gone then.
    fn take(&self, path: &Path, gateway: &Arc<Gateway>) -> Result<usize, Left> {
        let file = spool::open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Left::Written),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut calls = Calls::of(&file);
        let (mut entered, mut unread) = (0, 0);
        while let Some(ended) = calls.next()? {
            if gateway.drain.phase() > DrainPhase::Running {
                return Err(Left::Ending);
            }
            match self.enter(gateway, &ended)? {
                Taken::Entered => entered += 1,
                Taken::Known => {}
                Taken::Unread => unread += 1,
            }
        }
        // Not removed before all of it is kept.
        let kept = gateway.ledger.durable(gateway.ledger.last_sequence());
        self.runtime.block_on(kept).map_err(|_| Left::Ledger)?;
        if unread + calls.broken == 0 {
            fs::remove_file(path)?;
        } else {
            fs::rename(path, path.with_extension(UNREAD))?;
            tracing::error!(
                spool = %path.display(),
                lines = unread + calls.broken,
                "lines of a spool cannot be read: it is kept under another name"
            );
        }
        Ok(entered)
    }

    fn enter(&self, gateway: &Arc<Gateway>, made: &MadeCall) -> Result<Taken, Left> {
        let MadeCall { call, fingerprint, end } = made;
        let Ok(id) = Ulid::from_string(&call.id) else {
            return Ok(Taken::Unread);
        };
        let ended = Ended::of(end.ending);
        if matches!(ended, Ended::Unsent) || gateway.ledger.is_billed(&bill_of(id)) {
            return Ok(Taken::Known);
        }
        let rules = gateway.rules.load_full();
        let Ok(mut whose) = Whose::of_made(&rules, &call.server, &call.tool, &call.caller) else {
            return Ok(Taken::Unread);
        };
        whose.identity.fingerprint = Name::from(fingerprint.as_str());
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
            bill: Some(bill_of(id)),
        };
        let caller = whose.caller(gateway, &rules);
        let Ok(quoted) = caller.quote(&called) else {
            return Ok(Taken::Unread);
        };
        let mut exchange = caller.exchange(&whose.header, Some((&called, Some(&quoted))), Body::own(Bytes::new()));
        exchange.at_ms = made_at(id, exchange.at_ms);
        // One that the rules bind to nobody counts on its own accounts all the same.
        let _ = decide::bind(gateway, &mut exchange);
        let settlement = match ended {
            Ended::Unsent => return Ok(Taken::Known),
            Ended::Answered(says) => {
                let answer = (&says, ANSWERED);
                settlement_of(gateway, &exchange, &quoted, answer, seen(end), end.milliseconds)
            }
            Ended::Unseen(outcome, reason) => Settlement {
                cost: quoted.hold,
                upper_bound: Some(quoted.hold),
                estimate_reason: Some(Name::from(reason)),
                ..blank(gateway, &exchange, outcome, NO_STATUS)
            },
        };
        let settlement = Settlement {
            duration_ms: end.milliseconds,
            ..settlement
        };
        let entering = fetch::enter(gateway, *exchange, settlement, vec![bill_of(id)], SPOOLED_CALL);
        match self.runtime.block_on(entering) {
            true => Ok(Taken::Entered),
            false => Err(Left::Ledger),
        }
    }
}

/// When a call was made: its id says so, of a clock that may be wrong, and never of the future.
fn made_at(id: Ulid, now_ms: i64) -> i64 {
    i64::try_from(id.timestamp_ms()).map_or(now_ms, |at_ms| at_ms.min(now_ms))
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

/// A call that was made, and how it ended.
struct MadeCall {
    call: Box<BeginParams>,
    fingerprint: String,
    end: EndParams,
}

/// The calls of a file, each once it has ended there, then those of which it has no end. However long the file is, those that are
/// open at one time are all that is in memory.
struct Calls<R> {
    lines: BufReader<R>,
    open: BTreeMap<String, (Box<BeginParams>, String)>,
    broken: usize,
}

impl<R: Read> Calls<R> {
    fn of(file: R) -> Calls<R> {
        Calls {
            lines: BufReader::new(file),
            open: BTreeMap::new(),
            broken: 0,
        }
    }

    /// # Errors
    /// The file cannot be read.
    fn next(&mut self) -> io::Result<Option<MadeCall>> {
        while let Some(line) = self.line()? {
            match serde_json::from_slice(&line) {
                Ok(Record::Begun { call, fingerprint }) => {
                    self.open.insert(call.id.clone(), (call, fingerprint));
                }
                Ok(Record::Ended(end)) => {
                    if let Some((call, fingerprint)) = self.open.remove(&end.id) {
                        return Ok(Some(MadeCall { call, fingerprint, end }));
                    }
                }
                Err(_) => self.broken += 1,
            }
        }
        Ok(self.open.pop_first().map(|(_, (call, fingerprint))| MadeCall {
            call,
            fingerprint,
            end: EndParams::default(),
        }))
    }

    /// The next line that is not too long. A last one without its end was not written whole: the call that it was to be did not
    /// pass.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            let mut part = self.lines.by_ref().take(LINE_BYTES_MAX);
            part.read_until(b'\n', &mut line)?;
            if line.ends_with(b"\n") {
                return Ok(Some(line));
            }
            if (line.len() as u64) < LINE_BYTES_MAX {
                return Ok(None);
            }
            self.broken += 1;
            self.lines.skip_until(b'\n')?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::control::wire::CallEnding;

    fn line(record: &Record) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    fn begun(id: &str) -> String {
        line(&Record::Begun {
            call: Box::new(BeginParams {
                id: id.to_owned(),
                ..BeginParams::default()
            }),
            fingerprint: "f".to_owned(),
        })
    }

    fn ended(id: &str, ending: CallEnding) -> String {
        line(&Record::Ended(EndParams {
            id: id.to_owned(),
            ending,
            ..EndParams::default()
        }))
    }

    fn read(text: &str) -> (Vec<(String, CallEnding)>, usize) {
        let mut calls = Calls::of(text.as_bytes());
        let mut made = Vec::new();
        while let Some(MadeCall { call, end, .. }) = calls.next().unwrap() {
            made.push((call.id, end.ending));
        }
        (made, calls.broken)
    }

    #[test]
    fn a_spool_is_read_line_by_line_and_half_a_line_is_none() {
        let text = [
            begun("b"),
            begun("a"),
            "nonsense\n".to_owned(),
            ended("a", CallEnding::Result),
            ended("unknown", CallEnding::Result),
            begun("c").trim_end().to_owned(),
        ];
        let (made, broken) = read(&text.concat());
        let expected = [
            ("a".to_owned(), CallEnding::Result),
            ("b".to_owned(), CallEnding::NotAnswered),
        ];
        assert_eq!((made.as_slice(), broken), (&expected[..], 1));
    }

    #[test]
    fn a_line_without_end_costs_no_more_than_itself() {
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 9) + "\n";
        let (made, broken) = read(&[begun("a"), long, ended("a", CallEnding::Error)].concat());
        assert_eq!((made, broken), (vec![("a".to_owned(), CallEnding::Error)], 1));
    }

    #[test]
    fn a_call_was_made_when_its_id_says_and_not_in_the_future() {
        let id = |ms| Ulid::from_parts(ms, 7);
        assert_eq!((made_at(id(5), 9), made_at(id(99), 9)), (5, 9));
    }
}
