//! The kernel's profiler: `perf record` while the worker runs, then `perf script` for what it saw.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, setpriority_process};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::WorkerId;
use streamd_rpc::status::one_line;
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdout, Command};

use super::profiler::not_running;
use super::stacks::Stacks;
use crate::process::{ProcessGroup, Tail};

/// How a stack is kept: its bytes, which are walked afterwards, since release builds have no frame pointers. So many are enough for a
/// chain of some tens of operators.
const CALL_GRAPH: &str = "dwarf,16384";

/// The most that is written of what is seen. Thirty threads at work, looked at 99 times a second, take as much in ten seconds.
const MAX_SIZE: &str = "512M";

/// What `perf` says when it has written that much.
const SIZE_REACHED: &str = "size limit reached";

/// The file with what was seen.
const DATA: &str = "perf.data";

/// How far the reading of what was seen steps back behind the jobs of the machine: the last of all.
const NICE: i32 = 19;

/// Bytes of the profiler's own words in a message.
const SHOWN_WORDS: usize = 512;

/// The profiler, at work on one worker.
pub(super) struct Perf<'a> {
    pub(super) worker: WorkerId,
    /// Private to this profile.
    pub(super) directory: &'a Path,
}

impl Perf<'_> {
    /// Looks at a process so often a second. Whether it ended before its time, since it had written too much.
    pub(super) async fn record(&self, process: u32, duration_ms: u64, frequency: u32) -> Result<bool, CodedError> {
        let (process, frequency) = (process.to_string(), frequency.to_string());
        let seconds = format!("{}.{:03}", duration_ms / 1_000, duration_ms % 1_000);
        let mut command = self.command("record");
        command
            .args(["--no-buildid", "--no-buildid-cache", "--call-graph", CALL_GRAPH])
            .args(["--max-size", MAX_SIZE, "-o", DATA, "-F", &frequency, "-p", &process])
            .args(["--", "sleep", &seconds]);
        let ((), said) = self.run(self.start(command)?, async |_prints_nothing| {}).await?;
        // A worker that ends, and a file that is full, end it with a signal. What it saw before that is there all the same.
        match std::fs::metadata(self.data()).map_or(0, |data| data.len()) {
            0 => Err(self.refused(&said)),
            _seen => Ok(said.contains(SIZE_REACHED)),
        }
    }

    /// The stacks that were seen.
    pub(super) async fn stacks(&self) -> Result<Stacks, CodedError> {
        let mut command = self.command("script");
        // What was inlined where, it finds out with a process for each address.
        command.args(["--no-inline", "-F", "comm,ip,sym", "-i", DATA]);
        let child = self.start(command)?;
        step_back(&child);
        let (stacks, said) = self
            .run(child, async |printed| Stacks::read(BufReader::new(printed)).await)
            .await?;
        match stacks {
            Ok(stacks) if stacks.is_empty() && said.contains("rror") => Err(self.failed(&said)),
            Ok(stacks) => Ok(stacks),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.join(DATA)
    }

    /// The profiler with nothing of the task manager's environment: it is to look up nothing, and to write nowhere else.
    fn command(&self, verb: &str) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
        let mut command = Command::new("perf");
        command
            .arg(verb)
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("HOME", self.directory)
            .env("TMPDIR", self.directory)
            .current_dir(self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    fn start(&self, mut command: Command) -> Result<Child, CodedError> {
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _other => self.lost(&error),
        })
    }

    /// Runs it to its end. What became of its output, and what it said beside.
    async fn run<T>(
        &self,
        mut child: Child,
        read: impl AsyncFnOnce(ChildStdout) -> T,
    ) -> Result<(T, String), CodedError> {
        let _group = ProcessGroup::of(&child);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut said = Tail::default();
        let (read, (), ended) = tokio::join!(read(stdout), said.fill_from(stderr), child.wait());
        ended.map_err(|error| self.lost(&error))?;
        Ok((read, said.text()))
    }

    /// Why nothing was seen, from what the profiler said.
    fn refused(&self, said: &str) -> CodedError {
        let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
        if says(&["perf not found for kernel"]) {
            return missing();
        }
        if says(&["No such process", "Couldn't create thread/CPU maps"]) {
            return not_running(self.worker);
        }
        if says(&[
            "perf_event_paranoid",
            "ermission",
            "not permitted",
            "is limited",
            "not implemented",
        ]) {
            let message = format!("the kernel does not allow its profiler to look at `{}`", self.worker);
            return CodedError::new(ErrorCode::ProfilerDenied, message).with_hint(
                "on the task manager's host: `sysctl kernel.perf_event_paranoid=2`; in a container: the capability CAP_PERFMON, and a \
                 seccomp profile with perf_event_open",
            );
        }
        self.failed(said)
    }

    fn failed(&self, said: &str) -> CodedError {
        let said = match one_line(said.trim(), SHOWN_WORDS) {
            silence if silence.is_empty() => "it said nothing".to_owned(),
            said => said,
        };
        let message = format!("the profiler saw nothing of `{}`: {said}", self.worker);
        CodedError::new(ErrorCode::ProfileFailed, message)
            .with_hint("try `perf record -p PID` on the task manager's host; `streamctl status` tells the process id")
    }

    fn lost(&self, error: &io::Error) -> CodedError {
        let message = format!("the profiler of `{}` was lost", self.worker);
        CodedError::caused(ErrorCode::ProfileFailed, message, error).with_hint("try again")
    }
}

fn missing() -> CodedError {
    let message = "the profiler `perf` is not installed on the task manager's host, or not for its kernel";
    CodedError::new(ErrorCode::ProfilerMissing, message).with_hint(
        "install it there: `linux-perf` on Debian, `linux-tools-$(uname -r)` on Ubuntu, `perf` on Fedora and others",
    )
}

/// Gives a process the lowest priority. Where that does not work, it runs as any other.
fn step_back(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let _as_any_other = id.map(|id| setpriority_process(Some(id), NICE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_profiler_complains_of_is_told_apart() {
        let perf = Perf {
            worker: WorkerId(3),
            directory: Path::new("/nowhere"),
        };
        for (said, code) in [
            (
                "WARNING: perf not found for kernel 6.8.0\n\n  You may need to install",
                ErrorCode::ProfilerMissing,
            ),
            (
                "Error:\nAccess to performance monitoring and observability operations is limited.",
                ErrorCode::ProfilerDenied,
            ),
            ("failed: Operation not permitted", ErrorCode::ProfilerDenied),
            (
                "Couldn't create thread/CPU maps: No such process",
                ErrorCode::JobNotRunning,
            ),
            ("", ErrorCode::ProfileFailed),
            ("out of memory", ErrorCode::ProfileFailed),
        ] {
            let error = perf.refused(said);
            assert_eq!(error.code, code, "{said}");
            assert!(error.hint.is_some());
        }
        assert!(perf.refused("out of memory").message.ends_with("out of memory"));
    }
}
