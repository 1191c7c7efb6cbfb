//! The order of encoded keys: maps are encoded in the order of their keys as Rust compares them.

use std::cmp::Ordering;

use streamd_core::row::{DataType, Field, RowError, RowReader};

/// Compares the next value of two rows of one type. Both are read past it, unless they differ.
pub(super) fn compare(
    data_type: &DataType,
    a: &mut RowReader<'_>,
    b: &mut RowReader<'_>,
) -> Result<Ordering, RowError> {
    macro_rules! fixed {
        ($rust:ty) => {
            <$rust>::from_le_bytes(a.array()?).cmp(&<$rust>::from_le_bytes(b.array()?))
        };
    }
    Ok(match data_type {
        DataType::Bool | DataType::UInt8 => fixed!(u8),
        DataType::Int8 => fixed!(i8),
        DataType::Int16 => fixed!(i16),
        DataType::Int32 => fixed!(i32),
        DataType::Int64 => fixed!(i64),
        DataType::UInt16 => fixed!(u16),
        DataType::UInt32 => fixed!(u32),
        DataType::UInt64 => fixed!(u64),
        DataType::Float32 => f32::from_le_bytes(a.array()?).total_cmp(&f32::from_le_bytes(b.array()?)),
        DataType::Float64 => f64::from_le_bytes(a.array()?).total_cmp(&f64::from_le_bytes(b.array()?)),
        DataType::String | DataType::Bytes => a.bytes()?.cmp(b.bytes()?),
        DataType::Option(inner) => match (a.array::<1>()?, b.array::<1>()?) {
            ([1], [1]) => compare(inner, a, b)?,
            (a, b) => a.cmp(&b),
        },
        DataType::List(item) => sequence(a, b, |a, b| compare(item, a, b))?,
        DataType::Map(key, value) => sequence(a, b, |a, b| match compare(key, a, b)? {
            Ordering::Equal => compare(value, a, b),
            order => Ok(order),
        })?,
        DataType::Struct { fields, .. } => of_fields(fields, a, b)?,
        DataType::Enum { variants, .. } => match (a.count()?, b.count()?) {
            (x, y) if x == y => match variants.get(x) {
                Some(variant) => of_fields(&variant.fields, a, b)?,
                None => Ordering::Equal,
            },
            (x, y) => x.cmp(&y),
        },
    })
}

fn of_fields(fields: &[Field], a: &mut RowReader<'_>, b: &mut RowReader<'_>) -> Result<Ordering, RowError> {
    for field in fields {
        match compare(&field.data_type, a, b)? {
            Ordering::Equal => {}
            order => return Ok(order),
        }
    }
    Ok(Ordering::Equal)
}

fn sequence(
    a: &mut RowReader<'_>,
    b: &mut RowReader<'_>,
    mut each: impl FnMut(&mut RowReader<'_>, &mut RowReader<'_>) -> Result<Ordering, RowError>,
) -> Result<Ordering, RowError> {
    let (x, y) = (a.count()?, b.count()?);
    for _ in 0..x.min(y) {
        match each(a, b)? {
            Ordering::Equal => {}
            order => return Ok(order),
        }
    }
    Ok(x.cmp(&y))
}
