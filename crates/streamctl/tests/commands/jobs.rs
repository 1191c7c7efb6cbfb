//! `list`, `cancel` and `logs`.

use streamd_rpc::proto::{
    CheckpointCounts, ExecutionState, FailedCheckpoint, Failure, FailureRecord, FaultDomain, JobDetails, JobState,
    JobSummary, SnapshotReference, SubtaskDetails, VertexDetails, Worker,
};

use crate::fake::{Fake, JOB, Ran, Script, command, done, job};

fn failure(message: &str) -> FailureRecord {
    FailureRecord {
        failure: Some(Failure {
            domain: FaultDomain::External.into(),
            message: message.to_owned(),
            ..Failure::default()
        }),
        code: "SD-0422".to_owned(),
        hint: "see to the cause".to_owned(),
        attempt: 1,
        time_ms: 1_795_208_537_000,
        restart_delay_ms: Some(500),
    }
}

fn four_jobs() -> Fake {
    let failed = JobSummary {
        last_failure: "worker exited with signal 9".to_owned(),
        last_failure_record: Some(failure("worker exited with signal 9")),
        restarts: 2,
        start_time_ms: 1_795_208_538_000,
        ..job("broken", JobState::Failed)
    };
    Fake::start(Script {
        jobs: vec![
            failed,
            job("flights", JobState::Running),
            job("waits", JobState::Created),
            job("again", JobState::Restarting),
        ],
        ..Script::default()
    })
}

#[test]
fn an_empty_cluster_lists_nothing_in_flinks_words() {
    let fake = Fake::start(Script::default());
    assert_eq!(
        fake.run(&["list"]),
        done("Waiting for response...\nNo running jobs.\nNo scheduled jobs.\n")
    );
    assert_eq!(
        fake.run(&["list", "-a"]),
        done("Waiting for response...\nNo running jobs.\nNo scheduled jobs.\n")
    );
    assert_eq!(
        fake.run(&["list", "-r"]),
        done("Waiting for response...\nNo running jobs.\n")
    );
    assert_eq!(
        fake.run(&["list", "-s"]),
        done("Waiting for response...\nNo scheduled jobs.\n")
    );
    assert_eq!(fake.run(&["list", "--output", "json"]), done(""));
}

#[test]
fn jobs_are_listed_in_flinks_layout() {
    let expected = format!(
        "\
Waiting for response...
------------------ Running/Restarting Jobs -------------------
20.11.2026 21:02:17 : {JOB} : again (RESTARTING)
20.11.2026 21:02:17 : {JOB} : flights (RUNNING)
--------------------------------------------------------------
----------------------- Scheduled Jobs -----------------------
20.11.2026 21:02:17 : {JOB} : waits (CREATED)
--------------------------------------------------------------
---------------------- Terminated Jobs -----------------------
20.11.2026 21:02:18 : {JOB} : broken (FAILED)
--------------------------------------------------------------
"
    );
    assert_eq!(four_jobs().run(&["list", "-a"]), done(expected));
}

#[test]
fn a_program_gets_one_object_a_job() {
    let expected = format!(
        r#"{{"job_id":"{JOB}","name":"again","state":"RESTARTING","start_time_ms":1795208537000,"end_time_ms":null,"restarts":0,"last_failure":null,"last_failure_class":null,"last_failure_code":null}}
{{"job_id":"{JOB}","name":"flights","state":"RUNNING","start_time_ms":1795208537000,"end_time_ms":null,"restarts":0,"last_failure":null,"last_failure_class":null,"last_failure_code":null}}
{{"job_id":"{JOB}","name":"waits","state":"CREATED","start_time_ms":1795208537000,"end_time_ms":null,"restarts":0,"last_failure":null,"last_failure_class":null,"last_failure_code":null}}
{{"job_id":"{JOB}","name":"broken","state":"FAILED","start_time_ms":1795208538000,"end_time_ms":1795208537390,"restarts":2,"last_failure":"worker exited with signal 9","last_failure_class":"external","last_failure_code":"SD-0422"}}
"#
    );
    assert_eq!(four_jobs().run(&["list", "-a", "--output", "json"]), done(expected));
}

