//! What a daemon refuses to start with: one line that says why, one that says what to do, the right exit code, and nothing
//! left behind.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{ANY_PORT, command};

/// Runs a daemon that must refuse. Returns exit code and stderr, with `$D` for the directory.
fn refused(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let data = directory.join("data");
    let output = command(&data, arguments)
        .envs(environment.iter().copied())
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty(), "{arguments:?} {stderr}");
    assert!(!data.exists(), "{arguments:?} left something behind: {stderr}");
    for word in ["panicked", "backtrace", "\u{1b}"] {
        assert!(!stderr.contains(word), "{arguments:?} {stderr}");
    }
    let stderr = stderr.replace(&directory.display().to_string(), "$D");
    (output.status.code().unwrap_or(-1), stderr)
}

/// A refusal of ours: after what is logged, an error with its code and a hint.
fn coded(stderr: &str) -> (String, String) {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.contains("  INFO ")).collect();
    let [error, hint] = lines[..] else {
        panic!("not two lines: {lines:#?}")
    };
    let error = error.strip_prefix("error: ").unwrap();
    (error.to_owned(), hint.strip_prefix("hint: ").unwrap().to_owned())
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let deep = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect::<String>();
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n";
    let long = format!("parallelism.default: {}\n", "9".repeat(100_000));
    let brackets = "[".repeat(100_000);
    let too_long = "#".repeat((1 << 20) + 1);
    let cases: &[(&str, &str)] = &[
        ("\tparallelism.default: 2\n", ":1: no valid YAML"),
        ("jobmanager:\n\trpc.port: 1\n", ":2: no valid YAML"),
        (
            "parallelism.default: 2\nparallelism.default: 3\n",
            ":2: `parallelism.default`: the key is set twice",
        ),
        (
            "state.checkpoints.num-retained: 1\nexecution.checkpointing.num-retained: 2\n",
            ":2: `execution",
        ),
        (
            "parallelism.defualt: 2\n",
            ":1: `parallelism.defualt`: unknown key [SD-0103]",
        ),
        ("parallelism.default: two\n", "found `two` [SD-0102]"),
        ("parallelism.default: [1]\n", "found a list"),
        ("parallelism.default: {a: 1}\n", "`parallelism.default.a`: unknown key"),
        ("parallelism.default: -1\n", "found `-1`"),
        ("parallelism.default: 0\n", "found `0`"),
        ("parallelism.default: 1e3\n", "found `1000.0`"),
        ("parallelism.default: .inf\n", "found `inf`"),
        (
            "parallelism.default: 99999999999999999999999\n",
            "found `99999999999999999999999`",
        ),
        ("parallelism.default: ~\n", "the key has no value"),
        ("parallelism.default: ٣\n", "found `٣`"),
        (&long, "expected a whole number"),
        (
            "restart-strategy.exponential-delay.backoff-multiplier: .nan\n",
            "found `NaN`",
        ),
        (
            "restart-strategy.exponential-delay.backoff-multiplier: 1e309\n",
            "found `1e309`",
        ),
        ("execution.checkpointing.interval: 5\n", "found `5`"),
        ("execution.checkpointing.interval: -5 s\n", "found `-5 s`"),
        ("execution.checkpointing.interval: 0 s\n", "at least 10 ms"),
        (
            "execution.checkpointing.interval: 99999999999999999999 d\n",
            "expected a duration",
        ),
        ("execution.checkpointing.interval: PT5S\n", "expected a duration"),
        ("execution.checkpointing.num-retained: 0\n", "from 1 to 10000"),
        ("state.checkpoints.dir: relative\n", "is relative"),
        ("state.checkpoints.dir: ${CHECKPOINTS}\n", "is relative"),
        (
            "state.checkpoints.dir: s3://user:secret@b/x\n",
            "the URI `s3://b/x` holds a user name or password",
        ),
        ("state.checkpoints.dir: file://host/x\n", "names a host"),
        ("state.checkpoints.dir: /a/../b\n", "holds a `..`"),
        ("state.checkpoints.dir: \"/a\\u001b[2Jb\"\n", "control character"),
        ("env.log.dir: ~/log\n", "is relative"),
        ("env.log.dir: file:///x\n", "is a URI"),
        ("process.working-dir: \"\"\n", "the key has no value"),
        ("taskmanager.numberOfTaskSlots: 0\n", "from 1 to 1024"),
        ("taskmanager.bind-host: localhost\n", "expected an IP address"),
        (
            "jobmanager.bind-host: \"not a host!\"\n",
            "expected a host name or IP address",
        ),
        ("jobmanager.rpc.port: 65536\n", "from 0 to 65535"),
        ("security.allow-insecure-bind: yes please\n", "one of `false`, `true`"),
        ("application.max-size: 1\n", "expected a size with its unit"),
        ("taskmanager.memory.flink.size: 1g\n", "this key is not supported"),
        (
            "state.backend.rocksdb.memory.managed: false\n",
            "this key is not supported",
        ),
        (
            "heartbeat.interval: 10 s\nheartbeat.timeout: 5 s\n",
            "is less than twice",
        ),
        (bomb, ":1: `a`: expected one value, found a list"),
        ("x: &x {y: *x}\n", "no valid YAML"),
        ("- a\n- b\n", "expected one value, found a list"),
        ("hello\n", "expected a block of keys"),
        (
            "---\nparallelism.default: 2\n---\nparallelism.default: 3\n",
            "more than one document",
        ),
        ("!!python/object:os.system x\n", "expected a block of keys"),
        ("\"unclosed\n", "no valid YAML"),
        ("<<: {parallelism.default: 2}\n", "unknown key"),
        ("jobmanager: 5\n", "unknown key"),
        (&deep, "recursion limit"),
        (&brackets, "more than 32 brackets"),
        ("\"\\u001b]0;evil\\u0007\": 1\n", "`?]0;evil?`: unknown key"),
        ("\u{0}", "control characters are not allowed"),
        (&too_long, "the file is longer than 1048576 bytes"),
    ];
    for (text, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("streamd.yaml"), text).unwrap();
        let conf = directory.path().display().to_string();
        let shown: String = text.chars().take(60).collect();
        let (code, stderr) = refused(directory.path(), &["jobmanager", "--conf", &conf, "-D", ANY_PORT], &[]);
        assert_eq!(code, 2, "{shown:?} {stderr}");
        let (error, hint) = coded(&stderr);
        assert!(error.contains(expected), "{shown:?} → {error}");
        assert!(
            error.starts_with("$D/streamd.yaml") || error.contains("from $D/streamd.yaml"),
            "{error}"
        );
        assert!(error.chars().count() < 400 && !hint.is_empty(), "{error}");
    }
}

