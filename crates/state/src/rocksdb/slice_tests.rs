use std::collections::BTreeSet;
use std::ffi::OsString;

use rocksdb::SstFileWriter;

use super::super::cut::FrozenColumn;
use super::super::database::{Database, OwnedDirectory, database_path};
use super::super::memory::READING_MEMORY;
use super::*;

const COLUMN: &str = "state-counts";

fn slice(held: (u32, u32), wanted: (u32, u32)) -> Slice {
    let range = |(start, end)| KeyGroupRange { start, end };
    Slice::new(range(held), range(wanted))
}

/// A database of four files, each of 32 key groups with two rows of each, one of which has an empty key.
fn database(folder: &Path) -> Arc<Database> {
    let memory = SharedMemory::new(READING_MEMORY, 1);
    let directory = Arc::new(OwnedDirectory::create(folder.join("instance")).unwrap());
    let columns = vec![COLUMN.to_owned()];
    let database = Database::open(directory, columns, memory.clone(), Arc::default()).unwrap();
    for file in 0..4u16 {
        let path = folder.join(format!("{file}.sst"));
        let options = memory.column_options();
        let mut writer = SstFileWriter::create(&options);
        writer.open(&path).unwrap();
        for group in file * 32..(file + 1) * 32 {
            let first = group.to_be_bytes();
            writer.put(first, b"an empty key").unwrap();
            writer.put([first.as_slice(), b"key"].concat(), b"a key").unwrap();
        }
        writer.finish().unwrap();
        database.ingest(COLUMN, vec![path]).unwrap();
    }
    Arc::new(database)
}

/// The key groups of the rows that a cut of it has, and how many table files.
fn cut(database: &Arc<Database>) -> (Vec<u32>, usize) {
    let column = FrozenColumn::new(database.cut(Vec::new()), COLUMN.to_owned(), RowCount::default());
    database.settle().unwrap();
    let mut groups = Vec::new();
    column
        .for_each_row(&mut |group, _, _| {
            groups.push(group);
            true
        })
        .unwrap();
    (groups, column.table(None).unwrap().files.len())
}

#[test]
fn what_is_of_others_goes_and_what_is_wanted_stays() {
    let cases = [
        ((0, 64), 2, 3),
        ((64, 128), 2, 3),
        ((32, 64), 3, 2),
        ((33, 95), 2, 3),
        ((127, 128), 3, 2),
        ((0, 1), 3, 2),
    ];
    for (wanted, unwanted, files) in cases {
        let folder = tempfile::tempdir().unwrap();
        let database = database(folder.path());
        let before: Vec<u32> = (0..128).flat_map(|group| [group, group]).collect();
        assert_eq!(cut(&database), (before, 4));
        let found = database.narrow(&slice((0, 128), wanted)).unwrap();
        assert_eq!(found.len(), unwanted, "{wanted:?}");
        let here = std::fs::read_dir(database_path(database.directory())).unwrap();
        let here: BTreeSet<OsString> = here.map(|entry| entry.unwrap().file_name()).collect();
        assert!(here.is_disjoint(&found), "{wanted:?}: {here:?}");
        let left: Vec<u32> = (wanted.0..wanted.1).flat_map(|group| [group, group]).collect();
        // The tombstones are in a file of their own.
        assert_eq!(cut(&database), (left, files), "{wanted:?}");
    }
}

#[test]
fn rows_are_counted_in_the_files_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(folder.path());
    let column = FrozenColumn::new(database.cut(Vec::new()), COLUMN.to_owned(), RowCount::default());
    let table = column.table(None).unwrap();
    let files = table.manifest.path.parent().unwrap().to_owned();
    let names: Vec<String> = table.files.iter().map(|file| file.name.clone()).collect();
    let to = folder.path().join("copy");
    fs::create_dir(&to).unwrap();
    link_files(&files, names.iter(), &to).unwrap();
    let counting = slice((0, 128), (10, 30));
    let mut rows = RowCount::opened_with(counting.share(256));
    assert_eq!(rows.now(), 40);
    let wrong = RowCount::opened_with(7);
    let counting = counting.counting([(COLUMN.to_owned(), wrong.clone())].into_iter());
    counting
        .count(&to, &SharedMemory::new(READING_MEMORY, 1), &|| true)
        .unwrap();
    assert_eq!(wrong.now(), 40);
    rows.add();
    rows.remove(3);
    assert_eq!(rows.now(), 38);
}

#[test]
fn a_share_of_rows_is_none_only_of_none() {
    let small = slice((0, 128), (5, 6));
    assert_eq!([0, 1, 127, 1_280].map(|rows| small.share(rows)), [0, 1, 1, 10]);
    assert_eq!(slice((0, 128), (0, 128)).share(77), 77);
    assert_eq!(slice((0, 128), (0, 128)).outside().count(), 0);
}
