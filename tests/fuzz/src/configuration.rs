//! What people write: configuration, ids, places.

use streamd_core::id::{JobId, OperationId, OperatorId};
use streamd_core::options::{
    Configuration, Directories, StorageSettings, absolute_location, check_endpoint, format_duration, format_size, keys,
    parse_duration, parse_size,
};
use streamd_snapshot::{Location, checkpoint_of_object, layout};

/// A configuration file.
pub fn file(bytes: &[u8]) -> bool {
    let configuration = Configuration::default().with_file("streamd.yaml", bytes);
    configuration.is_ok_and(|configuration| look_at(&configuration))
}

/// Settings of a command line and of a job, one on each line.
pub fn arguments(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let configuration = Configuration::default().with_arguments(text.lines());
    let of_job = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let of_job: Vec<(String, String)> = of_job.collect();
    let of_job = Configuration::default().with_job_settings(of_job.iter().map(|(key, value)| (key, value)));
    configuration.is_ok_and(|configuration| look_at(&configuration)) | of_job.is_ok_and(|of_job| look_at(&of_job))
}

/// Whatever was accepted can be used.
fn look_at(configuration: &Configuration) -> bool {
    for definition in keys::ALL {
        let _unset = configuration.value_of(definition);
    }
    let _refused = Directories::of(configuration, |_variable| None);
    let storage = StorageSettings::of(configuration, []);
    assert!(
        StorageSettings::from_json(&storage.expose_as_json()).is_some(),
        "settings that were accepted reach a worker"
    );
    true
}

/// Ids, durations, sizes, URLs.
pub fn identifiers(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let id = text.parse::<JobId>();
    if let Ok(id) = id {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let _refused = (text.parse::<OperatorId>(), text.parse::<OperationId>());
    if let Some(duration) = parse_duration(text) {
        let millis = u64::try_from(duration.as_millis()).expect("durations are whole milliseconds of 64 bits");
        assert_eq!(parse_duration(&format_duration(millis)), Some(duration));
    }
    if let Some(size) = parse_size(text) {
        assert_eq!(parse_size(&format_size(size)), Some(size));
    }
    let (place, endpoint) = (absolute_location(text), check_endpoint(text));
    id.is_ok() || place.is_ok() || endpoint.is_ok()
}

/// The place of a snapshot or of an object, and names in it.
pub fn places(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let base = Location::open("/base").expect("an absolute path is a place");
    if let Ok(below) = base.child(text) {
        assert!(below.uri().starts_with("file:///base/"), "{} is outside", below.uri());
    }
    assert!(
        base.child(&layout::sanitize(text)).is_ok(),
        "what is sanitized is a name"
    );
    let _unknown = (
        layout::is_savepoint_name(text),
        layout::operation_of(text),
        checkpoint_of_object(text),
    );
    let Ok(place) = Location::open(text) else { return false };
    let again = Location::open(&place.uri()).map(|again| again.uri());
    assert_eq!(
        again.ok(),
        Some(place.uri()),
        "a canonical URI is that of the same place"
    );
    let _elsewhere = (place.parent(), place.local_path(), layout::snapshot_folder(&place));
    true
}
