//! The open format as others know it: by its document alone.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::collections::BTreeMap;

use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::state::{State, to_row};
use streamd_snapshot::{check_objects, read_keyed_state, read_snapshot, verify_objects};
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_64;

fn document() -> String {
    std::fs::read_to_string(servers::workspace().join("docs/reference/savepoint-format.md")).unwrap()
}

/// What is between backticks in a cell of a table.
fn code(cell: &str) -> &str {
    cell.trim().trim_matches('`')
}

#[test]
fn the_vectors_of_the_document_are_those_of_streamd() {
    let document = document();
    let table = document
        .split("### Test vectors")
        .nth(1)
        .expect("the document has test vectors");
    let mut vectors = BTreeMap::new();
    for line in table.lines().skip_while(|line| !line.starts_with("|---")).skip(1) {
        let Some(cells) = line.strip_prefix('|') else { break };
        let cells: Vec<&str> = cells.split('|').collect();
        let [data_type, value, bytes, hash, of_128, of_32768] = cells[..6] else {
            panic!("{line} has six cells");
        };
        let bytes: Vec<u8> = code(bytes)
            .split_whitespace()
            .map(|hex| u8::from_str_radix(hex, 16).unwrap())
            .collect();
        let computed = xxh3_64(&bytes);
        assert_eq!(format!("{computed:016x}"), code(hash), "{line}");
        assert_eq!(
            key_group_of(computed, 128),
            of_128.trim().parse::<u32>().unwrap(),
            "{line}"
        );
        assert_eq!(
            key_group_of(computed, 32_768),
            of_32768.trim().parse::<u32>().unwrap(),
            "{line}"
        );
        vectors.insert((code(data_type).to_owned(), code(value).to_owned()), bytes);
    }
    let vector = |data_type: &str, value: &str| vectors[&(data_type.to_owned(), value.to_owned())].clone();
    assert_eq!(vector("string", "\"ATL\""), to_row(&"ATL".to_owned()));
    assert_eq!(vector("string", "\"Zürich\""), to_row(&"Zürich".to_owned()));
    assert_eq!(vector("uint64", "42"), to_row(&42u64));
    assert_eq!(vector("int64", "-1"), to_row(&-1i64));
    assert_eq!(vector("bytes", "00 ff"), to_row(&vec![0u8, 255]));
    assert_eq!(vector("{\"list\":\"int16\"}", "[1, -2]"), to_row(&vec![1i16, -2]));
    assert_eq!(vector("{\"option\":\"int32\"}", "7"), to_row(&Some(7i32)));
    assert_eq!(42u64.stable_hash(), xxh3_64(&vector("uint64", "42")));
}

/// `examples/savepoint/write_savepoint.py` wrote it, which knows streamd only by the document.
#[test]
fn a_savepoint_that_a_python_program_wrote_is_read() {
    let folder = servers::workspace().join("crates/snapshot/tests/fixtures/v2-python");
    let runtime = Runtime::new().unwrap();
    let stored = runtime.block_on(read_snapshot(folder.to_str().unwrap())).unwrap();
    runtime
        .block_on(check_objects(&stored.metadata, &stored.folder))
        .unwrap();
    runtime
        .block_on(verify_objects(&stored.metadata, &stored.folder))
        .unwrap();
    let operator = &stored.metadata.operators[0];
    assert_eq!(operator.label(), "flights per airport");
    let splits: Vec<Vec<u8>> = vec![to_row(&("a.csv".to_owned(), 7u64)), to_row(&("b.csv".to_owned(), 0u64))];
    assert_eq!(operator.lists[0].items, splits);
    let mut restored = BTreeMap::new();
    let all = KeyGroupRange::all(operator.max_parallelism);
    read_keyed_state(
        &operator.keyed[0],
        &stored.folder,
        all,
        runtime.handle(),
        &mut |group, key, value| {
            assert_eq!(group, key_group_of(xxh3_64(key), operator.max_parallelism));
            restored.insert(key.to_vec(), value.to_vec());
            Ok(())
        },
    )
    .unwrap();
    let expected: BTreeMap<_, _> = (0..10u32).map(|n| (to_row(&format!("AP{n}")), value(n))).collect();
    assert_eq!(restored, expected);
}

/// The value of airport `n`, of every kind of type.
fn value(n: u32) -> Vec<u8> {
    let mut row = to_row(&(u64::from(n), f64::from(n) / 4.0, (n % 2 == 1).then_some(-(n as i16))));
    (0..n % 4).collect::<Vec<u32>>().encode(&mut row);
    BTreeMap::from([("AA".to_owned(), i64::from(n))]).encode(&mut row);
    match n % 3 {
        0 => 0u32.encode(&mut row),
        _delayed => (1u32, n as i32, "fog".to_owned()).encode(&mut row),
    }
    (n % 2, vec![n as u8; 3], n > 5).encode(&mut row);
    row
}
