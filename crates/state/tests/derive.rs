//! `#[derive(State)]`: round trips, the bytes and schemas it writes, and that it refuses foreign bytes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use streamd_core::row::{DataType, Field, RowError, Variant};
use streamd_core::state::{State, from_row, to_row};
use streamd_macros::State;

#[derive(Debug, Clone, PartialEq, State)]
#[state(crate = "streamd_core")]
struct Delay {
    flights: u64,
    #[state(rename = "worst_delay")]
    worst: Option<i32>,
    r#type: String,
    by_hour: BTreeMap<u8, (u32, f32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, State)]
#[state(crate = "streamd_core")]
struct Route(String, [u16; 2]);

#[derive(Debug, Clone, PartialEq, Eq, Hash, State)]
#[state(crate = "streamd_core")]
struct Nothing;

#[derive(Debug, Clone, PartialEq, State)]
#[state(crate = "streamd_core")]
struct Pair<A, B: Copy, const N: usize>
where
    A: PartialEq,
{
    first: A,
    rest: [B; N],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, State)]
#[state(crate = "streamd_core")]
enum Phase {
    #[state(rename = "Parked")]
    AtGate,
    Taxi(u16, Route),
    Airborne {
        minutes: u32,
        #[state(rename = "alt")]
        altitude: i64,
    },
}

#[derive(Debug, Clone, PartialEq, State)]
#[state(crate = "streamd_core")]
enum Never {}

fn field(name: &str, data_type: DataType) -> Field {
    Field {
        name: name.to_owned(),
        data_type,
    }
}

fn survives<T: State + PartialEq + Debug>(value: &T) {
    assert_eq!(&from_row::<T>(&to_row(value)).unwrap(), value);
}

#[test]
fn the_schema_of_a_struct_names_its_fields_as_they_are_stored() {
    let hour = DataType::Struct {
        name: "tuple".to_owned(),
        fields: vec![field("0", DataType::UInt32), field("1", DataType::Float32)],
    };
    assert_eq!(
        Delay::data_type(),
        DataType::Struct {
            name: "Delay".to_owned(),
            fields: vec![
                field("flights", DataType::UInt64),
                field("worst_delay", DataType::Option(Box::new(DataType::Int32))),
                field("type", DataType::String),
                field("by_hour", DataType::Map(Box::new(DataType::UInt8), Box::new(hour))),
            ]
        }
    );
    assert_eq!(
        Nothing::data_type(),
        DataType::Struct {
            name: "Nothing".to_owned(),
            fields: vec![]
        }
    );
}

#[test]
fn the_schema_of_an_enum_names_its_variants_in_order() {
    let route = DataType::Struct {
        name: "Route".to_owned(),
        fields: vec![
            field("0", DataType::String),
            field("1", DataType::List(Box::new(DataType::UInt16))),
        ],
    };
    let variant = |name: &str, fields| Variant {
        name: name.to_owned(),
        fields,
    };
    assert_eq!(
        Phase::data_type(),
        DataType::Enum {
            name: "Phase".to_owned(),
            variants: vec![
                variant("Parked", vec![]),
                variant("Taxi", vec![field("0", DataType::UInt16), field("1", route)]),
                variant(
                    "Airborne",
                    vec![field("minutes", DataType::UInt32), field("alt", DataType::Int64)]
                ),
            ]
        }
    );
    assert_eq!(
        Never::data_type(),
        DataType::Enum {
            name: "Never".to_owned(),
            variants: vec![]
        }
    );
}

#[test]
fn the_encoding_of_a_struct_never_changes() {
    let delay = Delay {
        flights: 2,
        worst: Some(-1),
        r#type: "ok".to_owned(),
        by_hour: BTreeMap::from([(7, (3, 1.0))]),
    };
    let golden: &[&[u8]] = &[
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[1, 255, 255, 255, 255],
        &[2, 0, 0, 0, b'o', b'k'],
        &[1, 0, 0, 0, 7, 3, 0, 0, 0, 0, 0, 0x80, 0x3F],
    ];
    assert_eq!(to_row(&delay), golden.concat());
    survives(&delay);
    assert!(to_row(&Nothing).is_empty());
}

#[test]
fn the_encoding_of_an_enum_never_changes() {
    assert_eq!(to_row(&Phase::AtGate), [0, 0, 0, 0]);
    assert_eq!(
        to_row(&Phase::Taxi(9, Route("A".to_owned(), [1, 2]))),
        [1, 0, 0, 0, 9, 0, 1, 0, 0, 0, b'A', 2, 0, 0, 0, 1, 0, 2, 0]
    );
    assert_eq!(
        to_row(&Phase::Airborne {
            minutes: 1,
            altitude: -2
        }),
        [2, 0, 0, 0, 1, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255]
    );
}

#[test]
fn a_variant_that_does_not_exist_is_refused() {
    assert_eq!(
        from_row::<Phase>(&[3, 0, 0, 0]),
        Err(RowError::Invalid {
            what: "the variant of `Phase`",
            value: 3
        })
    );
    assert!(from_row::<Never>(&[0, 0, 0, 0]).is_err());
}

#[test]
fn a_generic_type_is_state_where_its_parameters_are() {
    let pair = Pair {
        first: Phase::AtGate,
        rest: [1.5f64, f64::MIN],
    };
    survives(&pair);
    let DataType::Struct { name, fields } = Pair::<Phase, f64, 2>::data_type() else {
        panic!("a struct has the schema of a struct")
    };
    assert_eq!(
        (name.as_str(), fields[0].data_type.clone()),
        ("Pair", Phase::data_type())
    );
}

proptest! {
    #[test]
    fn a_derived_value_survives_its_row(
        flights: u64, worst: Option<i32>, text: String, by_hour: BTreeMap<u8, (u32, i16)>,
        stop in 0..3u8, numbers: [u16; 2], minutes: u32, altitude: i64,
    ) {
        let by_hour = by_hour.into_iter().map(|(hour, (n, x))| (hour, (n, f32::from(x)))).collect();
        survives(&Delay { flights, worst, r#type: text.clone(), by_hour });
        survives(&match stop {
            0 => Phase::AtGate,
            1 => Phase::Taxi(numbers[0], Route(text, numbers)),
            _ => Phase::Airborne { minutes, altitude },
        });
    }

    #[test]
    fn no_bytes_make_a_derived_reader_panic(bytes: Vec<u8>) {
        let _ = from_row::<Delay>(&bytes);
        let _ = from_row::<Phase>(&bytes);
        let _ = from_row::<Pair<Route, u8, 3>>(&bytes);
    }
}
