//! Results on stdout, everything else on stderr.

use std::io::{Stderr, Stdout, Write};

use serde::Serialize;

use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::text::printable;

/// Where a command writes.
pub struct Output {
    format: OutputFormat,
    stdout: Stdout,
    stderr: Stderr,
}

impl Output {
    /// The output of this process.
    pub fn new(format: OutputFormat) -> Self {
        Self {
            format,
            stdout: std::io::stdout(),
            stderr: std::io::stderr(),
        }
    }

    /// How results are printed.
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    /// A line for people; nothing where the output is for programs. Control characters are escaped.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Text => self.write(&printable(text)),
            OutputFormat::Json => Ok(()),
        }
    }

    /// A line for people about what is to be done now, and will be, whether anybody reads or not.
    pub fn announce(&mut self, text: &str) -> Result<(), Failure> {
        match self.line(text) {
            Err(Failure::ReaderGone) => Ok(()),
            told => told,
        }
    }

    /// An object for programs; nothing where the output is for people.
    pub fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Text => Ok(()),
            OutputFormat::Json => self.write(&serde_json::to_string(object).expect("results are plain data")),
        }
    }

    /// A text of several lines that is safe to print, in either format.
    pub fn raw(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = self.stdout.lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// A line on stderr.
    pub fn note(&mut self, text: &str) {
        // Notes are a courtesy: where stderr is closed there is nobody to read them.
        drop(writeln!(self.stderr.lock(), "{}", printable(text)));
    }

    fn write(&mut self, line: &str) -> Result<(), Failure> {
        let mut stdout = self.stdout.lock();
        writeln!(stdout, "{line}")?;
        Ok(stdout.flush()?)
    }
}
