use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::evolution::TypeEvolution;
use crate::row::{Field, Variant};
use crate::state::to_row;
use crate::time::WallTime;

fn field(name: &str, data_type: DataType) -> Field {
    Field {
        name: name.to_owned(),
        data_type,
    }
}

fn record(name: &str, fields: Vec<Field>) -> DataType {
    DataType::Struct {
        name: name.to_owned(),
        fields,
    }
}

fn variant(name: &str, fields: Vec<Field>) -> Variant {
    Variant {
        name: name.to_owned(),
        fields,
    }
}

fn choice(name: &str, variants: Vec<Variant>) -> DataType {
    DataType::Enum {
        name: name.to_owned(),
        variants,
    }
}

fn says(declared: TypeEvolution) -> Evolution {
    let mut evolution = Evolution::default();
    evolution.declare(declared);
    evolution
}

fn changes(migration: &Migration) -> Vec<String> {
    migration.changes().iter().map(ToString::to_string).collect()
}

fn migrate<T: State>(migration: &Migration, old: &impl State) -> T {
    let mut row = Vec::new();
    migration.apply(&to_row(old), &mut row).unwrap();
    from_row(&row).unwrap()
}

#[test]
fn the_same_schema_needs_nothing() {
    let data_type = record("Delay", vec![field("minutes", DataType::Int32)]);
    let renamed = record("Delays", vec![field("minutes", DataType::Int32)]);
    let migration = Migration::resolve(&data_type, &renamed, &Evolution::default()).unwrap();
    assert!(migration.is_identity() && migration.changes().is_empty());
}

#[test]
fn fields_are_added_removed_renamed_widened_and_reordered() {
    let old = record(
        "Delay",
        vec![
            field("worst", DataType::Int32),
            field("gate", DataType::String),
            field("mean", DataType::Float32),
            field("count", DataType::UInt16),
        ],
    );
    let new = record(
        "Delay",
        vec![
            field("flights", DataType::UInt64),
            field("mean", DataType::Float64),
            field("worst", DataType::Option(Box::new(DataType::Int64))),
            field("late", DataType::Bool),
            field("note", DataType::Option(Box::new(DataType::String))),
        ],
    );
    let evolution = says(
        TypeEvolution::new(new.clone())
            .field(None, "flights", &["cnt", "count"], None)
            .field(None, "late", &[], Some(to_row(&true))),
    );
    let migration = Migration::resolve(&old, &new, &evolution).unwrap();
    assert_eq!(
        changes(&migration),
        [
            "renames `count` to `flights`",
            "widens `flights` from uint16 to uint64",
            "widens `mean` from float32 to float64",
            "widens `worst` from int32 to option<int64>",
            "widens `worst` from int32 to int64",
            "adds `late`",
            "adds `note`",
            "reorders the value",
            "removes `gate`",
        ]
    );
    let migrated: (u64, f64, Option<i64>, bool, Option<String>) =
        migrate(&migration, &(-5i32, "B12".to_owned(), 1.5f32, 7u16));
    assert_eq!(migrated, (7, 1.5, Some(-5), true, None));
}

