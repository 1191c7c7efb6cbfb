//! The columns of a record type, found by watching what its `Deserialize` asks for.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// How deep types may nest: deeper is taken for a type that contains itself.
const MAX_DEPTH: usize = 32;

/// Why a type has no columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoColumns(pub(super) String);

impl fmt::Display for NoColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoColumns {}

impl de::Error for NoColumns {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The columns of `T`, which must be a struct or a tuple.
pub(super) fn fields_of<T: DeserializeOwned>() -> Result<Fields, NoColumns> {
    let mut shape = Shape::default();
    T::deserialize(Tracer {
        shape: &mut shape,
        depth: 0,
    })
    .map_err(|reason| NoColumns(format!("`{}` has no columns: {reason}", std::any::type_name::<T>())))?;
    match shape.data_type {
        Some(DataType::Struct(fields)) if !fields.is_empty() => Ok(fields),
        _ => Err(NoColumns(format!(
            "`{}` has no columns: it is no struct with fields, and no tuple",
            std::any::type_name::<T>()
        ))),
    }
}

/// What is known of a value.
#[derive(Default)]
struct Shape {
    data_type: Option<DataType>,
    is_nullable: bool,
}

impl Shape {
    fn field(self, name: &str) -> Result<Field, NoColumns> {
        let data_type = self
            .data_type
            .ok_or_else(|| NoColumns(format!("`{name}` holds nothing")))?;
        Ok(Field::new(name, data_type, self.is_nullable))
    }
}

/// Gives a value of whatever type is asked for, and notes the type.
struct Tracer<'a> {
    shape: &'a mut Shape,
    depth: usize,
}

impl Tracer<'_> {
    fn note(&mut self, data_type: DataType) -> Result<(), NoColumns> {
        if self.depth > MAX_DEPTH {
            return Err(NoColumns(format!(
                "it nests deeper than {MAX_DEPTH}: does it contain itself?"
            )));
        }
        self.shape.data_type = Some(data_type);
        Ok(())
    }
}

