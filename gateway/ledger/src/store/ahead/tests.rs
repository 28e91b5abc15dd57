#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::store::sled_store::SledStore;
use crate::store::{Faults, MemoryStores, Month, Stores};

const MONTH: Month = Month { year: 2026, month: 11 };

fn key(number: u64) -> Bytes {
    number.to_be_bytes().to_vec()
}

fn put(number: u64) -> Change {
    Change::Put(key(number), vec![number as u8; 90])
}

fn commit(store: &dyn Store, number: u64) {
    store.apply(vec![put(number)]).unwrap();
    store.flush().unwrap();
}

/// The numbers that are there, to the first that cannot be read.
fn numbers(store: &dyn Store) -> (Vec<u64>, Option<StoreError>) {
    let mut found = Vec::new();
    for pair in store.scan(&[]) {
        match pair {
            Ok((key, value)) => {
                let number = u64::from_be_bytes(key.try_into().unwrap());
                assert_eq!(value, vec![number as u8; 90]);
                found.push(number);
            }
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}

/// On disk, with each write and each sync counted.
struct Counted {
    files: DiskFiles,
    writes: Arc<AtomicUsize>,
    syncs: Arc<AtomicUsize>,
}

impl AheadFiles for Counted {
    fn read(&self, side: Side) -> Result<Option<Vec<u8>>, StoreError> {
        self.files.read(side)
    }
    fn make(&self, side: Side, sector: &[u8]) -> Result<(), StoreError> {
        self.files.make(side, sector)
    }
    fn write(&self, side: Side, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.files.write(side, at, bytes)
    }
    fn sync(&self, side: Side) -> Result<(), StoreError> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.files.sync(side)
    }
    fn remove(&self) -> Result<(), StoreError> {
        self.files.remove()
    }
    fn check(&self) -> std::io::Result<bool> {
        self.files.check()
    }
}

fn open(dir: &Path) -> AheadStore {
    let database = Arc::new(SledStore::open(dir).unwrap());
    AheadStore::open(database, Box::new(DiskFiles::new(dir))).unwrap()
}

#[test]
fn a_commit_is_one_write_and_one_sync_and_its_file_grows_seldom() {
    let dir = tempfile::tempdir().unwrap();
    let counted = Counted {
        files: DiskFiles::new(dir.path()),
        writes: Arc::default(),
        syncs: Arc::default(),
    };
    let (writes, syncs) = (Arc::clone(&counted.writes), Arc::clone(&counted.syncs));
    let database = Arc::new(SledStore::open(dir.path()).unwrap());
    let store = AheadStore::open(database, Box::new(counted)).unwrap();
    let mut lengths = Vec::new();
    for number in 0..400 {
        commit(&store, number);
        lengths.push(fs::metadata(dir.path().join("ahead.0")).unwrap().len());
        store.flush().unwrap();
    }
    assert_eq!(writes.load(Ordering::SeqCst), 400);
    assert_eq!(syncs.load(Ordering::SeqCst), 400);
    lengths.dedup();
    assert_eq!(lengths, [64 << 10]);
    assert_eq!(store.ahead_bytes(), 400 * 98);
    store.drain().unwrap();
    assert_eq!((store.ahead_bytes(), numbers(&store).0.len()), (0, 400));
}

#[test]
fn a_reader_sees_the_same_before_and_after_a_drain_and_a_restart() {
    let mut rng = StdRng::seed_from_u64(16);
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (mut model, mut next) = (BTreeMap::new(), 0);
    for _ in 0..300 {
        match rng.random_range(0..20) {
            0..10 => {
                let batch: Vec<Change> = (0..rng.random_range(1..4)).map(|more| put(next + more * 3)).collect();
                next += 9;
                for change in &batch {
                    let Change::Put(key, value) = change else { panic!() };
                    model.insert(key.clone(), value.clone());
                }
                store.apply(batch).unwrap();
                store.flush().unwrap();
            }
            10..13 => store.drain().unwrap(),
            13 => {
                // Not at the end: past the log.
                let gone = key(rng.random_range(0..next + 1));
                model.remove(&gone);
                store.apply(vec![Change::Remove(gone)]).unwrap();
                store.flush().unwrap();
            }
            14 => {
                // What was not flushed is applied again.
                store.apply(vec![put(next)]).unwrap();
                store.reopen().unwrap();
            }
            15 => store.close().unwrap(),
            16 => {
                drop(store);
                store = open(dir.path());
            }
            _ => {
                let at = key(rng.random_range(0..next + 20));
                let expected = model.range(..=at.clone()).next_back();
                let found = store.at_or_before(&at).unwrap();
                assert_eq!(found.as_ref().map(|(key, value)| (key, value)), expected);
                let found: Vec<Pair> = store.scan(&at).map(Result::unwrap).collect();
                let expected: Vec<Pair> = model
                    .range(at..)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                assert_eq!(found, expected);
                let last = model.last_key_value();
                assert_eq!(store.last().unwrap().as_ref().map(|(key, value)| (key, value)), last);
            }
        }
    }
    store.close().unwrap();
    let files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert!(
        files.iter().all(|name| !name.to_string_lossy().starts_with("ahead")),
        "{files:?}"
    );
}

/// A folder whose process was killed: what was drained in the first file, then six frames in the second one.
fn killed() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (0..3).for_each(|number| commit(&store, number));
    store.drain().unwrap();
    (3..9).for_each(|number| commit(&store, number));
    drop(store);
    let bytes = fs::read(dir.path().join("ahead.1")).unwrap();
    (dir, bytes)
}

