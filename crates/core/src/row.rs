//! The schema of a value, and its canonical encoding as a row of bytes.
//!
//! One encoding serves three readers: the hash of a key, the native checkpoint file, and the bridge to the typed
//! columns of a savepoint. It is positional and carries no tags: **bytes are only ever read with the schema that they
//! were written with**, which every snapshot stores beside them.
//!
//! | type | bytes |
//! |---|---|
//! | bool, integers, floats | fixed width, little endian; floats by their IEEE bits |
//! | string, bytes | `u32` length, then the bytes |
//! | option | `u8` 0 or 1, then the value if 1 |
//! | list | `u32` count, then the elements |
//! | map | `u32` count, then key and value of each entry, in the order of the keys |
//! | struct | the fields in order |
//! | enum | `u32` index of the variant, then its fields in order |

use serde::{Deserialize, Serialize};

/// How deep types may nest. Bounds recursion over schemas that come from outside.
pub const MAX_TYPE_DEPTH: usize = 32;

/// Elements of one list or map that may take no bytes at all, as those of a list of units do. Their number is all that is
/// stored of them, so a forged one costs time and no bytes; nobody keeps more of them in earnest.
pub const MAX_EMPTY_ELEMENTS: usize = 64 << 10;

/// The type of a stored value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// Truth value, one byte.
    Bool,
    /// Signed 8-bit integer.
    Int8,
    /// Signed 16-bit integer.
    Int16,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer.
    Int64,
    /// Unsigned 8-bit integer.
    #[serde(rename = "uint8")]
    UInt8,
    /// Unsigned 16-bit integer.
    #[serde(rename = "uint16")]
    UInt16,
    /// Unsigned 32-bit integer.
    #[serde(rename = "uint32")]
    UInt32,
    /// Unsigned 64-bit integer.
    #[serde(rename = "uint64")]
    UInt64,
    /// 32-bit IEEE float.
    Float32,
    /// 64-bit IEEE float.
    Float64,
    /// UTF-8 text.
    String,
    /// Raw bytes.
    Bytes,
    /// A value or nothing.
    Option(Box<DataType>),
    /// Any number of values of one type.
    List(Box<DataType>),
    /// Keys to values.
    Map(Box<DataType>, Box<DataType>),
    /// Named fields. A tuple has the field names `0`, `1`, …; the unit type has none.
    Struct {
        /// The name of the Rust type, for people.
        name: String,
        /// The fields, in encoding order.
        fields: Vec<Field>,
    },
    /// One of several variants.
    Enum {
        /// The name of the Rust type, for people.
        name: String,
        /// The variants; their position is their encoded index.
        variants: Vec<Variant>,
    },
}

/// A field of a struct or of an enum's variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// The name: the identity of the field over versions of the application.
    pub name: String,
    /// The type of its values.
    pub data_type: DataType,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Variant {
    /// The name: the identity of the variant over versions of the application.
    pub name: String,
    /// Its fields; none for a plain variant.
    pub fields: Vec<Field>,
}

impl DataType {
    /// A struct with this name of the Rust type, and these fields by name.
    pub fn structure<const N: usize>(name: &str, fields: [(&str, DataType); N]) -> Self {
        let field = |(name, data_type): (&str, DataType)| Field {
            name: name.to_owned(),
            data_type,
        };
        Self::Struct {
            name: name.to_owned(),
            fields: fields.map(field).into(),
        }
    }

    /// How deep the type nests: 1 for a plain value.
    pub fn depth(&self) -> usize {
        1 + match self {
            Self::Option(inner) | Self::List(inner) => inner.depth(),
            Self::Map(key, value) => key.depth().max(value.depth()),
            Self::Struct { fields, .. } => depth_of(fields),
            Self::Enum { variants, .. } => variants.iter().map(|v| depth_of(&v.fields)).max().unwrap_or(0),
            _plain => 0,
        }
    }

    /// Whether rows of this type are rows of the other: the same fields and variants of the same types, in the same order.
    /// The names of the Rust types are for people and may differ.
    pub fn is_same_schema(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Option(a), Self::Option(b)) | (Self::List(a), Self::List(b)) => a.is_same_schema(b),
            (Self::Map(a, x), Self::Map(b, y)) => a.is_same_schema(b) && x.is_same_schema(y),
            (Self::Struct { fields: a, .. }, Self::Struct { fields: b, .. }) => are_same(a, b),
            (Self::Enum { variants: a, .. }, Self::Enum { variants: b, .. }) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|(a, b)| a.name == b.name && are_same(&a.fields, &b.fields))
            }
            (plain, other) => plain == other,
        }
    }
}

