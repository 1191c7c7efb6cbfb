//! The Hadoop file system, spoken natively. Its settings are Hadoop's own: `HADOOP_CONF_DIR`, `HADOOP_USER_NAME`, `KRB5CCNAME`.

use std::sync::Arc;

use hdfs_native_object_store::HdfsObjectStoreBuilder;
use object_store::ObjectStore;

use super::client::unusable;
use super::uri::Root;
use crate::error::StoreError;

/// The client of a name node or name service.
pub(super) fn open(root: &Root) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let built = HdfsObjectStoreBuilder::new()
        .with_url(format!("hdfs://{}", root.authority))
        .build();
    Ok(Arc::new(built.map_err(|error| unusable(root, error))?))
}
