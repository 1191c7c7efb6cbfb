//! `taskmanager list`, `drain` and `undrain`.

use streamd_rpc::proto::{GetClusterResponse, TaskManager};

use crate::fake::{Fake, JOB, Ran, Script, done};

/// Two task managers; the first is being drained, and has these jobs.
fn two(jobs: &[&str]) -> Fake {
    let task_manager = |id: &str| TaskManager {
        id: id.to_owned(),
        host: "localhost".to_owned(),
        slots: 2,
        free_slots: 2,
        process_id: 77,
        ..TaskManager::default()
    };
    Fake::start(Script {
        cluster: GetClusterResponse {
            task_managers: vec![
                TaskManager {
                    free_slots: 0,
                    drained: true,
                    job_ids: jobs.iter().map(|job| (*job).to_owned()).collect(),
                    ..task_manager("tm-1")
                },
                task_manager("tm-2"),
            ],
            ..GetClusterResponse::default()
        },
        moving: vec![JOB.to_owned()],
        ..Script::default()
    })
}

#[test]
fn task_managers_are_listed_with_their_jobs() {
    let fake = two(&[JOB]);
    assert_eq!(
        fake.run(&["taskmanager", "list"]),
        done(format!(
            "tm-1 : localhost : 2 slots, 0 free, being drained (process 77)\n  {JOB}\n\
             tm-2 : localhost : 2 slots, 2 free (process 77)\n"
        ))
    );
    assert_eq!(
        fake.run(&["taskmanager", "list", "--output", "json"])
            .stdout
            .lines()
            .next(),
        Some(
            format!(
                "{{\"id\":\"tm-1\",\"host\":\"localhost\",\"process_id\":77,\"slots\":2,\"free_slots\":0,\
                 \"drained\":true,\"stopping\":false,\"jobs\":[\"{JOB}\"]}}"
            )
            .as_str()
        )
    );
    let empty = Fake::start(Script::default());
    assert_eq!(empty.run(&["taskmanager", "list"]), done("No task managers.\n"));
}

#[test]
fn a_task_manager_that_waits_for_its_jobs_to_move_before_it_ends_is_said_to() {
    let fake = Fake::start(Script {
        cluster: GetClusterResponse {
            task_managers: vec![TaskManager {
                id: "tm-1".to_owned(),
                host: "localhost".to_owned(),
                slots: 2,
                drained: true,
                stopping: true,
                ..TaskManager::default()
            }],
            ..GetClusterResponse::default()
        },
        ..Script::default()
    });
    assert_eq!(
        fake.run(&["taskmanager", "list"]),
        done("tm-1 : localhost : 2 slots, 0 free, stopping once its jobs have moved (process 0)\n")
    );
}

#[test]
fn draining_waits_until_no_job_is_left() {
    let fake = two(&[]);
    assert_eq!(
        fake.run(&["taskmanager", "drain", "tm-1"]),
        done("Draining task manager tm-1: 1 job to move.\nDrained task manager tm-1.\n")
    );
    assert_eq!(
        fake.run(&["taskmanager", "drain", "tm-1", "--output", "json"]),
        done(format!(
            "{{\"task_manager\":\"tm-1\",\"drained\":true,\"moved_jobs\":[\"{JOB}\"]}}\n"
        ))
    );
    let undrained = fake.run(&["taskmanager", "undrain", "tm-1"]);
    assert_eq!(undrained, done("Task manager tm-1 takes jobs again.\n"));
    let last = fake.requests().pop().unwrap_or_default();
    assert!(last.contains("undo: true"), "{last}");
}

#[test]
fn a_drain_that_takes_too_long_says_who_is_left() {
    let ran = two(&[JOB]).run(&["taskmanager", "drain", "tm-1", "--timeout", "200ms"]);
    assert_eq!(
        ran,
        Ran {
            code: 6,
            stdout: "Draining task manager tm-1: 1 job to move.\n".to_owned(),
            stderr: format!(
                "error: task manager `tm-1` is not drained after 200 ms: still there is {JOB} [SD-0425]\n\
                 hint: the jobs go on moving: wait with the same command again\n"
            ),
        }
    );
}

#[test]
fn a_task_manager_that_is_not_there_cannot_be_drained() {
    let ran = two(&[]).run(&["taskmanager", "drain", "tm-9"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert!(ran.stderr.contains("[SD-0424]"), "{ran:?}");
}
