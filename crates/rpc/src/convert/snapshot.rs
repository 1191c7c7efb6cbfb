//! State handles of snapshots.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use streamd_core::id::OperatorId;
use streamd_core::key_group::HashRange;
use streamd_core::snapshot::{
    Inline, KeyedStateFormat, KeyedStateHandle, ListState, NativeBlock, NativeSegment, ObjectHandle,
    OperatorSubtaskState,
};

use super::ConvertError;
use super::field::{all, id, schema, schema_to_json, text};
use super::state::key_groups;
use crate::proto;
use crate::proto::keyed_state_handle::Format;
use crate::proto::object_handle::Inline as InlineProto;

/// The state of a subtask's operators, as a list that carries the operators' ids.
pub(super) fn operators_to_proto(
    operators: BTreeMap<OperatorId, OperatorSubtaskState>,
) -> Vec<proto::OperatorSubtaskState> {
    let converted = operators
        .into_iter()
        .map(|(operator, state)| proto::OperatorSubtaskState {
            operator_id: operator.to_string(),
            keyed: state.keyed.into_iter().map(Into::into).collect(),
            lists: state.lists.into_iter().map(Into::into).collect(),
        });
    let mut list: Vec<_> = converted.collect();
    send_once(&mut list);
    list
}

fn objects(list: &mut [proto::OperatorSubtaskState]) -> impl Iterator<Item = &mut proto::ObjectHandle> {
    let handles = list.iter_mut().flat_map(|operator| &mut operator.keyed);
    handles.flat_map(|handle| &mut handle.objects)
}

/// The states of a subtask are in one object: its bytes travel once.
fn send_once(list: &mut [proto::OperatorSubtaskState]) {
    let mut sent: BTreeSet<String> = BTreeSet::new();
    for object in objects(list) {
        if let Some(InlineProto::Content(_)) = object.inline
            && !sent.insert(object.path.clone())
        {
            object.inline = Some(InlineProto::Repeated(true));
        }
    }
}

/// Puts the bytes that travelled once wherever they belong.
fn fill_in(list: &mut [proto::OperatorSubtaskState]) -> Result<(), ConvertError> {
    let mut sent: BTreeMap<String, Bytes> = BTreeMap::new();
    for object in objects(list) {
        match &object.inline {
            Some(InlineProto::Content(content)) => drop(sent.insert(object.path.clone(), content.clone())),
            Some(InlineProto::Repeated(_)) => {
                let content = sent.get(&object.path).cloned().ok_or_else(|| {
                    let reason = format!("the bytes of `{}` did not come before", object.path);
                    ConvertError::invalid("ObjectHandle.repeated", reason)
                })?;
                object.inline = Some(InlineProto::Content(content));
            }
            Some(InlineProto::BeforeEnd(_)) | None => {}
        }
    }
    Ok(())
}

/// The state of a subtask's operators. An operator that is named twice is refused: one of the two would be lost.
pub(super) fn operators(
    mut list: Vec<proto::OperatorSubtaskState>,
) -> Result<BTreeMap<OperatorId, OperatorSubtaskState>, ConvertError> {
    const FIELD: &str = "OperatorSubtaskState.operator_id";
    fill_in(&mut list)?;
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
            hashes: segment
                .hashes
                .map(|HashRange { start, end }| proto::HashRange { start, end }),
            earliest: segment.earliest,
            blocks: segment.blocks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::NativeSegment> for NativeSegment {
    type Error = ConvertError;

    fn try_from(segment: proto::NativeSegment) -> Result<Self, ConvertError> {
        Ok(Self {
            key_groups: key_groups(segment.key_groups, "NativeSegment.key_groups")?,
            hashes: segment.hashes.map(|range| HashRange {
                start: range.start,
                end: range.end,
            }),
            earliest: segment.earliest,
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
            inline: object.inline.map(|inline| match inline {
                Inline::Here(content) => InlineProto::Content(Bytes::copy_from_slice(&content)),
                Inline::BeforeEnd(before_end) => InlineProto::BeforeEnd(before_end),
            }),
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
            inline: match object.inline {
                None => None,
                Some(InlineProto::BeforeEnd(before_end)) => Some(Inline::BeforeEnd(before_end)),
                Some(InlineProto::Content(content)) if content.len() as u64 == object.length => {
                    Some(Inline::Here(content.as_ref().into()))
                }
                Some(InlineProto::Content(content)) => {
                    let reason = format!("{} bytes came of {}", content.len(), object.length);
                    return Err(ConvertError::invalid("ObjectHandle.content", reason));
                }
                Some(InlineProto::Repeated(_)) => {
                    return Err(ConvertError::Missing {
                        field: "ObjectHandle.content",
                    });
                }
            },
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
