//! Reading a Parquet table of a savepoint: digest first, then the footer, then the row groups that are wanted.

use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::{DataType as Arrow, Field as ArrowField, Schema};
use bytes::{Buf, Bytes};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::DataType;
use streamd_core::snapshot::KeyedStateHandle;
use tokio::runtime::Handle;

use super::file::{Lead, schema};
use super::keyed::{NAMESPACE, columns_of};
use super::rows::ColumnReader;
use super::types::{check_type, storable};
use crate::error::SnapshotError;
use crate::read::check_digest;
use crate::restore::RowVisitor;
use crate::row_batch::RowBatch;
use crate::store::Location;
use crate::subtask::misuse;

/// Bytes of the end of a file that are fetched for its footer; most footers fit.
const FOOTER_GUESS: u64 = 64 << 10;
/// Bytes of a footer at most: a few hundred for each of the row groups, which hold thousands of rows each.
const MAX_FOOTER_BYTES: u64 = 64 << 20;
/// Bytes of a row group at most, packed or unpacked: 16 times what streamd writes, and little enough to hold.
const MAX_ROW_GROUP_BYTES: u64 = 512 << 20;
/// Rows that are unpacked at once.
const BATCH_ROWS: usize = 4096;
/// Batches that are unpacked before they are taken: some, for either side to go on while the other makes room or fetches.
const BATCHES_AHEAD: usize = 4;

/// Calls `visit` for every row of the wanted key groups.
pub(crate) fn read_table(
    handle: &KeyedStateHandle,
    object: &Location,
    wanted: (KeyGroupRange, &Handle),
    visit: &mut RowVisitor<'_>,
) -> Result<u64, SnapshotError> {
    let mut delivered = 0;
    let one_thread = (1, &|rows: &mut RowBatch| Ok(mem::take(rows)));
    unpack_table(handle, object, wanted, one_thread, &mut |rows: RowBatch| {
        delivered += rows.len() as u64;
        let mut rows = rows.iter();
        rows.try_for_each(|(key_group, key, value)| visit(key_group, key, value))
    })?;
    Ok(delivered)
}

/// Has so many threads unpack the rows of the wanted key groups, and `make` something of some thousand at a time, which `take` gets; by
/// rising key group if it is one thread. They work beside whoever takes: the one is about as much work as the other.
pub(crate) fn unpack_table<T: Send>(
    handle: &KeyedStateHandle,
    object: &Location,
    (range, runtime): (KeyGroupRange, &Handle),
    (threads, make): (usize, &(impl Fn(&mut RowBatch) -> Result<T, SnapshotError> + Sync)),
    take: &mut impl FnMut(T) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let columns = columns_of(&handle.key, handle.namespace.as_ref(), &handle.value);
    for (_column, data_type) in &columns {
        check_type(&handle.state, data_type)?;
    }
    let recorded = &handle.objects[0];
    // The parser of Parquet must not be shown what was not written by us: the digest comes first.
    runtime.block_on(check_digest(object, recorded))?;
    let length = recorded.length;
    let expected = Expected {
        lead: Lead::KeyGroup,
        columns: &columns,
        rows: handle.rows,
        uri: object.uri(),
    };
    let reader = TableReader::open(object, length, expected, runtime)?;
    let wanted: Vec<usize> = (0..reader.row_groups())
        .filter(|group| reader.may_hold(*group, range))
        .collect();
    let groups = RowGroups {
        reader: &reader,
        object,
        runtime,
        key_groups: (handle.key_groups, range),
        wanted: &wanted,
        next: AtomicUsize::new(0),
    };
    if wanted.len() < 2 {
        return groups.unpack(&mut |rows| take(make(rows)?));
    }
    let unpack = |sender: SyncSender<T>| {
        groups.unpack(&mut |rows| sender.send(make(rows)?).map_err(|_| nobody_takes_them(handle)))
    };
    thread::scope(|scope| {
        let (sender, made) = sync_channel(BATCHES_AHEAD);
        let start = |_| {
            let (unpack, sender) = (&unpack, sender.clone());
            scope.spawn(move || unpack(sender))
        };
        let unpackers: Vec<_> = (0..threads.min(wanted.len())).map(start).collect();
        drop(sender);
        let taken = made.iter().try_for_each(take);
        // After an error: the others must not wait for somebody to take more.
        drop(made);
        let join = |unpacker: ScopedJoinHandle<'_, _>| unpacker.join().unwrap_or_else(|panic| resume_unwind(panic));
        unpackers.into_iter().map(join).fold(taken, Result::and)
    })
}

