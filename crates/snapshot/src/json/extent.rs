//! Where a value ends in a row that holds several.

use streamd_core::row::{DataType, Field, RowError, RowReader};

/// The bytes of the first value of a row, which is of this type, and the bytes behind it.
pub fn split<'a>(data_type: &DataType, row: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), RowError> {
    let mut reader = RowReader::new(row);
    skip(data_type, &mut reader)?;
    Ok(row.split_at(row.len() - reader.remaining().len()))
}

fn skip(data_type: &DataType, row: &mut RowReader<'_>) -> Result<(), RowError> {
    match data_type {
        DataType::Bool | DataType::Int8 | DataType::UInt8 => row.take(1).map(drop),
        DataType::Int16 | DataType::UInt16 => row.take(2).map(drop),
        DataType::Int32 | DataType::UInt32 | DataType::Float32 => row.take(4).map(drop),
        DataType::Int64 | DataType::UInt64 | DataType::Float64 => row.take(8).map(drop),
        DataType::String | DataType::Bytes => row.bytes().map(drop),
        DataType::Option(inner) => match row.array::<1>()? {
            [0] => Ok(()),
            [_some] => skip(inner, row),
        },
        DataType::List(item) => repeat(row, |row| skip(item, row)),
        DataType::Map(key, value) => repeat(row, |row| {
            skip(key, row)?;
            skip(value, row)
        }),
        DataType::Struct { fields, .. } => skip_fields(fields, row),
        DataType::Enum { variants, .. } => {
            let index = row.count()?;
            let variant = variants.get(index).ok_or(RowError::Invalid {
                what: "the variant of an enum",
                value: index as u64,
            })?;
            skip_fields(&variant.fields, row)
        }
    }
}

fn skip_fields(fields: &[Field], row: &mut RowReader<'_>) -> Result<(), RowError> {
    fields.iter().try_for_each(|field| skip(&field.data_type, row))
}

fn repeat(
    row: &mut RowReader<'_>,
    mut skip_one: impl FnMut(&mut RowReader<'_>) -> Result<(), RowError>,
) -> Result<(), RowError> {
    for _ in 0..row.count()? {
        let before = row.remaining().len();
        skip_one(row)?;
        if row.remaining().len() == before {
            // Values that take no bytes: however many are announced, the row goes on here.
            break;
        }
    }
    Ok(())
}
