//! Calls of `streamctl`.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::Signal;
use serde_json::Value;

use crate::files::{binary, parse};
use crate::process::signal;
use crate::wait::{PATIENCE, within};

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it printed as its result.
    pub stdout: String,
    /// Everything else it said.
    pub stderr: String,
}

impl Ran {
    /// The call, which must have succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// The call, which must have failed as a user expects it: with this exit code and error code, one `error:` line with
    /// this text in it, a `hint:`, and no panic.
    #[track_caller]
    pub fn refused(self, code: i32, error: &str, text: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "there is not exactly one error: {self:#?}");
        assert!(
            errors[0].ends_with(&format!("[{error}]")),
            "the error is not {error}: {self:#?}"
        );
        assert!(errors[0].contains(text), "the error does not say `{text}`: {self:#?}");
        assert!(
            self.stderr.lines().any(|line| line.starts_with("hint: ")),
            "there is no hint: {self:#?}"
        );
        assert!(!self.stderr.contains("thread '"), "a panic is printed: {self:#?}");
        self
    }

    /// The objects on stdout, one a line.
    pub fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(parse).collect()
    }
}

/// A call that is under way.
pub struct Running {
    arguments: String,
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// Calls `streamctl` with these arguments and nothing but this environment.
    pub fn start(arguments: &[&str], environment: &[(String, String)]) -> Self {
        let mut child = Command::new(binary("streamctl"))
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`streamctl` does not start: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        Self {
            arguments: arguments.join(" "),
            child,
            stdout: std::thread::spawn(|| read(stdout)),
            stderr: std::thread::spawn(|| read(stderr)),
        }
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) {
        signal(self.child.id(), Signal::INT);
    }

    /// Waits for its end. Panics if that does not come.
    pub fn finish(mut self) -> Ran {
        let ended = within(PATIENCE, || self.child.try_wait().expect("a child can be waited for"));
        if ended.is_none() {
            self.child.kill().expect("a child can be killed");
        }
        let status = self.child.wait().expect("a child can be waited for");
        let ran = Ran {
            code: status.code().unwrap_or(-1),
            stdout: self.stdout.join().expect("reading does not panic"),
            stderr: self.stderr.join().expect("reading does not panic"),
        };
        assert!(ended.is_some(), "`streamctl {}` does not end: {ran:#?}", self.arguments);
        ran
    }
}

fn read(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is what there is to show.
    drop(stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
