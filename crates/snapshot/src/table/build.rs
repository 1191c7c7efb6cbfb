//! Encoded rows into Arrow columns.

use std::sync::Arc;

use arrow_array::builder::{BooleanBufferBuilder, NullBufferBuilder};
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType as Arrow, Field as ArrowField, FieldRef, Fields};
use streamd_core::row::{DataType, RowError, RowReader};

use super::types;

/// Takes the values of one column out of encoded rows.
pub(super) enum ColumnBuilder {
    Bool(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Text(Runs),
    Bytes(Runs),
    Option {
        valid: NullBufferBuilder,
        inner: Box<ColumnBuilder>,
    },
    List {
        ends: Vec<i32>,
        field: FieldRef,
        item: Box<ColumnBuilder>,
    },
    Map {
        ends: Vec<i32>,
        field: FieldRef,
        key: Box<ColumnBuilder>,
        value: Box<ColumnBuilder>,
    },
    Struct {
        rows: usize,
        fields: Fields,
        columns: Vec<ColumnBuilder>,
    },
    PlainEnum {
        names: Vec<String>,
        text: Runs,
    },
    Enum {
        names: Vec<String>,
        text: Runs,
        fields: Fields,
        bodies: Vec<Option<Body>>,
    },
}

/// Byte strings, end to end.
pub(super) struct Runs {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

/// The fields of a variant of an enum.
pub(super) struct Body {
    valid: NullBufferBuilder,
    fields: Fields,
    columns: Vec<ColumnBuilder>,
}

/// Appends the fixed-width values of a row, or a zero for an absent one, to the matching column.
macro_rules! each_number {
    ($self:ident, $values:ident => $body:expr, $($rest:tt)*) => {
        match $self {
            Self::Int8($values) => $body,
            Self::Int16($values) => $body,
            Self::Int32($values) => $body,
            Self::Int64($values) => $body,
            Self::UInt8($values) => $body,
            Self::UInt16($values) => $body,
            Self::UInt32($values) => $body,
            Self::UInt64($values) => $body,
            Self::Float32($values) => $body,
            Self::Float64($values) => $body,
            $($rest)*
        }
    };
}

impl ColumnBuilder {
    /// A builder for a [`types::storable`] type.
    pub(super) fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Self::Int8(Vec::new()),
            DataType::Int16 => Self::Int16(Vec::new()),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::UInt8 => Self::UInt8(Vec::new()),
            DataType::UInt16 => Self::UInt16(Vec::new()),
            DataType::UInt32 => Self::UInt32(Vec::new()),
            DataType::UInt64 => Self::UInt64(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::String => Self::Text(Runs::new()),
            DataType::Bytes => Self::Bytes(Runs::new()),
            DataType::Option(inner) => Self::Option {
                valid: NullBufferBuilder::new(0),
                inner: Box::new(Self::new(inner)),
            },
            DataType::List(item) => Self::List {
                ends: vec![0],
                field: Arc::new(types::item_field(item)),
                item: Box::new(Self::new(item)),
            },
            DataType::Map(key, value) => Self::Map {
                ends: vec![0],
                field: Arc::new(ArrowField::new(
                    "entries",
                    Arrow::Struct(types::entry_fields(key, value)),
                    false,
                )),
                key: Box::new(Self::new(key)),
                value: Box::new(Self::new(value)),
            },
            DataType::Struct { fields, .. } => Self::Struct {
                rows: 0,
                fields: types::struct_fields(fields),
                columns: fields.iter().map(|field| Self::new(&field.data_type)).collect(),
            },
            DataType::Enum { variants, .. } => Self::new_enum(variants),
        }
    }

