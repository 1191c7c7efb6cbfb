//! `savepoint`, `cancel -s` and `stop`.

use std::process::Command;

use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_rpc::proto::{
    Error, OperationCompleted, OperationDetails, OperationKind, OperationProgress, operation_details,
};

use crate::fake::{Fake, JOB, Ran, Script, command, done};

const PATH: &str = "file:///data/sp/savepoint-fd7201-5103fe515a4d";

fn completing() -> Fake {
    completing_beside(Vec::new())
}

fn completing_beside(operations: Vec<OperationDetails>) -> Fake {
    let completed = OperationCompleted {
        savepoint_path: PATH.to_owned(),
        bytes: 1234,
        duration_ms: 56,
        promoted_checkpoint: 0,
    };
    Fake::start(Script {
        outcome: Some(Outcome::Completed(completed)),
        operations,
        ..Script::default()
    })
}

/// The id that the command told first, and what it told else.
fn told(ran: Ran) -> (String, Ran) {
    let (first, rest) = ran.stderr.split_once('\n').expect("the id is told first");
    let id = first.strip_prefix("Operation ").and_then(|rest| rest.split_once(':'));
    let id = id.unwrap_or_else(|| panic!("{ran:?}")).0.to_owned();
    assert!(
        id.len() == 32 && first.ends_with(&format!("`streamctl savepoint status {id}`")),
        "{first}"
    );
    let stderr = rest.to_owned();
    (id, Ran { stderr, ..ran })
}

fn asked(fake: &Fake, kind: &str, target: &str) -> bool {
    let request = fake.requests().concat();
    request.contains(&format!("kind: {kind},")) && request.contains(&format!("target_directory: \"{target}\","))
}

#[test]
fn a_savepoint_is_told_in_flinks_words() {
    let fake = completing();
    let expected = format!(
        "\
Triggering savepoint for job {JOB}.
Waiting for response...
Savepoint completed. Path: {PATH}
You can resume your program from this savepoint with the run command.
"
    );
    assert_eq!(told(fake.run(&["savepoint", JOB])).1, done(expected));
    assert!(asked(&fake, "Savepoint", ""), "{:?}", fake.requests());
    let (id, ran) = told(fake.run(&["--output", "json", "savepoint", JOB]));
    assert_eq!(
        ran,
        done(format!(
            "{{\"job_id\":\"{JOB}\",\"savepoint_path\":\"{PATH}\",\"bytes\":1234,\"duration_ms\":56,\"operation_id\":\"{id}\",\
             \"promoted_checkpoint\":null}}\n"
        ))
    );
}

#[test]
fn a_relative_directory_is_sent_as_the_user_sees_it() {
    let fake = completing();
    fake.run(&["savepoint", JOB, "sp"]);
    let here = std::env::current_dir().unwrap().display().to_string();
    assert!(
        asked(&fake, "Savepoint", &format!("file://{here}/sp")),
        "{:?}",
        fake.requests()
    );
}

#[test]
fn a_request_id_makes_the_request_repeatable() {
    let fake = completing();
    fake.run(&["savepoint", JOB, "--request-id", "00000000000000000000000000000001"]);
    assert!(
        fake.requests()
            .concat()
            .contains("operation_id: \"00000000000000000000000000000001\"")
    );
}

#[test]
fn cancel_with_savepoint_goes_to_the_directory_or_to_the_default_one() {
    let fake = completing();
    assert_eq!(
        told(fake.run(&["cancel", "-s", "/data/sp", JOB])).1,
        done(format!(
            "Cancelling job {JOB} with savepoint to /data/sp.\nCancelled job {JOB}. Savepoint stored in {PATH}.\n"
        ))
    );
    assert!(
        asked(&fake, "CancelWithSavepoint", "file:///data/sp"),
        "{:?}",
        fake.requests()
    );

    for arguments in [["cancel", "-s", JOB], ["cancel", JOB, "-s"]] {
        let fake = completing();
        assert_eq!(
            told(fake.run(&arguments)).1,
            done(format!(
                "Cancelling job {JOB} with savepoint to default savepoint directory.\n\
                 Cancelled job {JOB}. Savepoint stored in {PATH}.\n"
            ))
        );
        assert!(asked(&fake, "CancelWithSavepoint", ""), "{:?}", fake.requests());
    }
}

