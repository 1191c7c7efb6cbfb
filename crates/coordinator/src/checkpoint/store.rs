//! The completed checkpoints of a job, and which of them can go.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::graph::ExternalizedCheckpointRetention;
use streamd_core::id::CheckpointId;
use streamd_core::snapshot::SnapshotMetadata;

use crate::lifecycle::JobState;
use crate::restore::absolute;

use super::coordinator::Discarded;

/// A checkpoint that this job completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCheckpoint {
    /// The URI of its folder.
    pub location: String,
    /// Bytes of its metadata and of all objects that it refers to.
    pub bytes: u64,
    /// Milliseconds from trigger to completion.
    pub duration_ms: u64,
    /// The folders of other snapshots that it refers into.
    pub refers_to: BTreeSet<String>,
}

/// The folders outside its own, `folder`, that a snapshot refers into, as URIs.
pub fn folders_referred_to(metadata: &SnapshotMetadata, folder: &str) -> BTreeSet<String> {
    metadata
        .operators
        .iter()
        .flat_map(|operator| &operator.keyed)
        .flat_map(|handle| &handle.objects)
        .filter(|object| object.is_elsewhere())
        .filter_map(|object| Some(absolute(folder, &object.path).rsplit_once('/')?.0.to_owned()))
        .collect()
}

/// Holds the newest few completed checkpoints, and older ones only as long as something refers into their folders.
#[derive(Debug)]
pub struct CompletedStore {
    num_retained: usize,
    retained: BTreeMap<CheckpointId, CompletedCheckpoint>,
    lingering: BTreeMap<CheckpointId, CompletedCheckpoint>,
}

impl CompletedStore {
    /// An empty store that keeps this many, at least one.
    pub fn new(num_retained: u32) -> Self {
        Self {
            num_retained: usize::try_from(num_retained.max(1)).unwrap_or(usize::MAX),
            retained: BTreeMap::new(),
            lingering: BTreeMap::new(),
        }
    }

    /// The one with the greatest id, whenever it was added.
    pub fn latest(&self) -> Option<(CheckpointId, &CompletedCheckpoint)> {
        self.retained.last_key_value().map(|(id, checkpoint)| (*id, checkpoint))
    }

    /// Adds a checkpoint. The oldest beyond the number to retain are subsumed; [`sweep`](Self::sweep) says which can go.
    pub fn add(&mut self, id: CheckpointId, checkpoint: CompletedCheckpoint) {
        self.retained.insert(id, checkpoint);
        while self.retained.len() > self.num_retained
            && let Some((id, subsumed)) = self.retained.pop_first()
        {
            self.lingering.insert(id, subsumed);
        }
    }

    /// Takes out the subsumed checkpoints that nothing refers to: neither a retained one nor `bases`, the checkpoints
    /// that snapshots under way may build upon.
    pub fn sweep(&mut self, bases: &BTreeSet<CheckpointId>) -> Vec<Discarded> {
        let unneeded: Vec<CheckpointId> = self
            .lingering
            .keys()
            .copied()
            .filter(|id| !self.is_needed(*id, bases))
            .collect();
        unneeded
            .into_iter()
            .filter_map(|id| Some((id, self.lingering.remove(&id)?.location)))
            .collect()
    }

    fn is_needed(&self, id: CheckpointId, bases: &BTreeSet<CheckpointId>) -> bool {
        let Some(checkpoint) = self.lingering.get(&id) else {
            return false;
        };
        let lingering_bases = self
            .lingering
            .iter()
            .filter(|(base, _)| bases.contains(base))
            .map(|(_, base)| base);
        bases.contains(&id)
            || self
                .retained
                .values()
                .chain(lingering_bases)
                .any(|root| refers_into(root, &checkpoint.location))
    }

    /// The job has ended: takes out everything that is not to be kept.
    pub fn end(&mut self, end: End) -> Vec<Discarded> {
        if end == End::Discard {
            self.lingering.append(&mut self.retained);
        }
        self.sweep(&BTreeSet::new())
    }
}

/// Whether a checkpoint refers to an object in or below a folder.
fn refers_into(checkpoint: &CompletedCheckpoint, folder: &str) -> bool {
    checkpoint.refers_to.iter().any(|other| {
        other
            .strip_prefix(folder)
            .is_some_and(|below| below.is_empty() || below.starts_with('/'))
    })
}

