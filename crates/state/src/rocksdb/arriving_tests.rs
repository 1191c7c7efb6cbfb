use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use streamd_core::error::ErrorCode;
use streamd_core::key_group::KeyGroupRange;
use streamd_snapshot::{Location, random_nonce};
use tokio::runtime::{Builder, Runtime};

use super::super::cut::FrozenColumn;
use super::super::database::{Database, OwnedDirectory, database_path};
use super::super::memory::{READING_MEMORY, SharedMemory};
use super::super::slice::{RowCount, Slice};
use super::super::verification::{Unread, UnreadFile};
use super::*;

const COLUMN: &str = "state-counts";
const GRANULE: usize = GRANULE_BYTES as usize;

/// A runtime whose tasks get on only while the test [lets](let_come) them.
fn held() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Requests under way.
fn coming(shared: &Shared) -> usize {
    shared.lock().coming.iter().sum()
}

fn let_come(held: &Runtime, shared: &Shared) {
    held.block_on(async {
        while coming(shared) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8 + 1).collect()
}

fn stored(io: &Runtime, content: &[u8]) -> (ObjectHandle, Location) {
    let place = Location::open(&format!("memory:///arriving/{}", random_nonce())).unwrap();
    let mut upload = place.upload();
    let uploaded = io.block_on(async {
        upload.write(content).await.unwrap();
        upload.finish().await.unwrap()
    });
    (uploaded.into_handle(place.uri()), place)
}

/// Makes files for these objects, by name, below a folder.
fn arriving(folder: &Path, objects: &[(&str, &ObjectHandle)], io: &Runtime) -> Arc<Arriving> {
    let (db, unread) = (database_path(folder), folder.join("unread"));
    fs::create_dir_all(&db).unwrap();
    fs::create_dir_all(&unread).unwrap();
    let absent = objects.iter().map(|(name, object)| ((*object).clone(), db.join(name)));
    let mut absent = absent.collect();
    let made = Arriving::create(&mut absent, &unread, io.handle()).unwrap();
    assert!(absent.is_empty());
    Arc::new(made)
}

fn only(arriving: &Arriving) -> &Arc<ArrivingFile> {
    arriving.files().next().unwrap()
}

/// Whether the checkpoint is at fault, of an error that has the code of damage and names this place.
fn is_damage_at(told: &DatabaseError, place: &str) -> bool {
    let DatabaseError::NotRestored {
        reason,
        code,
        is_damage,
    } = told
    else {
        panic!("{told}");
    };
    assert!(*code == ErrorCode::SnapshotCorrupt && reason.contains(place), "{told}");
    *is_damage
}

/// How many granules of all files were ever asked for.
fn asked(arriving: &Arriving) -> usize {
    let progress = arriving.shared.lock();
    let all = progress.granules.iter().flatten();
    all.filter(|granule| **granule != Granule::Absent).count()
}

#[test]
fn what_is_waited_for_comes_and_nothing_else_before_the_rest_is_brought() {
    let (folder, io) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let content = content(100 * GRANULE + 77);
    let (object, _) = stored(&io, &content);
    let arriving = arriving(folder.path(), &[("000012.sst", &object)], &io);
    let path = database_path(folder.path()).join("000012.sst");
    let mut expected = vec![0; content.len()];
    let at = |granule: u64| granule * GRANULE_BYTES..granule * GRANULE_BYTES + 1;
    let cases: [(&[Range<u64>], &[Range<usize>]); 6] = [
        (&[70_000..70_001], &[GRANULE..2 * GRANULE]),
        // Again, and beyond it.
        (&[65_000..66_000], &[0..GRANULE]),
        // Several at once, of which some are one.
        (
            &[20 * 65_536 - 1..20 * 65_536 + 1, 21 * 65_536 + 5..21 * 65_536 + 6],
            &[19 * GRANULE..22 * GRANULE],
        ),
        // Neighbours with what is between, in whatever order, and others without.
        (
            &[at(90), at(40), at(50), at(67)],
            &[40 * GRANULE..68 * GRANULE, 90 * GRANULE..91 * GRANULE],
        ),
        // The end, and more than there is.
        (&[100 * 65_536 + 5..u64::MAX], &[100 * GRANULE..100 * GRANULE + 77]),
        (&[1 << 40..(1 << 40) + 9, 5..5], &[]),
    ];
    for (wanted, came) in cases {
        let file = arriving.find(&path).unwrap();
        file.wait_for(wanted).unwrap();
        for range in came {
            expected[range.clone()].copy_from_slice(&content[range.clone()]);
        }
        assert!(fs::read(&path).unwrap() == expected, "{wanted:?}");
    }
    assert!(!arriving.is_complete());
    arriving.bring(arriving.files()).unwrap();
    assert!(arriving.is_complete());
    assert!(fs::read(&path).unwrap() == content);
    assert!(fs::read(folder.path().join("unread/000012.sst")).unwrap() == content);
    assert!(arriving.find(&path).is_none());
    // For those who have it open, it stays whole.
    arriving.give_up();
    only(&arriving).wait_until_whole().unwrap();
}

#[test]
fn nothing_is_asked_for_twice_and_neither_asker_waits_for_the_other() {
    let (folder, io) = (tempfile::tempdir().unwrap(), held());
    let content = content(20 * GRANULES_OF_PIECE * GRANULE);
    let (object, _) = stored(&io, &content);
    let arriving = arriving(folder.path(), &[("000012.sst", &object)], &io);
    let until_coming = |wanted: usize| {
        while coming(&arriving.shared) != wanted {
            thread::yield_now();
        }
    };
    let last = content.len() as u64 - 1;
    thread::scope(|scope| {
        let background = scope.spawn(|| arriving.bring(arriving.files()));
        until_coming(PIECES_AT_ONCE);
        let waiting = [last..last + 1, last - 1..last, 0..1].map(|range| {
            let file = only(&arriving);
            scope.spawn(move || file.wait(&[range]))
        });
        // The two at the end want the same; the one at the beginning what the background has asked for.
        until_coming(PIECES_AT_ONCE + 1);
        assert_eq!(asked(&arriving), PIECES_AT_ONCE * GRANULES_OF_PIECE + 1);
        while !background.is_finished() {
            let_come(&io, &arriving.shared);
            assert!(coming(&arriving.shared) <= PIECES_AT_ONCE);
        }
        background.join().unwrap().unwrap();
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap().unwrap());
    });
    assert!(fs::read(only(&arriving).path()).unwrap() == content);
}

