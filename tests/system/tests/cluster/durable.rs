//! Savepoints as durable things: asked after by another shell and another job manager, made of jobs that do not run, resumed
//! by name; and nothing that is left behind.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use system::files::{everything_below, path_of};
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

/// An operation id of the user's choice.
const REQUEST: &str = "0123456789abcdef0123456789abcdef";

const RETAIN: &str = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";

fn operation(cluster: &Cluster, id: &str) -> Value {
    let asked = cluster.streamctl(&["savepoint", "status", "--wait", id, "--output", "json"]);
    asked.succeeded().objects().remove(0)
}

fn empty_folders(below: &Path) -> Vec<PathBuf> {
    let all = everything_below(below).into_iter().chain([below.to_owned()]);
    // What vanishes meanwhile is not left.
    let is_empty = |path: &PathBuf| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    all.filter(is_empty).collect()
}

#[test]
fn a_savepoint_that_nobody_waited_for_is_told_by_the_next_job_manager() {
    let mut cluster = Cluster::start(1, 1);
    let folder = cluster.place("savepoints");
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &Torture::new().rate(500).command());
    let begun = cluster.streamctl(&["savepoint", "--detached", "--request-id", REQUEST, &id, &folder]);
    let begun = begun.succeeded();
    assert!(
        begun.stdout.contains(&format!("streamctl savepoint status {REQUEST}")),
        "{begun:#?}"
    );
    let told = operation(&cluster, REQUEST);
    assert_eq!(told["state"], "COMPLETED", "{told:#}");
    assert!(
        path_of(told["savepoint_path"].as_str().unwrap())
            .join("_metadata")
            .is_file()
    );

    cluster.daemon("jobmanager").terminate();
    cluster.start_daemon("jobmanager-2", &["jobmanager"]);
    cluster.wait_until_ready(1);
    let again = operation(&cluster, REQUEST);
    assert_eq!(
        (&again["state"], &again["savepoint_path"]),
        (&told["state"], &told["savepoint_path"])
    );
    let listed = cluster
        .streamctl(&["savepoint", "list", &id, "--output", "json"])
        .succeeded();
    assert_eq!(listed.objects().len(), 1, "{listed:#?}");
}

#[test]
fn a_job_that_crashes_again_and_again_gives_its_last_checkpoint_as_a_savepoint() {
    let cluster = ClusterBuilder::new(1, 1)
        .setting("restart-strategy.fixed-delay.delay", "1 h")
        .start();
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(20_000).rate(1_500).output(output.clone());
    let paced = paced.held_at(19_000, &gate);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &paced.command());
    paced.wait_for_commits(0);
    cluster.worker_of(&id).kill();
    cluster.wait_for(&id, "RESTARTING");
    let made = cluster
        .streamctl(&["savepoint", &id, &cluster.place("savepoints")])
        .succeeded();
    assert!(
        made.stderr.contains("copy of its last completed checkpoint"),
        "{made:#?}"
    );
    let listed = cluster
        .streamctl(&["savepoint", "list", "--output", "json"])
        .succeeded();
    let savepoint = path_of(listed.objects()[0]["savepoint_path"].as_str().unwrap());
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    // It is movable and complete: the next job goes on from it, exactly.
    let moved = cluster.path("moved");
    fs::rename(&savepoint, &moved).unwrap();
    let unpaced = Torture::new().records(20_000).output(output);
    let arguments = ["-s", moved.to_str().unwrap()];
    cluster.run(&arguments, &unpaced.command()).succeeded();
    unpaced.assert_complete(20_000);
}

#[test]
fn a_job_goes_on_by_its_name_from_where_it_was_cancelled() {
    let cluster = Cluster::start(1, 1);
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(20_000).rate(1_500).output(output.clone());
    let paced = paced.held_at(19_000, &gate);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", RETAIN], &paced.command());
    let name = cluster.status(&id)["name"].as_str().unwrap().to_owned();
    paced.wait_for_commits(0);
    let unpaced = Torture::new().records(20_000).output(output);
    let resume = ["--resume", name.as_str()];
    cluster.run(&resume, &unpaced.command()).refused(4, "SD-0414", &id);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster
        .run(&["--resume", "nobody"], &unpaced.command())
        .refused(3, "SD-0413", "nobody");
    let ran = cluster.run(&resume, &unpaced.command()).succeeded();
    assert!(
        ran.stderr.contains("Resuming from checkpoint ") && ran.stderr.contains(&id),
        "{ran:#?}"
    );
    unpaced.assert_complete(20_000);
}

#[test]
fn a_claimed_checkpoint_goes_with_all_its_folders_and_an_unclaimed_one_stays() {
    let cluster = Cluster::start(1, 1);
    let start = || Torture::new().rate(500).command();
    let checkpoints = cluster.path("data/checkpoints");
    for (mode, stays) in [("NO_CLAIM", true), ("claim", false)] {
        let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", RETAIN], &start());
        until("a checkpoint is complete", || cluster.checkpoints(&id).pop());
        cluster.streamctl(&["cancel", &id]).succeeded();
        cluster.wait_for(&id, "CANCELED");
        let kept = cluster.checkpoints(&id).pop().unwrap();
        let arguments = ["-s", kept.to_str().unwrap(), "--claimMode", mode, "-D", CHECKPOINTS];
        let next = cluster.submit_and_wait(&arguments, &start());
        until("two checkpoints are complete", || {
            (cluster.status(&next)["checkpoints"]["completed"].as_u64()? >= 2).then_some(())
        });
        if stays {
            assert!(kept.join("_metadata").is_file());
        } else {
            until("nothing is left of it", || {
                (!kept.parent().unwrap().exists()).then_some(())
            });
        }
        cluster.streamctl(&["cancel", &next]).succeeded();
        cluster.wait_for(&next, "CANCELED");
        until("nothing is left of the next job", || {
            (!checkpoints.join(&next).exists()).then_some(())
        });
    }
    let refused = cluster.run(&["-s", "/nowhere", "--claimMode", "LEGACY"], &start());
    assert!(
        refused.code == 2 && refused.stderr.contains("nobody owns"),
        "{refused:#?}"
    );
}

