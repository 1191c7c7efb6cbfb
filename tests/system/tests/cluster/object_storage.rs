//! The main journey with everything durable in an S3 server.

use servers::{Server, moto, not_tested};
use system::cluster::ClusterBuilder;
use system::files::{everything_below, string};
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
    until("records are committed", || (paced.committed() > 0).then_some(()));

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
