//! Records to columns.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder,
    Int64Builder, StringBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use serde::ser::{self, Impossible, Serialize, Serializer};

mod nested;

use nested::{ListRow, MapRow, StructRow, TupleRow};

/// Why a record does not fit its columns.
#[derive(Debug)]
pub(super) struct Misfit(String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

impl ser::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// A column in the making.
pub(super) struct Column {
    field: FieldRef,
    values: Values,
}

enum Values {
    Bool(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    List {
        element: Box<Column>,
        /// How many elements each row has.
        lengths: Vec<usize>,
        rows: NullBufferBuilder,
    },
    Map {
        key: Box<Column>,
        value: Box<Column>,
        /// The pairs of them.
        entries: FieldRef,
        /// How many entries each row has.
        lengths: Vec<usize>,
        rows: NullBufferBuilder,
    },
    Struct {
        fields: Vec<Column>,
        /// How many rows there are.
        count: usize,
        rows: NullBufferBuilder,
    },
}

impl Column {
    /// The columns of a struct, as one.
    pub(super) fn of(fields: &Fields) -> Result<Self, Misfit> {
        Self::new(&Arc::new(Field::new("record", DataType::Struct(fields.clone()), false)))
    }

    fn new(field: &FieldRef) -> Result<Self, Misfit> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Bool(BooleanBuilder::new()),
            DataType::Int8 => Values::Int8(Int8Builder::new()),
            DataType::Int16 => Values::Int16(Int16Builder::new()),
            DataType::Int32 => Values::Int32(Int32Builder::new()),
            DataType::Int64 => Values::Int64(Int64Builder::new()),
            DataType::UInt8 => Values::UInt8(UInt8Builder::new()),
            DataType::UInt16 => Values::UInt16(UInt16Builder::new()),
            DataType::UInt32 => Values::UInt32(UInt32Builder::new()),
            DataType::UInt64 => Values::UInt64(UInt64Builder::new()),
            DataType::Float32 => Values::Float32(Float32Builder::new()),
            DataType::Float64 => Values::Float64(Float64Builder::new()),
            DataType::Utf8 => Values::Text(StringBuilder::new()),
            DataType::Binary => Values::Bytes(BinaryBuilder::new()),
            DataType::List(element) => Values::List {
                element: Box::new(Self::new(element)?),
                lengths: Vec::new(),
                rows: NullBufferBuilder::new(0),
            },
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(Misfit(format!("a map of `{entries}` is none")));
                };
                Values::Map {
                    key: Box::new(Self::new(&pair[0])?),
                    value: Box::new(Self::new(&pair[1])?),
                    entries: entries.clone(),
                    lengths: Vec::new(),
                    rows: NullBufferBuilder::new(0),
                }
            }
            DataType::Struct(fields) => Values::Struct {
                fields: fields.iter().map(Self::new).collect::<Result<_, _>>()?,
                count: 0,
                rows: NullBufferBuilder::new(0),
            },
            other => return Err(Misfit(format!("columns of type `{other}` are not written"))),
        };
        Ok(Self {
            field: field.clone(),
            values,
        })
    }

    /// Takes what was gathered.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match &mut self.values {
            Values::Bool(builder) => Arc::new(builder.finish()),
            Values::Int8(builder) => Arc::new(builder.finish()),
            Values::Int16(builder) => Arc::new(builder.finish()),
            Values::Int32(builder) => Arc::new(builder.finish()),
            Values::Int64(builder) => Arc::new(builder.finish()),
            Values::UInt8(builder) => Arc::new(builder.finish()),
            Values::UInt16(builder) => Arc::new(builder.finish()),
            Values::UInt32(builder) => Arc::new(builder.finish()),
            Values::UInt64(builder) => Arc::new(builder.finish()),
            Values::Float32(builder) => Arc::new(builder.finish()),
            Values::Float64(builder) => Arc::new(builder.finish()),
            Values::Text(builder) => Arc::new(builder.finish()),
            Values::Bytes(builder) => Arc::new(builder.finish()),
            Values::List { element, lengths, rows } => {
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                let field = element.field.clone();
                Arc::new(ListArray::new(field, offsets, element.finish(), rows.finish()))
            }
            Values::Map {
                key,
                value,
                entries,
                lengths,
                rows,
            } => {
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                let pair = Fields::from(vec![key.field.clone(), value.field.clone()]);
                let pairs = StructArray::new(pair, vec![key.finish(), value.finish()], None);
                Arc::new(MapArray::new(entries.clone(), offsets, pairs, rows.finish(), false))
            }
            Values::Struct { fields, count, rows } => {
                *count = 0;
                let of_columns = fields.iter().map(|column| column.field.clone()).collect();
                let arrays = fields.iter_mut().map(Self::finish).collect();
                Arc::new(StructArray::new(of_columns, arrays, rows.finish()))
            }
        }
    }

    fn append_null(&mut self) -> Result<(), Misfit> {
        if !self.field.is_nullable() {
            return Err(Misfit(format!("`{}` is missing", self.field.name())));
        }
        self.append_nothing();
        Ok(())
    }

    /// A row without a value, for which nothing is asked: its own null, or one above it.
    fn append_nothing(&mut self) {
        match &mut self.values {
            Values::Bool(builder) => builder.append_null(),
            Values::Int8(builder) => builder.append_null(),
            Values::Int16(builder) => builder.append_null(),
            Values::Int32(builder) => builder.append_null(),
            Values::Int64(builder) => builder.append_null(),
            Values::UInt8(builder) => builder.append_null(),
            Values::UInt16(builder) => builder.append_null(),
            Values::UInt32(builder) => builder.append_null(),
            Values::UInt64(builder) => builder.append_null(),
            Values::Float32(builder) => builder.append_null(),
            Values::Float64(builder) => builder.append_null(),
            Values::Text(builder) => builder.append_null(),
            Values::Bytes(builder) => builder.append_null(),
            Values::List { lengths, rows, .. } | Values::Map { lengths, rows, .. } => {
                lengths.push(0);
                rows.append_null();
            }
            Values::Struct { fields, count, rows } => {
                fields.iter_mut().for_each(Self::append_default);
                *count += 1;
                rows.append_null();
            }
        }
    }

    /// A value that is behind a null: it may not be null itself.
    fn append_default(&mut self) {
        if self.field.is_nullable() {
            self.append_nothing();
            return;
        }
        match &mut self.values {
            Values::Bool(builder) => builder.append_value(false),
            Values::Int8(builder) => builder.append_value(0),
            Values::Int16(builder) => builder.append_value(0),
            Values::Int32(builder) => builder.append_value(0),
            Values::Int64(builder) => builder.append_value(0),
            Values::UInt8(builder) => builder.append_value(0),
            Values::UInt16(builder) => builder.append_value(0),
            Values::UInt32(builder) => builder.append_value(0),
            Values::UInt64(builder) => builder.append_value(0),
            Values::Float32(builder) => builder.append_value(0.0),
            Values::Float64(builder) => builder.append_value(0.0),
            Values::Text(builder) => builder.append_value(""),
            Values::Bytes(builder) => builder.append_value(b""),
            Values::List { lengths, rows, .. } | Values::Map { lengths, rows, .. } => {
                lengths.push(0);
                rows.append_non_null();
            }
            Values::Struct { fields, count, rows } => {
                fields.iter_mut().for_each(Self::append_default);
                *count += 1;
                rows.append_non_null();
            }
        }
    }

    fn rows(&self) -> usize {
        use arrow_array::builder::ArrayBuilder as _;
        match &self.values {
            Values::Bool(builder) => builder.len(),
            Values::Int8(builder) => builder.len(),
            Values::Int16(builder) => builder.len(),
            Values::Int32(builder) => builder.len(),
            Values::Int64(builder) => builder.len(),
            Values::UInt8(builder) => builder.len(),
            Values::UInt16(builder) => builder.len(),
            Values::UInt32(builder) => builder.len(),
            Values::UInt64(builder) => builder.len(),
            Values::Float32(builder) => builder.len(),
            Values::Float64(builder) => builder.len(),
            Values::Text(builder) => builder.len(),
            Values::Bytes(builder) => builder.len(),
            Values::List { lengths, .. } | Values::Map { lengths, .. } => lengths.len(),
            Values::Struct { count, .. } => *count,
        }
    }

    fn integer(&mut self, value: i128) -> Result<(), Misfit> {
        let name = self.field.name();
        macro_rules! append {
            ($builder:expr) => {
                match value.try_into() {
                    Ok(value) => $builder.append_value(value),
                    Err(_) => return Err(Misfit(format!("{value} does not fit the column `{name}`"))),
                }
            };
        }
        match &mut self.values {
            Values::Int8(builder) => append!(builder),
            Values::Int16(builder) => append!(builder),
            Values::Int32(builder) => append!(builder),
            Values::Int64(builder) => append!(builder),
            Values::UInt8(builder) => append!(builder),
            Values::UInt16(builder) => append!(builder),
            Values::UInt32(builder) => append!(builder),
            Values::UInt64(builder) => append!(builder),
            _ => return Err(self.other_kind("an integer")),
        }
        Ok(())
    }

    fn text(&mut self, value: &str) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Text(builder) => builder.append_value(value),
            _ => return Err(self.other_kind("a string")),
        }
        Ok(())
    }

    fn other_kind(&self, what: &str) -> Misfit {
        other_kind(&self.field, what)
    }

    fn begin_struct(&mut self) -> Result<StructRow<'_>, Misfit> {
        match &mut self.values {
            Values::Struct { fields, count, rows } => Ok(StructRow {
                fields,
                count,
                rows,
                next: 0,
            }),
            _ => Err(other_kind(&self.field, "a struct or a tuple")),
        }
    }
}

