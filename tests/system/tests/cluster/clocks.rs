//! A clock on the wall that jumps: nothing is decided by it.

use std::fs;
use std::path::{Path, PathBuf};

use system::files::number;
use system::{ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

/// The library that shows programs another time, of Debian's package `faketime`.
fn library() -> PathBuf {
    let places = fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|library| library.exists());
    found.expect("libfaketimeMT.so.1 is missing: install the package `faketime`, or run bin/test, which does")
}

/// Has the clock of whoever looks at this file differ by so much from the true one.
fn turn(clock: &Path, by: &str) {
    let next = clock.with_extension("next");
    fs::write(&next, format!("{by}\n")).unwrap();
    fs::rename(&next, clock).unwrap();
}

#[test]
fn a_clock_that_jumps_costs_no_checkpoint_no_worker_and_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    turn(&clock, "+0");
    let cluster = ClusterBuilder::new(2, 1)
        // Whoever is taken for lost fails the job for good.
        .setting("restart-strategy.type", "none")
        .variable("LD_PRELOAD", library().to_str().unwrap())
        .variable("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("NO_FAKE_STAT", "1")
        .start();
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(3_000).rate(1_500).held_at(2_000, &gate);
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let completed = || number(&cluster.status(&id)["checkpoints"], "completed");
    let born = cluster.job(&id).start_time_ms;
    for jump in ["+1h", "-10m", "+1y", "-1h", "+0"] {
        turn(&clock, jump);
        let before = completed();
        until("two more checkpoints are complete", || {
            (completed() >= before + 2).then_some(())
        });
        assert_eq!(cluster.job(&id).restarts, 0);
        assert_eq!(cluster.workers_of(&id).len(), 2);
    }
    // The clock did jump: a job that is submitted in another year has another birthday.
    turn(&clock, "-1y");
    let other = cluster.submit(&[], &Torture::new().rate(100).command());
    assert!(
        cluster.job(&other).start_time_ms < born,
        "the daemons look at the true clock"
    );
    cluster.streamctl(&["cancel", &other]).succeeded();
    cluster.wait_for(&other, "CANCELED");
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(3_000);
}
