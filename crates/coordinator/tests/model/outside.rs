//! What lasts when processes do not: the store of snapshots, and what readers of the output have seen.

use std::collections::BTreeMap;

use streamd_coordinator::event::RestorePoint;
use streamd_core::barrier::SnapshotKind;
use streamd_core::id::CheckpointId;
use streamd_core::snapshot::SnapshotMetadata;

use crate::bench::SPLITS;

/// Records of one split that one barrier closed, as the sink prepared them. Its identity goes with it through every snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prepared {
    /// Who prepared it: leader epoch and attempt.
    pub epoch: u8,
    pub attempt: u8,
    pub checkpoint: u8,
    pub split: u8,
    pub from: u8,
    pub to: u8,
}

/// What a subtask writes into a snapshot: how far it has read, and what is prepared and not known to be committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cut {
    pub split: u8,
    pub offset: u8,
    pub prepared: Vec<Prepared>,
}

impl Cut {
    /// As an element of the list of splits: split, offset, prepared.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.split, 0, 0, 0, self.offset, 0, 0, 0];
        for it in &self.prepared {
            bytes.extend([it.epoch, it.attempt, it.checkpoint, it.split, it.from, it.to]);
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let prepared = bytes[8..].chunks_exact(6).map(|it| Prepared {
            epoch: it[0],
            attempt: it[1],
            checkpoint: it[2],
            split: it[3],
            from: it[4],
            to: it[5],
        });
        Self {
            split: bytes[0],
            offset: bytes[4],
            prepared: prepared.collect(),
        }
    }
}

/// The cuts of all splits that metadata holds.
pub fn cuts_of(metadata: &SnapshotMetadata) -> Vec<Cut> {
    let lists = metadata.operators.iter().flat_map(|operator| &operator.lists);
    let items = lists.filter(|list| list.name == SPLITS).flat_map(|list| &list.items);
    items.map(|item| Cut::decode(item)).collect()
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Written {
    Created,
    /// A newer leader has taken over, or somebody else's snapshot has the name.
    Refused,
}

/// Published snapshots, by id, and the fence.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// The epoch of the latest leader: claimed before it reads anything.
    pub epoch: u64,
    pub records: BTreeMap<CheckpointId, RestorePoint>,
    /// The epoch of the latest effect.
    last_effect: u64,
}

impl Store {
    /// Publishes; what a broken store lets through comes back as a violation.
    pub fn publish(&mut self, epoch: u64, point: RestorePoint, takes_stale: bool) -> Result<Written, String> {
        let id = point.metadata.checkpoint_id;
        if !takes_stale && (epoch < self.epoch || self.records.contains_key(&id)) {
            return Ok(Written::Refused);
        }
        if epoch < self.last_effect {
            return Err(format!(
                "I6: epoch {epoch} publishes snapshot {id} after epoch {}",
                self.last_effect
            ));
        }
        self.last_effect = epoch;
        match self.records.insert(id, point) {
            Some(_other) => Err(format!("I11: snapshot {id} has two contents")),
            None => Ok(Written::Created),
        }
    }

    /// Deletes what is there under the name, for a leader that still is one.
    pub fn delete(&mut self, epoch: u64, id: CheckpointId, location: &str) {
        if epoch >= self.epoch && self.records.get(&id).is_some_and(|point| point.uri == location) {
            self.records.remove(&id);
        }
    }

    /// What the next leader goes on from.
    pub fn latest(&self) -> Option<&RestorePoint> {
        let checkpoint = |point: &&RestorePoint| point.metadata.kind == SnapshotKind::Checkpoint;
        self.records.values().rev().find(checkpoint)
    }
}

/// What a reader of the output sees: each record, and by which commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Output {
    seen: BTreeMap<(u8, u8), Prepared>,
}

impl Output {
    /// Commits; a second time is no time.
    pub fn commit(&mut self, what: Prepared) -> Result<(), String> {
        for record in what.from..what.to {
            match self.seen.insert((what.split, record), what) {
                Some(before) if before != what => {
                    return Err(format!(
                        "I2: record {record} of split {} is seen twice, by {before:?} and {what:?}",
                        what.split
                    ));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// An attempt begins to read here: what is before must be visible, and what follows must not.
    pub fn check_restored(&self, split: u8, offset: u8) -> Result<(), String> {
        if let Some(lost) = (0..offset).find(|record| !self.seen.contains_key(&(split, *record))) {
            return Err(format!("I1: record {lost} of split {split} is lost"));
        }
        match self.seen.keys().find(|(of, record)| *of == split && *record >= offset) {
            Some((_, again)) => Err(format!("I2: record {again} of split {split} is read again")),
            None => Ok(()),
        }
    }
}
