//! Having a program describe its job: it runs in describe mode, alone, limited in time and space, and leaves a plan.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use streamd_core::error::{CodedError, ErrorCode, chain};
use streamd_core::graph::PLAN_VERSION;
use streamd_rpc::proto::Program;
use streamd_rpc::status::one_line;
use tokio::process::Child;

use crate::directory::{PrivateDirectory, not_writable};
use crate::options::DescribeLimits;
use crate::process::{
    Environment, Launch, ProcessGroup, Restrictions, Tail, examine, exit_reason, last_words, sweep, while_copying,
};

/// The time for a description where the job manager names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Lines that are repeated of a program that failed without a panic: enough for the error of an argument parser.
const LAST_LINES: usize = 8;

/// The signal for a file that became longer than allowed.
const SIGXFSZ: i32 = 25;

/// Has programs describe their jobs.
#[derive(Debug)]
pub(crate) struct Describer {
    pub(crate) environment: Environment,
    /// Where each description gets a directory of its own.
    pub(crate) directory: PathBuf,
    pub(crate) limits: DescribeLimits,
}

/// How messages call a program: by the name that it had at the client.
pub(crate) fn display_name(program: &Program) -> String {
    match program.file_name.is_empty() {
        true => program.sha256.clone(),
        false => one_line(&program.file_name, 128),
    }
}

/// How a description ended, with what the program printed.
struct Ended {
    /// `None`: out of time.
    status: Option<ExitStatus>,
    printed: Tail,
    complained: Tail,
}

impl Describer {
    /// The plan of a program. Cancel safe: dropping the future kills the program and removes its directory.
    pub(crate) async fn describe(
        &self,
        program: &Program,
        executable: PathBuf,
        timeout: Duration,
    ) -> Result<Bytes, CodedError> {
        let name = display_name(program);
        examine(&executable, &name)?;
        let directory = PrivateDirectory::new_in(&self.directory)
            .map_err(|error| not_writable("working directory", &self.directory, &error))?;
        let plan_file = directory.path().join("plan.json");
        let environment = self
            .environment
            .clone()
            .for_program(program, "describe", directory.path())
            .with("STREAMD_PLAN_FILE", &plan_file);
        let launch = Launch {
            executable,
            name: name.clone(),
            arguments: program.arguments.clone(),
            environment,
            directory: directory.path().to_owned(),
        };
        let limits = Restrictions {
            memory_bytes: self.limits.memory_bytes,
            file_bytes: Some(self.limits.file_bytes),
        };
        let child = launch.start(Stdio::piped(), Stdio::piped(), limits).await?;
        let timeout = if timeout.is_zero() { DEFAULT_TIMEOUT } else { timeout };
        let ended = run(child, timeout, directory.path()).await.map_err(|error| {
            CodedError::caused(ErrorCode::Internal, format!("application `{name}` was lost"), &error)
        })?;
        match ended.status {
            Some(status) if status.success() => {
                let limit = self.limits.plan_bytes;
                let reading = tokio::task::spawn_blocking(move || plan(&plan_file, limit, &name, &ended));
                reading
                    .await
                    .map_err(|error| CodedError::caused(ErrorCode::Internal, "reading a plan ended early", &error))?
            }
            Some(status) => Err(failed(status, &name, &ended)),
            None => Err(timed_out(timeout, &name, &ended)),
        }
    }
}

/// Runs a program until it ends or is out of time. Whatever it started is gone afterwards.
async fn run(mut child: Child, timeout: Duration, directory: &Path) -> io::Result<Ended> {
    let group = ProcessGroup::of(&child);
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let (mut printed, mut complained) = (Tail::default(), Tail::default());
    let copy = async {
        tokio::join!(printed.fill_from(stdout), complained.fill_from(stderr));
    };
    let process = async {
        let ended = tokio::time::timeout(timeout, child.wait()).await;
        drop(group);
        sweep(directory.to_owned()).await;
        match ended {
            Ok(status) => status.map(Some),
            Err(_) => child.wait().await.map(|_| None),
        }
    };
    let status = while_copying(process, copy).await?;
    Ok(Ended {
        status,
        printed,
        complained,
    })
}

impl Ended {
    /// What the program said to people: errors if there are any.
    fn said(&self) -> String {
        let complaints = self.complained.text();
        match complaints.trim().is_empty() {
            true => self.printed.text(),
            false => complaints,
        }
    }
}

