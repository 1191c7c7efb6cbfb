//! How an application says where its output goes.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use streamd_core::graph::Guarantee;
use streamd_core::sink::{Sink, SinkContext};
use streamd_core::source::ConnectorError;
use streamd_core::time::{Clock, SystemClock};

use super::bucket::{BucketContext, Bucketing};
use super::committable::FileCommittable;
use super::directory;
use super::encoder::{self, EncodeError, PartFormat, RowFormat};
use super::rolling::RollingPolicy;
use super::time_pattern::TimePattern;
use super::writer::FileWriter;
use crate::file::place::from_root;

/// The files that one subtask writes at once: each has a descriptor, of which processes often have 1024 and connections need
/// some, and up to 256 KiB of encoded records.
const OPEN_BUCKETS: usize = 100;

/// Writes records into files of a folder, in one file for each subtask, bucket and interval between checkpoints that has
/// records, or in larger or smaller ones by a [`RollingPolicy`].
///
/// Files in the making are hidden; complete ones are named `part-<operator>-<subtask>-<nonce>-<number>.<extension>`. The
/// folder is created if it is not there. Every process of the job must see it under the same path.
///
/// Guarantee: exactly-once. Without checkpoints, files become visible only at the end of the job.
///
/// ```
/// # use std::time::Duration;
/// # use streamd_connectors::FileSink;
/// # use streamd_connectors::file::sink::RollingPolicy;
/// let results = FileSink::<String>::text("results/");
/// let by_country = FileSink::<(String, f64)>::csv("numbers/")
///     .bucket_by(|(country, _)| format!("country={country}"))
///     .rolling(RollingPolicy::by_size_and_time().rollover_interval(Duration::from_secs(600)));
/// let hourly = FileSink::<(String, f64)>::json_lines("events/").bucket_by_time("yyyy-MM-dd--HH");
/// ```
pub struct FileSink<T> {
    directory: PathBuf,
    extension: String,
    format: Arc<dyn PartFormat<T>>,
    rolling: RollingPolicy,
    bucketing: Bucketing<T>,
    part_prefix: String,
    most_open_buckets: usize,
    clock: Arc<dyn Clock>,
    /// What was wrong with an option: told by `check`, and by `writer`.
    mistake: Option<String>,
}

impl<T: Display + Send + 'static> FileSink<T> {
    /// Lines of text, as [`Display`] shows the records, in files named `.txt`.
    pub fn text(directory: impl Into<PathBuf>) -> Self {
        Self::with_batch_encoder(directory, "txt", encoder::text::<T>)
    }
}

impl<T: Serialize + Send + 'static> FileSink<T> {
    /// Comma-separated values under a row with the names of the fields, in files named `.csv`.
    pub fn csv(directory: impl Into<PathBuf>) -> Self {
        Self::with_batch_encoder(directory, "csv", encoder::csv::<T>)
    }

    /// JSON values, one per line, in files named `.jsonl`.
    pub fn json_lines(directory: impl Into<PathBuf>) -> Self {
        Self::with_batch_encoder(directory, "jsonl", encoder::json_lines::<T>)
    }
}

#[cfg(feature = "parquet")]
impl<T: Serialize + serde::de::DeserializeOwned + Send + 'static> FileSink<T> {
    /// Parquet, in files named `.parquet` (see [`parquet`](mod@crate::file::parquet)). Needs the feature `parquet`.
    pub fn parquet(directory: impl Into<PathBuf>) -> Self {
        use crate::file::parquet::ParquetParts;
        match ParquetParts::new() {
            Ok(format) => Self::with_format(directory, "parquet", format),
            Err(reason) => Self {
                mistake: Some(reason.to_string()),
                ..Self::with_format(directory, "parquet", ParquetParts::<T>::none())
            },
        }
    }
}

