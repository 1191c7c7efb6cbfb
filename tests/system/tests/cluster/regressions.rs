//! What broke in Flink, done to whole clusters: docs/explanation/regressions.md says which scenario is tested where.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use servers::not_tested;
use system::files::{complete_checkpoints, number, path_of, text};
use system::wait::Stopwatch;
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

/// Records before the savepoint that jobs start from.
const BEFORE: u64 = 1_000;
/// Records altogether.
const RECORDS: u64 = 6_000;

/// Within this time of the end of a job, what is to be deleted is: deletions that fail are tried again after some seconds.
const SOON: Duration = Duration::from_secs(120);

/// A cluster whose jobs restart as often as they must.
fn patient() -> Cluster {
    ClusterBuilder::new(2, 1)
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
        .start()
}

/// The savepoint of a job that has counted [`BEFORE`] records.
fn counted_before(cluster: &Cluster) -> String {
    let gate = Gate::closed(cluster.path("first-gate"));
    let torture = Torture::new().records(RECORDS).held_at(BEFORE, &gate);
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    until("the first records are counted", || {
        (torture.committed() == BEFORE).then_some(())
    });
    text(&cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]))
}

/// RS24: however long workers take to restore, they are alive meanwhile, and can be told to stop.
#[test]
fn a_restore_that_takes_longer_than_the_patience_with_workers_is_waited_for_and_can_be_cancelled() {
    const PATIENCE: Duration = Duration::from_secs(4);
    let cluster = ClusterBuilder::new(2, 1)
        .setting("heartbeat.interval", "1 s")
        .setting("heartbeat.timeout", "4 s")
        .start();
    let savepoint = counted_before(&cluster);
    let restoring = cluster.path("restoring");
    fs::write(&restoring, "").unwrap();
    let torture = Torture::new().records(RECORDS).output(cluster.path("output"));
    let torture = torture.argument("--restore-while", &text(&restoring));
    let resume = ["-p", "2", "-D", CHECKPOINTS, "-s", &savepoint];
    for finishes in [false, true] {
        let id = cluster.submit(&resume, &torture.command());
        until("the subtasks take over their state", || {
            let status = cluster.status(&id);
            let vertices = status["vertices"].as_array().unwrap().iter();
            let mut subtasks = vertices.flat_map(|vertex| vertex["subtasks"].as_array().unwrap());
            subtasks.any(|subtask| subtask["state"] == "INITIALIZING").then_some(())
        });
        // Time in which a worker without a sign of life is given up twice over.
        std::thread::sleep(2 * PATIENCE);
        assert_eq!(cluster.job(&id).restarts, 0, "{}", cluster.status(&id));
        if finishes {
            fs::remove_file(&restoring).unwrap();
            assert_eq!(cluster.wait_for(&id, "FINISHED").restarts, 0);
        } else {
            cluster.streamctl(&["cancel", &id]).succeeded();
            cluster.wait_for(&id, "CANCELED");
        }
    }
    torture.assert_complete(RECORDS);
}

