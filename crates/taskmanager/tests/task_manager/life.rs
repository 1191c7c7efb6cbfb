//! Registering, losing the link, and ending.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::ErrorCode;
use streamd_core::time::SystemClock;
use streamd_rpc::client::connect;
use streamd_rpc::health::{Health, check};
use streamd_taskmanager::TaskManager;

use crate::harness::{JobManager, Stage, assert_goes, is_gone, names_in, options};

#[tokio::test]
async fn a_task_manager_registers_with_its_slots_and_gives_signs_of_life() {
    let mut stage = Stage::set().await;
    let registration = &stage.link.registration;
    assert_eq!(registration.task_manager_id, stage.task_manager.id().0);
    assert_eq!((registration.slots, registration.host.as_str()), (2, "localhost"));
    assert_eq!(registration.process_id, std::process::id());
    stage.link.heartbeat().await;
    stage.link.heartbeat().await;
    stage.end().await;
}

#[tokio::test]
async fn a_job_manager_that_never_comes_ends_the_task_manager() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(servers::own_port(), folder.path());
    options.registration_timeout = Duration::from_millis(300);
    let task_manager = TaskManager::start(options, Arc::new(SystemClock::new())).await.unwrap();
    let error = task_manager.finished().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::JobManagerUnreachable);
    assert!(
        error
            .message
            .starts_with("task manager could not register at the job manager at `"),
        "{error}"
    );
    assert_eq!(task_manager.registered().await.unwrap_err(), error);
}

#[tokio::test]
async fn a_job_manager_that_comes_late_is_found() {
    let address = servers::own_port();
    let folder = tempfile::tempdir().unwrap();
    let task_manager = TaskManager::start(options(address, folder.path()), Arc::new(SystemClock::new()))
        .await
        .unwrap();
    let mut manager = JobManager::start_at(address).await;
    let link = manager.link().await;
    task_manager.registered().await.unwrap();
    drop(link);
    task_manager.shutdown().await.unwrap();
}

#[tokio::test]
async fn workers_outlive_the_link_and_the_next_job_manager_says_which_it_wants() {
    let mut stage = Stage::set().await;
    let program = stage
        .manager
        .script("trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 0.05; done");
    stage.link.start_worker(1, program).await;
    let process = stage.link.started().await;
    let child: u32 = stage.link.logged("child ").await.parse().unwrap();
    let mut stage = stage.with_next_job_manager().await;
    assert!(!is_gone(process), "the worker did not outlive its link");
    let registration = &stage.link.registration;
    assert_eq!(registration.task_manager_id, stage.task_manager.id().0);
    let announced: Vec<u64> = registration.workers.iter().map(|it| it.worker_id).collect();
    assert_eq!(announced, [1]);
    let told = std::fs::read_to_string(stage.work_dir().join("job-manager")).unwrap();
    assert_eq!(told, stage.manager.address.to_string());
    stage.link.stop_worker(1, 100).await;
    stage.link.exited().await;
    assert!(is_gone(process));
    assert_goes(child).await;
    stage.end().await;
}

#[tokio::test]
async fn a_task_manager_that_ends_reports_the_end_of_its_workers_and_leaves_nothing() {
    let mut stage = Stage::set().await;
    let program = stage.manager.script("sleep 1000 & echo child $!; wait");
    stage.link.start_worker(1, program).await;
    let process = stage.link.started().await;
    let child: u32 = stage.link.logged("child ").await.parse().unwrap();
    let work = stage.work_dir();
    let Stage {
        task_manager, mut link, ..
    } = stage;
    let (ended, reason) = tokio::join!(task_manager.shutdown(), link.exited());
    ended.unwrap();
    assert!(reason.contains("was stopped on request"), "{reason}");
    assert!(link.event().await.is_none());
    assert!(is_gone(process));
    assert_goes(child).await;
    assert!(!work.join("jobs").exists());
    assert_eq!(names_in(&work.join("describe")), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_task_manager_on_the_same_directory_is_refused() {
    let stage = Stage::set().await;
    let options = options(stage.manager.address, stage.folder.path());
    let again = || TaskManager::start(options.clone(), Arc::new(SystemClock::new()));
    assert_eq!(again().await.unwrap_err().code, ErrorCode::AlreadyRunning);
    let (manager, folder) = {
        let Stage {
            manager,
            task_manager,
            link,
            folder,
        } = stage;
        drop(link);
        task_manager.shutdown().await.unwrap();
        (manager, folder)
    };
    again().await.unwrap().shutdown().await.unwrap();
    drop((manager, folder));
}

#[tokio::test]
async fn the_health_service_says_whether_the_task_manager_is_registered() {
    let address = servers::own_port();
    let stage = Stage::set_with(|options| options.health_address = Some(address)).await;
    let channel = connect(&address.to_string()).await.unwrap();
    let serving = async {
        while check(channel.clone(), "", "the task manager").await.unwrap() != Health::Serving {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::harness::DEADLINE, serving).await.unwrap();
    stage.end().await;
    assert!(connect(&address.to_string()).await.is_err());
}

#[tokio::test]
async fn malformed_options_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut malformed = options("127.0.0.1:1".parse().unwrap(), folder.path());
    malformed.slots = 0;
    let error = TaskManager::start(malformed.clone(), Arc::new(SystemClock::new()))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    malformed.slots = 1;
    malformed.job_manager = "nowhere".to_owned();
    let error = TaskManager::start(malformed, Arc::new(SystemClock::new()))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_job_manager_that_comes_back_elsewhere_is_found_by_the_address_that_it_writes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jobmanager.address");
    let stage = Stage::set_with(|options| options.address_file = Some(file.clone())).await;
    let Stage {
        manager,
        link,
        task_manager,
        folder,
    } = stage;
    manager.stop(link).await;
    let mut manager = JobManager::start().await;
    std::fs::write(&file, format!("{}\n", manager.address)).unwrap();
    let link = manager.link().await;
    assert_eq!(link.registration.task_manager_id, task_manager.id().0);
    Stage {
        manager,
        link,
        task_manager,
        folder,
    }
    .end()
    .await;
}