#[test]
fn what_is_within_lists_maps_options_and_variants_changes_as_well() {
    let leg = |minutes| record("Leg", vec![field("minutes", minutes)]);
    let of = |leg: DataType| {
        let status = choice(
            "Status",
            vec![
                variant("Unknown", vec![]),
                variant("Late", vec![field("leg", leg.clone())]),
            ],
        );
        record(
            "Flight",
            vec![
                field("legs", DataType::List(Box::new(leg.clone()))),
                field(
                    "by_gate",
                    DataType::Map(Box::new(DataType::String), Box::new(leg.clone())),
                ),
                field("last", DataType::Option(Box::new(leg))),
                field("status", status),
            ],
        )
    };
    let migration = Migration::resolve(
        &of(leg(DataType::Int16)),
        &of(leg(DataType::Int64)),
        &Evolution::default(),
    );
    let migration = migration.unwrap();
    let places = [
        "legs[].minutes",
        "by_gate{}.minutes",
        "last.minutes",
        "status.Late.leg.minutes",
    ];
    let expected: Vec<String> = places
        .iter()
        .map(|place| format!("widens `{place}` from int16 to int64"))
        .collect();
    assert_eq!(changes(&migration), expected);
    let gates = BTreeMap::from([("A1".to_owned(), 3i16)]);
    let migrated: (Vec<i64>, BTreeMap<String, i64>, Option<i64>, (u32, i64)) =
        migrate(&migration, &(vec![1i16, -2], gates, Some(4i16), (1u32, 5i16)));
    assert_eq!(
        migrated,
        (vec![1, -2], BTreeMap::from([("A1".to_owned(), 3)]), Some(4), (1, 5))
    );
}

#[test]
fn variants_are_added_renamed_and_reordered_but_never_lost() {
    let old = choice(
        "Status",
        vec![
            variant("Late", vec![field("minutes", DataType::Int32)]),
            variant("Ok", vec![]),
        ],
    );
    let new = choice(
        "Status",
        vec![
            variant("OnTime", vec![]),
            variant("Cancelled", vec![]),
            variant("Late", vec![field("minutes", DataType::Int32)]),
        ],
    );
    let refused = Migration::resolve(&old, &new, &Evolution::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "variant `Ok` of the snapshot is not in the application"
    );
    let evolution = says(TypeEvolution::new(new.clone()).variant("OnTime", &["Ok"]));
    let migration = Migration::resolve(&old, &new, &evolution).unwrap();
    assert_eq!(
        changes(&migration),
        [
            "renames `Ok` to `OnTime`",
            "reorders the value",
            "adds variant `Cancelled`"
        ]
    );
    assert_eq!(migrate::<(u32, i32)>(&migration, &(0u32, 9i32)), (2, 9));
    assert_eq!(migrate::<u32>(&migration, &1u32), 0);
    assert!(migration.apply(&to_row(&2u32), &mut Vec::new()).is_err());
}

#[test]
fn a_function_makes_what_no_rule_covers() {
    let old = record("Minutes", vec![field("minutes", DataType::Int32)]);
    // The stored type of `(i32,)` is called otherwise, and its field too: the function's own argument says what it takes.
    let function = |(minutes,): (i32,)| format!("{minutes} min");
    let wrapped = record("tuple", vec![field("0", DataType::Int32)]);
    let evolution = says(TypeEvolution::new(DataType::String).conversion::<(i32,), String>(function));
    assert!(Migration::resolve(&old, &DataType::String, &evolution).is_err());
    let migration = Migration::resolve(
        &DataType::List(Box::new(wrapped.clone())),
        &DataType::List(Box::new(DataType::String)),
        &evolution,
    )
    .unwrap();
    assert_eq!(changes(&migration), ["converts `[]` from `tuple` to `string`"]);
    assert_eq!(
        migrate::<Vec<String>>(&migration, &vec![(3i32,), (4,)]),
        ["3 min", "4 min"]
    );
    // In a job manager there is only the plan, and it is enough to decide.
    let plan: Evolution = serde_json::from_str(&serde_json::to_string(&evolution).unwrap()).unwrap();
    let migration = Migration::resolve(&wrapped, &DataType::String, &plan).unwrap();
    assert!(migration.apply(&to_row(&3i32), &mut Vec::new()).is_err());
}