fn other_kind(field: &Field, what: &str) -> Misfit {
    let (name, data_type) = (field.name(), field.data_type());
    Misfit(format!(
        "the column `{name}` is of type `{data_type}` and was given {what}"
    ))
}

impl<'a> Serializer for &'a mut Column {
    type Ok = ();
    type Error = Misfit;
    type SerializeSeq = ListRow<'a>;
    type SerializeTuple = TupleRow<'a>;
    type SerializeTupleStruct = TupleRow<'a>;
    type SerializeTupleVariant = Impossible<(), Misfit>;
    type SerializeMap = MapRow<'a>;
    type SerializeStruct = StructRow<'a>;
    type SerializeStructVariant = Impossible<(), Misfit>;

    fn serialize_bool(self, value: bool) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Bool(builder) => builder.append_value(value),
            _ => return Err(self.other_kind("a boolean")),
        }
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Misfit> {
        self.integer(value.into())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Float32(builder) => builder.append_value(value),
            _ => return self.serialize_f64(value.into()),
        }
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Float64(builder) => builder.append_value(value),
            _ => return Err(self.other_kind("a number with a fraction")),
        }
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Misfit> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Misfit> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Bytes(builder) => builder.append_value(value),
            _ => return Err(self.other_kind("bytes")),
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Misfit> {
        self.append_null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Misfit> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Misfit> {
        self.append_null()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Misfit> {
        self.append_null()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<(), Misfit> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<(), Misfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<(), Misfit> {
        Err(self.other_kind("an enum with fields"))
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<ListRow<'a>, Misfit> {
        match &mut self.values {
            Values::List { element, lengths, rows } => Ok(ListRow {
                element,
                lengths,
                rows,
                length: 0,
            }),
            _ => Err(other_kind(&self.field, "a list")),
        }
    }

    fn serialize_tuple(self, _length: usize) -> Result<TupleRow<'a>, Misfit> {
        Ok(TupleRow(self.begin_struct()?))
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<TupleRow<'a>, Misfit> {
        self.serialize_tuple(length)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, Misfit> {
        Err(self.other_kind("an enum with fields"))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<MapRow<'a>, Misfit> {
        match &mut self.values {
            Values::Map {
                key,
                value,
                lengths,
                rows,
                ..
            } => Ok(MapRow {
                key,
                value,
                lengths,
                rows,
                length: 0,
            }),
            _ => Err(other_kind(&self.field, "a map")),
        }
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<StructRow<'a>, Misfit> {
        self.begin_struct()
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, Misfit> {
        Err(self.other_kind("an enum with fields"))
    }
}
