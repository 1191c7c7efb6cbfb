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
        &["-m", "", "cancel", JOB],
        &["-m", "nohost", "status", JOB],
        &["-m", "a:b:c", "status", JOB],
        &["-m", "127.0.0.1:0", "status", JOB],
        &["-m", "127.0.0.1:65536", "status", JOB],
        &["-m", "::1:1", "status", JOB],
        &["-m", "no such host:1", "status", JOB],
        &["-m", "127.0.0.1:1\u{1b}[2J", "status", JOB],
        &["list", "--timeout", "0"],
        &["list", "--timeout", "-1s"],
        &["list", "--timeout", "99999999999999999999s"],
        &["list", "-r", "-r"],
        &["list", "--output", "json", "--output", "json"],
        &["list", "extra"],
        &["cancel", ""],
        &["cancel", "--", "-x"],
        &["cancel", JOB, JOB],
        &["cancel", "fd72014d4c864993a2e5a9287b4a9c5٣"],
        &["status", "\u{1b}]0;evil\u{7}"],
        &["stop", "-p"],
        &["savepoint", JOB, ""],
        &["savepoint", JOB, "file://host/x"],
        &["savepoint", "-d"],
        &["savepoint", "-d", ""],
        &["savepoint", "-d", "/x", JOB],
        &["savepoint", "--request-id", "1", JOB],
        &["run", "--parallelism", "", "app"],
        &["run", "--parallelism", "٣", "app"],
        &["run", "--parallelism", "32769", "app"],
        &["run", "-p", "1", "-p", "2", "app"],
        &["run", "-D", "=x", "app"],
        &["run", "-D", "execution.checkpointing.intervall=1s", "app"],
        &["run", "-D", "execution.checkpointing.interval=-1s", "app"],
        &["run", "-D", "execution.checkpointing.interval=1", "app"],
        &["run", "-D", "security.allow-insecure-bind=true", "app"],
        &["run", "-s", "", "app"],
        &["run", "-s", "file://host/x", "app"],
        &["run", "/dev/null"],
        &["run", "/dev/zero"],
        &["run", "-n"],
        &["info"],
        &["cluster", "fly"],
        &["cluster", "wait", "--task-managers", "-1"],
        &["cluster", "wait", "--slots", "x"],
        &["completions"],
        &["completions", "fish2"],
        &["man"],
        &["help", "nonsense"],
        &["--conf", "/nonexistent", "list"],
        &["--conf", "/etc/passwd", "list"],
        &["--conf", "", "list"],
    ];
    let long = "a".repeat(100_000);
    let long: &[&str] = &["cancel", &long];
    for call in calls.iter().chain([&long]) {
        let ran = run_with(&[("RUST_BACKTRACE", "1")], call);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{call:?} {ran:?}");
        assert!(is_helpful(&ran.stderr), "{call:?} {ran:?}");
    }
}

