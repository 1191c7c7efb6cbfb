//! The bytes of a file as they were when the source listed it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use streamd_core::source::ConnectorError;

use super::compression::{Compression, Packed};
use super::split::{FileSplit, HEAD_BYTES, fingerprint};

/// An open file that ends where it ended when it was listed, however much has been appended since. Of a file that is compressed,
/// it is the content that is read, and all offsets are in the content.
#[derive(Debug)]
pub struct Input {
    file: File,
    path: String,
    offset: u64,
    /// Of the file.
    length: u64,
    content: Option<Content>,
}

/// What is in a compressed file.
struct Content {
    compression: Compression,
    bytes: Box<dyn Read + Send>,
    is_at_end: bool,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({:?})", self.compression)
    }
}

impl Content {
    fn open(compression: Compression, file: &File, length: u64) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self {
            compression,
            bytes: compression.reader(Packed::new(file, length))?,
            is_at_end: false,
        })
    }
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
                "the file `{path}` has {now} bytes where it had {} when it was found: \
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
                "the file `{path}` is not the one that was there when it was found: its first {head_length} bytes \
                 have changed, and byte {} is no longer where the next record begins",
                split.position
            )));
        }
        let content = Compression::of(path)?
            .map(|compression| Content::open(compression, &file, split.length))
            .transpose()
            .map_err(cannot_read)?;
        Ok(Self {
            file,
            path: path.clone(),
            offset: 0,
            length: split.length,
            content,
        })
    }

    /// The file itself, for a format that has its table of contents at the end: it must be exactly as it was.
    pub fn open_unchanged(split: &FileSplit) -> Result<File, ConnectorError> {
        let input = Self::open(split)?;
        let now = input.file.metadata().map_err(|cause| input.failed(cause))?.len();
        if now != split.length {
            return Err(ConnectorError::new(format!(
                "the file `{}` has {now} bytes where it had {} when it was found",
                split.path, split.length
            )));
        }
        if input.content.is_some() {
            return Err(ConnectorError::new(format!(
                "the file `{}` is compressed as a whole, which a file of this format cannot be",
                split.path
            )));
        }
        Ok(input.file)
    }

    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the next byte lies beyond the end. Of a compressed file that is known only once a read has found nothing.
    pub fn is_at_end(&self) -> bool {
        match &self.content {
            None => self.offset >= self.length,
            Some(content) => content.is_at_end,
        }
    }

    /// An error about a record of this file.
    pub fn bad_record(
        &self,
        offset: u64,
        record: &[u8],
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ConnectorError {
        let shown = shorten(record);
        let message = match self.content {
            None => format!(
                "cannot read the record at byte {offset} of the file `{}`: `{shown}`",
                self.path
            ),
            Some(_) => format!(
                "cannot read the record at byte {offset} of the content of the compressed file `{}`: `{shown}`",
                self.path
            ),
        };
        ConnectorError::caused(message, cause)
    }

    /// An error from reading or seeking.
    pub fn failed(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ConnectorError {
        let (path, offset) = (&self.path, self.offset);
        let message = match &self.content {
            None => format!("cannot read the file `{path}` at byte {offset}"),
            Some(content) => format!(
                "cannot decompress the file `{path}` after byte {offset} of its content: it is damaged, incomplete or no {}",
                content.compression.name()
            ),
        };
        ConnectorError::caused(message, cause)
    }

    /// Passes over content up to an offset; from the start again if that lies behind.
    fn seek_in_content(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(target) => Some(target),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        let target = target.ok_or_else(|| io::Error::other("nobody knows where compressed content ends"))?;
        if let Some(content) = self.content.as_mut().filter(|_| target < self.offset) {
            *content = Content::open(content.compression, &self.file, self.length)?;
            self.offset = 0;
        }
        let wanted = target - self.offset;
        let passed = io::copy(&mut self.by_ref().take(wanted), &mut io::sink())?;
        if passed < wanted {
            let message = format!("its content ends before byte {target}, where reading is to go on");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(self.offset)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(content) = self.content.as_mut() {
            let count = content.bytes.read(buffer)?;
            content.is_at_end |= count == 0 && !buffer.is_empty();
            self.offset += count as u64;
            return Ok(count);
        }
        let left = usize::try_from(self.length.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 {
            let message = format!("the file now ends here, {left} bytes earlier than when it was found");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.offset += count as u64;
        Ok(count)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.content.is_some() {
            return self.seek_in_content(to);
        }
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
