//! What a snapshot consists of: handles to the state of every subtask, and the metadata that ties them together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::barrier::SnapshotKind;
use crate::graph::JobGraph;
use crate::id::{Attempt, CheckpointId, JobId, OperatorId};
use crate::key_group::{HashRange, KeyGroupRange};
use crate::migration::{ItemsError, read_items};
use crate::row::DataType;
use crate::state::{State, to_row};
use crate::time::WallTime;

/// The version of the snapshot metadata that this build writes.
pub const METADATA_VERSION: u32 = 3;

/// What one subtask contributes to a snapshot: the state of each operator of its chain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SubtaskSnapshot {
    /// By operator. An operator without state is absent.
    pub operators: BTreeMap<OperatorId, OperatorSubtaskState>,
}

impl SubtaskSnapshot {
    /// Bytes of the objects that hold the state, plus the bytes of state that travels inside the metadata.
    pub fn state_bytes(&self) -> u64 {
        self.operators.values().map(OperatorSubtaskState::state_bytes).sum()
    }

    /// As [`state_bytes`](Self::state_bytes), without what was not written again but referred to in an earlier checkpoint.
    pub fn new_bytes(&self) -> u64 {
        self.operators.values().map(OperatorSubtaskState::new_bytes).sum()
    }
}

/// The state of one operator in one subtask.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorSubtaskState {
    /// Keyed state, in objects.
    pub keyed: Vec<KeyedStateHandle>,
    /// Operator state, inline: source splits, prepared commits.
    pub lists: Vec<ListState>,
}

impl OperatorSubtaskState {
    /// Bytes of its objects, plus the bytes that travel inline.
    pub fn state_bytes(&self) -> u64 {
        let keyed: u64 = self.keyed.iter().map(|handle| handle.bytes).sum();
        keyed + self.inline_bytes()
    }

    /// As [`state_bytes`](Self::state_bytes), without what was not written again but referred to in an earlier checkpoint.
    pub fn new_bytes(&self) -> u64 {
        let keyed: u64 = self.keyed.iter().map(KeyedStateHandle::new_bytes).sum();
        keyed + self.inline_bytes()
    }

    fn inline_bytes(&self) -> u64 {
        let inline: usize = self.lists.iter().flat_map(|list| &list.items).map(Vec::len).sum();
        inline as u64
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.keyed.is_empty() && self.lists.is_empty()
    }
}

/// One keyed state of one subtask: rows of key and value, in (parts of) objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyedStateHandle {
    /// The name that the operator gave to the state.
    pub state: String,
    /// The schema of the keys.
    pub key: DataType,
    /// The schema of what tells several rows of one key apart, such as windows; `None` where a key has one row. In the
    /// native form, and wherever rows travel as key and value, it is encoded directly behind the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<DataType>,
    /// The schema of the values.
    pub value: DataType,
    /// The key groups that the subtask owned: the handle holds every key of them, and no other.
    pub key_groups: KeyGroupRange,
    /// How the rows are written.
    pub format: KeyedStateFormat,
    /// The objects that hold them. The parts of the format name them by position.
    pub objects: Vec<ObjectHandle>,
    /// How many rows.
    pub rows: u64,
    /// How many bytes of the objects are this state's.
    pub bytes: u64,
}

impl KeyedStateHandle {
    /// How many of its bytes were written by this very snapshot, not referred to in an earlier one.
    pub fn new_bytes(&self) -> u64 {
        match &self.format {
            KeyedStateFormat::Parquet => self.bytes,
            KeyedStateFormat::RocksDb { .. } => {
                let new = self.objects.iter().filter(|object| !object.is_elsewhere());
                new.map(|object| object.length).sum()
            }
            KeyedStateFormat::Native { segments } => {
                let is_new = |object: u32| {
                    let object = usize::try_from(object).ok().and_then(|index| self.objects.get(index));
                    object.is_some_and(|object| !object.is_elsewhere())
                };
                let blocks = segments.iter().flat_map(|segment| &segment.blocks);
                blocks
                    .filter(|block| is_new(block.object))
                    .map(|block| block.length)
                    .sum()
            }
        }
    }
}

