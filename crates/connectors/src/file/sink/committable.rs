//! A finished file that waits for its checkpoint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use streamd_core::row::{DataType, Field, RowError, RowReader};
use streamd_core::source::ConnectorError;
use streamd_core::state::State;

/// A file that is complete and on disk under a hidden name. Its identity is its final name, which no other file ever has.
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
        if !self.is_complete(&staged)? {
            return Err(ConnectorError::new(format!(
                "output is lost: the prepared file `{}` is gone, and so is `{}` that it was to become",
                staged.display(),
                committed.display()
            )));
        }
        fs::rename(&staged, &committed).map_err(|cause| {
            let message = format!("cannot rename `{}` to `{}`", staged.display(), committed.display());
            ConnectorError::caused(message, cause)
        })
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

impl State for FileCommittable {
    fn data_type() -> DataType {
        let field = |name: &str, data_type| Field {
            name: name.to_owned(),
            data_type,
        };
        DataType::Struct {
            name: "FileCommittable".to_owned(),
            fields: vec![
                field("directory", DataType::String),
                field("staged", DataType::String),
                field("name", DataType::String),
                field("length", DataType::UInt64),
            ],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.directory.encode(row);
        self.staged.encode(row);
        self.name.encode(row);
        self.length.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            directory: String::decode(row)?,
            staged: String::decode(row)?,
            name: String::decode(row)?,
            length: u64::decode(row)?,
        })
    }
}
