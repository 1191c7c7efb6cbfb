//! How records become the bytes of a file.

use std::fmt::Display;
use std::io::Write as _;

use serde::Serialize;

/// What an encoder says when it cannot.
pub type EncodeError = Box<dyn std::error::Error + Send + Sync>;

/// Appends a batch of records to the bytes of a file; `is_first` is true for the first batch of each file. Encoding by the
/// batch lets a format set itself up once for many records.
pub type EncodeBatch<T> = dyn Fn(&[T], bool, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync;

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
