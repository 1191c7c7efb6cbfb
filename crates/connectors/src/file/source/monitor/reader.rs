//! Reads the lanes of one subtask.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use streamd_core::source::{ConnectorError, SourceReader, SourceStatus, Stretch};
use streamd_core::time::{Clock, MonotonicTime};

use super::lane::Lane;
use crate::file::source::format::{Decoder, Format};
use crate::file::source::listing;
use crate::file::source::split::FileSplit;
use crate::pacer::Pacer;

/// When the folder is looked into.
pub(super) struct Looks {
    interval_ms: u64,
    clock: Arc<dyn Clock>,
    next: Option<MonotonicTime>,
}

impl Looks {
    pub(super) fn new(interval: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1),
            clock,
            next: None,
        }
    }

    /// How long it is until the next look; zero if it is due.
    fn wait(&self) -> Duration {
        let now = self.clock.monotonic();
        let left = self.next.map_or(0, |next| next.since(now));
        Duration::from_millis(left)
    }

    fn done(&mut self) {
        self.next = Some(self.clock.monotonic().plus(self.interval_ms));
    }
}

/// What tells whether a file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    changed: Option<SystemTime>,
}

/// Reads the lanes of one subtask: file after file, in the order in which they were found.
pub struct LaneReader<F: Format> {
    format: F,
    pacer: Pacer,
    looks: Looks,
    lanes: Vec<Lane>,
    /// The files of all lanes, with how far they were read, by path.
    files: BTreeMap<String, FileSplit>,
    current: Option<(Arc<str>, F::Decoder)>,
    last_read: Vec<Stretch>,
    waiting: VecDeque<String>,
    /// What files looked like at the last look: those that are not found yet, and those that are.
    stamps: BTreeMap<String, Stamp>,
}

impl<F: Format> LaneReader<F> {
    pub(super) fn new(format: F, records_per_second: u64, looks: Looks) -> Self {
        Self {
            pacer: Pacer::new(records_per_second, looks.clock.clone()),
            format,
            looks,
            lanes: Vec::new(),
            files: BTreeMap::new(),
            current: None,
            last_read: Vec::new(),
            waiting: VecDeque::new(),
            stamps: BTreeMap::new(),
        }
    }

