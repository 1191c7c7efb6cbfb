//! Amazon S3, and servers that speak its language.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use streamd_core::options::{StorageSettings, keys};

use super::client::unusable;
use super::https::{BoundedConnector, options, retries};
use super::s3_profile;
use super::uri::Root;
use crate::error::StoreError;

/// Variables that hold an access key: none of them counts where the configuration has one.
const KEY_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Variables that lead to credentials without a file of profiles.
const CHAIN_VARIABLES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Variables that name the server, the first that is set counts.
const ENDPOINT_VARIABLES: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

/// The client of a bucket.
pub(super) fn open(root: &Root, settings: &StorageSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let variable = |wanted: &str| {
        settings
            .variables("AWS_")
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    let own_key = own_key(root, settings)?;
    let mut builder = AmazonS3Builder::new();
    for (name, value) in settings.variables("AWS_") {
        let replaced = own_key.is_some() && KEY_VARIABLES.contains(&name);
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
            && !replaced
        {
            builder = builder.with_config(key, value);
        }
    }
    let named = ENDPOINT_VARIABLES
        .iter()
        .find_map(|name| variable(name))
        .map(str::to_owned);
    let endpoint = settings.get(keys::S3_ENDPOINT).or(named);
    if let Some((id, secret)) = &own_key {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    } else if !CHAIN_VARIABLES.iter().any(|name| variable(name).is_some())
        && let Some(profile) = s3_profile::read(variable)
    {
        builder = profile.apply(builder);
    }
    if let Some(region) = settings.get(keys::S3_REGION) {
        builder = builder.with_region(region);
    }
    let in_path = settings.get(keys::S3_PATH_STYLE_ACCESS).unwrap_or(endpoint.is_some());
    if let Some(endpoint) = &endpoint {
        let url = if in_path {
            endpoint.clone()
        } else {
            of_bucket(endpoint, &root.authority)
        };
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, url);
    }
    let built = builder
        .with_bucket_name(root.authority.as_ref())
        .with_virtual_hosted_style_request(!in_path)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Objects are deleted one by one, which every server knows.
        .with_disable_bulk_delete(true)
        .with_client_options(options(root, endpoint.as_deref())?)
        .with_http_connector(BoundedConnector)
        .with_retry(retries())
        .build();
    Ok(Arc::new(built.map_err(|error| unusable(root, error))?))
}

/// The access key of the configuration.
fn own_key(root: &Root, settings: &StorageSettings) -> Result<Option<(String, String)>, StoreError> {
    match (settings.get(keys::S3_ACCESS_KEY), settings.get(keys::S3_SECRET_KEY)) {
        (Some(id), Some(secret)) => Ok(Some((id, secret.expose().to_owned()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(half(root, keys::S3_ACCESS_KEY.key(), keys::S3_SECRET_KEY.key())),
        (None, Some(_)) => Err(half(root, keys::S3_SECRET_KEY.key(), keys::S3_ACCESS_KEY.key())),
    }
}

fn half(root: &Root, set: &str, missing: &str) -> StoreError {
    StoreError::Settings {
        uri: root.to_string(),
        reason: format!("`{set}` is set, but `{missing}` is not"),
    }
}

/// The endpoint with the bucket in the name of its host.
fn of_bucket(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        None => endpoint.to_owned(),
    }
}
