//! State handles of snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use streamd_core::id::OperatorId;
use streamd_core::snapshot::{
    KeyedStateFormat, KeyedStateHandle, ListState, NativeBlock, NativeSegment, ObjectHandle, OperatorSubtaskState,
};

use super::ConvertError;
use super::field::{all, id, schema, schema_to_json, text};
use super::state::key_groups;
use crate::proto;
use crate::proto::keyed_state_handle::Format;

/// The state of a subtask's operators, as a list that carries the operators' ids.
pub(super) fn operators_to_proto(
    operators: BTreeMap<OperatorId, OperatorSubtaskState>,
) -> Vec<proto::OperatorSubtaskState> {
    operators
        .into_iter()
        .map(|(operator, state)| proto::OperatorSubtaskState {
            operator_id: operator.to_string(),
            keyed: state.keyed.into_iter().map(Into::into).collect(),
            lists: state.lists.into_iter().map(Into::into).collect(),
        })
        .collect()
}

/// The state of a subtask's operators. An operator that is named twice is refused: one of the two would be lost.
pub(super) fn operators(
    list: Vec<proto::OperatorSubtaskState>,
) -> Result<BTreeMap<OperatorId, OperatorSubtaskState>, ConvertError> {
    const FIELD: &str = "OperatorSubtaskState.operator_id";
    let mut operators = BTreeMap::new();
    for entry in list {
        let operator: OperatorId = id(&entry.operator_id, FIELD)?;
        let state = OperatorSubtaskState {
            keyed: all(entry.keyed)?,
            lists: all(entry.lists)?,
        };
        if operators.insert(operator, state).is_some() {
            return Err(ConvertError::invalid(
                FIELD,
                format!("operator `{operator}` comes twice"),
            ));
        }
    }
    Ok(operators)
}

impl From<KeyedStateHandle> for proto::KeyedStateHandle {
    fn from(handle: KeyedStateHandle) -> Self {
        let (format, segments, files) = match handle.format {
            KeyedStateFormat::Native { segments } => (Format::Native, segments, Vec::new()),
            KeyedStateFormat::Parquet => (Format::Parquet, Vec::new(), Vec::new()),
            KeyedStateFormat::RocksDb { files } => (Format::Rocksdb, Vec::new(), files),
        };
        Self {
            state: handle.state,
            key_type: schema_to_json(&handle.key),
            namespace_type: handle.namespace.as_ref().map(schema_to_json).unwrap_or_default(),
            value_type: schema_to_json(&handle.value),
            key_groups: Some(handle.key_groups.into()),
            format: format.into(),
            segments: segments.into_iter().map(Into::into).collect(),
            objects: handle.objects.into_iter().map(Into::into).collect(),
            rows: handle.rows,
            bytes: handle.bytes,
            files,
        }
    }
}

impl TryFrom<proto::KeyedStateHandle> for KeyedStateHandle {
    type Error = ConvertError;

    fn try_from(handle: proto::KeyedStateHandle) -> Result<Self, ConvertError> {
        let format = keyed_format(handle.format, handle.segments, handle.files)?;
        Ok(Self {
            state: text(handle.state, "KeyedStateHandle.state")?,
            key: schema(&handle.key_type, "KeyedStateHandle.key_type")?,
            namespace: match handle.namespace_type.as_str() {
                "" => None,
                json => Some(schema(json, "KeyedStateHandle.namespace_type")?),
            },
            value: schema(&handle.value_type, "KeyedStateHandle.value_type")?,
            key_groups: key_groups(handle.key_groups, "KeyedStateHandle.key_groups")?,
            format,
            objects: all(handle.objects)?,
            rows: handle.rows,
            bytes: handle.bytes,
        })
    }
}

fn keyed_format(
    number: i32,
    segments: Vec<proto::NativeSegment>,
    files: Vec<String>,
) -> Result<KeyedStateFormat, ConvertError> {
    const FIELD: &str = "KeyedStateHandle.format";
    match Format::try_from(number) {
        Ok(Format::Native) => Ok(KeyedStateFormat::Native {
            segments: all(segments)?,
        }),
        Ok(Format::Parquet) if segments.is_empty() => Ok(KeyedStateFormat::Parquet),
        Ok(Format::Parquet) => Err(ConvertError::invalid(
            "KeyedStateHandle.segments",
            "a Parquet file has no native segments",
        )),
        Ok(Format::Rocksdb) => Ok(KeyedStateFormat::RocksDb { files }),
        Ok(Format::Unspecified) => Err(ConvertError::Missing { field: FIELD }),
        Err(_) => Err(ConvertError::invalid(
            FIELD,
            format!("{number} is no format of keyed state"),
        )),
    }
}

impl From<NativeSegment> for proto::NativeSegment {
    fn from(segment: NativeSegment) -> Self {
        Self {
            key_groups: Some(segment.key_groups.into()),
            blocks: segment.blocks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::NativeSegment> for NativeSegment {
    type Error = ConvertError;

    fn try_from(segment: proto::NativeSegment) -> Result<Self, ConvertError> {
        Ok(Self {
            key_groups: key_groups(segment.key_groups, "NativeSegment.key_groups")?,
            blocks: all(segment.blocks)?,
        })
    }
}

impl From<NativeBlock> for proto::NativeBlock {
    fn from(block: NativeBlock) -> Self {
        Self {
            object: block.object,
            layer: block.layer,
            offset: block.offset,
            length: block.length,
        }
    }
}

impl TryFrom<proto::NativeBlock> for NativeBlock {
    type Error = ConvertError;

    fn try_from(block: proto::NativeBlock) -> Result<Self, ConvertError> {
        if block.offset.checked_add(block.length).is_none() {
            return Err(ConvertError::invalid(
                "NativeBlock.length",
                "the block ends beyond 2^64",
            ));
        }
        Ok(Self {
            object: block.object,
            layer: block.layer,
            offset: block.offset,
            length: block.length,
        })
    }
}

impl From<ObjectHandle> for proto::ObjectHandle {
    fn from(object: ObjectHandle) -> Self {
        Self {
            path: object.path,
            length: object.length,
            digest: object.digest,
        }
    }
}

impl TryFrom<proto::ObjectHandle> for ObjectHandle {
    type Error = ConvertError;

    fn try_from(object: proto::ObjectHandle) -> Result<Self, ConvertError> {
        Ok(Self {
            path: text(object.path, "ObjectHandle.path")?,
            length: object.length,
            digest: text(object.digest, "ObjectHandle.digest")?,
        })
    }
}

impl From<ListState> for proto::ListState {
    fn from(list: ListState) -> Self {
        Self {
            name: list.name,
            data_type: schema_to_json(&list.data_type),
            items: list.items.into_iter().map(Bytes::from).collect(),
        }
    }
}

impl TryFrom<proto::ListState> for ListState {
    type Error = ConvertError;

    fn try_from(list: proto::ListState) -> Result<Self, ConvertError> {
        Ok(Self {
            name: text(list.name, "ListState.name")?,
            data_type: schema(&list.data_type, "ListState.data_type")?,
            items: list.items.into_iter().map(Vec::from).collect(),
        })
    }
}
