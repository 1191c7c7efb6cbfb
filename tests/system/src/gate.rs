//! A gate before the end of an application's input: it is the test that says when the end comes.

use std::fs;
use std::path::PathBuf;

use crate::files::text;

/// A gate that the sources of `torture` and `evolving` stop at, until it is opened.
///
/// Without one, a test that wants to find a job running has to look before the job has read all that there is, and how long
/// that takes is up to the machine.
#[derive(Debug)]
pub struct Gate(PathBuf);

impl Gate {
    /// A gate that is closed, in this file.
    pub fn closed(file: PathBuf) -> Self {
        fs::write(&file, "").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self(file)
    }

    /// Lets the rest of the input through.
    pub fn open(self) {
        fs::remove_file(&self.0).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
    }

    /// The arguments with which an application stops before the record of this number.
    pub fn arguments(&self, number: u64) -> [String; 4] {
        ["--hold-at", &number.to_string(), "--hold-while", &text(&self.0)].map(str::to_owned)
    }
}