#[test]
fn a_refusal_names_the_place_both_types_and_what_to_do() {
    let refusal = |old: DataType, new: DataType| {
        let mismatch = Migration::resolve(&old, &new, &Evolution::default()).unwrap_err();
        (mismatch.to_string(), mismatch.remedy())
    };
    let of = |data_type| record("Delay", vec![field("n", DataType::UInt8), field("worst", data_type)]);
    let (message, remedy) = refusal(of(DataType::Int64), of(DataType::Int32));
    assert_eq!(
        message,
        "`worst` is `int64` in the snapshot and `int32` in the application"
    );
    assert!(remedy.starts_with("keep the type `int64`"), "{remedy}");
    let (message, remedy) = refusal(record("Delay", vec![field("n", DataType::UInt8)]), of(DataType::Int32));
    assert_eq!(
        message,
        "`worst`, of type `int32`, is not in the snapshot and has no default"
    );
    assert!(remedy.contains("#[state(default)]"), "{remedy}");
    let map = |key| DataType::Map(Box::new(key), Box::new(DataType::Bool));
    let (message, _remedy) = refusal(map(DataType::Int32), map(DataType::Int64));
    assert_eq!(
        message,
        "the key of the map is `int32` in the snapshot and `int64` in the application"
    );
    let other = record("Other", vec![field("x", DataType::Option(Box::new(DataType::Bool)))]);
    let (message, _remedy) = refusal(of(DataType::Int8), other);
    assert!(message.ends_with("keeps no field"), "{message}");
    assert!(check_key(&DataType::Int32, &DataType::Int64).is_err());
}

#[test]
fn only_what_loses_nothing_is_widened() {
    let numbers = [
        (DataType::Int8, 7, true),
        (DataType::Int16, 15, true),
        (DataType::Int32, 31, true),
        (DataType::Int64, 63, true),
        (DataType::UInt8, 8, false),
        (DataType::UInt16, 16, false),
        (DataType::UInt32, 32, false),
        (DataType::UInt64, 64, false),
    ];
    let widens = |from: &DataType, to: &DataType| Migration::resolve(from, to, &Evolution::default()).is_ok();
    for (from, bits, signed) in &numbers {
        for (to, more, to_signed) in &numbers {
            let fits = from == to || (bits < more && (!signed || *to_signed)) || (bits == more && signed == to_signed);
            assert_eq!(widens(from, to), fits, "{from} to {to}");
        }
        assert_eq!(widens(from, &DataType::Float32), *bits <= 24, "{from}");
        assert_eq!(widens(from, &DataType::Float64), *bits <= 53, "{from}");
        assert!(!widens(&DataType::Float32, from));
    }
}

#[test]
fn a_field_is_never_the_source_of_two() {
    let old = record("A", vec![field("x", DataType::Int32)]);
    let new = record("A", vec![field("y", DataType::Int32), field("x", DataType::Int32)]);
    let evolution = says(TypeEvolution::new(new.clone()).field(None, "y", &["x"], None));
    let refused = Migration::resolve(&old, &new, &evolution).unwrap_err();
    assert_eq!(refused.path, "y");
}

#[test]
fn two_types_that_cannot_be_told_apart_say_nothing() {
    let declared = |default: i32| {
        TypeEvolution::new(record("A", vec![field("x", DataType::Int32)])).field(None, "x", &[], Some(to_row(&default)))
    };
    let mut evolution = says(declared(1));
    evolution.declare(declared(1));
    assert_eq!(evolution, says(declared(1)));
    evolution.declare(declared(2));
    assert!(
        evolution
            .get(&declared(1).data_type)
            .is_some_and(|known| known.fields.is_empty())
    );
}

#[test]
fn elements_of_a_list_are_read_whatever_version_wrote_them() {
    let list = |data_type, items| ListState {
        name: "splits".to_owned(),
        data_type,
        items,
    };
    let old = list(DataType::Int32, vec![to_row(&1i32), to_row(&2i32)]);
    assert_eq!(read_items::<i64>(&old), Ok(vec![1, 2]));
    assert_eq!(read_items::<i32>(&old), Ok(vec![1, 2]));
    assert!(matches!(read_items::<bool>(&old), Err(ItemsError::Mismatch { .. })));
    let short = list(DataType::Int32, vec![vec![1]]);
    assert!(matches!(read_items::<i64>(&short), Err(ItemsError::Malformed { .. })));
}

