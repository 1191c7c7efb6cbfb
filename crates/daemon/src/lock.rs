//! One instance at a time on one directory.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use streamd_core::error::{CodedError, ErrorCode};

/// A lock that the kernel releases when the process ends, however it ends.
pub struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Creates the directory and takes the lock `name` in it. `who` is who holds it, for messages.
    pub fn take(directory: &Path, name: &str, who: &str) -> Result<Self, CodedError> {
        let denied = |error: &io::Error| not_writable("the working directory", directory, error);
        std::fs::create_dir_all(directory).map_err(|error| denied(&error))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(name))
            .map_err(|error| denied(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(CodedError::new(
                ErrorCode::AlreadyRunning,
                format!("another {who} uses the working directory `{}`", directory.display()),
            )
            .with_hint("stop it, or give this one another `process.working-dir` (STREAMD_DATA_DIR)")),
            Err(TryLockError::Error(error)) => Err(denied(&error)),
        }
    }
}

/// The error for a directory that cannot be used.
pub fn not_writable(what: &str, directory: &Path, error: &io::Error) -> CodedError {
    let context = format!("{what} `{}` cannot be written", directory.display());
    CodedError::caused(ErrorCode::DirectoryNotWritable, context, error)
        .with_hint("give the user of this process write access, or set another directory in conf/streamd.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_refused_until_the_first_ends() {
        let directory = tempfile::tempdir().unwrap();
        let first = InstanceLock::take(directory.path(), "lock", "job manager").unwrap();
        let refused = InstanceLock::take(directory.path(), "lock", "job manager")
            .err()
            .unwrap();
        assert_eq!(refused.code, ErrorCode::AlreadyRunning);
        drop(first);
        assert!(InstanceLock::take(directory.path(), "lock", "job manager").is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = InstanceLock::take(&file.path().join("x"), "lock", "job manager")
            .err()
            .unwrap();
        assert_eq!(refused.code, ErrorCode::DirectoryNotWritable);
        assert!(
            refused.message.contains(&file.path().display().to_string()),
            "{refused}"
        );
    }
}
