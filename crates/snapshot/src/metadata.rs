//! The bytes of `_metadata`: a fixed envelope around JSON, so that whatever is wrong with a file can be told exactly.
//!
//! ```text
//! magic 8 | version u32 | length of the body u64 | body | XXH3-128 of everything before, 16 bytes
//!
//! body: JSON, and where objects are inlined: a zero byte | the bytes of one | those of the next | …
//! ```
//!
//! Integers are little endian, the digest is big endian (as its hexadecimal text reads). The envelope stays the same for ever;
//! the version is that of the body.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use streamd_core::barrier::SnapshotKind;
use streamd_core::id::OperatorId;
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange, UPPER_BOUND_MAX_PARALLELISM};
use streamd_core::snapshot::{
    KeyedStateFormat, KeyedStateHandle, METADATA_VERSION, ObjectHandle, OperatorState, SnapshotMetadata,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::coverage::check_coverage;
use crate::database::check_files;
use crate::error::SnapshotError;
use crate::layout;
use crate::native::check_segments;
use crate::store::digest_text;
use crate::table::check_type;

#[path = "metadata_first.rs"]
mod first;
#[path = "metadata_inlined.rs"]
mod inlined;

/// What every metadata file begins with.
const MAGIC: [u8; 8] = *b"STREAMD\n";
/// Magic, version, length of the body.
const HEADER_BYTES: usize = 20;
/// The digest at the end.
pub(crate) const DIGEST_BYTES: usize = 16;
/// What ends the JSON of a body, if anything comes behind it: no JSON has it.
const END_OF_JSON: u8 = 0;

/// Bytes of a metadata file at most. A million handles fit; what is larger is not believed to be one.
pub const MAX_METADATA_BYTES: u64 = 256 << 20;

/// A list of operator state that is kept in a table of its own, as in savepoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ListTable {
    /// Whose state it is.
    pub operator: OperatorId,
    /// The name of the list.
    pub state: String,
    /// How many items are in it.
    pub items: u64,
    /// The table.
    pub object: ObjectHandle,
}

/// What the body holds.
#[derive(Serialize)]
struct BodyRef<'a> {
    snapshot: &'a SnapshotMetadata,
    list_tables: &'a [ListTable],
}

#[derive(Deserialize)]
struct Body {
    snapshot: SnapshotMetadata,
    list_tables: Vec<ListTable>,
}

/// The bytes of a metadata file. Lists whose items are in a table must be empty in `snapshot`.
pub(crate) fn encode(
    uri: &str,
    snapshot: &SnapshotMetadata,
    list_tables: &[ListTable],
) -> Result<Vec<u8>, SnapshotError> {
    encode_within(MAX_METADATA_BYTES, uri, snapshot, list_tables)
}

fn encode_within(
    limit: u64,
    uri: &str,
    snapshot: &SnapshotMetadata,
    list_tables: &[ListTable],
) -> Result<Vec<u8>, SnapshotError> {
    let check = |bytes: usize| match bytes as u64 {
        bytes if bytes > limit => Err(SnapshotError::MetadataTooLarge {
            uri: uri.to_owned(),
            bytes,
            limit,
        }),
        _fits => Ok(()),
    };
    let settled;
    let (snapshot, contents) = if snapshot.has_contents() {
        let mut taken = snapshot.clone();
        let contents = taken.take_contents();
        settled = taken;
        (&settled, contents)
    } else {
        (snapshot, Vec::new())
    };
    let inlined: usize = contents.iter().map(|content| content.len()).sum();
    // Before anything of that size is allocated.
    check(inlined)?;
    let mut bytes = Vec::with_capacity(4096 + inlined);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&METADATA_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    serde_json::to_writer(&mut bytes, &BodyRef { snapshot, list_tables })
        .map_err(|error| malformed(uri, format!("it cannot be written: {error}")))?;
    if !contents.is_empty() {
        bytes.push(END_OF_JSON);
        contents.iter().for_each(|content| bytes.extend_from_slice(content));
    }
    inlined::check(uri, snapshot, behind_json(&bytes[HEADER_BYTES..]).1)?;
    let body = (bytes.len() - HEADER_BYTES) as u64;
    bytes[12..HEADER_BYTES].copy_from_slice(&body.to_le_bytes());
    let digest = xxh3_128(&bytes);
    bytes.extend_from_slice(&digest.to_be_bytes());
    check(bytes.len())?;
    Ok(bytes)
}

