//! One value of a column, for serde.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Why a value does not fit a record.
#[derive(Debug)]
pub(super) struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl de::Error for Unfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The value of a column in a row.
#[derive(Clone, Copy)]
pub(super) struct Cell<'a> {
    pub(super) array: &'a dyn Array,
    pub(super) row: usize,
}

impl Cell<'_> {
    fn in_column(name: &str) -> impl FnOnce(Unfit) -> Unfit + '_ {
        move |reason| Unfit(format!("column `{name}`: {}", reason.0))
    }
}

impl<'de> Deserializer<'de> for Cell<'de> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let (array, row) = (self.array, self.row);
        if array.is_null(row) {
            return visitor.visit_unit();
        }
        macro_rules! number {
            ($type:ty, $visit:ident) => {
                visitor.$visit(array.as_primitive::<$type>().value(row).into())
            };
        }
        match array.data_type() {
            DataType::Boolean => visitor.visit_bool(array.as_boolean().value(row)),
            DataType::Int8 => number!(Int8Type, visit_i64),
            DataType::Int16 => number!(Int16Type, visit_i64),
            DataType::Int32 => number!(Int32Type, visit_i64),
            DataType::Int64 => number!(Int64Type, visit_i64),
            DataType::UInt8 => number!(UInt8Type, visit_u64),
            DataType::UInt16 => number!(UInt16Type, visit_u64),
            DataType::UInt32 => number!(UInt32Type, visit_u64),
            DataType::UInt64 => number!(UInt64Type, visit_u64),
            DataType::Float32 => visitor.visit_f32(array.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => number!(Float64Type, visit_f64),
            DataType::Date32 => number!(Date32Type, visit_i64),
            DataType::Date64 => number!(Date64Type, visit_i64),
            DataType::Time32(TimeUnit::Second) => number!(Time32SecondType, visit_i64),
            DataType::Time32(_) => number!(Time32MillisecondType, visit_i64),
            DataType::Time64(TimeUnit::Microsecond) => number!(Time64MicrosecondType, visit_i64),
            DataType::Time64(_) => number!(Time64NanosecondType, visit_i64),
            DataType::Timestamp(TimeUnit::Second, _) => number!(TimestampSecondType, visit_i64),
            DataType::Timestamp(TimeUnit::Millisecond, _) => number!(TimestampMillisecondType, visit_i64),
            DataType::Timestamp(TimeUnit::Microsecond, _) => number!(TimestampMicrosecondType, visit_i64),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => number!(TimestampNanosecondType, visit_i64),
            DataType::Utf8 => visitor.visit_borrowed_str(array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => visitor.visit_borrowed_str(array.as_string::<i64>().value(row)),
            DataType::Binary => visitor.visit_borrowed_bytes(array.as_binary::<i32>().value(row)),
            DataType::LargeBinary => visitor.visit_borrowed_bytes(array.as_binary::<i64>().value(row)),
            DataType::FixedSizeBinary(_) => visitor.visit_borrowed_bytes(array.as_fixed_size_binary().value(row)),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let offsets = list.value_offsets();
                let bounds = offsets[row] as usize..offsets[row + 1] as usize;
                visitor.visit_seq(Elements {
                    values: &**list.values(),
                    rows: bounds,
                })
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let offsets = map.value_offsets();
                visitor.visit_map(Entries {
                    keys: &**map.keys(),
                    values: &**map.values(),
                    rows: offsets[row] as usize..offsets[row + 1] as usize,
                })
            }
            DataType::Struct(_) => visitor.visit_map(Row::of(self)),
            other => Err(Unfit(format!("columns of type `{other}` are not read"))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.array.is_null(self.row) {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Unfit> {
        match self.array.data_type() {
            DataType::Struct(_) if !self.array.is_null(self.row) => visitor.visit_seq(Row::of(self)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        match self.array.data_type() {
            DataType::Utf8 if !self.array.is_null(self.row) => {
                let variant = self.array.as_string::<i32>().value(self.row);
                visitor.visit_enum(StrDeserializer::new(variant))
            }
            other => Err(Unfit(format!("an enum is read from strings, and not from `{other}`"))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq map struct
        identifier ignored_any
    }
}

/// The elements of a list.
struct Elements<'a> {
    values: &'a dyn Array,
    rows: std::ops::Range<usize>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Unfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unfit> {
        let array = self.values;
        self.rows
            .next()
            .map(|row| seed.deserialize(Cell { array, row }))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rows.len())
    }
}

/// The entries of a map.
struct Entries<'a> {
    keys: &'a dyn Array,
    values: &'a dyn Array,
    /// Those that are left, the one whose key was read among them until its value is.
    rows: std::ops::Range<usize>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Unfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unfit> {
        let (array, row) = (self.keys, self.rows.start);
        (!self.rows.is_empty())
            .then(|| seed.deserialize(Cell { array, row }))
            .transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unfit> {
        let (array, row) = (self.values, self.rows.start);
        self.rows.start += 1;
        seed.deserialize(Cell { array, row })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rows.len())
    }
}

/// The fields of a struct.
struct Row<'a> {
    names: Vec<&'a str>,
    columns: &'a [ArrayRef],
    row: usize,
    next: usize,
}

impl<'a> Row<'a> {
    fn of(cell: Cell<'a>) -> Self {
        let array = cell.array.as_struct();
        Self {
            names: array.column_names(),
            columns: array.columns(),
            row: cell.row,
            next: 0,
        }
    }

    fn value<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Unfit> {
        let (array, name) = (&*self.columns[self.next], self.names[self.next]);
        self.next += 1;
        let cell = Cell { array, row: self.row };
        seed.deserialize(cell).map_err(Cell::in_column(name))
    }
}

impl<'de> MapAccess<'de> for Row<'de> {
    type Error = Unfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unfit> {
        let name = self.names.get(self.next);
        name.map(|name| seed.deserialize(StrDeserializer::new(name)))
            .transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unfit> {
        self.value(seed)
    }
}

impl<'de> SeqAccess<'de> for Row<'de> {
    type Error = Unfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unfit> {
        match self.next < self.columns.len() {
            true => self.value(seed).map(Some),
            false => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.columns.len() - self.next)
    }
}
