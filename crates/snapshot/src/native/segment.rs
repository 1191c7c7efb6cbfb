//! Segments as a writer knows them: what it has written, to build upon in the next checkpoint.

use std::sync::{Arc, OnceLock};

use streamd_core::key_group::{HashRange, KeyGroupRange};
use streamd_core::snapshot::ObjectHandle;

use crate::error::SnapshotError;
use crate::layout;
use crate::store::Location;

/// Whoever takes a state as segments. Between [`KeyedStateSink::begin`](crate::KeyedStateSink::begin) and `end`; the segments of a
/// table come by rising key group, and no key is in two of them.
pub trait SegmentSink {
    /// Whether a segment of an earlier checkpoint can be referred to from here.
    fn reaches(&self, segment: &WrittenSegment) -> bool;

    /// Takes a segment over as it is: nothing is written.
    fn refer(&mut self, segment: &WrittenSegment) -> Result<(), SnapshotError>;

    /// Begins a segment: with all its rows, or with what has changed upon an earlier one.
    fn begin_segment(&mut self, keys: SegmentKeys, upon: Option<&WrittenSegment>) -> Result<(), SnapshotError>;

    /// Adds a row, new or changed. Rows of one key group should come together.
    fn put(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError>;

    /// Adds a key that is no longer there. Only upon an earlier segment.
    fn remove(&mut self, key_group: u32, key: &[u8]) -> Result<(), SnapshotError>;

    /// Ends the segment, which has this many rows altogether now, and this as their [earliest](streamd_core::snapshot::NativeSegment::earliest) moments.
    fn end_segment(&mut self, rows: u64, earliest: Vec<i64>) -> Result<WrittenSegment, SnapshotError>;
}

/// Which keys are in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentKeys {
    /// Their key groups.
    pub key_groups: KeyGroupRange,
    /// Their hashes, where that says more.
    pub hashes: Option<HashRange>,
}

/// A segment that a checkpoint consists of.
#[derive(Debug, Clone)]
pub struct WrittenSegment {
    pub(super) keys: SegmentKeys,
    pub(super) rows: u64,
    pub(super) earliest: Vec<i64>,
    pub(super) blocks: Arc<[WrittenBlock]>,
}

/// A block of it.
#[derive(Debug, Clone)]
pub(super) struct WrittenBlock {
    pub(super) object: Arc<WrittenObject>,
    pub(super) layer: u32,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl WrittenSegment {
    /// Which keys are in it.
    pub fn keys(&self) -> SegmentKeys {
        self.keys
    }

    /// How many layers of changes lie upon its rows.
    pub fn layers(&self) -> u32 {
        self.blocks.last().map_or(0, |block| block.layer)
    }

    /// Bytes of its rows, as they were when all of them were written.
    pub fn whole_bytes(&self) -> u64 {
        let whole = self.blocks.iter().filter(|block| block.layer == 0);
        whole.map(|block| block.length).sum()
    }

    /// Bytes of all changes since.
    pub fn change_bytes(&self) -> u64 {
        let changes = self.blocks.iter().filter(|block| block.layer > 0);
        changes.map(|block| block.length).sum()
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Each of its blocks: the object that it is in, and its bytes.
    pub fn parts(&self) -> impl Iterator<Item = (&Arc<WrittenObject>, u64)> {
        self.blocks.iter().map(|block| (&block.object, block.length))
    }
}

/// A state object that this process writes or has written. Two are the same where their pointers are.
#[derive(Debug)]
pub struct WrittenObject {
    /// The URI of the folder of all checkpoints of the job; the name of this one's folder in it, where it is a checkpoint's.
    place: Option<(String, String)>,
    name: String,
    finished: OnceLock<ObjectHandle>,
}

impl WrittenObject {
    pub(super) fn new(folder: &Location, name: String) -> Arc<Self> {
        let place = match (folder.parent(), folder.name()) {
            (Some(parent), Some(name)) if layout::is_checkpoint_folder(folder) => Some((parent.uri(), name.to_owned())),
            _elsewhere => None,
        };
        Arc::new(Self {
            place,
            name,
            finished: OnceLock::new(),
        })
    }

    /// Whether later checkpoints of the job can refer to it: it is complete, a file, and in the folder of a checkpoint.
    pub fn is_within_reach(&self) -> bool {
        self.place.is_some() && self.finished.get().is_some_and(|handle| handle.inline.is_none())
    }

    pub(super) fn finish(&self, handle: ObjectHandle) {
        // Called once, by the writer that made it.
        let _ = self.finished.set(handle);
    }

    /// How a snapshot whose own object is `from` calls this one; nothing where it cannot.
    pub(super) fn handle_from(&self, from: &Self) -> Option<ObjectHandle> {
        let handle = self.finished.get()?;
        if self.place == from.place && self.name == from.name {
            return Some(handle.clone());
        }
        if handle.inline.is_some() {
            return None;
        }
        let ((parent, folder), (other_parent, other_folder)) = (self.place.as_ref()?, from.place.as_ref()?);
        if parent != other_parent || folder == other_folder {
            return None;
        }
        Some(ObjectHandle {
            path: layout::beside(folder, &self.name),
            ..handle.clone()
        })
    }
}