/// Never seen: whoever took no more of them has told why.
fn nobody_takes_them(handle: &KeyedStateHandle) -> SnapshotError {
    misuse(&handle.state, "nobody takes the rows any more")
}

/// The row groups of a table that are to be unpacked, by any number of threads.
struct RowGroups<'a> {
    reader: &'a TableReader<'a>,
    object: &'a Location,
    runtime: &'a Handle,
    /// All rows must be in the first; those in the second are wanted.
    key_groups: (KeyGroupRange, KeyGroupRange),
    wanted: &'a [usize],
    /// Which of them nobody has begun with.
    next: AtomicUsize,
}

impl RowGroups<'_> {
    /// Unpacks row groups until there is none left, and hands their rows on, which it then forgets. After an error the other threads
    /// begin with none either.
    fn unpack(&self, take: &mut dyn FnMut(&mut RowBatch) -> Result<(), SnapshotError>) -> Result<(), SnapshotError> {
        let (mut rows, mut spare) = (RowBatch::default(), Bytes::new());
        let mut hand_on = |rows: &mut RowBatch| {
            take(rows)?;
            rows.clear();
            Ok(())
        };
        let unpack = || {
            while let Some(&group) = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed)) {
                let span = self.reader.span(group)?;
                let bytes = self.runtime.block_on(self.object.get_range_into(spare, span))?;
                spare = bytes.clone();
                self.unpack_group((group, bytes), &mut rows, &mut hand_on)?;
            }
            hand_on(&mut rows)
        };
        unpack().inspect_err(|_| self.next.store(self.wanted.len(), Ordering::Relaxed))
    }

    fn unpack_group(
        &self,
        (group, bytes): (usize, Bytes),
        rows: &mut RowBatch,
        hand_on: &mut dyn FnMut(&mut RowBatch) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let Self {
            reader,
            key_groups: (all, wanted),
            ..
        } = self;
        reader.read_group(group, bytes, &mut |key_group, values| {
            let key_group = u32::try_from(key_group).unwrap_or(u32::MAX);
            if !all.contains(key_group) {
                return Err(reader.malformed(format!("key group {key_group} is not in {all}")));
            }
            if wanted.contains(key_group) {
                rows.push(key_group, values[0], values[1]);
            }
            match rows.is_full() {
                true => hand_on(rows),
                false => Ok(()),
            }
        })
    }
}

/// What a table must be.
pub(super) struct Expected<'a> {
    pub lead: Lead,
    pub columns: &'a [(&'a str, &'a DataType)],
    pub rows: u64,
    pub uri: String,
}

/// A table whose footer has been read and found to be as expected.
pub(super) struct TableReader<'a> {
    metadata: ArrowReaderMetadata,
    expected: Expected<'a>,
    types: Vec<DataType>,
    length: u64,
}

/// What takes the rows: the first column, then the encoded values of the others.
type TableVisitor<'a> = dyn FnMut(i64, &[&[u8]]) -> Result<(), SnapshotError> + 'a;

impl<'a> TableReader<'a> {
    fn open(object: &Location, length: u64, expected: Expected<'a>, runtime: &Handle) -> Result<Self, SnapshotError> {
        let fetch = |bytes: u64| runtime.block_on(object.get_range(length.saturating_sub(bytes)..length));
        let tail = fetch(FOOTER_GUESS)?;
        let wanted = footer_bytes(&tail);
        if wanted > MAX_FOOTER_BYTES.min(length) {
            let reason = format!("its footer claims {wanted} bytes");
            return Err(SnapshotError::Malformed {
                uri: expected.uri,
                reason,
            });
        }
        let tail = if wanted > tail.len() as u64 {
            fetch(wanted)?
        } else {
            tail
        };
        Self::of_footer(&tail, length, expected)
    }

