//! How the schema of a state becomes Arrow's, and which schemas can be stored at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType as Arrow, Field as ArrowField, Fields};
use streamd_core::row::{DataType, Field, MAX_TYPE_DEPTH, Variant};

use crate::error::SnapshotError;

/// The column that stands in for a struct without fields, which Parquet does not have.
pub(super) const PLACEHOLDER: &str = "_";

/// The column that names the variant of an enum.
pub(super) const VARIANT: &str = "variant";

/// Levels of JSON that the schema of a type may take: the metadata's parser refuses more than 128, and some are around it.
const MAX_JSON_LEVELS: usize = 100;

/// Refuses what no snapshot can hold: types that nest too deep, and fields or variants of the same name.
pub fn check_type(state: &str, data_type: &DataType) -> Result<(), SnapshotError> {
    let unsupported = |reason: String| SnapshotError::UnsupportedType {
        state: state.to_owned(),
        reason,
    };
    let levels = json_levels(data_type);
    if data_type.depth() > MAX_TYPE_DEPTH || levels > MAX_JSON_LEVELS {
        return Err(unsupported(format!("its type nests {} levels deep", data_type.depth())));
    }
    check_names(data_type).map_err(unsupported)
}

fn json_levels(data_type: &DataType) -> usize {
    let of_fields = |fields: &[Field]| {
        fields
            .iter()
            .map(|field| json_levels(&field.data_type))
            .max()
            .unwrap_or(0)
    };
    match data_type {
        DataType::Option(inner) | DataType::List(inner) => 1 + json_levels(inner),
        DataType::Map(key, value) => 2 + json_levels(key).max(json_levels(value)),
        DataType::Struct { fields, .. } => 4 + of_fields(fields),
        DataType::Enum { variants, .. } => 6 + variants.iter().map(|v| of_fields(&v.fields)).max().unwrap_or(0),
        _plain => 1,
    }
}

fn check_names(data_type: &DataType) -> Result<(), String> {
    match data_type {
        DataType::Option(inner) | DataType::List(inner) => check_names(inner),
        DataType::Map(key, value) => check_names(key).and_then(|()| check_names(value)),
        DataType::Struct { name, fields } => check_fields(name, fields),
        DataType::Enum { name, variants } => {
            unique(name, variants.iter().map(|variant| &variant.name))?;
            variants
                .iter()
                .try_for_each(|variant| check_fields(&variant.name, &variant.fields))
        }
        _plain => Ok(()),
    }
}

fn check_fields(name: &str, fields: &[Field]) -> Result<(), String> {
    unique(name, fields.iter().map(|field| &field.name))?;
    fields.iter().try_for_each(|field| check_names(&field.data_type))
}

fn unique<'a>(owner: &str, names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() {
            return Err(format!("a part of type `{owner}` has no name"));
        }
        if !seen.insert(name) {
            return Err(format!("type `{owner}` has `{name}` twice"));
        }
    }
    Ok(())
}

/// The same type with the few shapes rewritten that Arrow cannot express, into others **with the same row encoding**:
/// an option of an option becomes an option of a struct of one field, a map whose keys are options a list of entries.
pub(super) fn storable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Option(inner) => {
            let inner = storable(inner);
            DataType::Option(Box::new(if matches!(inner, DataType::Option(_)) {
                record(vec![("value", inner)])
            } else {
                inner
            }))
        }
        DataType::List(inner) => DataType::List(Box::new(storable(inner))),
        DataType::Map(key, value) => {
            let (key, value) = (storable(key), storable(value));
            if matches!(key, DataType::Option(_)) {
                DataType::List(Box::new(record(vec![("key", key), ("value", value)])))
            } else {
                DataType::Map(Box::new(key), Box::new(value))
            }
        }
        DataType::Struct { name, fields } => DataType::Struct {
            name: name.clone(),
            fields: storable_fields(fields),
        },
        DataType::Enum { name, variants } => DataType::Enum {
            name: name.clone(),
            variants: variants
                .iter()
                .map(|variant| Variant {
                    name: variant.name.clone(),
                    fields: storable_fields(&variant.fields),
                })
                .collect(),
        },
        plain => plain.clone(),
    }
}