    fn new_enum(variants: &[streamd_core::row::Variant]) -> Self {
        let names = variants.iter().map(|variant| variant.name.clone()).collect();
        if types::is_plain(variants) {
            return Self::PlainEnum {
                names,
                text: Runs::new(),
            };
        }
        let bodies = variants.iter().map(|variant| {
            (!variant.fields.is_empty()).then(|| Body {
                valid: NullBufferBuilder::new(0),
                fields: types::struct_fields(&variant.fields),
                columns: variant.fields.iter().map(|field| Self::new(&field.data_type)).collect(),
            })
        });
        Self::Enum {
            names,
            text: Runs::new(),
            fields: types::enum_fields(variants),
            bodies: bodies.collect(),
        }
    }

    /// Takes the next value out of the row.
    pub(super) fn append(&mut self, row: &mut RowReader<'_>) -> Result<(), RowError> {
        each_number! { self, values => values.push(number(row)?),
            Self::Bool(values) => values.append(row.truth()?),
            Self::Text(runs) => runs.push(row.text()?.as_bytes()),
            Self::Bytes(runs) => runs.push(row.bytes()?),
            Self::Option { valid, inner } => {
                if row.truth()? {
                    valid.append_non_null();
                    inner.append(row)?;
                } else {
                    valid.append_null();
                    inner.append_absent();
                }
            }
            Self::List { ends, item, .. } => {
                let count = row.elements()?;
                for _ in 0..count {
                    item.append(row)?;
                }
                push_end(ends, count)?;
            }
            Self::Map { ends, key, value, .. } => {
                let count = row.elements()?;
                for _ in 0..count {
                    key.append(row)?;
                    value.append(row)?;
                }
                push_end(ends, count)?;
            }
            Self::Struct { rows, columns, .. } => {
                *rows += 1;
                columns.iter_mut().try_for_each(|column| column.append(row))?;
            }
            Self::PlainEnum { names, text } => text.push(names[variant(row, names.len())?].as_bytes()),
            Self::Enum { names, text, bodies, .. } => {
                let chosen = variant(row, names.len())?;
                text.push(names[chosen].as_bytes());
                for (index, body) in bodies.iter_mut().enumerate() {
                    let Some(body) = body else { continue };
                    if index == chosen {
                        body.valid.append_non_null();
                        body.columns.iter_mut().try_for_each(|column| column.append(row))?;
                    } else {
                        body.append_absent();
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills the place of a value that is not there because something around it is null.
    fn append_absent(&mut self) {
        each_number! { self, values => values.push(Default::default()),
            Self::Bool(values) => values.append(false),
            Self::Text(runs) | Self::Bytes(runs) | Self::PlainEnum { text: runs, .. } => runs.push(&[]),
            Self::Option { valid, inner } => {
                valid.append_null();
                inner.append_absent();
            }
            Self::List { ends, .. } | Self::Map { ends, .. } => ends.push(*ends.last().expect("begins with 0")),
            Self::Struct { rows, columns, .. } => {
                *rows += 1;
                columns.iter_mut().for_each(Self::append_absent);
            }
            Self::Enum { text, bodies, .. } => {
                text.push(&[]);
                bodies.iter_mut().flatten().for_each(Body::append_absent);
            }
        }
    }

    /// The column, and an empty builder again. `nulls` is set by the option around it.
    pub(super) fn take(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        match self {
            Self::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Int8(values) => numbers::<Int8Type>(values, nulls),
            Self::Int16(values) => numbers::<Int16Type>(values, nulls),
            Self::Int32(values) => numbers::<Int32Type>(values, nulls),
            Self::Int64(values) => numbers::<Int64Type>(values, nulls),
            Self::UInt8(values) => numbers::<UInt8Type>(values, nulls),
            Self::UInt16(values) => numbers::<UInt16Type>(values, nulls),
            Self::UInt32(values) => numbers::<UInt32Type>(values, nulls),
            Self::UInt64(values) => numbers::<UInt64Type>(values, nulls),
            Self::Float32(values) => numbers::<Float32Type>(values, nulls),
            Self::Float64(values) => numbers::<Float64Type>(values, nulls),
            Self::Text(runs) | Self::PlainEnum { text: runs, .. } => runs.take_text(nulls),
            Self::Bytes(runs) => runs.take_bytes(nulls),
            Self::Option { valid, inner } => {
                let nulls = valid.finish();
                inner.take(nulls)
            }
            Self::List { ends, field, item } => {
                Arc::new(ListArray::new(field.clone(), offsets(ends), item.take(None), nulls))
            }
            Self::Map {
                ends,
                field,
                key,
                value,
            } => {
                let Arrow::Struct(fields) = field.data_type().clone() else {
                    unreachable!("the entries of a map are built as a struct")
                };
                let entries = StructArray::new(fields, vec![key.take(None), value.take(None)], None);
                Arc::new(MapArray::new(field.clone(), offsets(ends), entries, nulls, false))
            }
            Self::Struct { rows, fields, columns } => record(fields, columns, std::mem::take(rows), nulls),
            Self::Enum {
                text, fields, bodies, ..
            } => {
                let name = text.take_text(None);
                let bodies = bodies.iter_mut().flatten().map(Body::take);
                let columns: Vec<ArrayRef> = std::iter::once(name).chain(bodies).collect();
                Arc::new(StructArray::new(fields.clone(), columns, nulls))
            }
        }
    }
}

impl Runs {
    fn new() -> Self {
        Self {
            ends: vec![0],
            bytes: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends
            .push(i32::try_from(self.bytes.len()).expect("a batch is flushed long before 2 GiB"));
    }

    fn take_text(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let bytes = std::mem::take(&mut self.bytes);
        Arc::new(StringArray::new(offsets(&mut self.ends), bytes.into(), nulls))
    }

    fn take_bytes(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let bytes = std::mem::take(&mut self.bytes);
        Arc::new(BinaryArray::new(offsets(&mut self.ends), bytes.into(), nulls))
    }
}

impl Body {
    fn append_absent(&mut self) {
        self.valid.append_null();
        self.columns.iter_mut().for_each(ColumnBuilder::append_absent);
    }

    fn take(&mut self) -> ArrayRef {
        let rows = self.valid.len();
        let nulls = self.valid.finish();
        record(&self.fields, &mut self.columns, rows, nulls)
    }
}

fn record(fields: &Fields, columns: &mut [ColumnBuilder], rows: usize, nulls: Option<NullBuffer>) -> ArrayRef {
    let arrays: Vec<ArrayRef> = if columns.is_empty() {
        vec![Arc::new(BooleanArray::new_null(rows))]
    } else {
        columns.iter_mut().map(|column| column.take(None)).collect()
    };
    Arc::new(StructArray::new(fields.clone(), arrays, nulls))
}

fn numbers<T: arrow_array::ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(
        ScalarBuffer::from(std::mem::take(values)),
        nulls,
    ))
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])))
}

/// A forged count of values without bytes (a list of units) is the only one that could be this large.
fn push_end(ends: &mut Vec<i32>, count: usize) -> Result<(), RowError> {
    let last = *ends.last().expect("begins with 0");
    let end = i32::try_from(count).ok().and_then(|count| last.checked_add(count));
    ends.push(end.ok_or(RowError::Invalid {
        what: "the length of a list",
        value: count as u64,
    })?);
    Ok(())
}

fn variant(row: &mut RowReader<'_>, variants: usize) -> Result<usize, RowError> {
    match row.count()? {
        index if index < variants => Ok(index),
        index => Err(RowError::Invalid {
            what: "the variant of an enum",
            value: index as u64,
        }),
    }
}

fn number<T: Number>(row: &mut RowReader<'_>) -> Result<T, RowError> {
    T::read(row)
}

trait Number: Sized {
    fn read(row: &mut RowReader<'_>) -> Result<Self, RowError>;
}

macro_rules! numbers {
    ($($rust:ty),*) => {$(
        impl Number for $rust {
            #[inline]
            fn read(row: &mut RowReader<'_>) -> Result<Self, RowError> {
                row.array().map(<$rust>::from_le_bytes)
            }
        }
    )*};
}

numbers!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);