impl<T: Send + 'static> FileSink<T> {
    /// A format of your own: `encode` appends one record, with its line end if it has one.
    pub fn with_encoder<E>(directory: impl Into<PathBuf>, extension: impl Into<String>, encode: E) -> Self
    where
        E: Fn(&T, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync + 'static,
    {
        Self::with_batch_encoder(directory, extension, move |records, _is_first, bytes| {
            records.iter().try_for_each(|record| encode(record, bytes))
        })
    }

    /// A format of your own that encodes many records at once (see [`EncodeBatch`](super::encoder::EncodeBatch)).
    pub fn with_batch_encoder<E>(directory: impl Into<PathBuf>, extension: impl Into<String>, encode: E) -> Self
    where
        E: Fn(&[T], bool, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync + 'static,
    {
        Self::with_format(directory, extension, RowFormat(Arc::new(encode)))
    }

    /// A format of your own that keeps something from record to record, or ends files with something.
    pub fn with_format<F>(directory: impl Into<PathBuf>, extension: impl Into<String>, format: F) -> Self
    where
        F: PartFormat<T> + 'static,
    {
        Self {
            directory: directory.into(),
            extension: extension.into(),
            format: Arc::new(format),
            rolling: RollingPolicy::default(),
            bucketing: Bucketing::None,
            part_prefix: "part".to_owned(),
            most_open_buckets: OPEN_BUCKETS,
            clock: Arc::new(SystemClock::new()),
            mistake: None,
        }
    }
}

impl<T> FileSink<T> {
    /// Says when files end. Without it: at every checkpoint.
    #[must_use]
    pub fn rolling(mut self, policy: RollingPolicy) -> Self {
        self.rolling = policy;
        self
    }

    /// Writes each record into the folder below the output folder that the function names, such as `country=DE/2026`. An empty
    /// name is the output folder itself.
    #[must_use]
    pub fn bucket_by(mut self, name: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.bucketing = Bucketing::ByRecord(Arc::new(move |record: &T, _: &BucketContext| name(record)));
        self
    }

    /// As [`bucket_by`](Self::bucket_by), with what is known of the record's time. Flink's `BucketAssigner`.
    #[must_use]
    pub fn bucket_by_context(mut self, name: impl Fn(&T, &BucketContext) -> String + Send + Sync + 'static) -> Self {
        self.bucketing = Bucketing::ByRecord(Arc::new(name));
        self
    }

    /// Writes records into folders named by their timestamps, in UTC (see [`TimePattern`]). A record without a timestamp fails the job.
    #[must_use]
    pub fn bucket_by_event_time(mut self, pattern: &str) -> Self {
        match TimePattern::parse(pattern) {
            Ok(pattern) => self.bucketing = Bucketing::ByEventTime(pattern),
            Err(error) => self.mistake = Some(error.to_string()),
        }
        self
    }

    /// Writes records into folders named by the time of day at which they are written, in UTC (see [`TimePattern`]).
    #[must_use]
    pub fn bucket_by_time(mut self, pattern: &str) -> Self {
        match TimePattern::parse(pattern) {
            Ok(pattern) => self.bucketing = Bucketing::ByTime(pattern),
            Err(error) => self.mistake = Some(error.to_string()),
        }
        self
    }

    /// Begins the names of files with this instead of `part`.
    #[must_use]
    pub fn part_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.part_prefix = prefix.into();
        if self.part_prefix.is_empty() || !is_fit_for_names(&self.part_prefix) {
            self.mistake = Some(cannot_name("begin", &self.part_prefix));
        }
        self
    }

    /// Ends the names of files with this, after a dot; with nothing if it is empty.
    #[must_use]
    pub fn extension(mut self, extension: impl Into<String>) -> Self {
        self.extension = extension.into();
        if !is_fit_for_names(&self.extension) {
            self.mistake = Some(cannot_name("end", &self.extension));
        }
        self
    }

    /// Lets each subtask write to so many buckets at once (at least 1; the default is 100). One more ends the file that was not
    /// written to for the longest time.
    #[must_use]
    pub fn max_open_buckets(mut self, buckets: usize) -> Self {
        self.most_open_buckets = buckets.max(1);
        self
    }

    /// Takes the time from this clock instead of the machine's: for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    pub(super) fn format(&self) -> &dyn PartFormat<T> {
        &*self.format
    }

    pub(super) fn rolling_policy(&self) -> &RollingPolicy {
        &self.rolling
    }

    pub(super) fn bucketing(&self) -> &Bucketing<T> {
        &self.bucketing
    }

    pub(super) fn name_prefix(&self) -> &str {
        &self.part_prefix
    }

    /// The end of names, with its dot.
    pub(super) fn name_suffix(&self) -> String {
        match &*self.extension {
            "" => String::new(),
            extension => format!(".{extension}"),
        }
    }

    pub(super) fn most_open_buckets(&self) -> usize {
        self.most_open_buckets
    }

    pub(super) fn time(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn absolute_directory(&self) -> Result<PathBuf, ConnectorError> {
        from_root("output folder", &self.directory)
    }

    pub(super) fn directory_text(&self, directory: &Path) -> Result<String, ConnectorError> {
        directory.to_str().map(str::to_owned).ok_or_else(|| {
            ConnectorError::new(format!(
                "the path of the output folder `{}` is not UTF-8",
                directory.display()
            ))
        })
    }

    fn check_options(&self) -> Result<(), ConnectorError> {
        self.mistake
            .clone()
            .map_or(Ok(()), |mistake| Err(ConnectorError::new(mistake)))
    }
}

/// Whether the text may be a part of a file name that readers do not pass over.
fn is_fit_for_names(text: &str) -> bool {
    text.len() <= 64 && !text.starts_with(['.', '_']) && !text.contains(|c: char| c.is_control() || "/\\".contains(c))
}

fn cannot_name(verb: &str, text: &str) -> String {
    format!(
        "the names of output files cannot {verb} with `{}`: that must have at most 64 bytes, begin with neither `.` nor `_`, and hold \
         no `/`, `\\` or control character",
        text.escape_debug()
    )
}

impl<T> Clone for FileSink<T> {
    fn clone(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            extension: self.extension.clone(),
            format: self.format.clone(),
            rolling: self.rolling.clone(),
            bucketing: self.bucketing.clone(),
            part_prefix: self.part_prefix.clone(),
            most_open_buckets: self.most_open_buckets,
            clock: self.clock.clone(),
            mistake: self.mistake.clone(),
        }
    }
}

impl<T: Send + 'static> Sink for FileSink<T> {
    type In = T;
    type Committable = FileCommittable;
    type Writer = FileWriter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    /// Errors if an option makes no sense, or the path is relative on a cluster, is not UTF-8, or leads to or through something that
    /// is no folder.
    fn check(&self) -> Result<(), ConnectorError> {
        self.check_options()?;
        let directory = self.absolute_directory()?;
        self.directory_text(&directory)?;
        directory::check(&directory)
    }

    fn writer(&self, context: &SinkContext) -> Result<FileWriter<T>, ConnectorError> {
        self.check_options()?;
        FileWriter::new(self.clone(), context)
    }

    fn commit(&self, committables: &[FileCommittable]) -> Result<(), ConnectorError> {
        committables.iter().try_for_each(FileCommittable::commit)?;
        // Also for files that had their names already: whoever renamed them may have died before this.
        let directories: BTreeSet<&str> = committables.iter().map(|file| file.directory.as_str()).collect();
        directories
            .into_iter()
            .try_for_each(|path| directory::synchronise(Path::new(path)))
    }
}
