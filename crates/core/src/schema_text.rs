//! How a schema reads in a message: `Delay { flights: uint64, worst: option<int32> }`.

use std::fmt;

use crate::row::{DataType, Field, Variant};

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int8 => f.write_str("int8"),
            Self::Int16 => f.write_str("int16"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::UInt8 => f.write_str("uint8"),
            Self::UInt16 => f.write_str("uint16"),
            Self::UInt32 => f.write_str("uint32"),
            Self::UInt64 => f.write_str("uint64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Option(inner) => write!(f, "option<{inner}>"),
            Self::List(item) => write!(f, "list<{item}>"),
            Self::Map(key, value) => write!(f, "map<{key}, {value}>"),
            Self::Struct { name, fields } => {
                f.write_str(name)?;
                write_fields(f, fields)
            }
            Self::Enum { name, variants } => {
                write!(f, "{name} [")?;
                separated(f, variants, " | ", |f, Variant { name, fields }| {
                    f.write_str(name)?;
                    write_fields(f, fields)
                })?;
                f.write_str("]")
            }
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[Field]) -> fmt::Result {
    if fields.is_empty() {
        return Ok(());
    }
    f.write_str(" { ")?;
    separated(f, fields, ", ", |f, Field { name, data_type }| {
        write!(f, "{name}: {data_type}")
    })?;
    f.write_str(" }")
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    parts: &[T],
    separator: &str,
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            f.write_str(separator)?;
        }
        write(f, part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn a_schema_reads_on_one_line() {
        let nested = <(String, Option<Vec<i32>>, std::collections::BTreeMap<u8, ()>)>::data_type();
        assert_eq!(
            nested.to_string(),
            "tuple { 0: string, 1: option<list<int32>>, 2: map<uint8, ()> }"
        );
        let variant = |name: &str, fields| Variant {
            name: name.to_owned(),
            fields,
        };
        let minutes = Field {
            name: "minutes".to_owned(),
            data_type: DataType::Int32,
        };
        let status = DataType::Enum {
            name: "Status".to_owned(),
            variants: vec![variant("Unknown", vec![]), variant("Delayed", vec![minutes])],
        };
        assert_eq!(status.to_string(), "Status [Unknown | Delayed { minutes: int32 }]");
    }
}
