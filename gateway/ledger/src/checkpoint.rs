//! Checkpoints: the books and what follows from the journal, written down at one place of it, so that a start need not read
//! the journal from its beginning. All of it can be made anew: losing a checkpoint loses time, never the truth.

use crate::bill_rows::{self, BillRows};
use crate::billed::Billed;
use crate::change_rows::{self, ChangeRows};
use crate::denial_rows::{self, DenialRows};
use crate::head::{Hash, Head};
use crate::import_places::{self, ImportPlaces};
use crate::journal::bytes::{Reader, put_blob, put_i64, put_u64};
use crate::peaks::{self, Peaks};
use crate::rollup::{Retention, Rollups};
use crate::sessions;
use crate::store::{Change, Month, Store, StoreError};

const CHECKPOINT_KEY: &[u8] = b"checkpoint";
/// What rows of the rollups begin with in the state database.
const ROW_PREFIX: u8 = b'r';
/// Version 1 had one time alone, and no check of the fingerprints' secret; up to version 2 the books stood in the checkpoint.
const VERSION: u8 = 3;
/// The books stand in rows of this size: the database keeps a row in memory several times over.
pub(crate) const PART_BYTES: usize = 32 << 10;

/// A place of the journal at which a checkpoint is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointAt {
    /// The time of decisions there.
    pub at_ms: i64,
    /// The time by which the journal is ordered there.
    pub journal_ms: i64,
    pub month: Month,
    pub secret_check: Option<[u8; 16]>,
}

/// A checkpoint as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub head: Head,
    pub at: CheckpointAt,
    pub books: Vec<u8>,
    pub floors_ms: (i64, i64),
}

/// Books that stand in rows of their own.
struct BooksApart {
    length: u64,
    digest: [u8; 32],
}

/// A checkpoint to be written: all of it but the books.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked {
    pub head: Head,
    pub at: CheckpointAt,
    pub floors_ms: (i64, i64),
}

impl Marked {
    /// The changes that make a batch of rows a checkpoint, its own row the last of the batch: a batch that is applied by parts
    /// is none until all of it is there. `books` in pieces of [`PART_BYTES`], each a row, so that they are never all in memory.
    pub fn changes(self, mut books: impl Iterator<Item = Vec<u8>>) -> impl Iterator<Item = Change> {
        let (mut hasher, mut length, mut number) = (blake3::Hasher::new(), 0, Some(0));
        std::iter::from_fn(move || {
            let at = number?;
            if let Some(part) = books.next() {
                hasher.update(&part);
                length += part.len() as u64;
                number = Some(at + 1);
                return Some(Change::Put(part_key(at), part));
            }
            number = None;
            let books = BooksApart {
                length,
                digest: *hasher.finalize().as_bytes(),
            };
            Some(Change::Put(CHECKPOINT_KEY.to_vec(), self.encode(&books)))
        })
    }

    fn encode(&self, books: &BooksApart) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_u64(&mut out, self.head.sequence);
        out.extend_from_slice(&self.head.hash.0);
        put_i64(&mut out, self.at.at_ms);
        put_i64(&mut out, self.at.journal_ms);
        put_i64(&mut out, self.at.month.start_ms());
        put_i64(&mut out, self.floors_ms.0);
        put_i64(&mut out, self.floors_ms.1);
        put_blob(&mut out, self.at.secret_check.as_ref().map_or(&[], |check| check));
        put_u64(&mut out, books.length);
        out.extend_from_slice(&books.digest);
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }
}

impl Checkpoint {
    /// From the checkpoint's own row and those of its books.
    fn decode(bytes: &[u8], parts: &[u8]) -> Option<Checkpoint> {
        let (mut checkpoint, books) = Checkpoint::decode_row(bytes)?;
        if let Some(BooksApart { length, digest }) = books {
            // Behind them may stand what is left of larger ones.
            let books = parts.get(..usize::try_from(length).ok()?)?;
            if *blake3::hash(books).as_bytes() != digest {
                return None;
            }
            checkpoint.books = books.to_vec();
        }
        Some(checkpoint)
    }