/// Reads a metadata file. `uri` is for messages. Never panics, whatever the bytes.
pub(crate) fn decode(uri: &str, bytes: &[u8]) -> Result<(SnapshotMetadata, Vec<ListTable>), SnapshotError> {
    let (version, body) = unwrap(uri, bytes)?;
    if version > METADATA_VERSION {
        return Err(SnapshotError::NewerVersion {
            uri: uri.to_owned(),
            found: version,
            supported: METADATA_VERSION,
        });
    }
    if version == 0 {
        return Err(malformed(uri, "its version is 0".to_owned()));
    }
    let unreadable = |error| malformed(uri, format!("its body cannot be read: {error}"));
    let (json, contents) = match version {
        1 | 2 => (body, &[][..]),
        _present => behind_json(body),
    };
    let (body, stated) = match version {
        1 => first::read(json).map_err(unreadable)?,
        _later => {
            let mut body: Body = serde_json::from_slice(json).map_err(unreadable)?;
            let stated = std::mem::replace(&mut body.snapshot.version, METADATA_VERSION);
            (body, stated)
        }
    };
    let Body { snapshot, list_tables } = body;
    if stated != version {
        let reason = format!("its envelope says version {version}, its body {stated}");
        return Err(malformed(uri, reason));
    }
    validate(uri, &snapshot)?;
    inlined::check(uri, &snapshot, contents)?;
    if total(list_tables.iter().map(|table| table.object.length)).is_none() {
        return Err(uncountable(uri, "bytes"));
    }
    list_tables
        .iter()
        .try_for_each(|table| check_path(uri, table.operator, &table.object, SnapshotKind::Savepoint))?;
    Ok((snapshot, list_tables))
}

/// The version that a metadata file states. The bytes are at least a header.
pub(crate) fn version_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"))
}

/// The JSON of a body, and what comes behind it.
fn behind_json(body: &[u8]) -> (&[u8], &[u8]) {
    match body.iter().position(|byte| *byte == END_OF_JSON) {
        Some(end) => (&body[..end], &body[end + 1..]),
        None => (body, &[]),
    }
}

/// The envelope around any body of any version, as a forger would make it.
pub(crate) fn sealed(version: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(body);
    let digest = xxh3_128(&bytes);
    bytes.extend_from_slice(&digest.to_be_bytes());
    bytes
}

/// Version and body of an intact envelope.
fn unwrap<'a>(uri: &str, bytes: &'a [u8]) -> Result<(u32, &'a [u8]), SnapshotError> {
    let truncated = |expected: u64| SnapshotError::Truncated {
        uri: uri.to_owned(),
        expected,
        actual: bytes.len() as u64,
    };
    let magic = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(magic) {
        return Err(SnapshotError::NotMetadata { uri: uri.to_owned() });
    }
    let least = (HEADER_BYTES + DIGEST_BYTES) as u64;
    if (bytes.len() as u64) < least {
        return Err(truncated(least));
    }
    let version = version_of(bytes);
    let body = u64::from_le_bytes(bytes[12..HEADER_BYTES].try_into().expect("eight bytes"));
    let expected = body.saturating_add(least);
    match (bytes.len() as u64).cmp(&expected) {
        std::cmp::Ordering::Less => return Err(truncated(expected)),
        std::cmp::Ordering::Greater => {
            let actual = bytes.len() as u64;
            return Err(SnapshotError::TooLong {
                uri: uri.to_owned(),
                expected,
                actual,
            });
        }
        std::cmp::Ordering::Equal => {}
    }
    let (checked, recorded) = bytes.split_at(bytes.len() - DIGEST_BYTES);
    let recorded = u128::from_be_bytes(recorded.try_into().expect("sixteen bytes"));
    let actual = xxh3_128(checked);
    if recorded != actual {
        return Err(SnapshotError::DigestMismatch {
            uri: uri.to_owned(),
            expected: digest_text(recorded),
            actual: digest_text(actual),
        });
    }
    Ok((version, &checked[HEADER_BYTES..]))
}

/// Refuses what no streamd writes: what comes after may rely on it.
pub(crate) fn validate(uri: &str, metadata: &SnapshotMetadata) -> Result<(), SnapshotError> {
    if metadata.key_hash_version != KEY_HASH_VERSION {
        let reason = format!(
            "its keys were placed by the unknown hash version {}",
            metadata.key_hash_version
        );
        return Err(malformed(uri, reason));
    }
    if metadata.nonce.is_empty() {
        return Err(malformed(uri, "it has no nonce".to_owned()));
    }
    let mut seen = BTreeSet::new();
    for operator in &metadata.operators {
        if !seen.insert(operator.id) {
            return Err(impossible(uri, operator.id, "it is there twice".to_owned()));
        }
        check_operator(uri, operator, metadata.kind)?;
    }
    check_totals(uri, metadata)
}

