//! Savepoints that cannot be taken, and snapshots that cannot be started from.

use std::fs;

use system::{Cluster, ClusterBuilder, Torture};

use crate::CHECKPOINTS;

fn endless() -> Vec<String> {
    Torture::new().rate(100).command()
}

/// Runs it until it has state for every key.
fn submit_and_wait_for_state(cluster: &Cluster) -> String {
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &endless());
    cluster.wait_for_records(&id, 20);
    id
}

#[test]
fn a_savepoint_is_announced_in_flinks_words_and_deleted_on_request() {
    let cluster = Cluster::start(1, 1);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &endless());
    let folder = cluster.place("savepoints");
    let ran = cluster.streamctl(&["savepoint", &id, &folder]).succeeded();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], format!("Triggering savepoint for job {id}."));
    assert_eq!(lines[1], "Waiting for response...");
    let path = lines[2].strip_prefix("Savepoint completed. Path: ").unwrap();
    assert_eq!(
        lines[3..],
        ["You can resume your program from this savepoint with the run command."]
    );
    let begin = format!("file://{folder}/savepoint-{}-", &id[..6]);
    assert!(path.starts_with(&begin) && path.len() == begin.len() + 12, "{path}");
    assert_eq!(cluster.job(&id).state, "RUNNING");

    let ran = cluster.streamctl(&["savepoint", "-d", path]).succeeded();
    assert!(
        ran.stdout.ends_with(&format!("Savepoint '{path}' disposed.\n")),
        "{ran:#?}"
    );
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        0,
        "something is left in {folder}"
    );
    cluster
        .streamctl(&["savepoint", "-d", path])
        .refused(3, "SD-0501", "savepoint-");
}

#[test]
fn cancel_with_savepoint_goes_to_the_configured_folder_and_says_so() {
    let builder = ClusterBuilder::new(1, 1);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let cluster = builder.setting("state.savepoints.dir", place).start();
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &endless());
    let ran = cluster.streamctl(&["cancel", "-s", &id]).succeeded();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let [cancelling, cancelled] = lines[..] else {
        panic!("{ran:#?}");
    };
    assert_eq!(
        cancelling,
        format!("Cancelling job {id} with savepoint to default savepoint directory.")
    );
    let begin = format!("Cancelled job {id}. Savepoint stored in file://{place}/savepoint-");
    assert!(cancelled.starts_with(&begin), "{ran:#?}");
    assert_eq!(cluster.job(&id).state, "CANCELED");
}

