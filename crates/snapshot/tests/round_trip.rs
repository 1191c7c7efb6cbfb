//! What is written is read back, whatever its type, in either form, at any parallelism.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod generate;

use std::sync::Arc;
use std::sync::OnceLock;

use generate::{Numbers, any_type, put_value};
use proptest::prelude::*;
use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use streamd_core::state::{State, to_row};
use streamd_snapshot::{
    KeyedStateSink, KeyedTable, SnapshotError, SubtaskContext, SubtaskSnapshotWriter, absolute, random_nonce,
    read_keyed_state,
};
use tokio::runtime::{Handle, Runtime};

const GROUPS: u32 = 64;

type Row = (u32, Vec<u8>, Vec<u8>);

fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap()).handle().clone()
}

fn memory() -> String {
    format!("memory:///round-trip/{}", random_nonce())
}

fn writer(folder: &str, kind: SnapshotKind, subtask: u32) -> SubtaskSnapshotWriter {
    let options = Arc::new(SnapshotOptions {
        kind,
        location: folder.to_owned(),
        sources: AfterBarrier::Continue,
        aligned: true,
        increment: Increment::Off,
        compression: Compression::None,
    });
    let context = SubtaskContext {
        job: JobId::from_bytes([1; 16]),
        vertex: 0,
        subtask,
        attempt: Attempt(1),
        nonce: random_nonce(),
    };
    SubtaskSnapshotWriter::new(&options, context, runtime()).unwrap()
}

fn table(state: &str, key: &DataType, value: &DataType, key_groups: KeyGroupRange) -> KeyedTable {
    KeyedTable {
        operator: OperatorId::from_uid("counts"),
        label: "counts / per ü".to_owned(),
        state: state.to_owned(),
        key: key.clone(),
        namespace: None,
        value: value.clone(),
        key_groups,
    }
}

fn put(writer: &mut SubtaskSnapshotWriter, table: &KeyedTable, rows: &[Row]) {
    writer.begin(table).unwrap();
    for (group, key, value) in rows.iter().filter(|row| table.key_groups.contains(row.0)) {
        writer.row(*group, key, value).unwrap();
    }
    writer.end().unwrap();
}

