//! Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ObjectStore, StaticCredentialProvider};
use streamd_core::options::{StorageSettings, Transport, check_endpoint, keys};

use super::client::unusable;
use super::https::{BoundedConnector, options, retries};
use super::uri::Root;
use crate::error::StoreError;

/// Variables that lead to credentials.
const CHAIN_VARIABLES: [&str; 4] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
];

/// The client of a bucket.
pub(super) fn open(root: &Root, settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let key_file = settings.get(keys::GS_KEY_FILE);
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in settings.variables("GOOGLE_") {
        let replaced = key_file.is_some() && CHAIN_VARIABLES.contains(&name);
        if let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>()
            && !replaced
        {
            builder = builder.with_config(key, value);
        }
    }
    let has_credentials = key_file.is_some()
        || settings
            .variables("GOOGLE_")
            .any(|(name, _)| CHAIN_VARIABLES.contains(&name));
    if let Some(file) = key_file {
        builder = builder.with_service_account_path(file.to_string_lossy());
    }
    let named = settings
        .variables("GOOGLE_")
        .find(|(name, _)| *name == "GOOGLE_BASE_URL");
    let endpoint = settings.get(keys::GS_ROOT_URL).or(named.map(|(_, url)| url.to_owned()));
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint);
        // Emulators on this machine know no accounts: without this, the client would look for a key at Google's.
        if check_endpoint(endpoint) == Ok(Transport::Loopback) && !has_credentials {
            // Both are needed: the client signs some requests even where it was told not to.
            let nobody = GcpCredential { bearer: String::new() };
            builder = builder
                .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)))
                .with_skip_signature(true);
        }
    }
    let built = builder
        .with_bucket_name(root.authority.as_ref())
        .with_client_options(options(root, endpoint.as_deref())?)
        .with_http_connector(BoundedConnector)
        .with_retry(retries())
        .build();
    Ok(Arc::new(built.map_err(|error| unusable(root, error))?))
}
