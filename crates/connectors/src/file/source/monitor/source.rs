//! How an application names a folder that it reads for ever.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::graph::Guarantee;
use streamd_core::source::{ConnectorError, Source};
use streamd_core::time::Clock;

use super::lane::Lane;
use super::reader::{LaneReader, Looks};
use crate::file::place::from_root;
use crate::file::source::format::Format;

/// At least so many lanes: a job that begins small can be resumed with as many subtasks. A lane costs little.
const LANES: u32 = 32;

/// Reads all files of a folder, and of the folders in it, and every file that comes into them: made by
/// [`FileSource::monitor_continuously`](crate::FileSource::monitor_continuously). It does not end.
///
/// What it remembers of each file that is in the folder is in every snapshot, about 100 bytes: delete, or move away, what has been read.
#[derive(Clone)]
pub struct MonitoredFiles<F> {
    pub(in crate::file::source) path: PathBuf,
    pub(in crate::file::source) format: F,
    pub(in crate::file::source) interval: Duration,
    pub(in crate::file::source) records_per_second: u64,
    pub(in crate::file::source) clock: Arc<dyn Clock>,
    pub(in crate::file::source) lanes: Option<u32>,
}

impl<F> MonitoredFiles<F> {
    /// Spreads the files over so many lanes, at least 1, instead of over 32 or as many as there are subtasks at first. A job that is
    /// resumed with more subtasks than lanes leaves some of them without work.
    #[must_use]
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = Some(lanes.max(1));
        self
    }
}

impl<F: Format> Source for MonitoredFiles<F> {
    type Out = F::Out;
    type Split = Lane;
    type Reader = LaneReader<F>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    /// Errors if the folder is none or cannot be read. It may be empty.
    fn enumerate(&self, parallelism: u32) -> Result<Vec<Lane>, ConnectorError> {
        let folder = from_root("input folder", &self.path)?;
        let listed = std::fs::read_dir(&folder);
        listed.map_err(|cause| {
            ConnectorError::caused(format!("cannot read the input folder `{}`", folder.display()), cause)
        })?;
        let folder = folder.to_str().ok_or_else(|| {
            ConnectorError::new(format!(
                "the path of the input folder `{}` is not UTF-8",
                folder.display()
            ))
        })?;
        let lanes = self.lanes.unwrap_or(parallelism.max(LANES));
        let lane = |number| Lane {
            folder: folder.to_owned(),
            number,
            lanes,
            files: Vec::new(),
        };
        Ok((0..lanes).map(lane).collect())
    }

    fn reader(&self) -> Result<LaneReader<F>, ConnectorError> {
        let looks = Looks::new(self.interval, self.clock.clone());
        Ok(LaneReader::new(self.format.clone(), self.records_per_second, looks))
    }
}
