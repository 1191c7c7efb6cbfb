//! A sink that is slower than its source: the source waits, and nothing grows.

use std::fs;

use serde_json::Value;
use system::{Cluster, Torture, until};

/// Bytes that a worker may take more after its first thousands of records: what an allocator gives and takes, and less than the
/// tens of megabytes a second that this source would make.
const SLACK_BYTES: u64 = 16 << 20;

/// Records that may be under way: what is queued, and what the step has read since its worker last told. A source that nothing
/// holds back makes as many in a moment.
const UNDER_WAY: u64 = 200_000;

#[test]
fn memory_stays_flat_while_a_slow_sink_holds_an_unbounded_source_back() {
    let cluster = Cluster::start(2, 1);
    let torture = Torture::new().argument("--slow-us", "50");
    let id = cluster.submit_and_wait(&["-p", "2"], &torture.command());
    let allocated = |records| {
        until("the slow step has seen records", || {
            let status = cluster.status(&id);
            let (sent, received) = (records_in(&status, true), records_in(&status, false));
            assert!(sent < received + UNDER_WAY, "{sent} records are read, {received} seen");
            (received >= records).then_some(())
        });
        let workers = cluster.workers_of(&id);
        assert_eq!(workers.len(), 2);
        let sizes: Vec<u64> = workers
            .iter()
            .map(|worker| allocated_bytes(worker.process_id))
            .collect();
        sizes
    };
    let early = allocated(4_000);
    let late = allocated(40_000);
    println!("allocated bytes of the workers after 4,000 records {early:?}, after 40,000 {late:?}");
    for (early, late) in early.iter().zip(&late) {
        assert!(late < &(early + SLACK_BYTES), "{early} bytes became {late}");
    }
    cluster.streamctl(&["cancel", &id]).succeeded();
}

/// Records that the source has read, or that the step behind the exchange has taken in.
fn records_in(status: &Value, source: bool) -> u64 {
    let vertices = status["vertices"].as_array().unwrap();
    let meant = vertices.iter().find(|vertex| {
        let name = vertex["name"].as_str().unwrap();
        name.starts_with("Source") == source
    });
    let subtasks = meant.unwrap()["subtasks"].as_array().unwrap();
    subtasks
        .iter()
        .map(|subtask| subtask["records_in"].as_u64().unwrap())
        .sum()
}

/// What a process has allocated and touched. Pages of its file do not count: they come as its code is used.
fn allocated_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}
