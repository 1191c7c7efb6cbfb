//! Workers start, print, stop, die, and leave nothing behind.

use rustix::process::{Pid, Signal, kill_process};
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::{ForgetJob, Program};

use crate::harness::{JOB, Stage, assert_goes, is_gone, until};

/// Prints its process id and that of a child, and works until it is stopped.
const WORK: &str = "sleep 1000 & echo child $!; echo ready; wait";

fn kill(process_id: u32) {
    let pid = Pid::from_raw(i32::try_from(process_id).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_worker_is_told_who_it_is_and_its_output_is_its_log() {
    let mut stage = Stage::set().await;
    let program = Program {
        arguments: vec!["one".to_owned()],
        ..stage.manager.script(
            r#"echo "$STREAMD_MODE $STREAMD_JOB_ID $STREAMD_WORKER_ID $STREAMD_TASK_MANAGER_ID" >&2
echo "$STREAMD_JOB_MANAGER $STREAMD_DATA_HOST $1"; [ "$(pwd -P)" = "$STREAMD_WORK_DIR" ] && echo at home; exit 3"#,
        )
    };
    stage.link.start_worker(1, program).await;
    let process = stage.link.started().await;
    let reason = stage.link.exited().await;
    assert_eq!(
        reason,
        format!("`worker-1` (process {process}) exited with code 3: at home")
    );
    let expected = format!(
        "worker {JOB} 1 {}\n{} 127.0.0.1 one\nat home\n",
        stage.task_manager.id(),
        stage.manager.address
    );
    assert_eq!(stage.link.log(0).await, expected);
    assert_eq!(stage.link.log(expected.len() as u64 - 8).await, "at home\n");
    assert_eq!(std::fs::read_to_string(stage.log_file()).unwrap(), expected);
    stage.end().await;
}

#[tokio::test]
async fn a_killed_worker_is_reported_at_once_with_the_signal_and_its_children_go_too() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script(WORK);
    stage.link.start_worker(1, program).await;
    let process = stage.link.started().await;
    let child: u32 = stage.link.logged("child ").await.parse().unwrap();
    kill(process);
    let reason = stage.link.exited().await;
    assert!(
        reason.starts_with(&format!(
            "`worker-1` (process {process}) was killed by signal 9 (SIGKILL)"
        )),
        "{reason}"
    );
    assert!(
        !std::path::Path::new(&format!("/proc/{process}")).exists(),
        "the worker is not reaped"
    );
    assert_goes(child).await;
    stage.end().await;
}

#[tokio::test]
async fn a_worker_is_asked_to_stop_before_it_is_made_to() {
    let mut stage = Stage::set().await;
    let program = stage
        .manager
        .script("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
    stage.link.start_worker(1, program).await;
    stage.link.started().await;
    stage.link.logged("ready").await;
    stage.link.stop_worker(1, 20_000).await;
    let reason = stage.link.exited().await;
    assert!(
        reason.ends_with("was stopped on request and exited with code 0"),
        "{reason}"
    );
    assert!(stage.link.log(0).await.ends_with("bye\n"));
    stage.end().await;
}

#[tokio::test]
async fn a_worker_that_ignores_the_request_is_killed_with_its_group_after_the_grace() {
    let mut stage = Stage::set().await;
    let program = stage
        .manager
        .script("trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 0.05; done");
    stage.link.start_worker(1, program).await;
    stage.link.started().await;
    let child: u32 = stage.link.logged("child ").await.parse().unwrap();
    stage.link.stop_worker(1, 100).await;
    let reason = stage.link.exited().await;
    assert!(
        reason.ends_with("was stopped on request and was killed by signal 9 (SIGKILL)"),
        "{reason}"
    );
    assert_goes(child).await;
    stage.end().await;
}

#[tokio::test]
async fn what_an_ended_worker_leaves_behind_is_killed_even_if_it_holds_the_log() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script("sleep 1000 & echo child $!; exit 0");
    stage.link.start_worker(1, program).await;
    stage.link.started().await;
    stage.link.exited().await;
    let child: u32 = stage.link.logged("child ").await.parse().unwrap();
    assert_goes(child).await;
    stage.end().await;
}

#[tokio::test]
async fn a_worker_that_cannot_be_started_is_reported_as_gone() {
    let mut stage = Stage::set().await;
    let program = stage.manager.program("no program");
    stage.link.start_worker(1, program).await;
    let reason = stage.link.exited().await;
    assert!(
        reason.starts_with("`worker-1` could not be started: application `app` is no program"),
        "{reason}"
    );
    stage.link.stop_worker(4, 0).await;
    let reason = stage.link.exited().await;
    assert!(reason.contains("`worker-4` does not run"), "{reason}");
    stage.end().await;
}

#[tokio::test]
async fn a_worker_that_is_started_twice_runs_once() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script(WORK);
    stage.link.start_worker(1, program.clone()).await;
    stage.link.start_worker(1, program).await;
    let process = stage.link.started().await;
    stage.link.logged("ready").await;
    stage.link.stop_worker(1, 20_000).await;
    assert!(stage.link.exited().await.contains(&process.to_string()));
    assert_eq!(stage.link.log(0).await.matches("ready").count(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_forgotten_job_leaves_its_logs_and_nothing_else() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script("touch scratch; echo ready; sleep 1000");
    stage.link.start_worker(1, program).await;
    let process = stage.link.started().await;
    stage.link.logged("ready").await;
    let directory = stage.work_dir().join("jobs").join(JOB);
    assert!(directory.join("worker-1/scratch").exists());
    stage
        .link
        .tell(Command::ForgetJob(ForgetJob { job_id: JOB.to_owned() }))
        .await;
    stage.link.exited().await;
    assert!(is_gone(process));
    until("the directory is removed", || !directory.exists()).await;
    assert_eq!(stage.link.log(0).await, "ready\n");
    stage.end().await;
}

#[tokio::test]
async fn the_log_of_a_worker_that_prints_without_end_stays_bounded() {
    let mut stage = Stage::set_with(|options| options.worker_log_bytes = 200_000).await;
    let program = stage
        .manager
        .script("yes streamd | head -c 2000000; echo the end; exit 7");
    stage.link.start_worker(1, program).await;
    stage.link.started().await;
    assert!(stage.link.exited().await.ends_with("exited with code 7: the end"));
    let log = stage.link.log(0).await;
    assert!(log.len() <= 200_000 && log.ends_with("the end\n"), "{}", log.len());
    assert_eq!(stage.link.log(2_000_000).await, "the end\n");
    stage.end().await;
}

#[tokio::test]
async fn a_worker_that_was_killed_from_outside_is_not_explained_by_its_last_line() {
    let mut stage = Stage::set().await;
    // Not SIGINT: whoever starts the tests in the background has them, and all their children, ignore it.
    for (worker, signal, name) in [(1, "KILL", "9 (SIGKILL)"), (2, "TERM", "15 (SIGTERM)")] {
        let program = stage
            .manager
            .script(&format!("echo 'LAS: 100 flights'; kill -{signal} $$; sleep 1000"));
        stage.link.start_worker(worker, program).await;
        let process = stage.link.started().await;
        assert_eq!(
            stage.link.exited().await,
            format!("`worker-{worker}` (process {process}) was killed by signal {name}")
        );
    }
    let program = stage
        .manager
        .script("echo 'error: the heap is damaged' >&2; echo 'LAS: 100 flights'; kill -ABRT $$");
    stage.link.start_worker(3, program).await;
    stage.link.started().await;
    let reason = stage.link.exited().await;
    assert!(
        reason.ends_with("signal 6 (SIGABRT): error: the heap is damaged"),
        "{reason}"
    );
    stage.end().await;
}

#[tokio::test]
async fn a_process_that_left_the_group_of_its_worker_ends_with_it() {
    let mut stage = Stage::set().await;
    let program = stage
        .manager
        .script("setsid sh -c 'sleep 1000 & echo stray $!'; echo ready; sleep 1000");
    stage.link.start_worker(1, program).await;
    let process = stage.link.started().await;
    let stray: u32 = stage.link.logged("stray ").await.parse().unwrap();
    assert!(!is_gone(stray));
    kill(process);
    stage.link.exited().await;
    assert_goes(stray).await;
    stage.end().await;
}
