//! The steps of a migration, on one row.

use super::resolve::{Migration, Number, Origin, Record, Step};
use crate::row::{RowError, RowReader, write_count};

impl Migration {
    /// Appends to `migrated` what becomes of a stored row. Errors if the bytes are no row of the stored type; then what was
    /// appended means nothing.
    pub fn apply(&self, stored: &[u8], migrated: &mut Vec<u8>) -> Result<(), RowError> {
        let mut reader = RowReader::new(stored);
        run(&self.step, &mut reader, migrated)?;
        reader.finish()
    }
}

fn run(step: &Step, row: &mut RowReader<'_>, out: &mut Vec<u8>) -> Result<(), RowError> {
    match step {
        Step::Copy(data_type) => out.extend_from_slice(row.value(data_type)?),
        Step::Widen { from, to } => widen(*from, *to, row, out)?,
        Step::Wrap(step) => {
            out.push(1);
            run(step, row, out)?;
        }
        Step::Option(step) => {
            let is_some = row.truth()?;
            out.push(u8::from(is_some));
            if is_some {
                run(step, row, out)?;
            }
        }
        Step::List(step) => {
            let count = row.elements()?;
            write_count(out, count);
            (0..count).try_for_each(|_| run(step, row, out))?;
        }
        Step::Map { key, value } => {
            let count = row.elements()?;
            write_count(out, count);
            for _entry in 0..count {
                out.extend_from_slice(row.value(key)?);
                run(value, row, out)?;
            }
        }
        Step::Struct(record) => fields(record, row, out)?,
        Step::Enum(variants) => {
            let index = row.count()?;
            let (index, record) = variants.get(index).ok_or(RowError::Invalid {
                what: "the variant of an enum",
                value: index as u64,
            })?;
            out.extend_from_slice(&index.to_le_bytes());
            fields(record, row, out)?;
        }
        Step::Stamp(now, step) => {
            out.extend_from_slice(&now.0.to_le_bytes());
            run(step, row, out)?;
        }
        Step::Unstamp(step) => {
            row.array::<8>()?;
            run(step, row, out)?;
        }
        Step::Convert { from, function } => {
            let stored = row.value(from)?;
            // Only the application has the function; nobody else migrates rows.
            let function = function.as_ref().ok_or(RowError::Invalid {
                what: "the function of a migration",
                value: 0,
            })?;
            out.extend_from_slice(&(function.0)(stored)?);
        }
    }
    Ok(())
}

fn fields(record: &Record, row: &mut RowReader<'_>, out: &mut Vec<u8>) -> Result<(), RowError> {
    let stored = record.stored.iter().map(|data_type| row.value(data_type));
    let stored = stored.collect::<Result<Vec<_>, _>>()?;
    for field in &record.fields {
        match field {
            Origin::Stored(position, step) => {
                let mut value = RowReader::new(stored[*position]);
                run(step, &mut value, out)?;
                value.finish()?;
            }
            Origin::Default(default) => out.extend_from_slice(default),
        }
    }
    Ok(())
}

fn widen(from: Number, to: Number, row: &mut RowReader<'_>, out: &mut Vec<u8>) -> Result<(), RowError> {
    match (from, to) {
        (Number::Signed(from), Number::Signed(to)) => put_integer(signed(from, row)?, to, out),
        (Number::Unsigned(from), Number::Unsigned(to) | Number::Signed(to)) => {
            put_integer(unsigned(from, row)?, to, out);
        }
        (Number::Signed(from), Number::Float(to)) => put_float(signed(from, row)?, to, out),
        (Number::Unsigned(from), Number::Float(to)) => put_float(unsigned(from, row)?, to, out),
        // The only narrower float.
        (Number::Float(_), _) => {
            let value = f32::from_le_bytes(row.array()?);
            out.extend_from_slice(&f64::from(value).to_le_bytes());
        }
        (Number::Signed(_), Number::Unsigned(_)) => {
            return Err(RowError::Invalid {
                what: "the sign of a number",
                value: 0,
            });
        }
    }
    Ok(())
}

fn signed(width: u8, row: &mut RowReader<'_>) -> Result<i64, RowError> {
    Ok(match width {
        1 => i8::from_le_bytes(row.array()?).into(),
        2 => i16::from_le_bytes(row.array()?).into(),
        4 => i32::from_le_bytes(row.array()?).into(),
        _eight => i64::from_le_bytes(row.array()?),
    })
}

/// Only what is narrower than 64 bits is ever widened: it fits.
fn unsigned(width: u8, row: &mut RowReader<'_>) -> Result<i64, RowError> {
    Ok(match width {
        1 => u8::from_le_bytes(row.array()?).into(),
        2 => u16::from_le_bytes(row.array()?).into(),
        _four => u32::from_le_bytes(row.array()?).into(),
    })
}

fn put_integer(value: i64, width: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes()[..width.into()]);
}

fn put_float(value: i64, width: u8, out: &mut Vec<u8>) {
    match width {
        4 => out.extend_from_slice(&(value as f32).to_le_bytes()),
        _eight => out.extend_from_slice(&(value as f64).to_le_bytes()),
    }
}
