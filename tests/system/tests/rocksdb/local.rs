//! Files of a checkpoint after a worker has died: those that are still on the local disk, and those that are in another store.

use std::fs;
use std::path::PathBuf;

use servers::moto;
use system::files::{everything_below, files_below};
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

const INCREMENTAL: &str = "execution.checkpointing.incremental=true";
const NOT_LOCAL: &str = "state.backend.local-recovery=false";

/// Records before the gate, and all.
const HELD_AT: u64 = RECORDS - 1_000;
const RECORDS: u64 = 3_000;

/// A job whose state does not change for as long as the gate is closed, and is in a checkpoint.
fn held_job(cluster: &Cluster, settings: &[&str]) -> (String, Torture, Gate) {
    let (torture, gate) = Torture::held(cluster, RECORDS, 4_000);
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["-D", setting]).collect();
    let id = cluster.submit_and_wait(&settings, &torture.command());
    until("everything before the gate is committed", || {
        (torture.committed() == HELD_AT).then_some(())
    });
    (id, torture, gate)
}

/// The files that workers keep for those that follow.
fn kept(cluster: &Cluster) -> Vec<PathBuf> {
    let files = files_below(&cluster.path("data")).into_iter();
    files
        .filter(|file| file.iter().any(|part| part == "local-state"))
        .collect()
}

/// How many files were fetched, linked from the store, and there, and how many are to come, by what the worker of the newest attempt says.
fn origins(cluster: &Cluster, id: &str) -> (u64, u64, u64, u64) {
    until("a worker says where the files of its database came from", || {
        let log = cluster.streamctl(&["logs", id]).succeeded().stdout;
        let line = log
            .lines()
            .rfind(|line| line.contains("the files of a database are here"))?;
        let count = |name: &str| {
            line.split_once(&format!(" {name}="))?
                .1
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        Some((count("fetched")?, count("linked")?, count("local")?, count("coming")?))
    })
}

#[test]
fn files_that_are_still_on_the_disk_are_not_fetched_again_and_go_with_the_job() {
    let cluster = Cluster::start(1, 1);
    let (id, torture, gate) = held_job(&cluster, &[CHECKPOINTS, INCREMENTAL]);
    assert!(!kept(&cluster).is_empty(), "no file is kept");
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let (fetched, linked, local, coming) = origins(&cluster, &id);
    assert_eq!((fetched, linked, coming), (0, 0, 0));
    assert!(local > 0);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
    // Invariant I21: no remains.
    until("nothing local is left of the job", || {
        let left = everything_below(&cluster.path("data"));
        let is_local = |path: &PathBuf| {
            path.iter()
                .any(|part| part == "local-state" || part == "streamd-rocksdb")
        };
        (!left.iter().any(is_local)).then_some(())
    });
}

#[test]
fn files_whose_bytes_were_changed_cost_one_more_restart_and_are_taken_from_the_store() {
    let cluster = Cluster::start(1, 1);
    let (id, torture, gate) = held_job(&cluster, &[CHECKPOINTS, INCREMENTAL]);
    let files = kept(&cluster);
    assert!(!files.is_empty(), "no file is kept");
    for file in &files {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // Another file of the same name: the running database has the old one.
        let changed = cluster.path("changed");
        fs::write(&changed, &bytes).unwrap();
        fs::rename(&changed, file).unwrap();
    }
    cluster.worker_of(&id).kill();
    // They are read while records flow.
    until("the job has restarted without them", || {
        let log = cluster.streamctl(&["logs", &id]).succeeded().stdout;
        let refused = log.find("a file that state was restored from is refused")?;
        log[refused..]
            .contains("the files of a database are here")
            .then_some(())
    });
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

#[test]
fn no_file_stays_where_local_recovery_is_switched_off() {
    let cluster = Cluster::start(1, 1);
    let (id, torture, gate) = held_job(&cluster, &[CHECKPOINTS, INCREMENTAL, NOT_LOCAL]);
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let (fetched, linked, local, coming) = origins(&cluster, &id);
    assert_eq!((local, coming), (0, 0));
    // The manifest, which is written on.
    assert_eq!(fetched, 1);
    assert!(linked > 0);
    assert!(kept(&cluster).is_empty());
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

#[test]
fn files_of_an_object_store_come_while_the_job_runs() {
    let server = moto::start();
    let cluster = ClusterBuilder::new(1, 1)
        .setting("s3.endpoint", &server.url())
        .setting("s3.access-key", "streamd-test")
        .setting("s3.secret-key", "a-secret-of-this-test")
        .setting("state.checkpoints.dir", &format!("s3a://{}/checkpoints", moto::BUCKET))
        .start();
    let (id, torture, gate) = held_job(&cluster, &[CHECKPOINTS, INCREMENTAL, NOT_LOCAL]);
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let (fetched, linked, local, coming) = origins(&cluster, &id);
    assert_eq!((fetched, linked, local), (1, 0, 0));
    assert!(coming > 0);
    // Once of what came, and once of a checkpoint that is made of it.
    let last = || cluster.status(&id)["last_checkpoint"]["id"].as_u64().unwrap();
    let before = last();
    until("a checkpoint of what came is complete", || {
        (last() > before + 1).then_some(())
    });
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 2);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}
