//! Checkpoints that are the files of databases.

use std::fs;

use system::files::{everything_below, files_below, text};
use system::moves::assert_state_moves;
use system::{Cluster, Gate, Torture, until};

use crate::CHECKPOINTS;

const INCREMENTAL: &str = "execution.checkpointing.incremental=true";
const RETAIN: &str = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";

/// A job with checkpoints that are kept, and hold every key.
fn submit_and_wait_for_state(cluster: &Cluster) -> String {
    let torture = Torture::new().rate(500).output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", RETAIN], &torture.command());
    until("every key is counted in a checkpoint", || {
        (torture.committed() >= 100).then_some(())
    });
    id
}

#[test]
fn a_job_on_disk_survives_the_deaths_of_its_workers() {
    let cluster = Cluster::start(2, 1);
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(12_000).rate(1_500).held_at(11_000, &gate);
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS, "-D", INCREMENTAL], &torture.command());
    for restarts in 1..=2 {
        let before = torture.committed();
        until("more records are committed, or all there are", || {
            let committed = torture.committed();
            (committed > before || committed == 11_000).then_some(())
        });
        let workers = cluster.workers_of(&id);
        workers[restarts as usize % workers.len()].kill();
        cluster.wait_for_restart(&id, restarts);
    }
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(12_000);
    cluster.wait_for_no_workers();
    // Invariant I21: no remains.
    until("no database is left", || {
        let files = everything_below(&cluster.path("data"));
        (!files.iter().any(|path| path.ends_with("CURRENT"))).then_some(())
    });
}

/// Every backend goes on from the savepoint of every other.
#[test]
fn state_moves_between_all_backends_by_savepoint() {
    let every_pair = [
        "hashmap", "memory", "hashmap", "rocksdb", "memory", "rocksdb", "hashmap",
    ];
    assert_state_moves(&Cluster::start(1, 3), &every_pair);
}

#[test]
fn a_retained_checkpoint_of_databases_is_restored_onto_the_heap_at_another_parallelism() {
    let cluster = Cluster::start(1, 3);
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(20_000).rate(1_000).held_at(19_000, &gate);
    let paced = paced.output(output.clone());
    let settings = ["-p", "2", "-D", CHECKPOINTS, "-D", INCREMENTAL, "-D", RETAIN];
    let id = cluster.submit_and_wait(&settings, &paced.command());
    paced.wait_for_commits(0);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    let checkpoint = cluster.checkpoints(&id).pop().expect("a checkpoint is kept");
    let is_table = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "sst");
    assert!(
        files_below(&cluster.path("data/checkpoints").join(&id))
            .iter()
            .any(is_table)
    );

    let unpaced = Torture::new().records(20_000).output(output);
    let onto_heap = ["-p", "3", "-D", "state.backend.type=hashmap", "-s", &text(&checkpoint)];
    cluster.run(&onto_heap, &unpaced.command()).succeeded();
    unpaced.assert_complete(20_000);
}

#[test]
fn a_savepoint_of_databases_is_rows_and_a_checkpoint_their_files() {
    let cluster = Cluster::start(1, 1);
    let id = submit_and_wait_for_state(&cluster);
    let savepoint = text(&cluster.savepoint(&id, &cluster.place("savepoints")));
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    let shown = cluster.streamctl(&["state", "show", &savepoint, "ordinals", "ordinal", "--output", "json"]);
    assert_eq!(shown.succeeded().objects().len(), 10);

    let checkpoint = text(&cluster.checkpoints(&id).pop().expect("a checkpoint is kept"));
    // Whether `streamctl` reads the rows depends on how it was built: that is tested there.
    let listed = cluster
        .streamctl(&["state", "list", &checkpoint, "--output", "json"])
        .succeeded();
    let mut states = listed.objects();
    states.retain(|state| state["state"] == "ordinal");
    assert_eq!(states[0]["rows"], 10, "{listed:#?}");
    cluster.streamctl(&["checkpoint", "verify", &checkpoint]).succeeded();
}

#[test]
fn a_table_file_that_is_damaged_is_refused_and_the_state_never_starts_empty() {
    let cluster = Cluster::start(1, 1);
    let id = submit_and_wait_for_state(&cluster);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    let checkpoint = cluster.checkpoints(&id).pop().expect("a checkpoint is kept");
    let table = files_below(&checkpoint)
        .into_iter()
        .find(|path| path.extension().is_some_and(|it| it == "sst"));
    let table = table.expect("the rows are in a file");
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, &bytes).unwrap();
    let verified = cluster.streamctl(&["checkpoint", "verify", &text(&checkpoint)]);
    verified.refused(7, "SD-0502", "");
    let settings = ["-D", "restart-strategy=none", "-D", CHECKPOINTS, "-D", RETAIN];
    let checkpoint = text(&checkpoint);
    let resumed = [settings.as_slice(), &["-s", &checkpoint]].concat();
    // Files are read while records flow: the job would go on for as long as nobody has found it.
    let again = Torture::new().rate(500).output(cluster.path("output"));
    let ran = cluster.run(&resumed, &again.command());
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(
        ran.stderr.contains(table.file_name().unwrap().to_str().unwrap()) && ran.stderr.contains("SD-0502"),
        "{ran:#?}"
    );
    let complete = files_below(&cluster.path("data/checkpoints")).into_iter();
    let mut complete = complete.filter(|path| path.ends_with("_metadata"));
    assert!(
        complete.all(|path| path.iter().any(|part| part == id.as_str())),
        "damage was handed on"
    );
}
