//! The clients of stores: one for each bucket (or the like) and process, made from the settings of the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use streamd_core::options::StorageSettings;

use super::uri::{Root, Scheme};
use crate::error::StoreError;

/// What the locations of this process share.
#[derive(Default)]
struct Clients {
    settings: Option<Arc<StorageSettings>>,
    by_root: BTreeMap<Root, Arc<dyn ObjectStore>>,
}

static CLIENTS: Mutex<Option<Clients>> = Mutex::new(None);

/// Tells this process how to reach object stores. Locations that are opened later use it; those that are open keep what they have.
///
/// A process that is told nothing uses the providers' variables of its own environment.
pub fn configure(settings: StorageSettings) {
    let mut clients = lock();
    let clients = clients.get_or_insert_default();
    clients.settings = Some(Arc::new(settings));
    // What is in memory stays: it is data, not a connection.
    clients.by_root.retain(|root, _| root.scheme == Scheme::Memory);
}

/// The client for the store that a location is in.
pub(super) fn store_of(root: &Root) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut clients = lock();
    let clients = clients.get_or_insert_default();
    if let Some(store) = clients.by_root.get(root) {
        return Ok(store.clone());
    }
    let settings = clients
        .settings
        .get_or_insert_with(|| {
            Arc::new(StorageSettings::of(
                &Default::default(),
                std::env::vars_os().filter_map(text),
            ))
        })
        .clone();
    let store = open(root, &settings)?;
    clients.by_root.insert(root.clone(), store.clone());
    Ok(store)
}

/// Has the locations of the store that a URI leads to use another client from now on, which is made of the one they used: how a
/// simulation has its say.
pub fn interpose(uri: &str, with: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Result<(), StoreError> {
    let (root, _path) = super::uri::parse(uri)?;
    let store = store_of(&root)?;
    insert(&root, with(store));
    Ok(())
}

/// Has the locations of a store use this client.
pub(super) fn insert(root: &Root, store: Arc<dyn ObjectStore>) {
    lock().get_or_insert_default().by_root.insert(root.clone(), store);
}

fn lock() -> MutexGuard<'static, Option<Clients>> {
    // Every change under the lock is a single insertion: a panic elsewhere leaves nothing half done.
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn open(root: &Root, settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    match root.scheme {
        // Automatic cleanup stays off: it would remove folders that another process is about to write into.
        Scheme::File => Ok(Arc::new(LocalFileSystem::new().with_fsync(true))),
        Scheme::Memory => Ok(Arc::new(InMemory::new())),
        Scheme::S3 => open_s3(root, settings),
        Scheme::Gcs => open_gcs(root, settings),
        Scheme::Azure => open_azure(root, settings),
        Scheme::Hdfs => open_hdfs(root),
    }
}

/// The canonical schemes of the stores that this program can open.
pub fn built_schemes() -> Vec<&'static str> {
    let all = [
        (Scheme::File, true),
        (Scheme::Memory, true),
        (Scheme::S3, cfg!(feature = "s3")),
        (Scheme::Gcs, cfg!(feature = "gcs")),
        (Scheme::Azure, cfg!(feature = "azure")),
        (Scheme::Hdfs, cfg!(feature = "hdfs")),
    ];
    let built = all.into_iter().filter(|(_, is_built)| *is_built);
    built.map(|(scheme, _)| scheme.name()).collect()
}

/// The canonical scheme of a location, whether or not this program can open it.
pub fn scheme_of(uri: &str) -> Result<&'static str, StoreError> {
    let (root, _path) = super::uri::parse(uri)?;
    Ok(root.scheme.name())
}

/// The cargo feature that a canonical scheme comes with; none for those that every program has.
pub fn feature_of_scheme(scheme: &str) -> Option<&'static str> {
    match scheme {
        "s3" => Some("s3"),
        "gs" => Some("gcs"),
        "az" => Some("azure"),
        "hdfs" => Some("hdfs"),
        _every_program_has_it => None,
    }
}

/// The error for a kind of store that this program was built without.
#[allow(dead_code, reason = "unused where every kind of store is built in")]
fn not_built(root: &Root, feature: &'static str) -> StoreError {
    StoreError::NotBuilt {
        uri: root.to_string(),
        scheme: root.scheme.name(),
        feature,
    }
}

/// The error for settings that make no client.
#[cfg(any(feature = "https", feature = "hdfs"))]
pub(super) fn unusable(root: &Root, error: object_store::Error) -> StoreError {
    StoreError::Settings {
        uri: root.to_string(),
        reason: streamd_core::error::chain(&error),
    }
}

#[cfg(feature = "s3")]
fn open_s3(root: &Root, settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    super::s3::open(root, settings)
}

#[cfg(not(feature = "s3"))]
fn open_s3(root: &Root, _settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Err(not_built(root, "s3"))
}

#[cfg(feature = "gcs")]
fn open_gcs(root: &Root, settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    super::gcs::open(root, settings)
}

#[cfg(not(feature = "gcs"))]
fn open_gcs(root: &Root, _settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Err(not_built(root, "gcs"))
}

#[cfg(feature = "azure")]
fn open_azure(root: &Root, settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    super::azure::open(root, settings)
}

#[cfg(not(feature = "azure"))]
fn open_azure(root: &Root, _settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Err(not_built(root, "azure"))
}

#[cfg(feature = "hdfs")]
fn open_hdfs(root: &Root) -> Result<Arc<dyn ObjectStore>, StoreError> {
    super::hdfs::open(root)
}

#[cfg(not(feature = "hdfs"))]
fn open_hdfs(root: &Root) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Err(not_built(root, "hdfs"))
}
