//! When a stored schema fits a declared one, and how a schema reads in a message.

use std::fmt::Write;

use streamd_core::row::{DataType, Field, Variant};

/// Whether rows of the type `stored` are rows of the type `declared`: the same fields and variants of the same types, in
/// the same order. The names of the Rust types are for people and may differ.
pub fn is_same(stored: &DataType, declared: &DataType) -> bool {
    use DataType::{Enum, List, Map, Option, Struct};
    match (stored, declared) {
        (Option(a), Option(b)) | (List(a), List(b)) => is_same(a, b),
        (Map(a, x), Map(b, y)) => is_same(a, b) && is_same(x, y),
        (Struct { fields: a, .. }, Struct { fields: b, .. }) => are_same(a, b),
        (Enum { variants: a, .. }, Enum { variants: b, .. }) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.name == b.name && are_same(&a.fields, &b.fields))
        }
        (plain, other) => plain == other,
    }
}

fn are_same(a: &[Field], b: &[Field]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.name == b.name && is_same(&a.data_type, &b.data_type))
}

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
