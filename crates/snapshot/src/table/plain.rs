//! A Parquet file of columns whose values are always there, written without a detour: the rows of a batch become pages, pages go
//! to the store as they are.
//!
//! ```text
//!   batch ──▶ Leaf, Leaf, … ──▶ RawRowGroup ──▶ packed, by other threads ──▶ object, byte by byte as it was packed
//! ```

use bytes::Bytes;
use parquet::arrow::{ArrowSchemaConverter, encode_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData};
use parquet::schema::types::SchemaDescPtr;
use std::sync::Arc;
use streamd_core::row::{DataType, RowReader};

use super::file::{AddError, Description, Lead, Packing, ROW_GROUP_BYTES, ROW_GROUP_ROWS, about, created_by, schema};
use super::leaf::Leaf;
use super::page::{PackedRowGroup, RawRowGroup};
use super::row_group::{Encode, Encoders, Wait};
use super::types::storable;
use crate::row_batch::RowBatch;
use crate::store::BlockingUpload;

/// What a Parquet file begins with. So it ends as well, which is the footer's business.
const MAGIC: &[u8; 4] = b"PAR1";

/// The version of the metadata, as most writers have it: nothing beyond version 1 is used.
const FOOTER_VERSION: i32 = 1;

/// A table of keyed state under way.
pub(super) struct PlainFile {
    out: BlockingUpload,
    schema: SchemaDescPtr,
    about: Vec<KeyValue>,
    packing: Packing,
    /// The leaves of each column but the first.
    columns: Vec<Vec<Leaf>>,
    /// Key group and rows of each run of the row group under way.
    groups: Vec<(u32, usize)>,
    rows: usize,
    /// Bytes of its rows.
    bytes: usize,
    encoders: Option<Encoders<RawRowGroup>>,
    /// Row groups so far.
    filled: usize,
    written: Vec<RowGroupMetaData>,
}

impl Encode for RawRowGroup {
    type Encoded = PackedRowGroup;

    fn encode(self) -> Result<PackedRowGroup, ParquetError> {
        self.pack()
    }
}

impl PlainFile {
    /// The leaves of such columns, where they can be written here.
    pub(super) fn leaves(columns: &[(&str, &DataType)]) -> Option<Vec<Vec<Leaf>>> {
        let leaves = columns
            .iter()
            .map(|(_name, data_type)| Leaf::all_of(&storable(data_type)));
        leaves.collect()
    }

    /// A file with these columns, of these [leaves](Self::leaves).
    pub(super) fn new(
        packing: Packing,
        description: &Description<'_>,
        columns: Vec<Vec<Leaf>>,
        mut out: BlockingUpload,
    ) -> Result<Self, AddError> {
        let arrow = schema(Lead::KeyGroup, description.columns);
        let schema = ArrowSchemaConverter::new().convert(&arrow).map_err(AddError::File)?;
        let mut about = about(description);
        about.push(KeyValue::new(
            parquet::arrow::ARROW_SCHEMA_META_KEY.to_owned(),
            encode_arrow_schema(&arrow),
        ));
        out.append(MAGIC).map_err(AddError::Store)?;
        Ok(Self {
            out,
            schema: Arc::new(schema),
            about,
            packing,
            columns,
            groups: Vec::new(),
            rows: 0,
            bytes: 0,
            encoders: None,
            filled: 0,
            written: Vec::new(),
        })
    }

    /// Adds a row: one encoded value per column.
    pub(super) fn add(&mut self, key_group: u32, values: &[&[u8]]) -> Result<(), AddError> {
        for (leaves, value) in self.columns.iter_mut().zip(values) {
            let mut reader = RowReader::new(value);
            leaves
                .iter_mut()
                .try_for_each(|leaf| leaf.append(&mut reader))
                .and_then(|()| reader.finish())
                .map_err(AddError::Row)?;
            self.bytes += value.len();
        }
        self.count(key_group, 1);
        self.end_full_row_group()
    }