#[test]
fn a_torn_end_is_cut_and_damage_before_whole_frames_is_named() {
    let (dir, whole) = killed();
    let path = dir.path().join("ahead.1");
    assert_eq!(numbers(&open(dir.path())), ((0..9).collect(), None));
    // Key before, key, value, and their lengths.
    let length = 12 + 3 * 4 + 8 + 8 + 90;
    for place in 0..6 {
        for at in [0, 5, 9, 13, 40, length - 1] {
            let mut rotten = whole.clone();
            rotten[FIRST + place * length + at] ^= 1;
            fs::write(&path, rotten).unwrap();
            let store = open(dir.path());
            let (found, damage) = numbers(&store);
            assert_eq!(
                found,
                (0..3 + place as u64).collect::<Vec<_>>(),
                "frame {place} byte {at}"
            );
            assert_eq!(damage.is_some(), place < 5, "frame {place} byte {at}: {damage:?}");
            if damage.is_some() {
                assert!(matches!(store.apply(vec![put(99)]), Err(StoreError::Damaged(_))));
                assert!(matches!(store.drain(), Err(StoreError::Damaged(_))));
            }
        }
    }
    fs::write(&path, &whole[..FIRST + 2 * length + 7]).unwrap();
    assert_eq!(numbers(&open(dir.path())), ((0..5).collect(), None));
    let mut headless = whole.clone();
    headless[3] ^= 1;
    fs::write(&path, headless).unwrap();
    assert!(matches!(numbers(&open(dir.path())), (found, Some(StoreError::Damaged(_))) if found == [0, 1, 2]));
}

#[test]
fn a_file_of_another_log_or_behind_a_gap_is_damage_and_an_older_one_is_passed_over() {
    let ((dir, whole), (other, _)) = (killed(), killed());
    let (older, newer) = (dir.path().join("ahead.0"), dir.path().join("ahead.1"));
    // The database has all that the first file holds.
    fs::remove_file(&older).unwrap();
    assert_eq!(numbers(&open(dir.path())), ((0..9).collect(), None));
    let store = open(dir.path());
    commit(&store, 9);
    store.close().unwrap();
    drop(store);
    fs::write(&newer, &whole).unwrap();
    assert_eq!(
        numbers(&open(dir.path())),
        ((0..10).collect(), None),
        "older than the database"
    );

    // One that goes on where this database does not.
    let store = open(other.path());
    store.drain().unwrap();
    (20..24).for_each(|number| commit(&store, number));
    drop(store);
    fs::remove_file(&newer).unwrap();
    let later = fs::read(other.path().join("ahead.0")).unwrap();
    fs::write(&older, later).unwrap();
    let (found, damage) = numbers(&open(dir.path()));
    assert_eq!(found, (0..10).collect::<Vec<_>>());
    assert!(matches!(damage, Some(StoreError::Damaged(_))), "{damage:?}");

    // The same key, and another record under it.
    let forged = tempfile::tempdir().unwrap();
    let store = open(forged.path());
    store.apply(vec![Change::Put(key(8), vec![1; 90])]).unwrap();
    store.flush().unwrap();
    drop(store);
    let (dir, _) = killed();
    let store = open(dir.path());
    store.close().unwrap();
    drop(store);
    fs::copy(forged.path().join("ahead.0"), dir.path().join("ahead.0")).unwrap();
    let (found, damage) = numbers(&open(dir.path()));
    assert!(found.len() == 9 && matches!(damage, Some(StoreError::Damaged(_))));
}

