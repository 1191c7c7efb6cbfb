//! Encoded rows to JSON text.

use std::fmt::Write;

use streamd_core::row::{DataType, Field, RowError, RowReader, Variant};

use super::{SOME, is_tuple, may_be_null};

/// Bytes of text that any row may become, however small it is.
const TEXT_FLOOR: usize = 1 << 20;

/// Bytes of text that a byte of a row may become, names not counted.
const TEXT_PER_BYTE: usize = 64;

/// Turns rows of one type into JSON text, on one line.
///
/// The text is limited to 1 MiB plus a multiple of the row: values that take no bytes (a list of four thousand million units)
/// would otherwise make a small row of a hostile file fill the memory.
#[derive(Debug, Clone)]
pub struct Renderer {
    data_type: DataType,
    text_per_byte: usize,
}

impl Renderer {
    /// A renderer for rows of this type.
    pub fn new(data_type: &DataType) -> Self {
        Self {
            text_per_byte: TEXT_PER_BYTE + names_of(data_type),
            data_type: data_type.clone(),
        }
    }

    /// The type of the rows.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The row as JSON. Fails where the bytes are no row of the type, or would become more text than the limit.
    pub fn render(&self, row: &[u8]) -> Result<String, RowError> {
        let mut text = String::new();
        self.append(&mut text, row)?;
        Ok(text)
    }

    /// Appends the row as JSON to `text`, which is unspecified after an error.
    pub fn append(&self, text: &mut String, row: &[u8]) -> Result<(), RowError> {
        let mut reader = RowReader::new(row);
        let mut output = self.output(text, row.len());
        output.value(&self.data_type, &mut reader)?;
        reader.finish()
    }

    /// The texts of the fields of a struct, or of the one value of any other type, as they stand in columns: text bare, nothing as the
    /// empty text, and what is nested as JSON.
    pub fn cells(&self, row: &[u8]) -> Result<Vec<String>, RowError> {
        let mut reader = RowReader::new(row);
        let mut cells = Vec::new();
        let mut cell = |data_type: &DataType, reader: &mut RowReader<'_>| {
            let mut text = String::new();
            self.output(&mut text, row.len()).cell(data_type, reader)?;
            cells.push(text);
            Ok::<(), RowError>(())
        };
        match &self.data_type {
            DataType::Struct { fields, .. } if !fields.is_empty() => fields
                .iter()
                .try_for_each(|field| cell(&field.data_type, &mut reader))?,
            other => cell(other, &mut reader)?,
        }
        reader.finish()?;
        Ok(cells)
    }

    /// The names of the [`cells`](Self::cells) of a column of this name.
    pub fn headings(&self, column: &str) -> Vec<String> {
        match &self.data_type {
            DataType::Struct { fields, .. } if !fields.is_empty() => {
                fields.iter().map(|field| format!("{column}.{}", field.name)).collect()
            }
            _other => vec![column.to_owned()],
        }
    }

    fn output<'a>(&self, text: &'a mut String, row_bytes: usize) -> Text<'a> {
        let room = TEXT_FLOOR.saturating_add(row_bytes.saturating_mul(self.text_per_byte));
        Text {
            limit: text.len().saturating_add(room),
            text,
        }
    }
}

/// Bytes of the names in a type: a row repeats them for each of its values.
fn names_of(data_type: &DataType) -> usize {
    let of_fields = |fields: &[Field]| -> usize {
        let each = |field: &Field| field.name.len().saturating_mul(6) + 8 + names_of(&field.data_type);
        fields.iter().map(each).sum()
    };
    match data_type {
        DataType::Option(inner) | DataType::List(inner) => 16 + names_of(inner),
        DataType::Map(key, value) => 32 + names_of(key) + names_of(value),
        DataType::Struct { fields, .. } => of_fields(fields),
        DataType::Enum { variants, .. } => {
            let each = |variant: &Variant| variant.name.len().saturating_mul(6) + 8 + of_fields(&variant.fields);
            variants.iter().map(each).sum()
        }
        _plain => 0,
    }
}

struct Text<'a> {
    text: &'a mut String,
    limit: usize,
}

