//! Tables that somebody forged: damaged, and with a digest that fits. They are refused or read; nothing panics, and memory stays
//! bounded. One test, alone in its process: it measures what the process takes.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::{State, to_row};
use streamd_snapshot::{
    KeyedStateSink, KeyedTable, Location, SnapshotError, SubtaskContext, SubtaskSnapshotWriter, read_keyed_state,
};
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_128;

const GROUPS: u32 = 16;
const ROWS: u64 = 40;

/// What a forged table may cost beyond what an intact one does.
const MAX_EXTRA_BYTES: u64 = 96 << 20;

type Value = (u64, Option<String>, Vec<()>, Vec<i16>, BTreeMap<String, Vec<u8>>);

fn value(key: u64) -> Value {
    let bytes = BTreeMap::from([(format!("key {key}"), vec![key as u8; 5])]);
    let text = (!key.is_multiple_of(3)).then(|| format!("text {key}"));
    (key * 7, text, vec![(); (key % 4) as usize], vec![key as i16; 3], bytes)
}

struct Table {
    runtime: Runtime,
    folder: String,
    file: PathBuf,
    handle: KeyedStateHandle,
    bytes: Vec<u8>,
    _directory: tempfile::TempDir,
}

impl Table {
    fn write(compression: Compression) -> Self {
        let runtime = Runtime::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let folder = Location::open(directory.path().to_str().unwrap()).unwrap().uri();
        let options = SnapshotOptions {
            kind: SnapshotKind::Savepoint,
            location: folder.clone(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::Off,
            compression,
        };
        let context = SubtaskContext {
            job: JobId::from_bytes([1; 16]),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: "nonce".to_owned(),
        };
        let mut rows: Vec<(u32, Vec<u8>, Vec<u8>)> = (0..ROWS)
            .map(|key| {
                (
                    key_group_of(key.stable_hash(), GROUPS),
                    to_row(&key),
                    to_row(&value(key)),
                )
            })
            .collect();
        rows.sort();
        let operator = OperatorId::from_uid("forged");
        let mut writer = SubtaskSnapshotWriter::new(&options, context, runtime.handle().clone()).unwrap();
        writer
            .begin(&KeyedTable {
                operator,
                label: "forged".to_owned(),
                state: "state".to_owned(),
                key: u64::data_type(),
                namespace: None,
                value: Value::data_type(),
                key_groups: KeyGroupRange::all(GROUPS),
            })
            .unwrap();
        for (group, key, value) in &rows {
            writer.row(*group, key, value).unwrap();
        }
        writer.end().unwrap();
        let handle = writer.finish().unwrap().remove(&operator).unwrap().remove(0);
        let file = directory.path().join(&handle.objects[0].path);
        Self {
            runtime,
            folder,
            bytes: std::fs::read(&file).unwrap(),
            file,
            handle,
            _directory: directory,
        }
    }

    /// Reads these bytes as if they were what had been written. `None` if the reader panics.
    fn read(&self, bytes: &[u8]) -> Option<Result<u64, SnapshotError>> {
        overwrite(&self.file, bytes);
        let mut handle = self.handle.clone();
        handle.objects[0].length = bytes.len() as u64;
        handle.objects[0].digest = format!("{:032x}", xxh3_128(bytes));
        let all = KeyGroupRange::all(GROUPS);
        catch_unwind(AssertUnwindSafe(|| {
            read_keyed_state(
                &handle,
                &self.folder,
                all,
                self.runtime.handle(),
                &mut |_group, _key, _value| Ok(()),
            )
        }))
        .ok()
    }
}

fn overwrite(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).unwrap();
}

/// The most memory that this process has taken, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// Damages a table in every way, and says what must not have happened.
fn attack(table: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    let before = peak();
    for length in 0..table.bytes.len() {
        if !matches!(table.read(&table.bytes[..length]), Some(Err(_))) {
            wrong.push(format!("a prefix of {length} bytes is not refused"));
        }
    }
    let (mut refused, mut read) = (0, 0);
    let mut forged = table.bytes.clone();
    for at in 0..table.bytes.len() {
        for change in [0x81, 0x7e] {
            forged[at] ^= change;
            match table.read(&forged) {
                Some(Ok(_)) => read += 1,
                Some(Err(_)) => refused += 1,
                None => wrong.push(format!("byte {at} changed by {change:#x} makes the reader panic")),
            }
            forged[at] ^= change;
        }
        let grown = peak().saturating_sub(before);
        if grown > MAX_EXTRA_BYTES {
            wrong.push(format!(
                "byte {at} of {} makes the reader take {grown} bytes",
                table.bytes.len()
            ));
            return wrong;
        }
    }
    // Both happen: a value that is another is no defect that a reader could see.
    if read == 0 || refused == 0 {
        wrong.push(format!("{read} forged tables were read, {refused} refused"));
    }
    wrong
}

#[test]
fn a_forged_table_neither_panics_nor_takes_memory() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let table = Table::write(compression);
        assert_eq!(table.read(&table.bytes).unwrap().unwrap(), ROWS);
        // What the reader catches within would be told a thousand times.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let wrong = attack(&table);
        std::panic::set_hook(hook);
        assert!(
            wrong.is_empty(),
            "{} things, first {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        );
    }
}
