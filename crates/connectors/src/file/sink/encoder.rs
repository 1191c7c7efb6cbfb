//! How records become the bytes of a file.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;

/// What an encoder says when it cannot.
pub type EncodeError = Box<dyn std::error::Error + Send + Sync>;

/// Appends a batch of records to the bytes of a file; `is_first` is true for the first batch of each file. Encoding by the
/// batch lets a format set itself up once for many records.
pub type EncodeBatch<T> = dyn Fn(&[T], bool, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync;

/// A format of files: makes an encoder for each.
pub trait PartFormat<T>: Send + Sync {
    /// The encoder of a new file.
    fn encoder(&self) -> Result<Box<dyn PartEncoder<T>>, EncodeError>;

    /// Whether a file that ends after any batch is whole: one that is not ends with every checkpoint.
    fn is_whole_after_each_batch(&self) -> bool;
}

/// Encodes the records of one file.
pub trait PartEncoder<T>: Send {
    /// Appends records to the bytes of the file. The encoder may keep some of them back until [`finish`](Self::finish).
    fn encode(&mut self, records: &[T], bytes: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Appends what is kept back, and whatever ends a file.
    fn finish(&mut self, bytes: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// How many bytes are kept back, about.
    fn held_bytes(&self) -> u64;
}

/// A format that needs to know nothing but whether records are the first of a file.
pub(super) struct RowFormat<T>(pub(super) Arc<EncodeBatch<T>>);

struct RowEncoder<T> {
    encode: Arc<EncodeBatch<T>>,
    is_first: bool,
}

impl<T: 'static> PartFormat<T> for RowFormat<T> {
    fn encoder(&self) -> Result<Box<dyn PartEncoder<T>>, EncodeError> {
        Ok(Box::new(RowEncoder {
            encode: self.0.clone(),
            is_first: true,
        }))
    }

    fn is_whole_after_each_batch(&self) -> bool {
        true
    }
}

impl<T> PartEncoder<T> for RowEncoder<T> {
    fn encode(&mut self, records: &[T], bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        (self.encode)(records, std::mem::take(&mut self.is_first), bytes)
    }

    fn finish(&mut self, _bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }

    fn held_bytes(&self) -> u64 {
        0
    }
}

/// Each record on a line, as [`Display`] shows it.
pub(super) fn text<T: Display>(records: &[T], _is_first: bool, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    for record in records {
        writeln!(bytes, "{record}")?;
    }
    Ok(())
}

/// Each record on a line, as a JSON value.
pub(super) fn json_lines<T: Serialize>(records: &[T], _is_first: bool, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    for record in records {
        serde_json::to_writer(&mut *bytes, record)?;
        bytes.push(b'\n');
    }
    Ok(())
}

/// Each record as a row; the names of its fields as the first row of each file.
pub(super) fn csv<T: Serialize>(records: &[T], is_first: bool, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut rows = ::csv::WriterBuilder::new().has_headers(is_first).from_writer(bytes);
    for record in records {
        rows.serialize(record)?;
    }
    rows.flush()?;
    Ok(())
}