#[test]
fn a_user_who_cancels_with_savepoint_once_more_follows_the_first_operation() {
    let fake = completing_beside(vec![recorded(completed())]);
    let (id, ran) = told(fake.run(&["cancel", "-s", JOB]));
    assert_eq!(id, OPERATION);
    assert!(
        ran.stdout.ends_with(&format!("Savepoint stored in {PATH}.\n")),
        "{ran:?}"
    );
}

#[test]
fn stopping_suspends_or_drains() {
    let fake = completing();
    assert_eq!(
        told(fake.run(&["stop", JOB])).1,
        done(format!(
            "\
Suspending job \"{JOB}\" with a savepoint.
Triggering stop-with-savepoint for job {JOB}.
Waiting for response...
Savepoint completed. Path: {PATH}
"
        ))
    );
    assert!(asked(&fake, "Stop", ""), "{:?}", fake.requests());

    let fake = completing();
    let ran = fake.run(&["stop", "--drain", "-p", "/data/sp", JOB]);
    assert!(
        ran.stdout
            .starts_with(&format!("Draining job \"{JOB}\" with a savepoint.\n")),
        "{ran:?}"
    );
    assert!(asked(&fake, "Drain", "file:///data/sp"), "{:?}", fake.requests());
}

#[test]
fn an_operation_that_never_began_has_no_id() {
    for command in [vec!["savepoint", JOB], vec!["stop", JOB], vec!["cancel", "-s", JOB]] {
        let ran = Fake::start(Script::default()).run(&command);
        assert_eq!(ran.code, 3, "{command:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("Operation"), "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("[SD-0401]"), "{command:?}: {}", ran.stderr);
    }
}

#[test]
fn a_savepoint_that_fails_ends_with_its_own_code() {
    let error = Error {
        code: 509,
        message: "savepoint `4` failed: disk full".to_owned(),
        hint: String::new(),
    };
    let fake = Fake::start(Script {
        outcome: Some(Outcome::Failed(error)),
        ..Script::default()
    });
    let ran = told(fake.run(&["cancel", "-s", JOB])).1;
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "error: savepoint `4` failed: disk full [SD-0509]\n")
    );
}

#[test]
fn the_time_that_the_user_gives_is_the_savepoints() {
    let fake = completing();
    fake.run(&["savepoint", JOB, "--timeout", "90s"]);
    assert!(
        fake.requests().concat().contains("timeout_ms: 90000"),
        "{:?}",
        fake.requests()
    );
}

#[test]
fn a_job_manager_that_cannot_begin_an_operation_is_not_waited_for_longer_than_the_user_wants() {
    let fake = Fake::start(Script {
        hangs: true,
        ..Script::default()
    });
    for command in [vec!["savepoint", JOB], vec!["stop", JOB], vec!["cancel", "-s", JOB]] {
        let (id, ran) = told(fake.run(&[&command[..], &["--timeout", "400ms"]].concat()));
        let message = format!(
            "error: the job manager has not begun operation `{id}` within 400 ms [SD-0408]\n\
             hint: ask with `streamctl savepoint status {id}`, now or after the job manager was restarted\n"
        );
        assert_eq!((ran.code, ran.stderr), (6, message), "{command:?}");
    }
}

#[test]
fn who_does_not_wait_is_told_how_to_follow() {
    let fake = completing();
    let id = "0123456789abcdef0123456789abcdef";
    let ran = fake.run(&["stop", "--detached", "--request-id", id, JOB]);
    let last = format!("Operation {id} of job {JOB} has begun: follow it with `streamctl savepoint status {id}`\n");
    assert!(ran.code == 0 && ran.stdout.ends_with(&last), "{ran:?}");
    assert!(!ran.stderr.contains(id), "once is enough: {ran:?}");
    let ran = fake.run(&["savepoint", JOB, "--detached", "--request-id", id, "--output", "json"]);
    assert_eq!(
        ran,
        done(format!("{{\"job_id\":\"{JOB}\",\"operation_id\":\"{id}\"}}\n"))
    );
}