#[test]
fn many_who_wait_have_a_few_requests_made_at_once_and_get_all_they_want() {
    let (folder, io) = (tempfile::tempdir().unwrap(), held());
    let content = content(60 * GRANULES_OF_PIECE * GRANULE);
    let (object, _) = stored(&io, &content);
    let arriving = arriving(folder.path(), &[("000012.sst", &object)], &io);
    let far = |number: u64| number * (GRANULES_BETWEEN as u64 + 2) * GRANULE_BYTES;
    let wanted: Vec<Range<u64>> = (0..200).map(|number| far(number)..far(number) + 9).collect();
    thread::scope(|scope| {
        let waiting = wanted
            .chunks(50)
            .map(|wanted| scope.spawn(|| only(&arriving).wait(wanted)));
        let waiting: Vec<_> = waiting.collect();
        while !waiting.iter().all(|waiting| waiting.is_finished()) {
            assert!(coming(&arriving.shared) <= WAITED_FOR_AT_ONCE);
            let_come(&io, &arriving.shared);
        }
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap().unwrap());
    });
    assert_eq!(asked(&arriving), 200);
    let written = fs::read(only(&arriving).path()).unwrap();
    for range in wanted {
        let range = range.start as usize..range.end as usize;
        assert!(written[range.clone()] == content[range]);
    }
}

