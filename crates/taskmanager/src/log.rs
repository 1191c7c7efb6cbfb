//! The logs of workers: written through a pipe into two files of bounded size, read back in pieces, removed by age.
//!
//! ```text
//!   <log_dir>/jobs/<job id>/worker-<n>.log     the newest
//!                           worker-<n>.log.1   what came before, until the next turn
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use streamd_core::id::{JobId, WorkerId};
use streamd_core::time::WallTime;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tracing::warn;

use crate::directory::remove;
use crate::process::Tail;

/// Bytes of a piece of log that is sent.
const PIECE_BYTES: usize = 64 * 1024;

/// Jobs whose logs can be asked for. Older logs stay on disk, for people with access to the host.
const REMEMBERED_JOBS: usize = 1000;

/// Where the log of a worker is, and how much of its beginning has been dropped.
#[derive(Debug, Clone)]
pub(crate) struct LogLocation {
    path: PathBuf,
    dropped: Arc<AtomicU64>,
}

impl LogLocation {
    fn older(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }
}

/// The logs of the workers that this task manager started.
///
/// Several task managers may share a directory for logs. Each answers for its own workers only, so that nothing is
/// sent twice.
#[derive(Debug)]
pub(crate) struct LogBook {
    directory: PathBuf,
    retention: Duration,
    /// By job, in the order of their first worker.
    jobs: Vec<(JobId, BTreeMap<WorkerId, LogLocation>)>,
}

impl LogBook {
    pub(crate) fn open(directory: &Path, retention: Duration) -> io::Result<Self> {
        let directory = std::path::absolute(directory)?.join("jobs");
        std::fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            retention,
            jobs: Vec::new(),
        })
    }

    /// Where the log of a new worker goes.
    pub(crate) fn add(&mut self, job: JobId, worker: WorkerId) -> LogLocation {
        let location = LogLocation {
            path: self.directory.join(job.to_string()).join(format!("{worker}.log")),
            dropped: Arc::new(AtomicU64::new(0)),
        };
        match self.jobs.iter_mut().find(|(known, _)| *known == job) {
            Some((_, workers)) => {
                workers.insert(worker, location.clone());
            }
            None => self.jobs.push((job, BTreeMap::from([(worker, location.clone())]))),
        }
        if self.jobs.len() > REMEMBERED_JOBS {
            self.jobs.remove(0);
        }
        location
    }

    /// The logs of a job's workers.
    pub(crate) fn of_job(&self, job: JobId) -> BTreeMap<WorkerId, LogLocation> {
        let found = self.jobs.iter().find(|(known, _)| *known == job);
        found.map(|(_, workers)| workers.clone()).unwrap_or_default()
    }

    /// Removes the logs of jobs that have written nothing for the time that logs stay.
    pub(crate) fn remove_expired(&self, now: WallTime) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return;
        };
        let oldest = now
            .0
            .saturating_sub(i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX));
        for entry in entries.flatten() {
            let is_job = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<JobId>().is_ok());
            if is_job && last_change(&entry.path()).is_some_and(|changed| changed < oldest) {
                remove(&entry.path());
            }
        }
    }
}

/// When a file of the directory was last written, in milliseconds since 1970.
fn last_change(directory: &Path) -> Option<i64> {
    let changes = std::fs::read_dir(directory).ok()?.flatten().filter_map(|entry| {
        let modified = entry.metadata().ok()?.modified().ok()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    });
    changes.max()
}

/// The log of a running worker.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    location: LogLocation,
    file: File,
    /// Bytes in the newest file.
    written: u64,
    /// Bytes after which the newest file becomes the older one.
    turn: u64,
    broken: bool,
    tail: Tail,
}

impl WorkerLog {
    /// Creates the file, or goes on where it ends.
    pub(crate) async fn open(location: LogLocation, limit: u64) -> io::Result<Self> {
        if let Some(directory) = location.path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let file = File::options().create(true).append(true).open(&location.path).await?;
        let written = file.metadata().await?.len();
        Ok(Self {
            location,
            file,
            written,
            turn: (limit / 2).max(1),
            broken: false,
            tail: Tail::default(),
        })
    }

    /// The last that the worker printed.
    pub(crate) fn tail(&self) -> String {
        self.tail.text()
    }

    /// Copies a pipe to its end. A disk that takes no more stops the log, not the worker.
    pub(crate) async fn copy_from(&mut self, mut pipe: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(count) = pipe.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            self.tail.push(&buffer[..count]);
            match self.write(&buffer[..count]).await {
                Ok(()) => self.broken = false,
                Err(error) if !self.broken => {
                    warn!(path = %self.location.path.display(), %error, "log of a worker cannot be written");
                    self.broken = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written > 0 && self.written + bytes.len() as u64 > self.turn {
            self.turn_over().await?;
        }
        self.file.write_all(bytes).await?;
        self.file.flush().await?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    async fn turn_over(&mut self) -> io::Result<()> {
        let older = self.location.older();
        let dropped = tokio::fs::metadata(&older).await.map_or(0, |metadata| metadata.len());
        tokio::fs::rename(&self.location.path, &older).await?;
        self.file = File::options()
            .create(true)
            .append(true)
            .open(&self.location.path)
            .await?;
        self.location.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.written = 0;
        Ok(())
    }
}

/// Reads a worker's log from a position on, to where it ends now, in pieces.
#[derive(Debug)]
pub(crate) struct LogReader {
    files: Vec<File>,
}

impl LogReader {
    /// Opens a log behind its first `position` bytes. What is gone since is skipped; a log that does not exist is empty.
    pub(crate) async fn open(location: &LogLocation, position: u64) -> io::Result<Self> {
        let mut skip = position.saturating_sub(location.dropped.load(Ordering::Relaxed));
        let mut files = Vec::new();
        for path in [location.older(), location.path.clone()] {
            let mut file = match File::open(&path).await {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let length = file.metadata().await?.len();
            if skip >= length {
                skip -= length;
                continue;
            }
            file.seek(io::SeekFrom::Start(skip)).await?;
            skip = 0;
            files.push(file);
        }
        files.reverse();
        Ok(Self { files })
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(file) = self.files.last_mut() {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            if file.read_buf(&mut piece).await? > 0 {
                return Ok(Some(piece.freeze()));
            }
            self.files.pop();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
