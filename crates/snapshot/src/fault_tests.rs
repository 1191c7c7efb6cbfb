//! Every operation of every flow is hit by every fault. Whatever happens: a success is one, a refusal is typed, and nothing that can be
//! reached is deleted.

use super::*;
use crate::store::faulty::{Fault, Faults, faulty};

/// A fixture whose store can be made to fail.
fn fixture() -> (Fixture, Faults) {
    let (base, faults) = faulty();
    let fixture = Fixture {
        runtime: Runtime::new().unwrap(),
        _directory: tempfile::tempdir().unwrap(),
        base,
    };
    (fixture, faults)
}

fn listed(fixture: &Fixture) -> Vec<crate::store::Entry> {
    fixture.run(fixture.base.list()).unwrap()
}

/// Runs a flow with each fault at each of its operations, on a fresh store each time. The flow returns how many operations it took.
fn sweep(flow: impl Fn(&Fixture, &Faults, Option<(usize, Fault)>) -> usize) {
    let (fixture, faults) = fixture();
    let operations = flow(&fixture, &faults, None);
    assert!(operations > 0, "the flow does nothing");
    for fault in Fault::ALL {
        for at in 0..operations {
            let (fixture, faults) = self::fixture();
            flow(&fixture, &faults, Some((at, fault)));
        }
    }
}

fn plan(faults: &Faults, case: Option<(usize, Fault)>) {
    match case {
        Some((at, fault)) => faults.plan(at..at + 1, fault),
        None => faults.end(),
    }
}

/// A fault that lasts from an operation on, to the end of the flow.
fn lasting(faults: &Faults, case: Option<(usize, Fault)>) {
    match case {
        Some((at, fault)) => faults.plan(at..usize::MAX, fault),
        None => faults.end(),
    }
}

fn publishing(kind: SnapshotKind, name: &str, begin: fn(&Faults, Option<(usize, Fault)>)) {
    sweep(|fixture, faults, case| {
        let folder = fixture.base.child(name).unwrap();
        let metadata = fixture.written(kind, &folder);
        begin(faults, case);
        let published = fixture.run(publish(&folder, &metadata));
        let operations = faults.operations();
        faults.end();
        let found = fixture.run(read_snapshot(&folder.uri()));
        let objects_there = fixture.run(check_objects(&metadata, &folder.uri()));
        assert!(
            objects_there.is_ok(),
            "{case:?}: an object was deleted: {objects_there:?}"
        );
        match published {
            Ok(_) => {
                let found = found.unwrap_or_else(|error| panic!("{case:?}: published, but {error}"));
                assert_eq!(found.metadata.nonce, metadata.nonce, "{case:?}");
                fixture.run(verify_objects(&found.metadata, &found.folder)).unwrap();
                let recorded = fixture.run(list_completed(&folder.parent().unwrap())).unwrap();
                assert_eq!(
                    recorded.len(),
                    usize::from(kind == SnapshotKind::Checkpoint),
                    "{case:?}"
                );
            }
            Err(error) if error.outcome_unknown() => {
                // Whole or absent, and if it is there it is this one.
                assert!(
                    found.is_err() || found.unwrap().metadata.nonce == metadata.nonce,
                    "{case:?}: {error}"
                );
            }
            Err(error) => {
                let absent = matches!(
                    found,
                    Err(SnapshotError::NoMetadata { .. } | SnapshotError::NotFound { .. })
                );
                // The metadata may stand while its record was refused: it is not complete, and the next one gives it up.
                let unrecorded = fixture
                    .run(list_completed(&folder.parent().unwrap()))
                    .unwrap()
                    .is_empty();
                assert!(
                    absent || (kind == SnapshotKind::Checkpoint && unrecorded),
                    "{case:?}: {error}"
                );
            }
        }
        operations
    });
}

#[test]
fn a_checkpoint_is_published_as_a_whole_or_not_whatever_operation_fails() {
    publishing(SnapshotKind::Checkpoint, "job/chk-17", plan);
    publishing(SnapshotKind::Checkpoint, "job/chk-17", lasting);
}

#[test]
fn a_savepoint_is_published_as_a_whole_or_not_whatever_operation_fails() {
    publishing(SnapshotKind::Savepoint, "savepoint-070707-0123456789ab", plan);
    publishing(SnapshotKind::Savepoint, "savepoint-070707-0123456789ab", lasting);
}

