//! The books of AgentLedger: money, accounts, holds, journal and cost sums. Knows no HTTP and no provider.
//!
//! ```text
//! admit → reserve → extend → settle or void          (ledger, hold: what callers have in their hands)
//!            core: one lock, one clock, one order    (books, billed, decision_clock)
//!              queue → writer → journal on disk      (codec, journal, store)
//!                         applier: what follows      (derived: rollup, sessions; checkpoint, retention)
//! start: recover: checkpoint, then the journal       (recover, known_heads)
//! ```
//!
//! | room | does |
//! |---|---|
//! | `ledger`, `hold`, `offline` | what callers see; a ledger without a gateway, for reading |
//! | `core` | decides, under one lock: the books, what is billed once, the time of decisions, what operators do |
//! | `books` | accounts, balances, open holds, documents in force: a pure state machine |
//! | `queue`, `writer` | group commit; suspended while the disk is full, stopped where it failed |
//! | `applier` | sums, sessions, places of changes, checkpoints, of the books too, which are frozen for it: behind a watermark of its own; those who follow hear from it |
//! | `recover`, `verify` | a start from disk; a walk that believes nothing |
//! | `reads` over `by_id`, `session_rows`, `journal_rows` | single things: an exchange, what some sessions did, months and latest events |
//! | `journal`, `codec`, `store` | chunks and their chain; events as bytes; databases, the journal's behind a write-ahead log |
//!
//! Nothing reaches back: a module imports only what stands before it here, which `gateway/tests/tidy.rs` checks:
//!
//! ```text
//! order: bill_id clock head inferred map money slab usage
//! order: amounts decision_clock entry index store
//! order: bound change entry_json names secret_check waiters
//! order: recorded event happened last_limits window wire change_bytes
//! order: billed codec books journal
//! order: import_places
//! order: bill_rows change_rows denial_rows known_heads query adjustments by_id journal_rows recovered session_rows reports rollup sessions
//! order: peaks checkpoint derived scan queue retention verify
//! order: applier error side_table writer options core recover archive
//! order: hold offline ledger events reads testing
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod adjustments;
mod amounts;
mod applier;
mod archive;
mod bill_id;
mod bill_rows;
mod billed;
mod books;
mod bound;
mod by_id;
mod change;
mod change_bytes;
mod change_rows;
mod checkpoint;
mod clock;
mod codec;
mod core;
mod decision_clock;
mod denial_rows;
mod derived;
mod entry;
mod entry_json;
mod error;
mod event;
mod events;
mod happened;
mod head;
mod hold;
mod import_places;
mod index;
mod inferred;
mod journal;
mod journal_rows;
mod known_heads;
mod last_limits;
mod ledger;
mod map;
mod money;
mod names;
mod offline;
mod options;
mod peaks;
mod query;
mod queue;
mod reads;
mod recorded;
mod recover;
mod recovered;
mod reports;
mod retention;
mod rollup;
mod scan;
mod secret_check;
mod session_rows;
mod sessions;
mod side_table;
mod slab;
pub mod store;
#[doc(hidden)]
pub mod testing;
mod usage;
mod verify;
mod waiters;
mod window;
mod wire;
mod writer;

pub use adjustments::{AdjustmentQuery, AdjustmentRow};
pub use amounts::{Amounts, Unit};
pub use archive::{Exported, RestoredJournal, export_journal};
pub use bill_id::BillId;
pub use books::{Adjustment, Books, BooksError, Obstacle, OpenHold, Refusal, Standing, Taken};
pub use bound::{AccountBalances, Bound, BoundError, Limit, Mode, Window, Zone};
pub use by_id::Found;
pub use change::{Answered, Change, ChangeError, ChangePage, ChangeQuery, Document, Documents, TEXT_BYTES_MAX};
pub use clock::{Clock, ManualClock, SystemClock};
pub use decision_clock::{ClockState, TOLERANCE_MS};
pub use denial_rows::{DenialQuery, DenialRow};
pub use entry::{Entry, Facts, Name, Outcome, Part, PriceRef, Settlement};
pub use entry_json::rfc3339_ms;
pub use error::LedgerError;
pub use event::{
    Denial, Event, Extended, Held, HeldBound, HoldId, IMPORTED, ImportedEntry, Mark, Settled as SettledEvent,
};
pub use events::{JournalStopped, journal_events};
pub use happened::Happened;
pub use head::{Hash, Head};
pub use hold::{Hold, Permit, Settled};
pub use inferred::Inferred;
pub use journal_rows::{JournalMonth, JournalRow};
pub use last_limits::RequestedLimit;
pub use ledger::{Correction, Health, ImportRow, Ledger};
pub use money::{MoneyError, Picos, UnitPrice, Usd};
pub use offline::OfflineLedger;
pub use options::{Durability, ExpectedCosts, Options};
pub use peaks::{DEAREST_MAX, Durations};
pub use query::{Cursor, EntryPage, EntryQuery};
pub use queue::Stopped;
pub use recorded::{Base, HoldNotes, InForce, Record, RefusalRecord, Refused};
pub use recovered::{RecoveredEntry, RecoveredId};
pub use reports::{BalancePage, BalanceRow};
pub use rollup::{Dimension, Filter, Point, Retention, SeriesQuery, Spent, Stretch, SummaryQuery, SummaryRow, Totals};
pub use scan::Scanned;
pub use session_rows::{SessionRows, SessionRowsQuery};
pub use sessions::{Kept, Kin, PARENT_TAG, Session, SessionOrder, SessionQuery, Sessions, Status, Who};
pub use side_table::SideTable;
pub use usage::{Kind, Usage};
pub use verify::{Report, VerifyError, verify};
pub use window::Period;
pub use writer::CommitObserver;
