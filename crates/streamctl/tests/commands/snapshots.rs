//! `checkpoint`, `state`, `fsck` and `savepoint show|verify`: against snapshots on disk, without any cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange, key_group_of};
use streamd_core::row::DataType;
use streamd_core::snapshot::{ListState, METADATA_VERSION, OperatorState, SnapshotMetadata};
use streamd_core::state::{State, to_row};
use streamd_core::time::WallTime;
use streamd_rpc::proto::{JobDetails, JobState};
use streamd_snapshot::{
    KeyedStateSink, KeyedTable, Location, SubtaskContext, SubtaskSnapshotWriter, publish, random_nonce,
};

use crate::cluster::elected;
use crate::fake::{Fake, JOB, Ran, Script, done, job, run_with};

/// A name that tries to command the terminal.
const HOSTILE: &str = "co\u{1b}[2Junts";

/// Checkpoint 17 of the job, and a savepoint of it.
struct Snapshots {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Snapshots {
    fn new() -> Self {
        let snapshots = Self {
            directory: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        };
        snapshots.write(SnapshotKind::Checkpoint, &format!("checkpoints/{JOB}/chk-17"));
        snapshots.write(SnapshotKind::Savepoint, "savepoint-fd7201-0123456789ab");
        snapshots
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn checkpoint(&self) -> String {
        self.text(&format!("checkpoints/{JOB}/chk-17"))
    }

    fn savepoint(&self) -> String {
        self.text("savepoint-fd7201-0123456789ab")
    }

    fn write(&self, kind: SnapshotKind, name: &str) {
        let folder = Location::open(&self.text(name)).unwrap();
        let operator = OperatorId::from_uid("counts");
        let options = SnapshotOptions {
            kind,
            location: folder.uri(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::Off,
            compression: Compression::None,
        };
        let context = SubtaskContext {
            job: JOB.parse().unwrap(),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let runtime = self.runtime.handle().clone();
        let mut writer = SubtaskSnapshotWriter::new(&Arc::new(options), context, runtime).unwrap();
        writer
            .begin(&KeyedTable {
                operator,
                label: "counts".to_owned(),
                state: "count".to_owned(),
                key: DataType::String,
                namespace: None,
                value: DataType::UInt64,
                key_groups: KeyGroupRange::all(128),
            })
            .unwrap();
        let mut rows: Vec<(u32, String, u64)> = [("ATL", 7), ("JFK", 5), (HOSTILE, 1)]
            .map(|(key, count)| (key_group_of(key.to_owned().stable_hash(), 128), key.to_owned(), count))
            .to_vec();
        rows.sort();
        for (group, key, count) in rows {
            writer.row(group, &to_row(&key), &to_row(&count)).unwrap();
        }
        writer.end().unwrap();
        let keyed = writer.finish().unwrap().into_values().flatten().collect();
        let metadata = SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind,
            job_id: JOB.parse::<JobId>().unwrap(),
            checkpoint_id: CheckpointId(17),
            triggered_at: WallTime(1_795_208_537_000),
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: random_nonce(),
            graph: JobGraph::new("flights"),
            operators: vec![OperatorState {
                id: operator,
                uid: Some("counts".to_owned()),
                name: HOSTILE.to_owned(),
                parallelism: 1,
                max_parallelism: 128,
                keyed,
                lists: vec![ListState {
                    name: "splits".to_owned(),
                    data_type: DataType::UInt64,
                    items: vec![to_row(&3u64), to_row(&9u64)],
                }],
            }],
        };
        self.runtime.block_on(publish(&folder, &metadata)).unwrap();
    }
}

/// Runs streamctl where no job manager is.
fn run(arguments: &[&str]) -> Ran {
    run_with(&[("STREAMD_JOBMANAGER", "127.0.0.1:9")], arguments)
}

fn objects(arguments: &[&str]) -> Vec<serde_json::Value> {
    let ran = run(&[&["--output", "json"], arguments].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn refused(ran: &Ran, code: i32, error: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(&format!("[{error}]")), "{ran:?}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn checkpoints_are_listed_with_what_they_are_worth() {
    let snapshots = Snapshots::new();
    let place = snapshots.text("checkpoints");
    std::fs::create_dir(snapshots.path(&format!("checkpoints/{JOB}/chk-18"))).unwrap();
    let ran = run(&["checkpoint", "list", &place]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        lines[0].starts_with(&format!(
            "20.11.2026 21:02:17 : file://{place}/{JOB}/chk-17 : flights : "
        )) && lines[0].ends_with(" bytes (complete)"),
        "{ran:?}"
    );
    assert_eq!(lines[1], format!("- : file://{place}/{JOB}/chk-18 (incomplete)"));
    let rows = objects(&["checkpoint", "list", &place]);
    assert_eq!(rows[0]["standing"], "complete");
    assert_eq!(
        (&rows[0]["checkpoint_id"], &rows[0]["kind"]),
        (&17.into(), &"checkpoint".into())
    );
    assert_eq!(
        (&rows[1]["standing"], &rows[1]["job_id"]),
        (&"incomplete".into(), &JOB.into())
    );
    // The same, by the configured folder and the job's id.
    let environment = [("STREAMD_EXECUTION_CHECKPOINTING_DIR", place.as_str())];
    let by_id = run_with(&environment, &["checkpoint", "list", JOB]);
    assert!(by_id.stdout == ran.stdout || by_id.code == 2, "{by_id:?}");
    let empty = run(&["checkpoint", "list", &snapshots.text("nowhere")]);
    assert_eq!(
        empty,
        done(format!("No checkpoints in file://{}.\n", snapshots.text("nowhere")))
    );
}

#[test]
fn a_snapshot_is_shown_with_its_states_and_positions_and_commands_no_terminal() {
    let snapshots = Snapshots::new();
    for (verb, path, first) in [
        ("checkpoint", snapshots.checkpoint(), "Checkpoint"),
        ("savepoint", snapshots.savepoint(), "Savepoint"),
    ] {
        let ran = run(&[verb, "show", &path]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(
            ran.stdout
                .starts_with(&format!("{first} 17 of job {JOB} (flights)\n  Path: file://{path}\n"))
        );
        assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
        assert!(
            ran.stdout
                .contains("  Operator counts (co\\u{1b}[2Junts): parallelism 1, max parallelism 128\n    keyed `count`: string -> uint64, 3 rows,"),
            "{ran:?}"
        );
        assert!(
            ran.stdout
                .contains("    list `splits`: uint64, 2 elements, 16 bytes\n      3\n      9\n"),
            "{ran:?}"
        );
        let object = &objects(&[verb, "show", &path])[0];
        assert_eq!(
            object["operators"][0]["states"][1]["elements"],
            serde_json::json!([3, 9])
        );
        assert_eq!(object["outside"], serde_json::json!([]));
    }
    refused(&run(&["checkpoint", "show", &snapshots.text("nowhere")]), 3, "SD-0501");
}

#[test]
fn verifying_names_every_damaged_object_and_ends_with_7() {
    let snapshots = Snapshots::new();
    let path = snapshots.savepoint();
    let ran = run(&["savepoint", "verify", &path]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.starts_with(&format!("file://{path} is whole: 2 objects, ")),
        "{ran:?}"
    );

    let table = files_below(Path::new(&path))
        .into_iter()
        .find(|file| file.to_str().unwrap().contains("/count/"))
        .unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    for arguments in [["savepoint", "verify"], ["checkpoint", "verify"]] {
        let ran = run(&[&arguments[..], &[&path]].concat());
        refused(&ran, 7, "SD-0502");
        assert!(ran.stdout.starts_with("damaged: counts-"), "{ran:?}");
    }
    let ran = run(&["--output", "json", "savepoint", "verify", &path]);
    let object: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&object["whole"], &object["damages"][0]["problem"]["code"]),
        (&false.into(), &"SD-0502".into())
    );
}

#[test]
fn metadata_of_any_bytes_is_refused_and_nothing_is_deleted() {
    let snapshots = Snapshots::new();
    let path = snapshots.checkpoint();
    let file = snapshots.path(&format!("checkpoints/{JOB}/chk-17/_metadata"));
    let intact = std::fs::read(&file).unwrap();
    let mut damaged: Vec<Vec<u8>> = [0, 1, 8, 20, intact.len() / 2, intact.len() - 1]
        .map(|length| intact[..length].to_vec())
        .to_vec();
    damaged.push([&intact[..], &intact].concat());
    let mut flipped = intact.clone();
    flipped[intact.len() / 3] ^= 0x10;
    damaged.push(flipped);
    for bytes in damaged {
        std::fs::write(&file, &bytes).unwrap();
        for command in [["checkpoint", "show"], ["checkpoint", "verify"], ["state", "list"]] {
            refused(&run(&[&command[..], &[&path]].concat()), 7, "SD-0502");
        }
        refused(&run(&["checkpoint", "dispose", &path, "--yes"]), 7, "SD-0502");
        let fsck = run(&[
            "fsck",
            &snapshots.text("checkpoints"),
            "--delete-orphans",
            "--yes",
            "--older-than",
            "1ms",
        ]);
        refused(&fsck, 7, "SD-0518");
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }
}

#[test]
fn states_are_listed_printed_and_queried() {
    let snapshots = Snapshots::new();
    for path in [snapshots.savepoint(), snapshots.checkpoint()] {
        let listed = objects(&["state", "list", &path]);
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0]["key_schema"], "string");
        let shown = run(&["state", "show", &path, "counts", "count"]);
        let mut lines: Vec<&str> = shown.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["\"ATL\" : 7", "\"JFK\" : 5", "\"co\\u001b[2Junts\" : 1"],
            "{shown:?}"
        );
        let first = run(&["state", "show", &path, "counts", "count", "--limit", "1"]);
        assert_eq!((first.stdout.lines().count(), first.code), (1, 0));
        assert_eq!(first.stderr, "1 of 3 rows; give --limit for more\n");
        assert_eq!(run(&["state", "show", &path, "counts", "splits"]), done("3\n9\n"));

        assert_eq!(
            run(&["state", "query", &path, "counts", "count", "--key", "ATL"]),
            done("\"ATL\" : 7\n")
        );
        let object = &objects(&["state", "query", &path, "counts", "count", "--key", "\"JFK\""])[0];
        assert_eq!((&object["key"], &object["value"]), (&"JFK".into(), &5.into()));
        refused(
            &run(&["state", "query", &path, "counts", "count", "--key", "x"]),
            3,
            "SD-0516",
        );
        refused(
            &run(&["state", "query", &path, "counts", "splits", "--key", "x"]),
            2,
            "SD-0101",
        );
        refused(&run(&["state", "show", &path, "other", "count"]), 3, "SD-0516");
    }
}

#[test]
fn what_changed_from_one_snapshot_to_another_is_told() {
    let snapshots = Snapshots::new();
    let (before, after) = (snapshots.checkpoint(), snapshots.text("after"));
    assert_eq!(
        run(&["state", "diff", &before, &snapshots.savepoint()]),
        done("counts / count\n  no difference in 3 rows\ncounts / splits\n  no difference in 2 rows\n")
    );
    let edit = ["state", "edit", &before, "counts", "count", "--to", &after];
    let changes = ["--set", "ATL=8", "--set", "LAX=2", "--remove", "JFK"];
    assert_eq!(run(&[&edit[..], &changes].concat()).code, 0);

    let told = run(&["state", "diff", &before, &after, "counts", "count"]);
    let mut lines: Vec<&str> = told.stdout.lines().collect();
    lines[1..4].sort_unstable();
    let expected = [
        "counts / count",
        "  + \"LAX\" : 2",
        "  - \"JFK\" : 5",
        "  ~ \"ATL\" : 7 -> 8",
        "  1 added, 1 removed, 1 changed, 1 unchanged",
    ];
    assert_eq!((lines, told.code), (expected.to_vec(), 0));
    let few = run(&["state", "diff", &before, &after, "counts", "count", "--limit", "1"]);
    assert_eq!(few.stdout.lines().count(), 3, "{few:?}");

    let told = objects(&["state", "diff", &before, &after]);
    let changed = told.iter().find(|object| object["change"] == "changed").unwrap();
    assert_eq!(
        (&changed["key"], &changed["before"], &changed["after"]),
        (&"ATL".into(), &7.into(), &8.into())
    );
    let summaries: Vec<_> = told.iter().filter(|object| object["found"] == "both").collect();
    assert_eq!(summaries.len(), 2, "{told:#?}");
    assert_eq!(
        (&summaries[0]["added"], &summaries[1]["unchanged"]),
        (&1.into(), &2.into())
    );

    refused(&run(&["state", "diff", &before, &after, "other"]), 3, "SD-0516");
    refused(
        &run(&["state", "diff", &before, &after, "counts", "other"]),
        2,
        "SD-0101",
    );
    refused(
        &run(&["state", "diff", &before, &snapshots.text("nowhere")]),
        3,
        "SD-0501",
    );
}

#[test]
fn states_are_exported_to_new_files() {
    let snapshots = Snapshots::new();
    let to = snapshots.text("export");
    for (format, extension) in [("json", "jsonl"), ("csv", "csv"), ("parquet", "parquet")] {
        let exported = objects(&[
            "state",
            "export",
            &snapshots.savepoint(),
            "--format",
            format,
            "--to",
            &to,
        ]);
        assert_eq!((exported.len(), &exported[0]["rows"]), (2, &3.into()));
        assert!(
            exported[0]["path"]
                .as_str()
                .unwrap()
                .ends_with(&format!("/count.{extension}"))
        );
        let again = run(&[
            "state",
            "export",
            &snapshots.savepoint(),
            "counts",
            "count",
            "-f",
            format,
            "--to",
            &to,
        ]);
        refused(&again, 4, "SD-0519");
    }
    assert_eq!(files_below(&snapshots.path("export")).len(), 6);
}

#[test]
fn an_edited_savepoint_has_the_changes_and_the_old_one_has_not() {
    let snapshots = Snapshots::new();
    let (old, new) = (snapshots.checkpoint(), snapshots.text("repaired"));
    let edit = ["state", "edit", &old, "counts", "count"];
    let changes = ["--set", "ATL=70", "--set", "BOS=1", "--remove", "JFK", "--to", &new];
    assert_eq!(
        run(&[&edit[..], &changes].concat()),
        done(format!(
            "Savepoint written. Path: file://{new}\nOf state `count` of counts: 1 replaced, 1 added, 1 removed.\n"
        ))
    );
    let rows = |path: &str| -> BTreeMap<String, u64> {
        let rows = objects(&["state", "show", path, "counts", "count"]);
        let pair = |row: &serde_json::Value| (row["key"].as_str().unwrap().to_owned(), row["value"].as_u64().unwrap());
        rows.iter().map(pair).collect()
    };
    let expected = [("ATL", 70), ("BOS", 1), (HOSTILE, 1)].map(|(key, count)| (key.to_owned(), count));
    assert_eq!(rows(&new), BTreeMap::from(expected));
    assert_eq!(rows(&old)["ATL"], 7);
    assert_eq!(run(&["savepoint", "verify", &new]).code, 0);

    refused(&run(&[&edit[..], &changes].concat()), 4, "SD-0519");
    let other = snapshots.text("other");
    refused(
        &run(&[&edit[..], &["--set", "ATL=x", "--to", &other]].concat()),
        2,
        "SD-0517",
    );
    refused(
        &run(&[&edit[..], &["--remove", "LAX", "--to", &other]].concat()),
        3,
        "SD-0516",
    );
    assert!(!snapshots.path("other").exists());
    // What was exported can be changed and given back.
    let export = snapshots.text("export");
    let exported = objects(&["state", "export", &old, "counts", "count", "--to", &export]);
    let file = exported[0]["path"].as_str().unwrap();
    let again = run(&[&edit[..], &["--from", file, "--to", &other]].concat());
    assert!(again.stdout.contains("0 replaced, 0 added, 0 removed"), "{again:?}");
}

#[test]
fn orphans_are_deleted_only_when_they_are_old_and_it_is_meant() {
    let snapshots = Snapshots::new();
    let place = snapshots.text("checkpoints");
    let orphan = snapshots.path(&format!("checkpoints/{JOB}/chk-16/0-0-a1-x.state"));
    std::fs::create_dir(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, "12345").unwrap();
    refused(&run(&["fsck", &snapshots.text("chekcpoints")]), 3, "SD-0501");
    let ran = run(&["fsck", &place]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout
            .contains("  orphan    : 0 objects, 0 bytes\n  pending   : 1 object, 5 bytes\n"),
        "{ran:?}"
    );

    let dry = ["fsck", &place, "--older-than", "1ms", "--delete-orphans"];
    let ran = run(&dry);
    assert!(
        ran.stdout.starts_with(&format!("orphan: file://{}", orphan.display())),
        "{ran:?}"
    );
    assert_eq!(
        ran.stderr,
        "nothing was deleted: this was a dry run; give --yes to delete the orphans\n"
    );
    assert!(orphan.exists());
    let objects = objects(&[&dry[..], &["--yes"]].concat());
    assert_eq!(
        (&objects[0]["class"], &objects[1]["deleted"]["objects"]),
        (&"orphan".into(), &1.into())
    );
    assert!(!orphan.parent().unwrap().exists());
    assert_eq!(run(&["checkpoint", "verify", &snapshots.checkpoint()]).code, 0);

    let table = files_below(Path::new(&snapshots.checkpoint()))
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "state"))
        .unwrap();
    std::fs::remove_file(&table).unwrap();
    let ran = run(&["fsck", &place]);
    refused(&ran, 7, "SD-0502");
    assert!(
        ran.stdout
            .starts_with(&format!("missing: file://{} does not exist; ", table.display())),
        "{ran:?}"
    );
}

