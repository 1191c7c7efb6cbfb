//! How clusters end and come back: in order, and without a word that would alarm anybody.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{ANY_PORT, Daemon};

/// Looks into a log, over two minutes: far longer than anything takes, on any machine.
const LOOKS: u32 = 24_000;
const PAUSE: Duration = Duration::from_millis(5);

/// A daemon with a log, which outlives it.
struct Logged {
    daemon: Daemon,
    log: PathBuf,
}

impl Logged {
    fn start(data: &Path, name: &str, arguments: &[&str]) -> Self {
        let log = data.join(name);
        let file = File::create(&log).unwrap();
        let mut daemon = Daemon::start_logging_to(file.into(), data, arguments);
        assert!(!daemon.says().is_empty(), "{}", read(&log));
        Self { daemon, log }
    }

    /// Ends it as its owner does; nothing it says may be worth a warning.
    fn end_quietly(self) {
        assert_eq!(self.daemon.end(), Some(0));
        let log = read(&self.log);
        let alarms: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains("ERROR "))
            .collect();
        assert!(alarms.is_empty(), "{alarms:#?}");
    }

    fn says_in_time(&self, words: &str) {
        let said = (0..LOOKS).any(|_| {
            std::thread::sleep(PAUSE);
            read(&self.log).contains(words)
        });
        assert!(said, "no `{words}` in {}", read(&self.log));
    }
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap()
}

fn job_manager(data: &Path, log: &str) -> Logged {
    Logged::start(data, log, &["jobmanager", "-D", ANY_PORT])
}

fn task_manager(data: &Path, log: &str) -> Logged {
    Logged::start(data, log, &["taskmanager", "-D", ANY_PORT])
}

#[test]
fn a_cluster_that_is_stopped_in_order_warns_of_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (first, second) = (job_manager(data.path(), "jm"), task_manager(data.path(), "tm"));
    // As bin/stop-cluster.sh does: the task manager sees its job manager go.
    let log = second.log.clone();
    first.end_quietly();
    second.says_in_time("the job manager has shut down");
    second.end_quietly();
    assert!(!read(&log).contains("link lost"), "{}", read(&log));
    // One task manager of a cluster is stopped.
    let (first, second) = (job_manager(data.path(), "jm"), task_manager(data.path(), "tm"));
    second.end_quietly();
    first.says_in_time("task manager left");
    first.end_quietly();
    Logged::start(data.path(), "local", &["local", "-D", ANY_PORT]).end_quietly();
}

#[test]
fn a_task_manager_that_dies_is_worth_a_warning() {
    let data = tempfile::tempdir().unwrap();
    let (first, second) = (job_manager(data.path(), "jm"), task_manager(data.path(), "tm"));
    // Killed.
    drop(second);
    first.says_in_time("WARN streamd_jobmanager::resource_manager::service: task manager lost");
}

#[test]
fn task_managers_follow_a_job_manager_that_is_started_again_on_another_port() {
    let data = tempfile::tempdir().unwrap();
    let (first, second) = (job_manager(data.path(), "jm"), task_manager(data.path(), "tm"));
    first.end_quietly();
    // The port that the first had is taken now.
    let again = job_manager(data.path(), "jm-again");
    again.says_in_time("task manager registered");
    second.end_quietly();
    again.end_quietly();
}

#[test]
fn a_request_to_end_that_comes_twice_at_once_is_one() {
    let data = tempfile::tempdir().unwrap();
    let cluster = Logged::start(data.path(), "local", &["local", "-D", ANY_PORT]);
    for _ in 0..20 {
        cluster.daemon.ask_to_end();
    }
    cluster.end_quietly();
}

#[test]
fn a_disk_that_takes_no_more_of_the_log_costs_the_log_and_not_the_cluster() {
    let data = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut cluster = Daemon::start_logging_to(full.into(), data.path(), &["local", "-D", ANY_PORT]);
    assert!(cluster.says().starts_with("jobmanager "));
    assert!(cluster.says().starts_with("taskmanager "));
    assert_eq!(cluster.end(), Some(0));
}
