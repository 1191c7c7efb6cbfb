//! The bytes of a file as they were when the source listed it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use streamd_core::source::ConnectorError;

use super::split::{FileSplit, HEAD_BYTES, fingerprint};

/// An open file that ends where it ended when it was listed, however much has been appended since.
#[derive(Debug)]
pub struct Input {
    file: File,
    path: String,
    offset: u64,
    length: u64,
}

impl Input {
    /// Opens the file of a split, at its first byte.
    ///
    /// Errors if the file is gone, shorter than it was, or another one.
    pub fn open(split: &FileSplit) -> Result<Self, ConnectorError> {
        let path = &split.path;
        let cannot_read = |cause| ConnectorError::caused(format!("cannot read the file `{path}`"), cause);
        let mut file = File::open(path).map_err(cannot_read)?;
        let now = file.metadata().map_err(cannot_read)?.len();
        if now < split.length {
            return Err(ConnectorError::new(format!(
                "the file `{path}` has {now} bytes where it had {} when the job started: \
                 the records from byte {} on cannot be read",
                split.length, split.position
            )));
        }
        let mut head = Vec::new();
        let head_length = HEAD_BYTES.min(split.length);
        (&mut file)
            .take(head_length)
            .read_to_end(&mut head)
            .and_then(|_| file.seek(SeekFrom::Start(0)))
            .map_err(cannot_read)?;
        if fingerprint(&head) != split.head {
            return Err(ConnectorError::new(format!(
                "the file `{path}` is not the one that was there when the job started: its first {head_length} bytes \
                 have changed, and byte {} is no longer where the next record begins",
                split.position
            )));
        }
        Ok(Self {
            file,
            path: path.clone(),
            offset: 0,
            length: split.length,
        })
    }

    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the next byte lies beyond the end.
    pub fn is_at_end(&self) -> bool {
        self.offset >= self.length
    }

    /// An error about a record of this file.
    pub fn bad_record(
        &self,
        offset: u64,
        record: &[u8],
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ConnectorError {
        let shown = shorten(record);
        let message = format!(
            "cannot read the record at byte {offset} of the file `{}`: `{shown}`",
            self.path
        );
        ConnectorError::caused(message, cause)
    }

    /// An error from reading or seeking.
    pub fn failed(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ConnectorError {
        let message = format!("cannot read the file `{}` at byte {}", self.path, self.offset);
        ConnectorError::caused(message, cause)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 {
            let message = format!("the file now ends here, {left} bytes earlier than when the job started");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.offset += count as u64;
        Ok(count)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.offset = self.file.seek(to)?;
        Ok(self.offset)
    }
}

/// The start of a record, fit for one line of a message.
fn shorten(record: &[u8]) -> String {
    const MOST: usize = 80;
    let text = String::from_utf8_lossy(&record[..record.len().min(4 * MOST)]);
    let mut shown = String::new();
    for c in text.chars().take(MOST) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if text.chars().nth(MOST).is_some() || record.len() > 4 * MOST {
        shown.push('…');
    }
    shown
}