    /// Adds the rows of a batch to a table without a namespace. May take memory of the batch.
    pub(super) fn add_all(&mut self, batch: &mut RowBatch) -> Result<(), AddError> {
        let count = batch.len();
        if self.rows > 0 && self.rows + count > ROW_GROUP_ROWS {
            self.end_row_group()?;
        }
        for &(group, rows) in batch.groups() {
            self.count(group, rows);
        }
        let (keys, values) = batch.columns();
        for (leaves, rows) in self.columns.iter_mut().zip([keys, values]) {
            self.bytes += rows.bytes().len();
            match leaves.as_mut_slice() {
                [leaf] if leaf.is_as_in_rows() => leaf.take_all(rows, count).map_err(AddError::Row)?,
                leaves => {
                    for row in rows.iter() {
                        let mut reader = RowReader::new(row);
                        leaves
                            .iter_mut()
                            .try_for_each(|leaf| leaf.append(&mut reader))
                            .and_then(|()| reader.finish())
                            .map_err(AddError::Row)?;
                    }
                }
            }
        }
        self.end_full_row_group()
    }

    /// Ends the file and returns where it went.
    pub(super) fn finish(mut self) -> Result<BlockingUpload, AddError> {
        if self.rows > 0 {
            self.end_row_group()?;
        }
        self.write_packed(Wait::Always)?;
        let rows = self.written.iter().map(RowGroupMetaData::num_rows).sum();
        let file = FileMetaData::new(
            FOOTER_VERSION,
            rows,
            Some(created_by()),
            Some(self.about),
            self.schema,
            None,
        );
        let mut footer = Vec::new();
        ParquetMetaDataWriter::new(&mut footer, &ParquetMetaData::new(file, self.written))
            .finish()
            .map_err(AddError::File)?;
        self.out.append_shared(footer.into()).map_err(AddError::Store)?;
        Ok(self.out)
    }

    fn count(&mut self, key_group: u32, rows: usize) {
        self.rows += rows;
        match self.groups.last_mut() {
            Some((group, count)) if *group == key_group => *count += rows,
            _another => self.groups.push((key_group, rows)),
        }
    }

    #[inline]
    fn end_full_row_group(&mut self) -> Result<(), AddError> {
        match self.rows >= ROW_GROUP_ROWS || self.bytes >= ROW_GROUP_BYTES {
            true => self.end_row_group(),
            false => Ok(()),
        }
    }

    fn end_row_group(&mut self) -> Result<(), AddError> {
        let row_group = RawRowGroup {
            groups: std::mem::take(&mut self.groups),
            leaves: self.columns.iter_mut().flatten().map(Leaf::take_pages).collect(),
            packing: self.packing,
        };
        (self.rows, self.bytes) = (0, 0);
        self.filled += 1;
        if self.encoders.is_none() && self.filled > 1 {
            self.encoders = Encoders::start();
        }
        match &mut self.encoders {
            Some(encoders) => {
                encoders.submit(row_group).map_err(AddError::File)?;
                self.write_packed(Wait::UnlessFew)
            }
            None => self.write(row_group.pack().map_err(AddError::File)?),
        }
    }

    /// Writes the row groups that others have packed.
    fn write_packed(&mut self, wait: Wait) -> Result<(), AddError> {
        while let Some(encoders) = &mut self.encoders
            && let Some(packed) = encoders.next(wait).map_err(AddError::File)?
        {
            self.write(packed)?;
        }
        Ok(())
    }

    fn write(&mut self, packed: PackedRowGroup) -> Result<(), AddError> {
        let place = (self.written.len(), self.out.length());
        let (described, pieces): (_, Vec<Bytes>) = packed.place(&self.schema, place).map_err(AddError::File)?;
        self.written.push(described);
        for piece in pieces {
            self.out.append_shared(piece).map_err(AddError::Store)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
