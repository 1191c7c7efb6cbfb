//! How an application names the files that it reads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use streamd_core::graph::Guarantee;
use streamd_core::source::{ConnectorError, Source};
use streamd_core::time::{Clock, SystemClock};

use super::csv::Csv;
use super::format::Format;
use super::json::JsonLines;
use super::listing;
use super::monitor::MonitoredFiles;
use super::reader::FileReader;
use super::split::FileSplit;
use super::text::TextLines;
#[cfg(feature = "parquet")]
use crate::file::parquet::Parquet;

/// The size of splits that is aimed at: seconds of work at most, so that subtasks end at about the same time.
const SPLIT_BYTES: u64 = 4 * 1024 * 1024;

/// Reads a file, or all files of a folder and of the folders in it, in the order of their names.
///
/// Files and folders whose names begin with `.` or `_` are passed over. The input is what is there when the job starts:
/// later files and bytes are not read, unless the folder is [monitored](Self::monitor_continuously). Files named `.gz`, `.zst` or `.lz4` are
/// decompressed. Every process of the job must see the files under the same path.
///
/// Guarantee: exactly-once.
///
/// ```
/// # use streamd_connectors::FileSource;
/// #[derive(serde::Deserialize)]
/// struct Flight { date: String, delay: i32 }
///
/// let flights = FileSource::csv::<Flight>("flights/").rate(1000);
/// ```
#[derive(Clone)]
pub struct FileSource<F = TextLines> {
    path: PathBuf,
    format: F,
    split_bytes: u64,
    records_per_second: u64,
    clock: Option<Arc<dyn Clock>>,
}

impl FileSource<TextLines> {
    /// Lines of text (see [`TextLines`]).
    pub fn text_lines(path: impl Into<PathBuf>) -> Self {
        Self::with_format(path, TextLines)
    }

    /// Rows of comma-separated values under a header row (see [`Csv`]).
    pub fn csv<T: DeserializeOwned + Send + 'static>(path: impl Into<PathBuf>) -> FileSource<Csv<T>> {
        FileSource::with_format(path, Csv::new())
    }

    /// Lines that each hold one JSON value (see [`JsonLines`]).
    pub fn json_lines<T: DeserializeOwned + Send + 'static>(path: impl Into<PathBuf>) -> FileSource<JsonLines<T>> {
        FileSource::with_format(path, JsonLines::new())
    }
}

#[cfg(feature = "parquet")]
impl FileSource<TextLines> {
    /// Rows of Parquet files (see [`parquet`](mod@crate::file::parquet)). Needs the feature `parquet`.
    pub fn parquet<T: DeserializeOwned + Send + 'static>(path: impl Into<PathBuf>) -> FileSource<Parquet<T>> {
        FileSource::with_format(path, Parquet::new())
    }
}

impl<F: Format> FileSource<F> {
    /// Files of any [`Format`].
    pub fn with_format(path: impl Into<PathBuf>, format: F) -> Self {
        Self {
            path: path.into(),
            format,
            split_bytes: SPLIT_BYTES,
            records_per_second: 0,
            clock: None,
        }
    }

    /// Paces the source to this many records per second in each of its subtasks. 0, the default: as fast as can be.
    pub fn rate(mut self, records_per_second: u64) -> Self {
        self.records_per_second = records_per_second;
        self
    }

    /// Cuts files into splits of about this size, in bytes (default 4 MiB), if the format can be cut. An input of more than
    /// 65,536 such splits is cut into larger ones.
    pub fn split_size(mut self, bytes: u64) -> Self {
        self.split_bytes = bytes;
        self
    }

    /// Reads on for ever: looks into the folder after each `interval`, and reads the files that have come (see
    /// [`monitor`](super::monitor)). Each file is read by one subtask, from its start to its end.
    #[must_use]
    pub fn monitor_continuously(self, interval: Duration) -> MonitoredFiles<F> {
        MonitoredFiles {
            path: self.path,
            format: self.format,
            interval,
            records_per_second: self.records_per_second,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            lanes: None,
        }
    }

    /// Paces by this clock instead of the machine's: for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }
}

impl<F: Format> Source for FileSource<F> {
    type Out = F::Out;
    type Split = FileSplit;
    type Reader = FileReader<F>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, _parallelism: u32) -> Result<Vec<FileSplit>, ConnectorError> {
        listing::enumerate(&self.path, &self.format, self.split_bytes)
    }

    fn reader(&self) -> Result<FileReader<F>, ConnectorError> {
        let clock = self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::new()));
        Ok(FileReader::new(self.format.clone(), self.records_per_second, clock))
    }
}
