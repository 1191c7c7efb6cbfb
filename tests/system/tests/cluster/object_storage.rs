//! The main journey with everything durable in an S3 server.

use serde_json::Value;
use servers::{Server, http, moto, not_tested};
use system::cluster::ClusterBuilder;
use system::files::{everything_below, number, string};
use system::{Cluster, Gate, Torture, until};

use crate::CHECKPOINTS;

const RECORDS: u64 = 30_000;

/// It may be in `streamd.yaml` and nowhere else.
const SECRET: &str = "hunter2-of-this-test";

fn cluster_on(server: &Server) -> Cluster {
    ClusterBuilder::new(2, 3)
        .setting("s3.endpoint", &server.url())
        .setting("s3.access-key", "streamd-test")
        .setting("s3.secret-key", SECRET)
        .setting("high-availability.storageDir", &format!("s3://{}/ha", moto::BUCKET))
        .setting("state.checkpoints.dir", &format!("s3a://{}/checkpoints", moto::BUCKET))
        .setting("state.savepoints.dir", &format!("s3://{}/savepoints", moto::BUCKET))
        .start()
}

/// Files in which a secret would be found by somebody who should not have it.
fn files_with_the_secret(cluster: &Cluster) -> Vec<String> {
    let files = everything_below(cluster.directory());
    let files = files
        .into_iter()
        .filter(|path| path.is_file() && !path.ends_with("conf/streamd.yaml"));
    let secret = SECRET.as_bytes();
    let holds = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(secret.len()).any(|window| window == secret)
    };
    files.filter(holds).map(|path| path.display().to_string()).collect()
}

#[test]
fn a_job_on_s3_survives_a_worker_moves_and_ends_exact() {
    let server = moto::start();
    let cluster = cluster_on(&server);
    let output = cluster.path("output");
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(RECORDS).rate(1_500).output(output.clone());
    let paced = paced.held_at(RECORDS - 1_000, &gate);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &paced.command());
    paced.wait_for_commits(0);

    let workers = cluster.workers_of(&id);
    for worker in &workers {
        for file in ["environ", "cmdline"] {
            let text = std::fs::read(format!("/proc/{}/{file}", worker.process_id)).unwrap();
            assert!(
                !String::from_utf8_lossy(&text).contains(SECRET),
                "a worker's {file} holds the secret"
            );
        }
    }
    assert_eq!(files_with_the_secret(&cluster), [""; 0]);
    workers[0].kill();
    cluster.wait_for_restart(&id, 1);
    let before = paced.committed();
    until("records are committed again", || {
        let committed = paced.committed();
        (committed > before || committed == RECORDS - 1_000).then_some(())
    });

    let cancelled = cluster
        .streamctl(&["cancel", "-s", &id, "--output", "json"])
        .succeeded();
    let savepoint = string(&cancelled.objects()[0], "savepoint_path").to_owned();
    assert!(
        savepoint.starts_with("s3://snapshots/savepoints/savepoint-"),
        "{savepoint}"
    );
    cluster.wait_for(&id, "CANCELED");
    assert!((paced.numbers().len() as u64) < RECORDS, "the job was too fast");

    let unpaced = Torture::new().records(RECORDS).output(output);
    cluster
        .run(&["-p", "3", "-s", &savepoint], &unpaced.command())
        .succeeded();
    unpaced.assert_complete(RECORDS);
    assert_eq!(files_with_the_secret(&cluster), [""; 0]);
}

/// Puts an object into the bucket, as somebody would who knows nothing of snapshots.
fn meddle(server: &Server, uri: &str) {
    let path = uri.strip_prefix("s3:/").unwrap();
    let answer = http::request(server.address(), "PUT", path, &[moto::ANYBODY], b"12345").unwrap();
    assert_eq!(answer.status, 200, "{uri}");
}