#[test]
fn a_call_that_the_parser_refuses_is_told_like_every_error() {
    for (call, message, hint) in [
        (
            &["run", "-p", "0", "x"] as &[&str],
            "invalid value '0' for '--parallelism <N>': 0 is not in 1..=32768",
            "`--help` says more",
        ),
        (
            &["lisst"],
            "unrecognized subcommand 'lisst'",
            "a similar subcommand exists: 'list'; `--help` says more",
        ),
        (
            &["run"],
            "the following required arguments were not provided: <APP> [ARGS]...",
            "write `streamctl run <APP> [ARGS]...`; `--help` says more",
        ),
        (
            &["state", "edit", "a", "b", "c", "--to", "d"],
            "the following required arguments were not provided: <--set <KEY=VALUE>|--remove <KEY>|--from <FILE>>",
            "write `streamctl state edit --to <NEW_SAVEPOINT> <--set <KEY=VALUE>|--remove <KEY>|--from <FILE>> <PATH> \
             <UID> <STATE>`; `--help` says more",
        ),
    ] {
        let ran = run_with(
            &[("STREAMD_CONF_DIR", "/conf"), ("STREAMD_JOBMANAGER", "127.0.0.1:1")],
            call,
        );
        assert_eq!(
            ran.stderr,
            format!("error: {message} [SD-0101]\nhint: {hint}\n"),
            "{call:?}"
        );
        let json = run_with(&[], &[&["--output", "json"], call].concat());
        let report = serde_json::json!({"error": {"code": "SD-0101", "message": message, "hint": hint}});
        assert_eq!((json.code, json.stdout.as_str()), (2, ""), "{call:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json.stderr).unwrap(),
            report,
            "{call:?}"
        );
    }
    for (call, is_json) in [
        (&["run", "--output=json", "-p", "0", "app"] as &[&str], true),
        (&["run", "-p", "0", "--output", "json", "app"], true),
        (&["list", "--everything", "--output", "json"], true),
        (&["run", "-p", "0", "app", "--output", "json"], false),
        (&["info", "app", "--output", "json", "\u{1b}[2J"], false),
    ] {
        let stderr = run_with(&[], call).stderr;
        assert_eq!(stderr.starts_with('{'), is_json, "{call:?} {stderr}");
    }
}

/// Whether a refusal says what is wrong and what to do, and nothing that only its authors understand.
fn is_helpful(stderr: &str) -> bool {
    let by_us = stderr.starts_with("error: ") && stderr.contains("]\nhint: ") && stderr.lines().count() == 2;
    let for_programs = stderr.starts_with("{\"error\":{\"code\":") && stderr.contains("\"hint\":\"");
    let is_help = stderr.contains("Usage: ") && stderr.contains("Commands:");
    let is_clean = !["panicked", "backtrace", "\u{1b}"]
        .iter()
        .any(|word| stderr.contains(word));
    is_clean && stderr.len() < 10_000 && (by_us || for_programs || is_help)
}

#[test]
fn an_argument_that_is_no_text_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let bytes = OsStr::from_bytes(b"\xff\xfe");
    for before in [&["cancel"] as &[&str], &["list"], &["run", "/bin/true"]] {
        let output = command(&[], before).arg(bytes).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{before:?} {stderr}");
        assert!(is_helpful(&stderr), "{before:?} {stderr}");
    }
}

#[test]
fn a_server_of_another_kind_is_told_from_a_cluster_in_time() {
    use std::io::Read;
    let greetings: &[&[u8]] = &[
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        &[0; 1000],
    ];
    for greeting in greetings {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let greeting = greeting.to_vec();
        // Ends with the connection, which the client closes.
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            connection.write_all(&greeting).unwrap();
            drop(connection.read_to_end(&mut Vec::new()));
        });
        let ran = run_with(&[], &["-m", &address, "status", JOB, "--timeout", "1s"]);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(is_helpful(&ran.stderr) && ran.stderr.contains(&address), "{ran:?}");
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
        "profile",
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

/// The verbs that `--help` lists.
fn verbs() -> Vec<String> {
    let help = run_with(&[], &["--help"]).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .map_while(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|verb| verb != "help")
        .collect()
}

#[test]
fn every_shell_completes_every_verb() {
    assert!(verbs().len() >= 10, "{:?}", verbs());
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run_with(&[], &["completions", shell]).stdout;
        for verb in verbs() {
            assert!(script.contains(&verb), "{shell} {verb}");
        }
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(run_with(&[], &["man", path]).code, 0);
    let pages = verbs().into_iter().map(|verb| format!("streamctl-{verb}.1"));
    for page in pages.chain(["streamctl.1".to_owned(), "streamctl-cluster-wait.1".to_owned()]) {
        assert!(directory.path().join(&page).exists(), "{page}");
    }
    for nowhere in ["/nonexistent", "/etc/passwd"] {
        let ran = run_with(&[], &["man", nowhere]);
        assert!(ran.code == 5 && is_helpful(&ran.stderr), "{ran:?}");
    }
}
