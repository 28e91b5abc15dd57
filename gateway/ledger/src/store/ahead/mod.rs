//! A write-ahead log before a database: a commit is one `pwrite` and one `fdatasync` of a small file, and the database, whose
//! own flush wakes all its threads and writes far more, takes what came in large batches behind it.
//!
//! ```text
//! apply → frame → flush: pwrite, fdatasync → the caller is told → … → drain: database, its flush → the file is free
//! ```
//!
//! A commit costs some 1,400 instructions here and those two calls; the database's own flush, which was it before, 12,000, two
//! writes, two `sync_file_range`, the same `fdatasync`, and 37 futex calls an exchange where 8 are left. What the database takes
//! behind the log still costs 9,000 instructions a record, on the applier's thread, one flush a second or a megabyte.
//!
//! There are two files. One is written to; when it is drained, the other takes over, and what is drained is written over
//! later, from its beginning: a sync of bytes that were there before writes no metadata. All pairs that the database has not
//! yet confirmed are in memory, too, as the tail: readers see the database, then the tail. So a start only reads the files
//! and changes nothing; the first write drains what the last process has left.
//!
//! One rule tells a torn end from damage. Keys ascend, and each frame names the key before it: all whole frames of both
//! files, in the order of their keys, leave out what the database has, and the rest must carry it on without a gap. A frame
//! that was torn has none behind it, for nothing is written behind one that is not synced. What was drained is behind the
//! database, and is passed over.
//!
//! After a failed write or sync of the file, but for want of room, nothing is written any more: what the system had for
//! the disk it may have dropped. The same holds for the database behind; where that lacks room, nothing is written ahead
//! until it has taken all there is.

mod files;
mod frame;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use self::frame::{Builder, FIRST, Frame, Salt};
use super::{Bytes, Change, Pair, Store, StoreError};

pub(super) use self::files::{AheadFiles, DiskFiles, Side};
pub(super) use self::frame::SECTOR;

/// A file that must grow grows by so much, so that the syncs after it write no metadata either.
const GROWS_BY: usize = 64 << 10;
/// So much waits in memory at most; then a commit waits for the database.
const TAIL_BYTES_MAX: usize = 32 << 20;
/// Pairs of one batch of the database.
const BATCH_PAIRS: usize = 1_024;

/// A database of pairs with ascending keys, and its log.
pub(super) struct AheadStore {
    below: Arc<dyn Store>,
    files: Box<dyn AheadFiles>,
    tail: Mutex<Tail>,
    writing: Mutex<Writing>,
    /// The right to write to the database.
    draining: Mutex<()>,
    /// Why the database did not take what is ahead, the last time.
    behind: Mutex<Option<StoreError>>,
    /// Something was written past the log, and not flushed.
    is_past: AtomicBool,
    /// What is wrong with the files: what is behind the tail cannot be believed.
    damage: Option<String>,
}

/// What the database has not confirmed, ascending.
#[derive(Default)]
struct Tail {
    /// The last key of the database, before all of them.
    before: Option<Bytes>,
    pairs: VecDeque<Arc<Pair>>,
    /// How many of them are on disk, in the files.
    synced: usize,
    bytes: usize,
}

#[derive(Default)]
struct Writing {
    /// Applied and not yet in a file.
    frame: Builder,
    /// `None` before the first flush, and after `close`.
    active: Option<Active>,
    failed: Option<StoreError>,
}

/// The file that is written to.
struct Active {
    side: Side,
    at: usize,
    even: Segment,
    odd: Segment,
    /// The database has all that the other file held.
    other_is_free: bool,
    /// A write failed here: the next one must cover it.
    is_torn: bool,
}

/// A file of this process.
#[derive(Default)]
struct Segment {
    /// `None` while it is not made.
    salt: Option<Salt>,
    bytes: usize,
}

