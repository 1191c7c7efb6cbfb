//! Reads the row groups of a Parquet file.

use std::fmt;
use std::fs::File;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::StructArray;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde::de::DeserializeOwned;
use streamd_core::source::{ConnectorError, Unit};

use super::cell::Cell;
use super::schema;
use crate::file::source::format::{Decoder, Format};
use crate::file::source::input::Input;
use crate::file::source::split::FileSplit;

/// Rows that are read at once.
const BATCH_ROWS: usize = 1024;

/// One record per row of a Parquet file. A split is a row group, or several small ones; positions count the rows of the file.
pub struct Parquet<T>(PhantomData<fn() -> T>);

impl<T> Parquet<T> {
    /// The format of records of type `T`.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Parquet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Parquet<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Parquet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parquet")
    }
}

impl<T: DeserializeOwned + Send + 'static> Format for Parquet<T> {
    type Out = T;
    type Decoder = ParquetDecoder<T>;

    fn can_be_cut(&self) -> bool {
        true
    }

    fn unit(&self) -> Unit {
        Unit::Rows
    }

    fn splits(&self, whole: FileSplit, aim: u64) -> Result<Vec<FileSplit>, ConnectorError> {
        let metadata = open(&whole)?.metadata().clone();
        let mut splits: Vec<FileSplit> = Vec::new();
        let (mut bytes, mut row) = (0, 0);
        for group in metadata.row_groups() {
            let end = rows(group.num_rows()).saturating_add(row);
            match splits.last_mut().filter(|_| bytes < aim) {
                Some(split) => split.end = end,
                None => {
                    bytes = 0;
                    splits.push(FileSplit {
                        start: row,
                        end,
                        position: row,
                        ..whole.clone()
                    });
                }
            }
            bytes = rows(group.compressed_size()).saturating_add(bytes);
            row = end;
        }
        splits.retain(|split| split.start < split.end);
        Ok(splits)
    }

    fn decoder(&self, split: &FileSplit) -> Result<Self::Decoder, ConnectorError> {
        ParquetDecoder::open(split)
    }
}

/// The file promises no negative numbers, and may lie.
fn rows(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Runs the Parquet library, which trusts what it parses here and there, and panics where it should not have. What that leaves half
/// done is dropped with the reader.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| {
        let message = "the Parquet library cannot make sense of it".to_owned();
        Err(ParquetError::General(message))
    })
}

fn open(split: &FileSplit) -> Result<ParquetRecordBatchReaderBuilder<File>, ConnectorError> {
    let file = Input::open_unchanged(split)?;
    // What the file says of Arrow's own types could be anything; Parquet's types are few.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    guarded(|| ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)).map_err(|cause| {
        let message = format!(
            "cannot read the Parquet file `{}`: it is damaged, incomplete or none",
            split.path
        );
        ConnectorError::caused(message, cause)
    })
}

/// Decodes the rows of some row groups.
pub struct ParquetDecoder<T> {
    path: String,
    batches: ParquetRecordBatchReader,
    /// Rows that were read, and the next of them.
    batch: Option<(StructArray, usize)>,
    /// The row of the file that is next.
    position: u64,
    end: u64,
    records: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for ParquetDecoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParquetDecoder({} at row {})", self.path, self.position)
    }
}

impl<T: DeserializeOwned> ParquetDecoder<T> {
    fn open(split: &FileSplit) -> Result<Self, ConnectorError> {
        let builder = open(split)?;
        let (groups, first) = groups_of(builder.metadata(), split)?;
        let mask = columns_of::<T>(&builder);
        let skipped = usize::try_from(split.position.saturating_sub(first)).unwrap_or(usize::MAX);
        let builder = builder
            .with_row_groups(groups)
            .with_offset(skipped)
            .with_batch_size(BATCH_ROWS)
            .with_projection(mask);
        let batches = guarded(|| builder.build());
        Ok(Self {
            batches: batches.map_err(|cause| failed(&split.path, split.position, cause))?,
            path: split.path.clone(),
            batch: None,
            position: split.position,
            end: split.end,
            records: PhantomData,
        })
    }

    /// Whether there is another row, in the batch at hand or a new one.
    fn has_row(&mut self) -> Result<bool, ConnectorError> {
        let is_empty = |(batch, next): &(StructArray, usize)| *next >= arrow_array::Array::len(batch);
        while self.batch.as_ref().is_none_or(is_empty) {
            let next = guarded(|| self.batches.next().transpose().map_err(ParquetError::from));
            match next.map_err(|cause| failed(&self.path, self.position, cause))? {
                None => return Ok(false),
                Some(batch) => self.batch = Some((StructArray::from(batch), 0)),
            }
        }
        Ok(true)
    }
}

/// The row groups of a split, and the first row of the first.
fn groups_of(metadata: &ParquetMetaData, split: &FileSplit) -> Result<(Vec<usize>, u64), ConnectorError> {
    let (mut row, mut groups) = (0, Vec::new());
    for (index, group) in metadata.row_groups().iter().enumerate() {
        if (split.start..split.end).contains(&row) && group.num_rows() > 0 {
            groups.push(index);
        }
        row = rows(group.num_rows()).saturating_add(row);
    }
    if split.end > row {
        return Err(ConnectorError::new(format!(
            "the Parquet file `{}` has {row} rows and not the {} that it had when it was found",
            split.path, split.end
        )));
    }
    Ok((groups, split.start))
}

/// The columns that the record type names; all of them where that cannot be told.
fn columns_of<T: DeserializeOwned>(builder: &ParquetRecordBatchReaderBuilder<File>) -> ProjectionMask {
    let in_file = builder.parquet_schema();
    let Ok(fields) = schema::fields_of::<T>() else {
        return ProjectionMask::all();
    };
    let roots = in_file.root_schema().get_fields().iter().enumerate();
    let named = roots.filter(|(_, root)| fields.iter().any(|field| field.name() == root.name()));
    let named: Vec<usize> = named.map(|(index, _)| index).collect();
    // A tuple takes columns by their position.
    match named.is_empty() || fields[0].name() == "f0" {
        true => ProjectionMask::all(),
        false => ProjectionMask::roots(in_file, named),
    }
}

fn failed(path: &str, row: u64, cause: ParquetError) -> ConnectorError {
    ConnectorError::caused(
        format!("cannot read the Parquet file `{path}` from row {row} on: it is damaged"),
        cause,
    )
}

impl<T: DeserializeOwned + Send + 'static> Decoder for ParquetDecoder<T> {
    type Out = T;

    fn decode(&mut self, out: &mut Vec<T>, limit: usize) -> Result<usize, ConnectorError> {
        for count in 0..limit {
            if !self.has_row()? {
                self.position = self.end;
                return Ok(count);
            }
            let Some((batch, next)) = self.batch.as_mut() else {
                return Ok(count);
            };
            let record = T::deserialize(Cell {
                array: batch,
                row: *next,
            });
            out.push(record.map_err(|cause| {
                let message = format!("cannot read row {} of the Parquet file `{}`", self.position, self.path);
                ConnectorError::caused(message, cause)
            })?);
            *next += 1;
            self.position += 1;
        }
        Ok(limit)
    }

    fn position(&self) -> u64 {
        self.position
    }
}
