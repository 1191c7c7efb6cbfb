//! Settings that cannot work are refused before anything is sent, and none of them is repeated.

use std::sync::PoisonError;

use streamd_core::error::ErrorCode;
use streamd_core::options::{Configuration, StorageSettings};
use streamd_snapshot::Location;
use streamd_snapshot::store::configure;

use crate::kinds::{self, run, storage};

fn refusal(uri: &str, settings: StorageSettings) -> streamd_core::error::CodedError {
    let _alone = kinds::SETTINGS.lock().unwrap_or_else(PoisonError::into_inner);
    configure(settings);
    Location::open(uri).unwrap_err().to_coded()
}

fn variables(variables: &[(&str, &str)]) -> StorageSettings {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    StorageSettings::of(&Configuration::default(), variables)
}

#[test]
fn half_a_key_is_refused_with_the_missing_half() {
    let error = refusal("s3://bucket/x", storage(&[("s3.secret-key", "hunter2")]));
    assert_eq!(error.code, ErrorCode::InvalidStorageSettings);
    assert!(
        error.message.contains("`s3.access-key`") && !error.message.contains("hunter2"),
        "{error}"
    );
    let error = refusal("az://container/x", storage(&[("azure.account-key", "hunter2")]));
    assert_eq!(error.code, ErrorCode::InvalidStorageSettings);
    assert!(!error.message.contains("hunter2"), "{error}");
    let error = refusal(
        "gs://bucket/x",
        storage(&[("gs.auth.service.account.json.keyfile", "/nowhere.json")]),
    );
    assert_eq!(error.code, ErrorCode::InvalidStorageSettings);
}

#[test]
fn an_endpoint_of_the_environment_is_held_to_the_same_rule() {
    let key = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    let error = refusal(
        "s3://bucket/x",
        variables(&[key[0], key[1], ("AWS_ENDPOINT_URL", "http://10.0.0.1:9000")]),
    );
    assert_eq!(error.code, ErrorCode::InsecureStorageEndpoint);
    // What a variable allows is not what streamd allows.
    let allowed = [
        key[0],
        key[1],
        ("AWS_ENDPOINT_URL", "http://example.org"),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    assert_eq!(
        refusal("s3://bucket/x", variables(&allowed)).code,
        ErrorCode::InsecureStorageEndpoint
    );
    let with_password = [key[0], key[1], ("AWS_ENDPOINT_URL", "https://me:hunter2@example.org")];
    let error = refusal("s3://bucket/x", variables(&with_password));
    assert!(!error.message.contains("hunter2"), "{error}");
}

#[test]
fn the_environments_key_is_as_good_as_the_configurations() {
    let server = kinds::moto_server();
    let url = server.url();
    let environment = [
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_SESSION_TOKEN", "c"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", url.as_str()),
    ];
    let location = {
        let _alone = kinds::SETTINGS.lock().unwrap_or_else(PoisonError::into_inner);
        configure(variables(&environment));
        Location::open("s3://snapshots/environment/x").unwrap()
    };
    run(location.create("x".into())).unwrap();
    assert_eq!(run(location.get(10)).unwrap(), "x");
}

#[test]
fn a_bucket_that_does_not_exist_is_no_absent_object() {
    let url = kinds::moto_server().url();
    let settings = [
        ("s3.endpoint", url.as_str()),
        ("s3.access-key", "a"),
        ("s3.secret-key", "b"),
    ];
    let location = kinds::open("s3://no-such-bucket/x", &settings);
    let error = run(location.get(10)).unwrap_err().to_coded();
    assert_eq!(error.code, ErrorCode::StorageUnavailable, "{error}");
    assert!(run(location.create("x".into())).is_err());
    assert_eq!(
        run(location.list()).unwrap_err().to_coded().code,
        ErrorCode::StorageUnavailable
    );
}