impl AheadStore {
    /// Reads what the files hold beyond the database. Changes nothing.
    pub fn open(below: Arc<dyn Store>, files: Box<dyn AheadFiles>) -> Result<AheadStore, StoreError> {
        let (mut frames, mut damage) = (Vec::new(), None);
        for side in Side::BOTH {
            match frame::read(&files.read(side)?.unwrap_or_default()) {
                Some(found) => frames.extend(found),
                None => damage = Some("the first sector of a file cannot be read".to_owned()),
            }
        }
        let last = below.last()?;
        let mut tail = Tail {
            before: last.as_ref().map(|(key, _)| key.clone()),
            ..Tail::default()
        };
        let (pairs, gap) = carried_on(last, frames);
        pairs.into_iter().for_each(|pair| tail.push(pair));
        tail.synced = tail.pairs.len();
        Ok(AheadStore {
            below,
            files,
            tail: Mutex::new(tail),
            writing: Mutex::default(),
            draining: Mutex::default(),
            behind: Mutex::default(),
            is_past: AtomicBool::new(false),
            damage: gap.or(damage),
        })
    }

    /// Whether the files are still those in the folder.
    pub fn check(&self) -> std::io::Result<bool> {
        self.files.check()
    }

    fn damaged(&self) -> Option<StoreError> {
        self.damage.clone().map(StoreError::Damaged)
    }

    /// The files are this process's from now on, what was left in them is in the database.
    fn begin(&self) -> Result<(), StoreError> {
        self.files.remove()?;
        let even = self.made(Side::Even)?;
        self.writing.lock().active = Some(Active {
            side: Side::Even,
            at: FIRST,
            even,
            odd: Segment::default(),
            other_is_free: true,
            is_torn: false,
        });
        Ok(())
    }

    fn made(&self, side: Side) -> Result<Segment, StoreError> {
        let salt = Salt::new();
        self.files.make(side, &salt.sector())?;
        Ok(Segment {
            salt: Some(salt),
            bytes: SECTOR,
        })
    }

    /// The other file takes over, so that this one is free once it is drained.
    fn turn(&self) -> Result<(), StoreError> {
        let lacks = self.writing.lock().active.as_mut().and_then(Active::lacks);
        // Nobody waits for a disk meanwhile.
        let made = lacks.map(|side| Ok((side, self.made(side)?))).transpose()?;
        if let Some(active) = &mut self.writing.lock().active {
            if let Some((side, made)) = made {
                *active.segment(side) = made;
            }
            active.turn();
        }
        Ok(())
    }

    fn put_below(&self, pairs: &[Arc<Pair>]) -> Result<(), StoreError> {
        for batch in pairs.chunks(BATCH_PAIRS) {
            let changes = batch.iter().map(|pair| Change::Put(pair.0.clone(), pair.1.clone()));
            self.below.apply(changes.collect())?;
        }
        self.below.flush()
    }

    /// Past the log, what is in it first.
    fn pass(&self, changes: &mut dyn Iterator<Item = Change>) -> Result<(), StoreError> {
        self.flush()?;
        self.drain()?;
        let _alone = self.draining.lock();
        self.is_past.store(true, Ordering::Release);
        let passed = self.below.apply_each(changes);
        self.tail.lock().before = self.below.last()?.map(|(key, _)| key);
        passed
    }
}

