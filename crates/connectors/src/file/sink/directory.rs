//! The folder that a sink writes to.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use streamd_core::source::ConnectorError;

/// Whether [`prepare`] can succeed, as far as can be told without changing anything: the folder, or the nearest one above it that
/// is there, is a folder that this user may write into.
pub(super) fn check(directory: &Path) -> Result<(), ConnectorError> {
    let there = directory.ancestors().find(|above| above.symlink_metadata().is_ok());
    let Some(there) = there else {
        return Ok(());
    };
    let cannot_use = |cause: io::Error| {
        let message = format!("cannot write into the output folder `{}`", directory.display());
        ConnectorError::caused(message, cause)
    };
    if !there.is_dir() {
        let what = format!("`{}` is no folder", there.display());
        return Err(cannot_use(io::Error::new(io::ErrorKind::NotADirectory, what)));
    }
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|cause| cannot_use(cause.into()))
}

/// Creates the folder and those above it, and makes sure that files can be created in it: a job must fail at its start, not
/// at its first record. `probe` is a file name that nobody else takes.
pub(super) fn prepare(directory: &Path, probe: &str) -> Result<(), ConnectorError> {
    let cannot_create = |cause| {
        ConnectorError::caused(
            format!("cannot create the output folder `{}`", directory.display()),
            cause,
        )
    };
    fs::create_dir_all(directory).map_err(cannot_create)?;
    if let Some(parent) = directory.parent() {
        synchronise(parent)?;
    }
    let probe = directory.join(probe);
    create_new(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|cause| {
            let message = format!("cannot create files in the output folder `{}`", directory.display());
            ConnectorError::caused(message, cause)
        })
}

/// Creates a folder below `base`, which is there, and makes its name durable.
pub(super) fn create_below(base: &Path, directory: &Path) -> Result<(), ConnectorError> {
    if directory == base || directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory).map_err(|cause| {
        let message = format!("cannot create the output folder `{}`", directory.display());
        ConnectorError::caused(message, cause)
    })?;
    let above = directory
        .ancestors()
        .skip(1)
        .take_while(|above| above.starts_with(base));
    above.into_iter().try_for_each(synchronise)
}

/// Creates a file that must not be there yet.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Makes the names in a folder durable.
pub(super) fn synchronise(directory: &Path) -> Result<(), ConnectorError> {
    File::open(directory)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| {
            let message = format!("cannot synchronise the folder `{}` to disk", directory.display());
            ConnectorError::caused(message, cause)
        })
}
