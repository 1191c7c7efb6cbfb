//! Whether a program was built with what its job needs: told before anything runs, not at the first checkpoint.

use streamd_coordinator::event::{JobOptions, RestorePoint};
use streamd_core::backend::StateBackendKind;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::plan::BuiltWith;
use streamd_core::snapshot::{KeyedStateFormat, SnapshotMetadata};
use streamd_snapshot::store::{feature_of_scheme, scheme_of};

/// Errors if the program lacks the backend of its job, or the kind of store that its checkpoints go to or its state comes from.
/// Returns what the user should know otherwise. A program that does not say what it was built with is believed.
pub(super) fn check_built(
    file_name: &str,
    built: Option<&BuiltWith>,
    options: &JobOptions,
    restore: Option<&RestorePoint>,
) -> Result<Vec<String>, CodedError> {
    let Some(built) = built else { return Ok(Vec::new()) };
    let kind = options.state_backend.kind;
    if !built.has_backend(kind) {
        let name = kind.name();
        let message = format!("application `{file_name}` was built without the state backend `{name}` of its job");
        return Err(CodedError::new(ErrorCode::BackendNotBuilt, message).with_hint(format!(
            "build it with `streamd = {{ features = [\"{name}\"] }}`, or choose another `state.backend.type`"
        )));
    }
    if let Some(point) = restore {
        check_restored(file_name, built, point)?;
    }
    let takes_checkpoints = options.checkpointing.interval_ms.is_some();
    if let Some(folder) = options.checkpoint_directory.as_deref().filter(|_| takes_checkpoints)
        && let Some(missing) = missing_store(built, folder)?
    {
        let message = format!("application `{file_name}` cannot write its checkpoints to `{folder}`");
        return Err(missing.refusal(&message));
    }
    let mut warnings = Vec::new();
    if let Some(folder) = options.savepoint_directory.as_deref().filter(|_| takes_checkpoints)
        && let Some(missing) = missing_store(built, folder)?
    {
        warnings.push(missing.warning(folder));
    }
    Ok(warnings)
}

fn check_restored(file_name: &str, built: &BuiltWith, point: &RestorePoint) -> Result<(), CodedError> {
    let uri = &point.uri;
    if let Some(missing) = missing_store(built, uri)? {
        return Err(missing.refusal(&format!("application `{file_name}` cannot read snapshot `{uri}`")));
    }
    if holds_databases(&point.metadata) && !built.has_backend(StateBackendKind::RocksDb) {
        let message = format!(
            "checkpoint `{uri}` holds the files of RocksDB databases, and application `{file_name}` was built without `rocksdb`"
        );
        return Err(CodedError::new(ErrorCode::BackendNotBuilt, message).with_hint(
            "build it with `streamd = { features = [\"rocksdb\"] }`, or start from a savepoint: every backend reads those",
        ));
    }
    Ok(())
}

fn holds_databases(metadata: &SnapshotMetadata) -> bool {
    let mut handles = metadata.operators.iter().flat_map(|operator| &operator.keyed);
    handles.any(|handle| matches!(handle.format, KeyedStateFormat::RocksDb { .. }))
}

/// A kind of store that a program was built without.
struct MissingStore {
    scheme: &'static str,
    feature: &'static str,
}

/// What the program lacks to open this place.
fn missing_store(built: &BuiltWith, uri: &str) -> Result<Option<MissingStore>, CodedError> {
    let scheme = scheme_of(uri).map_err(|error| error.to_coded())?;
    let feature = feature_of_scheme(scheme).filter(|_| !built.has_scheme(scheme));
    Ok(feature.map(|feature| MissingStore { scheme, feature }))
}

impl MissingStore {
    fn refusal(&self, what: &str) -> CodedError {
        let Self { scheme, feature } = self;
        let message = format!("{what}: it was built without the feature `{feature}` for `{scheme}://`");
        CodedError::new(ErrorCode::StorageSchemeNotBuilt, message).with_hint(format!(
            "build it with `streamd = {{ features = [\"{feature}\"] }}`, or choose a place that all of its processes reach"
        ))
    }

    fn warning(&self, folder: &str) -> String {
        let feature = self.feature;
        format!(
            "savepoints of the job cannot go to `{folder}`: the application was built without the feature `{feature}`"
        )
    }
}

#[cfg(test)]
#[path = "built_tests.rs"]
mod tests;
