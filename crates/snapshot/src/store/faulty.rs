//! A store in memory whose answers to writes and reads can be made wrong, for tests of what to conclude from them.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::location::Location;
use super::uri::{Root, Scheme};

/// What happens to a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out, but answered with an error.
    AppliedThenError,
    /// It is carried out twice by the client, so that the answer is "already exists".
    AppliedTwice,
    /// It is not carried out.
    NotApplied,
    /// It is answered with an error, and so is every read.
    Blackout,
    /// It is answered with "already exists" although nothing exists.
    Phantom,
}

#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    fault: Fault,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A place in a new store with this fault.
pub(crate) fn faulty(fault: Fault) -> Location {
    let store = Arc::new(Faulty {
        inner: InMemory::new(),
        fault,
    });
    Location {
        store,
        root: Root {
            scheme: Scheme::Memory,
            authority: "".into(),
        },
        path: Path::from("folder"),
    }
}

fn error() -> Error {
    Error::Generic {
        store: "faulty",
        source: "the connection was reset".into(),
    }
}

fn exists(location: &Path) -> Error {
    Error::AlreadyExists {
        path: location.to_string(),
        source: "conflict".into(),
    }
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
        Box::pin(async move {
            match self.fault {
                Fault::AppliedThenError => self.inner.put_opts(location, payload, opts).await.and(Err(error())),
                Fault::AppliedTwice => self
                    .inner
                    .put_opts(location, payload, opts)
                    .await
                    .and(Err(exists(location))),
                Fault::NotApplied | Fault::Blackout => Err(error()),
                Fault::Phantom => Err(exists(location)),
            }
        })
    }

    fn get_opts<'a, 'b: 'c, 'c>(&'a self, location: &'b Path, options: GetOptions) -> Answer<'c, GetResult>
    where
        'a: 'c,
    {
        Box::pin(async move {
            match self.fault {
                Fault::Blackout => Err(error()),
                _readable => self.inner.get_opts(location, options).await,
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
        self.inner.get_ranges(location, ranges)
    }

    fn put_multipart_opts<'a, 'b: 'c, 'c>(
        &'a self,
        location: &'b Path,
        opts: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
    {
        self.inner.put_multipart_opts(location, opts)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_delimiter<'a, 'b: 'c, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
    {
        self.inner.list_with_delimiter(prefix)
    }

    fn copy_opts<'a, 'b: 'd, 'c: 'd, 'd>(&'a self, from: &'b Path, to: &'c Path, options: CopyOptions) -> Answer<'d, ()>
    where
        'a: 'd,
    {
        self.inner.copy_opts(from, to, options)
    }
}
