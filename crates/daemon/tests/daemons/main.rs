//! The daemons as processes: started, found, refused, ended.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod ends;
mod refusals;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A daemon that is ended with the test, however the test ends.
struct Daemon {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Daemon {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_logging_to(Stdio::null(), data, arguments)
    }

    fn start_logging_to(log: Stdio, data: &Path, arguments: &[&str]) -> Self {
        let mut process = command(data, arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdout }
    }

    /// The next line on its stdout; empty at its end.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask_to_end(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    fn end(mut self) -> Option<i32> {
        self.ask_to_end();
        self.process.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Has ended already where the test went well.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamd"));
    command.env_clear().env("STREAMD_DATA_DIR", data).args(arguments);
    command
}

fn refusal(output: Output) -> (Option<i32>, String) {
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines = stderr
        .lines()
        .filter(|line| line.starts_with("error: ") || line.starts_with("hint: "));
    (output.status.code(), lines.collect::<Vec<_>>().join("\n"))
}

/// The root of the workspace that the test runs in: the one that it was built in may be gone.
fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = package.unwrap_or_else(|| std::env::current_dir().unwrap());
    let root = start.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.expect("tests run in a folder of the workspace").to_owned()
}

const ANY_PORT: &str = "jobmanager.rpc.port=0";

#[test]
fn a_local_cluster_says_where_it_is_and_leaves_nothing_behind_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Daemon::start(directory.path(), &["local", "-D", ANY_PORT]);
    let said = cluster.says();
    let address = said.strip_prefix("jobmanager ").unwrap();
    assert!(!address.ends_with(":0"), "{address}");
    assert!(cluster.says().starts_with("taskmanager "));
    let file = directory.path().join("pid/jobmanager.address");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{address}\n"));
    assert_eq!(cluster.end(), Some(0));
    assert!(!file.exists());
}

#[test]
fn a_task_manager_finds_the_job_manager_by_the_file_and_several_share_a_machine() {
    let directory = tempfile::tempdir().unwrap();
    let mut job_manager = Daemon::start(directory.path(), &["jobmanager", "-D", ANY_PORT]);
    assert!(job_manager.says().starts_with("jobmanager 127.0.0.1:"));
    let mut first = Daemon::start(directory.path(), &["taskmanager", "-D", ANY_PORT]);
    let mut second = Daemon::start(directory.path(), &["taskmanager", "-D", ANY_PORT]);
    let (one, other) = (first.says(), second.says());
    assert!(
        one.starts_with("taskmanager ") && other.starts_with("taskmanager ") && one != other,
        "{one} {other}"
    );
    assert_eq!(
        (second.end(), first.end(), job_manager.end()),
        (Some(0), Some(0), Some(0))
    );
}

#[test]
fn a_task_manager_finds_the_elected_job_manager_in_the_storage_where_nobody_wrote_its_address_down() {
    let directory = tempfile::tempdir().unwrap();
    let storage = format!("high-availability.storageDir={}/ha", directory.path().display());
    let elected = [
        "-D",
        ANY_PORT,
        "-D",
        "high-availability.type=object-store",
        "-D",
        &storage,
    ];
    let mut job_manager = Daemon::start(&directory.path().join("one"), &[&["jobmanager"], &elected[..]].concat());
    assert!(job_manager.says().starts_with("jobmanager 127.0.0.1:"));
    // Another folder, as on another machine.
    let mut task_manager = Daemon::start(
        &directory.path().join("other"),
        &[&["taskmanager"], &elected[..]].concat(),
    );
    assert!(task_manager.says().starts_with("taskmanager "));
    assert_eq!((task_manager.end(), job_manager.end()), (Some(0), Some(0)));
}

#[test]
fn a_second_job_manager_on_the_same_directory_or_port_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut job_manager = Daemon::start(directory.path(), &["jobmanager", "-D", ANY_PORT]);
    let said = job_manager.says();

    let path = directory.path().display();
    assert_eq!(
        refusal(
            command(directory.path(), &["jobmanager", "-D", ANY_PORT])
                .output()
                .unwrap()
        ),
        (
            Some(4),
            format!(
                "error: another job manager uses the working directory `{path}` [SD-0306]\n\
                 hint: stop it, or give this one another `process.working-dir` (STREAMD_DATA_DIR)"
            )
        )
    );
    let other = tempfile::tempdir().unwrap();
    let port = said.rsplit(':').next().unwrap();
    let setting = format!("jobmanager.rpc.port={port}");
    let (code, message) = refusal(command(other.path(), &["jobmanager", "-D", &setting]).output().unwrap());
    assert_eq!(code, Some(4));
    assert!(message.contains("is in use [SD-0304]"), "{message}");
    assert_eq!(job_manager.end(), Some(0));
}

#[test]
fn a_faulty_configuration_is_refused_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    std::fs::write(directory.path().join("streamd.yaml"), "\njobmanager.rpc.prt: 0\n").unwrap();
    for daemon in ["jobmanager", "taskmanager", "local", "config"] {
        assert_eq!(
            refusal(command(directory.path(), &[daemon, "--conf", &path]).output().unwrap()),
            (
                Some(2),
                format!(
                    "error: {path}/streamd.yaml:2: `jobmanager.rpc.prt`: unknown key [SD-0103]\n\
                     hint: did you mean `jobmanager.rpc.port`?"
                )
            ),
            "{daemon}"
        );
    }
}

#[test]
fn a_task_manager_without_job_manager_gives_up_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let in_time = "taskmanager.registration.timeout=50ms";
    let (code, message) = refusal(
        command(directory.path(), &["taskmanager", "-D", ANY_PORT, "-D", in_time])
            .output()
            .unwrap(),
    );
    assert_eq!(code, Some(6));
    assert!(message.contains("the job manager's address is not in `"), "{message}");
    let arguments = ["taskmanager", "-m", "127.0.0.1:1", "-D", in_time];
    let (code, message) = refusal(command(directory.path(), &arguments).output().unwrap());
    assert_eq!(code, Some(6));
    assert!(message.contains("could not register"), "{message}");
}

#[test]
fn the_configuration_is_printed_with_where_it_comes_from() {
    let directory = tempfile::tempdir().unwrap();
    let printed = |arguments: &[&str]| {
        let output = command(directory.path(), arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        printed(&["config", "env.pid.dir"]),
        format!("{}/pid\n", directory.path().display())
    );
    assert_eq!(
        printed(&["config", "state.savepoints.dir", "-D", "state.savepoints.dir=/sp/"]),
        "file:///sp\n"
    );
    let all = printed(&["config", "-D", "parallelism.default=3"]);
    assert!(all.contains("\nparallelism.default: 3  # `-D`\n"), "{all}");
    assert!(all.contains("\njobmanager.rpc.port: 6123  # the default\n"), "{all}");
}

/// `STREAMD_BLESS=1 cargo test -p streamd-daemon` writes the page anew.
#[test]
fn the_reference_of_daemons_is_the_help_of_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = "# streamd\n\nThe daemons. The scripts in `bin/` start and stop them in the background.\n\n\
                    This page is written from the program's own help.\n"
        .to_owned();
    for daemon in [&[][..], &["jobmanager"], &["taskmanager"], &["local"], &["config"]] {
        let output = command(directory.path(), &[daemon, &["--help"]].concat())
            .output()
            .unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        let title = [&["streamd"], daemon].concat().join(" ");
        text.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", help.join("\n")));
    }
    let path = workspace().join("docs/reference/daemons.md");
    if std::env::var_os("STREAMD_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == text,
        "{} differs from the help",
        path.display()
    );
}