impl Text<'_> {
    fn value(&mut self, data_type: &DataType, row: &mut RowReader<'_>) -> Result<(), RowError> {
        match data_type {
            DataType::Bool => self.push(if row.truth()? { "true" } else { "false" }),
            DataType::Int8 => self.number(i8::from_le_bytes(row.array()?)),
            DataType::Int16 => self.number(i16::from_le_bytes(row.array()?)),
            DataType::Int32 => self.number(i32::from_le_bytes(row.array()?)),
            DataType::Int64 => self.number(i64::from_le_bytes(row.array()?)),
            DataType::UInt8 => self.number(u8::from_le_bytes(row.array()?)),
            DataType::UInt16 => self.number(u16::from_le_bytes(row.array()?)),
            DataType::UInt32 => self.number(u32::from_le_bytes(row.array()?)),
            DataType::UInt64 => self.number(u64::from_le_bytes(row.array()?)),
            DataType::Float32 => self.float32(f32::from_le_bytes(row.array()?)),
            DataType::Float64 => self.float64(f64::from_le_bytes(row.array()?)),
            DataType::String => self.string(row.text()?),
            DataType::Bytes => {
                self.push("\"");
                self.hexadecimal(row.bytes()?);
                self.push("\"");
            }
            DataType::Option(inner) => self.option(inner, row)?,
            DataType::List(item) => {
                let count = row.count()?;
                self.sequence("[", count, "]", |text, _index| text.value(item, row))?;
            }
            DataType::Map(key, value) => self.map(key, value, row)?,
            DataType::Struct { fields, .. } => self.fields(fields, row)?,
            DataType::Enum { variants, .. } => self.variant(variants, row)?,
        }
        self.check()
    }

    /// A value in a column of its own: text without quotes, nothing as the empty text.
    fn cell(&mut self, data_type: &DataType, row: &mut RowReader<'_>) -> Result<(), RowError> {
        match data_type {
            DataType::String => self.push(row.text()?),
            DataType::Bytes => self.hexadecimal(row.bytes()?),
            DataType::Option(inner) if !may_be_null(inner) => {
                if row.truth()? {
                    self.cell(inner, row)?;
                }
            }
            DataType::Enum { variants, .. } if variants.iter().all(|variant| variant.fields.is_empty()) => {
                self.push(&chosen(variants, row)?.name);
            }
            other => self.value(other, row)?,
        }
        self.check()
    }

    fn option(&mut self, inner: &DataType, row: &mut RowReader<'_>) -> Result<(), RowError> {
        if !row.truth()? {
            self.push("null");
            return Ok(());
        }
        if !may_be_null(inner) {
            return self.value(inner, row);
        }
        self.push("{\"");
        self.push(SOME);
        self.push("\":");
        self.value(inner, row)?;
        self.push("}");
        Ok(())
    }

    fn map(&mut self, key: &DataType, value: &DataType, row: &mut RowReader<'_>) -> Result<(), RowError> {
        let count = row.count()?;
        if *key == DataType::String {
            return self.sequence("{", count, "}", |text, _index| {
                text.string(row.text()?);
                text.push(":");
                text.value(value, row)
            });
        }
        self.sequence("[", count, "]", |text, _index| {
            text.push("{\"key\":");
            text.value(key, row)?;
            text.push(",\"value\":");
            text.value(value, row)?;
            text.push("}");
            Ok(())
        })
    }

    fn fields(&mut self, fields: &[Field], row: &mut RowReader<'_>) -> Result<(), RowError> {
        if is_tuple(fields) {
            return self.sequence("[", fields.len(), "]", |text, index| {
                text.value(&fields[index].data_type, row)
            });
        }
        self.sequence("{", fields.len(), "}", |text, index| {
            text.string(&fields[index].name);
            text.push(":");
            text.value(&fields[index].data_type, row)
        })
    }

    fn variant(&mut self, variants: &[Variant], row: &mut RowReader<'_>) -> Result<(), RowError> {
        let variant = chosen(variants, row)?;
        if variant.fields.is_empty() {
            self.string(&variant.name);
            return Ok(());
        }
        self.push("{");
        self.string(&variant.name);
        self.push(":");
        self.fields(&variant.fields, row)?;
        self.push("}");
        Ok(())
    }

    fn sequence(
        &mut self,
        open: &str,
        count: usize,
        close: &str,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        self.push(open);
        for index in 0..count {
            if index > 0 {
                self.push(",");
            }
            each(self, index)?;
        }
        self.push(close);
        Ok(())
    }

    fn float32(&mut self, value: f32) {
        if value.is_nan() && value.to_bits() != f32::NAN.to_bits() {
            self.push(&format!("\"NaN:{:08x}\"", value.to_bits()));
        } else {
            self.float(value.is_finite(), value.into(), &format!("{value:?}"));
        }
    }

    fn float64(&mut self, value: f64) {
        if value.is_nan() && value.to_bits() != f64::NAN.to_bits() {
            self.push(&format!("\"NaN:{:016x}\"", value.to_bits()));
        } else {
            self.float(value.is_finite(), value, &format!("{value:?}"));
        }
    }

    fn float(&mut self, is_finite: bool, value: f64, digits: &str) {
        match is_finite {
            true => self.push(digits),
            false if value.is_nan() => self.push("\"NaN\""),
            false if value > 0.0 => self.push("\"Infinity\""),
            false => self.push("\"-Infinity\""),
        }
    }

    fn number(&mut self, value: impl std::fmt::Display) {
        write!(self.text, "{value}").expect("a string takes any text");
    }

    fn string(&mut self, text: &str) {
        let json = serde_json::to_string(text).expect("a text is JSON");
        self.push(&json);
    }

    fn hexadecimal(&mut self, bytes: &[u8]) {
        self.push("0x");
        for byte in bytes {
            write!(self.text, "{byte:02x}").expect("a string takes any text");
        }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn check(&self) -> Result<(), RowError> {
        if self.text.len() > self.limit {
            return Err(RowError::Invalid {
                what: "a row that takes few bytes and much text",
                value: self.text.len() as u64,
            });
        }
        Ok(())
    }
}

fn chosen<'a>(variants: &'a [Variant], row: &mut RowReader<'_>) -> Result<&'a Variant, RowError> {
    let index = row.count()?;
    variants.get(index).ok_or(RowError::Invalid {
        what: "the variant of an enum",
        value: index as u64,
    })
}
