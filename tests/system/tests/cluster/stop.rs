//! `stop`: a job ends with a savepoint, and everything up to it is committed, nothing after.

use system::{Cluster, Flights, Gate, Torture, flights, until};

use crate::CHECKPOINTS;

#[test]
fn a_stopped_job_has_committed_up_to_its_savepoint_and_goes_on_from_there() {
    let cluster = Cluster::start(1, 2);
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(20_000).rate(1_500).held_at(19_000, &gate);
    let paced = paced.output(output.clone());
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &paced.command());
    paced.wait_for_commits(0);

    let ran = cluster
        .streamctl(&["stop", "-p", &cluster.place("savepoints"), &id])
        .succeeded();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(
        lines[0].starts_with(&format!("Suspending job \"{id}\" with a ")),
        "{ran:#?}"
    );
    assert_eq!(lines[1], format!("Triggering stop-with-savepoint for job {id}."));
    assert_eq!(lines[2], "Waiting for response...");
    let savepoint = lines[3].strip_prefix("Savepoint completed. Path: file://").unwrap();
    let job = cluster.wait_for(&id, "FINISHED");
    assert_eq!(job.restarts, 0);
    let before = paced.numbers().len();
    assert!(before > 0 && before < 20_000, "{before} records are committed");
    cluster.wait_for_no_workers();

    let unpaced = Torture::new().records(20_000).output(output);
    cluster
        .run(&["-s", savepoint, "-p", "1"], &unpaced.command())
        .succeeded();
    unpaced.assert_complete(20_000);
}

#[test]
fn a_drained_job_ends_its_input_and_flushes_its_results() {
    let cluster = Cluster::start(1, 2);
    let flights = Flights {
        output: cluster.path("output"),
        rate: 50,
    };
    let id = cluster.submit_and_wait(&["-p", "2"], &flights.command());
    until("updates are committed", || {
        (flights.committed_updates() > 0).then_some(())
    });
    let ran = cluster
        .streamctl(&["stop", "--drain", "-p", &cluster.place("savepoints"), &id])
        .succeeded();
    assert!(
        ran.stdout.starts_with(&format!("Draining job \"{id}\" with a ")),
        "{ran:#?}"
    );
    cluster.wait_for(&id, "FINISHED");
    let updates = flights.updates_by_airport();
    assert_eq!(flights::flights_by_airport(&flights.results()), updates);
    assert!(updates.values().sum::<u64>() < flights::total(), "the job was too fast");
    cluster.wait_for_no_workers();
}
