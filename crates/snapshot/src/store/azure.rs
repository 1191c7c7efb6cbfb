//! Azure Blob Storage: `az://container/path` in the account of the settings, `abfss://container@account.dfs.core.windows.net/path`
//! in the one that it names.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use streamd_core::options::{StorageSettings, keys};

use super::client::unusable;
use super::https::{BoundedConnector, options, retries};
use super::uri::Root;
use crate::error::StoreError;

/// Variables that hold a key: none of them counts where the configuration has one.
const KEY_VARIABLES: [&str; 5] = [
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
];

/// The host of an account in Microsoft's public cloud.
const PUBLIC_CLOUD: &str = "dfs.core.windows.net";

/// The client of a container.
pub(super) fn open(root: &Root, settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let key = settings.get(keys::AZURE_ACCOUNT_KEY);
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in settings.variables("AZURE_") {
        let replaced = key.is_some() && KEY_VARIABLES.contains(&name);
        if let Ok(config) = name.to_ascii_lowercase().parse::<AzureConfigKey>()
            && !replaced
        {
            builder = builder.with_config(config, value);
        }
    }
    if let Some(account) = settings.get(keys::AZURE_ACCOUNT) {
        builder = builder.with_account(account);
    }
    let named = settings
        .variables("AZURE_")
        .find(|(name, _)| matches!(*name, "AZURE_STORAGE_ENDPOINT" | "AZURE_ENDPOINT"));
    let mut endpoint = settings
        .get(keys::AZURE_ENDPOINT)
        .or(named.map(|(_, url)| url.to_owned()));
    let container = match root.authority.split_once('@') {
        None => root.authority.as_ref(),
        Some((container, host)) => {
            let (account, cloud) = host.split_once('.').unwrap_or((host, PUBLIC_CLOUD));
            builder = builder.with_account(account);
            if endpoint.is_none() && cloud != PUBLIC_CLOUD {
                endpoint = Some(format!("https://{account}.{}", cloud.replacen("dfs.", "blob.", 1)));
            }
            container
        }
    };
    if let Some(key) = &key {
        builder = builder.with_access_key(key.expose());
    }
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let built = builder
        .with_container_name(container)
        .with_use_emulator(false)
        .with_client_options(options(root, endpoint.as_deref())?)
        .with_http_connector(BoundedConnector)
        .with_retry(retries())
        .build();
    Ok(Arc::new(built.map_err(|error| unusable(root, error))?))
}
