//! Writes Parquet files.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::column::Column;
use super::schema::{self, NoColumns};
use crate::file::sink::encoder::{EncodeError, PartEncoder, PartFormat};

/// A row group ends when it has about so many bytes: few enough to be held in memory by each open file, and enough for columns to
/// compress well.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Files of row groups, compressed with Zstandard. The columns are those of the record type.
///
/// A file ends with a table of its contents, and is none without: so every file ends at the next checkpoint, whatever the rolling policy.
pub struct ParquetParts<T> {
    fields: Fields,
    records: PhantomData<fn(T)>,
}

impl<T: Serialize + DeserializeOwned> ParquetParts<T> {
    /// Errors if the type has no columns: it says which part of it.
    pub fn new() -> Result<Self, EncodeError> {
        let fields = schema::fields_of::<T>()?;
        Column::of(&fields)?;
        Ok(Self {
            fields,
            records: PhantomData,
        })
    }

    /// Without columns: for a type that has none, and is refused before anything is written.
    pub(in crate::file) fn none() -> Self {
        Self {
            fields: Fields::empty(),
            records: PhantomData,
        }
    }
}

impl<T: Serialize + 'static> PartFormat<T> for ParquetParts<T> {
    fn encoder(&self) -> Result<Box<dyn PartEncoder<T>>, EncodeError> {
        if self.fields.is_empty() {
            return Err(NoColumns("the record type has no columns".to_owned()).into());
        }
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(format!("streamd {}", env!("CARGO_PKG_VERSION")))
            .build();
        let schema = Arc::new(Schema::new(self.fields.clone()));
        Ok(Box::new(ParquetEncoder {
            columns: Column::of(&self.fields)?,
            writer: ArrowWriter::try_new(Vec::new(), schema, Some(properties))?,
        }))
    }

    fn is_whole_after_each_batch(&self) -> bool {
        false
    }
}

struct ParquetEncoder {
    columns: Column,
    writer: ArrowWriter<Vec<u8>>,
}

impl<T: Serialize> PartEncoder<T> for ParquetEncoder {
    fn encode(&mut self, records: &[T], bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        for record in records {
            record.serialize(&mut self.columns)?;
        }
        let batch = self.columns.finish();
        debug_assert_eq!(batch.len(), records.len());
        self.writer.write(&RecordBatch::from(batch.as_struct()))?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush()?;
        }
        bytes.append(self.writer.inner_mut());
        Ok(())
    }

    fn finish(&mut self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.writer.finish()?;
        bytes.append(self.writer.inner_mut());
        Ok(())
    }

    fn held_bytes(&self) -> u64 {
        self.writer.in_progress_size() as u64
    }
}