/// A value with both of its versions: how it is stored, and what must become of it.
#[derive(Debug, Clone)]
struct Pair {
    old: (DataType, Vec<u8>),
    new: (DataType, Vec<u8>),
}

fn pair(old: impl State, new: impl State) -> Pair {
    fn of<T: State>(value: &T) -> (DataType, Vec<u8>) {
        (T::data_type(), to_row(value))
    }
    Pair {
        old: of(&old),
        new: of(&new),
    }
}

fn both(pair: Pair, make: impl Fn(DataType) -> DataType, row: impl Fn(&[u8]) -> Vec<u8>) -> Pair {
    let of = |(data_type, bytes): (DataType, Vec<u8>)| (make(data_type), row(&bytes));
    Pair {
        old: of(pair.old),
        new: of(pair.new),
    }
}

fn listed(count: u32) -> impl Fn(&[u8]) -> Vec<u8> {
    move |row| [&count.to_le_bytes()[..], &row.repeat(count as usize)].concat()
}

/// Random values of random types, each changed in random ways at random places.
fn any_pair() -> impl Strategy<Value = Pair> {
    let leaf = prop_oneof![
        any::<i16>().prop_map(|n| pair(n, i64::from(n))),
        any::<u32>().prop_map(|n| pair(n, i64::from(n))),
        any::<u8>().prop_map(|n| pair(n, f32::from(n))),
        any::<f32>().prop_map(|n| pair(n, f64::from(n))),
        any::<i32>().prop_map(|n| pair(n, Some(f64::from(n)))),
        any::<String>().prop_map(|text| pair(text.clone(), Some(text))),
        any::<Vec<u8>>().prop_map(|bytes| pair(bytes.clone(), bytes.iter().map(|b| u16::from(*b)).collect::<Vec<_>>())),
        any::<Vec<u8>>().prop_map(|bytes| pair(bytes.clone(), bytes)),
        any::<bool>().prop_map(|truth| pair(truth, truth)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0u32..4).prop_map(|(pair, n)| both(pair, |t| DataType::List(Box::new(t)), listed(n))),
            inner.clone().prop_map(|pair| both(
                pair,
                |t| DataType::Map(Box::new(DataType::Bool), Box::new(t)),
                |row| [&[1, 0, 0, 0, 1], row].concat()
            )),
            inner.clone().prop_filter_map("no option of an option", |pair| {
                let is_plain = !matches!(pair.new.0, DataType::Option(_));
                is_plain.then(|| both(pair, |t| DataType::Option(Box::new(t)), |row| [&[1], row].concat()))
            }),
            (prop::collection::vec((inner.clone(), any::<u8>()), 1..4), any::<bool>()).prop_map(record_of),
            (inner, 0u32..3).prop_map(variant_of),
        ]
    })
}

/// A struct whose fields trade places; some are only in the old version, and one only in the new.
fn record_of((mut parts, adds): (Vec<(Pair, u8)>, bool)) -> Pair {
    // One field at least is kept.
    parts[0].1 |= 1;
    let names = |index: usize| format!("field_{index}");
    let (mut old, mut new) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (index, (part, _)) in parts.iter().enumerate() {
        old.0.push(field(&names(index), part.old.0.clone()));
        old.1.extend_from_slice(&part.old.1);
    }
    let mut kept: Vec<_> = parts
        .iter()
        .enumerate()
        .filter(|(_, (_, choice))| choice % 4 != 0)
        .collect();
    kept.sort_by_key(|(_, (_, choice))| *choice);
    for (index, (part, _)) in kept {
        new.0.push(field(&names(index), part.new.0.clone()));
        new.1.extend_from_slice(&part.new.1);
    }
    if adds {
        new.0.push(field("added", DataType::Option(Box::new(DataType::String))));
        new.1.push(0);
    }
    Pair {
        old: (record("Record", old.0), old.1),
        new: (record("Record", new.0), new.1),
    }
}