#[test]
fn nothing_flushed_is_lost_to_a_power_cut_at_any_moment() {
    for seed in 0..400 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stores = MemoryStores::new();
        stores.set_seed(seed);
        let mut store = stores.create_month(MONTH).unwrap();
        let (mut flushed, mut next) = (0, 0);
        for _ in 0..rng.random_range(1..60) {
            match rng.random_range(0..10) {
                0..4 => {
                    store.apply(vec![put(next)]).unwrap();
                    next += 1;
                }
                4..7 => {
                    store.flush().unwrap();
                    flushed = next;
                }
                7..9 => store.drain().unwrap(),
                _ => {
                    store.flush().unwrap();
                    flushed = next;
                    store.close().unwrap();
                }
            }
            // In the middle of something, perhaps: then it is done or not, and nobody was told.
            let in_the_middle = rng.random_range(0..8);
            if in_the_middle == 0 {
                stores.set_faults(Faults {
                    operations_left: Some(rng.random_range(0..6)),
                    ..Faults::default()
                });
                let _ = store.apply(vec![put(next)]);
                let _ = store.flush();
                let _ = store.drain();
                next += 1;
            }
            let left = stores.power_cut(rng.random());
            let found = left.month(MONTH).unwrap().unwrap();
            let (found, damage) = numbers(&*found);
            assert_eq!(damage, None, "seed {seed}: a power cut is no damage");
            let first: Vec<u64> = (0..found.len() as u64).collect();
            assert!(
                found == first && found.len() as u64 >= flushed && found.len() as u64 <= next,
                "seed {seed}: {flushed} of {next} were flushed, and {found:?} are there"
            );
            if in_the_middle == 0 || rng.random_range(0..4) == 0 {
                (next, flushed) = (found.len() as u64, found.len() as u64);
                stores = left;
                stores.set_seed(rng.random());
                store = stores.month(MONTH).unwrap().unwrap();
            }
        }
    }
}

#[test]
fn one_who_drains_meanwhile_frees_no_file_that_is_needed() {
    let stores = MemoryStores::new();
    let store = stores.create_month(MONTH).unwrap();
    let (flushed, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..3_000 {
                commit(&*store, number);
                flushed.store(number + 1, Ordering::SeqCst);
            }
            ends.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                store.drain().unwrap();
            }
        });
        let mut seed = 0;
        while !ends.load(Ordering::SeqCst) {
            let known = flushed.load(Ordering::SeqCst);
            seed += 1;
            let left = stores.power_cut(seed).month(MONTH).unwrap().unwrap();
            let (found, damage) = numbers(&*left);
            assert_eq!(damage, None);
            assert!(found.len() as u64 >= known, "{} of {known}", found.len());
            let (read, _) = numbers(&*store);
            assert!(read.len() as u64 >= known, "a reader sees {} of {known}", read.len());
        }
    });
}

#[test]
fn a_write_that_found_no_room_is_covered_by_the_next_and_any_other_failure_is_the_last() {
    let (stores, full) = (
        MemoryStores::new(),
        Faults {
            is_full: true,
            ..Faults::default()
        },
    );
    let store = stores.create_month(MONTH).unwrap();
    commit(&*store, 0);
    stores.set_faults(full);
    for _ in 0..3 {
        store.apply(vec![Change::Put(key(1), vec![1; 90_000])]).unwrap();
        assert!(store.flush().unwrap_err().may_pass());
        store.reopen().unwrap();
        assert_eq!(numbers(&*store).0, [0], "not acknowledged, and to be applied again");
        // No room for the database, or for another file.
        let _ = store.drain();
    }
    stores.set_faults(Faults::default());
    (1..40).for_each(|number| commit(&*store, number));
    assert_eq!(
        numbers(&*stores.power_cut(7).month(MONTH).unwrap().unwrap()).0.len(),
        40
    );
    for faults in [
        Faults {
            applies_left: Some(0),
            ..Faults::default()
        },
        Faults {
            flushes_left: Some(0),
            ..Faults::default()
        },
    ] {
        let stores = stores.crashed(0);
        let store = stores.month(MONTH).unwrap().unwrap();
        commit(&*store, 40);
        stores.set_faults(faults);
        store.apply(vec![put(41)]).unwrap();
        assert!(!store.flush().unwrap_err().may_pass());
        stores.set_faults(Faults::default());
        assert!(store.flush().is_err() && store.apply(vec![put(42)]).is_err() && store.reopen().is_err());
    }
}

