//! Applications arrive whole, once, and unchanged.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use streamd_core::error::ErrorCode;
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::proto::{DescribeCommand, FetchProgram, Program};

use crate::harness::{Stage, names_in};

const PLAN: &str = r#"echo '{"version":1}' > "$STREAMD_PLAN_FILE""#;

#[tokio::test]
async fn bytes_that_are_not_what_was_asked_for_are_refused_and_not_kept() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script(PLAN);
    stage
        .manager
        .applications
        .add_as(&program.sha256, "#!/bin/sh\nexit 0\n");
    let error = stage.link.describe(program, 20_000).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(
        error.message.contains("arrived from the job manager with the digest"),
        "{error}"
    );
    assert_eq!(names_in(&stage.work_dir().join("artifacts")), Vec::<String>::new());
    stage.end().await;
}

#[tokio::test]
async fn a_damaged_file_is_noticed_before_it_runs_and_fetched_again() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script(PLAN);
    stage.link.describe(program.clone(), 20_000).await.unwrap();
    let file = stage.work_dir().join("artifacts").join(&program.sha256);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o500);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "#!/bin/sh\nexit 66\n").unwrap();
    stage.link.describe(program, 20_000).await.unwrap();
    assert_eq!(stage.manager.applications.fetches.load(Ordering::SeqCst), 2);
    stage.end().await;
}

#[tokio::test]
async fn a_working_directory_that_somebody_has_cleaned_is_filled_again() {
    let mut stage = Stage::set().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let begun = elsewhere.path().join("begun");
    let program = stage
        .manager
        .script(&format!("touch {}; sleep 1000 & wait", begun.display()));
    stage.link.start_worker(1, program.clone()).await;
    stage.link.started().await;
    // The process is there before the shell has opened its script.
    while !begun.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let folder = stage.work_dir();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    stage.link.start_worker(2, program).await;
    stage.link.started().await;
    let described = stage.manager.script(PLAN);
    stage.link.describe(described, 20_000).await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_program_that_may_be_needed_is_here_before_it_is() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script(PLAN);
    let sha256 = program.sha256.clone();
    stage.link.tell(Command::FetchProgram(FetchProgram { sha256 })).await;
    let file = stage.work_dir().join("artifacts").join(&program.sha256);
    while !file.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stage.link.describe(program, 20_000).await.unwrap();
    assert_eq!(stage.manager.applications.fetches.load(Ordering::SeqCst), 1);
    stage.end().await;
}

#[tokio::test]
async fn an_application_that_many_ask_for_is_fetched_once() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script(PLAN);
    for request_id in 0..5 {
        let program = Some(program.clone());
        stage
            .link
            .tell(Command::Describe(DescribeCommand {
                request_id,
                program,
                timeout_ms: 20_000,
            }))
            .await;
    }
    for _ in 0..5 {
        let event = stage.link.event().await;
        assert!(matches!(event, Some(Event::Described(_))), "{event:?}");
    }
    assert_eq!(stage.manager.applications.fetches.load(Ordering::SeqCst), 1);
    stage.end().await;
}

#[tokio::test]
async fn an_application_that_the_job_manager_lacks_or_that_is_no_digest_is_refused() {
    let mut stage = Stage::set().await;
    let unknown = Program {
        sha256: "0".repeat(64),
        ..Program::default()
    };
    let error = stage.link.describe(unknown, 1000).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ApplicationNotFound);
    let hostile = Program {
        sha256: "../../etc/passwd".to_owned(),
        ..Program::default()
    };
    let error = stage.link.describe(hostile, 1000).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    stage.end().await;
}
