//! State of every kind, as people and other tools see it: with its kind, in typed columns.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use system::files::{binary, number, parse, string, text};
use system::{Cluster, Gate, until};

/// The states that the application has, by operator, each with its kind.
const STATES: &[(&str, &[(&str, &str)])] = &[
    ("numbers", &[("splits", "list")]),
    ("output", &[("committables", "list")]),
    (
        "keyed",
        &[
            ("value", "keyed"),
            ("list", "keyed"),
            ("map", "keyed"),
            ("reducing", "keyed"),
            ("aggregating", "keyed"),
            ("mortal", "keyed"),
            ("~timers.event_time", "keyed"),
            ("~timers.processing_time", "keyed"),
        ],
    ),
    ("tumbling", &[("~windows", "keyed")]),
    ("sliding", &[("~windows", "keyed")]),
    ("session", &[("~windows", "keyed")]),
    ("global", &[("~windows", "keyed")]),
    ("counted", &[("~windows", "keyed")]),
    ("evicting", &[("~windows", "keyed")]),
    ("clock", &[("~windows", "keyed")]),
    ("joined", &[("~windows", "keyed")]),
    ("grouped", &[("~windows", "keyed")]),
    (
        "interval",
        &[
            ("first-buffer", "keyed"),
            ("second-buffer", "keyed"),
            ("~timers.event_time", "keyed"),
        ],
    ),
    ("unkeyed", &[("list", "list"), ("union", "union")]),
    ("broadcast", &[("rules", "broadcast")]),
    ("asked", &[("~async_wait", "list")]),
];

/// Where the source stops: most state has come by then, and none is done with.
const HELD_AT: u64 = 100;

/// Reads every table of a folder with pyarrow and with DuckDB. Columns of bytes would be state that nobody can read.
const READER: &str = r#"
import glob, json, os, sys
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

def leaves(data_type):
    if pa.types.is_struct(data_type):
        return [leaf for at in range(data_type.num_fields) for leaf in leaves(data_type.field(at).type)]
    if pa.types.is_map(data_type):
        return leaves(data_type.key_type) + leaves(data_type.item_type)
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return leaves(data_type.value_type)
    return [str(data_type)]

tables = {}
for file in sorted(glob.glob(glob.escape(sys.argv[1]) + "/**/*.parquet", recursive=True)):
    table = ds.dataset(file).to_table()
    rows = duckdb.execute("SELECT count(*) FROM read_parquet(?)", [file]).fetchall()[0][0]
    tables[os.path.relpath(file, sys.argv[1])] = {
        "columns": {field.name: sorted(set(leaves(field.type))) for field in table.schema},
        "rows": table.num_rows, "duckdb": rows,
    }
print(json.dumps(tables))
"#;

fn tables(folder: &Path) -> Value {
    let ran = Command::new(servers::python())
        .args(["-c", READER])
        .arg(folder)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    parse(String::from_utf8(ran.stdout).unwrap().trim())
}

/// Every table has typed columns, and both readers find the same rows. Returns how many rows there are.
fn check_tables(folder: &Path) -> u64 {
    let tables = tables(folder);
    let mut rows = 0;
    for (file, table) in tables.as_object().unwrap() {
        assert_eq!(number(table, "rows"), number(table, "duckdb"), "{file}");
        rows += number(table, "rows");
        let columns = table["columns"].as_object().unwrap();
        let value = columns
            .get("value")
            .unwrap_or_else(|| panic!("{file} has no value: {table}"));
        for (column, types) in columns {
            let types = types.as_array().unwrap();
            assert!(
                !types.is_empty() || value.as_array().unwrap().is_empty(),
                "{file} {column}"
            );
            assert!(
                !types.contains(&"binary".into()),
                "{file}: `{column}` is bytes: {table}"
            );
        }
    }
    rows
}