/// Whoever adds the numbers of states up may rely on it that their sums are numbers too.
fn check_totals(uri: &str, metadata: &SnapshotMetadata) -> Result<(), SnapshotError> {
    let handles = || metadata.operators.iter().flat_map(|operator| &operator.keyed);
    let objects = handles().flat_map(|handle| &handle.objects).map(|object| object.length);
    let totals = [
        ("rows", total(handles().map(|handle| handle.rows))),
        ("bytes", total(handles().map(|handle| handle.bytes))),
        ("bytes", total(objects)),
    ];
    match totals.iter().find(|(_what, total)| total.is_none()) {
        Some((what, _none)) => Err(uncountable(uri, what)),
        None => Ok(()),
    }
}

fn uncountable(uri: &str, what: &str) -> SnapshotError {
    malformed(
        uri,
        format!("its states are said to have more {what} than there can be"),
    )
}

fn total(mut numbers: impl Iterator<Item = u64>) -> Option<u64> {
    numbers.try_fold(0, u64::checked_add)
}

fn check_operator(uri: &str, operator: &OperatorState, kind: SnapshotKind) -> Result<(), SnapshotError> {
    let id = operator.id;
    if !(1..=UPPER_BOUND_MAX_PARALLELISM).contains(&operator.max_parallelism) {
        return Err(impossible(
            uri,
            id,
            format!("it has {} key groups", operator.max_parallelism),
        ));
    }
    let mut parts: BTreeMap<&str, Vec<KeyGroupRange>> = BTreeMap::new();
    for handle in &operator.keyed {
        let groups = handle.key_groups;
        if groups.start > groups.end || groups.end > operator.max_parallelism {
            return Err(impossible(
                uri,
                id,
                format!("state `{}` is said to hold key groups {groups}", handle.state),
            ));
        }
        check_type(&handle.state, &handle.key)?;
        check_type(&handle.state, &handle.value)?;
        if let Some(namespace) = &handle.namespace {
            check_type(&handle.state, namespace)?;
        }
        for object in &handle.objects {
            check_path(uri, id, object, kind)?;
        }
        check_parts(handle).map_err(|reason| impossible(uri, id, reason))?;
        inlined::check_handle(handle, kind).map_err(|reason| impossible(uri, id, reason))?;
        parts.entry(&handle.state).or_default().push(groups);
    }
    for (state, parts) in parts {
        // A subtask without a row writes a table too. What was left empty by all of them is a state without keys.
        if parts.iter().any(|groups| !groups.is_empty()) {
            let whole = check_coverage(parts.into_iter(), KeyGroupRange::all(operator.max_parallelism));
            whole.map_err(|wrong| impossible(uri, id, format!("state `{state}` has {wrong}")))?;
        }
    }
    operator
        .lists
        .iter()
        .try_for_each(|list| check_type(&list.name, &list.data_type))
}

/// Whether the parts of a state can be what its handle says.
fn check_parts(handle: &KeyedStateHandle) -> Result<(), String> {
    match &handle.format {
        KeyedStateFormat::Native { segments } => check_segments(handle, segments),
        KeyedStateFormat::RocksDb { files } => check_files(handle, files),
        KeyedStateFormat::Parquet if handle.objects.len() == 1 => Ok(()),
        KeyedStateFormat::Parquet => Err(format!(
            "state `{}` is said to be in {} tables",
            handle.state,
            handle.objects.len()
        )),
    }
}

/// A savepoint refers only to what is in its own folder: that is what makes it movable. A checkpoint refers to earlier ones of its
/// job as well, which lie beside it: they move together.
fn check_path(uri: &str, operator: OperatorId, object: &ObjectHandle, kind: SnapshotKind) -> Result<(), SnapshotError> {
    let is_digest = object.digest.len() == 32 && object.digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest {
        return Err(impossible(
            uri,
            operator,
            format!("object `{}` has no digest", object.path),
        ));
    }
    let name = match (kind, layout::split_beside(&object.path)) {
        (SnapshotKind::Checkpoint, Some((_folder, name))) => name,
        (SnapshotKind::Checkpoint | SnapshotKind::Savepoint, _) => &object.path,
    };
    match crate::store::check_name(name) {
        Ok(()) => Ok(()),
        Err(error) => Err(impossible(uri, operator, error.to_string())),
    }
}

fn malformed(uri: &str, reason: String) -> SnapshotError {
    SnapshotError::Malformed {
        uri: uri.to_owned(),
        reason,
    }
}

fn impossible(uri: &str, operator: OperatorId, reason: String) -> SnapshotError {
    SnapshotError::ImpossibleOperator {
        uri: uri.to_owned(),
        operator,
        reason,
    }
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
