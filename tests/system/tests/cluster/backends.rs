//! State backends: what their checkpoints consist of, what they refuse, and how state gets from one to another.

use std::fs;
use std::path::Path;

use system::files::{everything_below, files_below, number, text};
use system::moves::assert_state_moves;
use system::{Cluster, Gate, Torture, until};

use crate::CHECKPOINTS;

const MEMORY: &str = "state.backend.type=memory";
const RETAIN: &str = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = everything_below(folder)
        .iter()
        .map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_of_the_backend_memory_is_one_file_that_survives_a_death_and_a_move() {
    let cluster = Cluster::start(2, 3);
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(20_000).rate(1_000).held_at(19_000, &gate);
    let paced = paced.output(output.clone());
    let id = cluster.submit_and_wait(
        &["-p", "2", "-D", CHECKPOINTS, "-D", MEMORY, "-D", RETAIN],
        &paced.command(),
    );
    paced.wait_for_commits(0);
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let before = paced.committed();
    until("more records are committed, or all there are", || {
        let committed = paced.committed();
        (committed > before || committed == 19_000).then_some(())
    });
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();

    let checkpoint = cluster.checkpoints(&id).pop().expect("a checkpoint is kept");
    assert_eq!(names_in(&checkpoint), ["_metadata"]);
    cluster
        .streamctl(&["checkpoint", "verify", &text(&checkpoint)])
        .succeeded();
    let moved = cluster.path("elsewhere/under another name");
    fs::create_dir_all(&moved).unwrap();
    fs::copy(checkpoint.join("_metadata"), moved.join("_metadata")).unwrap();
    fs::remove_dir_all(cluster.path("data/checkpoints").join(&id)).unwrap();

    let unpaced = Torture::new().records(20_000).output(output);
    let onto_heap = ["-p", "3", "-s", &text(&moved)];
    cluster.run(&onto_heap, &unpaced.command()).succeeded();
    unpaced.assert_complete(20_000);
    assert_eq!(
        names_in(&moved),
        ["_metadata"],
        "a checkpoint of the user's was changed"
    );
}

/// As much as is ever allowed to: it has to fit into a message to the job manager, and must not come back in one.
#[test]
fn ten_megabytes_of_state_travel_in_metadata_and_back() {
    let cluster = Cluster::start(1, 2);
    let most = "state.backend.memory.max-state-size=12mb";
    let gate = Gate::closed(cluster.path("gate"));
    let keys: u64 = 600_000;
    let torture = Torture::new()
        .argument("--keys", &keys.to_string())
        .held_at(keys, &gate);
    let settings = ["-D", CHECKPOINTS, "-D", MEMORY, "-D", most, "-D", RETAIN];
    let id = cluster.submit_and_wait(&settings, &torture.command());
    let rows_in = |path: &str| {
        let listed = cluster
            .streamctl(&["state", "list", path, "--output", "json"])
            .objects();
        let counted = listed.iter().find(|state| state["state"] == "ordinal")?;
        Some(number(counted, "rows"))
    };
    until("every key is in a checkpoint", || {
        let latest = cluster.checkpoints(&id).pop()?;
        (rows_in(&text(&latest)) == Some(keys)).then_some(())
    });
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let before = number(&cluster.status(&id)["checkpoints"], "completed");
    until("a checkpoint is complete again", || {
        (number(&cluster.status(&id)["checkpoints"], "completed") > before).then_some(())
    });
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    let kept = cluster.checkpoints(&id).pop().expect("a checkpoint is kept");
    assert!(fs::metadata(kept.join("_metadata")).unwrap().len() > 10_000_000);
    assert_eq!(rows_in(&text(&kept)), Some(keys));
    cluster.streamctl(&["checkpoint", "verify", &text(&kept)]).succeeded();
}

#[test]
fn state_moves_between_the_heap_and_the_metadata_by_savepoint() {
    assert_state_moves(&Cluster::start(1, 3), &["hashmap", "memory", "hashmap"]);
}