#[test]
fn state_of_every_kind_is_shown_with_its_kind_and_read_by_other_tools() {
    let cluster = Cluster::start(1, 2);
    let gate = Gate::closed(cluster.path("gate"));
    let mut application = vec![text(&binary("kinds")), "--output".to_owned(), cluster.place("output")];
    application.extend(gate.arguments(HELD_AT));
    // Checkpoints would commit what is written.
    let interval = "execution.checkpointing.interval=1 h";
    let id = cluster.submit_and_wait(&["-p", "2", "-D", interval], &application);
    // Whatever is on its way: the last number is in the state of every operator.
    let savepoint = until("everything that the source has read is in state", || {
        let savepoint = cluster.savepoint(&id, &cluster.place("savepoints"));
        let shown = [
            "state",
            "show",
            &text(&savepoint),
            "keyed",
            "aggregating",
            "--output",
            "json",
        ];
        let sum: u64 = cluster
            .streamctl(&shown)
            .objects()
            .iter()
            .map(|row| number(row, "value"))
            .sum();
        (sum == (0..HELD_AT).sum::<u64>()).then_some(savepoint)
    });
    let place = text(&savepoint);

    let listed = cluster
        .streamctl(&["state", "list", &place, "--output", "json"])
        .succeeded()
        .objects();
    let mut kinds: BTreeMap<(&str, &str), &Value> = BTreeMap::new();
    for row in &listed {
        kinds.insert((string(row, "operator"), string(row, "state")), row);
    }
    for (operator, states) in STATES {
        for (state, kind) in *states {
            let row = kinds.get(&(*operator, *state));
            let row = row.unwrap_or_else(|| panic!("`{state}` of `{operator}` is not in {:?}", kinds.keys()));
            assert_eq!(string(row, "kind"), *kind, "{row}");
            assert!(number(row, "rows") > 0, "{row}");
            look_at(&cluster, (&place, operator, state), *kind == "keyed");
        }
    }
    // And nothing else but watermarks, and timers of a kind that is not used.
    let declared: usize = STATES.iter().map(|(_, states)| states.len()).sum();
    let own = kinds
        .iter()
        .filter(|((_, state), row)| *state == "~watermark" || number(row, "rows") == 0);
    assert_eq!(kinds.len(), declared + own.count(), "{:?}", kinds.keys());

    assert!(check_tables(&savepoint) > 0);
    for format in ["parquet", "csv", "json"] {
        let to = cluster.path(&format!("exported as {format}"));
        let arguments = [
            "state",
            "export",
            &place,
            "--format",
            format,
            "--to",
            &text(&to),
            "--output",
            "json",
        ];
        let exported = cluster.streamctl(&arguments).succeeded().objects();
        let rows: u64 = exported.iter().map(|row| number(row, "rows")).sum();
        assert_eq!(
            rows,
            listed.iter().map(|row| number(row, "rows")).sum::<u64>(),
            "{format}"
        );
        if format == "parquet" {
            assert_eq!(check_tables(&to), rows);
        }
    }

    let mut check = vec!["savepoint", "check", "--output", "json", &application[0], &place];
    check.extend(application[1..].iter().map(String::as_str));
    let checked = cluster.streamctl(&check).succeeded().objects();
    let states = checked[0]["states"].as_array().unwrap();
    for (operator, of_operator) in STATES {
        for (state, _) in *of_operator {
            let found = states
                .iter()
                .find(|row| string(row, "operator") == *operator && string(row, "state") == *state);
            assert_eq!(
                found.map(|row| string(row, "verdict")),
                Some("matches"),
                "{operator} {state}"
            );
        }
    }
    cluster.streamctl(&["cancel", &id]).succeeded();
}

/// Shows a state, and asks for one of its keys.
fn look_at(cluster: &Cluster, (place, operator, state): (&str, &str, &str), keyed: bool) {
    let arguments = ["state", "show", place, operator, state, "--output", "json"];
    let rows = cluster.streamctl(&arguments).succeeded().objects();
    assert!(
        rows.iter().all(|row| !row["value"].is_null()),
        "{operator} {state}: {rows:?}"
    );
    let ran = cluster.streamctl(&[
        "state", "query", place, operator, state, "--key", "key 3", "--output", "json",
    ]);
    if keyed {
        let found = ran.succeeded().objects();
        assert_eq!(found.len(), 1, "{operator} {state}");
        assert!(rows.contains(&found[0]), "{operator} {state}: {found:?}");
    } else {
        assert_ne!(ran.code, 0, "{operator} {state} has no keys");
    }
}