#[test]
fn who_waits_when_it_is_given_up_is_told_at_once_and_nothing_comes_after() {
    let (folder, io) = (tempfile::tempdir().unwrap(), held());
    let (object, _) = stored(&io, &content(1000 * GRANULE));
    let arriving = arriving(folder.path(), &[("000012.sst", &object)], &io);
    thread::scope(|scope| {
        let background = scope.spawn(|| arriving.bring(arriving.files()));
        let waiting = scope.spawn(|| only(&arriving).wait(&[0..5, 999 * GRANULE_BYTES..999 * GRANULE_BYTES + 5]));
        while asked(&arriving) < 2 {
            thread::yield_now();
        }
        arriving.give_up();
        for told in [background.join().unwrap(), waiting.join().unwrap()] {
            assert!(matches!(told, Err(DatabaseError::Lost { .. })), "{told:?}");
        }
    });
    let before = asked(&arriving);
    assert!(
        only(&arriving)
            .wait(&[500 * GRANULE_BYTES..501 * GRANULE_BYTES])
            .is_err()
    );
    assert_eq!(asked(&arriving), before);
    let_come(&io, &arriving.shared);
    let written = fs::read(only(&arriving).path()).unwrap();
    assert!(written.iter().all(|byte| *byte == 0));
}

#[test]
fn what_cannot_come_fails_everybody_for_its_own_reason() {
    let io = Runtime::new().unwrap();
    let whole = content(5 * GRANULE);
    let (object, place) = stored(&io, &whole);
    let shorter = ObjectHandle {
        length: object.length - 1,
        ..object.clone()
    };
    let longer = ObjectHandle {
        length: object.length + GRANULE_BYTES,
        ..object.clone()
    };
    let missing = ObjectHandle {
        path: place.parent().unwrap().child("missing").unwrap().uri(),
        ..object.clone()
    };
    for (object, at) in [
        (&shorter, 3),
        (&longer, 3),
        (&longer, 5 * GRANULE_BYTES + 1),
        (&missing, 3),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let arriving = arriving(folder.path(), &[("000012.sst", object), ("000013.sst", object)], &io);
        let told = only(&arriving).wait(&[at..at + 1]).unwrap_err();
        assert_eq!(is_damage_at(&told, &object.path), object.path != missing.path);
        let other = arriving.files().nth(1).unwrap();
        assert_eq!(other.wait(&[0..1]).unwrap_err(), told);
        assert_eq!(arriving.bring(arriving.files()).unwrap_err(), told);
    }
}