#[test]
fn who_presses_ctrl_c_is_told_how_to_follow() {
    let fake = Fake::start(Script {
        outcome: Some(Outcome::InProgress(OperationProgress::default())),
        ..Script::default()
    });
    let mut command = command(&[("STREAMD_JOBMANAGER", &fake.address())], &["savepoint", JOB]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The id is told once Ctrl-C is about to be listened for; what is asked, after that.
    while !fake.requests().concat().contains("StartOperationRequest") {
        assert_eq!(child.try_wait().unwrap(), None, "it has asked for nothing");
        std::thread::yield_now();
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    let _status = child.wait().unwrap();
    let (id, ran) = told(child.wait_with_output().unwrap().into());
    assert_eq!(
        (ran.code, ran.stderr),
        (
            130,
            format!(
                "Interrupted: operation {id} goes on. To see what becomes of it: streamctl savepoint status --wait {id}\n"
            )
        )
    );
}

const OPERATION: &str = "0123456789abcdef0123456789abcdef";

fn recorded(outcome: operation_details::Outcome) -> OperationDetails {
    OperationDetails {
        operation_id: OPERATION.to_owned(),
        job_id: JOB.to_owned(),
        job_name: "flights".to_owned(),
        kind: OperationKind::Stop.into(),
        requested_at_ms: 1_795_208_537_000,
        ended_at_ms: 1_795_208_538_000,
        location: PATH.to_owned(),
        outcome: Some(outcome),
        missing: false,
    }
}

fn recording(operations: Vec<OperationDetails>) -> Fake {
    Fake::start(Script {
        operations,
        ..Script::default()
    })
}

fn completed() -> operation_details::Outcome {
    operation_details::Outcome::Completed(OperationCompleted {
        savepoint_path: PATH.to_owned(),
        bytes: 1234,
        duration_ms: 56,
        promoted_checkpoint: 7,
    })
}

fn failed() -> operation_details::Outcome {
    operation_details::Outcome::Failed(Error {
        code: 509,
        message: "savepoint `4` failed: disk full".to_owned(),
        hint: String::new(),
    })
}

#[test]
fn what_became_of_an_operation_is_told_from_any_shell() {
    let fake = recording(vec![recorded(completed())]);
    assert_eq!(
        fake.run(&["savepoint", "status", OPERATION]),
        done(format!(
            "\
Operation {OPERATION}: stop of job {JOB} (flights), requested 20.11.2026 21:02:17
The job did not run: the savepoint is a copy of its last completed checkpoint, 7. What it did after that is not in it.
Savepoint completed. Path: {PATH}
"
        ))
    );
    let fake = recording(vec![recorded(failed())]);
    let ran = fake.run(&["savepoint", "status", OPERATION]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "error: savepoint `4` failed: disk full [SD-0509]\n")
    );
}

#[test]
fn savepoints_are_listed_with_what_became_of_them() {
    let moved = OperationDetails {
        missing: true,
        ..recorded(completed())
    };
    let under_way = operation_details::Outcome::InProgress(OperationProgress::default());
    let fake = recording(vec![
        recorded(completed()),
        moved,
        recorded(failed()),
        recorded(under_way),
    ]);
    let head = format!("20.11.2026 21:02:17 : {JOB} : flights");
    assert_eq!(
        fake.run(&["savepoint", "list", "flights"]),
        done(format!(
            "\
{head} : COMPLETED (stop) 1.2 KiB {PATH}
{head} : MISSING (stop) 1.2 KiB {PATH}
{head} : FAILED (stop) - savepoint `4` failed: disk full [SD-0509]
{head} : IN_PROGRESS (stop) 0 B {PATH}
"
        ))
    );
    assert!(fake.requests().concat().contains("job: \"flights\""));
    assert_eq!(
        recording(Vec::new()).run(&["savepoint", "list"]),
        done("No savepoints are recorded.\n")
    );
}

#[test]
fn a_savepoint_is_deleted_under_the_name_that_was_given() {
    let fake = Fake::start(Script {
        disposes: true,
        ..Script::default()
    });
    assert_eq!(
        fake.run(&["savepoint", "-d", "/data/sp/savepoint-1"]),
        done(
            "\
Disposing savepoint '/data/sp/savepoint-1'.
Waiting for response...
Savepoint '/data/sp/savepoint-1' disposed.
"
        )
    );
    assert_eq!(
        fake.requests(),
        ["DisposeSavepointRequest { path: \"file:///data/sp/savepoint-1\" }"]
    );
}

#[test]
fn a_place_that_is_none_is_refused_before_anything_is_asked() {
    let fake = completing();
    let ran = fake.run(&["savepoint", JOB, "file://elsewhere/sp"]);
    assert_eq!(
        ran,
        Ran {
            code: 2,
            stdout: String::new(),
            stderr: "error: the URI `file://elsewhere/sp` names a host, but a `file` URI is a path of this machine [SD-0602]\n\
                     hint: give a path, or a URI like `file:///data/savepoints`\n"
                .to_owned(),
        }
    );
    assert!(fake.requests().is_empty());
}

mod check {
    use streamd_core::error::{CodedError, ErrorCode};
    use streamd_rpc::proto::state_finding::Verdict;
    use streamd_rpc::proto::{CheckSnapshotResponse, StateFinding};
    use streamd_rpc::status::to_proto;

    use crate::fake::{Fake, Ran, Script};

    const APPLICATION: &str = env!("CARGO_BIN_EXE_streamctl");

    fn finding(operator: &str, state: &str, rows: u64, verdict: Verdict, details: &[&str]) -> StateFinding {
        StateFinding {
            operator_id: "00".repeat(16),
            operator: operator.to_owned(),
            state: state.to_owned(),
            rows,
            bytes: rows * 10,
            verdict: verdict.into(),
            details: details.iter().map(|detail| (*detail).to_owned()).collect(),
            hint: String::new(),
        }
    }

    fn answering(refusal: Option<CodedError>) -> Fake {
        Fake::start(Script {
            comparison: Some(CheckSnapshotResponse {
                job_name: "flights".to_owned(),
                snapshot: "file:///sp".to_owned(),
                findings: vec![
                    finding("flights", "splits", 6, Verdict::Matches, &[]),
                    finding("statistics", "count", 1_690, Verdict::Migrates, &["adds `late`"]),
                ],
                refusal: refusal.as_ref().map(to_proto),
            }),
            ..Script::default()
        })
    }

    #[test]
    fn a_check_prints_a_verdict_for_each_state_and_starts_nothing() {
        let fake = answering(None);
        let ran = fake.run(&["savepoint", "check", "-p", "3", APPLICATION, "/sp", "--input", "x"]);
        assert_eq!(
            ran,
            Ran {
                code: 0,
                stdout: "Snapshot: file:///sp\nJob: flights\n\n\
                         OPERATOR    STATE   ROWS  BYTES  VERDICT\n\
                         flights     splits     6     60  matches\n\
                         statistics  count   1690  16900  migrates\n\n\
                         statistics / count: migrates\n  adds `late`\n\n\
                         The application can start from it.\n"
                    .to_owned(),
                stderr: String::new(),
            }
        );
        let request = fake.requests().pop().unwrap();
        for part in [
            "arguments: [\"--input\", \"x\"]",
            "parallelism: 3",
            "savepoint_path: \"file:///sp\"",
        ] {
            assert!(request.contains(part), "{part} in {request}");
        }
    }

    #[test]
    fn what_would_be_dropped_ends_with_4_and_what_does_not_fit_with_7() {
        let refused = |code| {
            let fake = answering(Some(CodedError::new(code, "it is refused")));
            let ran = fake.run(&["savepoint", "check", "--output", "json", APPLICATION, "/sp"]);
            assert!(ran.stdout.contains("\"fits\":false"), "{ran:?}");
            (ran.code, ran.stderr)
        };
        let (code, stderr) = refused(ErrorCode::UnclaimedState);
        assert!(code == 4 && stderr.contains("SD-0520"), "{stderr}");
        let (code, stderr) = refused(ErrorCode::IncompatibleState);
        assert!(code == 7 && stderr.contains("SD-0505"), "{stderr}");
    }

    #[test]
    fn a_check_without_a_path_is_a_usage_error() {
        let fake = answering(None);
        assert_eq!(fake.run(&["savepoint", "check", APPLICATION]).code, 2);
    }
}
