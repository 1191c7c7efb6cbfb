//! Tables of which nothing but the bytes is known: what a forger could make of a savepoint.

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;
use streamd_core::key_group::{KeyGroupRange, UPPER_BOUND_MAX_PARALLELISM};
use streamd_core::row::DataType;

use super::file::Lead;
use super::keyed::columns_of;
use super::reader::{Expected, TableReader, guarded};
use crate::error::SnapshotError;

/// Reads any bytes as a table with these columns that is in all other respects what the metadata announces. Returns its rows.
pub(crate) fn read_forged(key: Option<&DataType>, value: &DataType, bytes: Bytes) -> Result<u64, SnapshotError> {
    let (lead, columns) = match key {
        Some(key) => (Lead::KeyGroup, columns_of(key, None, value)),
        None => (Lead::Position, vec![("value", value)]),
    };
    let (uri, length) = ("memory://forged".to_owned(), bytes.len() as u64);
    let footer = guarded(&uri, || {
        let mut parser = ParquetMetaDataReader::new();
        parser.try_parse_sized(&bytes, length)?;
        parser.finish()
    })?;
    let expected = Expected {
        lead,
        columns: &columns,
        rows: u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0),
        uri,
    };
    let reader = TableReader::of_footer(&bytes, length, expected)?;
    let mut rows = 0;
    for group in 0..reader.row_groups() {
        if !reader.may_hold(group, KeyGroupRange::all(UPPER_BOUND_MAX_PARALLELISM)) {
            continue;
        }
        let span = reader.span(group)?;
        let bytes = bytes.slice(span.start as usize..span.end as usize);
        reader.read_group(group, bytes, &mut |_lead, _values| {
            rows += 1;
            Ok(())
        })?;
    }
    Ok(rows)
}
