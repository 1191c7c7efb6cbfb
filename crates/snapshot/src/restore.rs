//! What a subtask reads back: the rows of a keyed state, of the key groups that it owns now.

use std::num::NonZeroUsize;
use std::thread;

use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use tokio::runtime::Handle;

use crate::error::{SnapshotError, StoreError};
use crate::layout;
use crate::local_copies::LocalCopies;
use crate::native::read_native;
use crate::row_batch::RowBatch;
use crate::store::Location;
use crate::table::{read_table, unpack_table};

/// What takes the rows of a restore: key group, encoded key, encoded value. To refuse a row, return
/// [`SnapshotError::Consumer`].
pub type RowVisitor<'a> = dyn FnMut(u32, &[u8], &[u8]) -> Result<(), SnapshotError> + 'a;

/// Where the objects of a snapshot are looked for.
#[derive(Debug, Clone, Copy)]
pub struct ObjectSource<'a> {
    folder: &'a str,
    copies: Option<&'a LocalCopies>,
}

impl<'a> ObjectSource<'a> {
    /// In the store: `folder` is the URI of the folder of the snapshot's metadata, and plays no part where handles are [`absolute`].
    pub fn store(folder: &'a str) -> Self {
        Self { folder, copies: None }
    }

    /// The same, but among these copies before.
    #[must_use]
    pub fn or_copies(self, copies: Option<&'a LocalCopies>) -> Self {
        Self { copies, ..self }
    }

    pub(crate) fn folder(self) -> &'a str {
        self.folder
    }

    pub(crate) fn copies(self) -> Option<&'a LocalCopies> {
        self.copies
    }
}

impl<'a, T: AsRef<str> + ?Sized> From<&'a T> for ObjectSource<'a> {
    fn from(folder: &'a T) -> Self {
        Self::store(folder.as_ref())
    }
}

/// Calls `visit` for every row of `handle` whose key group is in `range`, and returns how many there were. They come by
/// rising key group, and no key comes twice.
///
/// `source` may be the URI of the folder of the snapshot's metadata alone. Blocks: call it on a thread that is not tokio's. Everything is checked against the metadata and its checksums before it is used.
pub fn read_keyed_state<'a>(
    handle: &KeyedStateHandle,
    source: impl Into<ObjectSource<'a>>,
    range: KeyGroupRange,
    runtime: &Handle,
    visit: &mut RowVisitor<'_>,
) -> Result<u64, SnapshotError> {
    let range = range.intersection(handle.key_groups);
    if range.is_empty() || handle.rows == 0 {
        return Ok(0);
    }
    let source = source.into();
    let (folder, wanted) = (source.folder(), (range, runtime));
    let read = match &handle.format {
        KeyedStateFormat::Native { .. } => return read_native(handle, source, wanted, visit),
        KeyedStateFormat::Parquet => read_table(handle, &table(handle, folder)?, wanted, visit),
        KeyedStateFormat::RocksDb { .. } => {
            return Err(SnapshotError::NeedsRocksDb {
                state: handle.state.clone(),
            });
        }
    };
    read.map_err(|error| missing(error, folder, &handle.objects[0].path))
}

/// Threads that make keys and values of the rows of one table. Two keep one busy that takes them.
const MAX_THREADS: usize = 2;

/// As [`read_keyed_state`], of a savepoint: has threads of their own `make` something of some thousand rows at a time, and hands that to
/// `take`, in no order.
pub fn read_savepoint_state<T: Send>(
    handle: &KeyedStateHandle,
    folder: &str,
    (range, runtime): (KeyGroupRange, &Handle),
    make: &(impl Fn(&mut RowBatch) -> Result<T, SnapshotError> + Sync),
    take: &mut impl FnMut(T) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let range = range.intersection(handle.key_groups);
    if range.is_empty() || handle.rows == 0 {
        return Ok(());
    }
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.min(MAX_THREADS);
    unpack_table(handle, &table(handle, folder)?, (range, runtime), (threads, make), take)
        .map_err(|error| missing(error, folder, &handle.objects[0].path))
}

/// Where the one object of a table is.
fn table(handle: &KeyedStateHandle, folder: &str) -> Result<Location, SnapshotError> {
    match handle.objects.as_slice() {
        [one] => resolve(folder, &one.path),
        several => Err(SnapshotError::Malformed {
            uri: folder.to_owned(),
            reason: format!("state `{}` is said to be in {} objects", handle.state, several.len()),
        }),
    }
}

/// The same handle with the URI of its object spelt out, for a reader who does not know the folder of the metadata.
pub fn absolute(handle: &KeyedStateHandle, folder: &str) -> Result<KeyedStateHandle, SnapshotError> {
    let mut handle = handle.clone();
    for object in &mut handle.objects {
        object.path = resolve(folder, &object.path)?.uri();
    }
    Ok(handle)
}

/// The object of this name: a URI, relative to the folder, or an earlier checkpoint's beside it.
pub(crate) fn resolve(folder: &str, path: &str) -> Result<Location, SnapshotError> {
    if path.contains("://") {
        return Ok(Location::open(path)?);
    }
    let folder = Location::open(folder)?;
    match (layout::split_beside(path), folder.parent()) {
        (Some((beside, object)), Some(parent)) => Ok(parent.child(beside)?.child(object)?),
        _below => Ok(folder.child(path)?),
    }
}

/// The metadata file in which an object is inlined: in the folder that the object would be in.
pub(crate) fn metadata_of(folder: &str, path: &str) -> Result<Location, SnapshotError> {
    let object = resolve(folder, path)?;
    let folder = object.parent().ok_or_else(|| SnapshotError::Malformed {
        uri: object.uri(),
        reason: "an inlined object is in no folder".to_owned(),
    })?;
    Ok(folder.child(layout::METADATA)?)
}

/// Fails where an object has not the length that the metadata records.
pub(crate) fn check_length(object: &Location, expected: u64, actual: u64) -> Result<(), SnapshotError> {
    let uri = object.uri();
    match actual.cmp(&expected) {
        std::cmp::Ordering::Less => Err(SnapshotError::Truncated { uri, expected, actual }),
        std::cmp::Ordering::Greater => Err(SnapshotError::TooLong { uri, expected, actual }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// An absent object is the snapshot's fault, not the store's.
pub(crate) fn missing(error: SnapshotError, folder: &str, path: &str) -> SnapshotError {
    match error {
        SnapshotError::Store(StoreError::NotFound { .. }) => SnapshotError::MissingObject {
            folder: folder.to_owned(),
            path: path.to_owned(),
        },
        error => error,
    }
}
