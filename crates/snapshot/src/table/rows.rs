//! Arrow columns back into encoded rows.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray};
use streamd_core::row::{DataType, Field, Variant, write_bytes, write_count};

use super::types;

/// One column, with its types resolved once for all rows. The column must have the Arrow type of the data type.
pub(super) enum ColumnReader<'a> {
    Bool(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt8(&'a PrimitiveArray<UInt8Type>),
    UInt16(&'a PrimitiveArray<UInt16Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Option {
        array: &'a dyn Array,
        inner: Box<ColumnReader<'a>>,
    },
    List {
        array: &'a ListArray,
        item: Box<ColumnReader<'a>>,
    },
    Map {
        array: &'a MapArray,
        key: Box<ColumnReader<'a>>,
        value: Box<ColumnReader<'a>>,
    },
    Struct(Vec<ColumnReader<'a>>),
    PlainEnum {
        names: &'a StringArray,
        variants: Vec<&'a str>,
    },
    Enum {
        names: &'a StringArray,
        variants: Vec<(&'a str, Option<Body<'a>>)>,
    },
}

/// The fields of a variant of an enum.
pub(super) struct Body<'a> {
    array: &'a StructArray,
    columns: Vec<ColumnReader<'a>>,
}

/// Why a column holds no value of its type: what only another writer than streamd could make.
pub(super) type Impossible = String;

impl<'a> ColumnReader<'a> {
    /// A reader of a column that was built from a [`types::storable`] type.
    pub(super) fn new(array: &'a dyn Array, data_type: &'a DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Bool(array.as_boolean()),
            DataType::Int8 => Self::Int8(array.as_primitive()),
            DataType::Int16 => Self::Int16(array.as_primitive()),
            DataType::Int32 => Self::Int32(array.as_primitive()),
            DataType::Int64 => Self::Int64(array.as_primitive()),
            DataType::UInt8 => Self::UInt8(array.as_primitive()),
            DataType::UInt16 => Self::UInt16(array.as_primitive()),
            DataType::UInt32 => Self::UInt32(array.as_primitive()),
            DataType::UInt64 => Self::UInt64(array.as_primitive()),
            DataType::Float32 => Self::Float32(array.as_primitive()),
            DataType::Float64 => Self::Float64(array.as_primitive()),
            DataType::String => Self::Text(array.as_string()),
            DataType::Bytes => Self::Bytes(array.as_binary()),
            DataType::Option(inner) => Self::Option {
                array,
                inner: Box::new(Self::new(array, inner)),
            },
            DataType::List(item) => {
                let array = array.as_list();
                Self::List {
                    array,
                    item: Box::new(Self::new(array.values().as_ref(), item)),
                }
            }
            DataType::Map(key, value) => {
                let array = array.as_map();
                Self::Map {
                    array,
                    key: Box::new(Self::new(array.keys().as_ref(), key)),
                    value: Box::new(Self::new(array.values().as_ref(), value)),
                }
            }
            DataType::Struct { fields, .. } => Self::Struct(columns(array.as_struct(), fields)),
            DataType::Enum { variants, .. } => Self::new_enum(array, variants),
        }
    }

    fn new_enum(array: &'a dyn Array, variants: &'a [Variant]) -> Self {
        if types::is_plain(variants) {
            let variants = variants.iter().map(|variant| variant.name.as_str()).collect();
            return Self::PlainEnum {
                names: array.as_string(),
                variants,
            };
        }
        let array = array.as_struct();
        let mut bodies = array.columns().iter().skip(1);
        let mut read = Vec::with_capacity(variants.len());
        for variant in variants {
            let body = if variant.fields.is_empty() { None } else { bodies.next() };
            let body = body.map(|body| {
                let array = body.as_struct();
                Body {
                    array,
                    columns: columns(array, &variant.fields),
                }
            });
            read.push((variant.name.as_str(), body));
        }
        Self::Enum {
            names: array.column(0).as_string(),
            variants: read,
        }
    }

    /// Appends the encoding of the value at this position.
    pub(super) fn append_to(&self, row: &mut Vec<u8>, at: usize) -> Result<(), Impossible> {
        match self {
            Self::Bool(array) => row.push(u8::from(array.value(at))),
            Self::Int8(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::Int16(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::Int32(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::Int64(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::UInt8(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::UInt16(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::UInt32(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::UInt64(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::Float32(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::Float64(array) => row.extend_from_slice(&array.value(at).to_le_bytes()),
            Self::Text(array) => write_bytes(row, array.value(at).as_bytes()),
            Self::Bytes(array) => write_bytes(row, array.value(at)),
            Self::Option { array, inner } => {
                let is_some = array.is_valid(at);
                row.push(u8::from(is_some));
                if is_some {
                    inner.append_to(row, at)?;
                }
            }
            Self::List { array, item } => {
                let (start, end) = bounds(array.value_offsets(), at);
                write_count(row, end - start);
                (start..end).try_for_each(|at| item.append_to(row, at))?;
            }
            Self::Map { array, key, value } => {
                let (start, end) = bounds(array.value_offsets(), at);
                write_count(row, end - start);
                for at in start..end {
                    key.append_to(row, at)?;
                    value.append_to(row, at)?;
                }
            }
            Self::Struct(columns) => columns.iter().try_for_each(|column| column.append_to(row, at))?,
            Self::PlainEnum { names, variants } => {
                let name = names.value(at);
                let chosen = variants
                    .iter()
                    .position(|variant| *variant == name)
                    .ok_or_else(|| unknown(name))?;
                write_count(row, chosen);
            }
            Self::Enum { names, variants } => append_enum(names.value(at), variants, row, at)?,
        }
        Ok(())
    }
}

fn append_enum(
    name: &str,
    variants: &[(&str, Option<Body<'_>>)],
    row: &mut Vec<u8>,
    at: usize,
) -> Result<(), Impossible> {
    let chosen = variants
        .iter()
        .position(|(variant, _body)| *variant == name)
        .ok_or_else(|| unknown(name))?;
    write_count(row, chosen);
    let Some(body) = &variants[chosen].1 else { return Ok(()) };
    if body.array.is_null(at) {
        return Err(format!("the fields of variant `{name}` are missing"));
    }
    body.columns.iter().try_for_each(|column| column.append_to(row, at))
}

fn columns<'a>(array: &'a StructArray, fields: &'a [Field]) -> Vec<ColumnReader<'a>> {
    // A struct without fields has a placeholder column, which the shorter side of the zip leaves out.
    fields
        .iter()
        .zip(array.columns())
        .map(|(field, column)| ColumnReader::new(column.as_ref(), &field.data_type))
        .collect()
}

fn bounds(offsets: &[i32], at: usize) -> (usize, usize) {
    (offsets[at] as usize, offsets[at + 1] as usize)
}

fn unknown(name: &str) -> Impossible {
    let shown: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
    format!("`{shown}` is no variant of its enum")
}
