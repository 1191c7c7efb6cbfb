//! What everybody who opens a store in memory gets: operations on a simulation's folder go the way that its store says.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::{SimulatedStore, Verdict, simulated};

async fn under<T>(verdict: Verdict, work: impl Future<Output = Result<T>>) -> Result<T> {
    match verdict {
        Verdict::Well(latency) => {
            pause(latency).await;
            work.await
        }
        Verdict::Before(latency) => {
            pause(latency).await;
            Err(reset())
        }
        Verdict::After(latency) => {
            pause(latency).await;
            work.await.and(Err(reset()))
        }
        Verdict::Lost(_) | Verdict::Never { is_done: false } => std::future::pending().await,
        Verdict::Never { is_done: true } => {
            let _nobody_hears = work.await;
            std::future::pending().await
        }
    }
}

async fn pause(latency: Duration) {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
}

fn reset() -> Error {
    Error::Generic {
        store: "simulated",
        source: "the connection was reset".into(),
    }
}

/// Stands before the store in memory: what is below the folder of a simulation is that simulation's.
#[derive(Debug)]
pub(super) struct Interposed {
    pub(super) others: Arc<dyn ObjectStore>,
}

impl fmt::Display for Interposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.others)
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl ObjectStore for Interposed {
    fn put_opts<'a, 'b: 'c, 'c>(
        &'a self,
        path: &'b Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Answer<'c, PutResult>
    where
        'a: 'c,
    {
        Box::pin(async move {
            let Some(store) = simulated(path) else {
                return self.others.put_opts(path, payload, options).await;
            };
            match store.judge("put", path) {
                Verdict::Lost(latency) => {
                    pause(latency).await;
                    Ok(PutResult {
                        e_tag: None,
                        version: None,
                        extensions: Default::default(),
                    })
                }
                verdict => under(verdict, store.objects.put_opts(path, payload, options)).await,
            }
        })
    }

    fn get_opts<'a, 'b: 'c, 'c>(&'a self, path: &'b Path, options: GetOptions) -> Answer<'c, GetResult>
    where
        'a: 'c,
    {
        Box::pin(async move {
            let Some(store) = simulated(path) else {
                return self.others.get_opts(path, options).await;
            };
            under(store.judge("get", path), store.objects.get_opts(path, options)).await
        })
    }

    fn get_ranges<'a, 'b: 'd, 'c: 'd, 'd>(&'a self, path: &'b Path, ranges: &'c [Range<u64>]) -> Answer<'d, Vec<Bytes>>
    where
        'a: 'd,
    {
        Box::pin(async move {
            let Some(store) = simulated(path) else {
                return self.others.get_ranges(path, ranges).await;
            };
            under(store.judge("get", path), store.objects.get_ranges(path, ranges)).await
        })
    }

    fn put_multipart_opts<'a, 'b: 'c, 'c>(
        &'a self,
        path: &'b Path,
        options: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
    {
        Box::pin(async move {
            let Some(store) = simulated(path) else {
                return self.others.put_multipart_opts(path, options).await;
            };
            let verdict = store.judge("begin", path);
            let inner = under(verdict, store.objects.put_multipart_opts(path, options)).await?;
            let path = path.clone();
            Ok(Box::new(SimulatedUpload { store, inner, path }) as Box<dyn MultipartUpload>)
        })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let others = Arc::clone(&self.others);
        let deleted = paths.then(move |path| {
            let others = Arc::clone(&others);
            async move {
                let path = path?;
                let one = futures::stream::once(futures::future::ready(Ok(path.clone()))).boxed();
                let first = |mut deleted: BoxStream<'static, Result<Path>>, path: Path| async move {
                    deleted.next().await.unwrap_or(Ok(path))
                };
                match simulated(&path) {
                    Some(store) => {
                        let verdict = store.judge("delete", &path);
                        under(verdict, first(store.objects.delete_stream(one), path)).await
                    }
                    None => first(others.delete_stream(one), path).await,
                }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match prefix.and_then(simulated) {
            Some(store) => store.objects.list(prefix),
            None => self.others.list(prefix),
        }
    }

    fn list_with_delimiter<'a, 'b: 'c, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
    {
        Box::pin(async move {
            match prefix.and_then(|prefix| Some((prefix, simulated(prefix)?))) {
                Some((path, store)) => {
                    under(store.judge("list", path), store.objects.list_with_delimiter(prefix)).await
                }
                None => self.others.list_with_delimiter(prefix).await,
            }
        })
    }

    fn copy_opts<'a, 'b: 'd, 'c: 'd, 'd>(&'a self, from: &'b Path, to: &'c Path, options: CopyOptions) -> Answer<'d, ()>
    where
        'a: 'd,
    {
        Box::pin(async move {
            match simulated(to) {
                Some(store) => under(store.judge("copy", to), store.objects.copy_opts(from, to, options)).await,
                None => self.others.copy_opts(from, to, options).await,
            }
        })
    }
}

struct SimulatedUpload {
    store: Arc<SimulatedStore>,
    inner: Box<dyn MultipartUpload>,
    path: Path,
}

impl fmt::Debug for SimulatedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedUpload({})", self.path)
    }
}

impl MultipartUpload for SimulatedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let verdict = self.store.judge("part", &self.path);
        Box::pin(under(verdict, self.inner.put_part(data)))
    }

    fn complete<'a, 'b>(&'a mut self) -> Answer<'b, PutResult>
    where
        'a: 'b,
    {
        let verdict = self.store.judge("complete", &self.path);
        Box::pin(under(verdict, self.inner.complete()))
    }

    fn abort<'a, 'b>(&'a mut self) -> Answer<'b, ()>
    where
        'a: 'b,
    {
        Box::pin(self.inner.abort())
    }
}
