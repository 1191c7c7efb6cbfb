//! Starting a program.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use streamd_core::error::{CodedError, ErrorCode};
use tokio::process::{Child, Command};
use tracing::debug;

use super::Environment;

/// How often a start is repeated while the file is "busy".
///
/// Linux refuses to execute a file that anybody has open for writing. A process that another task starts at the moment
/// in which this file was being written holds a copy of the descriptor until its own `exec`: a matter of milliseconds.
const BUSY_RETRIES: u32 = 50;

/// See [`BUSY_RETRIES`].
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// What is to be started, and how.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The file.
    pub(crate) executable: PathBuf,
    /// What the user calls it; the program sees it as its name.
    pub(crate) name: String,
    /// The arguments after the name.
    pub(crate) arguments: Vec<String>,
    /// All of its variables.
    pub(crate) environment: Environment,
    /// Its current directory.
    pub(crate) directory: PathBuf,
}

/// Limits of a started process; [`NO_LIMIT`] leaves one as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restrictions {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) file_bytes: Option<u64>,
}

/// Restricts nothing.
pub(crate) const NO_LIMIT: Restrictions = Restrictions {
    memory_bytes: None,
    file_bytes: None,
};

impl Launch {
    /// Starts the program as the leader of a process group of its own, without input.
    ///
    /// Must be called on a thread that lives as long as the runtime, and so never in `spawn_blocking`: a worker asks the
    /// kernel to be killed when its parent ends, and the kernel takes the *thread* that started it for the parent.
    pub(crate) async fn start(&self, stdout: Stdio, stderr: Stdio, limits: Restrictions) -> Result<Child, CodedError> {
        let mut command = Command::new(&self.executable);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.variables())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true);
        let mut retries = BUSY_RETRIES;
        loop {
            match command.spawn() {
                Ok(child) => {
                    restrict(&child, limits);
                    return Ok(child);
                }
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && retries > 0 => retries -= 1,
                Err(error) => return Err(self.refused(&error)),
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    fn refused(&self, error: &io::Error) -> CodedError {
        let name = &self.name;
        let not_executable = |reason: &str, hint: &str| {
            let message = format!("application `{name}` cannot be executed: {reason}");
            CodedError::new(ErrorCode::ApplicationNotExecutable, message).with_hint(hint)
        };
        match Errno::from_io_error(error) {
            Some(Errno::NOENT) => not_executable(
                "the interpreter or dynamic loader that it names does not exist on the task manager's host",
                "build it for the C library of that host, or statically",
            ),
            Some(Errno::NOEXEC) => not_executable(
                "the task manager's host does not know its format",
                "build it for that host",
            ),
            Some(Errno::ACCESS) => not_executable(
                "permission denied",
                "check that the task manager's working directory is not mounted `noexec`",
            ),
            Some(Errno::TOOBIG) => CodedError::new(
                ErrorCode::InvalidArgument,
                format!("arguments and configuration of application `{name}` are longer than the kernel takes"),
            ),
            _ if error.kind() == io::ErrorKind::InvalidInput => CodedError::new(
                ErrorCode::InvalidArgument,
                format!("an argument or setting of application `{name}` holds a zero byte"),
            ),
            _ => CodedError::caused(
                ErrorCode::ApplicationNotExecutable,
                format!("application `{name}` cannot be started"),
                error,
            ),
        }
    }
}

/// Limits a process that was just started. Done from outside, since code between fork and exec would be unsafe code:
/// the first instants of the program are unlimited.
fn restrict(child: &Child, limits: Restrictions) {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else {
        return;
    };
    let core = Some((Resource::Core, 0));
    let memory = limits.memory_bytes.map(|bytes| (Resource::Data, bytes));
    let file = limits.file_bytes.map(|bytes| (Resource::Fsize, bytes));
    for (resource, bytes) in [core, memory, file].into_iter().flatten() {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        if let Err(error) = prlimit(Some(pid), resource, limit) {
            // It may have ended already; and where the kernel forbids it, the program runs as before limits existed.
            debug!(?resource, %error, "process could not be limited");
        }
    }
}
