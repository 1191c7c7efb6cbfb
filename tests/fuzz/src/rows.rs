//! Encoded values, and values as people type them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use streamd_connectors::file::sink::FileCommittable;
use streamd_connectors::file::source::FileSplit;
use streamd_connectors::ledger::LedgerCommittable;
use streamd_core::row::{DataType, Field, RowReader, Variant};
use streamd_core::state::{State, from_row, to_row};
use streamd_exchange::{Payload, decode};
use streamd_snapshot::edit::Changes;
use streamd_snapshot::inspect::{StateContents, find_state};
use streamd_snapshot::json::{Renderer, parse_text, split};
use streamd_snapshot::{Location, StoredSnapshot, read_snapshot};

use crate::waiting::wait;

/// A value with something of everything that can be nested.
pub type Nested = (
    String,
    Option<Option<i16>>,
    Vec<(u64, Vec<u8>)>,
    BTreeMap<String, Vec<bool>>,
    BTreeMap<Option<u8>, f64>,
    Vec<()>,
);

/// Types of every kind.
pub fn types() -> &'static [DataType] {
    static TYPES: OnceLock<Vec<DataType>> = OnceLock::new();
    TYPES.get_or_init(|| {
        vec![
            Nested::data_type(),
            airport(),
            String::data_type(),
            <(String, u64)>::data_type(),
            <Vec<u8>>::data_type(),
            <(i8, u16, f32, bool)>::data_type(),
            <BTreeMap<u32, Vec<Option<String>>>>::data_type(),
        ]
    })
}

/// The type of the values of the fixtures of snapshots.
fn airport() -> DataType {
    let field = |name: &str, data_type| Field {
        name: name.to_owned(),
        data_type,
    };
    let variant = |name: &str, fields| Variant {
        name: name.to_owned(),
        fields,
    };
    let delayed = vec![field("minutes", DataType::Int32), field("why", DataType::String)];
    let status = DataType::Enum {
        name: "Status".to_owned(),
        variants: vec![variant("Unknown", vec![]), variant("Delayed", delayed)],
    };
    let kind = DataType::Enum {
        name: "Kind".to_owned(),
        variants: vec![variant("Small", vec![]), variant("Hub", vec![])],
    };
    DataType::Struct {
        name: "Airport".to_owned(),
        fields: vec![
            field("flights", u64::data_type()),
            field("mean_delay", f64::data_type()),
            field("worst", <Option<i16>>::data_type()),
            field("hours", <Vec<u32>>::data_type()),
            field("by_carrier", <BTreeMap<String, i64>>::data_type()),
            field("status", status),
            field("kind", kind),
            field("raw", <Vec<u8>>::data_type()),
            field("open", bool::data_type()),
            field("nothing", <()>::data_type()),
        ],
    }
}

/// A row, read as each of the types.
pub fn row(bytes: &[u8]) -> bool {
    let mut shown = false;
    for data_type in types() {
        let _refused = RowReader::new(bytes).value(data_type).map(<[u8]>::len);
        let _refused = split(data_type, bytes).map(|(value, rest)| value.len() + rest.len());
        let renderer = Renderer::new(data_type);
        shown |= renderer.render(bytes).is_ok() & renderer.cells(bytes).is_ok();
    }
    let read = [
        read::<Nested>(bytes),
        read::<FileSplit>(bytes),
        read::<FileCommittable>(bytes),
        read::<LedgerCommittable>(bytes),
    ];
    shown || read.contains(&true)
}

fn read<T: State>(bytes: &[u8]) -> bool {
    let Ok(value) = from_row::<T>(bytes) else { return false };
    assert!(
        from_row::<T>(&to_row(&value)).is_ok(),
        "what was read is written so that it can be read"
    );
    true
}

/// A value that somebody types, of each of the types: what is accepted is shown as what is accepted as the same.
pub fn typed_value(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut accepted = false;
    for data_type in types() {
        let Ok(row) = parse_text(data_type, text) else { continue };
        accepted = true;
        let shown = Renderer::new(data_type).render(&row);
        // The one thing that is written and not shown: more nothings than anybody wants to see.
        let Ok(shown) = shown else { continue };
        assert_eq!(parse_text(data_type, &shown), Ok(row), "{shown}");
    }
    accepted
}

/// Changes of a state, as lines of JSON; and each line as an assignment and as a key.
pub fn changes(bytes: &[u8]) -> bool {
    let stored = savepoint();
    let operator = &stored.metadata.operators[0];
    let Ok(StateContents::Keyed(state)) = find_state(stored, operator, Some("airport")) else {
        panic!("the fixture has a keyed state `airport`");
    };
    let read = Changes::default().read_lines(&state, bytes, Path::new("changes.json"));
    let mut changes = Changes::default();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
    {
        let _refused = (changes.set(&state, line), changes.remove(&state, line));
    }
    read.is_ok() || !changes.is_empty()
}

/// The savepoint of the fixtures.
fn savepoint() -> &'static StoredSnapshot {
    static SAVEPOINT: OnceLock<StoredSnapshot> = OnceLock::new();
    macro_rules! fixture {
        ($name:literal) => {
            (
                $name,
                include_bytes!(concat!(
                    "../../../crates/snapshot/tests/fixtures/v3/savepoint/",
                    $name
                )),
            )
        };
    }
    SAVEPOINT.get_or_init(|| {
        let folder = Location::open("memory://fuzz/savepoint").expect("a place in memory");
        let metadata = fixture!("_metadata");
        let splits = fixture!("flights~20per~20airport-1ed277b1/splits.list.parquet");
        let put = async {
            for (name, bytes) in [(metadata.0, &metadata.1[..]), (splits.0, &splits.1[..])] {
                let file = folder.child(name).expect("the fixtures have names");
                file.put_create(Bytes::from_static(bytes))
                    .await
                    .expect("memory takes everything");
            }
            read_snapshot(&folder.uri()).await
        };
        wait(put).expect("the fixture is read")
    })
}

/// A batch of records from another worker.
pub fn batch(bytes: &[u8]) -> bool {
    let payload = || Payload::Encoded(Bytes::copy_from_slice(bytes));
    let accepted = [
        decode::<u64>(payload()).is_ok(),
        decode::<String>(payload()).is_ok(),
        decode::<(String, Option<Vec<i64>>)>(payload()).is_ok(),
        decode::<BTreeMap<String, (bool, f64)>>(payload()).is_ok(),
    ];
    accepted.contains(&true)
}
