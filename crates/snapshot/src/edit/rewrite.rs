//! Writing the new savepoint: every row of the old snapshot passes by once, and the changes are made on the way.

use std::collections::BTreeMap;

use streamd_core::barrier::SnapshotKind;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateHandle, METADATA_VERSION, OperatorState};
use tokio::runtime::Handle;

use super::changes::Changes;
use crate::database_reader::read_operator_state;
use crate::discard::discard;
use crate::error::SnapshotError;
use crate::inspect::{InspectError, KeyedContents};
use crate::json::split;
use crate::layout;
use crate::publish::{PublishError, publish, random_nonce};
use crate::read::StoredSnapshot;
use crate::store::{CreateError, Location};
use crate::subtask::{KeyedTable, SubtaskContext};
use crate::table::SavepointWriter;

/// A savepoint with changed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The URI of its folder.
    pub uri: String,
    /// Its bytes.
    pub bytes: u64,
    /// Keys that have another value than before.
    pub replaced: u64,
    /// Keys that were not there before.
    pub added: u64,
    /// Keys that are gone.
    pub removed: u64,
}

/// Writes a savepoint to the new folder `target` that is like the snapshot, but for the changes of one state. Everything else is
/// carried over: other states, positions of sources, the plan.
///
/// All or nothing: after an error nothing is left at the target, except where the store does not say whether it took the last write
/// ([`InspectError::OutcomeUnknown`]). Removing a key that is not there is an error. Memory is bounded by the changes and one part of a
/// table, whatever the size of the state. Blocks: call it on a thread that is not tokio's.
pub fn edit_snapshot(
    stored: &StoredSnapshot,
    state: &KeyedContents<'_>,
    changes: Changes,
    target: &str,
    runtime: &Handle,
) -> Result<Edited, InspectError> {
    let folder = Location::open(target)?;
    check_target(stored, &folder, runtime)?;
    let mut rewriting = Rewriting {
        stored,
        folder: folder.clone(),
        state,
        changes: changes.by_group,
        edited: Edited {
            uri: folder.uri(),
            bytes: 0,
            replaced: 0,
            added: 0,
            removed: 0,
        },
        runtime,
    };
    match rewriting.write() {
        Ok(()) => Ok(rewriting.edited),
        Err(error) => {
            if !matches!(
                error,
                InspectError::OutcomeUnknown { .. } | InspectError::TargetExists { .. }
            ) {
                // The first error is what the user must know; what stays behind has no metadata and is no savepoint.
                if let Err(error) = runtime.block_on(discard(&folder)) {
                    tracing::warn!(savepoint = %folder, %error, "the unfinished savepoint cannot be removed");
                }
            }
            Err(error)
        }
    }
}

fn check_target(stored: &StoredSnapshot, folder: &Location, runtime: &Handle) -> Result<(), InspectError> {
    let bad = |reason| InspectError::BadTarget {
        target: folder.uri(),
        reason,
    };
    if folder.name().is_none() {
        return Err(bad("it is the root of a store"));
    }
    if layout::is_checkpoint_folder(folder) {
        return Err(bad("it has the name of a checkpoint, which belongs to a job"));
    }
    if format!("{}/", folder.uri()).starts_with(&format!("{}/", stored.folder)) {
        return Err(bad("it is within the snapshot that is edited"));
    }
    let is_taken = runtime.block_on(async {
        let is_object = folder.exists().await?;
        Ok::<bool, InspectError>(is_object || !folder.list_names().await?.is_empty())
    })?;
    match is_taken {
        true => Err(InspectError::TargetExists { target: folder.uri() }),
        false => Ok(()),
    }
}

struct Rewriting<'a> {
    stored: &'a StoredSnapshot,
    folder: Location,
    state: &'a KeyedContents<'a>,
    /// What is still to be done.
    changes: BTreeMap<u32, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    edited: Edited,
    runtime: &'a Handle,
}