/// How the rows of a keyed state are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyedStateFormat {
    /// Segments of encoded rows: the form of checkpoints. The parts are in order of key group.
    Native {
        /// The segments of this state. No key is in two of them.
        segments: Vec<NativeSegment>,
    },
    /// A Parquet file of its own: the open form of savepoints.
    Parquet,
    /// The files of a RocksDB database as they are: the form of checkpoints of the backend `rocksdb`.
    #[serde(rename = "rocksdb")]
    RocksDb {
        /// For each object the name of the file within the database. The first is the manifest, which all states of the
        /// database share; the others hold the rows of this one.
        files: Vec<String>,
    },
}

/// Some keys of a state with everything that is known of them: the rows as they once were, and what has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeSegment {
    /// The key groups that the keys are in.
    pub key_groups: KeyGroupRange,
    /// The hashes of the keys; where nothing is said, those of the key groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<HashRange>,
    /// Of a state whose values are looked for by time: the earliest moment of each kind, `i64::MAX` where there is none. Where nothing is
    /// said, any moment may be there. Which kinds there are is between the state and its operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earliest: Vec<i64>,
    /// The oldest first. What a later layer says of a key replaces what earlier ones say; within a layer no key comes twice.
    pub blocks: Vec<NativeBlock>,
}

/// A block of rows in a native state object. In metadata an array of its four numbers: a large state has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "[u64; 4]", try_from = "[u64; 4]")]
pub struct NativeBlock {
    /// Which of the handle's objects it is in.
    pub object: u32,
    /// 0 for rows as they were when the whole segment was written; above, for changes: rows and removed keys.
    pub layer: u32,
    /// Where the block begins in the object.
    pub offset: u64,
    /// Its length, header and checksum included.
    pub length: u64,
}

impl From<NativeBlock> for [u64; 4] {
    fn from(block: NativeBlock) -> Self {
        [block.object.into(), block.layer.into(), block.offset, block.length]
    }
}

impl TryFrom<[u64; 4]> for NativeBlock {
    type Error = std::num::TryFromIntError;

    fn try_from([object, layer, offset, length]: [u64; 4]) -> Result<Self, Self::Error> {
        Ok(Self {
            object: object.try_into()?,
            layer: layer.try_into()?,
            offset,
            length,
        })
    }
}

/// An object that a snapshot refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectHandle {
    /// Its name: relative to the folder of the metadata file where it has no scheme, else an absolute URI. The only way out
    /// of the folder is `../chk-<n>/<name>`: an object that an earlier checkpoint of the job wrote.
    pub path: String,
    /// Its length in bytes.
    pub length: u64,
    /// The XXH3-128 of its bytes, as 32 hexadecimal digits.
    pub digest: String,
    /// Where its bytes are, if it is no object of its own: they travel in the metadata file. Its path is only a name then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Inline>,
}

/// Where the bytes of an object are that is inlined in the metadata file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u64", from = "u64")]
pub enum Inline {
    /// Here, on their way to the metadata file. Never serialised: [`SnapshotMetadata::take_contents`] comes before.
    Here(Arc<[u8]>),
    /// In the metadata file: they begin so many bytes before the end of its body.
    BeforeEnd(u64),
}

impl From<u64> for Inline {
    fn from(before_end: u64) -> Self {
        Self::BeforeEnd(before_end)
    }
}

impl From<Inline> for u64 {
    /// Contents that were never taken out have no place: 0, which no reader accepts.
    fn from(inline: Inline) -> Self {
        match inline {
            Inline::Here(_) => 0,
            Inline::BeforeEnd(before_end) => before_end,
        }
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(bytes) => write!(f, "Here({} bytes)", bytes.len()),
            Self::BeforeEnd(before_end) => write!(f, "BeforeEnd({before_end})"),
        }
    }
}

impl ObjectHandle {
    /// Whether it lies outside of the folder of the snapshot that refers to it.
    pub fn is_elsewhere(&self) -> bool {
        self.path.starts_with("../") || self.path.contains("://")
    }
}

/// Operator state: a list whose elements are dealt out anew when the parallelism changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListState {
    /// The name of the state within its operator.
    pub name: String,
    /// The schema of an element.
    pub data_type: DataType,
    /// The elements, each an encoded row.
    pub items: Vec<Vec<u8>>,
}

