//! A store in memory whose answers can be made wrong, for tests of what to conclude from them.
//!
//! Every operation has an index, from 0 in order; a fault befalls those of a range. The store is reachable by its URI, as a store
//! of its own, so that whole snapshots can be published to it and read from it.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::client::{insert, store_of};
use super::location::Location;
use super::uri::{Root, Scheme};

/// What befalls an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not carried out, and answered with "try again later".
    Refused,
    /// A write is not carried out, and answered with an error; reads are well.
    NotApplied,
    /// It is carried out, but answered with an error.
    AppliedThenError,
    /// A write is carried out twice by the client, so that the answer is "already exists"; reads are well.
    AppliedTwice,
    /// A write is answered with "already exists" although nothing exists; reads are well.
    Phantom,
    /// The right to do it has been taken away.
    Denied,
    /// There is no room for a write; reads are well.
    NoSpace,
    /// A write is carried out, but may not have reached the disk; reads are well.
    SyncFailed,
    /// Of what is read, the end is missing; writes are well.
    Truncated,
}

impl Fault {
    pub(crate) const ALL: [Self; 9] = [
        Self::Refused,
        Self::NotApplied,
        Self::AppliedThenError,
        Self::AppliedTwice,
        Self::Phantom,
        Self::Denied,
        Self::NoSpace,
        Self::SyncFailed,
        Self::Truncated,
    ];

    fn on_write(self, path: &Path) -> Verdict {
        match self {
            Self::Refused | Self::NotApplied => Verdict::Before(reset()),
            Self::AppliedThenError => Verdict::After(reset()),
            Self::AppliedTwice => Verdict::After(exists(path)),
            Self::Phantom => Verdict::Before(exists(path)),
            Self::Denied => Verdict::Before(denied(path)),
            Self::NoSpace => Verdict::Before(disk(std::io::ErrorKind::StorageFull)),
            Self::SyncFailed => Verdict::After(disk(std::io::ErrorKind::Other)),
            Self::Truncated => Verdict::Well,
        }
    }

    fn on_read(self, path: &Path) -> Verdict {
        match self {
            Self::Refused | Self::AppliedThenError => Verdict::Before(reset()),
            Self::Denied => Verdict::Before(denied(path)),
            Self::Truncated => Verdict::Cut,
            Self::NotApplied | Self::AppliedTwice | Self::Phantom | Self::NoSpace | Self::SyncFailed => Verdict::Well,
        }
    }
}

/// What becomes of one operation.
enum Verdict {
    Well,
    Before(Error),
    After(Error),
    Cut,
}

/// The faults to come. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    operations: Arc<AtomicUsize>,
    plan: Arc<Mutex<Option<(Range<usize>, Fault)>>>,
}

impl Faults {
    /// Begins to count anew, with this fault for the operations of this range.
    pub(crate) fn plan(&self, range: Range<usize>, fault: Fault) {
        self.set(Some((range, fault)));
    }

    /// All is well from now on.
    pub(crate) fn end(&self) {
        self.set(None);
    }

    /// Operations since the last plan.
    pub(crate) fn operations(&self) -> usize {
        self.operations.load(Ordering::SeqCst)
    }