macro_rules! traced {
    ($($method:ident $visit:ident $value:expr, $data_type:expr;)*) => {
        $(
            fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, NoColumns> {
                self.note($data_type)?;
                visitor.$visit($value)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = NoColumns;

    traced! {
        deserialize_bool visit_bool false, DataType::Boolean;
        deserialize_i8 visit_i8 0, DataType::Int8;
        deserialize_i16 visit_i16 0, DataType::Int16;
        deserialize_i32 visit_i32 0, DataType::Int32;
        deserialize_i64 visit_i64 0, DataType::Int64;
        deserialize_u8 visit_u8 0, DataType::UInt8;
        deserialize_u16 visit_u16 0, DataType::UInt16;
        deserialize_u32 visit_u32 0, DataType::UInt32;
        deserialize_u64 visit_u64 0, DataType::UInt64;
        deserialize_f32 visit_f32 0.0, DataType::Float32;
        deserialize_f64 visit_f64 0.0, DataType::Float64;
        deserialize_char visit_char 'a', DataType::Utf8;
        deserialize_str visit_str "", DataType::Utf8;
        deserialize_string visit_str "", DataType::Utf8;
        deserialize_bytes visit_bytes b"", DataType::Binary;
        deserialize_byte_buf visit_bytes b"", DataType::Binary;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, NoColumns> {
        Err(NoColumns(
            "it does not say what it holds (`#[serde(flatten)]`, untagged enums)".to_owned(),
        ))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoColumns> {
        visitor.visit_unit()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoColumns> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoColumns> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, NoColumns> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoColumns> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoColumns> {
        self.shape.is_nullable = true;
        visitor.visit_some(Tracer {
            shape: self.shape,
            depth: self.depth + 1,
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, NoColumns> {
        let mut fields = TracedFields::new(self.depth, Names::Elements);
        let value = visitor.visit_seq(&mut fields)?;
        let Some(element) = fields.fields.pop() else {
            return Err(NoColumns("a sequence did not ask for an element".to_owned()));
        };
        self.note(DataType::List(Arc::new(element)))?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, NoColumns> {
        let mut fields = TracedFields::new(self.depth, Names::Positions(length));
        let value = visitor.visit_seq(&mut fields)?;
        self.note(DataType::Struct(fields.fields.into()))?;
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, NoColumns> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, NoColumns> {
        let mut fields = TracedFields::new(self.depth, Names::Entry);
        let value = visitor.visit_map(&mut fields)?;
        let [key, _value] = fields.fields.as_slice() else {
            return Err(NoColumns("a map did not ask for an entry".to_owned()));
        };
        if key.is_nullable() {
            return Err(NoColumns("the keys of a map may be missing".to_owned()));
        }
        let entries = Field::new("entries", DataType::Struct(fields.fields.into()), false);
        self.note(DataType::Map(Arc::new(entries), false))?;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoColumns> {
        let mut fields = TracedFields::new(self.depth, Names::Given(names));
        let value = visitor.visit_map(&mut fields)?;
        self.note(DataType::Struct(fields.fields.into()))?;
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoColumns> {
        self.note(DataType::Utf8)?;
        let first = variants
            .first()
            .ok_or_else(|| NoColumns("an enum without variants holds nothing".to_owned()))?;
        visitor.visit_enum(UnitVariant(first))
    }
}

#[derive(Clone, Copy)]
enum Names {
    /// Of a list: its one element.
    Elements,
    /// Of a map: the key and the value of its one entry.
    Entry,
    /// Of a tuple.
    Positions(usize),
    /// Of a struct.
    Given(&'static [&'static str]),
}

/// Gives one value for each field, and notes their types.
struct TracedFields {
    depth: usize,
    names: Names,
    next: usize,
    fields: Vec<Field>,
}

impl TracedFields {
    fn new(depth: usize, names: Names) -> Self {
        Self {
            depth: depth + 1,
            names,
            next: 0,
            fields: Vec::new(),
        }
    }

    fn name(&self) -> Option<String> {
        match self.names {
            Names::Elements => (self.next == 0).then(|| "item".to_owned()),
            Names::Entry => ["key", "value"].get(self.next).map(|name| (*name).to_owned()),
            Names::Positions(length) => (self.next < length).then(|| format!("f{}", self.next)),
            Names::Given(names) => names.get(self.next).map(|name| (*name).to_owned()),
        }
    }

    fn trace<'de, S: DeserializeSeed<'de>>(&mut self, name: &str, seed: S) -> Result<S::Value, NoColumns> {
        if self.depth > MAX_DEPTH {
            return Err(NoColumns(format!(
                "it nests deeper than {MAX_DEPTH}: does it contain itself?"
            )));
        }
        let mut shape = Shape::default();
        let value = seed.deserialize(Tracer {
            shape: &mut shape,
            depth: self.depth,
        })?;
        self.fields.push(shape.field(name)?);
        self.next += 1;
        Ok(value)
    }
}

impl<'de> SeqAccess<'de> for &mut TracedFields {
    type Error = NoColumns;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, NoColumns> {
        match self.name() {
            Some(name) => self.trace(&name, seed).map(Some),
            None => Ok(None),
        }
    }
}

impl<'de> MapAccess<'de> for &mut TracedFields {
    type Error = NoColumns;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, NoColumns> {
        match (self.names, self.name()) {
            (Names::Entry, Some(name)) => match self.next {
                0 => self.trace(&name, seed).map(Some),
                _second => Ok(None),
            },
            (_, Some(name)) => seed.deserialize(StrDeserializer::new(&name)).map(Some),
            (_, None) => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, NoColumns> {
        let name = self.name().unwrap_or_default();
        self.trace(&name, seed)
    }
}

/// The first variant of an enum.
struct UnitVariant(&'static str);

impl<'de> EnumAccess<'de> for UnitVariant {
    type Error = NoColumns;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), NoColumns> {
        Ok((seed.deserialize(StrDeserializer::new(self.0))?, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant {
    type Error = NoColumns;

    fn unit_variant(self) -> Result<(), NoColumns> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _seed: S) -> Result<S::Value, NoColumns> {
        Err(with_fields())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, _visitor: V) -> Result<V::Value, NoColumns> {
        Err(with_fields())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, NoColumns> {
        Err(with_fields())
    }
}

fn with_fields() -> NoColumns {
    NoColumns("an enum has variants with fields, which have no columns".to_owned())
}
