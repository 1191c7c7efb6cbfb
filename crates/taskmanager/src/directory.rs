//! The working directory: who holds it, what is in it, and how it is left.
//!
//! ```text
//!   <work_dir>/lock                       held while the task manager lives
//!             /artifacts/<sha256>         applications, mode 0500
//!             /describe/<random>/         private to one description, gone with it
//!             /profile/<random>/          what was seen of a worker, until it is read
//!             /job-manager                where the job manager is, for workers whose link is lost
//!             /jobs/<job id>/worker-<n>/  the current directory of a worker
//!             /jobs/<job id>/local-state/ what the workers of a job leave for those that follow; gone with the job
//! ```
//!
//! The last may be elsewhere: `<local_state>/streamd-<digest of work_dir>/<job id>/local-state/`.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, WorkerId};
use tracing::warn;

use crate::process::end_strays_below;

/// Where jobs have directories.
const JOBS: &str = "jobs";

/// The working directory of this task manager. Whoever holds the value holds the lock.
#[derive(Debug)]
pub(crate) struct WorkDirectory {
    root: PathBuf,
    /// Where jobs have directories with their local state.
    local: PathBuf,
    _lock: File,
}

impl WorkDirectory {
    /// Creates what is missing, takes the lock, and removes what a task manager that was killed left behind.
    /// Local state goes to a folder of its own in `local_state`, if that is given.
    pub(crate) fn open(root: &Path, local_state: Option<&Path>) -> Result<Self, CodedError> {
        let denied = |error: &io::Error| not_writable("working directory", root, error);
        let root = std::path::absolute(root).map_err(|error| denied(&error))?;
        create_private(&root).map_err(|error| denied(&error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .map_err(|error| denied(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(already_running(&root)),
            Err(TryLockError::Error(error)) => return Err(denied(&error)),
        }
        let local = match local_state {
            Some(elsewhere) => {
                let elsewhere = std::path::absolute(elsewhere).map_err(|error| denied(&error))?;
                elsewhere.join(name_elsewhere(&root))
            }
            None => root.join(JOBS),
        };
        let directory = Self {
            root,
            local,
            _lock: lock,
        };
        let errands = [directory.descriptions(), directory.profiles()];
        for remains in directory.of_jobs().into_iter().chain(errands) {
            end_strays_below(&remains);
            remove(&remains);
            create_private(&remains).map_err(|error| denied(&error))?;
        }
        create_private(&directory.artifacts()).map_err(|error| denied(&error))?;
        Ok(directory)
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    pub(crate) fn descriptions(&self) -> PathBuf {
        self.root.join("describe")
    }

    pub(crate) fn profiles(&self) -> PathBuf {
        self.root.join("profile")
    }

    /// Where workers read who their job manager is now.
    pub(crate) fn job_manager_file(&self) -> PathBuf {
        self.root.join("job-manager")
    }

    pub(crate) fn jobs(&self) -> PathBuf {
        self.root.join(JOBS)
    }

    /// The directories that have one for each job.
    pub(crate) fn of_jobs(&self) -> Vec<PathBuf> {
        let mut directories = vec![self.jobs()];
        if self.local != directories[0] {
            directories.push(self.local.clone());
        }
        directories
    }

    /// The directory of all of a job's workers. A job id is hexadecimal, so that it cannot lead elsewhere.
    pub(crate) fn job(&self, job: JobId) -> PathBuf {
        self.jobs().join(job.to_string())
    }

    /// Where the workers of a job leave files for the workers of its next attempts.
    pub(crate) fn local_state(&self, job: JobId) -> PathBuf {
        self.local.join(job.to_string()).join("local-state")
    }

    pub(crate) fn worker(&self, job: JobId, worker: WorkerId) -> PathBuf {
        self.job(job).join(worker.to_string())
    }
}

/// The name of the folder of a task manager where others have theirs too: always the same for the same working directory.
fn name_elsewhere(root: &Path) -> String {
    let digest = Sha256::digest(root.as_os_str().as_bytes());
    let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("streamd-{digits}")
}

fn already_running(root: &Path) -> CodedError {
    CodedError::new(
        ErrorCode::AlreadyRunning,
        format!(
            "working directory `{}` is in use by another task manager",
            root.display()
        ),
    )
    .with_hint("stop the other one, or give this one a directory of its own")
}

/// The error for a directory that cannot be used.
pub(crate) fn not_writable(kind: &str, path: &Path, error: &io::Error) -> CodedError {
    CodedError::caused(
        ErrorCode::DirectoryNotWritable,
        format!("{kind} `{}` cannot be written", path.display()),
        error,
    )
    .with_hint("give the user of the task manager write access, or set another directory in its configuration")
}

/// Writes a new file that only this user can read.
pub(crate) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

/// Writes a file that only this user can read, whole or not at all, whatever it held before.
pub(crate) fn replace_private(path: &Path, content: &str) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    write_private(&unfinished, content)?;
    fs::rename(&unfinished, path)
}

/// Creates a directory, and those above it, for this user alone. It is no error if it exists.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a directory with all that is in it. It is no error if it does not exist; what cannot be removed stays.
pub(crate) fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!(path = %path.display(), %error, "directory is left behind"),
    }
}

/// A directory that exists as long as this value.
#[derive(Debug)]
pub(crate) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// A new directory with an unused name in `parent`.
    pub(crate) fn new_in(parent: &Path) -> io::Result<Self> {
        let path = parent.join(uuid::Uuid::new_v4().simple().to_string());
        create_private(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_task_manager_on_the_same_directory_is_refused_until_the_first_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = WorkDirectory::open(folder.path(), None).unwrap();
        let error = WorkDirectory::open(folder.path(), None).unwrap_err();
        assert_eq!(error.code, ErrorCode::AlreadyRunning);
        drop(first);
        WorkDirectory::open(folder.path(), None).unwrap();
    }

    #[test]
    fn remains_of_jobs_are_removed_at_the_start_and_applications_stay() {
        let folder = tempfile::tempdir().unwrap();
        let directory = WorkDirectory::open(folder.path(), None).unwrap();
        let job = JobId::from_bytes([1; 16]);
        create_private(&directory.worker(job, WorkerId(1))).unwrap();
        fs::write(directory.artifacts().join("abc"), b"x").unwrap();
        drop(directory);
        let directory = WorkDirectory::open(folder.path(), None).unwrap();
        assert!(!directory.job(job).exists());
        assert!(directory.artifacts().join("abc").exists());
    }

    #[test]
    fn local_state_elsewhere_is_a_task_managers_own_and_its_remains_go_too() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |name: &str| WorkDirectory::open(&folder.path().join(name), Some(elsewhere.path())).unwrap();
        let job = JobId::from_bytes([1; 16]);
        let (one, other) = (open("one"), open("other"));
        let (ones, others) = (one.local_state(job), other.local_state(job));
        assert!(ones != others && ones.starts_with(elsewhere.path()));
        create_private(&ones).unwrap();
        create_private(&others).unwrap();
        drop(one);
        let one = open("one");
        assert_eq!(one.local_state(job), ones);
        assert!(!ones.exists() && others.exists());
    }
}
