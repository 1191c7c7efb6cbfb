//! A file that is being written.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use streamd_core::source::ConnectorError;
use streamd_core::time::MonotonicTime;

use super::committable::FileCommittable;
use super::directory;
use super::encoder::PartEncoder;

/// Encoded bytes are handed to the file when there are this many.
const BUFFER_BYTES: usize = 256 * 1024;

/// The hidden name of the file that is to be called so.
pub(super) fn staged_name(name: &str) -> String {
    format!(".{name}.inprogress")
}

/// A file under its hidden name.
pub(super) struct OpenPart<T> {
    directory: PathBuf,
    /// The folder as the committable has it.
    directory_text: String,
    /// The names without and with what tells the kind of file.
    name: PartName,
    /// Until it is whole.
    file: Option<File>,
    encoder: Box<dyn PartEncoder<T>>,
    /// Encoded, and not yet handed to the file.
    buffer: Vec<u8>,
    /// What the file has.
    length: u64,
    /// When it was begun.
    pub(super) began: MonotonicTime,
    /// When it was last written to.
    pub(super) written: MonotonicTime,
    /// Whether a snapshot may hold it: then it is never deleted.
    is_in_snapshot: bool,
}

/// The name that a file will have.
pub(super) struct PartName {
    pub(super) stem: String,
    /// With its dot, or empty.
    pub(super) suffix: String,
}

impl PartName {
    fn whole(&self) -> String {
        format!("{}{}", self.stem, self.suffix)
    }

    /// The name of the first so many bytes, where the rest is not to be seen.
    fn cut_at(&self, length: u64) -> String {
        format!("{}-cut-{length}{}", self.stem, self.suffix)
    }
}

impl<T> OpenPart<T> {
    /// Begins a file that must not be there yet, in a folder that is.
    pub(super) fn create(
        directory: PathBuf,
        directory_text: String,
        name: PartName,
        encoder: Box<dyn PartEncoder<T>>,
        now: MonotonicTime,
    ) -> Result<Self, ConnectorError> {
        let path = directory.join(staged_name(&name.whole()));
        let file = directory::create_new(&path)
            .map_err(|cause| ConnectorError::caused(format!("cannot create the file `{}`", path.display()), cause))?;
        Ok(Self {
            directory,
            directory_text,
            name,
            file: Some(file),
            encoder,
            buffer: Vec::new(),
            length: 0,
            began: now,
            written: now,
            is_in_snapshot: false,
        })
    }

    /// About how many bytes the file will have.
    pub(super) fn bytes(&self) -> u64 {
        self.length + self.buffer.len() as u64 + self.encoder.held_bytes()
    }

    pub(super) fn append(&mut self, records: &[T], now: MonotonicTime) -> Result<(), ConnectorError> {
        self.written = now;
        self.encoder
            .encode(records, &mut self.buffer)
            .map_err(|cause| self.cannot_encode(cause))?;
        if self.buffer.len() >= BUFFER_BYTES {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Makes all that was written durable, and goes on. What is returned holds the file as it is now.
    pub(super) fn hold(&mut self) -> Result<FileCommittable, ConnectorError> {
        self.hand_over()?;
        self.synchronise()?;
        self.is_in_snapshot = true;
        Ok(FileCommittable {
            directory: self.directory_text.clone(),
            staged: staged_name(&self.name.whole()),
            name: self.name.cut_at(self.length),
            length: self.length,
            is_unfinished: true,
        })
    }

    /// Ends the file and makes it durable, under its hidden name.
    pub(super) fn close(&mut self) -> Result<(), ConnectorError> {
        self.encoder
            .finish(&mut self.buffer)
            .map_err(|cause| self.cannot_encode(cause))?;
        self.hand_over()?;
        self.synchronise()?;
        self.file = None;
        Ok(())
    }

    /// A file that is whole, for the snapshot.
    pub(super) fn into_committable(mut self) -> FileCommittable {
        self.is_in_snapshot = true;
        FileCommittable {
            directory: self.directory_text.clone(),
            staged: staged_name(&self.name.whole()),
            name: self.name.whole(),
            length: self.length,
            is_unfinished: false,
        }
    }

    fn hand_over(&mut self) -> Result<(), ConnectorError> {
        let written = self.open_file()?.write_all(&self.buffer);
        written.map_err(|cause| self.cannot_write(cause))?;
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn synchronise(&self) -> Result<(), ConnectorError> {
        let synchronised = self.open_file()?.sync_all();
        synchronised.map_err(|cause| self.cannot_write(cause))?;
        directory::synchronise(&self.directory)
    }

    fn open_file(&self) -> Result<&File, ConnectorError> {
        let ended = || self.cannot_write(io::Error::other("it has been ended"));
        self.file.as_ref().ok_or_else(ended)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(staged_name(&self.name.whole()))
    }

    fn cannot_write(&self, cause: io::Error) -> ConnectorError {
        ConnectorError::caused(format!("cannot write the file `{}`", self.path().display()), cause)
    }

    fn cannot_encode(&self, cause: super::encoder::EncodeError) -> ConnectorError {
        let message = format!("cannot encode a record for the file `{}`", self.path().display());
        ConnectorError::caused(message, cause)
    }
}

impl<T> Drop for OpenPart<T> {
    /// Removes a file that no snapshot can hold.
    fn drop(&mut self) {
        if !self.is_in_snapshot {
            // If this fails, or the process dies first, a hidden file stays that nobody reads.
            let _ = fs::remove_file(self.path());
        }
    }
}
