//! The body of version 1, turned into that of the present one: a state was in one object, and its blocks in the order of their
//! key groups, each with keys of its own.

use serde::Deserialize;
use streamd_core::barrier::SnapshotKind;
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::DataType;
use streamd_core::snapshot::{
    KeyedStateFormat, KeyedStateHandle, ListState, METADATA_VERSION, NativeBlock, NativeSegment, ObjectHandle,
    OperatorState, SnapshotMetadata,
};
use streamd_core::time::WallTime;

use super::{Body, ListTable};

#[derive(Deserialize)]
struct FirstBody {
    snapshot: FirstMetadata,
    list_tables: Vec<ListTable>,
}

#[derive(Deserialize)]
struct FirstMetadata {
    version: u32,
    key_hash_version: u32,
    kind: SnapshotKind,
    job_id: JobId,
    checkpoint_id: CheckpointId,
    triggered_at: WallTime,
    leader_epoch: u64,
    attempt: Attempt,
    nonce: String,
    graph: JobGraph,
    operators: Vec<FirstOperator>,
}

#[derive(Deserialize)]
struct FirstOperator {
    id: OperatorId,
    uid: Option<String>,
    name: String,
    parallelism: u32,
    max_parallelism: u32,
    keyed: Vec<FirstHandle>,
    lists: Vec<ListState>,
}

#[derive(Deserialize)]
struct FirstHandle {
    state: String,
    key: DataType,
    value: DataType,
    key_groups: KeyGroupRange,
    format: FirstFormat,
    object: ObjectHandle,
    rows: u64,
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum FirstFormat {
    Native { blocks: Vec<FirstBlock> },
    Parquet,
}

#[derive(Deserialize)]
struct FirstBlock {
    key_groups: KeyGroupRange,
    offset: u64,
    length: u64,
}

/// The body as the present version has it, and the version that it states.
pub(super) fn read(body: &[u8]) -> serde_json::Result<(Body, u32)> {
    let FirstBody { snapshot, list_tables } = serde_json::from_slice(body)?;
    let stated = snapshot.version;
    let snapshot = SnapshotMetadata::from(snapshot);
    Ok((Body { snapshot, list_tables }, stated))
}

impl From<FirstMetadata> for SnapshotMetadata {
    fn from(first: FirstMetadata) -> Self {
        Self {
            version: METADATA_VERSION,
            key_hash_version: first.key_hash_version,
            kind: first.kind,
            job_id: first.job_id,
            checkpoint_id: first.checkpoint_id,
            triggered_at: first.triggered_at,
            leader_epoch: first.leader_epoch,
            attempt: first.attempt,
            nonce: first.nonce,
            graph: first.graph,
            operators: first.operators.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<FirstOperator> for OperatorState {
    fn from(first: FirstOperator) -> Self {
        Self {
            id: first.id,
            uid: first.uid,
            name: first.name,
            parallelism: first.parallelism,
            max_parallelism: first.max_parallelism,
            keyed: first.keyed.into_iter().map(Into::into).collect(),
            lists: first.lists,
        }
    }
}

impl From<FirstHandle> for KeyedStateHandle {
    fn from(first: FirstHandle) -> Self {
        let format = match first.format {
            FirstFormat::Parquet => KeyedStateFormat::Parquet,
            FirstFormat::Native { blocks } => KeyedStateFormat::Native {
                segments: blocks.into_iter().map(Into::into).collect(),
            },
        };
        Self {
            state: first.state,
            key: first.key,
            namespace: None,
            value: first.value,
            key_groups: first.key_groups,
            format,
            objects: vec![first.object],
            rows: first.rows,
            bytes: first.bytes,
        }
    }
}

impl From<FirstBlock> for NativeSegment {
    fn from(first: FirstBlock) -> Self {
        Self {
            key_groups: first.key_groups,
            hashes: None,
            earliest: Vec::new(),
            blocks: vec![NativeBlock {
                object: 0,
                layer: 0,
                offset: first.offset,
                length: first.length,
            }],
        }
    }
}
