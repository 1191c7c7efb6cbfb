//! One Parquet file: encoded rows in, batches and row groups out, memory bounded.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow_schema::{DataType as Arrow, Field as ArrowField, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use streamd_core::key_group::KEY_HASH_VERSION;
use streamd_core::row::{DataType, RowError, RowReader};

use super::TABLE_VERSION;
use super::build::ColumnBuilder;
use super::row_group::{Encode, Encoders, RowGroup, Wait};
use super::types::{arrow_field, storable};
use crate::error::StoreError;

/// Rows of a row group: a restore skips whole row groups, so they are small.
pub(super) const ROW_GROUP_ROWS: usize = 64 << 10;
/// Bytes of a row group in memory at most, whatever the rows.
pub(super) const ROW_GROUP_BYTES: usize = 16 << 20;
/// Rows of a batch: enough to spread the cost of a call over many.
const BATCH_ROWS: usize = 4096;
/// Bytes of encoded rows in a batch at most; far below the 2 GiB that Arrow's offsets reach.
const BATCH_BYTES: usize = 4 << 20;

/// The first column of a table: what its rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    /// The key group of the key.
    KeyGroup,
    /// The position in the list.
    Position,
}

/// How the pages of a table are compressed. A table is always compressed: it is to be kept and carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Lz4,
    Zstd,
}

/// What the file says about itself.
pub(super) struct Description<'a> {
    /// The operator's uid, or its name and id.
    pub operator: &'a str,
    /// The name of the state.
    pub state: &'a str,
    /// Name and type of each column but the first.
    pub columns: &'a [(&'a str, &'a DataType)],
}

/// The schema of such a table.
pub(super) fn schema(lead: Lead, columns: &[(&str, &DataType)]) -> SchemaRef {
    let first = ArrowField::new(lead.name(), lead.arrow(), false);
    let others = columns
        .iter()
        .map(|(name, data_type)| arrow_field(name, &storable(data_type)));
    Arc::new(Schema::new(std::iter::once(first).chain(others).collect::<Vec<_>>()))
}

impl Lead {
    fn name(self) -> &'static str {
        match self {
            Self::KeyGroup => "key_group",
            Self::Position => "position",
        }
    }

    fn arrow(self) -> Arrow {
        match self {
            Self::KeyGroup => Arrow::Int32,
            Self::Position => Arrow::Int64,
        }
    }
}

/// A Parquet file under way.
pub(super) struct TableFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    row_groups: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    lead: Lead,
    leads: Vec<i64>,
    columns: Vec<ColumnBuilder>,
    /// Bytes of the rows of the batch under way.
    bytes: usize,
    filling: Filling,
    /// Row groups so far.
    filled: usize,
    encoding: Encoding,
}

/// The batches of the row group that is being filled.
#[derive(Default)]
struct Filling {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

/// Who encodes the row groups.
enum Encoding {
    /// Whoever adds the rows.
    Here,
    /// Others, once there is more than one row group.
    Beside(Option<Encoders<RowGroup>>),
}

/// Why a row could not be added.
pub(super) enum AddError {
    /// The row does not fit the schema.
    Row(RowError),
    /// The file could not be written.
    File(ParquetError),
    /// Its bytes could not be stored.
    Store(StoreError),
}

impl<W: Write + Send> TableFile<W> {
    pub(super) fn new(lead: Lead, description: &Description<'_>, out: W) -> Result<Self, ParquetError> {
        Self::packed(Packing::Lz4, lead, description, out)
    }