#[test]
fn an_answer_that_is_lost_after_a_write_is_a_success() {
    sweep(|fixture, faults, case| {
        let folder = fixture.base.child("job/chk-17").unwrap();
        let metadata = fixture.written(SnapshotKind::Checkpoint, &folder);
        let case = case.filter(|(_, fault)| matches!(fault, Fault::AppliedThenError | Fault::AppliedTwice));
        // Looks at the objects come first, and are reads: a read that fails is no success.
        let writes = case.filter(|(at, fault)| *fault == Fault::AppliedTwice || *at > 0);
        plan(faults, writes);
        let published = fixture.run(publish(&folder, &metadata));
        let operations = faults.operations();
        faults.end();
        assert!(published.is_ok(), "{case:?}: {published:?}");
        operations
    });
}

#[test]
fn reading_a_snapshot_gives_it_whole_or_refuses_and_changes_nothing() {
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        sweep(|fixture, faults, case| {
            let folder = fixture.base.child("job/chk-17").unwrap();
            let metadata = fixture.written(kind, &folder);
            fixture.run(publish(&folder, &metadata)).unwrap();
            let before = listed(fixture);
            plan(faults, case);
            let found = fixture.run(async {
                let found = read_snapshot(&folder.uri()).await?;
                verify_objects(&found.metadata, &found.folder).await?;
                Ok::<_, SnapshotError>(found)
            });
            let operations = faults.operations();
            faults.end();
            match found {
                Ok(found) => assert_eq!(found.metadata, metadata, "{case:?}"),
                // Above all: an outage is not an absence.
                Err(error) => assert!(!matches!(error, SnapshotError::NotFound { .. }), "{case:?}: {error}"),
            }
            assert_eq!(listed(fixture), before, "{case:?}");
            operations
        });
    }
}

#[test]
fn a_discarded_checkpoint_never_looks_complete_and_its_neighbour_stays() {
    sweep(|fixture, faults, case| {
        let [old, new] = ["job/chk-17", "job/chk-18"].map(|name| fixture.base.child(name).unwrap());
        for (folder, id) in [(&old, 17), (&new, 18)] {
            let metadata = SnapshotMetadata {
                checkpoint_id: CheckpointId(id),
                ..fixture.written(SnapshotKind::Checkpoint, folder)
            };
            fixture.run(publish(folder, &metadata)).unwrap();
        }
        plan(faults, case);
        let discarded = fixture.run(discard(&old));
        let operations = faults.operations();
        faults.end();
        let intact = |folder: &Location| {
            fixture.run(async {
                let found = read_snapshot(&folder.uri()).await?;
                verify_objects(&found.metadata, &found.folder).await
            })
        };
        intact(&new).unwrap_or_else(|error| panic!("{case:?}: the neighbour is damaged: {error}"));
        let recorded = fixture.run(list_completed(&old.parent().unwrap())).unwrap();
        if recorded.len() == 2 {
            intact(&old).unwrap_or_else(|error| panic!("{case:?}: complete, but {error}"));
        }
        if discarded.is_ok() {
            assert_eq!(
                (recorded.len(), fixture.run(old.list()).unwrap().len()),
                (1, 0),
                "{case:?}"
            );
        }
        fixture.run(discard(&old)).unwrap();
        assert!(fixture.run(old.list()).unwrap().is_empty(), "{case:?}");
        operations
    });
}

#[test]
fn an_upload_is_there_as_a_whole_when_it_says_so_and_never_in_part() {
    for bytes in [1 << 10, 20 << 20] {
        let content: Vec<u8> = (0..bytes).map(|index: u32| (index % 251) as u8).collect();
        sweep(|fixture, faults, case| {
            let object = fixture.base.child("job/chk-17/x.state").unwrap();
            plan(faults, case);
            let uploaded = fixture.run(async {
                let mut upload = object.upload();
                upload.write(&content).await?;
                upload.finish().await
            });
            let operations = faults.operations();
            faults.end();
            let there = fixture.run(object.get(64 << 20));
            match (uploaded, there) {
                (Ok(uploaded), there) => {
                    assert_eq!(uploaded.length, content.len() as u64);
                    assert!(there.unwrap() == content, "{case:?}: other bytes");
                }
                (Err(_refused), there) => assert!(there.is_err() || there.unwrap() == content, "{case:?}: a part"),
            }
            operations
        });
    }
}
