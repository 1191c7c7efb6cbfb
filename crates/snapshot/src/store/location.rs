//! A location: a place in a store, for an object or for a folder of objects.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use super::client::store_of;
use super::limits::deadline;
use super::local_file::LocalFile;
use super::upload::Upload;
use super::uri::{self, Root, Scheme};
use crate::error::StoreError;

/// A place in a store. Cheap to clone. Two locations of the same store share its client.
#[derive(Clone)]
pub struct Location {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) root: Root,
    pub(super) path: Path,
}

/// What became of a write that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there now, durably.
    Created,
    /// An object of that name was there before; it is untouched. It may be this very write, repeated by the store's client:
    /// read it back.
    AlreadyExists,
}

impl Location {
    /// Opens the place that a URI or an absolute local path names. Nothing is read or made.
    pub fn open(uri: &str) -> Result<Self, StoreError> {
        let (root, path) = uri::parse(uri)?;
        Ok(Self {
            store: store_of(&root)?,
            root,
            path,
        })
    }

    /// The canonical URI, without a slash at its end.
    pub fn uri(&self) -> String {
        uri::to_uri(&self.root, &self.path)
    }

    /// The last segment of the path; `None` for the root of the store.
    pub fn name(&self) -> Option<&str> {
        self.path.filename()
    }

    /// The place of this name below this one. The name may have several segments, but none that leads out.
    pub fn child(&self, name: &str) -> Result<Self, StoreError> {
        let below = uri::check_relative(name)?;
        let joined = if self.path.as_ref().is_empty() {
            below.to_string()
        } else {
            format!("{}/{below}", self.path)
        };
        let path = Path::parse(joined).map_err(|_illegal| StoreError::InvalidName {
            name: name.to_owned(),
            reason: "it holds a control character",
        })?;
        Ok(Self { path, ..self.clone() })
    }

    /// The folder that this place is in; `None` for the root of the store.
    pub fn parent(&self) -> Option<Self> {
        if self.path.as_ref().is_empty() {
            return None;
        }
        let path = match self.path.as_ref().rsplit_once('/') {
            Some((folder, _name)) => Path::parse(folder).expect("the beginning of a path is a path"),
            None => Path::default(),
        };
        Some(Self { path, ..self.clone() })
    }

    /// The path in the local file system; `None` in any other store.
    pub fn local_path(&self) -> Option<PathBuf> {
        self.is_local().then(|| PathBuf::from(format!("/{}", self.path)))
    }

    /// The canonical URI, without symbolic links on the way where it is in the local file system and exists: by this, two
    /// names of one place are known to be one.
    pub async fn resolved_uri(&self) -> String {
        let Some(path) = self.local_path() else {
            return self.uri();
        };
        let resolved = tokio::task::spawn_blocking(move || path.canonicalize()).await;
        let resolved = resolved.ok().and_then(Result::ok);
        let resolved = resolved.and_then(|path| Path::parse(path.to_str()?.trim_start_matches('/')).ok());
        uri::to_uri(&self.root, resolved.as_ref().unwrap_or(&self.path))
    }

    pub(super) fn is_local(&self) -> bool {
        self.root.scheme == Scheme::File
    }