    /// Without its books where those stand in rows of their own.
    fn decode_row(bytes: &[u8]) -> Option<(Checkpoint, Option<BooksApart>)> {
        let (body, digest) = bytes.split_last_chunk::<32>()?;
        if blake3::hash(body).as_bytes() != digest {
            return None;
        }
        let mut reader = Reader::new(body);
        let [version] = reader.array()?;
        if !(1..=VERSION).contains(&version) {
            return None;
        }
        let head = Head {
            sequence: reader.u64()?,
            hash: Hash(reader.array()?),
        };
        let at_ms = reader.i64()?;
        let journal_ms = if version == 1 { at_ms } else { reader.i64()? };
        let month = Month::of_ms(reader.i64()?);
        let floors_ms = (reader.i64()?, reader.i64()?);
        let secret_check = match version {
            1 => None,
            _ => reader.blob()?.try_into().ok(),
        };
        let (books, apart) = match version {
            1 | 2 => (reader.blob()?.to_vec(), None),
            _ => {
                let (length, digest) = (reader.u64()?, reader.array()?);
                (Vec::new(), Some(BooksApart { length, digest }))
            }
        };
        let at = CheckpointAt {
            at_ms,
            journal_ms,
            month,
            secret_check,
        };
        let checkpoint = Checkpoint {
            head,
            at,
            floors_ms,
            books,
        };
        Some((checkpoint, apart))
    }
}

/// The row of a part of the books. They stand after the checkpoint's own, in their order.
fn part_key(number: u32) -> Vec<u8> {
    [CHECKPOINT_KEY, &number.to_be_bytes()].concat()
}

fn is_part(key: &[u8]) -> bool {
    key.starts_with(CHECKPOINT_KEY) && key.len() == CHECKPOINT_KEY.len() + 4
}

/// A row of the peaks as a change of the state database.
pub(crate) fn peaks_change((key, value): (Vec<u8>, Option<Vec<u8>>)) -> Change {
    match value {
        Some(value) => Change::Put(key, value),
        None => Change::Remove(key),
    }
}

/// A row of the rollups as a change of the state database.
pub(crate) fn rollup_change((key, value): (Vec<u8>, Option<Vec<u8>>)) -> Change {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(ROW_PREFIX);
    stored.extend_from_slice(&key);
    match value {
        Some(value) => Change::Put(stored, value),
        None => Change::Remove(stored),
    }
}

/// What a checkpoint left behind.
pub(crate) struct Loaded {
    pub checkpoint: Checkpoint,
    pub rollups: Rollups,
    pub peaks: Peaks,
    pub billed: Billed,
    pub bill_rows: BillRows,
    pub import_places: ImportPlaces,
    pub change_rows: ChangeRows,
    pub denial_rows: DenialRows,
}

/// The checkpoint and what belongs to it. Nothing where there is none or it cannot be read: the journal knows it all.
pub(crate) fn load(state: &dyn Store, retention: Retention) -> Result<Option<Loaded>, StoreError> {
    let (mut row_of_checkpoint, mut parts) = (None, Vec::new());
    let (mut billed, mut bill_rows) = (Billed::default(), BillRows::default());
    let (mut change_rows, mut denial_rows) = (ChangeRows::default(), DenialRows::default());
    let (mut rollups, mut peaks) = (Rollups::new(retention), Peaks::default());
    let mut import_places = ImportPlaces::default();
    for pair in state.scan(&[]) {
        let (key, value) = pair?;
        match key.split_first() {
            _ if key == CHECKPOINT_KEY => row_of_checkpoint = Some(value),
            _ if is_part(&key) => parts.extend_from_slice(&value),
            Some((&import_places::ROW_PREFIX, row)) if import_places.load(row, &value).is_none() => return Ok(None),
            Some((&ROW_PREFIX, row)) if rollups.load(row, &value).is_none() => return Ok(None),
            Some((&peaks::ROW_PREFIX, _)) if peaks.load(&key, &value).is_none() => return Ok(None),
            Some((&bill_rows::ROW_PREFIX | &bill_rows::GUESS_PREFIX, _))
                if bill_rows.load(&key, &value, &mut billed).is_none() =>
            {
                return Ok(None);
            }
            Some((&change_rows::ROW_PREFIX, _)) if change_rows.load(&key, &value).is_none() => return Ok(None),
            Some((&denial_rows::ROW_PREFIX, _)) if denial_rows.load(&key, &value).is_none() => return Ok(None),
            _ => {}
        }
    }
    let checkpoint = row_of_checkpoint.and_then(|row| Checkpoint::decode(&row, &parts));
    Ok(checkpoint.map(|checkpoint| {
        // All of them are.
        rollups.saved();
        rollups.set_floors_ms(checkpoint.floors_ms);
        Loaded {
            checkpoint,
            rollups,
            peaks,
            billed,
            bill_rows,
            import_places,
            change_rows,
            denial_rows,
        }
    }))
}