fn are_same(a: &[Field], b: &[Field]) -> bool {
    let same = |(a, b): (&Field, &Field)| a.name == b.name && a.data_type.is_same_schema(&b.data_type);
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn depth_of(fields: &[Field]) -> usize {
    fields.iter().map(|field| field.data_type.depth()).max().unwrap_or(0)
}

/// Why bytes are not a row of the type they were read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row ends inside a value.
    #[error("row ends after {available} bytes where {needed} more are needed")]
    Truncated {
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are left.
        available: usize,
    },
    /// The row goes on after the last value.
    #[error("{extra} bytes are left over after the last value of the row")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// A byte that stands for no value of the type.
    #[error("{what} has the impossible value {value}")]
    Invalid {
        /// The kind of value.
        what: &'static str,
        /// What was read.
        value: u64,
    },
    /// Text that is not UTF-8.
    #[error("text is not valid UTF-8")]
    NotUtf8,
}

/// Reads the values of one row in order. Never reads or allocates beyond the bytes it was given.
#[derive(Debug, Clone)]
pub struct RowReader<'a> {
    rest: &'a [u8],
}

impl<'a> RowReader<'a> {
    /// A reader of these bytes.
    pub fn new(row: &'a [u8]) -> Self {
        Self { rest: row }
    }

    /// The bytes not yet read.
    pub fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], RowError> {
        if count > self.rest.len() {
            return Err(RowError::Truncated {
                needed: count,
                available: self.rest.len(),
            });
        }
        let (head, tail) = self.rest.split_at(count);
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes, for a fixed-width value.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        self.take(N)
            .map(|bytes| bytes.try_into().expect("take returns as many bytes as asked for"))
    }

    /// A count or length.
    pub fn count(&mut self) -> Result<usize, RowError> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// A truth value.
    pub fn truth(&mut self) -> Result<bool, RowError> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(RowError::Invalid {
                what: "a truth value",
                value: other.into(),
            }),
        }
    }

    /// The count of a list or map, which is no larger than what may follow: elements take bytes, or are few. Whoever loops over
    /// it does so in time that the length of the row bounds.
    pub fn elements(&mut self) -> Result<usize, RowError> {
        let count = self.count()?;
        if count > self.rest.len().max(MAX_EMPTY_ELEMENTS) {
            return Err(RowError::Truncated {
                needed: count,
                available: self.rest.len(),
            });
        }
        Ok(count)
    }

    /// The bytes of the next value of this type, whole.
    pub fn value(&mut self, data_type: &DataType) -> Result<&'a [u8], RowError> {
        let before = self.rest;
        self.skip(data_type)?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    fn skip(&mut self, data_type: &DataType) -> Result<(), RowError> {
        match data_type {
            DataType::Bool | DataType::Int8 | DataType::UInt8 => self.take(1).map(drop),
            DataType::Int16 | DataType::UInt16 => self.take(2).map(drop),
            DataType::Int32 | DataType::UInt32 | DataType::Float32 => self.take(4).map(drop),
            DataType::Int64 | DataType::UInt64 | DataType::Float64 => self.take(8).map(drop),
            DataType::String | DataType::Bytes => self.bytes().map(drop),
            DataType::Option(inner) => match self.truth()? {
                true => self.skip(inner),
                false => Ok(()),
            },
            DataType::List(item) => {
                let count = self.elements()?;
                (0..count).try_for_each(|_| self.skip(item))
            }
            DataType::Map(key, value) => {
                let count = self.elements()?;
                (0..count).try_for_each(|_| self.skip(key).and_then(|()| self.skip(value)))
            }
            DataType::Struct { fields, .. } => self.skip_fields(fields),
            DataType::Enum { variants, .. } => {
                let index = self.count()?;
                let variant = variants.get(index).ok_or(RowError::Invalid {
                    what: "the variant of an enum",
                    value: index as u64,
                })?;
                self.skip_fields(&variant.fields)
            }
        }
    }

    fn skip_fields(&mut self, fields: &[Field]) -> Result<(), RowError> {
        fields.iter().try_for_each(|field| self.skip(&field.data_type))
    }

    /// The bytes of a string or byte value.
    pub fn bytes(&mut self) -> Result<&'a [u8], RowError> {
        let length = self.count()?;
        self.take(length)
    }

    /// The text of a string value.
    pub fn text(&mut self) -> Result<&'a str, RowError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| RowError::NotUtf8)
    }

    /// Succeeds if every byte has been read.
    pub fn finish(self) -> Result<(), RowError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(RowError::TrailingBytes { extra }),
        }
    }
}

/// Appends a count or length. Values of more than 4 GiB are refused by panic: no state value may be that large.
pub fn write_count(row: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a single value holds fewer than 2^32 bytes or elements");
    row.extend_from_slice(&count.to_le_bytes());
}

/// Appends a string or byte value.
pub fn write_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    write_count(row, bytes.len());
    row.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, field: &str, data_type: DataType) -> DataType {
        DataType::List(Box::new(DataType::structure(name, [(field, data_type)])))
    }

    #[test]
    fn a_renamed_type_has_the_same_schema_and_a_renamed_field_has_not() {
        let old = record("Delay", "minutes", DataType::Int64);
        assert!(old.is_same_schema(&record("Delays", "minutes", DataType::Int64)));
        assert!(!old.is_same_schema(&record("Delay", "hours", DataType::Int64)));
        assert!(!old.is_same_schema(&record("Delay", "minutes", DataType::Int32)));
    }
}
