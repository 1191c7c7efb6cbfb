//! How long a command takes when the cluster has nothing to do.

use std::time::Duration;

use system::Cluster;
use system::wait::{Stopwatch, at_once};

/// Far more than a build with optimisations needs: this one has none.
const LIMIT: Duration = Duration::from_millis(250);

/// How many times as long as one that asks nobody a command may take besides: a slow machine is no fault.
const TIMES: u32 = 10;

#[test]
fn a_command_answers_at_once_when_the_cluster_is_idle() {
    let cluster = Cluster::start(1, 1);
    // The fastest of several calls is what the machine can do.
    let trivial = (0..5).map(|_| {
        let watch = Stopwatch::start();
        cluster.streamctl(&["--version"]).succeeded();
        watch.elapsed()
    });
    let limit = LIMIT + TIMES * trivial.min().unwrap_or_default();
    let watch = Stopwatch::start();
    at_once("`streamctl list`", limit, || cluster.streamctl(&["list"]).succeeded());
    println!(
        "streamctl list was done in at most {limit:?}, after {:?}",
        watch.elapsed()
    );
}
