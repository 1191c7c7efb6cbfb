//! What is refused: each with one line, the right exit code, and nothing asked of the cluster.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use streamd_rpc::proto::JobState;

use crate::fake::{Fake, JOB, Script, command, job, run_with};

#[test]
fn a_malformed_call_ends_with_2_and_nothing_on_stdout() {
    let calls: &[&[&str]] = &[
        &[],
        &["fly"],
        &["list", "--everything"],
        &["-m"],
        &["cancel"],
        &["cancel", "-s"],
        &["cancel", "xyz"],
        &["cancel", "../../etc/passwd"],
        &["savepoint"],
        &["savepoint", "fd72014d4c864993a2e5a9287b4a9c5"],
        &["savepoint", JOB, "a", "b"],
        &["stop"],
        &["logs", "fd72014d4c864993a2e5a9287b4a9c5dd"],
        &["run"],
        &["run", "--parallelism", "0", "app"],
        &["run", "--parallelism", "-1", "app"],
        &["run", "--parallelism", "1e3", "app"],
        &["run", "--parallelism", "2147483648", "app"],
        &["run", "--job-id", "7", "app"],
        &["run", "--no-such-option", "app"],
        &["run", "-D", "heartbeat.timeout=1s", "app"],
        &["run", "-D", "parallelism", "app"],
        &["list", "--timeout", "5"],
        &["list", "--output", "xml"],
        &["-m", "http://localhost:1", "list", "-r", "--output", "json"],
    ];
    for call in calls {
        let ran = run_with(&[], call);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{call:?} {ran:?}");
        assert!(
            !ran.stderr.is_empty() && !ran.stderr.contains("panicked"),
            "{call:?} {ran:?}"
        );
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for call in [
        &["--help"] as &[&str],
        &["--version"],
        &["run", "--help"],
        &["help", "cancel"],
        &["completions", "zsh"],
    ] {
        let ran = run_with(&[], call);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{call:?}");
    }
    let help = run_with(&[], &["--help"]).stdout;
    assert!(help.contains("Exit codes:") && !help.contains("  man "), "{help}");
}

#[test]
fn the_help_of_every_command_shows_an_example() {
    for verb in [
        "run",
        "info",
        "list",
        "status",
        "savepoint",
        "cancel",
        "stop",
        "logs",
        "completions",
    ] {
        assert!(run_with(&[], &[verb, "--help"]).stdout.contains("Example"), "{verb}");
    }
    for action in ["wait", "status"] {
        assert!(
            run_with(&[], &["cluster", action, "--help"]).stdout.contains("Example"),
            "{action}"
        );
    }
}

#[test]
fn what_can_never_be_an_application_is_refused_before_it_is_sent() {
    let fake = Fake::start(Script::default());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32, contents: &[u8]| {
        let path = directory.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let folder = directory.path().to_str().unwrap().to_owned();
    let huge = file("huge", 0o755, b"");
    std::fs::OpenOptions::new()
        .write(true)
        .open(&huge)
        .unwrap()
        .set_len((256 << 20) + 1)
        .unwrap();
    let cases = [
        (format!("{folder}/missing"), 3, "does not exist [SD-0201]"),
        (folder, 2, "is a directory [SD-0202]"),
        (file("empty", 0o755, b""), 2, "is empty [SD-0202]"),
        (file("plain", 0o644, b"\x7fELF"), 2, "is not executable [SD-0202]"),
        (file("script", 0o755, b"#!/bin/sh\n"), 2, "is a script [SD-0204]"),
        (file("text", 0o755, b"hello"), 2, "is no executable program [SD-0204]"),
        (
            file("cut", 0o755, b"\x7fELF\x02\x01"),
            2,
            "ends within its header [SD-0202]",
        ),
        (
            huge,
            2,
            "has 268435457 bytes where at most 256 mb are allowed [SD-0203]",
        ),
    ];
    for verb in ["run", "info"] {
        for (path, code, message) in &cases {
            let ran = fake.run(&[verb, path]);
            assert_eq!((ran.code, ran.stdout.as_str()), (*code, ""), "{ran:?}");
            assert!(
                ran.stderr.contains(message) && ran.stderr.contains("\nhint: "),
                "{ran:?}"
            );
        }
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let fake = Fake::start(Script {
        jobs: vec![job("x", JobState::Running); 10_000],
        ..Script::default()
    });
    let address = fake.address();
    let mut child = command(&[("STREAMD_JOBMANAGER", &address)], &["list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert_eq!(
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap().as_str()),
        (Some(0), "")
    );
}

#[test]
fn a_full_disk_is_told() {
    let fake = Fake::start(Script::default());
    let address = fake.address();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = command(&[("STREAMD_JOBMANAGER", &address)], &["list"])
        .stdout(full)
        .output()
        .unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        stderr.starts_with("error: the output cannot be written: No space left on device"),
        "{stderr}"
    );
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(run_with(&[], &["man", path]).code, 0);
    for page in [
        "streamctl.1",
        "streamctl-run.1",
        "streamctl-savepoint.1",
        "streamctl-cluster-wait.1",
    ] {
        assert!(directory.path().join(page).exists(), "{page}");
    }
    assert_eq!(run_with(&[], &["man", "/nonexistent"]).code, 5);
}
