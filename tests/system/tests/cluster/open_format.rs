//! A savepoint is read by tools that are not ours, and says what they say.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use system::files::{number, parse, string};
use system::{Cluster, Flights, flights, until};

/// Reads the tables of a savepoint with pyarrow and with DuckDB.
const READER: &str = r#"
import glob, json, sys
import duckdb
import pyarrow.dataset as ds

savepoint = glob.escape(sys.argv[1])
def files(state):
    return sorted(glob.glob(savepoint + "/" + state))

state = files("statistics-*/statistics/*.parquet")
splits = files("flights-*/*.list.parquet")
rows = ds.dataset(state).to_table().to_pylist()
counted = duckdb.sql(
    "SELECT count(*), count(DISTINCT key), sum(value.flights), sum(list_sum(value.flights_by_hour)) FROM read_parquet(?)",
    params=[state],
).fetchall()[0]
print(json.dumps({
    "airports": {row["key"]: row["value"]["flights"] for row in rows},
    "rows": counted[0], "keys": counted[1], "flights": int(counted[2]), "in_hours": int(counted[3]),
    "splits": [row["value"] for row in ds.dataset(splits).to_table().to_pylist()],
}))
"#;

fn read(savepoint: &Path) -> Value {
    let ran = Command::new(servers::python())
        .args(["-c", READER])
        .arg(savepoint)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    parse(String::from_utf8(ran.stdout).unwrap().trim())
}

#[test]
fn a_savepoint_read_by_pyarrow_and_duckdb_is_a_consistent_cut() {
    let cluster = Cluster::start(1, 2);
    let flights = Flights {
        output: cluster.path("output"),
        rate: 100,
    };
    let id = cluster.submit_and_wait(&["-p", "2"], &flights.command());
    until("updates are committed", || {
        (flights.committed_updates() > 0).then_some(())
    });
    let savepoint = cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "FINISHED");

    let seen = read(&savepoint);
    // Invariant I3: the state is the fold of exactly the records below the positions of the sources.
    let read: u64 = seen["splits"].as_array().unwrap().iter().map(records_read).sum();
    let total = number(&seen, "flights");
    assert!(read > 0 && read < flights::total(), "{read} flights were read");
    assert_eq!((total, number(&seen, "in_hours")), (read, read));
    // And what was committed is what the state says.
    let airports = flights.updates_by_airport();
    assert_eq!(seen["airports"], serde_json::to_value(&airports).unwrap());
    let keys = airports.len() as u64;
    assert_eq!((number(&seen, "rows"), number(&seen, "keys")), (keys, keys));
}

/// How many records of a split were read.
fn records_read(split: &Value) -> u64 {
    let file = Path::new(string(split, "path"));
    flights::records_between(file, number(split, "start"), number(split, "position"))
}