#[test]
fn orphans_in_s3_are_told_from_what_is_needed_and_deleted_only_on_demand() {
    let server = moto::start();
    let cluster = cluster_on(&server);
    let retain = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";
    let objects = "execution.checkpointing.data-inline-threshold=0";
    let settings = ["-D", CHECKPOINTS, "-D", retain, "-D", objects];
    let id = cluster.submit_and_wait(&settings, &Torture::new().rate(500).command());
    until("a checkpoint is complete", || {
        (number(&cluster.status(&id)["checkpoints"], "completed") > 0).then_some(())
    });
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    let base = format!("s3://{}/checkpoints", moto::BUCKET);
    let fsck = |more: &[&str]| {
        let arguments = [
            &["fsck", &base, "--older-than", "1ms", "--output", "json", "--verbose"],
            more,
        ]
        .concat();
        let ran = cluster.streamctl(&arguments);
        let summary = ran
            .objects()
            .into_iter()
            .find(|object| object["class"].is_string() && object["snapshots"].is_number());
        (ran.code, summary.unwrap_or_else(|| panic!("{ran:#?}")), ran)
    };
    let count = |summary: &Value, class: &str| number(&summary[class], "objects");
    // What the job gave up goes in the background.
    let (_, clean, _) = until("nothing but the last checkpoint is left", || {
        let seen = fsck(&[]);
        (seen.0 == 0 && count(&seen.1, "orphan") == 0 && number(&seen.1, "snapshots") == 1).then_some(seen)
    });
    assert!(count(&clean, "reachable") >= 4, "{clean:#}");
    assert_eq!(
        (count(&clean, "foreign"), number(&clean, "missing")),
        (0, 0),
        "{clean:#}"
    );

    let orphan = format!("{base}/{id}/chk-99999/0-0-a1-x.state");
    let foreign = format!("{base}/notes.txt");
    meddle(&server, &orphan);
    meddle(&server, &foreign);
    let (code, summary, ran) = fsck(&["--delete-orphans"]);
    assert_eq!(
        (code, count(&summary, "orphan"), count(&summary, "foreign")),
        (0, 1, 1),
        "{ran:#?}"
    );
    assert!(
        ran.stdout.contains(&orphan) && ran.stderr.contains("nothing was deleted"),
        "{ran:#?}"
    );
    let (_, summary, ran) = fsck(&["--delete-orphans", "--yes"]);
    assert_eq!(count(&summary, "deleted"), 1, "{ran:#?}");
    let (_, summary, ran) = fsck(&[]);
    assert_eq!(
        (count(&summary, "orphan"), count(&summary, "foreign")),
        (0, 1),
        "{ran:#?}"
    );
    assert_eq!(count(&summary, "reachable"), count(&clean, "reachable"), "{ran:#?}");

    // The checkpoint is as good as before, until somebody writes something else in its place.
    let listed = cluster
        .streamctl(&["checkpoint", "list", &base, "--output", "json"])
        .succeeded();
    let checkpoint = string(&listed.objects()[0], "path").to_owned();
    cluster.submit_and_wait(&["-s", &checkpoint], &Torture::new().rate(500).command());
    cluster.streamctl(&["checkpoint", "verify", &checkpoint]).succeeded();
    let listing = format!("/{}?prefix=checkpoints/{id}/chk", moto::BUCKET);
    let listing = http::request(server.address(), "GET", &listing, &[], b"").unwrap();
    let listing = String::from_utf8(listing.bytes).unwrap();
    let names = listing.split("<Key>").filter_map(|rest| rest.split_once("</Key>"));
    let (object, _) = names
        .into_iter()
        .find(|(name, _)| name.ends_with(".state"))
        .expect("it has an object");
    let object = format!("s3://{}/{object}", moto::BUCKET);
    meddle(&server, &object);
    let (code, summary, ran) = fsck(&["--delete-orphans", "--yes"]);
    assert_eq!((code, number(&summary, "missing")), (7, 1), "{ran:#?}");
    assert!(ran.stdout.contains(&object), "{ran:#?}");
}

#[test]
fn a_snapshot_in_a_store_that_is_gone_is_unavailable_and_not_absent() {
    let server = moto::start();
    let cluster = cluster_on(&server);
    let nothing = Torture::new().records(1).command();
    let absent = format!("s3://{}/savepoints/nowhere", moto::BUCKET);
    cluster.run(&["-s", &absent], &nothing).refused(3, "SD-0501", &absent);
    let no_bucket = cluster.run(&["-s", "s3://no-such-bucket/x"], &nothing);
    no_bucket.refused(6, "SD-0601", "NoSuchBucket");
    let elsewhere = cluster.run(&["-s", "ftp://host/x"], &nothing);
    elsewhere.refused(2, "SD-0602", "`ftp`");
    drop(server);
    let gone = cluster.run(&["-s", &absent], &nothing);
    // The application cannot be stored any more either.
    gone.refused(6, "SD-0601", "s3://snapshots");
}

#[test]
fn a_full_disk_under_checkpoints_ends_no_job_and_loses_nothing() {
    let cluster = ClusterBuilder::new(1, 2)
        .setting("execution.checkpointing.tolerable-failed-checkpoints", "1000000")
        .unstarted();
    let folder = cluster.path("small");
    std::fs::create_dir(&folder).unwrap();
    let Some(_mounted) = SmallDisk::mount(&folder) else {
        return not_tested("this user may not mount a small file system, to fill it");
    };
    let mut cluster = cluster;
    cluster.start_daemon("jobmanager", &["jobmanager"]);
    cluster.add_task_manager();
    cluster.wait_until_ready(1);
    let directory = format!("state.checkpoints.dir={}", folder.display());
    let torture = Torture::new().rate(1_000).output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", &directory], &torture.command());
    let completed = |cluster: &Cluster| cluster.status(&id)["checkpoints"]["completed"].as_u64().unwrap();
    until("checkpoints are complete", || (completed(&cluster) > 1).then_some(()));
    let ballast = folder.join("ballast");
    SmallDisk::fill(&ballast);
    let failed = |cluster: &Cluster| cluster.status(&id)["checkpoints"]["failed"].as_u64().unwrap();
    until("a checkpoint has failed", || (failed(&cluster) > 1).then_some(()));
    assert_eq!(cluster.job(&id).restarts, 0);
    std::fs::remove_file(&ballast).unwrap();
    let before = completed(&cluster);
    until("a checkpoint is complete again", || {
        (completed(&cluster) > before).then_some(())
    });
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    torture.numbers();
}

/// A file system of one mebibyte.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(folder: &std::path::Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder);
        let mounted = mount.output().is_ok_and(|ran| ran.status.success());
        mounted.then(|| Self(folder.to_owned()))
    }

    fn fill(ballast: &std::path::Path) {
        // Byte by byte at the end, so that not even an empty file's name has room.
        let mut size = 1 << 20;
        while size > 0 {
            let file = std::fs::File::options().append(true).create(true).open(ballast);
            let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, &vec![0; size]));
            if written.is_err() {
                size /= 2;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).output());
    }
}
