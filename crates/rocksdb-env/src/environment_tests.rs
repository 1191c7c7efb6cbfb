use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{DB, IteratorMode, Options};

use super::*;

const ROWS: u32 = 20_000;

/// What becomes of those who ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Comes,
    Fails,
    Panics,
}

/// Table files that are all holes at first. Each range that is asked for is copied from where the files are whole.
struct Holes {
    whole: PathBuf,
    answer: Answer,
    asked: Arc<Mutex<Vec<(PathBuf, Vec<Range<u64>>)>>>,
}

struct Hole {
    path: PathBuf,
    holes: Arc<Holes>,
}

struct Found(Arc<Holes>);

impl PartialFiles for Found {
    fn find(&self, path: &Path) -> Option<Arc<dyn PartialFile>> {
        // And none that the database has made since.
        let is_table = path.extension().is_some_and(|extension| extension == "sst");
        let has_holes = is_table && self.0.whole.join(path.file_name()?).exists();
        has_holes.then(|| {
            Arc::new(Hole {
                path: path.to_owned(),
                holes: Arc::clone(&self.0),
            }) as Arc<dyn PartialFile>
        })
    }
}

impl PartialFile for Hole {
    fn wait_for(&self, ranges: &[Range<u64>]) -> Result<(), String> {
        match self.holes.answer {
            Answer::Comes => {}
            Answer::Fails => return Err("the store is on fire".to_owned()),
            Answer::Panics => panic!("in this test"),
        }
        let whole = File::open(self.holes.whole.join(self.path.file_name().unwrap())).unwrap();
        let length = whole.metadata().unwrap().len();
        let hole = OpenOptions::new().write(true).open(&self.path).unwrap();
        for range in ranges {
            let mut bytes = vec![0; (range.end.min(length) - range.start.min(length)) as usize];
            whole.read_exact_at(&mut bytes, range.start).unwrap();
            hole.write_all_at(&bytes, range.start).unwrap();
        }
        let asked = (self.path.clone(), ranges.to_vec());
        self.holes.asked.lock().unwrap().push(asked);
        Ok(())
    }
}

fn key(row: u32) -> [u8; 4] {
    (row * 2).to_be_bytes()
}

