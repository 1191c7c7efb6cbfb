//! When a stored schema fits a declared one, and how a schema reads in a message.

use std::fmt::Write;

use streamd_core::row::{DataType, Field, Variant};

/// A schema on one line, as in `Delay { flights: uint64, worst: option<int32> }`.
pub fn describe(data_type: &DataType) -> String {
    let mut text = String::new();
    write_type(&mut text, data_type);
    text
}

fn write_type(text: &mut String, data_type: &DataType) {
    let plain = match data_type {
        DataType::Bool => "bool",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::String => "string",
        DataType::Bytes => "bytes",
        DataType::Option(inner) => return write_nested(text, "option", &[inner]),
        DataType::List(inner) => return write_nested(text, "list", &[inner]),
        DataType::Map(key, value) => return write_nested(text, "map", &[key, value]),
        DataType::Struct { name, fields } => {
            text.push_str(name);
            return write_fields(text, fields);
        }
        DataType::Enum { name, variants } => return write_variants(text, name, variants),
    };
    text.push_str(plain);
}

fn write_nested(text: &mut String, kind: &str, inner: &[&DataType]) {
    let inner: Vec<String> = inner.iter().map(|data_type| describe(data_type)).collect();
    // Writing into a string cannot fail.
    let _ = write!(text, "{kind}<{}>", inner.join(", "));
}

fn write_fields(text: &mut String, fields: &[Field]) {
    if fields.is_empty() {
        return;
    }
    let fields: Vec<String> = fields
        .iter()
        .map(|field| format!("{}: {}", field.name, describe(&field.data_type)))
        .collect();
    let _ = write!(text, " {{ {} }}", fields.join(", "));
}

fn write_variants(text: &mut String, name: &str, variants: &[Variant]) {
    let variants: Vec<String> = variants
        .iter()
        .map(|variant| {
            let mut text = variant.name.clone();
            write_fields(&mut text, &variant.fields);
            text
        })
        .collect();
    let _ = write!(text, "{name} [{}]", variants.join(" | "));
}
