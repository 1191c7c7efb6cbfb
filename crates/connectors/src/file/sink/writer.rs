//! Writes the files of one subtask.

use std::collections::BTreeMap;
use std::path::PathBuf;

use streamd_core::sink::{SinkContext, SinkWriter, WriteContext};
use streamd_core::source::ConnectorError;
use streamd_core::time::EventTime;

use super::bucket;
use super::builder::FileSink;
use super::committable::FileCommittable;
use super::directory;
use super::part::{OpenPart, PartName};

/// The longest part of a file name that comes from the operator: file systems allow 255 bytes in all.
const MAX_OPERATOR_CHARS: usize = 120;

/// Writes the files of one subtask: one at a time in each bucket.
pub struct FileWriter<T> {
    sink: FileSink<T>,
    directory: PathBuf,
    /// The part of the names that no other writer has.
    stem: String,
    /// How many files were begun.
    files: u64,
    /// The files that are being written, by bucket.
    open: BTreeMap<String, OpenPart<T>>,
    /// Files that ended since the last checkpoint.
    closed: Vec<OpenPart<T>>,
    /// Whether no file may live through the next checkpoint.
    ends_all: bool,
    /// Set by the first error: what then reached the disk is unknown, so nothing more is written or prepared.
    has_failed: bool,
}

impl<T> FileWriter<T> {
    pub(super) fn new(sink: FileSink<T>, context: &SinkContext) -> Result<Self, ConnectorError> {
        let directory = sink.absolute_directory()?;
        let operator = file_name_part(&context.operator);
        let stem = format!(
            "{}-{operator}-{}-{}",
            sink.name_prefix(),
            context.subtask.index,
            file_name_part(&context.nonce)
        );
        directory::prepare(&directory, &format!(".{stem}.probe"))?;
        Ok(Self {
            sink,
            directory,
            stem,
            files: 0,
            open: BTreeMap::new(),
            closed: Vec::new(),
            ends_all: false,
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

    fn append(&mut self, batch: &mut Vec<T>, times: &WriteContext<'_>) -> Result<(), ConnectorError> {
        let now = self.sink.time().wall();
        if let Some(bucket) = self.sink.bucketing().of_all(now) {
            self.append_to(bucket, batch)?;
            batch.clear();
            return Ok(());
        }
        for (bucket, records) in self.sink.bucketing().spread(batch, times, now)? {
            self.append_to(bucket, &records)?;
        }
        Ok(())
    }

    fn append_to(&mut self, bucket: String, records: &[T]) -> Result<(), ConnectorError> {
        let mut part = match self.open.remove(&bucket) {
            // It was left alone, or is old, since it was last looked at.
            Some(part) if self.is_due(&part) => {
                self.close(part)?;
                self.create(&bucket)?
            }
            Some(part) => part,
            None => {
                self.make_room()?;
                self.create(&bucket)?
            }
        };
        part.append(records, self.sink.time().monotonic())?;
        if self.is_due(&part) {
            self.close(part)?;
        } else {
            self.open.insert(bucket, part);
        }
        Ok(())
    }

    fn close(&mut self, mut part: OpenPart<T>) -> Result<(), ConnectorError> {
        part.close()?;
        self.closed.push(part);
        Ok(())
    }

    fn is_due(&self, part: &OpenPart<T>) -> bool {
        let now = self.sink.time().monotonic();
        self.sink
            .rolling_policy()
            .is_due(part.bytes(), part.began, part.written, now)
    }

    /// Ends the file that was written to the longest time ago if there are as many as may be.
    fn make_room(&mut self) -> Result<(), ConnectorError> {
        if self.open.len() < self.sink.most_open_buckets() {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, part)| part.written);
        let oldest = oldest.map(|(bucket, _)| bucket.clone());
        if let Some(part) = oldest.and_then(|bucket| self.open.remove(&bucket)) {
            self.close(part)?;
        }
        Ok(())
    }

    fn create(&mut self, bucket: &str) -> Result<OpenPart<T>, ConnectorError> {
        bucket::check_name(bucket)?;
        let directory = match bucket {
            "" => self.directory.clone(),
            bucket => self.directory.join(bucket),
        };
        directory::create_below(&self.directory, &directory)?;
        let directory_text = self.sink.directory_text(&directory)?;
        let name = PartName {
            stem: format!("{}-{}", self.stem, self.files),
            suffix: self.sink.name_suffix(),
        };
        self.files += 1;
        let encoder = self
            .sink
            .format()
            .encoder()
            .map_err(|cause| ConnectorError::caused(format!("cannot begin the file `{}`", name.stem), cause))?;
        OpenPart::create(directory, directory_text, name, encoder, self.sink.time().monotonic())
    }

    fn prepare(&mut self) -> Result<Vec<FileCommittable>, ConnectorError> {
        let ends_all = std::mem::take(&mut self.ends_all)
            || self.sink.rolling_policy().rolls_on_checkpoint()
            || !self.sink.format().is_whole_after_each_batch();
        for (bucket, part) in std::mem::take(&mut self.open) {
            if ends_all || self.is_due(&part) {
                self.close(part)?;
            } else {
                self.open.insert(bucket, part);
            }
        }
        Ok(self.closed.drain(..).map(OpenPart::into_committable).collect())
    }

    fn hold_open(&mut self) -> Result<Vec<FileCommittable>, ConnectorError> {
        self.open.values_mut().map(OpenPart::hold).collect()
    }
}

impl<T: Send + 'static> SinkWriter for FileWriter<T> {
    type In = T;
    type Committable = FileCommittable;

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        self.write_in_time(batch, &WriteContext::new(&[], EventTime::MIN))
    }

    fn write_in_time(&mut self, batch: &mut Vec<T>, context: &WriteContext<'_>) -> Result<(), ConnectorError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.guarded(|writer| writer.append(batch, context))
    }

    fn leave_nothing_unfinished(&mut self) {
        self.ends_all = true;
    }

    fn prepare_commit(&mut self) -> Result<Vec<FileCommittable>, ConnectorError> {
        self.guarded(Self::prepare)
    }

    fn unfinished(&mut self) -> Result<Vec<FileCommittable>, ConnectorError> {
        self.guarded(Self::hold_open)
    }
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