    /// Reads the footer out of the last bytes of a file.
    pub(super) fn of_footer(tail: &Bytes, length: u64, expected: Expected<'a>) -> Result<Self, SnapshotError> {
        let metadata = guarded(&expected.uri, || {
            let mut parser = ParquetMetaDataReader::new();
            parser.try_parse_sized(tail, length)?;
            ArrowReaderMetadata::try_new(Arc::new(parser.finish()?), ArrowReaderOptions::new())
        })?;
        let types = expected
            .columns
            .iter()
            .map(|(_name, data_type)| storable(data_type))
            .collect();
        let reader = Self {
            metadata,
            expected,
            types,
            length,
        };
        reader.check()?;
        Ok(reader)
    }

    fn check(&self) -> Result<(), SnapshotError> {
        let wanted = schema(self.expected.lead, self.expected.columns);
        if bare(self.metadata.schema()) != bare(&wanted) {
            return Err(self.malformed("its columns are not those that the metadata announces".to_owned()));
        }
        let rows = self.metadata.metadata().file_metadata().num_rows();
        if u64::try_from(rows).ok() != Some(self.expected.rows) {
            let reason = format!("it has {rows} rows where the metadata says {}", self.expected.rows);
            return Err(self.malformed(reason));
        }
        Ok(())
    }

    pub(super) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    fn row_group(&self, group: usize) -> &RowGroupMetaData {
        self.metadata.metadata().row_group(group)
    }

    /// The bytes of the file that a row group takes.
    pub(super) fn span(&self, group: usize) -> Result<Range<u64>, SnapshotError> {
        let row_group = self.row_group(group);
        let (mut start, mut end, mut unpacked) = (self.length, 0u64, 0u64);
        for column in row_group.columns() {
            let first = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let (first, length) = (u64::try_from(first), u64::try_from(column.compressed_size()));
            let (Ok(first), Ok(length)) = (first, length) else {
                return Err(self.out_of_place(group));
            };
            start = start.min(first);
            end = end.max(first.saturating_add(length));
            unpacked = unpacked.saturating_add(u64::try_from(column.uncompressed_size()).unwrap_or(u64::MAX));
        }
        if start > end || end > self.length || end - start > MAX_ROW_GROUP_BYTES || unpacked > MAX_ROW_GROUP_BYTES {
            return Err(self.out_of_place(group));
        }
        Ok(start..end)
    }

    /// Whether the statistics of a row group leave open that it holds one of these key groups.
    pub(super) fn may_hold(&self, group: usize, range: KeyGroupRange) -> bool {
        let Some(Statistics::Int32(statistics)) = self.row_group(group).columns().first().and_then(|c| c.statistics())
        else {
            return true;
        };
        match (statistics.min_opt(), statistics.max_opt()) {
            (Some(min), Some(max)) => i64::from(*max) >= range.start.into() && i64::from(*min) < range.end.into(),
            _unknown => true,
        }
    }

    /// Delivers every row of a row group, whose bytes ([`span`](Self::span)) are given.
    pub(super) fn read_group(
        &self,
        group: usize,
        bytes: Bytes,
        visit: &mut TableVisitor<'_>,
    ) -> Result<(), SnapshotError> {
        let uri = &self.expected.uri;
        let file = Window {
            start: self.span(group)?.start,
            bytes,
            length: self.length,
        };
        let mut batches = guarded(uri, || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_row_groups(vec![group])
                .with_batch_size(BATCH_ROWS)
                .build()
        })?;
        let mut rows = 0;
        while let Some(batch) = guarded(uri, || batches.next().transpose().map_err(ParquetError::from))? {
            rows += batch.num_rows() as u64;
            self.deliver(&batch, visit)?;
        }
        if u64::try_from(self.row_group(group).num_rows()).ok() != Some(rows) {
            return Err(self.malformed(format!(
                "row group {group} has {rows} rows instead of what it announces"
            )));
        }
        Ok(())
    }

    fn deliver(&self, batch: &RecordBatch, visit: &mut TableVisitor<'_>) -> Result<(), SnapshotError> {
        let leads = batch.column(0);
        let columns: Vec<ColumnReader<'_>> = batch.columns()[1..]
            .iter()
            .zip(&self.types)
            .map(|(array, ty)| ColumnReader::new(array.as_ref(), ty))
            .collect();
        // A namespace is encoded directly behind its key, in the same row.
        let follows = |name: &str| name == NAMESPACE;
        let names = self.expected.columns.iter().map(|(name, _type)| follows(name));
        let columns: Vec<(ColumnReader<'_>, bool)> = columns.into_iter().zip(names).collect();
        let mut rows: Vec<Vec<u8>> = vec![Vec::new(); columns.iter().filter(|(_, follows)| !follows).count()];
        for at in 0..batch.num_rows() {
            let mut next = 0;
            for (column, follows) in &columns {
                if !follows {
                    next += 1;
                    rows[next - 1].clear();
                }
                let row = &mut rows[next.max(1) - 1];
                column.append_to(row, at).map_err(|reason| self.malformed(reason))?;
            }
            let lead = match self.expected.lead {
                Lead::KeyGroup => i64::from(leads.as_primitive::<Int32Type>().value(at)),
                Lead::Position => leads.as_primitive::<Int64Type>().value(at),
            };
            match rows.as_slice() {
                [value] => visit(lead, &[value])?,
                [key, value] => visit(lead, &[key, value])?,
                _none => return Err(self.malformed("it has no columns of values".to_owned())),
            }
        }
        Ok(())
    }

    pub(super) fn malformed(&self, reason: String) -> SnapshotError {
        SnapshotError::Malformed {
            uri: self.expected.uri.clone(),
            reason,
        }
    }

    fn out_of_place(&self, group: usize) -> SnapshotError {
        self.malformed(format!(
            "row group {group} is not within the file, or is larger than any that streamd writes"
        ))
    }
}

