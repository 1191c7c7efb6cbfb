//! A file that waits for its checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use streamd_core::evolution::{Evolution, TypeEvolution};
use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::source::ConnectorError;
use streamd_core::state::{State, to_row};

use super::part::staged_name;

/// A file that is on disk under a hidden name. Its identity is its final name, which no other file ever has.
///
/// One that is unfinished goes on to grow in the writer that holds it. Committed, which it is only when it is restored, it becomes
/// a file of what it had when the snapshot was taken. The hidden file is copied for that and stays as it is: other snapshots may
/// hold more of it, or less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCommittable {
    /// The folder, as an absolute path.
    pub directory: String,
    /// The hidden name that the file has.
    pub staged: String,
    /// The name that it will have.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Whether only its first `length` bytes are meant, and it may have more.
    pub is_unfinished: bool,
}

impl FileCommittable {
    /// Gives the file its final name, unless it has it. The folder must be synchronised afterwards.
    ///
    /// Errors if the file is gone or is not the one that was prepared.
    pub(super) fn commit(&self) -> Result<(), ConnectorError> {
        let (staged, committed) = (self.path(&self.staged), self.path(&self.name));
        if self.is_complete(&committed)? {
            return Ok(());
        }
        if self.is_unfinished {
            return self.commit_beginning(&staged, &committed);
        }
        if !self.is_complete(&staged)? {
            return Err(ConnectorError::output_lost(format_args!(
                "the prepared file `{}` is gone, and so is `{}` that it was to become",
                staged.display(),
                committed.display()
            )));
        }
        fs::rename(&staged, &committed).map_err(|cause| {
            let message = format!("cannot rename `{}` to `{}`", staged.display(), committed.display());
            ConnectorError::caused(message, cause)
        })
    }

    /// Makes a file of the first bytes of an unfinished one. That may have its final name by now, in the run that went on with it.
    fn commit_beginning(&self, staged: &Path, committed: &Path) -> Result<(), ConnectorError> {
        let whole = self
            .staged
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(".inprogress"));
        let whole = self.path(whole.unwrap_or(&self.staged));
        let opened = File::open(staged).or_else(|_| File::open(&whole)).map_err(|cause| {
            let (staged, whole) = (staged.display(), whole.display());
            match cause.kind() {
                std::io::ErrorKind::NotFound => ConnectorError::output_lost(format_args!(
                    "the unfinished file `{staged}` is gone, and so is `{whole}` that it was to become"
                )),
                _other => ConnectorError::caused(format!("cannot read `{staged}` or `{whole}`"), cause),
            }
        })?;
        // The name is the same for all who do this, and so are the bytes: they cannot harm one another.
        let copy = self.path(&staged_name(&self.name));
        let copied = copy_beginning(opened, self.length, &copy);
        copied.map_err(|cause| {
            let message = format!(
                "cannot copy {} bytes of `{}` to `{}`",
                self.length,
                staged.display(),
                copy.display()
            );
            ConnectorError::caused(message, cause)
        })?;
        match fs::rename(&copy, committed) {
            Err(_) if self.is_complete(committed)? => Ok(()),
            renamed => renamed.map_err(|cause| {
                let message = format!("cannot rename `{}` to `{}`", copy.display(), committed.display());
                ConnectorError::caused(message, cause)
            }),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.directory).join(name)
    }

    /// Whether the file is there. Errors if it is there and is not what was prepared.
    fn is_complete(&self, path: &Path) -> Result<bool, ConnectorError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() == self.length => Ok(true),
            Ok(metadata) => Err(ConnectorError::new(format!(
                "output is damaged: the file `{}` has {} bytes, but {} were prepared",
                path.display(),
                metadata.len(),
                self.length
            ))),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(ConnectorError::caused(
                format!("cannot look at the file `{}`", path.display()),
                cause,
            )),
        }
    }
}

/// Writes the first `length` bytes to a file, which may be there already, and to the disk.
fn copy_beginning(from: File, length: u64, to: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(to)?;
    let copied = io::copy(&mut from.take(length), &mut file)?;
    if copied < length {
        let message = format!("it has only {copied} bytes");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    file.set_len(length)?;
    file.sync_all()
}

impl State for FileCommittable {
    fn data_type() -> DataType {
        DataType::structure(
            "FileCommittable",
            [
                ("directory", DataType::String),
                ("staged", DataType::String),
                ("name", DataType::String),
                ("length", DataType::UInt64),
                ("is_unfinished", DataType::Bool),
            ],
        )
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.directory.encode(row);
        self.staged.encode(row);
        self.name.encode(row);
        self.length.encode(row);
        self.is_unfinished.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            directory: String::decode(row)?,
            staged: String::decode(row)?,
            name: String::decode(row)?,
            length: u64::decode(row)?,
            is_unfinished: bool::decode(row)?,
        })
    }

    /// Files of snapshots that were taken before there were unfinished ones are finished.
    fn describe_evolution(evolution: &mut Evolution) {
        let this = TypeEvolution::new(Self::data_type());
        evolution.declare(this.field(None, "is_unfinished", &[], Some(to_row(&false))));
    }
}
