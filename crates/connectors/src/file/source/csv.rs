//! Comma-separated values with a header row.

use std::marker::PhantomData;

use csv::{ByteRecord, Position, Reader, ReaderBuilder};
use serde::de::DeserializeOwned;
use streamd_core::source::ConnectorError;

use super::format::{Decoder, Format};
use super::input::Input;
use super::split::FileSplit;

/// What is read from the file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// One record per row, its fields found by the names in the first row of each file. Empty lines are passed over.
///
/// A file is one split: since quoted fields may hold line ends, only a reader from the start knows where a row begins.
#[derive(Debug)]
pub struct Csv<T>(PhantomData<fn() -> T>);

impl<T> Csv<T> {
    /// The format of records of type `T`.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Csv<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Csv<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T: DeserializeOwned + Send + 'static> Format for Csv<T> {
    type Out = T;
    type Decoder = CsvDecoder<T>;

    fn can_be_cut(&self) -> bool {
        false
    }

    fn decoder(&self, split: &FileSplit) -> Result<Self::Decoder, ConnectorError> {
        CsvDecoder::open(split)
    }
}

/// Decodes the rows of a file.
#[derive(Debug)]
pub struct CsvDecoder<T> {
    rows: Reader<Input>,
    header: ByteRecord,
    row: ByteRecord,
    end: u64,
    position: u64,
    records: PhantomData<fn() -> T>,
}

impl<T> CsvDecoder<T> {
    /// Reads the header, then goes to where the split was left.
    fn open(split: &FileSplit) -> Result<Self, ConnectorError> {
        let mut rows = ReaderBuilder::new()
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(Input::open(split)?);
        let header = rows.byte_headers().cloned();
        let header = header.map_err(|cause| rows.get_ref().bad_record(0, b"", cause))?;
        if split.position > 0 {
            let mut position = Position::new();
            position.set_byte(split.position);
            rows.seek(position).map_err(|cause| rows.get_ref().failed(cause))?;
        }
        Ok(Self {
            rows,
            header,
            row: ByteRecord::new(),
            end: split.end,
            position: split.position,
            records: PhantomData,
        })
    }

    fn bad_row(&self, cause: csv::Error) -> ConnectorError {
        let offset = cause
            .position()
            .or(self.row.position())
            .map_or(self.position, Position::byte);
        let text = self.row.iter().collect::<Vec<_>>().join(&b","[..]);
        self.rows.get_ref().bad_record(offset, &text, cause)
    }
}

impl<T: DeserializeOwned + Send + 'static> Decoder for CsvDecoder<T> {
    type Out = T;

    fn decode(&mut self, out: &mut Vec<T>, limit: usize) -> Result<usize, ConnectorError> {
        for count in 0..limit {
            match self.rows.read_byte_record(&mut self.row) {
                Ok(true) => {}
                Ok(false) => {
                    self.position = self.end;
                    return Ok(count);
                }
                Err(cause) if matches!(cause.kind(), csv::ErrorKind::Io(_)) => {
                    return Err(self.rows.get_ref().failed(cause));
                }
                Err(cause) => return Err(self.bad_row(cause)),
            }
            match self.row.deserialize(Some(&self.header)) {
                Ok(record) => out.push(record),
                Err(cause) => return Err(self.bad_row(cause)),
            }
            self.position = self.rows.position().byte();
        }
        Ok(limit)
    }

    fn position(&self) -> u64 {
        self.position
    }
}