fn read(handle: &KeyedStateHandle, folder: &str, range: KeyGroupRange) -> Result<Vec<Row>, SnapshotError> {
    let mut rows = Vec::new();
    let count = read_keyed_state(handle, folder, range, &runtime(), &mut |group, key, value| {
        rows.push((group, key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    assert_eq!(count, rows.len() as u64);
    Ok(rows)
}

fn some_rows(key: &DataType, value: &DataType, count: u32, seed: u64) -> Vec<Row> {
    let mut numbers = Numbers(seed);
    let mut rows: Vec<Row> = (0..count)
        .map(|_| {
            let mut row = (numbers.below(GROUPS.into()) as u32, Vec::new(), Vec::new());
            put_value(key, &mut numbers, &mut row.1);
            put_value(value, &mut numbers, &mut row.2);
            row
        })
        .collect();
    rows.sort_by_key(|row| row.0);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_any_type_are_read_exactly_once_at_any_parallelism(
        key in any_type(), value in any_type(), seed: u64, count in 0u32..200,
        written_by in 1u32..5, read_by in 1u32..9, is_savepoint: bool,
    ) {
        let kind = if is_savepoint { SnapshotKind::Savepoint } else { SnapshotKind::Checkpoint };
        let folder = memory();
        let rows = some_rows(&key, &value, count, seed);
        let mut handles = Vec::new();
        for subtask in 0..written_by {
            let mut writer = writer(&folder, kind, subtask);
            let range = KeyGroupRange::of_subtask(subtask, written_by, GROUPS);
            put(&mut writer, &table("count", &key, &value, range), &rows);
            handles.extend(writer.finish().unwrap().into_values().flatten());
        }
        prop_assert_eq!(handles.iter().map(|handle| handle.rows).sum::<u64>(), rows.len() as u64);
        let mut restored = Vec::new();
        for subtask in 0..read_by {
            let range = KeyGroupRange::of_subtask(subtask, read_by, GROUPS);
            for handle in &handles {
                let mine = read(handle, &folder, range).unwrap();
                prop_assert!(mine.iter().all(|row| range.contains(row.0)));
                restored.extend(mine);
            }
        }
        prop_assert_eq!(restored, rows);
    }
}

#[test]
fn rows_of_one_key_in_several_namespaces_stay_apart() {
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        let (folder, all) = (memory(), KeyGroupRange::all(GROUPS));
        let window = |start: i64| to_row(&(start, start + 60_000));
        let row =
            |key: &str, start: i64, count: u64| (3, [to_row(&key.to_owned()), window(start)].concat(), to_row(&count));
        let rows = vec![row("ATL", 0, 1), row("ATL", 60_000, 2), row("ORD", 0, 3)];
        let table = KeyedTable {
            namespace: Some(<(i64, i64)>::data_type()),
            ..table("windows", &DataType::String, &DataType::UInt64, all)
        };
        let mut writer = writer(&folder, kind, 0);
        put(&mut writer, &table, &rows);
        let handles = writer
            .finish()
            .unwrap()
            .remove(&OperatorId::from_uid("counts"))
            .unwrap();
        assert_eq!(handles[0].namespace, table.namespace);
        assert_eq!(read(&handles[0], &folder, all).unwrap(), rows);
    }
}

#[test]
fn states_of_one_subtask_do_not_mix() {
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        let folder = memory();
        let all = KeyGroupRange::all(GROUPS);
        let mut writer = writer(&folder, kind, 0);
        let one = some_rows(&DataType::String, &DataType::UInt64, 100, 1);
        let two = some_rows(&DataType::UInt32, &DataType::Bytes, 100, 2);
        put(
            &mut writer,
            &table("one", &DataType::String, &DataType::UInt64, all),
            &one,
        );
        put(
            &mut writer,
            &table("none", &DataType::UInt64, &DataType::UInt64, all),
            &[],
        );
        put(
            &mut writer,
            &table("two", &DataType::UInt32, &DataType::Bytes, all),
            &two,
        );
        let handles = writer
            .finish()
            .unwrap()
            .remove(&OperatorId::from_uid("counts"))
            .unwrap();
        assert_eq!(handles.len(), 3);
        assert_eq!(read(&handles[0], &folder, all).unwrap(), one);
        assert_eq!(read(&handles[1], &folder, all).unwrap(), []);
        assert_eq!(read(&handles[2], &folder, all).unwrap(), two);
    }
}

#[test]
fn an_absolute_handle_needs_no_folder() {
    let folder = memory();
    let all = KeyGroupRange::all(GROUPS);
    let mut writer = writer(&folder, SnapshotKind::Savepoint, 0);
    let rows = some_rows(&DataType::String, &DataType::UInt64, 50, 1);
    put(
        &mut writer,
        &table("~odd#1 %", &DataType::String, &DataType::UInt64, all),
        &rows,
    );
    let handle = writer.finish().unwrap().into_values().flatten().next().unwrap();
    let absolute = absolute(&handle, &folder).unwrap();
    assert!(absolute.objects[0].path.starts_with("memory:///"));
    assert_eq!(read(&absolute, "memory:///elsewhere", all).unwrap(), rows);
}

#[test]
fn big_key_groups_and_many_blocks_survive_and_a_restore_fetches_only_its_share() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("a folder #7").to_str().unwrap().to_owned();
    let all = KeyGroupRange::all(GROUPS);
    // One key group of 3 MiB, many of 100 KiB, one row larger than a block.
    let row = |group: u32, index: u64, bytes: usize| (group, index.to_le_bytes().to_vec(), vec![group as u8; bytes]);
    let mut rows: Vec<Row> = (0..30).map(|index| row(3, index, 100 << 10)).collect();
    rows.extend((4..50).map(|group| row(group, 0, 100 << 10)));
    rows.push(row(50, 0, 9 << 20));
    rows.iter_mut().for_each(|row| {
        let mut value = Vec::new();
        streamd_core::row::write_bytes(&mut value, &row.2);
        row.2 = value;
    });
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        let mut writer = writer(&folder, kind, 0);
        put(
            &mut writer,
            &table("count", &DataType::UInt64, &DataType::Bytes, all),
            &rows,
        );
        let handle = writer.finish().unwrap().into_values().flatten().next().unwrap();
        for parts in [1, 2, 7, 64] {
            let restored = (0..parts)
                .flat_map(|subtask| read(&handle, &folder, KeyGroupRange::of_subtask(subtask, parts, GROUPS)).unwrap());
            assert!(restored.eq(rows.iter().cloned()), "{parts} parts of a {kind:?}");
        }
        if let KeyedStateFormat::Native { segments } = &handle.format {
            assert!(segments.len() > 10 && segments.iter().filter(|s| s.key_groups.contains(3)).count() > 2);
        }
    }
}

