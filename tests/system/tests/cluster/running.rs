//! `run` and `list`: what they print, and how they end.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use system::{Cluster, Torture};

const RUNNING: &str = "------------------ Running/Restarting Jobs -------------------";
const TERMINATED: &str = "---------------------- Terminated Jobs -----------------------";
const LINE: &str = "--------------------------------------------------------------";

#[test]
fn an_attached_run_prints_flinks_lines_and_its_output_is_complete() {
    let cluster = Cluster::start(1, 2);
    let torture = Torture::new().records(5_000).output(cluster.path("output"));
    let ran = cluster.run(&["-p", "2"], &torture.command()).succeeded();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let [submitted, "Program execution finished", finished, runtime] = lines[..] else {
        panic!("{ran:#?}");
    };
    let id = submitted.strip_prefix("Job has been submitted with JobID ").unwrap();
    assert_eq!(finished, format!("Job with JobID {id} has finished."));
    let runtime = runtime
        .strip_prefix("Job Runtime: ")
        .and_then(|rest| rest.strip_suffix(" ms"));
    assert!(runtime.is_some_and(|millis| millis.parse::<u64>().is_ok()), "{ran:#?}");
    torture.assert_complete(5_000);
    assert_eq!(cluster.job(id).state, "FINISHED");
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(2);
}

#[test]
fn jobs_are_listed_in_flinks_layout_by_what_they_are_doing() {
    let cluster = Cluster::start(1, 2);
    let nothing = "Waiting for response...\nNo running jobs.\nNo scheduled jobs.\n";
    assert_eq!(cluster.streamctl(&["list"]).succeeded().stdout, nothing);
    assert_eq!(cluster.streamctl(&["list", "-a"]).succeeded().stdout, nothing);

    let ended = Torture::new().records(100);
    let ended = cluster.submit(&[], &ended.command());
    cluster.wait_for(&ended, "FINISHED");
    let running = cluster.submit_and_wait(&[], &Torture::new().rate(10).command());
    let row = |id: &str, state: &str| {
        let started = Timestamp::from_millisecond(cluster.job(id).start_time_ms).unwrap();
        let started = started.to_zoned(TimeZone::UTC).strftime("%d.%m.%Y %H:%M:%S");
        format!("{started} : {id} : torture ({state})")
    };
    let (running, ended) = (row(&running, "RUNNING"), row(&ended, "FINISHED"));
    let running = format!("{RUNNING}\n{running}\n{LINE}\n");
    let listed = |option: &str| {
        let listed = cluster.streamctl(&["list", option]).succeeded().stdout;
        listed.strip_prefix("Waiting for response...\n").unwrap().to_owned()
    };
    assert_eq!(listed("-r"), running);
    assert_eq!(listed("-s"), "No scheduled jobs.\n");
    assert_eq!(
        listed("-a"),
        format!("{running}No scheduled jobs.\n{TERMINATED}\n{ended}\n{LINE}\n")
    );
    assert_eq!(
        cluster.streamctl(&["list"]).stdout,
        format!("Waiting for response...\n{running}No scheduled jobs.\n")
    );
}

#[test]
fn an_attached_run_of_a_job_that_fails_ends_with_1_and_the_cause() {
    let cluster = Cluster::start(1, 2);
    for (flag, cause) in [("--fail-at", "record 50 is bad"), ("--panic-at", "record 50 is poison")] {
        let bad = Torture::new().argument(flag, "50");
        let ran = cluster.run(&["-p", "2", "-D", "restart-strategy=none"], &bad.command());
        let ran = ran.refused(1, "SD-0405", cause);
        assert!(ran.stdout.starts_with("Job has been submitted with JobID "), "{ran:#?}");
        let id = ran.stdout.trim_end().rsplit(' ').next().unwrap();
        let job = cluster.job(id);
        assert_eq!((job.state.as_str(), job.restarts), ("FAILED", 0), "{job:?}");
        cluster.wait_for_no_workers();
        cluster.wait_for_free_slots(2);
    }
}

#[test]
fn a_job_that_always_fails_is_restarted_as_often_as_its_strategy_says_and_no_more() {
    let cluster = Cluster::start(1, 1);
    let bad = Torture::new().argument("--panic-at", "50");
    let settings = [
        "-D",
        "restart-strategy=fixed-delay",
        "-D",
        "restart-strategy.fixed-delay.attempts=2",
        "-D",
        "restart-strategy.fixed-delay.delay=10 ms",
    ];
    let id = cluster.submit(&settings, &bad.command());
    let job = cluster.wait_for(&id, "FAILED");
    assert_eq!(job.restarts, 2, "{job:?}");
    assert!(job.last_failure.contains("record 50 is poison"), "{job:?}");
    cluster.wait_for_no_workers();
}

#[test]
fn a_job_id_of_the_users_choice_runs_once_however_often_it_is_submitted() {
    let cluster = Cluster::start(1, 2);
    let torture = Torture::new().records(1_000).output(cluster.path("output"));
    let id = "0123456789abcdef0123456789abcdef";
    let both = [(); 2].map(|()| cluster.start_run(&["--job-id", id], &torture.command()));
    for running in both {
        let ran = running.finish().succeeded();
        assert!(ran.stdout.contains(id), "{ran:#?}");
    }
    torture.assert_complete(1_000);
    assert_eq!(cluster.jobs().len(), 1);
    // The same id for something else is refused.
    let other = Torture::new().records(1).command();
    let refused = cluster.run(&["--job-id", id], &other);
    refused.refused(4, "SD-0404", id);
}