#[test]
fn a_configuration_that_is_no_file_is_refused_and_not_waited_for() {
    let prepare: &[(&str, &str)] = &[
        ("true", "cannot read the file: No such file or directory"),
        ("mkdir streamd.yaml", "it is no regular file"),
        ("mkfifo streamd.yaml", "it is no regular file"),
        ("ln -s /dev/zero streamd.yaml", "it is no regular file"),
        ("ln -s streamd.yaml streamd.yaml", "Too many levels of symbolic links"),
        ("truncate -s 1G streamd.yaml", "the file is longer than 1048576 bytes"),
        (r"printf '\377\376p' > streamd.yaml", "the file is not UTF-8"),
    ];
    for (script, expected) in prepare {
        let directory = tempfile::tempdir().unwrap();
        let prepared = Command::new("sh")
            .args(["-c", script])
            .current_dir(directory.path())
            .status();
        assert!(prepared.unwrap().success(), "{script}");
        let conf = directory.path().display().to_string();
        for daemon in ["jobmanager", "taskmanager", "local", "config"] {
            let (code, stderr) = refused(directory.path(), &[daemon, "--conf", &conf], &[]);
            assert_eq!(code, 2, "{script} {stderr}");
            assert!(coded(&stderr).0.contains(expected), "{script} → {stderr}");
        }
    }
}

#[test]
fn a_configuration_that_is_only_unusual_is_understood() {
    let texts: &[(&[u8], &str, &str)] = &[
        (b"", "parallelism.default", "1\n"),
        (b"# nothing\n", "parallelism.default", "1\n"),
        (b"\xef\xbb\xbfparallelism.default: 2\n", "parallelism.default", "2\n"),
        (
            b"parallelism.default: 2\r\njobstore.max-capacity: 3\r\n",
            "jobstore.max-capacity",
            "3\n",
        ),
        (b"jobmanager: {rpc: {port: 7}}\n", "jobmanager.rpc.port", "7\n"),
        (b"\"parallelism.default\": \"4\"\n", "parallelism.default", "4\n"),
        (b"jobmanager:\n", "parallelism.default", "1\n"),
        (
            b"execution.checkpointing.interval: 5m\n",
            "execution.checkpointing.interval",
            "5m\n",
        ),
        (
            b"%YAML 1.2\n---\nparallelism.default: 2\n",
            "parallelism.default",
            "2\n",
        ),
        (
            b"security.allow-insecure-bind: True\n",
            "security.allow-insecure-bind",
            "true\n",
        ),
    ];
    for (text, key, value) in texts {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("streamd.yaml"), text).unwrap();
        let conf = directory.path().display().to_string();
        let output = command(directory.path(), &["config", key, "--conf", &conf])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            *value,
            "{:?}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn a_daemon_does_not_listen_where_other_machines_reach_it() {
    for (daemon, key) in [
        ("jobmanager", "jobmanager.bind-host"),
        ("local", "jobmanager.bind-host"),
        ("taskmanager", "taskmanager.bind-host"),
        ("local", "taskmanager.bind-host"),
    ] {
        for host in ["0.0.0.0", "::", "192.0.2.1"] {
            let directory = tempfile::tempdir().unwrap();
            let setting = format!("{key}={host}");
            let (code, stderr) = refused(directory.path(), &[daemon, "-D", ANY_PORT, "-D", &setting], &[]);
            let (error, hint) = coded(&stderr);
            assert_eq!(code, 5, "{stderr}");
            assert!(
                error.starts_with(&format!("`{key}` is `{host}`")) && error.ends_with("[SD-0310]"),
                "{error}"
            );
            assert!(
                hint.contains("ssh tunnel") && hint.contains("security.allow-insecure-bind"),
                "{hint}"
            );
        }
    }
}