#[test]
fn a_savepoint_that_cannot_be_taken_leaves_the_job_running() {
    let cluster = Cluster::start(1, 2);
    let without = cluster.submit_and_wait(&[], &endless());
    let with = cluster.submit_and_wait(&["-D", CHECKPOINTS], &endless());
    let folder = cluster.place("savepoints");

    let disabled = "Checkpointing disabled. You can enable it via the execution environment of your job";
    for command in ["savepoint", "cancel", "stop"] {
        let arguments: Vec<&str> = match command {
            "cancel" => vec!["cancel", "-s", &folder, &without],
            "stop" => vec!["stop", "-p", &folder, &without],
            _savepoint => vec!["savepoint", &without, &folder],
        };
        cluster.streamctl(&arguments).refused(4, "SD-0507", disabled);
    }
    for arguments in [
        vec!["savepoint", &with],
        vec!["cancel", "-s", &with],
        vec!["stop", &with],
    ] {
        let refused = cluster.streamctl(&arguments);
        refused.refused(2, "SD-0508", "no savepoint directory");
    }
    let file = cluster.path("file");
    fs::write(&file, "in the way").unwrap();
    let target = cluster.place("file/savepoints");
    for arguments in [
        vec!["savepoint", &with, &target],
        vec!["cancel", "-s", &target, &with],
        vec!["stop", "-p", &target, &with],
    ] {
        let refused = cluster.streamctl(&arguments);
        refused.refused(1, "SD-0509", "file/savepoints");
    }
    for id in [&without, &with] {
        let job = cluster.job(id);
        assert_eq!((job.state.as_str(), job.restarts), ("RUNNING", 0), "{job:?}");
    }
    // The job is none the worse.
    assert!(cluster.savepoint(&with, &folder).join("_metadata").is_file());
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

#[test]
fn a_snapshot_that_does_not_exist_or_is_damaged_starts_nothing() {
    let cluster = Cluster::start(1, 1);
    let id = submit_and_wait_for_state(&cluster);
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");
    let refused = |path: &str, code: i32, error: &str, text: &str| {
        let ran = cluster.run(&["-s", path], &endless()).refused(code, error, text);
        assert_eq!(ran.stdout, "");
    };

    refused(&cluster.place("nowhere"), 3, "SD-0501", "nowhere");
    fs::create_dir(cluster.path("empty")).unwrap();
    refused(&cluster.place("empty"), 3, "SD-0501", "empty");

    let path = savepoint.to_str().unwrap();
    let metadata = savepoint.join("_metadata");
    let whole = fs::read(&metadata).unwrap();
    for length in [0, 1, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(&metadata, &whole[..length]).unwrap();
        refused(path, 7, "SD-0502", "_metadata");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&metadata, &flipped).unwrap();
    refused(path, 7, "SD-0502", "_metadata");
    fs::write(&metadata, &whole).unwrap();

    let table = system::files::files_below(&savepoint)
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    let table = table.unwrap();
    let content = fs::read(&table).unwrap();
    fs::write(&table, &content[..content.len() - 1]).unwrap();
    refused(path, 7, "SD-0502", table.file_name().unwrap().to_str().unwrap());
    fs::remove_file(&table).unwrap();
    refused(path, 7, "SD-0502", table.file_name().unwrap().to_str().unwrap());
    fs::write(&table, &content).unwrap();

    let jobs = cluster.jobs();
    assert_eq!(jobs.len(), 1, "a refused submission is listed: {jobs:?}");
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(1);
    // Mended, it is as good as before.
    cluster.submit_and_wait(&["-s", path], &endless());
}

#[test]
fn a_snapshot_that_turns_out_to_be_damaged_fails_the_job_at_once() {
    let cluster = Cluster::start(1, 1);
    let id = submit_and_wait_for_state(&cluster);
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");
    let path = savepoint.to_str().unwrap();
    let table = system::files::files_below(&savepoint)
        .into_iter()
        .find(|file| file.parent().is_some_and(|folder| folder.ends_with("ordinal")));
    let table = table.expect("the rows of a state are in a file");
    let whole = fs::read(&table).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&table, &flipped).unwrap();

    // Every restart would read the same bytes, however many there may be.
    let restarts = [
        "-D",
        "restart-strategy.type=fixed-delay",
        "-D",
        "restart-strategy.fixed-delay.attempts=1000000",
    ];
    let arguments: Vec<_> = restarts.into_iter().chain(["-D", CHECKPOINTS, "-s", path]).collect();
    let ran = cluster.run(&arguments, &endless());
    let (_, job) = cluster.jobs().into_iter().find(|(other, _)| *other != id).unwrap();
    assert_eq!((job.state.as_str(), job.restarts), ("FAILED", 0), "{job:?}\n{ran:?}");
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(ran.stderr.contains("SD-0502") && ran.stderr.contains(name), "{ran:?}");
    cluster.wait_for_no_workers();
    // Mended, it is as good as before.
    fs::write(&table, &whole).unwrap();
    cluster.submit_and_wait(&["-s", path], &endless());
}

#[test]
fn state_that_no_operator_claims_is_refused_by_its_uid_and_dropped_on_request() {
    let cluster = Cluster::start(1, 1);
    let before = Torture::new().rate(1000).argument("--uid", "ordinals-of-old");
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &before.command());
    cluster.wait_for_records(&id, 100);
    let savepoint = cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]);
    let path = savepoint.to_str().unwrap();

    let ran = cluster.run(&["-s", path], &endless());
    let ran = ran.refused(7, "SD-0504", "`ordinals-of-old`");
    assert!(ran.stderr.contains("--allow-non-restored-state"), "{ran:#?}");
    assert_eq!(cluster.jobs().len(), 1);

    let ran = cluster.run(&["-d", "-n", "-s", path], &endless()).succeeded();
    assert!(
        ran.stderr.contains("warning: ") && ran.stderr.contains("`ordinals-of-old`"),
        "{ran:#?}"
    );
    let id = ran.stdout.trim_end().rsplit(' ').next().unwrap().to_owned();
    cluster.wait_for(&id, "RUNNING");
}

#[test]
fn a_savepoint_of_another_application_is_refused() {
    let cluster = Cluster::start(1, 1);
    let id = submit_and_wait_for_state(&cluster);
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    let flights = system::Flights {
        output: cluster.path("output"),
        rate: 0,
    };
    let ran = cluster.run(&["-s", savepoint.to_str().unwrap()], &flights.command());
    ran.refused(7, "SD-0504", "numbers");
    assert!(!cluster.path("output").exists(), "its output is begun");
}

#[test]
fn a_parallelism_beyond_the_key_groups_of_the_snapshot_is_refused() {
    let cluster = Cluster::start(1, 1);
    let id = submit_and_wait_for_state(&cluster);
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    let arguments = ["-p", "1000", "-s", savepoint.to_str().unwrap()];
    let ran = cluster.run(&arguments, &endless());
    ran.refused(7, "SD-0506", "128");
    assert_eq!(cluster.jobs().len(), 1);
}