#[test]
fn state_that_is_too_large_for_metadata_declines_the_checkpoint_and_leaves_by_savepoint() {
    let cluster = Cluster::start(1, 1);
    let many_keys = Torture::new().argument("--keys", "5000").rate(20_000).command();
    let small = "state.backend.memory.max-state-size=1kb";
    let settings = ["-D", CHECKPOINTS, "-D", MEMORY, "-D", small];

    let strict = cluster.submit(&[&settings[..], &["-D", "restart-strategy=none"]].concat(), &many_keys);
    let failed = cluster.wait_for(&strict, "FAILED").last_failure;
    for part in [
        "[SD-0606]",
        "state `ordinal` of operator `ordinals` takes ",
        "more than the 1024",
        "`state.backend.type: hashmap`",
    ] {
        assert!(failed.contains(part), "{part} in {failed}");
    }

    let patient = "execution.checkpointing.tolerable-failed-checkpoints=1000000";
    let id = cluster.submit_and_wait(&[&settings[..], &["-D", patient]].concat(), &many_keys);
    until("a checkpoint was declined", || {
        (number(&cluster.status(&id)["checkpoints"], "failed") > 0).then_some(())
    });
    assert_eq!(cluster.job(&id).state, "RUNNING");
    assert!(cluster.checkpoints(&id).is_empty());
    let savepoint = text(&cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]));
    let onto_heap = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-s", &savepoint], &many_keys);
    until("a checkpoint is complete", || {
        (!cluster.checkpoints(&onto_heap).is_empty()).then_some(())
    });
    // Invariant I10: what was declined leaves nothing behind.
    until("nothing is left of what was declined", || {
        files_below(&cluster.path("data/checkpoints").join(&id))
            .is_empty()
            .then_some(())
    });
}

#[test]
fn small_state_makes_no_small_files_and_is_inspected_like_any_other() {
    let cluster = Cluster::start(1, 2);
    let few_keys = Torture::new().rate(500).command();
    let retained = |more: &[&str]| {
        let id = cluster.submit_and_wait(
            &[&["-p", "2", "-D", CHECKPOINTS, "-D", RETAIN], more].concat(),
            &few_keys,
        );
        until("every key is counted", || {
            let latest = cluster.checkpoints(&id).pop()?;
            let shown = cluster.streamctl(&["state", "list", &text(&latest), "--output", "json"]);
            let rows = shown
                .objects()
                .iter()
                .find(|state| state["state"] == "ordinal")
                .map(|state| number(state, "rows"));
            (rows == Some(10)).then_some(())
        });
        cluster.streamctl(&["cancel", &id]).succeeded();
        cluster.wait_for(&id, "CANCELED");
        cluster.wait_for_no_workers();
        until("one checkpoint is left", || {
            let mut left = cluster.checkpoints(&id);
            left.pop().filter(|_| left.is_empty())
        })
    };
    let inlined = retained(&[]);
    assert_eq!(names_in(&inlined), ["_metadata"]);
    let apart = retained(&["-D", "state.storage.fs.memory-threshold=0"]);
    let files = names_in(&apart);
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().any(|name| name.ends_with(".state")), "{files:?}");

    for checkpoint in [&inlined, &apart] {
        let path = text(checkpoint);
        let verified = cluster
            .streamctl(&["checkpoint", "verify", &path, "--output", "json"])
            .succeeded();
        assert!(number(&verified.objects()[0], "rows") >= 10, "{verified:#?}");
        let shown = cluster
            .streamctl(&["state", "show", &path, "ordinals", "ordinal", "--output", "json"])
            .succeeded();
        assert_eq!(shown.objects().len(), 10, "{shown:#?}");
    }
    let checked = cluster
        .streamctl(&["fsck", &cluster.place("data/checkpoints"), "--output", "json"])
        .succeeded();
    let summary = checked.objects().pop().unwrap();
    assert_eq!(
        (number(&summary, "missing"), number(&summary, "unreadable")),
        (0, 0),
        "{summary:#}"
    );
}

#[test]
fn a_job_whose_application_lacks_its_backend_is_refused_before_anything_runs() {
    let cluster = Cluster::start(1, 1);
    let application = Torture::new().records(10).command();
    let ran = cluster.run(&["-D", "state.backend.type=rocksdb"], &application);
    ran.refused(2, "SD-0604", "was built without the state backend `rocksdb`");
    assert_eq!(cluster.jobs().len(), 0, "what is refused leaves nothing behind");
    let info = cluster.streamctl(
        &[
            &["info"],
            &application.iter().map(String::as_str).collect::<Vec<_>>()[..],
        ]
        .concat(),
    );
    let shown = info.succeeded().stdout;
    assert!(
        shown.contains("\nState backends: hashmap, memory\nStorage: file, memory, s3"),
        "{shown}"
    );
}

#[test]
fn settings_of_a_backend_that_contradict_each_other_are_refused() {
    let cluster = Cluster::start(1, 1);
    let application = Torture::new().records(10).command();
    for (settings, words) in [
        (
            ["state.backend.type=memory", "execution.checkpointing.incremental=true"],
            "always whole",
        ),
        (
            ["state.backend.type=memory", "state.checkpoint-storage=filesystem"],
            "have no files",
        ),
        (
            ["state.backend.type=rocksdb", "state.checkpoint-storage=jobmanager"],
            "are files",
        ),
    ] {
        let ran = cluster.run(&["-D", settings[0], "-D", settings[1]], &application);
        ran.refused(2, "SD-0102", words);
    }
}
