//! Writes the files of one subtask.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use streamd_core::sink::{SinkContext, SinkWriter};
use streamd_core::source::ConnectorError;

use super::builder::FileSink;
use super::committable::FileCommittable;
use super::directory;

/// Encoded bytes are handed to the file when there are this many.
const BUFFER_BYTES: usize = 256 * 1024;

/// The longest part of a file name that comes from the operator: file systems allow 255 bytes in all.
const MAX_OPERATOR_CHARS: usize = 120;

/// Writes the files of one subtask: one for each interval between two checkpoints in which there are records.
pub struct FileWriter<T> {
    sink: FileSink<T>,
    directory: PathBuf,
    /// The part of the names that no other writer has.
    stem: String,
    /// How many files were begun.
    files: u64,
    open: Option<OpenFile>,
    /// Encoded, and not yet handed to the open file.
    buffer: Vec<u8>,
    /// Set by the first error: what then reached the disk is unknown, so nothing more is written or prepared.
    has_failed: bool,
}

/// The file of the current interval.
struct OpenFile {
    file: File,
    staged: String,
    name: String,
    length: u64,
}

impl<T> FileWriter<T> {
    pub(super) fn new(sink: FileSink<T>, context: &SinkContext) -> Result<Self, ConnectorError> {
        let directory = sink.absolute_directory()?;
        let operator = file_name_part(&context.operator);
        let stem = format!(
            "part-{operator}-{}-{}",
            context.subtask.index,
            file_name_part(&context.nonce)
        );
        directory::prepare(&directory, &format!(".{stem}.probe"))?;
        Ok(Self {
            sink,
            directory,
            stem,
            files: 0,
            open: None,
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
            has_failed: false,
        })
    }

    /// Runs a step unless an earlier one failed, and remembers if this one does.
    fn guarded<R>(&mut self, step: impl FnOnce(&mut Self) -> Result<R, ConnectorError>) -> Result<R, ConnectorError> {
        if self.has_failed {
            return Err(ConnectorError::new(format!(
                "the writer of `{}` in the folder `{}` has failed before",
                self.stem,
                self.directory.display()
            )));
        }
        let result = step(self);
        self.has_failed = result.is_err();
        result
    }

    fn append(&mut self, records: &[T]) -> Result<(), ConnectorError> {
        let is_first = self.open.is_none();
        if is_first {
            self.open = Some(self.create()?);
        }
        (self.sink.encoder())(records, is_first, &mut self.buffer).map_err(|cause| {
            ConnectorError::caused(format!("cannot encode a record for the file `{}`", self.stem), cause)
        })?;
        if self.buffer.len() >= BUFFER_BYTES {
            self.hand_over()?;
        }
        Ok(())
    }

    fn create(&mut self) -> Result<OpenFile, ConnectorError> {
        let name = format!("{}-{}.{}", self.stem, self.files, self.sink.extension());
        let staged = format!(".{name}.inprogress");
        let path = self.directory.join(&staged);
        let file = directory::create_new(&path)
            .map_err(|cause| ConnectorError::caused(format!("cannot create the file `{}`", path.display()), cause))?;
        self.files += 1;
        Ok(OpenFile {
            file,
            staged,
            name,
            length: 0,
        })
    }

    /// Writes the buffer to the open file.
    fn hand_over(&mut self) -> Result<(), ConnectorError> {
        let open = self.open.as_mut().expect("records are encoded only for an open file");
        let written = open.file.write_all(&self.buffer);
        written.map_err(|cause| cannot_write(self.directory.join(&open.staged), cause))?;
        open.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn close(&mut self) -> Result<Vec<FileCommittable>, ConnectorError> {
        if self.open.is_none() {
            return Ok(Vec::new());
        }
        self.hand_over()?;
        let open = self.open.take().expect("it was looked at above");
        let synchronised = open.file.sync_all();
        synchronised.map_err(|cause| cannot_write(self.directory.join(&open.staged), cause))?;
        directory::synchronise(&self.directory)?;
        Ok(vec![FileCommittable {
            directory: self.sink.directory_text(&self.directory)?,
            staged: open.staged,
            name: open.name,
            length: open.length,
        }])
    }
}

impl<T: Send + 'static> SinkWriter for FileWriter<T> {
    type In = T;
    type Committable = FileCommittable;

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.guarded(|writer| writer.append(batch))?;
        batch.clear();
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<FileCommittable>, ConnectorError> {
        self.guarded(Self::close)
    }
}

impl<T> Drop for FileWriter<T> {
    /// Removes the file of the unfinished interval: it was never prepared, so no snapshot can hold it.
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            // If this fails, or the process dies first, a hidden file stays that nobody reads.
            let _ = fs::remove_file(self.directory.join(&open.staged));
        }
    }
}

fn cannot_write(path: PathBuf, cause: io::Error) -> ConnectorError {
    ConnectorError::caused(format!("cannot write the file `{}`", path.display()), cause)
}

/// The text with everything that may not be in a file name replaced.
fn file_name_part(text: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || "._".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars().take(MAX_OPERATOR_CHARS).map(allowed).collect()
}