#[test]
fn a_checkpoint_is_disposed_of_unless_its_job_runs() {
    let snapshots = Snapshots::new();
    let path = snapshots.checkpoint();
    let unasked = run(&["checkpoint", "dispose", &path]);
    refused(&unasked, 2, "SD-0101");
    let running = Fake::start(Script {
        jobs: vec![job("flights", JobState::Running)],
        details: Some(JobDetails {
            summary: Some(job("flights", JobState::Running)),
            ..JobDetails::default()
        }),
        ..Script::default()
    });
    refused(&running.run(&["checkpoint", "dispose", &path, "--yes"]), 4, "SD-0515");
    // Also where the job manager that is configured is gone, and another one leads.
    let configured = elected(&running.address(), 1);
    let environment = [("STREAMD_CONF_DIR", configured.path().to_str().unwrap())];
    let asked = run_with(&environment, &["checkpoint", "dispose", &path, "--yes"]);
    refused(&asked, 4, "SD-0515");
    assert!(snapshots.path(&format!("checkpoints/{JOB}/chk-17/_metadata")).exists());

    let ran = run(&["checkpoint", "dispose", &path, "--yes"]);
    assert_eq!((ran.code, ran.stdout), (0, format!("Disposed of file://{path}.\n")));
    assert!(
        ran.stderr
            .starts_with("warning: nobody can say whether a job uses the snapshot: "),
        "{}",
        ran.stderr
    );
    assert!(!snapshots.path(&format!("checkpoints/{JOB}")).exists());
}
