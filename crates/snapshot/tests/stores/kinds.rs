//! The kinds of store, each with the server that stands for it.

use std::sync::{LazyLock, Mutex, PoisonError};

use servers::{Dialect, Proxy, Server, azurite, hdfs, minio, moto, not_tested};
use streamd_core::options::{Configuration, StorageSettings};
use streamd_snapshot::Location;
use streamd_snapshot::store::configure;
use tokio::runtime::Runtime;

use crate::conformance::conformance;

/// Clients keep connections, and these belong to a runtime: there is one for all tests, as there is in every program.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Settings belong to the process: one test at a time sets them and opens what it needs.
pub static SETTINGS: Mutex<()> = Mutex::new(());

pub fn run<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(work)
}

/// A place that is opened with these settings, which stay its own.
pub fn open(uri: &str, settings: &[(&str, &str)]) -> Location {
    let _alone = SETTINGS.lock().unwrap_or_else(PoisonError::into_inner);
    configure(storage(settings));
    Location::open(uri).unwrap()
}

/// Settings as a file gives them.
pub fn storage(settings: &[(&str, &str)]) -> StorageSettings {
    let yaml: String = settings
        .iter()
        .map(|(key, value)| format!("{key}: \"{value}\"\n"))
        .collect();
    let configuration = Configuration::default()
        .with_file("streamd.yaml", yaml.as_bytes())
        .unwrap();
    StorageSettings::of(&configuration, [])
}

/// A folder of a bucket of this S3 server.
pub fn s3(endpoint: &str, (id, secret): (&str, &str), folder: &str) -> Location {
    let settings = [
        ("s3.endpoint", endpoint),
        ("s3.access-key", id),
        ("s3.secret-key", secret),
    ];
    open(&format!("s3a://{}/{folder}", moto::BUCKET), &settings)
}

/// Keys for a server that does not look at them.
pub const ANY_KEY: (&str, &str) = ("any", "key");

/// The server of every test that needs any S3 server. Nothing ends it but the end of the process that it is a child of.
pub fn moto_server() -> &'static Server {
    static MOTO: LazyLock<Server> = LazyLock::new(moto::start);
    &MOTO
}

#[test]
fn memory_holds_what_is_asked_of_a_store() {
    run(conformance(open("memory:///conformance", &[])));
}

#[test]
fn local_files_hold_what_is_asked_of_a_store() {
    let folder = tempfile::tempdir().unwrap();
    run(conformance(open(folder.path().join("a b").to_str().unwrap(), &[])));
}

#[test]
fn an_s3_server_holds_what_is_asked_of_a_store() {
    let server = moto::start();
    run(conformance(s3(&server.url(), ANY_KEY, "conformance/a b")));
}

#[test]
fn minio_holds_what_is_asked_of_a_store() {
    let Some(server) = minio::start() else {
        return not_tested("MinIO is not installed; `STREAMD_TEST_MINIO=1 bin/test` builds it");
    };
    run(conformance(s3(&server.url(), minio::KEY, "conformance/a b")));
}

/// No emulator of Google's storage that the registries have knows conditional creates and multipart uploads of the XML interface; an S3
/// server does, in almost the same words.
#[test]
fn google_holds_what_is_asked_of_a_store() {
    let server = moto::start();
    let proxy = Proxy::translating(server.address(), Dialect::Google);
    let uri = format!("gs://{}/conformance/a b", moto::BUCKET);
    run(conformance(open(&uri, &[("gs.storage.root.url", &proxy.url())])));
}

#[test]
fn azure_holds_what_is_asked_of_a_store() {
    let server = azurite::start();
    let endpoint = format!("{}/{}", server.url(), azurite::ACCOUNT);
    let settings = [
        ("azure.endpoint", endpoint.as_str()),
        ("azure.account-key", azurite::KEY),
    ];
    let uri = format!(
        "abfss://{}@{}.dfs.core.windows.net/conformance",
        azurite::CONTAINER,
        azurite::ACCOUNT
    );
    run(conformance(open(&uri, &settings)));
}

#[cfg(feature = "hdfs")]
#[test]
fn hdfs_holds_what_is_asked_of_a_store() {
    let server = hdfs::start();
    let folder = open(&format!("hdfs://{}/streamd/conformance", server.address()), &[]);
    run(conformance(folder));
}

#[cfg(not(feature = "hdfs"))]
#[test]
fn a_store_that_is_not_built_in_is_refused_with_the_feature_to_turn_on() {
    let _unused: fn() -> Server = hdfs::start;
    let error = Location::open("hdfs://namenode:8020/x").unwrap_err().to_coded();
    assert_eq!(error.code, streamd_core::error::ErrorCode::StorageSchemeNotBuilt);
    assert!(error.message.contains("`hdfs`"), "{error}");
}