    pub(super) fn packed(
        packing: Packing,
        lead: Lead,
        description: &Description<'_>,
        out: W,
    ) -> Result<Self, ParquetError> {
        let schema = schema(lead, description.columns);
        let properties = properties(lead, description, packing);
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties))?;
        let (writer, row_groups) = writer.into_serialized_writer()?;
        let columns = description
            .columns
            .iter()
            .map(|(_name, data_type)| ColumnBuilder::new(&storable(data_type)));
        Ok(Self {
            writer,
            row_groups,
            schema,
            lead,
            leads: Vec::with_capacity(BATCH_ROWS),
            columns: columns.collect(),
            bytes: 0,
            filling: Filling::default(),
            filled: 0,
            encoding: Encoding::Here,
        })
    }

    /// With row groups encoded by threads of their own, if there is more than one.
    pub(super) fn encoded_beside(self) -> Self {
        Self {
            encoding: Encoding::Beside(None),
            ..self
        }
    }

    /// Adds a row: one encoded value per column.
    pub(super) fn add(&mut self, lead: i64, values: &[&[u8]]) -> Result<(), AddError> {
        for (column, value) in self.columns.iter_mut().zip(values) {
            let mut reader = RowReader::new(value);
            column
                .append(&mut reader)
                .and_then(|()| reader.finish())
                .map_err(AddError::Row)?;
            self.bytes += value.len();
        }
        self.leads.push(lead);
        let rows = self.leads.len();
        if rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES || self.filling.rows + rows >= ROW_GROUP_ROWS {
            self.end_batch().map_err(AddError::File)?;
        }
        Ok(())
    }

    /// Ends the file and returns where it went.
    pub(super) fn finish(mut self) -> Result<W, ParquetError> {
        self.end_batch()?;
        if !self.filling.batches.is_empty() {
            self.end_row_group()?;
        }
        self.write_encoded(Wait::Always)?;
        self.writer.into_inner()
    }

    fn end_batch(&mut self) -> Result<(), ParquetError> {
        if self.leads.is_empty() {
            return Ok(());
        }
        let leads = std::mem::replace(&mut self.leads, Vec::with_capacity(BATCH_ROWS));
        let rows = leads.len();
        let first: ArrayRef = match self.lead {
            Lead::KeyGroup => Arc::new(leads.iter().map(|lead| *lead as i32).collect::<Int32Array>()),
            Lead::Position => Arc::new(Int64Array::from(leads)),
        };
        let others = self.columns.iter_mut().map(|column| column.take(None));
        let batch = RecordBatch::try_new(self.schema.clone(), std::iter::once(first).chain(others).collect())?;
        self.filling.batches.push(batch);
        self.filling.rows += rows;
        self.filling.bytes += std::mem::take(&mut self.bytes);
        if self.filling.rows >= ROW_GROUP_ROWS || self.filling.bytes >= ROW_GROUP_BYTES {
            self.end_row_group()?;
        }
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<(), ParquetError> {
        let row_group = RowGroup {
            batches: std::mem::take(&mut self.filling).batches,
            columns: self.row_groups.create_column_writers(self.filled)?,
        };
        self.filled += 1;
        if let Encoding::Beside(encoders) = &mut self.encoding
            && encoders.is_none()
            && self.filled > 1
        {
            *encoders = Encoders::start();
        }
        match &mut self.encoding {
            Encoding::Beside(Some(encoders)) => {
                encoders.submit(row_group)?;
                self.write_encoded(Wait::UnlessFew)
            }
            Encoding::Here | Encoding::Beside(None) => row_group.encode()?.write(&mut self.writer),
        }
    }

    /// Writes the row groups that others have encoded.
    fn write_encoded(&mut self, wait: Wait) -> Result<(), ParquetError> {
        if let Encoding::Beside(Some(encoders)) = &mut self.encoding {
            while let Some(encoded) = encoders.next(wait)? {
                encoded.write(&mut self.writer)?;
            }
        }
        Ok(())
    }
}

/// Who wrote a table.
pub(super) fn created_by() -> String {
    format!("streamd version {}", env!("CARGO_PKG_VERSION"))
}

/// What a table says about itself.
pub(super) fn about(description: &Description<'_>) -> Vec<KeyValue> {
    let entry = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let mut about = vec![
        entry("streamd.format_version", TABLE_VERSION.to_string()),
        entry("streamd.operator", description.operator.to_owned()),
        entry("streamd.state", description.state.to_owned()),
        entry("streamd.key_hash_version", KEY_HASH_VERSION.to_string()),
    ];
    for (name, data_type) in description.columns {
        let json = serde_json::to_string(data_type).expect("a data type is plain data with text keys");
        about.push(entry(&format!("streamd.type.{name}"), json));
    }
    about
}

fn properties(lead: Lead, description: &Description<'_>, packing: Packing) -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(created_by())
        .set_compression(match packing {
            Packing::Lz4 => Compression::LZ4_RAW,
            Packing::Zstd => Compression::ZSTD(ZstdLevel::default()),
        })
        // Of the first column alone: rows are in no order of the others, whose least and greatest would tell nothing.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from(lead.name()), EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        // Keys are nearly all different: building dictionaries for them costs more than LZ4 leaves to gain.
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(ColumnPath::from(lead.name()), true)
        .set_key_value_metadata(Some(about(description)))
        .build()
}
