//! The completed checkpoints of a job, and which of them can go.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::graph::ExternalizedCheckpointRetention;
use streamd_core::id::CheckpointId;
use streamd_core::snapshot::SnapshotMetadata;

use crate::lifecycle::JobState;
use crate::restore::absolute;

/// A snapshot folder that is to be deleted.
pub type Discarded = (CheckpointId, String);

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
#[derive(Debug, Clone)]
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
                | JobState::Reconciling
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
    use proptest::prelude::*;
    use streamd_core::barrier::SnapshotKind;
    use streamd_core::graph::JobGraph;
    use streamd_core::id::{Attempt, JobId, OperatorId};
    use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange};
    use streamd_core::row::DataType;
    use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, METADATA_VERSION, ObjectHandle, OperatorState};
    use streamd_core::time::WallTime;

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

    fn metadata(paths: &[&str]) -> SnapshotMetadata {
        let object = |path: &&str| ObjectHandle {
            inline: None,
            path: (*path).to_owned(),
            length: 1,
            digest: String::new(),
        };
        let keyed = KeyedStateHandle {
            state: "count".to_owned(),
            key: DataType::UInt64,
            namespace: None,
            value: DataType::UInt64,
            key_groups: KeyGroupRange::all(1),
            format: KeyedStateFormat::Native { segments: Vec::new() },
            objects: paths.iter().map(object).collect(),
            rows: 0,
            bytes: 0,
        };
        SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_bytes([1; 16]),
            checkpoint_id: CheckpointId(9),
            triggered_at: WallTime(0),
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: "n".to_owned(),
            graph: JobGraph::new("counts"),
            operators: vec![OperatorState {
                id: OperatorId::from_uid("u"),
                uid: None,
                name: "count".to_owned(),
                parallelism: 1,
                max_parallelism: 1,
                keyed: vec![keyed],
                lists: Vec::new(),
            }],
        }
    }

    #[test]
    fn a_checkpoint_refers_into_the_folders_beside_its_own_and_into_absolute_ones() {
        let metadata = metadata(&[
            "a.state",
            "../chk-7/b.state",
            "../chk-7/c.state",
            "s3://b/j/chk-8/d.state",
        ]);
        let folders: Vec<String> = folders_referred_to(&metadata, "s3://b/j/chk-9").into_iter().collect();
        assert_eq!(folders, ["s3://b/j/chk-7", "s3://b/j/chk-8"]);
    }

    proptest! {
        /// Each checkpoint refers to some of those that its base may refer to, or is full; some complete late, some never.
        #[test]
        fn what_a_kept_checkpoint_refers_to_is_never_swept_and_everything_else_is(
            retained in 1u32..4,
            steps in prop::collection::vec((any::<bool>(), 0usize..3, any::<u8>()), 1..60),
        ) {
            let mut store = CompletedStore::new(retained);
            let mut refers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            let mut pending: Vec<(u64, Option<u64>, BTreeSet<u64>)> = Vec::new();
            let (mut completed, mut swept) = (BTreeSet::new(), BTreeSet::new());
            let mut next = 1u64;
            for (begins, which, choice) in steps {
                if begins || pending.is_empty() {
                    let base = store.latest().map(|(id, _)| id.0);
                    let reachable = base.map(|base| {
                        let mut all = refers[&base].clone();
                        all.insert(base);
                        all
                    });
                    let chosen = reachable.into_iter().flatten().enumerate();
                    let chosen = chosen.filter(|(index, _)| choice >> (index % 8) & 1 == 1).map(|(_, id)| id);
                    pending.push((next, base, chosen.collect()));
                    next += 1;
                } else {
                    let (id, _, chosen) = pending.remove(which % pending.len());
                    // One in eight is given up.
                    if choice % 8 > 0 {
                        let references: Vec<u64> = chosen.iter().copied().collect();
                        store.add(CheckpointId(id), checkpoint(id, &references));
                        refers.insert(id, chosen);
                        completed.insert(id);
                    }
                }
                let bases: BTreeSet<CheckpointId> =
                    pending.iter().filter_map(|(_, base, _)| base.map(CheckpointId)).collect();
                swept.extend(store.sweep(&bases).into_iter().map(|(id, _)| id.0));

                let latest = completed.iter().rev().take(retained as usize).copied();
                let roots: BTreeSet<u64> = latest.chain(bases.iter().map(|id| id.0)).collect();
                let needed: BTreeSet<u64> =
                    roots.iter().flat_map(|root| refers[root].iter().copied()).chain(roots.iter().copied()).collect();
                prop_assert!(needed.is_disjoint(&swept), "{:?} are needed, {:?} are gone", needed, swept);
                let left: BTreeSet<u64> = completed.difference(&swept).copied().collect();
                prop_assert_eq!(left, needed);
            }
        }
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