    /// Looks into the folders: finds what is new, forgets what was read and is gone, and errors for what has changed.
    fn look(&mut self) -> Result<(), ConnectorError> {
        let mut stamps = BTreeMap::new();
        let mut folders: Vec<&str> = self.lanes.iter().map(|lane| &*lane.folder).collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            for path in listing::look_into(Path::new(folder))? {
                let text = path.to_str().ok_or_else(|| {
                    ConnectorError::new(format!("the path of the file `{}` is not UTF-8", path.display()))
                })?;
                let is_own = self.lanes.iter().any(|lane| lane.folder == folder && lane.owns(text));
                if let Some(stamp) = is_own.then(|| stamp(&path)).flatten() {
                    stamps.insert(text.to_owned(), stamp);
                }
            }
        }
        self.check_known(&stamps)?;
        for (path, stamp) in &stamps {
            let is_settled = stamp.length > 0 && self.stamps.get(path) == Some(stamp);
            if !self.files.contains_key(path) && is_settled {
                self.take(path, stamp.length)?;
            }
        }
        self.stamps = stamps;
        Ok(())
    }

    /// Files that are known must be as they were; those that were read to their end may be gone.
    fn check_known(&mut self, stamps: &BTreeMap<String, Stamp>) -> Result<(), ConnectorError> {
        for split in self.files.values() {
            let (path, had) = (&split.path, split.length);
            match stamps.get(path) {
                None if split.is_finished() => {}
                None => {
                    return Err(ConnectorError::new(format!(
                        "the file `{path}` is gone before it was read to its end: the records from byte {} on cannot be read",
                        split.position
                    )));
                }
                Some(stamp) if stamp.length != had => {
                    return Err(ConnectorError::new(format!(
                        "the file `{path}` has {} bytes where it had {had} when it was found: files must be whole when they come \
                         into the folder, and must not change while they are in it",
                        stamp.length
                    )));
                }
                // Touched: that is no harm if it is the same as before.
                Some(stamp) if self.stamps.get(path).is_some_and(|before| before != stamp) => {
                    let is_same = listing::look_at(Path::new(path))?.is_same_as(split);
                    if !is_same {
                        return Err(ConnectorError::new(format!(
                            "the file `{path}` is not the one that was found: it was replaced while it was in the folder"
                        )));
                    }
                }
                Some(_) => {}
            }
        }
        self.files.retain(|path, _| stamps.contains_key(path));
        Ok(())
    }

    fn take(&mut self, path: &str, length: u64) -> Result<(), ConnectorError> {
        let listed = listing::look_at(Path::new(path))?;
        // It may have been written to since; then it is not new yet.
        let Some(whole) = listed.whole().filter(|split| split.length == length) else {
            return Ok(());
        };
        // A file without records is remembered as one that has been read.
        let done = FileSplit {
            position: whole.end,
            ..whole.clone()
        };
        let split = self.format.splits(whole, u64::MAX)?.pop().unwrap_or(done);
        if !split.is_finished() {
            self.waiting.push_back(path.to_owned());
        }
        self.files.insert(path.to_owned(), split);
        Ok(())
    }

    /// Reads up to `limit` records of the current file, or opens or closes one.
    fn advance(&mut self, out: &mut Vec<F::Out>, limit: usize) -> Result<usize, ConnectorError> {
        let Some((path, mut decoder)) = self.current.take() else {
            if let Some(path) = self.waiting.pop_front() {
                let split = self.files.get(&path).expect("what waits is among the files");
                let decoder = self.format.decoder(split)?;
                self.current = Some((Arc::from(path), decoder));
            }
            return Ok(0);
        };
        let count = decoder.decode(out, limit)?;
        let split = self.files.get_mut(&*path).expect("what is read is among the files");
        let from = std::mem::replace(&mut split.position, decoder.position());
        if count > 0 {
            self.last_read.push(Stretch {
                of: Some(Arc::clone(&path)),
                unit: self.format.unit(),
                from,
                to: split.position,
            });
        }
        if !split.is_finished() {
            self.current = Some((path, decoder));
        }
        Ok(count)
    }

    fn has_nothing_to_read(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }
}

/// What a file looks like; `None` if it is gone.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        length: metadata.len(),
        changed: metadata.modified().ok(),
    })
}

impl<F: Format> SourceReader for LaneReader<F> {
    type Out = F::Out;
    type Split = Lane;

    fn add_splits(&mut self, splits: Vec<Lane>) -> Result<(), ConnectorError> {
        for mut lane in splits {
            for file in std::mem::take(&mut lane.files) {
                if !file.is_finished() {
                    self.waiting.push_back(file.path.clone());
                }
                self.files.insert(file.path.clone(), file);
            }
            self.lanes.push(lane);
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<F::Out>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        if self.lanes.is_empty() {
            return Ok(SourceStatus::End);
        }
        if self.looks.wait().is_zero() {
            self.look()?;
            self.looks.done();
        }
        if self.has_nothing_to_read() {
            return Ok(SourceStatus::Idle(self.looks.wait()));
        }
        let allowed = match self.pacer.allow(limit) {
            Ok(allowed) => allowed,
            Err(wait) => return Ok(SourceStatus::Idle(wait)),
        };
        self.last_read.clear();
        let mut left = allowed;
        while left > 0 && !self.has_nothing_to_read() {
            left -= self.advance(out, left)?;
        }
        self.pacer.spend(allowed - left);
        Ok(SourceStatus::More)
    }

    fn last_read(&self) -> &[Stretch] {
        &self.last_read
    }

    fn snapshot(&self) -> Vec<Lane> {
        let with_files = |lane: &Lane| Lane {
            files: self
                .files
                .values()
                .filter(|file| Path::new(&file.path).starts_with(&lane.folder) && lane.owns(&file.path))
                .cloned()
                .collect(),
            ..lane.clone()
        };
        self.lanes.iter().map(with_files).collect()
    }
}
