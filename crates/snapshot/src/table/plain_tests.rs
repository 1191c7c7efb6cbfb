use std::collections::BTreeMap;

use parquet::basic::{Compression, Encoding};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use streamd_core::barrier::Compression as Chosen;
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::{DataType, Field, Variant};
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::to_row;
use tokio::runtime::Runtime;

use super::*;
use crate::error::SnapshotError;
use crate::restore::{absolute, read_keyed_state};
use crate::store::Location;
use crate::subtask::{KeyedTable, SubtaskContext};
use crate::table::SavepointWriter;

const GROUPS: KeyGroupRange = KeyGroupRange { start: 2, end: 300 };

/// Key group, key and value of each row.
type Rows = Vec<(u32, Vec<u8>, Vec<u8>)>;

struct Bench {
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn location(&self) -> Location {
        Location::open(self.folder.path().to_str().unwrap()).unwrap()
    }

    fn writer(&self, chosen: Chosen) -> SavepointWriter {
        let context = SubtaskContext {
            job: JobId::from_bytes([1; 16]),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: crate::publish::random_nonce(),
        };
        SavepointWriter::new(self.location(), context, self.runtime.handle().clone()).compressed(chosen)
    }

    /// Writes a table by `write`, and returns its handle.
    fn write(
        &self,
        table: &KeyedTable,
        chosen: Chosen,
        write: impl FnOnce(&mut SavepointWriter) -> Result<(), SnapshotError>,
    ) -> Result<KeyedStateHandle, SnapshotError> {
        let mut writer = self.writer(chosen);
        writer.begin(table)?;
        write(&mut writer)?;
        writer.end()?;
        let handle = writer.finish()?.remove(&table.operator).unwrap().remove(0);
        absolute(&handle, &self.location().uri())
    }

    fn read(&self, handle: &KeyedStateHandle, range: KeyGroupRange) -> Rows {
        let mut rows = Rows::new();
        let read = read_keyed_state(handle, "", range, self.runtime.handle(), &mut |group, key, value| {
            rows.push((group, key.to_vec(), value.to_vec()));
            Ok(())
        });
        assert_eq!(read.unwrap(), rows.len() as u64);
        rows
    }

    /// The file as Parquet's own reader sees it.
    fn file(&self, handle: &KeyedStateHandle) -> SerializedFileReader<std::fs::File> {
        let path = handle.objects[0].path.strip_prefix("file://").unwrap().to_owned();
        SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap()
    }
}

fn table(key: DataType, value: DataType) -> KeyedTable {
    KeyedTable {
        operator: OperatorId::from_uid("op"),
        label: "op".to_owned(),
        state: "state".to_owned(),
        key,
        namespace: None,
        value,
        key_groups: GROUPS,
    }
}

fn in_batches(writer: &mut SavepointWriter, rows: &Rows) -> Result<(), SnapshotError> {
    let mut batch = RowBatch::default();
    for (group, key, value) in rows {
        batch.push(*group, key, value);
        if batch.is_full() {
            writer.rows(&mut batch)?;
            batch.clear();
        }
    }
    writer.rows(&mut batch)
}

/// One by one and in batches, in turn.
fn mixed(writer: &mut SavepointWriter, rows: &Rows) -> Result<(), SnapshotError> {
    for (index, part) in rows.chunks(3_000).enumerate() {
        if index % 2 == 0 {
            part.iter()
                .try_for_each(|(group, key, value)| writer.row(*group, key, value))?;
        } else {
            in_batches(writer, &part.to_vec())?;
        }
    }
    Ok(())
}

/// A struct of a field of every kind that has no levels.
fn every_kind() -> DataType {
    let kinds = [
        DataType::Bool,
        DataType::Int8,
        DataType::UInt8,
        DataType::Int16,
        DataType::UInt16,
        DataType::Int32,
        DataType::UInt64,
        DataType::Float64,
        DataType::String,
        DataType::Bytes,
        DataType::Enum {
            name: "Phase".to_owned(),
            variants: ["Climb", "Cruise"]
                .map(|name| Variant {
                    name: name.to_owned(),
                    fields: Vec::new(),
                })
                .to_vec(),
        },
    ];
    let field = |(index, data_type)| Field {
        name: format!("f{index}"),
        data_type,
    };
    DataType::Struct {
        name: "Everything".to_owned(),
        fields: kinds.into_iter().enumerate().map(field).collect(),
    }
}

fn every_kind_row(seed: u64) -> Vec<u8> {
    let mut row = to_row(&(
        seed.is_multiple_of(3),
        seed as i8,
        seed as u8,
        seed as i16,
        seed as u16,
        seed as i32,
    ));
    row.extend(to_row(&(
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        seed as f64 / 7.0,
        "é".repeat((seed % 40) as usize),
        vec![seed as u8; (seed % 11) as usize],
        (seed % 2) as u32,
    )));
    row
}

fn rows(count: u64, value: impl Fn(u64) -> Vec<u8>) -> Rows {
    let group = |index: u64| GROUPS.start + (index * u64::from(GROUPS.len()) / count) as u32;
    (0..count)
        .map(|index| (group(index), to_row(&format!("key-{index}")), value(index)))
        .collect()
}