impl Store for AheadStore {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        if let Some(damaged) = self.damaged() {
            return Err(damaged);
        }
        if !self.tail.lock().is_next(&batch) {
            return self.pass(&mut batch.into_iter());
        }
        let mut writing = self.writing.lock();
        if let Some(failed) = &writing.failed {
            return Err(failed.clone());
        }
        let mut tail = self.tail.lock();
        for change in batch {
            if let Change::Put(key, value) = change {
                let pair = (key, value);
                writing.frame.push(tail.last_key(), &pair);
                tail.push(pair);
            }
        }
        Ok(())
    }

    fn apply_each(&self, changes: &mut dyn Iterator<Item = Change>) -> Result<(), StoreError> {
        match self.damaged() {
            Some(damaged) => Err(damaged),
            None => self.pass(changes),
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        if self.is_past.swap(false, Ordering::AcqRel) {
            self.below.flush()?;
        }
        if self.writing.lock().frame.is_empty() {
            return Ok(());
        }
        let is_begun = self.writing.lock().active.is_some();
        let is_behind = self.behind.lock().is_some() || self.tail.lock().bytes > TAIL_BYTES_MAX;
        if !is_begun || is_behind {
            self.drain()?;
        }
        if !is_begun {
            self.begin()?;
        }
        let mut writing = self.writing.lock();
        writing.write(&*self.files)?;
        // Before the lock is free: a drain that comes now must know what is in the file that it leaves.
        let mut tail = self.tail.lock();
        tail.synced = tail.pairs.len();
        Ok(())
    }

    /// What was not acknowledged is to be applied again.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut writing = self.writing.lock();
        if let Some(failed) = &writing.failed {
            return Err(failed.clone());
        }
        writing.frame.clear();
        self.tail.lock().drop_unsynced();
        Ok(())
    }

    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        // The tail first: what leaves it is in the database by then.
        let (end, tail) = self.tail.lock().since(from);
        let below = self.below.scan(from).take_while(move |pair| match (pair, &end) {
            (Ok((key, _)), Some(end)) => key < end,
            _ => true,
        });
        let tail = tail.into_iter().map(|pair| Ok(Pair::clone(&pair)));
        Box::new(below.chain(tail).chain(self.damaged().map(Err)))
    }

    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        if let Some(pair) = self.tail.lock().at_or_before(at) {
            return Ok(Some(pair));
        }
        self.below.at_or_before(at)
    }

    fn last(&self) -> Result<Option<Pair>, StoreError> {
        if let Some(pair) = self.tail.lock().pairs.back() {
            return Ok(Some(Pair::clone(pair)));
        }
        match (self.below.last()?, self.damaged()) {
            (None, Some(damaged)) => Err(damaged),
            (last, _) => Ok(last),
        }
    }

    fn ahead_bytes(&self) -> usize {
        self.tail.lock().bytes
    }

    fn drain(&self) -> Result<(), StoreError> {
        let _alone = self.draining.lock();
        if let Some(damaged) = self.damaged() {
            return Err(damaged);
        }
        let behind = self.behind.lock().clone();
        match behind {
            Some(error) if !error.may_pass() => return Err(error),
            // An engine that has no room may not even open, and says all sorts of things then: nothing is lost by another try.
            Some(_) => self.below.reopen().map_err(|error| match error {
                full @ StoreError::Full(_) => full,
                other => StoreError::Full(other.to_string()),
            })?,
            None => {}
        }
        if self.tail.lock().synced == 0 {
            *self.behind.lock() = None;
            return Ok(());
        }
        let turned = self.turn();
        // After the turn: whatever is in the file that was left is among them.
        let pairs = self.tail.lock().synced();
        let put = match turned {
            Err(error) if !error.may_pass() => Err(error),
            // Without room for another file this one is written on.
            _ => self.put_below(&pairs),
        };
        *self.behind.lock() = put.clone().err();
        put?;
        self.tail.lock().drop_first(pairs.len());
        if let Some(active) = &mut self.writing.lock().active {
            active.other_is_free = true;
        }
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.drain()?;
        let _alone = self.draining.lock();
        let mut writing = self.writing.lock();
        if writing.failed.is_none() && self.tail.lock().pairs.is_empty() {
            writing.active = None;
            self.files.remove()?;
        }
        Ok(())
    }
}

/// The pairs that carry on what the database has, to the first gap if there is one.
fn carried_on(last: Option<Pair>, mut frames: Vec<Frame>) -> (Vec<Pair>, Option<String>) {
    frames.sort_by(|one, other| one.pairs.first().cmp(&other.pairs.first()));
    let (mut last, mut carried) = (last, Vec::new());
    for frame in frames {
        let mut before = frame.before;
        for pair in frame.pairs {
            match &last {
                Some(known) if known.0 == pair.0 && known.1 != pair.1 => {
                    return (
                        carried,
                        Some("a record is another one than the database has".to_owned()),
                    );
                }
                Some(known) if known.0 >= pair.0 => {}
                _ if before.as_ref() != last.as_ref().map(|(key, _)| key) => {
                    let gap = "frames are missing, or cannot be read, before some that are whole";
                    return (carried, Some(gap.to_owned()));
                }
                _ => {
                    carried.push(pair.clone());
                    last = Some(pair.clone());
                }
            }
            before = Some(pair.0);
        }
    }
    (carried, None)
}

