//! Checkpoints that outlive their job because they are to, and those that must not.

use std::fs;
use std::path::PathBuf;

use system::files::everything_below;
use system::{Cluster, Torture, until};

use crate::CHECKPOINTS;

/// The folders of the checkpoints of a job that have metadata.
fn checkpoints(cluster: &Cluster, id: &str) -> Vec<PathBuf> {
    let folder = cluster.path("data/checkpoints").join(id);
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("_metadata").is_file())
        .collect();
    found.sort();
    found
}

#[test]
fn a_retained_checkpoint_outlives_its_job_and_another_goes_on_from_it() {
    let cluster = Cluster::start(1, 3);
    let output = cluster.path("output");
    let paced = Torture::new().records(20_000).rate(1_500).output(output.clone());
    let retain = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS, "-D", retain], &paced.command());
    until("records are committed", || (paced.committed() > 0).then_some(()));
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();

    let left = checkpoints(&cluster, &id);
    let [checkpoint] = &left[..] else {
        panic!("not exactly one checkpoint is left: {left:?}");
    };
    let name = checkpoint.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("chk-"), "{name}");
    let before = paced.numbers().len();
    assert!(before < 20_000, "the job was too fast");

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
    let finished = Torture::new().rate(500).records(500);
    let finished = cluster.submit_and_wait(&["-D", CHECKPOINTS], &finished.command());
    for id in [&kept_on_failure, &cancelled, &finished] {
        until("a checkpoint is complete", || {
            (!checkpoints(&cluster, id).is_empty()).then_some(())
        });
    }
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
    let workers = cluster.workers();
    let worker = workers.iter().find(|worker| worker.job_id == kept_on_failure).unwrap();
    worker.kill();
    cluster.wait_for(&kept_on_failure, "FAILED");
    assert_eq!(checkpoints(&cluster, &kept_on_failure).len(), 1);
    let others: Vec<_> = fs::read_dir(cluster.path("data/checkpoints")).unwrap().collect();
    assert_eq!(others.len(), 1, "{others:?}");
}

#[test]
fn old_checkpoints_give_way_to_new_ones() {
    let cluster = Cluster::start(1, 1);
    let two = "execution.checkpointing.num-retained=2";
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", two], &Torture::new().rate(500).command());
    let number = |path: &PathBuf| -> u64 {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.strip_prefix("chk-").unwrap().parse().unwrap()
    };
    until("many checkpoints were taken", || {
        checkpoints(&cluster, &id)
            .iter()
            .map(number)
            .max()
            .filter(|latest| *latest >= 6)
    });
    // Two are kept; one more may be complete already, one under way, and one not deleted yet.
    let folder = cluster.path("data/checkpoints").join(&id);
    let folders = fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("chk-"));
    let count = folders.count();
    assert!((2..=5).contains(&count), "{:?}", everything_below(&folder));
}