    fn set(&self, plan: Option<(Range<usize>, Fault)>) {
        self.operations.store(0, Ordering::SeqCst);
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    fn next(&self) -> Option<Fault> {
        let index = self.operations.fetch_add(1, Ordering::SeqCst);
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.as_ref()
            .filter(|(range, _)| range.contains(&index))
            .map(|(_, fault)| *fault)
    }

    fn write(&self, path: &Path) -> Verdict {
        self.next().map_or(Verdict::Well, |fault| fault.on_write(path))
    }

    fn read(&self, path: &Path) -> Verdict {
        self.next().map_or(Verdict::Well, |fault| fault.on_read(path))
    }
}

/// A new store in which all is well as yet, and what is to befall it.
pub(crate) fn faulty() -> (Location, Faults) {
    static STORES: AtomicUsize = AtomicUsize::new(0);
    let number = STORES.fetch_add(1, Ordering::SeqCst);
    let root = Root {
        scheme: Scheme::S3,
        authority: format!("faulty-{number}").into(),
    };
    let faults = Faults::default();
    let store = Faulty {
        inner: Arc::new(InMemory::new()),
        faults: faults.clone(),
    };
    insert(&root, Arc::new(store));
    let location = Location {
        store: store_of(&root).unwrap(),
        root,
        path: Path::from("folder"),
    };
    (location, faults)
}

fn reset() -> Error {
    Error::Generic {
        store: "faulty",
        source: "the connection was reset".into(),
    }
}

fn disk(kind: std::io::ErrorKind) -> Error {
    Error::Generic {
        store: "faulty",
        source: Box::new(std::io::Error::from(kind)),
    }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists {
        path: path.to_string(),
        source: "conflict".into(),
    }
}

fn denied(path: &Path) -> Error {
    Error::PermissionDenied {
        path: path.to_string(),
        source: "the key was revoked".into(),
    }
}

#[derive(Debug)]
struct Faulty {
    inner: Arc<InMemory>,
    faults: Faults,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Carries an operation out, or not, as the verdict has it.
async fn under<T>(verdict: Verdict, work: impl Future<Output = Result<T>>) -> Result<T> {
    match verdict {
        Verdict::Before(error) => Err(error),
        Verdict::After(error) => work.await.and(Err(error)),
        Verdict::Well | Verdict::Cut => work.await,
    }
}

/// An object without its last byte, as if the connection had ended early and nobody had noticed.
async fn cut(found: GetResult) -> Result<GetResult> {
    let (meta, range, attributes, extensions) = (
        found.meta.clone(),
        found.range.clone(),
        found.attributes.clone(),
        found.extensions.clone(),
    );
    let bytes = found.bytes().await?;
    let short = bytes.slice(..bytes.len().saturating_sub(1));
    Ok(GetResult {
        payload: GetResultPayload::Stream(futures::stream::once(async move { Ok(short) }).boxed()),
        meta,
        range,
        attributes,
        extensions,
    })
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

impl ObjectStore for Faulty {
    fn put_opts<'a, 'b: 'c, 'c>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Answer<'c, PutResult>
    where
        'a: 'c,
    {
        let verdict = self.faults.write(location);
        Box::pin(under(verdict, self.inner.put_opts(location, payload, opts)))
    }

    fn get_opts<'a, 'b: 'c, 'c>(&'a self, location: &'b Path, options: GetOptions) -> Answer<'c, GetResult>
    where
        'a: 'c,
    {
        Box::pin(async move {
            match self.faults.read(location) {
                Verdict::Cut if !options.head => cut(self.inner.get_opts(location, options).await?).await,
                verdict => under(verdict, self.inner.get_opts(location, options)).await,
            }
        })
    }

    fn get_ranges<'a, 'b: 'd, 'c: 'd, 'd>(
        &'a self,
        location: &'b Path,
        ranges: &'c [Range<u64>],
    ) -> Answer<'d, Vec<Bytes>>
    where
        'a: 'd,
    {
        let verdict = self.faults.read(location);
        Box::pin(under(verdict, self.inner.get_ranges(location, ranges)))
    }

    fn put_multipart_opts<'a, 'b: 'c, 'c>(
        &'a self,
        location: &'b Path,
        opts: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
    {
        let verdict = self.faults.write(location);
        Box::pin(async move {
            let inner = under(verdict, self.inner.put_multipart_opts(location, opts)).await?;
            let faults = self.faults.clone();
            let path = location.clone();
            Ok(Box::new(FaultyUpload { inner, faults, path }) as Box<dyn MultipartUpload>)
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (self.inner.clone(), self.faults.clone());
        let deleted = locations.then(move |location| {
            let (inner, faults) = (inner.clone(), faults.clone());
            async move {
                let path = location?;
                let one = futures::stream::once(futures::future::ready(Ok(path.clone()))).boxed();
                let work = async { inner.delete_stream(one).next().await.unwrap_or(Ok(path.clone())) };
                under(faults.write(&path), work).await
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.faults.read(&prefix.cloned().unwrap_or_default()) {
            Verdict::Before(error) => futures::stream::once(async { Err(error) }).boxed(),
            Verdict::Well | Verdict::After(_) | Verdict::Cut => self.inner.list(prefix),
        }
    }

    fn list_with_delimiter<'a, 'b: 'c, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
    {
        let verdict = self.faults.read(&prefix.cloned().unwrap_or_default());
        Box::pin(under(verdict, self.inner.list_with_delimiter(prefix)))
    }

    fn copy_opts<'a, 'b: 'd, 'c: 'd, 'd>(&'a self, from: &'b Path, to: &'c Path, options: CopyOptions) -> Answer<'d, ()>
    where
        'a: 'd,
    {
        let verdict = self.faults.write(to);
        Box::pin(under(verdict, self.inner.copy_opts(from, to, options)))
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Faults,
    path: Path,
}

impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        Box::pin(under(self.faults.write(&self.path), self.inner.put_part(data)))
    }

    fn complete<'a, 'b>(&'a mut self) -> Answer<'b, PutResult>
    where
        'a: 'b,
    {
        let verdict = self.faults.write(&self.path);
        Box::pin(under(verdict, self.inner.complete()))
    }

    fn abort<'a, 'b>(&'a mut self) -> Answer<'b, ()>
    where
        'a: 'b,
    {
        let verdict = self.faults.write(&self.path);
        Box::pin(under(verdict, self.inner.abort()))
    }
}
