//! The Hadoop file system, spoken natively. Its settings are Hadoop's own: `HADOOP_CONF_DIR`, `HADOOP_USER_NAME`, `KRB5CCNAME`.

use std::sync::{Arc, OnceLock};

use hdfs_native_object_store::HdfsObjectStoreBuilder;
use object_store::ObjectStore;
use tokio::runtime::{Builder, Handle, Runtime};

use super::client::unusable;
use super::uri::Root;
use crate::error::StoreError;

/// Where the clients do their I/O, until the process ends. Without one of ours, each client would own a runtime, and panic where
/// the last location that uses it is dropped by a task.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The client of a name node or name service. Called under the lock of all clients.
pub(super) fn open(root: &Root) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let runtime = runtime().map_err(|error| StoreError::Settings {
        uri: root.to_string(),
        reason: format!("its threads cannot be started: {error}"),
    })?;
    let built = HdfsObjectStoreBuilder::new()
        .with_url(format!("hdfs://{}", root.authority))
        .with_io_runtime(runtime)
        .build();
    Ok(Arc::new(built.map_err(|error| unusable(root, error))?))
}

fn runtime() -> std::io::Result<Handle> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let built = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("hdfs")
        .enable_all()
        .build()?;
    Ok(RUNTIME.get_or_init(|| built).handle().clone())
}
