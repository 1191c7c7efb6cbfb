//! `savepoint`, `cancel -s` and `stop`.

use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_rpc::proto::{Error, OperationCompleted, OperationProgress};

use crate::fake::{Fake, JOB, Ran, Script, done};

const PATH: &str = "file:///data/sp/savepoint-fd7201-5103fe515a4d";

fn completing() -> Fake {
    let completed = OperationCompleted {
        savepoint_path: PATH.to_owned(),
        bytes: 1234,
        duration_ms: 56,
    };
    Fake::start(Script {
        outcome: Some(Outcome::Completed(completed)),
        ..Script::default()
    })
}

fn asked(fake: &Fake, kind: &str, target: &str) -> bool {
    let request = fake.requests().concat();
    request.contains(&format!("kind: {kind},")) && request.ends_with(&format!("target_directory: \"{target}\" }}"))
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
    assert_eq!(fake.run(&["savepoint", JOB]), done(expected));
    assert!(asked(&fake, "Savepoint", ""), "{:?}", fake.requests());
    assert_eq!(
        fake.run(&["--output", "json", "savepoint", JOB]),
        done(format!(
            "{{\"job_id\":\"{JOB}\",\"savepoint_path\":\"{PATH}\",\"bytes\":1234,\"duration_ms\":56}}\n"
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
        fake.run(&["cancel", "-s", "/data/sp", JOB]),
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
            fake.run(&arguments),
            done(format!(
                "Cancelling job {JOB} with savepoint to default savepoint directory.\n\
                 Cancelled job {JOB}. Savepoint stored in {PATH}.\n"
            ))
        );
        assert!(asked(&fake, "CancelWithSavepoint", ""), "{:?}", fake.requests());
    }
}

#[test]
fn stopping_suspends_or_drains() {
    let fake = completing();
    assert_eq!(
        fake.run(&["stop", JOB]),
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
    let ran = fake.run(&["cancel", "-s", JOB]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "error: savepoint `4` failed: disk full [SD-0509]\n")
    );
}

#[test]
fn a_savepoint_that_takes_longer_than_the_user_waits_goes_on() {
    let progress = OperationProgress {
        acknowledged_subtasks: 1,
        subtasks: 2,
    };
    let fake = Fake::start(Script {
        outcome: Some(Outcome::InProgress(progress)),
        ..Script::default()
    });
    let ran = fake.run(&["savepoint", JOB, "--timeout", "50ms"]);
    assert_eq!(
        (ran.code, ran.stderr),
        (
            6,
            format!(
                "error: the savepoint of job `{JOB}` is not complete within 50 ms [SD-0408]\n\
                 hint: the savepoint goes on; give more time with --timeout, or leave it out\n"
            )
        )
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