/// RS20: a failure during the restore, or before the first checkpoint, must not restart without the state.
#[test]
fn a_job_that_dies_before_its_first_checkpoint_starts_from_its_savepoint_again() {
    let cluster = patient();
    let savepoint = counted_before(&cluster);
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(RECORDS).held_at(RECORDS - 500, &gate);
    let torture = torture.output(cluster.path("output"));
    let never = "execution.checkpointing.interval=1 h";
    let id = cluster.submit_and_wait(&["-p", "2", "-D", never, "-s", &savepoint], &torture.command());
    for restarts in 1..=3 {
        if restarts > 1 {
            // Twice as soon as its subtasks run again, and once after it has done something.
            cluster.wait_for_records(&id, 100);
        }
        cluster.worker_of(&id).kill();
        cluster.wait_for_restart(&id, restarts);
    }
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

/// RS43: a checkpoint that is taken right after a restore must hold what was restored, and another failure restores that.
#[test]
fn a_checkpoint_right_after_a_restore_holds_what_was_restored() {
    let cluster = patient();
    let savepoint = counted_before(&cluster);
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(RECORDS).rate(500).held_at(RECORDS - 500, &gate);
    let torture = torture.output(cluster.path("output"));
    let at_once = "execution.checkpointing.interval=10 ms";
    let id = cluster.submit_and_wait(&["-p", "2", "-D", at_once, "-s", &savepoint], &torture.command());
    let completed = || number(&cluster.status(&id)["checkpoints"], "completed");
    for restarts in 1..=4 {
        let before = if restarts == 1 { 0 } else { completed() };
        until("the first checkpoint after the restore is complete", || {
            (completed() > before).then_some(())
        });
        cluster.worker_of(&id).kill();
        cluster.wait_for_restart(&id, restarts);
    }
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

/// RS1, RS4 to RS7, RS10: checkpoints that share files, several at once, through deaths; invariants I9 and I10.
#[test]
fn through_deaths_nothing_that_is_needed_is_deleted_and_nothing_else_stays() {
    let mut cluster = patient();
    let settings = [
        "execution.checkpointing.interval=150 ms",
        "execution.checkpointing.max-concurrent-checkpoints=3",
        "execution.checkpointing.num-retained=3",
        "execution.checkpointing.incremental=true",
        "execution.checkpointing.data-inline-threshold=0",
        "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION",
    ];
    let options: Vec<&str> = ["-p", "2"]
        .into_iter()
        .chain(settings.iter().flat_map(|it| ["-D", it]))
        .collect();
    let many_keys = Torture::new().argument("--keys", "10000").rate(2_000).command();
    let id = cluster.submit_and_wait(&options, &many_keys);
    let folder = cluster.path("data/checkpoints").join(&id);
    let several_checkpoints = |cluster: &Cluster| {
        let completed = || number(&cluster.status(&id)["checkpoints"], "completed");
        let before = completed();
        until("several checkpoints are complete", || {
            (completed() >= before + 5).then_some(())
        });
    };
    for restarts in 1..=4 {
        several_checkpoints(&cluster);
        if restarts == 3 {
            // The next one finds folders without a record, of which some hold what the latest checkpoint refers to.
            cluster.daemon("jobmanager").kill();
            cluster.start_job_manager_again();
            cluster.wait_until_ready(2);
            cluster.wait_for_restart(&id, 2);
        }
        cluster.worker_of(&id).kill();
        cluster.wait_for_restart(&id, restarts);
    }
    several_checkpoints(&cluster);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();

    let fsck = || {
        let place = cluster.place("data/checkpoints");
        let ran = cluster.streamctl(&["fsck", &place, "--verbose", "--older-than", "1ms", "--output", "json"]);
        ran.succeeded().objects()
    };
    let orphans = |found: &[Value]| found.iter().filter(|object| object["class"] == "orphan").count();
    // What the last deletions leave is gone soon.
    let watch = Stopwatch::start();
    let found = until("nothing is there that nothing refers to, or will not go", || {
        let found = fsck();
        (orphans(&found) == 0 || watch.elapsed() > SOON).then_some(found)
    });
    assert_eq!(orphans(&found), 0, "{found:#?}");
    let summary = found.last().unwrap();
    assert_eq!(
        (number(summary, "missing"), number(summary, "unreadable")),
        (0, 0),
        "{summary:#}"
    );
    let left = complete_checkpoints(&folder);
    assert_eq!(left.len(), 3, "three are retained, the rest is none any more: {left:?}");
    let mut referred_to = BTreeSet::new();
    for checkpoint in &left {
        let path = text(checkpoint);
        cluster.streamctl(&["checkpoint", "verify", &path]).succeeded();
        let shown = cluster
            .streamctl(&["checkpoint", "show", &path, "--output", "json"])
            .succeeded();
        let outside = shown.objects()[0]["outside"].as_array().unwrap().clone();
        let folders = outside
            .iter()
            .map(|uri| path_of(uri.as_str().unwrap()).parent().unwrap().to_owned());
        referred_to.extend(folders);
    }
    assert!(
        !referred_to.is_empty(),
        "no checkpoint refers to another: this test tests nothing"
    );
    for checkpoint in &left {
        let resumed = cluster.submit_and_wait(&["-p", "1", "-s", &text(checkpoint)], &many_keys);
        cluster.streamctl(&["cancel", &resumed]).succeeded();
        cluster.wait_for(&resumed, "CANCELED");
    }
}

/// RS9: a deletion that fails is garbage, and never the end of a job.
#[test]
fn a_checkpoint_that_cannot_be_deleted_ends_no_job() {
    let cluster = Cluster::start(1, 1);
    let torture = Torture::new().rate(500).output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    let mounted = until("a checkpoint is there to put a file system upon", || {
        let folder = cluster.checkpoints(&id).pop()?;
        match Mounted::upon(&folder) {
            // It was deleted just before.
            None if !folder.exists() => None,
            other => Some(other.map(|mounted| (folder, mounted))),
        }
    });
    let Some((folder, mounted)) = mounted else {
        return not_tested("this user may not mount a file system, so that a folder cannot be deleted");
    };
    let log = cluster.path("daemons/jobmanager.err");
    let told = || fs::read_to_string(&log).unwrap_or_default();
    until("the job manager tells that it cannot be deleted", || {
        told().contains("snapshot could not be discarded").then_some(())
    });
    let completed = || number(&cluster.status(&id)["checkpoints"], "completed");
    let before = completed();
    until("checkpoints are complete after it", || {
        (completed() > before + 2).then_some(())
    });
    let job = cluster.job(&id);
    assert_eq!((job.state.as_str(), job.restarts), ("RUNNING", 0), "{job:?}");
    assert!(folder.exists());
    // From now on it may go.
    drop(mounted);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
}

/// A file system upon a folder, which cannot be removed for as long.
struct Mounted(PathBuf);

impl Mounted {
    fn upon(folder: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folder);
        let mounted = mount.output().is_ok_and(|ran| ran.status.success());
        mounted.then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}