/// What becomes of the retained checkpoints of a job that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// They are the user's now.
    Keep,
    /// They are deleted.
    Discard,
}

impl End {
    /// Flink's table.
    pub fn of(state: JobState, retention: ExternalizedCheckpointRetention) -> Self {
        use ExternalizedCheckpointRetention::{DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation};
        match (state, retention) {
            (JobState::Canceled, RetainOnCancellation) => Self::Keep,
            (JobState::Failed, RetainOnCancellation | DeleteOnCancellation) => Self::Keep,
            (JobState::Canceled, NoExternalizedCheckpoints | DeleteOnCancellation)
            | (JobState::Failed, NoExternalizedCheckpoints)
            | (JobState::Finished, _) => Self::Discard,
            (
                JobState::Initializing
                | JobState::Created
                | JobState::Running
                | JobState::Restarting
                | JobState::Failing
                | JobState::Cancelling,
                _,
            ) => Self::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u64; 0] = [];

    fn checkpoint(id: u64, refers_to: &[u64]) -> CompletedCheckpoint {
        CompletedCheckpoint {
            location: format!("s3://b/chk-{id}"),
            bytes: 0,
            duration_ms: 0,
            refers_to: refers_to.iter().map(|id| format!("s3://b/chk-{id}")).collect(),
        }
    }

    fn add(store: &mut CompletedStore, id: u64, refers_to: &[u64], bases: &[u64]) -> Vec<u64> {
        store.add(CheckpointId(id), checkpoint(id, refers_to));
        let bases = bases.iter().copied().map(CheckpointId).collect();
        store.sweep(&bases).into_iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn as_many_are_kept_as_asked_for_and_the_oldest_goes_first() {
        let mut store = CompletedStore::new(2);
        assert_eq!(add(&mut store, 1, &[], &[]), NONE);
        assert_eq!(add(&mut store, 2, &[], &[]), NONE);
        assert_eq!(add(&mut store, 3, &[], &[]), [1]);
    }

    #[test]
    fn a_late_completion_of_an_older_checkpoint_never_becomes_the_latest() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 5, &[], &[]);
        assert_eq!(add(&mut store, 4, &[], &[]), [4]);
        assert_eq!(store.latest().map(|(id, _)| id), Some(CheckpointId(5)));
    }

    #[test]
    fn a_folder_that_a_retained_checkpoint_refers_into_stays_until_nothing_does() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        assert_eq!(add(&mut store, 2, &[1], &[]), NONE);
        assert_eq!(add(&mut store, 3, &[], &[]), [1, 2]);
    }

    #[test]
    fn a_folder_is_not_mistaken_for_one_whose_name_it_begins_with() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        assert_eq!(add(&mut store, 20, &[10], &[]), [1]);
    }

    #[test]
    fn what_a_snapshot_under_way_may_build_upon_stays() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        add(&mut store, 2, &[1], &[]);
        // 4 was triggered when 2 was the latest: it may refer to 2, and to 1 through it.
        assert_eq!(add(&mut store, 3, &[], &[2]), NONE);
        assert_eq!(add(&mut store, 4, &[], &[]), [1, 2, 3]);
    }

    #[test]
    fn the_end_keeps_and_discards_as_in_flinks_table() {
        use ExternalizedCheckpointRetention::{DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation};
        let table = [
            (NoExternalizedCheckpoints, [End::Discard, End::Discard, End::Discard]),
            (DeleteOnCancellation, [End::Discard, End::Discard, End::Keep]),
            (RetainOnCancellation, [End::Discard, End::Keep, End::Keep]),
        ];
        for (retention, ends) in table {
            let states = [JobState::Finished, JobState::Canceled, JobState::Failed];
            assert_eq!(states.map(|state| End::of(state, retention)), ends, "{retention:?}");
        }
    }

    #[test]
    fn keeping_the_last_keeps_what_it_refers_into() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        add(&mut store, 2, &[1], &[]);
        assert!(store.end(End::Keep).is_empty());
        assert_eq!(store.end(End::Discard).len(), 2);
    }
}
