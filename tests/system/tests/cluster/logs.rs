//! `logs`: what the workers of a job wrote, wherever they run.

use std::collections::BTreeSet;

use system::files::string;
use system::{Cluster, Torture, until};

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
