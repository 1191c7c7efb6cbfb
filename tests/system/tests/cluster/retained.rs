//! Checkpoints that outlive their job because they are to, and those that must not.

use std::fs;
use std::path::PathBuf;

use system::files::number;
use system::{Cluster, Gate, Torture, until};

use crate::CHECKPOINTS;

/// The one complete checkpoint of a job that is left when those before it are deleted, which may take until after the job's end.
fn the_checkpoint(cluster: &Cluster, id: &str) -> PathBuf {
    until("exactly one checkpoint is left", || {
        let mut left = cluster.checkpoints(id);
        left.pop().filter(|_| left.is_empty())
    })
}

#[test]
fn a_retained_checkpoint_outlives_its_job_and_another_goes_on_from_it() {
    let cluster = Cluster::start(1, 3);
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(20_000).rate(1_500).held_at(19_000, &gate);
    let paced = paced.output(output.clone());
    let retain = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS, "-D", retain], &paced.command());
    paced.wait_for_commits(0);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();

    let checkpoint = the_checkpoint(&cluster, &id);
    let unpaced = Torture::new().records(20_000).output(output);
    let path = checkpoint.to_str().unwrap();
    cluster.run(&["-p", "3", "-s", path], &unpaced.command()).succeeded();
    unpaced.assert_complete(20_000);
    assert!(
        checkpoint.join("_metadata").is_file(),
        "a checkpoint of the user's was deleted"
    );
}

#[test]
fn checkpoints_that_nobody_wants_to_keep_are_gone_with_their_job() {
    let cluster = Cluster::start(1, 3);
    let delete = "execution.checkpointing.externalized-checkpoint-retention=DELETE_ON_CANCELLATION";
    let kept_on_failure = cluster.submit_and_wait(
        &["-D", CHECKPOINTS, "-D", delete, "-D", "restart-strategy=none"],
        &Torture::new().rate(500).command(),
    );
    let cancelled = cluster.submit_and_wait(&["-D", CHECKPOINTS], &Torture::new().rate(500).command());
    let gate = Gate::closed(cluster.path("gate"));
    let finished = Torture::new().rate(500).records(500).held_at(400, &gate);
    let finished = cluster.submit_and_wait(&["-D", CHECKPOINTS], &finished.command());
    for id in [&kept_on_failure, &cancelled, &finished] {
        until("a checkpoint is complete", || cluster.checkpoints(id).pop());
    }
    gate.open();
    cluster.streamctl(&["cancel", &cancelled]).succeeded();
    cluster.wait_for(&cancelled, "CANCELED");
    cluster.wait_for(&finished, "FINISHED");
    for id in [&cancelled, &finished] {
        // Invariant I10: no orphan, not even an empty folder.
        let folder = cluster.path("data/checkpoints").join(id);
        until("nothing is left of its checkpoints", || {
            (!folder.exists()).then_some(())
        });
    }
    cluster.worker_of(&kept_on_failure).kill();
    cluster.wait_for(&kept_on_failure, "FAILED");
    the_checkpoint(&cluster, &kept_on_failure);
    let mut others: Vec<_> = fs::read_dir(cluster.path("data/checkpoints"))
        .unwrap()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    others.retain(|name| name != "claimed-by.json");
    assert_eq!(others.len(), 1, "{others:?}");
}

#[test]
fn old_checkpoints_give_way_to_new_ones() {
    let cluster = Cluster::start(1, 1);
    let two = "execution.checkpointing.num-retained=2";
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", two], &Torture::new().rate(500).command());
    until("many checkpoints were taken", || {
        let status = cluster.status(&id);
        (number(&status["checkpoints"], "completed") >= 8).then_some(())
    });
    // Two are kept; one more may be complete already, one under way, and some not deleted yet, but not all that ever were.
    let folder = cluster.path("data/checkpoints").join(&id);
    until("the old ones are deleted", || {
        let folders = fs::read_dir(&folder).unwrap().flatten();
        let folders = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("chk-"));
        (2..=5).contains(&folders.count()).then_some(())
    });
}
