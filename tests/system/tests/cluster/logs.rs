//! `logs`: what the workers of a job wrote, wherever they run.

use std::collections::BTreeSet;
use std::fs;

use system::files::{files_below, string};
use system::{Cluster, ClusterBuilder, Torture, until};

#[test]
fn the_log_of_a_job_has_what_each_of_its_workers_printed() {
    let cluster = Cluster::start(2, 1);
    let id = cluster.submit_and_wait(&["-p", "2"], &Torture::new().rate(200).flag("--say").command());
    let speakers = || {
        let log = cluster.streamctl(&["logs", &id, "--output", "json"]).succeeded();
        let said = log.objects().into_iter().filter(|line| {
            let line = string(line, "line");
            line.starts_with("key ") && line.ends_with(" records")
        });
        said.map(|line| string(&line, "worker").to_owned())
            .collect::<BTreeSet<_>>()
    };
    until("both workers have printed", || (speakers().len() == 2).then_some(()));

    let following = cluster.start_streamctl(&["logs", "-f", &id]);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    let followed = following.finish().succeeded();
    assert!(
        followed.stdout.lines().any(|line| line.starts_with("key ")),
        "{followed:#?}"
    );
    // The log outlives the job.
    assert_eq!(speakers().len(), 2);
}

#[test]
fn a_job_that_prints_without_end_fills_no_disk() {
    let cluster = ClusterBuilder::new(1, 1)
        .setting("taskmanager.worker-log.max-size", "256 kb")
        .start();
    let talkative = Torture::new().records(40_000).flag("--say");
    let id = cluster.submit(&[], &talkative.command());
    cluster.wait_for(&id, "FINISHED");
    // The newest part is what is kept. The pipe of a worker is read to its end after the job has come to its own.
    until("the last lines are in the log", || {
        let log = cluster.streamctl(&["logs", &id]).succeeded().stdout;
        log.contains("key 9 has 4000 records").then_some(())
    });
    let logs = files_below(&cluster.path("log"));
    let bytes: u64 = logs.iter().map(|log| fs::metadata(log).unwrap().len()).sum();
    // Of two files of half the size each, one may have been begun just now.
    assert!((128 << 10..=256 << 10).contains(&bytes), "{bytes} bytes in {logs:?}");
}
