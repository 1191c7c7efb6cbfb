//! Where a value ends in a row that holds several.

use streamd_core::row::{DataType, RowError, RowReader};

/// The bytes of the first value of a row, which is of this type, and the bytes behind it.
pub fn split<'a>(data_type: &DataType, row: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), RowError> {
    let mut reader = RowReader::new(row);
    let value = reader.value(data_type)?;
    Ok((value, reader.remaining()))
}