#[test]
fn a_hostile_job_name_cannot_command_the_terminal() {
    let fake = Fake::start(Script {
        jobs: vec![job("\u{1b}[2Jx\ny", JobState::Running)],
        ..Script::default()
    });
    assert!(
        fake.run(&["list", "-r"])
            .stdout
            .contains(" : \\u{1b}[2Jx\\ny (RUNNING)\n")
    );
}

#[test]
fn cancelling_says_so() {
    let fake = Fake::start(Script {
        cancels: true,
        ..Script::default()
    });
    let expected = format!("Cancelling job {JOB}.\nCancelled job {JOB}.\n");
    assert_eq!(fake.run(&["cancel", &JOB.to_uppercase()]), done(expected));
    assert_eq!(fake.requests(), [format!("CancelJobRequest {{ job_id: \"{JOB}\" }}")]);
    assert_eq!(
        fake.run(&["cancel", JOB, "--output", "json"]),
        done(format!(
            "{{\"job_id\":\"{JOB}\",\"canceled\":true,\"savepoint_path\":null}}\n"
        ))
    );
}

#[test]
fn what_is_announced_is_done_though_nobody_reads() {
    let fake = Fake::start(Script {
        cancels: true,
        ..Script::default()
    });
    for arguments in [&["cancel", JOB][..], &["list"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(&[("STREAMD_JOBMANAGER", &fake.address())], arguments);
        let ran = command.stdout(writer).output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    }
    assert_eq!(fake.requests()[0], format!("CancelJobRequest {{ job_id: \"{JOB}\" }}"));
}

#[test]
fn a_job_that_is_not_there_ends_with_code_3() {
    let fake = Fake::start(Script::default());
    assert_eq!(
        fake.run(&["cancel", JOB]),
        Ran {
            code: 3,
            stdout: format!("Cancelling job {JOB}.\n"),
            stderr: format!("error: there is no job `{JOB}` [SD-0401]\nhint: list the jobs with `streamctl list -a`\n"),
        }
    );
    assert_eq!(
        fake.run(&["cancel", JOB, "--output", "json"]).stderr,
        format!(
            "{{\"error\":{{\"code\":\"SD-0401\",\"message\":\"there is no job `{JOB}`\",\"hint\":\"list the jobs with `streamctl list -a`\"}}}}\n"
        )
    );
}

#[test]
fn logs_come_line_by_line_however_they_were_cut() {
    let logs = [
        ("worker-1", "one\ntw"),
        ("worker-2", "\u{1b}[31mred"),
        ("worker-1", "o\r\n"),
        ("worker-2", "!\n"),
    ];
    let logs = logs.map(|(worker, chunk)| (worker.to_owned(), chunk.as_bytes().to_vec()));
    let fake = Fake::start(Script {
        logs: logs.to_vec(),
        ..Script::default()
    });
    assert_eq!(
        fake.run(&["logs", "-f", JOB]),
        Ran {
            code: 0,
            stdout: "one\ntwo\n\\u{1b}[31mred!\n".to_owned(),
            stderr: "==> worker-1 <==\n==> worker-2 <==\n".to_owned(),
        }
    );
    assert_eq!(
        fake.run(&["logs", JOB, "--output", "json"]).stdout.lines().next(),
        Some(r#"{"worker":"worker-1","line":"one"}"#)
    );
}

#[test]
fn the_status_of_a_job_is_all_there_is_to_know() {
    let subtask = |index| SubtaskDetails {
        index,
        state: ExecutionState::Running.into(),
        records_in: 5,
        ..SubtaskDetails::default()
    };
    let details = JobDetails {
        summary: Some(job("flights", JobState::Running)),
        attempt: 2,
        vertices: vec![VertexDetails {
            id: "00".to_owned(),
            name: "Source: x".to_owned(),
            parallelism: 2,
            max_parallelism: 256,
            subtasks: vec![subtask(0), subtask(1)],
        }],
        last_checkpoint: Some(SnapshotReference {
            id: 3,
            uri: "file:///cp/chk-3".to_owned(),
            bytes: 10,
            duration_ms: 4,
            savepoint: false,
        }),
        restored_from: Some(SnapshotReference {
            id: 2,
            uri: "file:///sp".to_owned(),
            bytes: 0,
            duration_ms: 0,
            savepoint: true,
        }),
        checkpoints: Some(CheckpointCounts {
            completed: 3,
            failed: 1,
            in_progress: 0,
        }),
        last_failed_checkpoint: Some(FailedCheckpoint {
            id: 4,
            cause: "checkpoint `4` expired".to_owned(),
            time_ms: 1_795_208_537_000,
        }),
        failures: vec![failure("worker-1 was killed")],
        guarantee: "EXACTLY_ONCE".to_owned(),
        workers: vec![Worker {
            worker: "worker-2".to_owned(),
            task_manager: "tm-1".to_owned(),
            process_id: 7,
        }],
        ..JobDetails::default()
    };
    let fake = Fake::start(Script {
        details: Some(details),
        ..Script::default()
    });
    assert_eq!(
        fake.run(&["status", JOB]),
        done(format!(
            "\
{JOB} : flights (RUNNING), attempt 2, EXACTLY_ONCE
  Source: x : 2 subtasks 2 RUNNING, 10 records in
  Checkpoints: 3 completed, 1 failed, 0 in progress
  Restored from: file:///sp
  Last checkpoint: file:///cp/chk-3 (10 bytes, 4 ms)
  Last failed checkpoint: 20.11.2026 21:02:17: checkpoint `4` expired
  worker-2 : tm-1 (process 7)
  Failure: worker-1 was killed
    20.11.2026 21:02:17, external [SD-0422], attempt 1: restarted after 500 ms
"
        ))
    );
    let json: serde_json::Value = serde_json::from_str(&fake.run(&["status", JOB, "--output", "json"]).stdout).unwrap();
    assert_eq!(
        (json["attempt"].as_u64(), json["last_checkpoint"]["uri"].as_str()),
        (Some(2), Some("file:///cp/chk-3"))
    );
    assert_eq!(
        json["restored_from"].to_string(),
        r#"{"bytes":null,"duration_ms":null,"id":2,"savepoint":true,"uri":"file:///sp"}"#
    );
    assert_eq!(json["vertices"][0]["subtasks"][1]["state"].as_str(), Some("RUNNING"));
    assert_eq!(json["failures"][0].as_str(), Some("worker-1 was killed"));
    assert_eq!(
        json["failure_history"][0],
        serde_json::json!({
            "class": "external", "code": "SD-0422", "message": "worker-1 was killed", "hint": "see to the cause",
            "attempt": 1, "time_ms": 1_795_208_537_000_i64, "restart_delay_ms": 500,
        })
    );
}

#[test]
fn the_status_of_a_job_that_failed_ends_with_what_to_do() {
    let fake = Fake::start(Script {
        details: Some(JobDetails {
            summary: Some(JobSummary {
                restarts: 3,
                ..job("broken", JobState::Failed)
            }),
            failures: vec![FailureRecord {
                restart_delay_ms: None,
                ..failure("worker-1 was killed")
            }],
            ..JobDetails::default()
        }),
        ..Script::default()
    });
    let shown = fake.run(&["status", JOB]).stdout;
    assert!(
        shown.ends_with(
            "  Restarts: 3\n  Failure: worker-1 was killed\n    20.11.2026 21:02:17, external [SD-0422], attempt 1: the job \
             failed for good\n  Hint: see to the cause\n"
        ),
        "{shown}"
    );
}
