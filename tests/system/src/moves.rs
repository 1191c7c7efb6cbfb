//! One job through several state backends, each of which goes on from the savepoint of the one before.

use crate::cluster::Cluster;
use crate::files::text;
use crate::gate::Gate;
use crate::torture::Torture;
use crate::wait::until;

/// Records that each backend counts.
const RECORDS: u64 = 1_000;

/// Counts in these backends, one after the other, at changing parallelisms up to 3; every record must have been counted once.
pub fn assert_state_moves(cluster: &Cluster, backends: &[&str]) {
    let output = cluster.path("output");
    let total = RECORDS * backends.len() as u64;
    let torture = || Torture::new().records(total).output(output.clone());
    let mut savepoint: Option<String> = None;
    for (turn, backend) in (1u64..).zip(backends) {
        let (kind, parallelism) = (format!("state.backend.type={backend}"), (turn % 3 + 1).to_string());
        let mut options = vec![
            "-p",
            &parallelism,
            "-D",
            "execution.checkpointing.interval=200 ms",
            "-D",
            &kind,
        ];
        if let Some(path) = &savepoint {
            options.extend(["-s", path]);
        }
        if turn == backends.len() as u64 {
            cluster.run(&options, &torture().command()).succeeded();
            break;
        }
        let gate = Gate::closed(cluster.path(&format!("gate-{turn}")));
        let held = torture().held_at(RECORDS * turn, &gate);
        let id = cluster.submit_and_wait(&options, &held.command());
        until("the backend has counted its records", || {
            (held.committed() == RECORDS * turn).then_some(())
        });
        savepoint = Some(text(&cluster.savepoint_of(&[
            "stop",
            "-p",
            &cluster.place("savepoints"),
            &id,
        ])));
        cluster.wait_for(&id, "FINISHED");
        cluster.wait_for_no_workers();
    }
    torture().assert_complete(total);
}