impl Rewriting<'_> {
    fn write(&mut self) -> Result<(), InspectError> {
        let mut metadata = self.stored.metadata.clone();
        for operator in &mut metadata.operators {
            operator.keyed = self.rewrite_operator(operator)?;
        }
        metadata.version = METADATA_VERSION;
        metadata.kind = SnapshotKind::Savepoint;
        metadata.nonce = random_nonce();
        match self.runtime.block_on(publish(&self.folder, &metadata)) {
            Ok(published) => self.edited.bytes = published.bytes,
            Err(PublishError::Failed(error)) => return Err(error.into()),
            Err(PublishError::NotCreated(CreateError::Failed(error))) => return Err(error.into()),
            Err(PublishError::NotCreated(CreateError::Lost { .. })) => {
                return Err(InspectError::TargetExists {
                    target: self.folder.uri(),
                });
            }
            Err(PublishError::NotCreated(source @ CreateError::OutcomeUnknown { .. })) => {
                let target = self.folder.uri();
                let source = Box::new(source);
                return Err(InspectError::OutcomeUnknown { target, source });
            }
        }
        Ok(())
    }

    fn rewrite_operator(&mut self, operator: &OperatorState) -> Result<Vec<KeyedStateHandle>, InspectError> {
        let mut parts: BTreeMap<&str, Vec<&KeyedStateHandle>> = BTreeMap::new();
        for handle in &operator.keyed {
            parts.entry(&handle.state).or_default().push(handle);
        }
        let mut handles = Vec::new();
        for (state, mut parts) in parts {
            parts.sort_by_key(|handle| handle.key_groups);
            let is_edited = operator.id == self.state.operator().id && state == self.state.name();
            let mut start = 0;
            for part in &parts {
                if is_edited {
                    self.write_gap(operator, part, (start, part.key_groups.start), &mut handles)?;
                }
                handles.extend(self.rewrite_part(operator, part, handles.len(), is_edited)?);
                start = start.max(part.key_groups.end);
            }
            if is_edited {
                self.write_gap(operator, parts[0], (start, operator.max_parallelism), &mut handles)?;
            }
        }
        Ok(handles)
    }

    /// Rows of one part of a state, changed where they are to be.
    fn rewrite_part(
        &mut self,
        operator: &OperatorState,
        part: &KeyedStateHandle,
        subtask: usize,
        is_edited: bool,
    ) -> Result<Vec<KeyedStateHandle>, InspectError> {
        let mut writer = self.begin(operator, part, part.key_groups, subtask)?;
        let mut refused = None;
        let (folder, runtime) = (&self.stored.folder, self.runtime);
        let of_operator = (operator, part);
        let read = read_operator_state(
            of_operator,
            folder,
            part.key_groups,
            runtime,
            &mut |group, key, value| {
                if !is_edited || self.changes.is_empty() {
                    return writer.row(group, key, value);
                }
                if let Err(error) = self.add_until(group, &mut writer) {
                    refused = Some(error);
                    return Err(stopped(&part.state));
                }
                match self.changes.get_mut(&group).and_then(|keys| keys.remove(key)) {
                    None => writer.row(group, key, value),
                    Some(Some(changed)) => {
                        self.edited.replaced += u64::from(changed != value);
                        writer.row(group, key, &changed)
                    }
                    Some(None) => {
                        self.edited.removed += 1;
                        Ok(())
                    }
                }
            },
        );
        if let Some(error) = refused {
            return Err(error);
        }
        read?;
        if is_edited {
            self.add_until(part.key_groups.end, &mut writer)?;
        }
        finish(writer)
    }

    /// Writes the new keys of the key groups below this one: all of their rows have passed by.
    fn add_until(&mut self, group: u32, writer: &mut SavepointWriter) -> Result<(), InspectError> {
        while let Some(entry) = self.changes.first_entry().filter(|entry| *entry.key() < group) {
            let (group, keys) = entry.remove_entry();
            for (key, value) in keys {
                let Some(value) = value else {
                    return Err(self.no_such_key(&key));
                };
                writer.row(group, &key, &value)?;
                self.edited.added += 1;
            }
        }
        Ok(())
    }

    /// New keys in key groups of which no subtask wrote anything: they become a part of their own.
    fn write_gap(
        &mut self,
        operator: &OperatorState,
        like: &KeyedStateHandle,
        (start, end): (u32, u32),
        handles: &mut Vec<KeyedStateHandle>,
    ) -> Result<(), InspectError> {
        let gap = KeyGroupRange { start, end };
        if gap.is_empty() || !self.changes.keys().any(|group| gap.contains(*group)) {
            return Ok(());
        }
        let mut writer = self.begin(operator, like, gap, handles.len())?;
        self.add_until(gap.end, &mut writer)?;
        handles.extend(finish(writer)?);
        Ok(())
    }

    fn begin(
        &self,
        operator: &OperatorState,
        like: &KeyedStateHandle,
        key_groups: KeyGroupRange,
        subtask: usize,
    ) -> Result<SavepointWriter, SnapshotError> {
        let context = SubtaskContext {
            job: self.stored.metadata.job_id,
            vertex: 0,
            subtask: u32::try_from(subtask).unwrap_or(u32::MAX),
            attempt: self.stored.metadata.attempt,
            nonce: random_nonce(),
        };
        let mut writer = SavepointWriter::new(self.folder.clone(), context, self.runtime.clone());
        writer.begin(&KeyedTable {
            operator: operator.id,
            label: operator.label(),
            state: like.state.clone(),
            key: like.key.clone(),
            namespace: like.namespace.clone(),
            value: like.value.clone(),
            key_groups,
        })?;
        Ok(writer)
    }

    fn no_such_key(&self, row: &[u8]) -> InspectError {
        match split(self.state.key_type(), row) {
            Ok((key, _namespace)) => self.state.no_such_key(key),
            Err(source) => self.state.bad_row(source),
        }
    }
}

fn finish(mut writer: SavepointWriter) -> Result<Vec<KeyedStateHandle>, InspectError> {
    writer.end()?;
    Ok(writer.finish()?.into_values().flatten().collect())
}

/// Ends a reading whose rows cannot be used; never seen outside.
fn stopped(state: &str) -> SnapshotError {
    SnapshotError::Consumer {
        state: state.to_owned(),
        source: "a change cannot be made".into(),
    }
}
