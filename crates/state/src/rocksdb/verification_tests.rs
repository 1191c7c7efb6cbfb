use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::Command;

use streamd_core::error::ErrorCode;
use streamd_snapshot::{Location, random_nonce};
use tokio::runtime::Runtime;

use super::super::cut::FrozenColumn;
use super::super::database::{Database, OwnedDirectory};
use super::super::memory::{READING_MEMORY, SharedMemory};
use super::super::slice::RowCount;
use super::*;

const COLUMN: &str = "state-counts";
const NAME: &str = "000012.sst";

/// A database, opened with a file that can be read only when and as far as the test writes into it.
struct Slow {
    database: Arc<Database>,
    folder: tempfile::TempDir,
}

impl Slow {
    fn open(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("this test needs the command `mkfifo`").success());
        let stored = Location::open(&format!("memory:///verification/{}", random_nonce())).unwrap();
        let mut upload = stored.upload();
        let uploaded = Runtime::new().unwrap().block_on(async {
            upload.write(content).await.unwrap();
            upload.finish().await.unwrap()
        });
        let object = ObjectHandle {
            // That of a pipe.
            length: 0,
            ..uploaded.into_handle(stored.uri())
        };
        let directory = OwnedDirectory::create(folder.path().join("instance")).unwrap();
        let mut database = Database::open(
            Arc::new(directory),
            vec![COLUMN.to_owned()],
            SharedMemory::new(READING_MEMORY, 1),
            Arc::default(),
        )
        .unwrap();
        let is_copy = false;
        let files = vec![UnreadFile {
            object,
            path,
            is_copy,
            arriving: None,
        }];
        let unread = Unread {
            files,
            ..Unread::default()
        };
        database.verify(unread).unwrap();
        Self {
            database: Arc::new(database),
            folder,
        }
    }

    /// Waits for the reader of the file. That reads what is written here, and comes to the end when this is closed.
    fn pipe(&self) -> File {
        let pipe = OpenOptions::new().write(true).open(self.folder.path().join(NAME));
        pipe.unwrap()
    }

    /// A cut whose files are there, and the state in it.
    fn cut(&self) -> FrozenColumn {
        let column = FrozenColumn::new(self.database.cut(Vec::new()), COLUMN.to_owned(), RowCount::default());
        self.database.settle().unwrap();
        column
    }
}

#[test]
fn a_snapshot_is_written_when_all_files_have_been_read_and_not_before() {
    for (written, is_right) in [(b"rows", true), (b"ROWS", false)] {
        let slow = Slow::open(b"rows");
        let column = slow.cut();
        assert!(!slow.database.is_verified().unwrap());
        let is_read = AtomicBool::new(false);
        thread::scope(|scope| {
            let table = scope.spawn(|| (column.table(None), is_read.load(Ordering::SeqCst)));
            let rows = scope.spawn(|| (column.for_each_row(&mut |_, _, _| true), is_read.load(Ordering::SeqCst)));
            // Records go on meanwhile, to the database as well.
            slow.database
                .get_all(COLUMN, [b"key".as_slice()].into_iter(), |_, found| {
                    assert!(found.is_none())
                })
                .unwrap();
            is_read.store(true, Ordering::SeqCst);
            slow.pipe().write_all(written).unwrap();
            let (table, after) = table.join().unwrap();
            assert!(after, "a snapshot has files that nobody has read");
            let (rows, after) = rows.join().unwrap();
            assert!(after, "a snapshot has rows of files that nobody has read");
            for outcome in [table.map(|_| ()), rows, slow.database.is_verified().map(|_| ())] {
                match outcome {
                    Ok(()) => assert!(is_right),
                    Err(DatabaseError::NotRestored { code, is_damage, .. }) => {
                        assert!(!is_right && is_damage);
                        assert_eq!(code, ErrorCode::SnapshotCorrupt);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        });
    }
}

#[test]
fn who_waits_for_files_to_be_read_is_told_when_the_database_is_closed() {
    let slow = Slow::open(b"rows");
    let column = slow.cut();
    let pipe = slow.pipe();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| column.table(None));
        slow.database.abandon();
        assert!(matches!(waiting.join().unwrap(), Err(DatabaseError::Lost { .. })));
    });
    // Whoever has the database last waits for the reader.
    drop(pipe);
}

#[test]
fn what_rocksdb_says_of_a_damaged_file_is_told_as_the_damage_that_it_is() {
    let said = disk(
        "read",
        Path::new("/"),
        &std::io::Error::other("block checksum mismatch"),
    );
    for (written, is_right) in [(b"rows", true), (b"ROWS", false)] {
        let slow = Slow::open(b"rows");
        slow.pipe().write_all(written).unwrap();
        match slow.database.blame(said.clone()) {
            DatabaseError::NotRestored { is_damage, .. } => assert!(is_damage && !is_right),
            other => assert!(is_right && other == said, "{other}"),
        }
    }
}

#[test]
fn a_file_that_can_have_only_one_of_its_names_here_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let stored = folder.path().join("stored");
    fs::write(&stored, b"rows").unwrap();
    let object = ObjectHandle {
        path: Location::open(stored.to_str().unwrap()).unwrap().uri(),
        length: 4,
        digest: String::new(),
        inline: None,
    };
    let unread = folder.path().join("unread");
    fs::create_dir(&unread).unwrap();
    let link = |file: &Path| UnreadFile::link(&object, file, &unread, &KnownFiles::default()).unwrap();
    assert!(link(&folder.path().join(NAME)).is_some());
    assert!(unread.join(NAME).exists());
    fs::remove_file(unread.join(NAME)).unwrap();
    // The second name is refused: it is there already, or there is no such folder.
    for file in [folder.path().join(NAME), folder.path().join("absent").join(NAME)] {
        assert!(link(&file).is_none(), "{}", file.display());
        assert!(!unread.join(NAME).exists(), "the first name stays behind");
    }
}

#[test]
fn whoever_waits_for_a_thread_that_panics_is_told() {
    let shared = Arc::new(Shared::default());
    let reading = Reading {
        shared: Arc::clone(&shared),
        path: PathBuf::from("db/unread"),
    };
    let thread = thread::spawn(move || match reading.shared.outcome.get() {
        None => panic!("in this test"),
        Some(_outcome) => {}
    });
    let verification = Verification {
        shared,
        thread: Some(thread),
    };
    let told = verification.wait().unwrap_err();
    assert!(told.to_string().contains("ended early"), "{told}");
    assert_eq!(verification.is_done(), Err(told));
}
