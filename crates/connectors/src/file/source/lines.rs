//! Cuts a file into lines, and decodes each into a record.

use std::io::{Read, Seek, SeekFrom};

use memchr::memchr;
use streamd_core::source::ConnectorError;

use super::format::Decoder;
use super::input::Input;
use super::split::FileSplit;

/// What is read from the file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// The longest line. A longer one is a file of another kind, and would fill the memory.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// The byte-order mark that some editors write before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A format with one record per line.
pub trait LineFormat: Clone + Send + 'static {
    /// The records.
    type Out: Send + 'static;

    /// The record of a line, which comes without its end; `None` passes over the line.
    fn record(&self, line: &[u8]) -> Result<Option<Self::Out>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Decodes the lines that begin in a split.
#[derive(Debug)]
pub struct LineDecoder<L> {
    lines: Lines,
    format: L,
}

impl<L: LineFormat> LineDecoder<L> {
    /// Opens the split where it was left.
    pub fn open(split: &FileSplit, format: L) -> Result<Self, ConnectorError> {
        let lines = Lines::open(split)?;
        Ok(Self { lines, format })
    }
}

impl<L: LineFormat> Decoder for LineDecoder<L> {
    type Out = L::Out;

    fn decode(&mut self, out: &mut Vec<L::Out>, limit: usize) -> Result<usize, ConnectorError> {
        let mut count = 0;
        while count < limit {
            let Some((offset, line)) = self.lines.next()? else {
                break;
            };
            match self.format.record(line) {
                Ok(Some(record)) => {
                    out.push(record);
                    count += 1;
                }
                Ok(None) => {}
                Err(cause) => {
                    let line = line.to_vec();
                    return Err(self.lines.input.bad_record(offset, &line, cause));
                }
            }
        }
        Ok(count)
    }

    fn position(&self) -> u64 {
        self.lines.offset
    }
}

/// The lines that begin before the end of a split. Each is a slice of one large buffer.
#[derive(Debug)]
struct Lines {
    input: Input,
    buffer: Vec<u8>,
    /// `buffer[unread..filled]` has been read from the file and not yet returned.
    unread: usize,
    filled: usize,
    /// The place of `buffer[unread]` in the file.
    offset: u64,
    /// Lines from here on belong to another split.
    end: u64,
}

impl Lines {
    fn open(split: &FileSplit) -> Result<Self, ConnectorError> {
        let input = Input::open(split)?;
        // Within the file, a split begins with the first line that begins in it. Whether one begins with the very first
        // byte only the byte before can tell.
        let is_inside_line = split.position == split.start && split.start > 0;
        let mut lines = Self {
            input,
            buffer: vec![0; BUFFER_BYTES],
            unread: 0,
            filled: 0,
            offset: split.position - u64::from(is_inside_line),
            end: split.end,
        };
        let offset = lines.offset;
        lines
            .input
            .seek(SeekFrom::Start(offset))
            .map_err(|cause| lines.input.failed(cause))?;
        if is_inside_line {
            lines.next()?;
        } else if offset == 0 {
            lines.skip_byte_order_mark()?;
        }
        Ok(lines)
    }

    /// The next line without its end, and its place in the file.
    fn next(&mut self) -> Result<Option<(u64, &[u8])>, ConnectorError> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let length = match memchr(b'\n', &self.buffer[self.unread..self.filled]) {
            Some(at) => at + 1,
            None => self.read_to_line_end()?,
        };
        if length == 0 {
            // The end of compressed content, which only reading finds.
            self.offset = self.end;
            return Ok(None);
        }
        let (offset, start) = (self.offset, self.unread);
        self.offset += length as u64;
        self.unread += length;
        Ok(Some((offset, without_end(&self.buffer[start..start + length]))))
    }

    /// Reads until the buffer holds a whole line, or the last one; returns its length with its end.
    fn read_to_line_end(&mut self) -> Result<usize, ConnectorError> {
        loop {
            let searched = self.filled - self.unread;
            if self.input.is_at_end() {
                return Ok(searched);
            }
            self.read_more()?;
            if let Some(at) = memchr(b'\n', &self.buffer[self.unread + searched..self.filled]) {
                return Ok(searched + at + 1);
            }
        }
    }

    /// Reads once, after moving the unread bytes to the front, or growing the buffer if they fill it.
    fn read_more(&mut self) -> Result<(), ConnectorError> {
        self.buffer.copy_within(self.unread..self.filled, 0);
        self.filled -= self.unread;
        self.unread = 0;
        if self.filled == self.buffer.len() {
            if self.filled >= MAX_LINE_BYTES {
                let cause = format!("the line is longer than {MAX_LINE_BYTES} bytes");
                return Err(self.input.bad_record(self.offset, &self.buffer, cause));
            }
            self.buffer.resize(2 * self.filled, 0);
        }
        let count = self.input.read(&mut self.buffer[self.filled..]);
        self.filled += count.map_err(|cause| self.input.failed(cause))?;
        Ok(())
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), ConnectorError> {
        while self.filled < BYTE_ORDER_MARK.len() && !self.input.is_at_end() {
            self.read_more()?;
        }
        if self.buffer[..self.filled].starts_with(BYTE_ORDER_MARK) {
            self.unread = BYTE_ORDER_MARK.len();
            self.offset = BYTE_ORDER_MARK.len() as u64;
        }
        Ok(())
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let Some(line) = line.strip_suffix(b"\n") else {
        return line;
    };
    line.strip_suffix(b"\r").unwrap_or(line)
}