/// The plan that a program left behind.
fn plan(path: &Path, limit: u64, name: &str, ended: &Ended) -> Result<Bytes, CodedError> {
    let plan = match read_plan(path, limit) {
        Ok(plan) => plan,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_plan(name, ended)),
        Err(error) => {
            return Err(no_application(
                name,
                &format!("its plan cannot be read: {}", chain(&error)),
            ));
        }
    };
    if plan.len() as u64 > limit {
        return Err(CodedError::new(
            ErrorCode::InvalidJobGraph,
            format!("the plan of application `{name}` is longer than {limit} bytes"),
        )
        .with_hint("describe the input in fewer splits, or read the list of splits in the source itself"));
    }
    check_version(&plan, name)?;
    Ok(plan)
}

/// The bytes of the plan file; one more than allowed where it is longer.
fn read_plan(path: &Path, limit: u64) -> io::Result<Bytes> {
    // A pipe or device under the name would keep the reader for ever.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut plan = Vec::new();
    std::fs::File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut plan)?;
    Ok(plan.into())
}

#[derive(Deserialize)]
struct PlanVersion {
    version: u32,
}

fn check_version(plan: &[u8], name: &str) -> Result<(), CodedError> {
    let PlanVersion { version } = serde_json::from_slice(plan)
        .map_err(|error| no_application(name, &format!("what it wrote is no plan: {error}")))?;
    if version == PLAN_VERSION {
        return Ok(());
    }
    Err(no_application(
        name,
        &format!("its plan has version {version}, and this cluster reads version {PLAN_VERSION}"),
    )
    .with_hint("build the application with the streamd version of the cluster"))
}

fn no_application(name: &str, reason: &str) -> CodedError {
    let message = one_line(&format!("program `{name}` is no streamd application: {reason}"), 4096);
    CodedError::new(ErrorCode::NotAnApplication, message)
        .with_hint("an application links the `streamd` crate and leaves its plan to env.execute()")
}

fn no_plan(name: &str, ended: &Ended) -> CodedError {
    let said = one_line(ended.said().trim(), 512);
    let reason = match said.is_empty() {
        true => "it ended without describing a job".to_owned(),
        false => format!("it ended without describing a job, and printed: {said}"),
    };
    no_application(name, &reason).with_hint("does its main call env.execute()?")
}

fn failed(status: ExitStatus, name: &str, ended: &Ended) -> CodedError {
    let said = ended.said();
    let (said, advice) = advice_in(&said);
    let said = last_words(status, said, LAST_LINES);
    let words = match bare(&said) {
        "" => "it printed nothing",
        words => words,
    };
    CodedError::new(
        ErrorCode::DescribeFailed,
        format!(
            "application `{name}` {} while describing its job: {words}",
            exit_reason(status)
        ),
    )
    .with_hint(advice.unwrap_or(match status.signal() {
        Some(SIGXFSZ) => "it wrote more than a description may: leave that to sources and functions",
        Some(_) | None => "correct its arguments or code; run by hand, it shows all of its output",
    }))
}

/// What an application said, parted from the hint that it ended with, if it is one of ours.
fn advice_in(said: &str) -> (&str, Option<&str>) {
    match said.trim_end().rsplit_once("\nhint: ") {
        Some((said, advice)) if !advice.contains('\n') => (said, Some(without_code(advice))),
        Some(_) | None => (said, None),
    }
}

/// The words without what is said around them anyway.
fn bare(words: &str) -> &str {
    without_code(words.strip_prefix("Error: ").unwrap_or(words))
}

/// An error of ours ends with its code. The message that repeats it has one of its own.
fn without_code(words: &str) -> &str {
    match words.rsplit_once(" [SD-") {
        Some((words, code)) if code.len() == "0000]".len() => words,
        Some(_) | None => words,
    }
}

fn timed_out(timeout: Duration, name: &str, ended: &Ended) -> CodedError {
    let said = ended.said();
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let words = last.map(|line| format!("; it printed last: {}", one_line(line, 512)));
    CodedError::new(
        ErrorCode::DescribeTimeout,
        format!(
            "application `{name}` did not describe its job within {timeout:?}{}",
            words.unwrap_or_default()
        ),
    )
    .with_hint("move work that takes long from its main into sources and functions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_of_an_application_is_the_hint_and_its_code_is_not_repeated() {
        let said = "Error: cannot read `x` [SD-0205]\nhint: give it from the root [SD-0205]\n";
        let (said, advice) = advice_in(said);
        assert_eq!((bare(said), advice), ("cannot read `x`", Some("give it from the root")));
        assert_eq!(advice_in("a\nhint: b\nc\n"), ("a\nhint: b\nc\n", None));
        assert_eq!(bare("see [1]"), "see [1]");
    }
}