#[test]
fn a_runtime_that_is_gone_is_told_and_not_waited_for() {
    let (folder, io) = (tempfile::tempdir().unwrap(), held());
    let (object, _) = stored(&io, &content(5 * GRANULE));
    let [one, two] = ["one", "two"].map(|name| arriving(&folder.path().join(name), &[("1.sst", &object)], &io));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| only(&one).wait(&[0..1]));
        while asked(&one) == 0 {
            thread::yield_now();
        }
        drop(io);
        assert!(waiting.join().unwrap().is_err());
    });
    assert!(only(&two).wait(&[0..1]).is_err());
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database of four files, and the rows in it.
fn database(folder: &Path) -> (Arc<Database>, Rows) {
    let directory = Arc::new(OwnedDirectory::create(folder.to_owned()).unwrap());
    let memory = SharedMemory::new(READING_MEMORY, 1);
    let database = Database::open(directory, vec![COLUMN.to_owned()], memory.clone(), Arc::default()).unwrap();
    let mut rows = Rows::new();
    for file in 0..4u16 {
        let path = folder.join(format!("{file}.sst"));
        let options = memory.column_options();
        let mut writer = rocksdb::SstFileWriter::create(&options);
        writer.open(&path).unwrap();
        for row in 0..20_000u64 {
            let key = [file.to_be_bytes().as_slice(), &row.to_be_bytes()].concat();
            let word = |at: u64| format!("{:x}", (row * 16 + at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let value: String = (0..16).map(word).collect();
            writer.put(&key, &value).unwrap();
            rows.insert(key, value.into_bytes());
        }
        writer.finish().unwrap();
        database.ingest(COLUMN, vec![path]).unwrap();
    }
    (Arc::new(database), rows)
}

/// A store with the files of a database, each changed so, and a directory in which it is restored of them.
fn restored(
    folder: &Path,
    io: &Runtime,
    change: impl Fn(&str, &mut Vec<u8>),
) -> (Database, Arc<Arriving>, Vec<UnreadFile>, Rows) {
    let (first, rows) = database(&folder.join("first"));
    let cut = FrozenColumn::new(first.cut(Vec::new()), COLUMN.to_owned(), RowCount::default());
    first.settle().unwrap();
    let table = cut.table(None).unwrap();
    let second = folder.join("second");
    let objects: Vec<(String, ObjectHandle)> = (table.files.iter())
        .map(|file| {
            let mut bytes = fs::read(&file.path).unwrap();
            let (object, place) = stored(io, &bytes);
            change(&file.name, &mut bytes);
            io.block_on(async {
                place.delete().await.unwrap();
                place.put_create(bytes).await.unwrap();
            });
            (file.name.clone(), object)
        })
        .collect();
    let named: Vec<(&str, &ObjectHandle)> = objects.iter().map(|(name, object)| (name.as_str(), object)).collect();
    let arriving = arriving(&second, &named, io);
    let from = table.manifest.path.parent().unwrap();
    for name in ["CURRENT", &table.manifest.name] {
        fs::copy(from.join(name), database_path(&second).join(name)).unwrap();
        fs::copy(from.join(name), second.join("unread").join(name)).unwrap();
    }
    let environment = streamd_rocksdb_env::environment(Arc::clone(&arriving) as Arc<dyn PartialFiles>);
    assert!(environment.is_some());
    let memory = SharedMemory::new(READING_MEMORY, 1).reading_through(environment);
    let directory = Arc::new(OwnedDirectory::create(second).unwrap());
    let database = Database::open(directory, vec![COLUMN.to_owned()], memory, Arc::default()).unwrap();
    let files = arriving.files().map(UnreadFile::arriving).collect();
    (database, arriving, files, rows)
}

fn assert_found(database: &Database, rows: &Rows, keys: &[Vec<u8>]) {
    let mut found = 0;
    let visit = |at: usize, value: Option<&[u8]>| {
        assert_eq!(value, rows.get(&keys[at]).map(Vec::as_slice), "{:?}", keys[at]);
        found += 1;
    };
    database.get_all(COLUMN, keys.iter().map(Vec::as_slice), visit).unwrap();
    assert_eq!(found, keys.len());
}

#[test]
fn records_need_a_small_part_of_a_database_and_all_of_it_comes_behind_them() {
    let (folder, io) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let (mut database, arriving, files, rows) = restored(folder.path(), &io, |_, _| {});
    let all: usize = arriving.shared.lock().granules.iter().map(Vec::len).sum();
    let keys: Vec<Vec<u8>> = rows.keys().step_by(rows.len() / 16).cloned().collect();
    let absent = keys.iter().map(|key| [key, b"?".as_slice()].concat());
    let keys: Vec<Vec<u8>> = keys.iter().cloned().chain(absent).collect();
    assert_found(&database, &rows, &keys);
    let came = asked(&arriving);
    assert!(all > 100 && came * 3 < all, "{came} of {all} granules came");
    assert_found(&database, &rows, &keys);
    assert_eq!(asked(&arriving), came);

    let unread = Unread {
        arriving: Some(Arc::clone(&arriving)),
        files,
        ..Unread::default()
    };
    database.verify(unread).unwrap();
    // Perhaps while it comes.
    for keys in rows.keys().cloned().collect::<Vec<_>>().chunks(1000).step_by(9) {
        assert_found(&database, &rows, keys);
    }
    database.wait_until_verified().unwrap();
    assert!(arriving.is_complete() && asked(&arriving) == all);
    assert!(database.is_verified().unwrap());
    let mut walked = Rows::new();
    let mut visit = |key: &[u8], value: &[u8]| walked.insert(key.to_vec(), value.to_vec()).is_none();
    database.for_each(COLUMN, &mut visit).unwrap();
    assert!(walked == rows);
    assert!(arriving.files().all(|file| !file.path().exists()));
}

#[test]
fn of_files_that_have_no_wanted_key_groups_only_what_is_opened_comes() {
    let (folder, io) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let (mut database, arriving, files, rows) = restored(folder.path(), &io, |_, _| {});
    let range = |start, end| KeyGroupRange { start, end };
    let count = RowCount::opened_with(3);
    let slice = Slice::new(range(0, 4), range(2, 4)).counting([(COLUMN.to_owned(), count.clone())].into_iter());
    let gone = database.narrow(&slice).unwrap();
    let (unwanted, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| gone.contains(file.name()));
    assert_eq!(unwanted.len(), 2);
    let unread = folder.path().join("second/unread");
    let environment = streamd_rocksdb_env::environment(Arc::clone(&arriving) as Arc<dyn PartialFiles>);
    let unread = Unread {
        arriving: Some(Arc::clone(&arriving)),
        files,
        unwanted,
        slice: Some((slice, unread)),
        environment,
    };
    database.verify(unread).unwrap();
    database.wait_until_verified().unwrap();
    assert_eq!(count.now(), 40_000);
    let progress = arriving.shared.lock();
    for (file, granules) in arriving.files().zip(&progress.granules) {
        let here = granules.iter().filter(|granule| **granule == Granule::Here).count();
        match gone.contains(file.name()) {
            true => assert!(here * 3 < granules.len(), "{here} of {} granules", granules.len()),
            false => assert_eq!(here, granules.len()),
        }
    }
    drop(progress);
    let wanted = rows.range(vec![0, 2]..);
    let wanted: Vec<Vec<u8>> = wanted.map(|(key, _)| key.clone()).step_by(100).collect();
    assert_found(&database, &rows, &wanted);
    let mut visit = |key: &[u8], value: &[u8]| rows[key] == value && key >= [0, 2].as_slice();
    database.for_each(COLUMN, &mut visit).unwrap();
}

#[test]
fn a_database_that_is_closed_while_its_files_come_leaves_nothing() {
    for delay in 0..10 {
        let (folder, io) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let (mut database, arriving, files, _) = restored(folder.path(), &io, |_, _| {});
        let unread = Unread {
            arriving: Some(Arc::clone(&arriving)),
            files,
            ..Unread::default()
        };
        database.verify(unread).unwrap();
        thread::sleep(Duration::from_micros(delay * 200));
        // Waits for its thread.
        drop(database);
        assert!(!folder.path().join("second").exists());
        assert_eq!(Arc::strong_count(&arriving), 1);
    }
}

#[test]
fn damage_in_what_comes_is_told_by_the_name_of_its_object() {
    let (folder, io) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let damage = |name: &str, bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= u8::from(name.ends_with("0.sst") || name.ends_with("1.sst"));
    };
    let (mut database, arriving, files, rows) = restored(folder.path(), &io, damage);
    let unread = Unread {
        arriving: Some(arriving),
        files,
        ..Unread::default()
    };
    database.verify(unread).unwrap();
    let keys: Vec<&[u8]> = rows.keys().map(Vec::as_slice).collect();
    let mut told = None;
    for keys in keys.chunks(500) {
        let read = database.get_all(COLUMN, keys.iter().copied(), |at, value| {
            assert_eq!(value, rows.get(keys[at]).map(Vec::as_slice));
        });
        told = told.or(read.err());
    }
    let told = told.unwrap();
    assert!(is_damage_at(&told, "memory:///arriving/"), "{told}");
    assert_eq!(database.wait_until_verified().unwrap_err(), told);
}
