use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use streamd_core::id::{CheckpointId, JobId};
use streamd_core::time::{Clock, SystemClock, WallTime};

use super::*;
use crate::inspect::sample::Sample;
use crate::{Location, Sharing, SnapshotError, dispose_unused, layout};

/// In two days: everything that the test wrote is old.
fn later() -> FsckOptions {
    FsckOptions {
        now: WallTime(SystemClock::new().wall().0 + 2 * 24 * 3_600_000),
        grace: Duration::from_secs(24 * 3600),
        also: Vec::new(),
    }
}

fn check(sample: &Sample, place: &Location) -> FsckReport {
    sample.run(fsck(place, &later())).unwrap()
}

fn names(report: &FsckReport) -> Vec<&str> {
    report.orphans.iter().map(|orphan| orphan.name.as_str()).collect()
}

fn write(folder: &Path, name: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "12345").unwrap();
}

fn path(location: &Location) -> std::path::PathBuf {
    location.local_path().unwrap()
}

#[test]
fn what_nothing_refers_to_is_an_orphan_and_goes_with_its_folder() {
    let sample = Sample::new();
    let kept = sample.checkpoint(Sample::job(), 3);
    sample.savepoint("savepoint-070707-0123456789ab");
    let job = path(&kept.parent().unwrap());
    write(&job, "chk-2/0-0-a1-x.state");
    write(&job, "chk-3/0-9-a1-y.state#1");
    write(
        &sample.path(""),
        "savepoint-070707-ba9876543210/counts-1/count/0-x.parquet",
    );
    write(&sample.path(""), "README");
    write(&job, "notes/chk.txt");

    let report = check(&sample, &sample.base);
    let id = Sample::job().to_string();
    let expected = [
        format!("{id}/chk-2/0-0-a1-x.state"),
        format!("{id}/chk-3/0-9-a1-y.state#1"),
        "savepoint-070707-ba9876543210/counts-1/count/0-x.parquet".to_owned(),
    ];
    let mut found = names(&report);
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!((report.foreign.objects, report.pending.objects), (2, 0));
    assert_eq!(
        (report.snapshots.len(), report.missing.len(), report.unreadable.len()),
        (2, 0, 0)
    );

    let swept = sample.run(sweep(&report)).unwrap();
    assert_eq!((swept.deleted.objects, swept.deleted.bytes), (3, 15));
    let report = check(&sample, &sample.base);
    assert!(report.orphans.is_empty() && report.missing.is_empty());
    assert_eq!(report.foreign.objects, 2);
    assert!(!job.join("chk-2").exists() && !sample.path("savepoint-070707-ba9876543210").exists());
    assert!(job.join("chk-3").exists());
}

#[test]
fn what_is_young_may_belong_to_a_snapshot_that_is_being_written() {
    let sample = Sample::new();
    let kept = sample.checkpoint(Sample::job(), 3);
    write(&path(&kept.parent().unwrap()), "chk-4/0-0-a1-x.state");
    let now = FsckOptions {
        now: SystemClock::new().wall(),
        ..later()
    };
    let report = sample.run(fsck(&sample.base, &now)).unwrap();
    assert_eq!((report.orphans.len(), report.pending.objects), (0, 1));
}

#[test]
fn nothing_is_deleted_while_a_snapshot_or_record_cannot_be_read() {
    let damages: [fn(&Path); 5] = [
        |chk| std::fs::write(chk.join("_metadata"), "STREAMD\nrubbish").unwrap(),
        |chk| std::fs::write(chk.join("_metadata"), "").unwrap(),
        |chk| std::fs::remove_file(chk.join("_metadata")).unwrap(),
        |chk| std::fs::write(chk.join("../completed/00000000000000000003.json"), "{").unwrap(),
        |chk| {
            std::fs::rename(chk.join("_metadata"), chk.join("../elsewhere")).unwrap();
            symlink("../elsewhere", chk.join("_metadata")).unwrap();
        },
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        let sample = Sample::new();
        let folder = path(&sample.checkpoint(Sample::job(), 3));
        write(&folder.join(".."), "chk-2/0-0-a1-x.state");
        damage(&folder);
        let report = check(&sample, &sample.base);
        assert!(!report.unreadable.is_empty(), "damage {index}");
        let refused = sample.run(sweep(&report));
        assert!(matches!(refused, Err(SweepError::Unreadable { .. })), "damage {index}");
        assert!(folder.join("../chk-2/0-0-a1-x.state").exists());
    }
}

#[test]
fn links_are_not_followed() {
    let sample = Sample::new();
    sample.checkpoint(Sample::job(), 3);
    let elsewhere = tempfile::tempdir().unwrap();
    write(elsewhere.path(), "precious");
    symlink(elsewhere.path(), sample.path("link")).unwrap();
    let report = check(&sample, &sample.base);
    assert!(report.orphans.is_empty());
    // Behind it there may be snapshots that refer to anything.
    assert_eq!(report.unreadable.len(), 1);
}

#[test]
fn what_is_missing_or_of_another_length_is_told_and_deleted_is_nothing() {
    let sample = Sample::new();
    let folder = sample.checkpoint(Sample::job(), 3);
    let stored = sample.read(&folder);
    let objects: Vec<_> = stored.metadata.operators[0]
        .keyed
        .iter()
        .flat_map(|handle| &handle.objects)
        .collect();
    std::fs::remove_file(path(&folder).join(&objects[0].path)).unwrap();
    std::fs::write(path(&folder).join(&objects[1].path), "short").unwrap();
    let report = check(&sample, &sample.base);
    let mut actual: Vec<Option<u64>> = report.missing.iter().map(|missing| missing.actual).collect();
    actual.sort_unstable();
    assert_eq!(actual, [None, Some(5)]);
    assert!(report.missing.iter().all(|missing| missing.snapshot == folder.uri()));
}