impl ListState {
    /// A list of these elements.
    pub fn of<T: State>(name: impl Into<String>, elements: &[T]) -> Self {
        Self {
            name: name.into(),
            data_type: T::data_type(),
            items: elements.iter().map(to_row).collect(),
        }
    }

    /// The elements, whatever version of their type wrote them.
    pub fn read<T: State>(&self) -> Result<Vec<T>, ItemsError> {
        read_items(self)
    }
}

/// The metadata of a complete snapshot: what `_metadata` says, and all that a restore needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotMetadata {
    /// [`METADATA_VERSION`] of the build that wrote it.
    pub version: u32,
    /// [`KEY_HASH_VERSION`](crate::key_group::KEY_HASH_VERSION) that placed its keys.
    pub key_hash_version: u32,
    /// Checkpoint or savepoint.
    pub kind: SnapshotKind,
    /// The job that took it.
    pub job_id: JobId,
    /// Its number within that job.
    pub checkpoint_id: CheckpointId,
    /// When it was triggered, for people.
    pub triggered_at: WallTime,
    /// The job manager's leader epoch, and the attempt of the job, that wrote it: the fence against stale writers.
    pub leader_epoch: u64,
    /// See `leader_epoch`.
    pub attempt: Attempt,
    /// A random name of this writing: whoever reads back his own nonce knows that the write was his.
    pub nonce: String,
    /// The plan of the job when it was taken.
    pub graph: JobGraph,
    /// The state, by operator.
    pub operators: Vec<OperatorState>,
}

impl SnapshotMetadata {
    /// Whether the bytes of an inlined object are still in it.
    pub fn has_contents(&self) -> bool {
        let handles = self.operators.iter().flat_map(|operator| &operator.keyed);
        let mut objects = handles.flat_map(|handle| &handle.objects);
        objects.any(|object| matches!(object.inline, Some(Inline::Here(_))))
    }

    /// Takes the bytes of all inlined objects out, each once, in the order in which they stand at the end of the metadata file; the
    /// handles say from now on where in it they are. The same metadata always gives the same places.
    pub fn take_contents(&mut self) -> Vec<Arc<[u8]>> {
        let mut contents: Vec<Arc<[u8]>> = Vec::new();
        let mut starts: BTreeMap<String, u64> = BTreeMap::new();
        let mut total = 0;
        for object in self.objects_mut() {
            if let Some(Inline::Here(bytes)) = &object.inline
                && !starts.contains_key(&object.path)
            {
                starts.insert(object.path.clone(), total);
                total += bytes.len() as u64;
                contents.push(Arc::clone(bytes));
            }
        }
        for object in self.objects_mut() {
            if let (Some(Inline::Here(_)), Some(start)) = (&object.inline, starts.get(&object.path)) {
                object.inline = Some(Inline::BeforeEnd(total - start));
            }
        }
        contents
    }

    fn objects_mut(&mut self) -> impl Iterator<Item = &mut ObjectHandle> {
        let handles = self.operators.iter_mut().flat_map(|operator| &mut operator.keyed);
        handles.flat_map(|handle| &mut handle.objects)
    }
}

/// The state of one operator over all of its subtasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorState {
    /// Whose state it is.
    pub id: OperatorId,
    /// The operator's uid, if it had one.
    pub uid: Option<String>,
    /// The operator's name, for people.
    pub name: String,
    /// The number of subtasks that wrote it.
    pub parallelism: u32,
    /// The number of key groups: the parallelism that a restore cannot exceed.
    pub max_parallelism: u32,
    /// Keyed state: the handles of all subtasks.
    pub keyed: Vec<KeyedStateHandle>,
    /// Operator state: the concatenation of all subtasks' lists, by name.
    pub lists: Vec<ListState>,
}

impl OperatorState {
    /// How messages call the operator: its uid where it has one, else name and id.
    pub fn label(&self) -> String {
        match &self.uid {
            Some(uid) => uid.clone(),
            None => format!("{} ({})", self.name, self.id),
        }
    }

    /// Whether any state is in it: empty lists and tables without a row are none.
    pub fn is_empty(&self) -> bool {
        self.keyed.iter().all(|handle| handle.rows == 0) && self.lists.iter().all(|list| list.items.is_empty())
    }
}
