//! How long a command takes when the cluster has nothing to do.

use std::time::Duration;

use system::Cluster;
use system::wait::Stopwatch;

/// Far more than a build with optimisations needs: this one has none.
const LIMIT: Duration = Duration::from_millis(250);

#[test]
fn a_command_answers_at_once_when_the_cluster_is_idle() {
    let cluster = Cluster::start(1, 1);
    let mut times: Vec<Duration> = (0..10)
        .map(|_| {
            let watch = Stopwatch::start();
            cluster.streamctl(&["list"]).succeeded();
            watch.elapsed()
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2];
    println!("streamctl list, the median of {}: {median:?}", times.len());
    assert!(median < LIMIT, "{times:?}");
}