#[test]
fn what_a_later_checkpoint_refers_to_is_no_orphan_wherever_one_looks_from() {
    let sample = Sample::new();
    let first = sample.checkpoint(Sample::job(), 1);
    sample.checkpoint_on(&first, 2);
    // The first is discarded but for what the second refers to.
    let job = first.parent().unwrap();
    std::fs::remove_file(path(&first).join("_metadata")).unwrap();
    let record = layout::completion_record(CheckpointId(1));
    std::fs::remove_file(path(&job).join(record)).unwrap();
    for place in [&sample.base, &job, &first] {
        let report = check(&sample, place);
        assert!(report.orphans.is_empty(), "from {place}: {report:?}");
    }
}

#[test]
fn a_snapshot_elsewhere_may_be_named_as_a_referrer() {
    let sample = Sample::new();
    let mine = sample.checkpoint(Sample::job(), 1);
    let copy = sample.base.child("elsewhere/copy").unwrap();
    let mut metadata = sample.read(&mine).metadata;
    metadata.nonce = crate::random_nonce();
    for object in metadata.operators[0]
        .keyed
        .iter_mut()
        .flat_map(|handle| &mut handle.objects)
    {
        object.path = mine.child(&object.path).unwrap().uri();
    }
    metadata.kind = streamd_core::barrier::SnapshotKind::Savepoint;
    metadata.operators[0].lists.clear();
    if sample.run(crate::publish(&copy, &metadata)).is_err() {
        // This version's savepoints refer to nothing outside of their folder.
        return;
    }
    std::fs::remove_file(path(&mine).join("_metadata")).unwrap();
    let record = layout::completion_record(CheckpointId(1));
    std::fs::remove_file(path(&mine.parent().unwrap()).join(record)).unwrap();
    let job = mine.parent().unwrap();
    let options = FsckOptions {
        also: vec![sample.base.child("elsewhere").unwrap()],
        ..later()
    };
    assert!(sample.run(fsck(&job, &options)).unwrap().orphans.is_empty());
}

#[test]
fn a_checkpoint_that_another_refers_to_is_not_disposed_of() {
    let sample = Sample::new();
    let first = sample.checkpoint(Sample::job(), 1);
    let second = sample.checkpoint_on(&first, 2);
    let refused = sample.run(dispose_unused(&first.uri(), Sharing::Refuse));
    assert!(
        matches!(&refused, Err(SnapshotError::InUse { by, .. }) if *by == [second.uri()]),
        "{refused:?}"
    );
    assert!(path(&first).join("_metadata").exists());

    sample.run(dispose_unused(&first.uri(), Sharing::Keep)).unwrap();
    assert!(!path(&first).join("_metadata").exists());
    let verified = crate::inspect::verify_snapshot(&second.uri(), sample.runtime.handle()).unwrap();
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
}

#[test]
fn what_only_a_disposed_checkpoint_refers_to_goes_with_it_unless_it_belongs_to_another() {
    let sample = Sample::new();
    let first = sample.checkpoint(Sample::job(), 1);
    let second = sample.checkpoint_on(&first, 2);
    let third = sample.checkpoint_on(&first, 3);
    let job = path(&first.parent().unwrap());
    let is_whole = |checkpoint: &Location| {
        let verified = crate::inspect::verify_snapshot(&checkpoint.uri(), sample.runtime.handle()).unwrap();
        assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    };
    sample.run(dispose_unused(&third.uri(), Sharing::Keep)).unwrap();
    is_whole(&first);
    is_whole(&second);
    // The first is subsumed, but for what the second refers to.
    sample.run(crate::unpublish(&first)).unwrap();
    let copy = job.join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(path(&second).join("_metadata"), copy.join("_metadata")).unwrap();
    let copy = Location::open(copy.to_str().unwrap()).unwrap();
    sample.run(dispose_unused(&copy.uri(), Sharing::Keep)).unwrap();
    is_whole(&second);
    sample.run(dispose_unused(&second.uri(), Sharing::Refuse)).unwrap();
    assert!(!job.exists());
}

#[test]
fn the_last_checkpoint_of_a_job_leaves_no_empty_folder_behind() {
    let sample = Sample::new();
    let other = sample.checkpoint(JobId::from_bytes([8; 16]), 1);
    let folder = sample.checkpoint(Sample::job(), 1);
    sample.run(dispose_unused(&folder.uri(), Sharing::Refuse)).unwrap();
    assert!(!path(&folder.parent().unwrap()).exists());
    assert!(path(&other).exists());
}

#[test]
fn nothing_is_disposed_of_while_a_neighbour_cannot_be_read() {
    let sample = Sample::new();
    let folder = sample.checkpoint(Sample::job(), 1);
    let neighbour = sample.checkpoint(JobId::from_bytes([8; 16]), 4);
    std::fs::write(path(&neighbour).join("_metadata"), "rubbish").unwrap();
    let refused = sample.run(dispose_unused(&folder.uri(), Sharing::Refuse));
    assert!(matches!(refused, Err(SnapshotError::NotMetadata { .. })), "{refused:?}");
    assert!(path(&folder).join("_metadata").exists());
}