#[test]
fn a_job_id_whose_checkpoints_are_there_is_not_given_out_again() {
    let mut cluster = Cluster::start(1, 1);
    let start = || Torture::new().rate(500).command();
    let options = ["-D", CHECKPOINTS, "-D", RETAIN, "--job-id", REQUEST];
    let id = cluster.submit_and_wait(&options, &start());
    until("a checkpoint is complete", || cluster.checkpoints(&id).pop());
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.daemon("jobmanager").terminate();
    cluster.daemon("taskmanager-0").terminate();
    // Nobody remembers the job now, but its checkpoints are there.
    fs::remove_dir_all(cluster.path("data/ha/jobs")).unwrap();
    cluster.start_daemon("jobmanager-again", &["jobmanager"]);
    cluster.add_task_manager();
    cluster.wait_until_ready(1);
    let kept = cluster.checkpoints(&id).pop().unwrap();
    let path = kept.to_str().unwrap();
    for from in [vec![], vec!["-s", path]] {
        let arguments: Vec<&str> = ["-d"].iter().chain(&options).copied().chain(from).collect();
        cluster.run(&arguments, &start()).refused(4, "SD-0404", REQUEST);
    }
    cluster.submit_and_wait(&["-D", CHECKPOINTS, "-s", path], &start());
    cluster.streamctl(&["checkpoint", "verify", path]).succeeded();
}

#[test]
fn whatever_fails_or_ends_leaves_no_empty_folder() {
    let cluster = ClusterBuilder::new(1, 2)
        .setting("restart-strategy.fixed-delay.attempts", "100")
        .start();
    let savepoints = cluster.path("savepoints");
    fs::create_dir(&savepoints).unwrap();
    fs::write(savepoints.join("of the user"), "").unwrap();
    let often = "execution.checkpointing.interval=20 ms";
    let id = cluster.submit_and_wait(
        &["-p", "2", "-D", often, "-D", RETAIN],
        &Torture::new().rate(500).command(),
    );
    for round in 1..=3 {
        let call = cluster.start_streamctl(&["savepoint", &id, savepoints.to_str().unwrap(), "--timeout", "1ms"]);
        cluster.worker_of(&id).kill();
        let _failed_or_not = call.finish();
        cluster.wait_for_restart(&id, round);
    }
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    // Checkpoints that were under way go once nothing writes them any more.
    until("the retained checkpoint is left, and nothing that was given up", || {
        let empty = [
            empty_folders(&cluster.path("data/checkpoints")),
            empty_folders(&savepoints),
        ]
        .concat();
        let entries = fs::read_dir(cluster.path("data/checkpoints").join(&id)).unwrap();
        let checkpoints = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("chk-"));
        (empty.is_empty() && checkpoints.count() == 1).then_some(())
    });
    assert_eq!(cluster.checkpoints(&id).len(), 1);
}

#[test]
fn at_least_once_loses_nothing_when_a_worker_dies() {
    let cluster = Cluster::start(2, 1);
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(12_000).rate(1_500).held_at(11_000, &gate);
    let torture = torture.output(cluster.path("output"));
    let mode = "execution.checkpointing.mode=AT_LEAST_ONCE";
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS, "-D", mode], &torture.command());
    assert_eq!(cluster.status(&id)["guarantee"], "AT_LEAST_ONCE");
    torture.wait_for_commits(0);
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    println!(
        "{} records are there more than once",
        torture.assert_nothing_lost(12_000)
    );
}

#[test]
fn the_number_of_key_groups_of_a_job_is_what_its_submission_says() {
    let cluster = Cluster::start(1, 1);
    let groups = "pipeline.max-parallelism=512";
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", groups], &Torture::new().rate(500).command());
    let vertices = cluster.status(&id)["vertices"].as_array().unwrap().clone();
    assert!(
        vertices.iter().all(|vertex| vertex["max_parallelism"] == 512),
        "{vertices:#?}"
    );
    let savepoint = cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]);
    let path = savepoint.to_str().unwrap();
    let other = ["-s", path, "-D", "pipeline.max-parallelism=256"];
    cluster
        .run(&other, &Torture::new().command())
        .refused(7, "SD-0506", "512");
    let next = cluster.submit_and_wait(&["-s", path], &Torture::new().rate(500).command());
    let vertices = cluster.status(&next)["vertices"].as_array().unwrap().clone();
    assert!(
        vertices.iter().all(|vertex| vertex["max_parallelism"] == 512),
        "{vertices:#?}"
    );
}

#[test]
fn state_is_dropped_by_the_uid_that_is_named_and_no_other() {
    let cluster = Cluster::start(1, 1);
    let before = Torture::new().rate(1000).argument("--uid", "ordinals-of-old");
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &before.command());
    cluster.wait_for_records(&id, 100);
    let savepoint = cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]);
    let path = savepoint.to_str().unwrap();
    let after = Torture::new().rate(1000).command();
    let misspelt = cluster.run(&["-s", path, "--drop-state", "ordinals"], &after);
    assert!(
        [2, 7].contains(&misspelt.code) && misspelt.stderr.contains("ordinals-of-old"),
        "{misspelt:#?}"
    );
    let ran = cluster
        .run(&["-d", "-s", path, "--drop-state", "ordinals-of-old"], &after)
        .succeeded();
    assert!(ran.stderr.contains("10 rows"), "{ran:#?}");
}
