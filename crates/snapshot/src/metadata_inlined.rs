//! Objects that are inlined: whether the metadata and the bytes behind its JSON fit together.

use std::collections::BTreeMap;

use streamd_core::barrier::SnapshotKind;
use streamd_core::snapshot::{Inline, KeyedStateFormat, KeyedStateHandle, ObjectHandle, SnapshotMetadata};
use xxhash_rust::xxh3::xxh3_128;

use super::malformed;
use crate::error::SnapshotError;
use crate::layout;
use crate::store::digest_text;

/// Whether the objects of a handle may be inlined as they are said to be: only the native form of a checkpoint, and only in its own
/// metadata.
pub(super) fn check_handle(handle: &KeyedStateHandle, kind: SnapshotKind) -> Result<(), String> {
    let is_native = matches!(handle.format, KeyedStateFormat::Native { .. });
    let is_possible = |object: &ObjectHandle| {
        is_native && kind == SnapshotKind::Checkpoint && layout::split_beside(&object.path).is_none()
    };
    let mut inlined = handle.objects.iter().filter(|object| object.inline.is_some());
    match inlined.find(|object| !is_possible(object)) {
        Some(object) => Err(format!("object `{}` cannot be inlined", object.path)),
        None => Ok(()),
    }
}

/// Whether the inlined objects are the bytes behind the JSON, one after the other and nothing else, each with its digest.
pub(super) fn check(uri: &str, snapshot: &SnapshotMetadata, contents: &[u8]) -> Result<(), SnapshotError> {
    let handles = snapshot.operators.iter().flat_map(|operator| &operator.keyed);
    let mut places: BTreeMap<u64, &ObjectHandle> = BTreeMap::new();
    for object in handles.flat_map(|handle| &handle.objects) {
        let before_end = match &object.inline {
            None => continue,
            Some(Inline::Here(_)) => 0,
            Some(Inline::BeforeEnd(before_end)) => *before_end,
        };
        let known = places.entry(before_end).or_insert(object);
        if *known != object {
            let reason = format!("`{}` and `{}` are inlined in one place", known.path, object.path);
            return Err(malformed(uri, reason));
        }
    }
    let mut rest = contents;
    for (before_end, object) in places.into_iter().rev() {
        let bytes = usize::try_from(object.length)
            .ok()
            .filter(|_| before_end == rest.len() as u64);
        let Some((bytes, behind)) = bytes.and_then(|length| rest.split_at_checked(length)) else {
            let reason = format!(
                "the bytes of the inlined object `{}` are not where it says",
                object.path
            );
            return Err(malformed(uri, reason));
        };
        let actual = digest_text(xxh3_128(bytes));
        if actual != object.digest {
            let reason = format!("the digest of the inlined object `{}` is `{actual}`", object.path);
            return Err(malformed(uri, reason));
        }
        rest = behind;
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(malformed(uri, format!("{} of its bytes are no object's", rest.len())))
}