#[test]
fn rows_of_every_kind_survive_however_they_come_and_however_they_are_packed() {
    let bench = Bench::new();
    let table = table(DataType::String, every_kind());
    let rows = rows(150_000, every_kind_row);
    for chosen in [Chosen::Lz4, Chosen::Zstd] {
        for write in [in_batches, mixed] {
            let handle = bench.write(&table, chosen, |writer| write(writer, &rows)).unwrap();
            assert_eq!(handle.rows, rows.len() as u64);
            assert_eq!(bench.read(&handle, GROUPS), rows);
            let some = KeyGroupRange { start: 17, end: 60 };
            let wanted: Rows = rows.iter().filter(|row| some.contains(row.0)).cloned().collect();
            assert_eq!(bench.read(&handle, some), wanted);
        }
    }
}

#[test]
fn the_footer_says_what_the_row_groups_hold() {
    let bench = Bench::new();
    let rows = rows(150_000, |index| to_row(&(index as i64)));
    let written = bench.write(&table(DataType::String, DataType::Int64), Chosen::Lz4, |writer| {
        mixed(writer, &rows)
    });
    let file = bench.file(&written.unwrap());
    assert!(file.num_row_groups() > 1);
    let mut at = 0;
    for group in file.metadata().row_groups() {
        let count = group.num_rows() as usize;
        assert!(count <= ROW_GROUP_ROWS);
        let here = &rows[at..at + count];
        let Some(Statistics::Int32(groups)) = group.column(0).statistics() else {
            panic!("the key groups have statistics")
        };
        assert_eq!(groups.min_opt().copied(), Some(here[0].0 as i32));
        assert_eq!(groups.max_opt().copied(), Some(here[count - 1].0 as i32));
        assert!(
            group
                .column(0)
                .encodings()
                .any(|encoding| encoding == Encoding::RLE_DICTIONARY)
        );
        at += count;
    }
    assert_eq!(at, rows.len());
    let about: BTreeMap<_, _> = file
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|entry| (entry.key.as_str(), entry.value.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        (about["streamd.state"], about["streamd.format_version"]),
        ("state", "1")
    );
    assert!(about.contains_key("ARROW:schema"));
}

#[test]
fn a_chunk_that_packing_would_not_make_smaller_is_stored_as_it_is() {
    let bench = Bench::new();
    let noise = |index: u64| {
        let words = (0..16u64).map(|word| {
            (index * 16 + word + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(31)
        });
        let bytes: Vec<u8> = words
            .flat_map(|word| (word ^ word >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9).to_le_bytes())
            .collect();
        to_row(&bytes)
    };
    let text = |index: u64| to_row(&format!("{index}: the same words again and again").into_bytes());
    let codec = |rows: &Rows| {
        let table = table(DataType::String, DataType::Bytes);
        let handle = bench
            .write(&table, Chosen::Lz4, |writer| in_batches(writer, rows))
            .unwrap();
        assert_eq!(&bench.read(&handle, GROUPS), rows);
        bench.file(&handle).metadata().row_group(0).column(2).compression()
    };
    assert_eq!(codec(&rows(5_000, noise)), Compression::UNCOMPRESSED);
    assert_eq!(codec(&rows(5_000, text)), Compression::LZ4_RAW);
}

#[test]
fn a_namespace_is_a_column_of_its_own() {
    let bench = Bench::new();
    let table = KeyedTable {
        namespace: Some(DataType::Int64),
        ..table(DataType::String, DataType::Int32)
    };
    let rows: Rows = (0..20_000u32)
        .map(|index| {
            (
                5,
                to_row(&(format!("k{}", index / 4), i64::from(index % 4))),
                to_row(&index),
            )
        })
        .collect();
    let handle = bench
        .write(&table, Chosen::Lz4, |writer| in_batches(writer, &rows))
        .unwrap();
    assert_eq!(bench.read(&handle, GROUPS), rows);
    assert_eq!(bench.file(&handle).metadata().row_group(0).num_columns(), 4);
}

#[test]
fn a_table_without_rows_is_a_whole_file() {
    let bench = Bench::new();
    let handle = bench
        .write(&table(DataType::String, DataType::Bytes), Chosen::Lz4, |_| Ok(()))
        .unwrap();
    assert_eq!(bench.file(&handle).metadata().file_metadata().num_rows(), 0);
    assert_eq!(bench.read(&handle, GROUPS), Rows::new());
}

#[test]
fn rows_that_are_not_of_their_type_are_refused() {
    let bench = Bench::new();
    let refused = |value: DataType, row: &[u8]| {
        let mut batch = RowBatch::default();
        batch.push(3, &to_row(&"k".to_owned()), row);
        let written = bench.write(&table(DataType::String, value), Chosen::Lz4, |writer| {
            writer.rows(&mut batch)
        });
        assert!(matches!(written, Err(SnapshotError::Row { .. })), "{written:?}");
    };
    refused(DataType::Bytes, b"\x05\0\0\0abc");
    refused(DataType::Bytes, b"\x01\0\0\0abc");
    refused(DataType::String, b"\x01\0\0\0\xff");
    refused(DataType::Int64, &[0; 7]);
    refused(DataType::Bool, &[2]);
    refused(every_kind(), &every_kind_row(1)[1..]);
}

#[test]
fn rows_out_of_place_are_refused() {
    let bench = Bench::new();
    let row = (to_row(&"k".to_owned()), to_row(&1i64));
    for groups in [[9, 8], [1, 2], [299, 300]] {
        let mut batch = RowBatch::default();
        groups.iter().for_each(|group| batch.push(*group, &row.0, &row.1));
        let table = table(DataType::String, DataType::Int64);
        let written = bench.write(&table, Chosen::Lz4, |writer| writer.rows(&mut batch));
        assert!(matches!(written, Err(SnapshotError::Misuse { .. })), "{groups:?}");
    }
}