#[test]
fn an_empty_subtask_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_str().unwrap();
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        assert!(writer(folder, kind, 0).finish().unwrap().is_empty());
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn a_snapshot_given_up_leaves_no_object() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_str().unwrap();
    let rows: Vec<Row> = (0..64).map(|group| (group, vec![0; 8], vec![1; 8])).collect();
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        let mut writer = writer(folder, kind, 0);
        let table = table(
            "count",
            &DataType::UInt64,
            &DataType::UInt64,
            KeyGroupRange::all(GROUPS),
        );
        writer.begin(&table).unwrap();
        for (group, key, value) in &rows {
            writer.row(*group, key, value).unwrap();
        }
        writer.abort().unwrap();
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn rows_out_of_order_or_out_of_range_are_refused() {
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        let mut writer = writer(&memory(), kind, 0);
        let groups = KeyGroupRange { start: 2, end: 5 };
        writer
            .begin(&table("count", &DataType::UInt64, &DataType::UInt64, groups))
            .unwrap();
        writer.row(3, &[0; 8], &[0; 8]).unwrap();
        assert!(matches!(
            writer.row(2, &[0; 8], &[0; 8]),
            Err(SnapshotError::Misuse { .. })
        ));
        assert!(matches!(
            writer.row(5, &[0; 8], &[0; 8]),
            Err(SnapshotError::Misuse { .. })
        ));
        writer.row(4, &[0; 8], &[0; 8]).unwrap();
        writer.end().unwrap();
        assert_eq!(writer.finish().unwrap().into_values().flatten().next().unwrap().rows, 2);
    }
}

#[test]
fn a_row_that_is_none_of_its_type_never_enters_a_savepoint() {
    let mut writer = writer(&memory(), SnapshotKind::Savepoint, 0);
    let all = KeyGroupRange::all(GROUPS);
    writer
        .begin(&table("count", &DataType::UInt64, &DataType::Bool, all))
        .unwrap();
    let error = writer.row(0, &[0; 8], &[7]).unwrap_err();
    assert!(matches!(error, SnapshotError::Row { .. }), "{error}");
}

#[test]
fn a_type_that_nests_too_deep_or_names_things_twice_is_refused() {
    use streamd_core::row::Field;
    let deep = (0..40).fold(DataType::Bool, |inner, _| DataType::List(Box::new(inner)));
    let field = || Field {
        name: "x".to_owned(),
        data_type: DataType::Bool,
    };
    let twice = DataType::Struct {
        name: "Twice".to_owned(),
        fields: vec![field(), field()],
    };
    for bad in [deep, twice] {
        for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
            let begun = writer(&memory(), kind, 0).begin(&table("s", &DataType::Bool, &bad, KeyGroupRange::all(1)));
            assert!(matches!(begun, Err(SnapshotError::UnsupportedType { .. })));
        }
    }
}

#[test]
fn a_damaged_state_object_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_str().unwrap();
    let all = KeyGroupRange::all(GROUPS);
    let rows = some_rows(&DataType::UInt64, &DataType::String, 40, 7);
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        let mut writer = writer(folder, kind, 0);
        put(
            &mut writer,
            &table("count", &DataType::UInt64, &DataType::String, all),
            &rows,
        );
        let handle = writer.finish().unwrap().into_values().flatten().next().unwrap();
        let path = directory.path().join(&handle.objects[0].path);
        let intact = std::fs::read(&path).unwrap();
        let footer = if kind == SnapshotKind::Checkpoint { 32 } else { 0 };
        for at in 0..intact.len() - footer {
            let mut damaged = intact.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, damaged).unwrap();
            let error = read(&handle, folder, all).expect_err("a flipped bit").to_string();
            assert!(error.contains(&handle.objects[0].path), "{error}");
        }
        for length in (0..intact.len()).step_by(7) {
            std::fs::write(&path, &intact[..length]).unwrap();
            let error = read(&handle, folder, all).expect_err("a prefix");
            assert!(matches!(error, SnapshotError::Truncated { .. }), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = read(&handle, folder, all).expect_err("nothing there");
        assert!(matches!(error, SnapshotError::MissingObject { .. }), "{error}");
    }
}

#[test]
fn forged_blocks_are_refused_before_anything_is_fetched() {
    let folder = memory();
    let all = KeyGroupRange::all(GROUPS);
    let rows = some_rows(&DataType::UInt64, &DataType::String, 40, 7);
    let mut writer = writer(&folder, SnapshotKind::Checkpoint, 0);
    put(
        &mut writer,
        &table("count", &DataType::UInt64, &DataType::String, all),
        &rows,
    );
    let handle = writer.finish().unwrap().into_values().flatten().next().unwrap();
    let KeyedStateFormat::Native { segments } = &handle.format else {
        panic!("a checkpoint is native")
    };
    let first = &segments[0];
    let first_block = first.blocks[0];
    for (offset, length) in [
        (u64::MAX, 64),
        (16, u64::MAX),
        (0, first_block.length),
        (16, 0),
        (16, first_block.length + 40),
        (17, 40),
    ] {
        let mut forged = handle.clone();
        let block = streamd_core::snapshot::NativeBlock {
            offset,
            length,
            ..first_block
        };
        let segment = streamd_core::snapshot::NativeSegment {
            key_groups: first.key_groups,
            hashes: None,
            earliest: Vec::new(),
            blocks: vec![block],
        };
        forged.format = KeyedStateFormat::Native {
            segments: vec![segment],
        };
        assert!(read(&forged, &folder, all).is_err(), "{offset} {length}");
    }
}