impl Writing {
    /// One write and one sync. After a failure that may pass, the same place is written again.
    fn write(&mut self, files: &dyn AheadFiles) -> Result<(), StoreError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let Writing { frame, active, failed } = self;
        let Some(active) = active else {
            return Err(StoreError::Io("the write-ahead log is not begun".to_owned()));
        };
        let written = active.write(frame, files);
        if let Err(error) = &written
            && !error.may_pass()
        {
            *failed = Some(error.clone());
        }
        written
    }
}

impl Active {
    fn segment(&mut self, side: Side) -> &mut Segment {
        match side {
            Side::Even => &mut self.even,
            Side::Odd => &mut self.odd,
        }
    }

    /// Whether the other file may take over. A file whose last write failed goes on until one has covered what that may have
    /// left.
    fn may_turn(&self) -> bool {
        self.other_is_free && !self.is_torn && self.at > FIRST
    }

    /// The other file, where it is to be made before it can take over.
    fn lacks(&mut self) -> Option<Side> {
        let other = self.side.other();
        (self.may_turn() && self.segment(other).salt.is_none()).then_some(other)
    }

    fn turn(&mut self) {
        if self.may_turn() {
            (self.side, self.at, self.other_is_free) = (self.side.other(), FIRST, false);
        }
    }

    fn write(&mut self, frame: &mut Builder, files: &dyn AheadFiles) -> Result<(), StoreError> {
        let (side, at) = (self.side, self.at);
        let segment = self.segment(side);
        let Some(salt) = &segment.salt else {
            return Err(StoreError::Io("a write-ahead file was never made".to_owned()));
        };
        let bytes = frame.sealed(salt);
        let (length, end) = (bytes.len(), at + bytes.len());
        if end > segment.bytes {
            bytes.resize(end.next_multiple_of(GROWS_BY) - at, 0);
        }
        let written = files.write(side, at, bytes);
        bytes.truncate(length);
        self.is_torn = true;
        written?;
        let segment = self.segment(side);
        segment.bytes = segment.bytes.max(end.next_multiple_of(GROWS_BY));
        files.sync(side)?;
        frame.clear();
        (self.at, self.is_torn) = (end, false);
        Ok(())
    }
}

impl Tail {
    /// The key after which the next pair comes.
    fn last_key(&self) -> Option<&[u8]> {
        let last = self.pairs.back().map(|pair| pair.0.as_slice());
        last.or(self.before.as_deref())
    }

    /// Whether all of the batch comes after what there is.
    fn is_next(&self, batch: &[Change]) -> bool {
        let mut before = self.last_key();
        batch.iter().all(|change| match change {
            Change::Put(key, _) => before.replace(key).is_none_or(|before| before < key.as_slice()),
            Change::Remove(_) => false,
        })
    }

    fn push(&mut self, pair: Pair) {
        self.bytes += pair.0.len() + pair.1.len();
        self.pairs.push_back(Arc::new(pair));
    }

    /// Those on disk.
    fn synced(&self) -> Vec<Arc<Pair>> {
        self.pairs.iter().take(self.synced).map(Arc::clone).collect()
    }

    fn drop_first(&mut self, count: usize) {
        for pair in self.pairs.drain(..count.min(self.pairs.len())) {
            self.bytes -= pair.0.len() + pair.1.len();
            self.before = Some(pair.0.clone());
        }
        self.synced = self.synced.saturating_sub(count);
    }

    fn drop_unsynced(&mut self) {
        for pair in self.pairs.drain(self.synced.min(self.pairs.len())..) {
            self.bytes -= pair.0.len() + pair.1.len();
        }
    }

    /// The first key of all, where the database ends for a reader, and the pairs from a key on.
    fn since(&self, from: &[u8]) -> (Option<Bytes>, Vec<Arc<Pair>>) {
        let begin = self.pairs.partition_point(|pair| pair.0.as_slice() < from);
        let pairs = self.pairs.range(begin..).map(Arc::clone).collect();
        (self.pairs.front().map(|pair| pair.0.clone()), pairs)
    }

    fn at_or_before(&self, at: &[u8]) -> Option<Pair> {
        let end = self.pairs.partition_point(|pair| pair.0.as_slice() <= at);
        let pair = self.pairs.get(end.checked_sub(1)?)?;
        Some(Pair::clone(pair))
    }
}