#[test]
fn an_address_that_is_not_this_machines_is_refused_by_its_key() {
    for (daemon, key) in [
        (&["jobmanager"] as &[&str], "jobmanager.bind-host"),
        (&["taskmanager", "-m", "127.0.0.1:1"], "taskmanager.bind-host"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let setting = format!("{key}=192.0.2.1");
        let allowed = [
            "-D",
            ANY_PORT,
            "-D",
            &setting,
            "-D",
            "security.allow-insecure-bind=true",
        ];
        let output = command(directory.path(), daemon).args(allowed).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("cannot listen on `192.0.2.1"), "{stderr}");
        assert!(
            stderr.contains(&format!("hint: set `{key}` to an address of this machine")),
            "{stderr}"
        );
        assert!(
            stderr.contains(" WARN ") && stderr.contains("without encryption or passwords"),
            "{stderr}"
        );
    }
}

#[test]
fn a_place_that_cannot_be_written_is_refused_at_the_start() {
    for key in [
        "process.working-dir",
        "high-availability.storageDir",
        "state.checkpoints.dir",
        "env.pid.dir",
        "env.log.dir",
        "io.tmp.dirs",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let setting = format!("{key}=/proc/nowhere");
        let output = command(directory.path(), &["local", "-D", ANY_PORT, "-D", &setting])
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{key} {stderr}");
        assert!(
            stderr.contains("/proc/nowhere") && stderr.contains("[SD-0305]\nhint: "),
            "{key} {stderr}"
        );
        assert!(!stderr.contains("panicked"), "{key} {stderr}");
    }
}

#[test]
fn a_malformed_command_line_is_refused() {
    let calls: &[(&[&str], &str)] = &[
        (&[], "Usage: streamd"),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&["jobmanager", "extra"], "unexpected argument 'extra'"),
        (&["jobmanager", "--bogus"], "unexpected argument '--bogus'"),
        (&["jobmanager", "--log-format", "xml"], "possible values: text, json"),
        (&["jobmanager", "-D"], "a value is required"),
        (&["jobmanager", "-D", "x"], "expected `key=value` [SD-0101]\nhint: "),
        (&["jobmanager", "-D", "=x"], "expected `key=value` [SD-0101]\nhint: "),
        (
            &["jobmanager", "-D", "jobmanager.rpc.prot=1"],
            "did you mean `jobmanager.rpc.port`?",
        ),
        (
            &["taskmanager", "-m", "nowhere"],
            "the expected format is HOST:PORT, like localhost:6123 [SD-0101]\nhint: ",
        ),
        (&["taskmanager", "-m", "127.0.0.1:0"], "[SD-0101]\nhint: "),
        (&["taskmanager", "-m", "http://localhost:1"], "[SD-0101]\nhint: "),
        (&["config", "nokey"], "unknown key `nokey` [SD-0103]\nhint: "),
        (&["config", "a", "b"], "unexpected argument 'b'"),
    ];
    for (call, expected) in calls {
        let directory = tempfile::tempdir().unwrap();
        let (code, stderr) = refused(directory.path(), call, &[]);
        assert_eq!(code, 2, "{call:?} {stderr}");
        assert!(stderr.contains(expected), "{call:?} {stderr}");
    }
    for variable in ["STREAMD_LOG", "RUST_LOG"] {
        let directory = tempfile::tempdir().unwrap();
        let (code, stderr) = refused(directory.path(), &["jobmanager"], &[(variable, "=,=x")]);
        assert_eq!(code, 2, "{stderr}");
        assert!(
            coded(&stderr)
                .0
                .starts_with(&format!("environment variable `{variable}`")),
            "{stderr}"
        );
    }
}