/// How far the journal was on disk when the checkpoint was written.
pub(crate) fn head_of(state: &dyn Store) -> Result<Option<Head>, StoreError> {
    let pair = state.at_or_before(CHECKPOINT_KEY)?;
    Ok(pair
        .filter(|(key, _)| key == CHECKPOINT_KEY)
        .and_then(|(_, value)| Checkpoint::decode_row(&value))
        .map(|(checkpoint, _)| checkpoint.head))
}

/// Removes the checkpoint and all rows, so that those made anew do not mix with old ones.
pub(crate) fn clear(state: &dyn Store) -> Result<(), StoreError> {
    let mut batch = Vec::new();
    for pair in state.scan(&[]) {
        let (key, _) = pair?;
        let is_row = matches!(
            key.first(),
            Some(
                &(ROW_PREFIX
                    | peaks::ROW_PREFIX
                    | bill_rows::ROW_PREFIX
                    | bill_rows::GUESS_PREFIX
                    | import_places::ROW_PREFIX
                    | change_rows::ROW_PREFIX
                    | denial_rows::ROW_PREFIX
                    | sessions::ROW_PREFIX)
            )
        );
        if key == CHECKPOINT_KEY || is_part(&key) || is_row {
            batch.push(Change::Remove(key));
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    state.apply(batch)?;
    state.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            head: Head {
                sequence: 77,
                hash: Hash([9; 32]),
            },
            at: CheckpointAt {
                at_ms: 1_795_305_600_000,
                journal_ms: 1_795_305_600_001,
                month: Month { year: 2026, month: 11 },
                secret_check: Some([3; 16]),
            },
            books: vec![1, 2, 3],
            floors_ms: (5, 6),
        }
    }

    /// The rows that a checkpoint makes, its own last.
    fn rows(checkpoint: &Checkpoint) -> Vec<Vec<u8>> {
        let row = |change| match change {
            Change::Put(_, value) => value,
            Change::Remove(_) => panic!("a checkpoint removes nothing"),
        };
        let marked = Marked {
            head: checkpoint.head,
            at: checkpoint.at,
            floors_ms: checkpoint.floors_ms,
        };
        let books = checkpoint.books.chunks(PART_BYTES).map(<[u8]>::to_vec);
        marked.changes(books).map(row).collect()
    }

    #[test]
    fn a_checkpoint_reads_back_and_a_changed_one_does_not() {
        let mut rows = rows(&checkpoint());
        let bytes = rows.pop().unwrap();
        let books = rows.concat();
        assert_eq!(Checkpoint::decode(&bytes, &books), Some(checkpoint()));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(Checkpoint::decode(&changed, &books), None, "byte {place}");
        }
        assert_eq!(Checkpoint::decode(&bytes, &[1, 2, 4]), None);
        assert_eq!(Checkpoint::decode(&bytes, &[1, 2]), None);
        let longer = [1, 2, 3, 4];
        assert_eq!(
            Checkpoint::decode(&bytes, &longer),
            Some(checkpoint()),
            "left of an older one"
        );
    }

    #[test]
    fn large_books_stand_in_many_small_rows_in_their_order() {
        let mut large = checkpoint();
        large.books = (0..PART_BYTES * 3 + 7).map(|at| (at / 100) as u8).collect();
        let mut rows = rows(&large);
        assert_eq!(rows.len(), 5);
        assert!(rows.iter().all(|row| row.len() <= PART_BYTES));
        let bytes = rows.pop().unwrap();
        assert_eq!(Checkpoint::decode(&bytes, &rows.concat()), Some(large));
        assert!(is_part(&part_key(255)) && part_key(255) < part_key(256) && !is_part(CHECKPOINT_KEY));
    }

    #[test]
    fn a_checkpoint_of_the_first_version_reads_back() {
        let mut out = vec![1];
        put_u64(&mut out, 77);
        out.extend_from_slice(&[9; 32]);
        put_i64(&mut out, 1_795_305_600_000);
        put_i64(&mut out, Month { year: 2026, month: 11 }.start_ms());
        put_i64(&mut out, 5);
        put_i64(&mut out, 6);
        put_blob(&mut out, &[1, 2, 3]);
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        let mut expected = checkpoint();
        (expected.at.journal_ms, expected.at.secret_check) = (expected.at.at_ms, None);
        assert_eq!(Checkpoint::decode(&out, &[]), Some(expected));
    }
}