/// Footer length and magic at the very end: the footer's bytes plus these eight.
fn footer_bytes(tail: &[u8]) -> u64 {
    match tail.len().checked_sub(8).map(|at| &tail[at..at + 4]) {
        Some(length) => 8 + u64::from(u32::from_le_bytes(length.try_into().expect("four bytes"))),
        None => 0,
    }
}

/// Runs the Parquet library, which trusts what it parses here and there, and panics where it should not have. What that leaves half
/// done is dropped with the reader.
pub(super) fn guarded<T>(uri: &str, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, SnapshotError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|source| failed(uri, source)),
        Err(_panic) => Err(SnapshotError::Malformed {
            uri: uri.to_owned(),
            reason: "the Parquet library cannot make sense of it".to_owned(),
        }),
    }
}

fn failed(uri: &str, source: ParquetError) -> SnapshotError {
    SnapshotError::Parquet {
        operation: "read",
        uri: uri.to_owned(),
        source,
    }
}

/// The schema without annotations, and without the names that lists and maps have within: they are no part of a column's type,
/// and every writer has its own.
fn bare(schema: &Schema) -> Vec<ArrowField> {
    schema
        .fields()
        .iter()
        .map(|field| bare_field(field.name(), field))
        .collect()
}

fn bare_field(name: &str, field: &ArrowField) -> ArrowField {
    let data_type = match field.data_type() {
        Arrow::List(item) => Arrow::List(Arc::new(bare_field("item", item))),
        Arrow::Map(entries, _sorted) => Arrow::Map(Arc::new(bare_entries(entries)), false),
        Arrow::Struct(fields) => Arrow::Struct(fields.iter().map(|field| bare_field(field.name(), field)).collect()),
        plain => plain.clone(),
    };
    ArrowField::new(name, data_type, field.is_nullable())
}

fn bare_entries(entries: &ArrowField) -> ArrowField {
    let data_type = match entries.data_type() {
        Arrow::Struct(fields) => {
            let names = ["keys", "values"].iter().zip(fields);
            Arrow::Struct(names.map(|(name, field)| bare_field(name, field)).collect())
        }
        other => other.clone(),
    };
    ArrowField::new("entries", data_type, entries.is_nullable())
}

/// A part of a file that stands for the whole while one row group is read.
struct Window {
    start: u64,
    bytes: Bytes,
    length: u64,
}

impl Window {
    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        match at {
            Some(at) if at <= self.bytes.len() => Ok(self.bytes.slice(at..)),
            _outside => Err(ParquetError::EOF(format!("byte {start} is outside of the row group"))),
        }
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let rest = self.from(start)?;
        if length > rest.len() {
            return Err(ParquetError::EOF(format!(
                "{length} bytes from byte {start} are outside of the row group"
            )));
        }
        Ok(rest.slice(..length))
    }
}