/// A variant of an enum that others precede in the new version.
fn variant_of((part, before): (Pair, u32)) -> Pair {
    let of = |(data_type, row): (DataType, Vec<u8>), before: u32| {
        let others = (0..before).map(|n| variant(&format!("New{n}"), vec![]));
        let this = variant("This", vec![field("value", data_type)]);
        let row = [&before.to_le_bytes()[..], &row].concat();
        (choice("Choice", others.chain([this]).collect()), row)
    };
    Pair {
        old: of(part.old, 0),
        new: of(part.new, before),
    }
}

proptest! {
    #[test]
    fn any_value_of_any_type_becomes_what_its_new_type_says(pair in any_pair()) {
        let migration = Migration::resolve(&pair.old.0, &pair.new.0, &Evolution::default()).unwrap();
        let mut row = Vec::new();
        migration.apply(&pair.old.1, &mut row).unwrap();
        prop_assert_eq!(row, pair.new.1);
        prop_assert_eq!(migration.is_identity(), migration.changes().is_empty());
    }

    #[test]
    fn no_bytes_make_a_migration_panic(pair in any_pair(), bytes: Vec<u8>, cut: prop::sample::Index) {
        let migration = Migration::resolve(&pair.old.0, &pair.new.0, &Evolution::default()).unwrap();
        let _ = migration.apply(&bytes, &mut Vec::new());
        if !pair.old.1.is_empty() {
            let prefix = &pair.old.1[..cut.index(pair.old.1.len())];
            prop_assert!(migration.apply(prefix, &mut Vec::new()).is_err());
        }
    }
}

#[test]
fn a_value_gets_and_loses_a_time_to_live_wherever_it_stands() {
    let evolution = Evolution::default();
    let list = |of| DataType::List(Box::new(of));
    let map = |of| DataType::Map(Box::new(DataType::String), Box::new(of));
    for (plain, expiring, value, stamped) in [
        (
            DataType::UInt32,
            expiring_type(DataType::UInt32),
            to_row(&7u32),
            to_row(&(50i64, 7u32)),
        ),
        (
            list(DataType::UInt32),
            list(expiring_type(DataType::UInt32)),
            to_row(&vec![7u32, 8]),
            to_row(&vec![(50i64, 7u32), (50, 8)]),
        ),
        (
            DataType::Bytes,
            list(expiring_type(DataType::UInt8)),
            to_row(&vec![7u8, 8]),
            to_row(&vec![(50i64, 7u8), (50, 8)]),
        ),
        (
            map(DataType::UInt32),
            map(expiring_type(DataType::UInt32)),
            to_row(&BTreeMap::from([("a".to_owned(), 7u32)])),
            to_row(&BTreeMap::from([("a".to_owned(), (50i64, 7u32))])),
        ),
    ] {
        let there = Migration::resolve_at(&plain, &expiring, &evolution, WallTime(50)).unwrap();
        let back = Migration::resolve(&expiring, &plain, &evolution).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        there.apply(&value, &mut first).unwrap();
        back.apply(&stamped, &mut second).unwrap();
        assert_eq!((first, second), (stamped, value), "{plain}");
        assert!(changes(&there)[0].starts_with("gives ") && changes(&back)[0].starts_with("takes the time to live"));
    }
    // Beside what changes for other reasons.
    let migration = Migration::resolve_at(
        &DataType::UInt32,
        &expiring_type(DataType::UInt64),
        &evolution,
        WallTime(50),
    )
    .unwrap();
    assert_eq!(migrate::<(i64, u64)>(&migration, &7u32), (50, 7));
    // A struct of the application that looks the same is none.
    let own = record(
        "Mine",
        vec![field("last_update", DataType::Int64), field("value", DataType::UInt32)],
    );
    assert!(Migration::resolve(&own, &DataType::UInt32, &evolution).is_err());
}
