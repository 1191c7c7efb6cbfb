//! Operations that meet: with each other, with failures, and with an impatient user.

use system::files::path_of;
use system::{Cluster, Gate, Torture, until};

use crate::CHECKPOINTS;

/// A request id of the user's choice.
const REQUEST: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn savepoints_at_once_are_each_complete_and_one_asked_for_twice_is_one() {
    let cluster = Cluster::start(1, 2);
    let folder = cluster.place("savepoints");
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &Torture::new().rate(500).command());
    let calls: Vec<_> = [None, None, Some(REQUEST), Some(REQUEST)]
        .into_iter()
        .map(|request| {
            let mut arguments = vec!["savepoint", &id, &folder, "--output", "json"];
            arguments.extend(request.iter().flat_map(|request| ["--request-id", request]));
            cluster.start_streamctl(&arguments)
        })
        .collect();
    let mut paths: Vec<_> = calls
        .into_iter()
        .map(|call| {
            let done = call.finish().succeeded();
            path_of(done.objects()[0]["savepoint_path"].as_str().unwrap())
        })
        .collect();
    assert_eq!(paths[2], paths[3]);
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 3);
    assert!(paths.iter().all(|path| path.join("_metadata").is_file()), "{paths:?}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn a_savepoint_during_which_a_worker_dies_fails_or_is_whole_and_the_job_recovers() {
    let cluster = Cluster::start(2, 1);
    let folder = cluster.place("savepoints");
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(12_000).rate(1_500).held_at(11_000, &gate);
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let worker = cluster.worker_of(&id);
    let savepoint = cluster.start_streamctl(&["savepoint", &id, &folder]);
    worker.kill();
    let ran = savepoint.finish();
    let mut complete = 1;
    match ran.code {
        0 => complete += 1,
        _failed => assert!([1, 4].contains(&ran.code) && ran.stderr.contains("hint: "), "{ran:#?}"),
    }
    cluster.wait_for_restart(&id, 1);
    cluster.savepoint(&id, &folder);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(12_000);
    // What failed has left nothing.
    until("only savepoints that are complete are there", || {
        (std::fs::read_dir(&folder).unwrap().count() == complete).then_some(())
    });
}

#[test]
fn a_job_that_fails_again_and_again_is_cancelled_with_its_last_checkpoint_and_resumed_exactly() {
    let cluster = Cluster::start(1, 2);
    let folder = cluster.place("savepoints");
    let gate = Gate::closed(cluster.path("gate"));
    let held = Torture::new().records(6_000).held_at(5_000, &gate);
    let held = held.output(cluster.path("output"));
    // Once it has failed, it is RESTARTING for as long as this test takes.
    let later = "restart-strategy.fixed-delay.delay=1 h";
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS, "-D", later], &held.command());
    held.wait_for_commits(0);
    cluster.worker_of(&id).kill();
    cluster.wait_for(&id, "RESTARTING");

    let stop = cluster
        .streamctl(&["stop", "-p", &folder, &id])
        .refused(4, "SD-0403", "RESTARTING");
    assert!(stop.stderr.contains("streamctl cancel -s"), "{stop:#?}");
    let ran = cluster
        .streamctl(&["cancel", "-s", &folder, &id, "--output", "json"])
        .succeeded();
    assert!(ran.stderr.contains("The job did not run"), "{ran:#?}");
    let savepoint = ran.objects()[0]["savepoint_path"].as_str().unwrap().to_owned();
    assert_eq!(cluster.job(&id).state, "CANCELED");
    until("its checkpoints are deleted", || {
        cluster.checkpoints(&id).is_empty().then_some(())
    });
    cluster.streamctl(&["savepoint", "verify", &savepoint]).succeeded();
    gate.open();
    let resumed = Torture::new().records(6_000).output(cluster.path("output"));
    cluster.run(&["-s", &savepoint], &resumed.command()).succeeded();
    resumed.assert_complete(6_000);
}

#[test]
fn of_stops_and_cancels_at_once_one_takes_effect_and_the_output_is_that_of_one() {
    let cluster = Cluster::start(1, 2);
    let folder = cluster.place("savepoints");
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(20_000).rate(1_500).held_at(19_000, &gate);
    let paced = paced.output(output.clone());
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &paced.command());
    paced.wait_for_commits(0);
    let calls = [
        cluster.start_streamctl(&["stop", "-p", &folder, &id, "--output", "json"]),
        cluster.start_streamctl(&["stop", "-p", &folder, &id, "--output", "json"]),
        cluster.start_streamctl(&["cancel", "-s", &folder, &id, "--output", "json"]),
    ];
    let ran = calls.map(|call| call.finish());
    let won: Vec<_> = ran.iter().filter(|ran| ran.code == 0).collect();
    assert!(!won.is_empty(), "{ran:#?}");
    for lost in ran.iter().filter(|ran| ran.code != 0) {
        assert!([1, 4, 8].contains(&lost.code), "{lost:#?}");
    }
    let state = until("the job has ended", || {
        let state = cluster.job(&id).state;
        ["FINISHED", "CANCELED"].contains(&state.as_str()).then_some(state)
    });
    println!("{} of 3 succeeded, the job is {state}", won.len());
    // Whichever won: from its savepoint the job goes on exactly.
    let savepoint = path_of(won[won.len() - 1].objects()[0]["savepoint_path"].as_str().unwrap());
    let unpaced = Torture::new().records(20_000).output(output);
    let arguments = ["-s", savepoint.to_str().unwrap()];
    cluster.run(&arguments, &unpaced.command()).succeeded();
    unpaced.assert_complete(20_000);
}

#[test]
fn a_user_who_leaves_an_attached_run_leaves_the_job_running() {
    let cluster = Cluster::start(1, 1);
    let running = cluster.start_run(&[], &Torture::new().rate(100).command());
    let id = until("the job is listed", || cluster.jobs().pop()).0;
    cluster.wait_for(&id, "RUNNING");
    running.interrupt();
    let ran = running.finish();
    assert_eq!(ran.code, 130, "{ran:#?}");
    assert!(ran.stderr.contains(&format!("streamctl cancel {id}")), "{ran:#?}");
    assert_eq!(cluster.job(&id).state, "RUNNING");
}

#[test]
fn a_user_in_a_hurry_is_told_that_the_savepoint_goes_on() {
    let cluster = Cluster::start(1, 1);
    let id = cluster.submit_and_wait(&[], &Torture::new().rate(100).command());
    let call = cluster.streamctl(&["list", "--timeout", "1ns"]);
    assert_eq!(call.code, 2, "{call:#?}");
    // Time enough for the submission, which is the same however often it is repeated, and not for the job.
    let attached = Torture::new().rate(1).command();
    let seconds = (0..8).map(|doublings| 1 << doublings);
    let (ran, seconds) = seconds
        .map(|seconds: u32| {
            let timeout = format!("{seconds}s");
            (
                cluster.run(&["--job-id", REQUEST, "--timeout", &timeout], &attached),
                seconds,
            )
        })
        .find(|(ran, _)| ran.stdout.contains(REQUEST))
        .expect("the job is submitted in time");
    ran.refused(6, "SD-0408", &format!("the job does not end within {seconds} s"));
    assert_eq!(cluster.job(&id).state, "RUNNING");
}