#[test]
fn a_database_that_fails_behind_the_log_is_told_and_nothing_is_lost() {
    let stores = MemoryStores::new();
    let store = stores.create_month(MONTH).unwrap();
    commit(&*store, 0);
    // Its flush, after the sector of the second file.
    stores.set_faults(Faults {
        flushes_left: Some(1),
        ..Faults::default()
    });
    assert!(store.drain().is_err());
    stores.set_faults(Faults::default());
    assert!(store.drain().is_err(), "what it has is known to the next start alone");
    store.apply(vec![put(1)]).unwrap();
    assert!(store.flush().is_err(), "nothing is acknowledged any more");
    assert_eq!(numbers(&*stores.crashed(0).month(MONTH).unwrap().unwrap()).0, [0]);
}

/// A database, or files, without room while that is said.
struct WithoutRoom<T> {
    inner: T,
    is_full: Arc<AtomicBool>,
}

impl<T> WithoutRoom<T> {
    fn room(&self) -> Result<(), StoreError> {
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(StoreError::Full("injected".into())),
            false => Ok(()),
        }
    }
}

impl Store for WithoutRoom<SledStore> {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        self.room()?;
        self.inner.apply(batch)
    }
    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }
    fn reopen(&self) -> Result<(), StoreError> {
        self.inner.reopen()
    }
    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        self.inner.scan(from)
    }
    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        self.inner.at_or_before(at)
    }
    fn last(&self) -> Result<Option<Pair>, StoreError> {
        self.inner.last()
    }
}

impl AheadFiles for WithoutRoom<DiskFiles> {
    fn read(&self, side: Side) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.read(side)
    }
    fn make(&self, side: Side, sector: &[u8]) -> Result<(), StoreError> {
        self.room()?;
        self.inner.make(side, sector)
    }
    fn write(&self, side: Side, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        self.room()?;
        self.inner.write(side, at, bytes)
    }
    fn sync(&self, side: Side) -> Result<(), StoreError> {
        self.inner.sync(side)
    }
    fn remove(&self) -> Result<(), StoreError> {
        self.inner.remove()
    }
    fn check(&self) -> std::io::Result<bool> {
        self.inner.check()
    }
}

#[test]
fn no_file_is_written_over_before_its_drain_succeeded_and_none_is_left_torn() {
    let dir = tempfile::tempdir().unwrap();
    let (database_is_full, files_are_full) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let database = WithoutRoom {
        inner: SledStore::open(dir.path()).unwrap(),
        is_full: Arc::clone(&database_is_full),
    };
    let files = WithoutRoom {
        inner: DiskFiles::new(dir.path()),
        is_full: Arc::clone(&files_are_full),
    };
    let store = AheadStore::open(Arc::new(database), Box::new(files)).unwrap();
    let side = || store.writing.lock().active.as_ref().unwrap().side;
    commit(&store, 0);
    assert_eq!(side(), Side::Even);
    database_is_full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(store.drain().unwrap_err().may_pass());
        assert_eq!(side(), Side::Odd, "the first file is not drained");
        store.apply(vec![put(1)]).unwrap();
        assert!(
            store.flush().unwrap_err().may_pass(),
            "nothing is acknowledged meanwhile"
        );
        store.reopen().unwrap();
    }
    database_is_full.store(false, Ordering::SeqCst);
    commit(&store, 1);
    assert_eq!(side(), Side::Odd);
    store.drain().unwrap();
    assert_eq!(side(), Side::Even);
    commit(&store, 2);
    files_are_full.store(true, Ordering::SeqCst);
    store.apply(vec![put(3)]).unwrap();
    assert!(store.flush().unwrap_err().may_pass());
    store.reopen().unwrap();
    store.drain().unwrap();
    assert_eq!(side(), Side::Even, "what the failed write left is to be covered first");
    files_are_full.store(false, Ordering::SeqCst);
    commit(&store, 3);
    store.drain().unwrap();
    assert_eq!((side(), numbers(&store)), (Side::Odd, ((0..4).collect(), None)));
}