fn value(row: u32) -> Vec<u8> {
    format!("{:x}", u64::from(row).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .repeat(6)
        .into_bytes()
}

/// A database of some files, and the same with nothing in its tables.
fn with_holes(folder: &Path) -> (PathBuf, PathBuf) {
    let (whole, holes) = (folder.join("whole"), folder.join("holes"));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_target_file_size_base(256 << 10);
    let db = DB::open(&options, &whole).unwrap();
    (0..ROWS).for_each(|row| db.put(key(row), value(row)).unwrap());
    db.flush().unwrap();
    db.compact_range(None::<&[u8]>, None::<&[u8]>);
    drop(db);
    fs::create_dir(&holes).unwrap();
    for entry in fs::read_dir(&whole).unwrap() {
        let (from, to) = {
            let from = entry.unwrap().path();
            let to = holes.join(from.file_name().unwrap());
            (from, to)
        };
        match from.extension().is_some_and(|extension| extension == "sst") {
            true => File::create(to)
                .unwrap()
                .set_len(fs::metadata(from).unwrap().len())
                .unwrap(),
            false => drop(fs::copy(from, to).unwrap()),
        }
    }
    (whole, holes)
}

/// The database with the holes, in an environment where this becomes of those who read.
fn open(whole: PathBuf, holes: &Path, answer: Answer) -> (Result<DB, rocksdb::Error>, Arc<Holes>) {
    let files = Arc::new(Holes {
        whole,
        answer,
        asked: Arc::default(),
    });
    let mut options = Options::default();
    options.set_disable_auto_compactions(true);
    options.set_env(&environment(Arc::new(Found(Arc::clone(&files)))).unwrap());
    (DB::open_cf(&options, holes, ["default"]), files)
}

#[test]
fn what_is_read_comes_first_and_no_more_than_that() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, holes) = with_holes(folder.path());
    let (db, files) = open(whole.clone(), &holes, Answer::Comes);
    let db = db.unwrap();
    files.asked.lock().unwrap().clear();
    for row in [0, 777, ROWS - 1] {
        assert_eq!(db.get(key(row)).unwrap(), Some(value(row)));
    }
    let asked = std::mem::take(&mut *files.asked.lock().unwrap());
    let bytes: u64 = asked
        .iter()
        .flat_map(|(_, ranges)| ranges)
        .map(|range| range.end - range.start)
        .sum();
    assert!(!asked.is_empty() && bytes < 128 << 10, "{bytes} bytes for three rows");

    // The rows of a batch that are in one file come together.
    let keys: Vec<[u8; 4]> = (0..200).map(|row| key(row * 100)).collect();
    let handle = db.cf_handle("default").unwrap();
    for (row, found) in db.batched_multi_get_cf(handle, &keys, true).into_iter().enumerate() {
        assert_eq!(found.unwrap().as_deref(), Some(value(row as u32 * 100).as_slice()));
    }
    let asked = std::mem::take(&mut *files.asked.lock().unwrap());
    assert!(
        asked.iter().any(|(_, ranges)| ranges.len() > 5),
        "one by one: {asked:?}"
    );

    let rows = db.iterator(IteratorMode::Start).map(Result::unwrap);
    let expected = (0..ROWS).map(|row| (key(row).to_vec(), value(row)));
    assert!(rows.map(|(key, value)| (key.into_vec(), value.into_vec())).eq(expected));
    // Its copies elsewhere are links, and what is compacted was read through it.
    db.put(b"another", b"row").unwrap();
    db.compact_range(None::<&[u8]>, None::<&[u8]>);
    assert_eq!(db.get(b"another").unwrap().as_deref(), Some(b"row".as_slice()));
    let rows = db.iterator(IteratorMode::Start);
    assert_eq!(rows.map(Result::unwrap).count(), ROWS as usize + 1);
}

#[test]
fn what_does_not_come_fails_its_readers_with_the_reason() {
    for (answer, reason) in [(Answer::Fails, "the store is on fire"), (Answer::Panics, "panicked")] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, holes) = with_holes(folder.path());
        let told = match open(whole, &holes, answer).0 {
            Err(told) => told,
            Ok(db) => db.get(key(5)).unwrap_err(),
        };
        assert!(told.to_string().contains(reason), "{told}");
    }
}

#[test]
fn a_file_that_nobody_can_say_anything_of_is_not_read() {
    struct Panics(AtomicBool);
    impl PartialFiles for Panics {
        fn find(&self, path: &Path) -> Option<Arc<dyn PartialFile>> {
            if path.extension().is_some_and(|extension| extension == "sst") {
                self.0.store(true, Ordering::SeqCst);
                panic!("in this test");
            }
            None
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, holes) = with_holes(folder.path());
    let files = Arc::new(Panics(AtomicBool::new(false)));
    let mut options = Options::default();
    options.set_env(&environment(Arc::clone(&files) as Arc<dyn PartialFiles>).unwrap());
    let told = DB::open(&options, &holes).map_or_else(|told| told, |db| db.get(key(5)).unwrap_err());
    assert!(
        files.0.load(Ordering::SeqCst) && told.to_string().contains("panicked"),
        "{told}"
    );
}

#[test]
fn files_are_let_go_of_with_the_database_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, holes) = with_holes(folder.path());
    let (db, files) = open(whole, &holes, Answer::Comes);
    assert!(Arc::strong_count(&files) > 1);
    db.unwrap().get(key(5)).unwrap().unwrap();
    // The database is closed by now.
    assert_eq!(Arc::strong_count(&files), 1);
}
