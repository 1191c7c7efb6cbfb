//! The store of a simulation: in memory, slow, and not always honest.
//!
//! Operations of the job manager take simulated time; each may be refused, or carried out and answered with an error. Those of
//! slots and writers take no time; a writer can be cut off at its n-th operation.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::clock::SimulatedClock;
use crate::dice::Dice;
use crate::trace::Trace;

/// Where the stores of all simulations of this process are, each below a folder of its own.
const ROOT: &str = "memory:///";

/// What the folders of simulations begin with.
const FOLDER: &str = "simulation-";

/// The longest latency of an operation, in milliseconds.
const LATENCY_MS: u64 = 20;

/// The stores of simulations that run, by folder.
static RUNNING: Mutex<BTreeMap<String, Weak<SimulatedStore>>> = Mutex::new(BTreeMap::new());
static INTERPOSED: Once = Once::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The store of one simulation.
pub(crate) struct SimulatedStore {
    folder: String,
    objects: InMemory,
    clock: Arc<SimulatedClock>,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    /// In thousandths: how many operations are refused, and how many fail after the fact.
    rates: (u64, u64),
    /// Whether the job manager is at work, and not a slot or a writer.
    is_control: bool,
    /// After so many operations of a slot or writer the connection is gone.
    cut_after: Option<u32>,
}

enum Verdict {
    Well(Duration),
    Before(Duration),
    After(Duration),
}

impl SimulatedStore {
    /// A new store, which locations reach by its [`uri`](Self::uri) for as long as it lives.
    pub(crate) fn new(dice: Dice, clock: Arc<SimulatedClock>, trace: Arc<Trace>) -> Arc<Self> {
        INTERPOSED.call_once(|| {
            let interposed = streamd_snapshot::store::interpose(ROOT, |others| Arc::new(Interposed { others }));
            interposed.expect("every program can open a store in memory");
        });
        let folder = format!("{FOLDER}{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let store = Arc::new(Self {
            folder: folder.clone(),
            objects: InMemory::new(),
            clock,
            trace,
            state: Mutex::new(State {
                dice,
                rates: (0, 0),
                is_control: false,
                cut_after: None,
            }),
        });
        running().insert(folder, Arc::downgrade(&store));
        store
    }

    /// Where it is.
    pub(crate) fn uri(&self) -> String {
        format!("{ROOT}{}", self.folder)
    }

    /// From now on so many operations in a thousand are refused, and so many fail after the fact.
    pub(crate) fn trouble(&self, refused: u64, applied_then_failed: u64) {
        self.lock().rates = (refused, applied_then_failed);
    }

    /// The job manager is at work, or is not any more.
    pub(crate) fn set_control(&self, is_control: bool) {
        self.lock().is_control = is_control;
    }

    /// The connection of the slot or writer that is at work now is gone after so many operations; `None`: it stays.
    pub(crate) fn cut_after(&self, operations: Option<u32>) {
        self.lock().cut_after = operations;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, what: &str, path: &Path) -> Verdict {
        let mut state = self.lock();
        if !state.is_control {
            return match &mut state.cut_after {
                Some(0) => Verdict::Before(Duration::ZERO),
                Some(left) => {
                    *left -= 1;
                    Verdict::Well(Duration::ZERO)
                }
                None => Verdict::Well(Duration::ZERO),
            };
        }
        let (refused, applied) = state.rates;
        let latency = Duration::from_millis(state.dice.between(1, LATENCY_MS));
        let thrown = state.dice.below(1_000);
        drop(state);
        let (verdict, told) = if thrown < refused {
            (Verdict::Before(latency), "refused")
        } else if thrown < refused + applied {
            self.trace.saw("a store operation failed after the fact");
            if what == "put" {
                self.trace.saw("a create was ambiguous");
            }
            (Verdict::After(latency), "applied, answered with an error")
        } else {
            (Verdict::Well(latency), "well")
        };
        let name = without_nonces(path.as_ref(), &self.folder);
        self.trace
            .line(self.clock.now(), format_args!("store {what} {name}: {told}"));
        verdict
    }
}

impl Drop for SimulatedStore {
    fn drop(&mut self) {
        running().remove(&self.folder);
    }
}

fn running() -> MutexGuard<'static, BTreeMap<String, Weak<SimulatedStore>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path without the folder of the simulation, and with a star for each random name.
fn without_nonces(path: &str, folder: &str) -> String {
    let path = path.strip_prefix(folder).unwrap_or(path);
    let is_random = |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let segments = path.split('/').map(|segment| {
        let (stem, end) = segment.split_once('.').map_or((segment, ""), |(stem, end)| (stem, end));
        let parts: Vec<&str> = stem
            .split('-')
            .map(|part| if is_random(&part) { "*" } else { part })
            .collect();
        match end {
            "" => parts.join("-"),
            end => format!("{}.{end}", parts.join("-")),
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

async fn under<T>(verdict: Verdict, work: impl Future<Output = Result<T>>) -> Result<T> {
    let (latency, before, after) = match verdict {
        Verdict::Well(latency) => (latency, false, false),
        Verdict::Before(latency) => (latency, true, false),
        Verdict::After(latency) => (latency, false, true),
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    if before {
        return Err(reset());
    }
    let done = work.await;
    match after {
        true => done.and(Err(reset())),
        false => done,
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
struct Interposed {
    others: Arc<dyn ObjectStore>,
}

impl Interposed {
    fn simulated(path: &Path) -> Option<Arc<SimulatedStore>> {
        let folder = path.as_ref().split('/').next()?;
        running().get(folder)?.upgrade()
    }
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
            let Some(store) = Self::simulated(path) else {
                return self.others.put_opts(path, payload, options).await;
            };
            let verdict = store.judge("put", path);
            under(verdict, store.objects.put_opts(path, payload, options)).await
        })
    }

    fn get_opts<'a, 'b: 'c, 'c>(&'a self, path: &'b Path, options: GetOptions) -> Answer<'c, GetResult>
    where
        'a: 'c,
    {
        Box::pin(async move {
            let Some(store) = Self::simulated(path) else {
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
            let Some(store) = Self::simulated(path) else {
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
            let Some(store) = Self::simulated(path) else {
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
                match Self::simulated(&path) {
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
        match prefix.and_then(Self::simulated) {
            Some(store) => store.objects.list(prefix),
            None => self.others.list(prefix),
        }
    }

    fn list_with_delimiter<'a, 'b: 'c, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
    {
        Box::pin(async move {
            match prefix.and_then(|prefix| Some((prefix, Self::simulated(prefix)?))) {
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
            match Self::simulated(to) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_left_out_of_the_trace() {
        let path =
            "simulation-3/c/00112233445566778899aabbccddeeff/chk-4/0-1-a2-00112233445566778899aabbccddeeff.state";
        assert_eq!(without_nonces(path, "simulation-3"), "/c/*/chk-4/0-1-a2-*.state");
        assert_eq!(
            without_nonces("simulation-3/completed/00000000000000000007.json", "simulation-3"),
            "/completed/00000000000000000007.json"
        );
    }
}