fn storable_fields(fields: &[Field]) -> Vec<Field> {
    fields
        .iter()
        .map(|field| Field {
            name: field.name.clone(),
            data_type: storable(&field.data_type),
        })
        .collect()
}

fn record(fields: Vec<(&str, DataType)>) -> DataType {
    let fields = fields
        .into_iter()
        .map(|(name, data_type)| Field {
            name: name.to_owned(),
            data_type,
        })
        .collect();
    DataType::Struct {
        name: String::new(),
        fields,
    }
}

/// The Arrow column of a [`storable`] type.
pub(super) fn arrow_field(name: &str, data_type: &DataType) -> ArrowField {
    match data_type {
        DataType::Option(inner) => ArrowField::new(name, arrow_type(inner), true),
        other => ArrowField::new(name, arrow_type(other), false),
    }
}

fn arrow_type(data_type: &DataType) -> Arrow {
    match data_type {
        DataType::Bool => Arrow::Boolean,
        DataType::Int8 => Arrow::Int8,
        DataType::Int16 => Arrow::Int16,
        DataType::Int32 => Arrow::Int32,
        DataType::Int64 => Arrow::Int64,
        DataType::UInt8 => Arrow::UInt8,
        DataType::UInt16 => Arrow::UInt16,
        DataType::UInt32 => Arrow::UInt32,
        DataType::UInt64 => Arrow::UInt64,
        DataType::Float32 => Arrow::Float32,
        DataType::Float64 => Arrow::Float64,
        DataType::String => Arrow::Utf8,
        DataType::Bytes => Arrow::Binary,
        DataType::Option(inner) => arrow_type(inner),
        DataType::List(item) => Arrow::List(Arc::new(item_field(item))),
        DataType::Map(key, value) => {
            let entries = ArrowField::new("entries", Arrow::Struct(entry_fields(key, value)), false);
            Arrow::Map(Arc::new(entries), false)
        }
        DataType::Struct { fields, .. } => Arrow::Struct(struct_fields(fields)),
        DataType::Enum { variants, .. } if is_plain(variants) => Arrow::Utf8,
        DataType::Enum { variants, .. } => Arrow::Struct(enum_fields(variants)),
    }
}

/// Whether no variant of an enum has fields: then the name of the variant is the whole value.
pub(super) fn is_plain(variants: &[Variant]) -> bool {
    variants.iter().all(|variant| variant.fields.is_empty())
}

pub(super) fn item_field(item: &DataType) -> ArrowField {
    arrow_field("item", item)
}

pub(super) fn entry_fields(key: &DataType, value: &DataType) -> Fields {
    Fields::from(vec![arrow_field("keys", key), arrow_field("values", value)])
}

pub(super) fn struct_fields(fields: &[Field]) -> Fields {
    if fields.is_empty() {
        return Fields::from(vec![ArrowField::new(PLACEHOLDER, Arrow::Boolean, true)]);
    }
    fields
        .iter()
        .map(|field| arrow_field(&field.name, &field.data_type))
        .collect()
}

/// `variant`, then one nullable struct for each variant that has fields.
pub(super) fn enum_fields(variants: &[Variant]) -> Fields {
    let name = ArrowField::new(VARIANT, Arrow::Utf8, false);
    let bodies = variants
        .iter()
        .filter(|variant| !variant.fields.is_empty())
        .map(|variant| {
            // A variant may be called like the column that names it: add underscores until it is not.
            let mut column = variant.name.clone();
            while column == VARIANT || (column != variant.name && variants.iter().any(|other| other.name == column)) {
                column.push('_');
            }
            ArrowField::new(column, Arrow::Struct(struct_fields(&variant.fields)), true)
        });
    std::iter::once(name).chain(bodies).collect()
}
