//! Random schemas, and random rows of a given schema.

use proptest::prelude::*;
use streamd_core::row::{DataType, Field, Variant, write_bytes, write_count};

/// Any schema up to four levels deep.
pub fn any_type() -> impl Strategy<Value = DataType> {
    let plain = prop::sample::select(vec![
        DataType::Bool,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::String,
        DataType::Bytes,
    ]);
    plain.prop_recursive(4, 16, 3, |inner| {
        let fields = prop::collection::vec(inner.clone(), 0..4).prop_map(named);
        let variants = prop::collection::vec(prop::collection::vec(inner.clone(), 0..3).prop_map(named), 1..4);
        prop_oneof![
            inner.clone().prop_map(|inner| DataType::Option(Box::new(inner))),
            inner.clone().prop_map(|inner| DataType::List(Box::new(inner))),
            (inner.clone(), inner).prop_map(|(key, value)| DataType::Map(Box::new(key), Box::new(value))),
            fields.prop_map(|fields| DataType::Struct {
                name: "S".to_owned(),
                fields
            }),
            variants.prop_map(an_enum),
        ]
    })
}

fn named(types: Vec<DataType>) -> Vec<Field> {
    let field = |(index, data_type): (usize, DataType)| Field {
        name: format!("f{index}"),
        data_type,
    };
    types.into_iter().enumerate().map(field).collect()
}

fn an_enum(bodies: Vec<Vec<Field>>) -> DataType {
    // One of the variants is called like the column that names them.
    let name = |index: usize| {
        if index == 1 {
            "variant".to_owned()
        } else {
            format!("V{index}")
        }
    };
    let variant = |(index, fields): (usize, Vec<Field>)| Variant {
        name: name(index),
        fields,
    };
    DataType::Enum {
        name: "E".to_owned(),
        variants: bodies.into_iter().enumerate().map(variant).collect(),
    }
}

/// A stream of numbers that looks random and depends on its seed alone.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Appends a random value of the type.
pub fn put_value(data_type: &DataType, numbers: &mut Numbers, row: &mut Vec<u8>) {
    match data_type {
        DataType::Bool => row.push(numbers.below(2) as u8),
        DataType::Int8 | DataType::UInt8 => row.push(numbers.next() as u8),
        DataType::Int16 | DataType::UInt16 => row.extend_from_slice(&(numbers.next() as u16).to_le_bytes()),
        // Floats have any bits, so infinities and every kind of not-a-number too.
        DataType::Int32 | DataType::UInt32 | DataType::Float32 => {
            row.extend_from_slice(&(numbers.next() as u32).to_le_bytes());
        }
        DataType::Int64 | DataType::UInt64 | DataType::Float64 => row.extend_from_slice(&numbers.next().to_le_bytes()),
        DataType::String => {
            let text: String = (0..numbers.below(5))
                .map(|_| ['a', 'ü', '\0', '𝄞', ' '][numbers.below(5) as usize])
                .collect();
            write_bytes(row, text.as_bytes());
        }
        DataType::Bytes => {
            let bytes: Vec<u8> = (0..numbers.below(6)).map(|_| numbers.next() as u8).collect();
            write_bytes(row, &bytes);
        }
        DataType::Option(inner) => {
            let is_some = numbers.below(2) as u8;
            row.push(is_some);
            if is_some == 1 {
                put_value(inner, numbers, row);
            }
        }
        DataType::List(item) => {
            let count = numbers.below(4) as usize;
            write_count(row, count);
            (0..count).for_each(|_| put_value(item, numbers, row));
        }
        DataType::Map(key, value) => {
            let count = numbers.below(3) as usize;
            write_count(row, count);
            for _ in 0..count {
                put_value(key, numbers, row);
                put_value(value, numbers, row);
            }
        }
        DataType::Struct { fields, .. } => fields
            .iter()
            .for_each(|field| put_value(&field.data_type, numbers, row)),
        DataType::Enum { variants, .. } => {
            let chosen = numbers.below(variants.len() as u64) as usize;
            write_count(row, chosen);
            variants[chosen]
                .fields
                .iter()
                .for_each(|field| put_value(&field.data_type, numbers, row));
        }
    }
}