    /// Writes a whole object that must not exist yet; durable when this returns.
    ///
    /// After an error the object may exist all the same: read it back before drawing a conclusion.
    pub async fn put_create(&self, bytes: impl Into<Bytes>) -> Result<Created, StoreError> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        let put = self.store.put_opts(&self.path, PutPayload::from(bytes), options);
        match self.within("create", length, put).await? {
            Ok(_put) => Ok(Created::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::AlreadyExists),
            Err(source) => Err(self.not_written("create", source)),
        }
    }

    /// Reads a whole object of at most `limit` bytes.
    pub async fn get(&self, limit: u64) -> Result<Bytes, StoreError> {
        let found = self
            .within("read", 0, self.store.get(&self.path))
            .await?
            .map_err(|source| self.failed("read", source))?;
        let length = found.meta.size;
        if length > limit {
            return Err(StoreError::TooLarge {
                uri: self.uri(),
                length,
                limit,
            });
        }
        let bytes = self.within("read", length, found.bytes()).await?;
        let bytes = bytes.map_err(|source| self.failed("read", source))?;
        if bytes.len() as u64 != length {
            return Err(StoreError::Incomplete {
                uri: self.uri(),
                expected: length,
                actual: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }

    /// Reads a range of an object, which must begin within it. Shorter than asked for where the object ends before.
    pub async fn get_range(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.get_range_into(Bytes::new(), range).await
    }

    /// As [`get_range`](Self::get_range); a local file is read into the memory of `spare`, if nobody else has it: to read into new memory
    /// takes longer than to read.
    pub(crate) async fn get_range_into(&self, spare: Bytes, range: Range<u64>) -> Result<Bytes, StoreError> {
        Ok(self.get_range_with_length(spare, range).await?.0)
    }

    /// The same, with the length of the object.
    pub(crate) async fn get_range_with_length(
        &self,
        spare: Bytes,
        range: Range<u64>,
    ) -> Result<(Bytes, u64), StoreError> {
        let length = range.end.saturating_sub(range.start);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let read = async {
            let found = self.store.get_opts(&self.path, options).await?;
            let of_object = found.meta.size;
            let bytes = match found.payload {
                GetResultPayload::File(file, _) => LocalFile::new(file, found.range).read(spare, u64::MAX).await,
                GetResultPayload::Stream(_) => found.bytes().await,
            };
            bytes.map(|bytes| (bytes, of_object))
        };
        let read = self.within("read", length, read).await?;
        read.map_err(|source| self.failed("read", source))
    }

    /// The bytes of an object, piece by piece.
    pub async fn get_stream(
        &self,
    ) -> Result<(u64, futures::stream::BoxStream<'static, Result<Bytes, StoreError>>), StoreError> {
        use futures::StreamExt;
        let found = self
            .within("read", 0, self.store.get(&self.path))
            .await?
            .map_err(|source| self.failed("read", source))?;
        let length = found.meta.size;
        let here = self.clone();
        let stream = match found.payload {
            GetResultPayload::File(file, _) => LocalFile::new(file, found.range).pieces().boxed(),
            GetResultPayload::Stream(_) => found.into_stream(),
        };
        let stream = stream.map(move |piece| piece.map_err(|source| here.failed("read", source)));
        Ok((length, stream.boxed()))
    }

    /// The length of the object, or `None` where there is none.
    pub async fn head(&self) -> Result<Option<u64>, StoreError> {
        match self.within("look at", 0, self.store.head(&self.path)).await? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(source) => match self.failed("look at", source) {
                StoreError::NotFound { .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Whether the object exists.
    pub async fn exists(&self) -> Result<bool, StoreError> {
        self.head().await.map(|length| length.is_some())
    }

    /// Deletes the object; nothing happens where there is none.
    pub async fn delete(&self) -> Result<(), StoreError> {
        match self.within("delete", 0, self.store.delete(&self.path)).await? {
            Ok(()) => Ok(()),
            Err(source) => match self.failed("delete", source) {
                StoreError::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Begins to write an object piece by piece. It becomes visible as a whole, when [`Upload::finish`] returns.
    pub fn upload(&self) -> Upload {
        Upload::new(self.clone())
    }

    /// Has the store make this an object of the same content as another, of so many bytes: a hard link in the local file system, a copy
    /// within a bucket. Visible as a whole and durable when this returns true. False where it cannot, or the other has another length: then
    /// the bytes are to be written.
    pub async fn copy_of(&self, other: &Self, length: u64) -> bool {
        // HDFS has no copies: its client would read the object and write it.
        if self.root != other.root || self.root.scheme == Scheme::Hdfs || other.is_symbolic_link() {
            return false;
        }
        let copy = self.store.copy(&other.path, &self.path);
        let copied = self.within("copy", length, copy).await;
        let copied = copied.and_then(|copied| copied.map_err(|source| self.not_written("copy", source)));
        if let Err(error) = copied {
            tracing::debug!(object = %other, %error, "an object cannot be copied where it is");
            return false;
        }
        if self.head().await.is_ok_and(|there| there == Some(length)) {
            return true;
        }
        // It would be taken for another writer's.
        let _not_there = self.delete().await;
        false
    }

    /// Of which a link would be another name, and not of what it leads to.
    fn is_symbolic_link(&self) -> bool {
        let path = self.local_path();
        path.is_some_and(|path| path.is_symlink())
    }

    /// Waits for an operation that moves this many bytes, as long as that may take. The local file system may take as long as it
    /// likes: its calls cannot be given up, and whoever stopped waiting for one would not know what it does later.
    pub(super) async fn within<T>(
        &self,
        operation: &'static str,
        bytes: u64,
        work: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        if !self.root.scheme.is_remote() {
            return Ok(work.await);
        }
        let limit = deadline(bytes);
        let late = |_elapsed| StoreError::TimedOut {
            operation,
            uri: self.uri(),
            seconds: limit.as_secs(),
        };
        tokio::time::timeout(limit, work).await.map_err(late)
    }

    /// The store's error at writing. What is absent then is not the object but the folder that it should go to.
    pub(super) fn not_written(&self, operation: &'static str, source: object_store::Error) -> StoreError {
        StoreError::Failed {
            operation,
            uri: self.uri(),
            source,
        }
    }

    /// The store's error with operation and place; absence is its own variant.
    pub(super) fn failed(&self, operation: &'static str, source: object_store::Error) -> StoreError {
        match source {
            object_store::Error::NotFound { source, .. } if is_gone_as_a_whole(&*source) => StoreError::Failed {
                operation,
                uri: self.uri(),
                source: object_store::Error::Generic {
                    store: self.root.scheme.name(),
                    source,
                },
            },
            object_store::Error::NotFound { .. } => StoreError::NotFound { uri: self.uri() },
            source if leads_nowhere(&source) => StoreError::NotFound { uri: self.uri() },
            source => StoreError::Failed {
                operation,
                uri: self.uri(),
                source,
            },
        }
    }
}

/// Whether a local object "below" a file was looked for, or behind a link to itself: absent, but reported as a generic error.
fn leads_nowhere(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::NotADirectory || is_loop(io);
        }
        cause = error.source();
    }
    false
}

#[cfg(target_os = "linux")]
fn is_loop(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(not(target_os = "linux"))]
fn is_loop(_error: &std::io::Error) -> bool {
    false
}

/// Whether not the object but its bucket or container is absent: that says nothing about the object. The providers' words for it
/// are part of their protocols.
fn is_gone_as_a_whole(error: &(dyn std::error::Error + 'static)) -> bool {
    let text = error.to_string();
    [
        "NoSuchBucket",
        "ContainerNotFound",
        "The specified bucket does not exist",
    ]
    .iter()
    .any(|words| text.contains(words))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", self.uri())
    }
}

impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root && self.path == other.path
    }
}

impl Eq for Location {}

/// A pointer that a person typed, with a relative local path made absolute: it means the same to every process afterwards.
pub fn absolute_pointer(text: &str) -> Result<String, StoreError> {
    if text.contains("://") || text.starts_with('/') || text.is_empty() {
        return Ok(text.to_owned());
    }
    let invalid = |reason| StoreError::InvalidUri {
        uri: text.to_owned(),
        reason,
    };
    let here = std::env::current_dir().map_err(|_gone| invalid("the current directory does not exist"))?;
    let mut absolute = here;
    for segment in text.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        if segment == ".." {
            absolute.pop();
        } else {
            absolute.push(segment);
        }
    }
    absolute
        .into_os_string()
        .into_string()
        .map_err(|_bytes| invalid("the current directory is not valid UTF-8"))
}
