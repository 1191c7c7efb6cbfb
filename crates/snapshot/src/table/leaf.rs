//! Encoded rows into the bytes of Parquet pages, for columns whose values are always there: no levels are needed.
//!
//! The row encoding of numbers, texts and bytes is Parquet's plain encoding, byte by byte: where a column is nothing else, the values of
//! a batch are a page as they are.

use streamd_core::row::{DataType, RowError, RowReader};

use super::types::is_plain;
use crate::row_batch::EncodedValues;

/// Values of a page: of small ones, more would be no larger and no faster.
const PAGE_ROWS: u32 = 8 << 10;
/// Bytes of a page from which on it ends.
const PAGE_BYTES: usize = 768 << 10;

/// How the values of a leaf become those of Parquet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Bits, the first value lowest.
    Bool,
    /// An integer of one or two bytes, which Parquet keeps in four.
    Small { bytes: usize, signed: bool },
    /// As in the row, of so many bytes.
    Number(usize),
    /// As in the row: length and UTF-8.
    Text,
    /// As in the row: length and bytes.
    Bytes,
    /// The name of a variant without fields.
    Name(Vec<String>),
}

/// One leaf of the columns of a table: what is to become a column chunk.
#[derive(Debug)]
pub(super) struct Leaf {
    kind: Kind,
    /// The values of the page under way.
    page: Vec<u8>,
    values: u32,
    pages: Vec<RawPage>,
}

/// The values of a page, not packed yet.
#[derive(Debug)]
pub(super) struct RawPage {
    pub bytes: Vec<u8>,
    pub values: u32,
}

impl Leaf {
    /// The leaves of a column of this ([`storable`](super::types::storable)) type, in the order of the schema. Nothing where a value
    /// within it may be absent or repeated.
    pub(super) fn all_of(data_type: &DataType) -> Option<Vec<Self>> {
        let mut kinds = Vec::new();
        kinds_of(data_type, &mut kinds)?;
        let leaves = kinds.into_iter().map(|kind| Self {
            kind,
            page: Vec::new(),
            values: 0,
            pages: Vec::new(),
        });
        Some(leaves.collect())
    }

    /// Takes the next value out of the row.
    pub(super) fn append(&mut self, row: &mut RowReader<'_>) -> Result<(), RowError> {
        match &self.kind {
            Kind::Bool => {
                let bit = self.values % 8;
                if bit == 0 {
                    self.page.push(0);
                }
                let last = self.page.last_mut().expect("pushed with the first of eight");
                *last |= u8::from(row.truth()?) << bit;
            }
            Kind::Small { bytes, signed } => {
                let value = small(row.take(*bytes)?, *signed);
                self.page.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Number(bytes) => self.page.extend_from_slice(row.take(*bytes)?),
            Kind::Text => put_bytes(&mut self.page, row.text()?.as_bytes()),
            Kind::Bytes => put_bytes(&mut self.page, row.bytes()?),
            Kind::Name(names) => {
                let index = row.count()?;
                let name = names.get(index).ok_or(RowError::Invalid {
                    what: "the variant of an enum",
                    value: index as u64,
                })?;
                put_bytes(&mut self.page, name.as_bytes());
            }
        }
        self.values += 1;
        self.end_full_page();
        Ok(())
    }

    /// Whether the values are in a page as they are in a row.
    pub(super) fn is_as_in_rows(&self) -> bool {
        matches!(self.kind, Kind::Number(_) | Kind::Text | Kind::Bytes)
    }

    /// Takes all values of a batch, each a row of nothing else, for a leaf whose values [are as in rows](Self::is_as_in_rows).
    pub(super) fn take_all(&mut self, rows: &mut EncodedValues, count: usize) -> Result<(), RowError> {
        for row in rows.iter() {
            let mut reader = RowReader::new(row);
            match &self.kind {
                Kind::Number(bytes) => reader.take(*bytes).map(drop)?,
                Kind::Text => reader.text().map(drop)?,
                Kind::Bytes | Kind::Bool | Kind::Small { .. } | Kind::Name(_) => reader.bytes().map(drop)?,
            }
            reader.finish()?;
        }
        if self.page.is_empty() {
            self.page = rows.take_bytes();
        } else {
            self.page.extend_from_slice(rows.bytes());
        }
        self.values += u32::try_from(count).expect("a batch has some thousands of rows");
        self.end_full_page();
        Ok(())
    }

    /// The pages of the row group, which ends here.
    pub(super) fn take_pages(&mut self) -> Vec<RawPage> {
        self.end_page();
        std::mem::take(&mut self.pages)
    }

    #[inline]
    fn end_full_page(&mut self) {
        if self.values >= PAGE_ROWS || self.page.len() >= PAGE_BYTES {
            self.end_page();
        }
    }

    fn end_page(&mut self) {
        if self.values > 0 {
            let room = Vec::with_capacity(self.page.len().min(PAGE_BYTES));
            self.pages.push(RawPage {
                bytes: std::mem::replace(&mut self.page, room),
                values: std::mem::take(&mut self.values),
            });
        }
    }
}

/// Adds the leaves of a type; nothing where it is not all of such that are always there.
fn kinds_of(data_type: &DataType, kinds: &mut Vec<Kind>) -> Option<()> {
    let small = |bytes, signed| Kind::Small { bytes, signed };
    kinds.push(match data_type {
        DataType::Bool => Kind::Bool,
        DataType::Int8 => small(1, true),
        DataType::UInt8 => small(1, false),
        DataType::Int16 => small(2, true),
        DataType::UInt16 => small(2, false),
        DataType::Int32 | DataType::UInt32 | DataType::Float32 => Kind::Number(4),
        DataType::Int64 | DataType::UInt64 | DataType::Float64 => Kind::Number(8),
        DataType::String => Kind::Text,
        DataType::Bytes => Kind::Bytes,
        DataType::Enum { variants, .. } if is_plain(variants) => {
            Kind::Name(variants.iter().map(|variant| variant.name.clone()).collect())
        }
        // A struct without fields has a column that is always null.
        DataType::Struct { fields, .. } if !fields.is_empty() => {
            return fields.iter().try_for_each(|field| kinds_of(&field.data_type, kinds));
        }
        DataType::Struct { .. }
        | DataType::Option(_)
        | DataType::List(_)
        | DataType::Map(..)
        | DataType::Enum { .. } => return None,
    });
    Some(())
}

/// An integer of one or two bytes, in four.
fn small(bytes: &[u8], signed: bool) -> i32 {
    match (bytes, signed) {
        (&[low], true) => i32::from(low as i8),
        (&[low, high], true) => i32::from(i16::from_le_bytes([low, high])),
        (&[low, high], false) => i32::from(u16::from_le_bytes([low, high])),
        (bytes, _) => bytes.first().map_or(0, |&low| i32::from(low)),
    }
}

/// As the row has it: length, then the bytes.
fn put_bytes(page: &mut Vec<u8>, bytes: &[u8]) {
    // It was read with a length of four bytes.
    page.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    page.extend_from_slice(bytes);
}
